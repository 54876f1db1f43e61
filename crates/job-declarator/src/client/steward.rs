//! Between the pool server below and the links above: whose work is done, and who hears of it.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::{Credit, ExtranonceBase, Failed, LinkId, Roster, ShareKind, Standing, WorkerName};
use adit_net::{Clock, OsRng, Timer};
use adit_node::{Health, Node};
use adit_pool::server::{Posted, ReloadError, ServerHandle};
use adit_pool::{PoolConfig, PoolConfigError, RelayedShare, Work};
use adit_units::JobId;
use rand_core::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio::time::interval_at;

use super::link::{self, Command, Destination, Link, LinkError, Report};
use super::shell::{Activity, JdcConfig, UpstreamStatus};
use super::{Event, Proposal, Server, Share, Terms, UpstreamError};

/// How long an upstream may take to hear what was passed on last, when all ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often the upstream is told how fast the miners are, if that has changed.
const HASHRATE_INTERVAL: Duration = Duration::from_secs(10);

/// Jobs of which it is known whose they are.
const JOBS_MAX: usize = 64;

/// Reports of links that may wait.
const REPORTS_MAX: usize = 256;

/// A link, and where it goes.
#[derive(Debug)]
struct Line {
    link: Link,
    to: Destination,
}

/// Holds everything together.
pub(super) struct Steward {
    config: Arc<JdcConfig>,
    server: ServerHandle,
    /// The miners' own.
    node: Node,
    works: watch::Receiver<Option<Posted>>,
    shares: mpsc::Receiver<RelayedShare>,
    activity: watch::Sender<Activity>,
    roster: Roster<Line, Terms>,
    /// Whose each job is, oldest first.
    jobs: VecDeque<(JobId, LinkId)>,
    reports: mpsc::Receiver<(LinkId, Report)>,
    reporter: mpsc::Sender<(LinkId, Report)>,
}

impl Steward {
    pub(super) fn new(
        config: Arc<JdcConfig>,
        server: ServerHandle,
        node: Node,
        shares: mpsc::Receiver<RelayedShare>,
        activity: watch::Sender<Activity>,
    ) -> Self {
        let roster = Roster::new(config.upstreams.len(), Clock.monotonic());
        let (reporter, reports) = mpsc::channel(REPORTS_MAX);
        let (works, jobs) = (server.works(), VecDeque::new());
        Self { config, server, node, works, shares, activity, roster, jobs, reports, reporter }
    }

    /// Serves until the server below has ended and its last shares are passed on.
    pub(super) async fn run(mut self) {
        let mut timer = Timer::default();
        let mut hashrate =
            interval_at(Clock.instant(Clock.monotonic() + HASHRATE_INTERVAL), HASHRATE_INTERVAL);
        loop {
            self.act();
            timer.set(self.roster.poll_timeout());
            tokio::select! {
                biased;
                // Jobs before their shares, and shares before anything that might end a link.
                Ok(()) = self.works.changed() => self.propose(),
                share = self.shares.recv() => match share {
                    Some(share) => self.pass_on(&share),
                    None => break,
                },
                Some((link, report)) = self.reports.recv() => self.handle_report(link, report),
                _ = hashrate.tick() => self.tell_hashrate(),
                () = timer.fired() => {}
            }
        }
        for Line { link, .. } in self.roster.into_links() {
            // One that has much to report has nobody to report it to any more.
            if !link.finish(LAST_WORDS).await {
                tracing::warn!("an upstream did not take its last shares in time");
            }
        }
    }

    /// Does what is due: attempts to begin, links to let go, miners to be left to themselves.
    fn act(&mut self) {
        let now = Clock.monotonic();
        let is_supplied = self.works.borrow().is_some() && matches!(*self.node.health().borrow(), Health::Up);
        if let Some(link) = self.roster.poll_jobless(is_supplied, now) {
            self.leave(link, &LinkError::Jobless);
        }
        let gives_up = self.roster.handle_timeout(now);
        while let Some(upstream) = self.roster.poll_attempt(now) {
            let Some(to) = self.config.destination(upstream) else { continue };
            self.begin((upstream, 0), to);
        }
        if gives_up {
            tracing::warn!("no upstream can be had: miners work for the solo address until one comes back");
            if let Err(error) = self.server.set_rules(self.config.solo.clone()) {
                tracing::error!(%error, "the miners' own rules contradict each other");
            }
            self.note(None);
        }
    }

