//! `snow` as a peer: its Noise with an EllSwift key agreement plugged in, and frames cut by hand as the specification says.

use adit_transport::{ACT1_LEN, ACT2_LEN, Certificate, Header, StaticKeyPair};
use bitcoin::secp256k1::ellswift::{ElligatorSwift, ElligatorSwiftParty};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use snow::params::{BaseChoice, CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState, TransportState};

use crate::{OwnedFrame, Peer, Refused};

const NAME: &str = "Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256";

/// Key agreement for one side.
struct EllSwift {
    initiator: bool,
    secret: [u8; 32],
    encoding: [u8; 64],
}

impl Dh for EllSwift {
    fn name(&self) -> &'static str {
        "Secp256k1+EllSwift"
    }

    fn pub_len(&self) -> usize {
        64
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn dh_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        let key = SecretKey::from_slice(secret).unwrap();
        self.secret = key.secret_bytes();
        self.encoding = ElligatorSwift::from_seckey(&Secp256k1::new(), key, None).to_array();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = [0; 32];
        rng.try_fill_bytes(&mut secret)?;
        self.set(&secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.encoding
    }

    fn privkey(&self) -> &[u8] {
        &self.secret
    }

    fn dh(&self, theirs: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let theirs = ElligatorSwift::from_array(*theirs.first_chunk().ok_or(Error::Dh)?);
        let ours = ElligatorSwift::from_array(self.encoding);
        let (a, b, party) = if self.initiator {
            (ours, theirs, ElligatorSwiftParty::A)
        } else {
            (theirs, ours, ElligatorSwiftParty::B)
        };
        let secret = SecretKey::from_slice(&self.secret).map_err(|_| Error::Dh)?;
        let shared = ElligatorSwift::shared_secret(a, b, secret, party, None);
        out[..32].copy_from_slice(&shared.to_secret_bytes());
        Ok(())
    }
}

/// ring for all but the key agreement.
struct Resolver {
    initiator: bool,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        RingResolver.resolve_rng()
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(EllSwift { initiator: self.initiator, secret: [0; 32], encoding: [0; 64] }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        RingResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice)
    }
}

fn builder<'a>(initiator: bool) -> Builder<'a> {
    // snow has no choice for this curve; its own curve is named and the resolver gives another.
    let params = NoiseParams::new(
        NAME.to_owned(),
        BaseChoice::Noise,
        "NX".parse().unwrap(),
        DHChoice::Curve25519,
        CipherChoice::ChaChaPoly,
        HashChoice::SHA256,
    );
    Builder::with_resolver(params, Box::new(Resolver { initiator }))
}

/// What the server showed, for the test to check, and the connection.
pub(crate) struct Finished {
    pub(crate) certificate: Certificate,
    pub(crate) server_x: [u8; 32],
    pub(crate) peer: SnowPeer,
}

/// The client's part: act 1, and what takes act 2. It checks no certificate; Noise knows of none.
pub(crate) fn initiate() -> ([u8; ACT1_LEN], impl FnOnce([u8; ACT2_LEN]) -> Result<Finished, Refused>) {
    let mut state = builder(true).build_initiator().unwrap();
    let mut act1 = [0; ACT1_LEN + 16]; // snow insists on room for a MAC that is not written yet
    assert_eq!(state.write_message(&[], &mut act1).unwrap(), ACT1_LEN);
    (*act1.first_chunk().unwrap(), move |act2| finish(state, act2))
}

fn finish(mut state: HandshakeState, act2: [u8; ACT2_LEN]) -> Result<Finished, Refused> {
    let mut payload = [0; Certificate::LEN + 16];
    let length = state.read_message(&act2, &mut payload).map_err(|_| Refused)?;
    assert_eq!(length, Certificate::LEN);
    let server: [u8; 64] = state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Refused)?;
    let server = ElligatorSwift::from_array(server);
    Ok(Finished {
        certificate: Certificate::from_bytes(payload.first_chunk().ok_or(Refused)?),
        server_x: PublicKey::from_ellswift(server).x_only_public_key().0.serialize(),
        peer: SnowPeer(state.into_transport_mode().map_err(|_| Refused)?),
    })
}

/// The server's part with a key and a certificate of ours.
pub(crate) fn respond(
    key: &StaticKeyPair,
    certificate: &Certificate,
    act1: [u8; ACT1_LEN],
) -> ([u8; ACT2_LEN], SnowPeer) {
    let secret = bitcoin::base58::decode_check(&key.secret_text()).unwrap();
    let mut state = builder(false).local_private_key(&secret).unwrap().build_responder().unwrap();
    assert_eq!(state.read_message(&act1, &mut []).unwrap(), 0);
    let mut act2 = [0; ACT2_LEN];
    assert_eq!(state.write_message(&certificate.to_bytes(), &mut act2).unwrap(), ACT2_LEN);
    (act2, SnowPeer(state.into_transport_mode().unwrap()))
}

/// Its end of a connection.
pub(crate) struct SnowPeer(TransportState);

impl SnowPeer {
    const BLOCK: usize = 65_519;

    fn seal_block(&mut self, block: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; block.len() + 16];
        let length = self.0.write_message(block, &mut sealed).unwrap();
        assert_eq!(length, sealed.len());
        sealed
    }

    fn open_block(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut block = vec![0; sealed.len()];
        let length = self.0.read_message(sealed, &mut block).map_err(|_| Refused)?;
        block.truncate(length);
        Ok(block)
    }
}

impl Peer for SnowPeer {
    fn seal(&mut self, frame: &OwnedFrame) -> Vec<u8> {
        let mut sealed = self.seal_block(&frame.header.to_bytes());
        for block in frame.payload.chunks(Self::BLOCK) {
            sealed.extend(self.seal_block(block));
        }
        sealed
    }

    fn open_all(&mut self, mut bytes: &[u8]) -> Result<Vec<OwnedFrame>, Refused> {
        let mut frames = Vec::new();
        while let Some((sealed, rest)) = bytes.split_at_checked(Header::LEN + 16) {
            let header = Header::from_bytes(self.open_block(sealed)?.try_into().map_err(|_| Refused)?);
            let (mut payload, mut left) = (Vec::new(), header.length as usize);
            bytes = rest;
            while left > 0 {
                let block = left.min(Self::BLOCK);
                let (sealed, rest) = bytes.split_at(block + 16);
                payload.extend(self.open_block(sealed)?);
                (bytes, left) = (rest, left - block);
            }
            frames.push(OwnedFrame { header, payload });
        }
        assert!(bytes.is_empty());
        Ok(frames)
    }
}
