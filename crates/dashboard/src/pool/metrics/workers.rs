//! The metrics of each worker, on a page of their own: a series for each name, and miners choose their names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use adit_pool::WorkerShares;

use crate::exposition::{Exposition, Metric, gauge};
use crate::plain;
use crate::pool::PoolView;
use crate::pool::ours::Row;

/// Workers that have series of their own.
pub(crate) const WORKERS_NAMED: usize = 16_384;

// They are of open connections, so each may fall when a connection ends.
static ACCEPTED: Metric = gauge("adit_pool_worker_shares_accepted", "Accepted shares on open connections.");
static REJECTED: Metric = gauge("adit_pool_worker_shares_rejected", "Refused shares on open connections.");
static WORK: Metric =
    gauge("adit_pool_worker_work_hashes", "Work of accepted shares on open connections, in hashes.");
static SINCE: Metric = gauge("adit_pool_worker_last_share_seconds", "Since the last accepted share.");
static OTHERS: Metric =
    gauge("adit_pool_workers_unnamed", "Workers without series of their own, because there are too many.");

/// Writes what became of the shares of each worker, on all its channels and connections together.
pub(crate) fn write(view: &PoolView) -> String {
    let (workers, others) = named(view);
    let each = |out: &mut Exposition, metric, value: fn(&PoolView, &WorkerShares) -> Option<String>| {
        let mut samples = out.begin(metric);
        for ((user, worker), shares) in &workers {
            if let Some(value) = value(view, shares) {
                samples.add(&[("user", user), ("worker", worker)], value);
            }
        }
    };
    let mut out = Exposition::default();
    each(&mut out, &ACCEPTED, |_, shares| Some(shares.accepted.to_string()));
    each(&mut out, &REJECTED, |_, shares| Some(shares.rejected.to_string()));
    each(&mut out, &WORK, |_, shares| Some(shares.work.to_hashes().to_string()));
    each(&mut out, &SINCE, |view, shares| {
        shares.last.map(|last| view.status.at.saturating_since(last).as_secs().to_string())
    });
    out.single(&OTHERS, others);
    out.into_text()
}

type Named<'a> = BTreeMap<(Cow<'a, str>, Cow<'a, str>), WorkerShares>;

/// The workers by user and name, and how many there are no more places for.
fn named(view: &PoolView) -> (Named<'_>, usize) {
    let (mut workers, mut others) = (Named::new(), 0);
    for row in view.status.connections.iter().flat_map(Row::of) {
        let name = (plain(row.user()), plain(row.name().unwrap_or_default()));
        if workers.len() >= WORKERS_NAMED && !workers.contains_key(&name) {
            others += 1;
            continue;
        }
        let (sum, shares) = (workers.entry(name).or_default(), row.shares());
        sum.accepted = sum.accepted.saturating_add(shares.accepted);
        sum.rejected = sum.rejected.saturating_add(shares.rejected);
        sum.work = sum.work.saturating_add(shares.work);
        sum.last = sum.last.max(shares.last);
    }
    (workers, others)
}
