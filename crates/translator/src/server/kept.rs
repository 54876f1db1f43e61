//! What machines that are gone have found, for when they come back with the extranonce1 that they had.
//!
//! Firmware that connects anew begins its search from the start, on the job that it had before: it finds the same shares again. They were
//! accepted here and above, and nobody is to be told a second time that they are good.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap};

use adit_units::Monotonic;

use crate::job::EXTRANONCE1_LEN;
use crate::machine::Memory;

/// How long it is kept: as long as a machine takes to start again, and most tips last.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The most bytes of it; where there are more, those that left first are forgotten.
const KEPT_MAX: usize = 64 << 20;

/// What each takes besides.
const OVERHEAD: usize = 256;

/// The memories of machines that are gone.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// By the number of each.
    memories: BTreeMap<u64, (Monotonic, [u8; EXTRANONCE1_LEN], Memory)>,
    numbers: HashMap<[u8; EXTRANONCE1_LEN], u64>,
    last: u64,
    bytes: usize,
}

impl Kept {
    /// A machine is gone that had this extranonce1.
    pub(super) fn put(&mut self, extranonce1: [u8; EXTRANONCE1_LEN], memory: Memory, now: Monotonic) {
        self.take(extranonce1);
        self.last += 1;
        self.bytes += memory.bytes() + OVERHEAD;
        self.memories.insert(self.last, (now, extranonce1, memory));
        self.numbers.insert(extranonce1, self.last);
        while let Some((_, &(since, oldest, _))) = self.memories.first_key_value()
            && (self.bytes > KEPT_MAX || since + KEPT_FOR <= now)
        {
            self.take(oldest);
        }
    }

    /// A machine has this extranonce1 again.
    pub(super) fn take(&mut self, extranonce1: [u8; EXTRANONCE1_LEN]) -> Option<Memory> {
        let number = self.numbers.remove(&extranonce1)?;
        let (_, _, memory) = self.memories.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(memory.bytes() + OVERHEAD);
        Some(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Monotonic {
        Monotonic::from_micros(secs * 1_000_000)
    }

    #[test]
    fn what_machines_had_found_is_kept_for_a_while_and_within_bounds() {
        let mut kept = Kept::default();
        let [first, second] = [[1; 4], [2; 4]];
        kept.put(first, Memory::of_bytes(3), at(0));
        kept.put(first, Memory::of_bytes(5), at(1));
        assert_eq!(kept.take(first).map(|memory| memory.bytes()), Some(5));
        assert!(kept.take(first).is_none(), "once");
        kept.put(first, Memory::of_bytes(3), at(2));
        kept.put(second, Memory::of_bytes(3), at(602));
        assert!(kept.take(first).is_none() && kept.take(second).is_some());
        assert_eq!((kept.bytes, kept.memories.len(), kept.numbers.len()), (0, 0, 0));
        // Thousands of machines that found as much as can be remembered.
        let each = 1_000_000;
        for machine in 0_u32..100 {
            kept.put(machine.to_be_bytes(), Memory::of_bytes(each), at(700));
        }
        assert!(kept.bytes <= KEPT_MAX && kept.bytes + each + OVERHEAD > KEPT_MAX);
        assert!(kept.take(99_u32.to_be_bytes()).is_some() && kept.take([0; 4]).is_none(), "the last ones");
    }
}
