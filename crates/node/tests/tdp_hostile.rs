//! Damaged messages to a template provider, each held against a plain reading of it.
//!
//! What the session does with a frame is what it does with the message that decoding gives, and where there is none it closes without a word.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use adit_messages::extensions::RequestExtensions;
use adit_messages::template_distribution::{
    CoinbaseOutputConstraints, RequestTransactionData, SubmitSolution,
};
use adit_messages::types::{B064K, Seq064K, Str0255};
use adit_messages::{Direction, MESSAGES, Message, Protocol, common, decode, encode};
use adit_node::tdp::{Offers, Session, SessionEnd};
use adit_node::{Devnet, DevnetConfig};
use adit_transport::{Frame, FrameQueue};
use adit_units::{Monotonic, Now, UnixTime};

const NOW: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };

/// Where a connection can stand.
const PLACES: [&str; 3] = ["before setup", "before constraints", "serving"];

/// The least number of cases.
const CASES: usize = 15_000;

fn offers() -> Arc<Offers> {
    let config =
        DevnetConfig { transactions: 3, arrival: Duration::from_secs(1), ..DevnetConfig::new([7; 32]) };
    Arc::new(Offers::first(NOW.unix, Arc::new(Devnet::new(&config, NOW).template(NOW))))
}

/// One of each message that a client may send.
fn client_messages() -> Vec<Message<'static>> {
    let text = |text: &'static str| Str0255::try_from(text).unwrap();
    vec![
        common::SetupConnection {
            protocol: common::Protocol::TemplateDistributionProtocol,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: text("tp.example"),
            endpoint_port: 8442,
            vendor: text("vendor"),
            hardware_version: text(""),
            firmware: text("1"),
            device_id: text(""),
        }
        .into(),
        CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: 100,
            coinbase_output_max_additional_sigops: 4,
        }
        .into(),
        RequestTransactionData { template_id: 1 }.into(),
        SubmitSolution {
            template_id: 1,
            version: 0x2000_0000,
            header_timestamp: 1_700_000_000,
            header_nonce: 7,
            coinbase_tx: B064K::new(&[1; 40]).unwrap(),
        }
        .into(),
        RequestExtensions { request_id: 1, requested_extensions: Seq064K::new(vec![2, 3]).unwrap() }.into(),
    ]
}

fn frame_of(message: &Message<'_>) -> FrameQueue {
    let mut queue = FrameQueue::default();
    encode(message.clone(), &mut queue).unwrap();
    queue
}

fn session_at(place: &str, offers: &Arc<Offers>) -> Session {
    let mut session = Session::new(1, Arc::clone(offers), NOW);
    let steps = PLACES.iter().position(|known| *known == place).unwrap();
    for message in client_messages().iter().take(steps) {
        session.handle_frame(frame_of(message).iter().next().unwrap(), NOW).unwrap();
        session.frames().clear();
    }
    session
}

/// What a session at `place` does with a frame: how it ends, what it says, how many blocks it gives.
fn outcome(place: &str, frame: Frame<'_>, offers: &Arc<Offers>) -> (Option<SessionEnd>, Vec<u8>, usize) {
    let mut session = session_at(place, offers);
    let end = session.handle_frame(frame, NOW).err();
    let said = session.frames().as_bytes().to_vec();
    (end, said, core::iter::from_fn(|| session.poll_block()).count())
}

fn check(place: &str, frame: Frame<'_>, offers: &Arc<Offers>) {
    let (end, said, blocks) = outcome(place, frame, offers);
    let what = format!("{place} {:?} {:02x?}", frame.header, frame.payload);
    assert_eq!(blocks, 0, "{what}");
    assert!(!matches!(end, Some(SessionEnd::Idle(_))), "{what}");
    if frame.payload.len() > session_at(place, offers).frame_limit(&frame.header) {
        assert!(matches!(end, Some(SessionEnd::TooLong { .. })) && said.is_empty(), "{what}: {end:?}");
        return;
    }
    let Ok(message) = decode(Protocol::TemplateDistribution, frame) else {
        let is_answered = matches!(end, Some(SessionEnd::Refused(_)));
        assert!(end.is_some() && said.is_empty() != is_answered, "{what}: {end:?}");
        return;
    };
    let queue = frame_of(&message);
    let plain = outcome(place, queue.iter().next().unwrap(), offers);
    assert_eq!((end, said), (plain.0, plain.1), "{what}");
}

#[test]
fn the_list_of_client_messages_is_whole() {
    let listed: Vec<_> = client_messages().iter().map(|message| message.info().name).collect();
    let here = [Protocol::Common, Protocol::TemplateDistribution, Protocol::ExtensionsNegotiation];
    for info in MESSAGES.iter().filter(|info| here.contains(&info.protocol)) {
        let is_sent = matches!(info.direction, Direction::ToServer | Direction::Both);
        assert_eq!(listed.contains(&info.name), is_sent, "{}", info.name);
    }
}

#[test]
fn a_damaged_message_is_what_it_reads_as_or_ends_the_session() {
    let (offers, mut cases) = (offers(), 0);
    for (place, message) in
        PLACES.iter().flat_map(|place| client_messages().into_iter().map(move |m| (place, m)))
    {
        let queue = frame_of(&message);
        let frame = queue.iter().next().unwrap();
        let header = frame.header;
        let mut send = |payload: &[u8]| {
            let frame = Frame::new(header.extension_type, header.channel_msg, header.msg_type, payload);
            check(place, frame.unwrap(), &offers);
            cases += 1;
        };
        (0..frame.payload.len()).for_each(|length| send(&frame.payload[..length]));
        (0..400).for_each(|extra| send(&[frame.payload, &vec![0x5a; extra]].concat()));
        for at in 0..frame.payload.len() {
            let mut payload = frame.payload.to_vec();
            for value in
                (0..=255).step_by(5).chain([1, 2, payload[at].wrapping_add(1), payload[at].wrapping_sub(1)])
            {
                payload[at] = value;
                send(&payload);
            }
        }
    }
    assert!(cases >= CASES, "{cases}");
}

#[test]
fn every_message_of_a_server_and_every_unknown_one_ends_the_session() {
    let offers = offers();
    for (place, msg_type) in PLACES.iter().flat_map(|place| (0..=255).map(move |msg_type| (place, msg_type)))
    {
        for extension in [0, 1] {
            let frame = Frame::new(extension, false, msg_type, &[0; 4]).unwrap();
            let mut session = session_at(place, &offers);
            let known = adit_messages::info(Protocol::TemplateDistribution, &frame.header);
            let is_for_us = known.is_some_and(|info| info.direction != Direction::ToClient);
            let is_ignored = known.is_none() && extension != 0 && *place != "before setup";
            let end = session.handle_frame(frame, NOW);
            assert!(is_for_us || is_ignored == end.is_ok(), "{place} {extension} {msg_type:#04x}: {end:?}");
        }
    }
}
