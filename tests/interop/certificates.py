#!/usr/bin/python3
"""`interloop get` meets servers whose certificate or TLS is not what it should be, played by `openssl s_server`: each is
refused, and what is said names the certificate and the check.

Keys and certificates are made for the occasion by the `openssl` command."""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402

EXE = os.path.abspath(os.path.join(os.environ.get("IL_BUILD", "build"), "interloop"))
SERVER = "extendedKeyUsage=serverAuth"
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"
GOOD = NAMES + "\n" + SERVER
CA = "basicConstraints=critical,CA:TRUE"
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
START_S = 60


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120)


def openssl(*arguments):
    out = run("openssl", *arguments)
    if out.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(arguments)}: {out.stderr}")


class Authority:
    """A folder of certificates, each signed by another one of it."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("ca", "other"):
            openssl("req", "-x509", *EC, "-keyout", self.path(name, "key"), "-out", self.path(name, "pem"), "-days", "2",
                    "-subj", f"/CN={name}")
        self.make("mid", CA)

    def path(self, name, kind):
        return os.path.join(self.folder, f"{name}.{kind}")

    def make(self, name, extensions, ca="ca", key=EC, options=(), dates=None):
        ext, csr, pem = (self.path(name, kind) for kind in ("ext", "csr", "pem"))
        with open(ext, "w", encoding="ascii") as file:
            file.write(extensions + "\n")
        openssl("req", *key, "-keyout", self.path(name, "key"), "-out", csr, "-subj", f"/CN={name}")
        if dates is None:
            openssl("x509", "-req", "-in", csr, "-CA", self.path(ca, "pem"), "-CAkey", self.path(ca, "key"),
                    "-CAcreateserial", "-days", "2", "-extfile", ext, "-out", pem, *options)
            return
        with open(self.path("database", "txt"), "w", encoding="ascii"):
            pass
        with open(self.path("ca", "cnf"), "w", encoding="ascii") as file:
            file.write(f"[ca]\ndefault_ca=it\n[it]\ndatabase={self.path('database', 'txt')}\nrand_serial=yes\n"
                       f"new_certs_dir={self.folder}\ndefault_md=sha256\npolicy=policy\n[policy]\ncommonName=supplied\n")
        openssl("ca", "-batch", "-config", self.path("ca", "cnf"), "-cert", self.path(ca, "pem"), "-keyfile",
                self.path(ca, "key"), "-in", csr, "-out", pem, "-notext", "-startdate", dates[0], "-enddate", dates[1],
                "-extfile", ext)


class Server:
    """`openssl s_server` with one of the certificates, as long as the block lasts."""

    def __init__(self, authority, name, options):
        self.port = harness.free_port()
        self.command = ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-www", "-quiet", "-cert",
                        authority.path(name, "pem"), "-key", authority.path(name, "key"), "-cipher", "ALL:@SECLEVEL=0",
                        *options]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return self
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.__exit__()
                    raise RuntimeError(f"{' '.join(self.command)} does not serve") from error
                time.sleep(0.01)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def check_one(authority, what, name, words, server_options=(), options=None, host="localhost"):
    """`words` None: it is accepted."""
    with Server(authority, name, server_options) as server:
        out = run(EXE, "get", "--max-time", "20",
                  *(["--cacert", authority.path("ca", "pem")] if options is None else options),
                  f"https://{host}:{server.port}/")
    if (out.returncode == 0) != (words is None):
        yield f"{what}: exit status {out.returncode}: {out.stderr}"
    if words is not None and not re.search(words, out.stderr):
        yield f"{what}: {out.stderr!r}, want {words!r} in it"


def with_authority(check):
    if shutil.which("openssl") is None:
        raise harness.Skip("openssl is not installed")
    folder = tempfile.mkdtemp(prefix="interloop-certificates-")
    try:
        yield from check(Authority(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refused(code, subject, depth=0):
    return rf"IL_ECERT, phase tls: [\w.]+:\d+: certificate not accepted: .*{code}.*depth {depth}, subject 'CN={subject}'"


def check_certificates(authority):
    make, path = authority.make, authority.path
    make("good", GOOD)
    yield from check_one(authority, "a good one", "good", None)

    make("elsewhere", "subjectAltName=DNS:a.example,IP:192.0.2.1\n" + SERVER)
    yield from check_one(authority, "another host", "elsewhere",
                         refused("it is for a.example, 192.0.2.1 .X509_V_ERR_HOSTNAME_MISMATCH", "elsewhere"))
    yield from check_one(authority, "another address", "elsewhere", refused("IP_ADDRESS_MISMATCH", "elsewhere"),
                         host="127.0.0.1")
    make("localhost", SERVER)
    yield from check_one(authority, "a common name only", "localhost", refused("no subject alternative name", "localhost"))

    make("old", GOOD, dates=("20200101000000Z", "20210101000000Z"))
    yield from check_one(authority, "an old one", "old", refused("it expired on 2021-01-01 00:00:00Z", "old"))
    make("early", GOOD, dates=("20400101000000Z", "20450101000000Z"))
    yield from check_one(authority, "an early one", "early", refused("it is not valid before 2040-01-01", "early"))

    make("foreign", GOOD, ca="other")
    yield from check_one(authority, "of another CA", "foreign", refused("its issuer is not trusted", "foreign"))
    yield from check_one(authority, "of another CA, which it sends", "foreign",
                         refused("the server's chain ends here", "other", depth=1), ["-cert_chain", path("other", "pem")])
    yield from check_one(authority, "with the system's CAs", "good", refused("its issuer is not trusted", "good"),
                         options=[])
    yield from check_one(authority, "self-signed", "other", refused("it is self-signed", "other"))

    make("client", NAMES + "\nextendedKeyUsage=clientAuth")
    yield from check_one(authority, "a client's", "client", refused("not meant for servers", "client"))
    make("strange", GOOD + "\n1.2.3.4.5=critical,DER:0500")
    yield from check_one(authority, "with an unknown critical extension", "strange",
                         refused("UNHANDLED_CRITICAL_EXTENSION", "strange"))
    make("weak", GOOD, key=["-newkey", "rsa:1024", "-nodes"])
    yield from check_one(authority, "a weak key", "weak", refused("its key of 1024 bits is too weak", "weak"))
    make("sha1", GOOD, options=["-sha1"])
    yield from check_one(authority, "a weak digest", "sha1", refused(r"too weak \(ecdsa-with-SHA1\)", "sha1"))

    yield from check_one(authority, "another key than the pinned one", "good", refused("has none of the 1 pin:", "good"),
                         options=["-k", "--pinnedpubkey", "sha256//" + "A" * 43 + "="])


def check_chains(authority):
    make, path = authority.make, authority.path
    make("leaf", GOOD, ca="mid")
    yield from check_one(authority, "with its intermediate", "leaf", None, ["-cert_chain", path("mid", "pem")])
    yield from check_one(authority, "without its intermediate", "leaf", refused("nor vouched for by what", "leaf"))

    make("nobody", GOOD)
    make("by-nobody", GOOD, ca="nobody")
    yield from check_one(authority, "signed by what is no CA", "by-nobody", refused("but is not a CA's", "nobody", 1),
                         ["-cert_chain", path("nobody", "pem")])

    make("last", CA + ",pathlen:0")
    make("too-far", CA, ca="last")
    make("by-too-far", GOOD, ca="too-far")
    with open(path("far", "pem"), "w", encoding="ascii") as out:
        for name in ("too-far", "last"):
            with open(path(name, "pem"), encoding="ascii") as file:
                out.write(file.read())
    yield from check_one(authority, "a path that is too long", "by-too-far", refused("PATH_LENGTH_EXCEEDED", "last", 2),
                         ["-cert_chain", path("far", "pem")])

    make("narrow", CA + "\nnameConstraints=critical,permitted;DNS:example.org")
    make("by-narrow", GOOD, ca="narrow")
    yield from check_one(authority, "beyond a CA's names", "by-narrow", refused("name constraints", "by-narrow"),
                         ["-cert_chain", path("narrow", "pem")])


def check_handshakes(authority):
    authority.make("good", GOOD)
    ca = authority.path("ca", "pem")
    wants_ours = ["-Verify", "1", "-verify_return_error", "-CAfile", ca]
    for what, words, server_options, options in (
            ("TLS 1.1", "IL_ETLS, phase tls: .*none of the TLS versions offered", ["-tls1_1"], []),
            ("no cipher in common, TLS 1.2", "IL_ETLS, phase tls: .*no cipher in common",
             ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA:@SECLEVEL=0"], []),
            ("no cipher in common, TLS 1.3", "IL_ETLS, phase tls: .*no cipher in common",
             ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256"], []),
            ("a protocol that we did not offer", "IL_ETLS, phase tls: .*none of the protocols offered",
             ["-alpn", "other"], []),
            ("no ALPN", None, [], []),
            ("no ALPN where HTTP/2 is demanded", "IL_EPROTOCOL.*does not speak HTTP/2.*chose no protocol", [],
             ["--http2-prior-knowledge"]),
            ("a server that wants ours, TLS 1.3", "IL_ETLS.*the server wants a certificate of ours", wants_ours, []),
            ("a server that wants ours, TLS 1.2", "IL_ETLS.*or it wants a certificate of ours", [*wants_ours, "-tls1_2"],
             [])):
        yield from check_one(authority, what, "good", words, server_options, ["--cacert", ca, *options])


harness.run([("a_server_s_certificate_is_refused_with_its_name_and_the_check", lambda: with_authority(check_certificates)),
             ("a_chain_is_refused_with_the_certificate_that_breaks_it", lambda: with_authority(check_chains)),
             ("a_handshake_that_fails_says_what_the_server_wants", lambda: with_authority(check_handshakes))])
