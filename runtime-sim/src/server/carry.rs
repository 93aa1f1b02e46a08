//! Inputs and outputs as numbers for the trace's hash, as words for its readers, and as deeds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::{Buf, Bytes};
use natrix_core::disk::{Completion, Reply, Request, Submission};
use natrix_core::ids::ConnId;
use natrix_core::shard::io::{Input, Listener, Output};
use natrix_core::shard::mailbox::ShardMessage;

use super::conns::{Closing, Conns, Writing};
use super::{CLOSE_FLUSH_LIMIT, Env, ServerQueue};
use crate::net::{End, HostId};
use crate::trace::show_bytes;

/// What became of a write.
pub(super) struct Wrote {
    pub(super) written: usize,
    pub(super) state: Writing,
}

/// Writes at most `limit` bytes.
pub(super) fn write_out<Q: ServerQueue>(
    env: &mut Env<'_, Q>,
    mut outbound: impl Buf,
    end: End,
    limit: usize,
) -> Wrote {
    let mut written = 0;
    while outbound.has_remaining() && written < limit {
        let chunk = outbound.chunk();
        let offered = &chunk[..chunk.len().min(limit - written)];
        let taken = env.net.write(env.queue, end, offered);
        env.trace.bytes(&offered[..taken]);
        written += taken;
        let short = taken < offered.len();
        outbound.advance(taken);
        if short {
            return Wrote { written, state: Writing::Blocked };
        }
    }
    let state = if outbound.has_remaining() { Writing::Dirty } else { Writing::Idle };
    Wrote { written, state }
}

/// Writes the last bytes of a connection and closes it, at once if the socket takes them.
pub(super) fn close<Q: ServerQueue>(env: &mut Env<'_, Q>, conns: &mut Conns, end: End, bytes: Vec<u8>) {
    env.trace.bytes(&bytes);
    let written = env.net.write(env.queue, end, &bytes);
    if written == bytes.len() {
        return env.net.close(env.queue, end);
    }
    let deadline = env.now() + CLOSE_FLUSH_LIMIT;
    conns.close_later(Closing { end, bytes, written, deadline });
}

pub(super) fn address(host: HostId, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, (host.0 >> 8) as u8, host.0 as u8)), port)
}

pub(super) fn accepted(conn: ConnId, peer: HostId, local: HostId) -> Input {
    // The port is only a name here; the generation makes it differ from connection to connection.
    let port = 32_768 + (conn.generation.wrapping_mul(61).wrapping_add(conn.slot) % 28_000) as u16;
    Input::Accepted {
        listener: Listener::Client,
        conn,
        peer: address(peer, port),
        local: address(local, 4222),
    }
}

fn conn_number(conn: ConnId) -> u64 {
    u64::from(conn.generation) << 20 ^ u64::from(conn.slot)
}

pub(super) fn input_numbers(input: &Input) -> (u8, u64, u64) {
    match input {
        Input::Listening { .. } => (10, 0, 0),
        Input::ListenFailed { .. } => (11, 0, 0),
        Input::Accepted { conn, .. } => (12, conn_number(*conn), 0),
        Input::Received { conn, n } => (13, conn_number(*conn), *n as u64),
        Input::Written { conn, n } => (14, conn_number(*conn), *n as u64),
        Input::Closed { conn, .. } => (15, conn_number(*conn), 0),
        Input::TlsEstablished { conn, .. } => (16, conn_number(*conn), 0),
        Input::TlsFailed { conn, .. } => (17, conn_number(*conn), 0),
        Input::Work(done) => (18, conn_number(done.conn), u64::from(done.matched)),
        Input::FromShard(message) => (19, message_number(message), 0),
        Input::Control { id, .. } => (20, *id, 0),
        Input::Tick => (21, 0, 0),
        Input::Disk(completion) => (22, completion.token.0, u64::from(completion.result.is_ok())),
    }
}

