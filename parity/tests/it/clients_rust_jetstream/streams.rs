//! Streams, and what is published to them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Compression, Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::stream::{Republish, SubjectTransform};
use futures::{StreamExt, TryStreamExt};
use tokio::time::timeout;

use super::{ARRIVAL, anyhow_of, check_all, eventually, fetched, filled, pulling, refused};
use crate::clients_rust::Outcomes;

pub(super) async fn all(url: &str, outcomes: &mut Outcomes) {
    check_all!(
        url,
        outcomes,
        account_info,
        stream_create_info,
        stream_update,
        stream_names_list,
        stream_delete,
        stream_errors,
        stream_subjects,
        publish_ack,
        publish_async,
        publish_no_stream,
        publish_dedup,
        publish_expected,
        publish_discard_new,
        message_ttl,
        message_get,
        message_delete,
        direct_get,
        purge,
        limits,
        work_queue,
        interest,
        transform_republish,
    );
}

fn config(name: &str, subjects: &[&str]) -> Config {
    let subjects = subjects.iter().map(ToString::to_string).collect();
    Config { name: name.to_owned(), subjects, ..Default::default() }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.as_str())
}

async fn account_info(js: &Context) -> Result<()> {
    let before = js.query_account().await?;
    let stream = filled(js, "ACCOUNT", 10).await?;
    pulling(&stream, Default::default()).await?;
    let after = js.query_account().await?;
    ensure!(after.streams == before.streams + 1 && after.consumers == before.consumers + 1, "{after:?}");
    ensure!(after.storage > before.storage && after.requests.total > before.requests.total, "{after:?}");
    js.delete_stream("ACCOUNT").await?;
    ensure!(js.query_account().await?.storage == before.storage);
    Ok(())
}

async fn stream_create_info(js: &Context) -> Result<()> {
    let wanted = Config {
        max_messages: 1000,
        max_bytes: 1 << 20,
        max_age: Duration::from_secs(3600),
        max_messages_per_subject: 100,
        max_message_size: 1000,
        max_consumers: 10,
        discard: DiscardPolicy::New,
        duplicate_window: Duration::from_secs(60),
        description: Some("all that can be set".to_owned()),
        compression: Some(Compression::S2),
        first_sequence: Some(100),
        allow_direct: true,
        allow_rollup: true,
        allow_message_ttl: true,
        deny_delete: true,
        num_replicas: 1,
        ..config("CREATE", &["create.*", "created.>"])
    };
    let mut stream = js.create_stream(wanted.clone()).await?;
    let created = stream.cached_info().clone();
    let info = stream.info().await?;
    for got in [&created.config, &info.config] {
        let got = Config { metadata: Default::default(), ..got.clone() };
        ensure!(format!("{got:?}") == format!("{wanted:?}"), "{got:?} instead of {wanted:?}");
    }
    ensure!((info.state.messages, info.state.first_sequence, info.state.last_sequence) == (0, 100, 99));
    ensure!(info.created == created.created);
    ensure!(js.publish("created.by.me", "".into()).await?.await?.sequence == 100);
    Ok(())
}

async fn stream_update(js: &Context) -> Result<()> {
    let mut stream = filled(js, "UPDATE", 10).await?;
    let changed = Config { max_messages: 4, ..config("UPDATE", &["update", "update.b"]) };
    js.update_stream(&changed).await?;
    let info = stream.info().await?;
    ensure!(info.config.subjects == ["update", "update.b"] && info.state.first_sequence == 7, "{info:?}");
    refused(10052, js.update_stream(Config { storage: StorageType::Memory, ..changed }).await)?;
    refused(10059, js.update_stream(config("UPDATE_MISSING", &["update_missing"])).await)
}

async fn stream_names_list(js: &Context) -> Result<()> {
    let mut names: Vec<_> = (0..300).map(|number| format!("LIST_{number}")).collect();
    names.sort();
    for name in &names {
        let storage = StorageType::Memory;
        js.create_stream(Config { storage, ..config(name, &[&name.to_lowercase()]) }).await?;
    }
    let of_us = |name: &String| name.starts_with("LIST_");
    // This client hands out each page from its end.
    let mut found: Vec<String> = js.stream_names().try_collect().await?;
    let mut listed: Vec<_> = js.streams().map_ok(|info| info.config.name).try_collect().await?;
    for each in [&mut found, &mut listed] {
        each.retain(of_us);
        each.sort();
        ensure!(*each == names, "{} streams", each.len());
    }
    ensure!(js.stream_by_subject("list_42").await? == "LIST_42");
    for name in &names {
        ensure!(js.delete_stream(name).await?.success);
    }
    Ok(())
}

