//! Sealing with the present key what isn't: what was in plain text when a key came, and what an older key or another cipher sealed.
//!
//! Everything that is written is sealed with the present key from the start on. What is there is written anew in the background,
//! while it is used: the catalogue's file; the files of consumers and the blocks of streams, one after the other, in the order
//! of their owners; and each journal leaves the segments that it had. Whatever crash comes in between, the next start looks at
//! everything again.
//!
//! A folder of which that was told has a mark. It spares the next start the look at everything, and is believed as long as nothing else
//! is found: an operator may put back a file from before. Each file says how it is sealed, or what is read of it at the start does, or
//! the manifest that it has to agree with; so recovery comes upon it, at no cost. Then the mark is taken back, and it begins again.
//!
//! Invariant: it is told that everything is sealed, and marked, when nothing else is in any file, and no power cut brings a file
//! back that had it. What stays as it is, and why, is told instead.

use super::asset::Asset;
use super::opening::Opening;
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

/// What stays as it is, by the reason.
#[derive(Debug, Default)]
struct Left {
    /// Streams and consumers of which a key wasn't given.
    locked: usize,
    /// Those that can't be opened otherwise: their account isn't there, or their settings make no sense.
    unopened: usize,
    /// Those with damage, with files that are none of theirs, or that the disk refused something.
    kept: usize,
    /// Those that nothing names since the catalogue was damaged.
    strays: usize,
    /// Copies of a damaged catalogue.
    copies: usize,
    /// Entries of the journals that nobody has elsewhere, or files of theirs that can't be removed.
    journals: bool,
    /// Files of consumers that can't be removed.
    removals: bool,
}

