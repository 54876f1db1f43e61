//! Tests of both directions of a transport against each other; `tests/oracles` holds them against other software.

use proptest::prelude::*;

use super::*;
use crate::frame::PAYLOAD_MAX;

const KEYS: [Secret<32>; 2] = [Secret::new([1; 32]), Secret::new([2; 32])];

/// Both ends of one connection.
fn pair() -> (Transport, Transport) {
    let [a, b] = KEYS;
    (Transport::new(&a, &b), Transport::new(&b, &a))
}

fn payload(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

fn frame(msg_type: u8, payload: &[u8]) -> Frame<'_> {
    Frame::new(3, true, msg_type, payload).unwrap()
}

fn receive(buffer: &mut RecvBuffer, bytes: &[u8]) {
    buffer.spare(bytes.len())[..bytes.len()].copy_from_slice(bytes);
    buffer.advance(bytes.len());
}

fn open_all(opener: &mut Opener, buffer: &mut RecvBuffer, out: &mut FrameQueue) -> Result<(), OpenError> {
    while let Some(Frame { header, payload }) = opener.open(buffer, |_| usize::MAX)? {
        assert_eq!(length_of(&header), payload.len());
        let pushed = out.push(header.extension_type, header.channel_msg, header.msg_type, payload);
        assert_eq!(pushed, Ok(()));
    }
    Ok(())
}

/// What an opener makes of the bytes if they come in one piece.
fn open_at_once(bytes: &[u8]) -> (FrameQueue, Result<(), OpenError>) {
    let (_, mut client) = pair();
    let (mut buffer, mut out) = (RecvBuffer::default(), FrameQueue::default());
    receive(&mut buffer, bytes);
    let result = open_all(&mut client.opener, &mut buffer, &mut out);
    if result.is_err() {
        let again = client.opener.open(&mut buffer, |_| usize::MAX);
        assert_eq!(again, Err(OpenError::Failed), "a failed opener stays failed");
    }
    (out, result)
}

fn seal_each(payloads: &[Vec<u8>]) -> (FrameQueue, Vec<u8>) {
    let (mut server, _) = pair();
    let (mut queue, mut sealed) = (FrameQueue::default(), Vec::new());
    for (msg_type, payload) in (0..).zip(payloads) {
        queue.push(3, true, msg_type, payload).unwrap();
        server.sealer.seal(frame(msg_type, payload), &mut sealed).unwrap();
    }
    (queue, sealed)
}

#[test]
fn an_empty_payload_has_no_block_of_its_own() {
    let (mut server, _) = pair();
    let mut sealed = Vec::new();
    server.sealer.seal(frame(1, b""), &mut sealed).unwrap();
    assert_eq!(sealed.len(), 22);
    assert_eq!(sealed_frame_len(0), 22);
    server.sealer.seal(frame(1, b""), &mut sealed).unwrap();
    let (opened, result) = open_at_once(&sealed);
    assert_eq!((opened.iter().count(), result), (2, Ok(())));
}

#[test]
fn every_length_about_the_block_limits_survives() {
    let lengths =
        [0, 1, 2, 15, 16, 17, 33, 65_518, 65_519, 65_520, 131_037, 131_038, 131_039, 1_000_000, PAYLOAD_MAX];
    let payloads: Vec<_> = lengths.into_iter().map(payload).collect();
    let (queue, sealed) = seal_each(&payloads);
    assert_eq!(sealed.len(), lengths.into_iter().map(sealed_frame_len).sum::<usize>());
    let (opened, result) = open_at_once(&sealed);
    result.unwrap();
    assert!(opened.as_bytes() == queue.as_bytes());
}

#[test]
fn a_queue_is_sealed_frame_by_frame_and_cleared() {
    let payloads: Vec<_> = [0, 5, 70_000, 0, 33].into_iter().map(payload).collect();
    let (mut queue, expected) = seal_each(&payloads);
    let (mut server, _) = pair();
    let mut sealed = b"before".to_vec();
    server.sealer.seal_all(&mut queue, &mut sealed).unwrap();
    assert!(queue.is_empty());
    assert!(sealed.strip_prefix(b"before").unwrap() == expected);
}

#[test]
fn the_length_that_is_sent_is_that_of_the_payload() {
    let (mut server, _) = pair();
    let mut lying = frame(1, b"abc");
    lying.header.length = 500;
    let mut sealed = Vec::new();
    server.sealer.seal(lying, &mut sealed).unwrap();
    let (opened, result) = open_at_once(&sealed);
    assert_eq!((opened.iter().next(), result), (Some(frame(1, b"abc")), Ok(())));
}

#[test]
fn a_payload_that_is_too_long_is_refused_and_nothing_is_sealed() {
    let (mut server, _) = pair();
    let long = vec![0; PAYLOAD_MAX + 1];
    let header = Header { extension_type: 0, channel_msg: false, msg_type: 0, length: 0 };
    let mut out = Vec::new();
    let refused = server.sealer.seal(Frame { header, payload: &long }, &mut out);
    assert_eq!(refused, Err(SealError::PayloadTooLong(PayloadTooLong { length: PAYLOAD_MAX + 1 })));
    assert!(out.is_empty());
    server.sealer.seal(frame(1, b"next"), &mut out).unwrap();
    assert_eq!(open_at_once(&out).1, Ok(()), "no nonce was lost");
}

