#!/usr/bin/python3
"""The command line: `interloop`, `interloop reproduce` and `interloop explain`, as a user or a
script meets them. What the cells themselves come to is lab/reproduce_test.c's business."""
import json
import os
import pty
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402

EXE = os.path.join(os.environ.get("IL_BUILD", "build"), "interloop")
CAUSES = ["parked", "parked-between", "dropped-idle", "dropped-in-flight", "busy", "busy+hand-over",
          "busy-sibling", "busy-sibling+hand-over", "all-workers-busy", "all-workers-busy+hand-over",
          "handed-over", "leftovers", "dropped-mid-body", "stale", "unread-bodies",
          "slot-leak", "lost-waiter", "leader-cancelled", "h2-parked", "h2-dropped",
          "h2-busy", "h2-connecting", "window-leak", "seed"]
SOLUTIONS = ["shared", "single-runtime", "per-runtime", "factory", "proxy", "channel", "interloop"]
CHECKS = []


def check(function):
    CHECKS.append((function.__name__, function))
    return function


def run(*arguments):
    return subprocess.run([EXE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL, timeout=120)


def run_on_terminal(arguments, **environment):
    """Everything the command writes when stdout and stderr are a terminal."""
    try:
        pid, fd = pty.fork()
    except OSError as error:  # a root without /dev/pts
        raise harness.Skip(f"no terminal to be had here: {error}") from error
    if pid == 0:
        os.execve(EXE, [EXE, *arguments], {**os.environ, "TERM": "xterm", **environment})
    text = b""
    try:
        while True:
            part = os.read(fd, 65536)
            if not part:
                break
            text += part
    except OSError:
        pass  # how a terminal says that the other side is gone
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), text.decode()


def want(what, actual, wanted):
    if actual != wanted:
        yield f"{what} is {actual!r}, want {wanted!r}"


@check
def tls_makes_no_difference_to_who_hangs():
    out = run("reproduce", "--tls", "--json", "--cause", "parked,leftovers,dropped-mid-body,stale,unread-bodies,"
              "slot-leak,h2-parked,h2-dropped,h2-busy")
    yield from want("exit status", out.returncode, 0)
    for cell in json.loads(out.stdout)["cells"]:
        yield from want(f"{cell['cause']} under {cell['solution']}", cell["verdict"], cell["expected"])


@check
def json_has_the_promised_shape():
    out = run("reproduce", "--json", "--repeat", "2", "--cause", "parked,dropped-in-flight", "--solution",
              "shared", "--solution", "interloop")
    yield from want("exit status", out.returncode, 0)
    yield from want("stderr", out.stderr, "")
    report = json.loads(out.stdout)
    yield from want("fields", list(report), ["version", "cells"])
    yield from want("cells", [(cell["cause"], cell["solution"]) for cell in report["cells"]],
                    [(cause, solution) for cause in ("parked", "dropped-in-flight")
                     for solution in ("shared", "interloop")])
    for cell in report["cells"]:
        yield from want("a cell's fields", list(cell),
                        ["cause", "solution", "verdict", "expected", "as_expected", "runs"])
        yield from want("as_expected", cell["as_expected"], True)
        yield from want("verdict", cell["verdict"], cell["expected"])
        yield from want("runs", len(cell["runs"]), 2)
        for one in cell["runs"]:
            yield from want("a run's first fields", list(one)[:5],
                            ["verdict", "elapsed_ms", "requests", "error", "proof"])
            yield from want("requests", one["requests"], 1)
            for link in one["proof"]:
                yield from want("a link's fields", list(link), ["what", "who", "state", "since_ms", "detail"])


@check
def proof_leads_from_the_request_to_the_thread():
    report = json.loads(run("reproduce", "--json", "--cause", "parked", "--solution", "shared").stdout)
    one = report["cells"][0]["runs"][0]
    yield from want("verdict", one["verdict"], "hung")
    yield from want("error", one["error"], None)
    yield from want("the chain", [link["what"] for link in one["proof"]],
                    ["request", "connection", "socket", "loop", "thread"])
    for link in one["proof"]:
        if link["what"] in ("request", "loop") and link["since_ms"] < 150:
            yield f"{link['what']} stood still for {link['since_ms']} ms only"


