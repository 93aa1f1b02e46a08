//! What only streams in files do: blocks that come and go, space, reads.

use crate::storage::CODECS;
use bytes::Bytes;

use super::files::{Files, OWNER, Restart};
use super::script::{list, message, run, seconds};
use super::{Change, Cipher, Compression, MemoryStore, Message, Outcome, StoreConfig, Stream, config};
use crate::disk::{DiskErrorKind, FilePath, Request, Submission, Token};
use crate::rng::Rng;
use crate::storage::block::key::Keys;
use crate::storage::change::NewMessage;
use crate::storage::file::store::StoreEvent;
use crate::storage::file::{Event, Failure};
use crate::storage::ledger::{Filter, Ledger};
use crate::storage::{DeleteRange, Lookup, StorageKind};

const RESTARTS: [Restart; 4] =
    [Restart::Clean, Restart::Killed, Restart::WithoutIndexes, Restart::BlocksAlone];

fn plain(config: &StoreConfig) -> Files {
    Files::new(config, CODECS[0], None)
}

/// A stream of files with all that a script does to it durable, and no index in memory that it doesn't need.
fn filled(script: &str) -> Files {
    let mut files = plain(&config());
    run(&mut files, script);
    files.start_again(Restart::Clean);
    files
}

/// Asks, and returns the answer and how many indexes were loaded for it.
fn loads<T>(files: &mut Files, question: impl Fn(&mut Ledger) -> Lookup<T>) -> (T, usize) {
    files.events.clear();
    let answer = files.ask(question);
    (answer, files.events.iter().filter(|event| matches!(event, StoreEvent::Loaded { .. })).count())
}

fn next(files: &mut Files, subject: &str, from: u64) -> (Option<u64>, usize) {
    loads(files, |ledger| ledger.next(Filter::Subject(subject.as_bytes()), from))
}

#[test]
fn every_message_is_read_as_it_was_written() {
    let varied = |at: u64| NewMessage {
        headers: Bytes::from(if at.is_multiple_of(3) {
            format!("NATS/1.0\r\nn: {at}\r\n\r\n")
        } else {
            String::new()
        }),
        payload: Bytes::from(vec![at as u8; (at * 37 % 300) as usize]),
        ..message(&format!("foo.{}.{}", at % 10, "s".repeat(at as usize % 20)), 0, seconds(at as i64))
    };
    for codec in CODECS {
        let mut files = Files::new(&config(), codec, None);
        let mut model = MemoryStore::counting_as_file(config());
        for (round, restart) in RESTARTS.into_iter().enumerate() {
            for at in 0..25 {
                let change = Change::Store(varied(at + 25 * round as u64));
                let outcome = files.apply(change.clone());
                assert_eq!(outcome, model.apply(change));
                // At once, from the block that is being written.
                let Outcome::Stored(sequence) = outcome else { panic!("{outcome:?}") };
                assert_eq!(Stream::load(&mut files, sequence), model.load(sequence));
            }
            files.start_again(restart);
            assert!(files.blocks() > 3 || codec.1 == Compression::S2, "{}", files.blocks());
            for sequence in 1..=25 * (round as u64 + 1) {
                assert_eq!(Stream::load(&mut files, sequence), model.load(sequence), "{codec:?}");
            }
            assert_eq!(files.ask(|ledger| ledger.state()), model.state());
            let totals = files.ask(|ledger| Ok(ledger.subject_totals(Filter::All)));
            assert_eq!(totals, model.subject_totals(Filter::All));
        }
    }
}

