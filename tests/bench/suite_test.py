#!/usr/bin/python3
"""suite_test: the benchmark suite measures what it says: its programs, its arithmetic, its reports."""
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "../../bench")]
import harness  # noqa: E402
from suite import (budget, contenders, goals, instructions, measure, outcome, plot, publish, report,  # noqa: E402
                   rounds, servers, statistics, workloads)

BUILD = os.environ.get("IL_BUILD") or os.path.join(HERE, "../../build")
OURS = [contender for contender in contenders.ALL if contender.kind in ("floor", "interloop")]


class AnyCores:
    """Tests do not care which core a program runs on."""

    def __init__(self):
        self.client = self.server = sorted(os.sched_getaffinity(0))[0]
        self.are_shared = True


def server():
    return measure.Server(os.path.join(BUILD, "bench", "server"), AnyCores())


def run(contender, port, workload, requests):
    command = contender.command(BUILD, port, workload, requests)
    return measure.run(command, [AnyCores().client], contender.parse, timeout_s=60)


def users_of(workload):
    return [contender for contender in OURS if contender.name in workload.contenders]


# ---- programs ----


def each_program_makes_as_many_requests_as_told_and_counts_the_bodies():
    for workload in workloads.ALL:
        if workload.kind == "memory" or workload.connections > 64:
            continue
        with servers.for_workload(BUILD, AnyCores(), workload) as running:
            for contender in users_of(workload):
                count = workload.connections + (3 if workload.pilot < 100 else 60 if workload.handshakes else 200)
                sample = run(contender, running.port, workload, count)
                wanted = (count, count * workload.body_bytes_per_request())
                if (sample.requests, sample.body_bytes) != wanted:
                    yield f"{workload.name} {contender.name}: {sample.requests}, {sample.body_bytes}, want {wanted}"


def handshakes_are_of_the_kind_that_the_workload_is_about():
    names = ["handshake-full", "handshake-resumed", "handshake-full-12", "handshake-resumed-12"]
    for name in names:
        workload = workloads.BY_NAME[name]
        with servers.for_workload(BUILD, AnyCores(), workload) as running:
            for contender in users_of(workload):
                before = servers.handshakes(running)
                run(contender, running.port, workload, 60)
                full, resumed = (now - then for then, now in zip(before, servers.handshakes(running)))
                wanted = (60, 0) if workload.handshakes == "full" else (1, 59)
                if (full, resumed) != wanted:
                    yield f"{name} {contender.name}: {full} full and {resumed} resumed ones, want {wanted}"
    for wanted, after in (("full", (100, 1)), ("resumed", (50, 1000)), ("resumed", (100, 0)), ("full", (0, 0))):
        try:
            servers.check_handshakes(wanted, "x", (0, 0), after)
            yield f"{after} passed for {wanted}"
        except measure.Failed:
            pass


def streams_of_http_2_share_one_connection():
    workload = workloads.BY_NAME["h2s-64"]
    with servers.for_workload(BUILD, AnyCores(), workload) as running:
        for contender in users_of(workload):
            before = servers.handshakes(running)
            run(contender, running.port, workload, 500)
            count = sum(servers.handshakes(running)) - sum(before)
            if count != 1:
                yield f"{contender.name}: {count} connections, want 1"


def held_requests_are_all_in_flight_at_once():
    workload = workloads.Workload("held", "", workloads.BY_NAME["held-10k"].contenders, path="/hold/300/1",
                                  connections=300, kind="memory")
    with server() as running:
        for contender in users_of(workload):
            sample = run(contender, running.port, workload, 300)  # with fewer in flight it would never end
            if sample.requests != 300:
                yield f"{contender.name}: {sample.requests} requests, want 300"


