//! Every code against the constants of the published crates, by number and by string.

use std::collections::BTreeSet;

use common_messages_sv2 as common;
use job_declaration_sv2 as job_declaration;
use mining_sv2 as mining;
use template_distribution_sv2 as template_distribution;

use super::*;

/// Checks that our codes are exactly the published ones, survive the wire, and obey spec 3.5.
macro_rules! check {
    ($name:ident, [$($published:expr),+ $(,)?]) => {{
        let ours: BTreeSet<_> = $name::ALL.iter().map(|code| code.as_str()).collect();
        let published = BTreeSet::from([$($published),+]);
        assert_eq!(ours, published, stringify!($name));
        for code in $name::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert_eq!($name::from_wire(&code.to_wire()), Some(*code));
            assert_eq!(code.to_string(), code.as_str());
            assert!(code.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        }
    }};
}

#[test]
fn codes_are_the_published_ones() {
    check!(
        SetupConnectionError,
        [
            common::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS,
            common::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL,
            common::ERROR_CODE_SETUP_CONNECTION_MISSING_DECLARE_TX_DATA_FLAG,
            common::ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH,
        ]
    );
    check!(
        OpenMiningChannelError,
        [
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_USER_IDENTITY,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_UNKNOWN_USER,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_NOMINAL_HASHRATE,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_MAX_TARGET_OUT_OF_RANGE,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE,
            mining::ERROR_CODE_OPEN_MINING_CHANNEL_UNSUPPORTED_MIN_EXTRANONCE_SIZE,
        ]
    );
    check!(
        UpdateChannelError,
        [
            mining::ERROR_CODE_UPDATE_CHANNEL_INVALID_CHANNEL_ID,
            mining::ERROR_CODE_UPDATE_CHANNEL_INVALID_NOMINAL_HASHRATE,
            mining::ERROR_CODE_UPDATE_CHANNEL_MAX_TARGET_OUT_OF_RANGE,
        ]
    );
    check!(
        SubmitSharesError,
        [
            mining::ERROR_CODE_SUBMIT_SHARES_INVALID_CHANNEL_ID,
            mining::ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE,
            mining::ERROR_CODE_SUBMIT_SHARES_STALE_SHARE,
            mining::ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID,
            mining::ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW,
            mining::ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE,
            mining::ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE,
            mining::ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED,
            mining::ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT,
            OWN_CODE,
        ]
    );
}

/// The one code that is not published, which tells a miner more than that its share is invalid.
const OWN_CODE: &str = "too-many-shares";

#[test]
fn reasons_to_close_a_channel_are_codes_too() {
    check!(
        CloseChannelReason,
        ["too-many-invalid-shares", "too-many-repeated-shares", "too-many-shares", "closed-by-operator"]
    );
}

#[test]
fn codes_of_declared_jobs_are_the_published_ones() {
    check!(
        SetCustomMiningJobError,
        [
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_JD_NOT_SUPPORTED,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_CHANNEL_ID,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MINING_JOB_TOKEN,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_JOB_NOT_YET_VALIDATED,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_STALE_CHAIN_TIP,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MIN_NTIME,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_NBITS,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_VERSION,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_VERSION,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_PREFIX,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_INPUT_N_SEQUENCE,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_OUTPUTS,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_LOCKTIME,
            mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MERKLE_PATH,
        ]
    );
    check!(
        DeclareMiningJobError,
        [
            job_declaration::ERROR_CODE_DECLARE_MINING_JOB_INVALID_MINING_JOB_TOKEN,
            job_declaration::ERROR_CODE_DECLARE_MINING_JOB_MISSING_TXS,
            job_declaration::ERROR_CODE_DECLARE_MINING_JOB_INVALID_COINBASE_TX,
            job_declaration::ERROR_CODE_DECLARE_MINING_JOB_INVALID_COINBASE_TX_INPUT,
            job_declaration::ERROR_CODE_DECLARE_MINING_JOB_INTERNAL_ERROR,
            job_declaration::ERROR_CODE_DECLARE_MINING_JOB_STALE_CHAIN_TIP,
            job_declaration::ERROR_CODE_DECLARE_MINING_JOB_INVALID_JOB,
        ]
    );
    check!(
        RequestTransactionDataError,
        [
            template_distribution::ERROR_CODE_REQUEST_TRANSACTION_DATA_STALE_TEMPLATE_ID,
            template_distribution::ERROR_CODE_REQUEST_TRANSACTION_DATA_TEMPLATE_ID_NOT_FOUND,
        ]
    );
}

#[test]
fn other_strings_are_no_codes() {
    for bytes in [&b""[..], b"stale", b"Stale-share", b"stale-share\0", b"\xff\xfe"] {
        let code = Str0255::try_from(bytes).unwrap();
        assert_eq!(SubmitSharesError::from_wire(&code), None, "{bytes:?}");
    }
    assert_eq!("jd-not-supported".parse::<SubmitSharesError>(), Err(UnknownCode));
}