#[test]
fn a_payload_above_the_limit_is_refused_from_its_header_alone() {
    let (mut server, mut client) = pair();
    let mut sealed = Vec::new();
    server.sealer.seal(frame(9, &payload(101)), &mut sealed).unwrap();
    let mut buffer = RecvBuffer::default();
    receive(&mut buffer, &sealed[..22]);
    let capacity = buffer.capacity();
    let header = frame(9, &payload(101)).header;
    let mut asked = Vec::new();
    let refused = client.opener.open(&mut buffer, |header| {
        asked.push(*header);
        100
    });
    assert_eq!(refused, Err(OpenError::TooLong { header, limit: 100 }));
    assert_eq!(asked, [header]);
    assert_eq!(buffer.capacity(), capacity);
    receive(&mut buffer, &sealed[22..]);
    assert_eq!(client.opener.open(&mut buffer, |_| 1000), Err(OpenError::Failed));
}

#[test]
fn the_limit_is_asked_once_for_each_header_and_its_value_is_allowed() {
    let (_, sealed) = seal_each(&[payload(100), payload(100)]);
    let (_, mut client) = pair();
    let mut buffer = RecvBuffer::default();
    let (mut asked, mut frames) = (0, 0);
    for byte in &sealed {
        receive(&mut buffer, &[*byte]);
        let opened = client.opener.open(&mut buffer, |_| {
            asked += 1;
            100
        });
        frames += usize::from(opened.unwrap().is_some());
    }
    assert_eq!((asked, frames), (2, 2));
}

#[test]
fn memory_follows_what_was_received_not_what_was_declared() {
    let (mut server, mut client) = pair();
    let mut sealed = Vec::new();
    server.sealer.seal(frame(0, &payload(PAYLOAD_MAX)), &mut sealed).unwrap();
    let mut buffer = RecvBuffer::default();
    let mut received = 0;
    for piece in sealed.chunks(4096).take(40) {
        receive(&mut buffer, piece);
        received += piece.len();
        assert_eq!(client.opener.open(&mut buffer, |_| PAYLOAD_MAX), Ok(None));
        assert!(buffer.capacity() <= RecvBuffer::KEPT_CAPACITY.max(4 * (received + 4096)));
    }
}

#[test]
fn tampering_at_every_kind_of_place_ends_the_connection() {
    let payloads = [payload(40), payload(131_039)];
    let (_, sealed) = seal_each(&payloads);
    let second = sealed_frame_len(40);
    let block = |n: usize| second + 22 + n * 65_535;
    let places = [
        ("extension type", 0, 0),
        ("message type", 2, 0),
        ("length", 3, 0),
        ("first byte of the header's MAC", 6, 0),
        ("last byte of the header's MAC", 21, 0),
        ("first byte of the payload", 22, 0),
        ("last byte of the payload", 61, 0),
        ("first byte of the payload's MAC", 62, 0),
        ("last byte of the payload's MAC", 77, 0),
        ("second header", second, 1),
        ("start of a first block", block(0), 1),
        ("end of a first block", block(0) + 65_518, 1),
        ("MAC of a first block", block(0) + 65_519, 1),
        ("start of a middle block", block(1), 1),
        ("MAC of a middle block", block(2) - 1, 1),
        ("last block of one byte", block(2), 1),
        ("MAC of the last block", sealed.len() - 1, 1),
    ];
    for (place, at, intact) in places {
        for bit in [0x01, 0x80] {
            let mut altered = sealed.clone();
            altered[at] ^= bit;
            let (opened, result) = open_at_once(&altered);
            assert_eq!(result, Err(OpenError::Tampered), "{place}");
            assert_eq!(opened.iter().count(), intact, "{place}");
        }
    }
}

#[test]
fn every_single_byte_of_a_frame_is_authenticated() {
    let (_, sealed) = seal_each(&[payload(33)]);
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] = altered[at].wrapping_add(1);
        assert_eq!(open_at_once(&altered).1, Err(OpenError::Tampered), "byte {at}");
    }
}

#[test]
fn frames_lost_repeated_or_swapped_end_the_connection() {
    let (_, sealed) = seal_each(&[payload(10), payload(10), payload(10)]);
    let frames: Vec<_> = sealed.chunks(sealed_frame_len(10)).collect();
    for order in [&[1][..], &[0, 0], &[0, 2], &[0, 1, 1], &[1, 0], &[0, 1, 2, 0]] {
        let bytes: Vec<u8> = order.iter().flat_map(|n| frames[*n]).copied().collect();
        assert_eq!(open_at_once(&bytes).1, Err(OpenError::Tampered), "{order:?}");
    }
    // What one side sealed is not taken for something that the other side sealed.
    let (mut server, _) = pair();
    let mut buffer = RecvBuffer::default();
    receive(&mut buffer, &sealed);
    assert_eq!(server.opener.open(&mut buffer, |_| usize::MAX), Err(OpenError::Tampered));
}

