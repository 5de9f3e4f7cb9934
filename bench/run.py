#!/usr/bin/python3
"""run: the benchmark suite's entrance; tools/bench calls it after building everything.

Progress goes to stderr, the tables to stdout. Exit status: 0 all went well, 1 a contender failed or a
request got dearer, 2 wrong usage, 3 could not be done.
"""
import argparse
import json
import os
import shutil
import signal
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from suite import (budget, contenders, goals, instructions, machine, measure, outcome, plot, publish,  # noqa: E402
                   report, rounds, servers, workloads)

FULL_ROUNDS, FULL_SECONDS = 7, 1.5
LIMITED_ROUNDS = 5  # with --minutes
LITTLE = 1 / 40     # of --minutes
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.25
ROOT = os.path.dirname(HERE)
RECORD = os.path.join(HERE, "instructions.json")
PLOTTED = ("get-1", "get-64", "get-1024", "get-9000", "download", "close", "https-64", "h2-64", "h2s-64", "handshake-full",
           "handshake-resumed")
PLOTTED_SUMMARY = ("get-64", "h2s-64")
PLOTTED_MEMORY = ("held-10k", "idle-10k")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/bench", description="Compare interloop with what one would use "
                                     "instead: CPU, throughput, latency and memory of the client's process.")
    parser.add_argument("--quick", action="store_true", help="a minute or two: fewer contenders, rounds and workloads")
    parser.add_argument("--only", metavar="NAMES", help="these workloads, separated by commas")
    parser.add_argument("--with", metavar="NAMES", dest="names", help="these contenders (and the floor)")
    parser.add_argument("--rounds", type=int, metavar="N",
                        help=f"default {FULL_ROUNDS}, with --minutes {LIMITED_ROUNDS}, quick {QUICK_ROUNDS}")
    parser.add_argument("--seconds", type=float, metavar="S",
                        help=f"of one run, about: default {FULL_SECONDS}, quick {QUICK_SECONDS}")
    parser.add_argument("--minutes", type=float, metavar="M",
                        help="be through with all of it in M minutes: the runs are as long as that allows")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), metavar="DIR")
    parser.add_argument("--out", metavar="DIR", default=os.path.join(HERE, "results", "latest"),
                        help="where results.md, results.json and the plots go (default bench/results/latest)")
    parser.add_argument("--publish", action="store_true",
                        help="and then write bench/results/, the tables of docs/performance.md, and README.md's")
    parser.add_argument("--from", metavar="DIR", dest="kept",
                        help="measure nothing: take DIR/results.json, from an earlier run, whole or not")
    parser.add_argument("--list", action="store_true", help="name the workloads and the contenders")
    parser.add_argument("--instructions", action="store_true",
                        help="count instructions, system calls and allocations of a request (callgrind, strace, "
                        "memcheck), and compare with the recorded counts")
    parser.add_argument("--peers", action="store_true", help="with --instructions: count the peers' too")
    parser.add_argument("--record", action="store_true", help="with --instructions: record them")
    parser.add_argument("--profile", action="store_true",
                        help="say in which functions the instructions are spent; needs --only and --with, one each")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    for given, known in ((options.only, workloads.BY_NAME), (options.names, contenders.BY_NAME)):
        for name in given.split(",") if given else ():
            if name not in known:
                parser.error(f"there is no '{name}'; there are: {', '.join(known)}")
    if options.publish and not options.kept and (options.quick or options.only or options.names):
        parser.error("--publish is for whole runs: not with --quick, --only or --with")
    if options.minutes is not None and not options.minutes > 0:
        parser.error("--minutes: more than 0")
    if options.minutes is not None and options.seconds is not None:
        parser.error("--minutes decides how long a run is: not with --seconds")
    if options.profile and (options.only not in workloads.BY_NAME or options.names not in contenders.BY_NAME):
        parser.error("--profile needs one workload (--only) and one contender (--with)")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds: at least 1")
    return options


def show_list():
    for title, things in (("workloads", workloads.ALL), ("contenders", contenders.ALL)):
        print(f"{title}:")
        for thing in things:
            print(f"  {thing.name:<16} {getattr(thing, 'title', None) or thing.label}")


