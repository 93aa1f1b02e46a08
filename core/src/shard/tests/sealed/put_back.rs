//! What an operator puts back from before a key, or another cipher, came: it is sealed again, and told again, and what can't be is told.

use super::*;
use crate::disk::{FilePath, Request, Submission, Token};

/// A store of two shards before it was sealed with `cipher`, and after.
fn before_and_after(cipher: Cipher) -> (InstantDisk, InstantDisk) {
    let mut before = plain_store();
    let mut ciphers = vec![CHACHA];
    if cipher != CHACHA {
        ciphers.push(cipher);
    }
    let mut after = before.clone();
    for cipher in ciphers {
        before = after;
        let mut streams = Streams::with(2, key(cipher), before.clone());
        streams.server.advance(Duration::from_secs(5));
        assert_eq!(streams.told_to_be_encrypted(), 2);
        // Blocks and states of their own, also behind it.
        streams.fill(20);
        after = end(streams);
    }
    (before, after)
}

fn key(cipher: Cipher) -> Options {
    options(Some("key"), None, cipher)
}

fn end(streams: Streams) -> InstantDisk {
    let mut disk = streams.server.disk;
    disk.restart();
    disk
}

/// Puts files back that `choose` takes: those that are there now and weren't go. Returns of how many folders some were.
fn put_back(disk: &mut InstantDisk, before: &InstantDisk, choose: impl Fn(&str) -> bool) -> usize {
    let chosen = |disk: &InstantDisk| -> Vec<FilePath> {
        disk.paths().filter(|path| choose(&path.to_string())).cloned().collect()
    };
    for path in chosen(disk) {
        disk.execute(Submission { token: Token(0), request: Request::Remove { path } });
    }
    let there = chosen(before);
    for path in &there {
        let data = vec![before.content(path).unwrap().to_vec().into()];
        let request = Request::Replace { path: path.clone(), data };
        disk.execute(Submission { token: Token(0), request });
    }
    let in_shard = there.iter().filter(|path| path.to_string().contains("/shard-")).count();
    usize::from(in_shard > 0) + usize::from(there.len() > in_shard)
}

impl Streams {
    fn warned(&self) -> usize {
        let warned = |text: &&String| text.starts_with("JetStream has not encrypted all that is stored in");
        self.server.logs.iter().filter(warned).count()
    }

    fn says_found(&self) -> usize {
        let found = |text: &&String| text.contains("that isn't sealed with the present key, and converts it");
        self.server.told.iter().filter(found).count()
    }
}

/// What of a store is put back, whether anything in it is to be sealed, and whether all is there and sealed then.
const SETS: &[(&str, bool, bool)] = &[
    ("natrix/", true, false),
    ("/meta/", true, true),
    ("/catalogue", true, true),
    ("/journal/", true, false),
    ("/streams/", true, false),
    ("/consumers/", true, true),
    (".blk", true, false),
    (".idx", true, true),
    // It is in plain text anyway, as it has nothing but numbers, and blocks don't agree with it.
    ("stream.manifest", false, false),
];

#[test]
fn what_is_put_back_is_sealed_again_and_told_again() {
    let mut tried = 0;
    for cipher in [CHACHA, Cipher::Aes256Gcm] {
        let (before, after) = before_and_after(cipher);
        // Nothing is found in what nobody touched.
        let streams = Streams::with(2, key(cipher), after.clone());
        assert_eq!((streams.says_found(), streams.told_to_be_encrypted()), (0, 0));
        for (what, finds, whole) in SETS {
            let kept = |path: &str| path.contains("/keys") || path.ends_with("store.epoch");
            let mut disk = after.clone();
            let folders = put_back(&mut disk, &before, |path| path.contains(what) && !kept(path));
            if folders == 0 {
                continue;
            }
            // Of a block alone that another cipher sealed nobody knows before it is scrubbed: it is as long, and ends as this one.
            let unseen = *what == ".blk" && cipher != CHACHA;
            let finds = *finds && !unseen;
            let (mut told, mut found) = (0, 0);
            for round in 0..4 {
                let why = format!("{what}, {cipher:?}, round {round}");
                let mut streams = Streams::with(2, key(cipher), disk);
                streams.server.advance(Duration::from_secs(5));
                let (now, warned) = (streams.told_to_be_encrypted(), streams.warned());
                found += streams.says_found();
                // Something is told if something was found, and of what stays it isn't told that it is sealed.
                assert!(streams.says_found() <= now + warned, "{why}");
                if warned == 0 {
                    assert_eq!(streams.plain_text(), [""; 0], "{why}");
                    assert!(unseen || streams.is_sealed_with(cipher), "{why}");
                }
                assert!(round > 0 || !finds || now + warned > 0, "{why}: nothing is told");
                assert!(!whole || warned == 0, "{why}: {:?}", streams.server.logs);
                if *whole {
                    streams.assert_whole(&why);
                }
                told += now;
                disk = end(streams);
            }
            assert_eq!(found > 0, finds, "{what}, {cipher:?}");
            assert!(!whole || told == folders, "{what}, {cipher:?}: told {told} times of {folders} folders");
            tried += 1;
        }
    }
    assert!(tried > 12, "{tried}");
}

