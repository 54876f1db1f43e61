//! The translator in the config: its own part, and its upstreams.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use adit_net::Limits;
use adit_translator::server::{Mode, Pool, TranslatorConfig, UpstreamTarget, is_private};
use adit_translator::{MachineConfig, Override, Quirks};
use adit_units::{Difficulty, Hashrate};

use super::checked::{hosts, listen, log, required, shares_per_minute};
use super::declaration::{each, keyed, user};
use super::mistake::Mistake;
use super::payee::expectation;
use super::written::{Written, WrittenDevice, WrittenTranslator, WrittenUpstream};
use crate::logging::LogLevels;

/// Seconds after which machines are given their job again unless the operator has another view.
const KEEPALIVE_SECS: u64 = 30;

/// What upstreams are told at first of how fast the machines are, unless the operator knows.
const FIRST_GUESS: Hashrate = Hashrate::from_hashes_per_second(1_000_000_000_000);

/// Bytes that a machine may roll where an upstream speaks SV1, unless the operator has another view: such pools leave eight, and four of
/// them tell machines apart.
const LEGACY_EXTRANONCE2_LEN: u8 = 4;

/// Machines that may be on their way from connecting to saying who they are; one address may have a quarter of these places. A farm behind a
/// router comes back all at once when the translator was restarted, and a machine that is refused waits for a while before it tries again.
const NEWCOMERS: usize = 8_192;

/// No coinbase is shorter, in bytes.
const COINBASE_LEAST: usize = 100;

/// Everything that `adit translator` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct TranslatorSettings {
    /// How much is logged.
    pub(crate) log: Option<LogLevels>,
    /// Where machines connect.
    pub(crate) listen: SocketAddr,
    /// Where machines connect over TLS, if they do.
    pub(crate) tls: Option<TlsSettings>,
    /// Where its numbers are served, if they are.
    pub(crate) api: Option<SocketAddr>,
    /// Under which names of the internet.
    pub(crate) api_hosts: Vec<String>,
    /// Whether it may rest between looks at its machines.
    pub(crate) rests: bool,
    /// The role itself.
    pub(crate) role: TranslatorConfig,
}

/// What it takes to serve machines over TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsSettings {
    /// Where they connect.
    pub(crate) listen: SocketAddr,
    /// The certificate's file.
    pub(crate) certificate: PathBuf,
    /// The file of its private key.
    pub(crate) key: PathBuf,
}

