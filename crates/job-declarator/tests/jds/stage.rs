//! A server to test against, with everything it stands on.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_channel::TokenKey;
use adit_job_declarator::server::{DeclaredTemplates, Jds, JdsConfig, JdsParts, JdsServerConfig};
use adit_ledger::BlockStore;
use adit_net::OsRng;
use adit_node::Node;
use adit_pool::server::FoundBlocks;
use adit_share::Template;
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, Identity, StaticKeyPair};
use adit_units::UnixTime;
use bitcoin::ScriptBuf;
use bitcoin::hashes::Hash as _;
use tokio::time::{sleep, timeout};

/// Longer than anything should take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who is paid.
pub(crate) fn payout() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(b"pool"))
}

/// A running server.
pub(crate) struct Stage {
    pub(crate) jds: Jds,
    pub(crate) node: Node,
    pub(crate) key: Arc<TokenKey>,
    pub(crate) declared: DeclaredTemplates,
    pub(crate) authority: AuthorityPublicKey,
    signer: AuthorityKeyPair,
    _folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn start(node: Node) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = BlockStore::open(folder.path()).unwrap();
        let blocks = FoundBlocks::open(node.clone(), store).unwrap();
        let signer = AuthorityKeyPair::generate(&mut OsRng);
        let identity = identity(&signer, UnixTime::default());
        let (key, declared) = (Arc::new(TokenKey::generate(&mut OsRng)), DeclaredTemplates::default());
        let parts = JdsParts {
            rules: JdsConfig::new(payout()),
            key: Arc::clone(&key),
            node: node.clone(),
            blocks,
            identity,
            declared: declared.clone(),
        };
        let config = JdsServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        let jds = Jds::start(config, parts).unwrap();
        Self { jds, node, key, declared, authority: signer.public_key(), signer, _folder: folder }
    }

    /// Another certificate for the server, by the same authority.
    pub(crate) fn identity(&self, from: UnixTime) -> Arc<Identity> {
        identity(&self.signer, from)
    }

    /// The node's newest template, once it is what is wanted.
    pub(crate) async fn template(&self, wanted: impl Fn(&Template) -> bool) -> Arc<Template> {
        let mut templates = self.node.templates();
        let found = templates.wait_for(|template| template.as_deref().is_some_and(&wanted));
        let template = timeout(PATIENCE, found).await.expect("a template comes in time");
        template.expect("the node lives").clone().expect("it was just looked at")
    }
}

/// A new key, and a certificate over it that holds from then on.
pub(crate) fn identity(authority: &AuthorityKeyPair, from: UnixTime) -> Arc<Identity> {
    let (own, end) = (StaticKeyPair::generate(&mut OsRng), UnixTime::from_secs(u32::MAX));
    Arc::new(Identity::new(authority, own, from, end).unwrap())
}

/// Waits until it is so.
pub(crate) async fn eventually(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it comes to be so");
}