#[test]
fn blocks_without_messages_are_removed() {
    for (script, most) in [
        ("store a 100 x100; purge >", 1),
        ("store a 100 x100; compact 101", 1),
        ("store a 100 x100; compact 60; compact 100", 2),
        ("store a 100 x100; truncate 0; store a", 1),
        ("store a 100 x100; remove 1 to 100", 1),
        ("store a 30 x100; remove 2 to 99; store a 30 x100; remove 100 to 200; remove 1", 1),
        ("store a 100 x100; store b; purge a", 2),
        ("store a 100 x60; sync 1+60; store a", 2),
        ("skip 1 100; skip 101 100000", 1),
    ] {
        let mut files = plain(&config());
        run(&mut files, script);
        files.cover();
        assert!(files.blocks() <= most, "{script}: {} blocks", files.blocks());
        let (before, deleted) = (files.ask(|ledger| ledger.state()), files.ask(|ledger| ledger.deleted()));
        files.start_again(Restart::BlocksAlone);
        let after = files.ask(|ledger| ledger.state());
        assert_eq!(
            (after.messages, after.first_sequence),
            (before.messages, before.first_sequence),
            "{script}"
        );
        assert_eq!(after.last_sequence, before.last_sequence, "{script}");
        assert_eq!(files.ask(|ledger| ledger.deleted()), deleted, "{script}");
    }
}

#[test]
fn nothing_stays_of_blocks_that_are_emptied_in_any_order() {
    for codec in CODECS {
        let mut files = Files::new(&config(), codec, None);
        run(&mut files, "store a.# 90 x100");
        files.cover();
        let (mut left, mut rng) = ((1..=100).collect::<Vec<u64>>(), Rng::from_u64(3));
        while !left.is_empty() {
            let sequence = left.swap_remove(rng.below(left.len() as u64) as usize);
            let outcome = files.apply(Change::Remove { sequence, erase: false });
            assert_eq!(outcome, Outcome::Removed(1), "{codec:?} {sequence}");
        }
        files.cover();
        let indexes = files.disk.paths().filter(|path| path.name().ends_with(".idx")).count();
        assert!(files.blocks() <= 1 && indexes <= 1, "{codec:?}: {} and {indexes}", files.blocks());
        files.start_again(Restart::Clean);
        let state = files.ask(|ledger| ledger.state());
        assert_eq!((state.messages, state.last_sequence), (0, 100), "{codec:?}");
    }
}

/// Whoever stores the next message of a subject may say which one has to be the last before it.
#[test]
fn the_last_of_a_subject_is_known_while_blocks_are_written_anew() {
    let one_of_each = StoreConfig { max_messages_per_subject: 1, ..config() };
    for codec in CODECS {
        let mut files = Files::new(&one_of_each, codec, None);
        let mut written = 0;
        for _ in 0..2 {
            for at in 0..40 {
                let subject = format!("session.{at}");
                for size in [200, 10] {
                    let outcome = files.apply(Change::Store(message(&subject, size, seconds(at))));
                    let Outcome::Stored(sequence) = outcome else { panic!("{outcome:?}") };
                    let last = files.ask(|ledger| ledger.last_of_subject(subject.as_bytes()));
                    assert_eq!(last, Some(sequence), "{codec:?} {subject}");
                    written += StorageKind::File.message_size(subject.len(), 0, size) as usize;
                }
            }
            files.cover();
        }
        assert!(files.bytes_of(".blk") < written / 2, "{codec:?}: {} bytes", files.bytes_of(".blk"));
        assert_eq!(files.ask(|ledger| ledger.state()).messages, 40, "{codec:?}");
    }
}

#[test]
fn a_full_stream_takes_little_more_than_its_limit() {
    let limits = [
        StoreConfig { max_bytes: 300, ..config() },
        StoreConfig { max_messages: 3, ..config() },
        StoreConfig { max_messages_per_subject: 2, ..config() },
    ];
    for limit in limits {
        let mut files = plain(&limit);
        for _ in 0..20 {
            run(&mut files, "store zzz 99 x10");
            files.cover();
            assert!(files.blocks() <= 3 && files.bytes_of(".blk") < 3000, "{} blocks", files.blocks());
        }
        assert_eq!(files.ask(|ledger| ledger.state()).last_sequence, 200);
        assert!(Stream::load(&mut files, 200).is_some());
    }
}

