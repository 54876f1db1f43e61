//! Tokens that are good, and each way in which one is not.

use core::convert::Infallible;
use core::time::Duration;

use adit_units::{Monotonic, Now};
use bitcoin::{Amount, ScriptBuf};
use rand_core::{TryCryptoRng, TryRng};

use super::*;

/// Counts.
struct TestRng(u8);

impl TryRng for TestRng {
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
        self.0 += 1;
        bytes.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for TestRng {}

const MINUTE: UnixTime = UnixTime::from_secs(60);
const NOW: UnixTime = UnixTime::from_secs(1);

/// That time by a wall clock that is right.
fn at(unix: UnixTime) -> Now {
    Now { monotonic: Monotonic::from_micros(unix.to_millis() * 1_000), unix }
}

const PURPOSES: [Purpose; 3] =
    [Purpose::Declare, Purpose::CoinbaseOnly, Purpose::Declared(DeclarationId([9; 32]))];

fn key() -> TokenKey {
    TokenKey::generate(&mut TestRng(6))
}

fn user(text: &str) -> UserIdentity {
    UserIdentity::from_wire(text.as_bytes()).unwrap()
}

fn payout() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

/// The token with that number for alice, good for a minute.
fn token(number: u8, purpose: Purpose) -> Token {
    Token::new(purpose, &user("alice.rig"), &payout(), MINUTE, &mut TestRng(number))
}

#[test]
fn what_was_sealed_can_be_opened_and_fits_its_field() {
    for purpose in PURPOSES {
        let token = token(0, purpose);
        let bytes = key().seal(&token);
        assert!(bytes.len() <= Token::LEN_MAX && Token::LEN_MAX <= 255);
        assert_eq!(key().open(&bytes, NOW), Ok(token));
    }
    assert_eq!(key().seal(&token(0, PURPOSES[2])).len(), Token::LEN_MAX);
}

#[test]
fn the_bytes_of_a_token_stay_what_they_are() {
    // Pool and declarator may be of different versions, so the layout and the MAC are pinned. The MAC is that of Python's hmac module:
    // hmac.new(b"\7" * 32, b"adit job declaration token" + body, "sha256").
    let mut token = token(0, Purpose::Declare);
    token.account = [0xaa; 32];
    token.payout = [0xbb; 32];
    let bytes = key().seal(&token);
    let body = [&[1, 0][..], &[1; 16], &60_000_u64.to_le_bytes(), &[0xaa; 32], &[0xbb; 32]].concat();
    assert_eq!(bytes[..body.len()], body);
    let mac = sha256::Hash::from_byte_array(bytes[body.len()..].try_into().unwrap());
    assert_eq!(mac.to_string(), "03c4402b052d6e7e71601e7f8c014e8b69efd5cba813c90ee7db5beb1d0b4873");
}

#[test]
fn a_replayed_token_is_used_once() {
    let mut used = UsedTokens::default();
    for (number, purpose) in (0..).zip(PURPOSES) {
        let token = token(number, purpose);
        let again = key().open(&key().seal(&token), NOW).unwrap();
        assert_eq!(used.use_up(&token, at(NOW)), Ok(()));
        assert_eq!(used.use_up(&again, at(NOW)), Err(Used::Before));
        assert!(used.contains(&again));
    }
    assert_eq!(used.len(), 3);
}

#[test]
fn a_stolen_token_is_of_no_use_to_another_user() {
    let token = token(0, Purpose::Declare);
    for own in ["alice", "alice.rig", "alice.another", " alice .x"] {
        assert!(token.is_for(&user(own)), "{own}");
    }
    for thief in ["bob", "alice2", "", "Alice", "alic.e", "bob.alice"] {
        assert!(!token.is_for(&user(thief)), "{thief}");
    }
}

#[test]
fn an_expired_token_is_refused() {
    let token = token(0, Purpose::CoinbaseOnly);
    let bytes = key().seal(&token);
    let before = UnixTime::from_millis(MINUTE.to_millis() - 1);
    assert!(key().open(&bytes, before).is_ok());
    assert_eq!(key().open(&bytes, MINUTE), Err(TokenError::Expired));
    assert_eq!(UsedTokens::default().use_up(&token, at(before)), Ok(()));
    assert_eq!(UsedTokens::default().use_up(&token, at(MINUTE)), Err(Used::Expired));
}

#[test]
fn a_token_with_any_bit_flipped_is_forged() {
    for purpose in PURPOSES {
        let good = key().seal(&token(0, purpose));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key().open(&bytes, NOW), Err(TokenError::Forged), "bit {bit}");
        }
    }
}

