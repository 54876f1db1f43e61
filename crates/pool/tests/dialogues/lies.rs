//! Messages with every byte damaged, every length a lie, anything behind them, and for any channel.
//!
//! What the session does is what it does for the message that a plain reading gives, and where there is none it closes without a word.
//! That the plain reading is right is held against the layout of each message as the specification has it, see [`pieces`].

use std::collections::BTreeSet;

use adit_messages::types::Str0255;
use adit_messages::{MESSAGES, Message, Protocol, common, decode, encode, mining};
use adit_pool::{Disconnect, Fault};
use adit_transport::{Frame, FrameQueue, Header};

use crate::cut::{PLACES, client_at, client_messages, frame_of, with_payload};
use crate::world::{Client, World};

/// The least number of frames, no two of them alike at the same place, that each test here hands to a session, and of headers.
const DAMAGED: usize = 60_000;
const LIES: usize = 16_000;
const BEHIND: usize = 18_000;
const CHANNELS: usize = 20_000;
const CLAIMS: usize = 30_000;

const _: () = assert!(DAMAGED + LIES + BEHIND + CHANNELS >= 100_000, "what the project promises");

/// What a session did.
#[derive(Debug, PartialEq)]
struct Outcome {
    closed: Option<Disconnect>,
    answers: Vec<Vec<u8>>,
    hashes: Vec<[u8; 32]>,
    blocks: usize,
    channels: usize,
}

/// What a session at `place` does with a frame.
fn outcome(place: &str, frame: Frame<'_>, world: &mut World) -> Outcome {
    let mut client = client_at(place, world);
    let before = client.records.len();
    client.sends_frame(frame, world);
    let mut answers = Vec::new();
    while client.has_mail() {
        answers.push(client.receives().into_bytes());
    }
    Outcome {
        hashes: client.records.drain(before..).map(|record| record.hash).collect(),
        blocks: client.blocks().len(),
        channels: client.session.channels(),
        closed: client.closed,
        answers,
    }
}

/// Holds what a session does with a frame against what it does with the message that the frame is read as.
fn check(place: &str, frame: Frame<'_>, world: &mut World) {
    let limit = client_at(place, world).session.frame_limit(&frame.header);
    let came = outcome(place, frame, world);
    let said = format!("{place} {:?} {:02x?}", frame.header, frame.payload);
    if let Some(closed) = &came.closed {
        assert!(!matches!(closed.fault(), Fault::Ours | Fault::PeerIdle), "{said}: {closed}");
    }
    let length = frame.payload.len();
    if length > limit {
        assert_eq!(came.closed, Some(Disconnect::TooLong { length, limit }), "{said}");
        return assert!(came.answers.is_empty() && came.hashes.is_empty(), "{said}");
    }
    let decoded = decode(Protocol::Mining, frame);
    let laid_out = fields(name_of(&frame.header), frame.payload);
    assert_eq!(decoded.as_ref().ok().map(told_fields), laid_out, "{said}: not as it is laid out");
    let Ok(message) = decoded else {
        let closed = came.closed.as_ref().unwrap_or_else(|| panic!("{said}: no message, and not closed"));
        // A protocol that does not exist is answered (spec 3.6.3); nothing else that cannot be read is.
        let is_answered = matches!(closed, Disconnect::Refused(_));
        assert_eq!(came.answers.is_empty(), !is_answered, "{said}: {closed}");
        assert!(came.hashes.is_empty(), "{said}");
        return;
    };
    let queue = frame_of(&message);
    let plain = outcome(place, queue.iter().next().unwrap(), world);
    // Two sessions have different extranonces, and with them different answers to a request for a channel.
    if matches!(message, Message::OpenExtendedMiningChannel(_) | Message::OpenStandardMiningChannel(_)) {
        let kinds = |outcome: &Outcome| outcome.answers.iter().map(|answer| answer[2]).collect::<Vec<_>>();
        assert_eq!((&came.closed, kinds(&came)), (&plain.closed, kinds(&plain)), "{said}");
    } else {
        assert_eq!((&came.closed, &came.answers), (&plain.closed, &plain.answers), "{said}");
    }
    let rest = |outcome: &Outcome| (outcome.hashes.len(), outcome.blocks, outcome.channels);
    assert_eq!(rest(&came), rest(&plain), "{said}");
}

