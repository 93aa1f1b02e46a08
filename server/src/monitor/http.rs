//! Monitoring over HTTP and HTTPS, on a thread of its own so that no request ever delays a shard.
//!
//! Bounded: [`MAX_CONNECTIONS`] at a time, and for each the size of a request's head, the time it may take, and the
//! time that the whole connection may live.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;

use super::{Answer, Monitor, Shards};

/// How many connections are served at a time; others wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// How long a request's head may be.
const MAX_HEAD: usize = 64 * 1024;
/// How long a TLS handshake or a request's head may take to come, and a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may live, so that somebody who doesn't read the answer holds it only so long.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long an answer may still take once the connection has lived.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// How long to wait after the system refused a connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The thread that serves monitoring; ends when it is dropped or stopped.
pub(crate) struct HttpServer {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl HttpServer {
    /// Serves `monitor` on a bound listener, over TLS if there is a configuration for it.
    ///
    /// # Errors
    ///
    /// What the operating system says about threads and sockets.
    pub(crate) fn start<S: Shards>(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        monitor: Monitor<S>,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("monitor".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, tls, Arc::new(monitor)) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(HttpServer { stop, thread })
    }

    /// Stops serving; answers that are under way are cut off.
    pub(crate) fn stop(self) {
        // If it is gone already, all the better.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

async fn accept<S: Shards>(listener: TcpListener, tls: Option<TlsAcceptor>, monitor: Arc<Monitor<S>>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (tls, monitor) = (tls.clone(), Arc::clone(&monitor));
        tokio::spawn(async move {
            match tls {
                None => serve(stream, &monitor).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                        serve(stream, &monitor).await;
                    }
                }
            }
            drop(slot);
        });
    }
}

async fn serve<S: Shards>(stream: impl AsyncRead + AsyncWrite + Unpin, monitor: &Monitor<S>) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let uri = request.uri();
        let answer = monitor.answer(uri.path(), uri.query().unwrap_or_default()).await;
        Ok::<_, Infallible>(respond(answer))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if tokio::time::timeout(LIFETIME, &mut connection).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
    }
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    for (name, value) in answer.headers {
        // A redirect shows the path of the request, which was a valid URI.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Binds the listener for monitoring.
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn bind(host: &str, port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let listener = TcpListener::bind((host, port))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
