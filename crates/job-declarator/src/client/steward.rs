//! Between the pool server below and the links above: whose work is done, and who hears of it.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::{ExtranonceBase, ShareKind, WorkerName};
use adit_net::{Clock, OsRng, Timer};
use adit_pool::server::{Posted, ServerHandle};
use adit_pool::{PoolConfig, RelayedShare, Work};
use adit_units::{JobId, Monotonic};
use rand_core::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{interval_at, timeout};

use super::link::{Command, Destination, Link, LinkError, LinkId, Report};
use super::shell::{Activity, JdcConfig, UpstreamStatus};
use super::{Event, Ladder, Proposal, Share, Standing, Terms};

/// How long an upstream that is no longer used may still answer for the shares that it has.
const FAREWELL: Duration = Duration::from_secs(10);

/// How long an upstream may take to hear what was passed on last, when all ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often the upstream is told how fast the miners are, if that has changed.
const HASHRATE_INTERVAL: Duration = Duration::from_secs(10);

/// Jobs of which it is known whose they are.
const JOBS_MAX: usize = 64;

/// How often an upstream may send us on.
const HOPS_MAX: u8 = 3;

/// Reports of links that may wait.
pub(super) const REPORTS_MAX: usize = 256;

/// An attempt that is under way, in use, or about to be let go.
#[derive(Debug)]
struct Attempt {
    link: Link,
    upstream: usize,
    terms: Option<Terms>,
    /// Until when it is kept, where another one is used.
    until: Option<Monotonic>,
    /// Where it goes, and how often the upstream has sent us on from there.
    to: Destination,
    hops: u8,
}

/// Holds everything together.
pub(super) struct Steward {
    pub(super) config: Arc<JdcConfig>,
    pub(super) server: ServerHandle,
    pub(super) works: watch::Receiver<Option<Posted>>,
    pub(super) shares: mpsc::Receiver<RelayedShare>,
    pub(super) activity: watch::Sender<Activity>,
    ladder: Ladder,
    attempts: Vec<Attempt>,
    /// The link whose terms the rules of the server below are made from.
    used: Option<LinkId>,
    last_link: LinkId,
    /// Whose each job is, oldest first.
    jobs: VecDeque<(JobId, LinkId)>,
    reports: mpsc::Receiver<(LinkId, Report)>,
    reporter: mpsc::Sender<(LinkId, Report)>,
}

impl Steward {
    pub(super) fn new(
        config: Arc<JdcConfig>,
        server: ServerHandle,
        shares: mpsc::Receiver<RelayedShare>,
        activity: watch::Sender<Activity>,
    ) -> Self {
        let ladder = Ladder::new(config.upstreams.len(), Clock.monotonic());
        let (reporter, reports) = mpsc::channel(REPORTS_MAX);
        Self {
            config,
            works: server.works(),
            server,
            shares,
            activity,
            ladder,
            attempts: Vec::new(),
            used: None,
            last_link: 0,
            jobs: VecDeque::new(),
            reports,
            reporter,
        }
    }

