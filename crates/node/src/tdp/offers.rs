//! The templates that a template provider has given out, numbered, for as long as somebody may come back to them.

use std::sync::Arc;

use adit_share::{Template, TemplateParts, Tip, witness_commitment};
use adit_units::{Sats, TemplateId, UnixTime};
use bitcoin::{BlockHash, TxOut};

use super::client::share;

/// Most templates that are remembered. Those on the newest tip that came before them are forgotten; nobody mines on them any more.
pub const OFFERS_KEPT: usize = 64;

/// Most templates on earlier tips that are remembered, so that a block which was found as its tip went by is still handed over.
pub const STALE_OFFERS_KEPT: usize = 8;

/// Bits of a template's id below the number of its offer.
const NUMBER_SHIFT: u32 = 8;

/// The subsidy changes at no other heights than multiples of this, on any network: regtest halves it every 150 blocks, the others every
/// 210 000.
const HALVING_GRID: u32 = 150;

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

    /// The same with an empty block on `tip`, on which the node has no template yet, at the time `now`; `None` if that is no news, or if
    /// it is not sure what such a block pays.
    #[must_use]
    pub fn ahead(&self, tip: &Tip, now: UnixTime) -> Option<Self> {
        let known = &self.newest.full;
        let same_subsidy = tip.height.0 / HALVING_GRID == known.tip.height.0 / HALVING_GRID;
        if tip.prev_hash == known.tip.prev_hash || !same_subsidy {
            return None;
        }
        Some(self.with(Arc::new(empty(known, *tip, now.to_secs()))))
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

/// The template with the bytes of transactions that `before` has too taken from there.
fn sharing(template: Arc<Template>, before: &Template) -> Arc<Template> {
    if before.transactions.is_empty() {
        return template;
    }
    let mut own = Arc::unwrap_or_clone(template);
    share(&mut own.transactions, before);
    Arc::new(own)
}

/// The template of a block that has only its coinbase, and pays only the subsidy.
fn without_transactions(full: &Template) -> Template {
    empty(full, full.tip, full.time)
}

/// The template of a block on `tip` that has only its coinbase and pays only the subsidy; the rest is as in `like`.
fn empty(like: &Template, tip: Tip, time: u32) -> Template {
    let (before, after) = (witness_commitment(&like.transactions), witness_commitment(&[]));
    let commits = |output: &TxOut| output.script_pubkey.as_bytes().starts_with(before.as_bytes());
    let required_outputs = like.required_outputs.iter().map(|output| {
        if commits(output) { TxOut { script_pubkey: after.clone(), ..*output } } else { output.clone() }
    });
    let parts = TemplateParts {
        id: like.id,
        tip,
        version: like.version,
        time,
        coinbase_value: like.subsidy,
        subsidy: like.subsidy,
        fees: Sats::from_sats(0),
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: required_outputs.collect(),
    };
    let template = Template::new(parts).expect("what was checked with transactions holds without them");
    template.with_coinbase_form(like.coinbase_form.clone())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use adit_share::RawTransaction;
    use adit_units::{Height, Monotonic, Now, Work};
    use bitcoin::hashes::Hash as _;

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

    #[test]
    fn a_tip_without_a_template_is_offered_as_an_empty_block() {
        let full = template(&mut devnet(1), 20);
        let offers = Offers::first(NOW.unix, Arc::clone(&full));
        let now = UnixTime::from_secs(1_700_000_100);
        let tip = Tip { prev_hash: BlockHash::from_byte_array([9; 32]), height: Height(2), ..full.tip };
        let ahead = offers.ahead(&tip, now).unwrap();
        let offered = ahead.newest().template(Form::Full);
        assert_eq!((offered.tip, offered.coinbase_value, offered.time), (tip, full.subsidy, now.to_secs()));
        assert!(offered.transactions.is_empty() && offered.has_witness_commitment());
        assert!(ahead.newest().id(Form::Full, 0) > offers.newest().id(Form::Empty, 127));
        assert!(ahead.ahead(&tip, now).is_none(), "no news any more");
        assert!(offers.ahead(&full.tip, now).is_none(), "its template is there");
        let halving = Tip { height: Height(150), ..tip };
        assert!(offers.ahead(&halving, now).is_none(), "it might pay less");
    }
}
