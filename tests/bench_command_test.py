#!/usr/bin/python3
"""`interloop bench` as a user or a script meets it: what it sends, what it counts, what it says and how it ends.
How exact its percentiles are is load/histogram_test.c's business."""
import contextlib
import http.server
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "bench")]
import harness  # noqa: E402
from suite import machine, servers, workloads  # noqa: E402

EXE = os.path.join(os.environ.get("IL_BUILD", "build"), "interloop")
PATIENCE_S = 60  # for what must come
MS = 1_000_000
CHECKS = []


def check(function):
    CHECKS.append((function.__name__, function))
    return function


def want(what, actual, wanted):
    if actual != wanted:
        yield f"{what} is {actual!r}, want {wanted!r}"


def want_in(what, actual, low, high):
    if not low <= actual <= high:
        yield f"{what} is {actual!r}, want {low!r} to {high!r}"


class Server:
    """`interloop serve`, for as long as the `with` lasts."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([EXE, "serve", "--json", *arguments], stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"].rstrip("/")
        self.asked_count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def request_count(self):
        """Without those that ask for it."""
        self.asked_count += 1
        with urllib.request.urlopen(self.url + "/counters", timeout=PATIENCE_S) as answer:
            return json.load(answer)["requests"] - self.asked_count

    def wait_for_requests(self, count):
        deadline = time.monotonic() + PATIENCE_S
        while self.request_count() < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server has not got {count} requests")
            time.sleep(0.01)

    def stall(self, seconds):
        """Not a sign of life for so long."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)


