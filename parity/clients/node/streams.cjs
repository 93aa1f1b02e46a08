// Checks of streams and of what is published to them; each gets a client and a manager of a connection of its own.

"use strict";

const assert = require("node:assert/strict");
const { headers, nanos } = require("@nats-io/transport-node");
const { collect, eventually, refused, sleep, take } = require("./checks.cjs");

const text = (message) => new TextDecoder().decode(message.data);

/** Returns the sequences that a stream has, by asking for one after the other. */
async function sequences(jsm, stream) {
    const { state } = await jsm.streams.info(stream);
    const found = [];
    for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
        if (await jsm.streams.getMessage(stream, { seq })) {
            found.push(seq);
        }
    }
    assert.equal(found.length, state.messages);
    return found;
}

async function publishAll(js, subject, from, to) {
    const numbers = Array.from({ length: to - from + 1 }, (_, index) => from + index);
    for (const number of numbers) {
        await js.publish(subject, String(number));
    }
}

const request = async (nc, subject, body = {}) =>
    (await nc.request(`$JS.API.${subject}`, JSON.stringify(body), { timeout: 10_000 })).json();

/** Asserts that an object has these fields; of metadata those that the server adds don't count. */
function assertHas(got, wanted) {
    for (const [field, value] of Object.entries(wanted)) {
        if (field === "metadata") {
            assertHas(got.metadata, value);
        } else {
            assert.deepEqual(got[field], value, field);
        }
    }
}

