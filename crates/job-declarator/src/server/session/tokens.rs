//! Tokens: who may declare a job, once (spec 6.4.2, 6.4.3).

use core::time::Duration;
use std::collections::VecDeque;

use adit_channel::{DeclarationId, Purpose, Token, UserIdentity};
use adit_messages::job_declaration::{AllocateMiningJobToken, AllocateMiningJobTokenSuccess};
use adit_messages::types::{B064K, B0255};
use adit_units::{Monotonic, Now, UnixTime};
use rand_core::CryptoRng;

use super::{Session, State};
use crate::server::limits::{Pace, TOKEN_INTERVAL, TOKENS_KEPT, TOKENS_MAX, TOKENS_WAITING};
use crate::server::{Disconnect, Refusal};

/// How long the pool takes the token of a declared job at the most: the job is good for one block, and used tokens are remembered for as
/// long as they could be used again.
const DECLARED_LIFETIME: Duration = Duration::from_secs(600);

/// The tokens of one connection.
///
/// A token for a declaration holds on the connection that it was given to and nowhere else, so that one who has seen it can neither
/// use it nor use it up.
#[derive(Debug)]
pub(super) struct Tokens {
    pace: Pace,
    /// Requests that wait until the connection may have another token.
    asked: VecDeque<(u32, UserIdentity)>,
    /// Tokens for declarations that were not used, the oldest first.
    unused: VecDeque<([u8; 16], UserIdentity)>,
}

impl Default for Tokens {
    fn default() -> Self {
        let pace = Pace::new(TOKENS_MAX, TOKEN_INTERVAL);
        Self { pace, asked: VecDeque::new(), unused: VecDeque::new() }
    }
}

impl Tokens {
    /// When the next request that waits may be answered.
    pub(super) fn next(&self) -> Option<Monotonic> {
        (!self.asked.is_empty()).then(|| self.pace.next())
    }
}

impl Session {
    /// Takes in a request for a token. More than the connection may have are granted later.
    pub(super) fn handle_allocate(
        &mut self,
        allocate: &AllocateMiningJobToken<'_>,
        now: Now,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Disconnect> {
        let user = UserIdentity::from_wire(allocate.user_identifier.as_bytes())?;
        if self.tokens.asked.len() >= TOKENS_WAITING {
            return Err(Disconnect::Tokens);
        }
        self.state = State::Declaring { terms: self.state.terms() };
        self.tokens.asked.push_back((allocate.request_id, user));
        self.grant_tokens(now, rng);
        Ok(())
    }

    /// Grants as many of the tokens that were asked for as the connection may have now.
    pub(super) fn grant_tokens(&mut self, now: Now, rng: &mut impl CryptoRng) {
        while !self.tokens.asked.is_empty() && self.tokens.pace.take(now.monotonic) {
            if let Some((request_id, user)) = self.tokens.asked.pop_front() {
                self.grant(request_id, user, now, rng);
            }
        }
    }

    fn grant(&mut self, request_id: u32, user: UserIdentity, now: Now, rng: &mut impl CryptoRng) {
        let full_template = self.state.terms().full_template;
        let purpose = if full_template { Purpose::Declare } else { Purpose::CoinbaseOnly };
        let expires = later(now.unix, self.config.token_lifetime);
        let token = Token::new(purpose, &user, &self.config.payout_script, expires, rng);
        if full_template {
            if self.tokens.unused.len() >= TOKENS_KEPT {
                self.tokens.unused.pop_front();
            }
            self.tokens.unused.push_back((token.id, user));
        }
        self.counters.tokens += 1;
        let outputs = self.config.token_outputs();
        let sealed = self.key.seal(&token);
        self.send(AllocateMiningJobTokenSuccess {
            request_id,
            mining_job_token: wire_token(&sealed),
            coinbase_outputs: B064K::new(&outputs).expect("a configuration with longer outputs is refused"),
        });
    }

    /// What a token for a declaration says, and who asked for it. It stays unused.
    pub(super) fn open_token(&self, bytes: &[u8], now: Now) -> Result<(Token, UserIdentity), Refusal> {
        let token = self.key.open(bytes, now.unix).map_err(|_| Refusal::Token)?;
        let mut unused = self.tokens.unused.iter();
        let (_, user) = unused.find(|(id, _)| *id == token.id).ok_or(Refusal::Token)?;
        if token.purpose != Purpose::Declare || !token.is_for(user) {
            return Err(Refusal::Token);
        }
        Ok((token, user.clone()))
    }

    /// Uses a token up, and makes of it the one that the pool takes for the job that was declared with it.
    pub(super) fn use_token(
        &mut self,
        token: &Token,
        declaration: DeclarationId,
        now: Now,
        rng: &mut impl CryptoRng,
    ) -> Vec<u8> {
        self.tokens.unused.retain(|(id, _)| *id != token.id);
        let expires = later(now.unix, self.config.token_lifetime.min(DECLARED_LIFETIME));
        self.key.seal(&token.declared(declaration, expires, rng))
    }
}

/// A token as a message carries it.
pub(super) fn wire_token(sealed: &[u8]) -> B0255<'_> {
    const { assert!(Token::LEN_MAX <= 255) };
    B0255::new(sealed).expect("a token is shorter than its field allows")
}

fn later(now: UnixTime, lifetime: Duration) -> UnixTime {
    let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    UnixTime::from_millis(now.to_millis().saturating_add(millis))
}
