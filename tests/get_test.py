#!/usr/bin/python3
"""`interloop get` and `interloop serve --tls`, as a user or a script meets them."""
import array
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402

EXE = os.path.join(os.environ.get("IL_BUILD", "build"), "interloop")
CHECKS = []


def check(function):
    CHECKS.append((function.__name__, function))
    return function


class Serve:
    """`interloop serve`, as long as the block lasts."""

    def __init__(self, *options):
        self.options = options

    def __enter__(self):
        self.process = subprocess.Popen([EXE, "serve", "--json", *self.options], stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"]
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.process.stdout.close()


def get(*arguments, stdin=None, **environment):
    return subprocess.run([EXE, "get", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          input="" if stdin is None else stdin, timeout=120, env={**os.environ, **environment})


def want(what, actual, wanted):
    if actual != wanted:
        yield f"{what} is {actual!r}, want {wanted!r}"


def want_part(what, actual, part):
    if not re.search(part, actual):
        yield f"{what} is {actual!r}, want {part!r} in it"


@check
def body_goes_to_stdout_and_nothing_else():
    with Serve() as server:
        out = get(server.url + "id/abc")
    yield from want("exit status", out.returncode, 0)
    yield from want("stdout", out.stdout, "abc")
    yield from want("stderr", out.stderr, "")


@check
def method_headers_and_data_are_sent():
    with Serve() as server:
        out = get("-H", "X-One: eins", "-d", "a=b", "--data", "@-", server.url + "echo", stdin="from stdin")
        put = get("-X", "PUT", "-H", "content-type: text/x", "-d", "z", server.url + "echo")
    yield from want_part("request", out.stdout, r"^POST /echo HTTP/1.1\n")
    yield from want_part("request", out.stdout, "X-One: eins\n")
    yield from want_part("request", out.stdout, "application/x-www-form-urlencoded")
    yield from want("body", out.stdout.split("\n")[-1], "a=b&from stdin")
    yield from want_part("request", put.stdout, r"^PUT /echo ")
    yield from want("types", len(re.findall("(?i)content-type", put.stdout)), 1)


@check
def include_prints_head_and_trailers_around_the_body():
    with Serve() as server:
        out = get("-i", server.url + "trailers/2")
    yield from want_part("stdout", out.stdout, r"^HTTP/1.1 200 OK\n")
    yield from want_part("stdout", out.stdout, r"\n\nhelloX-Filler-0+: v")


@check
def output_goes_into_the_file():
    with Serve() as server, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "body")
        out = get("-o", path, server.url + "bytes/100000")
        yield from want("size", os.path.getsize(path), 100000)
        yield from want("stdout", out.stdout, "")
        bad = get("-o", os.path.join(folder, "none", "x"), server.url)
        yield from want("exit status", bad.returncode, 3)
        full = get("-o", "/dev/full", server.url + "bytes/100000")
        yield from want("exit status", full.returncode, 3)
        yield from want_part("stderr", full.stderr, "No space left")


@check
def verbose_tells_phases_connection_and_driver():
    with Serve() as server:
        out = get("-v", server.url + "id/1", server.url + "id/2")
    yield from want("stdout", out.stdout, "12")
    for part in (r"< HTTP/1.1 200 OK", r"\* connection \d+: new; driver: the caller", r": reused; driver",
                 r"\* resolve +\d", r"\* connect +\d", r"\* first-byte +\d", r"\* total +[\d.]+ ms, 1 byte of body\n"):
        yield from want_part("stderr", out.stderr, part)


@check
def json_has_the_promised_shape():
    with Serve() as server:
        out = get("--json", server.url + "id/x", server.url + "status/404")
        bad = get("--json", server.url + "close")
    first, second = map(json.loads, out.stdout.splitlines())
    yield from want("fields", list(first), ["url", "http", "status", "reason", "headers", "trailers", "peer",
                                            "connection", "reused", "driver", "phases_ms", "total_ms", "body_bytes"])
    yield from want("peer", first["peer"], {"address": "127.0.0.1", "port": int(server.url[:-1].split(":")[-1]),
                                            "family": "IPv4", "lost": 0})
    yield from want("status", (first["status"], second["status"]), (200, 404))
    yield from want("reused", (first["reused"], second["reused"]), (False, True))
    yield from want("phases", list(first["phases_ms"]), ["resolve", "connect", "write", "first-byte", "read"])
    failure = json.loads(bad.stdout)
    yield from want("fields", list(failure), ["url", "error", "phase", "message"])
    yield from want("error", failure["error"], "IL_EPEERCLOSED")


@check
def exit_status_says_what_happened():
    with Serve() as server:
        for arguments, status, words in (
                ([server.url + "status/404"], 0, ""),
                (["--fail", server.url + "status/404"], 1, ""),
                (["--fail", server.url + "status/204"], 0, ""),
                ([], 2, "which URL?\nTry 'interloop get --help'."),
                (["--no-such-option", server.url], 2,
                 "interloop get: unrecognized option '--no-such-option'\nTry 'interloop get --help'."),
                (["-H"], 2, "option requires an argument -- 'H'"),
                (["-H", "nothing", server.url], 2, "has no ':'"),
                (["-H", "Content-Length: 3", server.url], 2, "IL_EREQUEST: header \"Content-Length\" differs"),
                (["--max-time", "x", server.url], 2, "want seconds"),
                (["--address", "localhost", server.url], 2, "not an IPv4 or IPv6 address"),
                (["--resolve", "a.test:80", server.url], 2, "want HOST:PORT:ADDRESS"),
                (["--resolve", "a.test:0:127.0.0.1", server.url], 2, "want HOST:PORT:ADDRESS"),
                (["--resolve", "a.test:80:b.test", server.url], 2, '"b.test" is not an IPv4 or IPv6 address'),
                (["ftp://localhost/"], 2, "IL_EURL"),
                (["--cacert", "/nonexistent", server.url], 2, "'/nonexistent' for --cacert: No such file"),
                (["--cert", "/nonexistent", server.url], 2, "'/nonexistent' for --cert: No such file"),
                (["--key", "/nonexistent", server.url], 2, "'/nonexistent' for --key: No such file"),
                (["--data", "@/nonexistent", server.url], 2, "'/nonexistent' for --data: No such file"),
                (["--max-time", "0.2", server.url + "never"], 3, "IL_ETIMEDOUT, phase first-byte"),
                ([server.url + "reset"], 3,
                 f"IL_EPEERCLOSED, phase first-byte: GET {server.url[7:-1]}: the connection broke: Connection reset"),
                ([server.url + "bytes/1000?cut_at=10"], 3,
                 f"IL_EPEERCLOSED, phase read: GET {server.url[7:-1]}: the server closed the connection after 10 of "
                 "1000 bytes"),
                (["--http2-prior-knowledge", server.url + "bytes/1000?cut_at=10"], 3,
                 f"IL_EPEERCLOSED, phase read: GET {server.url[7:-1]}: the server closed the connection, after 10 of "
                 "1000 bytes"),
                (["http://127.0.0.1:1/"], 3, "IL_ECONNECT, phase connect")):
            out = get(*arguments)
            yield from want(f"exit status of {arguments}", out.returncode, status)
            yield from want_part(f"stderr of {arguments}", out.stderr, re.escape(words))


@check
def host_is_found_where_resolve_says():
    with Serve() as server:
        port = re.search(r":(\d+)/", server.url).group(1)
        there = [f"http://{host}:{port}/id/" for host in ("one.test", "two.test")]
        both = get("-v", "--resolve", f"one.test:{port}:127.0.0.1", "--resolve", f"two.test:{port}:[::1],127.0.0.1",
                   there[0] + "1", there[1] + "2")
        elsewhere = get("--resolve", f"one.test:{port}:127.0.0.2", there[0] + "1")
    yield from want("stdout", both.stdout, "12")
    yield from want("exit status", (both.returncode, elsewhere.returncode), (0, 3))
    yield from want_part("stderr", both.stderr, rf"connected to 127.0.0.1:{port} \(IPv4\)\n(.*\n)*?.*"
                         rf"connected to 127.0.0.1:{port} \(IPv4\); 1 other address failed before, or was slower")
    yield from want_part("stderr", elsewhere.stderr, "IL_ECONNECT, phase connect: .*127.0.0.2")


@check
def https_wants_the_ca_and_says_what_is_wrong():
    with tempfile.TemporaryDirectory() as folder:
        ca = os.path.join(folder, "ca.pem")
        with Serve("--tls", "--ca-file", ca) as server:
            yield from want_part("url", server.url, "^https://")
            good = get("-v", "--cacert", ca, server.url + "id/1", server.url + "id/2")
            by_environment = get(server.url + "id/3", SSL_CERT_FILE=ca)
            refused = get(server.url + "id/1")
            wrong_host = get("--cacert", ca, "--address", "127.0.0.1",
                             server.url.replace("127.0.0.1", "wrong.example") + "id/1")
            insecure = get("-k", server.url + "id/1")
            by_json = json.loads(get("--json", "--cacert", ca, server.url + "id/1").stdout)
            pinned = get("--cacert", ca, "--pinnedpubkey", by_json["tls"]["public_key"], server.url + "id/4")
            not_pinned = get("-k", "--pinnedpubkey", "sha256//" + "A" * 43 + "=", server.url + "id/4")
            keys = os.path.join(folder, "keys")
            get("--cacert", ca, server.url + "id/1", SSLKEYLOGFILE=keys)
            with open(keys, encoding="ascii") as file:
                yield from want_part("key log", file.read(), "CLIENT_TRAFFIC_SECRET_0 ")
    yield from want("stdout", good.stdout, "12")
    yield from want("exit status", good.returncode, 0)
    for part in (r"\* TLS: TLSv1.3, TLS_\w+, full handshake, protocol h2",
                 r"\* certificate: 'CN=localhost', issued by 'CN=interloop serve', until [^:]*:[^:]*:[^:]*Z: verified",
                 r": reused;", r"\* tls +\d"):
        yield from want_part("stderr", good.stderr, part)
    yield from want("stdout", by_environment.stdout, "3")
    yield from want("exit status", refused.returncode, 3)
    yield from want_part("stderr", refused.stderr, "IL_ECERT, phase tls: .*X509_V_ERR_")
    yield from want_part("stderr", wrong_host.stderr, "wrong.example.*it is for localhost.*HOSTNAME_MISMATCH")
    yield from want("stdout", insecure.stdout, "1")
    yield from want_part("stderr", insecure.stderr, "warning: --insecure")
    yield from want("phases", list(by_json["phases_ms"]), ["resolve", "connect", "tls", "write", "first-byte", "read"])
    yield from want("stdout", pinned.stdout, "4")
    yield from want_part("stderr", not_pinned.stderr, "has none of the 1 pin:")


@check
def http_version_is_the_one_that_was_asked_for():
    with tempfile.TemporaryDirectory() as folder:
        ca = os.path.join(folder, "ca.pem")
        with Serve("--tls", "--ca-file", ca) as server:
            by_choice = get("-i", "--http1.1", "--cacert", ca, server.url + "id/1")
            offered = get("-i", "--http2", "--cacert", ca, server.url + "id/1")
        with Serve("--tls", "--http1.1", "--ca-file", ca) as server:
            demanded = get("--http2", "--cacert", ca, server.url + "id/1")
            known = get("--http2-prior-knowledge", "--cacert", ca, server.url + "id/1")
            clear = get("--http2", "-d", "x", server.url.replace("https:", "HTTP:"))
            both = [get(*two, server.url) for two in (
                ("--http2", "--http1.1"), ("--http1.1", "--http2-prior-knowledge"),
                ("--http2-prior-knowledge", "--http1.1"))]
        with Serve() as server:
            in_clear = get("-i", "--http2-prior-knowledge", server.url + "id/1")
    yield from want_part("stdout", by_choice.stdout, "^HTTP/1.1 200 OK")
    yield from want_part("stdout", offered.stdout, "^HTTP/2 200")
    yield from want_part("stdout", in_clear.stdout, "^HTTP/2 200")
    for out in (demanded, known):
        yield from want("exit status", out.returncode, 3)
        yield from want_part("stderr", out.stderr, "IL_EPROTOCOL, phase tls: .*none of the protocols offered")
    yield from want("exit status", clear.returncode, 2)
    yield from want_part("stderr", clear.stderr, "has none; .*--http2-prior-knowledge")
    for out in both:
        yield from want("exit status", out.returncode, 2)
        yield from want_part("stderr", out.stderr, "--http2.* and --http1.1; which")


FRAME_DATA, FRAME_HEADERS, FRAME_SETTINGS, FRAME_PING, FRAME_GOAWAY = 0, 1, 4, 6, 7


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


class Http2Peer(threading.Thread):
    """Answers one request, asks for a PING's echo, and writes down what else comes, up to the connection's end."""

    def __init__(self, body, pings_with_the_answer):
        super().__init__(daemon=True)
        self.body, self.pings_with_the_answer = body, pings_with_the_answer
        self.frames, self.end = [], None
        self.ping_is_there = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.start()

    def receive(self, connection, size):
        data = b""
        while len(data) < size and (part := connection.recv(size - len(data))):
            data += part
        return data

    def next_frame(self, connection):
        head = self.receive(connection, 9)
        if len(head) < 9:
            return None
        high, low, kind, flags, stream = struct.unpack(">HBBBI", head)
        return kind, flags, stream, self.receive(connection, high << 8 | low)

    def run(self):
        connection, _ = self.listener.accept()
        connection.settimeout(60)
        with self.listener, connection:
            self.receive(connection, len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            while self.next_frame(connection)[0] != FRAME_HEADERS:
                pass
            answer = frame(FRAME_SETTINGS, 0, 0) + frame(FRAME_SETTINGS, 1, 0) + frame(FRAME_HEADERS, 4, 1, b"\x88")
            pieces = [self.body[at:at + 16384] for at in range(0, len(self.body), 16384)]
            for i, piece in enumerate(pieces):
                answer += frame(FRAME_DATA, i == len(pieces) - 1, 1, piece)
            ping = frame(FRAME_PING, 0, 0, b"are-you?")
            if self.pings_with_the_answer:
                connection.sendall(answer + ping)
            else:
                connection.sendall(answer)
                connection.sendall(ping)
                unacknowledged = array.array("i", [1])
                while unacknowledged[0] > 0:  # up to when the command's kernel has it
                    fcntl.ioctl(connection, termios.TIOCOUTQ, unacknowledged)
            self.ping_is_there.set()
            try:
                while (got := self.next_frame(connection)) is not None:
                    self.frames.append(got)
                self.end = "in order"
            except ConnectionError as error:
                self.end = repr(error)


@check
def http_2_connection_is_closed_in_order_and_what_is_outstanding_answered():
    for body, with_the_answer in ((b"hello", True), (b"x" * 300000, False)):
        peer = Http2Peer(body, with_the_answer)
        with subprocess.Popen([EXE, "get", "--http2-prior-knowledge", peer.url], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            peer.ping_is_there.wait(60)  # with the long body it waits for us to read
            out, errors = process.communicate(timeout=60)
        peer.join(60)
        yield from want(f"whether the body is printed ({errors})", out == body, True)
        yield from want("exit status", process.returncode, 0)
        yield from want("the connection's end", peer.end, "in order")
        kinds = [(kind, flags) for kind, flags, _, _ in peer.frames]
        yield from want("SETTINGS acknowledged", kinds.count((FRAME_SETTINGS, 1)), 1)
        yield from want("the PING's answer", [payload for kind, flags, _, payload in peer.frames
                                              if (kind, flags) == (FRAME_PING, 1)], [b"are-you?"])
        yield from want("the last frame", peer.frames[-1][0], FRAME_GOAWAY)
        yield from want("its code", peer.frames[-1][3][4:8], bytes(4))


@check
def client_certificate_is_shown_to_who_asks():
    with tempfile.TemporaryDirectory() as folder:
        names = {name: os.path.join(folder, name) for name in ("ca.pem", "client.pem")}
        with Serve("--tls", "--ca-file", names["ca.pem"], "--client-file", names["client.pem"]) as server:
            without = get("--cacert", names["ca.pem"], server.url + "id/1")
            with_it = get("--cacert", names["ca.pem"], "--cert", names["client.pem"], server.url + "id/1")
    yield from want("exit status", without.returncode, 3)
    yield from want_part("stderr", without.stderr, "IL_ETLS.*certificate required")
    yield from want("stdout", with_it.stdout, "1")


@check
def password_of_the_client_s_key_comes_from_a_file_or_the_environment():
    with tempfile.TemporaryDirectory() as folder:
        ca, client, locked, password, long_line = (os.path.join(folder, name) for name in
                                                   ("ca.pem", "client.pem", "locked.key", "password", "long"))
        with Serve("--tls", "--ca-file", ca, "--client-file", client) as server:
            try:
                subprocess.run(["openssl", "pkey", "-in", client, "-aes256", "-passout", "pass:open sesame", "-out",
                                locked], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            except FileNotFoundError as error:
                raise harness.Skip("openssl is not installed") from error
            with open(password, "w", encoding="ascii") as file:
                file.write("open sesame\nand more\n")
            with open(long_line, "w", encoding="ascii") as file:
                file.write("x" * 2000)
            common = ["--cacert", ca, "--cert", client, "--key", locked, server.url + "id/1"]
            for arguments, stdin, status, words in (
                    (["--pass", "@" + password], None, 0, ""),
                    (["--pass", "@-"], "open sesame", 0, ""),
                    (["--pass", "env:GET_TEST_PASS"], None, 0, ""),
                    ([], None, 2, "one that wants a password"),
                    (["--pass", "env:GET_TEST_WRONG"], None, 2, "or the password is wrong"),
                    (["--pass", "open sesame"], None, 2, "--pass wants @FILE or env:NAME"),
                    (["--pass", "env:GET_TEST_NONE"], None, 2, "has no GET_TEST_NONE"),
                    (["--pass", "@" + long_line], None, 2, "at most 1022 bytes"),
                    (["--pass", "@-"], "", 2, "no such line"),
                    (["--pass", "@" + folder + "/none"], None, 2, "No such file")):
                out = get(*arguments, *common, stdin=stdin, GET_TEST_PASS="open sesame", GET_TEST_WRONG="wrong")
                yield from want(f"exit status with {arguments} ({out.stderr})", out.returncode, status)
                yield from want_part("stderr", out.stderr, re.escape(words))
                yield from want("stdout", out.stdout, "1" if status == 0 else "")
                yield from want("the password in what is said", "sesame" in out.stderr, False)


@check
def terminal_is_not_commanded_by_the_server():
    with Serve() as server:
        try:
            pid, fd = pty.fork()
        except OSError as error:  # a root without /dev/pts
            raise harness.Skip(f"no terminal to be had here: {error}") from error
        if pid == 0:
            os.execv(EXE, [EXE, "get", "-i", server.url + "raw/HTTP/1.1%20200%20OK%0d%0aX:%20%9b%0d%0a"
                           "Content-Length:%209%0d%0a%0d%0aa%1b[2Jb%c3%a4c?keep=1"])
        text = b""
        try:
            while part := os.read(fd, 65536):
                text += part
        except OSError:
            pass  # how a terminal says that the other side is gone
        os.waitpid(pid, 0)
        os.close(fd)
    if b"\x1b" in text or b"\x07" in text or b"\x9b" in text:
        yield f"the terminal gets {text!r}"
    if b"a\\x1b[2Jb\xc3\xa4c" not in text:
        yield f"the terminal gets {text!r}, want the body"


harness.run(CHECKS)
