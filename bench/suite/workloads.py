"""workloads: what the contenders are asked to do, and who takes part."""

HUGE = 10_000_000  # bytes of a large body: 10 MB


class Workload:
    """One task. `floor` names the contender that the others are divided by; it takes part twice, so that
    the second time shows what difference means nothing here."""

    def __init__(self, name, title, contenders, path="/small", connections=1, upload=0, rate=0, runtimes=0,
                 kind="cpu", pilot=2000, quick=None, uses_all_cores=False, linger_ms=0, slow=(), tls=None, http=1, handshakes=None):
        self.name = name
        self.title = title
        self.contenders = contenders
        self.floor = contenders[0]
        self.path = path
        self.connections = connections
        self.upload = upload
        self.rate = rate
        self.runtimes = runtimes
        self.kind = kind      # "cpu", "latency", "memory" or "micro": what the table is about
        self.pilot = pilot    # requests of the run that finds out how many fit into the time wanted
        self.quick = quick    # who takes part with --quick; None: the workload is left out then
        self.uses_all_cores = uses_all_cores
        self.slow = slow      # contenders that take half a minute to open so many connections: one round is enough
        self.tls = tls        # the version; None: in clear
        self.http = http      # 2: all requests are streams of one connection
        self.handshakes = handshakes  # "full" or "resumed": what each connection has to begin with
        self.linger_ms = linger_ms  # "memory": read it then, with idle connections; else read the peak

    def warm_up(self):
        """Requests that are not counted: two on each connection, and a tenth of the pilot's."""
        return 2 * self.connections + self.pilot // 10

    def needs_secure(self):
        """The server that speaks TLS and HTTP/2; else the other, which can do more besides."""
        return self.tls is not None or self.http == 2

    def body_bytes_per_request(self):
        """What an honest client must have counted; the answer to an upload is the small one."""
        if self.kind == "micro":
            return 0
        if self.path.startswith("/bytes/"):
            return int(self.path.split("/")[2])
        return len("hello world\n")


ONE = ["floor-blocking", "floor-epoll", "il-thread", "il-task", "il-call", "wrk", "h2load", "curl-easy", "curl-multi", "curl-socket",
       "soup-sync", "soup-async", "hyper", "reqwest", "go"]
MANY = ["floor-epoll", "il-task", "il-call", "il-bench", "wrk", "h2load", "curl-multi", "curl-socket", "soup-async", "hyper",
        "reqwest", "go"]
# libsoup opens 2,000 connections in a minute, and that grows with the square: not above 64 at a time.
VERY_MANY = [name for name in MANY if name != "soup-async"]
BULK = ["floor-blocking", "il-thread", "curl-easy", "soup-sync", "hyper", "reqwest", "go"]
HELD = ["floor-epoll", "il-task", "il-call", "curl-multi", "curl-socket", "hyper", "reqwest", "go"]
ON_ONE_THREAD = ["il-yield", "il-timer", "il-spawn", "il-block-on", "il-gate", "il-gate-off"]
PATTERNS = ["il-default", "il-per-runtime", "il-factory", "il-single", "il-proxy", "il-service"]
IDLE = ["floor-epoll", "il-call", "curl-multi", "curl-socket"]
CLOSING = ["floor-epoll", "il-task", "il-call", "wrk", "curl-multi", "curl-socket", "soup-async", "hyper", "reqwest",
           "go"]
CURL = ("curl-multi", "curl-socket")  # libcurl opens many connections in quadratic time, too
PACED = ["floor-epoll", "il-task", "il-call", "curl-multi", "curl-socket", "soup-async", "hyper", "reqwest", "go"]

HTTPS = ["floor-tls", "il-task", "il-call", "il-bench", "wrk", "h2load", "curl-multi", "curl-socket", "hyper", "reqwest", "go"]
# libcurl 7.88 cannot use a connection in clear (prior knowledge) twice, and Go's HTTP/2 is only for TLS.
HTTP2 = ["floor-h2", "h2load-2", "il-task", "il-call", "il-bench", "hyper", "reqwest"]
HTTP2_TLS = ["floor-h2", "h2load-2", "il-task", "il-call", "il-bench", "curl-multi", "curl-socket", "hyper", "reqwest", "go"]
SESSIONS = ["il-one", "il-own", "il-shared"]
FULL = ["floor-tls", "il-thread", "s-time-new", "curl-easy", "hyper", "reqwest", "go"]
RESUMED = ["floor-tls", "il-thread", "s-time-reuse", "curl-easy", "go"]  # hyper-tls and reqwest never resume

