//! What changes about a running server without a restart.

use std::sync::Arc;

use adit_net::Limits;
use adit_transport::{AuthorityPublicKey, Identity};

use super::{Server, possible};
use crate::{PoolConfig, PoolConfigError};

/// What a running server can be given anew; all of it, whether it has changed or not.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The pool's rules. [`PoolConfig::instance`], [`PoolConfig::network`] and [`PoolConfig::halving_interval`] must be what
    /// they were.
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
    /// next job on, which is made within [`JOB_AGE_MAX`](crate::JOB_AGE_MAX); the rate of shares holds for channels that are opened from now
    /// on.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn reload(&self, new: Reload) -> Result<(), ReloadError> {
        let Reload { pool, limits, identity } = new;
        pool.check()?;
        let (rules, shown) = (Arc::clone(&self.rules.borrow()), self.identity.borrow().authority());
        if pool.instance != rules.instance {
            return Err(ReloadError::Restart("the instance"));
        }
        if (pool.network, pool.halving_interval) != (rules.network, rules.halving_interval) {
            return Err(ReloadError::Restart("the network"));
        }
        if identity.authority() != shown {
            let (pinned, new) = (Box::new(shown), Box::new(identity.authority()));
            return Err(ReloadError::Authority { pinned, new });
        }
        self.admission.set_limits(possible(limits));
        self.identity.send_replace(identity);
        if pool != *rules {
            self.publish(Arc::new(pool));
        }
        Ok(())
    }

    /// Tells the board, for work to come, and all connections.
    fn publish(&self, rules: Arc<PoolConfig>) {
        // In this order, because the board reads the rules while it posts, the old ones are never posted after the new ones.
        self.rules.send_replace(Arc::clone(&rules));
        self.posted.send_if_modified(|posted| match posted {
            Some(posted) => {
                posted.rules = rules;
                true
            }
            None => false,
        });
    }
}