#[test]
fn space_of_removed_messages_is_given_back_and_the_rest_stays() {
    for codec in CODECS {
        let mut files = Files::new(&config(), codec, None);
        run(&mut files, "store kv.# 90 x60");
        files.cover();
        let (stored, live) = files.files().utilisation();
        assert_eq!(live, files.ask(|ledger| ledger.state()).bytes);
        if codec == CODECS[0] {
            assert!(stored > live * 9 / 10 && stored < live * 3 / 2, "{stored} for {live}");
        }
        let before = files.bytes_of(".blk");
        run(&mut files, "remove 2 to 9; remove 11 to 19; remove 21 to 29; remove 31 to 39");
        for sequence in 41..50 {
            files.apply(Change::Remove { sequence, erase: true });
        }
        run(&mut files, "store kv.# 90 x5");
        files.cover();
        let after = files.bytes_of(".blk");
        assert!(after < before * 3 / 4, "{codec:?}: {after} of {before}");
        let (stored, live) = files.files().utilisation();
        assert_eq!(live, files.ask(|ledger| ledger.state()).bytes);
        assert!(stored <= after as u64, "{stored} of {after}");
        let deleted = files.ask(|ledger| ledger.deleted());
        for restart in RESTARTS {
            files.start_again(restart);
            assert_eq!(files.ask(|ledger| ledger.deleted()), deleted);
            assert_eq!(files.ask(|ledger| ledger.state()).messages, 60 - 8 - 9 * 4 + 5);
            for sequence in [1, 10, 20, 30, 40, 50, 60, 65] {
                assert!(Stream::load(&mut files, sequence).is_some(), "{codec:?} {sequence}");
            }
            assert!(Stream::load(&mut files, 41).is_none());
        }
    }
}

#[test]
fn values_that_have_newer_ones_take_no_space() {
    let mut files = plain(&StoreConfig { max_messages_per_subject: 1, ..config() });
    // One among those that are replaced stays.
    run(&mut files, "store kv.first 90; store kv.# 90 x60");
    files.cover();
    let (before, on_disk) = (files.files().utilisation().0, files.bytes_of(".blk"));
    run(&mut files, "store kv.# 90 x60; store kv.# 90 x60");
    files.cover();
    let (stored, live) = files.files().utilisation();
    let state = files.ask(|ledger| ledger.state());
    assert_eq!((state.messages, state.last_sequence, state.bytes), (61, 181, live));
    assert!(stored < before * 3 / 2, "{stored} of {before}");
    assert!(files.bytes_of(".blk") < on_disk * 3 / 2, "{} of {on_disk}", files.bytes_of(".blk"));
    for restart in RESTARTS {
        files.start_again(restart);
        assert!(Stream::load(&mut files, 1).is_some() && Stream::load(&mut files, 181).is_some());
        assert!(Stream::load(&mut files, 2).is_none() && Stream::load(&mut files, 121).is_none());
    }
}

#[test]
fn what_is_said_to_be_gone_is_not_said_for_ever() {
    let mut files = plain(&config());
    run(&mut files, "store first; store a 30 x200; remove 2 to 190");
    files.cover();
    let with_tombstones = files.bytes_of(".blk");
    // The first sequence says it for all of them now.
    run(&mut files, "remove 1; store a 30 x40; compact 200");
    files.cover();
    assert!(files.bytes_of(".blk") <= with_tombstones + 3000, "{}", files.bytes_of(".blk"));
    run(&mut files, "compact 231; store a 30 x20; compact 251");
    files.cover();
    assert!(files.blocks() <= 3, "{}", files.blocks());
}

