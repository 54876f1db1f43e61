//! A pool to test against, with everything it stands on.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_channel::ShareRecord;
use adit_ledger::segment::Position;
use adit_ledger::storage::faulty::FaultyStorage;
use adit_ledger::{BlockStore, LogConfig, Opened, ShareLog, open_in, read_in};
use adit_net::{Bound, Clock, OsRng};
use adit_node::{DevnetConfig, Node, Pace};
use adit_pool::PoolConfig;
use adit_pool::server::{Event, FoundBlocks, Parts, Server, ServerConfig};
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, Identity, StaticKeyPair};
use adit_units::{Target, UnixTime, Work};
use bitcoin::ScriptBuf;
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::miner::Miner;

/// Longer than anything should take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a block costs where miners are to find some, in expected hashes.
const FEW_HASHES: u128 = 1 << 12;

/// What a block costs where none is to be found, in expected hashes.
const MANY_HASHES: u128 = 1 << 60;

/// A running pool.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) node: Node,
    pub(crate) log_storage: FaultyStorage,
    pub(crate) block_storage: FaultyStorage,
    pub(crate) authority: AuthorityPublicKey,
    /// The authority's secret, to sign more server keys.
    pub(crate) authority_keys: AuthorityKeyPair,
}

/// A key for a server, and the authority's word for it until then.
pub(crate) fn certified(keys: &AuthorityKeyPair, until: UnixTime) -> Arc<Identity> {
    let key = StaticKeyPair::generate(&mut OsRng);
    Arc::new(Identity::new(keys, key, UnixTime::default(), until).unwrap())
}

/// What a stage is made from.
pub(crate) struct Plan {
    pub(crate) server: ServerConfig,
    pub(crate) pool: PoolConfig,
    pub(crate) node: Node,
    pub(crate) log_storage: FaultyStorage,
    pub(crate) block_storage: FaultyStorage,
    /// How many appends the share log holds that it has not come to.
    pub(crate) log_queue: usize,
}

impl Plan {
    /// A pool whose every hash is a share, on a chain that does not move.
    pub(crate) fn quiet() -> Self {
        Self::on_chain(MANY_HASHES)
    }

    /// A pool whose every hash is a share, on a chain where blocks are quickly found.
    pub(crate) fn with_blocks() -> Self {
        Self::on_chain(FEW_HASHES)
    }

    fn on_chain(block_hashes: u128) -> Self {
        let mut pool = PoolConfig::new(1, ScriptBuf::from_bytes(vec![0x51]));
        (pool.vardiff.easiest, pool.vardiff.hardest) = (Target::MAX, Target::MAX);
        let mut seed = [0; 32];
        rand_core::Rng::fill_bytes(&mut OsRng, &mut seed);
        let devnet = DevnetConfig {
            pace: Pace::Fixed(Work::from_hashes(block_hashes)),
            arrival: Duration::ZERO,
            ..DevnetConfig::new(seed)
        };
        Self {
            server: ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))),
            pool,
            node: Node::devnet(&devnet, || Clock.now()),
            log_storage: FaultyStorage::default(),
            block_storage: FaultyStorage::default(),
            log_queue: 4_096,
        }
    }

    pub(crate) fn start(self) -> Stage {
        let bound = Bound::new(self.server.listen).unwrap();
        self.start_on(bound)
    }

    /// Starts on a socket that is there already.
    pub(crate) fn start_on(self, bound: Bound) -> Stage {
        let Self { server, pool, node, log_storage, block_storage, log_queue } = self;
        let config = LogConfig { queue_len: log_queue, ..LogConfig::new(pool.instance) };
        let opened = open_in(log_storage.clone(), config, Clock.unix()).unwrap();
        let Opened { log, boot, outcome, .. } = opened;
        let authority_keys = AuthorityKeyPair::generate(&mut OsRng);
        let identity = certified(&authority_keys, UnixTime::from_secs(u32::MAX));
        let authority = identity.authority();
        let blocks = BlockStore::open_in(block_storage.clone()).unwrap();
        let blocks = FoundBlocks::open(node.clone(), blocks).unwrap();
        let parts: Parts<ShareLog> = Parts {
            pool,
            boot,
            node: node.clone(),
            log,
            outcome,
            blocks,
            identity,
            relay: None,
            declared: None,
        };
        let server = Server::start_on(bound, server, parts).unwrap();
        Stage { server, node, log_storage, block_storage, authority, authority_keys }
    }
}

impl Stage {
    /// A miner with one extended channel and a job; waits until the pool listens.
    pub(crate) async fn miner(&self) -> Miner {
        let mut miner = Miner::connect(self.server.address(), self.authority).await;
        miner.set_up().await;
        miner.open("alice.rig").await;
        miner
    }

    /// Height of the block that is mined now.
    pub(crate) fn height(&self) -> u32 {
        self.node.templates().borrow().as_ref().map_or(0, |template| template.tip.height.0)
    }

    /// Waits until the chain has grown so that this is the height of the block that is mined.
    pub(crate) async fn reaches(&self, height: u32) {
        let mut templates = self.node.templates();
        let grown = templates
            .wait_for(|template| template.as_ref().is_some_and(|template| template.tip.height.0 >= height));
        timeout(PATIENCE, grown).await.expect("the chain did not grow").unwrap();
    }

    /// What a process would find in the share log if this one were killed now.
    pub(crate) fn records(&self) -> Vec<ShareRecord> {
        records(&self.log_storage)
    }
}

/// All records in a log, whose last commit may be unfinished.
pub(crate) fn records(storage: &FaultyStorage) -> Vec<ShareRecord> {
    let records = read_in(storage.after_kill(), Position(0)).unwrap();
    records.map(|record| record.unwrap().1).collect()
}

/// The next event that `wanted` recognises.
pub(crate) async fn event<T>(
    events: &mut broadcast::Receiver<Event>,
    mut wanted: impl FnMut(Event) -> Option<T>,
) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(events.recv().await.unwrap()) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("it did not happen")
}
