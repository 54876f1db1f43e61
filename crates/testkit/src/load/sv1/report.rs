//! What a run of SV1 machines found, as JSON and as a table to read.

use core::fmt::{self, Display, Formatter};
use core::num::NonZeroU32;
use core::time::Duration;
use std::collections::BTreeMap;

use serde::Serialize;

use super::super::figures::{
    FanOut, Kib, Millis, ShareCounts, Thousandths, nanos_each, write_lost, write_warning,
};
use super::super::histogram::Quantiles;
use super::super::tally::{News, Tally};
use super::Plan;

/// The results of one run. Durations are whole microseconds or nanoseconds, as their names say; memory is in bytes; processor time is the
/// translator's.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// As asked for.
    pub asked: Asked,
    /// All machines from nothing to work.
    pub storm: Storm,
    /// Memory of the translator.
    pub memory: Memory,
    /// New jobs on the same tip, if any were asked for.
    pub jobs: Option<Reach>,
    /// New tips, if any were asked for.
    pub tips: Option<Reach>,
    /// What became of shares, if any were asked for.
    pub shares: Option<ShareResults>,
    /// Machines that ended before their time, by reason.
    pub lost: BTreeMap<String, u64>,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Machines.
    pub machines: usize,
    /// New jobs on the same tip.
    pub jobs: u32,
    /// New tips.
    pub tips: u32,
    /// Shares a second in all.
    pub rate: u32,
    /// How long shares were submitted, in each of the blocks if there were any.
    pub seconds: u64,
    /// Through how many blocks machines mined.
    pub blocks: u32,
    /// Of how many shares one is good enough for the pool.
    pub one_up_in: u32,
}

/// All machines from nothing to work.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Storm {
    /// How many.
    pub machines: usize,
    /// From the first setting out to the last having work.
    pub micros: u64,
    /// Of each, from setting out to having work.
    pub work_micros: Option<Quantiles>,
    /// Processor time for each.
    pub cpu_ns_each: Option<u64>,
}

/// Memory of the translator.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Before the machines came.
    pub before: u64,
    /// For each machine with work and nothing to say.
    pub idle_each: u64,
    /// For each machine after the jobs and shares.
    pub after_each: u64,
    /// In all, after the jobs and shares.
    pub after: u64,
}

/// How jobs reached the machines, from the moment that the pool began to send each.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Reach {
    /// How many jobs.
    pub sent: usize,
    /// Until machines had read of them.
    #[serde(flatten)]
    pub fan_out: FanOut,
    /// Processor time for each job and machine.
    pub cpu_ns_each: Option<u64>,
    /// What the machines and the pool, which are one process, took for the same. It is the least that a job can take to the last machine.
    pub generator_cpu_ns_each: Option<u64>,
}

/// What became of shares.
#[derive(Clone, Debug, Serialize)]
pub struct ShareResults {
    /// How many, and what the translator said.
    #[serde(flatten)]
    pub counts: ShareCounts,
    /// From the moment that a share was due to its answer.
    pub answer_micros: Option<Quantiles>,
    /// Processor time for each that was accepted.
    pub cpu_ns_each: Option<u64>,
    /// How many of all met the pool's target.
    pub due_up: u64,
    /// How many came to the pool and met it.
    pub went_up: u64,
    /// How many came to the pool and did not.
    pub worthless_up: u64,
}

impl Asked {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            machines: plan.machines,
            jobs: plan.jobs,
            tips: plan.tips,
            rate: plan.rate.map_or(0, NonZeroU32::get),
            seconds: plan.duration.as_secs(),
            blocks: plan.blocks,
            one_up_in: plan.one_up_in.get(),
        }
    }
}

impl Reach {
    /// A summary of these jobs, if there are any; `machines` is how many should have heard, `cpu` what it took the translator and the
    /// generator.
    pub(super) fn new<K>(news: &[News<K>], machines: usize, cpu: [Option<Duration>; 2]) -> Option<Self> {
        let fan_out = FanOut::new(news.iter(), machines)?;
        let [cpu_ns_each, generator_cpu_ns_each] =
            cpu.map(|cpu| nanos_each(cpu, (news.len() * machines) as u64));
        Some(Self { sent: news.len(), fan_out, cpu_ns_each, generator_cpu_ns_each })
    }
}

impl ShareResults {
    pub(super) fn new(tally: &Tally, accepted_per_second: u64, cpu: Option<Duration>) -> Self {
        Self {
            counts: ShareCounts::new(tally, accepted_per_second),
            answer_micros: tally.answers.quantiles(),
            cpu_ns_each: nanos_each(cpu, tally.accepted),
            due_up: tally.due_up,
            went_up: tally.went_up,
            worthless_up: tally.worthless_up,
        }
    }

    /// Whether every share was accepted, and exactly those went up that should.
    fn are_clean(&self) -> bool {
        let goes_up_rightly = self.went_up == self.due_up && self.worthless_up == 0;
        goes_up_rightly && self.counts.refused.is_empty() && self.counts.unanswered == 0
    }
}