async fn stream_delete(js: &Context) -> Result<()> {
    let stream = filled(js, "DELETE", 3).await?;
    pulling(&stream, Default::default()).await?;
    js.delete_stream("DELETE").await?;
    refused(10059, js.get_stream("DELETE").await.map(drop))?;
    refused(10059, js.delete_stream("DELETE").await.map(|_| ()))?;
    let stream = js.create_stream(config("DELETE", &["delete"])).await?;
    let state = &stream.cached_info().state;
    ensure!((state.messages, state.last_sequence, state.consumer_count) == (0, 0, 0), "{state:?}");
    refused(10014, stream.consumer_info("one").await)
}

async fn stream_errors(js: &Context) -> Result<()> {
    js.create_stream(config("ERRORS", &["errors.*"])).await?;
    refused(10058, js.create_stream(config("ERRORS", &["errors.other"])).await.map(drop))?;
    refused(10065, js.create_stream(config("ERRORS_TOO", &["errors.>"])).await.map(drop))?;
    let replicated = Config { num_replicas: 3, ..config("ERRORS_TOO", &["errors_too"]) };
    refused(10074, js.create_stream(replicated).await.map(drop))
}

async fn stream_subjects(js: &Context) -> Result<()> {
    let mut stream = filled(js, "SUBJECTS", 0).await?;
    for number in 0..30 {
        js.publish(format!("subjects.{}", number % 3), "".into()).await?.await?;
    }
    stream.delete_message(5).await?;
    let mut found: Vec<_> = stream.info_with_subjects("subjects.*").await?.try_collect().await?;
    found.sort();
    let wanted = [("subjects.0", 10), ("subjects.1", 9), ("subjects.2", 10)];
    ensure!(found == wanted.map(|(subject, count)| (subject.to_owned(), count)), "{found:?}");
    ensure!(stream.info().await?.state.deleted_count == Some(1));
    Ok(())
}

async fn publish_ack(js: &Context) -> Result<()> {
    let stream = filled(js, "ACK", 0).await?;
    for number in 1..=100 {
        let mut headers = HeaderMap::new();
        headers.insert("Number", number.to_string());
        let ack = js.publish_with_headers("ack", headers, number.to_string().into()).await?.await?;
        ensure!((&*ack.stream, ack.sequence, ack.duplicate) == ("ACK", number, false), "{ack:?}");
    }
    let message = stream.get_raw_message(42).await?;
    ensure!(message.payload == "42" && header(&message.headers, "Number") == "42", "{message:?}");
    Ok(())
}

async fn publish_async(js: &Context) -> Result<()> {
    let stream = filled(js, "ASYNC", 0).await?;
    let mut acks = Vec::new();
    for number in 1..=2000 {
        acks.push(js.publish("async", number.to_string().into()).await?);
    }
    for (number, ack) in (1..).zip(acks) {
        ensure!(ack.await?.sequence == number);
    }
    ensure!(stream.get_raw_message(2000).await?.payload == "2000");
    Ok(())
}

async fn publish_no_stream(js: &Context) -> Result<()> {
    let error = js.publish("nobody.stores.this", "".into()).await?.await.err().context("an ack")?;
    ensure!(error.kind() == PublishErrorKind::StreamNotFound, "{error:?}");
    Ok(())
}

async fn publish_dedup(js: &Context) -> Result<()> {
    let window = Duration::from_secs(1);
    js.create_stream(Config { duplicate_window: window, ..config("DEDUP", &["dedup"]) }).await?;
    let publish = async |id: &str| -> Result<_> {
        let ack = js.send_publish("dedup", PublishMessage::build().message_id(id)).await?.await?;
        Ok((ack.sequence, ack.duplicate))
    };
    ensure!(publish("one").await? == (1, false));
    ensure!(publish("one").await? == (1, true));
    ensure!(publish("two").await? == (2, false));
    eventually("forgotten", async || Ok(publish("one").await? == (3, false))).await
}

