"""command.py: the doctor as a command: what it prints, its options, exit statuses, rights, and what it must
leave as it is."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from scene import (DOCTOR_TIMEOUT_S, READY_TIMEOUT_S, Scene, Skip, brief, lines_until, programs, start,
                   stop)


class Command:
    """Like a Scene for the runner, but it runs the doctor as a command and looks at what it prints."""

    def __init__(self, name, run):
        self.name = "command/" + name
        self.run = run


def run_doctor(arguments, as_user=None):
    prefix = ["setpriv", "--reuid", str(as_user), "--regid", str(as_user), "--clear-groups"] \
        if as_user is not None else []
    done = subprocess.run(prefix + [programs.doctor] + arguments, capture_output=True, text=True,
                          timeout=DOCTOR_TIMEOUT_S)
    return done.returncode, done.stdout, done.stderr


class Standing:
    """A scene that stands for the length of a with statement; gives its pid."""

    def __init__(self, case, prefix=()):
        self.command = list(prefix) + [programs.target, case]

    def __enter__(self):
        self.process, pid = start(Scene("", [], "healthy"), self.command)
        return pid

    def __exit__(self, *_):
        stop(self.process)


def wrong_usage():
    for arguments in ([], ["nonsense"], ["1", "2"], ["--no-such-option", "1"], ["--duration", "0", "1"],
                      ["--all", "1"], ["--json", "--dot", "1"], ["--rounds", "2", "1"],
                      ["--stacks", "--no-stacks", "1"]):
        status, out, errors = run_doctor(arguments)
        assert status == 2 and out == "" and errors.count("\n") == 1, (arguments, status, out, errors)
    status, out, errors = run_doctor(["--help"])
    assert status == 0 and "--watch" in out and errors == ""


def no_such_process():
    gone = subprocess.Popen(["true"])
    gone.wait()
    status, out, errors = run_doctor([str(gone.pid)])
    assert status == 3 and out == "" and "no process" in errors, (status, out, errors)


def another_users_process():
    if os.geteuid() != 0:
        raise Skip("only root can become another user")
    with Standing("parked-owner") as pid:
        status, _, errors = run_doctor([str(pid)], as_user=65534)
        assert status == 3 and "CAP_SYS_PTRACE" in errors, (status, errors)


def same_user_without_privileges():
    if os.geteuid() != 0:
        raise Skip("only root can become another user")
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    with Standing("parked-owner", user) as pid:
        status, out, errors = run_doctor(["--json", str(pid)], as_user=65534)
        assert status == 1, (status, errors)
        assert json.loads(out)["verdict"] == "parked-owner", out


YAMA_CASES = {  # what may still be concluded when only /proc may be read
    "parked-owner": ("parked-owner",), "parked-owner-ok": ("healthy",), "peer": ("peer",),
    "nobody-watches": ("nobody-watches", "parked-owner"), "nobody-watches-ok": ("healthy",),
    "busy-owner": ("parked-owner", "busy-owner"), "busy-owner-ok": ("healthy",),
    "closed-unnoticed-ok": ("healthy",), "healthy-busy": ("healthy",), "network-syn": ("network",),
    "lock-cycle": ("healthy",), "missed-wakeup-ok": ("healthy",), "stopped": ("workers-blocked",),
    "body-piped": ("back-pressure",), "body-piped-ok": ("healthy",),
}


def ptrace_refused():
    """As under kernel.yama.ptrace_scope=1, which a library plays that stands before the kernel."""
    library = os.path.join(os.path.dirname(programs.target), "libdoctor-yama.so")
    for case, verdicts in YAMA_CASES.items():
        with Standing(case) as pid:
            done = subprocess.run([programs.doctor, "--json", str(pid)], capture_output=True, text=True,
                                  timeout=DOCTOR_TIMEOUT_S, env=dict(os.environ, LD_PRELOAD=library))
            assert done.returncode in (0, 1), (case, done.returncode, done.stderr)
            report = json.loads(done.stdout)
            assert report["verdict"] in verdicts, (case, report["verdict"], brief(report))
            assert any("ptrace_scope is 1" in l and "CAP_SYS_PTRACE" in l
                       for l in report["limits"]), report["limits"]
            assert report["stopped_us"] == 0 and report["stacks"] == 0
            for finding in report["findings"]:
                assert finding["verdict"] in ("peer", "network", "closed-unnoticed", "back-pressure") or \
                    case == "stopped" or finding["confidence"] == "possible", (case, finding["confidence"])


def what_is_stopped_stays_stopped():
    with Standing("stopped") as pid:
        status, out, errors = run_doctor(["--stacks", str(pid)])
        assert status == 1 and "kill -CONT %d" % pid in out, (status, out, errors)
        with open("/proc/%d/stat" % pid) as file:
            assert file.read().rsplit(") ")[1][0] == "T"


def new_cgroup():
    for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        folder = os.path.join(mount, "doctor-test-%d" % os.getpid())
        try:
            os.mkdir(folder)
            if os.path.exists(os.path.join(folder, "cgroup.freeze")):
                return folder
            os.rmdir(folder)
        except OSError:
            pass
    raise Skip("no cgroup may be made here")


def write_to(*path, text):
    with open(os.path.join(*path), "w") as file:
        file.write(text)


def a_frozen_cgroup():
    """As `docker pause` does: threads that look asleep in epoll_wait do not run at all."""
    folder = new_cgroup()
    try:
        with Standing("stopped-ok") as pid:  # its loop does not mind EINTR, which thawing gives
            write_to(folder, "cgroup.procs", text=str(pid))
            write_to(folder, "cgroup.freeze", text="1")
            status, out, errors = run_doctor(["--json", "--duration", "3", str(pid)])
            write_to(folder, "cgroup.freeze", text="0")
            assert status == 1, (status, errors)
            finding = json.loads(out)["findings"][0]
            assert finding["verdict"] == "workers-blocked" and "cgroup" in finding["explanation"], finding
            assert run_doctor([str(pid)])[0] == 0, "it is not healthy although it goes on"
    finally:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:  # until the kernel has seen the processes off
            try:
                os.rmdir(folder)
                break
            except OSError:
                time.sleep(0.05)


def a_zombie():
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    status, out, errors = run_doctor([str(process.pid)])
    assert status == 3 and out == "" and "has ended" in errors and \
        "its parent %d" % os.getpid() in errors, (status, out, errors)
    process.wait()


PROGRAM_OF_32_BITS = """
static int call(int number) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number));
    return result;
}
void _start(void) {
    for (;;) {
        call(29); /* pause */
    }
}
"""


def a_program_of_32_bits():
    """Its system calls have other numbers: they must not be taken for those of this machine's own."""
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "pauses")
        built = subprocess.run(["cc", "-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-x", "c", "-",
                                "-o", program], input=PROGRAM_OF_32_BITS, text=True, capture_output=True)
        try:
            process = subprocess.Popen([program]) if built.returncode == 0 else None
        except OSError:
            process = None
        if process is None:
            raise Skip("no program of 32 bits can be built and run here")
        try:
            status, out, errors = run_doctor(["--json", str(process.pid)])
        finally:
            process.kill()
            process.wait()
        assert status == 0, (status, errors)
        assert any("32-bit" in limit for limit in json.loads(out)["limits"]), out


