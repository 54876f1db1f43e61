//! The beginning of a connection: who speaks, and what is agreed on.

use super::*;

fn naming() -> Stage {
    let mut stage = Stage::with(UpstreamConfig { names_workers: true, ..config() });
    stage.hears(success(MiningSuccessFlags::NONE)).unwrap();
    assert_eq!(stage.sent()[1..], [Sent::Extensions(vec![2])]);
    assert_eq!(stage.event(), None, "the answer is to be waited for");
    stage
}

fn granted(extensions: &[u16]) -> RequestExtensionsSuccess<'static> {
    let supported_extensions = Seq064K::new(extensions.to_vec()).unwrap();
    RequestExtensionsSuccess { request_id: 1, supported_extensions }
}

fn denied(unsupported: &[u16], required: &[u16]) -> RequestExtensionsError<'static> {
    RequestExtensionsError {
        request_id: 1,
        unsupported_extensions: Seq064K::new(unsupported.to_vec()).unwrap(),
        required_extensions: Seq064K::new(required.to_vec()).unwrap(),
    }
}

#[test]
fn it_asks_for_version_rolling_and_nothing_else() {
    let mut stage = Stage::new();
    let flags = MiningSetupFlags::REQUIRES_VERSION_ROLLING.bits();
    assert_eq!(stage.sent(), [Sent::Setup { flags }]);
    stage.hears(success(MiningSuccessFlags::NONE)).unwrap();
    assert_eq!(stage.events(), [Event::Ready { names_workers: false }]);
    assert_eq!(stage.sent(), []);
    assert!(stage.upstream.is_ready());
    assert_eq!(stage.upstream.poll_timeout(), None, "nobody has to say anything");
}

#[test]
fn texts_that_are_too_long_are_cut() {
    let long = "ß".repeat(200);
    let config = UpstreamConfig { host: long.clone(), user: long, ..config() };
    assert!(!config.fits());
    let mut stage = Stage::with(config);
    stage.hears(success(MiningSuccessFlags::NONE)).unwrap();
    stage.sent();
    stage.upstream.open(1, "", rate(1), stage.now).unwrap();
    let Some(Sent::Open { user, .. }) = stage.sent().pop() else { panic!("it asks") };
    assert_eq!(user, "ß".repeat(127));
}

/// SRI: `test_translator_fallback_on_setup_connection_error`.
#[test]
fn a_refusal_ends_the_connection_and_names_the_reason() {
    let mut stage = Stage::new();
    let error = common::SetupConnectionError { flags: 4, error_code: text("unsupported-feature-flags") };
    let error = stage.hears(error).unwrap_err();
    let flags = MiningSetupFlags::REQUIRES_VERSION_ROLLING;
    assert_eq!(error, UpstreamError::SetupRefused { code: "unsupported-feature-flags".to_owned(), flags });
    assert!(error.is_refusal());
    let said = "the pool refuses the connection: unsupported-feature-flags, it does not support [REQUIRES_VERSION_ROLLING]";
    assert_eq!(error.to_string(), said);
}

#[test]
fn a_reason_is_made_printable() {
    let mut stage = Stage::new();
    let error = common::SetupConnectionError { flags: 0, error_code: text("\u{1b}[31m\r\n") };
    let said = "the pool refuses the connection: \\x1b[31m\\r\\n";
    assert_eq!(stage.hears(error).unwrap_err().to_string(), said);
}

#[test]
fn another_version_and_another_first_message_are_misbehaviour() {
    let other = common::SetupConnectionSuccess { used_version: 3, flags: 0 };
    assert!(matches!(Stage::new().hears(other), Err(UpstreamError::Misbehaved(_))));
    let mut stage = Stage::new();
    let mut queue = FrameQueue::default();
    encode(close_channel(1), &mut queue).unwrap();
    let frame = queue.iter().next().unwrap();
    assert_eq!(stage.upstream.frame_limit(&frame.header), 0, "the transport refuses it");
    assert!(matches!(stage.upstream.handle_frame(frame, stage.now), Err(UpstreamError::Misbehaved(_))));
    let mut stage = Stage::ready();
    let error = stage.hears(success(MiningSuccessFlags::NONE)).unwrap_err();
    assert_eq!(error, UpstreamError::Misbehaved("it answered SetupConnection twice"));
}

