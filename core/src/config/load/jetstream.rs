//! The `jetstream` block of the server, and that of an account.
//!
//! Differs: all that is wrong with a block is reported, each with its place; the reference stops at the first,
//! places a wrong type at the block, and durations and switches of accounts nowhere.
//!
//! Source: nats-server `server/opts.go`, `parseJetStream` and `parseJetStreamForAccount`.

use std::time::Duration;

use super::{Checked, Loader, non_empty, positive, secret};
use crate::config::duration::parse_duration;
use crate::config::options::{AccountJetStream, JetStreamLimits, JetStreamOptions, SyncPolicy};
use crate::config::text::quoted;
use crate::config::value::{Token, Value};
use crate::storage::Cipher;

impl Loader<'_> {
    /// Handles the block and the folder, named in lower case; tells whether this was one.
    pub(super) fn jetstream_setting(&mut self, name: &str, token: &Token) -> Checked<bool> {
        match name {
            "jetstream" => self.jetstream(token)?,
            "store_dir" | "storedir" => self.store_dir(token)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn store_dir(&mut self, token: &Token) -> Checked<()> {
        let store_dir = &mut self.draft.options.store_dir;
        if store_dir.is_some() {
            return Err(token.problem("Duplicate 'store_dir' configuration"));
        }
        *store_dir = non_empty(token.string()?);
        Ok(())
    }

    fn jetstream(&mut self, token: &Token) -> Checked<()> {
        let Value::Map(entries) = &token.value else {
            self.draft.jetstream_on = switch(token)?;
            return Ok(());
        };
        let mut on = true;
        let mut info_queue_limit = None;
        self.entries(entries, |loader, key, entry| {
            let name = key.to_lowercase();
            match name.as_str() {
                "enable" | "enabled" => on = entry.bool()?,
                "info_queue_limit" => info_queue_limit = positive(count(key, entry)?, u64::MAX),
                _ => {
                    let known = loader.jetstream_basics(key, &name, entry)?
                        || loader.jetstream_tuning(key, &name, entry)?;
                    if !known {
                        return entry.unknown(key);
                    }
                }
            }
            Ok(())
        });
        self.draft.jetstream_on = on;
        let jetstream = &mut self.draft.jetstream;
        jetstream.info_queue_limit = info_queue_limit.unwrap_or(jetstream.request_queue_limit);
        Ok(())
    }

    /// Handles what most blocks say.
    fn jetstream_basics(&mut self, key: &str, name: &str, entry: &Token) -> Checked<bool> {
        let jetstream = &mut self.draft.jetstream;
        match name {
            "store" | "store_dir" | "storedir" => self.store_dir(entry)?,
            "max_memory_store" | "max_mem_store" | "max_mem" => {
                jetstream.max_memory = u64::try_from(storage_size("max_mem_store", entry)?).ok();
            }
            "max_file_store" | "max_file" => {
                jetstream.max_store = u64::try_from(storage_size("max_file_store", entry)?).ok();
            }
            "domain" => self.draft.options.jetstream_domain = non_empty(entry.string()?),
            "sync" | "sync_interval" => self.sync(key, entry)?,
            "strict" => match entry.value {
                Value::Bool(strict) => jetstream.strict = strict,
                _ => {
                    let text = format!("Expected 'true' or 'false' for bool value, got '{}'", entry.value);
                    return Err(entry.problem(text));
                }
            },
            "key" | "ek" | "encryption_key" => jetstream.encryption_key = secret(entry.string()?),
            "prev_key" | "prev_ek" | "prev_encryption_key" => {
                jetstream.previous_encryption_key = secret(entry.string()?);
            }
            "cipher" => {
                jetstream.cipher = match entry.string()?.to_lowercase().as_str() {
                    "chacha" | "chachapoly" => Cipher::ChaCha20Poly1305,
                    "aes" => Cipher::Aes256Gcm,
                    _ => {
                        let name = quoted(entry.string()?);
                        return Err(entry.problem(format!("Unknown cipher type: {name}")));
                    }
                }
            }
            "tpm" if matches!(&entry.value, Value::Map(entries) if entries.is_empty()) => {}
            "tpm" => return Err(entry.unsupported(key)),
            "limits" => self.jetstream_limits(entry)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Handles queues, and what only clusters need.
    fn jetstream_tuning(&mut self, key: &str, name: &str, entry: &Token) -> Checked<bool> {
        let jetstream = &mut self.draft.jetstream;
        let defaults = JetStreamOptions::default();
        // As with the limits of the reference: zero is the default, less is no limit.
        let buffered = |value: i64, default| if value == 0 { default } else { u64::try_from(value).ok() };
        match name {
            "unique_tag" => jetstream.unique_tag = non_empty(&entry.string()?.trim().to_lowercase()),
            "extension_hint" => jetstream.extension_hint = non_empty(entry.string()?),
            "max_outstanding_catchup" => {
                jetstream.max_outstanding_catchup = positive(storage_size(name, entry)?, u64::MAX)
                    .unwrap_or(defaults.max_outstanding_catchup);
            }
            "request_queue_limit" => {
                jetstream.request_queue_limit =
                    positive(count(key, entry)?, u64::MAX).unwrap_or(defaults.request_queue_limit);
            }
            "max_buffered_size" => {
                let bytes = storage_size(name, entry)?;
                jetstream.max_buffered_size = buffered(bytes, defaults.max_buffered_size);
            }
            "max_buffered_msgs" => {
                jetstream.max_buffered_msgs = buffered(count(key, entry)?, defaults.max_buffered_msgs);
            }
            "meta_compact" => match entry.value {
                Value::Integer(entries @ 0..) => jetstream.meta_compact = positive(entries, u64::MAX),
                _ => return Err(not_absolute(key, entry, "")),
            },
            "meta_compact_size" => match storage_size(name, entry)? {
                bytes @ 0.. => jetstream.meta_compact_size = positive(bytes, u64::MAX),
                _ => return Err(not_absolute(key, entry, "")),
            },
            "meta_compact_sync" => jetstream.meta_compact_sync = entry.bool()?,
            // These two are our own: the reference reads blocks when it starts, and when somebody asks for a message.
            "scrub_interval" => {
                let nanos = self.duration(key, entry)?;
                let interval = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0);
                self.draft.jetstream.scrub_interval = interval.map(Duration::from_nanos);
            }
            "scrub_rate" => {
                jetstream.scrub_rate =
                    positive(storage_size(name, entry)?, u64::MAX).unwrap_or(defaults.scrub_rate);
            }
            "max_concurrent_io" => match entry.value {
                Value::Integer(count @ 4..=8192) => jetstream.max_concurrent_io = count as u16,
                _ => return Err(not_absolute(key, entry, " between 4 and 8192")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn sync(&mut self, field: &str, entry: &Token) -> Checked<()> {
        if let Value::String(text) = &entry.value
            && text.eq_ignore_ascii_case("always")
        {
            self.draft.sync = Some(SyncPolicy::Always);
            return Ok(());
        }
        let nanos = self.duration(field, entry)?;
        let interval = match u64::try_from(nanos) {
            Ok(0) => SyncPolicy::Interval(SyncPolicy::REFERENCE_INTERVAL),
            Ok(nanos) => SyncPolicy::Interval(Duration::from_nanos(nanos)),
            // There is no less time between two syncs than none.
            Err(_) => SyncPolicy::Always,
        };
        // Under whichever of its names, `always` isn't taken back.
        self.draft.sync.get_or_insert(interval);
        Ok(())
    }

    fn jetstream_limits(&mut self, token: &Token) -> Checked<()> {
        let Value::Map(entries) = &token.value else {
            let got = token.value.type_name();
            return Err(token.problem(format!("Expected a map to define JetStreamLimits, got {got}")));
        };
        self.entries(entries, |loader, key, entry| {
            let limits = &mut loader.draft.jetstream.limits;
            match key.to_lowercase().as_str() {
                "max_ack_pending" => limits.max_ack_pending = positive(entry.integer()?, u32::MAX),
                "max_ha_assets" => limits.max_ha_assets = positive(entry.integer()?, u32::MAX),
                "max_request_batch" => limits.max_request_batch = positive(entry.integer()?, u32::MAX),
                "duplicate_window" => limits.duplicate_window = window(entry)?,
                "default_max_consumers" => {
                    limits.default_max_consumers = match entry.integer()? {
                        0 => Some(JetStreamLimits::DEFAULT_MAX_CONSUMERS),
                        count => positive(count, u32::MAX),
                    }
                }
                "batch" => loader.batch_limits(entry)?,
                _ => return entry.unknown(key),
            }
            Ok(())
        });
        Ok(())
    }

    fn batch_limits(&mut self, token: &Token) -> Checked<()> {
        let Value::Map(entries) = &token.value else {
            let got = token.value.type_name();
            return Err(token.problem(format!("Expected a map to define batch limits, got {got}")));
        };
        self.entries(entries, |loader, key, entry| {
            let limits = &mut loader.draft.jetstream.limits;
            match key.to_lowercase().as_str() {
                "max_inflight_per_stream" => {
                    limits.max_batch_inflight_per_stream = positive(entry.integer()?, u32::MAX);
                }
                "max_inflight_total" => {
                    limits.max_batch_inflight_total = positive(entry.integer()?, u32::MAX);
                }
                "max_msgs" => limits.max_batch_size = positive(entry.integer()?, u32::MAX),
                "timeout" => limits.max_batch_timeout = window(entry)?,
                _ => return entry.unknown(key),
            }
            Ok(())
        });
        Ok(())
    }

    /// Reads what the streams of an account may take; `None` if it is to have none.
    pub(super) fn account_jetstream(&mut self, token: &Token) -> Checked<Option<AccountJetStream>> {
        let Value::Map(entries) = &token.value else {
            return Ok(switch(token)?.then(AccountJetStream::default));
        };
        let mut limits = AccountJetStream::default();
        self.entries(entries, |_, key, entry| {
            // Less than zero is no limit everywhere, zero only where nobody could want it.
            match key.to_lowercase().as_str() {
                "max_memory" | "max_mem" | "mem" | "memory" => {
                    limits.max_memory = u64::try_from(count(key, entry)?).ok();
                }
                "max_store" | "max_file" | "max_disk" | "store" | "disk" => {
                    limits.max_store = u64::try_from(count(key, entry)?).ok();
                }
                "max_streams" | "streams" => limits.max_streams = positive(count(key, entry)?, u32::MAX),
                "max_consumers" | "consumers" => {
                    limits.max_consumers = positive(count(key, entry)?, u32::MAX);
                }
                "max_bytes_required" | "max_stream_bytes" | "max_bytes" => match entry.value {
                    Value::Bool(required) => limits.max_bytes_required = required,
                    _ => return Err(not_parseable("bool", key, entry)),
                },
                "mem_max_stream_bytes" | "memory_max_stream_bytes" => {
                    limits.memory_max_stream_bytes = positive(count(key, entry)?, u64::MAX);
                }
                "disk_max_stream_bytes" | "store_max_stream_bytes" => {
                    limits.store_max_stream_bytes = positive(count(key, entry)?, u64::MAX);
                }
                "max_ack_pending" => limits.max_ack_pending = positive(count(key, entry)?, u32::MAX),
                "cluster_traffic" => return cluster_traffic(key, entry),
                _ => return entry.unknown(key),
            }
            Ok(())
        });
        Ok(Some(limits))
    }
}

/// Reads whether there is to be JetStream, without saying more about it.
fn switch(token: &Token) -> Checked<bool> {
    match &token.value {
        Value::Bool(on) => Ok(*on),
        Value::String(text) => match text.to_lowercase().as_str() {
            "enabled" | "enable" => Ok(true),
            "disabled" | "disable" => Ok(false),
            _ => {
                Err(token.problem(format!("Expected 'enabled' or 'disabled' for string value, got '{text}'")))
            }
        },
        other => {
            let got = other.type_name();
            Err(token.problem(format!("Expected map, bool or string to define JetStream, got {got}")))
        }
    }
}

/// Only a cluster has traffic that could be an account's own.
fn cluster_traffic(key: &str, entry: &Token) -> Checked<()> {
    let got = || format!("string value for {}, got {}", quoted(key), entry.value);
    match &entry.value {
        Value::String(owner) => match owner.as_str() {
            "system" | "" => Ok(()),
            "owner" => Err(entry.unsupported(key)),
            _ => Err(entry.problem(format!("Expected 'system' or 'owner' {}", got()))),
        },
        _ => Err(entry.problem(format!("Expected either 'system' or 'owner' {}", got()))),
    }
}

fn count(key: &str, entry: &Token) -> Checked<i64> {
    match entry.value {
        Value::Integer(count) => Ok(count),
        _ => Err(not_parseable("size", key, entry)),
    }
}

fn not_parseable(what: &str, key: &str, entry: &Token) -> super::Problem {
    entry.problem(format!("Expected a parseable {what} for {}, got {}", quoted(key), entry.value))
}

fn not_absolute(key: &str, entry: &Token, range: &str) -> super::Problem {
    entry.problem(format!("Expected an absolute size for {}{range}, got {}", quoted(key), entry.value))
}

fn window(entry: &Token) -> Checked<Option<Duration>> {
    let nanos = parse_duration(entry.string()?).map_err(|reason| entry.problem(reason))?;
    Ok(positive(nanos, u64::MAX).map(Duration::from_nanos))
}

/// Reads a size: a number, whose units the language knows, or a text that ends in one of four letters.
fn storage_size(field: &str, entry: &Token) -> Checked<i64> {
    let size = match &entry.value {
        Value::Integer(bytes) => Ok(*bytes),
        Value::String(text) => text_size(text),
        _ => Err("must be int64 or string".to_owned()),
    };
    size.map_err(|reason| entry.problem(format!("{field} {reason}")))
}

fn text_size(text: &str) -> Result<i64, String> {
    let Some(unit) = text.chars().last() else { return Ok(0) };
    let digits = &text[..text.len() - unit.len_utf8()];
    let number: i64 = digits.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let reason = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {}: {reason}", quoted(digits))
    })?;
    let shift = match unit {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return Err("sizes defined as strings must end in K, M, G, T".to_owned()),
    };
    Ok(number.saturating_mul(1 << shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_quotes_end_in_a_letter() {
        for (text, bytes) in [("", 0), ("1K", 1024), ("+3M", 3 << 20), ("-1G", -(1 << 30)), ("2T", 2 << 40)] {
            assert_eq!(text_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(text_size("9223372036854775807T"), Ok(i64::MAX));
        for text in ["1", "1k", "1L", "K", "TT", "1é", "1_0K", "0x1K", " 1K"] {
            assert!(text_size(text).is_err(), "{text}");
        }
    }
}
