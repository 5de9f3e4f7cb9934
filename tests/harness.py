"""harness: runs checks written in Python the way tools/test expects of a test program.

A check is a function that yields what is wrong, nothing when all is well, and raises Skip where it
cannot be made. Its name says what holds."""
import random
import socket
import sys
import traceback


class Skip(Exception):
    """The check cannot be made here; the reason."""


def free_port():
    """A port of 127.0.0.1 for a server that must be told one. None of those that the kernel gives away: such a one may
    be somebody's before the server has it, and a connect to it before that may find itself."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        lowest = int(file.read().split()[0])
    for port in random.sample(range(lowest // 2, lowest), min(lowest // 2, 1000)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue  # in use, or not for everybody
    raise OSError(f"no port from {lowest // 2} to {lowest - 1} is free")


def run(checks):
    """checks: (name, function). Ends the process."""
    counts = {"ok": 0, "FAILED": 0, "skipped": 0}
    for name, check in checks:
        if len(sys.argv) > 1 and sys.argv[1] not in name:
            continue
        result = "ok"
        try:
            for fault in check():
                print(fault)
                result = "FAILED"
        except Skip as reason:
            print(reason)
            result = "skipped"
        except Exception:  # a broken check is a failed one
            traceback.print_exc(file=sys.stdout)
            result = "FAILED"
        counts[result] += 1
        print(f"{result:<7} {name}", flush=True)
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['ok']} passed, {counts['FAILED']} failed{skipped}")
    sys.exit(1 if counts["FAILED"] else 0)