def run(*arguments):
    return subprocess.run([EXE, "bench", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL, timeout=120)


def measure(*arguments):
    """(exit status, the report)"""
    out = run("--json", *arguments)
    return out.returncode, json.loads(out.stdout) if out.stdout else {"stderr": out.stderr}


@contextlib.contextmanager
def going_on(*arguments):
    """A run with --json, to be ended by finish()."""
    process = subprocess.Popen([EXE, "bench", "--json", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(process):
    return json.loads(process.communicate(timeout=120)[0])


# ---- how many ----


@check
def as_many_requests_are_made_as_were_asked_for():
    for arguments in (["-c", "7", "-r", "3"], ["-c", "7", "-r", "3", "-q", "5k"], ["-c", "1"], ["-c", "400", "-r", "1"]):
        with Server() as server:
            status, report = measure("-n", "1000", *arguments, server.url)
            yield from want(f"exit status with {arguments}", status, 0)
            yield from want(f"answered with {arguments}", report["answered"], 1000)
            yield from want(f"statuses with {arguments}", report["statuses"], {"200": 1000})
            yield from want(f"bodies with {arguments}", report["body_bytes"], 1000 * len("hello\n"))
            yield from want(f"the server's count with {arguments}", server.request_count(), 1000)


@check
def rate_is_held():
    with Server() as server:
        status, report = measure("-q", "400", "-z", "2", "-c", "20", "-r", "2", server.url)
    yield from want("exit status", status, 0)
    yield from want("answered", report["answered"], 800)
    yield from want("elapsed", report["elapsed_ns"], 2000 * MS)
    yield from want_in("rate", report["answers_per_second"], 300, 400)


@check
def warm_up_is_not_counted():
    with Server() as server:
        for rate in ([], ["-q", "1k"]):
            before = server.request_count()
            status, report = measure("-w", "300ms", "-n", "50", "-c", "3", *rate, server.url)
            made = server.request_count() - before
            yield from want("exit status", status, 0)
            yield from want("answered", report["answered"], 50)
            yield from want("latencies", report["latency_ns"]["count"], 50)
            if made <= 50:
                yield f"the server got {made} requests, want more than the 50 that count"
            if rate:
                yield from want("requests with a rate", made, 350)


@check
def duration_is_kept():
    with Server() as server:
        status, report = measure("-z", "700ms", "-c", "5", server.url)
    yield from want("exit status", status, 0)
    yield from want("elapsed", report["elapsed_ns"], 700 * MS)
    yield from want("unfinished", report["unfinished"], 0)


# ---- latency ----


@check
def latency_at_a_rate_counts_from_when_a_request_was_due():
    """A stall of 0.8 s in 3 s delays a quarter of what is due, so p90 shows it; in a closed loop it meets only the
    few that are under way, and p99 does not."""
    with Server() as server:
        with going_on("-q", "200", "-n", "600", "-c", "8", server.url + "/hello") as process:
            server.wait_for_requests(100)
            server.stall(0.8)
            paced = finish(process)
    with Server() as server:
        with going_on("-n", "3000", "-c", "8", server.url + "/delay/2") as process:
            server.wait_for_requests(500)
            server.stall(0.8)
            closed = finish(process)
    yield from want("answered", (paced["answered"], closed["answered"]), (600, 3000))
    for report in (paced, closed):
        yield from want_in("the slowest", report["latency_ns"]["max"], 700 * MS, PATIENCE_S * 1000 * MS)
    yield from want_in("p90 at a rate", paced["latency_ns"]["p90"], 200 * MS, PATIENCE_S * 1000 * MS)
    yield from want_in("p99 in a closed loop", closed["latency_ns"]["p99"], 0, 200 * MS)


@check
def rate_that_is_not_held_is_a_finding_and_what_was_not_sent_counts():
    with Server() as server:
        status, report = measure("-q", "1000", "-z", "1", "-c", "2", server.url + "/delay/100")
    yield from want("exit status", status, 1)
    yield from want_in("answered", report["answered"], 2, 50)
    yield from want("due", report["answered"] + report["unfinished"] + report["unsent"], 1000)
    yield from want("latencies", report["latency_ns"]["count"], 1000)
    yield from want_in("p50", report["latency_ns"]["p50"], 1000 * MS, PATIENCE_S * 1000 * MS)


@check
def request_that_is_never_answered_counts_with_the_time_it_has_waited():
    with Server() as server:
        status, report = measure("-z", "200ms", "-c", "3", server.url + "/never")
    yield from want("exit status", status, 1)
    yield from want("unfinished", (report["answered"], report["unfinished"]), (0, 3))
    yield from want_in("the fastest", report["latency_ns"]["min"], 1000 * MS, PATIENCE_S * 1000 * MS)


@check
def histogram_adds_up_and_the_parts_of_a_request_make_the_whole():
    with Server() as server:
        _, report = measure("-n", "500", "-c", "5", "-r", "1", server.url + "/delay/5")
    latency = report["latency_ns"]
    yield from want("the bars", sum(bar["count"] for bar in report["histogram"]), 500)
    for one, other in zip(report["histogram"], report["histogram"][1:]):
        yield from want("where a bar begins", other["from_ns"], one["to_ns"])
    order = [latency[name] for name in ("min", "p50", "p75", "p90", "p99", "p99.9", "p99.99", "max")]
    yield from want("order", order, sorted(order))
    yield from want_in("the fastest", latency["min"], 5 * MS, PATIENCE_S * 1000 * MS)
    total = sum(part["mean"] * part["count"] for part in report["parts_ns"].values())
    yield from want_in("the parts, together", total / (latency["mean"] * latency["count"]), 0.999, 1.001)
    yield from want_in("the wait for the first byte", report["parts_ns"]["waiting"]["mean"], 3 * MS, latency["mean"])


# ---- what goes wrong ----


@check
def errors_are_counted_by_kind():
    with Server() as server:
        status, report = measure("-n", "40", "-c", "4", server.url + "/reset")
        yield from want("exit status", status, 1)
        yield from want("failed", (report["answered"], report["failed"]), (0, 40))
        yield from want("counts", sum(error["count"] for error in report["errors"]), 40)
        yield from want("codes", {error["code"] for error in report["errors"]}, {"IL_EPEERCLOSED"})
        status, report = measure("-n", "6", "-c", "3", "-t", "200ms", server.url + "/never")
        yield from want("exit status", status, 1)
        yield from want("timed out", [(error["code"], error["count"]) for error in report["errors"]],
                        [("IL_ETIMEDOUT", 6)])
        yield from want("latencies", report["latency_ns"]["count"], 6)
        yield from want_in("the fastest", report["latency_ns"]["min"], 200 * MS, PATIENCE_S * 1000 * MS)


@check
def status_of_400_or_more_is_a_finding_and_one_below_is_not():
    with Server() as server:
        for code, wanted in ((204, 0), (302, 0), (404, 1), (503, 1)):
            status, report = measure("-n", "20", "-c", "2", f"{server.url}/status/{code}")
            yield from want(f"exit status with {code}", status, wanted)
            yield from want("good", report["good"], wanted == 0)
            yield from want("statuses", report["statuses"], {str(code): 20})
            yield from want("failed", report["failed"], 0)


@check
def server_that_is_not_there_ends_the_run_at_once():
    with Server() as server:
        gone = server.url
    for arguments in (["-z", "1h"], ["-n", "3"], ["-q", "100", "-w", "1h"]):
        out = run(*arguments, gone)
        yield from want(f"exit status with {arguments}", out.returncode, 3)
        yield from want("stdout", out.stdout, "")
        if "cannot connect to" not in out.stderr or "is the server running?" not in out.stderr:
            yield f"stderr is {out.stderr!r}"


@check
def connection_that_the_server_closes_is_replaced():
    with Server() as server:
        status, report = measure("-n", "300", "-c", "4", server.url + "/close-after")
    yield from want("exit status", status, 0)
    yield from want("answered", report["answered"], 300)
    yield from want_in("connections", report["connections"]["opened"], 100, 1000)


# ---- what is sent ----


class Listener(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    heard = []

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Listener.heard.append((self.command, self.headers, body))
        self.send_response(204)
        self.end_headers()

    do_GET = do_POST = do_PATCH = answer

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def listener():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Listener.heard.clear()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@check
def method_headers_and_body_are_sent_as_told():
    with listener() as url, tempfile.NamedTemporaryFile() as file:
        file.write(bytes(range(256)) * 1000)
        file.flush()
        for arguments, method, body in (
                ([], "GET", b""),
                (["-d", "a=b"], "POST", b"a=b"),
                (["-X", "PATCH", "-d", "@" + file.name], "PATCH", bytes(range(256)) * 1000),
                (["-d", ""], "POST", b"")):
            Listener.heard.clear()
            status, _ = measure("-n", "4", "-c", "2", "-H", "X-One: 1", "-H", "X-Two:zwei", *arguments, url)
            yield from want(f"exit status with {arguments}", status, 0)
            yield from want("requests", len(Listener.heard), 4)
            for heard_method, headers, heard_body in Listener.heard:
                yield from want("method", heard_method, method)
                yield from want("headers", (headers["X-One"], headers["X-Two"]), ("1", "zwei"))
                yield from want("body", heard_body == body, True)


@check
def body_may_come_on_stdin():
    with listener() as url:
        out = subprocess.run([EXE, "bench", "-n", "1", "-c", "1", "-d", "@-", url], input=b"from stdin",
                             stdout=subprocess.PIPE, timeout=60)
        yield from want("exit status", out.returncode, 0)
        yield from want("body", Listener.heard[0][2], b"from stdin")


@check
def https_is_spoken_with_whom_is_trusted_and_with_nobody_else():
    with tempfile.TemporaryDirectory() as folder:
        ca = os.path.join(folder, "ca.pem")
        with Server("--tls", "--ca-file", ca) as server:
            for arguments in (["--cacert", ca], ["-k"]):
                status, report = measure("-n", "60", "-c", "6", "-r", "2", *arguments, server.url)
                yield from want(f"exit status with {arguments}", status, 0)
                yield from want("answered", report["answered"], 60)
                yield from want_in("opened", report["connections"]["opened"], 1, 6)
            out = run("-z", "1h", server.url)
            yield from want("exit status without a CA", out.returncode, 3)
            yield from want("stdout", out.stdout, "")
            if "certificate" not in out.stderr or "--cacert" not in out.stderr:
                yield f"stderr is {out.stderr!r}"
    out = run("--cacert", "/nonexistent/ca", "https://127.0.0.1:1/")
    yield from want("exit status without the file", out.returncode, 3)
    if "/nonexistent/ca" not in out.stderr:
        yield f"stderr is {out.stderr!r}"


@contextlib.contextmanager
def secure_server():
    """The benchmarks' server, which speaks TLS and HTTP/2: its port, and whom to trust."""
    build = os.environ.get("IL_BUILD", "build")
    with servers.for_workload(build, machine.Cores(), workloads.BY_NAME["h2s-64"]) as server:
        yield server.port, servers.ca_file(build)


@check
def protocol_is_the_one_asked_for():
    for arguments, protocol in (([], "HTTP/2"), (["--http2"], "HTTP/2"), (["--http2-prior-knowledge"], "HTTP/2"),
                                (["--http1.1"], "HTTP/1.1")):
        with secure_server() as (port, ca):
            status, report = measure("-n", "90", "-c", "6", "-r", "2", "--cacert", ca, *arguments,
                                     f"https://127.0.0.1:{port}/small")
            yield from want(f"exit status with {arguments}", status, 0)
            yield from want(f"protocols with {arguments}", report["protocols"], {protocol: 90})
    with secure_server() as (port, _):
        out = run("-n", "90", "-c", "6", "-r", "2", "--http2-prior-knowledge", f"http://127.0.0.1:{port}/small")
        if not re.search(r"^  protocol +HTTP/2: 90$", out.stdout, re.MULTILINE):
            yield f"no protocol in:\n{out.stdout}"


@check
def connections_are_kept_and_shared_unless_told_otherwise():
    with Server() as server:
        _, kept = measure("-n", "600", "-c", "6", "-r", "2", server.url)
        _, closed = measure("-n", "600", "-c", "6", "-r", "2", "--no-keep-alive", server.url)
        _, own = measure("-n", "600", "-c", "6", "-r", "2", "--clients", "each", server.url)
    yield from want_in("opened", kept["connections"]["opened"], 1, 6)
    yield from want("reused", kept["connections"]["reused"], 600 - kept["parts_ns"]["connecting"]["count"])
    yield from want("opened without keep-alive", closed["connections"]["opened"], 600)
    yield from want("moved between clients", own["connections"]["moved"], 0)
    yield from want_in("opened by two clients", own["connections"]["opened"], 2, 6)


# ---- how it ends, and what it says ----


@check
def signal_ends_the_run_early_with_the_report():
    for number in (signal.SIGINT, signal.SIGTERM):
        for rate in ([], ["-q", "300"]):
            with Server() as server, going_on("-z", "1h", "-c", "3", *rate, server.url) as process:
                server.wait_for_requests(50)
                process.send_signal(number)
                report = finish(process)
                yield from want("exit status", process.returncode, 0)
                yield from want("interrupted", report["interrupted"], True)
                yield from want_in("answered", report["answered"], 40, 10**9)
                yield from want_in("elapsed", report["elapsed_ns"], 1, PATIENCE_S * 1000 * MS)


@check
def report_says_all_that_matters():
    with Server() as server:
        out = run("-n", "200", "-c", "4", "-r", "2", server.url)
    yield from want("exit status", out.returncode, 0)
    yield from want("stderr", out.stderr, "")
    for pattern in (r"^GET http://127\.0\.0\.1:\d+$", r"2 runtimes with one client for all, at most 4 requests",
                    r"^  answered +200, [\d,.]+ a second$", r"^  status +200: 200$", r"^  bodies +1\.20 kB received",
                    r"^  connections +\d opened; \d+ requests on one", r"^  CPU, here +[\d.]+ us a request",
                    r"^  latency +min +mean +p50 +p75 +p90 +p99 +p99\.9 +p99\.99 +max$", r"^  waiting +[\d.]+ .s",
                    r"^ +[\d.]+ [um]?s to +[\d.]+ [um]?s +\d+ +[\d.]+ %  #+$"):
        if not re.search(pattern, out.stdout, re.MULTILINE):
            yield f"no line like {pattern} in:\n{out.stdout}"
    if "failed" in out.stdout or "unsent" in out.stdout or "\033" in out.stdout:
        yield f"more than there is to say:\n{out.stdout}"


@check
def terminal_sees_the_progress():
    try:
        pid, fd = pty.fork()
    except OSError as error:  # a root without /dev/pts
        raise harness.Skip(f"no terminal to be had here: {error}") from error
    if pid == 0:
        with Server() as server:
            code = subprocess.call([EXE, "bench", "-z", "1500ms", "-c", "2", server.url],
                                   env={**os.environ, "TERM": "xterm"})
        os._exit(code)
    text = b""
    with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
        while part := os.read(fd, 65536):
            text += part
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    yield from want("exit status", os.waitstatus_to_exitcode(status), 0)
    text = text.decode()
    if not re.search(r"\r[\d.]+ s of 1\.50 s: [\d,.]+ a second, \d+ in flight, p50 [^\r]*0 failed\033\[K", text):
        yield f"no progress in {text!r}"
    if "\033[1mlatency\033[0m" not in text:
        yield f"no colour in {text!r}"


@check
def wrong_usage_ends_with_2_and_names_what_is_wrong():
    url = "http://127.0.0.1:1/"
    for arguments, words in (
            ([], "which URL?"),
            ([url, "more"], "'more' is one word too many"),
            (["-c", "0", url], "--connections is a number from 1 to 100000, not '0'"),
            (["-c", "1.5", url], "not '1.5'"),
            (["-c", "200k", url], "not '200k'"),
            (["-r", "many", url], "--runtimes is a number from 1 to 256, not 'many'"),
            (["-c", "2", "-r", "3", url], "--connections is 2, which leaves none for some of 3 --runtimes"),
            (["--clients", "two", url], "--clients is `one` or `each`, not 'two'"),
            (["-q", "0", url], "--rate is a number of requests a second"),
            (["-q", "-5", url], "not '-5'"),
            (["-q", "inf", url], "not 'inf'"),
            (["-q", "20M", url], "at most 10000000, not '20M'"),
            (["-z", "0", url], "--duration is a time from 1ms to 24h"),
            (["-z", "5x", url], "not '5x'"),
            (["-z", "25h", url], "not '25h'"),
            (["-n", "1e3", url], "--requests is a number from 1 to 1000000000000, not '1e3'"),
            (["-t", "soon", url], "--timeout is a time from 0 to 24h"),
            (["-w", "-1", url], "--warm-up is a time from 0 to 24h"),
            (["-H", "no colon", url], "--header is \"Name: value\", not 'no colon'"),
            (["-H", "A: b\nc: d", url], "value of header \"A\" is not valid"),
            (["-H", "a b: c", url], "a b"),
            (["-X", "G T", url], "G T"),
            (["--http1.1", "--http2", "https://127.0.0.1:1/"], "which?"),
            (["--http2", url], "without TLS it is --http2-prior-knowledge"),
            (["--frobnicate", url], "Try 'interloop bench --help'"),
            (["-c"], "option requires an argument"),
            (["no-url"], "'no-url': URL is not valid"),
            (["ftp://127.0.0.1/"], "'ftp://127.0.0.1/'")):
        out = run(*arguments)
        yield from want(f"exit status of {arguments}", out.returncode, 2)
        yield from want(f"stdout of {arguments}", out.stdout, "")
        if words not in out.stderr:
            yield f"{arguments}: stderr is {out.stderr!r}, want {words!r} in it"


@check
def what_cannot_be_done_ends_with_3_and_says_why():
    out = run("-d", "@/nonexistent/body", "http://127.0.0.1:1/")
    yield from want("exit status", out.returncode, 3)
    if "open the body '/nonexistent/body': No such file" not in out.stderr:
        yield f"stderr is {out.stderr!r}"
    out = subprocess.run(["sh", "-c", 'ulimit -n 200; exec "$0" bench -c 1000 http://127.0.0.1:1/', EXE],
                         stderr=subprocess.PIPE, text=True, timeout=60)
    yield from want("exit status with few files", out.returncode, 3)
    if "for 1000 connections 1064 open files are needed, and 200 allowed" not in out.stderr:
        yield f"stderr is {out.stderr!r}"
    with open("/dev/full", "w") as full:
        out = subprocess.run([EXE, "bench", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    yield from want("exit status with a full disk", out.returncode, 3)


harness.run(CHECKS)
