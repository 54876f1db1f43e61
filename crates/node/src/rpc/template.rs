//! From the answer to `getblocktemplate` (BIP 22, 23, 145) to a template that was checked.

use std::borrow::Cow;

use adit_share::{
    HEADER_LEN, MAX_BLOCK_SIGOPS, MAX_BLOCK_WEIGHT, RawTransaction, Template, TemplateError, TemplateParts,
    Tip, TransactionError, witness_commitment,
};
use adit_units::{Height, Sats, Target, TemplateId};
use bitcoin::hex::FromHex as _;
use bitcoin::{Amount, BlockHash, CompactTarget, Network, ScriptBuf, TxOut};
use serde::Deserialize;

use super::CoinbaseReserve;

/// The rules that blocks made here follow; a template may demand no others (BIP 9).
const KNOWN_RULES: [&str; 4] = ["csv", "segwit", "signet", "taproot"];
/// The signet challenge that every block meets without a signature: `OP_TRUE`.
const TRIVIAL_CHALLENGE: &str = "51";
/// What a block weighs beside its transactions: the header and the longest count of transactions.
const BLOCK_OVERHEAD_WEIGHT: u64 = (HEADER_LEN as u64 + 9) * 4;

/// A template that must not be mined on; the node, or what speaks for it, is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateRefused {
    /// Not an answer to `getblocktemplate`.
    #[error("it cannot be read ({0})")]
    Json(String),
    /// A field that is no hexadecimal number of the right length.
    #[error("its {0} is not hexadecimal, or of a wrong length")]
    Hex(&'static str),
    /// A rule that blocks made here may break.
    #[error("it demands the rule {0:?}, which this version does not know; update this program")]
    UnknownRule(String),
    /// A signet whose blocks need a signature that only its owner can make.
    #[error(
        "its signet wants each block signed; only a signet with challenge 51 (OP_TRUE) can be mined here"
    )]
    SignetChallenge,
    /// Difficulty and target contradict each other.
    #[error("its bits and its target do not agree, or no hash can meet them")]
    Target,
    /// A transaction cannot be read.
    #[error("transaction {index}: {error}")]
    Transaction {
        /// Its place after the coinbase, from zero.
        index: usize,
        /// What is wrong with it.
        error: TransactionError,
    },
    /// A fee is negative, or all are more than all money.
    #[error("its fees are negative, or more than all money")]
    Fees,
    /// Transactions must be left out to make room for the coinbase, but nobody knows what they pay.
    #[error(
        "it leaves no room for the coinbase, and does not tell the fees; raise blockreservedweight in the node's bitcoin.conf"
    )]
    NoRoom,
    /// A coinbase must begin with more, or something else, than the height.
    #[error("its coinbase_prefix is not the height as coinbases begin with (BIP 34), or says more than that")]
    CoinbasePrefix,
    /// The outputs that every coinbase must carry are none, or are not as many.
    #[error("its coinbase_tx_outputs cannot be read, or are not as many as it says")]
    CoinbaseOutputs,
    /// The transactions are not those that the merkle path was made of.
    #[error("its merkle path is not that of its transactions")]
    Path,
    /// The transactions leave less room than was asked for.
    #[error("its transactions leave less room for the coinbase than was asked for")]
    TooHeavy,
    /// The transactions leave fewer signature operations than were asked for.
    #[error(
        "the signature operations of its transactions leave less room for the coinbase's than was asked for"
    )]
    TooManySigops,
    /// Bytes that cannot be read.
    #[error("its {0} cannot be read")]
    Bytes(&'static str),
    /// A witness that no coinbase made here has.
    #[error(
        "it wants a witness reserved value other than zeros, which this version does not know; update this program"
    )]
    ReservedValue,
    /// No block of the network is so easy.
    #[error("its difficulty is below the least of {}; check that the provider's node is on that network", .0.to_core_arg())]
    NotOn(Network),
    /// It contradicts itself.
    #[error("{0}")]
    Contradiction(#[from] TemplateError),
}

/// A good template, and what the node wants to hear to tell the next one.
#[derive(Clone, Debug)]
pub struct RpcTemplate {
    /// The template.
    pub template: Template,
    /// What to long poll with (BIP 22); `None` when the node cannot.
    pub long_poll_id: Option<String>,
}

