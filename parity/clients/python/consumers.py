"""Checks of consumers; each gets a JetStream context of a connection of its own."""

import asyncio
import datetime
import json

from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import api
from nats.js.errors import NotFoundError

from checks import eventually, refused, settled


async def filled(js, stream, count=10, subject=None, **config):
    """Makes a stream whose messages are the numbers from 1."""
    subject = subject or stream.lower()
    await js.add_stream(name=stream, subjects=[subject, f"{subject}.>"], **config)
    for number in range(1, count + 1):
        await js.publish(subject, str(number).encode())


async def consumer(js, stream, name="one", **config):
    """Makes a pull consumer and returns what fetches from it."""
    await js.add_consumer(stream, durable_name=name, **config)
    return await js.pull_subscribe_bind(name, stream)


async def fetched(subscription, count, timeout=5):
    """Fetches exactly so many messages."""
    messages = []
    while len(messages) < count:
        messages += await subscription.fetch(count - len(messages), timeout=timeout)
    return messages


async def nothing(subscription, timeout=1):
    """Asserts that there is nothing to fetch for a while."""
    try:
        messages = await subscription.fetch(1, timeout=timeout)
    except NatsTimeoutError:
        return
    raise AssertionError(f"{messages}")


def numbers(messages):
    return [int(message.data) for message in messages]


async def consumer_create_info(js):
    await filled(js, "CONSUMER")
    config = api.ConsumerConfig(
        durable_name="one",
        name="one",
        description="all that can be set",
        deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=3,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=12.5,
        max_deliver=7,
        filter_subject="consumer",
        replay_policy=api.ReplayPolicy.INSTANT,
        sample_freq="50%",
        max_waiting=9,
        max_ack_pending=11,
        inactive_threshold=3600,
        metadata={"owner": "parity"},
    )
    created = await js.add_consumer("CONSUMER", config)
    info = await js.consumer_info("CONSUMER", "one")
    for each in (created, info):
        assert (each.name, each.stream_name) == ("one", "CONSUMER"), each
        for field, value in config.as_dict().items():
            got = each.config.as_dict().get(field)
            if field == "metadata":
                got = {key: value for key, value in got.items() if not key.startswith("_nats.")}
            assert got == value, (field, got, value)
        state = (each.num_pending, each.num_ack_pending, each.num_redelivered, each.num_waiting)
        assert state == (8, 0, 0, 0), each
        assert (each.delivered.consumer_seq, each.delivered.stream_seq) == (0, 2), each
        assert (each.ack_floor.consumer_seq, each.ack_floor.stream_seq) == (0, 2), each
    assert info.created == created.created
    again = await js.add_consumer("CONSUMER", config)
    assert again.created == created.created, again
    defaults = (await js.add_consumer("CONSUMER", durable_name="two")).config
    assert (defaults.ack_wait, defaults.max_deliver, defaults.max_waiting) == (30, -1, 512), defaults
    assert (defaults.max_ack_pending, defaults.num_replicas) == (1000, 0), defaults


async def consumer_update(js):
    await filled(js, "CONSUMER_UPDATE")
    await js.add_consumer("CONSUMER_UPDATE", durable_name="one", ack_wait=10)
    update = {"durable_name": "one", "name": "one", "ack_wait": 20, "description": "changed", "max_deliver": 3}
    await js.add_consumer("CONSUMER_UPDATE", **update)
    config = (await js.consumer_info("CONSUMER_UPDATE", "one")).config
    assert (config.ack_wait, config.description, config.max_deliver) == (20, "changed", 3), config
    update["deliver_policy"] = api.DeliverPolicy.NEW
    await refused(10012, js.add_consumer("CONSUMER_UPDATE", **update))


async def consumer_names_list(js):
    await filled(js, "CONSUMER_LIST", 1)
    names = [f"c{number:03}" for number in range(300)]
    for name in names:
        await js.add_consumer("CONSUMER_LIST", name=name, inactive_threshold=300)
    seen = await js.consumers_info("CONSUMER_LIST")
    assert len(seen) == 256, len(seen)
    seen += await js.consumers_info("CONSUMER_LIST", offset=256)
    assert sorted(each.name for each in seen) == names
    assert all(each.num_pending == 1 for each in seen)
    found, offset = [], 0
    while offset < 300:
        request = json.dumps({"offset": offset}).encode()
        answer = json.loads((await js._nc.request("$JS.API.CONSUMER.NAMES.CONSUMER_LIST", request, timeout=5)).data)
        assert answer["total"] == 300 and answer["consumers"], answer
        found += answer["consumers"]
        offset += len(answer["consumers"])
    assert sorted(found) == names
    assert (await js.stream_info("CONSUMER_LIST")).state.consumer_count == 300