/// Every frame of a client at every place.
fn everywhere(mut case: impl FnMut(&str, Frame<'_>, &mut World) -> usize) -> usize {
    let mut cases = 0;
    for place in PLACES {
        let mut world = World::new();
        for message in client_messages(&world) {
            let queue = frame_of(&message);
            cases += case(place, queue.iter().next().unwrap(), &mut world);
        }
    }
    cases
}

/// What a byte may be instead.
fn damages(own: u8) -> BTreeSet<u8> {
    let near = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, own.wrapping_add(1), own.wrapping_sub(1)];
    let bits = (0..8).map(|bit| own ^ (1 << bit));
    let far = (0..32).map(|step| own.wrapping_mul(29).wrapping_add(step * 7));
    near.into_iter().chain(bits).chain(far).filter(|&value| value != own).collect()
}

#[test]
fn a_message_with_any_byte_damaged_is_what_it_reads_as() {
    let cases = everywhere(|place, frame, world| {
        let (mut payload, mut cases) = (frame.payload.to_vec(), 0);
        for at in 0..payload.len() {
            let own = payload[at];
            for value in damages(own) {
                payload[at] = value;
                check(place, with_payload(frame, &payload), world);
                cases += 1;
            }
            payload[at] = own;
        }
        cases
    });
    assert!(cases >= DAMAGED, "{cases}");
}

/// A piece of a message.
#[derive(Clone, Copy)]
enum Piece {
    /// So many bytes of fixed length.
    Fixed(usize),
    /// A length in one byte, and so many bytes.
    Short,
    /// A length in one byte, and so many bytes, at most 32.
    Tiny,
    /// A length in two bytes, and so many bytes.
    Long,
    /// A count in one byte, and so many times 32 bytes.
    Hashes,
    /// A count in two bytes, and so many times two bytes.
    Numbers,
}

/// What the messages of a client are made of (spec 3.6.1, 5.3, extension 0x0001).
fn pieces(name: &str) -> &'static [Piece] {
    use Piece::{Fixed, Hashes, Long, Numbers, Short, Tiny};
    match name {
        "SetupConnection" => {
            &[Fixed(1), Fixed(2), Fixed(2), Fixed(4), Short, Fixed(2), Short, Short, Short, Short]
        }
        "OpenStandardMiningChannel" => &[Fixed(4), Short, Fixed(4), Fixed(32)],
        "OpenExtendedMiningChannel" => &[Fixed(4), Short, Fixed(4), Fixed(32), Fixed(2)],
        "UpdateChannel" => &[Fixed(4), Fixed(4), Fixed(32)],
        "CloseChannel" => &[Fixed(4), Short],
        "SubmitSharesStandard" => &[Fixed(4); 6],
        "SubmitSharesExtended" => &[Fixed(4), Fixed(4), Fixed(4), Fixed(4), Fixed(4), Fixed(4), Tiny],
        "SetCustomMiningJob" => &[
            Fixed(4),
            Fixed(4),
            Short,
            Fixed(4),
            Fixed(32),
            Fixed(4),
            Fixed(4),
            Fixed(4),
            Short,
            Fixed(4),
            Long,
            Fixed(4),
            Hashes,
        ],
        "RequestExtensions" => &[Fixed(2), Numbers],
        other => panic!("no client sends {other}"),
    }
}

