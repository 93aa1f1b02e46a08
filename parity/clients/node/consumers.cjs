// Checks of consumers; each gets a client and a manager of a connection of its own.

"use strict";

const assert = require("node:assert/strict");
const { headers, nanos } = require("@nats-io/transport-node");
const { collect, eventually, refused, sleep, take } = require("./checks.cjs");
const { assertHas, publishAll, request } = require("./streams.cjs");

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const numbers = (messages) => messages.map((message) => Number(message.string()));

/** Makes a stream whose messages are the numbers from 1. */
async function filled({ js, jsm }, name, count = 10, config = {}) {
    const subject = name.toLowerCase();
    await jsm.streams.add({ name, subjects: [subject, `${subject}.>`], ...config });
    await publishAll(js, subject, 1, count);
}

/** Makes a pull consumer and returns what fetches from it. */
async function consumer({ js, jsm }, stream, config = {}) {
    const { name } = await jsm.consumers.add(stream, { durable_name: "one", ack_policy: "explicit", ...config });
    return await js.consumers.get(stream, name);
}

const fetched = async (from, max_messages, expires = 5000) => collect(await from.fetch({ max_messages, expires }));

/** Asserts that there is nothing to fetch for a while. */
async function nothing(from, expires = 1000) {
    assert.deepEqual(numbers(await fetched(from, 1, expires)), []);
}

/** Returns the next statuses of a raw subscription, or payloads where there is no status. */
async function told(subscription, count) {
    return (await take(subscription, count)).map((message) =>
        message.headers?.code ? `${message.headers.code} ${message.headers.description}` : message.string(),
    );
}