const checks = {
    async account_info({ js, jsm }) {
        const before = await jsm.getAccountInfo();
        await jsm.streams.add({ name: "ACCOUNT", subjects: ["account"] });
        await jsm.consumers.add("ACCOUNT", { durable_name: "one", ack_policy: "explicit" });
        await js.publish("account", "x".repeat(100));
        const after = await jsm.getAccountInfo();
        assert.deepEqual([after.streams, after.consumers], [before.streams + 1, before.consumers + 1]);
        assert(after.storage > before.storage + 100, JSON.stringify(after));
        assert(after.api.total > before.api.total);
        assertHas(after.limits, { max_streams: -1, max_consumers: -1, max_memory: -1, max_storage: -1 });
        await jsm.streams.delete("ACCOUNT");
        assert.equal((await jsm.getAccountInfo()).storage, before.storage);
    },
    async stream_create_info({ js, jsm }) {
        const config = {
            name: "CREATE", description: "all that can be set", subjects: ["create.*", "created.>"],
            retention: "limits", max_consumers: 10, max_msgs: 1000, max_bytes: 1 << 20, max_age: nanos(3_600_000),
            max_msgs_per_subject: 100, max_msg_size: 1000, discard: "new", storage: "file", num_replicas: 1,
            duplicate_window: nanos(60_000), compression: "s2", first_seq: 100, allow_direct: true,
            allow_rollup_hdrs: true, allow_msg_ttl: true, deny_delete: true, metadata: { owner: "parity" },
            consumer_limits: { inactive_threshold: nanos(100_000), max_ack_pending: 50 },
        };
        const created = await jsm.streams.add(config);
        assertHas(created.config, config);
        const info = await jsm.streams.info("CREATE");
        assertHas(info.config, config);
        assertHas(info.state, { messages: 0, first_seq: 100, last_seq: 99, consumer_count: 0 });
        assert.equal(info.created, created.created);
        assert.equal((await jsm.streams.add(config)).created, created.created);
        assert.equal((await js.publish("created.by.me")).seq, 100);
    },
    async stream_update({ js, jsm }) {
        await jsm.streams.add({ name: "UPDATE", subjects: ["update.a"], max_msgs: 10 });
        await publishAll(js, "update.a", 1, 10);
        const update = { subjects: ["update.a", "update.b"], max_msgs: 4, description: "changed" };
        assertHas((await jsm.streams.update("UPDATE", update)).config, update);
        assert.equal((await jsm.streams.info("UPDATE")).state.first_seq, 7);
        assert.equal((await js.publish("update.b")).seq, 11);
        await refused(10052, jsm.streams.update("UPDATE", { storage: "memory" }));
        await refused(10059, jsm.streams.update("UPDATE_MISSING", { subjects: ["update.c"] }));
    },
    async stream_names_list({ jsm }) {
        const names = Array.from({ length: 300 }, (_, number) => `LIST_${number}`).sort();
        for (const name of names) {
            await jsm.streams.add({ name, subjects: [name.toLowerCase()], storage: "memory" });
        }
        assert.deepEqual((await collect(jsm.streams.names())).filter((name) => name.startsWith("LIST_")), names);
        const listed = (await collect(jsm.streams.list())).map((info) => info.config.name);
        assert.deepEqual(listed.filter((name) => name.startsWith("LIST_")), names);
        assert.deepEqual(await collect(jsm.streams.names("list_42")), ["LIST_42"]);
        assert.equal(await jsm.streams.find("list_42"), "LIST_42");
        for (const name of names) {
            assert(await jsm.streams.delete(name));
        }
    },
    async stream_delete({ js, jsm }) {
        await jsm.streams.add({ name: "DELETE", subjects: ["delete"] });
        await jsm.consumers.add("DELETE", { durable_name: "one", ack_policy: "explicit" });
        await js.publish("delete");
        assert(await jsm.streams.delete("DELETE"));
        await refused(10059, jsm.streams.info("DELETE"));
        await refused(10059, jsm.streams.delete("DELETE"));
        const info = await jsm.streams.add({ name: "DELETE", subjects: ["delete"] });
        assertHas(info.state, { messages: 0, last_seq: 0, consumer_count: 0 });
        await refused(10014, jsm.consumers.info("DELETE", "one"));
    },
    async stream_errors({ jsm }) {
        await jsm.streams.add({ name: "ERRORS", subjects: ["errors.*"] });
        await refused(10058, jsm.streams.add({ name: "ERRORS", subjects: ["errors.other"] }));
        await refused(10065, jsm.streams.add({ name: "ERRORS_TOO", subjects: ["errors.>"] }));
        await refused(10052, jsm.streams.add({ name: "ERRORS_TOO", subjects: ["errors..x"] }));
        await refused(10074, jsm.streams.add({ name: "ERRORS_TOO", subjects: ["errors_too"], num_replicas: 3 }));
        await refused(10059, jsm.streams.info("ERRORS_TOO"));
    },
    async stream_subjects({ js, jsm }) {
        await jsm.streams.add({ name: "SUBJECTS", subjects: ["subjects.>"] });
        for (let number = 0; number < 30; number++) {
            await js.publish(`subjects.${number % 3}`);
        }
        await jsm.streams.deleteMessage("SUBJECTS", 5);
        await jsm.streams.deleteMessage("SUBJECTS", 6);
        const { state } = await jsm.streams.info("SUBJECTS", { subjects_filter: "subjects.*", deleted_details: true });
        assert.deepEqual({ ...state.subjects }, { "subjects.0": 10, "subjects.1": 9, "subjects.2": 9 });
        assertHas(state, { deleted: [5, 6], num_deleted: 2, num_subjects: 3 });
    },
    async publish_ack({ nc, js, jsm }) {
        await jsm.streams.add({ name: "ACK", subjects: ["ack"] });
        for (let number = 1; number <= 100; number++) {
            const sent = headers();
            sent.set("Number", String(number));
            const ack = await js.publish("ack", String(number), { headers: sent });
            assert.deepEqual([ack.stream, ack.seq, ack.duplicate], ["ACK", number, false]);
        }
        const message = await jsm.streams.getMessage("ACK", { seq: 42 });
        assert.deepEqual([message.subject, message.seq, text(message)], ["ack", 42, "42"]);
        assert.equal(message.header.get("Number"), "42");
        assert.equal((await js.publish("ack", new Uint8Array(nc.info.max_payload))).seq, 101);
    },
    async publish_async({ js, jsm }) {
        await jsm.streams.add({ name: "ASYNC", subjects: ["async"] });
        const numbers = Array.from({ length: 2000 }, (_, number) => number);
        const acks = await Promise.all(numbers.map((number) => js.publish("async", String(number), { timeout: 30_000 })));
        assert.deepEqual(acks.map((ack) => ack.seq), numbers.map((number) => number + 1));
        for (const seq of [1, 1000, 2000]) {
            assert.equal(text(await jsm.streams.getMessage("ASYNC", { seq })), String(seq - 1));
        }
    },
    async publish_no_stream({ js }) {
        await assert.rejects(js.publish("nobody.stores.this"), { name: "JetStreamNotEnabled" });
    },
    async publish_dedup({ js, jsm }) {
        await jsm.streams.add({ name: "DEDUP", subjects: ["dedup"], duplicate_window: nanos(1000) });
        const publish = async (msgID) => {
            const { seq, duplicate } = await js.publish("dedup", "", { msgID });
            return [seq, duplicate];
        };
        assert.deepEqual(await publish("one"), [1, false]);
        assert.deepEqual(await publish("one"), [1, true]);
        assert.deepEqual(await publish("two"), [2, false]);
        await sleep(1500);
        assert.deepEqual(await publish("one"), [3, false]);
    },
    async publish_expected({ js, jsm }) {
        await jsm.streams.add({ name: "EXPECTED", subjects: ["expected.*"] });
        const publish = async (expect, msgID, subject = "expected.a") =>
            (await js.publish(subject, "", { expect, msgID })).seq;
        assert.equal(await publish({ streamName: "EXPECTED" }, "first"), 1);
        await refused(10060, publish({ streamName: "ANOTHER" }));
        assert.equal(await publish({ lastSequence: 1 }), 2);
        await refused(10071, publish({ lastSequence: 1 }));
        assert.equal(await publish({}, "third", "expected.b"), 3);
        await refused(10070, publish({ lastMsgID: "first" }));
        assert.equal(await publish({ lastMsgID: "third" }, "fourth"), 4);
        assert.equal(await publish({ lastSubjectSequence: 4 }), 5);
        await refused(10071, publish({ lastSubjectSequence: 4 }));
        assert.equal(await publish({ lastSubjectSequence: 0 }, undefined, "expected.c"), 6);
        await refused(10071, publish({ lastSubjectSequence: 0 }, undefined, "expected.c"));
        assert.equal((await jsm.streams.info("EXPECTED")).state.last_seq, 6);
    },
    async publish_discard_new({ js, jsm }) {
        await jsm.streams.add({
            name: "DISCARD", subjects: ["discard.*"], discard: "new", max_msgs: 3, max_msg_size: 10,
        });
        await publishAll(js, "discard.a", 1, 3);
        await refused(10077, js.publish("discard.a"));
        await refused(10054, js.publish("discard.a", "x".repeat(11)));
        await jsm.streams.deleteMessage("DISCARD", 2);
        assert.equal((await js.publish("discard.a")).seq, 4);
        await jsm.streams.add({
            name: "DISCARD_EACH", subjects: ["discard_each.*"], discard: "new", discard_new_per_subject: true,
            max_msgs_per_subject: 1,
        });
        assert.equal((await js.publish("discard_each.a")).seq, 1);
        await refused(10077, js.publish("discard_each.a"));
        assert.equal((await js.publish("discard_each.b")).seq, 2);
    },
    async message_ttl({ js, jsm }) {
        await jsm.streams.add({
            name: "TTL", subjects: ["ttl.*"], allow_msg_ttl: true, subject_delete_marker_ttl: nanos(2000),
        });
        assert.equal((await js.publish("ttl.short", "", { ttl: "1s" })).seq, 1);
        assert.equal((await js.publish("ttl.long", "", { ttl: "1h" })).seq, 2);
        assert.equal((await js.publish("ttl.ever")).seq, 3);
        const marker = await eventually("marker", async () => {
            const message = await jsm.streams.getMessage("TTL", { last_by_subj: "ttl.short" });
            return message.seq === 4 && message.header;
        });
        assert.deepEqual([marker.get("Nats-Marker-Reason"), marker.get("Nats-TTL")], ["MaxAge", "2s"]);
        assert.deepEqual(await sequences(jsm, "TTL"), [2, 3, 4]);
        await refused(10165, js.publish("ttl.bad", "", { ttl: "soon" }));
        await jsm.streams.add({ name: "TTL_NOT", subjects: ["ttl_not"] });
        await refused(10166, js.publish("ttl_not", "", { ttl: "1s" }));
    },
    async message_get({ js, jsm }) {
        await jsm.streams.add({ name: "GET", subjects: ["get.*"] });
        await gets(js, "get", (query) => jsm.streams.getMessage("GET", query));
    },
    async message_delete({ js, jsm }) {
        await jsm.streams.add({ name: "ERASE", subjects: ["erase"] });
        await publishAll(js, "erase", 1, 5);
        assert(await jsm.streams.deleteMessage("ERASE", 3));
        assert(await jsm.streams.deleteMessage("ERASE", 1));
        assert(await jsm.streams.deleteMessage("ERASE", 5, false));
        assert.deepEqual(await sequences(jsm, "ERASE"), [2, 4]);
        await refused(10043, jsm.streams.deleteMessage("ERASE", 3));
        assert.equal((await js.publish("erase")).seq, 6);
        await jsm.streams.add({ name: "ERASE_NOT", subjects: ["erase_not"], deny_delete: true, deny_purge: true });
        await js.publish("erase_not");
        await refused(10057, jsm.streams.deleteMessage("ERASE_NOT", 1));
        await refused(10110, jsm.streams.purge("ERASE_NOT"));
    },
    async direct_get({ js, jsm }) {
        await jsm.streams.add({ name: "DIRECT", subjects: ["direct.*"], allow_direct: true });
        await gets(js, "direct", (query) => jsm.direct.getMessage("DIRECT", query));
        const numbers = (messages) => messages.map((message) => message.seq);
        const batch = (options) => jsm.direct.getBatch("DIRECT", options).then(collect).then(numbers);
        assert.deepEqual(await batch({ seq: 2, batch: 2 }), [2, 3]);
        assert.deepEqual(await batch({ seq: 2, batch: 10, next_by_subj: "direct.b" }), [2, 4]);
        const last = await collect(await jsm.direct.getLastMessagesFor("DIRECT", { multi_last: ["direct.>"] }));
        assert.deepEqual(numbers(last), [3, 4]);
        const before = { multi_last: ["direct.>"], up_to_seq: 3 };
        assert.deepEqual(numbers(await collect(await jsm.direct.getLastMessagesFor("DIRECT", before))), [2, 3]);
    },
    async purge({ js, jsm }) {
        await jsm.streams.add({ name: "PURGE", subjects: ["purge.*"] });
        for (let number = 0; number < 20; number++) {
            await js.publish(`purge.${"ab"[number % 2]}`);
        }
        assert.equal((await jsm.streams.purge("PURGE", { filter: "purge.a", keep: 3 })).purged, 7);
        assert.equal((await jsm.streams.purge("PURGE", { seq: 10 })).purged, 4);
        assert.deepEqual(await sequences(jsm, "PURGE"), [10, 12, 14, 15, 16, 17, 18, 19, 20]);
        assert.equal((await jsm.streams.purge("PURGE", { filter: "purge.b", seq: 18 })).purged, 4);
        assert.equal((await jsm.streams.purge("PURGE", { keep: 2 })).purged, 3);
        assert.deepEqual(await sequences(jsm, "PURGE"), [19, 20]);
        assert.equal((await jsm.streams.purge("PURGE")).purged, 2);
        assertHas((await jsm.streams.info("PURGE")).state, { messages: 0, first_seq: 21, last_seq: 20 });
        assert.equal((await js.publish("purge.a")).seq, 21);
    },
    async limits({ js, jsm }) {
        await jsm.streams.add({ name: "LIMITS", subjects: ["limits.*"], max_msgs: 5, max_msgs_per_subject: 2 });
        for (const subject of "aaabbbcd") {
            await js.publish(`limits.${subject}`);
        }
        assert.deepEqual(await sequences(jsm, "LIMITS"), [3, 5, 6, 7, 8]);
        await jsm.streams.add({ name: "LIMITS_AGE", subjects: ["limits_age"], max_age: nanos(1000) });
        await js.publish("limits_age");
        await eventually("empty", async () => (await jsm.streams.info("LIMITS_AGE")).state.messages === 0);
    },
    async work_queue({ js, jsm }) {
        await jsm.streams.add({ name: "WORK", subjects: ["work.*"], retention: "workqueue" });
        await publishAll(js, "work.a", 1, 10);
        const add = (config) => jsm.consumers.add("WORK", { ack_policy: "explicit", ...config });
        await refused(10084, add({ durable_name: "none", ack_policy: "none" }));
        await add({ durable_name: "worker", filter_subject: "work.a" });
        await refused(10099, add({ durable_name: "other" }));
        await refused(10100, add({ durable_name: "other", filter_subject: "work.a" }));
        await add({ durable_name: "other", filter_subject: "work.b" });
        const consumer = await js.consumers.get("WORK", "worker");
        for await (const message of await consumer.fetch({ max_messages: 6 })) {
            assert(await message.ackAck());
        }
        await eventually("removed", async () => (await jsm.streams.info("WORK")).state.first_seq === 7);
    },
    async interest({ js, jsm }) {
        await jsm.streams.add({ name: "INTEREST", subjects: ["interest"], retention: "interest" });
        assert.equal((await js.publish("interest")).seq, 1);
        const messages = async () => (await jsm.streams.info("INTEREST")).state.messages;
        assert.equal(await messages(), 0);
        for (const durable_name of ["one", "two"]) {
            await jsm.consumers.add("INTEREST", { durable_name, ack_policy: "explicit" });
        }
        await publishAll(js, "interest", 1, 4);
        for (const [name, count, left] of [["one", 4, 4], ["two", 2, 2]]) {
            const consumer = await js.consumers.get("INTEREST", name);
            for await (const message of await consumer.fetch({ max_messages: count })) {
                assert(await message.ackAck());
            }
            await eventually("removed", async () => (await messages()) === left);
        }
        await jsm.consumers.delete("INTEREST", "two");
        await eventually("empty", async () => (await messages()) === 0);
    },
    async transform_republish({ nc, js, jsm }) {
        const copies = nc.subscribe("copies.>");
        await jsm.streams.add({
            name: "TRANSFORM", subjects: ["transform.*"],
            subject_transform: { src: "transform.*", dest: "transformed.{{wildcard(1)}}" },
            republish: { src: "transformed.>", dest: "copies.>" },
        });
        await publishAll(js, "transform.me", 1, 2);
        const got = await take(copies, 2);
        got.forEach((copy, index) => {
            assert.deepEqual([copy.subject, copy.string()], ["copies.me", String(index + 1)]);
            const names = ["Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Last-Sequence"];
            const wanted = ["TRANSFORM", "transformed.me", String(index + 1), String(index)];
            assert.deepEqual(names.map((name) => copy.headers.get(name)), wanted);
        });
        assert.equal((await jsm.streams.getMessage("TRANSFORM", { seq: 1 })).subject, "transformed.me");
    },
};

