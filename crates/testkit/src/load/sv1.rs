//! A load generator for SV1 translators: many SV1 machines below, a scripted SV2 pool above, and what lies between is measured.
//!
//! The pool is a script and not a real one, so that its share log, its vardiff and its templates do not disturb the numbers: it gives out jobs on
//! order and checks every share that comes up. It shares a process and a clock with the machines, so the way of a job is timed from the write call
//! that sends it to the read call that brings its `mining.notify`, and nothing of it is estimated.

mod client;
mod job;
mod machine;
mod pool;
mod report;

use core::net::SocketAddr;
use core::num::NonZeroU32;
use core::time::Duration;
use std::sync::Arc;

use adit_net::Clock;
use adit_units::{Target, Work};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::client::{Client, Terms};
use self::pool::Order;
pub use self::pool::Upstream;
pub use self::report::{Asked, Memory, Reach, Report, ShareResults, Storm};
use super::crowd::{self, Step, see_through};
use super::figures::{bytes_each, micros, nanos_each};
use super::process::{CpuMeter, SERVER_PATIENCE, Watched};
use super::tally::Tally;
use super::{LoadError, OPENING_PATIENCE, SETTLING, sleep_until};

/// Hashes that a machine's share takes: few enough to cost the generator nothing, and more than one, so that there are worse hashes.
const SHARE_HASHES: u32 = 16;

/// How long there is nothing to do between two jobs, so that each meets a translator at rest, as in the field.
const PAUSE: Duration = Duration::from_millis(100);

/// Jobs of a block, one in half a minute for ten minutes.
const BLOCK_JOBS: u32 = 20;

/// How often the translator is tried until it has work.
const TRY: Duration = Duration::from_millis(100);

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many machines.
    pub machines: usize,
    /// How many new jobs on the same tip.
    pub jobs: u32,
    /// How many new tips.
    pub tips: u32,
    /// Whether machines acknowledge jobs late, so that the call that sends one does not do that work too.
    pub late_acks: bool,
    /// Whether this thread stays awake while news is under way and while there are shares, so that no call that sends has to wake it.
    pub awake: bool,
    /// How many shares a second, from all machines together.
    pub rate: Option<NonZeroU32>,
    /// How long shares are submitted.
    pub duration: Duration,
    /// Through how many blocks, for that long each and on as many jobs as come in ten minutes, so that machines hold what busy ones hold;
    /// none for shares on the last job only.
    pub blocks: u32,
    /// Of how many shares one is good enough for the pool.
    pub one_up_in: NonZeroU32,
}

impl Plan {
    /// The expected hashes of what a machine submits.
    #[must_use]
    pub const fn share_hashes(&self) -> u32 {
        SHARE_HASHES
    }

    /// What a share must meet to be one for the pool.
    fn pool_target(&self) -> Target {
        Target::from_work(Work::from_hashes(u128::from(SHARE_HASHES) * u128::from(self.one_up_in.get())))
    }

    /// The password that asks a translator for the difficulty of the machines, as `d=0.000000003725`; one that does not know such is told by its config.
    fn password(&self) -> String {
        // A difficulty of one is 2^48 / 65535 hashes.
        let trillionths = (u128::from(SHARE_HASHES) * 65_535 * 1_000_000_000_000) >> 48;
        format!("d=0.{trillionths:012}")
    }
}

/// The translator that a run is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Where it listens for machines.
    pub address: SocketAddr,
    /// Its process.
    pub watched: Watched,
}

/// SV1 machines.
type Crowd = crowd::Crowd<Client>;

impl Crowd {
    /// Has all machines come, subscribe, authorize and get work.
    async fn open(&mut self, count: usize, patience: Duration) -> Result<(), LoadError> {
        self.gather(count, patience).await;
        self.all_opened(count).map(drop)
    }
}

