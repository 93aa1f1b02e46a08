//! What only a ledger does: indexes that are not there, and questions that may not scan.

use super::*;
use crate::rng::Rng;

fn fill(ledger: &mut Ledger, count: u64, per_block: u64, subjects: u64) {
    for at in 0..count {
        if at % per_block == 0 {
            ledger.start_block((at / per_block) as u32 + 1);
        }
        let subject = format!("s.{}", at % subjects);
        let time = WallTime::from_unix_nanos(at as i64);
        let offset = (at % per_block) as u32;
        let append = Append {
            sequence: 0,
            time,
            subject: subject.as_bytes(),
            size: 10,
            offset,
            ttl: 0,
            scheduling: Scheduling::None,
        };
        ledger.append(&append).unwrap();
    }
}

fn ledger() -> Ledger {
    Ledger::new(StorageKind::File, StoreConfig::default())
}

/// Asks until nothing is missing, loading what is; returns the answer and how many blocks it took.
fn ask<T>(
    ledger: &mut Ledger,
    away: &mut Vec<(u32, block::BlockIndex)>,
    question: impl Fn(&mut Ledger) -> Lookup<T>,
) -> (T, usize) {
    let mut loaded = 0;
    loop {
        match question(ledger) {
            Ok(answer) => return (answer, loaded),
            Err(Missing { block }) => {
                let at = away.iter().position(|(number, _)| *number == block).expect("it was evicted");
                let (number, index) = away.swap_remove(at);
                let block = ledger.blocks.iter_mut().find(|block| block.number == number);
                block.expect("only its index was evicted").index = Some(index);
                loaded += 1;
            }
        }
    }
}

fn evict_all(ledger: &mut Ledger) -> Vec<(u32, block::BlockIndex)> {
    let head = ledger.head();
    let blocks = ledger.blocks.iter_mut().filter(|block| Some(block.number) != head);
    blocks.filter_map(|block| Some((block.number, block.index.take()?))).collect()
}

#[test]
fn an_answer_is_the_same_whatever_has_to_be_loaded_for_it() {
    let mut whole = ledger();
    fill(&mut whole, 1000, 100, 7);
    for sequence in [1, 2, 3, 150, 500, 777, 999] {
        whole.remove(sequence).unwrap();
    }
    let mut rng = Rng::from_u64(5);
    for _ in 0..300 {
        let (from, subject) = (rng.below(1100), format!("s.{}", rng.below(9)));
        let filter = Filter::Subject([subject.as_bytes(), b"s.*", b">"][rng.below(3) as usize]);
        let mut other = whole.clone();
        let mut away = evict_all(&mut other);
        assert_eq!(away.len(), 9, "the head stays");
        let kind = rng.below(6);
        let question = |ledger: &mut Ledger| {
            Ok(match kind {
                0 => format!("{:?}", ledger.next(filter, from)?),
                1 => format!("{:?}", ledger.previous(filter, from)?),
                2 => format!("{:?}", ledger.pending(filter, from, false)?),
                3 => format!("{:?}", ledger.filtered_state(filter, from)?),
                4 => format!("{:?}", ledger.last_sequences(filter, from, 0)?),
                _ => format!("{:?} {:?}", ledger.locate(from)?, ledger.deleted()?),
            })
        };
        let (answer, _) = ask(&mut other, &mut away, question);
        assert_eq!(answer, question(&mut whole).unwrap(), "{kind} {filter:?} {from}");
    }
}

#[test]
fn a_change_that_misses_an_index_goes_on_where_it_stopped() {
    let mut whole = ledger();
    fill(&mut whole, 1000, 100, 7);
    let mut other = whole.clone();
    let mut away = evict_all(&mut other);
    let mut removed = 0;
    whole.purge(Filter::Subject(b"s.3"), 0, 5, |_| removed += 1).unwrap();
    let gone = std::cell::Cell::new(0);
    ask(&mut other, &mut away, |ledger| {
        // The number that is kept doesn't change by being asked again.
        ledger.purge(Filter::Subject(b"s.3"), 0, 5, |_| gone.set(gone.get() + 1))
    });
    assert_eq!((gone.get(), other.messages()), (removed, whole.messages()));
    let (state, _) = ask(&mut other, &mut away, |ledger| ledger.state());
    assert_eq!(state, whole.state().unwrap());
}

