//! Key-value and object stores, and services.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::kv::{Config, CreateErrorKind, Entry, Operation, UpdateErrorKind};
use async_nats::jetstream::object_store::{self, ObjectMetadata, ObjectStore, UpdateMetadata};
use async_nats::jetstream::{Context, kv};
use async_nats::service::{Service, ServiceExt};
use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::{ARRIVAL, anyhow_of, check_all, eventually, refused, take};
use crate::clients_rust::Outcomes;

pub(super) async fn all(url: &str, outcomes: &mut Outcomes) {
    check_all!(
        url,
        outcomes,
        kv_put_get,
        kv_create_update,
        kv_delete_purge,
        kv_history,
        kv_keys,
        kv_watch,
        kv_ttl,
        kv_limit_markers,
        kv_status,
        object_put_get,
        object_list_delete,
        object_replace,
        object_links,
        object_watch,
        object_seal,
        service_endpoints,
        service_discovery,
        service_stats,
    );
}

async fn bucket(js: &Context, bucket: &str, history: i64) -> Result<kv::Store> {
    Ok(js.create_key_value(Config { bucket: bucket.to_owned(), history, ..Default::default() }).await?)
}

fn revisions(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.revision).collect()
}

async fn kv_put_get(js: &Context) -> Result<()> {
    let kv = bucket(js, "PUT", 5).await?;
    for number in 1..=3 {
        ensure!(kv.put("key", number.to_string().into()).await? == number);
    }
    let entry = kv.entry("key").await?.context("no entry")?;
    ensure!((&*entry.value, entry.revision, entry.operation) == (b"3", 3, Operation::Put), "{entry:?}");
    ensure!(kv.entry_for_revision("key", 2).await?.context("no entry")?.value == "2");
    ensure!(kv.get("missing").await?.is_none());
    ensure!(js.get_key_value("PUT").await?.get("key").await? == Some("3".into()));
    js.delete_key_value("PUT").await?;
    ensure!(js.get_key_value("PUT").await.is_err());
    Ok(())
}

async fn kv_create_update(js: &Context) -> Result<()> {
    let kv = bucket(js, "UPDATES", 1).await?;
    ensure!(kv.create("key", "1".into()).await? == 1);
    let error = kv.create("key", "2".into()).await.err().context("created twice")?;
    ensure!(error.kind() == CreateErrorKind::AlreadyExists, "{error:?}");
    ensure!(kv.update("key", "2".into(), 1).await? == 2);
    let error = kv.update("key", "3".into(), 1).await.err().context("updated twice")?;
    ensure!(error.kind() == UpdateErrorKind::WrongLastRevision, "{error:?}");
    kv.delete("key").await?;
    ensure!(kv.create("key", "4".into()).await? == 4);
    Ok(())
}

async fn kv_delete_purge(js: &Context) -> Result<()> {
    let kv = bucket(js, "DELETES", 10).await?;
    for number in 0..3 {
        kv.put("deleted", number.to_string().into()).await?;
        kv.put("purged", number.to_string().into()).await?;
    }
    ensure!(kv.delete_expect_revision("deleted", Some(1)).await.is_err());
    kv.delete_expect_revision("deleted", Some(5)).await?;
    kv.purge("purged").await?;
    for (key, operation, count) in [("deleted", Operation::Delete, 4), ("purged", Operation::Purge, 1)] {
        ensure!(kv.get(key).await?.is_none());
        let history: Vec<Entry> = kv.history(key).await?.try_collect().await?;
        ensure!(history.len() == count && history[count - 1].operation == operation, "{history:?}");
    }
    Ok(())
}

async fn kv_history(js: &Context) -> Result<()> {
    let kv = bucket(js, "HISTORY", 4).await?;
    for number in 0..10 {
        kv.put("key", number.to_string().into()).await?;
        kv.put("other", "".into()).await?;
    }
    let history: Vec<Entry> = kv.history("key").await?.try_collect().await?;
    ensure!(revisions(&history) == [13, 15, 17, 19], "{history:?}");
    ensure!(history.iter().map(|entry| entry.delta).eq([3, 2, 1, 0]), "{history:?}");
    Ok(())
}

async fn kv_keys(js: &Context) -> Result<()> {
    let kv = bucket(js, "KEYS", 1).await?;
    ensure!(kv.keys().await?.try_collect::<Vec<String>>().await?.is_empty());
    for number in 0..200 {
        kv.put(format!("key.{}", number % 100), "x".into()).await?;
    }
    kv.delete("key.7").await?;
    let keys: std::collections::BTreeSet<String> = kv.keys().await?.try_collect().await?;
    ensure!(keys.len() == 99 && !keys.contains("key.7"), "{keys:?}");
    Ok(())
}

