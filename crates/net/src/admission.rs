//! Who may come in: counts of connections and newcomers, in all and per address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Limits;

/// Counts the peers of a server and admits new ones as long as [`Limits`] allow.
///
/// Cloning gives a second handle to the same counts. A lock is taken when a peer comes, is established or goes, and at no other time.
#[derive(Clone, Debug)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// One permit for each newcomer that may still come in.
    newcomers: Arc<Semaphore>,
    book: Mutex<Book>,
}

/// Who is there now, who may be, and how many were turned away.
#[derive(Debug)]
struct Book {
    limits: Limits,
    connections: usize,
    addresses: HashMap<IpAddr, Counts>,
    refused: [u64; Refused::ALL.len()],
}

/// The peers from one address.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: usize,
    newcomers: usize,
}

/// Why a peer was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// The server is full.
    #[error("the server has as many connections as it may; raise its limit or add a server")]
    Full,
    /// Its address has all the connections one address may have.
    #[error(
        "this address has as many connections as one may; raise the limit for one address if a farm is behind it"
    )]
    AddressFull,
    /// Too many from its address have not finished their handshake and setup.
    #[error("too many connections from this address have not been set up; block it if that goes on")]
    AddressNewcomers,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Full, Self::AddressFull, Self::AddressNewcomers];

    /// A word for a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address-full",
            Self::AddressNewcomers => "address-newcomers",
        }
    }
}

impl Admission {
    /// An empty house.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let newcomers = Arc::new(Semaphore::new(limits.newcomers.clamp(1, Semaphore::MAX_PERMITS)));
        let refused = [0; Refused::ALL.len()];
        let book = Book { limits, connections: 0, addresses: HashMap::new(), refused };
        Self { shared: Arc::new(Shared { newcomers, book: Mutex::new(book) }) }
    }

    /// The limits it goes by.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.book().limits
    }

    /// Goes by other limits from now on; who is connected stays. [`Limits::newcomers`] remains what it was at the beginning.
    pub fn set_limits(&self, limits: Limits) {
        let mut book = self.shared.book();
        book.limits = Limits { newcomers: book.limits.newcomers, ..limits };
    }

    /// Connections that are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.book().connections
    }

    /// Peers that were turned away so far, by reason.
    #[must_use]
    pub fn refused(&self) -> [(Refused, u64); Refused::ALL.len()] {
        let counts = self.shared.book().refused;
        let mut refused = Refused::ALL.map(|reason| (reason, 0));
        for ((_, slot), count) in refused.iter_mut().zip(counts) {
            *slot = count;
        }
        refused
    }

    /// Holds a place for another newcomer, if one is free.
    pub(crate) fn free_place(&self) -> Option<Place> {
        Arc::clone(&self.shared.newcomers).try_acquire_owned().ok().map(Place)
    }

    /// Waits until another newcomer may come in and holds its place.
    pub(crate) async fn place(&self) -> Place {
        let place = Arc::clone(&self.shared.newcomers).acquire_owned().await;
        Place(place.expect("nothing closes the semaphore"))
    }

    /// Admits a peer from `address` to the place held for it, or counts that it was turned away.
    pub(crate) fn admit(&self, address: IpAddr, place: Place) -> Result<Permit, Refused> {
        let address = network(address);
        self.shared.book().admit(Some(address))?;
        let (shared, newcomer) = (Arc::clone(&self.shared), Some(place));
        Ok(Permit { shared, address, is_counted: true, newcomer })
    }

    /// Admits a peer of which only the proxy's address is known. It counts for no address until [`Permit::count_for`] says for which.
    pub(crate) fn admit_through_proxy(&self, proxy: IpAddr, place: Place) -> Result<Permit, Refused> {
        self.shared.book().admit(None)?;
        let (shared, newcomer) = (Arc::clone(&self.shared), Some(place));
        Ok(Permit { shared, address: network(proxy), is_counted: false, newcomer })
    }
}

