//! Messages cut, lengthened, damaged, invented, and sent in every wrong place: answered or closed as specified, never a panic.

use adit_messages::extensions::RequestExtensions;
use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::{B064K, B0255, Seq064K, Seq0255, U256};
use adit_messages::{Direction, MESSAGES, Message, Protocol, mining};
use adit_pool::{Disconnect, Fault};
use adit_transport::{Frame, FrameQueue};
use proptest::prelude::*;

use crate::world::{
    Client, VERSION, World, close, extended_share, open_extended, open_standard, setup, update,
};

const ANY: [u8; 32] = [0xff; 32];

/// Where a connection can stand.
pub(crate) const PLACES: [&str; 4] =
    ["before setup", "before a channel", "mining extended", "mining standard jobs"];

pub(crate) fn client_at(place: &str, world: &mut World) -> Client {
    match place {
        "before setup" => world.connect(),
        "before a channel" => world.connect_with(MiningSetupFlags::NONE),
        "mining extended" => world.extended_miner(),
        "mining standard jobs" => world.standard_miner(),
        other => panic!("no place is called {other}"),
    }
}

/// One of each message that a client may send on a mining connection.
pub(crate) fn client_messages(world: &World) -> Vec<Message<'static>> {
    let bytes = B0255::new(b"token").unwrap();
    let custom_job = mining::SetCustomMiningJob {
        channel_id: 2,
        request_id: 1,
        token: bytes,
        version: VERSION,
        prev_hash: U256::from(&[1; 32]),
        min_ntime: 0,
        nbits: 0,
        coinbase_tx_version: 2,
        coinbase_prefix: bytes,
        coinbase_tx_input_n_sequence: 0,
        coinbase_tx_outputs: B064K::new(b"outputs").unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: Seq0255::new(vec![U256::from(&[2; 32])]).unwrap(),
    };
    let standard_share = mining::SubmitSharesStandard {
        channel_id: 2,
        sequence_number: 1,
        job_id: 1,
        nonce: 1,
        ntime: world.now.unix.to_secs(),
        version: VERSION,
    };
    vec![
        setup(0).into(),
        open_standard(0.0, &ANY).into(),
        open_extended(0.0, &ANY).into(),
        update(0.0, &ANY).into(),
        close(2).into(),
        standard_share.into(),
        extended_share(1, 1, world).into(),
        custom_job.into(),
        RequestExtensions { request_id: 1, requested_extensions: Seq064K::new(vec![2, 3]).unwrap() }.into(),
    ]
}

pub(crate) fn frame_of(message: &Message<'_>) -> FrameQueue {
    let mut queue = FrameQueue::default();
    adit_messages::encode(message.clone(), &mut queue).unwrap();
    queue
}

pub(crate) fn with_payload<'a>(frame: Frame<'_>, payload: &'a [u8]) -> Frame<'a> {
    Frame::new(frame.header.extension_type, frame.header.channel_msg, frame.header.msg_type, payload).unwrap()
}

#[test]
fn the_list_of_client_messages_is_whole() {
    let listed: Vec<_> = client_messages(&World::new()).iter().map(|message| message.info().name).collect();
    for info in MESSAGES {
        let here =
            matches!(info.protocol, Protocol::Common | Protocol::Mining | Protocol::ExtensionsNegotiation);
        let sent = here && matches!(info.direction, Direction::ToServer | Direction::Both);
        assert_eq!(listed.contains(&info.name) && here, sent, "{}", info.name);
    }
}

#[test]
fn a_message_cut_at_any_byte_ends_the_session_without_an_answer() {
    let mut cases = 0;
    for place in PLACES {
        let mut world = World::new();
        for message in client_messages(&world) {
            let queue = frame_of(&message);
            let frame = queue.iter().next().unwrap();
            for length in 0..frame.payload.len() {
                let mut client = client_at(place, &mut world);
                client.sends_frame(with_payload(frame, &frame.payload[..length]), &world);
                let closed = client.closed.expect("half a message is no message");
                let fault = closed.fault();
                assert!(matches!(fault, Fault::PeerMalformed | Fault::PeerMisbehaved), "{place} {closed}");
                client.expects_nothing();
                assert!(client.records.is_empty());
                cases += 1;
            }
        }
    }
    assert!(cases > 1_500, "{cases} cases");
}

