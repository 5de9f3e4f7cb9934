#!/usr/bin/python3
"""Real servers are told to read their configuration again, which makes them leave their connections in order (GOAWAY)
and begin anew, while `interloop bench` sends requests over them in HTTP/2 from two runtimes. No GET fails. No POST
fails with a server that says which ones it has acted on, and the origin behind it, which counts, sees each one once.

apache2 (2.4.71) announces that it will go and then closes young connections without saying how far it has come, a few
without having announced it. A POST of which that cannot be known must fail, and none may come twice; a GET may fail
only where nothing was announced."""
import asyncio
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from interop import EXE, Server, apache2, haproxy, harness, nghttpx, nginx  # noqa: E402

RATE, RELOADS = 300, 4
RELOAD_EVERY_S = {nginx: 0.35, apache2: 0.8, haproxy: 0.35, nghttpx: 0.35}  # apache2 takes its time
SIGNALS = {nginx: signal.SIGHUP, apache2: signal.SIGUSR1, haproxy: signal.SIGUSR2, nghttpx: signal.SIGHUP}


class Origin(threading.Thread):
    """A web server that counts the requests for each path, on a thread of its own."""

    def __init__(self):
        super().__init__(daemon=True)
        self.counts, self.loop, self.ready = {}, asyncio.new_event_loop(), threading.Event()
        self.start()
        self.ready.wait()

    async def serve(self, reader, writer):
        try:
            while line := await reader.readline():
                size = 0
                while (header := (await reader.readline()).strip().lower()) != b"":
                    if header.startswith(b"content-length:"):
                        size = int(header[15:])
                await reader.readexactly(size)
                path = line.split(b" ")[1]
                self.counts[path] = self.counts.get(path, 0) + 1
                await asyncio.sleep(0.005)  # so that there are some under way at any time
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # what it wanted to say was not a request
        writer.close()

    def run(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(self.loop), return_exceptions=True))
        self.loop.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join()


def run_bench(server, method, count):
    """Its result, and how often the server was reloaded meanwhile."""
    bench = subprocess.Popen(
        [EXE, "bench", "--json", "-c", "40", "-r", "2", "-n", str(count), "-q", str(RATE), "-X", method, "--cacert",
         os.path.join(server.folder, "ca.pem"), server.url(method)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    reloads = 0
    while reloads < RELOADS and bench.poll() is None:
        time.sleep(RELOAD_EVERY_S[server.configure])
        server.front.send_signal(SIGNALS[server.configure])
        reloads += 1
    out, errors = bench.communicate(timeout=60)
    if not out:
        raise RuntimeError(errors)
    return json.loads(out), reloads


def check_reload(configure):
    origin = Origin()
    try:
        with Server(configure, "TLSv1.3", "h2", origin.port) as server:
            for method in "GET", "POST":
                count = int(RATE * RELOAD_EVERY_S[configure] * (RELOADS + 1))
                result, reloads = run_bench(server, method, count)
                answered, seen = result["answered"], origin.counts.get(f"/{method}".encode(), 0)
                said = f"{method}: {reloads} reloads, {result['connections']}, {result['errors']}, the origin saw {seen}"
                if reloads < RELOADS or result["connections"]["opened"] < 2:
                    yield f"{said}: that was not often enough"
                wanted = count if configure is not apache2 else count * 99 // 100 if method == "GET" else 0
                if answered < wanted or answered + result["failed"] != count:
                    yield f"{said}: {answered} of {count} answered, want {wanted} at least"
                if method == "POST" and not answered <= seen <= count:
                    yield f"{said}, of {answered} answered and {count} sent"
    finally:
        origin.stop()


# All at once: they mostly wait.
with concurrent.futures.ThreadPoolExecutor(len(SIGNALS)) as threads:
    FAULTS = {it: threads.submit(lambda server=it: list(check_reload(server))) for it in SIGNALS}
harness.run([(f"{it.__name__}_that_is_reloaded_again_and_again_costs_no_request_and_doubles_none", FAULTS[it].result)
             for it in SIGNALS])