impl Report {
    /// Whether nobody was lost, everybody was told of everything, and every share was accepted and went up if it should, so that the other
    /// numbers mean what they say.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self { asked, jobs, tips, shares, lost, .. } = self;
        let reached = |reach: &Option<Reach>, count| match reach {
            Some(reach) => reach.fan_out.told_everybody == reach.sent && reach.sent == count as usize,
            None => count == 0,
        };
        let shares_are = shares.as_ref().is_none_or(ShareResults::are_clean);
        lost.is_empty() && reached(jobs, asked.jobs) && reached(tips, asked.tips) && shares_are
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Asked { machines, rate, seconds, one_up_in, .. } = self.asked;
        writeln!(
            f,
            "asked       {machines} machines, {rate} shares/s for {seconds} s, one in {one_up_in} for the pool"
        )?;
        let Storm { micros, work_micros, cpu_ns_each, .. } = self.storm;
        write!(f, "storm       all have work after {} ms", Thousandths(micros))?;
        if let Some(quantiles) = work_micros {
            write!(f, "; each: ms {}", Millis(quantiles))?;
        }
        writeln!(f, "; {} us CPU each", Cpu(cpu_ns_each))?;
        let Memory { before, idle_each, after_each, after } = self.memory;
        writeln!(
            f,
            "memory      idle machine {}, afterwards {}; in all {} before, {} after",
            Kib(idle_each),
            Kib(after_each),
            Kib(before),
            Kib(after)
        )?;
        for (name, reach) in [("jobs", &self.jobs), ("tips", &self.tips)] {
            let Some(reach) = reach else { continue };
            writeln!(
                f,
                "{name:12}{} sent, {} to everybody; {} us CPU for each machine, the generator {}",
                reach.sent,
                reach.fan_out.told_everybody,
                Cpu(reach.cpu_ns_each),
                Cpu(reach.generator_cpu_ns_each)
            )?;
            writeln!(f, "  first     ms {}", Millis(reach.fan_out.first_micros))?;
            writeln!(f, "  median    ms {}", Millis(reach.fan_out.median_micros))?;
            writeln!(f, "  last      ms {}", Millis(reach.fan_out.last_micros))?;
        }
        if let Some(shares) = &self.shares {
            shares.fmt_table(f)?;
        }
        write_lost(f, &self.lost, "machines")?;
        write_warning(f, self.is_clean())
    }
}

impl ShareResults {
    fn fmt_table(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ShareCounts { submitted, accepted, refused, unanswered, accepted_per_second } = &self.counts;
        writeln!(
            f,
            "shares      {submitted} submitted, {accepted} accepted, {accepted_per_second}/s, {} us CPU each",
            Cpu(self.cpu_ns_each)
        )?;
        if let Some(quantiles) = self.answer_micros {
            writeln!(f, "answers     ms {}", Millis(quantiles))?;
        }
        writeln!(f, "to the pool {} of {} that were good enough", self.went_up, self.due_up)?;
        if self.worthless_up > 0 {
            writeln!(f, "            {} WORTHLESS", self.worthless_up)?;
        }
        for (reason, count) in refused {
            writeln!(f, "            {count} REFUSED {reason}")?;
        }
        if *unanswered > 0 {
            writeln!(f, "            {unanswered} UNANSWERED")?;
        }
        Ok(())
    }
}

/// Nanoseconds as microseconds, if they are known.
struct Cpu(Option<u64>);

impl Display for Cpu {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nanos) => Thousandths(nanos).fmt(f),
            None => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tally::tests::news;
    use super::*;

    const NO_TIME: [Option<Duration>; 2] = [Some(Duration::ZERO); 2];

    #[test]
    fn a_job_is_timed_from_its_sending() {
        let news = [news(Some(100), &[110, 120, 400]), news(Some(100), &[130, 140])];
        let cpu = [12, 6].map(|micros| Some(Duration::from_micros(micros)));
        let reach = Reach::new(&news, 3, cpu).unwrap();
        let FanOut { told_everybody, first_micros, median_micros, last_micros } = reach.fan_out;
        assert_eq!((reach.sent, told_everybody), (2, 1));
        assert_eq!((reach.cpu_ns_each, reach.generator_cpu_ns_each), (Some(2_000), Some(1_000)));
        assert_eq!((first_micros.p50, median_micros.max, last_micros.max), (10, 30, 300));
        assert!(Reach::new(&news[..0], 3, NO_TIME).is_none());
    }

    #[test]
    fn whatever_goes_wrong_spoils_a_report() {
        let tally = Tally { submitted: 2, accepted: 2, due_up: 1, went_up: 1, ..Tally::default() };
        let asked = Asked { machines: 2, jobs: 1, tips: 0, rate: 1, seconds: 1, blocks: 0, one_up_in: 2 };
        let storm = Storm { machines: 2, micros: 1, work_micros: None, cpu_ns_each: None };
        let memory = Memory { before: 1, idle_each: 1, after_each: 1, after: 1 };
        let jobs = Reach::new(&[news(Some(100), &[110, 120])], 2, NO_TIME);
        let shares = Some(ShareResults::new(&tally, 2, Some(Duration::from_micros(5))));
        let good = Report { asked, storm, memory, jobs, tips: None, shares, lost: BTreeMap::new() };
        assert!(good.is_clean() && good.to_string().contains("2.50 us CPU each"), "{good}");

        let mut bad = good.clone();
        bad.jobs = Reach::new(&[news(Some(100), &[110])], 2, NO_TIME);
        assert!(!bad.is_clean() && bad.to_string().contains("NOT CLEAN"), "{bad}");
        bad.jobs = None;
        assert!(!bad.is_clean(), "it was asked for");
        for spoil in [
            |shares: &mut ShareResults| shares.went_up = 0,
            |shares: &mut ShareResults| shares.worthless_up = 1,
            |shares: &mut ShareResults| shares.counts.unanswered = 1,
            |shares: &mut ShareResults| shares.counts.refused = BTreeMap::from([("Other".to_owned(), 1)]),
        ] {
            let mut bad = good.clone();
            spoil(bad.shares.as_mut().unwrap());
            assert!(!bad.is_clean(), "{bad}");
        }
        let lost = BTreeMap::from([("gone".to_owned(), 1)]);
        assert!(!Report { lost, ..good }.is_clean());
    }
}
