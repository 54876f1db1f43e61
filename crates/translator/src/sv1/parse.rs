//! Reads one line of a machine.

use std::borrow::Cow;

use adit_units::{Difficulty, Target};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::envelope::Envelope;
use super::token::{self, Items};
use super::{Answer, Call, Configure, DEFAULT_VERSION_MASK, Fault, Id, Request, VersionRolling, hex, submit};

/// A line that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Malformed {
    /// What an answer must carry, if it could be read.
    pub id: Option<Id>,
    /// What is wrong with it.
    pub reason: Reason,
}

impl Malformed {
    /// How it is answered.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Other(match self.reason {
            Reason::NotJson => "Invalid JSON",
            Reason::Id => "Invalid id",
            Reason::NoMethod => "No method",
            Reason::Parameter(_) => "Invalid parameter",
        })
    }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It is not one JSON object.
    #[error("line is not one JSON object")]
    NotJson,
    /// The id is a list or an object, or too long to be echoed.
    #[error("id is a list, an object or longer than {} bytes", Id::MAX_LEN)]
    Id,
    /// It is neither a request nor an answer.
    #[error("line has neither a method nor a result")]
    NoMethod,
    /// A parameter of a submitted share is missing or cannot be read.
    #[error("share has no {0} that can be read")]
    Parameter(&'static str),
}

/// Reads a line, without its line end; bytes that are not UTF-8 are replaced.
///
/// # Errors
///
/// The machine is at fault if the line is not a JSON object, has an id that cannot be echoed, is neither request nor answer, or is a
/// share without the numbers that a share needs.
pub fn parse(line: &[u8]) -> Result<Request, Malformed> {
    let text = match str::from_utf8(line) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(line),
    };
    let blank = |character: char| character == '\0' || character.is_ascii_whitespace();
    let text = text.trim_matches(blank);
    let not_json = Malformed { id: None, reason: Reason::NotJson };
    if !text.starts_with('{') {
        return Err(not_json);
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_| not_json)?;
    let id = match envelope.id {
        None => None,
        Some(token) => {
            let id = Id::from_token(token.get());
            Some(id.ok_or(Malformed { id: None, reason: Reason::Id })?)
        }
    };
    let call = match envelope.method {
        Some(method) => call(&token::text(method.get()), envelope.params.map(RawValue::get)),
        None => answer(&envelope),
    };
    call.map(|call| Request { id, call }).map_err(|reason| Malformed { id, reason })
}

/// Reads a request.
fn call(method: &str, params: Option<&str>) -> Result<Call, Reason> {
    const SUGGEST_DIFFICULTY: &str = "mining.suggest_difficulty";
    let items = Items::of(params);
    let method = method.trim();
    Ok(match method {
        "mining.submit" => Call::Submit(submit::parse(&items)?),
        "mining.subscribe" => Call::Subscribe {
            user_agent: items.at(0).map(token::name).filter(|name| !name.is_empty()).map(boxed),
            session: items.at(1).and_then(session),
        },
        "mining.authorize" | "mining.auth" => Call::Authorize {
            user: items.at(0).map(token::name).map(boxed).unwrap_or_default(),
            password: items.at(1).map(token::name).map(boxed).unwrap_or_default(),
        },
        "mining.configure" => Call::Configure(configure(&items)),
        "mining.suggest_target" => Call::SuggestTarget(items.at(0).and_then(target)),
        "mining.extranonce.subscribe" => Call::ExtranonceSubscribe,
        "mining.ping" | "ping" => Call::Ping,
        "mining.pong" | "pong" => Call::Answer(Answer { text: Some("pong".into()), refused: false }),
        "mining.get_transactions" => Call::GetTransactions,
        "client.get_version" | "mining.get_version" => Call::GetVersion,
        "" => return Err(Reason::NoMethod),
        other => match other.strip_prefix(SUGGEST_DIFFICULTY) {
            Some(rest) => {
                Call::SuggestDifficulty(items.at(0).and_then(token::difficulty).or_else(|| inside(rest)))
            }
            None => Call::Unknown(boxed(token::name(other))),
        },
    })
}

