//! The SV1 wire: JSON lines, read leniently and written strictly.
//!
//! What machines send has never been written down in one place, so [`parse()`] takes every form that is known to be sent: any kind of id, numbers
//! as text, absent parameters, names that are too long. What goes out has one form only, which every known machine reads.

pub(crate) mod envelope;
mod fault;
pub(crate) mod hex;
mod id;
mod line;
mod name;
mod notify;
mod parse;
mod submit;
pub(crate) mod token;
mod write;

pub use fault::Fault;
pub use id::Id;
pub use line::{LineReader, LineTooLong};
pub use name::Name;
pub use notify::{Notify, write_notify};
pub use parse::{Malformed, Reason, parse};
pub use submit::{Extranonce2, Submit};
pub use write::{
    Configured, write_configured, write_error, write_ping, write_pong, write_reconnect, write_result,
    write_set_difficulty, write_set_extranonce, write_set_version_mask, write_subscribed, write_true,
};

use adit_units::{Difficulty, Target};

/// The version bits that machines may roll if they ask for none in particular (BIP 320).
pub const DEFAULT_VERSION_MASK: u32 = 0x1fff_e000;

/// One line of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What an answer must carry; without it no answer is expected.
    pub id: Option<Id>,
    /// What is asked.
    pub call: Call,
}

/// What a machine asks or says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `mining.configure` (BIP 310).
    Configure(Configure),
    /// `mining.subscribe`.
    Subscribe {
        /// What the machine calls itself, made printable and cut at 255 bytes.
        user_agent: Option<Box<str>>,
        /// The extranonce1 of a former connection that it wants back.
        session: Option<[u8; 4]>,
    },
    /// `mining.authorize`.
    Authorize {
        /// The user name, made printable and cut at 255 bytes.
        user: Box<str>,
        /// The password, made printable and cut at 255 bytes.
        password: Box<str>,
    },
    /// `mining.submit`.
    Submit(Submit),
    /// `mining.suggest_difficulty`; nothing if no difficulty can be read from it.
    SuggestDifficulty(Option<Difficulty>),
    /// `mining.suggest_target`; nothing if no target can be read from it.
    SuggestTarget(Option<Target>),
    /// `mining.extranonce.subscribe`: the machine would follow `mining.set_extranonce`.
    ExtranonceSubscribe,
    /// `mining.ping`.
    Ping,
    /// `mining.get_transactions`, which nobody answers any more.
    GetTransactions,
    /// `client.get_version`, asked of us.
    GetVersion,
    /// The machine's answer to a request of ours, whose id it has.
    Answer(Answer),
    /// Any other method, made printable and cut at 255 bytes.
    Unknown(Box<str>),
}

/// A machine's answer to a request of ours; the request `pong` of Bitaxe counts as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The result if it is text or a number, made printable and cut at 255 bytes.
    pub text: Option<Box<str>>,
    /// Whether it is a refusal.
    pub refused: bool,
}

/// What `mining.configure` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configure {
    /// To roll bits of the version.
    pub version_rolling: Option<VersionRolling>,
    /// To be given no lower difficulty; a trillionth if the machine names none that can be read.
    pub minimum_difficulty: Option<Difficulty>,
    /// To be told of a new extranonce1 without a new connection.
    pub subscribe_extranonce: bool,
    /// Extensions that we do not know, the first eight.
    pub unknown: Vec<Box<str>>,
}

/// The version bits that a machine would roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRolling {
    /// The bits that it can roll.
    pub mask: u32,
    /// How many of them it needs.
    pub min_bits: u32,
}

#[cfg(test)]
mod tests;