/// The name of the message that a header announces.
fn name_of(header: &Header) -> &'static str {
    let is_it = |info: &&adit_messages::MessageInfo| {
        matches!(info.protocol, Protocol::Common | Protocol::Mining | Protocol::ExtensionsNegotiation)
            && (info.extension_type, info.msg_type) == (header.extension_type, header.msg_type)
    };
    MESSAGES.iter().find(is_it).expect("it is one of a client's").name
}

/// The bytes of a message's fields, without lengths, cut out by its layout alone; `None` if they are not all there, or one is longer
/// than it may be.
fn fields(name: &str, payload: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut rest, mut found) = (payload, Vec::new());
    let mut take = |count: usize| {
        let (taken, behind) = rest.split_at_checked(count)?;
        rest = behind;
        Some(taken)
    };
    for piece in pieces(name) {
        let mut short = || take(1).map(|length| usize::from(length[0]));
        let length = match *piece {
            Piece::Fixed(bytes) => bytes,
            Piece::Short => short()?,
            Piece::Tiny => short().filter(|&length| length <= 32)?,
            Piece::Hashes => 32 * short()?,
            Piece::Long | Piece::Numbers => {
                let length = take(2)?;
                let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
                if matches!(piece, Piece::Numbers) { 2 * length } else { length }
            }
        };
        found.push(take(length)?.to_vec());
    }
    // There are three protocols (spec 3.6.1).
    let is_known = name != "SetupConnection" || found.first().is_some_and(|protocol| protocol[0] <= 2);
    is_known.then_some(found)
}

/// The same as the message tells it.
fn told_fields(message: &Message<'_>) -> Vec<Vec<u8>> {
    let two = |value: u16| value.to_le_bytes().to_vec();
    let four = |value: u32| value.to_le_bytes().to_vec();
    let speed = |value: f32| value.to_le_bytes().to_vec();
    match message {
        Message::SetupConnection(told) => {
            let protocol = match told.protocol {
                common::Protocol::MiningProtocol => 0,
                common::Protocol::JobDeclarationProtocol => 1,
                common::Protocol::TemplateDistributionProtocol => 2,
            };
            let texts = [&told.vendor, &told.hardware_version, &told.firmware, &told.device_id];
            let mut all =
                vec![vec![protocol], two(told.min_version), two(told.max_version), four(told.flags)];
            all.extend([told.endpoint_host.as_bytes().to_vec(), two(told.endpoint_port)]);
            all.extend(texts.map(|text| text.as_bytes().to_vec()));
            all
        }
        Message::OpenStandardMiningChannel(told) => vec![
            four(told.request_id),
            told.user_identity.as_bytes().to_vec(),
            speed(told.nominal_hash_rate),
            told.max_target.as_bytes().to_vec(),
        ],
        Message::OpenExtendedMiningChannel(told) => vec![
            four(told.request_id),
            told.user_identity.as_bytes().to_vec(),
            speed(told.nominal_hash_rate),
            told.max_target.as_bytes().to_vec(),
            two(told.min_extranonce_size),
        ],
        Message::UpdateChannel(told) => vec![
            four(told.channel_id),
            speed(told.nominal_hash_rate),
            told.maximum_target.as_bytes().to_vec(),
        ],
        Message::CloseChannel(told) => vec![four(told.channel_id), told.reason_code.as_bytes().to_vec()],
        Message::SubmitSharesStandard(told) => {
            [told.channel_id, told.sequence_number, told.job_id, told.nonce, told.ntime, told.version]
                .map(four)
                .to_vec()
        }
        Message::SubmitSharesExtended(told) => {
            let fixed =
                [told.channel_id, told.sequence_number, told.job_id, told.nonce, told.ntime, told.version];
            let mut all = fixed.map(four).to_vec();
            all.push(told.extranonce.as_bytes().to_vec());
            all
        }
        Message::SetCustomMiningJob(told) => vec![
            four(told.channel_id),
            four(told.request_id),
            told.token.as_bytes().to_vec(),
            four(told.version),
            told.prev_hash.as_bytes().to_vec(),
            four(told.min_ntime),
            four(told.nbits),
            four(told.coinbase_tx_version),
            told.coinbase_prefix.as_bytes().to_vec(),
            four(told.coinbase_tx_input_n_sequence),
            told.coinbase_tx_outputs.as_bytes().to_vec(),
            four(told.coinbase_tx_locktime),
            told.merkle_path.as_slice().iter().flat_map(|hash| hash.as_bytes().to_vec()).collect(),
        ],
        Message::RequestExtensions(told) => {
            let numbers = told.requested_extensions.as_slice().iter();
            vec![two(told.request_id), numbers.flat_map(|number| number.to_le_bytes()).collect()]
        }
        other => panic!("no client sends {other:?}"),
    }
}

