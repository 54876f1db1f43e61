//! Sealed frames that a network cuts anywhere and somebody may alter: what comes out is what went in, up to the first change.

use std::iter;

use adit_transport::{ACT1_LEN, ACT2_LEN, Frame, Header, OpenError, Opener, RecvBuffer, sealed_frame_len};

use super::handshake::connect;

/// What an input describes.
struct Script<'a> {
    /// Payload lengths of the frames.
    lengths: Vec<usize>,
    /// Most payload bytes that the receiver accepts.
    limit: usize,
    /// A place in the stream and the bits that are altered there, if any.
    alteration: Option<(usize, u8)>,
    /// The lengths of the pieces, over and over.
    cuts: &'a [u8],
}

impl<'a> Script<'a> {
    /// Two bytes each for the number of frames, their lengths, the limit, the altered place and the altered bits, the rest for
    /// cuts; what is missing is zero.
    fn parse(bytes: &'a [u8]) -> Self {
        let mut rest = bytes;
        let mut take = || rest.split_off_first().copied().unwrap_or(0);
        let mut pair = || usize::from(u16::from_le_bytes([take(), take()]));
        let count = pair() % 6;
        let lengths = (0..count).map(|_| payload_len(pair())).collect();
        let limit = match pair() {
            0 => usize::MAX,
            limit => payload_len(limit),
        };
        let (place, bits) = (pair() * 7, pair().to_le_bytes()[0]);
        Self { lengths, limit, alteration: (bits != 0).then_some((place, bits)), cuts: rest }
    }
}

/// Short lengths, and with the top bit those about the limits of one and two blocks.
fn payload_len(number: usize) -> usize {
    match number & 0xc000 {
        0x8000 => 65_450 + (number & 0xff),
        0xc000 => 130_950 + (number & 0xff),
        _ => number & 0x0fff,
    }
}

/// Seals a few frames, alters a byte perhaps, cuts the stream and opens the pieces.
///
/// # Panics
///
/// If other frames come out, a change goes unnoticed, a limit is passed, memory grows beyond what was received, or a failed
/// connection goes on.
pub fn run(bytes: &[u8]) {
    let script = Script::parse(bytes);
    let (mut client, server) = connect([0; ACT1_LEN], [0; ACT2_LEN]).expect("nothing was altered");
    let payloads: Vec<Vec<u8>> =
        script.lengths.iter().map(|length| (0..=250).cycle().take(*length).collect()).collect();
    let frames: Vec<_> = (0..).zip(&payloads).map(|(msg_type, payload)| frame(msg_type, payload)).collect();
    let mut sealed = Vec::new();
    for frame in &frames {
        client.sealer.seal(*frame, &mut sealed).expect("the key is new");
    }
    let (intact, expected) = expected(&script, &mut sealed);
    let mut receiver = Receiver { opener: server.opener, buffer: RecvBuffer::default(), opened: 0 };
    let mut failure = None;
    for piece in pieces(&sealed, script.cuts) {
        failure = receiver.receive(piece, &frames, script.limit).err();
        if failure.is_some() {
            break;
        }
    }
    assert_eq!((receiver.opened, failure), (intact, expected));
    match failure {
        None => assert!(receiver.buffer.is_empty(), "bytes are left over behind the last frame"),
        Some(_) => assert_eq!(receiver.opener.open(&mut receiver.buffer, |_| 0), Err(OpenError::Failed)),
    }
}

fn frame(msg_type: u8, payload: &[u8]) -> Frame<'_> {
    Frame::new(2, msg_type.is_multiple_of(2), msg_type, payload).expect("the payload is short")
}

/// Alters the stream as the script says; the answer is how many frames arrive and what ends the connection.
fn expected(script: &Script<'_>, sealed: &mut [u8]) -> (usize, Option<OpenError>) {
    let place = script.alteration.and_then(|(place, bits)| Some((place.checked_rem(sealed.len())?, bits)));
    if let Some((byte, bits)) = place.and_then(|(place, bits)| Some((sealed.get_mut(place)?, bits))) {
        *byte ^= bits;
    }
    let mut start = 0;
    for ((n, msg_type), length) in (0..).zip(0..).zip(&script.lengths) {
        let header_end = start + sealed_frame_len(0);
        let end = start + sealed_frame_len(*length);
        let altered = |end| place.is_some_and(|(place, _)| (start..end).contains(&place));
        if altered(header_end) {
            return (n, Some(OpenError::Tampered));
        }
        if *length > script.limit {
            let header =
                Header { length: u32::try_from(*length).unwrap_or(u32::MAX), ..frame(msg_type, &[]).header };
            return (n, Some(OpenError::TooLong { header, limit: script.limit }));
        }
        if altered(end) {
            return (n, Some(OpenError::Tampered));
        }
        start = end;
    }
    (script.lengths.len(), None)
}

/// The stream in pieces: a cut of n is n squared bytes and one more, and no cuts at all are a single piece.
fn pieces<'a>(mut stream: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut cuts = cuts.iter().cycle();
    iter::from_fn(move || {
        let length = cuts.next().map_or(usize::MAX, |cut| usize::from(*cut).pow(2) + 1);
        let (piece, rest) = stream.split_at(length.min(stream.len()));
        stream = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The receiving end.
struct Receiver {
    opener: Opener,
    buffer: RecvBuffer,
    /// Frames that have come out.
    opened: usize,
}

impl Receiver {
    /// Takes a piece of the stream, and compares each frame that it completes with what was sent.
    fn receive(&mut self, piece: &[u8], frames: &[Frame<'_>], limit: usize) -> Result<(), OpenError> {
        let held = self.buffer.len() + piece.len();
        self.buffer.spare(piece.len()).iter_mut().zip(piece).for_each(|(place, byte)| *place = *byte);
        self.buffer.advance(piece.len());
        assert!(
            self.buffer.capacity() <= RecvBuffer::KEPT_CAPACITY.max(4 * held),
            "memory beyond what came in"
        );
        while let Some(frame) = self.opener.open(&mut self.buffer, |_| limit)? {
            assert!(frames.get(self.opened) == Some(&frame), "frame {} is not what was sent", self.opened);
            self.opened += 1;
        }
        Ok(())
    }
}
