//! What is kept of many owners in a bounded place: nobody's things push out those of others who have fewer.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use adit_channel::DeclarationId;

/// Most things that are kept in all.
pub(super) const KEPT_MAX: usize = 1_024;

/// Most things that are kept of one account from one address; its oldest makes room for its next.
pub(super) const KEPT_OF_ONE: usize = KEPT_MAX / 8;

/// Most bytes that things of one account from one address are counted with; its oldest make room for its next.
pub(super) const BYTES_OF_ONE: usize = 8 << 20;

/// Whose something is: an account, and the address that speaks for it, as anybody can use a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) from: IpAddr,
    pub(super) account: Box<str>,
}

/// Things by the declaration that they are of.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    by_id: HashMap<DeclarationId, Kept<T>>,
    /// The oldest first.
    order: VecDeque<DeclarationId>,
}

#[derive(Debug)]
struct Kept<T> {
    owner: Owner,
    bytes: usize,
    item: T,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T> Shelf<T> {
    /// What is kept of that declaration.
    pub(super) fn find(&self, id: DeclarationId) -> Option<&T> {
        self.by_id.get(&id).map(|kept| &kept.item)
    }

    /// How many things are kept.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Keeps something that is counted with so many bytes. What is there already stays its first owner's, so that nobody can have it
    /// pushed out with his own.
    pub(super) fn keep(&mut self, id: DeclarationId, owner: Owner, bytes: usize, item: T) {
        if self.by_id.contains_key(&id) {
            return;
        }
        self.by_id.insert(id, Kept { owner: owner.clone(), bytes, item });
        self.order.push_back(id);
        while self.is_over(&owner) {
            self.forget_oldest(|kept| kept.owner == owner);
        }
        if self.len() > KEPT_MAX
            && let Some(from) = self.fullest()
        {
            self.forget_oldest(|kept| kept.owner.from == from);
        }
    }

    /// Forgets all but what is wanted.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&T) -> bool) {
        self.by_id.retain(|_, kept| is_wanted(&kept.item));
        self.order.retain(|id| self.by_id.contains_key(id));
    }

    /// Whether that owner has more than he may; his newest he always may.
    fn is_over(&self, owner: &Owner) -> bool {
        let own = self.by_id.values().filter(|kept| kept.owner == *owner);
        let (count, bytes) = own.fold((0, 0), |(count, bytes), kept| (count + 1, bytes + kept.bytes));
        count > KEPT_OF_ONE || (count > 1 && bytes > BYTES_OF_ONE)
    }

    /// The address of which most is kept.
    fn fullest(&self) -> Option<IpAddr> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        self.by_id.values().for_each(|kept| *counts.entry(kept.owner.from).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(from, _)| from)
    }

    fn forget_oldest(&mut self, is_one: impl Fn(&Kept<T>) -> bool) {
        let place = self.order.iter().position(|id| self.by_id.get(id).is_some_and(&is_one));
        if let Some(id) = place.and_then(|place| self.order.remove(place)) {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> DeclarationId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_le_bytes());
        DeclarationId(id)
    }

    fn owner(address: u8, account: &str) -> Owner {
        Owner { from: IpAddr::from([10, 0, 0, address]), account: account.into() }
    }

    /// Which of these are there.
    fn found(shelf: &Shelf<usize>, numbers: core::ops::Range<usize>) -> Vec<usize> {
        numbers.filter_map(|number| shelf.find(id(number)).copied()).collect()
    }

    #[test]
    fn one_account_pushed_out_all_others() {
        let mut shelf = Shelf::default();
        (0..3).for_each(|number| shelf.keep(id(number), owner(1, "honest"), 0, number));
        (3..5_000).for_each(|number| shelf.keep(id(number), owner(1, "greedy"), 0, number));
        assert_eq!(found(&shelf, 0..3), [0, 1, 2]);
        assert_eq!(
            found(&shelf, 3..5_000),
            Vec::from_iter(5_000 - KEPT_OF_ONE..5_000),
            "its newest are kept"
        );
    }

    #[test]
    fn one_address_with_many_names_pushed_out_all_others() {
        let mut shelf = Shelf::default();
        (0..3).for_each(|number| shelf.keep(id(number), owner(1, "honest"), 0, number));
        for number in 3..5_000 {
            shelf.keep(id(number), owner(2, &number.to_string()), 0, number);
        }
        assert_eq!(found(&shelf, 0..3), [0, 1, 2]);
        assert_eq!((shelf.len(), shelf.order.len()), (KEPT_MAX, KEPT_MAX));
    }

    #[test]
    fn jobs_of_one_account_held_their_bytes_for_two_tips() {
        let mut shelf = Shelf::default();
        shelf.keep(id(0), owner(1, "honest"), BYTES_OF_ONE / 2, 0);
        for number in 1..10 {
            shelf.keep(id(number), owner(2, "greedy"), BYTES_OF_ONE / 4 + 1, number);
        }
        assert_eq!(found(&shelf, 0..10), [0, 7, 8, 9]);
        shelf.keep(id(10), owner(2, "greedy"), BYTES_OF_ONE * 2, 10);
        assert_eq!(found(&shelf, 0..11), [0, 10], "the newest is there whatever it has");
    }

    #[test]
    fn who_kept_something_again_took_it_over() {
        let mut shelf = Shelf::default();
        shelf.keep(id(0), owner(1, "honest"), 0, 0);
        shelf.keep(id(0), owner(2, "greedy"), 0, 77);
        (1..1_000).for_each(|number| shelf.keep(id(number), owner(2, "greedy"), 0, number));
        assert_eq!(found(&shelf, 0..1), [0]);
        shelf.retain(|number| *number == 0);
        assert_eq!((shelf.len(), shelf.order.len()), (1, 1));
    }
}
