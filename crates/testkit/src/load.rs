//! A load generator for Stratum V2 pools: many connections, paced or saturating shares, and what they cost the server.
//!
//! Works against any pool by its URL. Where every hash is a share nothing is hashed; elsewhere real shares are looked for. A server
//! on this machine can be watched from outside ([`Watched`]), and one that the run started itself ([`OwnServer`]) makes new tips on
//! order. Latencies are measured in this process, so they contain what it takes to receive and open the frames.
//!
//! SV1 machines below a translator ([`sv1`]) are a crowd, too: what all connections do alike is in `crowd` and `pace`, what they count in
//! `tally`, and what their reports show alike in `figures`.

mod channel;
mod client;
mod crowd;
mod figures;
mod flooding;
mod histogram;
mod pace;
mod process;
mod report;
pub mod sv1;
mod tally;
mod visitors;

use core::num::NonZeroU32;
use core::time::Duration;

use adit_miner::{ChannelKind, Url};
use adit_net::Clock;
use adit_units::{Hashrate, Monotonic};
use tokio::time::sleep;

use client::Client;
use crowd::{Step, see_through};
pub use figures::{FanOut, ShareCounts};
use figures::{bytes_each, micros, nanos_each};
pub use flooding::{FloodResults, FloodRound, Flooding, ROUNDS};
pub use histogram::{Histogram, Quantiles};
use process::CpuMeter;
pub use process::{OwnServer, SERVER_PATIENCE, ServerError, Watched};
pub use report::{Asked, Handshakes, Memory, Opening, Report, ShareResults, TipResult, TipSummary, Visits};
use tally::Tally;
use visitors::Visitors;

/// Most connections that are held between handshake and setup to be measured; pools give a stranger only seconds.
const STRANGERS_MAX: usize = 2_000;

/// How long everybody together may take to connect and open channels.
const OPENING_PATIENCE: Duration = Duration::from_secs(120);

/// How long a server has to settle before its memory is read.
const SETTLING: Duration = Duration::from_secs(1);

/// Shares after which a connection with several channels rests: this pool remembers about a million of a tip for all of them together, and
/// refuses what comes then. A channel that is alone has its older ones forgotten with their jobs.
const SHARES_OF_A_TIP: u64 = 900_000;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pool.
    pub url: Url,
    /// Whether to connect although the URL carries no authority key.
    pub insecure: bool,
    /// Whom the pool is to credit.
    pub user: String,
    /// The speed that each channel claims; a low one gets easy shares.
    pub nominal_hashrate: Hashrate,
    /// How many connections.
    pub connections: usize,
    /// How many channels each opens, at least one.
    pub channels: usize,
    /// Of which kind.
    pub kind: ChannelKind,
    /// How many shares.
    pub shares: Shares,
    /// How many shares of a channel may wait for an answer when saturating.
    pub window: usize,
    /// How many shares of a channel the pool gathers before it acknowledges them, at least one. Those that are not enough for one more
    /// acknowledgement are never answered, and that is no fault.
    pub ack_batch: usize,
    /// How long shares are submitted.
    pub duration: Duration,
    /// How many new tips a server of our own makes meanwhile.
    pub tips: u32,
    /// Whether connections acknowledge tips late, so that the call that sends one does not do that work too.
    pub late_acks: bool,
    /// Whether this thread stays awake while a tip is under way and while there are shares, so that no call that sends has to wake it.
    pub awake: bool,
    /// How many others connect each second meanwhile, open their channels and leave.
    pub reconnects: Option<NonZeroU32>,
    /// How often everybody connects; all but the last time they only open channels and leave.
    pub generations: u32,
    /// What others do to the server meanwhile, by turns with quiet times.
    pub flooding: Option<Flooding>,
}

impl Plan {
    /// How many shares may be left without an answer for ever.
    const fn unanswered_for_ever(&self) -> u64 {
        (self.connections * self.channels) as u64 * self.ack_batch.saturating_sub(1) as u64
    }
}

/// How many shares are submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// None.
    None,
    /// That many a second, from all connections together.
    Paced(NonZeroU32),
    /// As many as the server acknowledges.
    Saturated,
}

