//! What can be done to a running server by those who do not own it.

use core::fmt;
use std::sync::Arc;

use adit_net::{Admission, Clock};
use tokio::sync::watch;

use super::Server;
use super::board::Posted;
use super::metrics::{Gauges, Metrics};
use super::reload::{ReloadError, Rules};
use crate::PoolConfig;

/// Accepted shares that may wait for who passes them on ([`super::Parts::relay`]); more are let go, and told of in the log.
pub const RELAY_MAX: usize = 1 << 14;

/// A handle on a server; cloning is cheap, and the server ends without asking it.
#[derive(Clone)]
pub struct ServerHandle {
    rules: Rules,
    gauges: Arc<Gauges>,
    admission: Admission,
}

impl ServerHandle {
    /// Goes on with other rules, as [`Server::reload`] does.
    ///
    /// # Errors
    ///
    /// As [`Server::reload`]; all is then as it was.
    pub fn set_rules(&self, rules: PoolConfig) -> Result<(), ReloadError> {
        self.rules.change(rules, || Ok(()))
    }

    /// The numbers as they stand.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.gauges.read(self.admission.refused(), Clock.monotonic())
    }

    /// The work that miners are given, and the rules that hold with it; `None` until there is a template. Whoever is slow sees the newest.
    #[must_use]
    pub fn works(&self) -> watch::Receiver<Option<Posted>> {
        self.rules.works()
    }
}

impl Server {
    /// A handle for those who look after the server while it runs.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        let (rules, gauges) = (self.rules.clone(), Arc::clone(&self.gauges));
        ServerHandle { rules, gauges, admission: self.admission.clone() }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").finish_non_exhaustive()
    }
}
