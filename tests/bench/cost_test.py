#!/usr/bin/python3
"""cost_test: a request needs no more instructions than bench/instructions.json says.

Only the cases that matter most; `tools/bench --instructions` counts them all, and system calls too."""
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "../../bench")]
import harness  # noqa: E402
from suite import instructions, machine, measure  # noqa: E402

BUILD = os.path.abspath(os.environ.get("IL_BUILD") or os.path.join(HERE, "../../build"))
RECORD = os.path.join(HERE, "../../bench/instructions.json")
COUNTED = [("il-task", "get-64"), ("il-call", "get-64")]


def request_needs_no_more_instructions_than_recorded():
    recorded = instructions.load(RECORD)
    if not shutil.which("valgrind"):
        raise harness.Skip("valgrind is not here")
    if recorded["toolchain"] != instructions.toolchain():
        raise harness.Skip("recorded with another compiler or C library")
    recorded["tolerance_percent"] = {"instructions": recorded["tolerance_percent"]["instructions"]}
    cores = machine.Cores()
    with measure.Server(os.path.join(BUILD, "bench", "server"), cores) as server:
        for name, workload in COUNTED:
            count = instructions.per_request(instructions.count_instructions, BUILD, cores, server.port, name, workload)
            lines, dearer_count = instructions.compare(recorded, {f"{name} {workload}": {"instructions": count}})
            if dearer_count:
                yield (f"{lines[0]}. Where they go: tools/bench --profile --only {workload} --with {name}. "
                       "Worth it? tools/bench --instructions --record")


if __name__ == "__main__":
    harness.run([(check.__name__, check) for check in (request_needs_no_more_instructions_than_recorded,)])