async fn publish_expected(js: &Context) -> Result<()> {
    filled(js, "EXPECTED", 0).await?;
    let publish = async |message: PublishMessage| js.send_publish("expected", message).await?.await;
    let new = PublishMessage::build;
    ensure!(publish(new().expected_stream("EXPECTED").message_id("first")).await?.sequence == 1);
    refused(10060, publish(new().expected_stream("ANOTHER")).await)?;
    ensure!(publish(new().expected_last_sequence(1)).await?.sequence == 2);
    let error = publish(new().expected_last_sequence(1)).await.err().context("an ack")?;
    ensure!(error.kind() == PublishErrorKind::WrongLastSequence, "{error:?}");
    let error = publish(new().expected_last_message_id("first")).await.err().context("an ack")?;
    ensure!(error.kind() == PublishErrorKind::WrongLastMessageId, "{error:?}");
    ensure!(publish(new().expected_last_subject_sequence(2)).await?.sequence == 3);
    let error = publish(new().expected_last_subject_sequence(2)).await.err().context("an ack")?;
    ensure!(error.kind() == PublishErrorKind::WrongLastSequence, "{error:?}");
    Ok(())
}

async fn publish_discard_new(js: &Context) -> Result<()> {
    let discard =
        Config { discard: DiscardPolicy::New, max_messages: 3, max_message_size: 10, ..Default::default() };
    let stream =
        js.create_stream(Config { name: "DISCARD".into(), subjects: vec!["discard".into()], ..discard });
    let stream = stream.await?;
    let publish = async |payload: &'static str| js.publish("discard", payload.into()).await?.await;
    for _ in 0..3 {
        publish("").await?;
    }
    refused(10077, publish("").await)?;
    refused(10054, publish("more than ten").await)?;
    stream.delete_message(2).await?;
    ensure!(publish("").await?.sequence == 4);
    Ok(())
}

async fn message_ttl(js: &Context) -> Result<()> {
    let marker = Some(Duration::from_secs(2));
    let ttl =
        Config { allow_message_ttl: true, subject_delete_marker_ttl: marker, ..config("TTL", &["ttl.*"]) };
    let stream = js.create_stream(ttl).await?;
    let publish = async |subject: &'static str, seconds: u64| {
        js.send_publish(subject, PublishMessage::build().ttl(Duration::from_secs(seconds))).await?.await
    };
    publish("ttl.short", 1).await?;
    publish("ttl.long", 3600).await?;
    let last = async || stream.get_last_raw_message_by_subject("ttl.short").await;
    eventually("marker", async || Ok(last().await?.sequence == 3)).await?;
    let headers = last().await?.headers;
    ensure!(header(&headers, "Nats-Marker-Reason") == "MaxAge", "{headers:?}");
    refused(10037, stream.get_raw_message(1).await)?;
    ensure!(stream.get_raw_message(2).await?.subject == "ttl.long".into());
    Ok(())
}

async fn message_get(js: &Context) -> Result<()> {
    let stream = filled(js, "GET", 3).await?;
    js.publish("get.other", "4".into()).await?.await?;
    let message = stream.get_raw_message(2).await?;
    ensure!((&*message.subject, &*message.payload, message.sequence) == ("get", b"2", 2), "{message:?}");
    ensure!(stream.get_last_raw_message_by_subject("get").await?.sequence == 3);
    ensure!(stream.get_first_raw_message_by_subject("get.*", 1).await?.sequence == 4);
    ensure!(stream.get_first_raw_message_by_subject("get", 2).await?.sequence == 2);
    ensure!(stream.get_next_raw_message_by_subject("get").await?.sequence == 1);
    refused(10037, stream.get_raw_message(9).await)?;
    refused(10037, stream.get_last_raw_message_by_subject("get.nothing").await)
}

async fn message_delete(js: &Context) -> Result<()> {
    let mut stream = filled(js, "ERASE", 5).await?;
    for sequence in [3, 1] {
        ensure!(stream.delete_message(sequence).await?);
    }
    let state = stream.info().await?.state.clone();
    ensure!((state.messages, state.first_sequence, state.last_sequence) == (3, 2, 5), "{state:?}");
    refused(10043, stream.delete_message(3).await)?;
    let denied = Config { deny_delete: true, deny_purge: true, ..config("ERASE_NOT", &["erase_not"]) };
    let denied = js.create_stream(denied).await?;
    js.publish("erase_not", "".into()).await?.await?;
    refused(10057, denied.delete_message(1).await)?;
    refused(10110, denied.purge().await)
}

async fn direct_get(js: &Context) -> Result<()> {
    let stream = js.create_stream(Config { allow_direct: true, ..config("DIRECT", &["direct.*"]) }).await?;
    for (number, subject) in ["a", "b", "a", "b"].iter().enumerate() {
        js.publish(format!("direct.{subject}"), number.to_string().into()).await?.await?;
    }
    let message = stream.direct_get(2).await?;
    ensure!((&*message.subject, &*message.payload, message.sequence) == ("direct.b", b"1", 2), "{message:?}");
    ensure!(stream.direct_get_last_for_subject("direct.a").await?.sequence == 3);
    ensure!(stream.direct_get_first_for_subject("direct.b").await?.sequence == 2);
    ensure!(stream.direct_get_next_for_subject("direct.b", Some(3)).await?.sequence == 4);
    refused(404, stream.direct_get(9).await.map_err(|error| format!("404 {:?}", error.kind())))?;
    ensure!(stream.direct_get_last_for_subject("direct.c").await.is_err());
    Ok(())
}

