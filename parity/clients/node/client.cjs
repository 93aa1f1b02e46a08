// Checks of @nats-io/transport-node, unmodified. How it talks to the test, `checks.cjs` says.

"use strict";

const assert = require("node:assert/strict");
const {
    AuthorizationError, headers, InvalidArgumentError, NoRespondersError, nkeyAuthenticator,
    PermissionViolationError, RequestError,
} = require("@nats-io/transport-node");

const { act, open, run, settings, within } = require("./checks.cjs");

/** Connects, with one attempt only and without reconnecting. */
const once = (server, options = {}) => open(server, { reconnect: false, ...options });

/** Returns a subscription's next `count` messages. */
async function take(subscription, count) {
    const messages = [];
    const iterator = subscription[Symbol.asyncIterator]();
    const all = (async () => {
        while (messages.length < count) {
            messages.push((await iterator.next()).value);
        }
    })();
    await within(5000, `${count} messages`, all);
    return messages;
}

/** Returns the first status of this type from now on. */
function status(client, type) {
    const first = (async () => {
        for await (const each of client.status()) {
            if (each.type === type) {
                return each;
            }
        }
        throw new Error(`closed before ${type}`);
    })();
    return within(10_000, type, first);
}

async function roundTrip(client, subject = "greet.world") {
    const subscription = client.subscribe(subject);
    client.publish(subject, "hello");
    const [message] = await take(subscription, 1);
    assert.deepEqual([message.subject, message.string()], [subject, "hello"]);
    subscription.unsubscribe();
}

async function accepted(server, options) {
    const client = await once(server, options);
    await roundTrip(client);
    await client.close();
}

/** Asserts that the server refuses, and that it says why. */
async function refused(server, options) {
    await assert.rejects(once(server, options), AuthorizationError);
}

const nkey = (seed) => ({ authenticator: nkeyAuthenticator(new TextEncoder().encode(seed)) });

function tls(certificate) {
    const paths = settings.certificates[certificate];
    return { tls: { caFile: settings.ca, certFile: paths?.cert, keyFile: paths?.key } };
}

/** Asserts that what `act` does isn't permitted to the client, and that the client hears so. */
async function violates(client, operation, subject, act) {
    const told = status(client, "error");
    act();
    const { error } = await told;
    assert(error instanceof PermissionViolationError, error);
    assert.deepEqual([error.operation, error.subject], [operation, subject]);
}

const alice = { user: "alice", pass: "alices-password" };
const bob = { user: "bob", pass: "bobs-password" };
const limited = { user: "limited", pass: "limiteds" };

