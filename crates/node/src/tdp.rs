//! The template distribution protocol (spec 7), both sides of it: templates to whoever speaks it, and found blocks back.
//!
//! [`Client`] is the client's side of one connection as a pure state machine, behind [`crate::Node::tdp`].
//! [`Session`] is the server's side of one connection as a pure state machine over [`Offers`], the templates that were given out and may
//! still be asked for. [`TemplateProvider`] drives sessions with sockets, fed by any [`crate::Node`].

mod client;
mod offers;
mod server;
mod session;
mod solution;

pub use client::{
    Candidate, Client, ClientConfig, ClientEnd, CoinbaseTooLong, Event, FIRST_TEMPLATE_PATIENCE,
    FUTURES_KEPT, HANDED_KEPT, NAMED_PATIENCE, OFFERED_KEPT, Offered, Pulse, QUIET_PATIENCE, REQUEST_PAUSE,
    Room, SETUP_PATIENCE, STALE_PATIENCE, TIPS_KEPT, TRANSACTIONS_PATIENCE, TdpConfig,
};
pub(crate) use client::{Provider, follow, probe};
#[cfg(feature = "ipc")]
pub(crate) use client::{share_transactions, split_prefix};
pub use offers::{Found, OFFERS_KEPT, Offer, Offers, STALE_OFFERS_KEPT};
pub use server::{
    BLOCKS_PATIENCE, BLOCKS_UNDER_WAY, BlockDesk, ProviderConfig, ProviderStartError, REPEAT_PAUSE,
    TemplateProvider, provider_limits,
};
pub use session::{
    CONSTRAINTS_TIMEOUT, LISTS_MAX, LISTS_PER_SECOND, PULSES_OWED_MAX, SETUP_TIMEOUT, Session, SessionEnd,
    WORTHLESS_LOG_INTERVAL, WORTHLESS_MAX, WORTHLESS_PER_SECOND,
};
pub use solution::SolutionError;

/// What a block weighs beside its transactions and the outputs that a client adds to the coinbase: header, transaction count, and a
/// coinbase with the longest input script and a witness commitment (spec 7.1).
pub const FIXED_WEIGHT: u64 = 1168;

/// The part of [`FIXED_WEIGHT`] that belongs to the coinbase.
pub const FIXED_COINBASE_WEIGHT: u64 = 236 + 400 + 12 + 188;

/// A template that no provider has, because ids only grow from below. Asking for its transactions costs a line in answer (spec 7.6), which is
/// the sign of life that this protocol otherwise lacks.
const NO_TEMPLATE: adit_units::TemplateId = adit_units::TemplateId(u64::MAX);
