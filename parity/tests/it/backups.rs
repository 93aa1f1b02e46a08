//! Backups between servers: what one writes the other restores, message by message and consumer by consumer.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::{Client, HeaderMap};
use futures::StreamExt;
use natrix_parity::servers::{Implementation, Server, ServerBuilder};
use serde_json::{Value, json};
use tokio::time::timeout;

const MESSAGES: u64 = 400;
const LIMIT: Duration = Duration::from_secs(20);

fn start(implementation: Implementation) -> Result<Server> {
    let builder = ServerBuilder::new(implementation)?;
    let config = format!("jetstream {{ store_dir: {:?} }}", builder.dir().join("js"));
    builder.config(&config)?.start()
}

async fn ask(client: &Client, subject: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    let answer = timeout(LIMIT, client.request(subject.to_owned(), body.into())).await??;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    ensure!(answer.get("error").is_none(), "{subject}: {answer}");
    Ok(answer)
}

/// Makes a stream with all that a backup has to keep: headers, binary and large payloads, gaps, consumers in the middle of it.
async fn fill(client: &Client, storage: &str) -> Result<()> {
    let config = json!({"name": "S", "subjects": ["s.>"], "storage": storage, "allow_msg_ttl": true});
    ask(client, "$JS.API.STREAM.CREATE.S", &config).await?;
    for at in 0..MESSAGES {
        let mut headers = HeaderMap::new();
        headers.insert("Number", at.to_string());
        if at % 7 == 0 {
            headers.insert("Nats-TTL", "1h");
        }
        let payload: Vec<u8> = match at % 50 {
            49 => vec![at as u8; 100_000],
            _ => (0..at * 3).map(|byte| (byte * byte + at) as u8).collect(),
        };
        let subject = format!("s.{}.{at}", at % 3);
        let published = match at % 5 {
            0 => client.request(subject, payload.into()).await?,
            _ => client.request_with_headers(subject, headers, payload.into()).await?,
        };
        ensure!(published.payload.starts_with(b"{\"stream\":\"S\""), "{published:?}");
    }
    for sequence in [1, 2, 50, 51, MESSAGES] {
        ask(client, "$JS.API.STREAM.MSG.DELETE.S", &json!({"seq": sequence})).await?;
    }
    // With as many as it may have under way, it gets nothing new: what it gets then is delivered again.
    let explicit = json!({"durable_name": "explicit", "ack_policy": "explicit", "ack_wait": 200_000_000, "max_ack_pending": 15});
    let all = json!({"durable_name": "all", "ack_policy": "all", "filter_subject": "s.1.*"});
    let named = json!({"name": "named", "ack_policy": "explicit", "inactive_threshold": 600_000_000_000_u64});
    for config in [&explicit, &all, &named] {
        let name =
            config.get("durable_name").or(config.get("name")).and_then(Value::as_str).context("named")?;
        let body = json!({"stream_name": "S", "config": config});
        ask(client, &format!("$JS.API.CONSUMER.CREATE.S.{name}"), &body).await?;
        let mut messages = client.subscribe(format!("in.{name}")).await?;
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.S.{name}");
        client.publish_with_reply(next, format!("in.{name}"), "20".into()).await?;
        for at in 0..20 {
            let message = timeout(LIMIT, messages.next()).await?.context("a message")?;
            let reply = message.reply.context("where to acknowledge")?;
            if at % 4 == 1 {
                // Answered, so that it counts before anybody looks.
                timeout(LIMIT, client.request(reply, "+ACK".into())).await??;
            }
        }
    }
    // What was not acknowledged is delivered again, and counts as that.
    let mut again = client.subscribe("again").await?;
    client.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.S.explicit", "again", "3".into()).await?;
    for _ in 0..3 {
        timeout(LIMIT, again.next()).await?.context("a message")?;
    }
    Ok(())
}