async def consumer_delete(js):
    await filled(js, "CONSUMER_DELETE")
    await js.add_consumer("CONSUMER_DELETE", durable_name="one")
    assert await js.delete_consumer("CONSUMER_DELETE", "one")
    await refused(10014, js.consumer_info("CONSUMER_DELETE", "one"))
    await refused(10014, js.delete_consumer("CONSUMER_DELETE", "one"))
    assert (await js.stream_info("CONSUMER_DELETE")).state.consumer_count == 0


async def consumer_errors(js):
    await filled(js, "CONSUMER_ERRORS", 1, max_consumers=1)
    await refused(10059, js.add_consumer("CONSUMER_ERRORS_NOT", durable_name="one"))
    both = {"filter_subject": "consumer_errors", "filter_subjects": ["consumer_errors.a"]}
    await refused(10136, js.add_consumer("CONSUMER_ERRORS", durable_name="one", **both))
    overlap = ["consumer_errors.*", "consumer_errors.a"]
    await refused(10138, js.add_consumer("CONSUMER_ERRORS", durable_name="one", filter_subjects=overlap))
    await refused(10116, js.add_consumer("CONSUMER_ERRORS", durable_name="one", backoff=[1, 2], max_deliver=1))
    request = {"stream_name": "CONSUMER_ERRORS", "config": {"name": "one", "ack_policy": "explicit"}, "action": ""}

    async def create(action, description=""):
        request["action"] = action
        request["config"]["description"] = description
        subject = "$JS.API.CONSUMER.CREATE.CONSUMER_ERRORS.one"
        answer = json.loads((await js._nc.request(subject, json.dumps(request).encode(), timeout=5)).data)
        return answer.get("error", {}).get("err_code")

    assert await create("update") == 10149
    assert await create("create") is None
    assert await create("create", "another") == 10148
    assert await create("update", "another") is None
    await refused(10026, js.add_consumer("CONSUMER_ERRORS", durable_name="two"))


async def pull_fetch(js):
    await filled(js, "FETCH", 25)
    subscription = await js.pull_subscribe("fetch", durable="one", stream="FETCH")
    assert (await js.consumer_info("FETCH", "one")).num_pending == 25
    first = await subscription.fetch(10, timeout=5)
    assert numbers(first) == list(range(1, 11)), first
    for number, message in enumerate(first, 1):
        metadata = message.metadata
        assert (metadata.stream, metadata.consumer, metadata.num_delivered) == ("FETCH", "one", 1), metadata
        assert (metadata.sequence.stream, metadata.sequence.consumer) == (number, number), metadata
        assert metadata.num_pending == 25 - number and metadata.domain is None, metadata
        assert message.subject == "fetch"
        await message.ack()
    assert numbers(await subscription.fetch(100, timeout=2)) == list(range(11, 26))
    info = await js.consumer_info("FETCH", "one")
    assert (info.num_pending, info.num_ack_pending, info.delivered.stream_seq) == (0, 15, 25), info
    waiting = asyncio.create_task(subscription.fetch(1, timeout=10))
    await asyncio.sleep(0.3)
    await js.publish("fetch", b"26")
    assert numbers(await waiting) == [26]


async def pull_expires(js):
    await filled(js, "EXPIRES", 2)
    await js.add_consumer("EXPIRES", durable_name="one", max_waiting=1)
    inbox = await js._nc.subscribe("expires_inbox")

    async def pull(**request):
        await js._nc.publish("$JS.API.CONSUMER.MSG.NEXT.EXPIRES.one", json.dumps(request).encode(), "expires_inbox")

    async def status():
        message = await inbox.next_msg(timeout=5)
        return message.data or (message.headers["Status"], message.headers["Description"])

    await pull(batch=3, no_wait=True)
    seen = [await status() for _ in range(3)]
    assert seen == [b"1", b"2", ("404", "No Messages")], seen
    await pull(no_wait=True)
    seen = await status()
    assert seen == ("404", "No Messages"), seen
    await pull(batch=5, expires=1_000_000_000, idle_heartbeat=300_000_000)
    await settled(js._nc)
    info = await js.consumer_info("EXPIRES", "one")
    assert info.num_waiting == 1, info
    await pull(batch=1, expires=1_000_000_000)
    seen = []
    while not seen or seen[-1][0] != "408":
        seen.append(await status())
    assert seen[0] == ("409", "Exceeded MaxWaiting"), seen
    assert ("100", "Idle Heartbeat") in seen and seen[-1] == ("408", "Request Timeout"), seen


