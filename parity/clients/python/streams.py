"""Checks of streams and of what is published to them; each gets a JetStream context of a connection of its own."""

import asyncio
import json

from nats.errors import MaxPayloadError
from nats.js import api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from checks import eventually, refused


async def sequences(js, stream):
    """Returns the sequences that a stream has, by asking for one after the other."""
    state = (await js.stream_info(stream)).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        try:
            await js.get_msg(stream, sequence)
            found.append(sequence)
        except NotFoundError:
            pass
    assert len(found) == state.messages, (found, state)
    return found


async def account_info(js):
    before = await js.account_info()
    await js.add_stream(name="ACCOUNT", subjects=["account"], storage=api.StorageType.FILE)
    await js.add_consumer("ACCOUNT", durable_name="one")
    await js.publish("account", b"x" * 100)
    after = await js.account_info()
    assert after.streams == before.streams + 1 and after.consumers == before.consumers + 1, after
    assert after.storage > before.storage + 100, (before, after)
    assert after.api.total > before.api.total and after.api.level >= 1, after
    assert after.limits.max_streams == -1 and after.limits.max_ack_pending == -1, after
    await js.delete_stream("ACCOUNT")
    assert (await js.account_info()).storage == before.storage


async def stream_create_info(js):
    config = api.StreamConfig(
        name="CREATE",
        description="all that can be set",
        subjects=["create.*", "created.>"],
        retention=api.RetentionPolicy.LIMITS,
        max_consumers=10,
        max_msgs=1000,
        max_bytes=1 << 20,
        max_age=3600,
        max_msgs_per_subject=100,
        max_msg_size=1000,
        discard=api.DiscardPolicy.NEW,
        storage=api.StorageType.FILE,
        duplicate_window=60,
        compression=api.StoreCompression.S2,
        first_seq=100,
        allow_direct=True,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
        deny_delete=True,
        metadata={"owner": "parity"},
        consumer_limits=api.StreamConsumerLimits(inactive_threshold=100, max_ack_pending=50),
    )
    created = await js.add_stream(config)
    assert created.did_create, created
    info = await js.stream_info("CREATE")
    for each in (created.config, info.config):
        for field, value in config.as_dict().items():
            got = each.as_dict().get(field)
            if field == "metadata":
                got = {key: value for key, value in got.items() if not key.startswith("_nats.")}
            assert got == value, (field, got, value)
        assert each.num_replicas == 1 and each.discard_new_per_subject is False, each
    assert (info.state.messages, info.state.first_seq, info.state.last_seq) == (0, 100, 99), info.state
    assert info.created == created.created
    # The same once more is no error and changes nothing.
    again = await js.add_stream(config)
    assert again.created == created.created and again.state == created.state, again
    assert (await js.publish("created.by.me", b"")).seq == 100


async def stream_update(js):
    await js.add_stream(name="UPDATE", subjects=["update.a"], max_msgs=10)
    for _ in range(10):
        await js.publish("update.a", b"")
    updated = await js.update_stream(
        name="UPDATE", subjects=["update.a", "update.b"], max_msgs=4, description="changed", max_age=100
    )
    assert updated.config.subjects == ["update.a", "update.b"] and updated.config.description == "changed", updated
    assert updated.config.max_age == 100 and updated.config.max_msgs == 4, updated
    assert (await js.stream_info("UPDATE")).state.first_seq == 7
    assert (await js.publish("update.b", b"")).seq == 11
    await refused(10052, js.update_stream(name="UPDATE", subjects=["update.a"], storage=api.StorageType.MEMORY))
    await refused(10059, js.update_stream(name="UPDATE_MISSING", subjects=["update.c"]))


