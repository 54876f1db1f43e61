//! What the steward knows of upstreams and machines, for those who want to see it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::server::link::count_code;
use crate::status::{ChannelStatus, UpstreamShares, UpstreamState};

/// What the steward knows, for those who want to see it.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Overview {
    pub(in crate::server) upstreams: Vec<Known>,
    /// What became above of the shares of each machine.
    pub(in crate::server) machines: HashMap<u64, UpstreamShares>,
}

impl Overview {
    /// Nothing is known yet of any of that many upstreams.
    pub(in crate::server) fn of(upstreams: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { upstreams: vec![Known::default(); upstreams], machines: HashMap::new() }))
    }
}

/// What is known of one upstream.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Known {
    pub(in crate::server) state: UpstreamState,
    pub(in crate::server) channels: Vec<ChannelStatus>,
    pub(in crate::server) shares: UpstreamShares,
}

/// Adds what has come since to what is known of a machine; what was sent since then waits for an answer until one comes.
pub(super) fn follow(sum: &mut UpstreamShares, more: &UpstreamShares) {
    add(sum, more);
    let settled = more.accepted + more.refused + more.lost;
    sum.pending = (sum.pending + more.pending).saturating_sub(settled);
}

/// Adds what has come since.
pub(super) fn add(sum: &mut UpstreamShares, more: &UpstreamShares) {
    sum.accepted += more.accepted;
    sum.refused += more.refused;
    sum.lost += more.lost;
    sum.work = sum.work.saturating_add(more.work);
    for (code, times) in &more.refusals {
        count_code(&mut sum.refusals, code.clone(), *times);
    }
}