const checks = {
    async consumer_create_info(context) {
        const { jsm } = context;
        await filled(context, "CONSUMER");
        const config = {
            durable_name: "one", name: "one", description: "all that can be set", deliver_policy: "by_start_sequence",
            opt_start_seq: 3, ack_policy: "explicit", ack_wait: nanos(12_500), max_deliver: 7, filter_subject: "consumer",
            replay_policy: "instant", sample_freq: "50%", max_waiting: 9, max_ack_pending: 11,
            inactive_threshold: nanos(3_600_000), metadata: { owner: "parity" },
        };
        const created = await jsm.consumers.add("CONSUMER", config);
        const info = await jsm.consumers.info("CONSUMER", "one");
        for (const each of [created, info]) {
            assertHas(each.config, config);
            assertHas(each, {
                name: "one", stream_name: "CONSUMER", num_pending: 8, num_ack_pending: 0, num_redelivered: 0, num_waiting: 0,
            });
            assertHas(each.delivered, { consumer_seq: 0, stream_seq: 2 });
            assertHas(each.ack_floor, { consumer_seq: 0, stream_seq: 2 });
        }
        assert.equal(info.created, created.created);
        const two = await jsm.consumers.add("CONSUMER", { durable_name: "two", ack_policy: "explicit" });
        assertHas(two.config, { ack_wait: nanos(30_000), max_deliver: -1, max_waiting: 512, max_ack_pending: 1000 });
    },
    async consumer_update(context) {
        const { jsm } = context;
        await filled(context, "CONSUMER_UPDATE");
        await consumer(context, "CONSUMER_UPDATE", { ack_wait: nanos(10_000) });
        const update = { ack_wait: nanos(20_000), description: "changed", max_deliver: 3 };
        assertHas((await jsm.consumers.update("CONSUMER_UPDATE", "one", update)).config, update);
        assertHas((await jsm.consumers.info("CONSUMER_UPDATE", "one")).config, update);
        await refused(10012, jsm.consumers.update("CONSUMER_UPDATE", "one", { deliver_policy: "new" }));
    },
    async consumer_names_list(context) {
        const { jsm } = context;
        await filled(context, "CONSUMER_LIST", 1);
        const names = range(100, 399).map((number) => `c${number}`);
        for (const name of names) {
            await jsm.consumers.add("CONSUMER_LIST", { name, ack_policy: "explicit", inactive_threshold: nanos(300_000) });
        }
        const listed = await collect(jsm.consumers.list("CONSUMER_LIST"));
        assert.deepEqual(listed.map((info) => info.name).sort(), names);
        assert(listed.every((info) => info.num_pending === 1));
        const answer = await request(context.nc, "CONSUMER.NAMES.CONSUMER_LIST", { offset: 290 });
        assert.deepEqual([answer.total, answer.consumers.length], [300, 10]);
        assert.equal((await jsm.streams.info("CONSUMER_LIST")).state.consumer_count, 300);
    },
    async consumer_delete(context) {
        const { jsm } = context;
        await filled(context, "CONSUMER_DELETE");
        const one = await consumer(context, "CONSUMER_DELETE");
        assert(await one.delete());
        await refused(10014, jsm.consumers.info("CONSUMER_DELETE", "one"));
        await refused(10014, jsm.consumers.delete("CONSUMER_DELETE", "one"));
        assert.equal((await jsm.streams.info("CONSUMER_DELETE")).state.consumer_count, 0);
    },
    async consumer_errors(context) {
        await filled(context, "CONSUMER_ERRORS", 1, { max_consumers: 1 });
        const add = (config, stream = "CONSUMER_ERRORS") =>
            context.jsm.consumers.add(stream, { durable_name: "one", ack_policy: "explicit", ...config });
        await refused(10059, add({}, "CONSUMER_ERRORS_NOT"));
        await refused(10136, add({ filter_subject: "consumer_errors", filter_subjects: ["consumer_errors.a"] }));
        await refused(10138, add({ filter_subjects: ["consumer_errors.*", "consumer_errors.a"] }));
        await refused(10116, add({ backoff: [nanos(1000), nanos(2000)], max_deliver: 1 }));
        await add({});
        await refused(10148, add({ description: "another" }));
        await refused(10026, add({ durable_name: "two" }));
    },
    async pull_fetch(context) {
        const { js, jsm } = context;
        await filled(context, "FETCH", 25);
        const one = await consumer(context, "FETCH");
        const first = await fetched(one, 10);
        assert.deepEqual(numbers(first), range(1, 10));
        first.forEach((message, index) => {
            assertHas(message.info, {
                stream: "FETCH", consumer: "one", deliveryCount: 1, streamSequence: index + 1,
                deliverySequence: index + 1, pending: 24 - index,
            });
            assert.equal(message.subject, "fetch");
            message.ack();
        });
        assert.deepEqual(numbers(await fetched(one, 100, 2000)), range(11, 25));
        const info = await jsm.consumers.info("FETCH", "one");
        assertHas(info, { num_pending: 0, num_ack_pending: 15 });
        const waiting = one.next({ expires: 10_000 });
        await sleep(300);
        await js.publish("fetch", "26");
        assert.equal((await waiting).string(), "26");
    },
    async pull_expires(context) {
        const { nc, jsm } = context;
        await filled(context, "EXPIRES", 2);
        await consumer(context, "EXPIRES", { max_waiting: 1 });
        const inbox = nc.subscribe("expires_inbox")[Symbol.asyncIterator]();
        const pull = (body) =>
            nc.publish("$JS.API.CONSUMER.MSG.NEXT.EXPIRES.one", JSON.stringify(body), { reply: "expires_inbox" });
        pull({ batch: 3, no_wait: true });
        assert.deepEqual(await told(inbox, 3), ["1", "2", "404 No Messages"]);
        pull({ batch: 5, expires: nanos(1000), idle_heartbeat: nanos(300) });
        await nc.flush();
        assert.equal((await jsm.consumers.info("EXPIRES", "one")).num_waiting, 1);
        pull({ batch: 1, expires: nanos(1000) });
        const seen = [];
        while (!seen.at(-1)?.startsWith("408")) {
            seen.push(...await told(inbox, 1));
        }
        assert.equal(seen[0], "409 Exceeded MaxWaiting");
        assert(seen.includes("100 Idle Heartbeat") && seen.at(-1) === "408 Request Timeout", seen);
    },
    async pull_consume(context) {
        const { js, jsm } = context;
        await filled(context, "CONSUME", 0);
        const one = await consumer(context, "CONSUME");
        const messages = await one.consume({ max_messages: 100, expires: 1000 });
        const published = Promise.all(range(1, 1000).map((number) => js.publish("consume", String(number))));
        const seen = [];
        for await (const message of messages) {
            seen.push(Number(message.string()));
            message.ack();
            if (seen.length === 1000) {
                break;
            }
        }
        await published;
        await messages.close();
        assert.deepEqual(seen, range(1, 1000));
        await eventually("all acknowledged", async () => {
            const info = await jsm.consumers.info("CONSUME", "one");
            return info.num_pending === 0 && info.num_ack_pending === 0 && info.ack_floor.stream_seq === 1000;
        });
    },
    async pull_max_bytes(context) {
        const { js, jsm } = context;
        await jsm.streams.add({ name: "MAX_BYTES", subjects: ["max_bytes"] });
        for (let number = 0; number < 10; number++) {
            await js.publish("max_bytes", "x".repeat(1000));
        }
        const one = await consumer(context, "MAX_BYTES");
        const sizes = [];
        const all = async () => {
            for await (const message of await one.fetch({ max_bytes: 3500, expires: 2000 })) {
                sizes.push(message.data.length);
            }
        };
        await assert.rejects(all(), /message size exceeds maxbytes/);
        assert.deepEqual(sizes, [1000, 1000, 1000]);
    },
    async pull_consumer_deleted(context) {
        const { nc, jsm } = context;
        await filled(context, "GONE", 0);
        const one = await consumer(context, "GONE");
        const inbox = nc.subscribe("gone_inbox");
        nc.publish("$JS.API.CONSUMER.MSG.NEXT.GONE.one", "10", { reply: "gone_inbox" });
        const ended = assert.rejects(fetched(one, 10, 10_000), /consumer deleted/);
        await nc.flush();
        await sleep(300);
        await jsm.consumers.delete("GONE", "one");
        assert.deepEqual(await told(inbox, 1), ["409 Consumer Deleted"]);
        await ended;
    },
    async push_consumer(context) {
        const { nc, js, jsm } = context;
        await filled(context, "PUSH", 20);
        await jsm.consumers.add("PUSH", { durable_name: "one", ack_policy: "explicit", deliver_subject: "pushed" });
        const one = await js.consumers.getPushConsumer("PUSH", "one");
        const got = [];
        for await (const message of await one.consume()) {
            got.push(Number(message.string()));
            assert(await message.ackAck());
            if (got.length === 20) {
                assertHas(await one.info(), { push_bound: true, num_ack_pending: 0 });
                break;
            }
        }
        assert.deepEqual(got, range(1, 20));
        await nc.flush();
        await eventually("unbound", async () => !(await one.info()).push_bound);
        await js.publish("push", "21");
        assert.deepEqual(numbers(await take(await one.consume(), 1)), [21]);
    },
    async push_queue_group(context) {
        const { nc, js, jsm } = context;
        await filled(context, "QUEUE", 0);
        const shares = [[], [], []];
        for (const share of shares) {
            nc.subscribe("queue_work", { queue: "workers", callback: (_, message) => {
                share.push(Number(message.string()));
                message.respond();
            } });
        }
        const config = { deliver_subject: "queue_work", deliver_group: "workers", durable_name: "workers" };
        await jsm.consumers.add("QUEUE", { ack_policy: "explicit", ...config });
        await publishAll(js, "queue", 1, 90);
        await eventually("all", async () => shares.flat().length >= 90);
        assert.deepEqual(shares.flat().sort((a, b) => a - b), range(1, 90));
        assert(shares.every((share) => share.length > 0), JSON.stringify(shares));
    },
    async push_flow_control(context) {
        const { js, jsm } = context;
        await jsm.streams.add({ name: "FLOW", subjects: ["flow"], storage: "memory" });
        const payload = new Uint8Array(8192);
        await Promise.all(range(1, 2000).map(() => js.publish("flow", payload, { timeout: 30_000 })));
        await jsm.consumers.add("FLOW", {
            durable_name: "one", ack_policy: "none", deliver_subject: "flowing", flow_control: true,
            idle_heartbeat: nanos(500),
        });
        const messages = await (await js.consumers.getPushConsumer("FLOW", "one")).consume();
        const seen = [];
        (async () => {
            for await (const notice of messages.status()) {
                seen.push(notice.type);
            }
        })();
        const got = await take(messages, 2000, 40_000);
        assert.deepEqual(got.map((message) => message.seq), range(1, 2000));
        await eventually("both", async () => seen.includes("heartbeat") && seen.includes("flow_control"));
    },
    async ordered_consumer(context) {
        const { js } = context;
        await filled(context, "ORDERED", 0);
        await Promise.all(range(1, 500).map((number) => js.publish("ordered", String(number))));
        const pulled = await js.consumers.get("ORDERED");
        assert.deepEqual(numbers(await take(await pulled.consume(), 500)), range(1, 500));
        const pushed = await js.consumers.getPushConsumer("ORDERED");
        assert.deepEqual(numbers(await take(await pushed.consume(), 500)), range(1, 500));
    },
    async ordered_consumer_recreated(context) {
        const { js, jsm } = context;
        await filled(context, "REORDERED", 5);
        const pulled = await js.consumers.get("REORDERED");
        const messages = (await pulled.consume({ expires: 2000 }))[Symbol.asyncIterator]();
        const next = async (count) => {
            const got = [];
            while (got.length < count) {
                got.push((await messages.next()).value);
            }
            return numbers(got);
        };
        assert.deepEqual(await next(5), range(1, 5));
        const [gone] = await collect(jsm.consumers.list("REORDERED"));
        await jsm.consumers.delete("REORDERED", gone.name);
        await publishAll(js, "reordered", 6, 10);
        assert.deepEqual(await next(5), range(6, 10));
    },
    async ack_double(context) {
        const { jsm } = context;
        await filled(context, "DOUBLE", 10);
        const messages = await fetched(await consumer(context, "DOUBLE"), 10);
        for (const [number, floor] of [[1, 1], [2, 2], [4, 2], [3, 4]]) {
            assert(await messages[number - 1].ackAck());
            const info = await jsm.consumers.info("DOUBLE", "one");
            assert.equal(info.ack_floor.stream_seq, floor);
        }
        assertHas(await jsm.consumers.info("DOUBLE", "one"), { num_ack_pending: 6, num_pending: 0 });
    },
    /** What is acknowledged is gone from a work queue when the acknowledgement is answered. */
    async ack_removes(context) {
        await filled(context, "REMOVES", 100, { retention: "workqueue" });
        let left = 100;
        for (const message of await fetched(await consumer(context, "REMOVES"), 100)) {
            assert(await message.ackAck());
            left--;
            assert.equal((await context.jsm.streams.info("REMOVES")).state.messages, left);
        }
    },
    async ack_nak(context) {
        await filled(context, "NAK", 3);
        const one = await consumer(context, "NAK");
        const messages = await fetched(one, 3);
        messages[1].nak();
        let [again] = await fetched(one, 1);
        assertHas(again.info, { deliveryCount: 2, streamSequence: 2, deliverySequence: 4 });
        again.nak(1500);
        await nothing(one, 1000);
        [again] = await fetched(one, 1);
        assertHas(again.info, { deliveryCount: 3, streamSequence: 2 });
        assertHas(await one.info(), { num_redelivered: 1, num_ack_pending: 3 });
    },
    async ack_term(context) {
        const advisories = context.nc.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.TERM.one");
        await filled(context, "TERM", 2);
        const one = await consumer(context, "TERM", { ack_wait: nanos(1000) });
        const [first, second] = await fetched(one, 2);
        first.term();
        second.term("for a reason");
        const got = (await take(advisories, 2)).map((message) => message.json());
        assert.deepEqual(got.map((each) => [each.stream_seq, each.reason]), [[1, undefined], [2, "for a reason"]]);
        await nothing(one, 2000);
        assertHas(await one.info(), { num_ack_pending: 0 });
    },
    async ack_in_progress(context) {
        await filled(context, "PROGRESS", 1);
        const one = await consumer(context, "PROGRESS", { ack_wait: nanos(1500) });
        const [message] = await fetched(one, 1);
        for (let count = 0; count < 6; count++) {
            await sleep(500);
            message.working();
        }
        assertHas(await one.info(), { num_redelivered: 0, num_ack_pending: 1 });
        const [again] = await fetched(one, 1);
        assert.equal(again.info.deliveryCount, 2);
    },
    async ack_wait(context) {
        await filled(context, "WAIT", 3);
        const one = await consumer(context, "WAIT", { ack_wait: nanos(1000) });
        const messages = await fetched(one, 3);
        assert(await messages[1].ackAck());
        const again = await fetched(one, 2);
        assert.deepEqual(again.map((message) => [message.seq, message.info.deliveryCount]), [[1, 2], [3, 2]]);
        for (const message of again) {
            assert(await message.ackAck());
        }
        await nothing(one, 1500);
        assertHas((await one.info()).ack_floor, { stream_seq: 3, consumer_seq: 5 });
    },
    async ack_none_all(context) {
        await filled(context, "POLICY", 10);
        const none = await consumer(context, "POLICY", { durable_name: "none", ack_policy: "none" });
        assert.deepEqual(numbers(await fetched(none, 10)), range(1, 10));
        const done = await none.info();
        assert.deepEqual([done.num_ack_pending, done.ack_floor.stream_seq], [0, 10]);
        const all = await consumer(context, "POLICY", { durable_name: "all", ack_policy: "all" });
        assert(await (await fetched(all, 10))[6].ackAck());
        const info = await all.info();
        assert.deepEqual([info.num_ack_pending, info.ack_floor.stream_seq], [3, 7]);
    },
    async max_deliver(context) {
        const advisories = context.nc.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.DELIVERIES.one");
        await filled(context, "DELIVERIES", 1);
        const one = await consumer(context, "DELIVERIES", { max_deliver: 2, ack_wait: nanos(500) });
        for (const count of [1, 2]) {
            assert.equal((await fetched(one, 1))[0].info.deliveryCount, count);
        }
        await nothing(one, 2000);
        const [advisory] = await take(advisories, 1);
        assertHas(advisory.json(), { stream_seq: 1, deliveries: 2, type: "io.nats.jetstream.advisory.v1.max_deliver" });
    },
    async backoff(context) {
        await filled(context, "BACKOFF", 1);
        const steps = [500, 1000, 2000];
        const one = await consumer(context, "BACKOFF", { max_deliver: 4, backoff: steps.map(nanos) });
        const times = [];
        for (const count of [1, 2, 3, 4]) {
            assert.equal((await fetched(one, 1))[0].info.deliveryCount, count);
            times.push(Date.now());
        }
        steps.forEach((step, index) => {
            const gap = times[index + 1] - times[index];
            assert(gap > step - 200 && gap < step + 2000, `${gap} instead of ${step}`);
        });
    },
    async max_ack_pending(context) {
        await filled(context, "PENDING", 10);
        const one = await consumer(context, "PENDING", { max_ack_pending: 3 });
        const messages = await fetched(one, 10, 1000);
        assert.deepEqual(numbers(messages), [1, 2, 3]);
        assert(await messages[0].ackAck());
        assert.deepEqual(numbers(await fetched(one, 1)), [4]);
    },
    async filters(context) {
        const { js } = context;
        await filled(context, "FILTERS", 0);
        for (const number of range(1, 12)) {
            await js.publish(`filters.${"abcd"[number % 4]}.x`, String(number));
        }
        const one = await consumer(context, "FILTERS", { filter_subject: "filters.b.*" });
        assert.equal((await one.info()).num_pending, 3);
        assert.deepEqual(numbers(await fetched(one, 3)), [1, 5, 9]);
        const filter_subjects = ["filters.a.x", "filters.c.>"];
        const many = await consumer(context, "FILTERS", { durable_name: "many", filter_subjects });
        assert.deepEqual(numbers(await fetched(many, 6)), [2, 4, 6, 8, 10, 12]);
        const ordered = await js.consumers.get("FILTERS", { filter_subjects: "filters.d.x" });
        assert.deepEqual(numbers(await fetched(ordered, 3)), [3, 7, 11]);
    },
    async deliver_policies(context) {
        const { js } = context;
        await filled(context, "START", 0);
        const publish = (number) => js.publish(`start.${number % 2}`, String(number));
        for (const number of range(1, 4)) {
            await publish(number);
        }
        await sleep(100);
        const middle = new Date().toISOString();
        await sleep(100);
        for (const number of range(5, 8)) {
            await publish(number);
        }
        const cases = {
            all: [{ deliver_policy: "all" }, range(1, 9)],
            last: [{ deliver_policy: "last" }, [8, 9]],
            new: [{ deliver_policy: "new" }, [9]],
            sequence: [{ deliver_policy: "by_start_sequence", opt_start_seq: 6 }, range(6, 9)],
            time: [{ deliver_policy: "by_start_time", opt_start_time: middle }, range(5, 9)],
            each: [{ deliver_policy: "last_per_subject", filter_subject: "start.*" }, [7, 8, 9]],
        };
        const made = {};
        for (const [durable_name, [config]] of Object.entries(cases)) {
            made[durable_name] = await consumer(context, "START", { durable_name, ...config });
        }
        await publish(9);
        for (const [name, [, wanted]] of Object.entries(cases)) {
            assert.equal((await made[name].info()).num_pending, wanted.length, name);
            assert.deepEqual(numbers(await fetched(made[name], wanted.length)), wanted, name);
        }
    },
    async headers_only(context) {
        await filled(context, "HEADERS", 0);
        const sent = headers();
        sent.set("Kept", "yes");
        await context.js.publish("headers", "x".repeat(1000), { headers: sent });
        const one = await consumer(context, "HEADERS", { headers_only: true });
        const [message] = await fetched(one, 1);
        const got = [message.data.length, message.headers.get("Kept"), message.headers.get("Nats-Msg-Size")];
        assert.deepEqual(got, [0, "yes", "1000"]);
    },
    async pause(context) {
        const { jsm } = context;
        await filled(context, "PAUSE", 3);
        const one = await consumer(context, "PAUSE");
        assert((await jsm.consumers.pause("PAUSE", "one", new Date(Date.now() + 60_000))).paused);
        assert((await one.info()).paused);
        await nothing(one, 1000);
        assert(!(await jsm.consumers.resume("PAUSE", "one")).paused);
        assert.deepEqual(numbers(await fetched(one, 3)), [1, 2, 3]);
    },
    async inactive_threshold(context) {
        const { jsm } = context;
        await filled(context, "INACTIVE", 1);
        const inactive = { name: "one", ack_policy: "explicit", inactive_threshold: nanos(1000) };
        await jsm.consumers.add("INACTIVE", inactive);
        await consumer(context, "INACTIVE", { durable_name: "stays" });
        const names = async () => (await collect(jsm.consumers.list("INACTIVE"))).map((info) => info.name);
        await eventually("gone", async () => !(await names()).includes("one"));
        assert.deepEqual(await names(), ["stays"]);
    },
};

module.exports = { checks };
