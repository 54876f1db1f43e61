//! Handshakes and frames between us and the oracles, good ones and spoiled ones.

use std::sync::Arc;

use adit_transport::{
    AuthorityKeyPair, AuthorityPublicKey, CertificateError, HandshakeError, Initiator, OpenError, Responder,
    StaticKeyPair, Transport,
};
use adit_units::UnixTime;

use crate::sri_peer::{Authority, OldRng, SriClient};
use crate::{NOW, Ours, OwnedFrame, Peer, Pool, Refused, rng, snow_peer, sri_peer};

const LENGTHS: [usize; 11] = [0, 1, 33, 65_518, 65_519, 65_520, 131_037, 131_038, 131_039, 1_000_000, 0];

fn frames() -> Vec<OwnedFrame> {
    let frame = |(n, length): (u8, usize)| {
        let payload = (0..=250).cycle().take(length).collect();
        OwnedFrame::new(u16::from(n) * 3000, n % 2 == 0, n * 20, payload)
    };
    (0..).zip(LENGTHS).map(frame).collect()
}

/// Every frame alone in both directions, then all in one piece, as one read may bring them.
fn assert_they_understand_each_other(ours: &mut Ours, theirs: &mut dyn Peer) {
    for frame in frames() {
        let sealed = ours.seal(&frame);
        assert!(theirs.open_all(&sealed).unwrap() == [frame.clone()], "{:?} from us", frame.header);
        let sealed = theirs.seal(&frame);
        assert!(ours.open_all(&sealed).unwrap() == [frame.clone()], "{:?} to us", frame.header);
    }
    let sealed: Vec<u8> = frames().iter().flat_map(|frame| theirs.seal(frame)).collect();
    assert!(ours.open_all(&sealed).unwrap() == frames());
    let sealed: Vec<u8> = frames().iter().flat_map(|frame| ours.seal(frame)).collect();
    assert!(theirs.open_all(&sealed).unwrap() == frames());
}

/// Bytes altered on the way are refused by both, at the start, in the middle and at the end of a frame of two blocks.
fn assert_they_refuse_what_was_altered(connect: impl Fn() -> (Ours, Box<dyn Peer>)) {
    let frame = OwnedFrame::new(0, true, 0x1b, vec![7; 65_520]);
    for at in [
        0,
        5,
        6,
        21,
        22,
        40_000,
        22 + 65_518,
        22 + 65_519,
        22 + 65_534,
        22 + 65_535,
        22 + 65_536,
        22 + 65_551,
    ] {
        let (mut ours, mut theirs) = connect();
        let mut sealed = theirs.seal(&frame);
        sealed[at] ^= 0x40;
        assert_eq!(ours.open_all(&sealed), Err(Refused), "byte {at} to us");
        assert_eq!(ours.open_next(), Err(OpenError::Failed));
        let mut sealed = ours.seal(&frame);
        sealed[at] ^= 0x40;
        assert_eq!(theirs.open_all(&sealed), Err(Refused), "byte {at} from us");
    }
}

fn sri_client_of_ours(pool: &Pool) -> (Ours, sri_peer::SriPeer) {
    let client = SriClient::new(Some(pool.authority.public_key().to_bytes()), &mut OldRng::default());
    let (act2, transport) = accept(pool, &client.act1);
    (Ours::new(transport), client.finish(act2, NOW).unwrap())
}

fn accept(pool: &Pool, act1: &[u8; 64]) -> ([u8; 234], Transport) {
    Responder::new(Arc::clone(&pool.identity), &mut rng()).accept(act1).unwrap()
}

fn sri_authority() -> (AuthorityPublicKey, Authority) {
    let pair = AuthorityKeyPair::generate(&mut rng());
    let secret = bitcoin::base58::decode_check(&pair.secret_text()).unwrap().try_into().unwrap();
    (pair.public_key(), Authority { public: pair.public_key().to_bytes(), secret })
}

fn our_client_of_sri() -> (Ours, sri_peer::SriPeer) {
    let (public, authority) = sri_authority();
    let initiator = Initiator::new(Some(public), &mut rng());
    let (act2, peer) = sri_peer::respond(&authority, initiator.act1(), NOW, 60, &mut OldRng::default());
    (Ours::new(initiator.finish(&act2, UnixTime::from_secs(NOW)).unwrap()), peer)
}

