"""scene.py: a program that stands in a state, and what the doctor says of it.

A scene starts a program, waits until it says "ready PID", lets the doctor look at it, and wants the
verdict. Used by run and command.py.
"""
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

READY_TIMEOUT_S = 60
DOCTOR_TIMEOUT_S = 120 # of a machine with nothing else to do it takes 3
FINDING_FIELDS = {"verdict", "confidence", "since_ms", "sockets", "epoll", "threads", "evidence",
                  "explanation", "advice"}
VERDICTS = {"parked-owner", "busy-owner", "nobody-watches", "missed-wakeup", "self-wait",
            "closed-unnoticed", "peer", "network", "back-pressure", "lock-cycle", "workers-blocked",
            "resolver", "healthy"}


CROWD_PAIRS = 300 # so many make the namespace one of which the doctor does not dump the sockets twice


class Skip(Exception):
    pass


class Programs:
    """What is tried, and what stands in the scenes that are our own; set once, by run."""

    doctor, target = None, None

    def set(self, build):
        self.doctor = os.path.join(build, "doctor", "doctor")
        self.target = os.path.join(build, "tests", "doctor", "doctor-target")


programs = Programs()


class Crowd:
    """Idle connections of no concern in the network namespace, while any scene wants them."""

    lock, users, ends = threading.Lock(), 0, []

    def __enter__(self):
        with Crowd.lock:
            Crowd.users += 1
            if Crowd.users > 1:
                return
            with socket.create_server(("127.0.0.1", 0), backlog=CROWD_PAIRS) as listener:
                for _ in range(CROWD_PAIRS):
                    Crowd.ends += [socket.create_connection(listener.getsockname()),
                                   listener.accept()[0]]

    def __exit__(self, *_):
        with Crowd.lock:
            Crowd.users -= 1
            while Crowd.users == 0 and Crowd.ends:
                Crowd.ends.pop().close()


class Scene:
    """name, the program, the verdict that must come out (or several that may), doctor options."""

    def __init__(self, name, command, verdict, options=(), check=None, needs=None, env=None,
                 server=None):
        self.name = name
        self.command = command
        self.server = server
        self.verdicts = {verdict} if isinstance(verdict, str) else set(verdict)
        self.options = list(options)
        self.check = check
        self.needs = needs
        self.env = env

    def run(self):
        if self.name.endswith(":crowded"):
            with Crowd():
                play(self)
        else:
            play(self)


def start(scene, command):
    """Start a program and wait until it says "ready PID" or "port NUMBER"; returns that number too."""
    env = dict(os.environ, **(scene.env or {}))
    if shutil.which("setpriv"):  # a scene must not outlive a runner that was killed
        command = ["setpriv", "--pdeathsig", "KILL"] + command
    target = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                              env=env, start_new_session=True, text=True)
    for line in lines_until(target, time.monotonic() + READY_TIMEOUT_S):
        if line.startswith(("ready ", "port ")):
            return target, int(line.split()[1])
        if line.strip().startswith("interloop doctor "):  # a cell that `reproduce --hold` holds
            return target, int(line.split()[2])
        if line.startswith("skip: "):
            stop(target)
            raise Skip(line[6:].strip())
    raise AssertionError("the scene ended with status %s" % target.wait())


def await_line(target, wanted):
    for line in lines_until(target, time.monotonic() + READY_TIMEOUT_S):
        if line == wanted:
            return
    raise AssertionError("the server ended with status %s" % target.wait())


