"""Checks of key-value and object stores; each gets a JetStream context of a connection of its own."""

import asyncio
import hashlib
import io
import os

from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import api
from nats.js.errors import (
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    LinkIsABucketError,
    NoKeysError,
    NotFoundError,
    ObjectNotFoundError,
)

from checks import eventually, refused


async def raises(error, call):
    """Asserts that a call fails with this error."""
    try:
        answer = await call
    except error as raised:
        return raised
    raise AssertionError(f"{answer}")


async def kv_put_get(js):
    kv = await js.create_key_value(bucket="PUT", history=5, direct=True)
    for number in range(1, 4):
        assert await kv.put("key", str(number).encode()) == number
    assert await kv.put("a/b=c_d.e-f", b"") == 4
    entry = await kv.get("key")
    assert (entry.value, entry.revision, entry.bucket) == (b"3", 3, "PUT"), entry
    assert (await kv.get("key", revision=2)).value == b"2"
    assert not (await kv.get("a/b=c_d.e-f")).value
    await raises(KeyNotFoundError, kv.get("missing"))
    await raises(KeyNotFoundError, kv.get("missing", revision=1))
    bound = await js.key_value("PUT")
    assert (await bound.get("key")).value == b"3"
    await raises(BucketNotFoundError, js.key_value("MISSING"))
    assert await js.delete_key_value("PUT")
    await raises(BucketNotFoundError, js.key_value("PUT"))


