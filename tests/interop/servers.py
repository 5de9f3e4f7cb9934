#!/usr/bin/python3
"""`interloop get` and `interloop bench` against real servers over TLS, in HTTP/1.1 and HTTP/2: nginx, apache2,
haproxy, h2o and nghttpx as Debian has them. Behind them stands `interloop serve`, so the same requests can be made of
all."""
import functools
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from interop import (EXE, Server, apache2, digest, get_in, h2o, haproxy, harness, nghttpd, nghttpx, nginx,  # noqa: E402
                     run, want, want_part)

VERSIONS = ["TLSv1.2", "TLSv1.3"]
PROTOCOLS = ["http/1.1", "h2"]


def check_many_at_once(server):
    """From two runtimes, so that a session has streams of both."""
    out = run(EXE, "bench", "--json", "-c", "40", "-r", "2", "-n", "2000", "--cacert",
              os.path.join(server.folder, "ca.pem"), server.url("bytes/2000"))
    yield from want(f"bench: {out.stdout} {out.stderr}", out.returncode, 0)


def check_server(configure, version, protocol):
    with Server(configure, version, protocol) as server:
        folder, where = server.folder, server.url
        get = functools.partial(get_in, folder, "--http2" if protocol == "h2" else "--http1.1")

        out = get("-v", where("id/a"), where("id/b"), where("id/c"))
        yield from want("bodies", out.stdout, "abc")
        yield from want_part("stderr", out.stderr, rf"TLS: {re.escape(version)}, .*protocol {protocol if protocol == 'h2' else '(http/1.1|not chosen)'}")
        yield from want("reused connections", len(re.findall(r"connection \d+: reused", out.stderr)), 2)

        out = get("-v", "-H", "Connection: close", where("id/a"), where("id/b"))
        if protocol == "http/1.1":
            yield from want_part("stderr", out.stderr, "session resumed")

        name = os.path.join(folder, "body")
        for path, size in (("bytes/300000?seed=1&chunked=1", 300000), ("bytes/20000000?seed=2", 20000000),
                           ("bytes/100000?seed=3&close=1", 100000)):
            out = get("-o", name, where(path))
            yield from want(f"{path}: {out.stderr}", (out.returncode, os.path.getsize(name)), (0, size))
            plain = run(EXE, "get", "-o", name + "2", f"http://127.0.0.1:{server.origin_port}/{path}")
            yield from want("exit status", plain.returncode, 0)
            yield from want(path, digest(name), digest(name + "2"))

        out = get("-d", "@" + name + "2", where("sink"))
        yield from want_part("upload", out.stdout + out.stderr, "100000")
        yield from want_part("HEAD", get("-i", "-X", "HEAD", where("id/a")).stdout, "^HTTP/(1.1|2) 200")
        yield from want("404", get("-f", where("status/404")).returncode, 1)

        wrong = get("--address", "127.0.0.1", where("id/a").replace("localhost", "wrong.example"))
        yield from want_part("wrong host", wrong.stderr, "IL_ECERT.*HOSTNAME_MISMATCH")
        yield from want_part("unknown CA", run(EXE, "get", where("id/a")).stderr, "IL_ECERT.*issuer 'CN=Interop CA'")

        if (version, True) in server.ports:  # nginx refuses with a response, the others with an alert
            out = get("-f", where("id/a", wants=True))
            yield from want("without a client certificate", (out.returncode in (1, 3), out.stdout == "a"),
                            (True, False))
            out = get("--cert", os.path.join(folder, "client.pem"), where("id/a", wants=True))
            yield from want(f"with a client certificate: {out.stderr}", out.stdout, "a")

        yield from check_many_at_once(server)
        if configure in (nginx, apache2, h2o):  # the others serve no files
            out = get("-o", name, where("file/data"))
            yield from want("file", digest(name), digest(os.path.join(folder, "file", "data")))


def check_nghttpd():
    """It allows 7 streams at a time, pads what it sends, sends trailers, and sends back what it is sent."""
    with Server(nghttpd, "TLSv1.3", "h2") as server:
        folder, where = server.folder, server.url
        get = functools.partial(get_in, folder, "--http2")
        sent, came = os.path.join(folder, "sent"), os.path.join(folder, "came")
        with open(sent, "wb") as file:
            file.write(os.urandom(1 << 20) * 20)

        out = get("-v", "-o", came, where("file/data"))
        yield from want(f"file: {out.stderr}", digest(came), digest(os.path.join(folder, "file", "data")))
        yield from want_part("stderr", out.stderr, "< trailer checksum: 12")
        out = get("-X", "PUT", "-d", "@" + sent, "-o", came, where("echo"))
        yield from want(f"20 MiB up and down: {out.stderr}", digest(came), digest(sent))

        out = run(EXE, "bench", "--json", "-c", "40", "-r", "2", "-n", "2000", "--cacert", os.path.join(folder, "ca.pem"),
                  where("file/small"))
        yield from want(f"40 at a time where 7 are allowed: {out.stdout} {out.stderr}", out.returncode, 0)


def name_of(configure, version, protocol):
    words = f"{configure.__name__} {'HTTP/2' if protocol == 'h2' else protocol} over {version} is understood"
    return re.sub(r"[^a-z0-9]+", "_", words.lower().replace("tlsv", "tls_"))


CHECKS = [(name_of(configure, version, protocol), functools.partial(check_server, configure, version, protocol))
          for configure in (nginx, apache2, haproxy, h2o, nghttpx) for protocol in PROTOCOLS for version in VERSIONS
          if configure in (nginx, apache2, haproxy) or (protocol, version) == ("h2", "TLSv1.3")]
CHECKS.append(("nghttpd_http_2_with_few_streams_padding_and_trailers_is_understood", check_nghttpd))
harness.run(CHECKS)
