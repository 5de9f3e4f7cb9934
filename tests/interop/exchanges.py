#!/usr/bin/python3
"""What is delicate in an exchange, with real servers: responses without a body, interim ones, large bodies both ways,
trailers, answers that come before the upload is through, and servers that leave in the middle of one. In clear, in
HTTP/1.1 and HTTP/2 by prior knowledge, and in HTTP/2 over TLS."""
import concurrent.futures
import functools
import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from interop import (CLEAR, Server, apache2, digest, get_in, h2o, haproxy, harness, nghttpd, nghttpx,  # noqa: E402
                     nginx, want, want_part)

AT_A_TIME = 6
LARGE = 3 << 20
VERSION_OPTIONS = {(CLEAR, "http/1.1"): "--http1.1", (CLEAR, "h2"): "--http2-prior-knowledge",
                   ("TLSv1.3", "h2"): "--http2"}


def reuses(out):
    return len(re.findall(r"connection \d+: reused", out.stderr))


def check_responses_without_body(get, where):
    out = get("-v", "-i", where("status/204"), where("status/304"), where("id/z"))
    yield from want("statuses", re.findall(r"^HTTP/[\d.]+ (\d+)", out.stdout, re.M), ["204", "304", "200"])
    yield from want("connections reused after 204 and 304", reuses(out), 2)
    yield from want_part("the body behind them", out.stdout, "\nz$")
    out = get("-v", "-i", "-X", "HEAD", where("bytes/100000"), where("bytes/100000"))
    yield from want(f"HEAD twice: {out.stderr}", (out.returncode, reuses(out)), (0, 1))
    yield from want_part("its head", out.stdout.lower(), "content-length: 100000")


def check_large_bodies(get, where, folder, expectations):
    sent, came = os.path.join(folder, "sent"), os.path.join(folder, "came")
    for arguments in expectations:
        out = get("-X", "PUT", *arguments, "-d", "@" + sent, "-o", came, where("echo?only_body=1"))
        yield from want(f"{arguments} up and down: {out.stderr}", (out.returncode, digest(came)), (0, digest(sent)))


def check_early_answer(get, where, folder):
    """Twice: what is left of the first must not get in the way of the second."""
    out = get("-i", "-d", "@" + os.path.join(folder, "sent"), where("small/x"), where("small/y"))
    yield from want(f"an early answer: {out.stderr}",
                    (out.returncode, re.findall(r"^HTTP/[\d.]+ (\d+)", out.stdout, re.M)), (0, ["413", "413"]))


def check_no_answer(get, where, folder):
    out = get("-d", "@" + os.path.join(folder, "sent"), where("rude/x"))
    yield from want(f"exit status without an answer: {out.stderr}", out.returncode, 3)
    yield from want_part("the reason", out.stderr, "IL_EPEERCLOSED|IL_EPROTOCOL")
    if "IL_ETIMEDOUT" in out.stderr:
        yield f"that took its time: {out.stderr}"


def check_exchanges(configure, version, protocol):
    with Server(configure, version, protocol) as server:
        folder, where = server.folder, server.url
        option = VERSION_OPTIONS[version, protocol]
        get = functools.partial(get_in, folder, option)
        with open(os.path.join(folder, "sent"), "wb") as file:
            file.write(os.urandom(LARGE))
        out = get("-i", where("id/a"))
        yield from want_part("version", out.stdout, "^HTTP/2 200" if protocol == "h2" else r"^HTTP/1\.1 200")
        yield from check_responses_without_body(get, where)
        # haproxy 2.6 forgets most of an answer if the body has come before it has asked for it, whoever the client is
        yield from check_large_bodies(get, where, folder, [[]] if configure is haproxy else
                                      [[], ["-H", "Expect: 100-continue"]])
        if configure in (nginx, apache2, haproxy):
            yield from check_early_answer(get, where, folder)
        if configure in (nginx, haproxy):
            yield from check_no_answer(get, where, folder)
        if configure in (haproxy, nghttpx):  # the others leave them out
            out = get("-v", where("trailers/2"))
            yield from want(f"trailers: {out.stderr}", len(re.findall(r"(?i)< trailer X-Filler-\d+: v", out.stderr)), 2)
            out = get(where("1xx/2"))
            yield from want(f"behind 103: {out.stderr}", (out.returncode, out.stdout), (0, "final\n"))
        if configure is not haproxy:  # which resets the stream, as it may
            out = get("-i", where("close"))  # the origin is gone without an answer
            yield from want_part(f"what it says of that: {out.stderr}", out.stdout, r"^HTTP/[\d.]+ 50\d")


def check_nghttpd():
    """It sends back what it is sent while it is being sent, a trailer behind it, and speaks nothing but HTTP/2."""
    with Server(nghttpd, CLEAR, "h2") as server:
        sent, came = (os.path.join(server.folder, name) for name in ("sent", "came"))
        with open(sent, "wb") as file:
            file.write(os.urandom(LARGE))
        get = functools.partial(get_in, server.folder, "--http2-prior-knowledge")
        out = get("-v", "-X", "PUT", "-d", "@" + sent, "-o", came, server.url("echo"))
        yield from want(f"up and down: {out.stderr}", (out.returncode, digest(came)), (0, digest(sent)))
        out = get("-v", "-X", "HEAD", server.url("file/small"), server.url("file/small"))
        yield from want(f"HEAD twice: {out.stderr}", (out.returncode, reuses(out)), (0, 1))
        out = get_in(server.folder, "--http1.1", server.url("file/small"))
        yield from want(f"HTTP/1.1 to a server of HTTP/2 only: {out.stderr}", (out.returncode, out.stdout), (3, ""))


def name_of(configure, version, protocol):
    words = f"{configure.__name__} {'HTTP/2' if protocol == 'h2' else protocol} {'in clear' if version == CLEAR else 'over TLS'}"
    return re.sub(r"[^a-z0-9]+", "_", words.lower()) + "_is_understood_in_what_is_delicate"


CHECKS = [(name_of(*it), functools.partial(check_exchanges, *it))
          for it in ((configure, version, protocol) for configure in (nginx, apache2, haproxy, h2o, nghttpx)
                     for version, protocol in VERSION_OPTIONS)]
CHECKS.append(("nghttpd_http_2_in_clear_is_understood_in_what_is_delicate", check_nghttpd))
with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as threads:
    FAULTS = [(name, threads.submit(lambda check=check: list(check())).result) for name, check in CHECKS]
harness.run(FAULTS)
