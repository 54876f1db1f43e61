//! Whether the pool can pay for a job that a miner has made.

use std::sync::Arc;

use adit_channel::{CustomShare, DeclarationId, Purpose, Token};
use adit_messages::error_code::SetCustomMiningJobError as Code;
use adit_messages::mining;
use adit_share::{CoinbaseFields, Declaration, DeclarationError, DeclaredCoinbase, Template, Tip};
use adit_units::{ChannelId, JobId, Now, Sats};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget};

use super::{CustomJob, EXTRANONCE_LEN, is_part_of};
use crate::session::Session;
use crate::{CustomJobs, Work};

/// The most bytes that the outputs of a custom job may have: all that a token may ask for, the witness commitment, and a few dozen payouts of
/// the miner's; or nearly 200 payouts to addresses. A session keeps its jobs for a while.
const OUTPUTS_MAX: usize = 6 * 1024;

/// The longest merkle path that a block can have: of the smallest transactions, 60 bytes each, it holds fewer than 2^15.
const PATH_MAX: usize = 15;

/// The bits of a version that only the chain may change: those that say that the others are signals (BIP 9).
const VERSION_TOP: u32 = 0xe000_0000;
const VERSION_SIGNALS: u32 = 0x2000_0000;

/// By how many seconds the time that a job starts with may be ahead of the network's.
const AHEAD_MAX: u32 = 600;

/// By how many seconds it may be before the least time that we know of the tip.
///
/// Nodes that do not tell the median time past (over IPC, as template providers) are believed the time of their first template on the tip. A node
/// that was asked earlier said an earlier one, which is as good for blocks: the median is an hour back, as a rule.
const BEFORE_MAX: u32 = 3_600;

/// Why a job is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// It stands on a block that may be the next tip.
    UnknownTip,
    /// It is no good.
    Refused(Code),
}

impl From<Code> for Objection {
    fn from(code: Code) -> Self {
        Self::Refused(code)
    }
}

impl Session {
    /// Checks all of a job but whether its token was used before, and makes room for it.
    pub(super) fn check_custom_job(
        &mut self,
        set: &mining::SetCustomMiningJob<'_>,
        now: Now,
    ) -> Result<(Token, CustomJob), Objection> {
        let (Some(rules), Some(_)) = (&self.config.custom_jobs, &self.custom) else {
            return Err(Code::JdNotSupported.into());
        };
        let scope = ChannelId(set.channel_id);
        let token =
            rules.key.open(set.token.as_bytes(), now.unix).map_err(|_| Code::InvalidMiningJobToken)?;
        self.check_scope(scope, &token)?;
        let (_, work) = self.jobs.active().ok_or(Code::StaleChainTip)?;
        let declaration = describe(set).map_err(|error| code_of(&error))?;
        check_tip(&declaration, work.tip())?;
        check_header(set, work, now)?;
        check_purpose(&token, &declaration, rules)?;
        let terms = (rules, self.config.halving_interval);
        let worth = worth(&token, &declaration, terms, work.template())?;
        let job = declaration.job(JobId(0), *work.tip(), set.min_ntime).map_err(|error| code_of(&error))?;
        let contents = contents(&declaration);
        let room = self.make_room(CustomJob::size(contents)).ok_or(Code::JobNotYetValidated)?;
        Ok((token, CustomJob { scope, job, declaration, worth: Arc::new(worth), _room: room }))
    }

    /// That there are such channels, and that the token is their user's.
    fn check_scope(&self, scope: ChannelId, token: &Token) -> Result<(), Code> {
        let channels = self.channels.iter().map(|open| &open.channel);
        let mut meant = channels.filter(|channel| is_part_of(channel, scope)).peekable();
        if meant.peek().is_none() {
            return Err(Code::InvalidChannelId);
        }
        if meant.all(|channel| token.is_for(channel.user())) {
            Ok(())
        } else {
            Err(Code::InvalidMiningJobToken)
        }
    }
}

/// The job that a message describes.
fn describe(set: &mining::SetCustomMiningJob<'_>) -> Result<Declaration, DeclarationError> {
    let outputs = set.coinbase_tx_outputs.as_bytes();
    if outputs.len() > OUTPUTS_MAX {
        return Err(DeclarationError::Outputs { reason: format!("{} bytes are too many", outputs.len()) });
    }
    let steps = set.merkle_path.iter().len();
    if steps > PATH_MAX {
        return Err(DeclarationError::PathTooLong { len: steps });
    }
    let fields = CoinbaseFields {
        version: set.coinbase_tx_version,
        script_prefix: set.coinbase_prefix.as_bytes(),
        sequence: set.coinbase_tx_input_n_sequence,
        outputs,
        lock_time: set.coinbase_tx_locktime,
    };
    let coinbase = DeclaredCoinbase::from_fields(fields, EXTRANONCE_LEN)?;
    let tip =
        (BlockHash::from_byte_array(*set.prev_hash.as_array()), CompactTarget::from_consensus(set.nbits));
    let path = set.merkle_path.iter().map(|step| *step.as_array()).collect();
    Declaration::new(set.version, tip, coinbase, path)
}

