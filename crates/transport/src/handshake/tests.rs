//! Tests of both sides of a handshake against each other and against the stored vectors; `tests/oracles` uses other software.

use proptest::prelude::*;

use super::*;
use crate::frame::Frame;
use crate::key::{AuthorityKeyPair, StaticKeyPair};
use crate::recv_buffer::RecvBuffer;
use crate::test_rng::{ConstantRng, TestRng};

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

struct Pool {
    authority: AuthorityKeyPair,
    identity: Arc<Identity>,
}

fn pool(seed: u64) -> Pool {
    let mut rng = TestRng::new(seed);
    let authority = AuthorityKeyPair::generate(&mut rng);
    let (from, until) = (UnixTime::from_secs(1_600_000_000), UnixTime::from_secs(1_800_000_000));
    let identity = Identity::new(&authority, StaticKeyPair::generate(&mut rng), from, until).unwrap();
    Pool { authority, identity: Arc::new(identity) }
}

impl Pool {
    fn responder(&self, seed: u64) -> Responder {
        Responder::new(Arc::clone(&self.identity), &mut TestRng::new(seed))
    }

    fn initiator(&self, seed: u64) -> Initiator {
        Initiator::new(Some(self.authority.public_key()), &mut TestRng::new(seed))
    }
}

/// Sends a frame each way.
fn talk(client: &mut Transport, server: &mut Transport) {
    for (sealer, opener) in
        [(&mut client.sealer, &mut server.opener), (&mut server.sealer, &mut client.opener)]
    {
        let frame = Frame::new(1, true, 0x20, b"over the wire").unwrap();
        let (mut out, mut buffer) = (Vec::new(), RecvBuffer::default());
        sealer.seal(frame, &mut out).unwrap();
        buffer.spare(out.len())[..out.len()].copy_from_slice(&out);
        buffer.advance(out.len());
        assert_eq!(opener.open(&mut buffer, |_| 100), Ok(Some(frame)));
    }
}

#[test]
fn both_sides_agree_and_every_handshake_has_keys_of_its_own() {
    let pool = pool(1);
    let mut acts = Vec::new();
    for seed in 2..5 {
        let initiator = pool.initiator(seed);
        let act1 = initiator.act1();
        let (act2, mut server) = pool.responder(seed + 100).accept(&act1).unwrap();
        let mut client = initiator.finish(&act2, NOW).unwrap();
        talk(&mut client, &mut server);
        acts.push((act1, act2));
    }
    assert!(acts[0].0 != acts[1].0 && acts[0].1 != acts[1].1);
}

#[test]
fn nothing_but_the_ephemeral_key_is_in_the_clear() {
    let pool = pool(1);
    let initiator = pool.initiator(2);
    let (act2, _) = pool.responder(3).accept(&initiator.act1()).unwrap();
    let shows = |secret: &[u8]| act2.windows(secret.len()).any(|window| window == secret);
    assert!(!shows(&pool.identity.static_key().encoded().encoding()));
    assert!(!shows(&pool.identity.certificate().signature));
    assert!(!shows(&pool.authority.public_key().to_bytes()));
}

#[test]
fn a_foreign_authority_is_refused() {
    let (own, foreign) = (pool(1), pool(2));
    let initiator = own.initiator(3);
    let (act2, _) = foreign.responder(4).accept(&initiator.act1()).unwrap();
    let authority = own.authority.public_key();
    let expected = CertificateError::WrongAuthority { authority };
    assert_eq!(initiator.finish(&act2, NOW).unwrap_err(), HandshakeError::Certificate(expected));
}

#[test]
fn a_certificate_for_another_server_is_refused() {
    let (own, foreign) = (pool(1), pool(2));
    let stolen = Identity::from_parts(
        own.authority.public_key(),
        foreign.identity.static_key().clone(),
        *own.identity.certificate(),
    );
    let initiator = own.initiator(3);
    let responder = Responder::new(Arc::new(stolen), &mut TestRng::new(4));
    let (act2, _) = responder.accept(&initiator.act1()).unwrap();
    let refused = initiator.finish(&act2, NOW).unwrap_err();
    assert!(matches!(refused, HandshakeError::Certificate(CertificateError::WrongAuthority { .. })));
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let pool = pool(1);
    for (now, accepted) in [
        (1_599_999_989, false),
        (1_599_999_990, true),
        (1_800_000_010, true),
        (1_800_000_011, false),
        (0, false),
        (u32::MAX, false),
    ] {
        let initiator = pool.initiator(3);
        let (act2, _) = pool.responder(4).accept(&initiator.act1()).unwrap();
        let result = initiator.finish(&act2, UnixTime::from_secs(now));
        let expected = if now < 1_700_000_000 {
            CertificateError::NotYetValid { valid_from: 1_600_000_000, now }
        } else {
            CertificateError::Expired { not_valid_after: 1_800_000_000, now }
        };
        let expected = (!accepted).then_some(HandshakeError::Certificate(expected));
        assert_eq!(result.err(), expected, "{now}");
    }
}

