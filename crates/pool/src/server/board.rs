//! The job board: templates in, work for all connections out.

use std::sync::Arc;

use adit_net::{Clock, Draining, Timer};
use adit_node::{Health, Node};
use adit_share::Template;
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
        let (mut templates, mut timer) = (self.node.templates(), Timer::default());
        loop {
            let template = templates.borrow_and_update().clone();
            match self.make(template) {
                Ok(Some(work)) => self.put_up(work),
                Ok(None) => {}
                Err(WorkError::NumbersExhausted) => return fail(&failure, Failure::JobsExhausted),
                Err(error) => tracing::error!(%error, "no work from this template"),
            }
            timer.set(self.factory.poll_timeout());
            tokio::select! {
                biased;
                () = draining.begun() => return,
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
        // While no templates come, the last one may be out of date; what miners have already is no worse than the same anew.
        match &*self.node.health().borrow() {
            Health::Down(_) => Ok(None),
            Health::Up | Health::Starting => self.factory.handle_timeout(now),
        }
    }

    fn put_up(&self, work: Arc<Work>) {
        let (job, tip) = (work.id().0, *work.tip());
        let before: Option<BlockHash> = self.work.borrow().as_ref().map(|work| work.tip().prev_hash);
        self.work.send_replace(Some(work));
        tracing::debug!(job, height = tip.height.0, "work");
        if before != Some(tip.prev_hash) {
            // Nobody has to be listening.
            let _ = self.events.send(Event::NewTip { height: tip.height, prev_hash: tip.prev_hash });
        }
    }
}
