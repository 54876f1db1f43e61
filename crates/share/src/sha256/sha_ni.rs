//! Two SHA-256 streams in turns on the processor's own instructions for it, in the only unsafe code of this workspace.
//!
//! `sha256rnds2` makes two rounds and takes four cycles for it, but the next one may begin after two. The rounds of one message each
//! need the ones before, so half of the processor's time is spent waiting; the rounds of a second message fill it.
#![expect(unsafe_code, reason = "instructions that not every processor has can be called in no other way")]

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi32, _mm_set_epi64x,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    _mm_storeu_si128,
};
use core::ptr;

use super::Block;

/// The words of a state between two compressions.
type Words = [u32; 8];

/// The constants of the rounds (FIPS 180-4, 4.2.2), four in a row.
const K: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// Whether this processor has the instructions; it is asked once, and the answer kept.
#[inline]
pub(super) fn is_able() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
}

/// Takes in the blocks of two messages, as many as both have; `false` if this processor lacks the instructions, and then nothing has
/// changed.
#[inline]
pub(super) fn compress(states: [&mut Words; 2], blocks: [&[Block]; 2]) -> bool {
    let is_able = is_able();
    if is_able {
        // SAFETY: the processor has each of the features that `streams` is compiled for, as was asked just now.
        unsafe { streams(states, blocks) };
    }
    is_able
}

/// SHA-256 of the SHA-256 of two messages that end with these blocks, as many of one as of the other.
#[inline]
pub(super) fn hash_twice(states: [&Words; 2], blocks: [&[Block]; 2]) -> Option<[[u8; 32]; 2]> {
    // SAFETY: the processor has each of the features that `streams_twice` is compiled for, as is asked just before.
    is_able().then(|| unsafe { streams_twice(states, blocks) })
}

/// The parents of two times two nodes of merkle trees.
#[inline]
pub(super) fn parents(lefts: [&[u8; 32]; 2], rights: [&[u8; 32]; 2]) -> Option<[[u8; 32]; 2]> {
    // SAFETY: the processor has each of the features that `streams_of_nodes` is compiled for, as is asked just before.
    is_able().then(|| unsafe { streams_of_nodes(lefts, rights) })
}

/// What one stream keeps in registers.
#[derive(Clone, Copy)]
struct Stream {
    /// Half of the state, in the order that the instructions want.
    abef: __m128i,
    /// The other half.
    cdgh: __m128i,
    /// The last sixteen words of the message schedule, those of four rounds in one place.
    schedule: [__m128i; 4],
}

/// As [`compress`].
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn streams(states: [&mut Words; 2], blocks: [&[Block]; 2]) {
    let streams = absorb_all([&*states[0], &*states[1]], blocks);
    for (state, stream) in states.into_iter().zip(streams) {
        pack(state, stream);
    }
}

/// As [`hash_twice`].
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn streams_twice(states: [&Words; 2], blocks: [&[Block]; 2]) -> [[u8; 32]; 2] {
    again(absorb_all(states, blocks))
}

/// As [`parents`].
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn streams_of_nodes(lefts: [&[u8; 32]; 2], rights: [&[u8; 32]; 2]) -> [[u8; 32]; 2] {
    let mut streams = [unpack(&INITIAL); 2];
    let node = |left, right| {
        let ([a, b], [c, d]) = (read_half(left), read_half(right));
        [a, b, c, d]
    };
    absorb(&mut streams, [node(lefts[0], rights[0]), node(lefts[1], rights[1])]);
    absorb_padding(&mut streams);
    again(streams)
}

/// Begins two streams at these states and takes in the blocks, as many as both have.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn absorb_all(states: [&Words; 2], [first, second]: [&[Block]; 2]) -> [Stream; 2] {
    let mut streams = states.map(|state| unpack(state));
    for (block, other) in first.iter().zip(second) {
        absorb(&mut streams, [read(block), read(other)]);
    }
    streams
}

