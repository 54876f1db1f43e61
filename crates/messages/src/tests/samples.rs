//! One of each message, with fields of which no two in a message are alike.

use crate::types::{B0255, Seq064K, Seq0255, Str0255, Sv2Option, U256};
use crate::{Message, common, extensions, job_declaration, mining, template_distribution};

const fn counting_from(start: u8) -> [u8; 32] {
    let mut bytes = [start; 32];
    let mut i = 1;
    while i < 32 {
        bytes[i] = bytes[i - 1] + 1;
        i += 1;
    }
    bytes
}

static HASHES: [[u8; 32]; 3] = [counting_from(0x01), counting_from(0x41), counting_from(0x81)];

fn hash(index: usize) -> U256<'static> {
    U256::from(&HASHES[index])
}

fn text(text: &'static str) -> Str0255<'static> {
    text.try_into().unwrap()
}

fn bytes<T: TryFrom<&'static [u8], Error: core::fmt::Debug>>(bytes: &'static [u8]) -> T {
    bytes.try_into().unwrap()
}

fn path() -> Seq0255<'static, U256<'static>> {
    Seq0255::new(vec![hash(0), hash(2)]).unwrap()
}

fn list<T: 'static>(elements: Vec<T>) -> Seq064K<'static, T> {
    Seq064K::new(elements).unwrap()
}

/// Every message once, and twice those that have an option.
pub(super) fn samples() -> Vec<Message<'static>> {
    let mut samples = common();
    samples.extend(opening());
    samples.extend(shares());
    samples.extend(jobs());
    samples.extend(custom_jobs());
    samples.extend(job_declaration());
    samples.extend(template_distribution());
    samples.extend(extensions());
    samples
}

fn common() -> Vec<Message<'static>> {
    vec![
        common::SetupConnection {
            protocol: common::Protocol::JobDeclarationProtocol,
            min_version: 2,
            max_version: 3,
            flags: 0x0403_0201,
            endpoint_host: text("pool.example"),
            endpoint_port: 34254,
            vendor: text("vendor"),
            hardware_version: text("hardware 1"),
            firmware: text("firmware 2.0"),
            device_id: text(""),
        }
        .into(),
        common::SetupConnectionSuccess { used_version: 2, flags: 0x0807_0605 }.into(),
        common::SetupConnectionError { flags: 4, error_code: text("unsupported-feature-flags") }.into(),
        common::ChannelEndpointChanged { channel_id: 0x1122_3344 }.into(),
        common::Reconnect { new_host: text("other.example"), new_port: 3333 }.into(),
    ]
}

fn opening() -> Vec<Message<'static>> {
    vec![
        mining::OpenStandardMiningChannel {
            request_id: 7,
            user_identity: text("account.worker"),
            nominal_hash_rate: 1.5e12,
            max_target: hash(0),
        }
        .into(),
        mining::OpenStandardMiningChannelSuccess {
            request_id: 7,
            channel_id: 3,
            target: hash(1),
            extranonce_prefix: bytes(b"\x01\x02\x03\x04"),
            group_channel_id: 1,
        }
        .into(),
        mining::OpenMiningChannelError { request_id: 8, error_code: text("unknown-user") }.into(),
        mining::OpenExtendedMiningChannel {
            request_id: 9,
            user_identity: text("account"),
            nominal_hash_rate: 0.25,
            max_target: hash(2),
            min_extranonce_size: 8,
        }
        .into(),
        mining::OpenExtendedMiningChannelSuccess {
            request_id: 9,
            channel_id: 4,
            target: hash(0),
            extranonce_size: 14,
            extranonce_prefix: bytes(b"\x05\x06\x07\x08\x09\x0a"),
            group_channel_id: 2,
        }
        .into(),
        mining::UpdateChannel { channel_id: 5, nominal_hash_rate: 3.5e13, maximum_target: hash(1) }.into(),
        mining::UpdateChannelError { channel_id: 5, error_code: text("invalid-channel-id") }.into(),
        mining::CloseChannel { channel_id: 6, reason_code: text("bye") }.into(),
        mining::SetExtranoncePrefix { channel_id: 7, extranonce_prefix: bytes(&HASHES[2]) }.into(),
        mining::SetTarget { channel_id: 8, maximum_target: hash(2) }.into(),
        mining::SetGroupChannel { group_channel_id: 1, channel_ids: list(vec![2, 3, 0x0102_0304]) }.into(),
    ]
}

fn shares() -> Vec<Message<'static>> {
    vec![
        mining::SubmitSharesStandard {
            channel_id: 1,
            sequence_number: 2,
            job_id: 3,
            nonce: 0x0a0b_0c0d,
            ntime: 1_700_000_000,
            version: 0x2000_0004,
        }
        .into(),
        mining::SubmitSharesExtended {
            channel_id: 4,
            sequence_number: 5,
            job_id: 6,
            nonce: 0x0102_0304,
            ntime: 1_700_000_001,
            version: 0x3fff_e004,
            extranonce: bytes(b"\x0e\x0f\x10"),
        }
        .into(),
        mining::SubmitSharesSuccess {
            channel_id: 1,
            last_sequence_number: 2,
            new_submits_accepted_count: 3,
            new_shares_sum: 0x1122_3344_5566_7788,
        }
        .into(),
        mining::SubmitSharesError { channel_id: 1, sequence_number: 9, error_code: text("stale-share") }
            .into(),
    ]
}

