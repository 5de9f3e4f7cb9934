#!/usr/bin/python3
"""Real httpx on real asyncio, hung in the ways the doctor must name, and healthy twins.

usage: httpx_peer.py CASE [uvloop] PORT. Prints "ready PID" when the scene stands.
"""
import asyncio
import os
import sys
import threading
import time

import httpx

FOR_EVER_S = 3600


def ready():
    print("ready %d" % os.getpid(), flush=True)


def new_client():
    return httpx.AsyncClient(timeout=None, trust_env=False)


def parked(url):
    """The client's connection belongs to a loop that nobody runs; another loop reuses it."""
    client = new_client()
    first = asyncio.new_event_loop()
    first.run_until_complete(client.get(url))
    task = first.create_task(client.get(url))
    first.run_until_complete(asyncio.sleep(0.05))  # the request is out
    other = asyncio.new_event_loop()
    threading.Thread(target=other.run_forever, daemon=True).start()
    time.sleep(0.5)
    ready()
    threading.Event().wait()
    del task


def parked_ok(url):
    client = new_client()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    for _ in range(3):
        asyncio.run_coroutine_threadsafe(client.get(url), loop).result()
    ready()
    threading.Event().wait()


async def ask_and_block(url):
    client = new_client()
    await client.get(url)
    asyncio.ensure_future(client.get(url))
    await asyncio.sleep(0.05)  # the request is out
    time.sleep(0.5)
    ready()
    time.sleep(FOR_EVER_S)


def blocked(url):
    asyncio.run(ask_and_block(url))


async def ask_and_use_thread(url):
    client = new_client()
    asyncio.get_running_loop().run_in_executor(None, time.sleep, FOR_EVER_S)
    ready()
    while True:
        await client.get(url)
        await asyncio.sleep(0.05)


def blocked_ok(url):
    asyncio.run(ask_and_use_thread(url))


async def ask_once(url):
    client = new_client()
    task = asyncio.ensure_future(client.get(url))
    await asyncio.sleep(0.2)
    ready()
    await task


def one_request(url):
    asyncio.run(ask_once(url))


async def ask_always(url):
    client = new_client()
    ready()
    while True:
        await asyncio.gather(*(client.get(url) for _ in range(4)))


def busy(url):
    asyncio.run(ask_always(url))


CASES = {
    "parked": parked, "parked-ok": parked_ok, "blocked": blocked, "blocked-ok": blocked_ok,
    "one-request": one_request, "busy": busy,
}

if __name__ == "__main__":
    if sys.argv[2] == "uvloop":
        import uvloop
        uvloop.install()
    CASES[sys.argv[1]]("http://127.0.0.1:%s/" % sys.argv[-1])
