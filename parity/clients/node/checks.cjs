// How a script talks to the test that runs it: the settings of the servers are JSON in the only argument. A script writes
// `ok NAME` or `FAIL NAME WHY` per check; `do ACTION SERVER` asks for something to be done to a server, after which it reads
// the line `done`.

"use strict";

const assert = require("node:assert/strict");
const readline = require("node:readline");
const { connect } = require("@nats-io/transport-node");

const settings = JSON.parse(process.argv[2]);
const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const open = (server, options = {}) => connect({ servers: settings.urls[server], ...options });

/** Has something done to a server, and waits until it is done. */
async function act(command) {
    console.log(`do ${command}`);
    const { value } = await input.next();
    assert.equal(value, "done");
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Fails unless `promise` is settled in time. */
async function within(ms, what, promise) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

/** Waits until an asynchronous function returns something true, and returns that. */
async function eventually(what, condition, limit = 15_000) {
    const end = Date.now() + limit;
    for (;;) {
        const answer = await condition();
        if (answer) {
            return answer;
        }
        assert(Date.now() < end, `never: ${what}`);
        await sleep(50);
    }
}

/** Asserts that the server refuses a request with this error code of JetStream. */
async function refused(code, request) {
    await assert.rejects(request, (error) => {
        assert.equal(error.code, code, error);
        return true;
    });
}

/** Returns the next `count` items of an iterator, or of what has one. */
async function take(iterable, count, ms = 10_000) {
    const items = [];
    const iterator = iterable.next ? iterable : iterable[Symbol.asyncIterator]();
    const all = (async () => {
        while (items.length < count) {
            const { value, done } = await iterator.next();
            if (done) {
                break;
            }
            items.push(value);
        }
    })();
    await within(ms, `${count} items`, all);
    return items;
}

/** Returns all items of an iterator that ends. */
async function collect(iterable) {
    const items = [];
    for await (const item of iterable) {
        items.push(item);
    }
    return items;
}

/** Does all checks, each within a limit, and ends the process. */
async function run(checks, limit = 15_000) {
    let failed = false;
    for (const [name, check] of Object.entries(checks)) {
        try {
            await within(limit, "end of the check", check());
            console.log(`ok ${name}`);
        } catch (error) {
            failed = true;
            console.log(`FAIL ${name} ${String(error.stack).replace(/\s+/g, " ")}`);
        }
    }
    // Waiting for input would keep the process alive, and so would a connection that a failed check left open.
    process.exit(failed ? 1 : 0);
}

module.exports = { act, collect, eventually, open, refused, run, settings, sleep, take, within };