/// The pool at work.
struct Above {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Drop for Above {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs a plan against a translator whose only upstream is the one given.
///
/// # Errors
///
/// If the translator ends, or machines do not get work. Machines and shares lost later stand in the report.
pub async fn run(plan: &Plan, upstream: Upstream, subject: Subject) -> Result<Report, LoadError> {
    run_until(plan, upstream, subject, async {}).await
}

/// As [`run`], and machines stay until `left` is done, so that somebody else can look.
///
/// # Errors
///
/// As there.
pub async fn run_until(
    plan: &Plan,
    upstream: Upstream,
    subject: Subject,
    left: impl Future<Output = ()>,
) -> Result<Report, LoadError> {
    let Subject { address, watched } = subject;
    let mut crowd = Crowd::new(Terms::new(plan, address), Step::Open);
    let (orders, ordered) = mpsc::channel(1);
    let task = tokio::spawn(upstream.serve(Arc::clone(&crowd.run), ordered));
    let above = Above { orders, task };
    wait_for_work(plan, subject).await?;

    let (before, cpu, start) = (watched.resident()?, CpuMeter::start(Some(watched))?, Clock.monotonic());
    crowd.open(plan.machines, OPENING_PATIENCE).await?;
    let span = crowd.run.tally().last_opened.map_or(Duration::ZERO, |last| last - start);
    let spent = cpu.spent()?;
    sleep(SETTLING).await;
    let idle = watched.resident()?;
    let storm = Storm {
        machines: plan.machines,
        micros: micros(span),
        work_micros: crowd.run.tally().openings.quantiles(),
        cpu_ns_each: nanos_each(spent, plan.machines as u64),
    };
    let jobs = reach(&crowd, &above, watched, Order::Job, plan.jobs).await?;
    let tips = reach(&crowd, &above, watched, Order::Tip, plan.tips).await?;
    let shares = see_through(plan.awake, mine(plan, &crowd, &above, watched)).await?;
    let each = |resident| bytes_each(Some(resident), Some(before), plan.machines).unwrap_or(0);
    let after = watched.resident()?;
    let memory = Memory { before, idle_each: each(idle), after_each: each(after), after };
    let lost = crowd.run.tally().failures.clone();
    left.await;
    crowd.leave().await;
    Ok(Report { asked: Asked::new(plan), storm, memory, jobs, tips, shares, lost })
}

/// Sends a single machine until it has got work, so that the translator has found its upstream when the others come.
async fn wait_for_work(plan: &Plan, subject: Subject) -> Result<(), LoadError> {
    let deadline = Clock.monotonic() + SERVER_PATIENCE;
    loop {
        subject.watched.resident()?;
        let mut scout = Crowd::new(Terms::new(plan, subject.address), Step::Open);
        let found = scout.open(1, OPENING_PATIENCE.min(deadline - Clock.monotonic())).await;
        scout.leave().await;
        if found.is_ok() || Clock.monotonic() >= deadline {
            sleep(SETTLING).await;
            return found;
        }
        sleep(TRY).await;
    }
}

/// Orders so many jobs of one kind, one after another, and sees how each reaches the machines.
async fn reach(
    crowd: &Crowd,
    above: &Above,
    watched: Watched,
    order: Order,
    count: u32,
) -> Result<Option<Reach>, LoadError> {
    let (machines, first) = (crowd.run.plan.machines, crowd.run.tally().jobs.len());
    let generator = Watched::new(std::process::id());
    let (cpu, own_cpu) = (CpuMeter::start(Some(watched))?, CpuMeter::start(Some(generator))?);
    for number in 1..=count as usize {
        if crowd.run.plan.late_acks {
            crowd.calm().await;
        }
        sleep(PAUSE).await;
        // The pool ends with this run, not before.
        let _ = above.orders.send(order).await;
        let told = |tally: &Tally| {
            tally.jobs.get(first + number - 1).is_some_and(|job| job.arrivals.len() >= machines)
        };
        see_through(crowd.run.plan.awake, crowd.until_told(told)).await;
    }
    sleep(PAUSE).await;
    let spent = [cpu.spent()?, own_cpu.spent()?];
    let tally = crowd.run.tally();
    Ok(Reach::new(tally.jobs.get(first..).unwrap_or_default(), machines, spent))
}

/// Has machines mine through blocks.
async fn live(plan: &Plan, crowd: &Crowd, above: &Above, watched: Watched) -> Result<(), LoadError> {
    for block in 1..=plan.blocks {
        reach(crowd, above, watched, Order::Tip, 1).await?;
        let start = Clock.monotonic();
        crowd.steps.modify(|step| *step = Step::Mine);
        for job in 1..=BLOCK_JOBS {
            sleep_until(start + plan.duration * job / BLOCK_JOBS).await;
            if job < BLOCK_JOBS {
                let _ = above.orders.send(Order::Job).await;
            }
        }
        if block < plan.blocks {
            // Nobody mines when a tip comes, so that no share is stale.
            crowd.rest(start, is_settled).await;
        }
    }
    Ok(())
}

/// Whether all shares were answered, and those have come to the pool that should.
fn is_settled(tally: &Tally) -> bool {
    tally.unanswered() == 0 && tally.went_up >= tally.due_up
}

/// Has shares submitted for as long as planned, if any are.
async fn mine(
    plan: &Plan,
    crowd: &Crowd,
    above: &Above,
    watched: Watched,
) -> Result<Option<ShareResults>, LoadError> {
    if plan.rate.is_none() {
        return Ok(None);
    }
    let (cpu, start) = (CpuMeter::start(Some(watched))?, Clock.monotonic());
    if plan.blocks > 0 {
        live(plan, crowd, above, watched).await?;
    } else {
        crowd.steps.modify(|step| *step = Step::Mine);
        sleep_until(start + plan.duration).await;
    }
    let per_second = crowd.rest(start, is_settled).await;
    let spent = cpu.spent()?;
    Ok(Some(ShareResults::new(&crowd.run.tally(), per_second, spent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan for a machine that has nothing to do.
    pub(super) fn idle_plan(one_up_in: u32) -> Plan {
        let one_up_in = NonZeroU32::new(one_up_in).unwrap();
        Plan {
            machines: 1,
            jobs: 0,
            tips: 0,
            late_acks: false,
            awake: false,
            rate: None,
            duration: Duration::ZERO,
            blocks: 0,
            one_up_in,
        }
    }

    #[test]
    fn the_password_asks_for_what_a_share_takes() {
        let plan = idle_plan(1);
        assert_eq!(plan.password(), "d=0.000000003725");
        let asked: f64 = plan.password().trim_start_matches("d=").parse().unwrap();
        let machine = machine::target_of(asked).unwrap();
        assert!(machine <= plan.pool_target(), "each share is one for the pool, too");
        assert_eq!(idle_plan(100).pool_target().to_work(), Work::from_hashes(1_600));
    }
}
