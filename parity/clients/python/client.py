"""Checks of nats-py, unmodified, against the servers whose settings are given as JSON in the only argument.

How it talks to the test, `checks.py` says.
"""

import asyncio
import ssl
import sys

import nats
import nats.errors

import checks
from checks import SETTINGS, URLS, act, ignore, settled


async def once(server, **options):
    """Connects, with one attempt only and without reconnecting."""
    options.setdefault("error_cb", ignore)
    return await nats.connect(URLS[server], allow_reconnect=False, **options)


async def round_trip(client, subject="greet.world"):
    """Publishes a message and receives it."""
    subscription = await client.subscribe(subject)
    await client.publish(subject, b"hello")
    message = await subscription.next_msg(timeout=5)
    assert (message.subject, message.data) == (subject, b"hello"), message
    await subscription.unsubscribe()


async def accepted(server, **options):
    client = await once(server, **options)
    await round_trip(client)
    await client.close()


async def refused(server, **options):
    """Asserts that the server refuses, and that it says why."""
    try:
        client = await once(server, **options)
    except nats.errors.Error as error:
        assert "authorization violation" in str(error).lower(), repr(error)
    else:
        await client.close()
        raise AssertionError("was let in")


def tls_context(certificate=None):
    context = ssl.create_default_context(cafile=SETTINGS["ca"])
    if certificate:
        paths = SETTINGS["certificates"][certificate]
        context.load_cert_chain(paths["cert"], paths["key"])
    return context


async def next_error(errors, *parts):
    """Waits for the next error and asserts that it is told in these words."""
    text = str(await asyncio.wait_for(errors.get(), 5)).lower()
    for part in parts:
        assert part in text, text


async def connect():
    client = await nats.connect(URLS["plain"])
    assert client.is_connected and client.max_payload == 1024 * 1024
    await settled(client)
    await client.close()


async def publish_subscribe():
    client = await nats.connect(URLS["plain"])
    subscription = await client.subscribe("orders.*.>")
    for number in range(100):
        await client.publish(f"orders.{number}.new.big", str(number).encode())
    await client.publish("orders.short", b"not for us")
    await client.publish("orders.last.one", b"")
    for number in range(100):
        message = await subscription.next_msg(timeout=5)
        assert (message.subject, message.data) == (f"orders.{number}.new.big", str(number).encode()), message
    last = await subscription.next_msg(timeout=5)
    assert (last.subject, last.data) == ("orders.last.one", b""), last
    await client.close()


async def headers():
    client = await nats.connect(URLS["plain"])
    subscription = await client.subscribe("with.headers")
    sent = {"Plain": "value", "With-Spaces": "two words"}
    await client.publish("with.headers", b"body", headers=sent)
    await client.publish("with.headers", b"", headers=sent)
    for body in (b"body", b""):
        message = await subscription.next_msg(timeout=5)
        assert (message.headers, message.data) == (sent, body), message
    await client.close()


async def queue_group():
    client = await nats.connect(URLS["plain"])
    workers = [await nats.connect(URLS["plain"]) for _ in range(3)]
    shares = [await worker.subscribe("work", queue="workers") for worker in workers]
    everything = await client.subscribe("work")
    for worker in workers:
        await settled(worker)
    for number in range(90):
        await client.publish("work", str(number).encode())
    await settled(client)
    seen = []
    for worker, share in zip(workers, shares):
        await settled(worker)
        assert share.pending_msgs > 0, "an idle worker"
        while share.pending_msgs:
            seen.append(int((await share.next_msg(timeout=5)).data))
    assert sorted(seen) == list(range(90)), seen
    assert everything.pending_msgs == 90, everything.pending_msgs
    for each in [client, *workers]:
        await each.close()


async def request_reply():
    client, service = await nats.connect(URLS["plain"]), await nats.connect(URLS["plain"])

    async def answer(message):
        await message.respond(b"re: " + message.data)

    await service.subscribe("ask", cb=answer)
    await settled(service)
    answers = await asyncio.gather(*(client.request("ask", str(n).encode(), timeout=5) for n in range(20)))
    assert [each.data for each in answers] == [f"re: {n}".encode() for n in range(20)], answers
    await client.close()
    await service.close()


async def no_responders():
    client = await nats.connect(URLS["plain"])
    try:
        await client.request("nobody.here", b"", timeout=10)
    except nats.errors.NoRespondersError:
        pass
    else:
        raise AssertionError("an answer")
    await client.close()


