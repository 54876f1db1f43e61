//! The job board: templates in, work for all connections out.

use core::time::Duration;
use std::sync::Arc;

use adit_net::{Bulletin, Clock, Draining, Timer};
use adit_node::{Health, Node};
use adit_share::{Template, Tip};
use adit_units::{Monotonic, Now, UnixTime};
use bitcoin::BlockHash;
use tokio::sync::{Notify, broadcast, watch};

use super::event::Event;
use super::metrics::Gauges;
use super::outage::{Outage, Supply};
use super::{Failure, fail};
use crate::{JobFactory, PoolConfig, Work, WorkError};

/// What connections see on the board. Work and rules travel as one value, so that nobody waits for two.
#[derive(Clone, Debug)]
pub struct Posted {
    /// What is mined.
    pub work: Arc<Work>,
    /// What holds for connections; not always what the work was made by.
    pub rules: Arc<PoolConfig>,
}

/// Turns templates into work and puts it up where every connection sees it.
#[derive(Debug)]
pub(super) struct Board {
    node: Node,
    factory: JobFactory,
    /// The pool's rules, which change when the operator says so.
    rules: watch::Receiver<Arc<PoolConfig>>,
    posted: Bulletin<Option<Posted>>,
    gauges: Arc<Gauges>,
    events: broadcast::Sender<Event>,
    /// The template that was looked at last.
    latest: Option<Arc<Template>>,
    /// How long no templates have come.
    outage: Outage,
    supply: watch::Sender<Supply>,
    /// Connections whose miners wait for the next job.
    wishes: Arc<Notify>,
    /// What was made for them alone.
    aside: watch::Sender<Option<Arc<Work>>>,
    /// Why there is no work where there should be, once that is told.
    fault: Option<WorkError>,
    /// When it was last told that the node's clock and this host's differ.
    clock_told: Option<Monotonic>,
}

/// By how many seconds the node's clock and this host's may differ before that is told.
const CLOCK_DIFFERENCE_MAX: i64 = 60;

/// How often that is told at most.
const CLOCK_WARN_INTERVAL: Duration = Duration::from_secs(60);

impl Board {
    /// A board that is empty until it runs.
    pub(super) fn new(
        node: Node,
        factory: JobFactory,
        rules: watch::Receiver<Arc<PoolConfig>>,
        gauges: Arc<Gauges>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self {
            node,
            factory,
            rules,
            posted: Bulletin::new(None),
            gauges,
            events,
            latest: None,
            outage: Outage::default(),
            supply: watch::Sender::default(),
            wishes: Arc::default(),
            aside: watch::Sender::default(),
            fault: None,
            clock_told: None,
        }
    }

    /// Where connections look, and where other rules are put up.
    pub(super) fn posted(&self) -> Bulletin<Option<Posted>> {
        self.posted.clone()
    }

    /// Where connections say that their miners wait for the next job.
    pub(super) fn wishes(&self) -> Arc<Notify> {
        Arc::clone(&self.wishes)
    }

    /// Where those look; work that is for everybody does not come here.
    pub(super) fn aside(&self) -> watch::Receiver<Option<Arc<Work>>> {
        self.aside.subscribe()
    }

    /// Whether templates come, as far as miners are concerned.
    pub(super) fn supply(&self) -> watch::Receiver<Supply> {
        self.supply.subscribe()
    }

