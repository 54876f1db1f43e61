//! The beginning of a connection to either server of an upstream (spec 3.6).

use core::time::Duration;

use adit_messages::types::Str0255;
use adit_messages::{DecodeError, Message, PROTOCOL_VERSION, Protocol, common, decode, encode};
use adit_transport::{Frame, FrameQueue};
use adit_units::Monotonic;

use super::upstream::{Server, UpstreamError};

/// How long a server may take to answer what is asked when a connection begins.
pub(super) const SETUP_PATIENCE: Duration = Duration::from_secs(10);

/// Who we say that we are (spec 3.6.1).
const VENDOR: &str = "adit";

/// Queues `SetupConnection`.
pub(super) fn introduce(
    protocol: common::Protocol,
    flags: u32,
    (host, port): (&str, u16),
    frames: &mut FrameQueue,
) {
    let text = |text| Str0255::try_from(text).expect("a host name and these texts have at most 255 bytes");
    let setup = common::SetupConnection {
        protocol,
        min_version: PROTOCOL_VERSION,
        max_version: PROTOCOL_VERSION,
        flags,
        endpoint_host: text(host),
        endpoint_port: port,
        vendor: text(VENDOR),
        hardware_version: text("jdc"),
        firmware: text(env!("CARGO_PKG_VERSION")),
        device_id: text(""),
    };
    push(frames, setup);
}

/// Reads the answer.
pub(super) fn read_answer(server: Server, message: &Message<'_>) -> Result<(), UpstreamError> {
    match message {
        Message::SetupConnectionSuccess(success) if success.used_version == PROTOCOL_VERSION => Ok(()),
        Message::SetupConnectionError(error) => Err(UpstreamError::SetupRefused {
            server,
            code: printable(error.error_code.as_bytes()),
            flags: error.flags,
        }),
        _ => Err(UpstreamError::Misbehaved { server, what: "it did not answer SetupConnection first" }),
    }
}

/// Reads a frame, unless it is of an extension that nobody here knows (spec 3.4.1).
pub(super) fn read<'a>(
    server: Server,
    protocol: Protocol,
    frame: Frame<'a>,
) -> Result<Option<Message<'a>>, UpstreamError> {
    match decode(protocol, frame) {
        Ok(message) => Ok(Some(message)),
        Err(DecodeError::UnknownMessage { extension_type: 1.., .. }) => Ok(None),
        Err(error) => Err(UpstreamError::Malformed { server, error }),
    }
}

/// That an answer has come in time.
pub(super) fn check_deadline(
    server: Server,
    deadline: Option<Monotonic>,
    what: &'static str,
    now: Monotonic,
) -> Result<(), UpstreamError> {
    if deadline.is_some_and(|deadline| deadline <= now) {
        return Err(UpstreamError::Silent { server, what });
    }
    Ok(())
}

/// Appends a message of bounded length.
pub(super) fn push<'a>(frames: &mut FrameQueue, message: impl Into<Message<'a>>) {
    encode(message, frames).expect("all parts of a message are bounded far below what a frame carries");
}

/// A server's text without what could disturb a terminal or a log (spec 3.5 forbids control characters).
pub(super) fn printable(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}
