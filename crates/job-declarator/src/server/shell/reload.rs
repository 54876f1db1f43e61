//! What changes about a running job declarator server without a restart.

use std::sync::Arc;

use adit_transport::{AuthorityPublicKey, Identity};
use bitcoin::ScriptBuf;
use tokio::sync::watch;

use super::Jds;
use crate::server::{JdsConfig, JdsConfigError};

/// What a running server can be given anew; all of it, whether it has changed or not.
///
/// The other rules are those of the pool's [`CustomJobs`](adit_pool::CustomJobs), too, which a running pool keeps.
#[derive(Clone, Debug)]
pub struct JdsReload {
    /// The script that jobs must pay which are declared with tokens from now on.
    pub payout_script: ScriptBuf,
    /// What clients are shown in the handshake, by the same authority as before.
    pub identity: Arc<Identity>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JdsReloadError {
    /// The rules cannot be gone by.
    #[error(transparent)]
    Rules(#[from] JdsConfigError),
    /// Clients pin the authority.
    #[error(
        "the job declarator server's certificate is by the authority {new}, but clients pin {pinned} and would refuse it"
    )]
    Authority {
        /// Who signed the certificate that the server shows now.
        pinned: Box<AuthorityPublicKey>,
        /// Who signed the other one.
        new: Box<AuthorityPublicKey>,
    },
}

/// What a server goes by, until it is given something else.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) rules: Arc<JdsConfig>,
    pub(super) identity: Arc<Identity>,
}

/// Settings in which no mistake was found, so that nothing can go wrong when they are taken.
#[derive(Debug)]
#[must_use = "the server goes on as it was until they are taken"]
pub struct PreparedReload<'a> {
    current: &'a watch::Sender<Settings>,
    next: Settings,
}

impl Jds {
    /// Looks whether the server can go on with another payout and certificate; it does once they are taken.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn prepare(&self, new: JdsReload) -> Result<PreparedReload<'_>, JdsReloadError> {
        let JdsReload { payout_script, identity } = new;
        let Settings { rules, identity: shown } = self.settings.borrow().clone();
        let rules = JdsConfig { payout_script, ..JdsConfig::clone(&rules) };
        rules.check()?;
        if identity.authority() != shown.authority() {
            let (pinned, new) = (Box::new(shown.authority()), Box::new(identity.authority()));
            return Err(JdsReloadError::Authority { pinned, new });
        }
        let next = Settings { rules: Arc::new(rules), identity };
        Ok(PreparedReload { current: &self.settings, next })
    }
}

impl PreparedReload<'_> {
    /// Goes by them. No connection ends: the certificate is shown to whoever connects from now on, and tokens that were given out keep
    /// the payout that they were given with.
    pub fn take(self) {
        self.current.send_replace(self.next);
    }
}