#[test]
fn without_an_authority_anybody_is_the_server_but_the_format_must_be_known() {
    let pool = pool(1);
    let handshake = |identity: Identity, now| {
        let initiator = Initiator::new(None, &mut TestRng::new(2));
        let responder = Responder::new(Arc::new(identity), &mut TestRng::new(3));
        let (act2, _) = responder.accept(&initiator.act1()).unwrap();
        initiator.finish(&act2, now).map(|_| ())
    };
    let with_version = |version| {
        let certificate = Certificate { version, ..*pool.identity.certificate() };
        Identity::from_parts(pool.identity.authority(), pool.identity.static_key().clone(), certificate)
    };
    assert_eq!(handshake(with_version(0), UnixTime::from_secs(0)), Ok(()));
    assert_eq!(handshake(with_version(1), NOW), Ok(()));
    let unknown = HandshakeError::Certificate(CertificateError::UnknownVersion { version: 2 });
    assert_eq!(handshake(with_version(2), NOW), Err(unknown));
}

#[test]
fn every_byte_of_act_2_is_authenticated() {
    let pool = pool(1);
    let (act2, _) = pool.responder(3).accept(&pool.initiator(2).act1()).unwrap();
    assert!(pool.initiator(2).finish(&act2, NOW).is_ok());
    for at in 0..ACT2_LEN {
        let mut altered = act2;
        altered[at] ^= 1;
        let refused = pool.initiator(2).finish(&altered, NOW).unwrap_err();
        assert_eq!(refused, HandshakeError::Undecipherable, "byte {at}");
    }
}

#[test]
fn every_byte_of_act_1_is_authenticated_by_the_answer() {
    let pool = pool(1);
    let act1 = pool.initiator(2).act1();
    for at in 0..ACT1_LEN {
        let mut altered = act1;
        altered[at] ^= 1;
        let (act2, _) = pool.responder(3).accept(&altered).unwrap();
        let refused = pool.initiator(2).finish(&act2, NOW).unwrap_err();
        assert_eq!(refused, HandshakeError::Undecipherable, "byte {at}");
    }
}

#[test]
fn an_answer_to_another_client_is_refused() {
    let pool = pool(1);
    let (act2, _) = pool.responder(3).accept(&pool.initiator(4).act1()).unwrap();
    assert_eq!(pool.initiator(2).finish(&act2, NOW).unwrap_err(), HandshakeError::Undecipherable);
}

#[test]
fn acts_of_one_byte_repeated_are_handled() {
    let pool = pool(1);
    for byte in [0, 1, 0x7f, 0x80, 0xff] {
        assert!(pool.responder(2).accept(&[byte; ACT1_LEN]).is_ok());
        assert!(pool.initiator(2).finish(&[byte; ACT2_LEN], NOW).is_err());
    }
}

#[test]
fn everything_may_move_between_threads() {
    fn movable<T: Send + 'static>() {}
    movable::<Initiator>();
    movable::<Responder>();
    movable::<Transport>();
    movable::<Arc<Identity>>();
}

#[test]
#[should_panic(expected = "random number generator is broken")]
fn a_broken_generator_is_noticed() {
    let _ = Initiator::new(None, &mut ConstantRng(0xff));
}

#[test]
fn secrets_are_not_printed() {
    let pool = pool(1);
    let authority = pool.authority.public_key();
    assert_eq!(
        format!("{:?}", pool.initiator(2)),
        format!("Initiator {{ authority: Some({authority}), .. }}")
    );
    let responder = format!("{:?}", pool.responder(2));
    assert!(
        responder.contains(&authority.to_string())
            && !responder.contains(&*pool.identity.static_key().secret_text())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_an_act_1_and_give_working_keys_to_nobody(act1 in prop::array::uniform32(any::<[u8; 2]>())) {
        let act1: [u8; ACT1_LEN] = act1.concat().try_into().unwrap();
        let pool = pool(1);
        let (act2, _) = pool.responder(2).accept(&act1).unwrap();
        prop_assert!(pool.initiator(3).finish(&act2, NOW).is_err());
    }

    #[test]
    fn random_acts_2_are_refused(bytes in prop::collection::vec(any::<u8>(), ACT2_LEN)) {
        let act2: [u8; ACT2_LEN] = bytes.try_into().unwrap();
        let refused = pool(1).initiator(3).finish(&act2, NOW).unwrap_err();
        prop_assert_eq!(refused, HandshakeError::Undecipherable);
    }
}