#[test]
fn a_question_loads_no_more_indexes_than_it_needs() {
    let mut files = filled("store f.a 60 x60; store f.b 60; store f.a 60 x60");
    assert!(files.blocks() > 15);
    assert_eq!(next(&mut files, "f.b", 0), (Some(61), 0), "the subject's ends are known");
    assert_eq!(next(&mut files, "f.b", 62), (None, 0));
    assert_eq!(next(&mut files, "nobody", 0), (None, 0));
    let (last, loaded) = loads(&mut files, |ledger| ledger.previous(Filter::Subject(b"f.b"), u64::MAX - 1));
    assert_eq!((last, loaded), (Some(61), 0));
    for (filter, from, expected) in [("*.b", 0, Some(61)), ("*.b", 3, Some(61)), ("*.b", 62, None)] {
        assert_eq!(next(&mut files, filter, from), (expected, 0), "{filter} {from}");
        let several = list(&format!("{filter},c.*,d"));
        let answer = loads(&mut files, |ledger| ledger.next(Filter::Any(&several), from));
        assert_eq!(answer, (expected, 0), "{filter} and more, {from}");
    }
    let (total, loaded) = loads(&mut files, |ledger| ledger.pending(Filter::Subject(b"f.*"), 0, true));
    assert_eq!((total.0, loaded), (2, 0));
    let (total, loaded) = loads(&mut files, |ledger| ledger.pending(Filter::Subject(b"f.a"), 118, false));
    assert_eq!(total.0, 4);
    assert!(loaded <= 1, "{loaded}");
    let (total, loaded) = loads(&mut files, |ledger| ledger.pending(Filter::All, 5, false));
    assert_eq!(total.0, 117);
    assert!(loaded <= 1, "{loaded}");
    // Nothing is purged: nothing is looked at.
    files.events.clear();
    assert_eq!(run(&mut files, "purge nobody").lines().count(), 1);
    files.apply(Change::Purge { subject: Bytes::from_static(b"f.b"), below: 0, keep: 0 });
    let loaded = files.events.iter().filter(|event| matches!(event, StoreEvent::Loaded { .. })).count();
    assert!(loaded <= 3, "{loaded}");
}

#[test]
fn a_subject_whose_first_message_went_is_found_without_walking_all() {
    let mut files =
        filled("store b 60; store a 60; store b 60 x60; store a 60 x2; store b 60 x40; remove 1; remove 2");
    let (found, loaded) = next(&mut files, "a", 64);
    assert_eq!(found, Some(64));
    assert!(loaded <= 2, "{loaded} of {}", files.blocks());
    assert_eq!(next(&mut files, "a", 65).0, None);
    let both = list("a,c");
    let (found, loaded) = loads(&mut files, |ledger| ledger.next(Filter::Any(&both), 65));
    assert_eq!(found, None);
    assert!(loaded <= 2, "{loaded}");
}

#[test]
fn indexes_leave_memory_after_a_walk_in_either_direction() {
    let mut files =
        filled("store a 60 x120; remove 2; remove 90; store foo.# 60 x20; store foo.# 60 x20; purge foo.*");
    assert!(files.files().index_memory() < 3000, "after a purge: {}", files.files().index_memory());
    let walk: Vec<u64> = (1..=120).chain((1..=120).rev()).collect();
    for sequence in walk {
        assert_eq!(Stream::load(&mut files, sequence).is_some(), ![2, 90].contains(&sequence));
        assert!(files.files().index_memory() < 3000, "{}", files.files().index_memory());
    }
}