async def pull_consume(js):
    """This client has no endless pull, so two fetchers share the work until all is done."""
    await filled(js, "CONSUME", 0)
    await js.add_consumer("CONSUME", durable_name="one")
    seen = []

    async def work():
        subscription = await js.pull_subscribe_bind("one", "CONSUME")
        while len(seen) < 1000:
            try:
                for message in await subscription.fetch(50, timeout=1, heartbeat=0.3):
                    seen.append(int(message.data))
                    await message.ack()
            except NatsTimeoutError:
                pass

    workers = [asyncio.create_task(work()) for _ in range(2)]
    futures = [await js.publish_async("consume", str(number).encode()) for number in range(1000)]
    await asyncio.gather(*futures)
    await asyncio.gather(*workers)
    assert sorted(seen) == list(range(1000)), len(seen)

    async def done():
        info = await js.consumer_info("CONSUME", "one")
        return (info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq) == (0, 0, 1000)

    await eventually(done)


async def pull_max_bytes(js):
    await js.add_stream(name="MAX_BYTES", subjects=["max_bytes"])
    for _ in range(10):
        await js.publish("max_bytes", b"x" * 1000)
    await js.add_consumer("MAX_BYTES", durable_name="one")
    inbox = await js._nc.subscribe("max_bytes_inbox")
    request = b'{"batch": 10, "max_bytes": 3500, "expires": 2000000000}'
    await js._nc.publish("$JS.API.CONSUMER.MSG.NEXT.MAX_BYTES.one", request, "max_bytes_inbox")
    messages = [await inbox.next_msg(timeout=5) for _ in range(4)]
    assert [len(message.data) for message in messages] == [1000, 1000, 1000, 0], messages
    headers = messages[3].headers
    assert (headers["Status"], headers["Description"]) == ("409", "Message Size Exceeds MaxBytes"), headers
    assert headers["Nats-Pending-Messages"] == "7" and int(headers["Nats-Pending-Bytes"]) > 0, headers


async def pull_consumer_deleted(js):
    await filled(js, "GONE", 0)
    await js.add_consumer("GONE", durable_name="one")
    inbox = await js._nc.subscribe("gone_inbox")
    request = b'{"batch": 10, "expires": 20000000000}'
    await js._nc.publish("$JS.API.CONSUMER.MSG.NEXT.GONE.one", request, "gone_inbox")
    await settled(js._nc)
    await js.delete_consumer("GONE", "one")
    headers = (await inbox.next_msg(timeout=5)).headers
    assert (headers["Status"], headers["Description"]) == ("409", "Consumer Deleted"), headers
    await js._nc.publish("$JS.API.CONSUMER.MSG.NEXT.GONE.one", request, "gone_inbox")
    assert (await inbox.next_msg(timeout=5)).headers["Status"] == "503"


async def push_consumer(js):
    await filled(js, "PUSH", 20)
    subscription = await js.subscribe("push", durable="one", stream="PUSH", manual_ack=True)
    messages = [await subscription.next_msg(timeout=5) for _ in range(20)]
    assert numbers(messages) == list(range(1, 21)), messages
    for message in messages[:19]:
        await message.ack()
    await messages[19].ack_sync(timeout=5)
    info = await js.consumer_info("PUSH", "one")
    assert info.push_bound and (info.num_ack_pending, info.ack_floor.stream_seq) == (0, 20), info
    try:
        await js.subscribe("push", durable="one", stream="PUSH")
    except Exception as error:
        assert "already bound" in str(error), error
    else:
        raise AssertionError("bound twice")
    await subscription.unsubscribe()

    async def unbound():
        return not (await js.consumer_info("PUSH", "one")).push_bound

    await eventually(unbound)
    await js.publish("push", b"21")
    # It goes on where it was once somebody listens again.
    again = await js.subscribe("push", durable="one", stream="PUSH")
    assert numbers([await again.next_msg(timeout=5)]) == [21]


async def push_queue_group(js):
    await filled(js, "QUEUE", 0)
    shares = [[], [], []]

    def worker(share):
        async def work(message):
            share.append(int(message.data))

        return work

    for share in shares:
        await js.subscribe("queue", queue="workers", stream="QUEUE", cb=worker(share))
    for number in range(90):
        await js.publish("queue", str(number).encode())

    async def all_seen():
        return sum(map(len, shares)) >= 90

    await eventually(all_seen)
    assert sorted(sum(shares, [])) == list(range(90)) and all(shares), shares
    assert (await js.consumer_info("QUEUE", "workers")).config.deliver_group == "workers"


