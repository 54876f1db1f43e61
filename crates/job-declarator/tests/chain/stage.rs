//! A pool, a client and a miner to test with.

use core::num::NonZeroUsize;
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_channel::{ShareRecord, TokenKey};
use adit_job_declarator::client::{Jdc, JdcConfig, JdcParts, Mode, UpstreamTarget};
use adit_job_declarator::server::{DeclaredTemplates, Jds, JdsConfig, JdsParts, JdsServerConfig};
use adit_ledger::segment::Position;
use adit_ledger::storage::faulty::FaultyStorage;
use adit_ledger::{BlockStore, LogConfig, Opened, open_in, read_in};
use adit_miner::{ChannelKind, Miner, MinerConfig, MinerHandle};
use adit_net::{Clock, OsRng, Url};
use adit_node::tdp::{ProviderConfig, TdpConfig, TemplateProvider};
use adit_node::{DevnetConfig, Node, Pace};
use adit_pool::server::{FoundBlocks, Parts, Server, ServerConfig};
use adit_pool::{CustomJobs, PoolConfig};
use adit_transport::{AuthorityKeyPair, Identity, StaticKeyPair};
use adit_units::{Hashrate, UnixTime, Work};
use bitcoin::hashes::Hash as _;
use bitcoin::{Network, ScriptBuf, WPubkeyHash};
use tokio::time::{sleep, timeout};

/// Longer than anything should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a block costs, in expected hashes: few enough for a processor, and many times what a share costs.
const BLOCK_HASHES: u128 = 1 << 24;

/// A processor's speed, as far as difficulties are concerned.
const SPEED: Hashrate = Hashrate::from_hashes_per_second(100_000);

pub(crate) fn script(of: &str) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(of.as_bytes()))
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A chain on which blocks are found every few seconds.
pub(crate) fn chain() -> Node {
    let mut seed = [0; 32];
    rand_core::Rng::fill_bytes(&mut OsRng, &mut seed);
    let config =
        DevnetConfig { pace: Pace::Fixed(Work::from_hashes(BLOCK_HASHES)), ..DevnetConfig::new(seed) };
    Node::devnet(&config, || Clock.now())
}

/// The same chain as a template provider serves it.
pub(crate) async fn provided(node: &Node) -> (TemplateProvider, Node) {
    let authority = AuthorityKeyPair::generate(&mut OsRng);
    let config = ProviderConfig::new(free());
    let provider = TemplateProvider::start(config, node.clone(), identity(&authority)).await.unwrap();
    let address = provider.address();
    let url = Url::new(address.ip().to_string(), address.port(), Some(authority.public_key())).unwrap();
    (provider, Node::tdp(&TdpConfig::new(url, Network::Regtest)))
}