pub(super) fn output_numbers(output: &Output) -> (u8, u64, u64) {
    match output {
        Output::Listen { port, .. } => (30, u64::from(*port), 0),
        Output::StopListening { .. } => (31, 0, 0),
        Output::StartTls { conn, .. } => (32, conn_number(*conn), 0),
        Output::Flush { conn } => (33, conn_number(*conn), 0),
        Output::Close { conn, last_bytes } => (34, conn_number(*conn), last_bytes.len() as u64),
        Output::PauseReading { conn } => (35, conn_number(*conn), 0),
        Output::ResumeReading { conn } => (36, conn_number(*conn), 0),
        Output::Work(request) => (37, conn_number(request.conn), 0),
        Output::ToShard(target, message) => (38, u64::from(target.0), message_number(message)),
        Output::ControlReply { id, .. } => (39, *id, 0),
        Output::Log(record) => (40, record.level as u64, record.text.len() as u64),
        Output::Stopped => (41, 0, 0),
        Output::Failed => (42, 0, 0),
        Output::Disk(submission) => (43, submission.token.0, 0),
    }
}

/// Returns a message as a number: its kind in the lowest byte, its particulars above.
pub(super) fn message_number(message: &ShardMessage) -> u64 {
    match message {
        ShardMessage::Admit { conn, .. } => 1 | conn_number(*conn) << 8,
        ShardMessage::Admitted { conn, cid, .. } => 2 | (conn_number(*conn) ^ cid << 20) << 8,
        ShardMessage::Left => 3,
        ShardMessage::Interest { account, subject, weight, .. } => {
            4 | (u64::from(*account) << 40 ^ (subject.len() as u64) << 20 ^ u64::from(*weight)) << 8
        }
        ShardMessage::Deliver { .. } => 5,
        ShardMessage::Credit { bytes, .. } => 6 | (*bytes as u64) << 8,
        ShardMessage::Stall { origin } => 7 | conn_number(*origin) << 8,
        ShardMessage::Bounced { .. } => 8,
        ShardMessage::Unreached { .. } => 9,
        ShardMessage::Listening { .. } => 10,
        ShardMessage::Enter { conn, .. } => 11 | conn_number(*conn) << 8,
        ShardMessage::Entered { conn, within_limit, .. } => {
            12 | (conn_number(*conn) << 1 | u64::from(*within_limit)) << 8
        }
        ShardMessage::Leave { account } => 13 | u64::from(*account) << 8,
        ShardMessage::JetStream(_) => 14,
        ShardMessage::OpenStores { folders } => 15 | folders << 8,
    }
}

pub(super) fn show_input(input: &Input) -> String {
    match input {
        Input::FromShard(message) => format!("from shard: {}", show_message(message)),
        Input::Disk(completion) => show_completion(completion),
        Input::Received { conn, n } => format!("{conn} received {n} bytes"),
        Input::Written { conn, n } => format!("{conn} written {n} bytes"),
        other => format!("{other:?}"),
    }
}

pub(super) fn show_output(output: &Output) -> String {
    match output {
        Output::ToShard(target, message) => format!("to shard {}: {}", target.0, show_message(message)),
        Output::Close { conn, last_bytes } => format!("close {conn} after {:?}", show_bytes(last_bytes, 200)),
        Output::Disk(submission) => show_submission(submission),
        Output::Log(record) => format!("log {:?} {}", record.level, record.text),
        other => format!("{other:?}"),
    }
}

/// Returns a request in words, without the bytes that it carries.
fn show_submission(submission: &Submission) -> String {
    let token = submission.token.0;
    match &submission.request {
        Request::Write { file, offset, data, sync } => {
            let len: usize = data.iter().map(Bytes::len).sum();
            format!("disk {token}: write {len} bytes at {offset} of {file:?}, sync {sync}")
        }
        Request::Replace { path, data } => {
            let len: usize = data.iter().map(Bytes::len).sum();
            format!("disk {token}: replace {path} by {len} bytes")
        }
        other => format!("disk {token}: {other:?}"),
    }
}

fn show_completion(completion: &Completion) -> String {
    let token = completion.token.0;
    match &completion.result {
        Ok(Reply::Read(bytes)) => format!("disk {token}: {} bytes", bytes.len()),
        other => format!("disk {token}: {other:?}"),
    }
}

fn show_message(message: &ShardMessage) -> String {
    match message {
        ShardMessage::Interest { from, account, subject, queue, weight } => {
            let subject = show_bytes(subject, 100);
            let queue = queue.as_ref().map(|queue| show_bytes(queue, 100)).unwrap_or_default();
            format!("interest of shard {} in {account}/{subject} {queue:?}: {weight}", from.0)
        }
        ShardMessage::Deliver { from, batch } => format!("deliver from shard {}: {batch:?}", from.0),
        other => format!("{other:?}"),
    }
}
