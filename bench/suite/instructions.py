"""instructions: what a request costs that can be counted: instructions in user space (by callgrind),
system calls (by strace) and allocations of memory (by memcheck).

These numbers do not depend on who else uses the machine: they are the same again within a few in a
thousand. So they are the ones to optimise by, and the ones that are kept (instructions.json): a change that
makes a request dearer than the tolerance is found out by `tools/bench --instructions`.

The counts depend on the compiler and on the C library. Counts recorded with others are shown, but do
not fail the check.
"""
import json
import os
import re
import subprocess
import tempfile

from suite import machine, servers, workloads
from suite.contenders import BY_NAME as CONTENDERS

TOLERANCE_PERCENT = {"instructions": 3, "system calls": 10, "allocations": 5}
SLACK = 0.1           # and so much more of anything is allowed: a connection's first request, spread over all
RUNS = 2              # the lower counts: an interrupted wait can only add
WARM_UP_REQUESTS = 200
COUNTED_REQUESTS = 2000
TIMEOUT_S = 300

# What is kept, by workload. Floors are there to show that the harness has not changed.
KEPT = {
    "get-1": ["floor-blocking", "floor-epoll", "il-thread", "il-task", "il-call"],
    "get-64": ["floor-epoll", "il-task", "il-call"],
    "close": ["floor-epoll", "il-task", "il-call"],
    "https-64": ["floor-tls", "il-task"],
    "h2-64": ["il-task", "il-call"],
    "h2s-64": ["il-call"],
    "across": ["il-same", "il-across"],
    "patterns-64": ["il-default", "il-factory", "il-proxy", "il-service"],
    "runtime": ["il-yield", "il-timer", "il-spawn", "il-block-on"],
}
# What is only measured, for comparison.
PEERS = {
    "get-1": ["h2load", "curl-easy", "curl-multi", "curl-socket", "hyper", "reqwest"],
    "get-64": ["h2load", "curl-multi", "curl-socket", "hyper", "reqwest"],
    "h2-64": ["h2load-2", "hyper"],
    "h2s-64": ["h2load-2", "curl-multi"],
}


class Failed(Exception):
    """The counting could not be done; the text is for people."""


def toolchain():
    about = machine.describe()
    return {"compiler": about["compiler"], "libc": about["libc"], "machine": os.uname().machine}


def _run(command, cpu):
    done = subprocess.run(["taskset", "-c", str(cpu)] + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr[-400:]}")
    return done


def count_instructions(command, cpu):
    """Of one whole run, in user space."""
    done = _run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"] + command, cpu)
    match = re.search(r"Collected : (\d+)", done.stderr)
    if not match:
        raise Failed(f"callgrind did not say its count: {done.stderr[-400:]}")
    return int(match[1])


def count_system_calls(command, cpu):
    """Of one whole run, all threads."""
    with tempfile.NamedTemporaryFile("r", encoding="ascii") as table:
        _run(["strace", "-f", "-c", "-o", table.name] + command, cpu)
        match = re.search(r"^100\.00 +[\d.]+ +\d* +(\d+) +\d* *total$", table.read(), re.MULTILINE)
    if not match:
        raise Failed("strace did not say its count")
    return int(match[1])


def count_allocations(command, cpu):
    """malloc and the like, in one whole run."""
    done = _run(["valgrind", "--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"] + command, cpu)
    match = re.search(r"total heap usage: ([\d,]+) allocs", done.stderr)
    if not match:
        raise Failed(f"memcheck did not say its count: {done.stderr[-400:]}")
    return int(match[1].replace(",", ""))


COUNTERS = {"instructions": count_instructions, "system calls": count_system_calls,
            "allocations": count_allocations}


def per_request(counter, build, cores, port, name, workload_name):
    """A long run minus a short one, divided by the difference in requests."""
    workload = workloads.BY_NAME[workload_name]
    counted = max(COUNTED_REQUESTS, 20 * workload.connections)
    short = workload.connections + WARM_UP_REQUESTS

    def lowest(requests):
        command = CONTENDERS[name].command(build, port, workload, requests)
        return min(counter(command, cores.client) for _ in range(RUNS))

    return (lowest(short + counted) - lowest(short)) / counted


def measure_all(build, cores, wanted, say):
    """{"contender workload": {counter: n}}; what is not built is left out, and said."""
    counts = {}
    for workload_name, names in wanted.items():
        with servers.for_workload(build, cores, workloads.BY_NAME[workload_name]) as server:
            for name in names:
                why = CONTENDERS[name].why_absent(build)
                if why:
                    say(f"  {name} {workload_name}: {why}")
                    continue
                count = {what: round(per_request(counter, build, cores, server.port, name, workload_name), 2)
                         for what, counter in COUNTERS.items()}
                counts[f"{name} {workload_name}"] = count
                say(f"  {name} {workload_name}: {count['instructions']:,.0f} instructions, "
                    f"{count['system calls']:.2f} system calls, {count['allocations']:.2f} allocations")
    return counts


def profile(build, cores, name, workload_name):
    """Where the instructions of a run are spent, function by function, as callgrind_annotate shows it."""
    workload = workloads.BY_NAME[workload_name]
    requests = workload.connections + max(COUNTED_REQUESTS, 20 * workload.connections)
    with tempfile.NamedTemporaryFile() as output, servers.for_workload(build, cores, workload) as server:
        command = CONTENDERS[name].command(build, server.port, workload, requests)
        _run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={output.name}"] + command, cores.client)
        return _run(["callgrind_annotate", output.name], cores.client).stdout


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def save(path, counts):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"tolerance_percent": TOLERANCE_PERCENT, "toolchain": toolchain(),
                   "per_request": counts}, file, indent=2, sort_keys=True)
        file.write("\n")


def compare(recorded, counts):
    """(lines for people, how many counts are higher than allowed)."""
    is_same_toolchain = recorded["toolchain"] == toolchain()
    lines, dearer_count = [], 0
    for key, now in counts.items():
        for what, tolerance in recorded["tolerance_percent"].items():
            before = recorded["per_request"].get(key, {}).get(what)
            if before is None:
                lines.append(f"{key}: {now[what]:,.2f} {what}, not recorded yet (tools/bench --instructions --record)")
                continue
            change = (now[what] - before) / before * 100 if before else 0.0
            verdict = "ok"
            if now[what] > before * (1 + tolerance / 100) + SLACK:
                verdict = f"DEARER than the {tolerance} % allowed" if is_same_toolchain else "dearer"
                dearer_count += 1 if is_same_toolchain else 0
            elif change < -tolerance:
                verdict = "cheaper: record it, so that it stays so"
            lines.append(f"{key}: {now[what]:,.2f} {what}, recorded {before:,.2f}, {change:+.1f} %: {verdict}")
    if not is_same_toolchain:
        lines.append("recorded with another compiler or C library: shown for information, nothing fails")
    return lines, dearer_count