/// Whom a run is about.
#[derive(Debug)]
pub enum Subject<'a> {
    /// Somebody else's server, whose process is on this machine or not known.
    Foreign(Option<Watched>),
    /// A server that was started for the run.
    Own(&'a mut OwnServer),
}

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The server could not be watched or ordered.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A whole phase of a run passed without an acknowledgement.
    #[error("no share was acknowledged for a whole phase; ask for more shares or a longer time")]
    NoAcknowledgements,
    /// Too few connections came about.
    #[error(
        "only {opened} of {wanted} {whom} came to have work{}",
        first_reason.as_ref().map_or(String::new(), |reason| format!("; one was lost: {reason}"))
    )]
    NotOpened {
        /// What they are called.
        whom: &'static str,
        /// With work.
        opened: usize,
        /// Asked for.
        wanted: usize,
        /// What a lost connection said.
        first_reason: Option<String>,
    },
}

impl Subject<'_> {
    fn watched(&self) -> Option<Watched> {
        match self {
            Self::Foreign(watched) => *watched,
            Self::Own(server) => Some(server.watched()),
        }
    }

    /// Begins to measure its processor time.
    fn cpu(&self) -> Result<CpuMeter, ServerError> {
        CpuMeter::start(self.watched())
    }

    fn resident(&self) -> Result<Option<u64>, ServerError> {
        self.watched().map(|watched| watched.resident()).transpose()
    }
}

/// What came before the shares.
struct Opened {
    handshakes: Option<Handshakes>,
    stranger_each: Option<u64>,
    opening: Opening,
    resident: Option<u64>,
}

/// What came of the shares, and of those who were there meanwhile.
struct Mined {
    shares: ShareResults,
    visits: Option<Visits>,
    flood: Option<FloodResults>,
}

/// Stratum V2 connections.
type Crowd = crowd::Crowd<Client>;

impl Crowd {
    /// Has all connections come, in two waves if the first is to be held before its setup.
    async fn open(&mut self, subject: &Subject<'_>) -> Result<Opened, LoadError> {
        let wanted = self.run.plan.connections;
        let (cpu, before, start) = (subject.cpu()?, subject.resident()?, Clock.monotonic());
        let (mut handshakes, mut stranger_each) = (None, None);
        if let Subject::Own(_) = subject {
            let count = wanted.min(STRANGERS_MAX);
            self.grow(count);
            let held = |tally: &Tally| tally.greeted as u64 + tally.failed() >= count as u64;
            self.until(OPENING_PATIENCE, held).await;
            let (spent, span) = (cpu.spent()?, Clock.monotonic() - start);
            handshakes = nanos_each(spent, count as u64).map(|server_cpu_ns_each| Handshakes {
                count,
                micros: micros(span),
                server_cpu_ns_each,
            });
            stranger_each = bytes_each(subject.resident()?, before, count);
        }
        self.steps.modify(|step| *step = Step::Open);
        self.gather(wanted, OPENING_PATIENCE).await;
        let (span, spent) = (Clock.monotonic() - start, cpu.spent()?);
        let opened = self.all_opened(wanted)?;
        let server_cpu_ns_each = nanos_each(spent, opened as u64);
        sleep(SETTLING).await;
        let opening = Opening { connections: opened, micros: micros(span), server_cpu_ns_each };
        Ok(Opened { handshakes, stranger_each, opening, resident: subject.resident()? })
    }

    /// Waits until everybody has submitted shares for long enough, or as many as can be had of a tip.
    async fn until_enough(&self, end: Monotonic) {
        let Plan { shares, connections, channels, .. } = self.run.plan;
        if shares != Shares::Saturated || channels == 1 {
            return sleep_until(end).await;
        }
        let enough = SHARES_OF_A_TIP * connections as u64;
        self.until(end - Clock.monotonic(), |tally| tally.submitted >= enough).await;
    }