fn snow_client_of_ours(pool: &Pool) -> (Ours, snow_peer::Finished) {
    let (act1, finish) = snow_peer::initiate();
    let (act2, transport) = accept(pool, &act1);
    (Ours::new(transport), finish(act2).unwrap())
}

fn our_client_of_snow(pool: &Pool) -> (Ours, snow_peer::SnowPeer) {
    let initiator = Initiator::new(Some(pool.authority.public_key()), &mut rng());
    let (key, certificate) = (pool.identity.static_key(), pool.identity.certificate());
    let (act2, peer) = snow_peer::respond(key, certificate, initiator.act1());
    (Ours::new(initiator.finish(&act2, UnixTime::from_secs(NOW)).unwrap()), peer)
}

#[test]
fn sri_clients_talk_with_our_server() {
    let (mut ours, mut theirs) = sri_client_of_ours(&Pool::new());
    assert_they_understand_each_other(&mut ours, &mut theirs);
}

#[test]
fn our_clients_talk_with_an_sri_server() {
    let (mut ours, mut theirs) = our_client_of_sri();
    assert_they_understand_each_other(&mut ours, &mut theirs);
}

#[test]
fn snow_clients_talk_with_our_server_and_see_its_certificate() {
    let pool = Pool::new();
    let (mut ours, mut theirs) = snow_client_of_ours(&pool);
    assert_eq!(theirs.certificate, *pool.identity.certificate());
    assert_eq!(theirs.server_x, pool.identity.static_key().public_key().to_bytes());
    assert_they_understand_each_other(&mut ours, &mut theirs.peer);
}

#[test]
fn our_clients_talk_with_a_snow_server() {
    let (mut ours, mut theirs) = our_client_of_snow(&Pool::new());
    assert_they_understand_each_other(&mut ours, &mut theirs);
}

#[test]
fn clients_that_pin_no_authority_talk_with_any_server() {
    let pool = Pool::new();
    let client = SriClient::new(None, &mut OldRng::default());
    let (act2, transport) = accept(&pool, &client.act1);
    let mut theirs = client.finish(act2, NOW).unwrap();
    assert_they_understand_each_other(&mut Ours::new(transport), &mut theirs);

    let (_, authority) = sri_authority();
    let initiator = Initiator::new(None, &mut rng());
    let (act2, mut theirs) = sri_peer::respond(&authority, initiator.act1(), NOW, 60, &mut OldRng::default());
    let transport = initiator.finish(&act2, UnixTime::from_secs(0)).unwrap();
    assert_they_understand_each_other(&mut Ours::new(transport), &mut theirs);
}

#[test]
fn many_handshakes_with_every_peer_succeed() {
    let pool = Pool::new();
    for _ in 0..50 {
        sri_client_of_ours(&pool);
        our_client_of_sri();
        snow_client_of_ours(&pool);
        our_client_of_snow(&pool);
    }
}

#[test]
fn what_was_altered_is_refused_by_sri_and_by_us() {
    let pool = Pool::new();
    assert_they_refuse_what_was_altered(|| {
        let (ours, theirs) = sri_client_of_ours(&pool);
        (ours, Box::new(theirs))
    });
}

#[test]
fn what_was_altered_is_refused_by_snow_and_by_us() {
    let pool = Pool::new();
    assert_they_refuse_what_was_altered(|| {
        let (ours, theirs) = our_client_of_snow(&pool);
        (ours, Box::new(theirs))
    });
}

#[test]
fn a_foreign_authority_is_refused_in_both_directions() {
    let (pool, foreign) = (Pool::new(), Pool::new());
    let client = SriClient::new(Some(foreign.authority.public_key().to_bytes()), &mut OldRng::default());
    let (act2, _) = accept(&pool, &client.act1);
    assert!(client.finish(act2, NOW).is_err());

    let (_, authority) = sri_authority();
    let pinned = foreign.authority.public_key();
    let initiator = Initiator::new(Some(pinned), &mut rng());
    let (act2, _) = sri_peer::respond(&authority, initiator.act1(), NOW, 60, &mut OldRng::default());
    let expected = CertificateError::WrongAuthority { authority: pinned };
    let refused = initiator.finish(&act2, UnixTime::from_secs(NOW)).unwrap_err();
    assert_eq!(refused, HandshakeError::Certificate(expected));
}