async fn kv_watch(js: &Context) -> Result<()> {
    let kv = bucket(js, "WATCH", 3).await?;
    kv.put("a.one", "1".into()).await?;
    kv.put("a.one", "2".into()).await?;
    let mut news = kv.watch("a.*").await?;
    let mut all = kv.watch_all_from_revision(2).await?;
    let mut history = kv.watch_with_history("a.*").await?;
    kv.put("b.one", "3".into()).await?;
    kv.put("a.two", "4".into()).await?;
    kv.delete("a.one").await?;
    kv.purge("a.two").await?;
    let seen = take(&mut news, 3).await?;
    let operations: Vec<_> = seen.iter().map(|entry| (&*entry.key, entry.operation)).collect();
    let wanted = [("a.two", Operation::Put), ("a.one", Operation::Delete), ("a.two", Operation::Purge)];
    ensure!(operations == wanted, "{seen:?}");
    ensure!(revisions(&take(&mut all, 5).await?) == [2, 3, 4, 5, 6]);
    let entries = take(&mut history, 4).await?;
    ensure!(entries.last().is_some_and(|entry| entry.revision == 6) || entries.len() == 4, "{entries:?}");
    Ok(())
}

async fn kv_ttl(js: &Context) -> Result<()> {
    let max_age = Duration::from_secs(1);
    let kv = js.create_key_value(Config { bucket: "KV_TTL".into(), max_age, ..Default::default() }).await?;
    kv.put("key", "1".into()).await?;
    eventually("gone", async || Ok(kv.get("key").await?.is_none())).await?;
    ensure!(kv.status().await?.max_age() == max_age);
    Ok(())
}

async fn kv_limit_markers(js: &Context) -> Result<()> {
    let limit_markers = Some(Duration::from_secs(2));
    let config = Config { bucket: "MARKERS".into(), history: 3, limit_markers, ..Default::default() };
    let kv = js.create_key_value(config).await?;
    let mut watch = kv.watch_all().await?;
    kv.create_with_ttl("key", "1".into(), Duration::from_secs(1)).await?;
    kv.create_with_ttl("stays", "2".into(), Duration::from_secs(3600)).await?;
    let seen = take(&mut watch, 3).await?;
    ensure!((&*seen[2].key, seen[2].operation) == ("key", Operation::Purge), "{seen:?}");
    eventually("alone", async || Ok(kv.status().await?.values() == 1)).await?;
    kv.purge_with_ttl("stays", Duration::from_secs(1)).await?;
    eventually("empty", async || Ok(kv.status().await?.values() == 0)).await
}

async fn kv_status(js: &Context) -> Result<()> {
    let config = Config {
        bucket: "STATUS".into(),
        history: 7,
        max_value_size: 100,
        max_bytes: 10_000,
        ..Default::default()
    };
    let kv = js.create_key_value(config).await?;
    kv.put("one", "1".into()).await?;
    kv.put("one", "2".into()).await?;
    let status = kv.status().await?;
    ensure!((status.bucket(), status.values(), status.history()) == ("STATUS", 2, 7), "{status:?}");
    refused(10054, kv.put("large", vec![b'x'; 101].into()).await)?;
    let full = async {
        for number in 0..1000 {
            kv.put(format!("key{number}"), vec![b'x'; 100].into()).await?;
        }
        Ok::<_, kv::PutError>(())
    };
    refused(10077, full.await)
}

async fn objects(js: &Context, bucket: &str) -> Result<ObjectStore> {
    Ok(js
        .create_object_store(object_store::Config { bucket: bucket.to_owned(), ..Default::default() })
        .await?)
}

async fn read(store: &ObjectStore, name: &str) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    store.get(name).await?.read_to_end(&mut data).await?;
    Ok(data)
}

async fn object_put_get(js: &Context) -> Result<()> {
    let store = objects(js, "OBJECTS").await?;
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| (number * number >> 7) as u8).collect();
    for (name, data) in [("small", b"hello".to_vec()), ("empty", Vec::new()), ("näme/with spaces", large)] {
        let info = store.put(name, &mut data.as_slice()).await?;
        ensure!((info.size, info.chunks) == (data.len(), data.len().div_ceil(128 * 1024)), "{info:?}");
        ensure!(read(&store, name).await? == data, "{name}");
    }
    let chunked = ObjectMetadata { name: "chunked".into(), chunk_size: Some(1000), ..Default::default() };
    ensure!(store.put(chunked, &mut [0; 10_500].as_slice()).await?.chunks == 11);
    ensure!(read(&store, "chunked").await? == [0; 10_500]);
    ensure!(store.get("missing").await.is_err());
    Ok(())
}

async fn object_list_delete(js: &Context) -> Result<()> {
    let store = objects(js, "OBJECT_LIST").await?;
    for number in 0..20 {
        store.put(&*format!("object{number}"), &mut [0; 10_000].as_slice()).await?;
    }
    store.delete("object3").await?;
    ensure!(store.get("object3").await.is_err());
    let listed: Vec<_> = store.list().await?.try_collect().await?;
    ensure!(listed.len() == 19 && listed.iter().all(|info| info.name != "object3"), "{listed:?}");
    js.delete_object_store("OBJECT_LIST").await?;
    ensure!(js.get_object_store("OBJECT_LIST").await.is_err());
    Ok(())
}

