//! Tokens of job declaration: sealed statements of what a miner may declare, whose it is, what it must pay, and until when.
//!
//! A declarator and a pool share one [`TokenKey`] and nothing else. Whoever made a token forgets it at once; it says all that is
//! to be known of it, and its MAC proves that a holder of the key has said so. What cannot be in it is whether it was used: that is
//! for [`UsedTokens`], at the one who consumes it.

mod used;

use core::fmt;

use adit_transport::{KeyFileError, SecretFile};
use adit_units::{Sats, UnixTime};
use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, cmp::fixed_time_eq, sha256};
use bitcoin::{Script, TxOut};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

pub use self::used::{TOKEN_LIFETIME_MAX, USED_TOKENS_MAX, Used, UsedTokens};
use crate::UserIdentity;

/// The first byte of every token.
const VERSION: u8 = 1;

/// What is hashed before a token, so that the key's MACs mean nothing elsewhere.
const CONTEXT: &[u8] = b"adit job declaration token";

/// Length of the MAC at a token's end, in bytes.
const MAC_LEN: usize = 32;

/// The file that a token key is kept in.
const KEY_FILE: SecretFile = SecretFile {
    format: "adit-token-key-1",
    name: "token-key",
    comment: "The secret that a pool and its job declarators share: whoever has it can make jobs that the pool pays for.",
};

/// The secret that tokens are sealed with, shared by a pool and its declarators.
pub struct TokenKey(Zeroizing<[u8; 32]>);

/// What a declared job is known by: the hash of all that is in it, see [`adit_share::Declaration::id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeclarationId(pub [u8; 32]);

/// What a token is good for; the one thing, and once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To declare one job with its transactions at the declarator (`DeclareMiningJob`, spec 6.4.4).
    Declare,
    /// To set one job at the pool that nobody knows the transactions of (`SetCustomMiningJob`, spec 6.3.1).
    CoinbaseOnly,
    /// To set this one job at the pool, which a declarator has found good (`DeclareMiningJob.Success`, spec 6.4.5).
    Declared(DeclarationId),
}

/// What a sealed token says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Random, unlike that of any other token.
    pub id: [u8; 16],
    /// What it is good for.
    pub purpose: Purpose,
    /// SHA-256 of the account that asked for it.
    pub account: [u8; 32],
    /// SHA-256 of the output script that its job must pay.
    pub payout: [u8; 32],
    /// From then on it is good for nothing.
    pub expires: UnixTime,
}

/// A token that is refused; whoever presents it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It has not the form of a token; another program made it, or it was cut.
    #[error("the bytes are no token of this pool; ask its declarator for one")]
    Malformed,
    /// Its MAC is not that of this key.
    #[error(
        "the token was not sealed with this key; ask for another, or give pool and declarator the same key file"
    )]
    Forged,
    /// It is too old.
    #[error("the token has expired; ask for another and use it sooner")]
    Expired,
}

impl Token {
    /// What a declarator promises to the account of `user`: a job that pays `payout`, until `expires`.
    pub fn new(
        purpose: Purpose,
        user: &UserIdentity,
        payout: &Script,
        expires: UnixTime,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        Self { id, purpose, account: account_hash(user), payout: script_hash(payout), expires }
    }

    /// What the declarator gives for this token once the job has been found good: for the same account and payout.
    #[must_use]
    pub fn declared(&self, id: DeclarationId, expires: UnixTime, rng: &mut impl CryptoRng) -> Self {
        let mut token = Self { purpose: Purpose::Declared(id), expires, ..self.clone() };
        rng.fill_bytes(&mut token.id);
        token
    }

    /// Whether the account of `user` is the one that the token was made for; its workers are not told apart.
    #[must_use]
    pub fn is_for(&self, user: &UserIdentity) -> bool {
        self.account == account_hash(user)
    }

    /// Whether that is the script which the token's job must pay.
    #[must_use]
    pub fn is_paid_by(&self, script: &Script) -> bool {
        self.payout == script_hash(script)
    }

    /// What `outputs` pay to the script that the token's job must pay; nothing if that is more than there can be.
    #[must_use]
    pub fn pays(&self, outputs: &[TxOut]) -> Sats {
        let paid = outputs.iter().filter(|output| self.is_paid_by(&output.script_pubkey));
        Sats::checked_sum(paid.map(|output| Sats::from_sats(output.value.to_sat()))).unwrap_or(Sats::ZERO)
    }

