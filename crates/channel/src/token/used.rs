//! Which tokens have been used: what makes each good for one job only.

use core::time::Duration;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use adit_units::{Monotonic, Now, UnixTime};

use super::Token;

/// Most tokens that are remembered as used, in about seven MiB.
///
/// None is forgotten in its lifetime, so this bounds how many jobs may be declared within that.
pub const USED_TOKENS_MAX: usize = 1 << 16;

/// The longest that a token may be good for.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The part of them that one account may have, so that no account takes the room of all others.
const ACCOUNT_SHARE: usize = 8;

/// A token that may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Used {
    /// It was used before.
    #[error("the token was used before; each is good for one job")]
    Before,
    /// It has expired.
    #[error("the token has expired; ask for another and use it sooner")]
    Expired,
    /// No more can be remembered until some expire, and what is not remembered could be used again.
    #[error("as many tokens are in use as can be remembered; try again when some have expired")]
    Full,
    /// No more of this account are remembered until some expire.
    #[error("the account has used as many tokens as it may in their lifetime; declare fewer jobs")]
    AccountFull,
}

/// The tokens that were used, as long as they may be good; at the one who consumes them.
///
/// How long that is, is told by the clock that nobody sets: the wall clock may be set back, and then a token is good again that had expired by
/// it. So a token is remembered beyond its time, and only forgotten where there is need of the room. If that comes before its time has been over
/// for as long as any token can be good, all that might be it are refused until then.
#[derive(Clone, Debug)]
pub struct UsedTokens {
    used: HashSet<[u8; 16]>,
    /// The same, by when nothing is lost if they are forgotten: [`TOKEN_LIFETIME_MAX`] after the end of their time.
    ends: BTreeMap<(Monotonic, [u8; 16]), Remembered>,
    /// How many each account has.
    accounts: HashMap<[u8; 32], usize>,
    /// Some that expire by the one time were forgotten earlier than that, which is of no more interest from the other time on.
    forgotten: Option<(UnixTime, Monotonic)>,
    limit: usize,
}

/// What else is known of a token that was used.
#[derive(Clone, Debug)]
struct Remembered {
    account: [u8; 32],
    expires: UnixTime,
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
        Self { used: HashSet::new(), ends: BTreeMap::new(), accounts: HashMap::new(), forgotten: None, limit }
    }

    /// Uses a token. To be called last, when all else about the message is good: what is refused consumes nothing.
    ///
    /// # Errors
    ///
    /// If the token was used before, has expired, or cannot be remembered; it is then as used as it was.
    pub fn use_up(&mut self, token: &Token, now: Now) -> Result<(), Used> {
        if self.contains(token) {
            return Err(Used::Before);
        }
        self.forgotten = self.forgotten.filter(|&(_, until)| now.monotonic < until);
        if token.expires <= now.unix || self.forgotten.is_some_and(|(expires, _)| token.expires <= expires) {
            return Err(Used::Expired);
        }
        let until = now.monotonic + TOKEN_LIFETIME_MAX;
        self.make_room(token, until, now.monotonic);
        if let Some(full) = self.full(token) {
            return Err(full);
        }
        let left = Duration::from_millis(token.expires.to_millis().saturating_sub(now.unix.to_millis()));
        let remembered = Remembered { account: token.account, expires: token.expires };
        self.used.insert(token.id);
        self.ends.insert((until + left.min(TOKEN_LIFETIME_MAX), token.id), remembered);
        *self.accounts.entry(token.account).or_default() += 1;
        Ok(())
    }

    /// Whether a token has been used; nothing is consumed by asking.
    #[must_use]
    pub fn contains(&self, token: &Token) -> bool {
        self.used.contains(&token.id)
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

    /// Why there is no room for a token, if there is none.
    fn full(&self, token: &Token) -> Option<Used> {
        let of_account = self.accounts.get(&token.account).copied().unwrap_or_default();
        if self.used.len() >= self.limit {
            Some(Used::Full)
        } else {
            (of_account >= self.limit.div_ceil(ACCOUNT_SHARE)).then_some(Used::AccountFull)
        }
    }

    /// Forgets what there is need to, first of all what nobody can miss.
    fn make_room(&mut self, token: &Token, until: Monotonic, now: Monotonic) {
        if self.full(token).is_some() {
            self.forget_until(now);
        }
        if self.full(token).is_some()
            && let Some(expires) = self.forget_until(until)
        {
            let expires = self.forgotten.map_or(expires, |(before, _)| before.max(expires));
            self.forgotten = Some((expires, until));
        }
    }

    /// Forgets all of which nothing is lost at that time; the answer is when the last of them expires.
    fn forget_until(&mut self, time: Monotonic) -> Option<UnixTime> {
        let mut latest = None;
        while let Some(first) = self.ends.first_entry().filter(|first| first.key().0 <= time) {
            let ((_, id), Remembered { account, expires }) = first.remove_entry();
            self.used.remove(&id);
            latest = latest.max(Some(expires));
            if let Entry::Occupied(mut count) = self.accounts.entry(account) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        latest
    }
}
