"""rounds: run a workload's contenders in turn, A B C A B C, and turn the samples into rows.

A machine's speed drifts; contenders measured one after the other would each get another machine. So each
round runs every contender once, every second round in reverse order, and ratios are taken within rounds.
"""
import copy
import sys
import time

from suite import budget, machine, measure, servers, statistics
from suite.contenders import BY_NAME as CONTENDERS
from suite.outcome import Outcome

TIMEOUT_S = 150          # for one run of one program
WRK_SHORT_S = 1          # wrk counts whole seconds
MEMORY_ROUNDS_MAX = 3    # memory hardly differs from one to the next
ROUNDS_MIN = 3           # are made even if it takes too long
SLOW_RUN_S = 35          # of one of a workload's slow contenders
RATE_OVERHEAD_S = 0.3    # of a run at a fixed rate, or for so many seconds
MEMORY_OVERHEAD_S = 3.5  # of a run that holds 10,000 connections, and of the short one
FLOOR_AGAIN = "floor-again"
PERCENTILES = (50, 99, 99.9)


def say(text):
    print(text, file=sys.stderr, flush=True)


class Contest:
    """One workload: who takes part, how many requests each makes, what came of it."""

    def __init__(self, workload, names, settings):
        self.workload = workload
        self.settings = settings
        self.overheads_s = {}    # name -> what a run takes beside the time that is measured
        self.per_request_s = {}  # name -> wall time
        self.absent = {}    # name -> why
        self.failed = {}    # name -> what happened
        self.requests = {}  # name -> requests (or seconds) of the long run
        self.samples = {}   # name -> [Sample], one for each round
        self.shorts = {}    # name -> [Sample] of the short runs
        self.notes = []     # what else a reader should know
        self.is_hurried = False  # see hurry()
        for name in names:
            why = CONTENDERS[name].why_absent(settings.build)
            if why:
                self.absent[name] = why
            else:
                self.samples[name] = []
                self.shorts[name] = []
        if workload.floor in self.samples and len(self.samples) > 1:
            self.samples[FLOOR_AGAIN] = []
            self.shorts[FLOOR_AGAIN] = []

    def contender(self, name):
        return CONTENDERS[self.workload.floor if name == FLOOR_AGAIN else name]

    def warm_up(self, name, workload=None):
        """Requests that are not counted: who is slow makes no more than one on each connection."""
        workload = workload or self.workload
        return workload.connections if self.is_slow(name) else workload.warm_up()

    def rounds(self):
        most = ROUNDS_MIN if self.is_hurried else self.settings.rounds
        if self.workload.kind == "memory":
            most = 1 if self.settings.is_quick else min(most, MEMORY_ROUNDS_MAX)
        return min(most, self.settings.rounds)

    def is_slow(self, name):
        return name in self.workload.slow

    def rounds_of(self, name):
        return 1 if self.is_slow(name) else self.rounds()

    def hurry(self):
        """There is not enough time: fewer rounds, and without those that are slow."""
        self.is_hurried = True
        for name in [name for name in self.samples if self.is_slow(name)]:
            self.samples.pop(name)
            self.absent[name] = "there was no time"
        if self.rounds() < self.settings.rounds and self.workload.kind != "memory":
            self.notes.append(f"{self.rounds()} rounds only: there was no time for {self.settings.rounds}")

    def estimate_s(self, seconds):
        """What all of it takes, with runs of so many seconds."""
        return sum(self.rounds_of(name) * (self.overheads_s.get(name, 0) + self.measured_s(name, seconds))
                   for name in self.samples)

    def measured_s(self, name, seconds):
        if self.workload.kind == "memory" or self.is_slow(name):
            return 0
        if self.contender(name).is_timed:
            return 2 * WRK_SHORT_S + max(1, round(seconds))
        return max(1, seconds) if self.workload.rate else seconds

    # ---- one run ----

    def run(self, server, name, count, workload=None):
        workload = workload or self.workload
        contender = self.contender(name)
        command = contender.command(self.settings.build, server.port, workload, count,
                                    min(self.warm_up(name, workload), count - 1))
        cores = self.settings.cores
        cpus = [cores.client] if not workload.uses_all_cores else sorted({cores.client, cores.server})
        server_before_s = server.cpu_s()
        shaken = servers.handshakes(server) if workload.handshakes else None
        sample = measure.run(command, cpus, contender.parse, TIMEOUT_S, watch_memory=workload.kind == "memory")
        if shaken:
            servers.check_handshakes(workload.handshakes, name, shaken, servers.handshakes(server))
        self.settings.noise.add(sample.user_s + sample.system_s + server.cpu_s() - server_before_s)
        wanted = sample.requests * workload.body_bytes_per_request()
        if sample.body_bytes is not None and sample.body_bytes != wanted:
            raise measure.Failed(f"{name}: {sample.requests} requests gave {sample.body_bytes} bytes, not {wanted}")
        if not contender.is_timed and sample.requests != count:
            raise measure.Failed(f"{name}: made {sample.requests} requests, not {count}")
        return sample

    def needs_short(self, name):
        return self.workload.kind == "memory" or not self.contender(name).has_window

    def run_short(self, server, name):
        """All that a run costs besides the requests that are to be measured."""
        if self.contender(name).is_timed:
            return self.run(server, name, WRK_SHORT_S)
        workload = copy.copy(self.workload)
        workload.rate = 0
        if workload.kind == "memory":
            workload.path, workload.connections = "/hold/1/300", 1
        return self.run(server, name, workload.connections, workload)

    # ---- how fast is it? ----

    def pilot(self, server, name):
        """Sets how long a request takes, and how long a run takes beside those that are measured."""
        workload, contender = self.workload, self.contender(name)
        if self.is_slow(name):
            self.overheads_s[name] = SLOW_RUN_S
            return
        if workload.kind == "memory":
            self.overheads_s[name] = MEMORY_OVERHEAD_S
            return
        if workload.rate or contender.is_timed:
            self.overheads_s[name] = RATE_OVERHEAD_S
            return
        pilot = self.run(server, name, workload.warm_up() + workload.pilot)
        warm = pilot.window
        self.overheads_s[name] = pilot.wall_s - warm.wall_s if warm else 0
        if warm is None:
            short = self.run_short(server, name)
            warm = pilot.minus(short)
            self.overheads_s[name] = 2 * short.wall_s
        self.per_request_s[name] = max(1e-7, warm.wall_s / warm.requests)

    def pilot_all(self, server):
        for name in list(self.samples):
            try:
                self.pilot(server, name)
            except measure.Failed as error:
                self.drop(name, error)

    def count_for(self, name, seconds):
        """How many requests make a long run of so many seconds; for wrk, how many seconds."""
        workload = self.workload
        if workload.kind == "memory":
            return workload.connections
        if self.is_slow(name):
            return self.warm_up(name) + workload.pilot // 4
        if workload.rate:
            return int(workload.rate * max(1, seconds))
        if self.contender(name).is_timed:
            return WRK_SHORT_S + max(1, round(seconds))
        return workload.warm_up() + max(workload.pilot // 2, int(seconds / self.per_request_s[name]))

    # ---- all of them ----

    def drop(self, name, error):
        """A contender that fails is out, and is shown as failed; the others go on."""
        self.failed[name] = str(error)
        self.samples.pop(name, None)
        self.requests.pop(name, None)
        say(f"  FAILED {name}: {error}")

    def run_round(self, server, number):
        names = [name for name in self.samples if number < self.rounds_of(name)]
        for name in names if number % 2 == 0 else reversed(names):
            try:
                if self.needs_short(name):
                    self.shorts[name].append(self.run_short(server, name))
                self.samples[name].append(self.run(server, name, self.requests[name]))
            except measure.Failed as error:
                self.drop(name, error)

    def run_all(self, server, seconds, deadline=None):
        """Runs of so many seconds, of those that pilot_all() has left; after `deadline` (time.monotonic) no round
        more than must be."""
        self.requests = {name: self.count_for(name, seconds) for name in self.samples}
        started_at = time.monotonic()
        for number in range(self.rounds()):
            if deadline and number >= min(self.rounds(), ROUNDS_MIN) and time.monotonic() > deadline:
                self.notes.append(f"{number} rounds only: there was no time for {self.rounds()}")
                break
            self.run_round(server, number)
            say(f"    round {number + 1} of {self.rounds()}, {budget.words(time.monotonic() - started_at)}")

    def fail(self, error):
        """Nothing could be measured."""
        for name in list(self.samples):
            if name == FLOOR_AGAIN:
                self.samples.pop(name)
            else:
                self.drop(name, error)

    def outcome(self):
        for name in [name for name, samples in self.samples.items() if not samples]:
            self.drop(name, "it was never run")
        few = {name: len(samples) for name, samples in self.samples.items() if self.rounds_of(name) < self.rounds()}
        self.notes += [f"{CONTENDERS[name].label}: {count} round{'' if count == 1 else 's'} only, for it takes half a minute to start"
                       for name, count in few.items() if name != FLOOR_AGAIN]
        return Outcome(self.workload.name, self.rows(), self.absent, self.failed, self.notes)

    # ---- what came of it ----

    def warm(self, name):
        """What the requests after the warm-up used, per round: as the program says, or long minus short.
        The short run is taken at its median over the rounds: it is brief, so one alone says little."""
        samples, shorts = self.samples[name], self.shorts[name]
        if not shorts:
            return [sample.window for sample in samples]
        requests, wall_s, user_s, system_s = (
            statistics.median([getattr(short, field) for short in shorts])
            for field in ("requests", "wall_s", "user_s", "system_s"))
        return [sample.minus(measure.Sample(requests, None, wall_s, user_s, system_s)) for sample in samples]

    def rows(self):
        rows = {}
        for name in self.samples:
            if self.workload.kind == "memory":
                rows[name] = self.memory_row(name)
            else:
                rows[name] = self.cpu_row(name)
        base = rows.get(self.workload.floor)
        for row in rows.values():
            key = "bytes_per_request" if self.workload.kind == "memory" else "cpu_us"
            if base and key in row:
                row["ratio"] = statistics.paired_ratios(row[key].values, base[key].values)
        return rows

    def cpu_row(self, name):
        warm = self.warm(name)
        row = {
            "cpu_us": statistics.Spread((w.user_s + w.system_s) / w.requests * 1e6 for w in warm),
            "user_share": self.user_share(name),
            "per_second": statistics.Spread(w.requests / w.wall_s for w in warm),
        }
        for percent in PERCENTILES if self.workload.rate else ():
            row[f"p{percent}_us"] = statistics.Spread(
                statistics.percentile_ns(sample.histogram, percent) / 1000 for sample in self.samples[name])
        return row

    def user_share(self, name):
        """The kernel knows a process's CPU time to the nanosecond, but splits it into user and system by
        where it was at the clock's ticks. So the split is taken over all rounds together."""
        parts = [sample.window or sample for sample in self.samples[name]]
        user_s = sum(part.user_s for part in parts)
        return user_s / (user_s + sum(part.system_s for part in parts))

    def memory_row(self, name):
        """Per request in flight, or connection: what the process grew by, from one to all of them."""
        more = self.workload.connections - 1
        field = "last_pss_bytes" if self.workload.linger_ms else "peak_pss_bytes"
        bases = [getattr(short, field) for short in self.shorts[name]]
        peaks = [getattr(sample, field) for sample in self.samples[name]]
        return {
            "bytes_per_request": statistics.Spread((peak - base) / more for peak, base in zip(peaks, bases)),
            "base_bytes": statistics.Spread(bases),
            "peak_bytes": statistics.Spread(peaks),
            "peak_rss_bytes": statistics.Spread(sample.peak_rss_bytes for sample in self.samples[name]),
            "cpu_us": statistics.Spread((s.user_s + s.system_s) / s.requests * 1e6 for s in self.samples[name]),
        }


class Settings:
    """How this run of the suite measures."""

    def __init__(self, build, rounds, seconds, is_quick):
        self.build = build
        self.rounds = rounds
        self.seconds = seconds
        self.is_quick = is_quick
        self.cores = machine.Cores()
        self.noise = machine.Noise()
