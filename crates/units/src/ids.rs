//! Identifiers and counters, each its own type so that two of them cannot be swapped.

use core::fmt;

/// Declares a `u32` or `u64` newtype that prints as its number.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// A channel or group channel; unique within one connection (spec 5.2).
    ChannelId(u32)
}
id! {
    /// A connection to a server, unique for one run of that server.
    ConnectionId(u32)
}
id! {
    /// A block's height: the number of blocks below it.
    Height(u32)
}
id! {
    /// A mining job; never repeats on a connection (spec 5.3.15).
    JobId(u32)
}
id! {
    /// A client's number for one request, echoed in the answer.
    RequestId(u32)
}
id! {
    /// A client's number for one submitted share within a channel (spec 5.3.11).
    SequenceNumber(u32)
}
id! {
    /// A block template of a template source.
    TemplateId(u64)
}

impl Height {
    /// The height of the block that comes on top, or `None` at the end of time.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// The mark that makes a job's coinbase unlike that of any other job of a pool.
///
/// Every job carries it in its coinbase input, so no two jobs share header space, over instances, restarts and tips that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobTag {
    /// Which server of the pool made the job; distinct servers are configured with distinct numbers.
    pub instance: u16,
    /// How many times that server had started before.
    pub boot: u32,
    /// The number of the job since that start.
    pub job: JobId,
}

impl JobTag {
    /// Length of [`Self::to_bytes`], in bytes.
    pub const LEN: usize = 10;

    /// The tag as it stands in the coinbase: instance, boot and job, each little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b] = self.instance.to_le_bytes();
        let [c, d, e, f] = self.boot.to_le_bytes();
        let [g, h, i, j] = self.job.0.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j]
    }

    /// Reads back what [`Self::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes([a, b, c, d, e, f, g, h, i, j]: [u8; Self::LEN]) -> Self {
        Self {
            instance: u16::from_le_bytes([a, b]),
            boot: u32::from_le_bytes([c, d, e, f]),
            job: JobId(u32::from_le_bytes([g, h, i, j])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_tag_survives_its_bytes() {
        let tag = JobTag { instance: 0x0102, boot: 0x0304_0506, job: JobId(0x0708_090a) };
        assert_eq!(tag.to_bytes(), [2, 1, 6, 5, 4, 3, 10, 9, 8, 7]);
        assert_eq!(JobTag::from_bytes(tag.to_bytes()), tag);
    }
}