async def stream_names_list(js):
    for number in range(300):
        await js.add_stream(name=f"LIST_{number}", subjects=[f"list.{number}"], storage=api.StorageType.MEMORY)
    seen, offset = [], 0
    while True:
        page = await js.streams_info(offset)
        if not page:
            break
        seen += [each.config.name for each in page]
        offset += len(page)
    assert [name for name in seen if name.startswith("LIST_")] == sorted(f"LIST_{n}" for n in range(300)), seen
    pages = await js.streams_info_iterator()
    assert pages.total == len(seen) and len(list(pages)) == 256, pages.total
    assert await js.find_stream_name_by_subject("list.42") == "LIST_42"
    answer = await js._nc.request("$JS.API.STREAM.NAMES", b'{"subject": "list.*", "offset": 290}', timeout=5)
    names = json.loads(answer.data)
    assert (names["total"], names["offset"], len(names["streams"])) == (300, 290, 10), names
    for number in range(300):
        assert await js.delete_stream(f"LIST_{number}")


async def stream_delete(js):
    await js.add_stream(name="DELETE", subjects=["delete"])
    await js.add_consumer("DELETE", durable_name="one")
    await js.publish("delete", b"")
    assert await js.delete_stream("DELETE")
    await refused(10059, js.stream_info("DELETE"))
    await refused(10059, js.delete_stream("DELETE"))
    # A new one of that name has nothing of it.
    info = await js.add_stream(name="DELETE", subjects=["delete"])
    assert (info.state.messages, info.state.last_seq, info.state.consumer_count) == (0, 0, 0), info
    await refused(10014, js.consumer_info("DELETE", "one"))


async def stream_errors(js):
    await js.add_stream(name="ERRORS", subjects=["errors.*"])
    await refused(10058, js.add_stream(name="ERRORS", subjects=["errors.other"]))
    await refused(10065, js.add_stream(name="ERRORS_TOO", subjects=["errors.>"]))
    await refused(10052, js.add_stream(name="ERRORS_TOO", subjects=["errors..x"]))
    await refused(10074, js.add_stream(name="ERRORS_TOO", subjects=["errors_too"], num_replicas=3))
    await refused(10059, js.stream_info("ERRORS_TOO"))


async def stream_subjects(js):
    await js.add_stream(name="SUBJECTS", subjects=["subjects.>"])
    for number in range(30):
        await js.publish(f"subjects.{number % 3}", b"")
    await js.delete_msg("SUBJECTS", 5)
    await js.delete_msg("SUBJECTS", 6)
    state = (await js.stream_info("SUBJECTS", subjects_filter="subjects.*")).state
    assert state.subjects == {"subjects.0": 10, "subjects.1": 9, "subjects.2": 9}, state
    one = (await js.stream_info("SUBJECTS", subjects_filter="subjects.1")).state
    assert one.subjects == {"subjects.1": 9}, one
    answer = await js._nc.request("$JS.API.STREAM.INFO.SUBJECTS", b'{"deleted_details": true}', timeout=5)
    state = json.loads(answer.data)["state"]
    assert (state["deleted"], state["num_deleted"], state["num_subjects"]) == ([5, 6], 2, 3), state


async def publish_ack(js):
    await js.add_stream(name="ACK", subjects=["ack"])
    for number in range(1, 101):
        ack = await js.publish("ack", str(number).encode(), headers={"Number": str(number)})
        assert (ack.stream, ack.seq, ack.duplicate) == ("ACK", number, None), ack
    message = await js.get_msg("ACK", 42)
    assert (message.subject, message.seq, message.data) == ("ack", 42, b"42"), message
    assert message.headers == {"Number": "42"}, message
    assert len((await js.publish("ack", b"x" * (1024 * 1024))).stream) == 3
    try:
        await js.publish("ack", b"x" * (1024 * 1024 + 1))
    except MaxPayloadError:
        pass
    else:
        raise AssertionError("was published")


async def publish_async(js):
    await js.add_stream(name="ASYNC", subjects=["async"])
    futures = [await js.publish_async("async", str(number).encode()) for number in range(2000)]
    await js.publish_async_completed()
    acks = [future.result().seq for future in futures]
    assert acks == list(range(1, 2001)), acks
    for sequence in (1, 1000, 2000):
        assert (await js.get_msg("ASYNC", sequence)).data == str(sequence - 1).encode()


async def publish_no_stream(js):
    try:
        await js.publish("nobody.stores.this", b"")
    except NoStreamResponseError:
        pass
    else:
        raise AssertionError("was stored")


