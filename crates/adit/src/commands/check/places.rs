//! What `adit check` tries of the places on this machine that roles need for themselves: addresses to listen at, and data folders.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::Report;
use crate::config::Roles;

/// Somebody who listens.
struct Listener {
    /// The command whose process it is in.
    command: &'static str,
    /// The key of the config that says where.
    key: &'static str,
    address: SocketAddr,
}

/// Everybody who listens, by the roles that the config has.
fn listeners(roles: &Roles) -> Vec<Listener> {
    let Roles { pool, provider, declarator, client, translator } = roles;
    let mut all = Vec::new();
    let mut add = |command, key, address: Option<SocketAddr>| {
        all.extend(address.map(|address| Listener { command, key, address }));
    };
    if let Some(pool) = pool {
        add("pool", "pool.listen", Some(pool.pool.listen));
        add("pool", "pool.api", pool.pool.api);
        add("pool", "jds.listen", pool.declarator.as_ref().map(|within| within.listen));
    }
    add("template-provider", "template_provider.listen", provider.as_ref().map(|provider| provider.listen));
    add("jds", "jds.listen", declarator.as_ref().map(|alone| alone.declarator.listen));
    add("jdc", "jdc.listen", client.as_ref().map(|client| client.listen));
    if let Some(translator) = translator {
        add("translator", "translator.listen", Some(translator.listen));
        add("translator", "translator.tls_listen", translator.tls.as_ref().map(|tls| tls.listen));
        add("translator", "translator.api", translator.api);
    }
    all
}

/// Every address to listen at, tried once. One process cannot run if it needs an address twice; two that need the same are told of, because
/// they may be meant for two machines.
pub(super) fn check_listeners(roles: &Roles, report: &mut Report) {
    let listeners = listeners(roles);
    for (index, listener) in listeners.iter().enumerate() {
        let Listener { command, key, address } = listener;
        let before = listeners.iter().take(index);
        let rivals: Vec<_> = before.filter(|other| are_rivals(other.address, *address)).collect();
        if rivals.iter().all(|other| other.address != *address) {
            check_listen(*address, report);
        }
        if let Some(other) = rivals.iter().find(|other| other.command == *command) {
            let text = format!(
                "{key} {address} is where `adit {command}` listens already, by {} {}; choose another port",
                other.key, other.address
            );
            report.bad("listen", &text);
        } else if let Some(other) = rivals.first() {
            let text = format!(
                "{key} {address} and {} {} are one port: `adit {command}` and `adit {}` cannot run at once on this machine; to do so, \
                 choose another port for one of them",
                other.key, other.address, other.command
            );
            report.warn("listen", &text);
        }
    }
}

/// Whether only one can listen at a time; an address that is unspecified stands for all, and in IPv6 for those of IPv4 too. A port that the
/// system is to choose is nobody's.
fn are_rivals(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip() == other.ip() || (one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
    };
    one.port() == other.port() && one.port() != 0 && (covers(one, other) || covers(other, one))
}

/// The address for miners or clients, unless somebody listens there already.
fn check_listen(address: SocketAddr, report: &mut Report) {
    match TcpListener::bind(address) {
        Ok(_) => report.good("listen", &format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            report.warn("listen", &format!("{address} is taken, which is right only while the server runs"));
        }
        Err(error) => report.bad("listen", &format!("cannot listen at {address}: {error}")),
    }
}

/// Every data folder, tried once; two roles that keep their blocks in the same one are told of.
pub(super) fn check_folders(roles: &Roles, report: &mut Report) {
    let Roles { pool, provider, declarator, client, translator: _ } = roles;
    let folders = [
        ("pool", pool.as_ref().map(|pool| &pool.data_dir)),
        ("template-provider", provider.as_ref().map(|provider| &provider.data_dir)),
        ("jds", declarator.as_ref().map(|alone| &alone.data_dir)),
        ("jdc", client.as_ref().map(|client| &client.data_dir)),
    ];
    let folders = folders.map(|(command, folder)| folder.map(|folder| (command, folder)));
    let folders: Vec<_> = folders.into_iter().flatten().collect();
    for (index, (command, folder)) in folders.iter().enumerate() {
        match folders.iter().take(index).find(|(_, other)| other == folder) {
            None => check_data_dir(folder, report),
            Some((other, _)) => {
                let text = format!(
                    "`adit {command}` and `adit {other}` both keep their blocks in {}, which only one can have open: they cannot run at \
                     once on this machine; to do so, give one a config of its own with another data_dir",
                    folder.display()
                );
                report.warn("disk", &text);
            }
        }
    }
}

/// The data folder, or the place where it will be made.
fn check_data_dir(dir: &Path, report: &mut Report) {
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    match existing {
        Some(found) if !found.is_dir() => {
            report.bad("disk", &format!("{} is not a folder; data_dir cannot be there", found.display()));
        }
        Some(found) => match tempfile::tempfile_in(found) {
            Ok(_) => report.good("disk", &format!("{} can be written", dir.display())),
            Err(error) => report.bad("disk", &format!("cannot write in {}: {error}", found.display())),
        },
        // A relative path in the current folder has no ancestor but the empty one.
        None => report.good("disk", &format!("{} will be made", dir.display())),
    }
    let shares = dir.join("shares");
    if shares.exists() {
        match adit_ledger::read(&shares) {
            Ok(_) => report.good("disk", &format!("{} is a share log", shares.display())),
            Err(error) => report.bad("disk", &error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_for_others() {
        let rivals = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(are_rivals(one, other), are_rivals(other, one));
            are_rivals(one, other)
        };
        assert!(rivals("127.0.0.1:1", "127.0.0.1:1"));
        assert!(rivals("0.0.0.0:1", "127.0.0.1:1"));
        assert!(
            rivals("[::]:1", "127.0.0.1:1") && rivals("[::]:1", "0.0.0.0:1") && rivals("[::]:1", "[::1]:1")
        );
        assert!(!rivals("0.0.0.0:1", "[::1]:1"), "IPv4 has no addresses of IPv6");
        assert!(!rivals("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!rivals("0.0.0.0:1", "0.0.0.0:2"));
        assert!(!rivals("0.0.0.0:0", "0.0.0.0:0"), "the system gives each another port");
    }
}