def lines_until(target, deadline):
    """The lines that a program prints; it must go on before the deadline."""
    text, poll = "", select.poll()
    poll.register(target.stdout, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(1000 * left):
            stop(target)
            raise AssertionError("the scene was not ready in time")
        piece = os.read(target.stdout.fileno(), 4096).decode()
        if piece == "":
            return
        text += piece
        while "\n" in text:
            line, text = text.split("\n", 1)
            yield line


def stop(target):
    try:
        os.killpg(target.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    target.wait()
    target.stdout.close()


def diagnose(pid, options):
    process = subprocess.Popen([programs.doctor, "--json"] + options + [str(pid)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=DOCTOR_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        where = stacks_of(process.pid)
        process.kill()
        process.communicate()
        raise AssertionError("the doctor did not come back in %d s:\n%s" % (DOCTOR_TIMEOUT_S, where))
    if process.returncode not in (0, 1):
        raise AssertionError("doctor ended with %d: %s" % (process.returncode, errors.strip()))
    report = json.loads(out)
    check_shape(report, pid, process.returncode)
    if "token=hidden" in out or "secret" in out:
        raise AssertionError("the report shows a part of the request")
    return report


def stacks_of(pid):
    """Where a stuck doctor and its children stand, as far as gdb is there to tell."""
    pids = [pid] + [int(p) for p in subprocess.run(
        ["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]
    text = ""
    for each in pids:
        done = subprocess.run(["gdb", "-p", str(each), "-batch", "-ex", "bt"], capture_output=True,
                              text=True) if shutil.which("gdb") else None
        for name in ("status", "syscall", "stack"):
            try:
                with open("/proc/%d/%s" % (each, name)) as file:
                    text += "".join(l for l in file if name != "status" or l.startswith("State"))
            except OSError:
                pass
        frames = [l for l in done.stdout.splitlines() if l.startswith("#")] if done else []
        text += "process %d\n  %s\n" % (each, "\n  ".join(frames))
    return text


def documented_fields():
    """The names in docs/doctor.md, section JSON."""
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "doctor.md")
    with open(page) as file:
        section = file.read().split("\n## JSON\n")[1].split("\n## ")[0]
    return set(re.findall(r"`([a-z_]+)`", section))


def fields_of(value):
    """Of a report and all that is in it."""
    if isinstance(value, dict):
        return set(value).union(*map(fields_of, value.values()))
    return set().union(*map(fields_of, value)) if isinstance(value, list) else set()


def check_shape(report, pid, status):
    undocumented = fields_of(report) - documented_fields()
    assert not undocumented, "docs/doctor.md does not name %s" % undocumented
    assert report["pid"] == pid, "pid is %s" % report["pid"]
    assert report["verdict"] in VERDICTS, "unknown verdict %s" % report["verdict"]
    assert (status == 0) == (report["verdict"] == "healthy"), "status %d for %s" % (
        status, report["verdict"])
    assert (report["verdict"] == "healthy") == (report["findings"] == [])
    for finding in report["findings"]:
        missing = FINDING_FIELDS - set(finding)
        assert not missing, "a finding lacks %s" % missing
        assert finding["verdict"] in VERDICTS
        assert finding["explanation"] and finding["advice"] and finding["evidence"]


def brief(report):
    return "; ".join("%s (%s) %s" % (f["verdict"], f["confidence"], " | ".join(f["evidence"]))
                     for f in report["findings"]) or "healthy; notes: %s, limits: %s, %s stacks" % (
                         report["notes"], report["limits"], report["stacks"])


def play(scene):
    if scene.needs is not None:
        missing = scene.needs()
        if missing:
            raise Skip(missing)
    running = []
    try:
        command = scene.command
        if scene.server is not None:
            server, port = start(scene, [programs.target, "serve", scene.server])
            running.append(server)
            command = command + [str(port)]
        target, pid = start(scene, command)
        running.append(target)
        if scene.server == "silent": # then a program is ready when its request has arrived there
            await_line(server, "asked")
        report = diagnose(pid, scene.options)
        if report["verdict"] not in scene.verdicts:
            raise AssertionError("verdict %s, want %s: %s" % (
                report["verdict"], " or ".join(sorted(scene.verdicts)), brief(report)))
        if scene.check is not None:
            scene.check(report)
        if target.poll() is not None:
            raise AssertionError("the program did not survive being looked at")
    finally:
        for process in reversed(running):  # the server last
            stop(process)
