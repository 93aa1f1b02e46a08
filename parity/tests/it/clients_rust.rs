//! The `async-nats` client, unmodified, against servers of both kinds.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, PublishErrorKind, RequestErrorKind,
    ServerError, Subscriber,
};
use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use natrix_parity::scenario::identities::user_nkey;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::clients_servers::{CORE, SMALL_PAYLOAD, Servers, assert_all_passed};
use crate::servers::on_each;

/// How long one check may take.
const CHECK: Duration = Duration::from_secs(15);
/// How long a client may take to see what the server has sent.
const ARRIVAL: Duration = Duration::from_secs(5);

#[test]
fn rust_client() {
    on_each(|implementation| {
        let mut servers = Servers::start(implementation).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcomes = runtime.block_on(all_checks(&mut servers));
        assert_all_passed("async-nats", implementation, &CORE, &servers, &outcomes);
    });
}

/// What became of the checks so far: each one's name and, where it failed, why.
pub(crate) struct Outcomes {
    outcomes: Vec<(String, Result<(), String>)>,
    limit: Duration,
}

impl Outcomes {
    /// Each check may take so long.
    pub(crate) fn within(limit: Duration) -> Self {
        Outcomes { outcomes: Vec::new(), limit }
    }

    pub(crate) fn into_inner(self) -> Vec<(String, Result<(), String>)> {
        self.outcomes
    }

    pub(crate) async fn add(&mut self, name: &str, check: impl Future<Output = Result<()>>) {
        let outcome = match timeout(self.limit, check).await {
            Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
            Err(_) => Err("took too long".to_owned()),
        };
        self.outcomes.push((name.to_owned(), outcome));
    }
}

async fn all_checks(servers: &mut Servers) -> Vec<(String, Result<(), String>)> {
    let mut outcomes = Outcomes::within(CHECK);
    let plain = servers.url("plain");
    outcomes.add("connect", connect(&plain)).await;
    outcomes.add("publish_subscribe", publish_subscribe(&plain)).await;
    outcomes.add("headers", headers(&plain)).await;
    outcomes.add("queue_group", queue_group(&plain)).await;
    outcomes.add("request_reply", request_reply(&plain)).await;
    outcomes.add("no_responders", no_responders(&plain)).await;
    outcomes.add("drain", drain(&plain)).await;
    outcomes.add("max_payload", max_payload(&servers.url("small"))).await;

    let (token, users) = (servers.url("token"), servers.url("users"));
    let options = || ConnectOptions::with_token("the-token".to_owned());
    outcomes.add("token", accepted(&token, options())).await;
    outcomes.add("token_refused", refused(&token, ConnectOptions::with_token("another".to_owned()))).await;
    outcomes.add("password", accepted(&users, user("alice", "alices-password"))).await;
    outcomes.add("password_refused", refused(&users, user("alice", "another"))).await;
    outcomes.add("bcrypt", accepted(&users, user("bob", "bobs-password"))).await;
    outcomes.add("bcrypt_refused", refused(&users, user("bob", "another"))).await;
    outcomes.add("nkey", accepted(&users, ConnectOptions::with_nkey(user_nkey(1).0))).await;
    outcomes.add("nkey_refused", refused(&users, ConnectOptions::with_nkey(user_nkey(2).0))).await;
    outcomes.add("no_auth_user", restricted(&users, ConnectOptions::new(), "guest.book")).await;
    outcomes.add("permissions_publish", permissions_publish(&users)).await;
    outcomes.add("permissions_subscribe", permissions_subscribe(&users)).await;

    let mapped = servers.url("mapped");
    let authority = || ConnectOptions::new().add_root_certificates(servers.pem("ca").into());
    let certificate = |name: &str| {
        let (certificate, key) = (servers.pem(name), servers.pem(&format!("{name}-key")));
        authority().add_client_certificate(certificate.into(), key.into())
    };
    outcomes.add("tls", accepted(&servers.url("tls"), authority())).await;
    outcomes.add("tls_certificate", restricted(&mapped, certificate("client"), "alice.inbox")).await;
    outcomes.add("tls_certificate_missing", tls_certificate_missing(&mapped, authority())).await;
    outcomes.add("tls_certificate_unknown", refused(&mapped, certificate("nobody"))).await;

    outcomes.add("reconnect", reconnect(servers)).await;
    outcomes.add("lame_duck", lame_duck(servers)).await;
    outcomes.into_inner()
}

fn user(name: &str, password: &str) -> ConnectOptions {
    ConnectOptions::with_user_and_password(name.to_owned(), password.to_owned())
}

/// Makes the client's events readable.
fn with_events(options: ConnectOptions) -> (ConnectOptions, UnboundedReceiver<Event>) {
    let (sender, events) = unbounded_channel();
    let options = options.event_callback(move |event| {
        // Nobody listens any more once the check is over.
        let _ = sender.send(event);
        std::future::ready(())
    });
    (options, events)
}

