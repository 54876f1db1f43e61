//! Transactions by their hashes, from wherever a node's transactions can be had.

use std::collections::HashMap;

use adit_share::{MAX_BLOCK_WEIGHT, RawTransaction, Template};
use bitcoin::Wtxid;

/// For each hash that was asked for its transaction, where one was found.
pub(crate) type RawOrNone = Vec<Option<RawTransaction>>;

/// Transactions that come in any order, put into the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Gathered<'a> {
    asked: &'a [Wtxid],
    found: HashMap<Wtxid, RawTransaction>,
    weight: u64,
}

impl<'a> Gathered<'a> {
    pub(crate) fn new(asked: &'a [Wtxid]) -> Self {
        Self { asked, found: HashMap::new(), weight: 0 }
    }

    /// Takes in transactions, known or not, asked for or not.
    pub(crate) fn extend(&mut self, transactions: impl IntoIterator<Item = RawTransaction>) {
        for transaction in transactions {
            let weight = u64::from(transaction.weight());
            if self.found.insert(transaction.wtxid(), transaction).is_none() {
                self.weight += weight;
            }
        }
    }

    /// Takes in what is in a template.
    pub(crate) fn extend_from(&mut self, template: Option<&Template>) {
        let Some(template) = template else { return };
        let asked: std::collections::HashSet<&Wtxid> = self.asked.iter().collect();
        let known = template.transactions.iter().filter(|known| asked.contains(&known.wtxid()));
        self.extend(known.cloned());
    }

    /// Whether there is more than fits into a block, so that whoever asks has no use for the rest.
    pub(crate) const fn is_full(&self) -> bool {
        self.weight > MAX_BLOCK_WEIGHT
    }

    /// The hashes for which nothing has come.
    pub(crate) fn missing(&self) -> Vec<Wtxid> {
        self.asked.iter().filter(|wtxid| !self.found.contains_key(*wtxid)).copied().collect()
    }

    pub(crate) fn finish(self) -> RawOrNone {
        self.asked.iter().map(|wtxid| self.found.get(wtxid).cloned()).collect()
    }
}