@check
def error_is_given_by_the_name_of_its_code():
    report = json.loads(run("reproduce", "--json", "--cause", "dropped-in-flight", "--solution", "shared").stdout)
    yield from want("error", report["cells"][0]["runs"][0]["error"], "IL_EOWNERGONE")


@check
def list_names_every_cause_and_solution():
    out = run("reproduce", "--list")
    yield from want("exit status", out.returncode, 0)
    for name in CAUSES + SOLUTIONS:
        if not re.search(rf"^  {re.escape(name)} ", out.stdout, re.MULTILINE):
            yield f"{name} is not in the list"
    listed = json.loads(run("reproduce", "--list", "--json").stdout)
    yield from want("causes", [cause["name"] for cause in listed["causes"]], CAUSES)
    yield from want("solutions", [solution["name"] for solution in listed["solutions"]], SOLUTIONS)
    yield from want("expectations", len(listed["expected"]), len(CAUSES) * len(SOLUTIONS))


@check
def wrong_usage_ends_with_2_and_says_what_is_wrong():
    for arguments, words in (
            (["reproduce", "--cause", "parkd"], "there is no cause 'parkd'; did you mean 'parked'?"),
            (["reproduce", "--solution", "nothing-like-it"], "shared, single-runtime, per-runtime"),
            (["reproduce", "--cause", "parked,"], "there is no cause ''"),
            (["reproduce", "--repeat", "0"], "--repeat is a number from 1 to 1000, not '0'"),
            (["reproduce", "--repeat", "3x"], "not '3x'"),
            (["reproduce", "--timeout", "-1"], "--timeout is a number of seconds"),
            (["reproduce", "--timeout", "nan"], "not 'nan'"),
            (["reproduce", "--frobnicate"], "Try 'interloop reproduce --help'"),
            (["reproduce", "parked"], "'parked' is one word too many"),
            (["explain"], "which cause?"),
            (["explain", "parked", "busy"], "which cause?"),
            (["explain", "sead"], "did you mean 'seed'?"),
            (["reprduce"], "there is no command 'reprduce'; did you mean 'reproduce'?"),
            (["--bogus"], "there is no option '--bogus'"),
            ([], "usage: interloop COMMAND")):
        out = run(*arguments)
        yield from want(f"exit status of {arguments}", out.returncode, 2)
        yield from want(f"stdout of {arguments}", out.stdout, "")
        if words not in out.stderr:
            yield f"{arguments}: stderr is {out.stderr!r}, want {words!r} in it"


@check
def every_command_has_help_and_the_whole_has_a_version():
    for arguments in (["--help"], ["reproduce", "--help"], ["explain", "-h"], ["doctor", "--help"],
                      ["bench", "--help"], ["serve", "--help"]):
        out = run(*arguments)
        yield from want(f"exit status of {arguments}", out.returncode, 0)
        if not out.stdout.lower().startswith("usage: "):
            yield f"{arguments}: {out.stdout[:60]!r}"
        for line in out.stdout.splitlines():
            if len(line) > 100:
                yield f"{arguments}: longer than 100 columns: {line}"
    out = run("--version")
    if not re.fullmatch(r"interloop \d+\.\d+\.\d+\n", out.stdout):
        yield f"--version: {out.stdout!r}"


@check
def table_has_a_paragraph_for_every_cell_that_is_not_ok():
    out = run("reproduce", "--cause", "parked,busy,dropped-in-flight")
    yield from want("exit status", out.returncode, 0)
    yield from want("stderr", out.stderr, "")
    if "\033" in out.stdout:
        yield "there is colour although this is no terminal"
    rows = {line.split()[0]: line.split()[1:] for line in out.stdout.splitlines()[:4]}
    yield from want("columns", out.stdout.splitlines()[0].split(), SOLUTIONS)
    for cause in ("parked", "busy", "dropped-in-flight"):
        for solution, verdict in zip(SOLUTIONS, rows[cause]):
            has_one = f"\n{cause} under {solution}: {verdict}, as expected" in out.stdout
            yield from want(f"a paragraph for {cause} under {solution}", has_one, verdict != "ok")


