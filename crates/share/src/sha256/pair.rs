//! Two hashes at once: their compressions are made in turns where the processor can, one after the other where it cannot.

#[cfg(test)]
use super::count::add as count;
#[cfg(target_arch = "x86_64")]
use super::sha_ni as turns;
use super::{Block, State};

/// The states of two messages that have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair(pub(crate) [State; 2]);

impl Pair {
    /// Two states before their first block.
    pub(crate) const INITIAL: Self = Self([State::INITIAL; 2]);

    /// Takes in whole blocks of both messages; where one has more, it goes on alone.
    #[inline]
    pub(crate) fn compress(&mut self, blocks: [&[Block]; 2]) {
        let both = blocks[0].len().min(blocks[1].len());
        let [(first, more_of_first), (second, more_of_second)] = blocks.map(|blocks| blocks.split_at(both));
        let Self([state, other]) = self;
        if turns::compress([&mut state.0, &mut other.0], [first, second]) {
            count(2 * both);
        } else {
            state.compress(first);
            other.compress(second);
        }
        if more_of_first.len() + more_of_second.len() > 0 {
            state.compress(more_of_first);
            other.compress(more_of_second);
        }
    }

    /// Bitcoin's double hash of both messages, which end with these blocks.
    #[inline]
    pub(crate) fn hash_twice(mut self, mut blocks: [&[Block]; 2]) -> [[u8; 32]; 2] {
        if blocks[0].len() != blocks[1].len() {
            self.compress(blocks);
            blocks = [&[]; 2];
        }
        let Self([state, other]) = &self;
        if let Some(hashes) = turns::hash_twice([&state.0, &other.0], blocks) {
            count(2 * (blocks[0].len() + 1));
            return hashes;
        }
        self.hash_twice_apart(blocks)
    }

    /// As [`Self::hash_twice`], one after the other.
    #[inline]
    fn hash_twice_apart(self, blocks: [&[Block]; 2]) -> [[u8; 32]; 2] {
        let Self([mut state, mut other]) = self;
        state.compress(blocks[0]);
        other.compress(blocks[1]);
        [state.hash_again(), other.hash_again()]
    }
}

/// The parents of two times two nodes of merkle trees, if this processor can make them in turns.
///
/// Half of what [`Pair::hash_twice`] spends on them beside the rounds is spared, because of the second block all is known.
#[inline]
pub(crate) fn parents(lefts: [&[u8; 32]; 2], rights: [&[u8; 32]; 2]) -> Option<[[u8; 32]; 2]> {
    let parents = turns::parents(lefts, rights)?;
    count(2 * 3);
    Some(parents)
}

/// Lets tests count compressions.
#[cfg(not(test))]
const fn count(_: usize) {}

/// What is known to gain from turns is here for one kind of processor only.
#[cfg(not(target_arch = "x86_64"))]
mod turns {
    use super::Block;

    pub(super) const fn compress(_: [&mut [u32; 8]; 2], _: [&[Block]; 2]) -> bool {
        false
    }

    pub(super) const fn hash_twice(_: [&[u32; 8]; 2], _: [&[Block]; 2]) -> Option<[[u8; 32]; 2]> {
        None
    }

    pub(super) const fn parents(_: [&[u8; 32]; 2], _: [&[u8; 32]; 2]) -> Option<[[u8; 32]; 2]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash as _, sha256d};
    use proptest::prelude::*;

    use super::*;
    use crate::sha256::{count, pad};

    /// A message, padded.
    fn blocks(message: &[u8]) -> Vec<Block> {
        let mut bytes = message.to_vec();
        pad(&mut bytes, message.len());
        bytes.as_chunks().0.to_vec()
    }

    fn naive(message: &[u8]) -> [u8; 32] {
        sha256d::Hash::hash(message).to_byte_array()
    }

    #[test]
    fn two_at_once_are_what_each_is_alone_at_every_length() {
        let bytes: Vec<u8> = (0..=255).collect();
        for len in 0..=bytes.len() {
            for other in [0, len / 2, len, 255 - len / 3] {
                let messages = [&bytes[..len], &bytes[bytes.len() - other..]];
                let [first, second] = messages.map(blocks);
                let hashes = Pair::INITIAL.hash_twice([&first, &second]);
                assert_eq!(hashes, messages.map(naive), "lengths {len} and {other}");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_processor_with_the_instructions_uses_them() {
        let able = turns::is_able();
        let [mut state, mut other] = [State::INITIAL.0; 2];
        assert_eq!(turns::compress([&mut state, &mut other], [&[[1; 64]], &[[2; 64]]]), able);
        assert_eq!(state != State::INITIAL.0, able, "states are left alone where it cannot be done");
        assert_eq!(turns::hash_twice([&state, &other], [&[], &[]]).is_some(), able);
        assert_eq!(turns::parents([&[1; 32]; 2], [&[2; 32]; 2]).is_some(), able);
    }

    #[test]
    fn compressions_are_counted_in_pairs_too() {
        let (first, second) = (blocks(&[1; 300]), blocks(&[2; 100]));
        let count = |work: &dyn Fn() -> [[u8; 32]; 2]| count::during(work).0;
        assert_eq!(count(&|| Pair::INITIAL.hash_twice([&first, &second])), 5 + 2 + 2);
        assert_eq!(count(&|| Pair::INITIAL.hash_twice([&first, &first])), 5 + 5 + 2);
        assert_eq!(count(&|| Pair::INITIAL.hash_twice_apart([&first, &second])), 5 + 2 + 2);
    }

    proptest! {
        #[test]
        fn any_two_messages_from_any_states_agree_with_one_at_a_time(
            messages: [Vec<u8>; 2],
            states: [[u32; 8]; 2],
        ) {
            let [first, second] = [blocks(&messages[0]), blocks(&messages[1])];
            let mut pair = Pair(states.map(State));
            let apart = pair.hash_twice_apart([&first, &second]);
            prop_assert_eq!(pair.hash_twice([&first, &second]), apart);
            pair.compress([&first, &second]);
            prop_assert_eq!(pair.0.map(State::hash_again), apart);
        }

        #[test]
        fn any_two_messages_agree_with_bitcoin_hashes(messages: [Vec<u8>; 2]) {
            let [first, second] = [blocks(&messages[0]), blocks(&messages[1])];
            let expected = messages.map(|message| naive(&message));
            prop_assert_eq!(Pair::INITIAL.hash_twice([&first, &second]), expected);
            prop_assert_eq!(Pair::INITIAL.hash_twice_apart([&first, &second]), expected);
        }

        #[test]
        fn any_parents_agree_with_bitcoin_hashes(lefts: [[u8; 32]; 2], rights: [[u8; 32]; 2]) {
            let expected = [0, 1].map(|place| naive(&[lefts[place], rights[place]].concat()));
            let parents = parents([&lefts[0], &lefts[1]], [&rights[0], &rights[1]]);
            prop_assert_eq!(parents.unwrap_or(expected), expected);
        }
    }
}
