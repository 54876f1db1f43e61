//! What waits for a node: fair between addresses, and for each account there at its own pace.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use adit_units::Monotonic;

use super::limits::Pace;
use super::queue::FairQueue;

/// Blocks that a node judges in a row for one account from one address; one more each [`CHECK_INTERVAL`].
pub const CHECKS_MAX: u32 = 32;

/// See [`CHECKS_MAX`].
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Accounts whose pace is remembered before those that have rested are forgotten.
const PACES_KEPT: usize = 4_096;

/// Questions that wait, by where they come from.
///
/// An account's pace is one for each address: anybody can use a name, and must not slow down whose it is.
#[derive(Debug)]
pub struct Docket<K, T> {
    /// Whose turn it is; `waiting` sees to it that no line gets too long.
    queue: FairQueue<K, Case<T>>,
    /// Those whose account has to wait, by when it may go on and in which order they came to wait for it.
    later: BTreeMap<(Monotonic, u64), (K, Case<T>)>,
    /// How many were ever in `later`.
    put_off: u64,
    /// How many questions of each address wait, in line or for their pace.
    waiting: HashMap<K, usize>,
    /// Most questions of one address.
    most: usize,
    paces: HashMap<(K, [u8; 32]), Pace>,
}

#[derive(Debug)]
struct Case<T> {
    account: Option<[u8; 32]>,
    item: T,
}