/// Whenever the power is cut behind that, the end is told by this start or by the next.
#[test]
fn what_was_found_is_not_forgotten_with_a_crash() {
    let (before, after) = before_and_after(CHACHA);
    let mut dice = crate::rng::Rng::from_u64(3);
    let mut cut_between = 0;
    for requests in (0..).step_by(3) {
        let mut disk = after.clone();
        put_back(&mut disk, &before, |path| {
            path.contains("natrix/meta/") || path.contains("natrix/catalogue")
        });
        let mut streams = Streams::powered(2, key(CHACHA), disk, requests);
        streams.server.advance(Duration::from_secs(5));
        let (found, told) = (streams.says_found(), streams.told_to_be_encrypted());
        let power = streams.server.power.take().unwrap();
        let all = power.requests() < requests;
        let mut streams = Streams::with(2, key(CHACHA), power.cut_somehow(&mut dice));
        streams.server.advance(Duration::from_secs(5));
        let again = streams.told_to_be_encrypted();
        assert!(told + again >= 1, "{requests} requests: found {found}, told {told}, then {again}");
        assert_eq!(streams.plain_text(), [""; 0], "{requests} requests");
        streams.assert_whole("after a power cut");
        cut_between += usize::from(found > told);
        if all {
            assert_eq!((told, again), (1, 0));
            break;
        }
    }
    assert!(cut_between > 10, "{cut_between}");
}

#[test]
fn what_stays_as_it_is_is_told_with_the_reason() {
    let one = |key, previous| options(Some(key), previous, CHACHA);
    let mut streams = Streams::with(1, options(None, None, CHACHA), InstantDisk::default());
    streams.make();
    let mut streams = streams.restart_with(one("one", None));
    streams.server.advance(Duration::from_secs(5));
    assert_eq!((streams.told_to_be_encrypted(), streams.warned()), (1, 0));
    for _ in 0..2 {
        streams = streams.restart_with(one("two", None));
        streams.server.advance(Duration::from_secs(5));
        assert_eq!((streams.told_to_be_encrypted(), streams.warned()), (0, 1));
        let reason =
            "left as they are: 2 streams or consumers sealed with a key that isn't given; it is tried again";
        assert!(streams.server.logs.iter().any(|text| text.contains(reason)), "{:?}", streams.server.logs);
    }
    // The file of keys still has an epoch that nobody opens, and nothing is sealed with it.
    streams = streams.restart_with(one("one", None));
    streams.server.advance(Duration::from_secs(5));
    assert_eq!((streams.told_to_be_encrypted(), streams.logged()), (1, vec![]));
    streams.assert_whole("the right key");
    let streams = streams.restart_with(one("one", None));
    assert_eq!((streams.told_to_be_encrypted(), streams.warned()), (0, 0));
}

/// A damaged catalogue is kept under another name, and may be in plain text.
#[test]
fn what_is_kept_of_a_damaged_catalogue_is_told_of() {
    let mut disk = plain_store();
    let kept = FilePath::root().join("natrix").join("catalogue.damaged-01234567");
    let data = vec!["StreamMarker".into()];
    disk.execute(Submission { token: Token(0), request: Request::Replace { path: kept.clone(), data } });
    let mut streams = Streams::with(2, key(CHACHA), disk);
    streams.server.advance(Duration::from_secs(5));
    // The other shard's folder has none.
    assert_eq!((streams.told_to_be_encrypted(), streams.warned()), (1, 1));
    assert!(
        streams.server.logs.iter().any(|text| text.contains("catalogue.damaged-*")),
        "{:?}",
        streams.server.logs
    );
    let mut disk = end(streams);
    disk.execute(Submission { token: Token(0), request: Request::Remove { path: kept } });
    let mut streams = Streams::with(2, key(CHACHA), disk);
    streams.server.advance(Duration::from_secs(5));
    assert_eq!((streams.told_to_be_encrypted(), streams.warned()), (1, 0));
    assert_eq!(streams.plain_text(), [""; 0]);
}

/// Each planted bug of this room is caught.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_caught() {
    use crate::planted::{Bug, arm, disarm};
    let caught: [(Bug, fn()); 3] = [
        (Bug::JsMarkBelieved, what_is_put_back_is_sealed_again_and_told_again),
        (Bug::JsMarkBelieved, what_was_found_is_not_forgotten_with_a_crash),
        (Bug::JsConversionStalls, a_plain_store_is_sealed_when_a_key_comes),
    ];
    for (bug, test) in caught {
        arm(Some(bug), 0, 1, 1);
        let result = std::panic::catch_unwind(test);
        disarm();
        assert!(result.is_err(), "{bug:?} goes unnoticed");
    }
}
