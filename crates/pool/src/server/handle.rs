//! What can be done to a running server by those who do not own it.

use core::fmt;
use std::sync::Arc;

use adit_messages::error_code::CloseChannelReason;
use adit_net::{Admission, Clock};
use adit_node::Health;
use adit_units::{ChannelId, ConnectionId};
use tokio::sync::watch;

use super::Server;
use super::board::Posted;
use super::metrics::{Gauges, Metrics};
use super::registry::Operation;
use super::reload::{ReloadError, Rules};
use super::status::{Looker, Status};
use crate::{Distribution, OperationError, PoolConfig};

/// Accepted shares that may wait for who passes them on ([`super::Parts::relay`]); more are let go, and told of in the log.
pub const RELAY_MAX: usize = 1 << 14;

/// A handle on a server; cloning is cheap, and the server ends without asking it.
#[derive(Clone)]
pub struct ServerHandle {
    rules: Rules,
    gauges: Arc<Gauges>,
    admission: Admission,
    health: watch::Receiver<Health>,
    looker: Looker,
}

/// Something that was not done to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There is no such connection, or it has ended before its turn.
    #[error("there is no connection {}; it may have ended", .0.0)]
    UnknownConnection(ConnectionId),
    /// The connection is there, and everything on it is as it was.
    #[error(transparent)]
    Impossible(#[from] OperationError),
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

    /// How the pool stands, with all connections; at most some seconds old. Connections are woken for that, so do not ask without a need.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub async fn status(&self) -> Arc<Status> {
        let rest = |now, connections| Status {
            at: now,
            uptime: now.saturating_since(self.gauges.started()),
            metrics: self.gauges.read(self.admission.refused(), now),
            health: self.health.borrow().clone(),
            rules: self.rules.current(),
            connections,
        };
        self.looker.look(rest).await
    }

    /// Closes a channel, or with the number of a group all of its channels, and tells the peer why
    /// ([`Session::close_channel`](crate::Session::close_channel)).
    ///
    /// # Errors
    ///
    /// If there is no such connection or channel.
    pub async fn close_channel(
        &self,
        connection: ConnectionId,
        channel: ChannelId,
        reason: CloseChannelReason,
    ) -> Result<(), OrderError> {
        self.order(connection, Operation::CloseChannel(channel, reason)).await
    }

    /// From the next job on, a channel has a part of the extranonce that no channel had before
    /// ([`Session::renew_extranonce_prefix`](crate::Session::renew_extranonce_prefix), which says what firmware makes of that).
    ///
    /// # Errors
    ///
    /// If there is no such connection or channel, or no such part is left.
    pub async fn renew_extranonce_prefix(
        &self,
        connection: ConnectionId,
        channel: ChannelId,
    ) -> Result<(), OrderError> {
        self.order(connection, Operation::RenewExtranoncePrefix(channel)).await
    }

    /// From the next job on, blocks that are found on these channels pay in another way
    /// ([`Session::set_distribution`](crate::Session::set_distribution)).
    ///
    /// # Errors
    ///
    /// If there is no such connection, one of the channels is not there, or there are too many ways to pay.
    pub async fn set_distribution(
        &self,
        connection: ConnectionId,
        channels: &[ChannelId],
        distribution: &Distribution,
    ) -> Result<(), OrderError> {
        let operation = Operation::SetDistribution(channels.into(), distribution.clone());
        self.order(connection, operation).await
    }

    /// Has something done by the task that owns the connection, between two things that happen to it.
    async fn order(&self, connection: ConnectionId, what: Operation) -> Result<(), OrderError> {
        let gone = OrderError::UnknownConnection(connection);
        let slot = self.looker.registry().slot(connection).ok_or(gone)?;
        let answer = slot.order(what).ok_or(gone)?;
        Ok(answer.await.map_err(|_| gone)??)
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
        let (admission, health) = (self.admission.clone(), self.health.clone());
        ServerHandle { rules, gauges, admission, health, looker: self.looker.clone() }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").finish_non_exhaustive()
    }
}