#[test]
fn no_block_is_much_longer_than_it_may_be() {
    let mut files = plain(&config());
    run(
        &mut files,
        "purge > below 1000000000; store foo.# 5 x300; remove 1000000001 to 1000000101; remove 1000000150 to 1000000250",
    );
    files.cover();
    for path in files.disk.paths().filter(|path| path.name().ends_with(".blk")) {
        // A record more, and marks, twice.
        let len = files.disk.content(path).map_or(0, <[u8]>::len);
        assert!(len < 512 + 400, "{path}: {len}");
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let mut files = filled("store foo 60 x20; remove 3");
    let before = files.ask(|ledger| ledger.state());
    let names = ["1.blk", "x.blk", "00000001.blk.tmp", "00000002.blk~", "g", "index.db"];
    let path = |name: &str| FilePath::new(&format!("streams/S/{name}")).unwrap();
    for name in names {
        let request = Request::Replace { path: path(name), data: vec![Bytes::from_static(b"no block")] };
        files.disk.execute(Submission { token: Token(0), request }).result.unwrap();
    }
    for restart in [Restart::Clean, Restart::Killed] {
        files.start_again(restart);
        assert_eq!(files.ask(|ledger| ledger.state()), before);
        for name in names {
            assert_eq!(files.disk.content(&path(name)), Some(&b"no block"[..]), "{name}");
        }
    }
}

#[test]
fn an_older_index_does_not_bring_back_what_is_gone() {
    for (fill, change) in [
        ("store f.1 30 x30; store f.2 30", "purge f.1"),
        ("store A 19; store Z 19; remove 1", "store A 19; store Z 19; remove 2; remove 4"),
        ("store a 60 x20", "store a 60 x12; compact 25"),
        ("store a 60 x20", "store a 60 x12; truncate 25; store b 60"),
        ("store f.# 5 x12", "purge f.3; erase 4; store f.# 5 x30"),
    ] {
        let mut files = filled(fill);
        let old: Vec<(FilePath, Bytes)> = (files.disk.paths().filter(|path| path.name().ends_with(".idx")))
            .map(|path| (path.clone(), Bytes::copy_from_slice(files.disk.content(path).unwrap())))
            .collect();
        run(&mut files, change);
        files.cover();
        let (before, deleted) = (files.ask(|ledger| ledger.state()), files.ask(|ledger| ledger.deleted()));
        for (path, content) in old {
            let request = Request::Replace { path, data: vec![content] };
            files.disk.execute(Submission { token: Token(0), request }).result.unwrap();
        }
        files.start_again(Restart::Clean);
        assert_eq!(files.ask(|ledger| ledger.state()), before, "{change}");
        assert_eq!(files.ask(|ledger| ledger.deleted()), deleted, "{change}");
    }
}

/// So where limits took what is gone: an index of long ago, when the stream was far from them.
#[test]
fn an_older_index_does_not_bring_back_what_limits_took() {
    let limits = [
        StoreConfig { max_messages_per_subject: 1, ..config() },
        StoreConfig { max_messages: 61, ..config() },
        StoreConfig { max_bytes: 3000, ..config() },
    ];
    for limit in limits {
        let mut files = plain(&limit);
        run(&mut files, "store f.# 40 x20");
        files.start_again(Restart::Clean);
        let old: Vec<(FilePath, Bytes)> = (files.disk.paths().filter(|path| path.name().ends_with(".idx")))
            .map(|path| (path.clone(), Bytes::copy_from_slice(files.disk.content(path).unwrap())))
            .collect();
        assert!(!old.is_empty());
        run(&mut files, "store f.# 40 x61");
        files.cover();
        let (before, deleted) = (files.ask(|ledger| ledger.state()), files.ask(|ledger| ledger.deleted()));
        assert!(before.first_sequence > 20 && before.last_sequence == 81, "{before:?}");
        for (path, content) in old {
            let request = Request::Replace { path, data: vec![content] };
            files.disk.execute(Submission { token: Token(0), request }).result.unwrap();
        }
        files.start_again(Restart::Clean);
        assert_eq!(files.ask(|ledger| ledger.state()), before, "{limit:?}");
        assert_eq!(files.ask(|ledger| ledger.deleted()), deleted, "{limit:?}");
        assert!(Stream::load(&mut files, 20).is_none() && Stream::load(&mut files, 81).is_some());
    }
}

/// Whichever block is gone, its messages are told to be lost, the others are served, and no sequence is used again.
#[test]
fn a_block_that_is_gone_is_told_and_the_rest_is_served() {
    let files = filled("store foo 60 x30");
    for gone in files.files().files().blocks() {
        let mut files = filled("store foo 60 x30");
        let path = FilePath::new(&format!("streams/S/{gone:08x}.blk")).unwrap();
        let request = Request::Remove { path };
        files.disk.execute(Submission { token: Token(0), request }).result.unwrap();
        files.start_again(Restart::Killed);
        let state = files.ask(|ledger| ledger.state());
        let lost: u64 = state.lost.ranges.iter().map(|(first, last)| last - first + 1).sum();
        assert_eq!(state.messages + lost, 30, "{gone}");
        assert_eq!(state.last_sequence, 30);
        let served: Vec<Message> = (1..=30).filter_map(|at| Stream::load(&mut files, at)).collect();
        assert_eq!(served.len() as u64, state.messages);
        let sizes = served.iter().map(|message| {
            let (subject, headers, payload) = (&message.subject, &message.headers, &message.payload);
            StorageKind::File.message_size(subject.len(), headers.len(), payload.len())
        });
        assert_eq!(state.bytes, sizes.sum::<u64>(), "what is lost counts to no limit");
        assert_eq!(files.apply(Change::Store(message("foo", 1, seconds(99)))), Outcome::Stored(31));
    }
}

/// Nothing but the manifest: the messages are lost, and it is known where they were.
#[test]
fn a_stream_whose_blocks_are_all_gone_knows_where_it_was() {
    let mut files = filled("store foo 60 x30; compact 11");
    let blocks: Vec<FilePath> =
        files.disk.paths().filter(|path| path.name().ends_with(".blk")).cloned().collect();
    for path in blocks {
        files.disk.execute(Submission { token: Token(0), request: Request::Remove { path } }).result.unwrap();
    }
    files.start_again(Restart::Killed);
    let state = files.ask(|ledger| ledger.state());
    assert_eq!((state.messages, state.last_sequence), (0, 30));
    assert!(!state.lost.ranges.is_empty());
    assert_eq!(files.apply(Change::Store(message("foo", 1, seconds(99)))), Outcome::Stored(31));
}

/// A disk that refuses what it is asked, again and again, ends the use of the files, but for a lack of space; nothing is lost by
/// it, nothing is made up, and the journal has the rest.
#[test]
fn writes_that_fail_stop_the_store_in_the_end_and_lose_nothing() {
    for kind in [DiskErrorKind::Full, DiskErrorKind::Permission, DiskErrorKind::Io] {
        for good in 0..12 {
            let mut files = filled("store foo 60 x20; remove 3");
            files.fail_after = Some((good, kind));
            for at in 0..40 {
                files.commit(Change::Store(message("baz", 60, seconds(at))));
                files.commit(Change::Remove { sequence: 2 * at as u64, erase: at % 3 == 0 });
            }
            files.try_to_cover();
            files.wait(20);
            let failed = files.events.iter().find_map(|event| match event {
                StoreEvent::Files(Event::Failed(Failure::Disk(error))) => Some(error.to_string()),
                StoreEvent::Files(Event::Refused(error)) if kind == DiskErrorKind::Full => {
                    Some(error.to_string())
                }
                _ => None,
            });
            let text = failed.unwrap_or_else(|| panic!("{kind:?} {good}: {:?}", files.events));
            assert!(text.contains("streams/S"), "{text} names no file");
            files.fail_after = None;
            files.start_again(Restart::Killed);
            let mut model = MemoryStore::counting_as_file(config());
            files.entries.iter().for_each(|change| {
                model.apply(change.clone());
            });
            assert_eq!(files.ask(|ledger| ledger.state()), model.state());
            for sequence in 1..=60 {
                assert_eq!(Stream::load(&mut files, sequence), model.load(sequence));
            }
        }
    }
}

#[test]
fn a_stream_is_sealed_when_a_key_comes_and_needs_it_from_then_on() {
    let secret = b"MARKER-PLAINTEXT-PAYLOAD".repeat(3);
    let mut files = plain(&config());
    for at in 0..20 {
        let payload = Bytes::from(secret.clone());
        files.apply(Change::Store(NewMessage { payload, ..message("foo", 0, seconds(at)) }));
    }
    files.cover();
    let plain_text = |files: &Files| {
        let found = |path: &&FilePath| {
            files
                .disk
                .content(path)
                .is_some_and(|bytes| bytes.windows(24).any(|window| window == &secret[..24]))
        };
        files.disk.paths().filter(found).count()
    };
    assert!(plain_text(&files) > 3);
    files.keys.add(1, Cipher::Aes256Gcm, b"server key");
    files.start_again(Restart::Clean);
    for at in 0..5 {
        files.apply(Change::Store(message("foo", 90, seconds(at))));
    }
    files.cover();
    assert_eq!(plain_text(&files), 0);
    for sequence in 1..=20 {
        assert_eq!(
            Stream::load(&mut files, sequence).map(|message| message.payload),
            Some(Bytes::from(secret.clone()))
        );
    }
    let before: Vec<_> = files.disk.paths().cloned().collect();
    let keys = std::mem::replace(&mut files.keys, Keys::none(OWNER));
    files.open_again();
    let failure = files
        .events
        .iter()
        .any(|event| matches!(event, StoreEvent::Files(Event::Failed(Failure::Block { .. }))));
    assert!(failure, "{:?}", files.events);
    assert_eq!(files.disk.paths().cloned().collect::<Vec<_>>(), before);
    files.keys = keys;
    files.open_again();
    assert!(Stream::load(&mut files, 20).is_some());
}

/// Messages that were appended while the disk took nothing are read from memory, truncated, skipped over, and written later.
#[test]
fn what_the_disk_does_not_have_yet_is_the_stream_too() {
    for codec in CODECS {
        let mut files = Files::new(&config(), codec, None);
        let mut model = MemoryStore::counting_as_file(config());
        for change in [
            Change::Store(message("foo", 100, seconds(1))),
            Change::Store(message("foo", 100, seconds(2))),
            Change::Truncate { sequence: 1 },
            Change::Skip { sequence: 2, count: 50_000, time: seconds(3), unwanted: false },
            Change::Store(message("foo", 400, seconds(4))),
            Change::SyncDeleted { ranges: vec![DeleteRange { first: 1, count: 1 }] },
        ] {
            assert_eq!(files.apply(change.clone()), model.apply(change));
        }
        assert_eq!(Stream::load(&mut files, 50_002), model.load(50_002));
        files.cover();
        files.start_again(Restart::Clean);
        assert_eq!(Stream::load(&mut files, 50_002), model.load(50_002));
        assert_eq!(files.ask(|ledger| ledger.state()), model.state());
    }
}

/// Sequences of which there are too many to look at each of them.
const MANY: u64 = 1 << 40;

fn passes_a_hole(stream: &mut impl Stream) {
    run(stream, &format!("store f.a 9; skip 2 {MANY}; store f.c 9"));
    let last = MANY + 2;
    for filter in [Filter::All, Filter::Subject(b"f.*"), Filter::Subject(b"*.>")] {
        let mut previous = |from| stream.ask(|ledger| ledger.previous(filter, from));
        assert_eq!([last, last - 1, 1, 0].map(&mut previous), [Some(last), Some(1), Some(1), None]);
        let mut next = |from| stream.ask(|ledger| ledger.next(filter, from));
        assert_eq!([1, 2, last, last + 1].map(&mut next), [Some(1), Some(last), Some(last), None]);
        assert_eq!(stream.ask(|ledger| ledger.pending(filter, 2, false)).0, 1);
    }
    assert_eq!(stream.ask(|ledger| ledger.state()).deleted, MANY);
    // The same where the stream is cut off at its end, and then once more with messages there.
    assert_eq!(stream.apply(Change::Compact { sequence: 2 * MANY }), Outcome::Removed(2));
    run(stream, "store f.# 9 x10");
    assert_eq!(stream.apply(Change::Compact { sequence: 2 * MANY + 9 }), Outcome::Removed(9));
    let state = stream.ask(|ledger| ledger.state());
    assert_eq!((state.messages, state.first_sequence, state.last_sequence), (1, 2 * MANY + 9, 2 * MANY + 9));
}

#[test]
fn a_hole_of_any_size_is_passed_at_once_either_way() {
    passes_a_hole(&mut MemoryStore::new(config()));
    for codec in CODECS {
        passes_a_hole(&mut Files::new(&config(), codec, None));
    }
}

#[test]
fn an_entry_that_makes_no_sense_stops_the_store_and_names_its_folder() {
    let failure = Failure::Entry { path: "streams/S".to_owned(), kind: 99 };
    let text = StoreEvent::Files(Event::Failed(failure.clone()));
    let mut files = filled("store foo");
    files.apply_raw(99, Bytes::from_static(b"?"));
    assert_eq!(files.events.iter().find(|event| **event == text), Some(&text));
    assert!(failure.to_string().contains("streams/S"));
}
