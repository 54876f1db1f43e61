//! Figures that the reports of all kinds of connections show, and how they are written.

use core::fmt::{self, Display, Formatter};
use core::time::Duration;
use std::collections::BTreeMap;

use serde::Serialize;

use super::histogram::{Histogram, Quantiles};
use super::tally::{News, Tally};

/// How many shares were sent, and what became of them.
#[derive(Clone, Debug, Serialize)]
pub struct ShareCounts {
    /// Sent.
    pub submitted: u64,
    /// Accepted.
    pub accepted: u64,
    /// Refused, by code or reason.
    pub refused: BTreeMap<String, u64>,
    /// Neither, a few seconds after the last one was sent.
    pub unanswered: u64,
    /// Accepted in a second, on average.
    pub accepted_per_second: u64,
}

impl ShareCounts {
    pub(super) fn new(tally: &Tally, accepted_per_second: u64) -> Self {
        Self {
            submitted: tally.submitted,
            accepted: tally.accepted,
            refused: tally.refused.clone(),
            unanswered: tally.unanswered(),
            accepted_per_second,
        }
    }
}

/// How several pieces of news reached the connections, each from the moment that it was ordered or sent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FanOut {
    /// Of how many everybody was told.
    pub told_everybody: usize,
    /// Until the first had heard.
    pub first_micros: Quantiles,
    /// Until half had heard.
    pub median_micros: Quantiles,
    /// Until the last had heard.
    pub last_micros: Quantiles,
}

impl FanOut {
    /// A summary of these, if anybody has heard of any; `everybody` is how many connections there are.
    pub(super) fn new<'a, K: 'a>(news: impl Iterator<Item = &'a News<K>>, everybody: usize) -> Option<Self> {
        let mut told_everybody = 0;
        let [mut first, mut median, mut last] = [(); 3].map(|()| Histogram::default());
        for piece in news {
            told_everybody += usize::from(piece.arrivals.len() == everybody);
            let Some(spread) = piece.spread() else { continue };
            first.record(spread.first);
            median.record(spread.median);
            last.record(spread.last);
        }
        Some(Self {
            told_everybody,
            first_micros: first.quantiles()?,
            median_micros: median.quantiles()?,
            last_micros: last.quantiles()?,
        })
    }
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// One share of a duration, in nanoseconds, if it is known.
pub(super) fn nanos_each(duration: Option<Duration>, count: u64) -> Option<u64> {
    let each = duration?.as_nanos().checked_div(u128::from(count))?;
    u64::try_from(each).ok()
}

/// How many in a second.
pub(super) fn per_second(count: u64, span: Duration) -> u64 {
    let each = u128::from(count) * 1_000_000 / span.as_micros().max(1);
    u64::try_from(each).unwrap_or(u64::MAX)
}

/// What of the memory that came each of `count` connections takes.
pub(super) fn bytes_each(now: Option<u64>, before: Option<u64>, count: usize) -> Option<u64> {
    now?.saturating_sub(before?).checked_div(count as u64)
}

/// Thousandths as a decimal fraction: nanoseconds as microseconds, microseconds as milliseconds.
pub(super) struct Thousandths(pub(super) u64);

impl Display for Thousandths {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

/// Quantiles in milliseconds.
pub(super) struct Millis(pub(super) Quantiles);

impl Display for Millis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Quantiles { p50, p90, p99, max } = self.0;
        let [p50, p90, p99, max] = [p50, p90, p99, max].map(Thousandths);
        write!(f, "p50 {p50}, p90 {p90}, p99 {p99}, max {max}")
    }
}

/// Bytes in kibibytes.
pub(super) struct Kib(pub(super) u64);

impl Display for Kib {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} KiB", self.0 / 1024, self.0 % 1024 * 10 / 1024)
    }
}

/// The lines of a table that say why some of those, as they are called, were lost.
pub(super) fn write_lost(f: &mut Formatter<'_>, lost: &BTreeMap<String, u64>, whom: &str) -> fmt::Result {
    lost.iter().try_for_each(|(reason, count)| writeln!(f, "LOST        {count} {whom}: {reason}"))
}

/// The line of a table that warns of what is not clean.
pub(super) fn write_warning(f: &mut Formatter<'_>, is_clean: bool) -> fmt::Result {
    if is_clean {
        return Ok(());
    }
    writeln!(f, "NOT CLEAN   something was refused, unanswered, lost or missed; do not quote these numbers")
}