/// Checks what a translator needs, which may stand alone in a config without a pool or a node.
pub(super) fn check(
    mut written: Written,
    folder: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<TranslatorSettings> {
    let table = written.translator.take().unwrap_or_default();
    let log = log(written.log.take(), mistakes);
    let listen = listen("translator.listen", table.listen.clone(), "0.0.0.0:34255", mistakes);
    let tls = tls(&table, folder, mistakes);
    let allows_public = table.allow_public.unwrap_or(false);
    for (path, address) in
        [("translator.listen", listen), ("translator.tls_listen", tls.as_ref().map(|tls| tls.listen))]
    {
        mistakes.extend(address.filter(|_| !allows_public).and_then(|address| public(path, address)));
    }
    let api = match table.api.as_deref() {
        Some("off") => None,
        text => super::checked::listen("translator.api", text.map(str::to_owned), "127.0.0.1:4081", mistakes),
    };
    let api_hosts = hosts("translator.api_hosts", table.api_hosts.clone().unwrap_or_default(), mistakes);
    let upstreams = each(written.upstream, written.upstreams, mistakes, upstream);
    let mode = mode(table.mode.as_deref(), mistakes);
    let keepalive = table.keepalive_secs.unwrap_or(KEEPALIVE_SECS);
    if !(5..=600).contains(&keepalive) {
        let text = format!("{keepalive} is out of range; use 5 to 600");
        mistakes.push(Mistake::at("translator.keepalive_secs", text));
    }
    let first_guess = terahashes("translator.terahashes", table.terahashes.as_deref(), mistakes);
    let limits = limits(&table, mistakes);
    let has_legacy = upstreams.iter().flatten().any(|upstream| upstream.pool.is_legacy());
    if has_legacy && mode == Some(Mode::PerMachine) {
        let text = "an SV1 upstream (stratum+tcp://) has one channel for all machines; use aggregated";
        mistakes.push(Mistake::at("translator.mode", text));
    }
    let mut machine = machine(&table, mistakes);
    if has_legacy && table.extranonce2_size.is_none() {
        machine.extranonce2_len = LEGACY_EXTRANONCE2_LEN;
    }
    let role = TranslatorConfig {
        upstreams: upstreams?,
        mode: mode?,
        machine,
        keepalive: core::time::Duration::from_secs(keepalive),
        first_guess: first_guess.unwrap_or(FIRST_GUESS),
        limits,
        insecure: false,
        allows_public,
        expects_proxy: table.proxy_protocol.unwrap_or(false),
        rest: None,
    };
    Some(TranslatorSettings {
        log,
        listen: listen?,
        tls,
        api,
        api_hosts,
        rests: table.rest.unwrap_or(true),
        role,
    })
}

/// What is wrong with listening where only those can come who are turned away.
fn public(path: &str, address: SocketAddr) -> Option<Mistake> {
    let address = address.ip();
    let text = format!(
        "{address} is a public address, and machines from such are turned away; use one of your own network, 0.0.0.0 for all, or set \
         translator.allow_public to true"
    );
    (!address.is_unspecified() && !is_private(address)).then(|| Mistake::at(path, text))
}

/// Where machines connect over TLS; the three keys go together.
fn tls(table: &WrittenTranslator, folder: &Path, mistakes: &mut Vec<Mistake>) -> Option<TlsSettings> {
    let files = [
        ("translator.tls_certificate", &table.tls_certificate, "the certificate that machines are shown"),
        ("translator.tls_key", &table.tls_key, "the private key of the certificate"),
    ];
    let address = table.tls_listen.clone().filter(|text| text != "off");
    let Some(address) = address else {
        // Someone who says off may want to say otherwise later.
        let is_forgotten = table.tls_listen.is_none();
        for (path, _, _) in files.iter().filter(|(_, file, _)| is_forgotten && file.is_some()) {
            let text = "does nothing without translator.tls_listen; give that too, or leave this out";
            mistakes.push(Mistake::at(*path, text));
        }
        return None;
    };
    let listen = listen("translator.tls_listen", Some(address), "0.0.0.0:34256", mistakes);
    let [certificate, key] = files
        .map(|(path, file, what)| required(path, file.clone(), what, mistakes).map(|file| folder.join(file)));
    Some(TlsSettings { listen: listen?, certificate: certificate?, key: key? })
}

fn mode(text: Option<&str>, mistakes: &mut Vec<Mistake>) -> Option<Mode> {
    match text {
        None | Some("aggregated") => Some(Mode::Aggregated),
        Some("per-machine") => Some(Mode::PerMachine),
        Some(other) => {
            let text = format!("{other:?} is not known; use aggregated or per-machine");
            mistakes.push(Mistake::at("translator.mode", text));
            None
        }
    }
}

/// How many machines are served; all of them may come from one address, because a farm behind a router does. Only a quarter of those that
/// have not said yet who they are may, so that no host keeps all others out with connections that say nothing.
fn limits(table: &WrittenTranslator, mistakes: &mut Vec<Mistake>) -> Limits {
    let (newcomers, newcomers_per_address) = (NEWCOMERS, NEWCOMERS / 4);
    let mut limits = Limits { newcomers, newcomers_per_address, ..Limits::default() };
    let mut take = |path: &str, written: Option<u32>, limit: &mut usize| {
        let Some(number) = written else { return };
        if number == 0 {
            mistakes.push(Mistake::at(path, "0 is out of range; use at least 1".to_owned()));
        }
        *limit = usize::try_from(number).unwrap_or(usize::MAX);
    };
    take("translator.connections", table.connections, &mut limits.connections);
    limits.connections_per_address = limits.connections;
    let path = "translator.connections_per_address";
    take(path, table.connections_per_address, &mut limits.connections_per_address);
    limits
}

/// What holds for all machines.
fn machine(table: &WrittenTranslator, mistakes: &mut Vec<Mistake>) -> MachineConfig {
    let mut machine = MachineConfig::default();
    if let Some(rate) = shares_per_minute("translator.shares_per_minute", table.shares_per_minute, mistakes) {
        machine.rate = rate;
    }
    if let Some(size) = table.extranonce2_size {
        if !(2..=16).contains(&size) {
            let text =
                format!("{size} is out of range; use 2 to 16, and 8 unless an upstream has no room for it");
            mistakes.push(Mistake::at("translator.extranonce2_size", text));
        }
        machine.extranonce2_len = size;
    }
    if let Some(mask) = &table.version_mask {
        match u32::from_str_radix(mask.trim_start_matches("0x"), 16) {
            Ok(mask) => machine.version_mask = mask & adit_share::VERSION_ROLLING_MASK,
            Err(_) => {
                let text = format!("{mask:?} is not a mask in hexadecimal, such as 1fffe000");
                mistakes.push(Mistake::at("translator.version_mask", text));
            }
        }
    }
    let least = difficulty("translator.least_difficulty", table.least_difficulty.as_deref(), mistakes);
    machine.least_difficulty = least.unwrap_or(machine.least_difficulty);
    machine.follows_speed = table.vardiff.unwrap_or(true);
    machine.devices = table
        .devices
        .iter()
        .enumerate()
        .filter_map(|(index, written)| device(&format!("translator.devices.{index}"), written, mistakes))
        .collect();
    machine
}

/// What the operator knows of some devices.
fn device(path: &str, written: &WrittenDevice, mistakes: &mut Vec<Mistake>) -> Option<Override> {
    let what = "a part of what the device calls itself";
    let pattern = required(&format!("{path}.user_agent"), written.user_agent.clone(), what, mistakes)?;
    let least_difficulty =
        difficulty(&format!("{path}.least_difficulty"), written.least_difficulty.as_deref(), mistakes);
    let nominal = terahashes(&format!("{path}.terahashes"), written.terahashes.as_deref(), mistakes);
    let coinbase_max = written.coinbase_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if coinbase_max.is_some_and(|bytes| bytes < COINBASE_LEAST) {
        let text = format!("a coinbase has at least {COINBASE_LEAST} bytes");
        mistakes.push(Mistake::at(format!("{path}.coinbase_bytes"), text));
    }
    let quirks = quirks(&format!("{path}.quirks"), written.quirks.as_deref(), mistakes);
    Some(Override { pattern: pattern.into(), nominal, least_difficulty, coinbase_max, quirks })
}

/// All that is peculiar about a device, if anything is said of that.
fn quirks(path: &str, names: Option<&[String]>, mistakes: &mut Vec<Mistake>) -> Option<Quirks> {
    let named = Quirks::named(names?.iter().map(String::as_str));
    named.map_err(|error| mistakes.push(Mistake::at(path, error.to_string()))).ok()
}

/// The most terahashes a second that can be written down.
const TERAHASHES_MAX: u64 = u64::MAX / 1_000_000_000_000;

/// A speed in terahashes a second, of which a trillionth is a hash.
fn terahashes(path: &str, text: Option<&str>, mistakes: &mut Vec<Mistake>) -> Option<Hashrate> {
    let trillionths = difficulty(path, text, mistakes)?.to_trillionths();
    let Ok(hashes) = u64::try_from(trillionths) else {
        let text = format!("{} is out of range; use at most {TERAHASHES_MAX}", text.unwrap_or_default());
        mistakes.push(Mistake::at(path, text));
        return None;
    };
    Some(Hashrate::from_hashes_per_second(hashes))
}

fn difficulty(path: &str, text: Option<&str>, mistakes: &mut Vec<Mistake>) -> Option<Difficulty> {
    let text = text?;
    Difficulty::from_str(text).map_err(|error| mistakes.push(Mistake::at(path, error.to_string()))).ok()
}

/// Where an upstream is.
fn pool(path: &str, text: Option<String>, mistakes: &mut Vec<Mistake>) -> Option<Pool> {
    let text = required(path, text, "the pool that pays", mistakes)?;
    match text.parse() {
        Ok(Pool::Sv2(url)) => keyed(path, url, mistakes).map(Pool::Sv2),
        Ok(pool @ Pool::Sv1(_)) => Some(pool),
        Err(error) => {
            mistakes.push(Mistake::at(path, error.to_string()));
            None
        }
    }
}

/// One upstream, whose keys are at `path`.
fn upstream(path: &str, written: WrittenUpstream, mistakes: &mut Vec<Mistake>) -> Option<UpstreamTarget> {
    let at = |key: &str| format!("{path}.{key}");
    let pool = pool(&at("pool"), written.pool, mistakes);
    let user = user(&at("user"), written.user, mistakes);
    if written.password.is_some() && pool.as_ref().is_some_and(|pool| !pool.is_legacy()) {
        let text = "does nothing for a pool that speaks SV2, which knows no passwords; leave it out";
        mistakes.push(Mistake::at(at("password"), text));
    }
    let percent = written.least_payout_percent;
    if percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
        let text = format!("{} is out of range; use 1 to 100", percent.unwrap_or_default());
        mistakes.push(Mistake::at(at("least_payout_percent"), text));
    }
    let expects = match written.pays.as_deref().map(|pays| expectation(pays, user.as_deref(), percent)) {
        None => None,
        Some(Ok(expects)) => Some(expects),
        Some(Err(error)) => {
            mistakes.push(Mistake::at(at("pays"), error.to_string()));
            return None;
        }
    };
    Some(UpstreamTarget { pool: pool?, user: user?, password: written.password, expects })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::translator_of;

    fn of(pools: &[&str], keys: &[(&str, &str)]) -> Result<TranslatorConfig, String> {
        let pools: Vec<_> = pools.iter().map(|&pool| pool.to_owned()).collect();
        let keys: Vec<_> = keys.iter().map(|&(path, value)| (path, value.to_owned())).collect();
        let settings = translator_of(&pools, "farm.house", &keys);
        settings.map(|settings| settings.role).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn an_sv1_pool_is_an_upstream_that_leaves_machines_four_bytes() {
        let (new, old) = ("stratum2+tcp://127.0.0.1:34254", "stratum+tcp://pool.example:3333");
        let role = of(&[new, old], &[]).unwrap();
        let is_legacy: Vec<_> = role.upstreams.iter().map(|upstream| upstream.pool.is_legacy()).collect();
        assert_eq!((is_legacy, role.machine.extranonce2_len), (vec![false, true], 4));
        assert_eq!(role.upstreams[1].pool.to_string(), old);
        assert_eq!(of(&[new], &[]).unwrap().machine.extranonce2_len, 8);
        let chosen = of(&[old], &[("translator.extranonce2_size", "3")]).unwrap();
        assert_eq!(chosen.machine.extranonce2_len, 3);
    }

    #[test]
    fn a_farm_could_not_say_how_fast_it_is_and_flooded_its_pool_at_each_start() {
        let pool = ["stratum2+tcp://127.0.0.1:34254"];
        let guess = |keys: &[(&str, &str)]| of(&pool, keys).map(|role| role.first_guess);
        assert_eq!(guess(&[]).unwrap(), FIRST_GUESS);
        let farm = Hashrate::from_hashes_per_second(110_500_000_000_000_000);
        assert_eq!(guess(&[("translator.terahashes", "110500")]).unwrap(), farm);
        for wrong in ["0", "-1", "many", "18446745"] {
            let error = guess(&[("translator.terahashes", wrong)]).unwrap_err();
            assert!(error.contains("--terahashes"), "{error}");
        }
    }

    #[test]
    fn one_host_took_the_places_of_all_newcomers() {
        let limits = of(&["stratum2+tcp://127.0.0.1:34254"], &[]).unwrap().limits;
        assert_eq!(limits.newcomers_per_address * 4, limits.newcomers);
        assert_eq!(
            limits.connections_per_address, limits.connections,
            "a farm behind a router is one address"
        );
    }

    #[test]
    fn a_large_farm_behind_a_router_got_the_places_of_a_small_one() {
        let limits = |keys: &[(&str, &str)]| of(&["stratum2+tcp://127.0.0.1:34254"], keys).unwrap().limits;
        let large = limits(&[("translator.connections", "40000")]);
        assert_eq!((large.connections, large.connections_per_address), (40_000, 40_000));
        let few = limits(&[("translator.connections", "10")]);
        assert_eq!((few.connections, few.connections_per_address), (10, 10));
        let shared =
            limits(&[("translator.connections", "40000"), ("translator.connections_per_address", "7")]);
        assert_eq!((shared.connections, shared.connections_per_address), (40_000, 7));
    }

    #[test]
    fn what_an_sv1_pool_cannot_do_is_said() {
        let old = "stratum+tcp://pool.example:3333";
        let each = of(&[old], &[("translator.mode", "per-machine")]).unwrap_err();
        assert!(each.contains("--mode") && each.contains("use aggregated"), "{each}");
        let keyed = of(&["stratum+tcp://pool.example:3333/key"], &[]).unwrap_err();
        assert!(keyed.contains("has no key"), "{keyed}");
        let other = of(&["http://pool.example:3333"], &[]).unwrap_err();
        assert!(other.contains("stratum2+tcp://host:port/KEY"), "{other}");
        let keyless = of(&["stratum2+tcp://pool.example:3333"], &[]).unwrap_err();
        assert!(keyless.contains("key is missing"), "{keyless}");
    }
}
