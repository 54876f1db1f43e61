//! The templates that a template provider has given out, numbered, for as long as somebody may come back to them.

use std::collections::HashMap;
use std::sync::Arc;

use adit_share::{RawTransaction, Template, TemplateParts, witness_commitment};
use adit_units::{Sats, TemplateId, UnixTime};
use bitcoin::{BlockHash, TxOut, Wtxid};

/// Most templates that are remembered. Those on the newest tip that came before them are forgotten; nobody mines on them any more.
pub const OFFERS_KEPT: usize = 64;

/// Most templates on earlier tips that are remembered, so that a block which was found as its tip went by is still handed over.
pub const STALE_OFFERS_KEPT: usize = 8;

/// Bits of a template's id below the number of its offer.
const NUMBER_SHIFT: u32 = 8;

/// How many ids one offer has for each of its two forms.
pub(super) const ISSUES_PER_OFFER: u8 = 128;

/// A template in its two forms: as the node gave it, and without transactions for clients who need more room than that leaves.
#[derive(Clone, Debug)]
pub struct Offer {
    number: u64,
    full: Arc<Template>,
    empty: Arc<Template>,
}

/// Which of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Full,
    Empty,
}

/// A template that an id stands for.
#[derive(Clone, Debug)]
pub struct Found {
    /// The template.
    pub template: Arc<Template>,
    /// Whether it stands on the newest tip.
    pub is_current: bool,
}

/// The offers that are remembered, newest last; never empty, never changed: [`Self::with`] makes the next one.
///
/// Ids grow over restarts too, because they begin with the time of the start. So an id that a client brings from an earlier run is
/// unknown, and never another template.
#[derive(Clone, Debug)]
pub struct Offers {
    earlier: Vec<Arc<Offer>>,
    newest: Arc<Offer>,
}

impl Offer {
    fn new(number: u64, full: Arc<Template>) -> Self {
        let empty = Arc::new(without_transactions(&full));
        Self { number, full, empty }
    }

    /// One of its forms.
    pub(super) fn template(&self, form: Form) -> &Arc<Template> {
        match form {
            Form::Full => &self.full,
            Form::Empty => &self.empty,
        }
    }

    /// The id of one of its forms when it is sent for the `issue`th time on a connection, from zero.
    pub(super) fn id(&self, form: Form, issue: u8) -> TemplateId {
        let form = match form {
            Form::Full => 0,
            Form::Empty => 1,
        };
        TemplateId(self.number << NUMBER_SHIFT | u64::from(issue % ISSUES_PER_OFFER) << 1 | form)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The block that it stands on.
    pub(super) fn prev_hash(&self) -> BlockHash {
        self.full.tip.prev_hash
    }
}

impl Offers {
    /// The first offer of a server that was started at `now`.
    #[must_use]
    pub fn first(now: UnixTime, template: Arc<Template>) -> Self {
        // A second has room for more numbers than nodes make templates in.
        let number = u64::from(now.to_secs()) << 16;
        Self { earlier: Vec::new(), newest: Arc::new(Offer::new(number, template)) }
    }

    /// The same with one more.
    #[must_use]
    pub fn with(&self, template: Arc<Template>) -> Self {
        let template = sharing(template, &self.newest.full);
        let newest = Arc::new(Offer::new(self.newest.number + 1, template));
        let tip = newest.prev_hash();
        let mut earlier: Vec<Arc<Offer>> = self.earlier.iter().chain([&self.newest]).cloned().collect();
        let stale = earlier.iter().filter(|offer| offer.prev_hash() != tip).count();
        let mut surplus = stale.saturating_sub(STALE_OFFERS_KEPT);
        earlier.retain(|offer| {
            let goes = surplus > 0 && offer.prev_hash() != tip;
            surplus -= usize::from(goes);
            !goes
        });
        let surplus = (earlier.len() + 1).saturating_sub(OFFERS_KEPT);
        earlier.drain(..surplus);
        Self { earlier, newest }
    }

    /// The offer that is to be mined on.
    #[must_use]
    pub fn newest(&self) -> &Arc<Offer> {
        &self.newest
    }

