//! The job declarator server beside the pool that `adit bench` starts, and a job that can be declared to it.

use core::net::SocketAddr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use adit_channel::TokenKey;
use adit_job_declarator::server::{DeclaredTemplates, Jds, JdsConfig, JdsParts, JdsServerConfig};
use adit_net::{Clock, OsRng, background_runtime};
use adit_node::{DevnetConfig, Node};
use adit_pool::server::FoundBlocks;
use adit_share::{MAX_EXTRANONCE_LEN, RawTransaction, Template};
use adit_testkit::flood::DeclarableJob;
use adit_transport::Identity;
use anyhow::Context as _;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute, consensus,
};

use tokio::runtime::Runtime;

use super::anyone;

/// The file in the data folder that says what can be declared.
pub(in crate::commands::bench) const DECLARABLE: &str = "declarable.json";

/// Bytes of a transaction before its first script: the version, the witness marker, a count, an outpoint, and a length.
const BEFORE_SCRIPT: usize = 4 + 2 + 1 + 36 + 1;

/// What the server stands on.
pub(super) struct Foundation {
    /// The test chain that the pool mines on.
    pub(super) chain: DevnetConfig,
    pub(super) blocks: FoundBlocks,
    pub(super) identity: Arc<Identity>,
}

/// A server, and the threads of its node.
pub(super) struct Declarator {
    server: Jds,
    node: Runtime,
}

impl Declarator {
    pub(super) async fn shutdown(self) {
        self.server.shutdown().await;
        self.node.shutdown_background();
    }
}

/// Starts the server with the limits of a real one, and writes down what can be declared to it.
///
/// It has a node of its own, with the same chain: a real node is another process, and what it does for one does not hold up the other.
pub(super) async fn start(listen: SocketAddr, on: Foundation, data_dir: &Path) -> anyhow::Result<Declarator> {
    let Foundation { chain, blocks, identity } = on;
    let runtime = background_runtime("node")?;
    let node = {
        let _entered = runtime.enter();
        Node::devnet(&chain, || Clock.now())
    };
    let mut templates = node.templates();
    let template = templates.wait_for(Option::is_some).await?.clone().context("it was just looked at")?;
    fs::write(data_dir.join(DECLARABLE), serde_json::to_string(&declarable(&template))?)?;
    let key = Arc::new(TokenKey::generate(&mut OsRng));
    let (rules, declared) = (JdsConfig::new(anyone()), DeclaredTemplates::default());
    let parts = JdsParts { rules, key, node, blocks, identity, declared };
    let started = Jds::start(JdsServerConfig::new(listen), parts);
    let server = started.context("cannot start the job declarator server")?;
    Ok(Declarator { server, node: runtime })
}

/// The template's transactions under a coinbase that pays all to the pool.
fn declarable(template: &Template) -> DeclarableJob {
    let height = Builder::new().push_int(template.tip.height.0.into()).push_slice([0; 4]).into_bytes();
    let script_sig = [&height[..], &[0; MAX_EXTRANONCE_LEN]].concat();
    let (before, after) = (BEFORE_SCRIPT + height.len(), BEFORE_SCRIPT + script_sig.len());
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: ScriptBuf::from_bytes(script_sig),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[0; 32]]),
    };
    let value = Amount::from_sat(template.coinbase_value.to_sats());
    let mut output = vec![TxOut { value, script_pubkey: anyone() }];
    output.extend_from_slice(&template.required_outputs);
    let coinbase = Transaction {
        version: Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![input],
        output,
    };
    let bytes = consensus::serialize(&coinbase);
    DeclarableJob {
        version: template.version,
        coinbase_prefix: bytes.get(..before).unwrap_or_default().to_vec(),
        coinbase_suffix: bytes.get(after..).unwrap_or_default().to_vec(),
        wtxids: template
            .transactions
            .iter()
            .map(RawTransaction::wtxid)
            .map(|id| id.to_byte_array())
            .collect(),
    }
}
