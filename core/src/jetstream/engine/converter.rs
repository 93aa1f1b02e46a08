//! Sealing with the present key what isn't: what was in plain text when a key came, and what an older key or another cipher sealed.
//!
//! Everything that is written is sealed with the present key from the start on. What is there is written anew in the background,
//! while it is used: the catalogue's file; the files of consumers and the blocks of streams, one after the other, in the order
//! of their owners; and each journal leaves the segments that it had. Whatever crash comes in between, the next start looks at
//! everything again. Marks say what needs no second look: a journal that has nothing else, and a whole folder.
//!
//! Invariant: it is told that everything is sealed, and marked, when nothing else is in any file, and no power cut brings a file
//! back that had it.

use super::asset::Asset;
use super::opening::{Opening, WHOLE};
use crate::jetstream::catalogue::Catalogue;
use crate::planted::{self, Bug};
use crate::storage::file::Conversion;
use crate::storage::kept::Kept;
use crate::storage::vault::Vault;
use crate::storage::volume::{Store, Volume};
use crate::storage::{Cipher, OwnerId, Position};
use crate::time::Instant;

/// How many stores are looked at in one go.
const AT_ONCE: usize = 64;

/// What is to be told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Info(String),
    Warning(String),
}

/// Seals what isn't sealed with the present key.
#[derive(Debug, Default)]
pub(super) struct Converter {
    /// With which epoch; zero if nothing is sealed.
    epoch: u32,
    /// What of the catalogue and its journal, and of the streams' journal, may be sealed otherwise.
    journals: [bool; 2],
    /// The catalogue's file is to be written once.
    catalogue: bool,
    /// The store that is looked at, or was last.
    at: Option<OwnerId>,
    /// A consumer's file that is looked at was written once.
    tried: bool,
    /// All stores were looked at.
    walked: bool,
    /// What stays as it is: of stores that couldn't be opened, or that can't be written anew.
    left: u64,
    /// There are keys that weren't given, so nobody knows what there is.
    locked: bool,
    /// More stores are to be looked at.
    due: Option<Instant>,
    folder: String,
    cipher: Cipher,
    /// It is all there is to do, or can be done.
    over: bool,
}

impl Converter {
    /// Begins with what is in the folder; `plain` if it never had a key, `locked` if there are keys that weren't given. Returns
    /// what is to be told.
    pub(super) fn begin(vault: &Vault, opening: &Opening, plain: bool, locked: bool) -> (Self, Option<Told>) {
        let epoch = vault.epoch();
        let marked = |what: usize| opening.mark(what) == Some(epoch);
        let over = !vault.seals() || marked(WHOLE);
        let converter = Converter {
            epoch,
            journals: [0, 1].map(|journal| vault.seals() && !marked(journal)),
            catalogue: vault.seals() && !marked(0) && opening.has_catalogue(),
            locked,
            folder: opening.folder().to_string(),
            cipher: vault.cipher(),
            over,
            ..Converter::default()
        };
        let name = converter.cipher_name();
        let folder = &converter.folder;
        let told = match (over || locked || !opening.has_something(), plain) {
            (true, _) => None,
            (_, true) => Some(format!("JetStream encrypts what is stored in \"{folder}\" with {name}")),
            (_, false) => Some(format!("JetStream converts what is stored in \"{folder}\" to {name}")),
        };
        (converter, told.map(Told::Info))
    }

    /// Returns whether a journal, the catalogue's first, is to leave what it has.
    pub(super) fn leaves(&self, journal: usize) -> bool {
        self.journals[journal]
    }

    /// Returns when there is more to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Notes that so many streams and consumers of the catalogue can't be opened: their files stay as they are.
    pub(super) fn unopened(&mut self, count: u64) {
        self.left += count;
    }