/// SRI: `pool_does_not_hang_on_no_handshake`, from the other side.
#[test]
fn a_pool_that_does_not_answer_is_left() {
    let mut stage = Stage::new();
    stage.passes(seconds(9)).unwrap();
    let error = stage.passes(seconds(1)).unwrap_err();
    assert_eq!(error, UpstreamError::Silent("an answer to SetupConnection"));
    assert!(!error.is_refusal());
}

#[test]
fn names_are_agreed_on_before_anything_else() {
    let mut stage = naming();
    stage.hears(granted(&[2])).unwrap();
    assert_eq!(stage.events(), [Event::Ready { names_workers: true }]);
    assert!(stage.upstream.names_workers());
}

#[test]
fn a_pool_without_names_is_used_without() {
    let mut stage = naming();
    stage.hears(denied(&[2], &[])).unwrap();
    assert_eq!(stage.events(), [Event::Ready { names_workers: false }]);
    let mut stage = naming();
    stage.hears(granted(&[])).unwrap();
    assert_eq!(stage.events(), [Event::Ready { names_workers: false }]);
}

#[test]
fn a_pool_that_knows_of_no_extensions_is_used_without_after_a_while() {
    let mut stage = naming();
    assert_eq!(stage.upstream.open(1, "", rate(1), stage.now), Err(NotOpened::NotReady));
    stage.passes(EXTENSIONS_PATIENCE).unwrap();
    assert_eq!(stage.events(), [Event::Ready { names_workers: false }]);
    stage.hears(granted(&[2])).unwrap();
    assert_eq!(stage.event(), None);
    assert!(stage.upstream.names_workers(), "an answer that is late still holds");
}

/// A failover is to take less than two seconds, and all of them once went by in waiting for an answer that many pools never give.
#[test]
fn a_pool_that_ignores_extensions_did_not_use_up_the_time_for_a_failover() {
    let mut stage = naming();
    stage.passes(Duration::from_millis(300)).unwrap();
    assert!(stage.upstream.is_ready());
    stage.asks(7);
    let error = stage.hears(denied(&[], &[5])).unwrap_err();
    assert_eq!(error, UpstreamError::ExtensionsRequired(vec![5]), "what comes late holds");
}

#[test]
fn a_pool_that_requires_other_extensions_is_left() {
    let mut stage = naming();
    let error = stage.hears(denied(&[], &[5, 0x4001])).unwrap_err();
    assert_eq!(error, UpstreamError::ExtensionsRequired(vec![5, 0x4001]));
    let said = "the pool requires extensions that it was not asked for: 0x0005, 0x4001";
    assert_eq!(error.to_string(), said);
}

#[test]
fn answers_to_what_was_not_asked_change_nothing() {
    let mut stage = Stage::ready();
    stage.hears(granted(&[2])).unwrap();
    stage.hears(denied(&[], &[5])).unwrap();
    assert!(!stage.upstream.names_workers());
    let mut stage = naming();
    stage.hears(RequestExtensionsSuccess { request_id: 9, ..granted(&[2]) }).unwrap();
    assert_eq!((stage.event(), stage.ignored().answers), (None, 1));
}

#[test]
fn a_pool_may_send_its_miners_elsewhere() {
    let mut stage = Stage::ready();
    stage.hears(common::Reconnect { new_host: text("other.example\n"), new_port: 7 }).unwrap();
    assert_eq!(stage.event(), Some(Event::Reconnect { host: "other.example\\n".to_owned(), port: 7 }));
}
