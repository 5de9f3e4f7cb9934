#!/usr/bin/python3
"""Real aiohttp on real asyncio, hung in the ways the doctor must name, and healthy twins.

usage: aiohttp_peer.py CASE PORT. Prints "ready PID" when the scene stands.
"""
import asyncio
import os
import sys
import threading
import time

import aiohttp

FOR_EVER_S = 3600


def ready():
    print("ready %d" % os.getpid(), flush=True)


async def new_session():
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))


async def get(session, url):
    async with session.get(url) as response:
        return await response.read()


def loop_in_thread():
    """A loop that is driven for ever."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def parked(url):
    """The session's connection belongs to a loop nobody runs; another loop reuses it."""
    first = asyncio.new_event_loop()
    session = first.run_until_complete(new_session())
    first.run_until_complete(get(session, url))
    asyncio.run_coroutine_threadsafe(get(session, url), loop_in_thread())
    time.sleep(0.5)
    ready()
    threading.Event().wait()


def parked_ok(url):
    loop = loop_in_thread()
    session = asyncio.run_coroutine_threadsafe(new_session(), loop).result()
    for _ in range(3):
        asyncio.run_coroutine_threadsafe(get(session, url), loop).result()
    ready()
    threading.Event().wait()


def posted_to_parked(url):
    """A coroutine is handed to a loop that no longer runs."""
    first = asyncio.new_event_loop()
    session = first.run_until_complete(new_session())
    first.run_until_complete(get(session, url))
    asyncio.run_coroutine_threadsafe(get(session, url), first)
    ready()
    threading.Event().wait()


async def ask_and_block(url):
    session = await new_session()
    await get(session, url)
    asyncio.ensure_future(get(session, url))
    await asyncio.sleep(0)
    ready()
    time.sleep(FOR_EVER_S)


def blocked(url):
    asyncio.run(ask_and_block(url))


async def ask_and_use_thread(url):
    session = await new_session()
    asyncio.get_running_loop().run_in_executor(None, time.sleep, FOR_EVER_S)
    ready()
    while True:
        await get(session, url)
        await asyncio.sleep(0.05)


def blocked_ok(url):
    asyncio.run(ask_and_use_thread(url))


async def wait_for_itself(url):
    session = await new_session()
    future = asyncio.run_coroutine_threadsafe(get(session, url), asyncio.get_running_loop())
    ready()
    future.result()


def self_wait(url):
    asyncio.run(wait_for_itself(url))


async def ask_once(url):
    session = await new_session()
    task = asyncio.ensure_future(get(session, url))
    await asyncio.sleep(0.2)
    ready()
    await task


def one_request(url):
    asyncio.run(ask_once(url))


async def ask_always(url):
    session = await new_session()
    ready()
    while True:
        await asyncio.gather(*(get(session, url) for _ in range(4)))
        await asyncio.sleep(0.002)


def busy(url):
    asyncio.run(ask_always(url))


async def rest(url):
    session = await new_session()
    await asyncio.gather(*(get(session, url) for _ in range(4)))
    await asyncio.sleep(0.2)
    ready()
    await asyncio.Event().wait()


def idle(url):
    asyncio.run(rest(url))


CASES = {
    "parked": parked, "parked-ok": parked_ok, "posted-to-parked": posted_to_parked,
    "blocked": blocked, "blocked-ok": blocked_ok, "self-wait": self_wait,
    "one-request": one_request, "busy": busy, "idle": idle,
}

if __name__ == "__main__":
    CASES[sys.argv[1]]("http://127.0.0.1:%s/" % sys.argv[2])