/// Bytes of the coinbase and the merkle path.
fn contents(declaration: &Declaration) -> usize {
    let coinbase = declaration.coinbase();
    let path = size_of_val(declaration.merkle_path());
    coinbase.prefix().len() + coinbase.extranonce_len() + coinbase.suffix().len() + path
}

/// That the job stands on the tip, or on a block that may come next.
fn check_tip(declaration: &Declaration, tip: &Tip) -> Result<(), Objection> {
    if declaration.prev_hash() == tip.prev_hash {
        return declaration.check_tip(tip).map_err(|error| code_of(&error).into());
    }
    let is_ahead = declaration.height().0 == tip.height.0.saturating_add(1);
    Err(if is_ahead { Objection::UnknownTip } else { Code::StaleChainTip.into() })
}

/// That the fields of the header are such that a block could have them.
fn check_header(set: &mining::SetCustomMiningJob<'_>, work: &Work, now: Now) -> Result<(), Code> {
    if set.version & VERSION_TOP != VERSION_SIGNALS {
        return Err(Code::InvalidVersion);
    }
    let earliest = work.tip().min_ntime.saturating_sub(BEFORE_MAX);
    let latest = work.network_time(now.monotonic).to_secs().saturating_add(AHEAD_MAX);
    if (earliest..=latest).contains(&set.min_ntime) { Ok(()) } else { Err(Code::InvalidMinNtime) }
}

/// That the token is one to mine this job with.
fn check_purpose(token: &Token, declaration: &Declaration, rules: &CustomJobs) -> Result<(), Code> {
    match token.purpose {
        Purpose::Declare => Err(Code::JobNotYetValidated),
        Purpose::CoinbaseOnly if rules.accepts_undeclared => Ok(()),
        Purpose::CoinbaseOnly => Err(Code::InvalidMiningJobToken),
        Purpose::Declared(_) if token.declares(DeclarationId(declaration.id())) => Ok(()),
        Purpose::Declared(_) => Err(Code::InvalidCoinbaseTx),
    }
}

/// What the job's shares are worth to the pool, if that is enough.
///
/// A coinbase that claims less than the subsidy withholds the rest, as if it were paid to somebody else. Fees that no node has seen
/// count up to those of the `template` that everybody else works on.
fn worth(
    token: &Token,
    declaration: &Declaration,
    (rules, halving_interval): (&CustomJobs, u32),
    template: &Template,
) -> Result<CustomShare, Code> {
    let subsidy = Sats::subsidy(declaration.height(), halving_interval);
    let (pays_pool, value) = (token.pays(&declaration.outputs()), declaration.value().max(subsidy));
    let is_enough = u128::from(pays_pool.to_sats()) * 100
        >= u128::from(value.to_sats()) * u128::from(rules.least_pool_percent.min(100));
    if pays_pool == Sats::ZERO || !is_enough {
        return Err(Code::InvalidCoinbaseTxOutputs);
    }
    let claimed = value.checked_sub(subsidy).unwrap_or(Sats::ZERO);
    let fees = match token.purpose {
        Purpose::CoinbaseOnly => claimed.min(template.fees),
        Purpose::Declare | Purpose::Declared(_) => claimed,
    };
    Ok(CustomShare { declaration: DeclarationId(declaration.id()), fees, pays_pool, value })
}

/// What the miner is told of a mistake in the description of a job.
fn code_of(error: &DeclarationError) -> Code {
    match error {
        DeclarationError::Outputs { .. } => Code::InvalidCoinbaseTxOutputs,
        DeclarationError::ScriptSigLength { .. } | DeclarationError::Height => Code::InvalidCoinbasePrefix,
        DeclarationError::LockTime => Code::InvalidCoinbaseTxLocktime,
        DeclarationError::PathTooLong { .. } | DeclarationError::MerklePath => Code::InvalidMerklePath,
        DeclarationError::Tip => Code::StaleChainTip,
        DeclarationError::Nbits => Code::InvalidNbits,
        _ => Code::InvalidCoinbaseTx,
    }
}
