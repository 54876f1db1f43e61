//! How many peers a server takes, and how many file descriptors that leaves for everything else.

/// How many peers are served at once, and how many of them may still be strangers.
///
/// A *newcomer* is a peer that has connected but not yet shown that it speaks the protocol; the server calls
/// [`Permit::establish`](crate::Permit::establish) when it has. Attacks that cost an attacker nothing happen before that, so newcomers have narrower bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once; more are closed as soon as they are accepted.
    pub connections: usize,
    /// Most connections at once from one address (an IPv6 address counts as its /64 network). A farm behind one
    /// router is one address.
    pub connections_per_address: usize,
    /// Most newcomers at once, at least one; the rest wait in the kernel's queue until one of them is established or gone.
    pub newcomers: usize,
    /// Most newcomers at once from one address; more are closed as soon as they are accepted, so that one address cannot
    /// fill the queue in which others wait.
    pub newcomers_per_address: usize,
}

impl Default for Limits {
    /// 16 384 connections of which 4 096 from one address, 1 024 newcomers of which 256 from one address.
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 4_096,
            newcomers: 1_024,
            newcomers_per_address: 256,
        }
    }
}

/// File descriptors kept free of miners: nodes, the share log, other listeners, and what the libraries open for themselves.
pub const RESERVED_DESCRIPTORS: usize = 256;

impl Limits {
    /// The same limits with fewer connections where `descriptors`, the most files this process may have open, ask for it.
    ///
    /// The other limits shrink with them, so that one address gets no larger part than it has of the whole. At least one
    /// connection remains.
    #[must_use]
    pub fn within_descriptors(self, descriptors: usize) -> Self {
        let most = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(1);
        let connections = self.connections.min(most);
        // The product of two counts of sockets is far from what 128 bits hold.
        let part = |limit: usize| {
            let part = limit as u128 * connections as u128 / self.connections.max(1) as u128;
            usize::try_from(part).unwrap_or(usize::MAX).max(1)
        };
        let connections_per_address = part(self.connections_per_address);
        let newcomers = self.newcomers.min(connections);
        // As strangers, one address may use its whole part, but never crowd out those of all others.
        let of_newcomers = self.newcomers_per_address.min((newcomers / 4).max(1));
        Self {
            connections,
            connections_per_address,
            newcomers,
            newcomers_per_address: if connections == self.connections {
                self.newcomers_per_address
            } else {
                of_newcomers
            },
        }
    }
}

/// Raises this process's soft limit of open files to its hard limit and returns what then holds.
///
/// Where the system has no limit or refuses, the answer is what it allows anyway.
#[must_use]
pub fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    raised.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_mean_few_connections() {
        let limits = Limits::default().within_descriptors(RESERVED_DESCRIPTORS + 100);
        assert_eq!((limits.connections, limits.newcomers), (100, 100));
        assert_eq!(Limits::default().within_descriptors(3).connections, 1);
        assert_eq!(Limits::default().within_descriptors(usize::MAX), Limits::default());
    }

    #[test]
    fn one_address_fills_at_most_a_quarter_of_a_server_with_few_descriptors() {
        for descriptors in [3, 300, 512, 1024, 4096, 65_536, usize::MAX] {
            let limits = Limits::default().within_descriptors(descriptors);
            let quarter = (limits.connections / 4).max(1);
            assert!(limits.connections_per_address <= quarter, "{limits:?}");
            assert!(limits.newcomers_per_address <= (limits.newcomers / 4).max(1), "{limits:?}");
            assert!(limits.connections_per_address >= 1 && limits.newcomers_per_address >= 1);
        }
    }

    #[test]
    fn the_system_allows_some_files() {
        assert!(raise_descriptor_limit() > 3);
    }
}