/// Waits for an event, over all others that come before it.
async fn event(events: &mut UnboundedReceiver<Event>, wanted: impl Fn(&Event) -> bool) -> Result<()> {
    let mut others = Vec::new();
    let search = async {
        while let Some(event) = events.recv().await {
            if wanted(&event) {
                return true;
            }
            others.push(event);
        }
        false
    };
    let found = matches!(timeout(ARRIVAL, search).await, Ok(true));
    ensure!(found, "only {others:?}");
    Ok(())
}

/// Waits until the client hears from the server that it violates its permissions.
async fn violation(events: &mut UnboundedReceiver<Event>, operation: &str, subject: &str) -> Result<()> {
    let text = format!("permissions violation for {operation} to \"{subject}\"");
    event(events, |event| match event {
        Event::ServerError(ServerError::Other(told)) => told.to_lowercase() == text,
        _ => false,
    })
    .await
}

/// Returns the next message's subject and payload.
async fn next(subscription: &mut Subscriber) -> Result<(String, Vec<u8>)> {
    let message = timeout(ARRIVAL, subscription.next()).await.context("no message")?.context("no more")?;
    Ok((message.subject.to_string(), message.payload.to_vec()))
}

async fn round_trip(client: &Client, subject: &str) -> Result<()> {
    let mut subscription = client.subscribe(subject.to_owned()).await?;
    client.publish(subject.to_owned(), "hello".into()).await?;
    ensure!(next(&mut subscription).await? == (subject.to_owned(), b"hello".to_vec()));
    Ok(subscription.unsubscribe().await?)
}

async fn accepted(url: &str, options: ConnectOptions) -> Result<()> {
    round_trip(&options.connect(url).await?, "greet.world").await
}

async fn refused(url: &str, options: ConnectOptions) -> Result<()> {
    let error = options.connect(url).await.err().context("was let in")?;
    ensure!(error.kind() == ConnectErrorKind::AuthorizationViolation, "{error:?}");
    Ok(())
}

/// The client is let in as a user who may publish to `subject` but not elsewhere.
async fn restricted(url: &str, options: ConnectOptions, subject: &str) -> Result<()> {
    let (options, mut events) = with_events(options);
    let client = options.connect(url).await?;
    round_trip(&client, subject).await?;
    client.publish("elsewhere", "".into()).await?;
    violation(&mut events, "publish", "elsewhere").await
}

async fn connect(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    ensure!(client.server_info().max_payload == 1024 * 1024, "{:?}", client.server_info());
    Ok(client.flush().await?)
}

async fn publish_subscribe(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut subscription = client.subscribe("orders.*.>").await?;
    let expected: Vec<_> = (0..100)
        .map(|number| (format!("orders.{number}.new.big"), number.to_string().into_bytes()))
        .chain([("orders.last.one".to_owned(), Vec::new())])
        .collect();
    client.publish("orders.short", "not for us".into()).await?;
    for (subject, payload) in &expected {
        client.publish(subject.clone(), payload.clone().into()).await?;
    }
    for message in expected {
        let got = next(&mut subscription).await?;
        ensure!(got == message, "{got:?} instead of {message:?}");
    }
    Ok(())
}

async fn headers(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut subscription = client.subscribe("with.headers").await?;
    let mut headers = HeaderMap::new();
    headers.append("Many", "one");
    headers.append("Many", "two words");
    for payload in ["body", ""] {
        client.publish_with_headers("with.headers", headers.clone(), payload.into()).await?;
        let message = timeout(ARRIVAL, subscription.next()).await?.context("no more")?;
        ensure!(message.headers.as_ref() == Some(&headers) && message.payload == payload, "{message:?}");
    }
    Ok(())
}

async fn queue_group(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut everything = client.subscribe("work").await?;
    let (sender, mut shares) = unbounded_channel();
    for worker in 0..3 {
        let connection = async_nats::connect(url).await?;
        let mut subscription = connection.queue_subscribe("work", "workers".to_owned()).await?;
        connection.flush().await?;
        round_trip(&connection, &format!("ready.{worker}")).await?;
        let sender = sender.clone();
        tokio::spawn(async move {
            // The connection is closed once its handle is dropped.
            let _connection = connection;
            while let Some(message) = subscription.next().await {
                if sender.send((worker, message.payload)).is_err() {
                    break;
                }
            }
        });
    }
    for number in 0..90 {
        client.publish("work", number.to_string().into()).await?;
    }
    let (mut seen, mut workers) = (Vec::new(), [0; 3]);
    for _ in 0..90 {
        let (worker, payload): (usize, _) = timeout(ARRIVAL, shares.recv()).await?.context("no more")?;
        workers[worker] += 1;
        seen.push(String::from_utf8(payload.to_vec())?.parse::<u32>()?);
    }
    seen.sort_unstable();
    ensure!(seen == (0..90).collect::<Vec<_>>(), "{seen:?}");
    ensure!(workers.iter().all(|share| *share > 0), "an idle worker: {workers:?}");
    for number in 0..90 {
        ensure!(next(&mut everything).await?.1 == number.to_string().into_bytes());
    }
    Ok(())
}