def paced_request_is_charged_from_when_it_was_due():
    # 20 requests at 1,000 a second, one connection, answered after 10 ms each: number n is due at n ms and
    # done at 10 (n + 1) ms, so the last is 190 ms late or more. Counted from its start it would be 10 ms.
    workload = workloads.Workload("paced", "", ["floor-blocking"], path="/delay/10", rate=1000, kind="latency")
    with server() as running:
        for contender in [contenders.BY_NAME["floor-blocking"], contenders.BY_NAME["floor-epoll"]]:
            sample = run(contender, running.port, workload, 20)
            latest_ns = statistics.percentile_ns(sample.histogram, 100)
            if sum(sample.histogram.values()) != 20:
                yield f"{contender.name}: {sum(sample.histogram.values())} latencies, want 20"
            if latest_ns < 178e6:
                yield f"{contender.name}: the last request is {latest_ns / 1e6:.1f} ms late, want 178 or more"


def program_refuses_what_it_does_not_understand():
    for words in (["--connections", "4"], ["--port", "1", "--requests", "x"], ["--port", "1", "--unknown"]):
        done = subprocess.run([os.path.join(BUILD, "bench", "floor_epoll")] + words, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False)
        if done.returncode != 2 or not done.stderr:
            yield f"{words}: exit status {done.returncode}, {done.stderr!r}"


def program_that_fails_is_reported_with_its_words():
    workload = workloads.BY_NAME["get-1"]
    try:
        run(contenders.BY_NAME["floor-epoll"], 1, workload, 1)  # nobody listens on port 1
        yield "a refused connection was taken for a result"
    except measure.Failed as error:
        if "connect" not in str(error):
            yield f"the error does not say what failed: {error}"
        if not str(error).startswith("floor_epoll --port 1 ") or BUILD in str(error):
            yield f"the error begins with a path of this machine: {error}"


# ---- arithmetic ----


def histogram_bucket_holds_its_value_within_one_percent():
    for value in list(range(0, 2000)) + [10 ** power + 7 for power in range(4, 13)]:
        shift = max(0, value.bit_length() - 8)
        index = value if value < 256 else shift * 128 + (value >> shift)  # as histogram_index() in C
        low, high = statistics.bucket_bounds(index)
        if not low <= value < high:
            yield f"{value} is not in [{low}, {high})"
        if high - low > 1 and (high - low) / low > 0.01:
            yield f"[{low}, {high}) is too wide"


def percentile_is_the_value_that_so_many_do_not_exceed():
    histogram = {10: 90, 20: 9, 30: 1}
    for percent, wanted in ((50, 10), (90, 10), (91, 20), (99, 20), (99.9, 30)):
        got = statistics.percentile_ns(histogram, percent)
        if got != wanted:
            yield f"p{percent} is {got}, want {wanted}"


def ratio_is_taken_within_a_round():
    ratio = statistics.paired_ratios([2, 20, 200], [1, 10, 100])  # the machine got ten times slower twice
    if (ratio.median, ratio.low, ratio.high) != (2, 2, 2):
        yield f"{ratio.to_json()}"


def cost_of_starting_is_not_charged_to_the_requests():
    contest = rounds.Contest(workloads.BY_NAME["get-1"], [], None)
    contest.shorts["wrk"] = [measure.Sample(1, None, 0.5, 0.3, 0.1)] * 2
    contest.samples["wrk"] = [measure.Sample(1001, None, 1.5, 0.8, 0.6)] * 2
    contest.shorts["floor-epoll"] = []
    contest.samples["floor-epoll"] = [measure.Sample(2000, 24000, 9, 5, 5)] * 2
    for sample in contest.samples["floor-epoll"]:
        sample.window = measure.Sample(1000, None, 1, 0.5, 0.5)
    for name in ("wrk", "floor-epoll"):
        row = contest.cpu_row(name)
        if abs(row["cpu_us"].median - 1000) > 1e-6 or abs(row["per_second"].median - 1000) > 1e-6:
            yield f"{name}: {row['cpu_us'].to_json()} us, {row['per_second'].to_json()} a second"