fn jobs() -> Vec<Message<'static>> {
    let standard = mining::NewMiningJob {
        channel_id: 1,
        job_id: 2,
        min_ntime: Sv2Option::new(None),
        version: 0x2000_0000,
        merkle_root: hash(1),
    };
    let extended = mining::NewExtendedMiningJob {
        channel_id: 3,
        job_id: 4,
        min_ntime: Sv2Option::new(Some(1_700_000_002)),
        version: 0x2000_0004,
        version_rolling_allowed: true,
        merkle_path: path(),
        coinbase_tx_prefix: bytes(b"\x02\x00\x00\x00\x01"),
        coinbase_tx_suffix: bytes(b"\xff\xff\xff\xff"),
    };
    vec![
        mining::NewMiningJob { min_ntime: Sv2Option::new(Some(1_700_000_003)), ..standard.clone() }.into(),
        standard.into(),
        mining::NewExtendedMiningJob {
            min_ntime: Sv2Option::new(None),
            version_rolling_allowed: false,
            ..extended.clone()
        }
        .into(),
        extended.into(),
        mining::SetNewPrevHash {
            channel_id: 5,
            job_id: 6,
            prev_hash: hash(0),
            min_ntime: 1_700_000_004,
            nbits: 0x1d00_ffff,
        }
        .into(),
    ]
}

fn custom_jobs() -> Vec<Message<'static>> {
    vec![
        mining::SetCustomMiningJob {
            channel_id: 1,
            request_id: 2,
            token: bytes(b"token"),
            version: 3,
            prev_hash: hash(2),
            min_ntime: 4,
            nbits: 5,
            coinbase_tx_version: 6,
            coinbase_prefix: bytes(b"\x03\x01\x02\x03"),
            coinbase_tx_input_n_sequence: 7,
            coinbase_tx_outputs: bytes(b"\x01outputs"),
            coinbase_tx_locktime: 8,
            merkle_path: path(),
        }
        .into(),
        mining::SetCustomMiningJobSuccess { channel_id: 1, request_id: 2, job_id: 3 }.into(),
        mining::SetCustomMiningJobError {
            channel_id: 1,
            request_id: 2,
            error_code: text("jd-not-supported"),
        }
        .into(),
    ]
}

fn job_declaration() -> Vec<Message<'static>> {
    use job_declaration::*;
    let token: B0255<'static> = bytes(b"\x01\x02\x03");
    vec![
        AllocateMiningJobToken { user_identifier: text("miner"), request_id: 1 }.into(),
        AllocateMiningJobTokenSuccess {
            request_id: 1,
            mining_job_token: token,
            coinbase_outputs: bytes(b"\x01output"),
        }
        .into(),
        ProvideMissingTransactions { request_id: 2, unknown_tx_position_list: list(vec![0, 0x0102]) }.into(),
        ProvideMissingTransactionsSuccess {
            request_id: 2,
            transaction_list: list(vec![bytes(b"first"), bytes(b""), bytes(b"third")]),
        }
        .into(),
        DeclareMiningJob {
            request_id: 3,
            mining_job_token: token,
            version: 4,
            coinbase_tx_prefix: bytes(b"prefix"),
            coinbase_tx_suffix: bytes(b"suffix"),
            wtxid_list: list(vec![hash(0), hash(1), hash(2)]),
            excess_data: bytes(b"excess"),
        }
        .into(),
        DeclareMiningJobSuccess { request_id: 3, new_mining_job_token: bytes(b"new token") }.into(),
        DeclareMiningJobError {
            request_id: 3,
            error_code: text("missing-txs"),
            error_details: bytes(b"details"),
        }
        .into(),
        // The fields of the published crate's own vector.
        PushSolution {
            extranonce: bytes(b"\x01\x02\x03\x04"),
            prev_hash: U256::from(const { &counting_from(5) }),
            nonce: 0x1122_3344,
            ntime: 0x5566_7788,
            nbits: 0x99aa_bbcc,
            version: 0xddee_ff00,
        }
        .into(),
    ]
}

fn template_distribution() -> Vec<Message<'static>> {
    use template_distribution::*;
    vec![
        CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: 100,
            coinbase_output_max_additional_sigops: 4,
        }
        .into(),
        NewTemplate {
            template_id: 0x0102_0304_0506_0708,
            future_template: true,
            version: 0x2000_0000,
            coinbase_tx_version: 2,
            coinbase_prefix: bytes(b"\x03\x04\x05\x06"),
            coinbase_tx_input_sequence: 0xffff_fffe,
            coinbase_tx_value_remaining: 312_500_000,
            coinbase_tx_outputs_count: 1,
            coinbase_tx_outputs: bytes(b"outputs"),
            coinbase_tx_locktime: 9,
            merkle_path: path(),
        }
        .into(),
        SetNewPrevHash {
            template_id: 10,
            prev_hash: hash(0),
            header_timestamp: 1_700_000_005,
            n_bits: 0x207f_ffff,
            target: hash(1),
        }
        .into(),
        RequestTransactionData { template_id: 11 }.into(),
        RequestTransactionDataSuccess {
            template_id: 12,
            excess_data: bytes(b""),
            transaction_list: list(vec![bytes(b"one"), bytes(b"two")]),
        }
        .into(),
        RequestTransactionDataError { template_id: 13, error_code: text("stale-template-id") }.into(),
        SubmitSolution {
            template_id: 14,
            version: 1,
            header_timestamp: 2,
            header_nonce: 3,
            coinbase_tx: bytes(b"coinbase"),
        }
        .into(),
    ]
}

fn extensions() -> Vec<Message<'static>> {
    vec![
        extensions::RequestExtensions { request_id: 1, requested_extensions: list(vec![2, 0x4001]) }.into(),
        extensions::RequestExtensionsSuccess { request_id: 1, supported_extensions: list(vec![2]) }.into(),
        extensions::RequestExtensionsError {
            request_id: 1,
            unsupported_extensions: list(vec![0x4001]),
            required_extensions: list(vec![3, 4]),
        }
        .into(),
    ]
}
