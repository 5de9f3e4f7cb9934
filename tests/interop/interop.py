"""What the interop tests have in common: real servers as Debian has them, in front of `interloop serve` or another
origin, with certificates and a folder that are made for the occasion; started on loopback as the current user, and
stopped again. A server that is not installed is skipped (make test-interop installs them)."""
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402

EXE = os.path.abspath(os.path.join(os.environ.get("IL_BUILD", "build"), "interloop"))
START_S = 60
CLEAR = "none"  # in place of a TLS version


def find(program):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise harness.Skip(f"{program} is not installed")
    return path


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120)


def get_in(folder, *arguments):
    return run(EXE, "get", "--cacert", os.path.join(folder, "ca.pem"), *arguments)


# ---- certificates ----

def make_certificates(folder):
    """ca.pem, server.pem (certificate and key) and client.pem, of keys that nobody else has."""
    find("openssl")

    def openssl(*arguments):
        out = run("openssl", *arguments)
        if out.returncode != 0:
            raise RuntimeError(f"openssl {' '.join(arguments)}: {out.stderr}")

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca, ca_key = (os.path.join(folder, name) for name in ("ca.pem", "ca.key"))
    openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=Interop CA")
    for name, extension in (("server", "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth"),
                            ("client", "extendedKeyUsage=clientAuth")):
        path = os.path.join(folder, name)
        with open(path + ".ext", "w", encoding="ascii") as file:
            file.write(extension + "\n")
        openssl("req", *new_key, "-keyout", path + ".key", "-out", path + ".csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", path + ".csr", "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
                "-extfile", path + ".ext", "-out", path + ".crt")
        with open(path + ".pem", "w", encoding="ascii") as out:
            for part in (".crt", ".key"):
                with open(path + part, encoding="ascii") as file:
                    out.write(file.read())


# ---- servers ----

# Each gets a folder with certificates, the origin's port, and its own ports: a dictionary by TLS version (CLEAR: none)
# and whether client certificates are demanded. Below /small no upload of 1 MiB is taken (413); below /rude the
# connection, or the stream, ends without an answer.

def nginx(folder, origin, ports, protocol):
    def tls(version, wants):
        return f"""
        ssl_certificate {folder}/server.crt;
        ssl_certificate_key {folder}/server.key;
        ssl_protocols {version};
        ssl_session_cache shared:{version.replace('.', '_')}{int(wants)}:1m;
        {f"ssl_client_certificate {folder}/ca.pem; ssl_verify_client on;" if wants else ""}"""

    servers = "".join(f"""
    server {{
        listen 127.0.0.1:{port}{" ssl" if version != CLEAR else ""}{" http2" if protocol == "h2" else ""};
        {tls(version, wants) if version != CLEAR else ""}
        location / {{
            proxy_pass http://127.0.0.1:{origin};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
        location /file/ {{ alias {folder}/file/; }}
        location /small {{ client_max_body_size 1000; proxy_pass http://127.0.0.1:{origin}; }}
        location /rude {{ return 444; }}
    }}""" for (version, wants), port in ports.items())
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = f"""daemon off;
worker_processes 1;
{"user root;" if os.getuid() == 0 else ""}
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_max_body_size 0;
    {temporary}{servers}
}}
"""
    return config, [find("nginx"), "-p", folder, "-e", "stderr", "-c"]


def apache2(folder, origin, ports, protocol):
    def tls(version, wants):
        return f"""
    SSLEngine on
    SSLCertificateFile {folder}/server.crt
    SSLCertificateKeyFile {folder}/server.key
    SSLProtocol -all +{version}
    {f"SSLCACertificateFile {folder}/ca.pem" if wants else ""}
    {"SSLVerifyClient require" if wants else ""}"""

    program = find("apache2")
    modules = "/usr/lib/apache2/modules"
    load = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in
                   ("mpm_event", "authz_core", "socache_shmcb", "ssl", "http2", "proxy", "proxy_http", "alias"))
    hosts = "".join(f"""
Listen 127.0.0.1:{port} {"https" if version != CLEAR else "http"}
<VirtualHost 127.0.0.1:{port}>
    Protocols {"h2c" if (version, protocol) == (CLEAR, "h2") else protocol}
    {tls(version, wants) if version != CLEAR else ""}
    Redirect 413 /small
    Alias /file/ {folder}/file/
    ProxyPass /file/ !
    ProxyPass /small !
    ProxyPass / http://127.0.0.1:{origin}/
</VirtualHost>""" for (version, wants), port in ports.items())
    config = f"""{load}
ServerName localhost
ServerRoot {folder}
DefaultRuntimeDir {folder}
Mutex file:{folder} default
PidFile {folder}/apache2.pid
ErrorLog /dev/stderr
LogLevel error
KeepAlive On
<Directory {folder}/file>
    Require all granted
</Directory>
SSLSessionCache shmcb:{folder}/sessions(512000)
{hosts}
"""
    if os.getuid() == 0:  # it refuses to serve as root
        config += "User nobody\nGroup nogroup\n"
    return config, [program, "-D", "FOREGROUND", "-f"]