/// Reads and checks an answer to `getblocktemplate`, and makes room for the coinbase.
///
/// # Errors
///
/// When the template cannot be read, contradicts itself, or asks for what this program cannot do.
pub fn read_template(
    json: &[u8],
    id: TemplateId,
    network: Network,
    reserve: CoinbaseReserve,
) -> Result<RpcTemplate, TemplateRefused> {
    let offer: TemplateOffer<'_> =
        serde_json::from_slice(json).map_err(|error| TemplateRefused::Json(error.to_string()))?;
    offer.check(id, network, reserve)
}

/// The answer, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct TemplateOffer<'a> {
    version: i32,
    #[serde(default)]
    rules: Vec<String>,
    previousblockhash: String,
    #[serde(borrow)]
    transactions: Vec<Offer<'a>>,
    coinbasevalue: u64,
    #[serde(default)]
    longpollid: Option<String>,
    #[serde(default)]
    target: Option<String>,
    mintime: u32,
    #[serde(default)]
    sigoplimit: Option<u64>,
    #[serde(default)]
    weightlimit: Option<u64>,
    curtime: u32,
    bits: String,
    height: u32,
    #[serde(default)]
    signet_challenge: Option<String>,
    #[serde(default)]
    default_witness_commitment: Option<String>,
}

/// One transaction of the answer.
#[derive(Debug, Deserialize)]
struct Offer<'a> {
    /// Hexadecimal, most of the answer, so it is left where it lies.
    #[serde(borrow)]
    data: Cow<'a, str>,
    /// In satoshis; unknown when it is not there.
    #[serde(default)]
    fee: Option<i64>,
    #[serde(default)]
    sigops: u32,
}

/// One transaction, read.
struct Offered {
    raw: RawTransaction,
    fee: Option<Sats>,
    sigops: u32,
}

impl TemplateOffer<'_> {
    /// The template, checked, with room for the coinbase.
    pub(super) fn check(
        self,
        id: TemplateId,
        network: Network,
        reserve: CoinbaseReserve,
    ) -> Result<RpcTemplate, TemplateRefused> {
        self.check_rules()?;
        let offered = self.transactions()?;
        let parts = self.parts(id, network, &offered)?;
        let fitting = Room::new(&self, reserve).fitting(&offered);
        let template = if fitting == offered.len() {
            Template::new(parts)?
        } else {
            // What the node offered must hold before a part of it is taken.
            Template::new(parts.clone())?;
            Template::new(cut(parts, &offered, fitting)?)?
        };
        Ok(RpcTemplate { template, long_poll_id: self.longpollid })
    }

    fn check_rules(&self) -> Result<(), TemplateRefused> {
        let demanded = self.rules.iter().filter_map(|rule| rule.strip_prefix('!'));
        if let Some(unknown) = demanded.into_iter().find(|rule| !KNOWN_RULES.contains(rule)) {
            return Err(TemplateRefused::UnknownRule(unknown.to_owned()));
        }
        check_challenge(self.signet_challenge.as_deref())
    }

    fn transactions(&self) -> Result<Vec<Offered>, TemplateRefused> {
        self.transactions.iter().enumerate().map(|(index, offer)| offer.read(index)).collect()
    }

    /// The template with all transactions.
    fn parts(
        &self,
        id: TemplateId,
        network: Network,
        offered: &[Offered],
    ) -> Result<TemplateParts, TemplateRefused> {
        let tip = self.tip()?;
        let subsidy = Sats::subsidy(tip.height, halving_interval(network));
        let coinbase_value = Sats::from_sats(self.coinbasevalue);
        let fees = match all_fees(offered) {
            Some(fees) => fees.ok_or(TemplateRefused::Fees)?,
            None => coinbase_value.checked_sub(subsidy).ok_or(TemplateRefused::Fees)?,
        };
        Ok(TemplateParts {
            id,
            tip,
            version: self.version.cast_unsigned(),
            time: self.curtime,
            coinbase_value,
            subsidy,
            fees,
            sigops: offered.iter().fold(0, |sum, offer| sum.saturating_add(offer.sigops)),
            transactions: offered.iter().map(|offer| offer.raw.clone()).collect(),
            required_outputs: self.required_outputs()?,
        })
    }

    fn tip(&self) -> Result<Tip, TemplateRefused> {
        let prev_hash: BlockHash =
            self.previousblockhash.parse().map_err(|_| TemplateRefused::Hex("previousblockhash"))?;
        let nbits =
            CompactTarget::from_unprefixed_hex(&self.bits).map_err(|_| TemplateRefused::Hex("bits"))?;
        let tip = Tip::new(prev_hash, Height(self.height), nbits, self.mintime);
        let told = self.target.as_deref().map(target_from_hex).transpose()?;
        if tip.target == Target::ZERO || told.is_some_and(|told| told != tip.target) {
            return Err(TemplateRefused::Target);
        }
        Ok(tip)
    }

    fn required_outputs(&self) -> Result<Vec<TxOut>, TemplateRefused> {
        let Some(hex) = &self.default_witness_commitment else { return Ok(Vec::new()) };
        let script = Vec::from_hex(hex).map_err(|_| TemplateRefused::Hex("default_witness_commitment"))?;
        Ok(vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }])
    }
}

