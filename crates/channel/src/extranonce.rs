//! Who searches where: the part of the coinbase's extranonce that a server fixes for each channel.

use adit_share::{Extranonce, FULL_EXTRANONCE_LEN, MAX_EXTRANONCE_LEN};
use adit_units::ConnectionId;

/// Bytes that tell the channels of a server apart: the connection's number (4 bytes) and the channel's within it (2 bytes).
const CHANNEL_LEN: usize = 6;

/// The fewest bytes that may be left to a miner.
const ROLLABLE_MIN: usize = 4;

/// What the extranonces of all channels of a server have in common: how they begin, how long they are, and how much of them is left to
/// the miners.
///
/// An ordinary pool has no beginning of its own, because its jobs differ from those of all other servers and runs by their tags. Where
/// jobs carry no tag of the server's, or where the server itself is a client that was given a part of an extranonce, the beginning
/// keeps it apart from others. The length of what is left to miners is agreed with them when a channel is opened; the rest may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtranonceBase {
    bytes: [u8; MAX_EXTRANONCE_LEN],
    len: u8,
    full_len: u8,
    rollable_len: u8,
}

/// An extranonce in which there is no room for all that has to be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an extranonce of {full_len} bytes has no room for {base_len} of its own, {CHANNEL_LEN} for the channel and {rollable_len} for the \
     miner, who needs at least {ROLLABLE_MIN}; at most {MAX_EXTRANONCE_LEN} are possible"
)]
#[non_exhaustive]
pub struct ExtranonceBaseError {
    /// Bytes of the whole extranonce.
    pub full_len: usize,
    /// Bytes that all have in common.
    pub base_len: usize,
    /// Bytes for the miner.
    pub rollable_len: usize,
}

impl ExtranonceBase {
    /// Extranonces of `full_len` bytes that begin with `bytes` and end with `rollable_len` bytes for the miner.
    ///
    /// # Errors
    ///
    /// If they have no room for that.
    pub fn new(bytes: &[u8], full_len: usize, rollable_len: usize) -> Result<Self, ExtranonceBaseError> {
        let error = ExtranonceBaseError { full_len, base_len: bytes.len(), rollable_len };
        let has_room = bytes.len().saturating_add(CHANNEL_LEN).saturating_add(rollable_len) <= full_len;
        if !has_room || full_len > MAX_EXTRANONCE_LEN || rollable_len < ROLLABLE_MIN {
            return Err(error);
        }
        let mut base = [0; MAX_EXTRANONCE_LEN];
        for (place, byte) in base.iter_mut().zip(bytes) {
            *place = *byte;
        }
        let short = |len: usize| u8::try_from(len).map_err(|_| error);
        let (len, full_len, rollable_len) = (short(bytes.len())?, short(full_len)?, short(rollable_len)?);
        Ok(Self { bytes: base, len, full_len, rollable_len })
    }

    /// Length of the whole extranonce, in bytes.
    #[must_use]
    pub fn full_len(&self) -> usize {
        self.full_len.into()
    }

    /// Bytes that are left to an extended channel.
    #[must_use]
    pub fn rollable_len(&self) -> usize {
        self.rollable_len.into()
    }

    /// What all extranonces begin with.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Default for ExtranonceBase {
    /// What an ordinary pool has: 20 bytes, of which 14 are left to miners.
    fn default() -> Self {
        Self::new(&[], FULL_EXTRANONCE_LEN, ExtranoncePrefix::ROLLABLE_LEN)
            .expect("there is room for 6 and 14 in 20")
    }
}

/// The first bytes of a channel's extranonce, unlike those of any other channel that a server ever opens in one run.
///
/// They are the server's [`ExtranonceBase`], the connection's number (4 bytes, little-endian) and the channel's number within it (2
/// bytes, little-endian), and then as many zeros as leave the miner what was agreed. Jobs of different runs and servers differ in their
/// job tag, or else these differ in their base, so two channels never share header space, without an allocator, a lock or a lease to
/// return. The rest of the extranonce is the miner's to roll, or zero in a standard channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExtranoncePrefix {
    bytes: [u8; MAX_EXTRANONCE_LEN],
    len: u8,
    full_len: u8,
}

impl ExtranoncePrefix {
    /// Bytes that an ordinary pool fixes.
    pub const LEN: usize = CHANNEL_LEN;

    /// Bytes that an ordinary pool leaves to an extended channel, the same for all so that they fit into one group (spec 5.2.3).
    pub const ROLLABLE_LEN: usize = FULL_EXTRANONCE_LEN - Self::LEN;

    /// `extranonce_prefix` of an extended channel (spec 5.3.5).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Length of the whole extranonce, in bytes.
    #[must_use]
    pub fn full_len(&self) -> usize {
        self.full_len.into()
    }

    /// Bytes that are left to an extended channel.
    #[must_use]
    pub fn rollable_len(&self) -> usize {
        usize::from(self.full_len - self.len)
    }