async def push_flow_control(js):
    await js.add_stream(name="FLOW", subjects=["flow"], storage=api.StorageType.MEMORY)
    futures = [await js.publish_async("flow", bytes(8192)) for _ in range(2000)]
    await asyncio.gather(*futures)
    seen, beats = [], []

    async def work(message):
        seen.append(message.metadata.sequence.stream)

    await js.subscribe(
        "flow",
        stream="FLOW",
        cb=work,
        idle_heartbeat=0.5,
        flow_control=True,
        config=api.ConsumerConfig(ack_policy=api.AckPolicy.NONE),
    )

    async def all_seen():
        return len(seen) >= 2000

    await eventually(all_seen, 40)
    assert seen == list(range(1, 2001)), len(seen)
    beat = await js._nc.subscribe("flow_beats")
    await js.add_consumer("FLOW", name="beats", deliver_subject="flow_beats", idle_heartbeat=0.2, opt_start_seq=None,
                          deliver_policy=api.DeliverPolicy.NEW, inactive_threshold=100)
    beats = [await beat.next_msg(timeout=5) for _ in range(2)]
    for each in beats:
        assert (each.headers["Status"], each.headers["Description"]) == ("100", "Idle Heartbeat"), each.headers
        last = each.headers["Nats-Last-Consumer"], each.headers["Nats-Last-Stream"]
        assert last == ("0", "2000"), each.headers


async def ordered_consumer(js):
    await filled(js, "ORDERED", 0)
    futures = [await js.publish_async("ordered", str(number).encode()) for number in range(1, 501)]
    await asyncio.gather(*futures)
    subscription = await js.subscribe("ordered", stream="ORDERED", ordered_consumer=True)
    messages = [await subscription.next_msg(timeout=5) for _ in range(500)]
    assert numbers(messages) == list(range(1, 501))
    config = (await subscription.consumer_info()).config
    assert (config.ack_policy, config.max_deliver, config.mem_storage) == ("none", 1, True), config


async def ordered_consumer_recreated(js):
    await filled(js, "REORDERED", 5)
    subscription = await js.subscribe("reordered", stream="REORDERED", ordered_consumer=True, idle_heartbeat=0.5)
    assert numbers([await subscription.next_msg(timeout=5) for _ in range(5)]) == [1, 2, 3, 4, 5]
    gone = (await subscription.consumer_info()).name
    await js.delete_consumer("REORDERED", gone)
    for number in range(6, 11):
        await js.publish("reordered", str(number).encode())
    # This client starts anew one behind the last sequence that it noted itself, which may be an earlier one.
    seen = []
    while not seen or seen[-1] != 10:
        seen += numbers([await subscription.next_msg(timeout=15)])
    assert seen == list(range(seen[0], 11)) and seen[0] <= 6, seen
    assert (await subscription.consumer_info()).name != gone


async def ack_double(js):
    await filled(js, "DOUBLE", 10)
    subscription = await consumer(js, "DOUBLE")
    messages = await fetched(subscription, 10)
    for number in (1, 2, 4):
        await messages[number - 1].ack_sync(timeout=5)
        info = await js.consumer_info("DOUBLE", "one")
        floor = min(number, 2)
        assert (info.ack_floor.stream_seq, info.ack_floor.consumer_seq) == (floor, floor), info
    assert (info.num_ack_pending, info.num_pending) == (7, 0), info
    await messages[2].ack_sync(timeout=5)
    info = await js.consumer_info("DOUBLE", "one")
    assert (info.ack_floor.stream_seq, info.num_ack_pending) == (4, 6), info
    # Acknowledging again is answered as well.
    assert (await js._nc.request(messages[0].reply, b"+ACK", timeout=5)).data == b""


async def ack_removes(js):
    """What is acknowledged is gone from a work queue when the acknowledgement is answered."""
    await filled(js, "REMOVES", 100, retention=api.RetentionPolicy.WORK_QUEUE)
    for left, message in zip(range(99, -1, -1), await fetched(await consumer(js, "REMOVES"), 100)):
        await message.ack_sync(timeout=5)
        state = (await js.stream_info("REMOVES")).state
        assert state.messages == left, (left, state)