impl<K: Clone + Eq + Hash, T> Docket<K, T> {
    /// An empty docket with room for so many questions of one address.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            queue: FairQueue::new(most),
            later: BTreeMap::new(),
            put_off: 0,
            waiting: HashMap::new(),
            most,
            paces: HashMap::new(),
        }
    }

    /// Takes in a question; one with an account counts for its pace.
    ///
    /// # Errors
    ///
    /// Gives it back if too many of that address wait, be it for a node or for their pace.
    pub fn push(&mut self, from: K, account: Option<[u8; 32]>, item: T) -> Result<(), T> {
        if self.waiting.get(&from).is_some_and(|waiting| *waiting >= self.most) {
            return Err(item);
        }
        self.queue.push(from.clone(), Case { account, item }).map_err(|case| case.item)?;
        *self.waiting.entry(from).or_default() += 1;
        Ok(())
    }

    /// The question whose turn it is. One that nobody wants to have answered any more is dropped and costs its account nothing.
    pub fn pop(&mut self, now: Monotonic, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        self.wake(now);
        while let Some((from, case)) = self.queue.pop() {
            if !is_wanted(&case.item) {
                self.leave(&from);
                continue;
            }
            if let Some(account) = case.account {
                let pace = self.pace(&from, account, now);
                if !pace.take(now) {
                    let next = pace.next();
                    self.put_off(next, from, case);
                    continue;
                }
            }
            self.leave(&from);
            return Some(case.item);
        }
        None
    }

    /// When there is something to [`Self::pop`]: a moment that is not ahead if that is now.
    #[must_use]
    pub fn next(&self) -> Option<Monotonic> {
        if !self.queue.is_empty() {
            return Some(Monotonic::default());
        }
        self.later.keys().next().map(|(next, _)| *next)
    }

    /// How many questions wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len() + self.later.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts back into line whose time has come.
    fn wake(&mut self, now: Monotonic) {
        while let Some(first) = self.later.first_entry() {
            if first.key().0 > now {
                return;
            }
            let (from, case) = first.remove();
            let pushed = self.queue.push(from, case);
            debug_assert!(pushed.is_ok(), "no more wait in all than a line has room for");
        }
    }

    fn put_off(&mut self, next: Monotonic, from: K, case: Case<T>) {
        self.put_off += 1;
        self.later.insert((next, self.put_off), (from, case));
    }

    /// One question of that address waits no more.
    fn leave(&mut self, from: &K) {
        let Some(waiting) = self.waiting.get_mut(from) else { return };
        *waiting -= 1;
        if *waiting == 0 {
            self.waiting.remove(from);
        }
    }

    fn pace(&mut self, from: &K, account: [u8; 32], now: Monotonic) -> &mut Pace {
        if self.paces.len() >= PACES_KEPT {
            self.paces.retain(|_, pace| !pace.is_rested(now));
        }
        self.paces.entry((from.clone(), account)).or_insert_with(|| Pace::new(CHECKS_MAX, CHECK_INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: [u8; 32] = [1; 32];
    const BOB: [u8; 32] = [2; 32];

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(1_000_000_000 + millis * 1_000)
    }

    fn popped(docket: &mut Docket<u8, u32>, now: Monotonic) -> Vec<u32> {
        core::iter::from_fn(|| docket.pop(now, |_| true)).collect()
    }

    #[test]
    fn an_account_goes_at_its_pace_and_holds_up_nobody() {
        let mut docket = Docket::new(1_000);
        (0..CHECKS_MAX + 3).for_each(|number| docket.push(1, Some(ALICE), number).unwrap());
        docket.push(1, Some(BOB), 100).unwrap();
        docket.push(2, Some(ALICE), 200).unwrap();
        docket.push(1, None, 300).unwrap();
        let first = popped(&mut docket, at(0));
        assert_eq!(u32::try_from(first.len()), Ok(CHECKS_MAX + 3));
        assert_eq!(first[..2], [0, 200], "the same name at another address has a pace of its own");
        assert!(first.contains(&100) && first.contains(&300));
        assert_eq!(docket.next(), Some(at(500)));
        assert!(popped(&mut docket, at(499)).is_empty());
        assert_eq!(popped(&mut docket, at(500)), [CHECKS_MAX]);
        assert_eq!(popped(&mut docket, at(5_000)), [CHECKS_MAX + 1, CHECKS_MAX + 2]);
        assert_eq!(docket.next(), None);
    }

    #[test]
    fn an_address_has_so_much_room_and_accounts_that_rest_are_forgotten() {
        let mut docket = Docket::new(2);
        assert_eq!(docket.push(1, None, 1), Ok(()));
        assert_eq!(docket.push(1, None, 2), Ok(()));
        assert_eq!(docket.push(1, None, 3), Err(3));
        assert_eq!(docket.push(2, None, 4), Ok(()));
        assert_eq!(popped(&mut docket, at(0)), [1, 4, 2]);
        for number in 0..10_000_u32 {
            let mut account = [0; 32];
            account[..4].copy_from_slice(&number.to_le_bytes());
            docket.push(1, Some(account), number).unwrap();
            assert_eq!(docket.pop(at(u64::from(number) * 1_000), |_| true), Some(number));
            assert!(docket.paces.len() <= PACES_KEPT);
        }
    }
    #[test]
    fn what_waited_for_its_pace_was_counted_by_nobody() {
        let mut docket = Docket::new(2);
        let mut given_back = 0;
        for number in 0..1_000 {
            given_back += u32::from(docket.push(1, Some(ALICE), number).is_err());
            docket.pop(at(0), |_| true);
        }
        assert_eq!(docket.len(), 2);
        assert_eq!(given_back, 1_000 - CHECKS_MAX - 2);
        assert_eq!(docket.push(2, Some(ALICE), 7), Ok(()), "another address has its own room");
        assert_eq!(popped(&mut docket, at(0)), [7]);
        assert_eq!(popped(&mut docket, at(2_000)), [CHECKS_MAX, CHECKS_MAX + 1]);
        assert!(docket.is_empty() && docket.waiting.is_empty());
    }

    #[test]
    fn who_had_gone_still_took_up_room_and_pace() {
        let mut docket = Docket::new(1_000);
        (0..500).for_each(|number| docket.push(1, Some(ALICE), number).unwrap());
        assert_eq!(popped(&mut docket, at(0)).len(), CHECKS_MAX as usize);
        let stays = |number: &u32| *number >= 400;
        assert_eq!(docket.pop(at(500), stays), Some(400));
        assert_eq!(docket.pop(at(500), stays), None);
        assert_eq!((docket.len(), docket.waiting[&1]), (99, 99));
    }
}