/// Where the lengths of a message stand, and how many bytes each has.
fn lengths(name: &str, payload: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut found) = (0, Vec::new());
    for piece in pieces(name) {
        let short = || usize::from(payload[at]);
        let long = || usize::from(u16::from_le_bytes([payload[at], payload[at + 1]]));
        let (width, behind) = match *piece {
            Piece::Fixed(bytes) => (0, bytes),
            Piece::Short | Piece::Tiny => (1, short()),
            Piece::Long => (2, long()),
            Piece::Hashes => (1, 32 * short()),
            Piece::Numbers => (2, 2 * long()),
        };
        if width > 0 {
            found.push((at, width));
        }
        at += width + behind;
    }
    assert_eq!(at, payload.len(), "{name}");
    found
}

#[test]
fn a_message_with_any_length_in_it_a_lie_is_what_it_reads_as() {
    let cases = everywhere(|place, frame, world| {
        let name = decode(Protocol::Mining, frame).unwrap().info().name;
        let mut cases = 0;
        for (at, width) in lengths(name, frame.payload) {
            let lies: Vec<u16> = if width == 1 {
                (0..=255).collect()
            } else {
                (0..=255).chain((0..=255).map(|high| high << 8)).chain([0x7fff, 0x8001, 0xffff]).collect()
            };
            for lie in lies {
                let mut payload = frame.payload.to_vec();
                payload[at..at + width].copy_from_slice(&lie.to_le_bytes()[..width]);
                check(place, with_payload(frame, &payload), world);
                cases += 1;
            }
        }
        cases
    });
    assert!(cases >= LIES, "{cases}");
}

#[test]
fn a_message_with_anything_behind_it_is_the_same_message_up_to_the_limit() {
    let cases = everywhere(|place, frame, world| {
        let mut payload = frame.payload.to_vec();
        // The message itself is none of the cases.
        for extra in 0..=520_usize {
            check(place, with_payload(frame, &payload), world);
            payload.push(extra.to_le_bytes()[0].wrapping_mul(151));
        }
        520
    });
    assert!(cases >= BEHIND, "{cases}");
}

/// A client with an extended channel that is closed, and one that is open, number 3.
fn with_a_closed_channel(world: &mut World) -> Client {
    let mut client = world.extended_miner();
    client.opens_extended(world);
    client.sends(crate::world::close(2), world);
    client.skips_all();
    client
}

#[test]
fn a_message_for_a_channel_that_is_not_the_peers_is_answered_with_that_channels_number() {
    let mut world = World::new();
    let mut cases = 0;
    let mut client = with_a_closed_channel(&mut world);
    let numbers =
        (0..=2).chain(4..3_400).chain((0..32).map(|bit| u32::MAX << bit)).chain([0x8000_0003, 0x0300_0000]);
    for channel in numbers {
        // Patience with worthless shares comes back in time.
        world.wait(1);
        for (message, code) in [
            (extended_share(channel, &world), "invalid-channel-id"),
            (standard_share(channel, &world), "invalid-channel-id"),
            (update(channel), "invalid-channel-id"),
            (custom_job(channel, &world), "jd-not-supported"),
        ] {
            client.sends_frame(message.frame(), &world);
            assert_eq!(client.closed, None, "{channel}");
            let answer = client.receives();
            assert_eq!(told(&answer.message()), (message.expected, code.to_owned()), "{channel}");
            client.expects_nothing();
            cases += 1;
        }
        if channel != 1 {
            client.sends(crate::world::close(channel), &world);
            client.expects_nothing();
        }
        cases += 2;
        let own = client.records.len();
        let share = mining::SubmitSharesExtended {
            channel_id: 3,
            ..crate::world::extended_share(1, channel, &world)
        };
        client.submits_share(share, &world);
        assert_eq!(client.records.len(), own + 1, "its own channel earns as before: {channel}");
        client.is_durable(own + 1);
        client.skips_all();
    }
    assert!(cases >= CHANNELS, "{cases}");
}

