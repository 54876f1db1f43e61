//! Reads what an SV1 pool sends, leniently where pools differ.

use std::borrow::Cow;

use adit_share::Tip;
use adit_units::Difficulty;
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{LegacyError, MERKLE_STEPS_MAX, printable};
use crate::sv1::envelope::Envelope;
use crate::sv1::{Id, hex, token};
use crate::upstream::height;

/// The most bytes of the id that a pool gives a job.
const JOB_ID_MAX: usize = 64;

/// One line of a pool.
pub(super) enum Message<'a> {
    /// An answer to a request of ours.
    Reply { id: u64, reply: Reply<'a> },
    /// A request, or news.
    Call(Call<'a>),
}

/// An answer to a request of ours.
pub(super) struct Reply<'a> {
    result: Option<&'a str>,
    /// Nothing where it is null.
    error: Option<&'a str>,
}

/// A request of the pool, or news that it does not want an answer to.
pub(super) struct Call<'a> {
    pub(super) method: Cow<'a, str>,
    pub(super) id: Option<Id>,
    params: Vec<&'a str>,
}

/// A job as the pool tells it.
pub(super) struct Notify {
    pub(super) id: String,
    pub(super) prev_hash: [u8; 32],
    pub(super) coinbase_prefix: Vec<u8>,
    pub(super) coinbase_suffix: Vec<u8>,
    pub(super) merkle_path: Vec<[u8; 32]>,
    pub(super) version: u32,
    pub(super) nbits: u32,
    pub(super) ntime: u32,
    pub(super) is_clean: bool,
}

impl<'a> Message<'a> {
    /// Reads a line, without its line end; nothing if it is no message.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let envelope: Envelope<'a> = serde_json::from_slice(line).ok()?;
        let id = envelope.id.and_then(|id| Id::from_token(id.get()));
        if let Some(method) = envelope.method {
            let (method, params) = (token::text(method.get()), envelope.params.map_or("", RawValue::get));
            return Some(Self::Call(Call { method, id, params: items(params) }));
        }
        if envelope.result.is_none() && envelope.error.is_none() {
            return None;
        }
        let result = envelope.result.map(RawValue::get);
        let error = envelope.error.map(RawValue::get);
        Some(Self::Reply { id: id?.to_number()?, reply: Reply { result, error } })
    }
}

/// The tokens of a list; anything else is empty.
fn items(token: &str) -> Vec<&str> {
    let items: Vec<&RawValue> = serde_json::from_str(token).unwrap_or_default();
    items.into_iter().map(RawValue::get).collect()
}

impl Reply<'_> {
    /// Whether it is a plain yes.
    pub(super) fn is_accepted(&self) -> bool {
        self.error.is_none() && self.result == Some("true")
    }

    /// Why it is a no: pools write `[21, "Job not found", null]`, an object with code and message, or text.
    pub(super) fn reason(&self) -> String {
        #[derive(Deserialize)]
        struct Object<'a> {
            #[serde(borrow)]
            code: Option<&'a RawValue>,
            #[serde(borrow)]
            message: Option<&'a RawValue>,
        }
        let Some(error) = self.error else { return "no reason given".to_owned() };
        let (code, text) = if error.starts_with('{') {
            let object = serde_json::from_str(error).unwrap_or(Object { code: None, message: None });
            (object.code.map(RawValue::get), object.message.map(RawValue::get))
        } else if error.starts_with('[') {
            let list = items(error);
            (list.first().copied(), list.get(1).copied())
        } else {
            (None, Some(error))
        };
        let parts = [code, text].map(|part| part.map(token::text).unwrap_or_default());
        let reason = printable(parts.join(" ").trim());
        if reason.is_empty() { "no reason given".to_owned() } else { reason }
    }

    /// The same for a share, at most 64 bytes of it, because such reasons are kept for each machine.
    pub(super) fn code(&self) -> String {
        let mut code = self.reason();
        code.truncate(code.floor_char_boundary(64));
        code
    }

    /// The answer to `mining.configure`: which version bits may be rolled.
    pub(super) fn version_mask(&self) -> Option<u32> {
        #[derive(Deserialize)]
        struct Granted<'a> {
            #[serde(borrow, rename = "version-rolling")]
            is_granted: Option<&'a RawValue>,
            #[serde(borrow, rename = "version-rolling.mask")]
            mask: Option<&'a RawValue>,
        }
        let granted: Granted<'_> = serde_json::from_str(self.result?).ok()?;
        let is_granted = granted.is_granted.is_some_and(|granted| granted.get() == "true");
        hex::short_number(&token::text(granted.mask.filter(|_| is_granted)?.get()))
    }

    /// The answer to `mining.subscribe`: extranonce1 and the size of extranonce2.
    pub(super) fn subscription(&self) -> Option<(Vec<u8>, u64)> {
        if self.error.is_some() {
            return None;
        }
        let list = items(self.result?);
        extranonce(list.get(1)?, list.get(2)?)
    }
}

