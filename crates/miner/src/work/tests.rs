//! Headers against rust-bitcoin, and slices that never meet.

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d as naive_sha256d};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use proptest::prelude::*;

use super::*;

fn work(version_rolling: bool, merkle_root: MerkleRoot) -> Work {
    Work {
        tip: Arc::new(Tip::new([3; 32], 0x1d00_ffff)),
        job_id: JobId(1),
        version: 0x2000_0004,
        version_rolling,
        min_ntime: 1_700_000_000,
        since: Monotonic::default(),
        target: Target::MAX,
        merkle_root,
    }
}

fn rolled(extranonce_len: u8) -> MerkleRoot {
    MerkleRoot::Rolled { prefix: vec![1, 2], extranonce_len, suffix: vec![3], path: vec![[4; 32], [5; 32]] }
}

/// A coinbase whose input ends with these bytes.
fn coinbase(extranonce: &[u8]) -> Transaction {
    let script = ScriptBuf::from_bytes([&[3, 1, 2, 3][..], extranonce].concat());
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(5_000_000_000), script_pubkey: ScriptBuf::new() }],
    }
}

/// The naive twin of the merkle root: rust-bitcoin hashes the transaction and every pair.
fn naive_root(transaction: &Transaction, path: &[[u8; 32]]) -> [u8; 32] {
    let mut hash = transaction.compute_txid().to_raw_hash();
    for other in path {
        let mut engine = naive_sha256d::Hash::engine();
        engine.input(hash.as_byte_array());
        engine.input(other);
        hash = naive_sha256d::Hash::from_engine(engine);
    }
    hash.to_byte_array()
}

#[test]
fn the_tip_knows_the_networks_target() {
    assert_eq!(Tip::new([0; 32], 0x1d00_ffff).target, Target::DIFFICULTY_1);
}

#[test]
fn a_header_is_laid_out_as_the_network_reads_it() {
    let work = work(true, MerkleRoot::Fixed([9; 32]));
    let slice =
        Slice { extranonce: Extranonce::default(), version: 0x2000_0024, ntime_offset: 7, nonces: 5..=6 };
    let header: Header = deserialize(&work.header(&slice)).unwrap();
    assert_eq!(header.version.to_consensus(), 0x2000_0024);
    assert_eq!(header.prev_blockhash.to_byte_array(), [3; 32]);
    assert_eq!(header.merkle_root.to_byte_array(), [9; 32]);
    assert_eq!((header.time, header.bits.to_consensus(), header.nonce), (1_700_000_007, 0x1d00_ffff, 0));
}

#[test]
fn nonces_come_first_then_versions_then_extranonces_then_time() {
    let work = work(true, rolled(1));
    let first = work.slice(0).unwrap();
    assert_eq!((first.version, &first.nonces), (work.version, &(0..=0xf_ffff)));
    assert_eq!(work.slice(1).unwrap(), Slice { nonces: 0x10_0000..=0x1f_ffff, ..first });
    assert_eq!(work.slice(4095).unwrap(), Slice { nonces: 0xfff0_0000..=u32::MAX, ..first });

    let version = 1_u64 << 12;
    assert_eq!(work.slice(version).unwrap(), Slice { version: 0x2000_0024, ..first.clone() });
    let last = work.slice((1 << 36) - 1).unwrap();
    assert_eq!(last.version, 0x2000_0004 ^ Work::VERSION_MASK);

    let extranonce = 1 << 36;
    let second = work.slice(extranonce).unwrap();
    assert_eq!(second, Slice { extranonce: Extranonce::new(1, 1), ..first.clone() });
    assert_eq!(second.extranonce.as_bytes(), [1]);
    let ntime = 256 * extranonce;
    assert_eq!(work.slice(ntime).unwrap(), Slice { ntime_offset: 1, ..first });
}

#[test]
fn what_may_not_be_rolled_is_left_alone() {
    let fixed = work(false, MerkleRoot::Fixed([9; 32]));
    for number in [0, 1, 4095, 4096, 1 << 20] {
        let slice = fixed.slice(number).unwrap();
        assert_eq!((slice.version, slice.extranonce.as_bytes()), (fixed.version, &[][..]));
        assert_eq!(u64::from(slice.ntime_offset), number / 4096);
    }
    let empty = work(false, rolled(0));
    assert_eq!(empty.slice(4096).unwrap().ntime_offset, 1);
}

#[test]
fn the_space_ends_where_time_does() {
    let work = work(false, MerkleRoot::Fixed([9; 32]));
    let seconds_left = u64::from(u32::MAX - work.min_ntime);
    assert_eq!(work.slice(seconds_left * 4096).map(|slice| work.ntime(&slice)), Some(u32::MAX));
    assert_eq!(work.slice((seconds_left + 1) * 4096), None);
    assert_eq!(work.slice(u64::MAX), None);
}

#[test]
fn an_extranonce_is_as_long_as_the_channel_says() {
    assert_eq!(Extranonce::new(0x0201, 2).as_bytes(), [1, 2]);
    assert_eq!(Extranonce::new(0x01, 32).as_bytes().len(), 32);
    assert_eq!(Extranonce::new(7, 12).as_bytes(), [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(format!("{:?}", Extranonce::new(0xff, 2)), "ff00");
}

proptest! {
    #[test]
    fn roots_are_those_of_the_naive_twin(
        server_part in prop::collection::vec(any::<u8>(), 0..20),
        number: u64,
        len in 0_u8..=32,
        path in prop::collection::vec(any::<[u8; 32]>(), 0..14),
    ) {
        let extranonce = Extranonce::new(number, len);
        let transaction = coinbase(&[&server_part, extranonce.as_bytes()].concat());
        let bytes = serialize(&transaction);
        // Version, input count, outpoint, script length, then the script's own first bytes.
        let until = 4 + 1 + 36 + 1 + 4 + server_part.len();
        let root = MerkleRoot::Rolled {
            prefix: bytes[..until].to_vec(),
            extranonce_len: len,
            suffix: bytes[until + usize::from(len)..].to_vec(),
            path: path.clone(),
        };
        prop_assert_eq!(root.with(&extranonce), naive_root(&transaction, &path));
    }

    #[test]
    fn slices_never_meet(
        version_rolling: bool,
        extranonce_len in prop::option::of(0_u8..5),
        a in prop_oneof![0_u64..10_000, any::<u64>().prop_map(|number| number >> 10)],
        distance in prop_oneof![1_u64..10_000, (0_u32..50).prop_map(|bits| 1 << bits)],
    ) {
        let work = work(version_rolling, extranonce_len.map_or(MerkleRoot::Fixed([0; 32]), rolled));
        if let (Some(a), Some(b)) = (work.slice(a), work.slice(a + distance)) {
            let parts = |slice: &Slice| (slice.version, slice.extranonce, slice.ntime_offset);
            let apart = a.nonces.end() < b.nonces.start() || b.nonces.end() < a.nonces.start();
            prop_assert!(parts(&a) != parts(&b) || apart, "{a:?} and {b:?}");
            prop_assert_eq!((a.version ^ work.version) & !Work::VERSION_MASK, 0);
        }
    }
}