/// The hashes of the hashes that two streams have come to.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn again(streams: [Stream; 2]) -> [[u8; 32]; 2] {
    let padding = [_mm_set_epi32(0, 0, 0, i32::MIN), _mm_set_epi32(256, 0, 0, 0)];
    let message = |stream: Stream| {
        let [abcd, efgh] = words(stream);
        [abcd, efgh, padding[0], padding[1]]
    };
    let mut second = [unpack(&INITIAL); 2];
    absorb(&mut second, [message(streams[0]), message(streams[1])]);
    [bytes(second[0]), bytes(second[1])]
}

/// Takes one block into each stream.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn absorb(streams: &mut [Stream; 2], blocks: [[__m128i; 4]; 2]) {
    let before = *streams;
    streams[0].schedule = blocks[0];
    streams[1].schedule = blocks[1];
    rounds(streams);
    add(streams, before);
}

/// Takes the block into each stream that ends a message of one block; its schedule is known before.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn absorb_padding(streams: &mut [Stream; 2]) {
    let before = *streams;
    for words in PADDING {
        let words = constants(words);
        for Stream { abef, cdgh, .. } in streams.iter_mut() {
            *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, words);
            *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(words, 0x0e));
        }
    }
    add(streams, before);
}

/// Adds the state before a block to the one after its rounds.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn add(streams: &mut [Stream; 2], before: [Stream; 2]) {
    for (stream, before) in streams.iter_mut().zip(before) {
        stream.abef = _mm_add_epi32(stream.abef, before.abef);
        stream.cdgh = _mm_add_epi32(stream.cdgh, before.cdgh);
    }
}

/// The state before the first block.
const INITIAL: Words = super::State::INITIAL.0;

/// The words of the block that ends a message of one block, for all rounds, with the constants added.
#[cfg_attr(not(test), expect(clippy::indexing_slicing, reason = "the compiler does it, and would not go on"))]
const PADDING: [[u32; 4]; 16] = {
    let mut words = [0_u32; 64];
    (words[0], words[15]) = (0x8000_0000, 512);
    let mut at = 16;
    while at < 64 {
        let (early, late) = (words[at - 15], words[at - 2]);
        let early = early.rotate_right(7) ^ early.rotate_right(18) ^ early >> 3;
        let late = late.rotate_right(17) ^ late.rotate_right(19) ^ late >> 10;
        words[at] = words[at - 16].wrapping_add(early).wrapping_add(words[at - 7]).wrapping_add(late);
        at += 1;
    }
    let mut sums = K;
    let mut at = 0;
    while at < 64 {
        sums[at / 4][at % 4] = sums[at / 4][at % 4].wrapping_add(words[at]);
        at += 1;
    }
    sums
};

/// All 64 rounds, four of each stream in turns. The first sixteen words are the block; each later one is mixed of four before it.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn rounds(streams: &mut [Stream; 2]) {
    let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, k15] = K;
    four_rounds::<false, false>(streams, k0);
    four_rounds::<true, false>(streams, k1);
    four_rounds::<true, false>(streams, k2);
    four_rounds::<true, true>(streams, k3);
    four_rounds::<true, true>(streams, k4);
    four_rounds::<true, true>(streams, k5);
    four_rounds::<true, true>(streams, k6);
    four_rounds::<true, true>(streams, k7);
    four_rounds::<true, true>(streams, k8);
    four_rounds::<true, true>(streams, k9);
    four_rounds::<true, true>(streams, k10);
    four_rounds::<true, true>(streams, k11);
    four_rounds::<true, true>(streams, k12);
    four_rounds::<false, true>(streams, k13);
    four_rounds::<false, true>(streams, k14);
    four_rounds::<false, false>(streams, k15);
}