#[test]
fn a_token_of_another_key_is_forged() {
    let other = TokenKey::generate(&mut TestRng(7));
    assert_eq!(other.open(&key().seal(&token(0, Purpose::Declare)), NOW), Err(TokenError::Forged));
}

#[test]
fn a_truncated_or_lengthened_token_is_refused() {
    for purpose in PURPOSES {
        let good = key().seal(&token(0, purpose));
        for len in 0..good.len() {
            let error = key().open(&good[..len], NOW).unwrap_err();
            assert_eq!(error, if len < MAC_LEN { TokenError::Malformed } else { TokenError::Forged });
        }
        for more in [1, 32, 255, 100_000] {
            assert!(key().open(&[&good[..], &vec![0; more]].concat(), NOW).is_err());
        }
    }
}

#[test]
fn a_sealed_body_that_says_nothing_known_is_malformed() {
    let body = token(0, Purpose::Declare).to_bytes();
    let seal = |body: &[u8]| [body, &key().mac(body)].concat();
    assert!(key().open(&seal(&body), NOW).is_ok());
    for (place, byte) in [(0, 0), (0, 2), (1, 2), (1, 3), (1, 255)] {
        let mut body = body.clone();
        body[place] = byte;
        assert_eq!(key().open(&seal(&body), NOW), Err(TokenError::Malformed), "{byte} at {place}");
    }
    assert_eq!(key().open(&seal(&[]), NOW), Err(TokenError::Malformed));
    assert_eq!(key().open(&seal(&body[..20]), NOW), Err(TokenError::Malformed));
    assert_eq!(key().open(&seal(&[&body[..], &[0]].concat()), NOW), Err(TokenError::Malformed));
}

#[test]
fn a_token_of_another_purpose_does_not_declare() {
    let id = DeclarationId([9; 32]);
    assert!(token(0, Purpose::Declared(id)).declares(id));
    assert!(!token(0, Purpose::Declared(DeclarationId([8; 32]))).declares(id));
    assert!(!token(0, Purpose::Declare).declares(id));
    assert!(!token(0, Purpose::CoinbaseOnly).declares(id));
    // Nor can one be turned into another: the purpose is under the seal.
    let mut bytes = key().seal(&token(0, Purpose::Declare));
    bytes[1] = 1;
    assert_eq!(key().open(&bytes, NOW), Err(TokenError::Forged));
}

#[test]
fn a_token_is_not_burned_by_a_refused_message() {
    let (mut used, good) = (UsedTokens::with_limit(1), token(0, Purpose::Declare));
    let bytes = key().seal(&good);
    assert!(!key().open(&bytes, NOW).unwrap().is_for(&user("bob")), "somebody else tries it");
    assert_eq!(used.use_up(&token(5, Purpose::Declare), at(NOW)), Ok(()));
    assert_eq!(used.use_up(&good, at(NOW)), Err(Used::Full));
    assert!(!used.contains(&good));
    let mut roomier = UsedTokens::default();
    assert_eq!(roomier.use_up(&key().open(&bytes, NOW).unwrap(), at(NOW)), Ok(()), "its owner, afterwards");
}

#[test]
fn a_full_set_forgets_no_live_token_and_has_room_when_some_expire() {
    let mut used = UsedTokens::with_limit(10);
    let live: Vec<_> =
        (0..10).map(|number| Token { account: [number; 32], ..token(number, Purpose::Declare) }).collect();
    for token in &live {
        assert_eq!(used.use_up(token, at(NOW)), Ok(()));
    }
    let later = Token { expires: UnixTime::from_secs(120), ..token(20, Purpose::Declare) };
    assert_eq!(used.use_up(&later, at(NOW)), Err(Used::Full));
    assert!(live.iter().all(|token| used.use_up(token, at(NOW)) == Err(Used::Before)));
    assert_eq!(used.use_up(&later, at(MINUTE)), Ok(()));
    assert_eq!(used.len(), 1);
    // A clock that goes back brings no forgotten token to life.
    let set_back = Now { unix: NOW, ..at(MINUTE) };
    assert!(live.iter().all(|token| used.use_up(token, set_back) == Err(Used::Expired)));
}