impl Offer<'_> {
    fn read(&self, index: usize) -> Result<Offered, TemplateRefused> {
        let bytes = Vec::from_hex(&self.data).map_err(|_| TemplateRefused::Hex("transaction"))?;
        let raw =
            RawTransaction::parse(bytes).map_err(|error| TemplateRefused::Transaction { index, error })?;
        let fee = self.fee.map(|fee| u64::try_from(fee).map(Sats::from_sats)).transpose();
        Ok(Offered { raw, fee: fee.map_err(|_| TemplateRefused::Fees)?, sigops: self.sigops })
    }
}

/// The sum of the fees: `None` when one is not told, `Some(None)` when the sum does not fit.
fn all_fees(offered: &[Offered]) -> Option<Option<Sats>> {
    let fees: Option<Vec<Sats>> = offered.iter().map(|offer| offer.fee).collect();
    fees.map(Sats::checked_sum)
}

/// What transactions may take of a block.
struct Room {
    weight: u64,
    sigops: u64,
}

impl Room {
    fn new(offer: &TemplateOffer<'_>, reserve: CoinbaseReserve) -> Self {
        let weight = offer.weightlimit.unwrap_or(MAX_BLOCK_WEIGHT).min(MAX_BLOCK_WEIGHT);
        let sigops = offer.sigoplimit.unwrap_or(MAX_BLOCK_SIGOPS).min(MAX_BLOCK_SIGOPS);
        Self {
            weight: weight.saturating_sub(BLOCK_OVERHEAD_WEIGHT).saturating_sub(reserve.weight),
            sigops: sigops.saturating_sub(reserve.sigops),
        }
    }

    /// How many of the first transactions have room. Only the last ones are ever left out, as they may spend what earlier ones
    /// make, and the order is the node's.
    fn fitting(&self, offered: &[Offered]) -> usize {
        let (mut weight, mut sigops) = (0_u64, 0_u64);
        let fits = |offer: &&Offered| {
            weight += u64::from(offer.raw.weight());
            sigops += u64::from(offer.sigops);
            weight <= self.weight && sigops <= self.sigops
        };
        offered.iter().take_while(fits).count()
    }
}

/// The template with the first `count` transactions only.
fn cut(parts: TemplateParts, offered: &[Offered], count: usize) -> Result<TemplateParts, TemplateRefused> {
    let kept = offered.get(..count).unwrap_or(offered);
    let fees = all_fees(offered).and_then(|_| all_fees(kept)).ok_or(TemplateRefused::NoRoom)?;
    let fees = fees.ok_or(TemplateRefused::Fees)?;
    let transactions: Vec<RawTransaction> = kept.iter().map(|offer| offer.raw.clone()).collect();
    let script_pubkey = witness_commitment(&transactions);
    Ok(TemplateParts {
        coinbase_value: parts.subsidy.checked_add(fees).ok_or(TemplateRefused::Fees)?,
        fees,
        sigops: kept.iter().fold(0, |sum, offer| sum.saturating_add(offer.sigops)),
        transactions,
        required_outputs: parts
            .required_outputs
            .into_iter()
            .map(|output| TxOut { script_pubkey: script_pubkey.clone(), ..output })
            .collect(),
        ..parts
    })
}

/// Fails on a signet whose blocks need a signature.
pub(super) fn check_challenge(challenge: Option<&str>) -> Result<(), TemplateRefused> {
    match challenge {
        None | Some(TRIVIAL_CHALLENGE) => Ok(()),
        Some(_) => Err(TemplateRefused::SignetChallenge),
    }
}

/// How many blocks pass between two halvings of the subsidy.
pub(crate) fn halving_interval(network: Network) -> u32 {
    if network == Network::Regtest { 150 } else { 210_000 }
}

/// A target in hexadecimal, most significant digit first.
fn target_from_hex(hex: &str) -> Result<Target, TemplateRefused> {
    let mut bytes = <[u8; 32]>::from_hex(hex).map_err(|_| TemplateRefused::Hex("target"))?;
    bytes.reverse();
    Ok(Target::from_le_bytes(bytes))
}
