//! What changes about a running server without a restart.

use std::sync::{Arc, Mutex, PoisonError};

use adit_net::{Bulletin, Limits};
use adit_transport::{AuthorityPublicKey, Identity};
use tokio::sync::watch;

use super::board::Posted;
use super::{Server, possible};
use crate::{PoolConfig, PoolConfigError};

/// What a running server can be given anew; all of it, whether it has changed or not.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The pool's rules. [`PoolConfig::instance`], [`PoolConfig::network`], [`PoolConfig::halving_interval`] and how many bytes
    /// of the extranonce miners may roll must be what they were.
    pub pool: PoolConfig,
    /// How many peers. Who is connected stays, even where there are more now than there may be; [`Limits::newcomers`] remains as it was.
    pub limits: Limits,
    /// What miners are shown in the handshake, by the same authority as before.
    pub identity: Arc<Identity>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The pool's rules contradict each other.
    #[error(transparent)]
    Pool(#[from] PoolConfigError),
    /// All work of this run is marked with it, or belongs to it.
    #[error("{0} is another one, which only a restart can change")]
    Restart(&'static str),
    /// Miners pin the authority.
    #[error("the certificate is by the authority {new}, but miners pin {pinned} and would refuse the server")]
    Authority {
        /// Who signed the certificate that the server shows now.
        pinned: Box<AuthorityPublicKey>,
        /// Who signed the other one.
        new: Box<AuthorityPublicKey>,
    },
}

impl Server {
    /// Goes on with other rules, limits and certificate, or if there is a mistake in any of them, with all as it was.
    ///
    /// No connection ends. A certificate is shown to whoever connects from now on. Limits hold at once. Rules about coinbases hold from the
    /// next job on, which is made at once; the rate of shares holds for channels that are opened from now
    /// on.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn reload(&self, new: Reload) -> Result<(), ReloadError> {
        let Reload { pool, limits, identity } = new;
        self.rules.change(pool, || {
            let shown = self.identity.borrow().authority();
            if identity.authority() != shown {
                let (pinned, new) = (Box::new(shown), Box::new(identity.authority()));
                return Err(ReloadError::Authority { pinned, new });
            }
            self.admission.set_limits(possible(limits));
            self.identity.send_replace(identity);
            Ok(())
        })
    }
}

/// The rules that hold, and where connections see them.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// What the board makes work by.
    current: watch::Sender<Arc<PoolConfig>>,
    posted: Bulletin<Option<Posted>>,
    /// Held by whoever changes the rules, so that two who do so at once do it one after the other.
    turn: Arc<Mutex<()>>,
}

impl Rules {
    pub(super) fn new(current: watch::Sender<Arc<PoolConfig>>, posted: Bulletin<Option<Posted>>) -> Self {
        Self { current, posted, turn: Arc::default() }
    }

    /// The rules that hold.
    pub(super) fn current(&self) -> Arc<PoolConfig> {
        Arc::clone(&self.current.borrow())
    }

    pub(super) fn works(&self) -> watch::Receiver<Option<Posted>> {
        self.posted.watch()
    }

    /// Goes by other rules, if there is no mistake in them and `besides` has nothing against it; that is done before.
    pub(super) fn change(
        &self,
        new: PoolConfig,
        besides: impl FnOnce() -> Result<(), ReloadError>,
    ) -> Result<(), ReloadError> {
        new.check()?;
        // Nothing that is guarded can be left half done.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = Arc::clone(&self.current.borrow());
        if new.instance != rules.instance {
            return Err(ReloadError::Restart("the instance"));
        }
        if (new.network, new.halving_interval) != (rules.network, rules.halving_interval) {
            return Err(ReloadError::Restart("the network"));
        }
        if new.extranonce.rollable_len() != rules.extranonce.rollable_len() {
            return Err(ReloadError::Restart("what miners may roll of the extranonce"));
        }
        besides()?;
        // Where shares go besides is settled when the server starts.
        let new = PoolConfig { relays_shares: rules.relays_shares, ..new };
        if new != *rules {
            self.publish(Arc::new(new));
        }
        Ok(())
    }

    /// Tells the board, for work to come, and all connections.
    fn publish(&self, rules: Arc<PoolConfig>) {
        // In this order, because the board reads the rules while it posts, the old ones are never posted after the new ones.
        self.current.send_replace(Arc::clone(&rules));
        self.posted.modify_if(|posted| match posted {
            Some(posted) => {
                posted.rules = rules;
                true
            }
            None => false,
        });
    }
}