#[test]
fn counts_load_nothing_and_the_ends_of_a_subject_are_known() {
    let mut ledger = ledger();
    fill(&mut ledger, 100_000, 1000, 100);
    let mut away = evict_all(&mut ledger);
    let mut loads = |question: &dyn Fn(&mut Ledger) -> Lookup<u64>| ask(&mut ledger, &mut away, question);
    assert_eq!(loads(&|ledger| Ok(ledger.total(Filter::Subject(b"s.*")))), (100_000, 0));
    assert_eq!(loads(&|ledger| Ok(ledger.pending(Filter::Subject(b"s.*"), 1, false)?.0)), (100_000, 0));
    assert_eq!(loads(&|ledger| Ok(ledger.pending(Filter::All, 50_001, false)?.0)), (50_000, 0));
    assert_eq!(loads(&|ledger| Ok(ledger.last_of_subject(b"s.7")?.unwrap_or(0))), (99_908, 0));
    assert_eq!(loads(&|ledger| Ok(ledger.next(Filter::Subject(b"s.7"), 1)?.unwrap_or(0))), (8, 0));
    // One subject from near the end: only the blocks behind are looked into.
    let (count, loaded) = loads(&|ledger| Ok(ledger.pending(Filter::Subject(b"s.7"), 99_000, false)?.0));
    assert_eq!((count, loaded), (10, 1));
}

/// Where each message has a subject of its own, and a pattern matches all of them.
#[test]
fn the_next_of_very_many_subjects_is_found_at_once() {
    let mut ledger = ledger();
    fill(&mut ledger, 20_000, 1000, 20_000);
    let mut away = evict_all(&mut ledger);
    for from in [10_500, 10_501, 10_999] {
        let next = |ledger: &mut Ledger| ledger.next(Filter::Subject(b"s.*"), from);
        let (found, loaded) = ask(&mut ledger, &mut away, next);
        assert_eq!(found, Some(from));
        assert!(loaded <= 1, "{loaded}");
    }
    assert_eq!(away.len(), 18, "one block had to be looked into");
}

#[test]
fn subjects_come_in_pages() {
    let mut ledger = ledger();
    fill(&mut ledger, 22, 10, 11);
    let page = |offset, limit| {
        let SubjectPage { total, subjects } = ledger.subject_page(Filter::Subject(b"s.*"), offset, limit);
        (total, subjects)
    };
    let (total, first) = page(0, 10);
    let (again, rest) = page(10, 10);
    assert_eq!((total, first.len(), again, rest.len()), (11, 10, 11, 1));
    let mut all: Vec<_> = first.into_iter().chain(rest).collect();
    assert!(all.is_sorted() && all.iter().all(|(_, count)| *count == 2), "{all:?}");
    all.dedup();
    assert_eq!(all.len(), 11);
    assert_eq!(page(11, 10), (11, vec![]));
}

#[test]
fn a_message_takes_twenty_bytes_and_its_subject_once() {
    let mut ledger = ledger();
    fill(&mut ledger, 100_000, 10_000, 10);
    let each = ledger.index_memory() as f64 / 100_000.0;
    assert!(each < 24.0 * 1.7, "{each} bytes, with the room that vectors grow by");
    assert_eq!(size_of::<Slot>(), 20);
}

#[test]
fn a_subject_has_one_schedule_and_it_is_due_when_it_was_said_to_be() {
    let mut ledger = ledger();
    ledger.start_block(1);
    let due = |seconds: i64| WallTime::from_unix_nanos(seconds * 1_000_000_000);
    let store = |ledger: &mut Ledger, subject: &[u8], scheduling| {
        let time = WallTime::default();
        let append = Append { sequence: 0, time, subject, size: 10, offset: 0, ttl: 0, scheduling };
        ledger.append(&append).unwrap()
    };
    let first = store(&mut ledger, b"a", Scheduling::Schedule { due: due(50) });
    let second = store(&mut ledger, b"b", Scheduling::Schedule { due: due(40) });
    assert_eq!(ledger.next_schedule(), Some(due(40)));
    let both = ledger.due_schedules(due(50), 9);
    assert_eq!(
        both.iter().map(|one| (one.sequence, one.due)).collect::<Vec<_>>(),
        [(first, due(50)), (second, due(40))]
    );
    assert_eq!(ledger.due_schedules(due(50), 1), both[..1]);
    ledger.schedule_again(second, due(90));
    assert_eq!(
        (ledger.due_schedules(due(50), 9), ledger.next_schedule()),
        (both[..1].to_vec(), Some(due(50)))
    );
    // What a schedule has made isn't one, and ends none.
    store(&mut ledger, b"a", Scheduling::Scheduled);
    assert_eq!(ledger.schedules(), 2);
    store(&mut ledger, b"a", Scheduling::None);
    assert_eq!((ledger.schedules(), ledger.due_schedules(due(89), 9)), (1, vec![]));
    assert_eq!(ledger.next_schedule(), Some(due(90)));
    store(&mut ledger, b"b", Scheduling::Schedule { due: due(10) });
    assert_eq!((ledger.schedules(), ledger.next_schedule()), (1, Some(due(10))));
    ledger.schedule_again(second, due(5));
    assert_eq!(ledger.next_schedule(), Some(due(10)));
    ledger.unschedule(ledger.last_sequence());
    assert_eq!((ledger.schedules(), ledger.due_schedules(due(99), 9)), (0, vec![]));
    assert_eq!(ledger.next_schedule(), None);
}