const checks = {
    async connect() {
        const client = await open("plain");
        assert.equal(client.info.max_payload, 1024 * 1024);
        await client.flush();
        await client.close();
    },
    async publish_subscribe() {
        const client = await open("plain");
        const subscription = client.subscribe("orders.*.>");
        for (let number = 0; number < 100; number++) {
            client.publish(`orders.${number}.new.big`, String(number));
        }
        client.publish("orders.short", "not for us");
        client.publish("orders.last.one");
        const messages = await take(subscription, 101);
        const last = messages.pop();
        messages.forEach((message, number) => {
            assert.deepEqual([message.subject, message.string()], [`orders.${number}.new.big`, String(number)]);
        });
        assert.deepEqual([last.subject, last.data.length], ["orders.last.one", 0]);
        await client.close();
    },
    async headers() {
        const client = await open("plain");
        const subscription = client.subscribe("with.headers");
        const sent = headers();
        sent.append("Many", "one");
        sent.append("Many", "two words");
        client.publish("with.headers", "body", { headers: sent });
        client.publish("with.headers", "", { headers: sent });
        const messages = await take(subscription, 2);
        assert.deepEqual(messages.map((each) => each.string()), ["body", ""]);
        for (const message of messages) {
            assert.deepEqual(message.headers.values("Many"), ["one", "two words"]);
        }
        await client.close();
    },
    async queue_group() {
        const client = await open("plain");
        const workers = await Promise.all([1, 2, 3].map(() => open("plain")));
        const [seen, shares] = [[], [0, 0, 0]];
        let everything = 0;
        workers.forEach((worker, index) => {
            const callback = (_, message) => {
                seen.push(Number(message.string()));
                shares[index]++;
            };
            worker.subscribe("work", { queue: "workers", callback });
        });
        client.subscribe("work", { callback: () => everything++ });
        await Promise.all(workers.map((worker) => worker.flush()));
        const numbers = Array.from({ length: 90 }, (_, number) => number);
        numbers.forEach((number) => client.publish("work", String(number)));
        await client.flush();
        await Promise.all(workers.map((worker) => worker.flush()));
        assert.deepEqual(seen.sort((a, b) => a - b), numbers);
        assert(shares.every((share) => share > 0), `an idle worker: ${shares}`);
        assert.equal(everything, 90);
        await Promise.all([client, ...workers].map((each) => each.close()));
    },
    async request_reply() {
        const [client, service] = [await open("plain"), await open("plain")];
        service.subscribe("ask", { callback: (_, message) => message.respond(`re: ${message.string()}`) });
        await service.flush();
        const numbers = Array.from({ length: 20 }, (_, number) => number);
        const answers = await Promise.all(numbers.map((n) => client.request("ask", String(n), { timeout: 5000 })));
        assert.deepEqual(answers.map((each) => each.string()), numbers.map((n) => `re: ${n}`));
        await client.close();
        await service.close();
    },
    async no_responders() {
        const client = await open("plain");
        await assert.rejects(client.request("nobody.here", "", { timeout: 10_000 }), (error) => {
            assert(error instanceof RequestError && error.cause instanceof NoRespondersError, error);
            return true;
        });
        await client.close();
    },
    async drain() {
        const [publisher, client] = [await open("plain"), await open("plain")];
        const seen = [];
        const subscription = client.subscribe("drained");
        const reading = (async () => {
            for await (const message of subscription) {
                await new Promise((resolve) => setTimeout(resolve, 1));
                seen.push(Number(message.string()));
            }
        })();
        await client.flush();
        const numbers = Array.from({ length: 100 }, (_, number) => number);
        numbers.forEach((number) => publisher.publish("drained", String(number)));
        await publisher.flush();
        await client.drain();
        await reading;
        assert(client.isClosed());
        assert.deepEqual(seen, numbers);
        await publisher.close();
    },
    async max_payload() {
        const size = settings.small_payload;
        const client = await open("small");
        const subscription = client.subscribe("large");
        client.publish("large", "x".repeat(size));
        const [message] = await take(subscription, 1);
        assert.equal(message.data.length, size);
        assert.throws(() => client.publish("large", "x".repeat(size + 1)), InvalidArgumentError);
        await client.close();
    },
    token: () => accepted("token", { token: "the-token" }),
    token_refused: () => refused("token", { token: "another" }),
    password: () => accepted("users", alice),
    password_refused: () => refused("users", { ...alice, pass: "another" }),
    bcrypt: () => accepted("users", bob),
    bcrypt_refused: () => refused("users", { ...bob, pass: "another" }),
    nkey: () => accepted("users", nkey(settings.nkey_seed)),
    nkey_refused: () => refused("users", nkey(settings.unknown_nkey_seed)),
    async no_auth_user() {
        const client = await once("users");
        await roundTrip(client, "guest.book");
        await violates(client, "publish", "elsewhere", () => client.publish("elsewhere"));
        await client.close();
    },
    async permissions_publish() {
        const client = await once("users", limited);
        await violates(client, "publish", "denied.publish", () => client.publish("denied.publish"));
        await roundTrip(client, "allowed.subject");
        await client.close();
    },
    async permissions_subscribe() {
        const client = await once("users", limited);
        let told;
        await violates(client, "subscription", "denied.subscribe", () => {
            client.subscribe("denied.subscribe", { callback: (error) => { told = error; } });
        });
        assert(told instanceof PermissionViolationError, told);
        await roundTrip(client, "allowed.subject");
        await client.close();
    },
    tls: () => accepted("tls", tls()),
    async tls_certificate() {
        const client = await once("mapped", tls("alice"));
        await roundTrip(client, "alice.inbox");
        await violates(client, "publish", "elsewhere", () => client.publish("elsewhere"));
        await client.close();
    },
    async tls_certificate_missing() {
        // What the client makes of the server's alert depends on where it is in the handshake, so any error will do;
        // that the same server lets others in, other checks show.
        await assert.rejects(once("mapped", tls()));
    },
    tls_certificate_unknown: () => refused("mapped", tls("nobody")),
    async reconnect() {
        const client = await open("plain", { reconnectTimeWait: 50 });
        const subscription = client.subscribe("kept");
        await client.flush();
        const reconnected = status(client, "reconnect");
        await act("restart plain");
        await reconnected;
        client.publish("kept", "still here");
        const [message] = await take(subscription, 1);
        assert.equal(message.string(), "still here");
        await client.close();
    },
    async lame_duck() {
        const client = await open("lame");
        const told = status(client, "ldm");
        await act("lame-duck lame");
        await told;
        await client.close();
    },
};

run(checks);
