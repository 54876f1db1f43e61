//! Under which names the server may be asked, so that a web page cannot read it by giving a name of its own our address.

use std::net::{IpAddr, Ipv6Addr};

/// Endings of names that nobody can register on the internet.
const PRIVATE_ENDINGS: &[&str] = &[".localhost", ".local", ".internal", ".home.arpa"];

/// The names under which the server may be asked.
///
/// A browser that was led to our address by a hostile name (DNS rebinding) sends that name as `Host`. Addresses, names of one label and names that
/// only a local network gives are always right; others are if the operator named them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    named: Vec<String>,
}

impl Hosts {
    pub(crate) fn new(named: &[String]) -> Self {
        Self { named: named.iter().map(|name| canonical(name)).collect() }
    }

    /// Whether a request with this `Host` is meant for us.
    pub(crate) fn allow(&self, host: &str) -> bool {
        let name = canonical(without_port(host));
        let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = bracketed {
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let is_private =
            !name.contains(['.', ':']) || PRIVATE_ENDINGS.iter().any(|ending| name.ends_with(ending));
        is_private || name.parse::<IpAddr>().is_ok() || self.named.contains(&name)
    }
}

/// The host of `host:port`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_anybody_can_register_must_be_named() {
        let hosts = Hosts::new(&["Farm.Example.org".to_owned()]);
        for host in [
            "",
            "localhost",
            "localhost:4080",
            "127.0.0.1:4080",
            "192.0.2.7",
            "[::1]:4080",
            "[::1]",
            "sv2-translator:9092",
            "farm.local",
            "x.localhost:1",
            "farm.example.org",
            "FARM.example.org.:4080",
            "a.internal",
        ] {
            assert!(hosts.allow(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:4080",
            "127.0.0.1.evil.example",
            "[evil.example]",
            "::1.evil.example",
        ] {
            assert!(!hosts.allow(host), "{host}");
        }
    }
}
