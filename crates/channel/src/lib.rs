//! Channels, extranonce space, vardiff and job lifetime, shared by every role that serves miners.
//!
//! A connection has one [`JobTable`] and any number of [`Channel`]s over it. For each job that it sends, the role asks every
//! channel for a target to announce first ([`Channel::handle_job`], [`Channel::handle_new_tip`]), then puts the job into the
//! table. For each share it looks the job up and has the channel judge it; what is accepted becomes a [`ShareRecord`].
//!
//! A role that is itself a client of others keeps a [`Roster`] of its attempts at them, by the rules of a [`Ladder`].
//!
//! Pure: time and randomness are arguments, and nothing here is shared between connections.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

mod channel;
mod duplicates;
mod extranonce;
mod history;
mod jobs;
mod ladder;
mod record;
mod reward;
mod roster;
mod token;
mod user;
mod vardiff;

pub use channel::{Arrival, Channel, ChannelKind, ChannelTerms, LateBlock, REMEMBERED_MAX};
pub use extranonce::{ExtranonceBase, ExtranonceBaseError, ExtranoncePrefix, ExtranonceSpace};
pub use history::History;
pub use jobs::{Activation, FUTURE_JOBS, JobTable, LATE_JOBS, Lookup, PAST_JOBS};
pub use ladder::{Credit, Ladder, Standing};
pub use record::{CustomShare, ShareKind, ShareRecord};
pub use reward::{Percent, Reward, RewardError, RewardKind};
pub use roster::{Attempt, Failed, LinkId, Roster};
pub use token::{
    DeclarationId, Purpose, TOKEN_LIFETIME_MAX, Token, TokenError, TokenKey, USED_TOKENS_MAX, Used,
    UsedTokens,
};
pub use user::{NameError, UserIdentity, WorkerName, prints};
pub use vardiff::{TargetOutOfRange, TargetSteps, Vardiff, VardiffConfig, VardiffConfigError};
