#!/usr/bin/python3
"""The explorer finds each of the known bugs that can be switched on (base/mutant.h), within 10,000
seeds, and finds nothing where none is switched on in as many."""
import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402

BUILD = os.environ.get("IL_BUILD", "build")
EXE = os.path.join(BUILD, "tests", "mutants")
SEEDS = 10000


def build():
    result = subprocess.run(["ninja", "-j2", "-C", BUILD, "tests/mutants"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        print(result.stdout)
        raise SystemExit("the library with the known bugs cannot be built")


def explore(mutant):
    result = subprocess.run([EXE, mutant, "--seeds", str(SEEDS), "--json"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=500)
    return json.loads(result.stdout)


def check_of(mutant, does):
    def find():
        found = explore(mutant)
        if not found["findings"]:
            yield f"{mutant} ({does}) was not found in {found['seeds']} seeds"
            return
        first = found["findings"][0]
        print(f"{mutant}: seed {first['seed']}, {first['kind']}, {first['cause']}, {first['mode']}: "
              f"{first['detail'][:120]}")
    return f"{mutant.replace('-', '_')}_is_found_within_{SEEDS}_seeds", find


def main():
    build()
    lines = subprocess.run([EXE, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    harness.run([check_of(*line.split("\t")) for line in lines.strip().split("\n")])


main()