def window_does_not_hold_the_warm_up():
    workload = workloads.BY_NAME["get-64"]
    with server() as running:
        for contender in users_of(workload):
            if not contender.has_window:
                continue
            command = contender.command(BUILD, running.port, workload, 2000, 500)
            sample = measure.run(command, [AnyCores().client], contender.parse, timeout_s=60)
            if sample.window.requests != 1500 or not 0 < sample.window.wall_s < sample.wall_s:
                yield f"{contender.name}: {vars(sample.window)}"


def program_that_claims_more_than_it_was_charged_with_is_not_believed():
    window = {"requests": 1, "user_us": 2_000_000, "system_us": 0, "wall_ns": 1}
    try:
        measure.parse_window(window, measure.Sample(1, 12, 1, 1, 0))
        yield "two seconds of one were believed"
    except measure.Failed:
        pass


def unreachable_goal_is_missed_and_unmeasured_goal_is_not_judged():
    row = {"cpu_us": statistics.Spread([10.0]), "user_share": 0.5, "ratio": statistics.Spread([2.0])}
    judged = goals.judge({"get-64": {"il-call": row}})
    if not judged or any(is_met for _, _, is_met in judged):
        yield f"{[(goal.text, number, is_met) for goal, number, is_met in judged]}"
    if goals.judge({}):
        yield "a goal was judged without any result"


def dearer_request_fails_the_check_unless_the_tools_differ():
    def counts(instructions_count, call_count=2.0):
        return {"a": {"instructions": instructions_count, "system calls": call_count}}

    recorded = {"tolerance_percent": {"instructions": 3, "system calls": 2}, "toolchain": instructions.toolchain(),
                "per_request": counts(1000)}
    recorded["per_request"]["none"] = {"instructions": 0.0, "system calls": 0.0}
    for now, wanted in ((counts(1020), 0), (counts(1040), 1), (counts(900), 0), (counts(1000, 2.1), 0), (counts(1000, 2.5), 1),
                        ({"none": {"instructions": 1, "system calls": 0}}, 1)):
        lines, dearer_count = instructions.compare(recorded, now)
        if dearer_count != wanted:
            yield f"{now}: {lines}"
    recorded["toolchain"] = {"compiler": "another"}
    lines, dearer_count = instructions.compare(recorded, counts(2000))
    if dearer_count != 0 or "another compiler" not in lines[-1]:
        yield f"with another compiler: {lines}"


# ---- reports ----


ABOUT = {"machine": {"cpu": "a CPU", "cores": 2, "kernel": "6", "libc": "glibc", "compiler": "cc", "date": "today"},
         "noise": {"others": 0, "stolen": 0, "longest_pause_s": 0}, "rounds": 5, "seconds": 1, "is_quick": False,
         "are_cores_shared": False, "not_measured": {"upload": "there was no time"}}


def measured(name="get-1"):
    """What came of a workload with three rows, one contender that was not there, and one that failed."""
    contest = rounds.Contest(workloads.BY_NAME[name], [], None)
    sample = measure.Sample(1001, 12012, 1.5, 0.8, 0.6)
    sample.window = measure.Sample(1000, None, 1.2, 0.6, 0.5)
    for name in ("floor-blocking", rounds.FLOOR_AGAIN, "curl-easy"):
        contest.shorts[name] = []
        contest.samples[name] = [sample]
    contest.absent["go"] = "not built"
    contest.failed["hyper"] = "it fell over"
    contest.notes.append("3 rounds only")
    return outcome.Outcome(contest.workload.name, contest.rows(), contest.absent, contest.failed, contest.notes)