async def kv_create_update(js):
    kv = await js.create_key_value(bucket="UPDATES")
    assert await kv.create("key", b"1") == 1
    await raises(KeyWrongLastSequenceError, kv.create("key", b"2"))
    assert await kv.update("key", b"2", last=1) == 2
    await raises(KeyWrongLastSequenceError, kv.update("key", b"3", last=1))
    await kv.delete("key")
    assert await kv.create("key", b"4") == 4
    # Of many who want to change it at once, one does.
    attempts = [kv.update("key", str(number).encode(), last=4) for number in range(20)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert [each for each in outcomes if isinstance(each, int)] == [5], outcomes
    assert all(isinstance(each, (int, KeyWrongLastSequenceError)) for each in outcomes), outcomes


async def kv_delete_purge(js):
    kv = await js.create_key_value(bucket="DELETES", history=10)
    for number in range(3):
        await kv.put("deleted", str(number).encode())
        await kv.put("purged", str(number).encode())
    await raises(Exception, kv.delete("deleted", last=1))
    assert await kv.delete("deleted", last=5)
    assert await kv.purge("purged")
    for key, operation, revisions in (("deleted", "DEL", 4), ("purged", "PURGE", 1)):
        error = await raises(KeyNotFoundError, kv.get(key))
        assert error.op == operation, error
        history = await kv.history(key)
        assert len(history) == revisions and history[-1].operation == operation, history
    await kv.put("kept", b"")
    assert await kv.purge_deletes(olderthan=-1)
    assert await kv.keys() == ["kept"]
    assert (await kv.status()).values == 1


async def kv_history(js):
    kv = await js.create_key_value(bucket="HISTORY", history=4)
    for number in range(10):
        await kv.put("key", str(number).encode())
        await kv.put("other", b"")
    history = await kv.history("key")
    assert [each.value for each in history] == [b"6", b"7", b"8", b"9"], history
    assert [each.revision for each in history] == [13, 15, 17, 19], history
    assert [each.delta for each in history] == [3, 2, 1, 0] and all(each.created for each in history), history
    await raises(NoKeysError, kv.history("missing"))


async def kv_keys(js):
    kv = await js.create_key_value(bucket="KEYS")
    await raises(NoKeysError, kv.keys())
    for number in range(200):
        await kv.put(f"key.{number % 100}", b"x" * 100)
    await kv.delete("key.7")
    keys = await kv.keys()
    assert sorted(keys) == sorted(f"key.{number}" for number in range(100) if number != 7), keys


async def kv_watch(js):
    kv = await js.create_key_value(bucket="WATCH", history=3)
    empty = await kv.watchall()
    assert await empty.updates() is None
    await kv.put("a.one", b"1")
    await kv.put("a.one", b"2")
    await kv.put("b.one", b"3")
    update = await empty.updates()
    assert (update.key, update.value, update.revision) == ("a.one", b"1", 1), update
    watcher = await kv.watch("a.*")
    update = await watcher.updates()
    assert (update.key, update.value, update.revision, update.delta) == ("a.one", b"2", 2, 0), update
    assert await watcher.updates() is None
    await kv.put("a.two", b"4")
    await kv.put("b.two", b"5")
    await kv.delete("a.one")
    await kv.purge("a.two")
    seen = [await watcher.updates() for _ in range(3)]
    assert [(each.key, each.operation) for each in seen] == [
        ("a.two", None), ("a.one", "DEL"), ("a.two", "PURGE")
    ], seen
    await raises(NatsTimeoutError, watcher.updates(timeout=0.3))
    for each in (watcher, empty):
        await each.stop()
    history = await kv.watch("a.one", include_history=True)
    assert [(await history.updates()).revision for _ in range(3)] == [1, 2, 6]
    meta = await kv.watch("b.one", meta_only=True)
    assert not (await meta.updates()).value
    living = await kv.watch(">", ignore_deletes=True)
    assert [(await living.updates()).key for _ in range(2)] == ["b.one", "b.two"]


async def kv_ttl(js):
    kv = await js.create_key_value(bucket="KV_TTL", ttl=1)
    await kv.put("key", b"1")

    async def gone():
        try:
            await kv.get("key")
        except KeyNotFoundError:
            return True

    await eventually(gone)
    assert (await kv.status()).ttl == 1 and (await kv.status()).values == 0


async def kv_limit_markers(js):
    kv = await js.create_key_value(bucket="MARKERS", limit_marker_ttl=2, history=3)
    watcher = await kv.watchall()
    assert await watcher.updates() is None
    await kv.create("key", b"1", msg_ttl=1)
    await kv.create("stays", b"2", msg_ttl=3600)
    seen = [await watcher.updates(timeout=10) for _ in range(3)]
    assert [(each.key, each.operation) for each in seen] == [("key", None), ("stays", None), ("key", "PURGE")], seen
    # This client takes the marker for an entry without a value. It goes too.
    assert not (await kv.get("key")).value

    async def alone():
        return (await kv.status()).values == 1

    await eventually(alone)
    assert (await kv.get("stays")).value == b"2" and (await kv.status()).marker_ttl == 2
    await kv.purge("stays", msg_ttl=1)

    async def empty():
        return (await kv.status()).values == 0

    await eventually(empty)


async def kv_status(js):
    kv = await js.create_key_value(
        bucket="STATUS",
        description="what it is for",
        history=7,
        max_value_size=100,
        max_bytes=10000,
        storage=api.StorageType.MEMORY,
        direct=True,
    )
    await kv.put("one", b"1")
    await kv.put("one", b"2")
    status = await kv.status()
    assert (status.bucket, status.values, status.history, status.ttl) == ("STATUS", 2, 7, 0), status
    config = status.stream_info.config
    assert (config.storage, config.max_msg_size, config.max_bytes) == ("memory", 100, 10000), config
    assert config.allow_rollup_hdrs and config.deny_delete and config.allow_direct and config.discard == "new", config
    assert config.subjects == ["$KV.STATUS.>"] and config.description == "what it is for", config
    await refused(10054, kv.put("large", b"x" * 101))
    await refused(10077, full(kv))


async def full(kv):
    for number in range(1000):
        await kv.put(f"key{number}", b"x" * 100)


async def object_put_get(js):
    store = await js.create_object_store("OBJECTS")
    contents = {"small": b"hello", "empty": b"", "large": os.urandom(3_000_000), "näme/with spaces": b"x" * 200_000}
    for name, data in contents.items():
        info = await store.put(name, data)
        assert (info.size, info.chunks) == (len(data), -(-len(data) // (128 * 1024))), info
    chunked = api.ObjectMeta(description="in pieces", options=api.ObjectMetaOptions(max_chunk_size=1000))
    assert (await store.put("chunked", bytes(10_500), chunked)).chunks == 11
    contents["chunked"] = bytes(10_500)
    for name, data in contents.items():
        result = await store.get(name)
        assert result.data == data, (name, len(result.data))
        assert result.info.size == len(data) and result.info.bucket == "OBJECTS", result.info
    into = io.BytesIO()
    await store.get("large", writeinto=into)
    assert hashlib.sha256(into.getvalue()).digest() == hashlib.sha256(contents["large"]).digest()
    assert (await store.get_info("chunked")).description == "in pieces"
    await raises(ObjectNotFoundError, store.get("missing"))
    status = await store.status()
    assert status.size > 3_200_000 and not status.sealed, status


async def object_list_delete(js):
    store = await js.create_object_store("OBJECT_LIST")
    await raises(NotFoundError, store.list())
    for number in range(20):
        await store.put(f"object{number}", b"x" * 10_000)
    before = (await store.status()).size
    await store.delete("object3")
    assert (await store.status()).size < before - 9000
    await raises(ObjectNotFoundError, store.get("object3"))
    assert (await store.get_info("object3", show_deleted=True)).deleted
    names = sorted(each.name for each in await store.list(ignore_deletes=True))
    assert names == sorted(f"object{number}" for number in range(20) if number != 3), names
    assert len(await store.list()) == 20
    assert await js.delete_object_store("OBJECT_LIST")
    await raises(BucketNotFoundError, js.object_store("OBJECT_LIST"))


async def object_replace(js):
    store = await js.create_object_store("REPLACE")
    for data in (b"1" * 300_000, b"2" * 10):
        await store.put("it", data)
    assert (await store.get("it")).data == b"2" * 10
    # Of the first nothing is left: one chunk and what is said of it.
    state = (await js.stream_info("OBJ_REPLACE")).state
    assert state.messages == 2, state
    await store.update_meta("it", api.ObjectMeta(name="it", description="changed", headers={"a": "b"}))
    info = (await store.get("it")).info
    assert (info.description, info.headers, info.size) == ("changed", {"a": "b"}, 10), info
    assert (await js.stream_info("OBJ_REPLACE")).state.messages == 2


async def object_links(js):
    """This client follows links but can't make any, so the link's description is written as it is stored."""
    store = await js.create_object_store("LINKS")
    await store.put("target", b"hello")
    for name, link in (("link", '{"bucket": "LINKS", "name": "target"}'), ("bucket", '{"bucket": "LINKS"}')):
        subject = "$O.LINKS.M." + {"link": "bGluaw==", "bucket": "YnVja2V0"}[name]
        meta = f'{{"name": "{name}", "bucket": "LINKS", "nuid": "x", "options": {{"link": {link}}}}}'
        await js.publish(subject, meta.encode(), headers={"Nats-Rollup": "sub"})
    info = await store.get_info("link")
    assert info.options.link.name == "target", info
    assert (await store.get("link")).data == b"hello"
    await raises(LinkIsABucketError, store.get("bucket"))
    assert len(await store.list()) == 3


async def object_watch(js):
    store = await js.create_object_store("OBJECT_WATCH")
    await store.put("before", b"1")
    watcher = await store.watch()
    assert (await watcher.updates()).name == "before"
    assert await watcher.updates() is None
    news = await store.watch(updates_only=True)
    await store.put("after", b"2")
    await store.delete("before")
    for each in (watcher, news):
        seen = [await each.updates() for _ in range(2)]
        assert [(one.name, bool(one.deleted)) for one in seen] == [("after", False), ("before", True)], seen
        await each.stop()


async def object_seal(js):
    store = await js.create_object_store("SEALED")
    await store.put("kept", b"1")
    await store.seal()
    assert (await store.status()).sealed
    await refused(10109, store.put("refused", b"2"))
    await raises(Exception, store.delete("kept"))
    assert (await store.get("kept")).data == b"1"