    fn begin(&mut self, (upstream, hops): (usize, u8), mut to: Destination) {
        // A pool remembers every share, so those of a channel that was opened for a far slower miner are soon more than it takes.
        let config = Arc::make_mut(&mut to.upstream);
        config.nominal_hashrate = config.nominal_hashrate.max(self.server.metrics().hashrate);
        tracing::debug!(upstream, pool = %to.pool, declarator = %to.declarator, "setting up");
        let reporter = self.reporter.clone();
        self.roster.begin((upstream, hops), |id| Line { link: link::begin(id, to.clone(), reporter), to });
    }

    fn handle_report(&mut self, link: LinkId, report: Report) {
        match report {
            Report::Event(event) => self.handle_event(link, event),
            Report::Ended { lost, reason } => {
                self.lose(lost);
                self.leave(link, &reason);
            }
        }
    }

    fn handle_event(&mut self, link: LinkId, event: Event) {
        match event {
            Event::Ready(terms) => self.handle_ready(link, terms),
            Event::Changed(terms) => self.handle_terms(link, terms),
            Event::JobAccepted(job) => {
                tracing::debug!(job = job.0, "job accepted upstream");
                self.activity.send_modify(|activity| activity.jobs_accepted += 1);
            }
            Event::SharesAccepted(count) => {
                self.activity.send_modify(|activity| activity.shares_accepted += u64::from(count));
            }
            Event::ShareRefused(refusal) => {
                tracing::debug!(job = ?refusal.job, code = refusal.code, "share refused upstream");
                self.activity.send_modify(|activity| activity.shares_refused += 1);
            }
            Event::Redirected { server, host, port } => self.redirect(link, server, &host, port),
        }
    }

    /// An attempt has come through: it is used if it is better than what there is, and if jobs can be made by its terms.
    fn handle_ready(&mut self, link: LinkId, terms: Terms) {
        match rules(&self.config, &terms) {
            Ok(rules) if self.roster.handle_ready(link, terms, Clock.monotonic()) => {
                self.use_rules(link, rules);
            }
            Ok(_) => {}
            Err(reason) => {
                // Both sides work as they should, so nothing else would tell what has to be changed.
                tracing::warn!(%reason, "an upstream cannot be used");
                self.leave(link, &reason);
            }
        }
    }

    /// The terms of an upstream have changed.
    fn handle_terms(&mut self, link: LinkId, terms: Terms) {
        let rules = rules(&self.config, &terms);
        if !self.roster.handle_terms(link, terms, Clock.monotonic()) {
            return;
        }
        match rules {
            Ok(rules) => self.use_rules(link, rules),
            Err(reason) => self.leave(link, &reason),
        }
    }

    /// Makes all jobs to come by the rules of this upstream.
    fn use_rules(&mut self, link: LinkId, rules: PoolConfig) {
        if let Err(error) = self.server.set_rules(rules) {
            return self.leave(link, &error.into());
        }
        let Some(used) = self.roster.used() else { return };
        tracing::info!(upstream = used.upstream, pool = %used.link.to.pool, "miners work for this upstream");
        self.note(Some(used.upstream));
        self.propose();
    }

    fn lose(&self, shares: u64) {
        self.activity.send_modify(|activity| activity.shares_lost += shares);
    }

    /// A link has ended, or is to end.
    fn leave(&mut self, link: LinkId, reason: &LinkError) {
        let mut jitter = [0];
        OsRng.fill_bytes(&mut jitter);
        let [jitter] = jitter;
        let Some(failed) = self.roster.handle_failed(link, Credit::Given, Clock.monotonic(), jitter) else {
            return;
        };
        let Failed { upstream, was_used } = failed;
        if was_used {
            tracing::warn!(upstream, %reason, "upstream failed");
        } else {
            tracing::debug!(upstream, %reason, "upstream cannot be set up");
        }
        self.activity.send_modify(|activity| activity.last_error = Some(reason.to_string()));
    }

    /// An upstream wants us elsewhere (spec 3.6.5): a link to there is set up, and if this one is used, it is until then.
    fn redirect(&mut self, link: LinkId, server: Server, host: &str, port: u16) {
        let Some(attempt) = self.roster.attempt(link) else { return };
        let to = match attempt.link.to.redirected(server, host, port) {
            Ok(to) => to,
            Err(error) => return tracing::debug!(host, port, %error, "redirection ignored"),
        };
        match self.roster.redirect(link, Clock.monotonic()) {
            Some(next) => self.begin(next, to),
            None => tracing::debug!(host, port, "redirection ignored, one is under way or there were many"),
        }
    }

