//! Transactions of the node's mempool by their hashes: a call that the published interface does not describe yet.

use adit_share::{MAX_BLOCK_WEIGHT, RawTransaction};
use bitcoin::Wtxid;
use bitcoin::hashes::Hash as _;
use bitcoin_capnp_types::capnp::message::ReaderOptions;
use bitcoin_capnp_types::capnp::{self, any_pointer, serialize};

use super::link::Caller;
use crate::NodeError;
use crate::transactions::{Gathered, RawOrNone};

/// How many transactions are asked for in one call: so few that their answer can be read whatever they are. One that is longer than
/// [`ANSWER_MAX`] ends the connection, with everything else that is done over it.
const CALL_MAX: usize = 16;
/// The longest message that the library reads unless it is told otherwise, in bytes.
const ANSWER_MAX: u64 = 64 << 20;

const _: () = {
    // No block can hold a longer transaction than one of as many bytes as it may weigh; pointers and padding come to it.
    let longest = MAX_BLOCK_WEIGHT + 2 * WORD as u64;
    assert!(CALL_MAX as u64 * longest + 1024 <= ANSWER_MAX, "an answer must not be too long to be read");
};

/// Words of a hash, and of the pointer to it.
const HASH_WORDS: usize = 32 / WORD;
const WORD: usize = 8;

/// The transactions that the node's mempool has, in the order of their hashes; no more than about a block's worth of them.
pub(super) async fn transactions(caller: &Caller, wtxids: &[Wtxid]) -> Result<RawOrNone, NodeError> {
    let mut gathered = Gathered::new(wtxids);
    for part in wtxids.chunks(CALL_MAX) {
        if gathered.is_full() {
            break;
        }
        let found = caller.transactions_by_wtxid(part).await?;
        // One that the node does not have is an empty one.
        gathered.extend(found.into_iter().filter_map(|bytes| RawTransaction::parse(bytes).ok()));
    }
    Ok(gathered.finish())
}

/// A message whose root is a structure of two pointers: none, and a list of those hashes.
///
/// The library makes structures only of descriptions that it was compiled with, and none of them has this form.
fn message(wtxids: &[Wtxid]) -> Vec<u8> {
    let count = wtxids.len();
    let words = 1 + 2 + count * (1 + HASH_WORDS);
    let mut bytes = Vec::with_capacity((1 + words) * WORD);
    let mut put = |word: u64| bytes.extend(word.to_le_bytes());
    // One segment of that many words.
    put((words as u64) << 32);
    // The root: a structure right behind, without data and with two pointers.
    put(2 << 48);
    put(0);
    // A list right behind, of so many pointers.
    put(1 | 6 << 32 | (count as u64) << 35);
    for place in 0..count {
        // A list of 32 bytes, behind the rest of these pointers and the hashes before it.
        let offset = count - 1 - place + place * HASH_WORDS;
        put(1 | (offset as u64) << 2 | 2 << 32 | 32 << 35);
    }
    for wtxid in wtxids {
        bytes.extend(wtxid.to_byte_array());
    }
    bytes
}

/// Writes the arguments of the call; the first pointer, for the thread, is still to be set.
pub(super) fn set_wtxids(params: &mut any_pointer::Builder<'_>, wtxids: &[Wtxid]) -> capnp::Result<()> {
    let bytes = message(wtxids);
    let message = serialize::read_message_from_flat_slice(&mut &*bytes, ReaderOptions::new())?;
    params.set_as::<any_pointer::Owned>(message.get_root::<any_pointer::Reader<'_>>()?)
}

#[cfg(test)]
mod tests {
    use bitcoin_capnp_types::capnp::message::Builder;
    use bitcoin_capnp_types::mining_capnp::block_template::get_coinbase_merkle_path_results as list;
    use bitcoin_capnp_types::mining_capnp::mining::check_block_params as params;

    use super::*;

    fn wtxids(count: u8) -> Vec<Wtxid> {
        (0..count).map(|number| Wtxid::from_byte_array([number; 32])).collect()
    }

    #[test]
    fn the_arguments_are_nothing_and_a_list_of_hashes() {
        for count in [0, 1, 2, 3, 200] {
            let mut message = Builder::new_default();
            set_wtxids(&mut message.init_root(), &wtxids(count)).unwrap();
            let arguments = message.get_root_as_reader::<params::Reader<'_>>().unwrap();
            assert!(!arguments.has_context(), "the first pointer is free");
            assert!(arguments.has_block(), "the second is not");
        }
    }

    #[test]
    fn the_library_reads_the_list_that_is_written_by_hand() {
        // The same list as the only pointer of a structure, which the library has a description of.
        for count in [0_u8, 1, 2, 200] {
            let mut bytes = message(&wtxids(count));
            let words = u64::try_from(bytes.len() / WORD).unwrap() - 2;
            bytes.drain(8..24);
            bytes.splice(0..8, [(words << 32).to_le_bytes(), (1_u64 << 48).to_le_bytes()].concat());
            let message =
                serialize::read_message_from_flat_slice(&mut &*bytes, ReaderOptions::new()).unwrap();
            let list = message.get_root::<list::Reader<'_>>().unwrap().get_result().unwrap();
            let read: Vec<Vec<u8>> = list.iter().map(|hash| hash.unwrap().to_vec()).collect();
            let hashes: Vec<Vec<u8>> = (0..count).map(|number| vec![number; 32]).collect();
            assert_eq!(read, hashes);
        }
    }
}
