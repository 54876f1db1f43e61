//! Pools on a chain in memory, for tests of the roles that stand between pools and miners.
//!
//! It is behind the feature `stage`, because no program may be built with a share log that keeps nothing.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use adit_channel::ShareRecord;
use adit_ledger::segment::Position;
use adit_ledger::storage::faulty::FaultyStorage;
use adit_ledger::{BlockStore, LogConfig, Opened, ShareLog, open_in, read_in};
use adit_net::{Clock, OsRng, Url};
use adit_node::{DevnetConfig, Node, Pace};
use adit_pool::PoolConfig;
use adit_pool::server::{FoundBlocks, Parts, Server, ServerConfig};
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, Identity, StaticKeyPair};
use adit_units::{Hashrate, ShareRate, UnixTime, Work};
use bitcoin::hashes::Hash as _;
use bitcoin::{Network, ScriptBuf, WPubkeyHash};
use tokio::time::{sleep, timeout};

/// Longer than anything should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A processor's speed, as far as difficulties are concerned.
pub const SPEED: Hashrate = Hashrate::from_hashes_per_second(100_000);

/// Several shares a second, for a processor to show quickly that it mines.
pub const RATE: ShareRate = ShareRate::from_shares_per_minute(600);

/// Where somebody is paid, who is only a name.
#[must_use]
pub fn script(of: &str) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(of.as_bytes()))
}

/// An address of this machine, with a port that is free.
#[must_use]
pub fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// That address as a URL, with the key of who must be there.
///
/// # Panics
///
/// Never: any address can stand in a URL.
#[must_use]
pub fn url(address: SocketAddr, key: Option<AuthorityPublicKey>) -> Url {
    Url::new(address.ip().to_string(), address.port(), key).expect("an address and a port make a URL")
}

/// A new chain on which a block costs that.
#[must_use]
pub fn chain(block: Work) -> Node {
    let mut seed = [0; 32];
    rand_core::Rng::fill_bytes(&mut OsRng, &mut seed);
    let config = DevnetConfig { pace: Pace::Fixed(block), ..DevnetConfig::new(seed) };
    Node::devnet(&config, || Clock.now())
}

/// Height of the block that is mined now; zero as long as there is none.
#[must_use]
pub fn height(node: &Node) -> u32 {
    node.templates().borrow().as_ref().map_or(0, |template| template.tip.height.0)
}

/// Waits until something is so.
///
/// # Panics
///
/// If that takes minutes; `what` says then what has not come to be so.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A new key for a server, with the authority's word for it.
///
/// # Panics
///
/// Never: the certificate holds for all time.
#[must_use]
pub fn identity(authority: &AuthorityKeyPair) -> Arc<Identity> {
    let (own, end) = (StaticKeyPair::generate(&mut OsRng), UnixTime::from_secs(u32::MAX));
    Arc::new(Identity::new(authority, own, UnixTime::default(), end).expect("it begins before it ends"))
}

/// Rules under which a processor finds several shares a second.
#[must_use]
pub fn rules(instance: u16, payout: ScriptBuf) -> PoolConfig {
    let mut rules =
        PoolConfig { network: Network::Regtest, halving_interval: 150, ..PoolConfig::new(instance, payout) };
    rules.vardiff.rate = RATE;
    rules
}

/// What hands found blocks to the node; they are kept in memory.
///
/// # Panics
///
/// Never: nothing fails in memory unless a test asks for it.
#[must_use]
pub fn found_blocks(node: &Node) -> FoundBlocks {
    let store = BlockStore::open_in(FaultyStorage::default()).expect("a store in memory opens");
    FoundBlocks::open(node.clone(), store).expect("an empty store has no block that cannot be read")
}

/// A pool that does not run yet.
#[derive(Debug)]
pub struct Plan {
    /// What it is going to be made of, for a test to change.
    pub parts: Parts<ShareLog>,
    log: FaultyStorage,
    authority: AuthorityKeyPair,
}

impl Plan {
    /// A pool that pays [`script`]`("pool")` and has no share yet.
    ///
    /// # Panics
    ///
    /// Never: nothing fails in memory unless a test asks for it.
    #[must_use]
    pub fn new(node: &Node, authority: AuthorityKeyPair) -> Self {
        let log = FaultyStorage::default();
        let Opened { log: shares, boot, outcome, .. } =
            open_in(log.clone(), LogConfig::new(1), Clock.unix()).expect("a share log in memory opens");
        let parts = Parts {
            pool: rules(1, script("pool")),
            boot,
            node: node.clone(),
            log: shares,
            outcome,
            blocks: found_blocks(node),
            identity: identity(&authority),
            relay: None,
            declared: None,
        };
        Self { parts, log, authority }
    }

    /// Starts it at an address.
    ///
    /// # Panics
    ///
    /// If the address is taken, or what the test has changed does not fit together.
    #[must_use]
    pub fn start(self, address: SocketAddr) -> Pool {
        let Self { parts, log, authority } = self;
        let server = Server::start(ServerConfig::new(address), parts).expect("the pool starts");
        Pool { server, log, authority }
    }
}

/// A running pool, whose share log is kept in memory.
#[derive(Debug)]
pub struct Pool {
    server: Server,
    log: FaultyStorage,
    authority: AuthorityKeyPair,
}

impl Pool {
    /// Starts one at any address with keys of its own.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start(node: &Node) -> Self {
        Self::start_again(node, free(), AuthorityKeyPair::generate(&mut OsRng))
    }

    /// Starts at an address, with an authority, that it may have had before; its share log is empty again.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn start_again(node: &Node, address: SocketAddr, authority: AuthorityKeyPair) -> Self {
        Plan::new(node, authority).start(address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Whom its clients must trust.
    #[must_use]
    pub fn key(&self) -> AuthorityPublicKey {
        self.authority.public_key()
    }

    /// Both, as a client names them.
    #[must_use]
    pub fn url(&self) -> Url {
        url(self.address(), Some(self.key()))
    }

    /// Channels that are open.
    #[must_use]
    pub fn channels(&self) -> u64 {
        self.server.metrics().channels
    }

    /// What is in the share log, as it would be found if the pool were killed now.
    ///
    /// # Panics
    ///
    /// If there is a record that cannot be read.
    #[must_use]
    pub fn records(&self) -> Vec<ShareRecord> {
        let records = read_in(self.log.after_kill(), Position(0)).expect("the share log is there");
        records.map(|record| record.expect("what the pool has written can be read").1).collect()
    }

    /// Stops it; what its clients trust in is left for [`Pool::start_again`].
    pub async fn stop(self) -> AuthorityKeyPair {
        self.server.shutdown().await;
        self.authority
    }
}
