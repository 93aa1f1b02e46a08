//! Accepts connections and gives each to the shard that has fewest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use natrix_core::shard::io::{Listener, LogLevel, LogRecord};
use tokio::sync::watch;

use crate::inbox::Event;
use crate::platform::Platform;
use crate::server::Shared;

/// First and longest pause after a failure such as "too many open files".
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Binds, tells the home shard, and accepts until `stop` changes.
pub(crate) async fn run<P: Platform>(
    platform: P,
    shared: Arc<Shared<P::Accepted>>,
    listener: Listener,
    host: String,
    port: u16,
    mut stop: watch::Receiver<bool>,
) {
    let (socket, address) = match platform.bind(&host, port).await {
        Ok(bound) => bound,
        Err(error) => {
            let error = format!("listen tcp {host}:{port}: bind: {}", in_gos_words(&error));
            shared.inboxes[0].push(Event::ListenFailed { listener, error });
            return;
        }
    };
    shared.inboxes[0].push(Event::Listening { listener, address });
    let mut pause = PAUSES.0;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.changed() => return,
            accepted = platform.accept(&socket) => accepted,
        };
        match accepted {
            Ok((socket, peer, local)) => {
                pause = PAUSES.0;
                let shard = least_loaded(&shared);
                shared.loads[shard].fetch_add(1, Ordering::Relaxed);
                shared.inboxes[shard].push(Event::Accepted { listener, socket, peer, local });
            }
            Err(error) => {
                let text = format!(
                    "Temporary Client Accept Error(accept tcp {address}: accept4: {}), sleeping {}ms",
                    in_gos_words(&error),
                    pause.as_millis()
                );
                shared.observer.log(LogRecord { level: LogLevel::Error, text: text.into() });
                tokio::select! {
                    _ = stop.changed() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Words an error of the operating system as the reference's log does.
fn in_gos_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn least_loaded<A>(shared: &Shared<A>) -> usize {
    let loads = shared.loads.iter().map(|load| load.load(Ordering::Relaxed));
    loads.enumerate().min_by_key(|(_, load)| *load).map_or(0, |(shard, _)| shard)
}
