//! What a server does to a connection by itself: send it elsewhere, close its channels, pay them in another way, move them.

use adit_messages::error_code::CloseChannelReason;
use adit_messages::types::{Seq064K, Str0255};
use adit_messages::{common, mining};
use adit_units::{ChannelId, Now};

use super::{Session, State, place_of, send};
use crate::Distribution;

/// Something that cannot be done to a connection; everything is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The connection has no such channel.
    #[error("the connection has no channel {0}; it may have been closed")]
    UnknownChannel(ChannelId),
    /// The channels of the connection have as many ways to pay as they may have.
    #[error(
        "the connection's channels pay in {} ways besides the pool's: no more are possible",
        super::DISTRIBUTIONS_MAX
    )]
    TooManyDistributions,
    /// The connection has had all of its extranonce prefixes.
    #[error("no extranonce prefix is left on this connection: have the miner reconnect")]
    PrefixesExhausted,
}

impl Session {
    /// Asks the peer to connect anew (spec 3.6.5), elsewhere or, where the name is empty or the port 0, to the name or port that it
    /// knows. Before it has been set up, or where the name is longer than 255 bytes, it is told nothing.
    ///
    /// It is the peer's affair when it goes; shares are judged and acknowledged as before until the connection is closed.
    pub fn reconnect(&mut self, host: &str, port: u16) {
        if let (State::ExpectChannel { .. } | State::Mining { .. }, Ok(new_host)) =
            (self.state, Str0255::try_from(host))
        {
            send(&mut self.frames, common::Reconnect { new_host, new_port: port });
        }
    }

    /// Closes a channel, or with the number of a group all of its channels, and tells the peer why (spec 5.3.9).
    ///
    /// The other channels stay; when none is left, the peer has as long to open one as if it had closed them itself.
    ///
    /// # Errors
    ///
    /// If there is no such channel.
    pub fn close_channel(
        &mut self,
        id: ChannelId,
        reason: CloseChannelReason,
        now: Now,
    ) -> Result<(), OperationError> {
        if self.dismiss(id, reason, now) { Ok(()) } else { Err(OperationError::UnknownChannel(id)) }
    }

    /// [`Self::close_channel`]; whether there was such a channel.
    pub(super) fn dismiss(&mut self, id: ChannelId, reason: CloseChannelReason, now: Now) -> bool {
        let was_there = self.close(id, now);
        if was_there {
            self.send(mining::CloseChannel { channel_id: id.0, reason_code: reason.to_wire() });
        }
        was_there
    }

    /// From the next job on, blocks that are found on these channels pay in another way.
    ///
    /// The channels are told that they are part of another group (spec 5.3.22), unless the peer takes standard jobs only. Jobs that they
    /// have keep paying as they were made to pay, the one for the next tip among them.
    ///
    /// # Errors
    ///
    /// If one of the channels is not there, or if there are too many ways to pay.
    pub fn set_distribution(
        &mut self,
        channels: &[ChannelId],
        distribution: &Distribution,
    ) -> Result<(), OperationError> {
        if let Some(&unknown) = channels.iter().find(|&&id| place_of(&self.channels, id).is_none()) {
            return Err(OperationError::UnknownChannel(unknown));
        }
        let group = match self.groups.of(distribution) {
            Some(known) => known,
            None if self.groups.has_room() => self.open_group(distribution.clone()),
            None => return Err(OperationError::TooManyDistributions),
        };
        let is_ahead = self.reserve.is_some();
        let mut moved = Vec::new();
        for open in &mut self.channels {
            let channel = &mut open.channel;
            if channels.contains(&channel.id()) && channel.group() != group {
                channel.set_group(group, &self.jobs, is_ahead);
                moved.push(channel.id().0);
            }
        }
        self.forget_groups();
        if !moved.is_empty() && !self.state.terms().standard_jobs_only {
            self.tell_group(group, moved);
        }
        Ok(())
    }

    /// Tells channels which group they are part of from now on.
    fn tell_group(&mut self, group: ChannelId, channels: Vec<u32>) {
        let channel_ids = Seq064K::new(channels).expect("a connection has fewer than 2^16 channels");
        self.send(mining::SetGroupChannel { group_channel_id: group.0, channel_ids });
    }

    /// From the next job on, a channel has a part of the extranonce that no channel had before, which the peer is told just before that
    /// job (spec 5.3.10).
    ///
    /// Shares on jobs that it has are judged by the part that it had then; the job for the next tip is among them. Firmware exists that
    /// ignores this message (ESP-Miner), and loses all shares from then on.
    ///
    /// # Errors
    ///
    /// If there is no such channel, or no part is left.
    pub fn renew_extranonce_prefix(&mut self, channel: ChannelId) -> Result<(), OperationError> {
        let place = place_of(&self.channels, channel);
        let Some(open) = place.and_then(|place| self.channels.get_mut(place)) else {
            return Err(OperationError::UnknownChannel(channel));
        };
        let prefix = self.extranonces.next_prefix().ok_or(OperationError::PrefixesExhausted)?;
        open.channel.set_extranonce(prefix, &self.jobs, self.reserve.is_some());
        open.prefix_untold = true;
        Ok(())
    }
}
