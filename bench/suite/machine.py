"""machine: what the runs ran on, who else used it meanwhile, and which core is whose."""
import os
import platform
import subprocess
import threading
import time

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAUSE_WATCH_INTERVAL_S = 0.1


class Cores:
    """The server has a core to itself; the client another. With one core they share it, which is said
    in the results."""

    def __init__(self):
        allowed = sorted(os.sched_getaffinity(0))
        self.client = allowed[0]
        self.server = allowed[1] if len(allowed) > 1 else allowed[0]
        self.are_shared = len(allowed) == 1


def _first_match(path, key):
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith(key):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown"


def _first_line(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.stdout.splitlines()[0].strip() if done.stdout else "unknown"
    except OSError:
        return "absent"


def describe():
    """What a reader needs to know to compare with a machine of their own."""
    return {
        "cpu": _first_match("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "compiler": _first_line("cc", "--version"),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_ticks():
    """(busy, stolen) of all cores since boot, in clock ticks."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return user + nice + system + irq + softirq, steal


def process_cpu_s(pid):
    """CPU seconds of a living process, all threads."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_S


class PauseWatch(threading.Thread):
    """Notices when nothing on the machine ran for a while, as when a virtual machine is stopped and goes
    on later: the clock has jumped then, and whatever was measured meanwhile is worth nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest_s = 0.0

    def run(self):
        before = time.monotonic()
        while True:
            time.sleep(PAUSE_WATCH_INTERVAL_S)
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - before - PAUSE_WATCH_INTERVAL_S)
            before = now


class Noise:
    """Who used the machine besides the benchmark, from the start to shares(). The benchmark reports its own
    use by add()."""

    def __init__(self):
        self.own_s = 0.0
        self.started_at = time.monotonic()
        self.busy_ticks, self.stolen_ticks = _cpu_ticks()
        self.pauses = PauseWatch()
        self.pauses.start()

    def add(self, cpu_s):
        self.own_s += cpu_s

    def shares(self):
        """Shares of the whole machine's time taken by other processes, and by other machines on the
        same hardware; and the longest time for which nothing ran."""
        busy, stolen = _cpu_ticks()
        mine = os.times()
        total_s = (time.monotonic() - self.started_at) * os.cpu_count()
        others_s = (busy - self.busy_ticks) / CLOCK_TICKS_PER_S - self.own_s - mine.user - mine.system
        return {"others": max(0.0, others_s / total_s),
                "stolen": (stolen - self.stolen_ticks) / CLOCK_TICKS_PER_S / total_s,
                "longest_pause_s": self.pauses.longest_s}
