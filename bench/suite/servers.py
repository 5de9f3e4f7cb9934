"""servers: which server a workload talks to, and the certificate of those that speak TLS.

Keys and certificates are made anew in the build folder when there are none, or old ones.
"""
import http.client
import json
import os
import shutil
import subprocess
import time

from suite import measure

CERTIFICATE_DAYS = 30
CERTIFICATE_OLD_S = 10 * 86400
HOST = "127.0.0.1"
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
RESUMED_SHARE = 0.98  # of the handshakes that should be: each program's first cannot
FEW = 50              # handshakes of a short run, which do not tell
TIMEOUT_S = 10


def tls_folder(build):
    return os.path.join(build, "bench", "tls")


def ca_file(build):
    return os.path.join(tls_folder(build), "ca.pem")


def _openssl(folder, *words):
    done = subprocess.run(["openssl", *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        raise measure.Failed(f"openssl {' '.join(words)}: {done.stdout[-400:]}")


def make_certificates(build):
    """A CA and, signed by it, a server's certificate for 127.0.0.1: keys on P-256, as most servers have."""
    folder = tls_folder(build)
    made = os.path.join(folder, "server.pem")
    if os.path.exists(made) and time.time() - os.path.getmtime(made) < CERTIFICATE_OLD_S:
        return
    if not shutil.which("openssl"):
        raise measure.Failed("there is no `openssl`, which makes the certificate (Debian: openssl)")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "server.ext"), "w", encoding="ascii") as file:
        file.write(f"subjectAltName=DNS:localhost,IP:{HOST}\nextendedKeyUsage=serverAuth\n")
    days = ["-days", str(CERTIFICATE_DAYS)]
    _openssl(folder, "req", "-x509", *NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", *days, "-subj", "/CN=Bench CA")
    _openssl(folder, "req", *NEW_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=bench")
    _openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", *days,
             "-extfile", "server.ext", "-out", "server.pem")


def for_workload(build, cores, workload):
    """The server, for `with`; one for each workload, so that the next one does not suffer from what this one did to it."""
    folder = os.path.join(build, "bench")
    if not workload.needs_secure():
        return measure.Server(os.path.join(folder, "server"), cores)
    make_certificates(build)
    own = tls_folder(build)
    words = ["--certificate", os.path.join(own, "server.pem"), "--key", os.path.join(own, "server.key")]
    if workload.tls == "1.2":
        words += ["--tls-max", "1.2"]
    if workload.handshakes == "full":
        words += ["--no-resumption"]
    return measure.Server(os.path.join(folder, "server_secure"), cores, words)


def handshakes(server):
    """(full ones, resumed ones) that the server has made so far. The question is asked in clear."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/counts")
        counts = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return counts["full"], counts["resumed"]


def check_handshakes(wanted, name, before, after):
    """Were they of the kind that the workload is about? `before` and `after`: what handshakes() said."""
    full, resumed = (now - then for then, now in zip(before, after))
    share = resumed / max(1, full + resumed)
    if full + resumed == 0 or (share > 0 if wanted == "full" else full + resumed > FEW and share < RESUMED_SHARE):
        raise measure.Failed(f"{name}: {full} full and {resumed} resumed handshakes, where all should be {wanted}")
