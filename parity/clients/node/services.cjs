// Checks of services, and of what is still there after a restart; each gets a client and a manager.

"use strict";

const assert = require("node:assert/strict");
const { nanos } = require("@nats-io/transport-node");
const { Kvm } = require("@nats-io/kv");
const { Objm } = require("@nats-io/obj");
const { ServiceError, Svcm } = require("@nats-io/services");
const { act, collect, eventually, open, settings, sleep, take } = require("./checks.cjs");
const { publishAll } = require("./streams.cjs");

async function service(nc, name, config = {}) {
    const made = await new Svcm(nc).add({ name, version: "1.2.3", description: "for a check", ...config });
    made.addEndpoint("echo", {
        subject: `${name}.echo`, metadata: { kind: "plain" }, handler: (_, message) => message.respond(message.data),
    });
    const broken = { handler: () => { throw new ServiceError(422, "I can't"); }, queue: "own" };
    made.addGroup(`${name}.group`).addEndpoint("broken", broken);
    await nc.flush();
    return made;
}

const ids = (found) => found.map((each) => each.id).sort();

const checks = {
    async service_endpoints({ nc }) {
        const made = await service(nc, "endpoints");
        assert.equal((await nc.request("endpoints.echo", "hello")).string(), "hello");
        const error = ServiceError.toServiceError(await nc.request("endpoints.group.broken"));
        assert.deepEqual([error.code, error.message], [422, "I can't"]);
        await made.stop();
        await nc.flush();
        await assert.rejects(nc.request("endpoints.echo"), /no responders/i);
    },
    async service_discovery({ nc }) {
        const made = [];
        for (const number of ["0", "1", "2"]) {
            made.push(await service(nc, "discovery", { metadata: { number } }));
        }
        const wanted = ids(made.map((each) => each.info()));
        const client = new Svcm(nc).client();
        for (const verb of ["ping", "info", "stats"]) {
            assert.deepEqual(ids(await collect(await client[verb]("discovery"))), wanted, verb);
        }
        assert.deepEqual(ids((await collect(await client.ping())).filter((each) => each.name === "discovery")), wanted);
        const [info] = await collect(await client.info("discovery", made[1].info().id));
        assert.deepEqual([info.version, info.metadata.number], ["1.2.3", "1"]);
        assert.deepEqual(info.endpoints.map((each) => [each.name, each.subject, each.queue_group]), [
            ["echo", "discovery.echo", "q"], ["broken", "discovery.group.broken", "own"],
        ]);
        await Promise.all(made.map((each) => each.stop()));
    },
    async service_stats({ nc }) {
        const other = await open("js");
        const made = [await service(nc, "stats"), await service(other, "stats")];
        for (let number = 0; number < 40; number++) {
            await nc.request("stats.echo", String(number));
        }
        await nc.request("stats.group.broken");
        const stats = await collect(await new Svcm(nc).client().stats("stats"));
        const of = (name, field) => stats.map((each) => each.endpoints.find((one) => one.name === name)[field]);
        const counts = of("echo", "num_requests");
        assert(counts.length === 2 && counts[0] + counts[1] === 40 && counts.every((count) => count > 0), counts);
        assert.deepEqual(of("broken", "num_errors").sort(), [0, 1]);
        await Promise.all(made.map((each) => each.stop()));
        await other.close();
    },
    async restart_stop(context) {
        await restarted(context, "STOPPED", "stop js");
    },
    async restart_kill(context) {
        await restarted(context, "KILLED", "restart js");
    },
};

/** Everything that was answered is there after the server's end, however it came about. */
async function restarted({ js, jsm }, name, command) {
    const subject = `${name.toLowerCase()}.a`;
    await jsm.streams.add({ name, subjects: [`${name.toLowerCase()}.>`], duplicate_window: nanos(600_000) });
    for (let number = 1; number <= 100; number++) {
        await js.publish(subject, String(number), { msgID: String(number) });
    }
    await jsm.streams.deleteMessage(name, 50);
    const config = { durable_name: "one", ack_policy: "explicit", ack_wait: nanos(60_000), filter_subject: subject };
    await jsm.consumers.add(name, config);
    const consumer = await js.consumers.get(name, "one");
    const messages = await collect(await consumer.fetch({ max_messages: 20 }));
    assert.equal(messages.length, 20);
    for (const message of messages.slice(0, 10)) {
        assert(await message.ackAck());
    }
    const kv = await new Kvm(js).create(name, { history: 3 });
    await publishAll({ publish: (_, value) => kv.put("key", value) }, "", 1, 10);
    await kv.delete("key");
    await kv.put("other", "value");
    const store = await new Objm(js).create(name);
    await store.putBlob({ name: "object" }, Buffer.alloc(500_000, "x"));
    const watcher = await kv.watch({ key: "later" });
    const before = await jsm.streams.info(name);
    if (!settings.durable_acks) {
        await sleep(1000);
    }

    await act(command);

    const after = await eventually("back", () => jsm.streams.info(name).catch(() => null), 30_000);
    assert.deepEqual(after.config, before.config);
    assert.deepEqual(after.state, before.state);
    assert.equal(after.created, before.created);
    for (const seq of [1, 49, 51, 100]) {
        const message = await jsm.streams.getMessage(name, { seq });
        assert.deepEqual([message.string(), message.header.get("Nats-Msg-Id")], [String(seq), String(seq)]);
    }
    const again = await js.publish(subject, "", { msgID: "100" });
    assert.deepEqual([again.seq, again.duplicate], [100, true]);
    assert.equal((await js.publish(subject, "101")).seq, 101);
    assert.equal((await jsm.consumers.info(name, "one")).ack_floor.stream_seq, 10);
    // What was delivered and not acknowledged comes again after its wait.
    await jsm.consumers.update(name, "one", { ack_wait: nanos(1000) });
    const seen = new Set();
    await eventually("all seen", async () => {
        for (const message of await collect(await consumer.fetch({ max_messages: 100, expires: 1000 }))) {
            seen.add(message.seq);
            message.ack();
        }
        return seen.size === 90 && !seen.has(50) && !seen.has(10) && seen.has(101);
    });
    const history = await collect(await kv.history({ key: "key" }));
    assert.deepEqual(history.map((entry) => entry.string()), ["9", "10", ""]);
    assert.equal((await kv.get("other")).string(), "value");
    assert.equal((await store.getBlob("object")).length, 500_000);
    assert.equal(await kv.put("later", "1"), 13);
    const [update] = await take(watcher, 1, 30_000);
    assert.deepEqual([update.key, update.revision], ["later", 13]);
}

module.exports = { checks };