/// A message, and what its answer is to name.
struct Asked {
    queue: FrameQueue,
    expected: (u32, u32),
}

impl Asked {
    fn new<'a>(message: impl Into<Message<'a>>, expected: (u32, u32)) -> Self {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        Self { queue, expected }
    }

    fn frame(&self) -> Frame<'_> {
        self.queue.iter().next().unwrap()
    }
}

fn extended_share(channel_id: u32, world: &World) -> Asked {
    let share = mining::SubmitSharesExtended {
        channel_id,
        sequence_number: 77,
        ..crate::world::extended_share(1, 1, world)
    };
    Asked::new(share, (channel_id, 77))
}

fn standard_share(channel_id: u32, world: &World) -> Asked {
    let (sequence_number, ntime, version) = (78, world.now.unix.to_secs(), crate::world::VERSION);
    let share =
        mining::SubmitSharesStandard { channel_id, sequence_number, job_id: 1, nonce: 1, ntime, version };
    Asked::new(share, (channel_id, 78))
}

fn update(channel_id: u32) -> Asked {
    let update = mining::UpdateChannel { channel_id, ..crate::world::update(0.0, &[0xff; 32]) };
    Asked::new(update, (channel_id, 0))
}

fn custom_job(channel_id: u32, world: &World) -> Asked {
    let job = client_messages(world).into_iter().find_map(|message| match message {
        Message::SetCustomMiningJob(job) => Some(job),
        _ => None,
    });
    let job = mining::SetCustomMiningJob { channel_id, request_id: 79, ..job.unwrap() };
    Asked::new(job, (channel_id, 79))
}

/// Whom an error is for, which message it answers, and its code.
fn told(message: &Message<'_>) -> ((u32, u32), String) {
    let text = |code: &Str0255<'_>| String::from_utf8(code.as_bytes().to_vec()).unwrap();
    match message {
        Message::SubmitSharesError(error) => {
            ((error.channel_id, error.sequence_number), text(&error.error_code))
        }
        Message::UpdateChannelError(error) => ((error.channel_id, 0), text(&error.error_code)),
        Message::SetCustomMiningJobError(error) => {
            ((error.channel_id, error.request_id), text(&error.error_code))
        }
        other => panic!("no error, but {other:?}"),
    }
}

#[test]
fn no_header_makes_the_session_take_more_than_four_kibibytes() {
    let mut cases = 0;
    for place in PLACES {
        let mut world = World::new();
        let client = client_at(place, &mut world);
        for (extension_type, msg_type) in
            [0, 1, 2, 0x7fff].into_iter().flat_map(|e| (0..=255).map(move |t| (e, t)))
        {
            for length in [0, 1, 1_291, 4_096, 4_097, 65_535, 1 << 20, (1 << 24) - 1] {
                let header = Header { extension_type, channel_msg: msg_type % 2 == 0, msg_type, length };
                let most = if place == "before setup" { 1_291 } else { 4_096 };
                let limit = client.session.frame_limit(&header);
                assert!(limit <= most, "{place}: {limit} bytes for {header:?}");
                cases += 1;
            }
        }
    }
    assert!(cases >= CLAIMS, "{cases}");
}
