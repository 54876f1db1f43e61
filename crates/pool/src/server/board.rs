//! The job board: templates in, work for all connections out.

use std::sync::Arc;

use adit_net::{Clock, Draining, Timer};
use adit_node::{Health, Node};
use adit_share::{Template, Tip};
use adit_units::Monotonic;
use bitcoin::BlockHash;
use tokio::sync::{broadcast, watch};

use super::event::Event;
use super::metrics::Gauges;
use super::{Failure, fail};
use crate::{JobFactory, Work, WorkError};

/// Turns templates into work and puts it up where every connection sees it.
#[derive(Debug)]
pub(super) struct Board {
    node: Node,
    factory: JobFactory,
    work: watch::Sender<Option<Arc<Work>>>,
    gauges: Arc<Gauges>,
    events: broadcast::Sender<Event>,
    /// The template that was looked at last.
    latest: Option<Arc<Template>>,
}

impl Board {
    /// A board that is empty until it runs; `work` is where connections look.
    pub(super) fn new(
        node: Node,
        factory: JobFactory,
        work: watch::Sender<Option<Arc<Work>>>,
        gauges: Arc<Gauges>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self { node, factory, work, gauges, events, latest: None }
    }

    /// Works until the server drains or job numbers run out.
    pub(super) async fn run(mut self, failure: watch::Sender<Option<Failure>>, mut draining: Draining) {
        let (mut templates, mut tips, mut health) =
            (self.node.templates(), self.node.tips(), self.node.health());
        let mut timer = Timer::default();
        loop {
            // The tip first: templates are never behind it, so one that is read after it is not taken for old.
            let tip = *tips.borrow_and_update();
            let template = templates.borrow_and_update().clone();
            for made in [self.make(template), self.bridge(tip.as_ref())] {
                match made {
                    Ok(Some(work)) => self.put_up(work),
                    Ok(None) => {}
                    Err(WorkError::NumbersExhausted) => return fail(&failure, Failure::JobsExhausted),
                    Err(error) => tracing::error!(%error, "no work from this template"),
                }
            }
            timer.set(renewal_due(&health.borrow_and_update(), &self.factory));
            tokio::select! {
                biased;
                () = draining.begun() => return,
                // Held by the node like the templates, whose end is told below.
                Ok(()) = tips.changed() => {}
                Ok(()) = health.changed() => {}
                changed = templates.changed() => if changed.is_err() {
                    // Cannot happen while the node is held; work that is up stays up.
                    return tracing::error!("template source ended");
                },
                () = timer.fired() => {}
            }
        }
    }

    /// Makes work of a template that is new, or renews work that has become old.
    fn make(&mut self, template: Option<Arc<Template>>) -> Result<Option<Arc<Work>>, WorkError> {
        let (now, known) = (Clock.now(), self.latest.as_ref());
        if let Some(template) = template.filter(|new| !known.is_some_and(|known| Arc::ptr_eq(known, new))) {
            self.gauges.template(&template.tip, now.monotonic);
            self.latest = Some(Arc::clone(&template));
            return self.factory.handle_template(&template, now);
        }
        match renewal_due(&self.node.health().borrow(), &self.factory) {
            Some(_) => self.factory.handle_timeout(now),
            None => Ok(None),
        }
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

    fn put_up(&self, work: Arc<Work>) {
        let (job, tip) = (work.id().0, *work.tip());
        self.gauges.work(&work, Clock.monotonic());
        let before: Option<BlockHash> = self.work.borrow().as_ref().map(|work| work.tip().prev_hash);
        self.work.send_replace(Some(work));
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

#[cfg(test)]
mod tests {
    use adit_node::{Devnet, DevnetConfig, NodeError};
    use adit_units::Now;
    use bitcoin::ScriptBuf;
    use bitcoin::opcodes::all::OP_PUSHNUM_1;

    use super::*;
    use crate::PoolConfig;

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
}
