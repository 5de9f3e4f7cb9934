"""measure: run one program once, from outside, and say what it used.

CPU is what the kernel charged to the client's process, all threads. Starting, connecting, the first
requests and tearing down are not what is asked for. Our programs say what they had been charged when
warm and when done (`window`, see programs/common.h), which is held against what the kernel tells us
(wait4): it cannot be more. Programs that are not ours run twice, short and long, and the difference is
taken.
"""
import json
import os
import re
import signal
import subprocess
import threading
import time

from suite import machine

MEMORY_SAMPLE_INTERVAL_S = 0.02


class Failed(Exception):
    """A program did not do what it was asked to; the text is for people."""


class Server:
    """The bench server, on its own core, for as long as the `with` lasts."""

    def __init__(self, program, cores, words=()):
        self.command = ["taskset", "-c", str(cores.server), program, *words]
        self.process = None
        self.port = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            raise Failed(f"the bench server did not start: {line!r}")
        self.port = int(line.split()[1])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def cpu_s(self):
        return machine.process_cpu_s(self.process.pid)


class Sample:
    """One run of one program."""

    def __init__(self, requests, body_bytes, wall_s, user_s, system_s):
        self.requests = requests
        self.body_bytes = body_bytes  # None: the program does not say
        self.wall_s = wall_s
        self.user_s = user_s
        self.system_s = system_s
        self.window = None         # a Sample of the requests after the warm-up
        self.histogram = None      # with a rate: {bucket: count}
        self.extra = {}            # whatever else the program's result line says
        self.peak_pss_bytes = None  # when memory was watched
        self.peak_rss_bytes = None
        self.last_pss_bytes = None

    def minus(self, other):
        return Sample(self.requests - other.requests, None, self.wall_s - other.wall_s,
                      self.user_s - other.user_s, self.system_s - other.system_s)


class MemoryWatch(threading.Thread):
    """Reads a process's memory again and again; keeps the peaks, and what it was shortly before the end."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path = f"/proc/{pid}/smaps_rollup"
        self.pss_kib = self.rss_kib = self.last_pss_kib = 0
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.wait(MEMORY_SAMPLE_INTERVAL_S):
            try:
                with open(self.path, encoding="ascii") as file:
                    text = file.read()
            except OSError:
                return  # the process has ended
            for name, kib in re.findall(r"^(Pss|Rss): +(\d+) kB", text, re.MULTILINE):
                if int(kib) == 0:
                    return  # it is ending: its memory has gone
                if name == "Pss":
                    self.pss_kib = max(self.pss_kib, int(kib))
                    self.last_pss_kib = int(kib)
                else:
                    self.rss_kib = max(self.rss_kib, int(kib))


def shown(command):
    """For people, and for documents: without the folder it was built in."""
    return " ".join([os.path.basename(command[0])] + command[1:])


def run(command, cpus, parse, timeout_s, watch_memory=False):
    """Run `command` on the cores `cpus`; `parse` turns what it printed into (requests, bytes, extra)."""
    started_at = time.monotonic()
    process = subprocess.Popen(["taskset", "-c", ",".join(map(str, cpus))] + command, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    was_killed = threading.Event()

    def kill():
        was_killed.set()
        os.kill(process.pid, signal.SIGKILL)  # not process.kill(): it may collect the status, and the usage with it

    timer = threading.Timer(timeout_s, kill)
    timer.start()
    watch = MemoryWatch(process.pid) if watch_memory else None
    if watch:
        watch.start()
    try:
        output = process.stdout.read()
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started_at
    except BaseException:  # we are being ended: leave nothing behind
        process.kill()
        process.wait()
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
    process.stdout.close()
    process.stderr.close()
    if watch:
        watch.is_over.set()
        watch.join()
    if was_killed.is_set():
        raise Failed(f"{shown(command)}: did not end within {timeout_s:.0f} s")
    if process.returncode != 0:
        raise Failed(f"{shown(command)}: exit status {process.returncode}: {errors.strip()[-400:]}")
    requests, body_bytes, extra = parse(output)
    sample = Sample(requests, body_bytes, wall_s, usage.ru_utime, usage.ru_stime)
    sample.extra = extra
    if "window" in extra:
        sample.window = parse_window(extra.pop("window"), sample)
    if "histogram" in extra:
        sample.histogram = {int(index): count for index, count in extra.pop("histogram").items()}
    if watch:
        sample.peak_pss_bytes = watch.pss_kib * 1024
        sample.peak_rss_bytes = watch.rss_kib * 1024
        sample.last_pss_bytes = watch.last_pss_kib * 1024
    return sample


# ---- what programs print ----


def parse_window(window, whole):
    part = Sample(window["requests"], None, window["wall_ns"] / 1e9, window["user_us"] / 1e6,
                  window["system_us"] / 1e6)
    if part.user_s + part.system_s > whole.user_s + whole.system_s + 1e-3 or part.wall_s > whole.wall_s:
        raise Failed(f"a program claims more than the kernel charged it with: {window}")
    return part


def parse_result_line(output):
    """Our own programs: one line of JSON."""
    try:
        result = json.loads(output.strip().splitlines()[-1])
        return result.pop("requests"), result.pop("bytes"), result
    except (IndexError, KeyError, ValueError):
        raise Failed(f"no result line in {output[-200:]!r}") from None


def parse_wrk(output):
    match = re.search(r"^ *(\d+) requests in ", output, re.MULTILINE)
    if not match or re.search(r"Non-2xx|Socket errors", output):
        raise Failed(f"wrk: {output[-400:]}")
    return int(match[1]), None, {}


def parse_s_time(output):
    match = re.search(r"^(\d+) connections in \d+ real seconds", output, re.MULTILINE)
    if not match or match[1] == "0":
        raise Failed(f"openssl s_time: {output[-400:]}")
    return int(match[1]), None, {}


def parse_interloop_bench(output):
    try:
        result = json.loads(output)
        if not result["good"]:
            raise Failed(f"interloop bench: {output[-400:]}")
        return result["answered"], result["body_bytes"], {}
    except (KeyError, ValueError):
        raise Failed(f"interloop bench: {output[-400:]}") from None


def parse_h2load(output):
    match = re.search(r"^requests: (\d+) total, .* (\d+) succeeded, ", output, re.MULTILINE)
    if not match or match[1] != match[2]:
        raise Failed(f"h2load: {output[-400:]}")
    return int(match[2]), None, {}