    /// Whether the token lets this job be set at the pool.
    #[must_use]
    pub fn declares(&self, id: DeclarationId) -> bool {
        self.purpose == Purpose::Declared(id)
    }

    /// All but the MAC.
    fn to_bytes(&self) -> Vec<u8> {
        let (purpose, declaration) = match &self.purpose {
            Purpose::Declare => (0, None),
            Purpose::CoinbaseOnly => (1, None),
            Purpose::Declared(id) => (2, Some(id)),
        };
        let mut bytes = Vec::with_capacity(Self::LEN_MAX);
        bytes.extend_from_slice(&[VERSION, purpose]);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.expires.to_millis().to_le_bytes());
        bytes.extend_from_slice(&self.account);
        bytes.extend_from_slice(&self.payout);
        bytes.extend_from_slice(declaration.map(|id| &id.0[..]).unwrap_or_default());
        bytes
    }

    /// Length of the longest sealed token, in bytes; the wire type is `B0_255`.
    pub const LEN_MAX: usize = 2 + 16 + 8 + 3 * 32 + MAC_LEN;

    /// Reads what [`Self::to_bytes`] wrote.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[version, purpose], rest) = bytes.split_first_chunk()?;
        let (&id, rest) = rest.split_first_chunk()?;
        let (&expires, rest) = rest.split_first_chunk()?;
        let (&account, rest) = rest.split_first_chunk()?;
        let (&payout, rest) = rest.split_first_chunk()?;
        let purpose = match (version, purpose, rest) {
            (VERSION, 0, []) => Purpose::Declare,
            (VERSION, 1, []) => Purpose::CoinbaseOnly,
            (VERSION, 2, id) => Purpose::Declared(DeclarationId(id.try_into().ok()?)),
            (_, _, _) => return None,
        };
        let expires = UnixTime::from_millis(u64::from_le_bytes(expires));
        Some(Self { id, purpose, account, payout, expires })
    }
}

impl TokenKey {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *key);
        Self(key)
    }

    /// The key as the text of a file that pool and declarators are given a copy of:
    ///
    /// ```text
    /// format: adit-token-key-1
    /// token-key: <base58check of 32 bytes>
    /// ```
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        KEY_FILE.to_text(&self.0)
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the text.
    pub fn from_text(text: &str) -> Result<Self, KeyFileError> {
        KEY_FILE.from_text(text).map(Self)
    }

    /// The token as it goes over the wire, at most [`Token::LEN_MAX`] bytes.
    #[must_use]
    pub fn seal(&self, token: &Token) -> Vec<u8> {
        let mut bytes = token.to_bytes();
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac);
        bytes
    }

    /// Reads a token that somebody presents at the time `now`. Nothing is consumed by that.
    ///
    /// # Errors
    ///
    /// If the bytes are no token, were not sealed with this key, or have expired.
    pub fn open(&self, bytes: &[u8], now: UnixTime) -> Result<Token, TokenError> {
        let (body, mac) = bytes.split_last_chunk::<MAC_LEN>().ok_or(TokenError::Malformed)?;
        // Nothing that is longer was ever sealed, and a miner shall not have it hashed.
        if bytes.len() > Token::LEN_MAX {
            return Err(TokenError::Malformed);
        }
        if !fixed_time_eq(&self.mac(body), mac) {
            return Err(TokenError::Forged);
        }
        let token = Token::from_bytes(body).ok_or(TokenError::Malformed)?;
        if token.expires <= now { Err(TokenError::Expired) } else { Ok(token) }
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_LEN] {
        let mut engine = HmacEngine::<sha256::Hash>::new(&*self.0);
        engine.input(CONTEXT);
        engine.input(body);
        Hmac::from_engine(engine).to_byte_array()
    }
}

/// Tells nothing.
impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

fn account_hash(user: &UserIdentity) -> [u8; 32] {
    sha256::Hash::hash(user.account().as_bytes()).to_byte_array()
}

fn script_hash(script: &Script) -> [u8; 32] {
    sha256::Hash::hash(script.as_bytes()).to_byte_array()
}

#[cfg(test)]
mod tests;