async fn purge(js: &Context) -> Result<()> {
    let mut stream = filled(js, "PURGE", 10).await?;
    for _ in 0..10 {
        js.publish("purge.b", "".into()).await?.await?;
    }
    ensure!(stream.purge().filter("purge").keep(3).await?.purged == 7);
    ensure!(stream.purge().sequence(10).await?.purged == 2);
    ensure!(stream.purge().filter("purge.b").sequence(18).await?.purged == 7);
    ensure!(stream.purge().keep(2).await?.purged == 2);
    ensure!(stream.purge().await?.purged == 2);
    let state = stream.info().await?.state.clone();
    ensure!((state.messages, state.first_sequence, state.last_sequence) == (0, 21, 20), "{state:?}");
    Ok(())
}

async fn limits(js: &Context) -> Result<()> {
    let few = Config { max_messages: 5, max_messages_per_subject: 2, ..config("LIMITS", &["limits.*"]) };
    let mut few = js.create_stream(few).await?;
    for subject in ["a", "a", "a", "b", "b", "b", "c", "d"] {
        js.publish(format!("limits.{subject}"), "".into()).await?.await?;
    }
    let state = &few.info().await?.state;
    ensure!((state.messages, state.first_sequence) == (5, 3), "{state:?}");
    let age = Config { max_age: Duration::from_secs(1), ..config("LIMITS_AGE", &["limits_age"]) };
    let age = js.create_stream(age).await?;
    js.publish("limits_age", "".into()).await?.await?;
    eventually("empty", async || Ok(age.get_info().await?.state.messages == 0)).await
}

async fn work_queue(js: &Context) -> Result<()> {
    let queue = Config { retention: RetentionPolicy::WorkQueue, ..config("WORK", &["work"]) };
    let stream = js.create_stream(queue).await?;
    for _ in 0..10 {
        js.publish("work", "".into()).await?.await?;
    }
    let worker = pulling(&stream, Default::default()).await?;
    for message in fetched(&worker, 6, 5000).await? {
        message.double_ack().await.map_err(anyhow_of)?;
    }
    eventually("removed", async || Ok(stream.get_info().await?.state.first_sequence == 7)).await
}

async fn interest(js: &Context) -> Result<()> {
    let interest = Config { retention: RetentionPolicy::Interest, ..config("INTEREST", &["interest"]) };
    let mut stream = js.create_stream(interest).await?;
    js.publish("interest", "".into()).await?.await?;
    ensure!(stream.info().await?.state.messages == 0);
    let worker = pulling(&stream, Default::default()).await?;
    for _ in 0..4 {
        js.publish("interest", "".into()).await?.await?;
    }
    for message in fetched(&worker, 3, 5000).await? {
        message.double_ack().await.map_err(anyhow_of)?;
    }
    eventually("removed", async || Ok(stream.get_info().await?.state.messages == 1)).await?;
    stream.delete_consumer("one").await?;
    eventually("empty", async || Ok(stream.get_info().await?.state.messages == 0)).await
}

async fn transform_republish(js: &Context) -> Result<()> {
    let mut copies = js.client().subscribe("copies.>").await?;
    let source = "transform.*".to_owned();
    let destination = "transformed.{{wildcard(1)}}".to_owned();
    let copied =
        Republish { source: "transformed.>".into(), destination: "copies.>".into(), headers_only: false };
    let transform = Config {
        subject_transform: Some(SubjectTransform { source, destination }),
        republish: Some(copied),
        ..config("TRANSFORM", &["transform.*"])
    };
    let stream = js.create_stream(transform).await?;
    js.publish("transform.me", "hello".into()).await?.await?;
    let copy = timeout(ARRIVAL, copies.next()).await?.context("no copy")?;
    ensure!((&*copy.subject, &*copy.payload) == ("copies.me", b"hello"), "{copy:?}");
    let headers = copy.headers.context("no headers")?;
    ensure!(header(&headers, "Nats-Subject") == "transformed.me", "{headers:?}");
    ensure!(&*stream.get_raw_message(1).await?.subject == "transformed.me");
    Ok(())
}