    /// Puts the job that the miners have now to whoever it was made for.
    fn propose(&mut self) {
        let Some(Posted { work, .. }) = self.works.borrow_and_update().clone() else { return };
        let Some(used) = self.roster.used() else { return };
        let proposal = match Proposal::new(work.job(), work.template()) {
            Ok(proposal) => proposal,
            Err(error) => return tracing::error!(job = work.id().0, %error, "the job cannot be declared"),
        };
        if !used.terms.as_ref().is_some_and(|terms| keeps(&work, &proposal, terms)) {
            return tracing::debug!(job = work.id().0, "made by the rules of before");
        }
        let own = (work.id(), used.id);
        if self.jobs.contains(&own) {
            // Terms can change without any effect on what jobs are like.
            return self.roster.handle_job();
        }
        if !used.link.link.tell(Command::Propose(Arc::new(proposal))) {
            tracing::warn!(job = work.id().0, "the upstream is too far behind to hear of a job");
        }
        if self.jobs.len() == JOBS_MAX {
            self.jobs.pop_front();
        }
        self.jobs.push_back(own);
        self.roster.handle_job();
    }

    /// Passes a share on to whoever its job was put to last. Those of jobs for the solo address are nobody's affair.
    fn pass_on(&self, relayed: &RelayedShare) {
        let job = relayed.work.id();
        let Some(&(_, link)) = self.jobs.iter().rfind(|&&(known, _)| known == job) else { return };
        let attempt = self.roster.attempt(link);
        if !attempt.is_some_and(|attempt| attempt.link.link.tell(Command::Share(share(relayed)))) {
            self.lose(1);
        }
    }

    fn tell_hashrate(&self) {
        if let Some(used) = self.roster.used() {
            // What was not heard is told again.
            let _ = used.link.link.tell(Command::Hashrate(self.server.metrics().hashrate));
        }
    }

    fn note(&self, upstream: Option<usize>) {
        let standing = match (upstream, self.roster.standing()) {
            (Some(upstream), _) => UpstreamStatus::Using(upstream),
            (None, Standing::Stranded { .. }) => UpstreamStatus::Stranded,
            (None, _) => UpstreamStatus::Solo,
        };
        self.activity.send_modify(|activity| activity.upstream = standing);
    }
}

/// The rules of the server below under these terms.
fn rules(config: &JdcConfig, terms: &Terms) -> Result<PoolConfig, LinkError> {
    let (payout, further) = terms.outputs.split_first().ok_or(UpstreamError::Outputs)?;
    let full_len = terms.extranonce_prefix.len() + terms.extranonce_size;
    let rules = PoolConfig {
        payout_script: payout.script_pubkey.clone(),
        further_outputs: further.to_vec(),
        extranonce: ExtranonceBase::new(&terms.extranonce_prefix, full_len, config.rollable_len)?,
        ..config.solo.clone()
    };
    match rules.check() {
        Ok(()) => Ok(rules),
        Err(PoolConfigError::SignatureTooLong { len, extranonce_len, limit }) => {
            Err(LinkError::Signature { len, extranonce_len, limit })
        }
        Err(error) => Err(ReloadError::from(error).into()),
    }
}

/// Whether a job was made by these terms.
fn keeps(work: &Work, proposal: &Proposal, terms: &Terms) -> bool {
    let base = work.extranonce();
    base.as_bytes() == &*terms.extranonce_prefix
        && base.full_len() == terms.extranonce_prefix.len() + terms.extranonce_size
        && proposal.pays(&terms.outputs)
}

/// A share as the upstream sees it.
fn share(relayed: &RelayedShare) -> Share {
    // The device if the miner names one, else what its channel is called.
    let channel = || WorkerName::from_wire(relayed.user.as_str().as_bytes()).ok();
    Share {
        job: relayed.work.id(),
        version: relayed.version,
        ntime: relayed.ntime,
        nonce: relayed.nonce,
        extranonce: relayed.extranonce.as_bytes().into(),
        hash: relayed.hash,
        is_block: relayed.kind == ShareKind::Block,
        worker: relayed.worker.or_else(channel),
    }
}

#[cfg(test)]
mod tests;
