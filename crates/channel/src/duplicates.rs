//! Which shares a channel has had accepted, in sets that are forgotten with the jobs they belong to.

use adit_share::{Seen, SeenHashes};
use bitcoin::BlockHash;

use crate::Activation;
use crate::channel::reserve_first;

/// Shares in the newest set from which on the next job starts another.
pub(crate) const FLOOD: usize = 1 << 12;

/// Most shares that one set remembers, in one mebibyte; further ones are refused until the next job.
///
/// Each job that can still earn may have a set of its own, so a channel alone could have 17 of them, and of jobs without a tag each makes room for
/// as many more; what bounds all channels of a connection together is [`crate::REMEMBERED_MAX`].
pub(crate) const SET_LIMIT: usize = 1 << 16;

/// The duplicate check of one channel.
///
/// Nearly always one set, which serves all jobs of a tip. Only a channel that floods its server gets a new one with its next job,
/// so that a miner whose shares were far too easy at first is not shut out until the tip changes. On jobs without a tag hashes of all jobs of
/// a tip are in one set, where none may be forgotten: there the next job makes the set larger.
#[derive(Debug)]
pub(crate) struct Duplicates {
    key: [u8; 16],
    /// Each with the activation of the first job that it serves, oldest first. A job never changes its set.
    sets: Vec<(Activation, Seen)>,
    /// For shares on jobs without a tag. On the heap, because every channel has this field and few such jobs.
    hashes: Option<Box<SeenHashes>>,
    /// Whether nothing but blocks may be remembered any more.
    full: bool,
}

impl Duplicates {
    /// No share yet; `key` is random and unknown to miners.
    pub(crate) const fn new(key: [u8; 16]) -> Self {
        Self { key, sets: Vec::new(), hashes: None, full: false }
    }

    /// Whether further shares may be remembered.
    pub(crate) const fn allow(&mut self, allowed: bool) {
        self.full = !allowed;
    }

    /// How many shares are remembered.
    pub(crate) fn len(&self) -> usize {
        let hashes = self.hashes.as_ref().map_or(0, |hashes| hashes.len());
        self.sets.iter().map(|(_, seen)| seen.len()).sum::<usize>() + hashes
    }

    /// A job is about to be issued with the activation `next`, and none before `oldest` can earn any more.
    pub(crate) fn handle_job(&mut self, next: Activation, oldest: Activation) {
        let needed = self.sets.iter().rposition(|&(first, _)| first <= oldest).unwrap_or(0);
        self.sets.drain(..needed);
        if self.sets.last().is_some_and(|(_, seen)| seen.len() >= FLOOD) {
            self.sets.push((next, Seen::new(self.key, SET_LIMIT)));
        }
        if let Some(hashes) = &mut self.hashes {
            hashes.raise_limit(hashes.last_len().saturating_add(SET_LIMIT));
        }
    }

    /// No job so far can earn any more; only one without a tag may do so again, under another number.
    pub(crate) fn clear(&mut self) {
        self.sets.truncate(1);
        for (first, seen) in &mut self.sets {
            *first = Activation::default();
            seen.clear();
        }
    }

    /// The set for shares on the job with that activation, if there is one yet.
    pub(crate) fn known_set(&self, activation: Activation) -> Option<&Seen> {
        self.sets.get(self.place_of(activation)).map(|(_, seen)| seen)
    }

    /// Where the set for shares on the job with that activation is, if there are any.
    fn place_of(&self, activation: Activation) -> usize {
        self.sets.iter().rposition(|&(first, _)| first <= activation).unwrap_or(0)
    }

    /// The set for a share on the job with that activation, with room for one more share unless that is not allowed.
    pub(crate) fn set_for(&mut self, activation: Activation) -> &mut Seen {
        if self.sets.is_empty() {
            reserve_first(&mut self.sets);
            self.sets.push((Activation::default(), Seen::new(self.key, SET_LIMIT)));
        }
        let place = self.place_of(activation);
        let (_, seen) = self.sets.get_mut(place).expect("there is a set, and the place is that of one");
        give_room(seen, self.full);
        seen
    }

    /// The set for a share on a job without a tag that stands on that block, with room likewise. It outlives the tip, which may come back.
    pub(crate) fn hashes_on(&mut self, prev_hash: BlockHash) -> &mut Seen {
        let new = || Box::new(SeenHashes::new(self.key, SET_LIMIT));
        let seen = self.hashes.get_or_insert_with(new).on(prev_hash);
        give_room(seen, self.full);
        seen
    }

    /// How many sets there are.
    #[cfg(test)]
    pub(crate) const fn sets(&self) -> usize {
        self.sets.len()
    }
}

/// Makes room for one more share, unless nothing but blocks may be remembered.
fn give_room(seen: &mut Seen, full: bool) {
    // A set without room makes the judge refuse every share but a block. Its first table is taken all the same, as it is
    // small and blocks have their room in it.
    if full && !seen.is_empty() {
        seen.withhold_room();
    } else {
        let _at_limit = seen.make_room();
    }
}
