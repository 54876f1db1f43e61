//! `adit init`: writes a config and keys that work as they are.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network};

use super::keys;
use crate::cli::{Chain, InitArgs};
use crate::config::{KEYS, Key};

/// How long the first certificate is good for, in days.
const CERTIFICATE_DAYS: u32 = 365;

/// The variable of the environment that holds the password of the node's user.
const PASSWORD_VARIABLE: &str = "ADIT_NODE_PASSWORD";

/// Writes `adit.toml` and `keys/` into the folder.
///
/// # Errors
///
/// If the address is not one of the network, a user has no password, a config is there already, or a file cannot be written.
pub(crate) fn run(args: &InitArgs) -> anyhow::Result<()> {
    check_address(&args.payout_address, args.network)?;
    let login = login(args)?;
    let file = args.dir.join("adit.toml");
    if file.exists() && !args.force {
        bail!("{} is there already; give --force to replace it, or another --dir", file.display());
    }
    std::fs::create_dir_all(args.dir.join("keys"))
        .with_context(|| format!("cannot make {}", args.dir.join("keys").display()))?;

    let authority = args.dir.join("keys/authority.key");
    let server = args.dir.join("keys/server.key");
    if !authority.exists() {
        keys::make_authority(&authority)?;
    }
    if !server.exists() {
        keys::make_server(&authority, &server, CERTIFICATE_DAYS)?;
    }
    keys::write_secret(&file, &config_text(args, login.as_ref()), args.force)?;

    println!("wrote {}", file.display());
    println!(
        "wrote {}: the server's key and certificate, good for {CERTIFICATE_DAYS} days",
        server.display()
    );
    println!("wrote {}: move it off this machine once the pool runs", authority.display());
    println!();
    println!("Miners connect to");
    println!("  stratum2+tcp://YOUR_HOST:34254/{}", keys::authority_public_key(&server)?);
    println!();
    println!("Next: adit check --config {}", file.display());
    Ok(())
}

/// Refuses what is not an address of the chain, before anything is written.
fn check_address(address: &str, chain: Chain) -> anyhow::Result<()> {
    let parsed = Address::<NetworkUnchecked>::from_str(address)
        .with_context(|| format!("--payout-address {address:?} is not a Bitcoin address"))?;
    let Ok(_) = parsed.require_network(network(chain)) else {
        bail!("--payout-address {address} is not an address of {}; see --network", chain_name(chain));
    };
    Ok(())
}

/// Who logs in at a node without a cookie file.
struct Login {
    user: String,
    password: String,
}

/// The login that was given. The variable alone is none: it may be there for another program or another time.
fn login(args: &InitArgs) -> anyhow::Result<Option<Login>> {
    let Some(user) = args.node_user.clone() else { return Ok(None) };
    let password = args.node_password.clone().or_else(|| std::env::var(PASSWORD_VARIABLE).ok());
    let password = password.with_context(|| {
        format!("--node-user needs --node-password, or {PASSWORD_VARIABLE} in the environment")
    })?;
    Ok(Some(Login { user, password }))
}

/// The config, with every key there is: set, or commented out with its default.
fn config_text(args: &InitArgs, login: Option<&Login>) -> String {
    let mut text = "# The config of an Adit pool. `adit check` finds what is wrong with it.\n".to_owned();
    let mut table = "";
    for key in KEYS {
        let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if parent != table {
            write!(text, "\n[{parent}]\n").expect("a String takes every text");
            table = parent;
        }
        let line = match value(key, args, login) {
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} = {}", key.default.unwrap_or(key.example)),
        };
        writeln!(text, "# {}\n{line}", key.meaning).expect("a String takes every text");
    }
    text
}

/// What the arguments say about a key, in TOML.
fn value(key: &Key, args: &InitArgs, login: Option<&Login>) -> Option<String> {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    match key.path {
        "network" => Some(quoted(chain_name(args.network))),
        "node.url" => Some(quoted(args.node_url.as_deref().unwrap_or_else(|| default_url(args.network)))),
        "node.cookie_file" if login.is_none() => {
            let file = args.node_cookie.clone().unwrap_or_else(|| default_cookie(args.network));
            let file = std::path::absolute(&file).unwrap_or(file);
            Some(quoted(&file.to_string_lossy()))
        }
        "node.user" => login.map(|login| quoted(&login.user)),
        "node.password" => login.map(|login| quoted(&login.password)),
        "pool.payout_address" => Some(quoted(&args.payout_address)),
        _ => None,
    }
}

/// The network by the name that the config uses.
fn network(chain: Chain) -> Network {
    match chain {
        Chain::Mainnet => Network::Bitcoin,
        Chain::Testnet4 => Network::Testnet4,
        Chain::Signet => Network::Signet,
        Chain::Regtest => Network::Regtest,
    }
}

fn chain_name(chain: Chain) -> &'static str {
    match chain {
        Chain::Mainnet => "mainnet",
        Chain::Testnet4 => "testnet4",
        Chain::Signet => "signet",
        Chain::Regtest => "regtest",
    }
}

/// Where a node on this machine offers JSON-RPC unless it is told otherwise.
fn default_url(chain: Chain) -> &'static str {
    match chain {
        Chain::Mainnet => "http://127.0.0.1:8332",
        Chain::Testnet4 => "http://127.0.0.1:48332",
        Chain::Signet => "http://127.0.0.1:38332",
        Chain::Regtest => "http://127.0.0.1:18443",
    }
}

/// Where a node of this user keeps its cookie unless it is told otherwise.
fn default_cookie(chain: Chain) -> PathBuf {
    let home = std::env::home_dir().unwrap_or_else(|| Path::new("/").to_owned());
    let folder = match chain {
        Chain::Mainnet => "",
        Chain::Testnet4 => "testnet4",
        Chain::Signet => "signet",
        Chain::Regtest => "regtest",
    };
    home.join(".bitcoin").join(folder).join(".cookie")
}