async def ack_nak(js):
    await filled(js, "NAK", 3)
    subscription = await consumer(js, "NAK")
    messages = await fetched(subscription, 3)
    await messages[1].nak()
    (again,) = await fetched(subscription, 1)
    assert (numbers([again]), again.metadata.num_delivered) == ([2], 2), again
    assert (again.metadata.sequence.stream, again.metadata.sequence.consumer) == (2, 4), again
    await again.nak(delay=1)
    await nothing(subscription, 0.5)
    (again,) = await fetched(subscription, 1)
    assert (numbers([again]), again.metadata.num_delivered) == ([2], 3), again
    info = await js.consumer_info("NAK", "one")
    assert (info.num_redelivered, info.num_ack_pending) == (1, 3), info


async def ack_term(js):
    advisories = await js._nc.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.TERM.one")
    await filled(js, "TERM", 2)
    subscription = await consumer(js, "TERM", ack_wait=1)
    first, second = await fetched(subscription, 2)
    await first.term()
    await js._nc.request(second.reply, b"+TERM for a reason", timeout=5)
    told = [json.loads((await advisories.next_msg(timeout=5)).data) for _ in range(2)]
    assert [each["stream_seq"] for each in told] == [1, 2], told
    assert told[1]["reason"] == "for a reason" and "reason" not in told[0], told
    assert told[0]["type"] == "io.nats.jetstream.advisory.v1.terminated", told
    await nothing(subscription, 2)
    info = await js.consumer_info("TERM", "one")
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (0, 2), info


async def ack_in_progress(js):
    await filled(js, "PROGRESS", 1)
    subscription = await consumer(js, "PROGRESS", ack_wait=1.5)
    (message,) = await fetched(subscription, 1)
    for _ in range(6):
        await asyncio.sleep(0.5)
        await message.in_progress()
    assert (await js.consumer_info("PROGRESS", "one")).num_redelivered == 0
    (again,) = await fetched(subscription, 1)
    assert again.metadata.num_delivered == 2, again


async def ack_wait(js):
    await filled(js, "WAIT", 3)
    subscription = await consumer(js, "WAIT", ack_wait=1)
    messages = await fetched(subscription, 3)
    await messages[1].ack_sync(timeout=5)
    again = await fetched(subscription, 2)
    assert numbers(again) == [1, 3] and {each.metadata.num_delivered for each in again} == {2}, again
    for each in again:
        await each.ack_sync(timeout=5)
    await nothing(subscription, 1.5)
    info = await js.consumer_info("WAIT", "one")
    assert (info.num_redelivered, info.ack_floor.stream_seq, info.ack_floor.consumer_seq) == (0, 3, 5), info


async def ack_none_all(js):
    await filled(js, "POLICY", 10)
    none = await consumer(js, "POLICY", "none", ack_policy=api.AckPolicy.NONE)
    assert numbers(await fetched(none, 10)) == list(range(1, 11))
    info = await js.consumer_info("POLICY", "none")
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (0, 10), info
    every = await consumer(js, "POLICY", "all", ack_policy=api.AckPolicy.ALL)
    messages = await fetched(every, 10)
    await messages[6].ack_sync(timeout=5)
    info = await js.consumer_info("POLICY", "all")
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (3, 7), info


async def max_deliver(js):
    advisories = await js._nc.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.DELIVERIES.one")
    await filled(js, "DELIVERIES", 1)
    subscription = await consumer(js, "DELIVERIES", max_deliver=2, ack_wait=0.5)
    assert [(await fetched(subscription, 1))[0].metadata.num_delivered for _ in range(2)] == [1, 2]
    await nothing(subscription, 2)
    told = json.loads((await advisories.next_msg(timeout=5)).data)
    assert (told["stream_seq"], told["deliveries"]) == (1, 2), told
    assert told["type"] == "io.nats.jetstream.advisory.v1.max_deliver", told


async def backoff(js):
    await filled(js, "BACKOFF", 1)
    subscription = await consumer(js, "BACKOFF", max_deliver=4, backoff=[0.5, 1, 2])
    clock, times = asyncio.get_running_loop().time, []
    for delivered in range(1, 5):
        (message,) = await fetched(subscription, 1)
        assert message.metadata.num_delivered == delivered, message
        times.append(clock())
    gaps = [after - before for before, after in zip(times, times[1:])]
    assert all(wanted - 0.2 < gap < wanted + 2 for gap, wanted in zip(gaps, (0.5, 1, 2))), gaps


