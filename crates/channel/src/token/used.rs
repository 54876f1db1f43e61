//! Which tokens have been used: what makes each good for one job only.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use adit_units::UnixTime;

use super::Token;

/// Most tokens that are remembered as used, in about four MiB.
///
/// None is forgotten before it expires, so this bounds how many jobs may be declared within the life of a token.
pub const USED_TOKENS_MAX: usize = 1 << 16;

/// The part of them that one account may have, so that no account takes the room of all others.
const ACCOUNT_SHARE: usize = 8;

/// A token that may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Used {
    /// It was used before.
    #[error("the token was used before; each is good for one job")]
    Before,
    /// It has expired, by this or by an earlier time of the clock.
    #[error("the token has expired; ask for another and use it sooner")]
    Expired,
    /// No more can be remembered until some expire, and what is not remembered could be used again.
    #[error("as many tokens are in use as can be remembered; try again when some have expired")]
    Full,
    /// No more of this account are remembered until some expire.
    #[error("the account has used as many tokens as it may in their lifetime; declare fewer jobs")]
    AccountFull,
}

/// The tokens that were used and have not expired; at the one who consumes them.
#[derive(Clone, Debug)]
pub struct UsedTokens {
    /// Their accounts, by expiry, then id; together they are as unique as the id.
    used: BTreeMap<(UnixTime, [u8; 16]), [u8; 32]>,
    /// How many each account has.
    accounts: HashMap<[u8; 32], usize>,
    /// What has expired by then is forgotten. Never goes back, even if the clock does.
    forgotten_until: UnixTime,
    limit: usize,
}

impl Default for UsedTokens {
    fn default() -> Self {
        Self::with_limit(USED_TOKENS_MAX)
    }
}

impl UsedTokens {
    /// None yet, and never more than `limit`.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            used: BTreeMap::new(),
            accounts: HashMap::new(),
            forgotten_until: UnixTime::from_millis(0),
            limit,
        }
    }

    /// Uses a token. To be called last, when all else about the message is good: what is refused consumes nothing.
    ///
    /// # Errors
    ///
    /// If the token was used before, has expired, or cannot be remembered; it is then as used as it was.
    pub fn use_up(&mut self, token: &Token, now: UnixTime) -> Result<(), Used> {
        self.forget(now);
        if token.expires <= self.forgotten_until {
            return Err(Used::Expired);
        }
        let entry = (token.expires, token.id);
        if self.used.contains_key(&entry) {
            return Err(Used::Before);
        }
        if self.used.len() >= self.limit {
            return Err(Used::Full);
        }
        let of_account = self.accounts.entry(token.account).or_default();
        if *of_account >= self.limit.div_ceil(ACCOUNT_SHARE) {
            return Err(Used::AccountFull);
        }
        *of_account += 1;
        self.used.insert(entry, token.account);
        Ok(())
    }

    /// Whether a token has been used; nothing is consumed by asking.
    #[must_use]
    pub fn contains(&self, token: &Token) -> bool {
        self.used.contains_key(&(token.expires, token.id))
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Forgets what has expired.
    fn forget(&mut self, now: UnixTime) {
        self.forgotten_until = self.forgotten_until.max(now);
        while let Some(entry) = self.used.first_entry() {
            if entry.key().0 > self.forgotten_until {
                return;
            }
            let account = entry.remove();
            if let Entry::Occupied(mut count) = self.accounts.entry(account) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}