impl Left {
    /// Returns it in words; `None` if it is nothing.
    fn reasons(&self) -> Option<String> {
        let counted = [
            (self.locked, "sealed with a key that isn't given"),
            (self.unopened, "that can't be opened"),
            (self.kept, "with something damaged or foreign, or that the disk refused to write"),
            (self.strays, "that nothing names since the catalogue was damaged"),
        ];
        let counted = counted.into_iter().filter(|(count, _)| *count > 0);
        let counted = counted.map(|(count, which)| match count {
            1 => format!("1 stream or consumer {which}"),
            _ => format!("{count} streams or consumers {which}"),
        });
        let others = [
            (self.journals, "entries of the journal that none of them has"),
            (self.removals, "a file that can't be removed"),
            (
                self.copies > 0,
                "what is kept of a damaged catalogue in catalogue.damaged-*, until it is removed",
            ),
        ];
        let others = others.into_iter().filter(|(there, _)| *there).map(|(_, what)| what.to_owned());
        let reasons: Vec<_> = counted.chain(others).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Seals what isn't sealed with the present key.
#[derive(Debug, Default)]
pub(super) struct Converter {
    /// With which epoch; zero if nothing is sealed.
    epoch: u32,
    /// Nothing is left to be done, as the folder's mark says: that is believed until something is found.
    marked: bool,
    /// The store that is looked at, or was last.
    at: Option<OwnerId>,
    /// A consumer's file that is looked at was written once.
    tried: bool,
    /// All stores were looked at.
    walked: bool,
    left: Left,
    /// More stores are to be looked at.
    due: Option<Instant>,
    folder: String,
    cipher: Cipher,
    /// There was something before, of which is to be told.
    tells: bool,
    /// It is all there is to do, or can be done.
    over: bool,
}

impl Converter {
    /// Begins with what is in the folder; `plain` if it never had a key. Returns what is to be told.
    pub(super) fn begin(vault: &Vault, opening: &Opening, plain: bool) -> (Self, Option<Told>) {
        let epoch = vault.epoch();
        let converter = Converter {
            epoch,
            marked: opening.mark() == Some(epoch),
            folder: opening.folder().to_string(),
            cipher: vault.cipher(),
            tells: opening.has_something(),
            over: !vault.seals(),
            ..Converter::default()
        };
        let name = converter.cipher_name();
        let folder = &converter.folder;
        let told = match (converter.over || converter.marked || !converter.tells, plain) {
            (true, _) => None,
            (_, true) => Some(format!("JetStream encrypts what is stored in \"{folder}\" with {name}")),
            (_, false) => Some(format!("JetStream converts what is stored in \"{folder}\" to {name}")),
        };
        (converter, told.map(Told::Info))
    }

    /// Returns when there is more to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Notes that so many streams and consumers of the catalogue can't be opened: their files stay as they are.
    pub(super) fn unopened(&mut self, count: usize) {
        self.left.unopened = count;
    }

    /// Notes that there are files of so many that nothing names: they stay as they are.
    pub(super) fn strays(&mut self, count: usize) {
        self.left.strays = count;
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
        if self.over {
            return None;
        }
        self.due = None;
        if self.marked {
            self.over = self.finds_nothing(now, meta, volume)? || planted::bug(Bug::JsMarkBelieved);
            if self.over {
                return None;
            }
            self.due = Some(now);
            return Some(self.doubt(opening));
        }
        let early = planted::bug(Bug::JsConvertedTooEarly);
        let written = self.write_catalogue(now, meta);
        self.walk(now, volume);
        let ends = |left: bool, stays: bool| left || stays || early;
        let ended =
            ends(meta.has_left(), meta.cannot_leave()) && ends(volume.has_left(), volume.cannot_leave());
        if !self.walked || !written || !ended || opening.is_marking() {
            return None;
        }
        match opening.make_sure() {
            Conversion::UnderWay => return None,
            Conversion::Kept => self.left.removals = true,
            Conversion::Done => {}
        }
        self.over = true;
        let catalogue = meta.store(Catalogue::OWNER);
        self.left.locked = volume.locked() + catalogue.map_or(0, |kept| kept.state().locked().count());
        self.left.copies = opening.copies() + usize::from(catalogue.is_some_and(Kept::is_kept_aside));
        let have_left = meta.has_left() && volume.has_left();
        self.left.journals = !early && !have_left;
        let (folder, name) = (&self.folder, self.cipher_name());
        let told = match self.left.reasons() {
            Some(reasons) => Told::Warning(format!(
                "JetStream has not encrypted all that is stored in \"{folder}\" with {name}, some may be in plain text: left as they \
                 are: {reasons}; it is tried again at the next start"
            )),
            None => {
                opening.write_mark(self.epoch);
                Told::Info(format!("JetStream has encrypted all that is stored in \"{folder}\" with {name}"))
            }
        };
        self.tells.then_some(told)
    }

    /// Looks at the catalogue as soon as it is read: its journal leaves what it has meanwhile. Returns what is to be told.
    pub(super) fn look_early(
        &mut self,
        opening: &mut Opening,
        meta: &Volume<Kept<Catalogue>>,
    ) -> Option<Told> {
        let found = !self.over && self.marked && is_catalogue_unsealed(meta);
        (found && !planted::bug(Bug::JsMarkBelieved)).then(|| self.doubt(opening))
    }

    /// Takes the mark back: something is there that it doesn't speak of. Returns what is to be told.
    fn doubt(&mut self, opening: &mut Opening) -> Told {
        opening.take_back_mark();
        (self.marked, self.tells) = (false, true);
        (self.at, self.walked) = (None, false);
        let (folder, name) = (&self.folder, self.cipher_name());
        Told::Info(format!(
            "JetStream found something in \"{folder}\" that isn't sealed with the present key, and converts it to {name}"
        ))
    }

    /// Returns whether recovery came upon nothing that isn't sealed with the present key; `None` while it isn't known.
    fn finds_nothing(
        &mut self,
        now: Instant,
        meta: &Volume<Kept<Catalogue>>,
        volume: &Volume<Asset>,
    ) -> Option<bool> {
        if volume.found_unsealed() || is_catalogue_unsealed(meta) {
            return Some(false);
        }
        for _ in 0..AT_ONCE {
            let sealed = match self.at.and_then(|owner| volume.store(owner)) {
                Some(Asset::Stream(store)) => store.is_found_sealed()?,
                // Another key has it.
                Some(Asset::Consumer(kept)) if kept.is_locked() => true,
                Some(Asset::Consumer(kept)) if !kept.is_ready() => return None,
                Some(Asset::Consumer(kept)) => !kept.is_stale(),
                Some(Asset::Removal(_)) | None => true,
            };
            if !sealed {
                return Some(false);
            }
            self.at = volume.owner_behind(self.at);
            if self.at.is_none() {
                return Some(true);
            }
        }
        self.due = Some(now);
        None
    }

    /// Has the catalogue's file written, if that isn't sealed; returns whether it is.
    fn write_catalogue(&self, now: Instant, meta: &mut Volume<Kept<Catalogue>>) -> bool {
        if !is_catalogue_stale(meta) {
            return true;
        }
        meta.with_store(Catalogue::OWNER, |kept, disk| {
            if !kept.is_writing() {
                kept.cover(Position::default(), now, disk);
            }
        });
        false
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
                    Conversion::UnderWay => {
                        self.over = planted::bug(Bug::JsConversionStalls);
                        return;
                    }
                    Conversion::Kept => self.left.kept += 1,
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
            // Another key has it: it is counted at the end.
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

/// Returns whether something of the catalogue, or in its journal, wasn't sealed with the present key when it was read.
fn is_catalogue_unsealed(meta: &Volume<Kept<Catalogue>>) -> bool {
    let kept = meta.store(Catalogue::OWNER).filter(|kept| kept.is_ready());
    meta.found_unsealed() || kept.is_some_and(|kept| kept.state().is_stale())
}

/// Returns whether the catalogue's file isn't sealed with the present key, as far as anybody has the key that it is.
fn is_catalogue_stale(meta: &Volume<Kept<Catalogue>>) -> bool {
    let kept = meta.store(Catalogue::OWNER);
    kept.is_some_and(|kept| kept.state().is_stale() && !kept.is_fresh())
}