/// Height of the block that is mined now.
pub(crate) fn height(node: &Node) -> u32 {
    node.templates().borrow().as_ref().map_or(0, |template| template.tip.height.0)
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Rules under which a processor finds several shares a second.
fn rules(instance: u16, payout: ScriptBuf) -> PoolConfig {
    let mut rules =
        PoolConfig { network: Network::Regtest, halving_interval: 150, ..PoolConfig::new(instance, payout) };
    rules.vardiff.rate = adit_units::ShareRate::from_shares_per_minute(600);
    rules
}

/// What a pool keeps when it is started again.
pub(crate) struct Keys {
    authority: AuthorityKeyPair,
    token: Arc<TokenKey>,
}

/// A pool with its job declarator server.
pub(crate) struct Pool {
    server: Server,
    jds: Jds,
    node: Node,
    log: FaultyStorage,
    keys: Keys,
}

impl Pool {
    pub(crate) fn start(node: &Node) -> Self {
        let authority = AuthorityKeyPair::generate(&mut OsRng);
        let token = Arc::new(TokenKey::generate(&mut OsRng));
        Self::start_again(node, (free(), free()), Keys { authority, token })
    }

    /// Starts at addresses that it may have had before.
    pub(crate) fn start_again(node: &Node, ports: (SocketAddr, SocketAddr), keys: Keys) -> Self {
        let identity = identity(&keys.authority);
        let log = FaultyStorage::default();
        let Opened { log: shares, boot, outcome, .. } =
            open_in(log.clone(), LogConfig::new(1), Clock.unix()).unwrap();
        let blocks =
            FoundBlocks::open(node.clone(), BlockStore::open_in(FaultyStorage::default()).unwrap()).unwrap();
        let declared = DeclaredTemplates::default();
        let jds = JdsParts {
            rules: JdsConfig::new(script("pool")),
            key: Arc::clone(&keys.token),
            node: node.clone(),
            blocks: blocks.clone(),
            identity: Arc::clone(&identity),
            declared: declared.clone(),
        };
        let custom_jobs =
            CustomJobs { key: Arc::clone(&keys.token), accepts_undeclared: true, least_pool_percent: 100 };
        let parts = Parts {
            pool: PoolConfig { custom_jobs: Some(custom_jobs), ..rules(1, script("pool")) },
            boot,
            node: node.clone(),
            log: shares,
            outcome,
            blocks,
            identity,
            relay: None,
            declared: Some(Arc::new(declared)),
        };
        let jds = Jds::start(JdsServerConfig::new(ports.1), jds).unwrap();
        let server = Server::start(ServerConfig::new(ports.0), parts).unwrap();
        Self { server, jds, node: node.clone(), log, keys }
    }

    /// As a client names it.
    pub(crate) fn target(&self, mode: Mode) -> UpstreamTarget {
        let key = self.keys.authority.public_key();
        let url =
            |address: SocketAddr| Url::new(address.ip().to_string(), address.port(), Some(key)).unwrap();
        let (pool, declarator) = (url(self.server.address()), url(self.jds.address()));
        UpstreamTarget { pool, declarator, user: "farm.house".to_owned(), mode }
    }

    /// Where the pool and its job declarator server are.
    pub(crate) fn ports(&self) -> (SocketAddr, SocketAddr) {
        (self.server.address(), self.jds.address())
    }

    /// Whether both servers take connections, which they do some time after they have started.
    pub(crate) fn listens(&self) -> bool {
        let (pool, declarator) = self.ports();
        [pool, declarator].iter().all(|address| std::net::TcpStream::connect(address).is_ok())
    }

    pub(crate) fn height(&self) -> u32 {
        height(&self.node)
    }

    /// Channels that are open.
    pub(crate) fn channels(&self) -> u64 {
        self.server.metrics().channels
    }

    /// What is in the share log.
    pub(crate) fn records(&self) -> Vec<ShareRecord> {
        let records = read_in(self.log.after_kill(), Position(0)).unwrap();
        records.map(|record| record.unwrap().1).collect()
    }

    pub(crate) async fn stop(self) -> Keys {
        self.jds.shutdown().await;
        self.server.shutdown().await;
        self.keys
    }
}

pub(crate) fn identity(authority: &AuthorityKeyPair) -> Arc<Identity> {
    let (own, end) = (StaticKeyPair::generate(&mut OsRng), UnixTime::from_secs(u32::MAX));
    Arc::new(Identity::new(authority, own, UnixTime::default(), end).unwrap())
}

/// A client of these pools, the best first.
pub(crate) fn client(node: &Node, upstreams: &[UpstreamTarget]) -> Jdc {
    let blocks =
        FoundBlocks::open(node.clone(), BlockStore::open_in(FaultyStorage::default()).unwrap()).unwrap();
    let config = JdcConfig {
        upstreams: upstreams.to_vec(),
        solo: rules(2, script("miner")),
        rollable_len: 8,
        nominal_hashrate: SPEED,
        insecure: false,
    };
    let identity = identity(&AuthorityKeyPair::generate(&mut OsRng));
    let parts = JdcParts { boot: 1, node: node.clone(), blocks, identity };
    Jdc::start(config, ServerConfig::new(free()), parts).unwrap()
}

/// A miner on that client.
pub(crate) fn miner(jdc: &Jdc) -> MinerHandle {
    let address = jdc.server().address();
    let url = Url::new(address.ip().to_string(), address.port(), None).unwrap();
    let config = MinerConfig {
        insecure: true,
        channel: ChannelKind::Extended,
        threads: NonZeroUsize::new(1),
        nominal_hashrate: Some(SPEED),
        ..MinerConfig::new(url, "rig")
    };
    Miner::start(config).unwrap()
}
