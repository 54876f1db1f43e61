//! What waits for a node: fair between addresses, and for each account there at its own pace.

use core::time::Duration;
use std::collections::HashMap;
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
    queue: FairQueue<K, Case<T>>,
    /// Those whose account has to wait, with when it may go on.
    later: Vec<(Monotonic, K, Case<T>)>,
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
        Self { queue: FairQueue::new(most), later: Vec::new(), paces: HashMap::new() }
    }

    /// Takes in a question; one with an account counts for its pace.
    ///
    /// # Errors
    ///
    /// Gives it back if too many of that address wait.
    pub fn push(&mut self, from: K, account: Option<[u8; 32]>, item: T) -> Result<(), T> {
        self.queue.push(from, Case { account, item }).map_err(|case| case.item)
    }

    /// The question whose turn it is.
    pub fn pop(&mut self, now: Monotonic) -> Option<T> {
        self.wake(now);
        while let Some((from, case)) = self.queue.pop() {
            let Some(account) = case.account else { return Some(case.item) };
            let pace = self.pace(&from, account, now);
            if pace.take(now) {
                return Some(case.item);
            }
            let next = pace.next();
            self.later.push((next, from, case));
        }
        None
    }

    /// When there is something to [`Self::pop`]: a moment that is not ahead if that is now.
    #[must_use]
    pub fn next(&self) -> Option<Monotonic> {
        if !self.queue.is_empty() {
            return Some(Monotonic::default());
        }
        self.later.iter().map(|(next, ..)| *next).min()
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
        for (next, from, case) in core::mem::take(&mut self.later) {
            if next > now {
                self.later.push((next, from, case));
            } else if let Err(case) = self.queue.push(from.clone(), case) {
                // There is no room in that line for as long as the others in it have not had their turn.
                self.later.push((next, from, case));
            }
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
        core::iter::from_fn(|| docket.pop(now)).collect()
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
            assert_eq!(docket.pop(at(u64::from(number) * 1_000)), Some(number));
            assert!(docket.paces.len() <= PACES_KEPT);
        }
    }
}
