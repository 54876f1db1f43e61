//! Sealing, opening and handshakes, each beside the published crates that do the same.
//!
//! Both sides get the same bytes: a frame in the clear to seal, and sealed frames as a socket would hand them over to open. The
//! frame is a `SubmitSharesExtended` with eight bytes of extranonce. Opening is timed over [`FRAMES`] frames at a time.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use adit_transport::{
    ACT1_LEN, AuthorityKeyPair, Frame, FrameQueue, Identity, Initiator, RecvBuffer, Responder, StaticKeyPair,
    Transport,
};
use adit_units::UnixTime;
use codec_sv2::{
    Decrypted, Handshake, NoiseDecoder, NoiseEncoder, TransportDecryptState, TransportEncryptState,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use framing_sv2::framing::SerializedFrame;
use getrandom::SysRng;
use mining_sv2::SubmitSharesExtended;
use rand_core::UnwrapErr;

/// Frames in a stream that is opened.
const FRAMES: usize = 1000;

/// Bytes that one read from a socket brings.
const READ: usize = 16 * 1024;

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

struct Pool {
    authority: AuthorityKeyPair,
    identity: Arc<Identity>,
}

impl Pool {
    fn new() -> Self {
        let mut rng = UnwrapErr(SysRng);
        let authority = AuthorityKeyPair::generate(&mut rng);
        let (from, until) = (UnixTime::from_secs(1_600_000_000), UnixTime::from_secs(1_800_000_000));
        let identity = Identity::new(&authority, StaticKeyPair::generate(&mut rng), from, until).unwrap();
        Self { authority, identity: Arc::new(identity) }
    }

    fn connect(&self) -> (Transport, Transport) {
        let mut rng = UnwrapErr(SysRng);
        let initiator = Initiator::new(Some(self.authority.public_key()), &mut rng);
        let responder = Responder::new(Arc::clone(&self.identity), &mut rng);
        let (act2, server) = responder.accept(&initiator.act1()).unwrap();
        (initiator.finish(&act2, NOW).unwrap(), server)
    }

    /// The authority's keys as the other crate takes them: public, secret.
    fn raw_authority(&self) -> ([u8; 32], [u8; 32]) {
        let secret = bitcoin::base58::decode_check(&self.authority.secret_text()).unwrap();
        (self.authority.public_key().to_bytes(), secret.try_into().unwrap())
    }
}

/// A client's sending half and the server's receiving half of the other crates.
fn connect_sri(pool: &Pool) -> (TransportEncryptState, TransportDecryptState) {
    let (public, secret) = pool.raw_authority();
    let initiator = Handshake::initiator(noise_sv2::Initiator::from_raw_k(public).unwrap());
    let (act1, sent) = initiator.step_0().unwrap();
    let validity = Duration::from_secs(60);
    let responder = noise_sv2::Responder::from_authority_kp(&public, &secret, validity).unwrap();
    let responder = Handshake::responder(responder);
    let (act2, server) = responder.step_1(act1.payload().try_into().unwrap()).unwrap();
    let client = sent.step_2(act2.payload().try_into().unwrap()).unwrap();
    (client.split().0, server.split().1)
}

/// The payload of the message, as its crate writes it.
fn payload() -> Vec<u8> {
    let mut extranonce = [5; 8];
    let message = SubmitSharesExtended {
        channel_id: 1,
        sequence_number: 2,
        job_id: 3,
        nonce: 4,
        ntime: 1_700_000_000,
        version: 0x2000_0000,
        extranonce: (&mut extranonce[..]).try_into().unwrap(),
    };
    binary_sv2::to_bytes(message).unwrap()
}

fn seal(c: &mut Criterion) {
    let (pool, payload) = (Pool::new(), payload());
    let frame = Frame::new(0, true, 0x1b, &payload).unwrap();
    let mut bytes = [&frame.header.to_bytes()[..], &payload].concat();
    let mut group = c.benchmark_group("seal one SubmitSharesExtended");
    group.bench_function("adit-transport", |b| {
        let (mut client, _) = pool.connect();
        let (mut queue, mut out) = (FrameQueue::default(), Vec::new());
        b.iter(|| {
            out.clear();
            queue.push(0, true, 0x1b, black_box(&payload)).unwrap();
            client.sealer.seal_all(&mut queue, &mut out).unwrap();
            black_box(&mut out);
        });
    });
    group.bench_function("codec_sv2", |b| {
        let ((mut state, _), mut encoder) = (connect_sri(&pool), NoiseEncoder::new());
        let header = framing_sv2::header::Header::from_bytes(&bytes).unwrap();
        b.iter(|| {
            let frame = SerializedFrame::from_parts(header, black_box(&mut bytes[..]));
            encoder.encode_transport(frame, &mut state).unwrap()
        });
    });
    group.finish();
}

fn open(c: &mut Criterion) {
    let (pool, payload) = (Pool::new(), payload());
    let mut group = c.benchmark_group(format!("open {FRAMES} SubmitSharesExtended"));
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("adit-transport", |b| {
        let setup = || {
            let (mut client, server) = pool.connect();
            let mut sealed = Vec::new();
            for _ in 0..FRAMES {
                client.sealer.seal(Frame::new(0, true, 0x1b, &payload).unwrap(), &mut sealed).unwrap();
            }
            (server, sealed)
        };
        let routine = |(mut server, sealed): (Transport, Vec<u8>)| {
            let (mut buffer, mut frames) = (RecvBuffer::default(), 0);
            for read in sealed.chunks(READ) {
                buffer.spare(READ)[..read.len()].copy_from_slice(read);
                buffer.advance(read.len());
                while let Some(frame) = server.opener.open(&mut buffer, |_| 100).unwrap() {
                    black_box(frame);
                    frames += 1;
                }
            }
            assert_eq!(frames, FRAMES);
        };
        b.iter_batched(setup, routine, BatchSize::PerIteration);
    });
    group.bench_function("codec_sv2", |b| {
        let setup = || {
            let ((mut state, server), mut encoder) = (connect_sri(&pool), NoiseEncoder::new());
            let mut bytes =
                [&Frame::new(0, true, 0x1b, &payload).unwrap().header.to_bytes()[..], &payload].concat();
            let mut sealed = Vec::new();
            for _ in 0..FRAMES {
                let frame = SerializedFrame::from_bytes(&mut bytes[..]).unwrap();
                let encoded = encoder.encode_transport(frame, &mut state).unwrap();
                sealed.extend_from_slice(encoded.as_ref());
            }
            (server, sealed)
        };
        b.iter_batched(
            setup,
            |(server, sealed)| assert_eq!(open_sri(server, &sealed), FRAMES),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Opens all frames the way that crate asks for: it names the bytes it wants next.
fn open_sri(mut state: TransportDecryptState, mut sealed: &[u8]) -> usize {
    let (mut decoder, mut frames) = (NoiseDecoder::new(), 0);
    while !sealed.is_empty() {
        let room = decoder.writable();
        let (piece, rest) = sealed.split_at(room.len());
        room.copy_from_slice(piece);
        sealed = rest;
        state = match decoder.next_transport_frame(state).unwrap() {
            Decrypted::Frame(frame, state) => {
                black_box(frame);
                frames += 1;
                state
            }
            Decrypted::Incomplete(_, state) => state,
        };
    }
    frames
}

fn handshake(c: &mut Criterion) {
    let pool = Pool::new();
    let mut rng = UnwrapErr(SysRng);
    let act1: [u8; ACT1_LEN] = Initiator::new(None, &mut rng).act1();
    let (public, secret) = pool.raw_authority();
    let mut group = c.benchmark_group("answer one handshake");
    group.bench_function("adit-transport", |b| {
        b.iter(|| Responder::new(Arc::clone(&pool.identity), &mut rng).accept(black_box(&act1)).unwrap());
    });
    group.bench_function("noise_sv2", |b| {
        let validity = Duration::from_secs(60);
        b.iter(|| {
            let responder = noise_sv2::Responder::from_authority_kp(&public, &secret, validity);
            responder.unwrap().step_1(black_box(act1)).unwrap()
        });
    });
    group.finish();

    let mut group = c.benchmark_group("both sides of one handshake");
    group.bench_function("adit-transport", |b| b.iter(|| pool.connect()));
    group.bench_function("noise_sv2", |b| b.iter(|| connect_sri(&pool)));
    group.finish();
}

criterion_group!(benches, seal, open, handshake);
criterion_main!(benches);