    /// The template that was sent with `id`, if it is remembered.
    #[must_use]
    pub fn find(&self, id: TemplateId) -> Option<Found> {
        let number = id.0 >> NUMBER_SHIFT;
        let form = if id.0 & 1 == 0 { Form::Full } else { Form::Empty };
        let offer = self.earlier.iter().chain([&self.newest]).find(|offer| offer.number == number)?;
        let is_current = offer.prev_hash() == self.newest.prev_hash();
        Some(Found { template: Arc::clone(offer.template(form)), is_current })
    }
}

/// The template with the bytes of transactions that `before` has too taken from there, so that they are in memory once.
fn sharing(template: Arc<Template>, before: &Template) -> Arc<Template> {
    let known: HashMap<Wtxid, &RawTransaction> =
        before.transactions.iter().map(|transaction| (transaction.wtxid(), transaction)).collect();
    if known.is_empty() {
        return template;
    }
    let mut own = Arc::unwrap_or_clone(template);
    for transaction in &mut own.transactions {
        if let Some(&same) = known.get(&transaction.wtxid()) {
            *transaction = same.clone();
        }
    }
    Arc::new(own)
}

/// The template of a block that has only its coinbase, and pays only the subsidy.
fn without_transactions(full: &Template) -> Template {
    let (before, after) = (witness_commitment(&full.transactions), witness_commitment(&[]));
    let commits = |output: &TxOut| output.script_pubkey.as_bytes().starts_with(before.as_bytes());
    let required_outputs = full.required_outputs.iter().map(|output| {
        if commits(output) { TxOut { script_pubkey: after.clone(), ..*output } } else { output.clone() }
    });
    let parts = TemplateParts {
        id: full.id,
        tip: full.tip,
        version: full.version,
        time: full.time,
        coinbase_value: full.subsidy,
        subsidy: full.subsidy,
        fees: Sats::from_sats(0),
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: required_outputs.collect(),
    };
    Template::new(parts).expect("what was checked with transactions holds without them")
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use adit_units::{Monotonic, Now, Work};

    use super::*;
    use crate::{Devnet, DevnetConfig, Pace};

    const NOW: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };

    fn devnet(seed: u8) -> Devnet {
        let config = DevnetConfig {
            pace: Pace::Fixed(Work::from_hashes(2)),
            arrival: Duration::from_secs(1),
            ..DevnetConfig::new([seed; 32])
        };
        Devnet::new(&config, NOW)
    }

    fn template(chain: &mut Devnet, secs: u64) -> Arc<Template> {
        Arc::new(chain.template(NOW.after(Duration::from_secs(secs))))
    }

    #[test]
    fn ids_grow_and_are_found_again() {
        let mut chain = devnet(1);
        let mut offers = Offers::first(NOW.unix, template(&mut chain, 0));
        let mut last = TemplateId(0);
        for secs in 1..20 {
            let offer = offers.newest();
            for (form, issue) in [(Form::Full, 0), (Form::Empty, 0), (Form::Full, 1), (Form::Empty, 127)] {
                let id = offer.id(form, issue);
                assert!(id > last, "{id:?} after {last:?}");
                last = id;
                let found = offers.find(id).unwrap();
                assert!(found.is_current && Arc::ptr_eq(&found.template, offer.template(form)));
            }
            offers = offers.with(template(&mut chain, secs));
        }
        assert!(offers.find(TemplateId(3)).is_none());
        let restarted = Offers::first(UnixTime::from_secs(NOW.unix.to_secs() + 1), template(&mut chain, 30));
        assert!(restarted.newest().id(Form::Full, 0) > last && restarted.find(last).is_none());
    }

    #[test]
    fn memory_is_bounded_on_one_tip_and_over_many() {
        let mut chain = devnet(1);
        let first = Offers::first(NOW.unix, template(&mut chain, 0));
        let id = first.newest().id(Form::Full, 0);
        let mut offers = first.clone();
        for secs in 1..=OFFERS_KEPT as u64 {
            assert!(offers.find(id).is_some());
            offers = offers.with(template(&mut chain, secs));
        }
        assert!(offers.find(id).is_none(), "the oldest of one tip is forgotten");
        assert_eq!(offers.earlier.len() + 1, OFFERS_KEPT);

        let mut offers = first;
        for seed in (2..).take(STALE_OFFERS_KEPT) {
            offers = offers.with(template(&mut devnet(seed), 0));
            assert!(!offers.find(id).unwrap().is_current, "another tip came");
        }
        offers = offers.with(template(&mut devnet(200), 0));
        assert!(offers.find(id).is_none(), "the oldest of earlier tips is forgotten");
        assert_eq!(offers.earlier.len(), STALE_OFFERS_KEPT);
    }

    #[test]
    fn transactions_that_stay_are_in_memory_once() {
        let mut chain = devnet(1);
        let (a, b) = (template(&mut chain, 10), template(&mut chain, 20));
        let copied = |transaction: &RawTransaction| RawTransaction::parse(transaction.as_bytes()).unwrap();
        let mut fresh = Template::clone(&b);
        fresh.transactions = b.transactions.iter().map(copied).collect();
        let offers = Offers::first(NOW.unix, Arc::clone(&a)).with(Arc::new(fresh));
        let kept = offers.newest().template(Form::Full);
        assert_eq!(**kept, *b);
        assert!(a.transactions.len() > 1 && b.transactions.len() > a.transactions.len());
        let shared = |transaction: &&RawTransaction| {
            a.transactions.iter().any(|before| core::ptr::eq(before.as_bytes(), transaction.as_bytes()))
        };
        assert_eq!(kept.transactions.iter().filter(shared).count(), a.transactions.len());
    }

    #[test]
    fn the_empty_form_pays_the_subsidy() {
        let full = template(&mut devnet(1), 20);
        assert!(full.fees > Sats::from_sats(0));
        let empty = without_transactions(&full);
        assert_eq!((empty.coinbase_value, empty.weight, empty.tip), (full.subsidy, 0, full.tip));
        assert!(empty.merkle_path.is_empty() && empty.has_witness_commitment());
    }
}
