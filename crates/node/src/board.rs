//! Where a source of templates puts them up, and everybody reads them.

use std::sync::Arc;

use adit_share::{Template, Tip};
use adit_units::TemplateId;
use bitcoin::BlockHash;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{Health, NodeError};

/// What became of a template that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is up.
    Published,
    /// It says what the one that is up says.
    Unchanged,
    /// The tip changed while the source was asked, so nobody knows which of the two is newer; ask again.
    Crossed,
}

/// The newest template and the state of its source.
#[derive(Debug)]
pub(crate) struct Board {
    source: String,
    templates: watch::Sender<Option<Arc<Template>>>,
    /// The tip of the template that is up, or one that was announced before there is a template on it. Locked before `templates`.
    tips: watch::Sender<Option<Tip>>,
    health: watch::Sender<Health>,
}

impl Board {
    /// An empty board; `source` stands in the log.
    pub(crate) fn new(source: String) -> Self {
        let (templates, tips) = (watch::Sender::new(None), watch::Sender::new(None));
        Self { source, templates, tips, health: watch::Sender::new(Health::Starting) }
    }

    pub(crate) fn templates(&self) -> watch::Receiver<Option<Arc<Template>>> {
        self.templates.subscribe()
    }

    pub(crate) fn tips(&self) -> watch::Receiver<Option<Tip>> {
        self.tips.subscribe()
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// What stands in the log.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Puts `template` up under the number `id` if it says something new, or if a tip that was announced is no more; whether it did.
    /// For the one who alone decides what is up.
    pub(crate) fn show(&self, template: &Template, id: TemplateId) -> bool {
        let mut news = false;
        self.tips.send_if_modified(|known| {
            // What was told of the tip first stays, or miners would take it for another one.
            let same = known.filter(|known| known.is_same_chain_end(&template.tip));
            let tip = same.unwrap_or(template.tip);
            news = self.templates.send_if_modified(|up| {
                let news = same.is_none() || !up.as_deref().is_some_and(|up| same_work(up, template));
                if news {
                    let mut template = template.clone();
                    (template.id, template.tip) = (id, tip);
                    template.time = template.time.max(tip.min_ntime);
                    *up = Some(Arc::new(template));
                }
                news
            });
            news && known.replace(tip) != Some(tip)
        });
        news
    }

    /// The newest block that is known, on which there may be no template yet.
    pub(crate) fn tip(&self) -> Option<BlockHash> {
        self.tips.borrow().map(|tip| tip.prev_hash)
    }

    /// The block that the template which is up stands on.
    pub(crate) fn template_tip(&self) -> Option<BlockHash> {
        self.templates.borrow().as_ref().map(|template| template.tip.prev_hash)
    }

    /// Tells of a tip before there is a template on it; `asked_at` is what [`Self::tip`] said when the source was asked. Answers
    /// whether it is news. Before the first template nobody is told.
    pub(crate) fn announce(&self, asked_at: Option<BlockHash>, tip: Tip) -> bool {
        self.tips.send_if_modified(|known| {
            let newest = known.map(|known| known.prev_hash);
            let news = newest.is_some() && newest == asked_at && newest != Some(tip.prev_hash);
            if news {
                debug!(source = self.source, height = tip.height.0, prev_hash = %tip.prev_hash, "tip without template");
                *known = Some(tip);
            }
            news
        })
    }

    /// Puts `template` up if it says something new; `asked_at` is what [`Self::tip`] said when the source was asked for it.
    pub(crate) fn offer(&self, asked_at: Option<BlockHash>, template: Template) -> Offered {
        let mut outcome = Offered::Published;
        let template = Arc::new(template);
        self.tips.send_if_modified(|known| {
            self.templates.send_if_modified(|up| {
                outcome = weigh(up.as_deref(), known.map(|tip| tip.prev_hash), asked_at, &template);
                if outcome == Offered::Published {
                    *up = Some(Arc::clone(&template));
                }
                outcome == Offered::Published
            });
            outcome == Offered::Published && known.replace(template.tip) != Some(template.tip)
        });
        if outcome == Offered::Published {
            self.log(asked_at, &template);
        }
        outcome
    }

    fn log(&self, before: Option<BlockHash>, template: &Template) {
        let (tip, transactions) = (&template.tip, template.transactions.len());
        let (source, height, fees) = (&self.source, tip.height.0, template.fees);
        if before == Some(tip.prev_hash) {
            debug!(source, height, transactions, %fees, "template");
        } else {
            info!(source, height, transactions, %fees, prev_hash = %tip.prev_hash, "new tip");
        }
    }

    /// Notes that templates come.
    pub(crate) fn up(&self) {
        self.health.send_if_modified(|health| match health {
            Health::Up => false,
            Health::Starting | Health::Down(_) => {
                match health {
                    Health::Down(error) if matches!(**error, NodeError::Behind) => {
                        debug!(source = self.source, "templates come");
                    }
                    Health::Up | Health::Starting | Health::Down(_) => {
                        info!(source = self.source, "templates come");
                    }
                }
                *health = Health::Up;
                true
            }
        });
    }

    /// Notes that no template comes for a moment, which is nothing to tell anybody who reads logs.
    pub(crate) fn pause(&self, error: NodeError) {
        self.health.send_if_modified(|health| {
            let news = !matches!(health, Health::Down(_));
            if news {
                debug!(source = self.source, %error, "no templates for the moment");
                *health = Health::Down(Arc::new(error));
            }
            news
        });
    }

    /// Notes that no templates come, and why; the same reason twice is logged once.
    pub(crate) fn down(&self, error: NodeError) {
        self.health.send_if_modified(|health| {
            let news = match health {
                Health::Down(before) => before.to_string() != error.to_string(),
                Health::Starting | Health::Up => true,
            };
            if news {
                warn!(source = self.source, %error, "no templates come");
                *health = Health::Down(Arc::new(error));
            }
            news
        });
    }
}

/// Whether `template` should replace what is up, when `known` is the newest block that is known.
fn weigh(
    up: Option<&Template>,
    known: Option<BlockHash>,
    asked_at: Option<BlockHash>,
    template: &Template,
) -> Offered {
    let Some(up) = up else { return Offered::Published };
    let there = template.tip.prev_hash;
    if known == Some(there) {
        return if same_work(up, template) { Offered::Unchanged } else { Offered::Published };
    }
    // Asked after the newest news and yet on another block: the chain has gone back.
    if asked_at == known { Offered::Published } else { Offered::Crossed }
}

/// Whether two templates make the same blocks, but for the time.
fn same_work(a: &Template, b: &Template) -> bool {
    // The path covers the transactions and the required outputs their witnesses.
    (a.version, a.coinbase_value) == (b.version, b.coinbase_value)
        && a.tip.is_same_chain_end(&b.tip)
        && a.merkle_path == b.merkle_path
        && a.required_outputs == b.required_outputs
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use adit_units::{Now, Sats, UnixTime, Work};

    use super::*;
    use crate::{Devnet, DevnetConfig, Pace};

    const NOW: Now =
        Now { monotonic: adit_units::Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };

    fn devnet(seed: u8) -> Devnet {
        let pace = Pace::Fixed(Work::from_hashes(2));
        let config = DevnetConfig { pace, arrival: Duration::from_secs(1), ..DevnetConfig::new([seed; 32]) };
        Devnet::new(&config, NOW)
    }

    #[test]
    fn only_news_goes_up() {
        let (board, mut chain) = (Board::new("test".to_owned()), devnet(1));
        let mut reader = board.templates();
        assert_eq!(board.offer(None, chain.template(NOW)), Offered::Published);
        assert!(reader.has_changed().unwrap());
        reader.mark_unchanged();

        let later = chain.template(NOW.after(Duration::from_millis(10)));
        assert_eq!(board.offer(board.tip(), later), Offered::Unchanged, "a new id and time are no news");
        assert!(!reader.has_changed().unwrap());

        let with_more = chain.template(NOW.after(Duration::from_secs(1)));
        assert_eq!(board.offer(board.tip(), with_more), Offered::Published, "a new transaction is");
        assert!(reader.has_changed().unwrap());
    }

    #[test]
    fn an_answer_that_crossed_with_a_new_tip_is_asked_for_again() {
        let board = Board::new("test".to_owned());
        let (old, new) = (devnet(1).template(NOW), devnet(2).template(NOW));
        let asked_before = board.tip();
        board.offer(asked_before, old.clone());
        let asked_at_old = board.tip();
        assert_eq!(board.offer(asked_at_old, new.clone()), Offered::Published);
        assert_eq!(board.offer(asked_at_old, old.clone()), Offered::Crossed);
        assert_eq!(board.tip(), Some(new.tip.prev_hash));
        assert_eq!(board.offer(board.tip(), old), Offered::Published, "a tip may come back");
    }

    #[test]
    fn a_tip_is_told_before_its_template_and_holds_back_templates_on_the_old_one() {
        let board = Board::new("test".to_owned());
        let (old, new) = (devnet(1).template(NOW), devnet(2).template(NOW));
        assert!(!board.announce(None, new.tip), "nobody has work that could be replaced");
        board.offer(board.tip(), old.clone());
        let (asked_at_old, mut tips) = (board.tip(), board.tips());
        assert_eq!(*tips.borrow_and_update(), Some(old.tip), "a template tells of its tip");
        assert!(board.announce(asked_at_old, new.tip));
        assert!(!board.announce(asked_at_old, new.tip), "no news any more");
        assert_eq!(*tips.borrow_and_update(), Some(new.tip));
        assert_eq!((board.tip(), board.template_tip()), (Some(new.tip.prev_hash), Some(old.tip.prev_hash)));
        assert_eq!(board.offer(asked_at_old, old), Offered::Crossed, "known to be old");
        assert_eq!(board.offer(asked_at_old, new.clone()), Offered::Published);
        assert_eq!(board.template_tip(), Some(new.tip.prev_hash));
        assert!(!tips.has_changed().unwrap(), "the tip was known");
    }

    #[test]
    fn a_tip_that_was_told_and_is_no_more_brings_the_old_template_back() {
        let board = Board::new("test".to_owned());
        let (old, new) = (devnet(1).template(NOW), devnet(2).template(NOW));
        board.offer(board.tip(), old.clone());
        board.announce(board.tip(), new.tip);
        let mut templates = board.templates();
        templates.mark_unchanged();
        assert_eq!(board.offer(board.tip(), old.clone()), Offered::Published, "the same as before, yet news");
        assert!(templates.has_changed().unwrap());
        assert_eq!(board.tip(), Some(old.tip.prev_hash));
    }

    #[test]
    fn what_is_shown_gets_a_number_of_its_own_and_takes_back_an_announced_tip() {
        let board = Board::new("test".to_owned());
        let (old, new) = (devnet(1).template(NOW), devnet(2).template(NOW));
        assert!(board.show(&old, TemplateId(71)));
        assert!(!board.show(&old, TemplateId(72)), "no news");
        assert_eq!(board.templates().borrow().as_ref().unwrap().id, TemplateId(71));
        assert!(board.announce(board.tip(), new.tip));
        assert!(board.show(&old, TemplateId(72)), "the same as before, but the tip is back");
        assert_eq!(board.tip(), Some(old.tip.prev_hash));
        assert!(board.show(&new, TemplateId(73)));
        assert_eq!((board.tip(), board.template_tip()), (Some(new.tip.prev_hash), Some(new.tip.prev_hash)));
    }

    #[test]
    fn the_same_block_from_another_node_is_no_other_tip() {
        let board = Board::new("test".to_owned());
        let first = devnet(1).template(NOW);
        board.show(&first, TemplateId(1));
        let mut tips = board.tips();
        tips.mark_unchanged();
        let mut other = first.clone();
        other.tip.min_ntime += 600;
        assert!(!board.show(&other, TemplateId(2)), "the same work, whatever the node's clock says");
        other.coinbase_value = Sats::from_sats(1);
        other.tip.min_ntime = first.tip.min_ntime - 1;
        assert!(board.show(&other, TemplateId(2)));
        assert!(!tips.has_changed().unwrap());
        assert_eq!(board.templates().borrow().as_ref().unwrap().tip, first.tip);
    }

    #[test]
    fn health_changes_when_there_is_news() {
        let board = Board::new("test".to_owned());
        let mut health = board.health();
        let mut news = |what: &dyn Fn(&Board)| {
            what(&board);
            let changed = health.has_changed().unwrap();
            health.mark_unchanged();
            changed
        };
        let syncing = |board: &Board| board.down(NodeError::Syncing);
        let lonely = |board: &Board| board.down(NodeError::NoPeers);
        assert_eq!([news(&syncing), news(&syncing), news(&lonely)], [true, false, true]);
        assert_eq!([news(&Board::up), news(&Board::up), news(&lonely)], [true, false, true]);
    }
}