fn extranonce(prefix: &str, size: &str) -> Option<(Vec<u8>, u64)> {
    Some((hex::bytes(&token::text(prefix))?, token::text(size).parse().ok()?))
}

impl Call<'_> {
    pub(super) fn difficulty(&self) -> Option<Difficulty> {
        token::difficulty(self.params.first()?)
    }

    pub(super) fn extranonce(&self) -> Option<(Vec<u8>, u64)> {
        extranonce(self.params.first()?, self.params.get(1)?)
    }

    pub(super) fn version_mask(&self) -> Option<u32> {
        hex::short_number(&token::text(self.params.first()?))
    }

    /// The first parameter as text for people.
    pub(super) fn text(&self) -> String {
        printable(&self.params.first().map(|text| token::text(text)).unwrap_or_default())
    }

    pub(super) fn notify(&self) -> Result<Notify, LegacyError> {
        let at = |position: usize| self.params.get(position).map(|text| token::text(text));
        let bytes =
            |position, what| at(position).and_then(|text| hex::bytes(&text)).ok_or(LegacyError::Notify(what));
        let number = |position, what| {
            let text = at(position).filter(|text| hex::digits(text).len() <= 8);
            text.and_then(|text| hex::short_number(&text)).ok_or(LegacyError::Notify(what))
        };
        let id = at(0).filter(|id| !id.is_empty() && id.len() <= JOB_ID_MAX);
        Ok(Notify {
            id: id.ok_or(LegacyError::Notify("id"))?.into_owned(),
            prev_hash: at(1).and_then(|text| prev_hash(&text)).ok_or(LegacyError::Notify("previous hash"))?,
            coinbase_prefix: bytes(2, "coinbase")?,
            coinbase_suffix: bytes(3, "coinbase")?,
            merkle_path: merkle_path(self.params.get(4).copied().unwrap_or_default())?,
            version: number(5, "version")?,
            nbits: number(6, "nbits")?,
            ntime: number(7, "ntime")?,
            // Where it is left out, nothing says that old shares are still good for something.
            is_clean: self.params.get(8).is_none_or(|&clean| clean != "false"),
        })
    }
}

impl Notify {
    /// Whether it builds on the same block.
    pub(super) fn is_on(&self, tip: &Tip) -> bool {
        self.prev_hash == tip.prev_hash.to_byte_array()
    }

    /// What it builds on. SV1 does not tell the height; the coinbase does (BIP 34).
    pub(super) fn tip(&self) -> Tip {
        let height = height(&self.coinbase_prefix);
        let prev_hash = BlockHash::from_byte_array(self.prev_hash);
        Tip::new(prev_hash, height, CompactTarget::from_consensus(self.nbits), self.ntime)
    }
}

/// SV1 has the bytes of each of the eight words the other way round.
fn prev_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash: [u8; 32] = hex::bytes(text)?.try_into().ok()?;
    for word in hash.chunks_exact_mut(4) {
        word.reverse();
    }
    Some(hash)
}

fn merkle_path(token: &str) -> Result<Vec<[u8; 32]>, LegacyError> {
    let unreadable = LegacyError::Notify("merkle path");
    if !token.starts_with('[') {
        return Err(unreadable);
    }
    let steps = items(token);
    if steps.len() > MERKLE_STEPS_MAX {
        return Err(LegacyError::TooMuch("steps to the merkle root"));
    }
    let hash = |step: &&str| hex::bytes(&token::text(step))?.try_into().ok();
    steps.iter().map(hash).collect::<Option<_>>().ok_or(unreadable)
}
