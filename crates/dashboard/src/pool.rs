//! What a pool tells of itself, at the paths and in the shapes that tools of the reference implementation poll, and in ours.

mod metrics;
mod ours;
mod sri;
#[cfg(test)]
mod tests;

use core::future::ready;
use std::sync::Arc;

use adit_net::Clock;
use adit_node::{Health as NodeHealth, Node};
use adit_pool::server::{ConnectionStatus, ServerHandle, Status};
use adit_pool::{ChannelReport, SessionReport};
use adit_share::Template;
use adit_units::Hashrate;
use serde::Serialize;
use tokio::sync::watch;

use crate::shapes::{Health, Index, STABLE_SHARES, part};
use crate::{Answer, Pages, Preparation, Request};

/// A page and what is on it.
const INDEX: &[(&str, &str)] = &[
    ("/", "This list"),
    ("/api/v1/health", "Whether the program answers"),
    ("/api/v1/global", "Totals of all connections"),
    ("/api/v1/clients", "Connections (offset, limit)"),
    ("/api/v1/clients/{client_id}", "One connection"),
    ("/api/v1/clients/{client_id}/channels", "The channels of a connection (offset, limit)"),
    ("/api/adit/v1/pool", "Totals, blocks, the way of the last tip to miners, and every node"),
    ("/api/adit/v1/pool/connections", "Connections, with their devices (offset, limit)"),
    ("/api/adit/v1/pool/connections/{id}", "One connection"),
    (
        "/api/adit/v1/pool/connections/{id}/channels",
        "Its channels, and what became of their shares (offset, limit)",
    ),
    (
        "/api/adit/v1/pool/connections/{id}/workers",
        "Its workers, and what became of their shares (offset, limit)",
    ),
    ("/api/adit/v1/pool/workers", "The workers of all connections (offset, limit)"),
    ("/metrics", "Metrics for Prometheus"),
    ("/metrics/workers", "Metrics of each worker, a series for each name"),
];

/// A node that the pool has its templates from, for those who look.
#[derive(Clone, Debug)]
pub struct WatchedNode {
    name: String,
    health: watch::Receiver<NodeHealth>,
    templates: watch::Receiver<Option<Arc<Template>>>,
}

impl WatchedNode {
    /// A node under the name that its operator knows it by; it does not run any longer for being watched.
    #[must_use]
    pub fn new(name: String, node: &Node) -> Self {
        Self { name, health: node.health(), templates: node.templates() }
    }

    fn view(&self) -> NodeView {
        let (state, reason) = match &*self.health.borrow() {
            NodeHealth::Starting => ("starting", None),
            NodeHealth::Up => ("up", None),
            NodeHealth::Down(error) => ("down", Some(error.to_string())),
        };
        let height = self.templates.borrow().as_ref().map(|template| template.tip.height.0);
        NodeView { name: self.name.clone(), state, reason, height }
    }
}

/// A node at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// As its operator knows it.
    pub name: String,
    /// `starting`, `up` or `down`.
    pub state: &'static str,
    /// Why it is down, if it is.
    pub reason: Option<String>,
    /// Height of the block that its last template is for.
    pub height: Option<u32>,
}

/// A pool and its nodes at one moment.
#[derive(Clone, Debug)]
pub struct PoolView {
    /// The pool.
    pub status: Arc<Status>,
    /// Its nodes, the most preferred first.
    pub nodes: Vec<NodeView>,
}

/// The pages of a pool.
#[derive(Debug)]
pub struct PoolPages {
    /// Whom to ask; nobody, where what is shown stays as it is.
    pool: Option<(ServerHandle, Vec<WatchedNode>)>,
    shown: watch::Sender<Option<Arc<PoolView>>>,
}

impl PoolPages {
    /// Pages that ask the pool when they are asked.
    #[must_use]
    pub fn new(pool: ServerHandle, nodes: Vec<WatchedNode>) -> Self {
        Self { pool: Some((pool, nodes)), shown: watch::Sender::new(None) }
    }

    /// Pages of one moment.
    #[must_use]
    pub fn showing(view: PoolView) -> Self {
        Self { pool: None, shown: watch::Sender::new(Some(Arc::new(view))) }
    }
}

impl Pages for PoolPages {
    fn answer(&self, request: &Request<'_>) -> Answer {
        let shown = self.shown.borrow().clone();
        match (request.path, shown) {
            ("/", _) => Answer::json(&Index::of("Adit pool", INDEX)),
            ("/api/v1/health", _) => Answer::json(&Health::at(Clock.unix())),
            (_, Some(view)) => answer(&view, request),
            (_, None) => Answer::not_found("nothing is known yet"),
        }
    }