async fn object_replace(js: &Context) -> Result<()> {
    let store = objects(js, "REPLACE").await?;
    store.put("it", &mut [1; 300_000].as_slice()).await?;
    store.put("it", &mut [2; 10].as_slice()).await?;
    ensure!(read(&store, "it").await? == [2; 10]);
    ensure!(js.get_stream("OBJ_REPLACE").await?.cached_info().state.messages == 2);
    store.update_metadata("it", UpdateMetadata { name: "renamed".into(), ..Default::default() }).await?;
    ensure!(read(&store, "renamed").await? == [2; 10]);
    Ok(())
}

async fn object_links(js: &Context) -> Result<()> {
    let (store, other) = (objects(js, "LINKS").await?, objects(js, "LINKED").await?);
    let target = store.put("target", &mut b"hello".as_slice()).await?;
    other.add_link("link", &target).await?;
    other.add_bucket_link("bucket", "LINKS").await?;
    ensure!(read(&other, "link").await? == b"hello");
    Ok(())
}

async fn object_watch(js: &Context) -> Result<()> {
    let store = objects(js, "OBJECT_WATCH").await?;
    store.put("before", &mut b"1".as_slice()).await?;
    let mut watch = store.watch_with_history().await?;
    store.put("after", &mut b"2".as_slice()).await?;
    store.delete("before").await?;
    let seen = take(&mut watch, 3).await?;
    ensure!((&*seen[1].name, seen[1].deleted) == ("after", false), "{seen:?}");
    ensure!((&*seen[2].name, seen[2].deleted) == ("before", true), "{seen:?}");
    Ok(())
}

async fn object_seal(js: &Context) -> Result<()> {
    let mut store = objects(js, "SEALED").await?;
    store.put("kept", &mut b"1".as_slice()).await?;
    store.seal().await?;
    ensure!(store.put("refused", &mut b"2".as_slice()).await.is_err());
    ensure!(store.delete("kept").await.is_err());
    ensure!(read(&store, "kept").await? == b"1");
    Ok(())
}

/// Adds a service whose endpoint returns what it is sent.
async fn service(js: &Context, name: &str) -> Result<Service> {
    let service = js.client().service_builder().start(name, "1.2.3").await.map_err(anyhow_of)?;
    let mut endpoint = service.endpoint(format!("{name}.echo")).await.map_err(anyhow_of)?;
    tokio::spawn(async move {
        while let Some(request) = endpoint.next().await {
            let payload = request.message.payload.clone();
            let answer = match payload.is_empty() {
                true => Err(async_nats::service::error::Error { status: "no payload".into(), code: 422 }),
                false => Ok(payload),
            };
            // Whoever waits for it will say so.
            let _ = request.respond(answer).await;
        }
    });
    js.client().flush().await?;
    Ok(service)
}

/// Returns what all services answer to a question.
async fn answers(js: &Context, subject: &str) -> Result<Vec<serde_json::Value>> {
    let inbox = js.client().new_inbox();
    let mut subscription = js.client().subscribe(inbox.clone()).await?;
    js.client().publish_with_reply(subject.to_owned(), inbox, "".into()).await?;
    let mut found = Vec::new();
    while let Ok(Some(message)) = timeout(Duration::from_secs(1), subscription.next()).await {
        found.push(serde_json::from_slice(&message.payload)?);
    }
    Ok(found)
}

async fn service_endpoints(js: &Context) -> Result<()> {
    let service = service(js, "endpoints").await?;
    let answer = timeout(ARRIVAL, js.client().request("endpoints.echo", "hello".into())).await??;
    ensure!(answer.payload == "hello");
    let answer = timeout(ARRIVAL, js.client().request("endpoints.echo", "".into())).await??;
    let code = answer.headers.as_ref().and_then(|headers| headers.get("Nats-Service-Error-Code"));
    ensure!(code.is_some_and(|code| code.as_str() == "422"), "{answer:?}");
    service.stop().await.map_err(anyhow_of)
}

async fn service_discovery(js: &Context) -> Result<()> {
    let services = [service(js, "discovery").await?, service(js, "discovery").await?];
    let id = services[0].info().await.id;
    for (subject, count) in [
        ("$SRV.PING.discovery".to_owned(), 2),
        ("$SRV.INFO.discovery".to_owned(), 2),
        (format!("$SRV.STATS.discovery.{id}"), 1),
    ] {
        let found = answers(js, &subject).await?;
        ensure!(found.len() == count && found.iter().all(|each| each["name"] == "discovery"), "{found:?}");
    }
    Ok(())
}

async fn service_stats(js: &Context) -> Result<()> {
    let services = [service(js, "stats").await?, service(js, "stats").await?];
    for _ in 0..40 {
        js.client().request("stats.echo", "hello".into()).await?;
    }
    let mut counts = Vec::new();
    for service in &services {
        counts.extend(service.stats().await.values().map(|endpoint| endpoint.requests));
    }
    ensure!(counts.len() == 2 && counts.iter().sum::<usize>() == 40, "{counts:?}");
    ensure!(counts.iter().all(|count| *count > 0), "{counts:?}");
    Ok(())
}