/** Gets messages by sequence and by subject. */
async function gets(js, prefix, get) {
    for (const [index, subject] of [..."abab"].entries()) {
        const sent = headers();
        sent.set("Number", String(index + 1));
        await js.publish(`${prefix}.${subject}`, String(index + 1), { headers: sent });
    }
    const got = async (query) => {
        const message = await get(query);
        if (message) {
            const wanted = [String(message.seq), String(message.seq), `${prefix}.${"abab"[message.seq - 1]}`];
            assert.deepEqual([text(message), message.header.get("Number"), message.subject], wanted);
            assert(Math.abs(message.time.getTime() - Date.now()) < 60_000, message.time);
        }
        return message?.seq;
    };
    assert.equal(await got({ seq: 2 }), 2);
    assert.equal(await got({ last_by_subj: `${prefix}.a` }), 3);
    assert.equal(await got({ next_by_subj: `${prefix}.b`, seq: 3 }), 4);
    assert.equal(await got({ next_by_subj: `${prefix}.*`, seq: 2 }), 2);
    assert.equal(await got({ seq: 5 }), undefined);
    assert.equal(await got({ last_by_subj: `${prefix}.c` }), undefined);
    assert.equal(await got({ next_by_subj: `${prefix}.a`, seq: 4 }), undefined);
}

module.exports = { assertHas, checks, publishAll, request };