/// Four rounds of both streams, and what they can do for the schedule: `BEGIN` the words of three steps later, `END` those of the
/// next.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_rounds<const BEGIN: bool, const END: bool>(streams: &mut [Stream; 2], k: [u32; 4]) {
    let k = constants(k);
    for Stream { abef, cdgh, schedule } in streams {
        let [here, mut next, then, mut last] = *schedule;
        let words = _mm_add_epi32(here, k);
        *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, words);
        if END {
            let sum = _mm_add_epi32(next, _mm_alignr_epi8(here, last, 4));
            next = _mm_sha256msg2_epu32(sum, here);
        }
        *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(words, 0x0e));
        if BEGIN {
            last = _mm_sha256msg1_epu32(last, here);
        }
        *schedule = [next, then, last, here];
    }
}

/// The constants of four rounds.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn constants(k: [u32; 4]) -> __m128i {
    let [a, b, c, d] = k.map(u32::cast_signed);
    _mm_set_epi32(d, c, b, a)
}

/// A block as the first sixteen words of the schedule.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn read(block: &Block) -> [__m128i; 4] {
    let from = ptr::from_ref(block).cast::<__m128i>();
    // SAFETY: the four times 16 bytes are those of `block`, and this load asks for no alignment.
    [0, 1, 2, 3].map(|place| swap(unsafe { _mm_loadu_si128(from.add(place)) }))
}

/// Half of a block.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn read_half(node: &[u8; 32]) -> [__m128i; 2] {
    let from = ptr::from_ref(node).cast::<__m128i>();
    // SAFETY: twice 16 bytes are those of `node`, and this load asks for no alignment.
    [0, 1].map(|place| swap(unsafe { _mm_loadu_si128(from.add(place)) }))
}

/// The bytes of each word in the other order.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn swap(words: __m128i) -> __m128i {
    _mm_shuffle_epi8(words, _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
}

/// A state, in the order that the instructions want.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn unpack(state: &Words) -> Stream {
    let from = ptr::from_ref(state).cast::<__m128i>();
    // SAFETY: twice 16 bytes are what eight words of four bytes have, and this load asks for no alignment.
    let (abcd, efgh) = unsafe { (_mm_loadu_si128(from), _mm_loadu_si128(from.add(1))) };
    let cdab = _mm_shuffle_epi32(abcd, 0xb1);
    let efgh = _mm_shuffle_epi32(efgh, 0x1b);
    Stream {
        abef: _mm_alignr_epi8(cdab, efgh, 8),
        cdgh: _mm_blend_epi16(efgh, cdab, 0xf0),
        schedule: [efgh; 4], // a block will take its place
    }
}

/// The state that a stream has come to, in the order of its words.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn words(stream: Stream) -> [__m128i; 2] {
    let feba = _mm_shuffle_epi32(stream.abef, 0x1b);
    let dchg = _mm_shuffle_epi32(stream.cdgh, 0xb1);
    [_mm_blend_epi16(feba, dchg, 0xf0), _mm_alignr_epi8(dchg, feba, 8)]
}

/// Puts down the state that a stream has come to.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn pack(state: &mut Words, stream: Stream) {
    let [abcd, efgh] = words(stream);
    let to = ptr::from_mut(state).cast::<__m128i>();
    // SAFETY: twice 16 bytes are what eight words of four bytes have, and this store asks for no alignment.
    unsafe {
        _mm_storeu_si128(to, abcd);
        _mm_storeu_si128(to.add(1), efgh);
    }
}

/// The hash that a stream has come to.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn bytes(stream: Stream) -> [u8; 32] {
    let mut bytes = [0; 32];
    let [abcd, efgh] = words(stream).map(|words| swap(words));
    let to = ptr::from_mut(&mut bytes).cast::<__m128i>();
    // SAFETY: twice 16 bytes are those of `bytes`, and this store asks for no alignment.
    unsafe {
        _mm_storeu_si128(to, abcd);
        _mm_storeu_si128(to.add(1), efgh);
    }
    bytes
}
