//! Targets, compact targets and work: conversions hold their promises for any 256-bit number.

use adit_units::Target;
use bitcoin::CompactTarget;

/// The first 32 bytes are a target, the next four a compact target; shorter inputs are done at once.
///
/// # Panics
///
/// If a conversion makes a target easier than it was, or loses work.
pub fn run(bytes: &[u8]) {
    if let Some((target, rest)) = bytes.split_first_chunk::<32>() {
        check_target(Target::from_le_bytes(*target));
        if let Some(nbits) = rest.first_chunk::<4>() {
            check_compact(CompactTarget::from_consensus(u32::from_le_bytes(*nbits)));
        }
    }
}

/// The promises of [`Target`]'s conversions to work and to the compact form.
fn check_target(target: Target) {
    assert_eq!(Target::from_le_bytes(target.to_le_bytes()), target);
    assert!(target.is_met_by(&target.to_le_bytes()), "a hash equal to the target meets it");
    assert!(Target::from_compact(target.to_compact()) <= target, "{target} got easier in its compact form");
    let work = target.to_work();
    let easiest = Target::from_work(work);
    assert!(easiest >= target, "{easiest} is the easiest target of that work, so not harder than {target}");
    assert!(easiest.to_work() >= work, "{target} lost work on its way through {easiest}");
}

/// Compact forms that nodes accept expand to what the `bitcoin` crate makes of them, all others to nothing.
fn check_compact(nbits: CompactTarget) {
    let bits = nbits.to_consensus();
    let (length, mantissa) = (bits >> 24, bits & 0x007f_ffff);
    let negative = bits & 0x0080_0000 != 0;
    let overflowing = match length {
        0..=32 => false,
        33 => mantissa > 0xffff,
        34 => mantissa > 0xff,
        _ => mantissa != 0,
    };
    let naive = bitcoin::Target::from_compact(nbits).to_le_bytes();
    let expected = if negative || overflowing { [0; 32] } else { naive };
    assert_eq!(Target::from_compact(nbits).to_le_bytes(), expected, "{bits:08x}");
}