def choose(options):
    """[(workload, names of contenders)]"""
    chosen = []
    for workload in workloads.ALL:
        if options.only and workload.name not in options.only.split(","):
            continue
        names = workload.contenders
        if options.quick and not options.only:
            names = workload.quick
        if names is None:
            continue
        if options.names:
            wanted = options.names.split(",")
            names = [name for name in workload.contenders if name in wanted or name == workload.floor]
        chosen.append((workload, names))
    return chosen


# ---- the comparison ----


def settings_of(options):
    count = options.rounds or (QUICK_ROUNDS if options.quick else LIMITED_ROUNDS if options.minutes else FULL_ROUNDS)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else FULL_SECONDS)
    return rounds.Settings(options.build, count, seconds, options.quick)


class Suite:
    """One run of the suite: what is to be measured, what has been, and what a reader must know of it."""

    def __init__(self, options):
        self.options = options
        self.settings = settings_of(options)
        self.contests = [rounds.Contest(workload, names, self.settings) for workload, names in choose(options)]
        self.budget = budget.Budget(options.minutes and options.minutes * 60, self.settings.seconds,
                                    rounds.Contest.estimate_s)
        self.outcomes = []
        self.not_measured = {}
        self.longest_s = 0.0  # of one run
        self.was_stopped = False

    def measure(self):
        try:
            for index, contest in enumerate(self.contests):
                rounds.say(f"[pilot {index + 1} of {len(self.contests)}] {contest.workload.name}; "
                           f"{budget.words(self.budget.gone_s())} gone")
                self.guard(contest, contest.pilot_all)
            self.contests = self.in_order()
            for index, contest in enumerate(self.contests):
                self.measure_one(index, contest)
        except KeyboardInterrupt:
            self.was_stopped = True
            done = {result.name for result in self.outcomes} | set(self.not_measured)
            self.not_measured.update({contest.workload.name: "the run was ended early" for contest in self.contests
                                      if contest.workload.name not in done})
            rounds.say("bench: ended early; what was measured is kept")

    def in_order(self):
        """Where time is short, those first that take little of it: what is left out then is one, and not many."""
        if not self.options.minutes:
            return self.contests
        little_s = self.options.minutes * 60 * LITTLE
        return sorted(self.contests, key=lambda contest: contest.estimate_s(budget.SECONDS_MIN) > little_s)

    def measure_one(self, index, contest):
        time_plan, rest = self.budget, self.contests[index:]
        if not time_plan.has_time_for_all(rest):
            for one in rest:
                if not one.is_hurried:
                    one.hurry()
        seconds = time_plan.seconds_for(rest)
        rounds.say(f"[{index + 1} of {len(self.contests)}] {contest.workload.name}: {contest.workload.title}: "
                   f"{contest.rounds()} rounds of {len(contest.samples)} programs, {seconds:.1f} s each; {budget.words(time_plan.gone_s())} "
                   f"gone, about {budget.words(time_plan.cost_s(rest, seconds))} to go")
        if not time_plan.has_time_for(contest, seconds):
            self.not_measured[contest.workload.name] = "there was no time"
            rounds.say("    left out: there is no time")
            return
        deadline = time.monotonic() + 1.5 * time_plan.cost_s([contest], seconds) if self.options.minutes else None
        time_plan.begin()
        self.guard(contest, lambda running: contest.run_all(running, seconds, deadline))
        time_plan.end(contest, seconds)
        self.longest_s = max(self.longest_s, seconds)
        self.outcomes.append(contest.outcome())
        self.outcomes.sort(key=lambda result: workloads.ALL.index(result.workload))
        self.write()

    def guard(self, contest, action):
        try:
            with servers.for_workload(self.options.build, self.settings.cores, contest.workload) as running:
                action(running)
        except (measure.Failed, OSError) as error:
            contest.fail(error)

    def about(self):
        settings = self.settings
        made = max((result.round_count() for result in self.outcomes), default=settings.rounds)
        return {"machine": machine.describe(), "noise": settings.noise.shares(), "rounds": made,
                "seconds": self.longest_s, "is_quick": settings.is_quick, "not_measured": self.not_measured,
                "are_cores_shared": settings.cores.are_shared}

    def write(self):
        """What there is by now: a run that is cut short has lost only what was under way."""
        publish.write_all({os.path.join(self.options.out, name): text
                           for name, text in rendered(self.about(), self.outcomes).items()})

    def status(self):
        return 1 if self.was_stopped or any(result.failed for result in self.outcomes) else 0


