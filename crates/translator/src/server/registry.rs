//! Who is connected, which extranonces are lent, and what the machines say of themselves.

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_channel::LinkId;
use adit_net::OsRng;
use adit_units::Monotonic;
use rand_core::Rng as _;

use super::kept::Kept;
use crate::job::EXTRANONCE1_LEN;
use crate::machine::{Lender, Memory, Report};
use crate::status::ShareCounts;

/// What one machine's task says of it, now and then.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    /// At most a second old when a share comes; what came since is in it some seconds later.
    report: Mutex<Option<Report>>,
    /// Hashes a second.
    pub(super) nominal: AtomicU64,
    /// Shares that found no way up.
    pub(super) lost: AtomicU64,
}

impl Slot {
    pub(super) fn tell(&self, report: Report) {
        *lock(&self.report) = Some(report);
    }

    /// How fast it is, in hashes a second.
    pub(super) fn hashrate(&self) -> u64 {
        self.nominal.load(Ordering::Relaxed)
    }

    pub(super) fn report(&self) -> Option<Report> {
        lock(&self.report).clone()
    }
}

/// All machines.
#[derive(Debug)]
pub(super) struct Registry(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    machines: BTreeMap<u64, Arc<Slot>>,
    last_id: u64,
    extranonces: Extranonces,
    /// What machines that are gone have found.
    kept: Kept,
    /// Shares of machines that are gone.
    departed: ShareCounts,
    /// Accepted shares that found no way up since this was asked last, by the link that they were for.
    unsent: BTreeMap<LinkId, u64>,
    /// Bytes that machines hold beyond what each may.
    held: usize,
}

impl Registry {
    pub(super) fn new() -> Self {
        let mut random = [0; 4];
        OsRng.fill_bytes(&mut random);
        let extranonces = Extranonces::new(u32::from_le_bytes(random));
        let departed = ShareCounts::default();
        let (machines, unsent) = (BTreeMap::new(), BTreeMap::new());
        let kept = Kept::default();
        Self(Mutex::new(Inner { machines, last_id: 0, extranonces, kept, departed, unsent, held: 0 }))
    }

    /// A machine has connected.
    pub(super) fn enter(&self, peer: SocketAddr) -> (Arc<Slot>, [u8; EXTRANONCE1_LEN]) {
        let mut inner = lock(&self.0);
        inner.last_id += 1;
        let slot = Slot {
            id: inner.last_id,
            peer,
            report: Mutex::new(None),
            nominal: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        let slot = Arc::new(slot);
        inner.machines.insert(slot.id, Arc::clone(&slot));
        (slot, inner.extranonces.lend())
    }

    /// A machine is gone, that has found so much.
    pub(super) fn leave(&self, slot: &Slot, (report, memory): (&Report, Option<Memory>), now: Monotonic) {
        let mut inner = lock(&self.0);
        if let Some(memory) = memory {
            inner.kept.put(report.extranonce1, memory, now);
        }
        inner.machines.remove(&slot.id);
        inner.extranonces.give_back(report.extranonce1);
        inner.departed.add(&report.shares);
    }

    /// All machines that are connected, by their number.
    pub(super) fn machines(&self) -> Vec<Arc<Slot>> {
        lock(&self.0).machines.values().cloned().collect()
    }

    /// How fast all machines are together, in hashes a second.
    pub(super) fn nominal(&self) -> u64 {
        let inner = lock(&self.0);
        let each = inner.machines.values().map(|slot| slot.hashrate());
        each.fold(0, u64::saturating_add)
    }

    /// An accepted share found no way to that link.
    pub(super) fn count_unsent(&self, link: LinkId) {
        *lock(&self.0).unsent.entry(link).or_default() += 1;
    }

    /// How many of them there were since this was asked last.
    pub(super) fn take_unsent(&self) -> BTreeMap<LinkId, u64> {
        core::mem::take(&mut lock(&self.0).unsent)
    }

    /// A machine holds that much more than each may, or less; the answer is what all do together.
    pub(super) fn hold(&self, before: usize, now: usize) -> usize {
        let mut inner = lock(&self.0);
        inner.held = inner.held.saturating_sub(before).saturating_add(now);
        inner.held
    }

    /// How many machines have connected, and the shares of those that are gone.
    pub(super) fn history(&self) -> (u64, ShareCounts) {
        let inner = lock(&self.0);
        (inner.last_id, inner.departed)
    }
}

impl Lender for &Registry {
    fn exchange(&mut self, present: [u8; EXTRANONCE1_LEN], wanted: [u8; EXTRANONCE1_LEN]) -> bool {
        lock(&self.0).extranonces.exchange(present, wanted)
    }

    fn memory(&mut self, extranonce1: [u8; EXTRANONCE1_LEN]) -> Option<Memory> {
        lock(&self.0).kept.take(extranonce1)
    }
}

/// First halves of extranonces: a counter from a random start, so that none is lent twice but to the machine that had it before.
#[derive(Debug)]
struct Extranonces {
    first: u32,
    next: u32,
    lent: HashSet<u32>,
}

impl Extranonces {
    fn new(first: u32) -> Self {
        Self { first, next: first, lent: HashSet::new() }
    }

    fn lend(&mut self) -> [u8; EXTRANONCE1_LEN] {
        loop {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            // Some firmware takes all zeros for none.
            if number != 0 && self.lent.insert(number) {
                return number.to_be_bytes();
            }
        }
    }

    fn give_back(&mut self, extranonce1: [u8; EXTRANONCE1_LEN]) {
        self.lent.remove(&u32::from_be_bytes(extranonce1));
    }

    fn exchange(&mut self, present: [u8; EXTRANONCE1_LEN], wanted: [u8; EXTRANONCE1_LEN]) -> bool {
        let number = u32::from_be_bytes(wanted);
        let was_lent = number.wrapping_sub(self.first) < self.next.wrapping_sub(self.first);
        if present == wanted || number == 0 || !was_lent || !self.lent.insert(number) {
            return present == wanted;
        }
        self.give_back(present);
        true
    }
}

/// What is behind the lock is whole after every statement, so a panic elsewhere has not spoilt it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_extranonce_is_lent_twice_and_none_is_zero() {
        let mut all = Extranonces::new(u32::MAX - 1);
        let lent: Vec<_> = (0..4).map(|_| all.lend()).collect();
        assert_eq!(lent, [u32::MAX - 1, u32::MAX, 1, 2].map(u32::to_be_bytes));
    }

    #[test]
    fn a_machine_gets_back_what_it_had_and_nothing_else() {
        let mut all = Extranonces::new(10);
        let [mine, other] = [all.lend(), all.lend()];
        all.give_back(mine);
        let fresh = all.lend();
        assert!(!all.exchange(fresh, other), "another machine has it");
        assert!(!all.exchange(fresh, 99_u32.to_be_bytes()), "it was never lent");
        assert!(!all.exchange(fresh, [0; 4]));
        assert!(all.exchange(fresh, mine));
        assert!(all.exchange(mine, mine));
        all.give_back(other);
        assert!(all.exchange(mine, fresh), "what was exchanged is free again");
    }
}