    /// Serves until the server below has ended and its last shares are passed on.
    pub(super) async fn run(mut self) {
        let mut timer = Timer::default();
        let mut hashrate =
            interval_at(Clock.instant(Clock.monotonic() + HASHRATE_INTERVAL), HASHRATE_INTERVAL);
        loop {
            self.act();
            timer.set(self.poll_timeout());
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
        let links = core::mem::take(&mut self.attempts);
        for Attempt { link, .. } in links {
            // One that has much to report has nobody to report it to any more.
            if timeout(LAST_WORDS, link.finish()).await.is_err() {
                tracing::warn!("an upstream did not take its last shares in time");
            }
        }
    }

    fn poll_timeout(&self) -> Option<Monotonic> {
        let farewells = self.attempts.iter().filter_map(|attempt| attempt.until);
        self.ladder.poll_timeout().into_iter().chain(farewells).min()
    }

    /// Does what is due: attempts to begin, links to let go, miners to be left to themselves.
    fn act(&mut self) {
        let now = Clock.monotonic();
        self.attempts.retain(|attempt| attempt.until.is_none_or(|until| until > now));
        while let Some(upstream) = self.ladder.poll_attempt(now) {
            let Some(to) = self.config.destination(upstream) else { continue };
            self.begin(upstream, to, 0);
        }
        if self.ladder.handle_timeout(now) {
            tracing::warn!("no upstream can be had: miners work for the solo address until one comes back");
            self.used = None;
            self.set_rules(self.config.solo.clone());
            self.note(None);
        }
    }

    fn begin(&mut self, upstream: usize, to: Destination, hops: u8) {
        self.last_link += 1;
        tracing::debug!(upstream, pool = %to.pool, declarator = %to.declarator, "setting up");
        let link = Link::begin(self.last_link, to.clone(), self.reporter.clone());
        self.attempts.push(Attempt { link, upstream, terms: None, until: None, to, hops });
    }

    fn handle_report(&mut self, link: LinkId, report: Report) {
        match report {
            Report::Event(event) => self.handle_event(link, event),
            Report::Ended { lost, reason } => self.handle_end(link, lost, &reason),
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

    /// An attempt has come through: it is used if it is better than what there is.
    fn handle_ready(&mut self, link: LinkId, terms: Terms) {
        let now = Clock.monotonic();
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.link.id == link) else { return };
        let upstream = attempt.upstream;
        // Where an upstream has sent us on, the new link takes the old one's place.
        let follows = self.used_upstream() == Some(upstream);
        if !follows && !self.ladder.handle_ready(upstream, now) {
            self.attempts.retain(|attempt| attempt.link.id != link);
            return;
        }
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.link.id == link) {
            attempt.terms = Some(terms.clone());
        }
        if let Some(former) = self.used.replace(link)
            && let Some(former) = self.attempts.iter_mut().find(|attempt| attempt.link.id == former)
        {
            former.until = Some(now + FAREWELL);
        }
        self.use_terms(upstream, &terms);
    }

    /// The terms of an upstream have changed.
    fn handle_terms(&mut self, link: LinkId, terms: Terms) {
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.link.id == link) else { return };
        attempt.terms = Some(terms.clone());
        let upstream = attempt.upstream;
        if self.used == Some(link) {
            self.use_terms(upstream, &terms);
        }
    }

    /// Makes all jobs to come by these terms.
    fn use_terms(&mut self, upstream: usize, terms: &Terms) {
        let Some(rules) = self.rules_for(terms) else {
            tracing::error!(upstream, "the upstream leaves too little extranonce for the miners below");
            return;
        };
        let name = self.config.upstreams.get(upstream).map(|target| target.pool.to_string());
        tracing::info!(upstream, pool = name, "miners work for this upstream");
        self.set_rules(rules);
        self.note(Some(upstream));
        self.propose();
    }

    /// The rules of the server below under these terms.
    fn rules_for(&self, terms: &Terms) -> Option<PoolConfig> {
        let (payout, further) = terms.outputs.split_first()?;
        let full_len = terms.extranonce_prefix.len() + terms.extranonce_size;
        let extranonce =
            ExtranonceBase::new(&terms.extranonce_prefix, full_len, self.config.rollable_len).ok()?;
        Some(PoolConfig {
            payout_script: payout.script_pubkey.clone(),
            further_outputs: further.to_vec(),
            extranonce,
            ..self.config.solo.clone()
        })
    }

    /// The place of the upstream that is used.
    fn used_upstream(&self) -> Option<usize> {
        let used = self.attempts.iter().find(|attempt| Some(attempt.link.id) == self.used);
        used.map(|attempt| attempt.upstream)
    }

    fn set_rules(&self, rules: PoolConfig) {
        if let Err(error) = self.server.set_rules(rules) {
            tracing::error!(%error, "the upstream's terms make no rules");
        }
    }

    /// A link has ended.
    fn handle_end(&mut self, link: LinkId, lost: u64, reason: &LinkError) {
        self.activity.send_modify(|activity| activity.shares_lost += lost);
        let Some(place) = self.attempts.iter().position(|attempt| attempt.link.id == link) else { return };
        let attempt = self.attempts.swap_remove(place);
        let was_used = self.used == Some(link);
        if !was_used && (attempt.until.is_some() || self.used_upstream() == Some(attempt.upstream)) {
            return;
        }
        let mut jitter = [0];
        OsRng.fill_bytes(&mut jitter);
        let [jitter] = jitter;
        if was_used {
            tracing::warn!(upstream = attempt.upstream, %reason, shares_lost = lost, "upstream failed");
            self.used = None;
        } else {
            tracing::debug!(upstream = attempt.upstream, %reason, "upstream cannot be set up");
        }
        self.activity.send_modify(|activity| activity.last_error = Some(reason.to_string()));
        self.ladder.handle_failed(attempt.upstream, Clock.monotonic(), jitter);
    }