ALL = [
    Workload("get-1", "small GETs, one at a time", ONE,
             quick=["floor-blocking", "il-thread", "curl-easy", "hyper"]),
    Workload("get-64", "small GETs, 64 in flight", MANY, connections=64, pilot=10000,
             quick=["floor-epoll", "il-task", "il-call", "wrk", "curl-multi", "hyper"]),
    Workload("get-1024", "small GETs, 1,024 in flight", VERY_MANY, connections=1024, pilot=10000),
    Workload("get-9000", "small GETs, 9,000 in flight", VERY_MANY, connections=9000, pilot=18000, slow=CURL),
    Workload("download", "10 MB bodies, one at a time", BULK, path=f"/bytes/{HUGE}", pilot=10,
             quick=["floor-blocking", "il-thread", "curl-easy"]),
    Workload("upload", "10 MB uploads, one at a time", BULK, path="/sink", upload=HUGE, pilot=10),
    Workload("close", "a new connection for each request, 64 in flight", CLOSING, path="/close", connections=64,
             pilot=1000, quick=["floor-epoll", "il-task", "curl-multi"]),
    Workload("paced-10k", "10,000 small GETs a second, at most 64 in flight", PACED, connections=64, rate=10_000,
             kind="latency", quick=["floor-epoll", "il-call", "curl-multi", "hyper"]),
    Workload("paced-40k", "40,000 small GETs a second, at most 64 in flight", PACED, connections=64, rate=40_000,
             kind="latency"),
    Workload("held-10k", "10,000 requests in flight, answered a second after the last has come", HELD,
             path="/hold/10000/1000", connections=10_000, kind="memory", slow=CURL,
             quick=["floor-epoll", "il-task", "curl-multi"]),
    Workload("idle-10k", "10,000 idle connections, after all have been answered", IDLE, path="/hold/10000/100",
             connections=10_000, kind="memory", linger_ms=400, slow=CURL),
    Workload("https-64", "small GETs over HTTPS, 64 in flight, HTTP/1.1", HTTPS, connections=64, pilot=10000, tls="1.3",
             quick=["floor-tls", "il-call", "wrk", "curl-multi"]),
    Workload("h2-64", "small GETs over HTTP/2 in clear, 64 streams on one connection", HTTP2, connections=64, pilot=20000,
             http=2),
    Workload("h2s-64", "small GETs over HTTP/2 in TLS, 64 streams on one connection", HTTP2_TLS, connections=64, pilot=20000,
             tls="1.3", http=2, quick=["floor-h2", "h2load-2", "il-task", "il-call", "curl-multi", "hyper"]),
] + [
    Workload(f"h2-runtimes-{count}", f"small GETs over HTTP/2 in clear, 64 in flight, by {count} runtimes", SESSIONS,
             connections=64, runtimes=count, pilot=20000, http=2, uses_all_cores=True)
    for count in (2, 4)
] + [
    Workload(f"handshake-{kind}{suffix}", f"a new connection for each request, one at a time: {kind} handshakes, TLS {version}",
             contenders, path="/close", pilot=300, tls=version, handshakes=kind)
    for version, suffix in (("1.3", ""), ("1.2", "-12"))
    for kind, contenders in (("full", FULL), ("resumed", RESUMED))
] + [
    Workload("across", "small GETs, one at a time, on one connection that two runtimes use in turn",
             ["il-same", "il-across"], quick=["il-same", "il-across"]),
] + [
    Workload(f"runtimes-{count}", f"small GETs, 64 in flight, by {count} runtimes", ["il-own", "il-shared"],
             connections=64, runtimes=count, pilot=10000, uses_all_cores=True,
             quick=["il-own", "il-shared"] if count == 4 else None)
    for count in (2, 4, 16)
] + [
    Workload(f"patterns-{count}", f"the ways of living with several runtimes: small GETs, {title}", PATTERNS,
             connections=count, pilot=2000, uses_all_cores=True, quick=PATTERNS if count == 1 else None)
    for count, title in ((1, "one at a time"), (64, "64 in flight"))
] + [
    Workload("runtime", "parts of a runtime, on one thread", ON_ONE_THREAD, kind="micro", pilot=20000, quick=ON_ONE_THREAD),
    Workload("threads", "parts of a runtime, between two threads", ["il-channel", "il-oneshot"],
             kind="micro", pilot=20000, uses_all_cores=True, quick=["il-channel", "il-oneshot"]),
]
BY_NAME = {workload.name: workload for workload in ALL}
