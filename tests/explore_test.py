#!/usr/bin/python3
"""The command line of `interloop explore`, and what it must find, find again, and not find."""
import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))
import harness  # noqa: E402

EXE = os.path.join(os.environ.get("IL_BUILD", "build"), "interloop")
CHECKS = []


def check(function):
    CHECKS.append((function.__name__, function))
    return function


def run(*arguments, exe=EXE, timeout_s=400):
    return subprocess.run([exe, "explore", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, stdin=subprocess.DEVNULL, timeout=timeout_s)


def run_json(*arguments, **options):
    return json.loads(run(*arguments, "--json", **options).stdout)


def want(what, actual, wanted):
    if actual != wanted:
        yield f"{what} is {actual!r}, want {wanted!r}"


SHARED = ["--cause", "parked", "--solution", "shared"]


# ---- the command line ----

@check
def wrong_usage_is_named_and_ends_with_2():
    for arguments, word in [(["--cause", "parkd"], "'parked'"), (["--solution", "x"], "no solution 'x'"),
                            (["--driver", "x"], "no driver 'x'"), (["--mode", "x"], "no mode 'x'"),
                            (["--seeds", "0"], "--seeds is a number from 1"), (["--seeds", "1x"], "1x"),
                            (["--from", "-1"], "--from is a number from 0"), (["--jobs", "0"], "--jobs is"),
                            (["--shrink"], "belong to --replay"), (["--replay", "x"], "--replay is"),
                            (["--replay", "1", "--calm", "5-3"], "rising numbers"),
                            (["--replay", "1", "--without", "999"], "rising numbers"),
                            (["more"], "one word too many")]:
        result = run(*arguments)
        yield from want(f"status of {arguments}", result.returncode, 2)
        yield from want(f"stdout of {arguments}", result.stdout, "")
        if word not in result.stderr:
            yield f"{arguments}: {word!r} is not in: {result.stderr}"


@check
def help_names_every_option():
    result = run("--help")
    yield from want("status", result.returncode, 0)
    for option in ["cause", "solution", "driver", "mode", "seeds", "from", "jobs", "collect", "replay",
                   "shrink", "without", "calm", "json", "verbose", "help"]:
        if f"--{option}" not in result.stdout:
            yield f"--{option} is not in the help"
    if max(map(len, result.stdout.split("\n"))) > 100:
        yield "a line of the help is longer than 100 columns"


@check
def json_has_the_promised_shape():
    found = run_json(*SHARED, "--mode", "liveness", "--seeds", "20")
    yield from want("keys", sorted(found), ["cause", "faults", "findings", "interleavings", "mode", "real_s",
                                            "seeds", "solution", "virtual_s"])
    yield from want("what was played", (found["cause"], found["solution"], found["mode"]),
                    ("parked", "shared", "liveness"))
    finding = found["findings"][0]
    yield from want("keys of a finding", sorted(finding),
                    ["cause", "detail", "kind", "mode", "seed", "trace_hash"])
    replay = run_json(*SHARED, "--mode", "liveness", "--replay", str(finding["seed"]))
    yield from want("keys of a replay", sorted(replay), ["events", "finding", "seed", "trace_hash"])
    yield from want("keys of an event", sorted(replay["events"][0]), ["at_us", "kind", "text", "thread"])
    yield from want("finding", replay["finding"]["kind"], finding["kind"])
    clean = run_json("--cause", "parked", "--mode", "liveness", "--replay", "1")
    yield from want("finding of a run that is as it should be", clean["finding"], None)


@check
def driver_is_another_word_for_solution():
    yield from want("bound", run_json("--driver", "bound", "--seeds", "1")["solution"], "shared")
    yield from want("caller", run_json("--driver", "caller", "--seeds", "1")["solution"], "interloop")


@check
def it_stops_at_the_first_finding_unless_told_to_collect():
    arguments = [*SHARED, "--mode", "liveness", "--seeds", "200", "--jobs", "1"]
    yield from want("findings", len(run_json(*arguments)["findings"]), 1)
    collected = run_json(*arguments, "--collect")
    yield from want("seeds", collected["seeds"], 200)
    if len(collected["findings"]) < 190:
        yield f"only {len(collected['findings'])} of 200 seeds hang"


# ---- what must be found ----

@check
def hang_of_a_shared_client_is_found_within_100_seeds_and_shown_by_every_replay():
    for mode in ["safety", "liveness"]:
        found = run_json(*SHARED, "--mode", mode, "--seeds", "100")
        hangs = [finding for finding in found["findings"] if finding["kind"] == "hang"]
        if not hangs:
            yield f"{mode}: no hang in {found['seeds']} seeds"
            continue
        if "loop 'A': not driven" not in hangs[0]["detail"]:
            yield f"the chain does not end at the parked loop: {hangs[0]['detail']}"
        for _ in range(5):
            replay = run_json(*SHARED, "--mode", mode, "--replay", str(hangs[0]["seed"]))
            yield from want("hash", replay["trace_hash"], hangs[0]["trace_hash"])
            yield from want("kind", replay["finding"]["kind"], "hang")


@check
def pattern_that_starves_is_found_and_its_chain_names_who_blocks_it():
    for solution in ["proxy", "channel", "single-runtime"]:
        found = run_json("--cause", "busy", "--solution", solution, "--mode", "liveness", "--seeds", "100")
        yield from want(f"kind under {solution}", [f["kind"] for f in found["findings"][:1]], ["starved"])
        if found["findings"] and "task 'blocks': in user code" not in found["findings"][0]["detail"]:
            yield f"{solution}: the chain does not end at the blocking task: {found['findings'][0]['detail']}"


@check
def pattern_whose_idle_connection_the_server_closes_fails_a_get_and_does_not_send_it_again():
    found = run_json("--cause", "stale", "--solution", "channel", "--mode", "liveness", "--seeds", "100")
    if not found["findings"]:
        yield "100 seeds without a finding"
    for finding in found["findings"][:1]:
        yield from want("kind", finding["kind"], "error")
        if "IL_EPEERCLOSED: GET" not in finding["detail"]:
            yield f"seed {finding['seed']}: {finding['detail']}"


@check
def ten_thousand_seeds_of_the_default_client_have_no_finding():
    found = run_json("--seeds", "10000", "--collect")
    yield from want("seeds", found["seeds"], 10000)
    for finding in found["findings"]:
        yield f"seed {finding['seed']}, {finding['cause']}, {finding['mode']}: {finding['kind']}: " \
              f"{finding['detail']}"
    print(f"{found['seeds'] / found['real_s']:.0f} seeds/s, {found['virtual_s'] / found['real_s']:.0f} times "
          f"real time, {found['interleavings']} interleavings, {found['faults']} faults")


# ---- determinism ----

def hashes(*arguments, **options):
    found = run_json(*SHARED, "--mode", "liveness", "--seeds", "60", "--collect", *arguments, **options)
    return {finding["seed"]: finding["trace_hash"] for finding in found["findings"]}


@check
def seed_decides_the_run_in_whatever_process_it_is_played_after_whatever_others():
    one, two = hashes("--jobs", "1"), hashes("--jobs", "3")
    yield from want("hashes with three processes", two, one)
    for seed in sorted(one)[::7]:
        replay = run_json(*SHARED, "--mode", "liveness", "--replay", str(seed))
        yield from want(f"hash of seed {seed}, alone", replay["trace_hash"], one[seed])


@check
def seed_decides_the_run_with_and_without_sanitizers():
    other = os.path.join(ROOT, "build-asan", "interloop")
    if not os.path.exists(other):
        raise harness.Skip("build-asan has no interloop")
    yield from want("hashes", hashes(exe=other), hashes())
    for seed in range(0, 24):
        arguments = ["--cause", "general", "--mode", "liveness", "--replay", str(seed)]
        yield from want(f"hash of general workload {seed}", run_json(*arguments, exe=other)["trace_hash"],
                        run_json(*arguments)["trace_hash"])


# ---- replay and shrink ----

@check
def replay_has_a_column_for_each_thread_and_fits_100_columns():
    for arguments in [[*SHARED, "--mode", "liveness"], ["--cause", "general", "--mode", "liveness"]]:
        result = run(*arguments, "--replay", "5")
        lines = result.stdout.split("\n")
        yield from want("longest line, at most", max(map(len, lines)) <= 100, True)
        if not re.match(r" +ms +main .*network", lines[2]) and "others" not in lines[2]:
            yield f"no columns in: {lines[2]}"
    shown = run(*SHARED, "--mode", "liveness", "--replay", "5").stdout
    for text in ["A has its answer and is parked", "loop 'A': not driven", "request 1 is hung"]:
        if text not in shown:
            yield f"the replay does not say: {text}"


@check
def shrunken_run_still_fails_and_needs_less():
    result = run(*SHARED, "--mode", "liveness", "--replay", "5", "--shrink")
    yield from want("status", result.returncode, 1)
    command = re.search(r"interloop explore (.*)", result.stdout)
    left = re.search(r"(\d+) of (\d+) decisions are left", result.stdout)
    if not command or not left or int(left[1]) >= int(left[2]):
        yield f"nothing was left out: {result.stdout}"
        return
    again = run(*command[1].split(), "--json")
    yield from want("finding of what is left", json.loads(again.stdout)["finding"]["kind"], "hang")
    clean = run("--cause", "parked", "--mode", "liveness", "--replay", "1", "--shrink")
    yield from want("status without a finding", clean.returncode, 0)


harness.run(CHECKS)