/// The moments at which a verdict on a certificate changes.
fn moments(from: u32, until: u32) -> impl Iterator<Item = u32> {
    [0, from - 11, from - 10, from, until, until + 10, until + 11, u32::MAX].into_iter()
}

#[test]
fn sri_clients_and_ours_judge_the_time_of_our_certificate_alike() {
    let pool = Pool::new();
    for now in moments(Pool::VALID_FROM, Pool::NOT_VALID_AFTER) {
        let public = pool.authority.public_key();
        let client = SriClient::new(Some(public.to_bytes()), &mut OldRng::default());
        let (act2, _) = accept(&pool, &client.act1);
        let theirs = client.finish(act2, now).is_ok();
        let initiator = Initiator::new(Some(public), &mut rng());
        let (act2, _) = accept(&pool, &initiator.act1());
        let ours = initiator.finish(&act2, UnixTime::from_secs(now)).is_ok();
        let expected = (Pool::VALID_FROM - 10..=Pool::NOT_VALID_AFTER + 10).contains(&now);
        assert_eq!((ours, theirs), (expected, expected), "{now}");
    }
}

#[test]
fn an_expired_or_early_certificate_of_an_sri_server_is_refused() {
    let (public, authority) = sri_authority();
    for now in moments(NOW, NOW + 60) {
        let initiator = Initiator::new(Some(public), &mut rng());
        let (act2, _) = sri_peer::respond(&authority, initiator.act1(), NOW, 60, &mut OldRng::default());
        let expected = match now {
            _ if now < NOW - 10 => Some(CertificateError::NotYetValid { valid_from: NOW, now }),
            _ if now > NOW + 70 => Some(CertificateError::Expired { not_valid_after: NOW + 60, now }),
            _ => None,
        };
        let refused = initiator.finish(&act2, UnixTime::from_secs(now)).err();
        assert_eq!(refused, expected.map(HandshakeError::Certificate), "{now}");
    }
}

#[test]
fn an_answer_altered_anywhere_is_refused_by_sri_snow_and_us() {
    let pool = Pool::new();
    let public = pool.authority.public_key();
    for at in (0..234).step_by(13).chain([63, 64, 127, 128, 143, 144, 217, 218, 233]) {
        let client = SriClient::new(Some(public.to_bytes()), &mut OldRng::default());
        let (mut act2, _) = accept(&pool, &client.act1);
        act2[at] ^= 0x10;
        assert!(client.finish(act2, NOW).is_err(), "sri, byte {at}");

        let (act1, finish) = snow_peer::initiate();
        let (mut act2, _) = accept(&pool, &act1);
        act2[at] ^= 0x10;
        assert!(finish(act2).is_err(), "snow, byte {at}");

        let initiator = Initiator::new(Some(public), &mut rng());
        let (key, certificate) = (pool.identity.static_key(), pool.identity.certificate());
        let (mut act2, _) = snow_peer::respond(key, certificate, initiator.act1());
        act2[at] ^= 0x10;
        let refused = initiator.finish(&act2, UnixTime::from_secs(NOW)).unwrap_err();
        assert_eq!(refused, HandshakeError::Undecipherable, "us, byte {at}");
    }
}

#[test]
fn a_server_key_that_was_not_certified_is_refused() {
    let pool = Pool::new();
    let initiator = Initiator::new(Some(pool.authority.public_key()), &mut rng());
    let other = StaticKeyPair::generate(&mut rng());
    let (act2, _) = snow_peer::respond(&other, pool.identity.certificate(), initiator.act1());
    let refused = initiator.finish(&act2, UnixTime::from_secs(NOW)).unwrap_err();
    assert!(matches!(refused, HandshakeError::Certificate(CertificateError::WrongAuthority { .. })));
}