#[test]
fn a_message_with_bytes_behind_it_is_the_same_message() {
    for place in PLACES {
        let mut world = World::new();
        for message in client_messages(&world) {
            let queue = frame_of(&message);
            let frame = queue.iter().next().unwrap();
            let mut plain = client_at(place, &mut world);
            plain.sends_frame(frame, &world);
            for extra in [1, 5, 37, 2000, 5000] {
                let payload = [frame.payload, &vec![0x5a; extra]].concat();
                let mut client = client_at(place, &mut world);
                let limit = client.session.frame_limit(&frame.header);
                client.sends_frame(with_payload(frame, &payload), &world);
                let too_long = Disconnect::TooLong { length: payload.len(), limit };
                let expected = if payload.len() > limit { Some(too_long) } else { plain.closed };
                assert_eq!(client.closed, expected, "{place} {}", message.info().name);
            }
        }
    }
}

#[test]
fn a_message_in_the_wrong_place_ends_the_session_or_is_answered() {
    for place in PLACES {
        let mut world = World::new();
        for message in client_messages(&world) {
            let mut client = client_at(place, &mut world);
            client.sends(message.clone(), &world);
            let name = message.info().name;
            let wrong = match (place, name) {
                ("before setup", "SetupConnection") => false,
                ("before setup", _) | (_, "SetupConnection") => true,
                ("mining extended" | "mining standard jobs", "RequestExtensions") => true,
                _ => false,
            };
            let misbehaved = client.closed.is_some_and(|closed| closed.fault() == Fault::PeerMisbehaved);
            assert_eq!(
                (misbehaved, client.closed.is_some()),
                (wrong, wrong),
                "{place} {name}: {:?}",
                client.closed
            );
        }
    }
}

#[test]
fn every_message_of_a_server_ends_the_session() {
    for place in PLACES {
        let mut world = World::new();
        for info in MESSAGES.iter().filter(|info| info.direction == Direction::ToClient) {
            for length in [0, 4, info.payload_max.min(300)] {
                let mut client = client_at(place, &mut world);
                let payload = vec![0; length];
                let frame =
                    Frame::new(info.extension_type, info.channel_msg, info.msg_type, &payload).unwrap();
                client.sends_frame(frame, &world);
                let closed = client.closed.unwrap_or_else(|| panic!("{place} {}", info.name));
                assert_eq!(closed.fault(), Fault::PeerMisbehaved, "{place} {}", info.name);
                client.expects_nothing();
            }
        }
    }
}

#[test]
fn every_type_of_every_extension_with_any_length_is_survived() {
    let mut world = World::new();
    for place in PLACES {
        for (extension, msg_type) in
            [0, 1, 2, 0x4000, 0x7fff].into_iter().flat_map(|e| (0..=255).map(move |t| (e, t)))
        {
            for payload in [&[][..], &[0; 3], &[0xff; 40], &[2; 1291], &[0; 5000]] {
                let mut client = client_at(place, &mut world);
                client.sends_frame(
                    Frame::new(extension, msg_type % 2 == 0, msg_type, payload).unwrap(),
                    &world,
                );
                let limit = client
                    .session
                    .frame_limit(&Frame::new(extension, false, msg_type, payload).unwrap().header);
                assert!(payload.len() <= limit.max(4096) || client.closed.is_some());
            }
        }
    }
}

/// Whether the channel of [`World::extended_miner`] still works: another share on its first job is accepted.
fn still_mines(client: &mut Client, world: &World) -> bool {
    let before = client.records.len();
    client.submits(1, 0xdead_beef, world);
    client.records.len() == before + 1
}

proptest! {
    #[test]
    fn damaged_messages_never_break_a_session(
        which in 0_usize..9,
        place in 0_usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut world = World::new();
        let message = client_messages(&world).swap_remove(which);
        let queue = frame_of(&message);
        let frame = queue.iter().next().unwrap();
        let mut payload = frame.payload.to_vec();
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let mut client = client_at(PLACES[place], &mut world);
        client.sends_frame(with_payload(frame, &payload), &world);
        let closes = message.info().name == "CloseChannel";
        if PLACES[place] == "mining extended" && client.closed.is_none() && !closes {
            let harder = message.info().name == "UpdateChannel";
            prop_assert!(harder || still_mines(&mut client, &world));
        }
    }

    #[test]
    fn any_sequence_of_frames_is_survived(
        frames in prop::collection::vec(
            (prop::sample::select(vec![0_u16, 0, 0, 0, 1, 0x4000]), any::<bool>(), 0x00_u8..0x28, prop::collection::vec(any::<u8>(), 0..80)),
            0..40,
        ),
        place in 0_usize..4,
    ) {
        let mut world = World::new();
        let mut client = client_at(PLACES[place], &mut world);
        for (extension, channel, msg_type, payload) in frames {
            if client.closed.is_some() {
                break;
            }
            client.sends_frame(Frame::new(extension, channel, msg_type, &payload).unwrap(), &world);
            world.wait(1);
            client.ticks(&world);
        }
        prop_assert!(client.session.channels() <= 256);
    }
}
