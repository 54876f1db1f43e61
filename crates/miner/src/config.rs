//! What a miner is told before it starts.

use std::num::NonZeroUsize;

use adit_units::Hashrate;

use crate::Url;

/// The kind of channel to open (spec 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// The server fixes the merkle root; the miner rolls nonce and version only.
    Standard,
    /// The miner builds the coinbase and rolls its extranonce too.
    Extended,
}

/// How the client describes itself in `SetupConnection` (spec 3.6.1); each text has at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Who made it.
    pub vendor: String,
    /// Which hardware it is.
    pub hardware_version: String,
    /// Which program runs on it.
    pub firmware: String,
    /// Which one it is of many; empty to keep that private.
    pub device_id: String,
}

impl Default for Device {
    /// This program on this machine's processor.
    fn default() -> Self {
        Self {
            vendor: "adit".to_owned(),
            hardware_version: format!("cpu {}", std::env::consts::ARCH),
            firmware: concat!("adit ", env!("CARGO_PKG_VERSION")).to_owned(),
            device_id: String::new(),
        }
    }
}

/// How to mine.
#[derive(Clone, Debug)]
pub struct MinerConfig {
    /// The server.
    pub url: Url,
    /// Whether to speak to a server on another machine although [`Self::url`] has no key to know it by.
    pub insecure: bool,
    /// Whom the pool is to credit; at most 255 bytes.
    pub user: String,
    /// How to introduce oneself.
    pub device: Device,
    /// The kind of channel to open.
    pub channel: ChannelKind,
    /// How many threads hash; as many as there are processors if `None`.
    pub threads: Option<NonZeroUsize>,
    /// The speed to tell the server, which sets the first target by it; measured if `None`.
    pub nominal_hashrate: Option<Hashrate>,
}

/// A config that cannot work, whatever the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} has {length} bytes; the protocol carries at most 255")]
pub struct ConfigError {
    /// What is too long.
    pub field: &'static str,
    /// How long it is.
    pub length: usize,
}

impl MinerConfig {
    /// An extended channel, all processors, a measured speed, and no server that cannot be known by its key.
    #[must_use]
    pub fn new(url: Url, user: impl Into<String>) -> Self {
        Self {
            url,
            insecure: false,
            user: user.into(),
            device: Device::default(),
            channel: ChannelKind::Extended,
            threads: None,
            nominal_hashrate: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_texts(&self.user, &self.device)
    }

    /// The number of threads, which is 1 where the system does not say how many processors there are.
    pub(crate) fn thread_count(&self) -> NonZeroUsize {
        let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(all)
    }
}

/// Checks that the protocol's strings can carry the texts.
pub(crate) fn check_texts(user: &str, device: &Device) -> Result<(), ConfigError> {
    let texts = [
        ("the user", user),
        ("the vendor", &device.vendor),
        ("the hardware version", &device.hardware_version),
        ("the firmware", &device.firmware),
        ("the device id", &device.device_id),
    ];
    match texts.into_iter().find(|(_, text)| text.len() > 255) {
        Some((field, text)) => Err(ConfigError { field, length: text.len() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_long_as_the_protocol_allows() {
        let url: Url = "127.0.0.1:1".parse().unwrap();
        assert_eq!(MinerConfig::new(url.clone(), "x".repeat(255)).check(), Ok(()));
        let error = MinerConfig::new(url.clone(), "x".repeat(256)).check().unwrap_err();
        assert_eq!(error.to_string(), "the user has 256 bytes; the protocol carries at most 255");
        let mut config = MinerConfig::new(url, "x");
        config.device.firmware = "y".repeat(300);
        assert_eq!(config.check(), Err(ConfigError { field: "the firmware", length: 300 }));
    }

    #[test]
    fn there_is_always_a_thread() {
        let mut config = MinerConfig::new("127.0.0.1:1".parse().unwrap(), "x");
        assert!(config.thread_count() >= NonZeroUsize::MIN);
        config.threads = NonZeroUsize::new(3);
        assert_eq!(config.thread_count().get(), 3);
    }
}