    /// Works until the server drains or job numbers run out.
    pub(super) async fn run(mut self, failure: watch::Sender<Option<Failure>>, mut draining: Draining) {
        let (mut templates, mut tips, mut health) =
            (self.node.templates(), self.node.tips(), self.node.health());
        let (mut rules, mut timer) = (self.rules.clone(), Timer::default());
        loop {
            self.take_rules(&mut rules);
            // The tip first: templates are never behind it, so one that is read after it is not taken for old.
            let tip = *tips.borrow_and_update();
            let template = templates.borrow_and_update().clone();
            for made in [self.make(template), self.bridge(tip.as_ref())] {
                match made {
                    Ok(Some(work)) => self.put_up(work),
                    Ok(None) => {}
                    Err(WorkError::NumbersExhausted) => return fail(&failure, Failure::JobsExhausted),
                    Err(fault) => self.tell(fault),
                }
            }
            let is_down = matches!(*health.borrow_and_update(), Health::Down(_));
            let change_due = self.see_to_supply(is_down, Clock.monotonic());
            let renewal_due = renewal_due(&health.borrow(), &self.factory);
            timer.set(renewal_due.into_iter().chain(change_due).min());
            tokio::select! {
                biased;
                () = draining.begun() => return,
                // Held by the node like the templates, whose end is told below.
                Ok(()) = tips.changed() => {}
                Ok(()) = health.changed() => {}
                Ok(()) = rules.changed() => {}
                changed = templates.changed() => if changed.is_err() {
                    // Cannot happen while the node is held; work that is up stays up.
                    return tracing::error!("template source ended");
                },
                () = self.wishes.notified() => self.factory.handle_wish(Clock.monotonic()),
                () = timer.fired() => {}
            }
        }
    }

    /// Makes all work to come by the rules as they are now. Those that stay the same change nothing.
    fn take_rules(&mut self, rules: &mut watch::Receiver<Arc<PoolConfig>>) {
        // Not only if they have changed since they were last seen: whoever waits for that has seen them then.
        self.factory.handle_config(&rules.borrow_and_update());
    }

    /// Makes work of a template that is new, or renews work that has become old.
    fn make(&mut self, template: Option<Arc<Template>>) -> Result<Option<Arc<Work>>, WorkError> {
        let (now, known) = (Clock.now(), self.latest.as_ref());
        if let Some(template) = template.filter(|new| !known.is_some_and(|known| Arc::ptr_eq(known, new))) {
            self.gauges.template(&template.tip, now.monotonic);
            self.latest = Some(Arc::clone(&template));
            self.compare_clocks(&template, now);
            return self.factory.handle_template(&template, now);
        }
        match renewal_due(&self.node.health().borrow(), &self.factory) {
            Some(_) => self.factory.handle_timeout(now),
            None => Ok(None),
        }
    }

    /// Tells miners and the operator how long the node has been down; the answer is when to look again.
    fn see_to_supply(&mut self, is_down: bool, now: Monotonic) -> Option<Monotonic> {
        self.outage.note(is_down, now);
        let supply = self.outage.supply(now);
        self.supply.send_if_modified(|known| core::mem::replace(known, supply) != supply);
        if let Some(down) = self.outage.poll_warning(now) {
            let template_age = self.gauges.template_age(now).map(|age| age.as_secs());
            tracing::warn!(
                down_secs = down.as_secs(),
                template_age_secs = template_age,
                "no templates come from the node"
            );
        }
        self.outage.poll_timeout(now)
    }

    /// Tells the operator when a clock is wrong; work goes by the node's.
    fn compare_clocks(&mut self, template: &Template, now: Now) {
        let told = self.clock_told.is_some_and(|told| now.monotonic - told < CLOCK_WARN_INTERVAL);
        let Some(seconds) = clock_difference(template, now.unix).filter(|_| !told) else { return };
        self.clock_told = Some(now.monotonic);
        tracing::warn!(
            seconds_ahead = seconds,
            "the node's clock and this host's differ; miners and certificates go by the one, blocks by the other, so set both right"
        );
    }

    /// Makes work of a tip whose template has not come yet.
    fn bridge(&mut self, tip: Option<&Tip>) -> Result<Option<Arc<Work>>, WorkError> {
        let Some(tip) = tip else { return Ok(None) };
        let work = self.factory.handle_tip(tip, Clock.now())?;
        if work.is_some() {
            tracing::info!(height = tip.height.0, prev_hash = %tip.prev_hash, "empty block until the template comes");
        }
        Ok(work)
    }

