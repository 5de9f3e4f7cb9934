#!/usr/bin/python3
"""runner_test: tools/test counts what test programs say, and does not believe those that end badly."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, ".."))
import harness  # noqa: E402


def run(scripts, *options):
    """Runs tools/test over a project that has just these scripts; (exit status, output lines)."""
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(os.path.join(root, "tests/house"))
        os.makedirs(os.path.join(root, "tools"))
        shutil.copy(os.path.join(HERE, "../../tools/test"), os.path.join(root, "tools/test"))
        for name, text in scripts.items():
            path = os.path.join(root, "tests/house", name + ".sh")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text if text.startswith("#!") else "#!/bin/bash\n" + text + "\n")
            os.chmod(path, 0o755)
        out = subprocess.run([os.path.join(root, "tools/test"), "--only", "lint", *options], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        return out.returncode, out.stdout.splitlines()


def expect(scripts, status, total, *parts, options=()):
    """What differs from the exit status, the last line and the parts of the output that are expected."""
    got_status, lines = run(scripts, *options)
    shown = "\n".join(lines)
    if got_status != status:
        yield f"exit status {got_status}, want {status}:\n{shown}"
    if not lines or lines[-1] != total:
        yield f"last line `{lines[-1:]}`, want `{total}`:\n{shown}"
    for part in parts:
        if part not in shown:
            yield f"no `{part}` in:\n{shown}"


GOOD = "echo 'ok one'; echo 'ok two'; echo '2 passed, 0 failed'"


def counts_of_all_programs_are_added():
    yield from expect({"a": GOOD, "b": GOOD}, 0, "4 passed, 0 failed")


def skipped_tests_are_counted_apart_with_their_reason():
    yield from expect({"a": GOOD, "b": "echo no kernel; echo 'skipped x'; echo '0 passed, 0 failed, 1 skipped'"},
                      0, "2 passed, 0 failed, 1 skipped", "skipped x: no kernel")


def failed_test_is_shown_with_what_it_said():
    script = "echo 'ok one'; echo 'a.c:1: 2 is not 3'; echo 'FAILED two'; echo '1 passed, 1 failed'; exit 1"
    yield from expect({"a": GOOD, "b": script}, 1, "3 passed, 1 failed", "a.c:1: 2 is not 3",
                      "FAILED lint: tests/house/b.sh: two")


def program_that_dies_is_a_failed_test():
    yield from expect({"a": GOOD, "b": "echo 'ok one'; kill -SEGV $$"}, 1, "2 passed, 1 failed", "SIGSEGV")


def program_that_dies_after_its_closing_line_is_a_failed_test():
    yield from expect({"a": GOOD + "; kill -SEGV $$"}, 1, "2 passed, 1 failed", "SIGSEGV")


def program_without_a_closing_line_is_a_failed_test():
    yield from expect({"a": "echo 'ok one'"}, 1, "0 passed, 1 failed", "ended early")


def program_that_claims_success_and_exits_badly_is_a_failed_test():
    yield from expect({"a": GOOD + "; exit 86"}, 1, "2 passed, 1 failed", "exit status 86")


def program_that_runs_no_test_is_a_failed_test():
    yield from expect({"a": "echo '0 passed, 0 failed'"}, 1, "0 passed, 1 failed", "ran no test")


def program_that_cannot_be_started_is_a_failed_test():
    yield from expect({"a": "#!/no/such/interpreter\n"}, 1, "0 passed, 1 failed", "could not be started")


def program_that_leaves_a_process_behind_is_a_failed_test():
    yield from expect({"a": "sleep 1000 >/dev/null 2>&1 & " + GOOD}, 1, "2 passed, 1 failed", "left processes behind")


def program_that_never_ends_is_stopped_and_the_rest_counts_as_failed():
    yield from expect({"a": "echo 'ok one'; sleep 1000", "b": GOOD}, 1, "0 passed, 2 failed", "was stopped",
                      "not run", options=("--time-limit", "1", "-j", "1"))


def total_is_also_written_to_a_file():
    with tempfile.NamedTemporaryFile("r") as file:
        yield from expect({"a": GOOD}, 0, "2 passed, 0 failed", options=("--total-file", file.name))
        text = file.read()
        if text != "2 passed, 0 failed\n":
            yield f"the file holds {text!r}"


def unknown_stage_is_wrong_usage():
    out = subprocess.run([os.path.join(HERE, "../../tools/test"), "--only", "nonsense"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if out.returncode != 2:
        yield f"exit status {out.returncode}"


if __name__ == "__main__":
    harness.run([(name, check) for name, check in list(globals().items())
                 if callable(check) and getattr(check, "__module__", "") == "__main__"
                 and name not in ("run", "expect")])