impl Book {
    /// Counts a newcomer in, for its address too if that is known; or says why it may not come in.
    fn admit(&mut self, address: Option<IpAddr>) -> Result<(), Refused> {
        if self.connections >= self.limits.connections {
            return Err(self.refuse(Refused::Full));
        }
        if let Some(address) = address {
            self.admit_from(address, true)?;
        }
        self.connections += 1;
        Ok(())
    }

    /// Counts a peer that is in for `address`, or says why it may not be.
    fn admit_from(&mut self, address: IpAddr, is_newcomer: bool) -> Result<(), Refused> {
        let counts = self.addresses.get(&address).copied().unwrap_or_default();
        if counts.connections >= self.limits.connections_per_address {
            return Err(self.refuse(Refused::AddressFull));
        }
        if is_newcomer && counts.newcomers >= self.limits.newcomers_per_address {
            return Err(self.refuse(Refused::AddressNewcomers));
        }
        let newcomers = counts.newcomers + usize::from(is_newcomer);
        self.addresses.insert(address, Counts { connections: counts.connections + 1, newcomers });
        Ok(())
    }

    fn refuse(&mut self, reason: Refused) -> Refused {
        if let Some(count) = self.refused.get_mut(reason as usize) {
            *count += 1;
        }
        reason
    }

    /// Counts a peer of `address` out of it.
    fn leave(&mut self, address: IpAddr, is_newcomer: bool) {
        let Some(counts) = self.addresses.get_mut(&address) else { return };
        counts.connections = counts.connections.saturating_sub(1);
        counts.newcomers = counts.newcomers.saturating_sub(usize::from(is_newcomer));
        if counts.connections == 0 {
            self.addresses.remove(&address);
        }
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // The counts are whole after every statement that changes them, so a panic elsewhere leaves nothing to repair.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the newcomers that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A peer's right to be connected; dropping it makes room for another.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    address: IpAddr,
    /// Whether it counts for its address.
    is_counted: bool,
    newcomer: Option<Place>,
}

impl Permit {
    /// Counts the peer for `address`, and for no other: that is what a proxy says of where it comes from.
    ///
    /// # Errors
    ///
    /// If as many come from that address as may. The peer then counts for none and is to be turned away.
    pub fn count_for(&mut self, address: IpAddr) -> Result<(), Refused> {
        let mut book = self.shared.book();
        if self.is_counted {
            book.leave(self.address, self.newcomer.is_some());
        }
        (self.address, self.is_counted) = (network(address), false);
        book.admit_from(self.address, self.newcomer.is_some())?;
        self.is_counted = true;
        Ok(())
    }

    /// Says that the peer has been set up and is no newcomer any more; saying it again changes nothing.
    pub fn establish(&mut self) {
        if self.newcomer.take().is_none() || !self.is_counted {
            return;
        }
        if let Some(counts) = self.shared.book().addresses.get_mut(&self.address) {
            counts.newcomers = counts.newcomers.saturating_sub(1);
        }
    }