/// Returns all that can be asked of the stream, without what belongs to a server.
async fn describe(client: &Client) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut info = ask(client, "$JS.API.STREAM.INFO.S", &json!({"deleted_details": true})).await?;
    all.push(info["config"].take());
    // The last message is gone, and a backup doesn't say when it was stored.
    info["state"].as_object_mut().context("a state")?.remove("last_ts");
    all.push(info["state"].take());
    for sequence in 1..=MESSAGES {
        let request = json!({"seq": sequence});
        match ask(client, "$JS.API.STREAM.MSG.GET.S", &request).await {
            Ok(mut message) => all.push(message["message"].take()),
            Err(_) => all.push(Value::from(sequence)),
        }
    }
    for name in ["explicit", "all", "named"] {
        let mut info = ask(client, &format!("$JS.API.CONSUMER.INFO.S.{name}"), &Value::Null).await?;
        for place in ["delivered", "ack_floor"] {
            // When it was there last isn't part of a backup.
            info[place].as_object_mut().context("a place")?.remove("last_active");
        }
        let kept = ["config", "delivered", "ack_floor", "num_ack_pending", "num_redelivered", "num_pending"];
        all.extend(kept.map(|key| info[key].take()));
    }
    Ok(all)
}

/// Backs the stream up; returns what was answered, and the backup.
async fn back_up(client: &Client, chunk: u64) -> Result<(Value, Vec<u8>)> {
    let mut chunks = client.subscribe("deliver").await?;
    client.flush().await?;
    let request = json!({"deliver_subject": "deliver", "chunk_size": chunk, "window_size": 4 * chunk});
    let answer = ask(client, "$JS.API.STREAM.SNAPSHOT.S", &request).await?;
    let mut backup = Vec::new();
    loop {
        let chunk = timeout(LIMIT, chunks.next()).await?.context("a chunk")?;
        if let Some(reply) = chunk.reply {
            client.publish(reply, "".into()).await?;
        }
        if chunk.payload.is_empty() {
            ensure!(chunk.status.is_none_or(|status| status.as_u16() == 204), "{:?}", chunk.status);
            return Ok((answer, backup));
        }
        backup.extend_from_slice(&chunk.payload);
    }
}

async fn restore(client: &Client, answer: &Value, backup: &[u8], chunk: usize) -> Result<()> {
    let request = json!({"config": answer["config"], "state": answer["state"]});
    let begun = ask(client, "$JS.API.STREAM.RESTORE.S", &request).await?;
    let deliver = begun["deliver_subject"].as_str().context("where to")?.to_owned();
    for chunk in backup.chunks(chunk) {
        let taken = client.request(deliver.clone(), chunk.to_vec().into());
        ensure!(timeout(LIMIT, taken).await??.payload.is_empty(), "refused");
    }
    ask(client, &deliver, &Value::Null).await?;
    Ok(())
}

async fn carry(from: Implementation, to: Implementation, storage: &str, chunk: u64) -> Result<()> {
    let (source, mut target) = (start(from)?, start(to)?);
    let (client, other) =
        (async_nats::connect(source.url()).await?, async_nats::connect(target.url()).await?);
    fill(&client, storage).await?;
    let (answer, backup) = back_up(&client, chunk).await?;
    let expected = describe(&client).await?;
    restore(&other, &answer, &backup, 70_000).await?;
    let found = describe(&other).await?;
    ensure!(found.len() == expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        ensure!(found == expected, "{found} is not {expected}");
    }
    if storage == "file" {
        drop(other);
        target.restart()?;
        let other = async_nats::connect(target.url()).await?;
        let found = describe(&other).await?;
        ensure!(found[..2 + MESSAGES as usize] == expected[..2 + MESSAGES as usize], "after a restart");
    }
    Ok(())
}

#[test]
fn what_one_server_backs_up_the_other_restores() {
    for implementation in Implementation::ALL {
        if let Err(error) = implementation.find() {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            return eprintln!("skipped: {error}");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (go, natrix) = (Implementation::Go, Implementation::Natrix);
    for (from, to, storage, chunk) in [
        (go, natrix, "file", 1 << 17),
        (natrix, go, "file", 1 << 17),
        (go, natrix, "memory", 1 << 14),
        (natrix, natrix, "file", 1 << 14),
    ] {
        if let Err(error) = runtime.block_on(carry(from, to, storage, chunk)) {
            panic!("from {from} to {to}, {storage}: {error:#}");
        }
    }
}
