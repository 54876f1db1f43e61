//! The job as a machine is told it.

use super::write::{begin_call, end_call};
use super::{Id, hex};

/// The parameters of `mining.notify`; hashes are in the byte order of the header.
#[derive(Clone, Copy, Debug)]
pub struct Notify<'a> {
    /// A number that no other job of the connection has.
    pub job: u64,
    /// The block that it builds on.
    pub prev_hash: &'a [u8; 32],
    /// The coinbase before extranonce1, in parts.
    pub coinbase_prefix: &'a [&'a [u8]],
    /// The coinbase behind extranonce2.
    pub coinbase_suffix: &'a [u8],
    /// The hashes that lead from the coinbase to the merkle root.
    pub merkle_path: &'a [[u8; 32]],
    /// The version of the header, with no bit rolled.
    pub version: u32,
    /// The network's target in compact form.
    pub nbits: u32,
    /// The time of the header.
    pub ntime: u32,
    /// Whether shares of all former jobs are worthless now.
    pub clean: bool,
}

/// Tells a job.
pub fn write_notify(out: &mut Vec<u8>, notify: &Notify<'_>) {
    const REST: usize = 256;
    let coinbase =
        notify.coinbase_prefix.iter().map(|part| part.len()).sum::<usize>() + notify.coinbase_suffix.len();
    out.reserve(2 * coinbase + 67 * notify.merkle_path.len() + REST);
    begin_call(out, &Id::NULL, "mining.notify");
    out.push(b'"');
    hex::put(out, &notify.job.to_be_bytes());
    out.extend_from_slice(b"\",\"");
    hex::put(out, &words_swapped(notify.prev_hash));
    out.extend_from_slice(b"\",\"");
    for part in notify.coinbase_prefix {
        hex::put(out, part);
    }
    out.extend_from_slice(b"\",\"");
    hex::put(out, notify.coinbase_suffix);
    out.extend_from_slice(b"\",[");
    for (position, hash) in notify.merkle_path.iter().enumerate() {
        out.extend_from_slice(if position == 0 { b"\"" } else { b",\"" });
        hex::put(out, hash);
        out.push(b'"');
    }
    out.push(b']');
    for number in [notify.version, notify.nbits, notify.ntime] {
        out.extend_from_slice(b",\"");
        hex::put(out, &number.to_be_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(if notify.clean { b",true" } else { b",false" });
    end_call(out);
}

/// SV1 has the bytes of each of the eight words of the previous block's hash the other way round.
fn words_swapped(hash: &[u8; 32]) -> [u8; 32] {
    let mut swapped = *hash;
    for word in swapped.chunks_exact_mut(4) {
        word.reverse();
    }
    swapped
}