    /// Where the peer comes from, for those who share something between addresses: a whole IPv4 address, or the /64 network that one
    /// subscriber of IPv6 has to himself.
    #[must_use]
    pub const fn network(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut book = self.shared.book();
        book.connections = book.connections.saturating_sub(1);
        if self.is_counted {
            book.leave(self.address, self.newcomer.is_some());
        }
    }
}

/// What counts as one address: a whole IPv4 address, or the /64 network that one subscriber of IPv6 has to himself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LIMITS: Limits =
        Limits { connections: 4, connections_per_address: 3, newcomers: 4, newcomers_per_address: 2 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn arrive(admission: &Admission, from: &str) -> Result<Permit, Refused> {
        admission.admit(address(from), admission.place().await)
    }

    #[tokio::test]
    async fn each_limit_turns_away_and_recovers() {
        let admission = Admission::new(LIMITS);
        let mut a = arrive(&admission, "10.0.0.1").await.unwrap();
        let mut b = arrive(&admission, "10.0.0.1").await.unwrap();
        assert_eq!(arrive(&admission, "10.0.0.1").await.unwrap_err(), Refused::AddressNewcomers);
        a.establish();
        a.establish();
        let c = arrive(&admission, "10.0.0.1").await.unwrap();
        b.establish();
        assert_eq!(arrive(&admission, "10.0.0.1").await.unwrap_err(), Refused::AddressFull);
        let d = arrive(&admission, "10.0.0.2").await.unwrap();
        assert_eq!(admission.connections(), 4);
        assert_eq!(arrive(&admission, "10.0.0.3").await.unwrap_err(), Refused::Full);
        assert_eq!(admission.refused(), Refused::ALL.map(|reason| (reason, 1)));
        drop((a, b, c, d));
        assert_eq!(admission.connections(), 0);
        assert!(admission.shared.book().addresses.is_empty(), "an address that left is forgotten");
        assert_eq!(admission.shared.newcomers.available_permits(), LIMITS.newcomers);
    }

    /// All machines behind a proxy were one address, and so the limit for one either let everybody in or shut the whole farm out.
    #[tokio::test]
    async fn whom_a_proxy_names_was_counted_for_the_proxy() {
        let admission = Admission::new(LIMITS);
        let mut permits = Vec::new();
        for _ in 0..4 {
            let place = admission.place().await;
            permits.push(admission.admit_through_proxy(address("10.0.0.9"), place).unwrap());
        }
        let place = admission.shared.newcomers.available_permits();
        assert_eq!((place, admission.shared.book().addresses.len()), (0, 0), "a proxy may bring everybody");
        let [a, b, c, d] = permits.as_mut_slice() else { panic!("four came in") };
        a.count_for(address("10.0.0.1")).unwrap();
        b.count_for(address("10.0.0.1")).unwrap();
        assert_eq!(c.count_for(address("10.0.0.1")).unwrap_err(), Refused::AddressNewcomers);
        b.establish();
        c.count_for(address("10.0.0.1")).unwrap();
        d.establish();
        assert_eq!(d.count_for(address("10.0.0.1")).unwrap_err(), Refused::AddressFull);
        // Whoever is named anew leaves the address that it counted for.
        c.count_for(address("10.0.0.2")).unwrap();
        assert_eq!(c.network(), address("10.0.0.2"));
        d.count_for(address("10.0.0.1")).unwrap();
        drop(permits);
        assert_eq!(admission.connections(), 0);
        assert!(admission.shared.book().addresses.is_empty(), "an address that left is forgotten");
        assert_eq!(admission.shared.newcomers.available_permits(), LIMITS.newcomers);
    }

    #[tokio::test]
    async fn limits_change_while_peers_are_there() {
        let admission = Admission::new(Limits { connections: 1, ..LIMITS });
        let first = arrive(&admission, "10.0.0.1").await.unwrap();
        assert_eq!(arrive(&admission, "10.0.0.2").await.unwrap_err(), Refused::Full);
        admission.set_limits(Limits { connections: 2, newcomers: 9, ..LIMITS });
        assert_eq!(admission.limits(), Limits { connections: 2, ..LIMITS });
        let second = arrive(&admission, "10.0.0.2").await.unwrap();
        admission.set_limits(Limits { connections: 1, ..LIMITS });
        assert_eq!(admission.connections(), 2, "who is there stays");
        drop(second);
        assert_eq!(arrive(&admission, "10.0.0.2").await.unwrap_err(), Refused::Full);
        drop(first);
        arrive(&admission, "10.0.0.2").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_wait_until_one_is_established() {
        let admission = Admission::new(Limits { newcomers: 1, ..LIMITS });
        let mut first = arrive(&admission, "10.0.0.1").await.unwrap();
        let second = arrive(&admission, "10.0.0.2");
        tokio::pin!(second);
        assert!(timeout(core::time::Duration::from_secs(1), &mut second).await.is_err());
        first.establish();
        assert!(second.await.is_ok());
    }

    #[test]
    fn one_subscriber_is_one_address() {
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), network(address("2001:db8:1:2::1")));
        assert_ne!(network(address("2001:db8:1:2::1")), network(address("2001:db8:1:3::1")));
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
        assert_ne!(network(address("10.0.0.1")), network(address("10.0.0.2")));
    }
}
