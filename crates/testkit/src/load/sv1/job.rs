//! Headers as both ends of a translator make them: from the pool's job above, and from a line of `mining.notify` below.

use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::hex::FromHex as _;
use serde_json::Value;

/// What stands before a job's number in its coinbase. Its hexadecimal form has no letters, so however a translator writes those it is found.
const MARK: &[u8; 8] = b"SV1 TEST";
const MARK_HEX: &[u8; 16] = b"5356312054455354";

/// The bytes by which a job is known again in whatever a translator makes of it.
pub(super) fn mark(number: u32) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (start, end) = bytes.split_at_mut(MARK.len());
    start.copy_from_slice(MARK);
    end.copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of the job that a line of `mining.notify` carries.
pub(super) fn marked(line: &[u8]) -> Option<u32> {
    let start = line.windows(MARK_HEX.len()).position(|window| window == MARK_HEX)? + MARK_HEX.len();
    let digits = core::str::from_utf8(line.get(start..start + 8)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// The merkle root of a block whose coinbase consists of `parts`, beside the hashes of `path`.
pub(super) fn merkle_root(parts: &[&[u8]], path: &[[u8; 32]]) -> [u8; 32] {
    let coinbase = sha256d::Hash::hash(&parts.concat()).to_byte_array();
    path.iter()
        .fold(coinbase, |root, sibling| sha256d::Hash::hash(&[root, *sibling].concat()).to_byte_array())
}

/// What stands in a header beside the merkle root and the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) version: u32,
    pub(super) prev_hash: [u8; 32],
    pub(super) ntime: u32,
    pub(super) nbits: u32,
}

impl Fields {
    /// The header with this merkle root and nonce.
    pub(super) fn header(&self, root: [u8; 32], nonce: u32) -> [u8; 80] {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&self.version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prev_hash);
        header[36..68].copy_from_slice(&root);
        header[68..72].copy_from_slice(&self.ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        header
    }
}

/// A job as `mining.notify` tells of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// The translator's name for it.
    pub(super) id: String,
    pub(super) fields: Fields,
    coinbase: [Vec<u8>; 2],
    path: Vec<[u8; 32]>,
}

impl Job {
    /// Reads a line of `mining.notify`; `None` if it is none.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let message: Value = serde_json::from_slice(line).ok()?;
        let params = message.get("params")?.as_array()?;
        let [id, prev_hash, start, end, path, version, nbits, ntime, ..] = params.as_slice() else {
            return None;
        };
        let mut words = <[u8; 32]>::from_hex(prev_hash.as_str()?).ok()?;
        // SV1 writes the previous hash with the bytes of each word turned around.
        words.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        let bytes = |value: &Value| Vec::from_hex(value.as_str()?).ok();
        let number = |value: &Value| u32::from_str_radix(value.as_str()?, 16).ok();
        let sibling = |value: &Value| <[u8; 32]>::from_hex(value.as_str()?).ok();
        Some(Self {
            id: id.as_str()?.to_owned(),
            fields: Fields {
                version: number(version)?,
                prev_hash: words,
                ntime: number(ntime)?,
                nbits: number(nbits)?,
            },
            coinbase: [bytes(start)?, bytes(end)?],
            path: path.as_array()?.iter().map(sibling).collect::<Option<_>>()?,
        })
    }

    /// The merkle root with these extranonces.
    pub(super) fn root(&self, extranonce1: &[u8], extranonce2: &[u8]) -> [u8; 32] {
        let [start, end] = &self.coinbase;
        merkle_root(&[start, extranonce1, extranonce2, end], &self.path)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::block::Header;
    use bitcoin::consensus::deserialize;

    use super::*;

    /// Block 1 of the main chain, as a translator would have told of it; its coinbase's script ends with the extranonces 01 and 04.
    const BLOCK_1: &str = concat!(
        r#"{"id":null,"method":"mining.notify","params":["1a","0a8ce26f72b3f1b646a2a6c14ff763ae65831e939c085ae10019d66800000000","#,
        r#""01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d","#,
        r#""ffffffff0100f2052a0100000043410496b538e853519c726a2c91e61ec11600ae1390813a627c66fb8be7947be63c52da7589379515d4e0a604f8141781e62294721166bf621e73a82cbf2342c858eeac00000000","#,
        r#"[],"00000001","1d00ffff","4966bc61",true]}"#
    );

    #[test]
    fn block_1_comes_out_of_its_notify() {
        let job = Job::parse(BLOCK_1.as_bytes()).unwrap();
        let root = job.root(&[0x01], &[0x04]);
        let header: Header = deserialize(&job.fields.header(root, 2_573_394_689)).unwrap();
        let hash = "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048";
        assert_eq!(header.block_hash().to_string(), hash);
        assert_eq!((job.id.as_str(), marked(BLOCK_1.as_bytes())), ("1a", None));
    }

    #[test]
    fn a_path_is_folded_from_the_coinbase_up() {
        let root = merkle_root(&[b"a", b"", b"b"], &[[1; 32]]);
        let coinbase = sha256d::Hash::hash(b"ab").to_byte_array();
        assert_eq!(root, sha256d::Hash::hash(&[coinbase, [1; 32]].concat()).to_byte_array());
    }

    #[test]
    fn a_job_is_known_by_its_mark() {
        let hex = |upper: bool| {
            let digits: String = mark(0xab_cdef).iter().map(|byte| format!("{byte:02x}")).collect();
            if upper { digits.to_uppercase() } else { digits }
        };
        for upper in [false, true] {
            let line = format!(r#"{{"params":["1","00{}ff"]}}"#, hex(upper));
            assert_eq!(marked(line.as_bytes()), Some(0xab_cdef));
        }
        assert_eq!(marked(MARK_HEX), None, "the number is missing");
    }

    #[test]
    fn what_is_no_job_is_none() {
        for line in ["", "{}", r#"{"params":[]}"#, r#"{"params":["1","zz","","",[],"1","1","1"]}"#] {
            assert_eq!(Job::parse(line.as_bytes()), None, "{line}");
        }
    }
}
