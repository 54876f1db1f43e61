//! How a connection to a pool begins: what is said first, and what is agreed on (spec 3.6, extension 0x0001).

use core::time::Duration;

use adit_messages::extensions::{RequestExtensions, RequestExtensionsError, WORKER_HASHRATE_TRACKING};
use adit_messages::flags::{MiningSetupFlags, MiningSuccessFlags};
use adit_messages::types::{Seq064K, Str0255};
use adit_messages::{Message, PROTOCOL_VERSION, common, encode};
use adit_transport::FrameQueue;

use super::UpstreamError;

/// Who we say that we are (spec 3.6.1).
const VENDOR: &str = "adit";

/// The most bytes that are kept of the code of a refusal; those of the protocol are shorter (spec 5.3.14).
pub(super) const CODE_MAX: usize = 64;

/// The number of the only request for extensions.
pub(super) const EXTENSIONS_REQUEST: u16 = 1;

/// A pool, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// The host that was connected to, at most 255 bytes.
    pub host: String,
    /// The port that was connected to.
    pub port: u16,
    /// Whom the pool credits for channels that are opened for nobody in particular, at most 255 bytes.
    pub user: String,
    /// The fewest bytes of extranonce that a channel needs.
    pub min_extranonce_size: u16,
    /// Whether to name the worker of each share, where the pool takes names.
    pub names_workers: bool,
    /// What [`Upstream::doubt_after_next`] said of the last connection to this pool, or [`DOUBT_AFTER`](super::DOUBT_AFTER).
    ///
    /// [`Upstream::doubt_after_next`]: super::Upstream::doubt_after_next
    pub doubt_after: Duration,
}

impl UpstreamConfig {
    /// The most bytes that a host or a user may have.
    pub const TEXT_MAX: usize = 255;

    /// Whether all texts fit into their messages; longer ones are cut.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.host.len() <= Self::TEXT_MAX && self.user.len() <= Self::TEXT_MAX
    }
}

/// Queues `SetupConnection`.
pub(super) fn introduce(config: &UpstreamConfig, frames: &mut FrameQueue) {
    // Machines of these days search version bits; most could not fill their time without.
    let flags = MiningSetupFlags::REQUIRES_VERSION_ROLLING.bits();
    let setup = common::SetupConnection {
        protocol: common::Protocol::MiningProtocol,
        min_version: PROTOCOL_VERSION,
        max_version: PROTOCOL_VERSION,
        flags,
        endpoint_host: text(&config.host),
        endpoint_port: config.port,
        vendor: text(VENDOR),
        hardware_version: text("translator"),
        firmware: text(env!("CARGO_PKG_VERSION")),
        device_id: text(""),
    };
    push(frames, setup);
}

/// Reads the answer: whether all versions are fixed.
pub(super) fn read_answer(message: &Message<'_>) -> Result<bool, UpstreamError> {
    match message {
        Message::SetupConnectionSuccess(success) if success.used_version == PROTOCOL_VERSION => {
            let flags = MiningSuccessFlags::from_bits(success.flags);
            Ok(flags.contains(MiningSuccessFlags::REQUIRES_FIXED_VERSION))
        }
        Message::SetupConnectionSuccess(_) => {
            Err(UpstreamError::Misbehaved("it chose a version that was not offered"))
        }
        Message::SetupConnectionError(error) => Err(UpstreamError::SetupRefused {
            code: printable(error.error_code.as_bytes()),
            flags: MiningSetupFlags::from_bits(error.flags),
        }),
        _ => Err(UpstreamError::Misbehaved("it did not answer SetupConnection first")),
    }
}

/// Queues the wish to name workers.
pub(super) fn ask_for_names(frames: &mut FrameQueue) {
    let requested_extensions = Seq064K::new(vec![WORKER_HASHRATE_TRACKING]).expect("one element is few");
    push(frames, RequestExtensions { request_id: EXTENSIONS_REQUEST, requested_extensions });
}

/// That the pool can do without extensions that were not asked for.
pub(super) fn check_required(error: &RequestExtensionsError<'_>) -> Result<(), UpstreamError> {
    let required: Vec<u16> = error.required_extensions.iter().copied().collect();
    if required.is_empty() { Ok(()) } else { Err(UpstreamError::ExtensionsRequired(required)) }
}

/// As much of a text as fits into a message.
pub(super) fn text(text: &str) -> Str0255<'_> {
    Str0255::try_from(cut(text, UpstreamConfig::TEXT_MAX)).expect("it was cut to 255 bytes")
}

/// As many whole characters as fit into that many bytes.
pub(super) fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

/// Appends a message of bounded length.
pub(super) fn push<'a>(frames: &mut FrameQueue, message: impl Into<Message<'a>>) {
    encode(message, frames).expect("all parts of a message are bounded far below what a frame carries");
}

/// A pool's text without what could disturb a terminal or a log (spec 3.5 forbids control characters).
pub(super) fn printable(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

/// The code of a refusal, printable and cut to [`CODE_MAX`] bytes: such codes are kept for each machine.
pub(super) fn code(text: &[u8]) -> String {
    let mut code = printable(text);
    code.truncate(CODE_MAX);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("aß", 2), "a");
        assert_eq!(cut("ßß", 3), "ß");
        assert_eq!(cut("", 3), "");
        assert_eq!(text(&"ß".repeat(200)).as_bytes().len(), 254);
    }
}