    fn prepare(&self, request: &Request<'_>) -> Preparation<'_> {
        let needs_numbers = request.path.starts_with("/metrics") || request.path.starts_with("/api/");
        let Some((pool, nodes)) =
            self.pool.as_ref().filter(|_| needs_numbers && request.path != "/api/v1/health")
        else {
            return Box::pin(ready(()));
        };
        Box::pin(async move {
            let status = pool.status().await;
            let nodes = nodes.iter().map(WatchedNode::view).collect();
            self.shown.send_replace(Some(Arc::new(PoolView { status, nodes })));
        })
    }
}

/// What is said to a request that needs to know how the pool stands.
fn answer(view: &PoolView, request: &Request<'_>) -> Answer {
    let status = &*view.status;
    match request.path {
        "/metrics" => Answer::metrics(metrics::write(view)),
        "/metrics/workers" => Answer::metrics(metrics::workers::write(view)),
        "/api/v1/global" => Answer::json(&sri::Global::of(status)),
        "/api/v1/clients" => part(request, |page| sri::Clients::of(status, page)),
        "/api/adit/v1/pool" => Answer::json(&ours::Overview::of(view)),
        "/api/adit/v1/pool/connections" => part(request, |page| ours::Connections::of(status, page)),
        "/api/adit/v1/pool/workers" => part(request, |page| ours::Workers::of_all(status, page)),
        "/api/v1/server" | "/api/v1/server/channels" => Answer::not_found("Server monitoring not available"),
        path => {
            if let Some(rest) = path.strip_prefix("/api/v1/clients/") {
                one(status, rest, |connection, list| match list {
                    None => Some(Answer::json(&sri::Client::of(connection))),
                    Some("channels") => {
                        let rate = status.rules.vardiff.rate;
                        Some(part(request, |page| sri::Channels::of(connection, rate, page)))
                    }
                    Some(_) => None,
                })
            } else if let Some(rest) = path.strip_prefix("/api/adit/v1/pool/connections/") {
                one(status, rest, |connection, list| match list {
                    None => Some(Answer::json(&ours::Connection::of(status, connection))),
                    Some("channels") => {
                        Some(part(request, |page| ours::Channels::of(status, connection, page)))
                    }
                    Some("workers") => {
                        Some(part(request, |page| ours::Workers::of(status, connection, page)))
                    }
                    Some(_) => None,
                })
            } else if path == "/api/v1/sv1/clients" || path.starts_with("/api/v1/sv1/clients/") {
                Answer::not_found("Sv1 client monitoring not available")
            } else {
                nothing()
            }
        }
    }
}

fn nothing() -> Answer {
    Answer::not_found("no such page; / lists all")
}

/// One connection, by its number, or one of its lists.
fn one<'a>(
    status: &'a Status,
    rest: &str,
    show: impl FnOnce(&'a ConnectionStatus, Option<&str>) -> Option<Answer>,
) -> Answer {
    let (id, list) = rest.split_once('/').map_or((rest, None), |(id, list)| (id, Some(list)));
    let Ok(id) = id.parse::<u32>() else {
        return Answer::bad_request("a connection is named by its number");
    };
    let found = status.connections.binary_search_by_key(&id, |connection| connection.id.0).ok();
    match found.and_then(|at| status.connections.get(at)) {
        Some(connection) => show(connection, list).unwrap_or_else(nothing),
        None => Answer::not_found(&format!("Sv2 client {id} not found")),
    }
}

/// A list with its length and the part of it that is shown.
#[derive(Debug, Serialize)]
struct List<T> {
    offset: usize,
    limit: usize,
    total: usize,
    items: Vec<T>,
}

/// How fast a channel is: measured, once there is enough to measure, and until then what the miner says.
fn speed(channel: &ChannelReport) -> Hashrate {
    if is_measured(channel) { channel.hashrate } else { channel.nominal }
}

const fn is_measured(channel: &ChannelReport) -> bool {
    channel.shares.accepted >= STABLE_SHARES
}

/// The speed of some channels together, in hashes per second.
fn sum<'a>(channels: impl Iterator<Item = &'a ChannelReport>) -> u64 {
    channels.fold(0, |sum, channel| sum.saturating_add(speed(channel).to_hashes_per_second()))
}

/// The channels of all connections.
fn channels(status: &Status) -> impl Iterator<Item = &ChannelReport> {
    status.connections.iter().flat_map(|connection| &connection.report.channels)
}

/// What a program at the other end is, by how it describes itself.
fn client_kind(report: &SessionReport) -> &'static str {
    let is_translator = ["SRI Translator Proxy", "adit translator"]
        .iter()
        .any(|name| report.device.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
    match &*report.device {
        "" => "unknown",
        _ if is_translator => "translator_proxy",
        _ => "miner",
    }
}
