//! Who searches where: the part of the coinbase's extranonce that a server fixes for each channel.

use adit_share::FULL_EXTRANONCE_LEN;
use adit_units::ConnectionId;

/// The first bytes of a channel's extranonce, unlike those of any other channel that a server ever opens in one run.
///
/// They are the connection's number (4 bytes, little-endian) and the channel's number within it (2 bytes, little-endian). Jobs
/// of different runs and servers differ in their job tag, so two channels never share header space, without an allocator, a
/// lock or a lease to return. The rest of the extranonce is the miner's to roll, or zero in a standard channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtranoncePrefix([u8; Self::LEN]);

impl ExtranoncePrefix {
    /// Bytes that the server fixes.
    pub const LEN: usize = 6;

    /// Bytes that are left to an extended channel, the same for all so that they fit into one group (spec 5.2.3).
    pub const ROLLABLE_LEN: usize = FULL_EXTRANONCE_LEN - Self::LEN;

    /// `extranonce_prefix` of an extended channel (spec 5.3.5).
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// `extranonce_prefix` of a standard channel (spec 5.3.3), which has nothing left to roll: the prefix and then zeros.
    #[must_use]
    pub fn to_full(self) -> [u8; FULL_EXTRANONCE_LEN] {
        self.join(&[0; Self::ROLLABLE_LEN])
    }

    /// The whole extranonce as it stands in the coinbase.
    #[must_use]
    pub fn join(self, rolled: &[u8; Self::ROLLABLE_LEN]) -> [u8; FULL_EXTRANONCE_LEN] {
        let mut full = [0; FULL_EXTRANONCE_LEN];
        let (fixed, rest) = full.split_at_mut(Self::LEN);
        fixed.copy_from_slice(&self.0);
        rest.copy_from_slice(rolled);
        full
    }
}

/// The prefixes of one connection, each handed out once.
#[derive(Debug)]
pub struct ExtranonceSpace {
    connection: ConnectionId,
    handed_out: u16,
}

impl ExtranonceSpace {
    /// The space of a connection, whose number no other connection of the same run may have had.
    #[must_use]
    pub const fn new(connection: ConnectionId) -> Self {
        Self { connection, handed_out: 0 }
    }

    /// A prefix that no channel had before, never all zero, or `None` after 65 535 of them.
    pub fn next_prefix(&mut self) -> Option<ExtranoncePrefix> {
        self.handed_out = self.handed_out.checked_add(1)?;
        let [a, b, c, d] = self.connection.0.to_le_bytes();
        let [e, f] = self.handed_out.to_le_bytes();
        Some(ExtranoncePrefix([a, b, c, d, e, f]))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_prefix_names_its_connection_and_channel() {
        let mut space = ExtranonceSpace::new(ConnectionId(0x0403_0201));
        assert_eq!(space.next_prefix().unwrap().as_bytes(), &[1, 2, 3, 4, 1, 0]);
        let second = space.next_prefix().unwrap();
        assert_eq!(second.as_bytes(), &[1, 2, 3, 4, 2, 0]);
        assert_eq!(second.to_full(), [1, 2, 3, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let rolled = second.join(&[9; ExtranoncePrefix::ROLLABLE_LEN]);
        assert_eq!(rolled, [1, 2, 3, 4, 2, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
    }

    #[test]
    fn no_prefix_is_handed_out_twice_or_all_zero() {
        let mut seen = HashSet::new();
        for connection in [0, 1, 0x100, u32::MAX] {
            let mut space = ExtranonceSpace::new(ConnectionId(connection));
            for _ in 0..u16::MAX {
                let prefix = space.next_prefix().expect("65 535 prefixes");
                assert_ne!(prefix.as_bytes(), &[0; ExtranoncePrefix::LEN]);
                assert!(seen.insert(prefix));
            }
            assert_eq!(space.next_prefix(), None);
            assert_eq!(space.next_prefix(), None, "stays exhausted");
        }
    }
}