async def publish_dedup(js):
    await js.add_stream(name="DEDUP", subjects=["dedup"], duplicate_window=1)
    headers = {"Nats-Msg-Id": "one"}
    assert (await js.publish("dedup", b"", headers=headers)).seq == 1
    again = await js.publish("dedup", b"", headers=headers)
    assert (again.seq, again.duplicate) == (1, True), again
    assert (await js.publish("dedup", b"", headers={"Nats-Msg-Id": "two"})).seq == 2
    await asyncio.sleep(1.5)
    later = await js.publish("dedup", b"", headers=headers)
    assert (later.seq, later.duplicate) == (3, None), later


async def publish_expected(js):
    await js.add_stream(name="EXPECTED", subjects=["expected.*"])

    async def publish(subject="expected.a", **headers):
        headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        return (await js.publish(subject, b"", headers=headers)).seq

    assert await publish(Nats_Expected_Stream="EXPECTED", Nats_Msg_Id="first") == 1
    await refused(10060, publish(Nats_Expected_Stream="ANOTHER"))
    assert await publish(Nats_Expected_Last_Sequence=1) == 2
    await refused(10071, publish(Nats_Expected_Last_Sequence=1))
    assert await publish(Nats_Expected_Last_Msg_Id="", subject="expected.b", Nats_Msg_Id="third") == 3
    await refused(10070, publish(Nats_Expected_Last_Msg_Id="first"))
    assert await publish(Nats_Expected_Last_Msg_Id="third", Nats_Msg_Id="fourth") == 4
    assert await publish(Nats_Expected_Last_Subject_Sequence=4) == 5
    await refused(10071, publish(Nats_Expected_Last_Subject_Sequence=4))
    assert await publish(Nats_Expected_Last_Subject_Sequence=0, subject="expected.c") == 6
    await refused(10071, publish(Nats_Expected_Last_Subject_Sequence=0, subject="expected.c"))
    subject = {"Nats_Expected_Last_Subject_Sequence_Subject": "expected.*"}
    assert await publish(Nats_Expected_Last_Subject_Sequence=6, **subject) == 7
    await refused(10071, publish(Nats_Expected_Last_Subject_Sequence=6, **subject))
    assert (await js.stream_info("EXPECTED")).state.last_seq == 7


async def publish_discard_new(js):
    await js.add_stream(
        name="DISCARD", subjects=["discard.*"], discard=api.DiscardPolicy.NEW, max_msgs=3, max_msg_size=10
    )
    for _ in range(3):
        await js.publish("discard.a", b"")
    await refused(10077, js.publish("discard.a", b""))
    await refused(10054, js.publish("discard.a", b"x" * 11))
    await js.delete_msg("DISCARD", 2)
    assert (await js.publish("discard.a", b"")).seq == 4
    await js.add_stream(
        name="DISCARD_EACH",
        subjects=["discard_each.*"],
        discard=api.DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
    )
    assert (await js.publish("discard_each.a", b"")).seq == 1
    await refused(10077, js.publish("discard_each.a", b""))
    assert (await js.publish("discard_each.b", b"")).seq == 2


async def message_ttl(js):
    await js.add_stream(name="TTL", subjects=["ttl.*"], allow_msg_ttl=True, subject_delete_marker_ttl=2)
    # A message lives at least as long as the marker that follows it.
    assert (await js.publish("ttl.short", b"", msg_ttl=1)).seq == 1
    assert (await js.publish("ttl.long", b"", msg_ttl=3600)).seq == 2
    assert (await js.publish("ttl.ever", b"")).seq == 3

    async def marker():
        message = await js.get_last_msg("TTL", "ttl.short")
        return message.seq == 4 and message.headers

    headers = await eventually(marker)
    assert headers["Nats-Marker-Reason"] == "MaxAge" and headers["Nats-TTL"] == "2s", headers
    await refused(404, js.get_msg("TTL", 1))
    assert await sequences(js, "TTL") == [2, 3, 4]
    await refused(10165, js.publish("ttl.bad", b"", headers={"Nats-TTL": "soon"}))
    await js.add_stream(name="TTL_NOT", subjects=["ttl_not"])
    await refused(10166, js.publish("ttl_not", b"", msg_ttl=1))