def a_stop_is_not_felt():
    """Threads that are stopped in the moment they enter epoll_wait must not see it end."""
    with Standing("naps") as pid:
        for _ in range(10):
            status, _, errors = run_doctor(["--stacks", "--json", "--duration", "0.1", str(pid)])
            assert status in (0, 1), (status, errors)


def wait_until_stopped(pid):
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        with open("/proc/%d/stat" % pid) as file:
            if file.read().rsplit(") ")[1][0] == "T":
                return
        time.sleep(0.01)
    raise AssertionError("process %d does not stop" % pid)


def a_second_look_says_the_same():
    """What a stop has interrupted goes on as another call: it must be taken for what it was."""
    for case in ("polled-by-poll", "busy-owner"):
        with Standing(case) as pid:
            said = []
            for _ in range(3):
                _, out, errors = run_doctor(["--stacks", "--json", "--duration", "1", str(pid)])
                report = json.loads(out)
                said.append((report["verdict"], [[(t["tid"], t["role"], t["waits"]) for t in f["threads"]]
                                                 for f in report["findings"]]))
                os.kill(pid, signal.SIGSTOP)
                wait_until_stopped(pid)
                os.kill(pid, signal.SIGCONT)
            assert said[0] == said[1] == said[2], (case, said)
            assert said[0][0] == ("healthy" if case == "polled-by-poll" else case), said


