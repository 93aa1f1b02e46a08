// Checks of @nats-io/jetstream, kv, obj and services, unmodified. How it talks to the test, `checks.cjs` says.

"use strict";

const { jetstream, jetstreamManager } = require("@nats-io/jetstream");
const { open, run } = require("./checks.cjs");

/** Returns a check that gives `check` a client and a manager of a connection of its own. */
function connected(check) {
    return async () => {
        const nc = await open("js", { reconnectTimeWait: 50, maxReconnectAttempts: -1 });
        try {
            const options = { timeout: 20_000 };
            await check({ nc, js: jetstream(nc, options), jsm: await jetstreamManager(nc, options) });
        } finally {
            await nc.close();
        }
    };
}

const only = process.argv.slice(3);
const checks = {};
for (const file of ["streams", "consumers", "stores", "services"]) {
    for (const [name, check] of Object.entries(require(`./${file}.cjs`).checks)) {
        if (only.length === 0 || only.includes(name)) {
            checks[name] = connected(check);
        }
    }
}
run(checks, 60_000);
