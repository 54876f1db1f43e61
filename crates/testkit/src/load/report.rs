//! What a load run found, as JSON and as a table to read.

use core::fmt::{self, Display, Formatter};
use core::time::Duration;
use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::{
    FanOut, Kib, Millis, ShareCounts, Thousandths, micros, nanos_each, write_lost, write_warning,
};
use super::flooding::{FloodResults, FloodRound};
use super::histogram::Quantiles;
use super::tally::{News, Spread, Tally};

/// The code for a share on work whose tip is no longer the newest.
const STALE: &str = "stale-share";

/// Most tips that a table shows one by one.
const TIPS_SHOWN: usize = 12;

/// The results of one run. Durations are whole microseconds or nanoseconds, as their names say; memory is in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Connections, channels on each, kind of channel and pace, as asked for.
    pub asked: Asked,
    /// Handshakes alone, if connections were held before setup and the server could be watched.
    pub handshakes: Option<Handshakes>,
    /// All connections from nothing to channels with work.
    pub opening: Opening,
    /// Memory of the server, if it could be watched.
    pub memory: Option<Memory>,
    /// What became of shares.
    pub shares: ShareResults,
    /// All tips that were ordered, if any were.
    pub tip_summary: Option<TipSummary>,
    /// New tips that came meanwhile.
    pub tips: Vec<TipResult>,
    /// Those who came and left meanwhile, if any were asked for.
    pub visits: Option<Visits>,
    /// How honest connections fared beside a flood, if one was asked for.
    pub flood: Option<FloodResults>,
    /// Connections that ended before their time, by reason.
    pub lost: BTreeMap<String, u64>,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Connections.
    pub connections: usize,
    /// Channels on each of them.
    pub channels: usize,
    /// `extended` or `standard`.
    pub kind: &'static str,
    /// Shares a second in all; absent if as many as the server takes.
    pub rate: Option<u32>,
    /// How long shares were submitted.
    pub seconds: u64,
    /// How many shares of a channel may wait for an answer in a saturated run.
    pub window: usize,
    /// How many shares of a channel the pool gathers before it acknowledges them.
    pub ack_batch: usize,
    /// Whether connections acknowledged tips late.
    pub late_acks: bool,
    /// Whether the generator stayed awake.
    pub awake: bool,
    /// How many others come and leave each second.
    pub reconnects: u32,
}

/// Handshakes alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Handshakes {
    /// How many.
    pub count: usize,
    /// From the first to the last.
    pub micros: u64,
    /// Processor time of the server for each, connection and kernel included.
    pub server_cpu_ns_each: u64,
}

/// All connections from nothing to channels with work.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Opening {
    /// How many connections had work in the end.
    pub connections: usize,
    /// How long it took.
    pub micros: u64,
    /// Processor time of the server for each.
    pub server_cpu_ns_each: Option<u64>,
}

/// Memory of the server.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Before anybody connected.
    pub before: u64,
    /// For each connection after its handshake and before its setup.
    pub stranger_each: Option<u64>,
    /// For each connection with its channels open and nothing to say.
    pub idle_each: u64,
    /// In all, with everybody connected, for each generation of connections.
    pub generations: Vec<u64>,
    /// In all, after the shares.
    pub after: u64,
}

/// What became of shares.
#[derive(Clone, Debug, Serialize)]
pub struct ShareResults {
    /// How many.
    #[serde(flatten)]
    pub counts: ShareCounts,
    /// How many a pool that gathers shares for its acknowledgements may leave without an answer.
    pub unanswered_allowed: u64,
    /// From the moment that a share was due to its acknowledgement.
    pub ack_micros: Option<Quantiles>,
    /// Processor time of the server for each that was acknowledged, everything that it did meanwhile included.
    pub server_cpu_ns_each: Option<u64>,
}

/// How a new tip reached the connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TipResult {
    /// Connections that were told.
    pub told: usize,
    /// From the order to hand in the block until the first heard; absent for a tip that nobody ordered.
    pub first_micros: Option<u64>,
    /// From there, or from the first, until half had heard.
    pub median_micros: u64,
    /// Until 99 of a hundred had heard.
    pub p99_micros: u64,
    /// Until the last had heard.
    pub last_micros: u64,
}