def haproxy(folder, origin, ports, protocol):
    fronts = "".join(f"""
frontend front{number}
    bind 127.0.0.1:{port} """ + (f"ssl crt {folder}/server.pem ssl-min-ver {version} ssl-max-ver {version} alpn {protocol}"
                                 if version != CLEAR else "proto h2" if protocol == "h2" else "")
                     + (f" ca-file {folder}/ca.pem verify required" if wants else "") + """
    http-request deny deny_status 413 if { path_beg /small }
    http-request reject if { path_beg /rude }
    default_backend origin
"""
                     for number, ((version, wants), port) in enumerate(ports.items()))
    config = f"""global
    maxconn 100
    hard-stop-after 10s
    log stderr format raw local0 err
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
{fronts}
backend origin
    server origin 127.0.0.1:{origin}
"""
    return config, [find("haproxy"), "-W", "-db", "-q", "-f"]


def h2o(folder, origin, ports, protocol):
    (version, _), port = next(iter(ports.items()))
    config = f"""listen:
  host: 127.0.0.1
  port: {port}
""" + (f"""  ssl:
    certificate-file: {folder}/server.crt
    key-file: {folder}/server.key
    minimum-version: {version}
""" if version != CLEAR else "") + f"""
{"user: root" if os.getuid() == 0 else ""}
num-threads: 1
http2-reprioritize-blocking-assets: OFF
hosts:
  default:
    paths:
      /file:
        file.dir: {folder}/file
      /:
        proxy.reverse.url: http://127.0.0.1:{origin}/
"""
    return config, [find("h2o"), "-c"]


def nghttpd(folder, origin, ports, protocol):
    """It has no configuration file and no origin: it serves the folder, and sends uploads back."""
    (version, port), = ((version, port) for (version, wants), port in ports.items() if not wants)
    return "", [find("nghttpd"), "--address=127.0.0.1", f"--htdocs={folder}", "--echo-upload",
                "--trailer=checksum: 12", "--max-concurrent-streams=7", "--padding=100",
                *(["--no-tls", str(port)] if version == CLEAR else
                  [str(port), f"{folder}/server.key", f"{folder}/server.crt"])]


def nghttpx(folder, origin, ports, protocol):
    fronts = "".join(f"frontend=127.0.0.1,{port}{';no-tls' if version == CLEAR else ''}\n"
                     for (version, wants), port in ports.items() if not wants)
    config = f"""{fronts}backend=127.0.0.1,{origin}
private-key-file={folder}/server.key
certificate-file={folder}/server.crt
workers=1
accesslog-file=/dev/null
errorlog-file=/dev/stderr
pid-file={folder}/nghttpx.pid
"""
    return config, [find("nghttpx"), "--conf"]


class Server:
    """One of them, with a port for a TLS version, and one more that demands client certificates."""

    def __init__(self, configure, version, protocol, origin=None):
        """`origin`: a port where one serves already; else `interloop serve` does."""
        self.configure, self.version, self.protocol, self.origin_port = configure, version, protocol, origin
        self.ports = {(version, False): harness.free_port()}
        if configure in (nginx, apache2, haproxy) and version != CLEAR:
            self.ports[version, True] = harness.free_port()
        self.processes = []

    def start(self, command, **options):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
        self.processes.append(process)
        return process

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="interloop-interop-")
        try:
            os.chmod(self.folder, 0o755)
            os.mkdir(os.path.join(self.folder, "file"))
            with open(os.path.join(self.folder, "file", "data"), "wb") as file:
                file.write(bytes(range(256)) * 4096)
            with open(os.path.join(self.folder, "file", "small"), "wb") as file:
                file.write(b"small" * 400)
            find(self.configure.__name__)
            make_certificates(self.folder)
            if self.origin_port is None:
                origin = self.start([EXE, "serve", "--json"], stdout=subprocess.PIPE, text=True)
                self.origin_port = json.loads(origin.stdout.readline())["port"]
            config, command = self.configure(self.folder, self.origin_port, self.ports, self.protocol)
            path = os.path.join(self.folder, "config")
            with open(path, "w", encoding="ascii") as file:
                file.write(config)
            self.log = open(os.path.join(self.folder, "log"), "w+", encoding="utf-8", errors="replace")
            self.front = self.start([*command, *([path] if config else [])], stdout=self.log, stderr=self.log)
            self.await_ports()
        except BaseException:
            self.__exit__()
            raise
        return self

    def await_ports(self):
        until = time.monotonic() + START_S
        for port in self.ports.values():
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except OSError as error:
                    if self.front.poll() is not None or time.monotonic() > until:
                        self.log.seek(0)
                        raise RuntimeError(f"{self.configure.__name__} does not serve: {self.log.read()}") from error
                    time.sleep(0.05)

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if hasattr(self, "log"):
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, path, wants=False):
        return f"http{'s' if self.version != CLEAR else ''}://localhost:{self.ports[self.version, wants]}/{path}"


# ---- what is demanded ----

def want(what, actual, wanted):
    if actual != wanted:
        yield f"{what} is {actual!r}, want {wanted!r}"


def want_part(what, actual, part):
    if not re.search(part, actual):
        yield f"{what} is {actual!r}, want {part!r} in it"


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
