//! Pools and translators to test with.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_channel::ShareRecord;
use adit_ledger::segment::Position;
use adit_ledger::storage::faulty::FaultyStorage;
use adit_ledger::{BlockStore, LogConfig, Opened, open_in, read_in};
use adit_net::{Bound, Clock, Limits, OsRng, Url};
use adit_node::{DevnetConfig, Node, Pace};
use adit_pool::PoolConfig;
use adit_pool::server::{FoundBlocks, Parts, Server, ServerConfig};
use adit_translator::server::{Mode, Translator, TranslatorConfig, UpstreamTarget};
use adit_translator::{MachineConfig, Override};
use adit_transport::{AuthorityKeyPair, Identity, StaticKeyPair};
use adit_units::{Hashrate, ShareRate, UnixTime, Work};
use bitcoin::hashes::Hash as _;
use bitcoin::{Network, ScriptBuf, WPubkeyHash};
use tokio::time::{sleep, timeout};

/// Longer than anything should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a block costs, in expected hashes: few enough for a processor, and many times what a share costs.
const BLOCK_HASHES: u128 = 1 << 24;

/// A processor's speed, as far as difficulties are concerned.
const SPEED: Hashrate = Hashrate::from_hashes_per_second(100_000);

/// Several shares a second.
const RATE: ShareRate = ShareRate::from_shares_per_minute(600);

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

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A pool that speaks SV2.
pub(crate) struct Pool {
    server: Server,
    log: FaultyStorage,
    authority: AuthorityKeyPair,
}

impl Pool {
    pub(crate) fn start(node: &Node) -> Self {
        Self::start_again(node, free(), AuthorityKeyPair::generate(&mut OsRng))
    }

    /// Starts at an address that it may have had before.
    pub(crate) fn start_again(node: &Node, address: SocketAddr, authority: AuthorityKeyPair) -> Self {
        let (own, end) = (StaticKeyPair::generate(&mut OsRng), UnixTime::from_secs(u32::MAX));
        let identity = Arc::new(Identity::new(&authority, own, UnixTime::default(), end).unwrap());
        let log = FaultyStorage::default();
        let Opened { log: shares, boot, outcome, .. } =
            open_in(log.clone(), LogConfig::new(1), Clock.unix()).unwrap();
        let blocks =
            FoundBlocks::open(node.clone(), BlockStore::open_in(FaultyStorage::default()).unwrap()).unwrap();
        let payout = ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(b"pool"));
        let mut rules =
            PoolConfig { network: Network::Regtest, halving_interval: 150, ..PoolConfig::new(1, payout) };
        rules.vardiff.rate = RATE;
        let parts = Parts {
            pool: rules,
            boot,
            node: node.clone(),
            log: shares,
            outcome,
            blocks,
            identity,
            relay: None,
            declared: None,
        };
        let server = Server::start(ServerConfig::new(address), parts).unwrap();
        Self { server, log, authority }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// As a translator names it.
    pub(crate) fn target(&self, user: &str) -> UpstreamTarget {
        let (address, key) = (self.address(), self.authority.public_key());
        let url = Url::new(address.ip().to_string(), address.port(), Some(key)).unwrap();
        UpstreamTarget { pool: url.into(), user: user.to_owned(), expects: None }
    }

    /// What is in the share log.
    pub(crate) fn records(&self) -> Vec<ShareRecord> {
        let records = read_in(self.log.after_kill(), Position(0)).unwrap();
        records.map(|record| record.unwrap().1).collect()
    }

    pub(crate) async fn stop(self) -> AuthorityKeyPair {
        self.server.shutdown().await;
        self.authority
    }
}

/// A translator as another names it: a pool that speaks SV1.
pub(crate) fn legacy_target(translator: &Translator, user: &str) -> UpstreamTarget {
    let pool = format!("stratum+tcp://{}", translator.address()).parse().unwrap();
    UpstreamTarget { pool, user: user.to_owned(), expects: None }
}

/// A translator for machines that are as fast as a processor.
pub(crate) fn translator(upstreams: Vec<UpstreamTarget>, extranonce2_len: u8) -> Translator {
    let device = Override { pattern: "adit".into(), nominal: Some(SPEED), least_difficulty: None };
    let machine =
        MachineConfig { rate: RATE, extranonce2_len, devices: vec![device], ..MachineConfig::default() };
    let config = TranslatorConfig {
        upstreams,
        mode: Mode::Aggregated,
        machine,
        keepalive: Duration::from_secs(30),
        first_guess: SPEED,
        limits: Limits::default(),
        insecure: false,
        allows_public: false,
        expects_proxy: false,
    };
    Translator::start(config, Bound::new(free()).unwrap()).unwrap()
}