/// All ordered tips of a run together.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TipSummary {
    /// How many.
    pub tips: usize,
    /// How they reached the connections, from the order on.
    #[serde(flatten)]
    pub fan_out: FanOut,
}

impl TipSummary {
    /// A summary of the ordered tips, if there are any; `everybody` is how many connections there are.
    pub(super) fn new<K>(tips: &[News<K>], everybody: usize) -> Option<Self> {
        let ordered = || tips.iter().filter(|tip| tip.start.is_some());
        Some(Self { tips: ordered().count(), fan_out: FanOut::new(ordered(), everybody)? })
    }
}

/// Connections that came while shares were submitted, opened their channels and left.
#[derive(Clone, Debug, Serialize)]
pub struct Visits {
    /// How many set out.
    pub set_out: u64,
    /// How many of them got work.
    pub served: u64,
    /// From setting out to having work.
    pub work_micros: Option<Quantiles>,
    /// Why others did not get any, by reason.
    pub lost: BTreeMap<String, u64>,
}

impl Visits {
    pub(super) fn new(set_out: u64, tally: &Tally) -> Self {
        let work_micros = tally.openings.quantiles();
        Self { set_out, served: tally.opened as u64, work_micros, lost: tally.failures.clone() }
    }
}

impl TipResult {
    pub(super) fn new<K>(tip: &News<K>) -> Option<Self> {
        let Spread { first, median, p99, last } = tip.spread()?;
        Some(Self {
            told: tip.arrivals.len(),
            first_micros: tip.start.map(|_| micros(first)),
            median_micros: micros(median),
            p99_micros: micros(p99),
            last_micros: micros(last),
        })
    }
}

impl ShareResults {
    pub(super) fn new(
        tally: &Tally,
        unanswered_allowed: u64,
        accepted_per_second: u64,
        cpu: Option<Duration>,
    ) -> Self {
        Self {
            counts: ShareCounts::new(tally, accepted_per_second),
            unanswered_allowed,
            ack_micros: tally.answers.quantiles(),
            server_cpu_ns_each: nanos_each(cpu, tally.accepted),
        }
    }
}

impl Report {
    /// Whether nothing was refused, left unanswered or lost, nobody was turned away, everybody was told of every ordered tip, and a flood
    /// was one, so that the other numbers mean what they say. Shares that were under way while a tip was may be stale.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self { shares, tip_summary, visits, flood, lost, .. } = self;
        let may_be_refused = |code: &String| code == STALE && !self.tips.is_empty();
        let are_refused_rightly = shares.counts.refused.keys().all(may_be_refused);
        let shares_are = are_refused_rightly && shares.counts.unanswered <= shares.unanswered_allowed;
        let tips_are = tip_summary.is_none_or(|summary| summary.fan_out.told_everybody == summary.tips);
        let visits_are = visits.as_ref().is_none_or(|visits| visits.served == visits.set_out);
        let floods_are = flood.as_ref().is_none_or(|flood| flood.felt.acts > 0);
        lost.is_empty() && shares_are && tips_are && visits_are && floods_are
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Asked { connections, channels, kind, rate, seconds, .. } = &self.asked;
        let pace = rate.map_or("as fast as they are taken".to_owned(), |rate| format!("{rate} shares/s"));
        writeln!(f, "asked       {connections} connections x {channels} {kind}, {pace}, {seconds} s")?;
        self.fmt_connections(f)?;
        self.fmt_shares(f)?;
        self.fmt_tips(f)?;
        self.fmt_visits(f)?;
        self.fmt_flood(f)?;
        write_lost(f, &self.lost, "connections")?;
        write_warning(f, self.is_clean())
    }
}