/// The old form of suggesting a difficulty has the number inside the method: `mining.suggest_difficulty(512)`.
fn inside(rest: &str) -> Option<Difficulty> {
    rest.trim_matches(|character: char| !character.is_ascii_digit() && !"-.eE".contains(character))
        .parse()
        .ok()
}

/// Reads an answer to a request of ours.
fn answer(envelope: &Envelope<'_>) -> Result<Call, Reason> {
    if envelope.result.is_none() && envelope.error.is_none() {
        return Err(Reason::NoMethod);
    }
    let text = envelope.result.map(|token| token::name(token.get())).filter(|name| !name.is_empty());
    Ok(Call::Answer(Answer { text: text.map(boxed), refused: envelope.error.is_some() }))
}

/// Text that is kept.
fn boxed(text: Cow<'_, str>) -> Box<str> {
    text.into_owned().into_boxed_str()
}

/// The extranonce1 of a former connection, which is the session id that we gave.
fn session(token: &str) -> Option<[u8; 4]> {
    let text = token::text(token);
    let well_formed = text.len() == 8 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = hex::short_number(&text).filter(|&number| well_formed && number != 0)?;
    Some(number.to_be_bytes())
}

/// A target of at most 64 digits, most significant first.
fn target(token: &str) -> Option<Target> {
    let text = token::text(token);
    let digits = hex::digits(&text);
    if digits.is_empty() || digits.len() > 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (position, &digit) in digits.as_bytes().iter().rev().enumerate() {
        let shift = if position % 2 == 0 { 0 } else { 4 };
        *bytes.get_mut(position / 2)? |= hex::nibble(digit)? << shift;
    }
    Some(Target::from_le_bytes(bytes))
}

/// The parameters of the extensions of `mining.configure`.
#[derive(Default, Deserialize)]
struct Options<'a> {
    #[serde(rename = "version-rolling.mask", borrow, default)]
    mask: Option<&'a RawValue>,
    #[serde(rename = "version-rolling.min-bit-count", borrow, default)]
    min_bits: Option<&'a RawValue>,
    #[serde(rename = "minimum-difficulty.value", borrow, default)]
    difficulty: Option<&'a RawValue>,
}

/// Reads the parameters of `mining.configure`: the names of extensions, then an object with what they need.
fn configure(items: &Items<'_>) -> Configure {
    const UNKNOWN_MAX: usize = 8;
    let object = items.at(1).filter(|token| token.starts_with('{'));
    let options: Options<'_> = object.and_then(|token| serde_json::from_str(token).ok()).unwrap_or_default();
    let text = |token: Option<&RawValue>| token.map(|token| token::text(token.get()).into_owned());
    let mut configure = Configure::default();
    for name in Items::of(items.at(0)).iter().map(token::name) {
        match &*name {
            "version-rolling" => {
                let mask = text(options.mask).and_then(|mask| hex::short_number(&mask));
                let min_bits = text(options.min_bits).and_then(|bits| bits.parse().ok());
                configure.version_rolling = Some(VersionRolling {
                    mask: mask.unwrap_or(DEFAULT_VERSION_MASK),
                    min_bits: min_bits.unwrap_or(0),
                });
            }
            "minimum-difficulty" => {
                let least = options.difficulty.and_then(|token| token::difficulty(token.get()));
                configure.minimum_difficulty = Some(least.unwrap_or(Difficulty::from_trillionths(1)));
            }
            "subscribe-extranonce" => configure.subscribe_extranonce = true,
            "" => {}
            _ if configure.unknown.len() < UNKNOWN_MAX => configure.unknown.push(boxed(name)),
            _ => {}
        }
    }
    configure
}