    /// An upstream wants us elsewhere (spec 3.6.5): a link to there is set up, and if this one is used, it is until then.
    fn redirect(&mut self, link: LinkId, server: super::Server, host: &str, port: u16) {
        let Some(place) = self.attempts.iter().position(|attempt| attempt.link.id == link) else { return };
        let Some(attempt) = self.attempts.get(place) else { return };
        let (upstream, hops, mut to) = (attempt.upstream, attempt.hops + 1, attempt.to.clone());
        let url = match server {
            super::Server::Pool => &mut to.pool,
            super::Server::Declarator => &mut to.declarator,
        };
        match url.redirected(host, port) {
            Ok(elsewhere) if hops <= HOPS_MAX => *url = elsewhere,
            Ok(_) => return tracing::debug!(host, port, "redirection ignored, there were many"),
            Err(error) => return tracing::debug!(host, port, %error, "redirection ignored"),
        }
        if self.used != Some(link) {
            self.attempts.swap_remove(place);
        }
        self.begin(upstream, to, hops);
    }

    /// Puts the job that the miners have now to whoever it was made for.
    fn propose(&mut self) {
        let Some(Posted { work, .. }) = self.works.borrow_and_update().clone() else { return };
        let Some(link) = self.used else { return };
        if self.jobs.iter().any(|&(job, _)| job == work.id()) {
            return;
        }
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.link.id == link) else { return };
        let is_theirs = attempt.terms.as_ref().is_some_and(|terms| keeps(&work, terms));
        match Proposal::new(work.job(), work.template()) {
            Ok(proposal) if is_theirs => {
                if !attempt.link.tell(Command::Propose(Arc::new(proposal))) {
                    tracing::warn!(job = work.id().0, "the upstream is too far behind to hear of a job");
                }
                if self.jobs.len() == JOBS_MAX {
                    self.jobs.pop_front();
                }
                self.jobs.push_back((work.id(), link));
            }
            Ok(_) => tracing::debug!(job = work.id().0, "made by the rules of before"),
            Err(error) => tracing::error!(job = work.id().0, %error, "the job cannot be declared"),
        }
    }

    /// Passes a share on to whoever its job was put to. Those of jobs for the solo address are nobody's affair.
    fn pass_on(&self, relayed: &RelayedShare) {
        let job = relayed.work.id();
        let Some(&(_, link)) = self.jobs.iter().rfind(|&&(known, _)| known == job) else { return };
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.link.id == link) else {
            return self.activity.send_modify(|activity| activity.shares_lost += 1);
        };
        if !attempt.link.tell(Command::Share(share(relayed))) {
            self.activity.send_modify(|activity| activity.shares_lost += 1);
        }
    }

    fn tell_hashrate(&self) {
        let used = self.attempts.iter().find(|attempt| Some(attempt.link.id) == self.used);
        if let Some(attempt) = used {
            attempt.link.tell(Command::Hashrate(self.server.metrics().hashrate));
        }
    }

    fn note(&self, upstream: Option<usize>) {
        let standing = match (upstream, self.ladder.standing()) {
            (Some(upstream), _) => UpstreamStatus::Using(upstream),
            (None, Standing::Stranded { .. }) => UpstreamStatus::Stranded,
            (None, _) => UpstreamStatus::Solo,
        };
        self.activity.send_modify(|activity| activity.upstream = standing);
    }
}

/// Whether a job leaves room for the extranonces of these terms. What it pays is looked at when it is proposed.
fn keeps(work: &Work, terms: &Terms) -> bool {
    let base = work.extranonce();
    base.as_bytes() == &*terms.extranonce_prefix
        && base.full_len() == terms.extranonce_prefix.len() + terms.extranonce_size
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