/// A clock that was a day ahead had every job refused for a day after it was put right.
#[test]
fn tokens_are_good_after_the_wall_clock_was_set_back_and_none_is_twice() {
    let mut used = UsedTokens::default();
    let day = Duration::from_secs(24 * 60 * 60);
    let (right, later) = (at(NOW), at(NOW).after(day));
    let ahead = Now { monotonic: right.monotonic, ..later };
    let of = |number, expires| Token { expires, ..token(number, Purpose::Declare) };
    let before = of(1, ahead.after(Duration::from_secs(60)).unix);
    assert_eq!(used.use_up(&before, ahead), Ok(()));
    assert_eq!(used.use_up(&of(2, MINUTE), right), Ok(()), "by the clock that is right again");
    let expired_by_it = right.after(Duration::from_secs(3_600));
    assert_eq!(used.use_up(&before, expired_by_it), Err(Used::Before));
    let set_back = Now { unix: NOW, ..expired_by_it };
    assert_eq!(used.use_up(&of(2, MINUTE), set_back), Err(Used::Before), "its time was over");
    assert_eq!(used.use_up(&of(3, MINUTE), set_back), Ok(()));
}

#[test]
fn tokens_that_were_used_while_the_clock_was_ahead_take_room_for_their_lifetime_and_no_longer() {
    let mut used = UsedTokens::with_limit(1);
    let (minute, day) = (Duration::from_secs(60), Duration::from_secs(24 * 60 * 60));
    let of = |number, now: Now| Token { expires: now.after(minute).unix, ..token(number, Purpose::Declare) };
    let (right, later) = (at(NOW), at(NOW).after(10 * day));
    let ahead = Now { monotonic: right.monotonic, ..later };
    assert_eq!(used.use_up(&of(1, ahead), ahead), Ok(()));
    assert_eq!(used.use_up(&of(2, right), right), Err(Used::Full));
    let next = right.after(minute);
    assert_eq!(used.use_up(&of(3, next), next), Ok(()));
    let next = next.after(day - minute);
    assert_eq!(used.use_up(&of(4, next), next), Err(Used::Expired), "what was forgotten could be such a one");
    let next = next.after(minute);
    assert_eq!(used.use_up(&of(4, next), next), Ok(()));
}

#[test]
fn one_account_that_uses_many_tokens_leaves_room_for_others() {
    let mut used = UsedTokens::with_limit(16);
    let of = |account: u8, number: u8| Token { account: [account; 32], ..token(number, Purpose::Declare) };
    assert_eq!(
        [0, 1, 2].map(|number| used.use_up(&of(1, number), at(NOW))),
        [Ok(()), Ok(()), Err(Used::AccountFull)]
    );
    assert_eq!([3, 4].map(|number| used.use_up(&of(2, number), at(NOW))), [Ok(()), Ok(())]);
    let later = Token { expires: UnixTime::from_secs(120), ..of(1, 5) };
    assert_eq!(used.use_up(&later, at(MINUTE)), Ok(()), "what has expired does not count");
}

#[test]
fn what_a_job_pays_is_what_its_outputs_pay_to_the_script() {
    let token = token(0, Purpose::CoinbaseOnly);
    let output = |sats, script: &[u8]| TxOut {
        value: Amount::from_sat(sats),
        script_pubkey: ScriptBuf::from_bytes(script.to_vec()),
    };
    assert!(token.is_paid_by(&payout()));
    assert_eq!(token.pays(&[]), Sats::ZERO);
    let outputs = [output(5, &[0x51]), output(100, &[0x52]), output(7, &[0x51]), output(50, &[])];
    assert_eq!(token.pays(&outputs), Sats::from_sats(12));
    let beyond = [output(u64::MAX, &[0x51]), output(2, &[0x51])];
    assert_eq!(token.pays(&beyond), Sats::ZERO, "more than there can be is nothing");
}

#[test]
fn a_declared_token_is_for_the_same_account_and_payout() {
    let (first, id) = (token(0, Purpose::Declare), DeclarationId([1; 32]));
    let declared = first.declared(id, UnixTime::from_secs(90), &mut TestRng(40));
    assert_eq!((declared.account, declared.payout), (first.account, first.payout));
    assert_ne!(declared.id, first.id);
    assert_eq!((declared.purpose, declared.expires), (Purpose::Declared(id), UnixTime::from_secs(90)));
}

#[test]
fn a_key_survives_its_file_and_is_not_printed() {
    let text = key().to_text();
    let again = TokenKey::from_text(&text).unwrap();
    assert_eq!(again.0, key().0);
    assert_eq!(again.to_text(), text);
    assert_eq!(format!("{again:?}"), "TokenKey(..)");
    let other = text.replace("adit-token-key-1", "adit-authority-1");
    assert!(matches!(TokenKey::from_text(&other), Err(KeyFileError::Value { line: 2, name: "format", .. })));
    let short = text.lines().take(2).collect::<Vec<_>>().join("\n");
    assert_eq!(TokenKey::from_text(&short).err(), Some(KeyFileError::Missing { name: "token-key" }));
}
