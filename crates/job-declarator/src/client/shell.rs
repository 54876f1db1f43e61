//! The client as a program runs it: a pool server for the miners below, and upstreams that pay for their work.

use std::sync::Arc;

use adit_channel::{ExtranonceBase, ExtranonceBaseError};
use adit_ledger::Unlogged;
use adit_net::Url;
use adit_node::Node;
use adit_pool::PoolConfig;
use adit_pool::server::{Drained, FoundBlocks, Metrics, Parts, RELAY_MAX, Server, ServerConfig, StartError};
use adit_share::FULL_EXTRANONCE_LEN;
use adit_transport::Identity;
use adit_units::Hashrate;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::link::Destination;
use super::steward::Steward;
use super::{Mode, UpstreamConfig};

/// The fewest bytes of extranonce that an upstream must leave: six tell the channels below apart, the rest is for miners to roll.
const CHANNEL_BYTES: u16 = 6;

/// One upstream, as the operator names it.
#[derive(Clone, Debug)]
pub struct UpstreamTarget {
    /// The pool.
    pub pool: Url,
    /// Its job declarator server.
    pub declarator: Url,
    /// Whom the pool is to credit.
    pub user: String,
    /// What the server is shown.
    pub mode: Mode,
}

/// What a client goes by.
#[derive(Clone, Debug)]
pub struct JdcConfig {
    /// Best first.
    pub upstreams: Vec<UpstreamTarget>,
    /// The rules for miners when they work for themselves: the payout script is theirs. Those for an upstream are the same but for
    /// payout and extranonce.
    pub solo: PoolConfig,
    /// Bytes of extranonce that each extended channel below may roll.
    pub rollable_len: usize,
    /// How fast the miners are together as far as it is known at the start.
    pub nominal_hashrate: Hashrate,
    /// Whether upstreams elsewhere may do without a key that they are known by.
    pub insecure: bool,
}

impl JdcConfig {
    /// What extranonces are like while miners work for themselves: as long as usual, and with as much to roll as always.
    fn extranonce_alone(&self) -> Result<ExtranonceBase, JdcStartError> {
        Ok(ExtranonceBase::new(&[], FULL_EXTRANONCE_LEN, self.rollable_len)?)
    }

    /// Where an attempt at that upstream goes.
    pub(super) fn destination(&self, upstream: usize) -> Option<Destination> {
        let UpstreamTarget { pool, declarator, user, mode } = self.upstreams.get(upstream)?.clone();
        let host = |url: &Url| (url.host().to_owned(), url.port());
        let rollable = u16::try_from(self.rollable_len).unwrap_or(u16::MAX);
        let config = UpstreamConfig {
            pool: host(&pool),
            declarator: host(&declarator),
            user,
            mode,
            nominal_hashrate: self.nominal_hashrate,
            min_extranonce_size: rollable.saturating_add(CHANNEL_BYTES),
            names_workers: true,
        };
        Some(Destination { pool, declarator, insecure: self.insecure, upstream: Arc::new(config) })
    }
}

/// Whose work the miners do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamStatus {
    /// That of the last one, until another is found.
    #[default]
    Stranded,
    /// Their own.
    Solo,
    /// That of this upstream, counted from zero.
    Using(usize),
}

/// What goes on above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Whose work the miners do.
    pub upstream: UpstreamStatus,
    /// Jobs that an upstream has promised to pay for.
    pub jobs_accepted: u64,
    /// Shares that an upstream has accepted.
    pub shares_accepted: u64,
    /// Shares that an upstream has refused.
    pub shares_refused: u64,
    /// Shares that no upstream has seen, because their job was never accepted or the link was lost.
    pub shares_lost: u64,
    /// Why an upstream was last left or could not be set up.
    pub last_error: Option<String>,
}

/// What a client is made of.
#[derive(Debug)]
pub struct JdcParts {
    /// A number that no earlier start of this client had, so that no two of its jobs are alike.
    pub boot: u32,
    /// The miners' own node.
    pub node: Node,
    /// Hands found blocks to that node, whatever becomes of upstreams.
    pub blocks: FoundBlocks,
    /// What the miners are shown in the handshake.
    pub identity: Arc<Identity>,
}

/// Why a client cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JdcStartError {
    /// What miners are to roll does not fit.
    #[error(transparent)]
    Rollable(#[from] ExtranonceBaseError),
    /// The server for the miners below cannot be started.
    #[error(transparent)]
    Server(#[from] StartError),
}

/// A running client.
#[derive(Debug)]
pub struct Jdc {
    server: Server,
    activity: watch::Receiver<Activity>,
    steward: JoinHandle<()>,
}

impl Jdc {
    /// Starts the server for the miners below.
    ///
    /// # Errors
    ///
    /// As [`Server::start`], and if miners are to roll more than there is.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn start(config: JdcConfig, listen: ServerConfig, parts: JdcParts) -> Result<Self, JdcStartError> {
        let (relay, shares) = mpsc::channel(RELAY_MAX);
        let solo = PoolConfig { extranonce: config.extranonce_alone()?, any_user: true, ..config.solo };
        let config = JdcConfig { solo, ..config };
        let JdcParts { boot, node, blocks, identity } = parts;
        // What the miners earn is written down by whoever pays for it.
        let (log, outcome) = Unlogged::open();
        let (pool, relay) = (config.solo.clone(), Some(relay));
        let parts =
            Parts { pool, boot, node: node.clone(), log, outcome, blocks, identity, relay, declared: None };
        let server = Server::start(listen, parts)?;
        let (noted, activity) = watch::channel(Activity::default());
        let steward = Steward::new(Arc::new(config), server.handle(), node, shares, noted);
        let steward = tokio::spawn(steward.run());
        Ok(Self { server, activity, steward })
    }

    /// The server for the miners below.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The numbers of that server as they stand.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.server.metrics()
    }

    /// What goes on above.
    #[must_use]
    pub fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.clone()
    }

    /// Ends in order: miners are let go, their last shares passed on, blocks seen to the node.
    pub async fn shutdown(self) -> Drained {
        let Self { server, steward, .. } = self;
        let drained = server.shutdown().await;
        if let Err(panic) = steward.await {
            tracing::error!(%panic, "the steward failed");
        }
        drained
    }
}
