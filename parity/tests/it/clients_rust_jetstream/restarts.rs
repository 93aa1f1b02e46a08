//! What is still there when the server has ended and was started again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{kv, object_store};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::{anyhow_of, context, eventually, fetched, filled, numbers, pulling};
use crate::clients_rust::Outcomes;
use crate::clients_servers::Servers;

pub(super) async fn all(servers: &mut Servers, outcomes: &mut Outcomes) {
    for (name, command) in [("restart_stop", "stop js"), ("restart_kill", "restart js")] {
        outcomes.add(name, restarted(servers, name, command)).await;
    }
}

/// Everything that was answered is there after the server's end, however it came about.
async fn restarted(servers: &mut Servers, name: &str, command: &str) -> Result<()> {
    let js = context(&servers.url("js")).await?;
    let stream = filled(&js, name, 100).await?;
    stream.delete_message(50).await?;
    let publish = || js.send_publish(name.to_owned(), PublishMessage::build().message_id("last"));
    ensure!(publish().await?.await?.sequence == 101);
    let config = pull::Config { ack_wait: Duration::from_secs(60), ..Default::default() };
    let consumer = pulling(&stream, config.clone()).await?;
    for message in &fetched(&consumer, 20, 5000).await?[..10] {
        message.double_ack().await.map_err(anyhow_of)?;
    }
    let bucket = kv::Config { bucket: name.to_owned(), history: 3, ..Default::default() };
    let kv = js.create_key_value(bucket).await?;
    for number in 1..=10 {
        kv.put("key", number.to_string().into()).await?;
    }
    let objects = object_store::Config { bucket: name.to_owned(), ..Default::default() };
    let objects = js.create_object_store(objects).await?;
    objects.put("object", &mut [1; 500_000].as_slice()).await?;
    let before = stream.get_info().await?;
    if !servers.has_durable_acks() {
        // It answers before it writes, and tells nobody when it has written: only time helps.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    servers.act(command)?;

    // A request that was sent before the client noticed is lost.
    let second = Duration::from_secs(1);
    let asked = async || timeout(second, stream.get_info()).await;
    eventually("back", async || Ok(asked().await.is_ok_and(|info| info.is_ok()))).await?;
    let after = stream.get_info().await?;
    ensure!(format!("{:?}", after.state) == format!("{:?}", before.state), "{after:?}");
    ensure!(after.config == before.config, "{after:?}");
    for sequence in [1, 49, 51, 100] {
        ensure!(stream.get_raw_message(sequence).await?.payload == sequence.to_string());
    }
    let ack = publish().await?.await?;
    ensure!((ack.sequence, ack.duplicate) == (101, true), "{ack:?}");
    let info = consumer.get_info().await?;
    ensure!(info.ack_floor.stream_sequence == 10, "{info:?}");
    // What was delivered and not acknowledged comes again after its wait.
    let durable_name = Some("one".to_owned());
    stream.update_consumer(pull::Config { durable_name, ack_wait: Duration::from_secs(1), ..config }).await?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let mut messages = fetched(&consumer, 100, 1000).await?;
        messages.retain(|message| !message.payload.is_empty());
        seen.extend(numbers(&messages)?);
        for message in messages {
            message.ack().await.map_err(anyhow_of)?;
        }
    }
    ensure!(seen.into_iter().eq((11..=100).filter(|number| *number != 50)));
    let value = kv.entry("key").await?.context("no value")?;
    ensure!((&*value.value, value.revision) == (b"10", 10), "{value:?}");
    let mut data = Vec::new();
    objects.get("object").await?.read_to_end(&mut data).await?;
    ensure!(data == [1; 500_000]);
    Ok(())
}