    /// Submits shares for as long as planned, with new tips spread over that time.
    async fn mine(&self, subject: &mut Subject<'_>) -> Result<Mined, LoadError> {
        let (cpu, start) = (subject.cpu()?, Clock.monotonic());
        self.steps.modify(|step| *step = Step::Mine);
        let Plan { duration, tips, reconnects, ref flooding, .. } = self.run.plan;
        let visitors = reconnects.map(|rate| Visitors::start(&self.run.plan, rate));
        if let Subject::Own(server) = subject {
            for tip in 1..=tips {
                sleep_until(start + duration * tip / (tips + 1)).await;
                self.new_tip(server).await?;
            }
        }
        let flood = match flooding {
            Some(flooding) => self.take_turns(flooding, duration).await?,
            None => None,
        };
        self.until_enough(start + duration).await;
        let for_ever = self.run.plan.unanswered_for_ever();
        let per_second = self.rest(start, |tally| tally.unanswered() <= for_ever).await;
        let spent = cpu.spent()?;
        let visits = match visitors {
            Some(visitors) => Some(visitors.end().await),
            None => None,
        };
        let shares = ShareResults::new(&self.run.tally(), for_ever, per_second, spent);
        Ok(Mined { shares, visits, flood })
    }

    /// Orders a new tip and waits until everybody has heard of it.
    async fn new_tip(&self, server: &mut OwnServer) -> Result<(), LoadError> {
        if self.run.plan.late_acks {
            self.calm().await;
        }
        server.solve().await?;
        let ordered = Clock.monotonic();
        self.run.tally().ordered = Some(ordered);
        server.submit().await?;
        let everybody = self.run.plan.connections;
        let told = |tally: &Tally| tally.told(ordered) >= everybody;
        see_through(self.run.plan.awake, self.until_told(told)).await;
        // A block that came too late, because a share was one by chance, makes no tip.
        server.submitted().await?;
        self.run.tally().ordered = None;
        Ok(())
    }
}

/// Runs a plan against a server.
///
/// # Errors
///
/// If the server cannot be watched, or connections do not come about. Connections and shares lost later stand in the report.
pub async fn run(plan: &Plan, mut subject: Subject<'_>) -> Result<Report, LoadError> {
    let before = subject.resident()?;
    let mut generations = Vec::new();
    for _ in 1..plan.generations.max(1) {
        let mut crowd = Crowd::new(plan.clone(), Step::Greet);
        generations.extend(crowd.open(&subject).await?.resident);
        crowd.leave().await;
        sleep(SETTLING).await;
    }
    let mut crowd = Crowd::new(plan.clone(), Step::Greet);
    let opened = crowd.open(&subject).await?;
    generations.extend(opened.resident);
    // Where there are only tips, one that is solved and one that a node looks at have the other processors to themselves.
    let stays_awake = plan.awake && plan.shares != Shares::None;
    let Mined { shares, visits, flood } = see_through(stays_awake, crowd.mine(&mut subject)).await?;
    let after = subject.resident()?;
    let (tips, tip_summary, lost) = {
        let tally = crowd.run.tally();
        let tips = tally.tips.iter().filter_map(TipResult::new).collect();
        (tips, TipSummary::new(&tally.tips, plan.connections), tally.failures.clone())
    };
    crowd.leave().await;
    let memory = before.zip(after).map(|(before, after)| Memory {
        before,
        stranger_each: opened.stranger_each,
        idle_each: bytes_each(generations.first().copied(), Some(before), plan.connections).unwrap_or(0),
        generations,
        after,
    });
    let Opened { handshakes, opening, .. } = opened;
    let asked = asked(plan);
    Ok(Report { asked, handshakes, opening, memory, shares, tip_summary, tips, visits, flood, lost })
}

fn asked(plan: &Plan) -> Asked {
    Asked {
        connections: plan.connections,
        channels: plan.channels,
        kind: match plan.kind {
            ChannelKind::Standard => "standard",
            ChannelKind::Extended => "extended",
        },
        rate: match plan.shares {
            Shares::None => Some(0),
            Shares::Paced(rate) => Some(rate.get()),
            Shares::Saturated => None,
        },
        seconds: plan.duration.as_secs(),
        window: plan.window,
        ack_batch: plan.ack_batch,
        late_acks: plan.late_acks,
        awake: plan.awake,
        reconnects: plan.reconnects.map_or(0, NonZeroU32::get),
    }
}

async fn sleep_until(moment: Monotonic) {
    tokio::time::sleep_until(Clock.instant(moment)).await;
}