    fn cipher_name(&self) -> &'static str {
        match self.cipher {
            Cipher::Aes256Gcm => "AES-GCM",
            _ => "ChaCha20-Poly1305",
        }
    }

    /// Goes on, as far as that is possible at once. Returns what is to be told.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        opening: &mut Opening,
        meta: &mut Volume<Kept<Catalogue>>,
        volume: &mut Volume<Asset>,
    ) -> Option<Told> {
        if self.epoch == 0 {
            return None;
        }
        if self.catalogue {
            let written =
                meta.store(Catalogue::OWNER).is_none_or(|kept| kept.is_fresh() || kept.is_writing());
            if !written {
                meta.with_store(Catalogue::OWNER, |kept, disk| kept.cover(Position::default(), now, disk));
            }
            self.catalogue = meta.store(Catalogue::OWNER).is_some_and(|kept| !kept.is_fresh());
        }
        let early = planted::bug(Bug::JsConvertedTooEarly);
        if self.journals[0] && !self.catalogue && (meta.has_left() || early) {
            self.journals[0] = false;
            opening.write_mark(0, self.epoch);
        }
        if self.journals[1] && (volume.has_left() || early) {
            self.journals[1] = false;
            opening.write_mark(1, self.epoch);
        }
        if self.over {
            return None;
        }
        self.due = None;
        self.walk(now, volume);
        let stuck = [meta.cannot_leave(), volume.cannot_leave()];
        let waits = (0..2).any(|journal| self.journals[journal] && !stuck[journal]);
        if !self.walked || waits || self.catalogue {
            return None;
        }
        match opening.make_sure() {
            Conversion::UnderWay => return None,
            Conversion::Kept => self.left += 1,
            Conversion::Done => {}
        }
        self.over = true;
        if self.locked {
            return None;
        }
        let had = opening.has_something();
        let (folder, name) = (&self.folder, self.cipher_name());
        if self.left > 0 || self.journals.contains(&true) {
            return had.then(|| {
                Told::Warning(format!(
                    "JetStream has not encrypted all that is stored in \"{folder}\" with {name}: some of it can't be opened, \
                     read or removed; it is tried again at the next start"
                ))
            });
        }
        opening.write_mark(WHOLE, self.epoch);
        had.then(|| {
            Told::Info(format!("JetStream has encrypted all that is stored in \"{folder}\" with {name}"))
        })
    }

    /// Looks at one store after the other.
    fn walk(&mut self, now: Instant, volume: &mut Volume<Asset>) {
        for _ in 0..AT_ONCE {
            if self.walked {
                return;
            }
            if let Some(owner) = self.at {
                match self.look_at(owner, now, volume) {
                    Conversion::UnderWay if planted::bug(Bug::JsConvertedTooEarly) => {}
                    Conversion::UnderWay => return,
                    Conversion::Kept => self.left += 1,
                    Conversion::Done => {}
                }
            }
            self.tried = false;
            self.at = volume.owner_behind(self.at);
            self.walked = self.at.is_none();
        }
        self.due = Some(now);
    }

    /// Has a store write anew what isn't sealed with the present key.
    fn look_at(&mut self, owner: OwnerId, now: Instant, volume: &mut Volume<Asset>) -> Conversion {
        let tried = &mut self.tried;
        let looked = volume.with_store(owner, |asset, disk| match asset {
            Asset::Stream(store) => store.convert(disk),
            // Another key has it.
            Asset::Consumer(kept) if kept.is_locked() => Conversion::Done,
            Asset::Consumer(kept) if !kept.is_ready() || kept.is_writing() => Conversion::UnderWay,
            Asset::Consumer(kept) if !kept.is_stale() => Conversion::Done,
            Asset::Consumer(_) if *tried => Conversion::Kept,
            Asset::Consumer(kept) => {
                *tried = true;
                kept.cover(Position::default(), now, disk);
                Conversion::UnderWay
            }
            Asset::Removal(removal) if removal.has_failed() => Conversion::Kept,
            Asset::Removal(_) => Conversion::UnderWay,
        });
        looked.unwrap_or(Conversion::Done)
    }
}
