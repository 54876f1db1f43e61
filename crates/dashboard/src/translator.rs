//! What a translator tells of itself, at the paths and in the shapes that tools of the reference implementation poll, and in ours.

mod metrics;
mod ours;
mod sri;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use adit_net::Clock;
use adit_translator::{ChannelStatus, MachineStatus, Status, UpstreamState, UpstreamStatus};
use adit_units::{Difficulty, UnixTime};
use serde::Serialize;
use tokio::sync::watch;

use crate::shapes::{Health, Index, part};
use crate::{Answer, Pages, Request, plain};

/// The page that says whether the program answers.
const HEALTH: &str = "/api/v1/health";

/// A page and what is on it.
const INDEX: &[(&str, &str)] = &[
    ("/", "This list"),
    (HEALTH, "Whether the program answers"),
    ("/api/v1/global", "Totals of upstream and machines"),
    ("/api/v1/server", "Totals of the upstream's channels"),
    ("/api/v1/server/channels", "The upstream's channels (offset, limit)"),
    ("/api/v1/sv1/clients", "Machines (offset, limit)"),
    ("/api/v1/sv1/clients/{client_id}", "One machine"),
    ("/api/adit/v1/translator", "Totals and every upstream, with what became of shares"),
    ("/api/adit/v1/translator/machines", "Machines, with what became of their shares (offset, limit)"),
    ("/api/adit/v1/translator/machines/{id}", "One machine, with what became of its shares"),
    ("/metrics", "Metrics for Prometheus"),
];

/// Where a translator's numbers come from.
pub trait TranslatorNumbers: Send + Sync + 'static {
    /// The numbers as they are known, put together for whoever asks if need be.
    fn latest(&self) -> Arc<Status>;
}

impl TranslatorNumbers for watch::Receiver<Arc<Status>> {
    fn latest(&self) -> Arc<Status> {
        Arc::clone(&self.borrow())
    }
}

/// The pages of a translator.
#[derive(Clone, Debug)]
pub struct TranslatorPages<N> {
    numbers: N,
}

impl<N: TranslatorNumbers> TranslatorPages<N> {
    /// Pages that show what the numbers are when they are asked for.
    #[must_use]
    pub const fn new(numbers: N) -> Self {
        Self { numbers }
    }
}

impl<N: TranslatorNumbers> Pages for TranslatorPages<N> {
    fn answer(&self, request: &Request<'_>) -> Answer {
        answer(|| self.numbers.latest(), Clock.unix(), request)
    }
}

/// What is said to a request at `now`.
fn answer(latest: impl FnOnce() -> Arc<Status>, now: UnixTime, request: &Request<'_>) -> Answer {
    match request.path {
        // These say nothing of the translator, so that whoever watches the program costs it nothing.
        "/" => Answer::json(&Index::of("Adit translator", INDEX)),
        HEALTH => Answer::json(&Health::at(now)),
        _ => numbers(&latest(), request),
    }
}

/// What is said to a request for numbers.
fn numbers(status: &Status, request: &Request<'_>) -> Answer {
    match request.path {
        "/metrics" => Answer::metrics(metrics::write(status)),
        "/api/v1/global" => Answer::json(&sri::Global::of(status)),
        "/api/v1/server" => Answer::json(&sri::Server::of(status)),
        "/api/v1/server/channels" => part(request, |page| sri::ServerChannels::of(status, page)),
        "/api/v1/sv1/clients" => part(request, |page| sri::Clients::of(status, page)),
        "/api/adit/v1/translator" => Answer::json(&ours::Overview::of(status)),
        "/api/adit/v1/translator/machines" => part(request, |page| ours::Machines::of(status, page)),
        path => {
            if let Some(id) = path.strip_prefix("/api/v1/sv1/clients/") {
                one(status, id, |machine| sri::Client::of(status, machine))
            } else if let Some(id) = path.strip_prefix("/api/adit/v1/translator/machines/") {
                one(status, id, ours::Machine::of)
            } else if path == "/api/v1/clients" || path.starts_with("/api/v1/clients/") {
                Answer::not_found("Sv2 clients monitoring not available")
            } else {
                Answer::not_found("no such page; / lists all")
            }
        }
    }
}

/// One machine, by its number.
fn one<'a, T: Serialize>(status: &'a Status, id: &str, show: impl FnOnce(&'a MachineStatus) -> T) -> Answer {
    let Ok(id) = id.parse::<u64>() else {
        return Answer::bad_request("a machine is named by its number");
    };
    match machine(status, id) {
        Some(machine) => Answer::json(&show(machine)),
        None => Answer::not_found(&format!("Sv1 client {id} not found")),
    }
}

/// The machine with that number.
fn machine(status: &Status, id: u64) -> Option<&MachineStatus> {
    let at = status.machines.binary_search_by_key(&id, |machine| machine.id).ok()?;
    status.machines.get(at)
}

/// The channels that machines work on now.
fn channels(status: &Status) -> impl Iterator<Item = &ChannelStatus> {
    in_use(status).flat_map(|upstream| &upstream.channels)
}

fn in_use(status: &Status) -> impl Iterator<Item = &UpstreamStatus> {
    status.upstreams.iter().filter(|upstream| upstream.state == UpstreamState::InUse)
}

/// Refused shares by the upstream's codes, in words that do no harm.
fn refusals(known: &[(String, u64)]) -> BTreeMap<Cow<'_, str>, u64> {
    let mut refusals = BTreeMap::new();
    for (code, number) in known {
        let sum = refusals.entry(plain(code)).or_insert(0_u64);
        *sum = sum.saturating_add(*number);
    }
    refusals
}

/// Machines that are given coinbases which are longer than they are known to take.
fn overlong(status: &Status) -> usize {
    status.machines.iter().filter(|machine| machine.long_coinbase.is_some()).count()
}

/// The speed of some machines or channels together, in hashes per second.
fn sum(speeds: impl Iterator<Item = adit_units::Hashrate>) -> u64 {
    speeds.fold(0, |sum, speed| sum.saturating_add(speed.to_hashes_per_second()))
}

/// The hardest share of the machines behind a channel that are still connected.
fn best(status: &Status, channel: &ChannelStatus) -> Option<Difficulty> {
    match channel.machine {
        Some(id) => machine(status, id)?.best,
        None => status.machines.iter().filter_map(|machine| machine.best).max(),
    }
}