def rendered(about, outcomes):
    """{file name: text} of all that can be made of these results."""
    judged = goals.judge({result.name: result.rows for result in outcomes})
    files = {"results.md": report.whole(about, outcomes, judged),
             "results.json": json.dumps(report.to_json(about, outcomes, judged), indent=1) + "\n"}
    for name, kinds, draw in (("cpu.svg", PLOTTED, plot.draw_cpu), ("summary.svg", PLOTTED_SUMMARY, plot.draw_cpu),
                              ("memory.svg", PLOTTED_MEMORY, plot.draw_memory)):
        panels = [(result.workload.title, result.workload.floor, result.rows) for result in outcomes
                  if result.name in kinds and result.rows]
        if panels:
            files[name] = draw(panels)
    return files


def show_and_publish(options, about, outcomes):
    files = rendered(about, outcomes)
    print(files["results.md"])
    if options.publish:
        written = publish.publish(ROOT, files, report.summary(about, outcomes), files["results.md"])
        rounds.say(f"published: {', '.join(written)}")


def compare(options):
    """Exit status."""
    suite = Suite(options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    suite.measure()
    if not suite.outcomes:
        rounds.say("bench: nothing was measured")
        return 3
    suite.write()
    rounds.say(f"written: {os.path.relpath(options.out)}/ after {budget.words(suite.budget.gone_s())}")
    if options.publish and suite.was_stopped:
        rounds.say(f"not published, for it is not whole: tools/bench --publish --from {os.path.relpath(options.out)} "
                   "publishes what there is")
        options.publish = False
    show_and_publish(options, suite.about(), suite.outcomes)
    return suite.status()


def show_kept(options):
    """Exit status. What an earlier run has written, once more."""
    path = os.path.join(options.kept, "results.json")
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        outcomes = [outcome.Outcome.from_json(name, result) for name, result in kept["workloads"].items()]
    except (ValueError, KeyError) as error:
        rounds.say(f"bench: {path}: these are no results of this suite: {error!r}")
        return 3
    show_and_publish(options, kept["about"], outcomes)
    return 0


# ---- what can be counted ----


def count(options):
    """Exit status."""
    for tool in ("valgrind", "strace"):
        if not shutil.which(tool):
            rounds.say(f"bench: there is no {tool} (Debian: {tool})")
            return 3
    cores = machine.Cores()
    wanted = {key: list(names) for key, names in instructions.KEPT.items()}
    if options.profile:
        print(instructions.profile(options.build, cores, options.names, options.only))
        return 0
    rounds.say("per request:")
    counts = instructions.measure_all(options.build, cores, wanted, rounds.say)
    if options.peers:
        instructions.measure_all(options.build, cores, instructions.PEERS, rounds.say)
    if options.record:
        instructions.save(RECORD, counts)
        return 0
    lines, dearer_count = instructions.compare(instructions.load(RECORD), counts)
    print("\n".join(lines))
    return 1 if dearer_count else 0


def main():
    options = parse_arguments()
    if options.list:
        show_list()
        return 0
    if options.kept:
        return guarded(lambda: show_kept(options))
    for notice in (contenders.build_go(options.build), contenders.build_rust(options.build)):
        if notice:
            rounds.say(f"bench: {notice}")
    return guarded(lambda: count(options) if options.instructions or options.profile else compare(options))


def guarded(action):
    """Exit status of what may find that it cannot be done."""
    try:
        return action()
    except (measure.Failed, instructions.Failed, publish.Failed, OSError) as error:
        rounds.say(f"bench: {error}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
