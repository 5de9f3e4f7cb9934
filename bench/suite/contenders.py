"""contenders: the programs that are compared, where they are, and how each is called.

A contender is a program with a way of using it. `floor`: what the kernel makes everybody pay.
`interloop`: this library. `peer`: what a user would pick instead.
"""
import os
import shutil
import subprocess

from suite import measure, servers

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Contender:
    """One way of using one program. `mode` is passed on by --mode."""

    def __init__(self, name, kind, label, program, mode=None):
        self.name = name
        self.kind = kind
        self.label = label
        self.program = program
        self.mode = mode
        self.is_timed = False    # told how long to run, not how many requests to make
        self.has_window = True   # says itself what it had used when warm; see measure.py
        self.parse = measure.parse_result_line

    def path(self, build):
        return os.path.join(build, "bench", self.program)

    def why_absent(self, build):
        """None, or why it cannot take part."""
        return None if os.path.exists(self.path(build)) else "not built (see the notices of tools/bench)"

    def command(self, build, port, workload, requests, warm_up=0):
        words = [self.path(build), "--port", str(port), "--path", workload.path,
                 "--connections", str(workload.connections), "--requests", str(requests), "--warm-up", str(warm_up)]
        if workload.upload:
            words += ["--upload", str(workload.upload)]
        if workload.rate:
            words += ["--rate", str(workload.rate)]
        if workload.runtimes:
            words += ["--runtimes", str(workload.runtimes)]
        if workload.linger_ms:
            words += ["--linger", str(workload.linger_ms)]
        if workload.tls:
            words += ["--tls", servers.ca_file(build)]
        if workload.http == 2:
            words += ["--http", "2"]
        if self.mode:
            words += ["--mode", self.mode]
        return words


def _url(port, workload):
    return f"{'https' if workload.tls else 'http'}://{servers.HOST}:{port}{workload.path}"


class OneRuntime(Contender):
    """What several runtimes are measured against."""

    def command(self, build, port, workload, requests, warm_up=0):
        return super().command(build, port, workload, requests, warm_up) + ["--runtimes", "1"]


class Wrk(Contender):
    """Runs for whole seconds, as many requests as it can."""

    def __init__(self):
        super().__init__("wrk", "peer", "wrk", "wrk")
        self.is_timed = True
        self.has_window = False
        self.parse = measure.parse_wrk

    def path(self, build):
        return shutil.which("wrk") or "/usr/bin/wrk"

    def command(self, build, port, workload, seconds, warm_up=0):
        return [self.path(build), "-t1", f"-c{workload.connections}", f"-d{seconds}s", "--timeout", "30s",
                _url(port, workload)]


class H2load(Contender):
    def __init__(self, http):
        super().__init__(*(("h2load", "peer", "h2load --h1") if http == 1 else ("h2load-2", "peer", "h2load")), "h2load")
        self.http = http
        self.has_window = False
        self.parse = measure.parse_h2load

    def path(self, build):
        return shutil.which("h2load") or "/usr/bin/h2load"

    def command(self, build, port, workload, requests, warm_up=0):
        how = ["--h1", f"-c{workload.connections}"] if self.http == 1 else ["-c1", f"-m{workload.connections}"]
        return [self.path(build), *how, "-t1", f"-n{requests}", _url(port, workload)]


class STime(Contender):
    """Runs for whole seconds, one connection after another. Checks the certificate, but not its name."""

    def __init__(self, mode):
        super().__init__(f"s-time-{mode}", "peer", "openssl s_time", "openssl", mode)
        self.is_timed = True
        self.has_window = False
        self.parse = measure.parse_s_time

    def path(self, build):
        return shutil.which("openssl") or "/usr/bin/openssl"

    def command(self, build, port, workload, seconds, warm_up=0):
        return [self.path(build), "s_time", "-connect", f"{servers.HOST}:{port}", f"-{self.mode}", "-www", workload.path,
                "-time", str(seconds), "-CAfile", servers.ca_file(build), "-verify", "2"]


class InterloopBench(Contender):
    def __init__(self):
        super().__init__("il-bench", "interloop", "interloop bench", "interloop")
        self.has_window = False
        self.parse = measure.parse_interloop_bench

    def path(self, build):
        return os.path.join(build, "interloop")

    def command(self, build, port, workload, requests, warm_up=0):
        words = [self.path(build), "bench", "--json", "-r1", f"-c{workload.connections}", f"-n{requests}"]
        if workload.tls:
            words += ["--cacert", servers.ca_file(build)]
        if workload.needs_secure():
            words += ["--http2-prior-knowledge" if workload.http == 2 else "--http1.1"]
        return words + [_url(port, workload)]


