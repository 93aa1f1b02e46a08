// Checks of key-value and object stores; each gets a client and a manager of a connection of its own.

"use strict";

const assert = require("node:assert/strict");
const { randomBytes } = require("node:crypto");
const { Kvm } = require("@nats-io/kv");
const { Objm } = require("@nats-io/obj");
const { collect, eventually, refused, take } = require("./checks.cjs");

const bucket = ({ js }, name, options = {}) => new Kvm(js).create(name, options);
const objects = ({ js }, name) => new Objm(js).create(name);
const each = (entries, ...fields) => entries.map((entry) => fields.map((field) => entry[field]));

const checks = {
    async kv_put_get(context) {
        const kv = await bucket(context, "PUT", { history: 5 });
        for (let number = 1; number <= 3; number++) {
            assert.equal(await kv.put("key", String(number)), number);
        }
        assert.equal(await kv.put("a/b=c_d.e-f", ""), 4);
        const entry = await kv.get("key");
        assert.deepEqual([entry.string(), entry.revision, entry.bucket, entry.operation], ["3", 3, "PUT", "PUT"]);
        assert.equal((await kv.get("key", { revision: 2 })).string(), "2");
        assert.equal(await kv.get("missing"), null);
        const bound = await new Kvm(context.js).open("PUT");
        assert.equal((await bound.get("key")).string(), "3");
        assert(await kv.destroy());
        await refused(10059, kv.status());
    },
    async kv_create_update(context) {
        const kv = await bucket(context, "UPDATES");
        assert.equal(await kv.create("key", "1"), 1);
        await refused(10071, kv.create("key", "2"));
        assert.equal(await kv.update("key", "2", 1), 2);
        await refused(10071, kv.update("key", "3", 1));
        await kv.delete("key");
        assert.equal(await kv.create("key", "4"), 4);
        const attempts = Array.from({ length: 20 }, (_, number) => kv.update("key", String(number), 4));
        const outcomes = await Promise.allSettled(attempts);
        assert.equal(outcomes.filter((outcome) => outcome.status === "fulfilled").length, 1);
    },
    async kv_delete_purge(context) {
        const kv = await bucket(context, "DELETES", { history: 10 });
        for (let number = 0; number < 3; number++) {
            await kv.put("deleted", String(number));
            await kv.put("purged", String(number));
        }
        await refused(10071, kv.delete("deleted", { previousSeq: 1 }));
        await kv.delete("deleted", { previousSeq: 5 });
        await kv.purge("purged");
        for (const [key, operation, revisions] of [["deleted", "DEL", 4], ["purged", "PURGE", 1]]) {
            assert.equal((await kv.get(key)).operation, operation);
            const history = await collect(await kv.history({ key }));
            assert.deepEqual([history.length, history.at(-1).operation], [revisions, operation]);
        }
        await kv.put("kept", "");
        await kv.purgeDeletes(0);
        assert.deepEqual(await collect(await kv.keys()), ["kept"]);
        assert.equal((await kv.status()).values, 1);
    },
    async kv_history(context) {
        const kv = await bucket(context, "HISTORY", { history: 4 });
        for (let number = 0; number < 10; number++) {
            await kv.put("key", String(number));
            await kv.put("other", "");
        }
        const history = await collect(await kv.history({ key: "key" }));
        assert.deepEqual(history.map((entry) => entry.string()), ["6", "7", "8", "9"]);
        assert.deepEqual(each(history, "revision", "delta"), [[13, 3], [15, 2], [17, 1], [19, 0]]);
    },
    async kv_keys(context) {
        const kv = await bucket(context, "KEYS");
        assert.deepEqual(await collect(await kv.keys()), []);
        for (let number = 0; number < 200; number++) {
            await kv.put(`key.${number % 100}`, "x".repeat(100));
        }
        await kv.delete("key.7");
        const wanted = Array.from({ length: 100 }, (_, number) => `key.${number}`).filter((key) => key !== "key.7");
        assert.deepEqual((await collect(await kv.keys())).sort(), wanted.sort());
        assert.deepEqual(await collect(await kv.keys("key.8")), ["key.8"]);
    },
    async kv_watch(context) {
        const kv = await bucket(context, "WATCH", { history: 3 });
        await kv.put("a.one", "1");
        await kv.put("a.one", "2");
        await kv.put("b.one", "3");
        const watcher = await kv.watch({ key: "a.*" });
        const updates = await kv.watch({ include: "updates" });
        await kv.put("a.two", "4");
        await kv.put("b.two", "5");
        await kv.delete("a.one");
        await kv.purge("a.two");
        assert.deepEqual(each(await take(watcher, 4), "key", "operation"), [
            ["a.one", "PUT"], ["a.two", "PUT"], ["a.one", "DEL"], ["a.two", "PURGE"],
        ]);
        assert.deepEqual(each(await take(updates, 4), "revision"), [[4], [5], [6], [7]]);
        const history = await kv.watch({ key: "a.one", include: "history" });
        assert.deepEqual(each(await take(history, 3), "revision"), [[1], [2], [6]]);
        const later = await kv.watch({ resumeFromRevision: 5 });
        assert.deepEqual(each(await take(later, 3), "revision"), [[5], [6], [7]]);
        const [meta] = await take(await kv.watch({ key: "b.one", headers_only: true }), 1);
        assert.equal(meta.value.length, 0);
    },
    async kv_ttl(context) {
        const kv = await bucket(context, "KV_TTL", { ttl: 1000 });
        await kv.put("key", "1");
        await eventually("gone", async () => (await kv.get("key")) === null);
        const status = await kv.status();
        assert.deepEqual([status.ttl, status.values], [1000, 0]);
    },
    async kv_limit_markers(context) {
        const kv = await bucket(context, "MARKERS", { markerTTL: 2000, history: 3 });
        const watcher = await kv.watch();
        await kv.create("key", "1", "1s");
        await kv.create("stays", "2", "1h");
        assert.deepEqual(each(await take(watcher, 3), "key", "operation"), [
            ["key", "PUT"], ["stays", "PUT"], ["key", "PURGE"],
        ]);
        await eventually("alone", async () => (await kv.status()).values === 1);
        await kv.purge("stays", { ttl: "1s" });
        await eventually("empty", async () => (await kv.status()).values === 0);
    },
    async kv_status(context) {
        const kv = await bucket(context, "STATUS", {
            description: "what it is for", history: 7, maxValueSize: 100, max_bytes: 10_000, storage: "memory",
        });
        await kv.put("one", "1");
        await kv.put("one", "2");
        const status = await kv.status();
        const got = [status.bucket, status.values, status.history, status.storage, status.maxValueSize, status.max_bytes];
        assert.deepEqual(got, ["STATUS", 2, 7, "memory", 100, 10_000]);
        assert.equal(status.description, "what it is for");
        await refused(10054, kv.put("large", "x".repeat(101)));
        const full = async () => {
            for (let number = 0; number < 1000; number++) {
                await kv.put(`key${number}`, "x".repeat(100));
            }
        };
        await refused(10077, full());
        const names = (await collect(new Kvm(context.js).list())).map((each) => each.bucket);
        assert(names.includes("STATUS"), names);
    },
    async object_put_get(context) {
        const store = await objects(context, "OBJECTS");
        const contents = {
            small: Buffer.from("hello"), empty: Buffer.alloc(0), large: randomBytes(3_000_000),
            "näme/with spaces": Buffer.alloc(200_000, "x"),
        };
        for (const [name, data] of Object.entries(contents)) {
            const info = await store.putBlob({ name }, data);
            assert.deepEqual([info.size, info.chunks], [data.length, Math.ceil(data.length / (128 * 1024))]);
        }
        contents.chunked = Buffer.alloc(10_500);
        const chunked = { name: "chunked", description: "in pieces", options: { max_chunk_size: 1000 } };
        assert.equal((await store.putBlob(chunked, contents.chunked)).chunks, 11);
        for (const [name, data] of Object.entries(contents)) {
            assert(data.equals(await store.getBlob(name)), name);
        }
        const { data, error, info } = await store.get("large");
        const parts = [];
        for await (const part of data) {
            parts.push(part);
        }
        assert(contents.large.equals(Buffer.concat(parts)) && info.size === 3_000_000 && !(await error));
        assert.equal((await store.info("chunked")).description, "in pieces");
        assert.equal(await store.get("missing"), null);
        assert((await store.status()).size > 3_200_000);
    },
    async object_list_delete(context) {
        const store = await objects(context, "OBJECT_LIST");
        assert.deepEqual(await store.list(), []);
        for (let number = 0; number < 20; number++) {
            await store.putBlob({ name: `object${number}` }, Buffer.alloc(10_000, "x"));
        }
        const before = (await store.status()).size;
        assert((await store.delete("object3")).success);
        assert((await store.status()).size < before - 9000);
        assert.equal(await store.get("object3"), null);
        assert((await store.info("object3")).deleted);
        assert.equal((await store.list()).length, 19);
        assert(await store.destroy());
        await assert.rejects(new Objm(context.js).open("OBJECT_LIST"), /not found/);
    },
    async object_replace(context) {
        const store = await objects(context, "REPLACE");
        await store.putBlob({ name: "it" }, Buffer.alloc(300_000, "1"));
        await store.putBlob({ name: "it" }, Buffer.alloc(10, "2"));
        assert.equal((await store.getBlob("it")).length, 10);
        const messages = async () => (await context.jsm.streams.info("OBJ_REPLACE")).state.messages;
        assert.equal(await messages(), 2);
        await store.update("it", { name: "renamed", description: "another name" });
        assert.equal((await store.info("renamed")).description, "another name");
        assert.equal(await store.info("it"), null);
        assert.equal(await messages(), 2);
    },
    async object_links(context) {
        const store = await objects(context, "LINKS");
        const other = await objects(context, "LINKED");
        const target = await store.putBlob({ name: "target" }, Buffer.from("hello"));
        await other.link("link", target);
        await other.linkStore("bucket", store);
        assert.equal(Buffer.from(await other.getBlob("link")).toString(), "hello");
        assert.deepEqual((await other.info("link")).options.link, { bucket: "LINKS", name: "target" });
        assert.equal((await other.list()).length, 2);
    },
    async object_watch(context) {
        const store = await objects(context, "OBJECT_WATCH");
        await store.putBlob({ name: "before" }, Buffer.from("1"));
        const watcher = await store.watch({ includeHistory: true });
        await store.putBlob({ name: "after" }, Buffer.from("2"));
        await store.delete("before");
        const seen = await take(watcher, 3);
        assert.deepEqual(each(seen, "name", "deleted").slice(-2), [["after", false], ["before", true]]);
    },
    async object_seal(context) {
        const store = await objects(context, "SEALED");
        await store.putBlob({ name: "kept" }, Buffer.from("1"));
        assert((await store.seal()).sealed);
        await refused(10109, store.putBlob({ name: "refused" }, Buffer.from("2")));
        await assert.rejects(store.delete("kept"));
        assert.equal(Buffer.from(await store.getBlob("kept")).toString(), "1");
    },
};

module.exports = { checks };
