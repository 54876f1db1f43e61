//! The beginning of a connection: what both sides can do (spec 3.6.1, extension 0x0001).

use adit_channel::prints;
use adit_messages::error_code::SetupConnectionError as Code;
use adit_messages::extensions::{
    EXTENSIONS_NEGOTIATION, RequestExtensions, WORKER_HASHRATE_TRACKING, negotiate,
};
use adit_messages::flags::{MiningSetupFlags, MiningSuccessFlags};
use adit_messages::{DecodeError, Message, MessageInfo, PROTOCOL_VERSION, Protocol, common, decode};
use adit_transport::Frame;
use adit_units::Now;
use tracing::debug;

use super::{FIRST_CHANNEL_TIMEOUT, Session, State, Terms};
use crate::{Disconnect, PoolConfig};

/// What a connection must begin with.
pub(super) const EXPECTED: &str = "the first message must be SetupConnection";

/// What a client may require of a pool with these rules.
fn supported_flags(config: &PoolConfig) -> MiningSetupFlags {
    let always = MiningSetupFlags::REQUIRES_STANDARD_JOBS | MiningSetupFlags::REQUIRES_VERSION_ROLLING;
    if config.custom_jobs.is_some() { always | MiningSetupFlags::REQUIRES_WORK_SELECTION } else { always }
}

/// The extensions that this pool speaks.
const EXTENSIONS: [u16; 2] = [EXTENSIONS_NEGOTIATION, WORKER_HASHRATE_TRACKING];

/// Most characters that are kept of a device's description.
const DEVICE_MAX: usize = 96;

impl Session {
    /// Takes in the first frame, which must be `SetupConnection` (spec 3.6.1).
    pub(super) fn handle_setup(
        &mut self,
        info: &'static MessageInfo,
        frame: Frame<'_>,
        now: Now,
    ) -> Result<(), Disconnect> {
        let setup = match decode(Protocol::Mining, frame) {
            Ok(Message::SetupConnection(setup)) => setup,
            Err(DecodeError::UnknownProtocol(_)) => return Err(self.refuse(Code::UnsupportedProtocol)),
            Err(malformed) if info.name == "SetupConnection" => return Err(malformed.into()),
            Ok(_) | Err(_) => {
                return Err(Disconnect::WrongState { message: info.name, expected: EXPECTED });
            }
        };
        if Protocol::from(setup.protocol) != Protocol::Mining {
            return Err(self.refuse(Code::UnsupportedProtocol));
        }
        if !(setup.min_version..=setup.max_version).contains(&PROTOCOL_VERSION) {
            return Err(self.refuse(Code::ProtocolVersionMismatch));
        }
        let flags = MiningSetupFlags::from_bits(setup.flags);
        let unsupported = flags.without(supported_flags(&self.config));
        if !unsupported.is_empty() {
            return Err(self.refuse_flags(unsupported));
        }
        self.accept(&setup, flags, now);
        Ok(())
    }

    /// Answers that the connection is set up.
    fn accept(&mut self, setup: &common::SetupConnection<'_>, flags: MiningSetupFlags, now: Now) {
        self.device = describe(
            [&setup.vendor, &setup.hardware_version, &setup.firmware]
                .map(|text| String::from_utf8_lossy(text.as_bytes())),
        );
        debug!(connection = self.connection.0, device = %self.device, ?flags, "set up");
        // Every job allows version rolling, whether the client requires it or not.
        let terms = Terms {
            standard_jobs_only: flags.contains(MiningSetupFlags::REQUIRES_STANDARD_JOBS),
            worker_names: false,
        };
        if flags.contains(MiningSetupFlags::REQUIRES_WORK_SELECTION) {
            self.begin_custom_work();
        }
        let deadline = now.monotonic + FIRST_CHANNEL_TIMEOUT;
        self.state = State::ExpectChannel { deadline, terms, may_negotiate: true };
        let flags = MiningSuccessFlags::NONE.bits();
        self.send(common::SetupConnectionSuccess { used_version: PROTOCOL_VERSION, flags });
    }

    /// Tells the peer why the connection is refused (spec 3.6.3); no flag is to blame.
    fn refuse(&mut self, code: Code) -> Disconnect {
        self.send(common::SetupConnectionError { flags: 0, error_code: code.to_wire() });
        Disconnect::Refused(code)
    }

    /// Tells the peer which of its flags this pool does not support (spec 3.6.3).
    fn refuse_flags(&mut self, unsupported: MiningSetupFlags) -> Disconnect {
        let code = Code::UnsupportedFeatureFlags;
        self.send(common::SetupConnectionError { flags: unsupported.bits(), error_code: code.to_wire() });
        Disconnect::Refused(code)
    }

    /// Takes in `RequestExtensions`, whose place is before everything else but the setup (extension 0x0001, section 4).
    pub(super) fn handle_extensions(
        &mut self,
        info: &'static MessageInfo,
        request: &RequestExtensions<'_>,
    ) -> Result<(), Disconnect> {
        let State::ExpectChannel { terms, may_negotiate: true, .. } = &mut self.state else {
            let expected = "extensions are negotiated before the first channel is requested";
            return Err(Disconnect::WrongState { message: info.name, expected });
        };
        let required: &[u16] =
            if self.config.require_worker_names { &[WORKER_HASHRATE_TRACKING] } else { &[] };
        match negotiate(request, &EXTENSIONS, required) {
            Ok(granted) => {
                let supported = &granted.supported_extensions;
                terms.worker_names = supported.iter().any(|&granted| granted == WORKER_HASHRATE_TRACKING);
                debug!(connection = self.connection.0, ?supported, "extensions");
                self.send(granted);
            }
            // The peer may ask again; if it opens a channel without what is required, the session ends.
            Err(denied) => self.send(denied),
        }
        Ok(())
    }
}

/// What a device says of itself, in one line that is safe to log.
fn describe(texts: [impl AsRef<str>; 3]) -> Box<str> {
    let words = texts.iter().flat_map(|text| text.as_ref().split_whitespace()).collect::<Vec<_>>().join(" ");
    words.chars().filter(|&character| prints(character)).take(DEVICE_MAX).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_one_short_line_of_printing_characters() {
        assert_eq!(&*describe(["bitaxe", "BM1370", ""]), "bitaxe BM1370");
        assert_eq!(&*describe(["  a\r\nb\t", "\u{1b}[31m", "c"]), "a b [31m c");
        assert_eq!(&*describe(["", "", ""]), "");
        assert_eq!(describe(["é".repeat(200).as_str(), "", ""]).chars().count(), DEVICE_MAX);
    }
}
