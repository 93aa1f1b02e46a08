//! JetStream by the `async-nats` client, unmodified, against servers of both kinds.

mod consumers;
mod restarts;
mod stores;
mod streams;

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, Context, stream};
use futures::{Stream, StreamExt};
use tokio::time::timeout;

use crate::clients_jetstream::SUITE;
use crate::clients_rust::Outcomes;
use crate::clients_servers::{Servers, assert_all_passed};
use crate::servers::on_each;

/// How long one check may take.
const CHECK: Duration = Duration::from_secs(60);
/// How long anything may take of which nobody says how long it takes.
const ARRIVAL: Duration = Duration::from_secs(15);

#[test]
fn rust_client_jetstream() {
    on_each(|implementation| {
        let mut servers = Servers::start_jetstream(implementation).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcomes = runtime.block_on(all_checks(&mut servers));
        assert_all_passed("async-nats", implementation, &SUITE, &servers, &outcomes);
    });
}

async fn all_checks(servers: &mut Servers) -> Vec<(String, Result<(), String>)> {
    let mut outcomes = Outcomes::within(CHECK);
    streams::all(&servers.url("js"), &mut outcomes).await;
    consumers::all(&servers.url("js"), &mut outcomes).await;
    stores::all(&servers.url("js"), &mut outcomes).await;
    restarts::all(servers, &mut outcomes).await;
    outcomes.into_inner()
}

/// Does checks, each with a connection of its own, under the names of their functions.
macro_rules! check_all {
    ($url:expr, $outcomes:expr, $($check:ident),* $(,)?) => {
        $($outcomes.add(stringify!($check), async {
            let context = super::context($url).await?;
            $check(&context).await
        }).await;)*
    };
}
use check_all;

async fn context(url: &str) -> Result<Context> {
    let client = async_nats::connect(url).await?;
    Ok(jetstream::ContextBuilder::new().timeout(Duration::from_secs(20)).build(client))
}

/// Asserts that the server refused with this error code, or with what the client makes of it where it keeps no code.
fn refused<T: Debug, E: Debug>(code: u64, result: Result<T, E>) -> Result<()> {
    let kind = match code {
        10014 | 10059 => "kind: NotFound",
        10037 => "NoMessageFound",
        10148 => "AlreadyExists",
        10149 => "DoesNotExist",
        _ => "no such kind",
    };
    let fits = |text: String| text.contains(kind) || text.contains(&code.to_string());
    match result {
        Err(error) if fits(format!("{error:?}")) => Ok(()),
        other => bail!("no error {code} but {other:?}"),
    }
}

/// Waits until something is the case: by asking again, as the API tells nobody when an answer would be another. [`ARRIVAL`] ends it.
async fn eventually<F: Future<Output = Result<bool>>>(what: &str, condition: impl Fn() -> F) -> Result<()> {
    let end = Instant::now() + ARRIVAL;
    while !condition().await? {
        ensure!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Returns the next items of a stream.
async fn take<T, E>(stream: &mut (impl Stream<Item = Result<T, E>> + Unpin), count: usize) -> Result<Vec<T>>
where
    anyhow::Error: From<E>,
{
    let mut items = Vec::new();
    while items.len() < count {
        let next = timeout(ARRIVAL, stream.next()).await;
        let next = next.with_context(|| format!("only {} of {count}", items.len()))?;
        items.push(next.context("no more")??);
    }
    Ok(items)
}

/// Makes a stream that stores `NAME` in lower case and all below, with the numbers from 1 in it.
async fn filled(js: &Context, name: &str, count: usize) -> Result<stream::Stream> {
    let subject = name.to_lowercase();
    let subjects = vec![subject.clone(), format!("{subject}.>")];
    let config = stream::Config { name: name.to_owned(), subjects, ..Default::default() };
    let stream = js.create_stream(config).await?;
    for number in 1..=count {
        js.publish(subject.clone(), number.to_string().into()).await?.await?;
    }
    Ok(stream)
}

/// Makes a pull consumer, called `one` if it has no name.
async fn pulling(stream: &stream::Stream, mut config: pull::Config) -> Result<PullConsumer> {
    config.durable_name.get_or_insert("one".to_owned());
    Ok(stream.create_consumer(config).await?)
}

/// Fetches messages, waiting for a while where there are none.
async fn fetched(consumer: &PullConsumer, count: usize, ms: u64) -> Result<Vec<jetstream::Message>> {
    let batch = consumer.batch().max_messages(count).expires(Duration::from_millis(ms)).messages().await?;
    let messages: Vec<_> = batch.collect().await;
    messages.into_iter().map(|message| message.map_err(|error| anyhow::anyhow!("{error}"))).collect()
}

/// Returns the numbers that messages are.
fn numbers(messages: &[jetstream::Message]) -> Result<Vec<u64>> {
    messages.iter().map(|message| Ok(std::str::from_utf8(&message.payload)?.parse()?)).collect()
}

// By value, so that it is a function for `map_err`.
#[expect(clippy::needless_pass_by_value)]
fn anyhow_of(error: async_nats::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