    /// `extranonce_prefix` of a standard channel (spec 5.3.3), which has nothing left to roll: the prefix and then zeros.
    #[must_use]
    pub fn to_full(self) -> Extranonce {
        // The bytes behind the prefix are zero.
        Extranonce::join(self.bytes.get(..self.full_len()).unwrap_or_default(), &[])
    }
}

/// The prefixes of one connection, each handed out once.
#[derive(Debug)]
pub struct ExtranonceSpace {
    /// Where it is not that of an ordinary pool; every connection has this field.
    base: Option<Box<ExtranonceBase>>,
    connection: ConnectionId,
    handed_out: u16,
}

impl ExtranonceSpace {
    /// The space of a connection of an ordinary pool, whose number no other connection of the same run may have had.
    #[must_use]
    pub fn new(connection: ConnectionId) -> Self {
        Self::based(ExtranonceBase::default(), connection)
    }

    /// The same where extranonces begin with `base`.
    #[must_use]
    pub fn based(base: ExtranonceBase, connection: ConnectionId) -> Self {
        let mut space = Self { base: None, connection, handed_out: 0 };
        space.rebase(base);
        space
    }

    /// What all of its prefixes begin with.
    #[must_use]
    pub fn base(&self) -> ExtranonceBase {
        self.base.as_deref().copied().unwrap_or_default()
    }

    /// From now on prefixes begin with another base. Channel numbers go on, so that none is like one before.
    pub fn rebase(&mut self, base: ExtranonceBase) {
        self.base = (base != ExtranonceBase::default()).then(|| Box::new(base));
    }

    /// Whether every prefix has been handed out.
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        self.handed_out == u16::MAX
    }

    /// A prefix that no channel had before, never all zero, or `None` after 65 535 of them.
    pub fn next_prefix(&mut self) -> Option<ExtranoncePrefix> {
        self.handed_out = self.handed_out.checked_add(1)?;
        let channel = self.connection.0.to_le_bytes().into_iter().chain(self.handed_out.to_le_bytes());
        let base = self.base();
        let mut bytes = base.bytes;
        for (place, byte) in bytes.iter_mut().skip(base.len.into()).zip(channel) {
            *place = byte;
        }
        Some(ExtranoncePrefix { bytes, len: base.full_len - base.rollable_len, full_len: base.full_len })
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
        let full = [1, 2, 3, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(second.to_full().as_bytes(), full);
        assert_eq!((second.full_len(), second.rollable_len()), (20, 14));
    }

    #[test]
    fn a_prefix_begins_with_its_base_and_leaves_what_was_agreed() {
        let base = ExtranonceBase::new(&[7, 7, 7], 16, 5).unwrap();
        let mut space = ExtranonceSpace::based(base, ConnectionId(1));
        let prefix = space.next_prefix().unwrap();
        assert_eq!(prefix.as_bytes(), &[7, 7, 7, 1, 0, 0, 0, 1, 0, 0, 0], "two zeros fill it up");
        assert_eq!(
            (prefix.full_len(), prefix.rollable_len(), prefix.to_full().as_bytes().len()),
            (16, 5, 16)
        );
        space.rebase(ExtranonceBase::new(&[8; 21], 32, 5).unwrap());
        let prefix = space.next_prefix().unwrap();
        assert_eq!(prefix.as_bytes(), [&[8; 21][..], &[1, 0, 0, 0, 2, 0]].concat());
        assert_eq!((prefix.full_len(), prefix.rollable_len()), (32, 5));
    }

    #[test]
    fn a_base_leaves_room_for_channels_and_miners() {
        for (len, full_len, rollable_len) in [(0, 10, 4), (22, 32, 4), (6, 32, 20), (0, 20, 14)] {
            let base = ExtranonceBase::new(&vec![1; len], full_len, rollable_len).unwrap();
            assert_eq!(
                (base.as_bytes().len(), base.full_len(), base.rollable_len()),
                (len, full_len, rollable_len)
            );
        }
        for (base_len, full_len, rollable_len) in
            [(0, 9, 4), (23, 32, 4), (0, 33, 4), (0, 20, 3), (0, 300, 280)]
        {
            let refused = ExtranonceBase::new(&vec![1; base_len], full_len, rollable_len);
            assert_eq!(refused, Err(ExtranonceBaseError { full_len, base_len, rollable_len }));
        }
    }

    #[test]
    fn no_prefix_is_handed_out_twice_or_all_zero() {
        let mut seen = HashSet::new();
        for connection in [0, 1, 0x100, u32::MAX] {
            let mut space = ExtranonceSpace::new(ConnectionId(connection));
            for _ in 0..u16::MAX {
                assert!(!space.is_exhausted());
                let prefix = space.next_prefix().expect("65 535 prefixes");
                assert_ne!(prefix.as_bytes(), &[0; ExtranoncePrefix::LEN]);
                assert!(seen.insert(prefix));
            }
            assert!(space.is_exhausted());
            assert_eq!(space.next_prefix(), None);
            assert_eq!(space.next_prefix(), None, "stays exhausted");
        }
    }
}