def report_and_plot_show_every_row():
    result = measured()
    text = report.whole(ABOUT, [result], [])
    svg = plot.draw_cpu([("a <title>", "floor-blocking", result.rows)])
    for wanted in ("libcurl, easy", "this much is noise", "not built", "it fell over", "3 rounds only",
                   "Not measured, for there was no time: upload."):
        if wanted not in text.replace("\n", " "):
            yield f"not in the report: {wanted}\n{text}"
    for wanted in ("libcurl, easy", "A &lt;title&gt;"):
        if wanted not in svg:
            yield f"not in the plot: {wanted}"
    memory = {"floor-epoll": {"bytes_per_request": statistics.Spread([100, 200])},
              "il-call": {"bytes_per_request": statistics.Spread([4096])}}
    svg = plot.draw_memory([("memory", "floor-epoll", memory)])
    for wanted in ("interloop, callbacks", "4.00 KiB"):
        if wanted not in svg:
            yield f"not in the plot of memory: {wanted}"
    rows = {name: {"cpu_us": statistics.Spread([us]), "user_share": 0.5}
            for name, us in (("floor-epoll", 4), ("il-call", 5), ("wrk", 6), ("soup-async", 90))}
    svg = plot.draw_cpu([("one outlier", "floor-epoll", rows)])
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="15"', svg)][:8]
    whole = plot.WIDTH - plot.LABEL_WIDTH - plot.VALUE_WIDTH
    if [round(2 * width) for width in widths[::2]] != [round(whole * us / 6) for us in (4, 5, 6, 6)]:
        yield f"the bars are {widths} wide, want 4, 5, 6 and 6 sixths of {whole}, in halves"
    if 'class="cut"' not in svg:
        yield "a bar that is longer than drawn does not say so"
    line = "| libcurl, the best of its ways | 1,100 µs · 1.00 × |"
    if line not in report.summary(ABOUT, [result]):
        yield f"not in the summary: {line}\n{report.summary(ABOUT, [result])}"


def results_that_were_kept_give_the_same_report():
    result = measured()
    kept = json.loads(json.dumps(report.to_json(ABOUT, [result], [])))
    again = [outcome.Outcome.from_json(name, one) for name, one in kept["workloads"].items()]
    if report.whole(kept["about"], again, []) != report.whole(ABOUT, [result], []):
        yield report.whole(kept["about"], again, [])


def workload_of_which_nothing_could_be_measured_is_shown_as_failed():
    contest = rounds.Contest(workloads.BY_NAME["runtime"], ["il-yield"], rounds.Settings(BUILD, 1, 1, True))
    contest.fail("the server fell over")
    result = contest.outcome()
    text = report.whole(ABOUT, [result], goals.judge({result.name: result.rows}))
    if result.rows or "**failed**: the server fell over" not in text:
        yield text


def contender_that_fails_is_out_and_the_others_go_on():
    names = ["il-yield", "il-timer"]
    contest = rounds.Contest(workloads.BY_NAME["runtime"], names, rounds.Settings(BUILD, 2, 0.01, True))
    contest.settings.cores = AnyCores()
    with server() as running:
        contest.pilot_all(running)
        contest.per_request_s["il-timer"] = 1e-6
        honest, contest.contender = contest.contender, lambda name: (
            contenders.Contender("il-timer", "interloop", "", "no-such-program") if name == "il-timer"
            else contenders.BY_NAME["il-yield"])
        contest.run_all(running, 0.01)
        contest.contender = honest
    result = contest.outcome()
    if sorted(result.rows) != ["floor-again", "il-yield"] or list(result.failed) != ["il-timer"]:
        yield f"rows {sorted(result.rows)}, failed {result.failed}"
    if len(result.rows["il-yield"]["cpu_us"].values) != 2:
        yield f"{result.rows['il-yield']['cpu_us'].to_json()}"