async def message_get(js):
    await gets(js, "GET", direct=False)


async def direct_get(js):
    await gets(js, "DIRECT", direct=True)
    answer = await js._nc.request("$JS.API.DIRECT.GET.DIRECT.direct.b", b"", timeout=5)
    assert answer.data == b"4" and answer.headers["Nats-Sequence"] == "4", answer
    batch = await js._nc.subscribe("direct_batch")
    request = b'{"seq": 2, "batch": 3, "next_by_subj": "direct.*"}'
    await js._nc.publish("$JS.API.DIRECT.GET.DIRECT", request, reply="direct_batch")
    messages = [await batch.next_msg(timeout=5) for _ in range(4)]
    assert [each.headers.get("Nats-Sequence") for each in messages] == ["2", "3", "4", None], messages
    assert [each.headers.get("Nats-Num-Pending") for each in messages] == ["2", "1", "0", "0"], messages
    assert messages[3].headers["Status"] == "204", messages


async def gets(js, stream, direct):
    prefix = stream.lower()
    await js.add_stream(name=stream, subjects=[f"{prefix}.*"], allow_direct=direct)
    for number, subject in enumerate("abab", 1):
        await js.publish(f"{prefix}.{subject}", str(number).encode(), headers={"Number": str(number)})

    async def got(**request):
        message = await js.get_msg(stream, direct=direct, **request)
        number = message.seq
        assert message.data == str(number).encode() and message.headers["Number"] == str(number), message
        assert message.subject == f"{prefix}." + "abab"[number - 1] and message.time, message
        return number

    assert await got(seq=2) == 2
    assert await got(subject=f"{prefix}.a") == 3
    assert await got(subject=f"{prefix}.b", seq=3, next=True) == 4
    assert await got(subject=f"{prefix}.*", seq=2, next=True) == 2
    for missing in ({"seq": 5}, {"subject": f"{prefix}.c"}, {"subject": f"{prefix}.a", "seq": 4, "next": True}):
        try:
            await got(**missing)
        except NotFoundError:
            pass
        else:
            raise AssertionError(f"{missing} found something")


async def message_delete(js):
    await js.add_stream(name="ERASE", subjects=["erase"])
    for number in range(1, 6):
        await js.publish("erase", str(number).encode())
    assert await js.delete_msg("ERASE", 3)
    assert await js.delete_msg("ERASE", 1)
    answer = await js._nc.request("$JS.API.STREAM.MSG.DELETE.ERASE", b'{"seq": 5, "no_erase": true}', timeout=5)
    assert json.loads(answer.data)["success"], answer
    assert await sequences(js, "ERASE") == [2, 4]
    await refused(10043, js.delete_msg("ERASE", 3))
    assert (await js.publish("erase", b"")).seq == 6
    await js.add_stream(name="ERASE_NOT", subjects=["erase_not"], deny_delete=True, deny_purge=True)
    await js.publish("erase_not", b"")
    await refused(10057, js.delete_msg("ERASE_NOT", 1))
    await refused(10110, js.purge_stream("ERASE_NOT"))


async def purge(js):
    await js.add_stream(name="PURGE", subjects=["purge.*"])
    for number in range(20):
        await js.publish("purge." + "ab"[number % 2], b"")
    assert await js.purge_stream("PURGE", subject="purge.a", keep=3)
    assert await sequences(js, "PURGE") == [2, 4, 6, 8, 10, 12, 14, 15, 16, 17, 18, 19, 20]
    assert await js.purge_stream("PURGE", seq=10)
    assert await sequences(js, "PURGE") == [10, 12, 14, 15, 16, 17, 18, 19, 20]
    assert await js.purge_stream("PURGE", subject="purge.b", seq=18)
    assert await sequences(js, "PURGE") == [15, 17, 18, 19, 20]
    assert await js.purge_stream("PURGE", keep=2)
    assert await sequences(js, "PURGE") == [19, 20]
    assert await js.purge_stream("PURGE")
    state = (await js.stream_info("PURGE")).state
    assert (state.messages, state.first_seq, state.last_seq) == (0, 21, 20), state
    assert (await js.publish("purge.a", b"")).seq == 21


