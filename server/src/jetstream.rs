//! What JetStream begins with: the folder, the limits that the settings leave to the machine, and the log of it.
//!
//! Clients' test tools look for some of these lines, so they are the reference's.
//!
//! Source: nats-server `server/jetstream.go`, `EnableJetStream`, and `server/disk_avail.go`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use natrix_core::config::{AccountJetStream, JetStreamOptions, Options};
use natrix_core::protocol::info::API_LEVEL;
use natrix_core::storage::Cipher;

use crate::log::{Logger, go_error};

/// The limit of memory when the machine doesn't say how much it has.
const MEMORY_GUESS: u64 = 256 * 1024 * 1024;
/// The limit of files when the disk doesn't say how much is free.
const STORE_GUESS: u64 = 1024 * 1024 * 1024 * 1024;

const BANNER: [&str; 8] = [
    r"    _ ___ _____ ___ _____ ___ ___   _   __  __",
    r" _ | | __|_   _/ __|_   _| _ \ __| /_\ |  \/  |",
    r"| || | _|  | | \__ \ | | |   / _| / _ \| |\/| |",
    r" \__/|___| |_| |___/ |_| |_|_\___/_/ \_\_|  |_|",
    "",
    "         https://docs.nats.io/jetstream",
    "",
    "---------------- JETSTREAM ----------------",
];

/// Makes the folder of streams and fills in what the settings leave open, so that shards find every value there;
/// does nothing without JetStream.
///
/// # Errors
///
/// Why there can be no streams here, in the reference's words.
pub(crate) fn prepare(options: &mut Options, logger: &Logger) -> Result<(), String> {
    let Some(mut jetstream) = options.jetstream.clone() else { return Ok(()) };
    logger.info("Starting JetStream");
    if options.store_dir.is_none() {
        logger.warn("Temporary storage directory used, data could be lost on system reboot");
        options.store_dir = Some(temporary_folder(&jetstream).to_string_lossy().into_owned());
    }
    let folder = options.jetstream_dir().unwrap_or_default();
    make_folder(Path::new(&folder))?;

    // Nobody promised accounts that much: the free space is a guess that the next file makes wrong.
    let promised_store = jetstream.max_store;
    settle(&mut jetstream, machine_memory(), free_space(&folder));
    for line in lines(&jetstream, &folder, options.jetstream_domain.as_deref()) {
        logger.info(line);
    }
    let accounts = options.accounts.iter().filter_map(|account| account.jetstream);
    check_reservations(accounts, jetstream.max_memory, promised_store)
        .map_err(|reason| format!("Error enabling jetstream on configured accounts: {reason}"))?;
    options.jetstream = Some(jetstream);
    Ok(())
}

/// Fills in the limits that are open, from how much memory there is and how much of the disk is free.
fn settle(jetstream: &mut JetStreamOptions, memory: Option<u64>, free: Option<u64>) {
    jetstream.max_memory.get_or_insert(memory.map_or(MEMORY_GUESS, share));
    jetstream.max_store.get_or_insert(free.map_or(STORE_GUESS, share));
}

/// Returns a folder that is the same at the next start; which one is as the reference has it.
fn temporary_folder(jetstream: &JetStreamOptions) -> PathBuf {
    let given = |limit: Option<u64>| limit.is_some_and(|bytes| bytes > 0);
    let temporary = std::env::temp_dir();
    if given(jetstream.max_memory) && given(jetstream.max_store) { temporary } else { temporary.join("nats") }
}

fn make_folder(folder: &Path) -> Result<(), String> {
    match fs::metadata(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_with_parents(folder).map_err(|text| format!("could not create storage directory - {text}"))
        }
        Ok(found) if found.is_dir() => {
            let probe = folder.join(format!("_test_{}", std::process::id()));
            fs::write(&probe, "").map_err(|_| "storage directory is not writable")?;
            // What can be written can be removed, or will be overwritten.
            let _ = fs::remove_file(probe);
            Ok(())
        }
        _ => Err("storage directory is not a directory".to_owned()),
    }
}