async def drain():
    publisher, seen = await nats.connect(URLS["plain"]), []
    client = await nats.connect(URLS["plain"])

    async def slowly(message):
        await asyncio.sleep(0.001)
        seen.append(int(message.data))

    await client.subscribe("drained", cb=slowly)
    await settled(client)
    for number in range(100):
        await publisher.publish("drained", str(number).encode())
    await settled(publisher)
    await client.drain()
    assert client.is_closed and seen == list(range(100)), seen
    await publisher.close()


async def max_payload():
    size = SETTINGS["small_payload"]
    client = await nats.connect(URLS["small"])
    subscription = await client.subscribe("large")
    await client.publish("large", b"x" * size)
    assert len((await subscription.next_msg(timeout=5)).data) == size
    try:
        await client.publish("large", b"x" * (size + 1))
    except nats.errors.MaxPayloadError:
        pass
    else:
        raise AssertionError("was published")
    await client.close()


async def no_auth_user():
    errors = asyncio.Queue()
    client = await once("users", error_cb=errors.put)
    await round_trip(client, "guest.book")
    await client.publish("elsewhere", b"")
    await next_error(errors, "permissions violation for publish", "elsewhere")
    await client.close()


async def permissions_publish():
    errors = asyncio.Queue()
    client = await once("users", user="limited", password="limiteds", error_cb=errors.put)
    await client.publish("denied.publish", b"")
    await next_error(errors, "permissions violation for publish", "denied.publish")
    await round_trip(client, "allowed.subject")
    await client.close()


async def permissions_subscribe():
    errors = asyncio.Queue()
    client = await once("users", user="limited", password="limiteds", error_cb=errors.put)
    await client.subscribe("denied.subscribe")
    await next_error(errors, "permissions violation for subscription", "denied.subscribe")
    await round_trip(client, "allowed.subject")
    await client.close()


async def tls_certificate():
    errors = asyncio.Queue()
    client = await once("mapped", tls=tls_context("alice"), error_cb=errors.put)
    await round_trip(client, "alice.inbox")
    await client.publish("elsewhere", b"")
    await next_error(errors, "permissions violation for publish", "elsewhere")
    await client.close()


async def tls_certificate_missing():
    # What the client makes of the server's alert depends on where it is in the handshake, so any error will do; that
    # the same server lets others in, other checks show.
    try:
        client = await once("mapped", tls=tls_context())
    except (nats.errors.Error, OSError):
        return
    await client.close()
    raise AssertionError("was let in")


async def reconnect():
    reconnected = asyncio.Event()

    async def note():
        reconnected.set()

    client = await nats.connect(URLS["plain"], reconnect_time_wait=0.05, reconnected_cb=note, error_cb=ignore)
    subscription = await client.subscribe("kept")
    await settled(client)
    await act("restart plain")
    await asyncio.wait_for(reconnected.wait(), 10)
    await client.publish("kept", b"still here")
    assert (await subscription.next_msg(timeout=5)).data == b"still here"
    await client.close()


async def lame_duck():
    told = asyncio.Event()

    async def note():
        told.set()

    client = await nats.connect(URLS["lame"], lame_duck_mode_cb=note, error_cb=ignore)
    await act("lame-duck lame")
    await asyncio.wait_for(told.wait(), 10)
    await client.close()


ALICE = {"user": "alice", "password": "alices-password"}
BOB = {"user": "bob", "password": "bobs-password"}

CHECKS = {
    "connect": connect,
    "publish_subscribe": publish_subscribe,
    "headers": headers,
    "queue_group": queue_group,
    "request_reply": request_reply,
    "no_responders": no_responders,
    "drain": drain,
    "max_payload": max_payload,
    "token": lambda: accepted("token", token="the-token"),
    "token_refused": lambda: refused("token", token="another"),
    "password": lambda: accepted("users", **ALICE),
    "password_refused": lambda: refused("users", **ALICE | {"password": "another"}),
    "bcrypt": lambda: accepted("users", **BOB),
    "bcrypt_refused": lambda: refused("users", **BOB | {"password": "another"}),
    "nkey": lambda: accepted("users", nkeys_seed_str=SETTINGS["nkey_seed"]),
    "nkey_refused": lambda: refused("users", nkeys_seed_str=SETTINGS["unknown_nkey_seed"]),
    "no_auth_user": no_auth_user,
    "permissions_publish": permissions_publish,
    "permissions_subscribe": permissions_subscribe,
    "tls": lambda: accepted("tls", tls=tls_context()),
    "tls_certificate": tls_certificate,
    "tls_certificate_missing": tls_certificate_missing,
    "tls_certificate_unknown": lambda: refused("mapped", tls=tls_context("nobody")),
    "reconnect": reconnect,
    "lame_duck": lame_duck,
}


sys.exit(asyncio.run(checks.run(CHECKS)))