#[test]
fn the_last_nonces_are_an_error_on_both_sides_not_a_repetition() {
    let [key, _] = KEYS;
    let cipher = || BlockCipher::with_nonce(&key, u64::MAX - 5);
    let mut sealer = Sealer { cipher: cipher() };
    let mut opener = Opener { cipher: cipher(), stage: Stage::ExpectHeader };
    let (mut buffer, mut out) = (RecvBuffer::default(), Vec::new());
    sealer.seal(frame(1, b"two blocks"), &mut out).unwrap();
    sealer.seal(frame(2, b"two more"), &mut out).unwrap();
    let sealed = out.len();
    assert_eq!(sealer.seal(frame(3, b"two, where one is left"), &mut out), Err(SealError::Exhausted));
    assert_eq!(out.len(), sealed, "a frame that cannot be sealed whole is not begun");
    let mut queue = FrameQueue::default();
    queue.push(0, false, 4, b"").unwrap();
    queue.push(0, false, 5, b"").unwrap();
    assert_eq!(sealer.seal_all(&mut queue, &mut out), Err(SealError::Exhausted));
    assert_eq!(queue.iter().count(), 2);
    receive(&mut buffer, &out);
    receive(&mut buffer, &[0; 22]);
    for msg_type in [1, 2, 4] {
        let opened = opener.open(&mut buffer, |_| 100).unwrap().unwrap();
        assert_eq!(opened.header.msg_type, msg_type);
    }
    assert_eq!(opener.open(&mut buffer, |_| 100), Err(OpenError::Exhausted));
    assert_eq!(opener.open(&mut buffer, |_| 100), Err(OpenError::Failed));
}

#[test]
fn a_buffer_that_is_swapped_under_way_is_refused_not_followed() {
    let (_, sealed) = seal_each(&[payload(100_000)]);
    let (_, mut client) = pair();
    let mut buffer = RecvBuffer::default();
    receive(&mut buffer, &sealed[..70_000]);
    assert_eq!(client.opener.open(&mut buffer, |_| usize::MAX), Ok(None));
    let mut other = RecvBuffer::default();
    assert_eq!(client.opener.open(&mut other, |_| usize::MAX), Ok(None));
    receive(&mut other, &sealed);
    assert_eq!(client.opener.open(&mut other, |_| usize::MAX), Err(OpenError::Tampered));
}

#[test]
fn keys_are_not_printed() {
    let (server, _) = pair();
    let text = format!("{server:?}");
    assert_eq!(text, "Transport { opener: Opener { stage: ExpectHeader, .. }, sealer: Sealer { .. } }");
}

proptest! {
    /// However a network cuts the stream, the frames are those of the stream in one piece.
    #[test]
    fn a_stream_cut_anywhere_yields_the_same_frames(
        lengths in prop::collection::vec(prop_oneof![0_usize..80, 65_500_usize..65_540, 130_900_usize..131_100], 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        room in 1_usize..9000,
    ) {
        let payloads: Vec<_> = lengths.into_iter().map(payload).collect();
        let (queue, sealed) = seal_each(&payloads);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.index(sealed.len() + 1)).collect();
        cuts.extend([0, sealed.len()]);
        cuts.sort_unstable();
        let (_, mut client) = pair();
        let (mut buffer, mut opened) = (RecvBuffer::default(), FrameQueue::default());
        for piece in cuts.windows(2).flat_map(|cut| sealed[cut[0]..cut[1]].chunks(room)) {
            receive(&mut buffer, piece);
            prop_assert!(buffer.capacity() <= RecvBuffer::KEPT_CAPACITY.max(4 * (buffer.len() + piece.len())));
            open_all(&mut client.opener, &mut buffer, &mut opened).unwrap();
        }
        prop_assert!(buffer.is_empty());
        prop_assert!(opened.as_bytes() == queue.as_bytes());
    }

    /// A stream that somebody altered, cut and repeated is a prefix of the true one, and an error.
    #[test]
    fn a_hostile_stream_yields_only_what_was_sealed(
        lengths in prop::collection::vec(0_usize..300, 1..8),
        at in any::<prop::sample::Index>(),
        junk in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let payloads: Vec<_> = lengths.into_iter().map(payload).collect();
        let (queue, sealed) = seal_each(&payloads);
        let mut altered = sealed.clone();
        let at = at.index(sealed.len());
        let end = (at + junk.len()).min(sealed.len());
        altered.splice(at..end, junk);
        let (opened, result) = open_at_once(&altered);
        prop_assert!(queue.as_bytes().starts_with(opened.as_bytes()));
        if result.is_ok() {
            // Nothing was altered, or the altered part is not complete yet.
            prop_assert!(altered == sealed || opened.len_bytes() < queue.len_bytes() || altered.len() > sealed.len());
        }
    }
}
