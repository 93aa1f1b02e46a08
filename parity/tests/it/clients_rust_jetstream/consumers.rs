//! Consumers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull, push};
use async_nats::jetstream::{AckKind, Context, stream};
use futures::{StreamExt, TryStreamExt};
use tokio::time::{interval, timeout};

use super::{ARRIVAL, anyhow_of, check_all, eventually, fetched, filled, numbers, pulling, refused, take};
use crate::clients_rust::Outcomes;

pub(super) async fn all(url: &str, outcomes: &mut Outcomes) {
    check_all!(
        url,
        outcomes,
        consumer_create_info,
        consumer_update,
        consumer_names_list,
        consumer_delete,
        consumer_errors,
        pull_fetch,
        pull_expires,
        pull_consume,
        pull_max_bytes,
        pull_consumer_deleted,
        push_consumer,
        push_queue_group,
        push_flow_control,
        ordered_consumer,
        ordered_consumer_recreated,
        ack_double,
        ack_removes,
        ack_nak,
        ack_term,
        ack_in_progress,
        ack_wait,
        ack_none_all,
        max_deliver,
        backoff,
        max_ack_pending,
        filters,
        deliver_policies,
        headers_only,
        pause,
        inactive_threshold,
    );
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn consumer_create_info(js: &Context) -> Result<()> {
    let stream = filled(js, "CONSUMER", 10).await?;
    let wanted = pull::Config {
        durable_name: Some("one".into()),
        name: Some("one".into()),
        description: Some("all that can be set".into()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: 3 },
        ack_wait: ms(12_500),
        max_deliver: 7,
        filter_subject: "consumer".into(),
        max_waiting: 9,
        max_ack_pending: 11,
        inactive_threshold: Duration::from_secs(3600),
        ..Default::default()
    };
    let mut consumer = stream.create_consumer(wanted.clone()).await?;
    let info = consumer.info().await?;
    ensure!((info.num_pending, info.num_ack_pending, info.num_waiting) == (8, 0, 0), "{info:?}");
    ensure!((info.delivered.stream_sequence, info.ack_floor.stream_sequence) == (2, 2), "{info:?}");
    let got = &info.config;
    ensure!(got.durable_name == wanted.durable_name && got.description == wanted.description, "{got:?}");
    ensure!(got.deliver_policy == wanted.deliver_policy && got.ack_wait == wanted.ack_wait, "{got:?}");
    ensure!((got.max_deliver, got.max_waiting, got.max_ack_pending) == (7, 9, 11), "{got:?}");
    ensure!(got.inactive_threshold == wanted.inactive_threshold, "{got:?}");
    Ok(())
}

async fn consumer_update(js: &Context) -> Result<()> {
    let stream = filled(js, "CONSUMER_UPDATE", 1).await?;
    pulling(&stream, Default::default()).await?;
    let changed = pull::Config {
        durable_name: Some("one".into()),
        ack_wait: Duration::from_secs(20),
        max_deliver: 3,
        ..Default::default()
    };
    stream.update_consumer(changed.clone()).await?;
    let config = stream.consumer_info("one").await?.config;
    ensure!((config.ack_wait, config.max_deliver) == (Duration::from_secs(20), 3), "{config:?}");
    let new = pull::Config { deliver_policy: DeliverPolicy::New, ..changed };
    refused(10012, stream.update_consumer(new).await.map(drop))
}

async fn consumer_names_list(js: &Context) -> Result<()> {
    let stream = filled(js, "CONSUMER_LIST", 1).await?;
    let wanted: Vec<_> = (100..400).map(|number| format!("c{number}")).collect();
    for name in &wanted {
        pulling(&stream, pull::Config { durable_name: Some(name.clone()), ..Default::default() }).await?;
    }
    let mut names: Vec<String> = stream.consumer_names().try_collect().await?;
    names.sort();
    ensure!(names == wanted, "{} names", names.len());
    let mut listed: Vec<_> = stream.consumers().map_ok(|info| info.name).try_collect().await?;
    listed.sort();
    ensure!(listed == wanted, "{} consumers", listed.len());
    Ok(())
}

async fn consumer_delete(js: &Context) -> Result<()> {
    let stream = filled(js, "CONSUMER_DELETE", 1).await?;
    pulling(&stream, Default::default()).await?;
    ensure!(stream.delete_consumer("one").await?.success);
    refused(10014, stream.consumer_info("one").await)?;
    refused(10014, stream.delete_consumer("one").await.map(|_| ()))
}

async fn consumer_errors(js: &Context) -> Result<()> {
    let stream = filled(js, "CONSUMER_ERRORS", 1).await?;
    let config = pull::Config { durable_name: Some("one".into()), ..Default::default() };
    refused(10149, stream.update_consumer(config.clone()).await.map(drop))?;
    stream.create_consumer_strict(config.clone()).await?;
    let other = pull::Config { description: Some("another".into()), ..config.clone() };
    refused(10148, stream.create_consumer_strict(other).await.map(drop))?;
    let backoff = pull::Config { backoff: vec![ms(1000), ms(2000)], max_deliver: 1, ..config };
    refused(10116, stream.create_consumer(backoff).await.map(drop))
}

/// Waits until a request waits at a consumer.
async fn waited_at(consumer: &Consumer<pull::Config>) -> Result<()> {
    eventually("a request", async || Ok(consumer.get_info().await?.num_waiting > 0)).await
}

async fn pull_fetch(js: &Context) -> Result<()> {
    let stream = filled(js, "FETCH", 25).await?;
    let consumer = pulling(&stream, Default::default()).await?;
    let first = fetched(&consumer, 10, 5000).await?;
    ensure!(numbers(&first)? == (1..=10).collect::<Vec<_>>());
    for (number, message) in (1..).zip(&first) {
        let info = message.info().map_err(anyhow_of)?;
        ensure!((info.stream, info.consumer, info.delivered) == ("FETCH", "one", 1), "{info:?}");
        ensure!(
            (info.stream_sequence, info.consumer_sequence, info.pending) == (number, number, 25 - number)
        );
        message.ack().await.map_err(anyhow_of)?;
    }
    let rest: Vec<_> = consumer.fetch().max_messages(100).messages().await?.collect().await;
    ensure!(rest.len() == 15 && rest.iter().all(Result::is_ok), "{rest:?}");
    let later = async {
        waited_at(&consumer).await?;
        js.publish("fetch", "26".into()).await?.await?;
        anyhow::Ok(())
    };
    let (message, published) = tokio::join!(fetched(&consumer, 1, 10_000), later);
    published?;
    ensure!(numbers(&message?)? == [26]);
    Ok(())
}

async fn pull_expires(js: &Context) -> Result<()> {
    let stream = filled(js, "EXPIRES", 2).await?;
    let consumer = pulling(&stream, Default::default()).await?;
    let start = Instant::now();
    ensure!(numbers(&fetched(&consumer, 5, 1000).await?)? == [1, 2]);
    ensure!(start.elapsed() >= ms(900), "{:?}", start.elapsed());
    let empty: Vec<_> = consumer.fetch().max_messages(5).messages().await?.collect().await;
    ensure!(empty.is_empty(), "{empty:?}");
    Ok(())
}

async fn pull_consume(js: &Context) -> Result<()> {
    let stream = filled(js, "CONSUME", 0).await?;
    let consumer = pulling(&stream, Default::default()).await?;
    let mut messages =
        consumer.stream().max_messages_per_batch(50).heartbeat(ms(500)).expires(ms(2000)).messages().await?;
    let publish = async {
        for number in 1..=1000 {
            drop(js.publish("consume", number.to_string().into()).await?);
        }
        anyhow::Ok(())
    };
    let consume = async {
        let mut seen = Vec::new();
        while seen.len() < 1000 {
            let message = timeout(ARRIVAL, messages.next()).await?.context("no more")??;
            message.ack().await.map_err(anyhow_of)?;
            seen.push(message);
        }
        numbers(&seen)
    };
    let (published, seen) = tokio::join!(publish, consume);
    published?;
    ensure!(seen? == (1..=1000).collect::<Vec<_>>());
    eventually("all acknowledged", async || Ok(consumer.get_info().await?.ack_floor.stream_sequence == 1000))
        .await
}

async fn pull_max_bytes(js: &Context) -> Result<()> {
    let stream = filled(js, "MAX_BYTES", 0).await?;
    for _ in 0..10 {
        js.publish("max_bytes", vec![b'x'; 1000].into()).await?.await?;
    }
    let consumer = pulling(&stream, Default::default()).await?;
    let batch = consumer.batch().max_messages(10).max_bytes(3500).expires(ms(2000)).messages().await?;
    let got: Vec<_> = batch.collect().await;
    ensure!(got.iter().filter(|message| message.is_ok()).count() == 3, "{got:?}");
    Ok(())
}

async fn pull_consumer_deleted(js: &Context) -> Result<()> {
    let stream = filled(js, "GONE", 0).await?;
    let consumer = pulling(&stream, Default::default()).await?;
    let mut messages = consumer.messages().await?;
    let delete = async {
        waited_at(&consumer).await?;
        stream.delete_consumer("one").await.map_err(anyhow::Error::from)
    };
    let (next, deleted) = tokio::join!(timeout(ARRIVAL, messages.next()), delete);
    deleted?;
    let error = next?.context("ended")?.err().context("a message")?;
    ensure!(error.kind() == pull::MessagesErrorKind::ConsumerDeleted, "{error:?}");
    Ok(())
}

async fn push_consumer(js: &Context) -> Result<()> {
    let stream = filled(js, "PUSH", 20).await?;
    let config = push::Config {
        durable_name: Some("one".into()),
        deliver_subject: "pushed".into(),
        ..Default::default()
    };
    let mut consumer = stream.create_consumer(config).await?;
    let mut messages = consumer.messages().await?;
    for (number, message) in (1..).zip(take(&mut messages, 20).await?) {
        ensure!(message.info().map_err(anyhow_of)?.stream_sequence == number);
        message.double_ack().await.map_err(anyhow_of)?;
    }
    let info = consumer.info().await?;
    ensure!(info.push_bound && info.num_ack_pending == 0, "{info:?}");
    drop(messages);
    eventually("unbound", async || Ok(!stream.consumer_info("one").await?.push_bound)).await?;
    js.publish("push", "21".into()).await?.await?;
    let mut messages = consumer.messages().await?;
    ensure!(numbers(&take(&mut messages, 1).await?)? == [21]);
    Ok(())
}

async fn push_queue_group(js: &Context) -> Result<()> {
    let stream = filled(js, "QUEUE", 0).await?;
    let config = push::Config {
        durable_name: Some("one".into()),
        deliver_subject: "queue_work".into(),
        deliver_group: Some("workers".into()),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut workers = [consumer.messages().await?, consumer.messages().await?];
    js.client().flush().await?;
    for number in 1..=90 {
        js.publish("queue", number.to_string().into()).await?.await?;
    }
    let mut seen = Vec::new();
    for worker in &mut workers {
        let before = seen.len();
        while let Ok(Some(message)) = timeout(ms(500), worker.next()).await {
            let message = message?;
            message.ack().await.map_err(anyhow_of)?;
            seen.extend(numbers(&[message])?);
        }
        ensure!(seen.len() > before, "an idle worker");
    }
    seen.sort_unstable();
    ensure!(seen == (1..=90).collect::<Vec<_>>(), "{seen:?}");
    Ok(())
}

async fn push_flow_control(js: &Context) -> Result<()> {
    let stream = filled(js, "FLOW", 0).await?;
    let mut acks = Vec::new();
    for _ in 0..2000 {
        acks.push(js.publish("flow", vec![0; 8192].into()).await?);
    }
    for ack in acks {
        ack.await?;
    }
    let config = push::Config {
        deliver_subject: "flowing".into(),
        ack_policy: AckPolicy::None,
        flow_control: true,
        idle_heartbeat: ms(500),
        ..Default::default()
    };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    for (number, message) in (1..).zip(take(&mut messages, 2000).await?) {
        ensure!(message.info().map_err(anyhow_of)?.stream_sequence == number);
    }
    // Heartbeats keep it from giving up: for four of them nothing comes, and no error.
    ensure!(timeout(ms(2000), messages.next()).await.is_err());
    js.publish("flow", "2001".into()).await?.await?;
    ensure!(numbers(&take(&mut messages, 1).await?)? == [2001]);
    Ok(())
}

async fn ordered_consumer(js: &Context) -> Result<()> {
    let stream = filled(js, "ORDERED", 100).await?;
    let pulled = stream.create_consumer(pull::OrderedConfig::default()).await?;
    let wanted: Vec<_> = (1..=100).collect();
    ensure!(numbers(&take(&mut pulled.messages().await?, 100).await?)? == wanted);
    let deliver_subject = js.client().new_inbox();
    let pushed =
        stream.create_consumer(push::OrderedConfig { deliver_subject, ..Default::default() }).await?;
    ensure!(numbers(&take(&mut pushed.messages().await?, 100).await?)? == wanted);
    Ok(())
}

async fn ordered_consumer_recreated(js: &Context) -> Result<()> {
    let stream = filled(js, "REORDERED", 5).await?;
    let ordered = stream.create_consumer(pull::OrderedConfig::default()).await?;
    let mut messages = ordered.messages().await?;
    ensure!(numbers(&take(&mut messages, 5).await?)? == [1, 2, 3, 4, 5]);
    let names: Vec<String> = stream.consumer_names().try_collect().await?;
    stream.delete_consumer(names.first().context("no consumer")?).await?;
    for number in 6..=10 {
        js.publish("reordered", number.to_string().into()).await?.await?;
    }
    ensure!(numbers(&take(&mut messages, 5).await?)? == [6, 7, 8, 9, 10]);
    Ok(())
}

async fn ack_double(js: &Context) -> Result<()> {
    let stream = filled(js, "DOUBLE", 10).await?;
    let consumer = pulling(&stream, Default::default()).await?;
    let messages = fetched(&consumer, 10, 5000).await?;
    for (number, floor) in [(1, 1), (2, 2), (4, 2), (3, 4)] {
        messages[number - 1].double_ack().await.map_err(anyhow_of)?;
        let info = consumer.get_info().await?;
        ensure!(info.ack_floor.stream_sequence == floor, "{info:?}");
    }
    ensure!(consumer.get_info().await?.num_ack_pending == 6);
    Ok(())
}

/// What is acknowledged is gone from a work queue when the acknowledgement is answered.
async fn ack_removes(js: &Context) -> Result<()> {
    let config = stream::Config {
        name: "REMOVES".into(),
        subjects: vec!["removes".into()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    let stream = js.create_stream(config).await?;
    for number in 0..100 {
        js.publish("removes", number.to_string().into()).await?.await?;
    }
    let consumer = pulling(&stream, Default::default()).await?;
    for (left, message) in (0..100).rev().zip(fetched(&consumer, 100, 5000).await?) {
        message.double_ack().await.map_err(anyhow_of)?;
        let state = stream.get_info().await?.state;
        ensure!(state.messages == left, "{state:?} instead of {left}");
    }
    Ok(())
}

/// Fetches one message, and asserts which and how often it was delivered.
async fn again(
    consumer: &super::PullConsumer,
    sequence: u64,
    count: i64,
) -> Result<super::jetstream::Message> {
    let message = fetched(consumer, 1, 5000).await?.pop().context("nothing")?;
    let info = message.info().map_err(anyhow_of)?;
    ensure!((info.stream_sequence, info.delivered) == (sequence, count), "{info:?}");
    Ok(message)
}

async fn ack_nak(js: &Context) -> Result<()> {
    let stream = filled(js, "NAK", 3).await?;
    let consumer = pulling(&stream, Default::default()).await?;
    let messages = fetched(&consumer, 3, 5000).await?;
    messages[1].ack_with(AckKind::Nak(None)).await.map_err(anyhow_of)?;
    again(&consumer, 2, 2).await?.ack_with(AckKind::Nak(Some(ms(1500)))).await.map_err(anyhow_of)?;
    ensure!(fetched(&consumer, 1, 500).await?.is_empty());
    again(&consumer, 2, 3).await?;
    Ok(())
}

async fn ack_term(js: &Context) -> Result<()> {
    let mut advisories = js.client().subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.TERM.one").await?;
    let stream = filled(js, "TERM", 1).await?;
    let consumer = pulling(&stream, pull::Config { ack_wait: ms(1000), ..Default::default() }).await?;
    let messages = fetched(&consumer, 1, 5000).await?;
    messages[0].double_ack_with(AckKind::Term).await.map_err(anyhow_of)?;
    timeout(ARRIVAL, advisories.next()).await?.context("no advisory")?;
    ensure!(fetched(&consumer, 1, 2000).await?.is_empty());
    Ok(())
}

async fn ack_in_progress(js: &Context) -> Result<()> {
    let stream = filled(js, "PROGRESS", 1).await?;
    let consumer = pulling(&stream, pull::Config { ack_wait: ms(1500), ..Default::default() }).await?;
    let messages = fetched(&consumer, 1, 5000).await?;
    // For twice its wait, in steps of a third.
    let mut ticks = interval(ms(500));
    ticks.tick().await;
    for _ in 0..6 {
        ticks.tick().await;
        messages[0].ack_with(AckKind::Progress).await.map_err(anyhow_of)?;
    }
    ensure!(consumer.get_info().await?.num_redelivered == 0);
    again(&consumer, 1, 2).await?;
    Ok(())
}

async fn ack_wait(js: &Context) -> Result<()> {
    let stream = filled(js, "WAIT", 2).await?;
    let consumer = pulling(&stream, pull::Config { ack_wait: ms(1000), ..Default::default() }).await?;
    let messages = fetched(&consumer, 2, 5000).await?;
    messages[0].double_ack().await.map_err(anyhow_of)?;
    again(&consumer, 2, 2).await?.double_ack().await.map_err(anyhow_of)?;
    ensure!(fetched(&consumer, 1, 1500).await?.is_empty());
    let floor = consumer.get_info().await?.ack_floor;
    ensure!((floor.stream_sequence, floor.consumer_sequence) == (2, 3), "{floor:?}");
    Ok(())
}

async fn ack_none_all(js: &Context) -> Result<()> {
    let stream = filled(js, "POLICY", 10).await?;
    let with = |name: &str, ack_policy| pull::Config {
        durable_name: Some(name.into()),
        ack_policy,
        ..Default::default()
    };
    let none = pulling(&stream, with("none", AckPolicy::None)).await?;
    ensure!(fetched(&none, 10, 5000).await?.len() == 10);
    let info = none.get_info().await?;
    ensure!((info.num_ack_pending, info.ack_floor.stream_sequence) == (0, 10), "{info:?}");
    let all = pulling(&stream, with("all", AckPolicy::All)).await?;
    fetched(&all, 10, 5000).await?[6].double_ack().await.map_err(anyhow_of)?;
    let info = all.get_info().await?;
    ensure!((info.num_ack_pending, info.ack_floor.stream_sequence) == (3, 7), "{info:?}");
    Ok(())
}

async fn max_deliver(js: &Context) -> Result<()> {
    let mut advisories =
        js.client().subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.DELIVERIES.one").await?;
    let stream = filled(js, "DELIVERIES", 1).await?;
    let config = pull::Config { max_deliver: 2, ack_wait: ms(500), ..Default::default() };
    let consumer = pulling(&stream, config).await?;
    again(&consumer, 1, 1).await?;
    again(&consumer, 1, 2).await?;
    ensure!(fetched(&consumer, 1, 2000).await?.is_empty());
    timeout(ARRIVAL, advisories.next()).await?.context("no advisory")?;
    Ok(())
}

async fn backoff(js: &Context) -> Result<()> {
    let stream = filled(js, "BACKOFF", 1).await?;
    let steps = [ms(500), ms(1000), ms(2000)];
    let config = pull::Config { max_deliver: 4, backoff: steps.to_vec(), ..Default::default() };
    let consumer = pulling(&stream, config).await?;
    again(&consumer, 1, 1).await?;
    let mut before = Instant::now();
    for (count, step) in (2..).zip(steps) {
        again(&consumer, 1, count).await?;
        let gap = before.elapsed();
        ensure!(gap > step - ms(200) && gap < step + ms(2000), "{gap:?} instead of {step:?}");
        before = Instant::now();
    }
    Ok(())
}

async fn max_ack_pending(js: &Context) -> Result<()> {
    let stream = filled(js, "PENDING", 10).await?;
    let consumer = pulling(&stream, pull::Config { max_ack_pending: 3, ..Default::default() }).await?;
    let messages = fetched(&consumer, 10, 1000).await?;
    ensure!(numbers(&messages)? == [1, 2, 3]);
    messages[0].double_ack().await.map_err(anyhow_of)?;
    again(&consumer, 4, 1).await?;
    Ok(())
}

async fn filters(js: &Context) -> Result<()> {
    let stream = filled(js, "FILTERS", 0).await?;
    for number in 1..=12 {
        let subject = format!("filters.{}.x", ["a", "b", "c", "d"][number % 4]);
        js.publish(subject, number.to_string().into()).await?.await?;
    }
    let one =
        pulling(&stream, pull::Config { filter_subject: "filters.b.*".into(), ..Default::default() }).await?;
    ensure!(numbers(&fetched(&one, 3, 5000).await?)? == [1, 5, 9]);
    let filter_subjects = vec!["filters.a.x".to_owned(), "filters.c.>".to_owned()];
    let many = pull::Config { durable_name: Some("many".into()), filter_subjects, ..Default::default() };
    let many = pulling(&stream, many).await?;
    ensure!(many.cached_info().num_pending == 6);
    ensure!(numbers(&fetched(&many, 6, 5000).await?)? == [2, 4, 6, 8, 10, 12]);
    Ok(())
}

async fn deliver_policies(js: &Context) -> Result<()> {
    let stream = filled(js, "START", 4).await?;
    let start_time = stream.get_raw_message(4).await?.time + Duration::from_nanos(1);
    for number in 5..=8 {
        js.publish(format!("start.{}", number % 2), number.to_string().into()).await?.await?;
    }
    let mut made = Vec::new();
    for (name, deliver_policy, wanted) in [
        ("all", DeliverPolicy::All, vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("last", DeliverPolicy::Last, vec![8, 9]),
        ("new", DeliverPolicy::New, vec![9]),
        ("sequence", DeliverPolicy::ByStartSequence { start_sequence: 6 }, vec![6, 7, 8, 9]),
        ("time", DeliverPolicy::ByStartTime { start_time }, vec![5, 6, 7, 8, 9]),
        ("each", DeliverPolicy::LastPerSubject, vec![7, 8, 9]),
    ] {
        let filter_subject = if name == "each" { "start.>".to_owned() } else { String::new() };
        let durable_name = Some(name.to_owned());
        let config = pull::Config { durable_name, deliver_policy, filter_subject, ..Default::default() };
        made.push((name, pulling(&stream, config).await?, wanted));
    }
    js.publish("start.1", "9".into()).await?.await?;
    for (name, consumer, wanted) in made {
        let got = numbers(&fetched(&consumer, wanted.len(), 5000).await?)?;
        ensure!(got == wanted, "{name}: {got:?}");
    }
    Ok(())
}

async fn headers_only(js: &Context) -> Result<()> {
    let stream = filled(js, "HEADERS", 1).await?;
    let consumer = pulling(&stream, pull::Config { headers_only: true, ..Default::default() }).await?;
    let message = fetched(&consumer, 1, 5000).await?.pop().context("nothing")?;
    let size = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Size"));
    ensure!(message.payload.is_empty() && size.is_some_and(|size| size.as_str() == "1"), "{message:?}");
    Ok(())
}

async fn pause(js: &Context) -> Result<()> {
    let stream = filled(js, "PAUSE", 3).await?;
    let consumer = pulling(&stream, Default::default()).await?;
    let until = std::time::SystemTime::now() + Duration::from_secs(60);
    ensure!(stream.pause_consumer("one", until.into()).await?.paused);
    ensure!(fetched(&consumer, 1, 500).await?.is_empty());
    ensure!(!stream.resume_consumer("one").await?.paused);
    ensure!(numbers(&fetched(&consumer, 3, 5000).await?)? == [1, 2, 3]);
    Ok(())
}

async fn inactive_threshold(js: &Context) -> Result<()> {
    let stream = filled(js, "INACTIVE", 1).await?;
    stream.create_consumer(pull::Config { inactive_threshold: ms(1000), ..Default::default() }).await?;
    pulling(&stream, Default::default()).await?;
    eventually("gone", async || Ok(stream.get_info().await?.state.consumer_count == 1)).await?;
    stream.consumer_info("one").await?;
    Ok(())
}
