//! What comes out of an upstream, and the shares that go into it.

use std::sync::Arc;

use adit_channel::WorkerName;
use adit_share::{Extranonce, Job};
use adit_units::{Hashrate, Target};

/// What happened; see [`super::Upstream::poll_event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is set up, and extensions are agreed on: channels may be opened.
    Ready {
        /// Whether shares carry the name of who found them (extension 0x0002).
        names_workers: bool,
    },
    /// A channel is open. [`Event::Work`] follows as soon as there is any.
    Opened {
        /// What its owner calls it.
        key: u64,
    },
    /// The pool does not open a channel.
    Refused {
        /// What its owner calls it.
        key: u64,
        /// The pool's reason, made printable.
        code: String,
    },
    /// What a channel should mine has changed.
    Work(ChannelWork),
    /// It is known what became of a share.
    Settled {
        /// What its sender calls it.
        tag: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// A channel is closed, and not because its owner wanted that; its shares are settled before this is said.
    Closed {
        /// What its owner calls it.
        key: u64,
        /// Why, made printable.
        reason: String,
    },
    /// The pool wants its miners elsewhere: close this connection and open one there, with the same authority (spec 3.6.5).
    Reconnect {
        /// The host, empty for the present one.
        host: String,
        /// The port, 0 for the present one.
        port: u16,
    },
}

/// What became of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pool has it.
    Accepted,
    /// The pool refused it, with this code, made printable.
    Refused(String),
    /// Nobody knows: its channel was closed before the pool answered, or the pool has left too many unanswered.
    Lost,
}

/// What a channel should mine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelWork {
    /// What the channel's owner calls it.
    pub key: u64,
    /// The job, the same for all channels that mine the same. Its own number is zero, whatever the pool calls it for each of them.
    pub job: Arc<Job>,
    /// What shares have to name.
    pub source: Source,
    /// What extranonces of this job begin with.
    pub prefix: Extranonce,
    /// How many bytes follow it.
    pub extranonce_size: u16,
    /// What shares of this job must meet for the pool, whatever it says of later ones.
    pub target: Target,
    /// The version bits that the upstream lets machines roll.
    pub version_mask: u32,
    /// Whether all work before is worthless.
    pub is_new_tip: bool,
}

/// Which job of which channel of a connection. It means nothing to other connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The channel's number at the pool.
    pub channel: u32,
    /// The job's number at the pool, which may be used again on another tip.
    pub job: u32,
    /// Which tip; later ones are greater.
    pub generation: u64,
}

/// A share for the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpShare {
    /// What its sender calls it, for [`Event::Settled`].
    pub tag: u64,
    /// Its channel.
    pub key: u64,
    /// Its job, as [`ChannelWork`] had it.
    pub source: Source,
    /// The nonce in its header.
    pub nonce: u32,
    /// The time in its header, in seconds since 1970.
    pub ntime: u32,
    /// The version in its header.
    pub version: u32,
    /// What follows the channel's part of the extranonce, as long as the channel says.
    pub extranonce: Extranonce,
    /// The device that found it; where the pool wants a name and there is none, the channel's user stands for it.
    pub worker: Option<WorkerName>,
}

/// A share that was not sent, and is not settled later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSubmitted {
    /// There is no such channel, or it is another one than the job's.
    #[error("its channel is not open")]
    Closed,
    /// Its tip is older than the one before the present one.
    #[error("its job is out of date")]
    Stale,
    /// Its version has bits rolled that the pool does not allow to roll.
    #[error("its version has bits rolled that the pool does not allow")]
    Version,
    /// Its extranonce cannot be put into the job's coinbase.
    #[error("its extranonce has {given} bytes, the channel's has {size}")]
    Extranonce {
        /// The length given, in bytes.
        given: usize,
        /// The length that the channel has, in bytes.
        size: u16,
    },
}

/// A channel that was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotOpened {
    /// [`Event::Ready`] has not been yet.
    #[error("the connection is not set up yet")]
    NotReady,
    /// Its owner has a channel of that name, open or being opened.
    #[error("there is a channel of that name already")]
    Taken,
    /// The connection has one channel only, and somebody has it.
    #[error("an SV1 pool has one channel, and it is taken")]
    Single,
    /// The connection has all the channels that it may have.
    #[error("the connection has {} channels, and may have no more", super::CHANNELS_MAX)]
    Full,
    /// The user's name does not fit into its message.
    #[error("the user's name has {0} bytes; 255 are possible")]
    UserTooLong(usize),
}

/// A channel as it is, to be shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelView<'a> {
    /// What its owner calls it.
    pub key: u64,
    /// Its number at the pool.
    pub channel_id: u32,
    /// Its group's number at the pool.
    pub group_channel_id: u32,
    /// Whom the pool credits.
    pub user: &'a str,
    /// The speed that the pool was told.
    pub nominal: Hashrate,
    /// What shares of jobs to come must meet.
    pub target: Target,
    /// What extranonces of jobs to come begin with.
    pub prefix: &'a [u8],
    /// How many bytes follow that.
    pub extranonce_size: u16,
    /// How many of its shares the pool has not answered.
    pub pending: usize,
}

/// Messages of the pool that meant nothing here, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// They were about channels that were never open, or are no more.
    pub strays: u64,
    /// They were of extensions that nobody agreed on, or of a later version of the protocol.
    pub unknown: u64,
    /// They answered what was not asked, or was answered before.
    pub answers: u64,
    /// They refused an `UpdateChannel`, so that the pool still reckons with the speed it was told before.
    pub updates: u64,
}
