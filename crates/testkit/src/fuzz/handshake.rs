//! Handshakes in which somebody alters what goes over the wire: they succeed if nothing was altered, and only then.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use adit_transport::{
    ACT1_LEN, ACT2_LEN, AuthorityKeyPair, AuthorityPublicKey, Frame, Identity, Initiator, RecvBuffer,
    Responder, StaticKeyPair, Transport,
};
use adit_units::UnixTime;
use rand_core::{TryCryptoRng, TryRng};

/// A time at which the server's certificate holds.
const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

/// Not random at all: the same keys in every run.
pub(super) struct CountingRng(pub(super) u8);

impl TryRng for CountingRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
        Ok(())
    }
}

impl TryCryptoRng for CountingRng {}

/// The server of every run, and the authority that certified it.
static SERVER: LazyLock<(AuthorityPublicKey, Arc<Identity>)> = LazyLock::new(|| {
    let authority = AuthorityKeyPair::generate(&mut CountingRng(0));
    let key = StaticKeyPair::generate(&mut CountingRng(50));
    let identity = Identity::new(&authority, key, UnixTime::from_secs(0), UnixTime::from_secs(u32::MAX));
    (authority.public_key(), Arc::new(identity.expect("the time is not empty")))
});

/// Both ends of a connection, client first, after a handshake with these changes to its acts.
///
/// `None` if the client refused.
pub(super) fn connect(alter1: [u8; ACT1_LEN], alter2: [u8; ACT2_LEN]) -> Option<(Transport, Transport)> {
    let (authority, identity) = &*SERVER;
    let initiator = Initiator::new(Some(*authority), &mut CountingRng(100));
    let mut act1 = initiator.act1();
    act1.iter_mut().zip(alter1).for_each(|(byte, change)| *byte ^= change);
    let responder = Responder::new(Arc::clone(identity), &mut CountingRng(150));
    let (mut act2, server) = responder.accept(&act1).expect("every 64 bytes are an act 1");
    act2.iter_mut().zip(alter2).for_each(|(byte, change)| *byte ^= change);
    let client = initiator.finish(&act2, NOW).ok()?;
    Some((client, server))
}

/// The first 64 bytes are changes to act 1, the next 234 to act 2; what is missing is no change.
///
/// # Panics
///
/// If an altered handshake succeeds, or one that was not altered fails.
pub fn run(bytes: &[u8]) {
    let (mut alter1, mut alter2) = ([0; ACT1_LEN], [0; ACT2_LEN]);
    let places = alter1.iter_mut().chain(&mut alter2);
    places.zip(bytes).for_each(|(place, change)| *place = *change);
    let altered = alter1 != [0; ACT1_LEN] || alter2 != [0; ACT2_LEN];
    let connected = connect(alter1, alter2);
    assert_eq!(connected.is_none(), altered, "a handshake succeeds if and only if nothing was altered");
    if let Some((mut client, mut server)) = connected {
        check_frame(&mut client, &mut server);
        check_frame(&mut server, &mut client);
    }
}

/// Sends one frame.
fn check_frame(from: &mut Transport, to: &mut Transport) {
    let frame = Frame::new(1, true, 2, b"payload").expect("seven bytes fit");
    let mut sealed = Vec::new();
    from.sealer.seal(frame, &mut sealed).expect("the key is new");
    let mut buffer = RecvBuffer::default();
    buffer.spare(sealed.len()).iter_mut().zip(&sealed).for_each(|(place, byte)| *place = *byte);
    buffer.advance(sealed.len());
    assert_eq!(to.opener.open(&mut buffer, |_| 7), Ok(Some(frame)));
}