ALL = [
    Contender("floor-blocking", "floor", "floor: blocking socket", "floor_blocking"),
    Contender("floor-epoll", "floor", "floor: bare epoll loop", "floor_epoll"),
    Contender("floor-tls", "floor", "floor: bare epoll loop and OpenSSL", "floor_tls"),
    Contender("floor-h2", "floor", "floor: canned frames", "floor_h2"),
    Contender("il-thread", "interloop", "interloop, plain thread", "il_client", "thread"),
    Contender("il-task", "interloop", "interloop, a task each", "il_client", "task"),
    Contender("il-call", "interloop", "interloop, callbacks", "il_client", "call"),
    OneRuntime("il-one", "interloop", "one runtime", "il_runtimes", "shared"),
    Contender("il-own", "interloop", "a client for each runtime", "il_runtimes", "own"),
    Contender("il-shared", "interloop", "one client for all", "il_runtimes", "shared"),
    Contender("il-same", "interloop", "the same runtime again", "il_across", "same"),
    Contender("il-across", "interloop", "another runtime than before", "il_across", "across"),
    Contender("il-default", "interloop", "the default client", "il_patterns", "default"),
    Contender("il-per-runtime", "interloop", "per-runtime client", "il_patterns", "per-runtime"),
    Contender("il-factory", "interloop", "factory", "il_patterns", "factory"),
    Contender("il-single", "interloop", "single runtime, handed over", "il_patterns", "single"),
    Contender("il-proxy", "interloop", "proxy, handed over", "il_patterns", "proxy"),
    Contender("il-service", "interloop", "channel to an actor", "il_patterns", "service"),
    Contender("il-spawn", "interloop", "start a task and join it, 64 at a time", "il_micro", "spawn"),
    Contender("il-yield", "interloop", "change from one task to another", "il_micro", "yield"),
    Contender("il-block-on", "interloop", "il_block_on of nothing", "il_micro", "block-on"),
    Contender("il-timer", "interloop", "arm and cancel a timer, 10,000 others armed", "il_micro", "timer"),
    Contender("il-gate", "interloop", "a call into the library and back, hand-over on", "il_micro", "gate"),
    Contender("il-gate-off", "interloop", "a call into the library and back, hand-over off", "il_micro", "gate-off"),
    Contender("il-oneshot", "interloop", "a oneshot, each waiting for the other's", "il_micro", "oneshot"),
    Contender("il-channel", "interloop", "a message through a channel of 64", "il_micro", "channel"),
    InterloopBench(),
    Wrk(),
    H2load(1),
    H2load(2),
    STime("new"),
    STime("reuse"),
    Contender("curl-easy", "peer", "libcurl, easy", "peer_curl_easy"),
    Contender("curl-multi", "peer", "libcurl, multi + poll", "peer_curl_multi", "poll"),
    Contender("curl-socket", "peer", "libcurl, multi_socket + epoll", "peer_curl_multi", "socket"),
    Contender("soup-sync", "peer", "libsoup 3, sync", "peer_soup", "sync"),
    Contender("soup-async", "peer", "libsoup 3, async", "peer_soup", "async"),
    Contender("hyper", "peer", "hyper on Tokio", "peer_hyper"),
    Contender("reqwest", "peer", "reqwest on Tokio", "peer_reqwest"),
    Contender("go", "peer", "Go net/http", "peer_go"),
]
BY_NAME = {contender.name: contender for contender in ALL}


# ---- programs that Meson does not build ----


def _is_older(target, sources):
    return not os.path.exists(target) or any(os.path.getmtime(source) > os.path.getmtime(target) for source in sources)


def _files_below(folder):
    found = []
    for path, _, names in os.walk(folder):
        found += [os.path.join(path, name) for name in names]
    return found


def _try_build(what, command, cwd, env=None):
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        return f"{what}: skipped: it does not build here: {done.stdout.strip()[-300:]}"
    return None


def build_go(build):
    """None, or a notice for people."""
    source = os.path.join(HERE, "go", "peer_go.go")
    target = os.path.join(build, "bench", "peer_go")
    if not _is_older(target, [source]):
        return None
    if not shutil.which("go"):
        return "Go net/http: skipped: there is no `go` (Debian: golang-go)"
    return _try_build("Go net/http", ["go", "build", "-o", target, source], HERE,
                      {**os.environ, "GO111MODULE": "off", "GOFLAGS": ""})


def build_rust(build):
    """None, or a notice for people."""
    folder = os.path.join(HERE, "rust")
    targets = [os.path.join(build, "bench", name) for name in ("peer_hyper", "peer_reqwest")]
    sources = [path for path in _files_below(folder) if path.endswith((".rs", ".toml"))]
    if not any(_is_older(target, sources) for target in targets):
        return None
    if not shutil.which("cargo"):
        return "hyper, reqwest: skipped: there is no `cargo` (Debian: cargo)"
    if not any(name.startswith("reqwest-") for name in _listdir("/usr/share/cargo/registry")):
        return "hyper, reqwest: skipped: Debian's crates are not installed (librust-reqwest-dev, librust-hyper-dev)"
    output = os.path.join(build, "bench", "rust")
    notice = _try_build("hyper, reqwest", ["cargo", "build", "--quiet", "--release", "--offline", "--target-dir", output],
                        folder)
    if notice is None:
        for target in targets:
            shutil.copy2(os.path.join(output, "release", os.path.basename(target)), target)
            os.utime(target)
    return notice


def _listdir(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