impl Report {
    fn fmt_connections(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(Handshakes { count, micros, server_cpu_ns_each }) = self.handshakes {
            let per_second = count as u64 * 1_000_000 / micros.max(1);
            let cpu = Thousandths(server_cpu_ns_each);
            writeln!(f, "handshakes  {count}, {per_second}/s, server CPU {cpu} us each")?;
        }
        let Opening { connections, micros, server_cpu_ns_each } = self.opening;
        write!(f, "opening     {connections} connections in {} ms", Thousandths(micros))?;
        match server_cpu_ns_each {
            Some(each) => writeln!(f, ", server CPU {} us each", Thousandths(each))?,
            None => writeln!(f)?,
        }
        let Some(Memory { before, stranger_each, idle_each, generations, after }) = &self.memory else {
            return Ok(());
        };
        write!(f, "memory      idle connection {}", Kib(*idle_each))?;
        if let Some(stranger) = stranger_each {
            write!(f, ", before setup {}", Kib(*stranger))?;
        }
        writeln!(f, "; in all {} before, {} after", Kib(*before), Kib(*after))?;
        if generations.len() > 1 {
            let list: Vec<String> = generations.iter().map(|bytes| Kib(*bytes).to_string()).collect();
            writeln!(f, "generations {}", list.join(", "))?;
        }
        Ok(())
    }

    fn fmt_shares(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shares = &self.shares;
        let ShareCounts { submitted, accepted, refused, unanswered, accepted_per_second } = &shares.counts;
        if *submitted == 0 {
            return Ok(());
        }
        write!(f, "shares      {submitted} sent, {accepted} accepted, {unanswered} unanswered")?;
        for (code, count) in refused {
            write!(f, ", {count} REFUSED {code}")?;
        }
        write!(f, "\nthroughput  {accepted_per_second} shares/s")?;
        match shares.server_cpu_ns_each {
            Some(each) => writeln!(f, ", server CPU {} us each", Thousandths(each))?,
            None => writeln!(f)?,
        }
        if let Some(quantiles) = shares.ack_micros {
            writeln!(f, "ack         ms: {}", Millis(quantiles))?;
        }
        Ok(())
    }

    fn fmt_tips(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.tips.len() <= TIPS_SHOWN {
            for tip in &self.tips {
                let TipResult { told, first_micros, median_micros, p99_micros, last_micros } = tip;
                let first = first_micros.map_or("-".to_owned(), |first| Thousandths(first).to_string());
                let [median, p99, last] = [*median_micros, *p99_micros, *last_micros].map(Thousandths);
                writeln!(
                    f,
                    "new tip     {told} told, ms: first {first}, half {median}, p99 {p99}, last {last}"
                )?;
            }
        }
        if let Some(TipSummary { tips, fan_out }) = self.tip_summary {
            let FanOut { told_everybody, first_micros, last_micros, .. } = fan_out;
            writeln!(f, "tips        {tips} ordered, everybody told of {told_everybody}")?;
            writeln!(f, "tip, first  ms: {}", Millis(first_micros))?;
            writeln!(f, "tip, last   ms: {}", Millis(last_micros))?;
        }
        Ok(())
    }

    fn fmt_flood(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(flood) = &self.flood else { return Ok(()) };
        for FloodRound { quiet_micros, beside_micros, .. } in &flood.rounds {
            writeln!(f, "quiet       ms: {}", Millis(*quiet_micros))?;
            writeln!(f, "flooded     ms: {}", Millis(*beside_micros))?;
        }
        let (kind, percent) = (flood.kind, flood.percent());
        let [quiet, beside] = [flood.quiet_p99_micros, flood.beside_p99_micros].map(Thousandths);
        let (whole, rest) = (percent / 100, percent % 100);
        writeln!(
            f,
            "flood       {kind}: p99 {beside} ms beside it, {quiet} in quiet times, {whole}.{rest:02} times"
        )?;
        writeln!(f, "attackers   {} acts, {} times at a limit", flood.felt.acts, flood.felt.limited)
    }

    fn fmt_visits(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(Visits { set_out, served, work_micros, lost }) = &self.visits else { return Ok(()) };
        writeln!(f, "visitors    {set_out} came, {served} got work and left")?;
        if let Some(quantiles) = work_micros {
            writeln!(f, "to work     ms: {}", Millis(*quantiles))?;
        }
        write_lost(f, lost, "visitors")
    }
}