async fn request_reply(url: &str) -> Result<()> {
    let (client, service) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
    let mut questions = service.subscribe("ask").await?;
    round_trip(&service, "ready").await?;
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let (Some(reply), Ok(text)) = (question.reply, std::str::from_utf8(&question.payload)) else {
                break;
            };
            // A failure shows as a question without an answer.
            let _ = service.publish(reply, format!("re: {text}").into()).await;
        }
    });
    let answers = try_join_all((0..20).map(|n| client.request("ask", n.to_string().into()))).await?;
    for (number, answer) in answers.iter().enumerate() {
        ensure!(answer.payload == format!("re: {number}"), "{answer:?}");
    }
    Ok(())
}

async fn no_responders(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let error = client.request("nobody.here", "".into()).await.err().context("an answer")?;
    ensure!(error.kind() == RequestErrorKind::NoResponders, "{error:?}");
    Ok(())
}

async fn drain(url: &str) -> Result<()> {
    let publisher = async_nats::connect(url).await?;
    let (options, mut events) = with_events(ConnectOptions::new());
    let client = options.connect(url).await?;
    let mut subscription = client.subscribe("drained").await?;
    round_trip(&client, "ready").await?;
    join_all((0..100).map(|number| publisher.publish("drained", number.to_string().into()))).await;
    round_trip(&publisher, "sent").await?;
    client.drain().await?;
    for number in 0..100 {
        ensure!(next(&mut subscription).await?.1 == number.to_string().into_bytes(), "{number} is missing");
    }
    event(&mut events, |event| *event == Event::Closed).await?;
    ensure!(timeout(ARRIVAL, subscription.next()).await?.is_none(), "more");
    Ok(())
}

async fn max_payload(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut subscription = client.subscribe("large").await?;
    client.publish("large", vec![b'x'; SMALL_PAYLOAD].into()).await?;
    ensure!(next(&mut subscription).await?.1.len() == SMALL_PAYLOAD);
    match client.publish("large", vec![b'x'; SMALL_PAYLOAD + 1].into()).await {
        Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => Ok(()),
        other => bail!("{other:?}"),
    }
}

async fn permissions_publish(url: &str) -> Result<()> {
    let (options, mut events) = with_events(user("limited", "limiteds"));
    let client = options.connect(url).await?;
    client.publish("denied.publish", "".into()).await?;
    violation(&mut events, "publish", "denied.publish").await?;
    round_trip(&client, "allowed.subject").await
}

async fn permissions_subscribe(url: &str) -> Result<()> {
    let (options, mut events) = with_events(user("limited", "limiteds"));
    let client = options.connect(url).await?;
    let _denied = client.subscribe("denied.subscribe").await?;
    violation(&mut events, "subscription", "denied.subscribe").await?;
    round_trip(&client, "allowed.subject").await
}

/// What the client makes of the server's alert depends on where it is in the handshake, so any error will do; that
/// the same server lets others in, other checks show.
async fn tls_certificate_missing(url: &str, options: ConnectOptions) -> Result<()> {
    ensure!(options.connect(url).await.is_err(), "was let in");
    Ok(())
}

async fn reconnect(servers: &mut Servers) -> Result<()> {
    let (options, mut events) = with_events(ConnectOptions::new());
    let options = options.reconnect_delay_callback(|_| Duration::from_millis(50));
    let client = options.connect(servers.url("plain")).await?;
    let mut subscription = client.subscribe("kept").await?;
    event(&mut events, |event| *event == Event::Connected).await?;
    client.flush().await?;
    // Nothing else runs in the meantime, so the client notices only afterwards.
    servers.act("restart plain")?;
    event(&mut events, |event| *event == Event::Disconnected).await?;
    event(&mut events, |event| *event == Event::Connected).await?;
    client.publish("kept", "still here".into()).await?;
    ensure!(next(&mut subscription).await?.1 == b"still here");
    Ok(())
}

async fn lame_duck(servers: &mut Servers) -> Result<()> {
    let (options, mut events) = with_events(ConnectOptions::new());
    let _client = options.connect(servers.url("lame")).await?;
    servers.act("lame-duck lame")?;
    event(&mut events, |event| *event == Event::LameDuckMode).await
}
