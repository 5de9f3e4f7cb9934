"""harness: runs checks written in Python the way tools/test expects of a test program.

A check is a function that yields what is wrong, nothing when all is well, and raises Skip where it
cannot be made. Its name says what holds."""
import sys
import traceback


class Skip(Exception):
    """The check cannot be made here; the reason."""


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
