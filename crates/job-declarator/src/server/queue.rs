//! Whose turn it is: one waiting line for each client, and each line in its turn, so that nobody's flood holds up anybody else.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Things that wait, by client.
///
/// However many a client puts in, another one waits for one of them at most.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    lines: HashMap<K, VecDeque<T>>,
    /// Clients in the order in which it is their turn; each with a line that is not empty, and each once.
    turns: VecDeque<K>,
    /// Most things that wait for one client.
    most: usize,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue in which so many things of each client may wait.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), most }
    }

    /// Puts something into a client's line.
    ///
    /// # Errors
    ///
    /// Gives it back if the line is as long as it may be.
    pub fn push(&mut self, client: K, item: T) -> Result<(), T> {
        let line = self.lines.entry(client.clone()).or_default();
        if line.len() >= self.most {
            return Err(item);
        }
        if line.is_empty() {
            self.turns.push_back(client);
        }
        line.push_back(item);
        Ok(())
    }

    /// The next thing, of the client whose turn it is.
    pub fn pop(&mut self) -> Option<(K, T)> {
        let client = self.turns.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let item = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.turns.push_back(client.clone());
        }
        Some((client, item))
    }

    /// How many things wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    /// How many clients have something waiting.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.turns.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_clients_flood_holds_up_nobody() {
        let mut queue = FairQueue::new(1_000);
        (0..1_000).for_each(|number| queue.push("flood", number).unwrap());
        queue.push("calm", 0).unwrap();
        assert_eq!(queue.pop(), Some(("flood", 0)));
        assert_eq!(queue.pop(), Some(("calm", 0)));
        assert_eq!(queue.push("flood", 7), Ok(()), "one was taken");
        assert_eq!(queue.push("flood", 8), Err(8), "its line is as long as it may be");
        assert_eq!(queue.push("calm", 1), Ok(()));
        assert_eq!(queue.pop(), Some(("flood", 1)));
        assert_eq!(queue.pop(), Some(("calm", 1)));
    }

    proptest! {
        #[test]
        fn each_line_keeps_its_order_and_nothing_is_lost(pushes in prop::collection::vec(0_u8..5, 0..200)) {
            let mut queue = FairQueue::new(usize::MAX);
            for (number, client) in pushes.iter().enumerate() {
                queue.push(*client, number).unwrap();
            }
            let mut popped: Vec<Vec<usize>> = vec![Vec::new(); 5];
            let mut last_seen = [0_usize; 5];
            let mut turn = 0;
            while let Some((client, number)) = queue.pop() {
                turn += 1;
                popped[usize::from(client)].push(number);
                let waited = turn - last_seen[usize::from(client)];
                prop_assert!(waited <= 5, "a client with something waiting gets every fifth turn");
                last_seen[usize::from(client)] = turn;
            }
            let lines = (0..5_u8).map(|client| {
                let of_client = pushes.iter().enumerate().filter(|(_, pusher)| **pusher == client);
                of_client.map(|(number, _)| number).collect::<Vec<_>>()
            });
            prop_assert_eq!(popped, lines.collect::<Vec<_>>());
            prop_assert!(queue.is_empty() && queue.clients() == 0);
        }
    }
}
