//! Bytes that declarations may have the server hold: in all, and from one address.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of declarations that all connections together may have the server hold.
pub const BUDGET_BYTES: usize = 256 << 20;

/// One address may hold one part in so many of what nobody holds: the more there are, the less each may, and there is always some left
/// for one more.
pub const BUDGET_SHARES: usize = 8;

/// Addresses whose shares are remembered before those that hold nothing are forgotten.
const SHARES_KEPT: usize = 1_024;

/// Bytes that are held, and how many may be; cloning gives another handle on the same count.
#[derive(Clone, Debug)]
pub struct Budget {
    most: usize,
    held: Arc<AtomicUsize>,
    /// What is held of it by those who go by this share.
    share: Option<Arc<AtomicUsize>>,
}

/// Bytes that are held; given back when dropped.
#[derive(Debug)]
pub struct Hold {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// Nothing held of so many bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, held: Arc::default(), share: None }
    }

    /// The same bytes for somebody who may not take them all, see [`BUDGET_SHARES`].
    #[must_use]
    pub fn share(&self) -> Self {
        Self { share: Some(Arc::default()), ..self.clone() }
    }

    /// Takes so many bytes, if they are there.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Hold> {
        self.add(bytes).then(|| Hold { budget: self.clone(), bytes })
    }

    /// How many bytes are held now, by whomever.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) -> bool {
        let Some(share) = &self.share else { return add(&self.held, bytes, self.most) };
        // Others may take some meanwhile; that all are within the budget is seen to below.
        let may_hold = self.most.saturating_sub(self.held()) / BUDGET_SHARES;
        if !add(share, bytes, may_hold) {
            return false;
        }
        let is_there = add(&self.held, bytes, self.most);
        if !is_there {
            share.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_there
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Whether somebody else goes by the same share.
    fn is_shared(&self) -> bool {
        self.share.as_ref().is_some_and(|share| Arc::strong_count(share) > 1)
    }
}

/// Adds so many if that makes no more than `most`; whether it did.
fn add(held: &AtomicUsize, bytes: usize, most: usize) -> bool {
    let more = |held: usize| held.checked_add(bytes).filter(|&held| held <= most);
    held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

impl Hold {
    /// How many.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds so many from now on, if they are there; whether it does.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let is_there = bytes <= self.bytes || self.budget.add(bytes - self.bytes);
        if is_there {
            self.budget.give_back(self.bytes.saturating_sub(bytes));
            self.bytes = bytes;
        }
        is_there
    }
}

impl Default for Budget {
    /// [`BUDGET_BYTES`].
    fn default() -> Self {
        Self::new(BUDGET_BYTES)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// The shares of a budget, by whose they are: all connections of an address have one between them.
#[derive(Debug)]
pub struct Shares<K> {
    whole: Budget,
    shares: HashMap<K, Budget>,
}

impl<K: Eq + Hash> Shares<K> {
    /// Nobody has a share yet.
    #[must_use]
    pub fn new(whole: Budget) -> Self {
        Self { whole, shares: HashMap::new() }
    }

    /// The share of this one.
    pub fn of(&mut self, whose: K) -> Budget {
        if self.shares.len() >= SHARES_KEPT {
            self.shares.retain(|_, share| share.is_shared());
        }
        self.shares.entry(whose).or_insert_with(|| self.whole.share()).clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_budget_is_shared_and_given_back() {
        let budget = Budget::new(100);
        let shared = budget.clone();
        let first = shared.take(60).unwrap();
        assert!(budget.take(41).is_none() && shared.take(usize::MAX).is_none());
        let second = budget.take(40).unwrap();
        drop(first);
        assert_eq!(budget.held(), 40);
        drop(second);
        assert_eq!(budget.held(), 0);
    }

    /// Takes as much as there is, a byte at a time.
    fn take_all(budget: &Budget) -> Vec<Hold> {
        core::iter::from_fn(|| budget.take(1)).collect()
    }

    #[test]
    fn one_address_took_the_whole_budget() {
        let mut shares = Shares::new(Budget::new(900));
        let (first, again) = (shares.of(1), shares.of(1));
        let held = take_all(&first);
        assert_eq!(held.len(), 100, "an eighth of the other 800");
        assert!(again.take(1).is_none(), "its connections have one share between them");
        assert_eq!(shares.of(2).take(100).map(|hold| hold.bytes()), Some(100));
        drop(held);
        assert_eq!(take_all(&again).len(), 100);
        assert_eq!(shares.whole.held(), 0);
    }

    #[test]
    fn some_addresses_took_the_whole_budget_between_them() {
        let mut shares = Shares::new(Budget::default());
        let blocks = |share: Budget| -> Vec<Hold> { core::iter::from_fn(|| share.take(4_000_000)).collect() };
        let greedy: Vec<_> = (0..32).map(|address| blocks(shares.of(address))).collect();
        assert_eq!(greedy.iter().map(Vec::len).max(), Some(7));
        assert!(shares.of(100).take(3_500_000).is_some(), "there is room for a block of another one");
        drop(greedy);
        assert_eq!(shares.whole.held(), 0);
    }

    #[test]
    fn shares_that_hold_nothing_are_forgotten() {
        let mut shares = Shares::new(Budget::new(900));
        let hold = shares.of(0).take(100).unwrap();
        for address in 1..10_000 {
            drop(shares.of(address));
            assert!(shares.shares.len() <= SHARES_KEPT);
        }
        assert!(shares.of(0).take(1).is_none(), "this one holds something");
        drop(hold);
    }

    proptest! {
        #[test]
        fn what_is_held_adds_up(steps in prop::collection::vec((0_usize..3, 0_usize..600), 0..100)) {
            let mut shares = Shares::new(Budget::new(1_000));
            let mut holds: Vec<Hold> = Vec::new();
            for (address, bytes) in steps {
                match holds.pop() {
                    Some(mut hold) if bytes % 3 == 0 => {
                        let before = hold.bytes();
                        let resized = hold.resize(bytes);
                        prop_assert_eq!(hold.bytes(), if resized { bytes } else { before });
                        holds.push(hold);
                    }
                    Some(_) if bytes % 3 == 1 => {}
                    kept => holds.extend(kept.into_iter().chain(shares.of(address).take(bytes))),
                }
                prop_assert_eq!(shares.whole.held(), holds.iter().map(Hold::bytes).sum::<usize>());
                prop_assert!(shares.whole.held() <= 1_000);
            }
            drop(holds);
            prop_assert_eq!(shares.whole.held(), 0);
            let taken = take_all(&shares.of(0)).len();
            prop_assert_eq!(taken, 111);
        }
    }
}
