//! Operations in the words of the log, for those who ask for a trace.
//!
//! Source: nats-server `server/client.go`, `traceInOp`, `traceOutOp` and `traceMsg`.

use super::Shard;
use super::describe::log_name;
use super::io::LogLevel;
use crate::delivery::Message;
use crate::ids::ConnId;
use crate::protocol::client::trace_text;
use crate::protocol::connect::redacted;
use crate::protocol::quote::quote;

impl Shard {
    /// Shows a line that a client sent, less its secrets.
    pub(super) fn trace(&mut self, conn: ConnId, line: &[u8]) {
        let (verb, arguments) = trace_text(line);
        let arguments = match verb {
            "CONNECT" => redacted(arguments),
            _ => arguments.to_vec(),
        };
        let text = match arguments.is_empty() {
            true => format!("<<- [{verb}]"),
            false => format!("<<- [{verb} {}]", String::from_utf8_lossy(&arguments)),
        };
        self.show(conn, &text);
    }

    /// Shows a message that a client sent.
    pub(super) fn trace_publish(&mut self, conn: ConnId, message: &Message<'_>) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let payload = &message.payload.bytes()[..message.payload.bytes().len() - 2];
        let (subject, reply) = (text(message.subject), text(message.reply));
        let reply = if reply.is_empty() { reply } else { format!("{reply} ") };
        let line = match message.header_len {
            0 => format!("<<- [PUB {subject} {reply}{}]", payload.len()),
            headers => format!("<<- [HPUB {subject} {reply}{headers} {}]", payload.len()),
        };
        self.show(conn, &line);
        if let Some(line) = self.payload_line("<<-", payload, message.header_len) {
            self.show(conn, &line);
        }
    }

    /// Shows what was queued for a client: a protocol line, or a message with its line.
    pub(super) fn trace_sent(&mut self, conn: ConnId, line: &[u8], payload: &[u8], header_len: usize) {
        let line = line.trim_ascii_end();
        // INFO isn't traced: every client has seen it.
        if line.starts_with(b"INFO ") {
            return;
        }
        let line = line.strip_prefix(b"+").unwrap_or(line);
        self.log_trace(conn, &format!("->> [{}]", String::from_utf8_lossy(line)));
        let is_message = line.starts_with(b"MSG ") || line.starts_with(b"HMSG ");
        if is_message && let Some(line) = self.payload_line("->>", &payload[..payload.len() - 2], header_len)
        {
            self.log_trace(conn, &line);
        }
    }

    fn payload_line(&self, arrow: &str, payload: &[u8], header_len: usize) -> Option<String> {
        let headers = header_len.saturating_sub(4);
        let payload = match self.settings.trace_headers {
            true if header_len == 0 => return None,
            true => &payload[..headers],
            false => payload,
        };
        let shown = &payload[..payload.len().min(self.settings.max_traced_msg_len)];
        let mut shown = shown.to_vec();
        if shown.len() < payload.len() {
            shown.extend_from_slice(b"...");
        }
        Some(format!("{arrow} MSG_PAYLOAD: [{}]", quote(&shown)))
    }

    /// Shows what came in, in order with what was sent: that waits among the exchange's effects.
    fn show(&mut self, conn: ConnId, text: &str) {
        if let Some(client) = self.exchange.clients.get(conn) {
            let line = format!("{} - {text}", log_name(client));
            self.exchange.show_line(line);
        }
    }

    fn log_trace(&mut self, conn: ConnId, text: &str) {
        if let Some(client) = self.exchange.clients.get(conn) {
            let line = format!("{} - {text}", log_name(client));
            self.log(LogLevel::Trace, line);
        }
    }
}