/// Makes a folder that only this user may enter, and those above it; an error names the one that can't be.
fn make_with_parents(folder: &Path) -> Result<(), String> {
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty())
        && !parent.exists()
    {
        make_with_parents(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(format!("mkdir {}: {}", folder.display(), go_error(&error)))
        }
        _ => Ok(()),
    }
}

/// Three quarters, which leaves something for everything else on the machine.
fn share(bytes: u64) -> u64 {
    bytes / 4 * 3
}

#[cfg(target_os = "linux")]
fn machine_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    #[expect(clippy::useless_conversion, reason = "its type is the platform's")]
    u64::try_from(info.totalram).ok()?.checked_mul(u64::from(info.mem_unit)).filter(|bytes| *bytes > 0)
}

#[cfg(not(target_os = "linux"))]
fn machine_memory() -> Option<u64> {
    None
}

fn free_space(folder: &str) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

fn lines(jetstream: &JetStreamOptions, folder: &str, domain: Option<&str>) -> Vec<String> {
    let mut lines: Vec<String> = BANNER.map(str::to_owned).into();
    if jetstream.strict {
        lines.push("  Strict:          true".to_owned());
    }
    lines.push(format!("  Max Memory:      {}", friendly_bytes(jetstream.max_memory.unwrap_or(0))));
    lines.push(format!("  Max Storage:     {}", friendly_bytes(jetstream.max_store.unwrap_or(0))));
    lines.push(format!("  Store Directory: \"{folder}\""));
    if let Some(domain) = domain {
        lines.push(format!("  Domain:          {domain}"));
    }
    match jetstream.store_cipher() {
        Cipher::None => {}
        Cipher::ChaCha20Poly1305 => lines.push("  Encryption:      ChaCha20-Poly1305".to_owned()),
        Cipher::Aes256Gcm => lines.push("  Encryption:      AES-GCM".to_owned()),
    }
    lines.push(format!("  API Level:       {API_LEVEL}"));
    lines.push("-------------------------------------------".to_owned());
    lines
}

/// Writes a size in the largest unit that it has one of, with two decimals.
fn friendly_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    let Some(index) = bytes.checked_ilog2().map_or(0, |bits| bits / 10).checked_sub(1) else {
        return format!("{bytes} B");
    };
    let unit = UNITS[index as usize];
    format!("{:.2} {unit}", bytes as f64 / 1024f64.powi(index as i32 + 1))
}