async def limits(js):
    await js.add_stream(name="LIMITS", subjects=["limits.*"], max_msgs=5, max_msgs_per_subject=2)
    for subject in "aaabbbcd":
        await js.publish(f"limits.{subject}", b"")
    assert await sequences(js, "LIMITS") == [3, 5, 6, 7, 8]
    await js.add_stream(name="LIMITS_BYTES", subjects=["limits_bytes"], max_bytes=1000)
    for _ in range(10):
        await js.publish("limits_bytes", b"x" * 200)
    state = (await js.stream_info("LIMITS_BYTES")).state
    assert 3 <= state.messages <= 4 and state.bytes <= 1000 and state.last_seq == 10, state
    await js.add_stream(name="LIMITS_AGE", subjects=["limits_age"], max_age=1)
    await js.publish("limits_age", b"")

    async def empty():
        state = (await js.stream_info("LIMITS_AGE")).state
        return (state.messages, state.first_seq, state.last_seq) == (0, 2, 1)

    await eventually(empty)


async def work_queue(js):
    await js.add_stream(name="WORK", subjects=["work.*"], retention=api.RetentionPolicy.WORK_QUEUE)
    for number in range(10):
        await js.publish("work.a", str(number).encode())
    await refused(10084, js.add_consumer("WORK", durable_name="none", ack_policy=api.AckPolicy.NONE))
    subscription = await js.pull_subscribe("work.a", durable="worker", stream="WORK")
    await refused(10099, js.add_consumer("WORK", durable_name="other"))
    await refused(10100, js.add_consumer("WORK", durable_name="other", filter_subject="work.a"))
    await js.add_consumer("WORK", durable_name="other", filter_subject="work.b")
    for message in await subscription.fetch(6, timeout=5):
        await message.ack_sync()

    async def done():
        state = (await js.stream_info("WORK")).state
        return (state.messages, state.first_seq) == (4, 7)

    await eventually(done)


async def interest(js):
    await js.add_stream(name="INTEREST", subjects=["interest"], retention=api.RetentionPolicy.INTEREST)
    assert (await js.publish("interest", b"")).seq == 1
    assert (await js.stream_info("INTEREST")).state.messages == 0
    subscriptions = [await js.pull_subscribe("interest", durable=name, stream="INTEREST") for name in ("one", "two")]
    for _ in range(4):
        await js.publish("interest", b"")
    for message in await subscriptions[0].fetch(4, timeout=5):
        await message.ack_sync()
    assert (await js.stream_info("INTEREST")).state.messages == 4
    for message in await subscriptions[1].fetch(2, timeout=5):
        await message.ack_sync()

    async def half():
        return (await js.stream_info("INTEREST")).state.messages == 2

    await eventually(half)
    await js.delete_consumer("INTEREST", "two")

    async def empty():
        return (await js.stream_info("INTEREST")).state.messages == 0

    await eventually(empty)


async def transform_republish(js):
    copies = await js._nc.subscribe("copies.>")
    await js.add_stream(
        name="TRANSFORM",
        subjects=["transform.*"],
        subject_transform=api.SubjectTransform(src="transform.*", dest="transformed.{{wildcard(1)}}"),
        republish=api.RePublish(src="transformed.>", dest="copies.>"),
    )
    for number in range(1, 3):
        ack = await js.publish("transform.me", b"hello")
        assert ack.seq == number, ack
        copy = await copies.next_msg(timeout=5)
        assert (copy.subject, copy.data) == ("copies.me", b"hello"), copy
        expected = {
            "Nats-Stream": "TRANSFORM",
            "Nats-Subject": "transformed.me",
            "Nats-Sequence": str(number),
            "Nats-Last-Sequence": str(number - 1),
        }
        assert copy.headers.items() >= expected.items(), copy.headers
    assert (await js.get_msg("TRANSFORM", 1)).subject == "transformed.me"
