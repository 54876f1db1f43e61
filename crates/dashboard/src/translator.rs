//! What a translator tells of itself, at the paths and in the shapes that tools of the reference implementation poll, and in ours.

mod metrics;
mod ours;
mod sri;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use adit_net::Clock;
use adit_translator::{ChannelStatus, MachineStatus, Status, UpstreamState, UpstreamStatus};
use adit_units::{Difficulty, UnixTime};
use serde::Serialize;
use tokio::sync::watch;

use crate::shapes::{Health, Index, part};
use crate::{Answer, Pages, Request};

/// A page and what is on it.
const INDEX: &[(&str, &str)] = &[
    ("/", "This list"),
    ("/api/v1/health", "Whether the program answers"),
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

/// The pages of a translator.
#[derive(Clone, Debug)]
pub struct TranslatorPages {
    status: watch::Receiver<Arc<Status>>,
}

impl TranslatorPages {
    /// Pages that show what `status` holds when they are asked for.
    #[must_use]
    pub const fn new(status: watch::Receiver<Arc<Status>>) -> Self {
        Self { status }
    }
}

impl Pages for TranslatorPages {
    fn answer(&self, request: &Request<'_>) -> Answer {
        let status = Arc::clone(&self.status.borrow());
        answer(&status, Clock.unix(), request)
    }
}

/// What is said to a request at `now`.
fn answer(status: &Status, now: UnixTime, request: &Request<'_>) -> Answer {
    match request.path {
        "/" => Answer::json(&Index::of("Adit translator", INDEX)),
        "/metrics" => Answer::metrics(metrics::write(status)),
        "/api/v1/health" => Answer::json(&Health::at(now)),
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

/// The speed of some machines or channels together, in hashes per second.
fn sum(speeds: impl Iterator<Item = adit_units::Hashrate>) -> u64 {
    speeds.fold(0, |sum, speed| sum.saturating_add(speed.to_hashes_per_second()))
}

/// The hardest share of a channel, as far as machines that are still connected found it, and the blocks that were found on it.
fn finds(status: &Status, channel: &ChannelStatus) -> (Option<Difficulty>, u64) {
    match channel.machine {
        Some(id) => machine(status, id).map_or((None, 0), |machine| (machine.best, machine.shares.blocks)),
        None => (status.machines.iter().filter_map(|machine| machine.best).max(), status.shares.blocks),
    }
}