async def max_ack_pending(js):
    await filled(js, "PENDING", 10)
    subscription = await consumer(js, "PENDING", max_ack_pending=3)
    messages = await subscription.fetch(10, timeout=1)
    assert numbers(messages) == [1, 2, 3], messages
    await nothing(subscription, 0.5)
    await messages[0].ack_sync(timeout=5)
    assert numbers(await fetched(subscription, 1)) == [4]


async def filters(js):
    await filled(js, "FILTERS", 0)
    for number in range(1, 13):
        await js.publish(f"filters.{'abcd'[number % 4]}.x", str(number).encode())
    one = await consumer(js, "FILTERS", "one", filter_subject="filters.b.*")
    assert (await js.consumer_info("FILTERS", "one")).num_pending == 3
    assert numbers(await fetched(one, 3)) == [1, 5, 9]
    many = await consumer(js, "FILTERS", "many", filter_subjects=["filters.a.x", "filters.c.>"])
    info = await js.consumer_info("FILTERS", "many")
    assert info.num_pending == 6 and info.config.filter_subjects == ["filters.a.x", "filters.c.>"], info
    assert numbers(await fetched(many, 6)) == [2, 4, 6, 8, 10, 12]
    named = await js.add_consumer("FILTERS", name="named", filter_subject="filters.d.>", inactive_threshold=60)
    assert named.num_pending == 3 and named.config.filter_subject == "filters.d.>", named


async def deliver_policies(js):
    await filled(js, "START", 0)
    for number in range(1, 5):
        await js.publish(f"start.{number % 2}", str(number).encode())
    await asyncio.sleep(0.1)
    middle = datetime.datetime.now(datetime.timezone.utc)
    await asyncio.sleep(0.1)
    for number in range(5, 9):
        await js.publish(f"start.{number % 2}", str(number).encode())
    policy = api.DeliverPolicy
    cases = {
        "all": ({"deliver_policy": policy.ALL}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        "last": ({"deliver_policy": policy.LAST}, [8, 9]),
        "new": ({"deliver_policy": policy.NEW}, [9]),
        "sequence": ({"deliver_policy": policy.BY_START_SEQUENCE, "opt_start_seq": 6}, [6, 7, 8, 9]),
        "time": ({"deliver_policy": policy.BY_START_TIME, "opt_start_time": middle}, [5, 6, 7, 8, 9]),
        "each": ({"deliver_policy": policy.LAST_PER_SUBJECT, "filter_subject": "start.*"}, [7, 8, 9]),
    }
    subscriptions = {name: await consumer(js, "START", name, **config) for name, (config, _) in cases.items()}
    await js.publish("start.1", b"9")
    for name, (_, wanted) in cases.items():
        info = await js.consumer_info("START", name)
        assert info.num_pending == len(wanted), (name, info)
        got = numbers(await fetched(subscriptions[name], len(wanted)))
        assert got == wanted, (name, got)


async def headers_only(js):
    await filled(js, "HEADERS", 0)
    await js.publish("headers", b"x" * 1000, headers={"Kept": "yes"})
    subscription = await consumer(js, "HEADERS", headers_only=True)
    (message,) = await fetched(subscription, 1)
    assert message.data == b"" and message.headers == {"Kept": "yes", "Nats-Msg-Size": "1000"}, message


async def pause(js):
    await filled(js, "PAUSE", 3)
    subscription = await consumer(js, "PAUSE")
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=60)
    paused = await js.pause_consumer("PAUSE", "one", until.isoformat().replace("+00:00", "Z"))
    assert paused.paused, paused
    assert (await js.consumer_info("PAUSE", "one")).paused
    await nothing(subscription, 0.5)
    resumed = await js.resume_consumer("PAUSE", "one")
    assert not resumed.paused, resumed
    assert numbers(await fetched(subscription, 3)) == [1, 2, 3]
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    await js.publish("pause", b"4")
    await js.pause_consumer("PAUSE", "one", until.isoformat().replace("+00:00", "Z"))
    assert numbers(await fetched(subscription, 1)) == [4]
    assert datetime.datetime.now(datetime.timezone.utc) >= until


async def inactive_threshold(js):
    await filled(js, "INACTIVE", 1)
    await js.add_consumer("INACTIVE", name="one", inactive_threshold=1)
    await js.add_consumer("INACTIVE", durable_name="stays")

    async def gone():
        try:
            await js.consumer_info("INACTIVE", "one")
        except NotFoundError:
            return True

    await eventually(gone)
    await js.consumer_info("INACTIVE", "stays")