def runs_are_as_long_as_the_time_allows():
    """Ten items of five runs each that take a second beside what is measured, or twice what was expected."""
    for slowness, wanted in ((1, 1.9), (1.5, 1.0)):
        now = [0.0]
        plan = budget.Budget(150, 1.5, lambda item, seconds: 5 * (1 + seconds), clock=lambda: now[0])
        items = list(range(10))
        for index, item in enumerate(items):
            seconds = plan.seconds_for(items[index:])
            if not plan.has_time_for(item, seconds):
                yield f"no time for item {item}, {plan.left_s():.0f} s left"
                break
            plan.begin()
            now[0] += slowness * 5 * (1 + seconds)
            plan.end(item, seconds)
        if now[0] > 150:
            yield f"it took {now[0]:.0f} s of 150"
        if abs(seconds - wanted) > 0.3:
            yield f"the last runs are {seconds:.2f} s long, want about {wanted}"
    if budget.Budget(None, 1.5, None).seconds_for([1]) != 1.5:
        yield "without a limit the length is not the one asked for"


def what_there_is_no_time_for_is_left_out():
    plan = budget.Budget(10, 1.5, lambda item, seconds: item, clock=lambda: 0.0)
    if plan.has_time_for(20, 0.2) or not plan.has_time_for(5, 0.2):
        yield "20 s fit into 10, or 5 do not"


def published_text_stands_between_the_marks():
    marks = ("<!-- a -->", "<!-- b -->")
    text = publish.replaced("before\n<!-- a -->\nold\n<!-- b -->\nafter\n", marks, "new\n", "x.md")
    if text != "before\n<!-- a -->\n\nnew\n\n<!-- b -->\nafter\n" or \
            publish.replaced(text, marks, "new", "x.md") != text:
        yield repr(text)
    for broken in ("no marks", "<!-- a --> only"):
        try:
            publish.replaced(broken, marks, "new", "x.md")
            yield f"published into {broken!r}"
        except publish.Failed as error:
            if "x.md" not in str(error):
                yield str(error)
    root = os.path.join(HERE, "../..")
    changed = publish.documents(root, ["cpu.svg", "summary.svg"], "SUMMARY", "REPORT")
    for path, wanted in zip(sorted(changed), ("SUMMARY", "REPORT")):
        if wanted not in changed[path]:
            yield f"{path} lacks {wanted}"


def every_workload_names_contenders_that_exist():
    for workload in workloads.ALL:
        for name in workload.contenders + (workload.quick or []):
            if name not in contenders.BY_NAME:
                yield f"{workload.name}: there is no contender '{name}'"
        if workload.quick and not set(workload.quick) <= set(workload.contenders):
            yield f"{workload.name}: --quick has contenders that the workload has not"
        if workload.quick and workload.quick[0] != workload.floor:
            yield f"{workload.name}: --quick has another floor"


if __name__ == "__main__":
    harness.run([(check.__name__, check) for check in (
        each_program_makes_as_many_requests_as_told_and_counts_the_bodies,
        handshakes_are_of_the_kind_that_the_workload_is_about,
        streams_of_http_2_share_one_connection,
        held_requests_are_all_in_flight_at_once,
        paced_request_is_charged_from_when_it_was_due,
        program_refuses_what_it_does_not_understand,
        program_that_fails_is_reported_with_its_words,
        histogram_bucket_holds_its_value_within_one_percent,
        percentile_is_the_value_that_so_many_do_not_exceed,
        ratio_is_taken_within_a_round,
        window_does_not_hold_the_warm_up,
        program_that_claims_more_than_it_was_charged_with_is_not_believed,
        cost_of_starting_is_not_charged_to_the_requests,
        unreachable_goal_is_missed_and_unmeasured_goal_is_not_judged,
        dearer_request_fails_the_check_unless_the_tools_differ,
        report_and_plot_show_every_row,
        results_that_were_kept_give_the_same_report,
        workload_of_which_nothing_could_be_measured_is_shown_as_failed,
        contender_that_fails_is_out_and_the_others_go_on,
        runs_are_as_long_as_the_time_allows,
        what_there_is_no_time_for_is_left_out,
        published_text_stands_between_the_marks,
        every_workload_names_contenders_that_exist,
    )])
