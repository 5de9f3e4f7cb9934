"""instructions: how many instructions a request costs in user space, counted by callgrind.

This number does not depend on who else uses the machine: it is the same again within a few in a thousand.
So it is the one to optimise by, and the one that is kept (instructions.json): a change that makes a
request dearer than TOLERANCE_PERCENT is found out by `tools/bench --instructions --check`.

The count depends on the compiler and on the C library. Counts recorded with others are shown, but do not
fail the check.
"""
import json
import os
import re
import subprocess

from suite import machine, workloads
from suite.contenders import BY_NAME as CONTENDERS

TOLERANCE_PERCENT = 3
RUNS = 2              # the lower counts: an interrupted wait can only add
WARM_UP_REQUESTS = 200
COUNTED_REQUESTS = 2000
TIMEOUT_S = 300

# What is kept, by workload. Floors are there to show that the harness has not changed.
KEPT = {
    "get-1": ["floor-blocking", "floor-epoll", "il-thread", "il-task", "il-call"],
    "get-64": ["floor-epoll", "il-task", "il-call"],
    "close": ["floor-epoll", "il-task", "il-call"],
    "across": ["il-same", "il-across"],
}
# What is only measured, for comparison.
PEERS = {
    "get-1": ["h2load", "curl-easy", "curl-multi", "curl-socket", "hyper", "reqwest"],
    "get-64": ["h2load", "curl-multi", "curl-socket", "hyper", "reqwest"],
}


class Failed(Exception):
    """callgrind could not be run; the text is for people."""


def toolchain():
    about = machine.describe()
    return {"compiler": about["compiler"], "libc": about["libc"], "machine": os.uname().machine}


def count(command, cpu):
    """Instructions of one whole run."""
    done = subprocess.run(["taskset", "-c", str(cpu), "valgrind", "--tool=callgrind",
                           "--callgrind-out-file=/dev/null"] + command,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    match = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not match:
        raise Failed(f"{' '.join(command)} under callgrind: exit status {done.returncode}: {done.stderr[-400:]}")
    return int(match[1])


def per_request(build, cores, port, name, workload_name):
    """A long run minus a short one, divided by the difference in requests."""
    workload = workloads.BY_NAME[workload_name]
    counted = max(COUNTED_REQUESTS, 20 * workload.connections)
    short = workload.connections + WARM_UP_REQUESTS

    def lowest(requests):
        command = CONTENDERS[name].command(build, port, workload, requests)
        return min(count(command, cores.client) for _ in range(RUNS))

    return (lowest(short + counted) - lowest(short)) / counted


def measure_all(build, cores, port, wanted, say):
    """{"contender workload": instructions}; what is not built is left out, and said."""
    counts = {}
    for workload_name, names in wanted.items():
        for name in names:
            why = CONTENDERS[name].why_absent(build)
            if why:
                say(f"  {name} {workload_name}: {why}")
                continue
            counts[f"{name} {workload_name}"] = round(per_request(build, cores, port, name, workload_name), 1)
            say(f"  {name} {workload_name}: {counts[f'{name} {workload_name}']:,.0f}")
    return counts


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def save(path, counts):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"tolerance_percent": TOLERANCE_PERCENT, "toolchain": toolchain(),
                   "instructions_per_request": counts}, file, indent=2, sort_keys=True)
        file.write("\n")


def compare(recorded, counts):
    """(lines for people, how many are dearer than allowed)."""
    is_same_toolchain = recorded["toolchain"] == toolchain()
    tolerance = recorded["tolerance_percent"]
    lines, dearer_count = [], 0
    for key, now in counts.items():
        before = recorded["instructions_per_request"].get(key)
        if before is None:
            lines.append(f"{key}: {now:,.0f}, not recorded yet (tools/bench --instructions --record)")
            continue
        change = (now - before) / before * 100
        verdict = "ok"
        if change > tolerance:
            verdict = f"DEARER than the {tolerance} % allowed" if is_same_toolchain else "dearer"
            dearer_count += 1 if is_same_toolchain else 0
        elif change < -tolerance:
            verdict = "cheaper: record it, so that it stays so"
        lines.append(f"{key}: {now:,.0f}, recorded {before:,.0f}, {change:+.1f} %: {verdict}")
    if not is_same_toolchain:
        lines.append("recorded with another compiler or C library: shown for information, nothing fails")
    return lines, dearer_count
