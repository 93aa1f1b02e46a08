"""Checks of services, and of what is still there after a restart; each gets a JetStream context."""

import asyncio
import json

from nats.micro import add_service
from nats.micro.service import ServiceError

import nats
from checks import SETTINGS, URLS, act, eventually, ignore, settled


async def echo(request):
    await request.respond(request.data, headers={"Echo": request.subject})


async def broken(_request):
    raise ServiceError("422", "I can't")


async def answers(client, subject):
    """Returns all answers to a question that many hear."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, b"", reply=inbox)
    found = []
    try:
        while True:
            found.append(json.loads((await subscription.next_msg(timeout=1)).data))
    except nats.errors.TimeoutError:
        return found


async def service(client, name, **options):
    made = await add_service(client, name=name, version="1.2.3", description="for a check", **options)
    await made.add_endpoint(name="echo", subject=f"{name}.echo", handler=echo, metadata={"kind": "plain"})
    group = made.add_group(name=f"{name}.group", queue_group="own")
    await group.add_endpoint(name="broken", handler=broken)
    await settled(client)
    return made


async def service_endpoints(js):
    client = js._nc
    made = await service(client, "endpoints")
    answer = await client.request("endpoints.echo", b"hello", timeout=5)
    assert (answer.data, answer.headers) == (b"hello", {"Echo": "endpoints.echo"}), answer
    answer = await client.request("endpoints.group.broken", b"", timeout=5)
    assert answer.headers == {"Nats-Service-Error": "I can't", "Nats-Service-Error-Code": "422"}, answer.headers
    await made.stop()
    await settled(client)
    try:
        await client.request("endpoints.echo", b"", timeout=5)
    except nats.errors.NoRespondersError:
        return
    raise AssertionError("still answers")


async def service_discovery(js):
    client = js._nc
    made = [await service(client, "discovery", metadata={"number": str(number)}) for number in range(3)]
    ids = sorted(each.id for each in made)
    for subject in ("$SRV.PING", "$SRV.PING.discovery", "$SRV.INFO.discovery", "$SRV.STATS.discovery"):
        found = [each for each in await answers(client, subject) if each["name"] == "discovery"]
        assert sorted(each["id"] for each in found) == ids, (subject, found)
    (info,) = await answers(client, f"$SRV.INFO.discovery.{made[1].id}")
    assert (info["type"], info["version"]) == ("io.nats.micro.v1.info_response", "1.2.3"), info
    endpoints = [(each["name"], each["subject"], each["queue_group"]) for each in info["endpoints"]]
    assert endpoints == [("echo", "discovery.echo", "q"), ("broken", "discovery.group.broken", "own")], endpoints
    assert info["metadata"] == {"number": "1"}, info
    for each in made:
        await each.stop()


async def service_stats(js):
    client, other = js._nc, await nats.connect(URLS["js"], error_cb=ignore)
    made = [await service(each, "stats") for each in (client, other)]
    for number in range(40):
        await client.request("stats.echo", str(number).encode(), timeout=5)
    await client.request("stats.group.broken", b"", timeout=5)
    stats = await answers(client, "$SRV.STATS.stats")
    counts = [{each["name"]: each["num_requests"] for each in one["endpoints"]} for one in stats]
    assert len(counts) == 2 and sum(each["echo"] for each in counts) == 40, counts
    assert all(each["echo"] for each in counts), counts
    errors = [each["num_errors"] for one in stats for each in one["endpoints"] if each["name"] == "broken"]
    assert sorted(errors) == [0, 1], errors
    for each in made:
        await each.stop()
    await other.close()


async def restart_stop(js):
    await restarted(js, "STOPPED", "stop js")


async def restart_kill(js):
    await restarted(js, "KILLED", "restart js")


async def restarted(js, name, command):
    """Everything that was answered is there after the server's end, however it came about."""
    subject = name.lower()
    await js.add_stream(name=name, subjects=[f"{subject}.>"], description="kept", duplicate_window=600)
    for number in range(1, 101):
        await js.publish(f"{subject}.a", str(number).encode(), headers={"Nats-Msg-Id": str(number)})
    await js.delete_msg(name, 50)
    await js.add_consumer(name, durable_name="one", ack_wait=60, filter_subject=f"{subject}.a")
    subscription = await js.pull_subscribe_bind("one", name)
    messages = await subscription.fetch(20, timeout=5)
    assert len(messages) == 20, messages
    for message in messages[:10]:
        await message.ack_sync(timeout=5)
    pushed = await js.subscribe(f"{subject}.b", durable="push", stream=name, manual_ack=True)
    kv = await js.create_key_value(bucket=name, history=3)
    for number in range(10):
        await kv.put("key", str(number).encode())
    await kv.delete("key")
    await kv.put("other", b"value")
    objects = await js.create_object_store(name)
    await objects.put("object", bytes(500_000))
    before = await js.stream_info(name)
    reconnects = js._nc.stats["reconnects"]

    if not SETTINGS["durable_acks"]:
        await asyncio.sleep(1)
    await act(command)

    async def back():
        if js._nc.is_connected and js._nc.stats["reconnects"] > reconnects:
            try:
                return await js.stream_info(name)
            except Exception:
                return None

    after = await eventually(back, 30)
    assert after.config == before.config and after.created == before.created, after
    assert (after.state, after.state.messages) == (before.state, 99), (before.state, after.state)
    for sequence in (1, 49, 51, 100):
        message = await js.get_msg(name, sequence)
        assert message.data == str(sequence).encode() and message.headers["Nats-Msg-Id"] == str(sequence), message
    again = await js.publish(f"{subject}.a", b"", headers={"Nats-Msg-Id": "100"})
    assert (again.seq, again.duplicate) == (100, True), again
    assert (await js.publish(f"{subject}.a", b"101")).seq == 101

    info = await js.consumer_info(name, "one")
    assert (info.ack_floor.stream_seq, info.config.ack_wait) == (10, 60), info
    # What was delivered and not acknowledged may come again at once, or after its wait, which an answer ends.
    await js.add_consumer(name, durable_name="one", ack_wait=1, filter_subject=f"{subject}.a")
    seen = set()

    async def all_seen():
        for message in await subscription.fetch(100, timeout=2):
            seen.add(int(message.data))
            await message.ack()
        return seen == set(range(11, 102)) - {50}

    await eventually(all_seen)
    await js.publish(f"{subject}.b", b"pushed")
    assert (await pushed.next_msg(timeout=10)).data == b"pushed"
    assert [each.value for each in await kv.history("key")] == [b"8", b"9", b""]
    assert (await kv.get("other")).value == b"value"
    assert (await objects.get("object")).data == bytes(500_000)
    assert await kv.put("other", b"again") == 13
