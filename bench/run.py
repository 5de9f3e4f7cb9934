#!/usr/bin/python3
"""run: the benchmark suite's entrance; tools/bench calls it after building everything.

Progress goes to stderr, the tables to stdout. Exit status: 0 all went well, 1 a contender failed or a
request got dearer, 2 wrong usage, 3 could not be done.
"""
import argparse
import json
import os
import shutil
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from suite import contenders, goals, instructions, machine, measure, plot, report, rounds, workloads  # noqa: E402

FULL_ROUNDS, FULL_SECONDS = 7, 1.5
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.25
RECORD = os.path.join(HERE, "instructions.json")
DOCUMENT = os.path.join(os.path.dirname(HERE), "docs", "performance.md")
MARKS = ("<!-- results: written by tools/bench --publish -->", "<!-- end of results -->")
PLOTTED = ("get-1", "get-64", "get-1024", "get-9000", "download", "close")
PLOTTED_MEMORY = ("held-10k", "idle-10k")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/bench", description="Compare interloop with what one would use "
                                     "instead: CPU, throughput, latency and memory of the client's process.")
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer contenders, rounds and workloads")
    parser.add_argument("--only", metavar="NAMES", help="these workloads, separated by commas")
    parser.add_argument("--with", metavar="NAMES", dest="names", help="these contenders (and the floor)")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default {FULL_ROUNDS}, quick {QUICK_ROUNDS}")
    parser.add_argument("--seconds", type=float, metavar="S",
                        help=f"of one run, about: default {FULL_SECONDS}, quick {QUICK_SECONDS}")
    parser.add_argument("--build", default=os.path.join(os.path.dirname(HERE), "build"), metavar="DIR")
    parser.add_argument("--out", metavar="DIR", default=os.path.join(HERE, "results", "latest"),
                        help="where results.md, results.json and the plots go (default bench/results/latest)")
    parser.add_argument("--publish", action="store_true",
                        help="keep these results: write bench/results/ and the tables of docs/performance.md")
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
    if options.publish and (options.quick or options.only or options.names):
        parser.error("--publish is for whole runs: not with --quick, --only or --with")
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


def compare(options, server):
    """Exit status."""
    settings = rounds.Settings(options.build,
                               options.rounds or (QUICK_ROUNDS if options.quick else FULL_ROUNDS),
                               options.seconds or (QUICK_SECONDS if options.quick else FULL_SECONDS), options.quick)
    contests = []
    with server(settings.cores) as running:
        for workload, names in choose(options):
            rounds.say(f"{workload.name}: {workload.title}")
            contest = rounds.Contest(workload, names, settings)
            contest.run_all(running)
            contests.append((contest, contest.rows()))
    about = {"machine": machine.describe(), "noise": settings.noise.shares(), "rounds": settings.rounds,
             "seconds": settings.seconds, "is_quick": options.quick,
             "are_cores_shared": settings.cores.are_shared}
    judged = goals.judge({contest.workload.name: rows for contest, rows in contests})
    write_results(options, about, contests, judged)
    return 1 if any(contest.failed for contest, _ in contests) else 0


def plots(contests):
    """{file name: SVG}"""
    drawn = {}
    for name, kinds, draw in (("cpu.svg", PLOTTED, plot.draw_cpu), ("memory.svg", PLOTTED_MEMORY, plot.draw_memory)):
        panels = [(contest.workload.title, contest.workload.floor, rows) for contest, rows in contests
                  if contest.workload.name in kinds and rows]
        if panels:
            drawn[name] = draw(panels)
    return drawn


def write_results(options, about, contests, judged):
    folder = os.path.join(HERE, "results") if options.publish else options.out
    text = report.whole(about, contests, judged)
    files = {"results.md": text,
             "results.json": json.dumps(report.to_json(about, contests, judged), indent=1) + "\n", **plots(contests)}
    os.makedirs(folder, exist_ok=True)
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(content)
    if options.publish:
        publish(text)
    print(text)
    rounds.say(f"written: {', '.join(os.path.relpath(os.path.join(folder, name)) for name in files)}")


def publish(text):
    """Put the plots and the tables between the marks of docs/performance.md."""
    with open(DOCUMENT, encoding="utf-8") as file:
        document = file.read()
    before, _, rest = document.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    pictures = ("![CPU time of a request, by client](../bench/results/cpu.svg)\n\n"
                "![Memory of a request, by client](../bench/results/memory.svg)\n")
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(f"{before}{MARKS[0]}\n\n{pictures}\n{text}\n{MARKS[1]}{after}")


# ---- what can be counted ----


def count(options, server):
    """Exit status."""
    for tool in ("valgrind", "strace"):
        if not shutil.which(tool):
            rounds.say(f"bench: there is no {tool} (Debian: {tool})")
            return 3
    cores = machine.Cores()
    wanted = {key: list(names) for key, names in instructions.KEPT.items()}
    with server(cores) as running:
        if options.profile:
            print(instructions.profile(options.build, cores, running.port, options.names, options.only))
            return 0
        rounds.say("per request:")
        counts = instructions.measure_all(options.build, cores, running.port, wanted, rounds.say)
        if options.peers:
            instructions.measure_all(options.build, cores, running.port, instructions.PEERS, rounds.say)
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
    for notice in (contenders.build_go(options.build), contenders.build_rust(options.build)):
        if notice:
            rounds.say(f"bench: {notice}")

    def server(cores):
        return measure.Server(os.path.join(options.build, "bench", "server"), cores)

    try:
        return (count(options, server) if options.instructions or options.profile
                else compare(options, server))
    except (measure.Failed, instructions.Failed, OSError) as error:
        rounds.say(f"bench: {error}")
        return 3


if __name__ == "__main__":
    sys.exit(main())
