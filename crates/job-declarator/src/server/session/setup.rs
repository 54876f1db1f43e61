//! The beginning of a connection: what both sides can do (spec 3.6.1, 6.4.1, extension 0x0001).

use adit_messages::error_code::SetupConnectionError as Code;
use adit_messages::extensions::{EXTENSIONS_NEGOTIATION, RequestExtensions, negotiate};
use adit_messages::flags::JobDeclarationSetupFlags as Flags;
use adit_messages::{DecodeError, Message, MessageInfo, PROTOCOL_VERSION, Protocol, common, decode};
use adit_transport::Frame;
use adit_units::Now;
use tracing::debug;

use super::{Session, State};
use crate::server::Disconnect;
use crate::server::limits::FIRST_TOKEN_TIMEOUT;

/// What a connection must begin with.
pub(super) const EXPECTED: &str = "the first message must be SetupConnection";

/// The extensions that this server speaks.
const EXTENSIONS: [u16; 1] = [EXTENSIONS_NEGOTIATION];

/// What the client offered when it set the connection up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// It reveals its transactions (`DECLARE_TX_DATA`).
    pub(super) full_template: bool,
}

impl Session {
    /// Takes in the first frame, which must be `SetupConnection` (spec 3.6.1).
    pub(super) fn handle_setup(
        &mut self,
        info: &'static MessageInfo,
        frame: Frame<'_>,
        now: Now,
    ) -> Result<(), Disconnect> {
        let setup = match decode(Protocol::JobDeclaration, frame) {
            Ok(Message::SetupConnection(setup)) => setup,
            Err(DecodeError::UnknownProtocol(_)) => {
                return Err(self.refuse_setup(Code::UnsupportedProtocol, Flags::NONE));
            }
            Err(malformed) if info.name == "SetupConnection" => return Err(malformed.into()),
            Ok(_) | Err(_) => {
                return Err(Disconnect::WrongState { message: info.name, expected: EXPECTED });
            }
        };
        let flags = Flags::from_bits(setup.flags);
        if let Some((code, flags)) = self.objection(&setup, flags) {
            return Err(self.refuse_setup(code, flags));
        }
        debug!(connection = self.connection.0, ?flags, "set up");
        let terms = Terms { full_template: flags.contains(Flags::DECLARE_TX_DATA) };
        self.state = State::ExpectToken { deadline: now.monotonic + FIRST_TOKEN_TIMEOUT, terms };
        self.send(common::SetupConnectionSuccess { used_version: PROTOCOL_VERSION, flags: 0 });
        Ok(())
    }

    /// Why the connection cannot be set up, and the flags that are to blame.
    fn objection(&self, setup: &common::SetupConnection<'_>, flags: Flags) -> Option<(Code, Flags)> {
        let unsupported = flags.without(Flags::DECLARE_TX_DATA);
        if Protocol::from(setup.protocol) != Protocol::JobDeclaration {
            return Some((Code::UnsupportedProtocol, Flags::NONE));
        }
        if !(setup.min_version..=setup.max_version).contains(&PROTOCOL_VERSION) {
            return Some((Code::ProtocolVersionMismatch, Flags::NONE));
        }
        if !unsupported.is_empty() {
            return Some((Code::UnsupportedFeatureFlags, unsupported));
        }
        if !flags.contains(Flags::DECLARE_TX_DATA) && !self.config.coinbase_only {
            return Some((Code::MissingDeclareTxDataFlag, Flags::DECLARE_TX_DATA));
        }
        None
    }

    /// Tells the client why the connection is refused (spec 3.6.3).
    fn refuse_setup(&mut self, code: Code, flags: Flags) -> Disconnect {
        self.send(common::SetupConnectionError { flags: flags.bits(), error_code: code.to_wire() });
        Disconnect::Refused(code)
    }

    /// Takes in `RequestExtensions`, whose place is before everything else but the setup (extension 0x0001, section 4).
    pub(super) fn handle_extensions(
        &mut self,
        info: &'static MessageInfo,
        request: &RequestExtensions<'_>,
    ) -> Result<(), Disconnect> {
        let State::ExpectToken { .. } = self.state else {
            let expected = "extensions are negotiated before the first token is asked for";
            return Err(Disconnect::WrongState { message: info.name, expected });
        };
        match negotiate(request, &EXTENSIONS, &[]) {
            Ok(granted) => self.send(granted),
            Err(denied) => self.send(denied),
        }
        Ok(())
    }
}