@check
def terminal_gets_colour_and_progress_unless_it_is_forbidden():
    arguments = ["reproduce", "--cause", "parked", "--solution", "shared,interloop"]
    status, text = run_on_terminal(arguments)
    yield from want("exit status", status, 0)
    for part in ("\033[31mhung\033[0m", "\033[32mok\033[0m", "1 of 2: parked under shared, run 1 of 1"):
        if part not in text:
            yield f"there is no {part!r} in {text!r}"
    _, text = run_on_terminal(arguments, NO_COLOR="1")
    if "\033[31m" in text:
        yield "NO_COLOR is not heeded"


@check
def timeline_says_when_where_and_what():
    out = run("reproduce", "-v", "--json", "--cause", "parked", "--solution", "shared")
    json.loads(out.stdout)
    for pattern in (r"^ +\d+  A +A +set-up: GET /id/setup-1: 200 over connection \d+$",
                    r"^ +\d+  B +B/0 +request 1: GET /id/B-1 begins$",
                    r"^ +\d+  - +monitor +monitor: request 1 is hung: "):
        if not re.search(pattern, out.stderr, re.MULTILINE):
            yield f"no line like {pattern} in:\n{out.stderr}"


@check
def seed_shows_its_tables_and_says_that_nothing_hangs():
    out = run("reproduce", "-v", "--cause", "seed", "--solution", "shared")
    yield from want("exit status", out.returncode, 0)
    for pattern in (r"pending requests: [1-9]", r"hang monitor: of [1-9]\d* requests? 0 wait for a party",
                    r"  connection \d+ +port \d+ +\S+ +with loop (global/\d|thread-\d)",
                    r"^seed under shared, run 1: ok, \d+ ms: 30 ok$"):
        if not re.search(pattern, out.stdout, re.MULTILINE):
            yield f"nothing like {pattern} in the timeline"
    if re.search(r"hang monitor: of \d+ requests? [1-9]", out.stdout):
        yield "the hang monitor reports a hang"


@check
def explain_tells_the_story_the_chain_and_what_each_solution_changes():
    out = run("explain", "parked")
    yield from want("exit status", out.returncode, 0)
    for words in ("il_block_on", "What happens with one shared client", "Why: the chain of waits",
                  "What each solution changes"):
        if words not in out.stdout:
            yield f"'{words}' is missing"
    for solution in SOLUTIONS:
        if not re.search(rf"^  {solution} +(hung|ok)$", out.stdout, re.MULTILINE):
            yield f"{solution} is missing"


@check
def output_that_cannot_be_written_is_a_failure():
    for words in (["--help"], ["--version"], ["reproduce", "--list"], ["explain", "--list"]):
        with open("/dev/full", "w") as full:
            out = subprocess.run([EXE, *words], stdout=full, stderr=subprocess.PIPE, text=True)
        yield from want(f"exit status of {words}", out.returncode, 3)
        if "No space left" not in out.stderr:
            yield f"{words} does not say why: {out.stderr}"


@check
def doctor_of_this_command_reports_to_people_and_to_machines():
    text = run("doctor", "--duration", "1", str(os.getpid()))
    yield from want("exit status", text.returncode, 0)
    if not text.stdout.startswith("healthy"):
        yield f"no verdict in front: {text.stdout[:80]!r}"
    out = run("doctor", "--json", "--duration", "1", str(os.getpid()))
    yield from want("exit status with --json", out.returncode, 0)
    yield from want("verdict", json.loads(out.stdout or "{}").get("verdict"), "healthy")


harness.run(CHECKS)