def text_report():
    with Standing("busy-owner") as pid:
        status, out, _ = run_doctor([str(pid)])
        assert status == 1 and out.startswith("busy-owner"), out
        for part in ("Who waits for whom", "Evidence", "Blocked where", "user_code_sleeps",
                     "What to do", "Looked "):
            assert part in out, "no %s in:\n%s" % (part, out)
        assert "\033" not in out, "colours although the output is no terminal"
        assert "token=hidden" not in out and "secret" not in out, out


def an_incomplete_look_says_so_first():
    with Standing("lock-cycle") as pid:
        status, out, _ = run_doctor(["--no-attach", str(pid)])
        assert status == 0 and out.startswith("nothing found, but system calls and readiness"), out
        assert "polled)" not in out and "Nothing stands still" not in out, out
        report = json.loads(run_doctor(["--no-attach", "--json", str(pid)])[1])
        assert report["verdict"] == "healthy" and report["complete"] is False, report
        report = json.loads(run_doctor(["--json", str(pid)])[1])
        assert report["verdict"] == "lock-cycle" and report["complete"] is True, report


def graph():
    with Standing("parked-owner") as pid:
        status, out, _ = run_doctor(["--dot", str(pid)])
        assert status == 1 and out.startswith("digraph") and out.count("{") == out.count("}"), out
        path = "/tmp/doctor-graph-%d.svg" % os.getpid()
        status, _, errors = run_doctor(["--dot=" + path, str(pid)])
        drawn = path if shutil.which("dot") else path + ".dot"
        try:
            assert status == 1 and os.path.getsize(drawn) > 0, errors
        finally:
            os.unlink(drawn)
        assert drawn in errors and errors.count("\n") == 1, errors
        status, _, errors = run_doctor(["--dot=%s.gv" % path, str(pid)])
        with open(path + ".gv") as file:
            assert file.read().startswith("digraph")
        os.unlink(path + ".gv")
        assert path + ".gv" in errors and errors.count("\n") == 1, errors


def watch_reports_once():
    with Standing("parked-owner") as pid:
        status, out, _ = run_doctor(["--watch", "--rounds", "2", "--duration", "1", str(pid)])
        assert status == 1 and out.count("\n") == 1 and "parked-owner" in out, out


def watch_tells_when_it_moves_again():
    with Standing("stopped") as pid:
        watch = subprocess.Popen([programs.doctor, "--watch", "--duration", "1", str(pid)], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 start_new_session=True)
        try:
            lines = lines_until(watch, time.monotonic() + DOCTOR_TIMEOUT_S)
            first = next(lines)
            assert "workers-blocked" in first and str(pid) in first, first
            os.kill(pid, signal.SIGCONT)
            second = next(lines)
            assert "no longer workers-blocked" in second, second
        finally:
            stop(watch)


def all_processes():
    with Standing("parked-owner") as pid:
        status, out, errors = run_doctor(["--all", "--json", "--duration", "1"])
        assert status == 1, (status, errors)
        found = {p["pid"]: p["verdict"] for p in json.loads(out)["processes"]}
        assert found.get(pid) == "parked-owner", found


def command_scenes():
    return [Command(f.__name__.replace("_", "-"), f) for f in (
        wrong_usage, no_such_process, another_users_process, same_user_without_privileges,
        ptrace_refused, a_stop_is_not_felt, a_second_look_says_the_same, what_is_stopped_stays_stopped, a_frozen_cgroup,
        a_zombie,
        a_program_of_32_bits,
        text_report, an_incomplete_look_says_so_first, graph, watch_reports_once, watch_tells_when_it_moves_again, all_processes)]