#[cfg(test)]
mod tests {
    use adit_units::Monotonic;

    use super::super::tally::tests::news;
    use super::*;

    #[test]
    fn a_tip_is_timed_from_its_order() {
        let at = Monotonic::from_micros;
        let mut tally = Tally { ordered: Some(at(100)), ..Tally::default() };
        for arrival in [150, 160, 400] {
            tally.see_tip([1; 32], at(arrival));
        }
        let tip = TipResult::new(&tally.tips[0]).unwrap();
        assert_eq!((tip.told, tip.first_micros, tip.median_micros, tip.last_micros), (3, Some(50), 60, 300));
        tally.see_tip([2; 32], at(500));
        tally.see_tip([2; 32], at(510));
        let unordered = TipResult::new(&tally.tips[1]).unwrap();
        assert_eq!((unordered.first_micros, unordered.last_micros), (None, 10));
    }

    #[test]
    fn refusals_spoil_a_report() {
        let mut tally = Tally { submitted: 3, accepted: 2, ..Tally::default() };
        let mut report = Report {
            asked: Asked {
                connections: 1,
                channels: 1,
                kind: "extended",
                rate: None,
                seconds: 1,
                window: 1,
                ack_batch: 1,
                late_acks: false,
                awake: false,
                reconnects: 0,
            },
            handshakes: None,
            opening: Opening { connections: 1, micros: 1, server_cpu_ns_each: None },
            memory: None,
            shares: ShareResults::new(&tally, 0, 2, Some(Duration::from_micros(5))),
            tip_summary: None,
            tips: Vec::new(),
            visits: None,
            flood: None,
            lost: BTreeMap::new(),
        };
        assert!(!report.is_clean(), "one share is unanswered");
        assert_eq!(report.shares.server_cpu_ns_each, Some(2_500));
        tally.refuse("duplicate-share".to_owned());
        report.shares = ShareResults::new(&tally, 1, 1, None);
        assert!(!report.is_clean(), "it was refused");
        let text = report.to_string();
        assert!(text.contains("1 REFUSED duplicate-share") && text.contains("NOT CLEAN"), "{text}");
        tally.refused.clear();
        tally.refuse(STALE.to_owned());
        report.shares = ShareResults::new(&tally, 0, 1, None);
        assert!(!report.is_clean(), "there was no tip");
        report.tips = vec![TipResult::new(&news(None, &[10])).unwrap()];
        assert!(report.is_clean());
        report.tips.clear();
        tally.refused.clear();
        report.shares = ShareResults::new(&tally, 1, 1, None);
        assert!(report.is_clean() && !report.to_string().contains("NOT CLEAN"), "one may stay unanswered");
        let missed = [news(Some(0), &[5, 20]), news(None, &[20])];
        report.tip_summary = TipSummary::new(&missed, 2);
        assert!(report.is_clean(), "only ordered tips are waited for");
        report.tip_summary = TipSummary::new(&missed, 3);
        assert!(!report.is_clean());
        report.tip_summary = None;
        tally.open(Monotonic::from_micros(0), Monotonic::from_micros(3_000));
        report.visits = Some(Visits::new(1, &tally));
        assert!(report.is_clean());
        report.visits = Some(Visits::new(2, &tally));
        assert!(!report.is_clean() && report.to_string().contains("2 came, 1 got work"), "{report}");
    }

    #[test]
    fn ordered_tips_are_summed_up() {
        let tips = [news(Some(0), &[5, 20]), news(Some(0), &[7]), news(None, &[10, 20])];
        let TipSummary { tips: ordered, fan_out } = TipSummary::new(&tips, 2).unwrap();
        assert_eq!((ordered, fan_out.told_everybody), (2, 1));
        assert_eq!((fan_out.first_micros.p50, fan_out.first_micros.max), (5, 7));
        assert_eq!(fan_out.last_micros.p99, 20);
        assert!(TipSummary::new(&tips[2..], 2).is_none());
    }
}
