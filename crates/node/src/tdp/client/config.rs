//! Where a template provider is, and what it is asked for.

use adit_net::Url;
use bitcoin::Network;

use super::super::FIXED_COINBASE_WEIGHT;
use super::Room;
use crate::rpc::{CoinbaseReserve, Timing};

/// Everything about one template provider.
#[derive(Clone, Debug)]
pub struct TdpConfig {
    /// Where it listens, and the key that its certificate must be signed with. Without a key only a provider on this machine is spoken to.
    pub url: Url,
    /// The network whose rules its templates must follow. The protocol does not tell which one the provider is on.
    pub network: Network,
    /// Room for our coinbase, of which the provider is told what its outputs may take.
    pub coinbase: CoinbaseReserve,
    /// Deadlines and pauses; only `answer`, `first_retry`, `max_retry` and `submit_tries` apply here.
    pub timing: Timing,
}

impl TdpConfig {
    /// A template provider at `url`, on `network`.
    #[must_use]
    pub fn new(url: Url, network: Network) -> Self {
        Self { url, network, coinbase: CoinbaseReserve::default(), timing: Timing::default() }
    }

    /// The provider's address without its key, for logs.
    #[must_use]
    pub fn name(&self) -> String {
        format!("stratum2+tcp://{}", self.url.address())
    }

    /// The room that the provider is asked for: the rest of the coinbase has a fixed place in every block (spec 7.1).
    pub(super) fn room(&self) -> Room {
        let bytes = self.coinbase.weight.saturating_sub(FIXED_COINBASE_WEIGHT) / 4;
        Room {
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            sigops: u16::try_from(self.coinbase.sigops).unwrap_or(u16::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_asked_for_as_outputs() {
        let url = "127.0.0.1:8442".parse().unwrap();
        let mut config = TdpConfig::new(url, Network::Regtest);
        assert_eq!(config.name(), "stratum2+tcp://127.0.0.1:8442");
        assert_eq!(config.room(), Room { bytes: (4000 - 836) / 4, sigops: 400 });
        config.coinbase = CoinbaseReserve { weight: 100, sigops: 1 << 20 };
        assert_eq!(config.room(), Room { bytes: 0, sigops: u16::MAX });
    }
}
