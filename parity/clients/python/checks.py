"""How a script talks to the test that runs it.

The settings of the servers are JSON in the only argument. A script writes `ok NAME` or `FAIL NAME WHY` per check;
`do ACTION SERVER` asks for something to be done to a server, after which it reads the line `done`.
"""

import asyncio
import json
import sys
import time

import nats
from nats.js.errors import APIError

SETTINGS = json.loads(sys.argv[1])
URLS = SETTINGS["urls"]


async def act(command):
    """Has something done to a server, and waits until it is done."""
    print("do", command, flush=True)
    answer = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    assert answer == "done\n", answer


async def settled(client):
    """Waits until the server has read what the client sent. One flush can't tell: nats-py writes its PING before what
    it still holds back, so that a SUB may come after the PONG."""
    await client.flush()
    await client.flush()


def jetstream(check):
    """Returns a check that gives `check` the JetStream context of a connection of its own."""

    async def connected():
        client = await nats.connect(URLS["js"], error_cb=ignore)
        try:
            await check(client.jetstream(timeout=20))
        finally:
            await client.close()

    return connected


async def refused(code, request):
    """Asserts that the server refuses a request with this error code, or with this code where there is none."""
    try:
        answer = await request
    except APIError as error:
        assert code in (error.err_code, error.code), repr(error)
    else:
        raise AssertionError(f"no error {code} but {answer}")


async def eventually(condition, limit=15):
    """Waits until an asynchronous function returns something true, and returns that."""
    end = time.monotonic() + limit
    while not (answer := await condition()):
        assert time.monotonic() < end, f"never: {condition.__name__}"
        await asyncio.sleep(0.05)
    return answer


async def ignore(_error):
    """Keeps the client from writing errors that a check expects."""


async def run(checks, limit=15):
    """Does all checks, each within `limit` seconds, and returns the exit status."""
    failed = False
    for name, check in checks.items():
        try:
            await asyncio.wait_for(check(), limit)
        except Exception as error:
            failed = True
            print("FAIL", name, " ".join(repr(error).split()), flush=True)
        else:
            print("ok", name, flush=True)
    return 1 if failed else 0