    /// Says why no work can be made, once for each reason until there is work again: it is tried again and again.
    fn tell(&mut self, fault: WorkError) {
        if self.fault.as_ref() != Some(&fault) {
            tracing::error!(error = %fault, "no work from this template");
            self.fault = Some(fault);
        }
    }

    fn put_up(&mut self, work: Arc<Work>) {
        self.fault = None;
        if work.is_aside() {
            tracing::debug!(job = work.id().0, "work for those who wait for it");
            self.aside.send_replace(Some(work));
            return;
        }
        let (job, tip) = (work.id().0, *work.tip());
        self.gauges.work(&work, Clock.monotonic());
        let mut before: Option<BlockHash> = None;
        self.posted.modify(|posted| {
            // Read while nobody else can post, or the rules of before a reload could be posted after it.
            let rules = Arc::clone(&self.rules.borrow());
            before = posted.replace(Posted { work, rules }).map(|before| before.work.tip().prev_hash);
        });
        tracing::debug!(job, height = tip.height.0, "work");
        if before != Some(tip.prev_hash) {
            // Nobody has to be listening.
            let _ = self.events.send(Event::NewTip { height: tip.height, prev_hash: tip.prev_hash });
        }
    }
}

/// When the present work is to be made anew.
///
/// Never while no templates come: the last one may be out of date, and what miners have already is no worse than the same anew.
fn renewal_due(health: &Health, factory: &JobFactory) -> Option<Monotonic> {
    match health {
        Health::Down(_) => None,
        Health::Up | Health::Starting => factory.poll_timeout(),
    }
}

/// By how many seconds the node's clock is ahead of ours (behind, if negative), where it is too much.
///
/// A template whose time is the earliest that the chain allows says nothing about the node's clock.
fn clock_difference(template: &Template, now: UnixTime) -> Option<i64> {
    let seconds = i64::from(template.time) - i64::from(now.to_secs());
    let is_of_the_clock = template.time > template.tip.min_ntime;
    (is_of_the_clock && seconds.abs() > CLOCK_DIFFERENCE_MAX).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use adit_node::{Devnet, DevnetConfig, NodeError};
    use bitcoin::ScriptBuf;
    use bitcoin::opcodes::all::OP_PUSHNUM_1;

    use super::*;

    #[test]
    fn a_node_that_is_down_leaves_no_deadline_that_is_always_due() {
        let script = ScriptBuf::builder().push_opcode(OP_PUSHNUM_1).into_script();
        let mut factory = JobFactory::new(&PoolConfig::new(0, script), 0).unwrap();
        let template = Devnet::new(&DevnetConfig::new([7; 32]), Now::default()).template(Now::default());
        factory.handle_template(&Arc::new(template), Now::default()).unwrap();
        assert!(factory.poll_timeout().is_some());
        assert_eq!(renewal_due(&Health::Up, &factory), factory.poll_timeout());
        let down = Health::Down(Arc::new(NodeError::Syncing));
        assert_eq!(renewal_due(&down, &factory), None);
    }

    #[test]
    fn a_clock_that_is_more_than_a_minute_off_is_told() {
        let at = |secs| Now { unix: UnixTime::from_secs(secs), ..Now::default() };
        // The chain is a while older, or it would be the one to say what time the template has.
        let started = at(1_799_990_000);
        let mut devnet = Devnet::new(&DevnetConfig::new([7; 32]), started);
        let template = devnet.template(started.after(Duration::from_secs(10_000)));
        let told = |secs| clock_difference(&template, at(secs).unix);
        assert_eq!(template.time, 1_800_000_000, "the chain in memory goes by its clock");
        assert_eq!([told(1_799_999_940), told(1_800_000_000), told(1_800_000_060)], [None; 3]);
        assert_eq!(told(1_799_999_939), Some(61));
        assert_eq!(told(1_800_007_200), Some(-7_200));
        let mut forced = template.clone();
        forced.time = template.tip.min_ntime;
        assert_eq!(clock_difference(&forced, at(5).unix), None, "that is the chain's time, not the node's");
    }
}