/// What accounts are promised must be there, also if all of them use it up.
///
/// Differs: the reference forgets what is beyond 64 bits.
fn check_reservations(
    accounts: impl Iterator<Item = AccountJetStream>,
    max_memory: Option<u64>,
    max_store: Option<u64>,
) -> Result<(), &'static str> {
    let (mut memory, mut store) = (0u64, 0u64);
    for account in accounts {
        memory = memory.saturating_add(account.max_memory.unwrap_or(0));
        store = store.saturating_add(account.max_store.unwrap_or(0));
        if max_memory.is_some_and(|most| memory > most) {
            return Err("insufficient memory resources available (10028)");
        }
        if max_store.is_some_and(|most| store > most) {
            return Err("insufficient storage resources available (10047)");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use natrix_core::config::Secret;

    use super::*;

    #[test]
    fn sizes_are_written_as_the_reference_writes_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KB"),
            (1_000_000_000, "953.67 MB"),
            (42_601_273_344, "39.68 GB"),
            (u64::MAX, "16.00 EB"),
        ] {
            assert_eq!(friendly_bytes(bytes), text);
        }
    }

    #[test]
    fn the_log_shows_what_was_settled() {
        let mut jetstream = JetStreamOptions {
            max_memory: Some(1_000_000_000),
            max_store: Some(0),
            ..JetStreamOptions::default()
        };
        let shown = |jetstream: &JetStreamOptions, domain| {
            lines(jetstream, "/data/jetstream", domain)[7..].join("\n")
        };
        insta::assert_snapshot!(shown(&jetstream, None), @r#"
        ---------------- JETSTREAM ----------------
          Strict:          true
          Max Memory:      953.67 MB
          Max Storage:     0 B
          Store Directory: "/data/jetstream"
          API Level:       5
        -------------------------------------------
        "#);
        jetstream.encryption_key = Some(Secret::new("k"));
        jetstream.strict = false;
        insta::assert_snapshot!(shown(&jetstream, Some("hub")), @r#"
        ---------------- JETSTREAM ----------------
          Max Memory:      953.67 MB
          Max Storage:     0 B
          Store Directory: "/data/jetstream"
          Domain:          hub
          Encryption:      ChaCha20-Poly1305
          API Level:       5
        -------------------------------------------
        "#);
    }

    #[test]
    fn what_is_set_stays_and_what_is_open_is_asked_of_the_machine() {
        let settled = |max_memory, max_store, memory, free| {
            let mut jetstream = JetStreamOptions { max_memory, max_store, ..JetStreamOptions::default() };
            settle(&mut jetstream, memory, free);
            (jetstream.max_memory.unwrap(), jetstream.max_store.unwrap())
        };
        assert_eq!(settled(Some(3), Some(5), Some(400), Some(800)), (3, 5));
        assert_eq!(settled(Some(0), Some(0), Some(400), Some(800)), (0, 0));
        assert_eq!(settled(None, None, Some(400), Some(800)), (300, 600));
        assert_eq!(settled(None, None, None, None), (256 << 20, 1 << 40));
    }

    #[test]
    fn a_folder_is_made_or_the_reason_told() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("a/b");
        assert_eq!(make_folder(&folder), Ok(()));
        assert_eq!(make_folder(&folder), Ok(()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::write(top.path().join("file"), "").unwrap();
        let not_a_folder = Err("storage directory is not a directory".to_owned());
        assert_eq!(make_folder(&top.path().join("file")), not_a_folder);
        assert_eq!(make_folder(&top.path().join("file/below")), not_a_folder);
        let reason = "could not create storage directory - mkdir /proc/nowhere: no such file or directory";
        assert_eq!(make_folder(Path::new("/proc/nowhere/jetstream")), Err(reason.to_owned()));
    }

    #[test]
    fn accounts_are_not_promised_more_than_there_is() {
        let account =
            |max_memory, max_store| AccountJetStream { max_memory, max_store, ..AccountJetStream::default() };
        let check = |accounts: &[AccountJetStream], memory, store| {
            check_reservations(accounts.iter().copied(), memory, store)
        };
        let two = [account(Some(6), Some(6)), account(Some(6), None), account(None, None)];
        assert_eq!(check(&two, Some(12), Some(6)), Ok(()));
        assert_eq!(check(&two, Some(11), None), Err("insufficient memory resources available (10028)"));
        assert_eq!(check(&two, Some(12), Some(5)), Err("insufficient storage resources available (10047)"));
        // Of a guess no promise is checked.
        assert_eq!(check(&two, None, None), Ok(()));
        let endless = [account(Some(u64::MAX), None), account(Some(u64::MAX), None)];
        assert!(check(&endless, Some(u64::MAX - 1), None).is_err());
    }

    #[test]
    fn the_machine_says_what_it_has() {
        assert!(machine_memory().is_none_or(|bytes| bytes > 1 << 20));
        let folder = tempfile::tempdir().unwrap();
        assert!(free_space(folder.path().to_str().unwrap()).is_some());
        assert_eq!(free_space("/nowhere"), None);
        assert_eq!(share(1001), 750);
    }

    #[test]
    fn a_temporary_folder_is_where_the_reference_has_it() {
        let mut jetstream = JetStreamOptions::default();
        assert!(temporary_folder(&jetstream).ends_with("nats"));
        (jetstream.max_memory, jetstream.max_store) = (Some(1), Some(0));
        assert!(temporary_folder(&jetstream).ends_with("nats"));
        jetstream.max_store = Some(1);
        assert_eq!(temporary_folder(&jetstream), std::env::temp_dir());
    }
}
