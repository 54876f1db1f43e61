//! A pool, a client and a miner to test with.

use core::num::NonZeroUsize;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_channel::{ShareRecord, TokenKey};
use adit_job_declarator::client::{Jdc, JdcConfig, JdcParts, Mode, UpstreamTarget};
use adit_job_declarator::server::{DeclaredTemplates, Jds, JdsConfig, JdsParts, JdsServerConfig};
use adit_miner::{ChannelKind, Miner, MinerConfig, MinerHandle};
use adit_net::OsRng;
use adit_node::Node;
use adit_node::tdp::{ProviderConfig, TdpConfig, TemplateProvider};
use adit_pool::CustomJobs;
use adit_pool::server::ServerConfig;
use adit_testkit::stage::{self, Plan, SPEED, found_blocks, free, rules};
pub(crate) use adit_testkit::stage::{eventually, height, identity, script, url};
use adit_transport::AuthorityKeyPair;
use adit_units::Work;
use bitcoin::Network;

/// What a block costs: little enough for a processor, and many times what a share costs.
const BLOCK: Work = Work::from_hashes(1 << 24);

/// A chain on which blocks are found every few seconds.
pub(crate) fn chain() -> Node {
    stage::chain(BLOCK)
}

/// The same chain as a template provider serves it.
pub(crate) async fn provided(node: &Node) -> (TemplateProvider, Node) {
    let authority = AuthorityKeyPair::generate(&mut OsRng);
    let config = ProviderConfig::new(free());
    let provider = TemplateProvider::start(config, node.clone(), identity(&authority)).await.unwrap();
    let url = url(provider.address(), Some(authority.public_key()));
    (provider, Node::tdp(&TdpConfig::new(url, Network::Regtest)))
}

/// What a pool keeps when it is started again.
pub(crate) struct Keys {
    authority: AuthorityKeyPair,
    token: Arc<TokenKey>,
}

/// A pool with its job declarator server.
pub(crate) struct Pool {
    pool: stage::Pool,
    jds: Jds,
    node: Node,
    token: Arc<TokenKey>,
}

impl Pool {
    pub(crate) fn start(node: &Node) -> Self {
        let authority = AuthorityKeyPair::generate(&mut OsRng);
        let token = Arc::new(TokenKey::generate(&mut OsRng));
        Self::start_again(node, (free(), free()), Keys { authority, token })
    }

    /// Starts at addresses that it may have had before.
    pub(crate) fn start_again(node: &Node, ports: (SocketAddr, SocketAddr), keys: Keys) -> Self {
        let Keys { authority, token } = keys;
        let mut plan = Plan::new(node, authority);
        let declared = DeclaredTemplates::default();
        let jds = JdsParts {
            rules: JdsConfig::new(script("pool")),
            key: Arc::clone(&token),
            node: node.clone(),
            blocks: plan.parts.blocks.clone(),
            identity: Arc::clone(&plan.parts.identity),
            declared: declared.clone(),
        };
        plan.parts.pool.custom_jobs =
            Some(CustomJobs { key: Arc::clone(&token), accepts_undeclared: true, least_pool_percent: 100 });
        plan.parts.declared = Some(Arc::new(declared));
        let jds = Jds::start(JdsServerConfig::new(ports.1), jds).unwrap();
        Self { pool: plan.start(ports.0), jds, node: node.clone(), token }
    }

    /// As a client names it.
    pub(crate) fn target(&self, mode: Mode) -> UpstreamTarget {
        let declarator = url(self.jds.address(), Some(self.pool.key()));
        UpstreamTarget { pool: self.pool.url(), declarator, user: "farm.house".to_owned(), mode }
    }

    /// Where the pool and its job declarator server are.
    pub(crate) fn ports(&self) -> (SocketAddr, SocketAddr) {
        (self.pool.address(), self.jds.address())
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
        self.pool.channels()
    }

    /// What is in the share log.
    pub(crate) fn records(&self) -> Vec<ShareRecord> {
        self.pool.records()
    }

    pub(crate) async fn stop(self) -> Keys {
        self.jds.shutdown().await;
        Keys { authority: self.pool.stop().await, token: self.token }
    }
}

/// A client of these pools, the best first.
pub(crate) fn client(node: &Node, upstreams: &[UpstreamTarget]) -> Jdc {
    let config = JdcConfig {
        upstreams: upstreams.to_vec(),
        solo: rules(2, script("miner")),
        rollable_len: 8,
        nominal_hashrate: SPEED,
        insecure: false,
    };
    let identity = identity(&AuthorityKeyPair::generate(&mut OsRng));
    let parts = JdcParts { boot: 1, node: node.clone(), blocks: found_blocks(node), identity };
    Jdc::start(config, ServerConfig::new(free()), parts).unwrap()
}

/// A miner on that client.
pub(crate) fn miner(jdc: &Jdc) -> MinerHandle {
    let url = url(jdc.server().address(), None);
    let config = MinerConfig {
        insecure: true,
        channel: ChannelKind::Extended,
        threads: NonZeroUsize::new(1),
        nominal_hashrate: Some(SPEED),
        ..MinerConfig::new(url, "rig")
    };
    Miner::start(config).unwrap()
}
