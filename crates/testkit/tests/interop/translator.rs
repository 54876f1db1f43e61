//! SV1 miners that somebody else wrote, through our translator and the reference implementation's.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use adit_channel::{ShareKind, ShareRecord};
use adit_testkit::bitcoind::{Chain, Kind};

use crate::blocks::assert_ours;
use crate::declaration::{self, folder, height, payee};
use crate::pool::Pool;
use crate::program::{self, Program, foreign, free_address, listens, tell, wait_for};
use crate::reference_pool::{OwnDefect, POOL_PUBLIC_KEY, ReferencePool, beginning_anew};
use crate::{BLOCKS, MINER, SHARES, sv1};

/// Who the translator says it is to its first upstream.
const USER: &str = "account.farm";
/// Who it says it is to its second one.
const SPARE_USER: &str = "spare.farm";
/// Who no pool pays: a miner for himself at no address.
const REFUSED_USER: &str = "sri/solo/nobody/farm";

/// The longest time that machines may be without shares when a pool is lost, on a machine that also mines.
const STANDSTILL: Duration = Duration::from_secs(10);

/// What a foreign miner writes about what happened to it.
struct Words {
    accepted: &'static str,
    refused: &'static str,
    /// Begins why a share was refused.
    reason: &'static str,
    lost: &'static [&'static str],
}

/// Parasite pool's `para miner`.
const PARA: Words = Words {
    accepted: "submitted successfully",
    refused: "Failed to submit share",
    reason: "Failed to submit share",
    lost: &["Disconnected from stratum server", "client.reconnect", "upstream attempt failed"],
};
/// `minerd`, pooler's cpuminer.
const MINERD: Words = Words {
    accepted: "(yay!!!)",
    refused: "(booooo)",
    reason: "reject reason: ",
    lost: &["Stratum connection interrupted", "Stratum connection timed out", "Stratum connection failed"],
};

/// A foreign SV1 miner on one processor.
struct Miner {
    program: Program,
    words: Words,
}

impl Miner {
    /// Starts the one that `ADIT_CPUMINER` names. Its workers are `first` and so on, of an address, as the one in `para` has it.
    fn start(program: &Path, worker: &'static str, address: &str, folder: &Path) -> Self {
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (user, mut command) = (format!("{MINER}.{worker}"), Command::new(program));
        let words = if name.starts_with("minerd") {
            command.args(["--algo", "sha256d", "--threads", "1", "--pass", "x", "--user", &user]);
            command.args(["--debug", "--retry-pause", "1", "--url", &format!("stratum+tcp://{address}")]);
            MINERD
        } else {
            command.env("RUST_LOG", "info").args(["miner", address, "--username", &user, "--cpu-cores", "1"]);
            PARA
        };
        Self { program: Program::start(worker, &mut command, folder), words }
    }

    fn accepted(&self) -> usize {
        self.program.output().matches(self.words.accepted).count()
    }

    fn refused(&self) -> usize {
        self.program.output().matches(self.words.refused).count()
    }

    /// Fails the test if a share was refused that should not have been.
    #[track_caller]
    fn assert_refused_only_when_late(&self) {
        let output = self.program.output();
        let mut reasons = output.lines().filter(|line| line.contains(self.words.reason));
        assert!(reasons.all(|line| HONEST.iter().any(|reason| line.contains(reason))), "{output}");
    }

    /// Fails the test if the miner has ever had to connect again.
    #[track_caller]
    fn assert_never_lost(&mut self) {
        self.program.assert_running();
        let output = self.program.output();
        let lost = self.words.lost.iter().find(|words| output.contains(**words));
        assert!(lost.is_none(), "the miner has lost its connection:\n{output}");
    }
}

/// Why a share of an honest miner may be refused: a block came while it was under way, or the miner was stopped then.
const HONEST: [&str; 3] = ["Stale", "Job not found", "not connected"];

/// Two of them.
fn two_miners(program: &Path, address: &str, folder: &Path) -> [Miner; 2] {
    ["first", "second"].map(|worker| Miner::start(program, worker, address, folder))
}

/// An upstream, as the config has it.
fn upstream(pool: &str, key: &str, user: &str) -> String {
    format!("[[upstreams]]\npool = \"stratum2+tcp://{pool}/{key}\"\nuser = \"{user}\"\n")
}

/// Our translator.
struct Translator {
    program: Program,
    /// `HOST:PORT` that SV1 miners connect to.
    address: String,
}

impl Translator {
    /// Starts it on these upstreams, the best first.
    fn start(folder: &Path, mode: &str, upstreams: &[String]) -> Self {
        Self::start_with(folder, &format!("mode = \"{mode}\"\n"), upstreams)
    }

    /// As [`Self::start`], with these keys of its table.
    fn start_with(folder: &Path, keys: &str, upstreams: &[String]) -> Self {
        let (folder, address) = (folder.join("translator"), free_address());
        fs::create_dir_all(&folder).expect("the test's folder can be written");
        // It takes what it does not know for a machine of a farm, so it is told how fast a processor is.
        let device = "[[translator.devices]]\nuser_agent = \"para\"\nterahashes = \"0.000002\"\n";
        let config = format!(
            "[translator]\nlisten = \"{address}\"\napi = \"off\"\nshares_per_minute = 60\n{keys}{device}{}",
            upstreams.concat()
        );
        let file = folder.join("adit.toml");
        fs::write(&file, config).expect("the test's folder can be written");
        let mut command = Command::new(program::adit());
        Self::run(command.current_dir(&folder).arg("translator").arg("--config").arg(file), &folder, address)
    }

    /// Starts it without a config.
    fn start_bare(folder: &Path, url: &str) -> Self {
        let address = free_address();
        let mut command = Command::new(program::adit());
        command.current_dir(folder).args([
            "translator",
            "--pool",
            url,
            "--user",
            USER,
            "--listen",
            &address,
            "--api",
            "off",
        ]);
        Self::run(&mut command, folder, address)
    }

    fn run(command: &mut Command, folder: &Path, address: String) -> Self {
        let program = Program::start("adit translator", command.env("ADIT_LOG", "debug"), folder);
        let mut translator = Self { program, address };
        listens("the translator's port", &translator.address, &mut translator.program);
        translator
    }

    /// Ends it as a service supervisor would; it must go in peace.
    fn stop(&mut self) {
        let status = self.program.stop();
        assert!(status.success(), "adit translator ended with {status}");
    }
}

/// The reference implementation's translator.
fn reference_translator(program: &Path, pool: &Pool, aggregates: bool) -> (Program, String) {
    let (address, config) = (free_address(), pool.folder().join("translator.toml"));
    fs::write(&config, sv1::translator_config((&pool.address, &pool.authority), aggregates, &address))
        .expect("the test's folder can be written");
    let mut command = Command::new(program);
    let mut translator =
        Program::start("translator_sv2", command.arg("--config").arg(&config), pool.folder());
    listens("the translator's port", &address, &mut translator);
    (translator, address)
}

/// Waits until blocks were mined, each miner has had shares accepted, and the pool has so many that it is `enough`; then that the blocks
/// are the pool's and in its log.
fn mine(
    pool: &mut Pool,
    translator: &mut Program,
    miners: &mut [Miner],
    (blocks, enough): (u32, fn(&[ShareRecord]) -> bool),
) -> Vec<ShareRecord> {
    let start = pool.start_height;
    wait_for("blocks and shares of each miner", || {
        translator.assert_running();
        pool.assert_running();
        miners.iter_mut().for_each(|miner| miner.program.assert_running());
        let all_have = miners.iter().all(|miner| miner.accepted() >= SHARES);
        (all_have && pool.height() >= start + blocks && enough(&pool.records_so_far())).then_some(())
    });
    for miner in miners {
        miner.assert_never_lost();
        miner.program.stop();
        eprintln!("measured: {} shares accepted, {} refused", miner.accepted(), miner.refused());
    }
    translator.assert_running();
    translator.stop();
    pool.stop();
    let records = pool.records();
    for height in start + 1..=start + blocks {
        let hash = bitcoin::hashes::Hash::to_byte_array(assert_ours(pool, height).block_hash());
        let found =
            records.iter().find(|record| record.hash == hash).expect("the block's share is in the log");
        assert_eq!((found.kind, found.height.0), (ShareKind::Block, height));
    }
    records
}

/// That all shares are credited to that user, and tell who of the miners has found them.
fn assert_credited(records: &[ShareRecord], user: &str) {
    assert!(records.iter().all(|record| record.user.as_str().starts_with(user)), "{records:?}");
    assert!(names_both(records), "{records:?}");
}

/// Whether shares tell of both miners. The pool's are harder than the miners', so that one may have none long after the other.
fn names_both(records: &[ShareRecord]) -> bool {
    ["first", "second"].iter().all(|worker| {
        records.iter().any(|record| {
            record.worker.as_ref().is_some_and(|name| name.as_str().ends_with(worker))
                || record.user.as_str().ends_with(worker)
        })
    })
}

fn through_our_translator(test: &str, kind: Kind, chain: Chain, mode: &str) {
    let Some(program) = foreign(test, "ADIT_CPUMINER") else { return };
    let Some(mut pool) = Pool::start(test, kind, chain) else { return };
    let mut translator =
        Translator::start(pool.folder(), mode, &[upstream(&pool.address, &pool.authority, USER)]);
    let mut miners = two_miners(&program, &translator.address, pool.folder());
    let blocks = if chain == Chain::Regtest { BLOCKS } else { 1 };
    assert_credited(&mine(&mut pool, &mut translator.program, &mut miners, (blocks, names_both)), USER);
    miners.iter().for_each(Miner::assert_refused_only_when_late);
    let channels = pool.output().matches("channel opened").count();
    assert_eq!(channels, if mode == "aggregated" { 1 } else { miners.len() }, "{}", pool.output());
}

#[test]
fn a_foreign_miner_mines_on_regtest_through_our_translator_on_one_channel() {
    const TEST: &str = "a_foreign_miner_mines_on_regtest_through_our_translator_on_one_channel";
    through_our_translator(TEST, Kind::Knots, Chain::Regtest, "aggregated");
}

#[test]
fn a_foreign_miner_mines_on_regtest_through_our_translator_on_a_channel_of_its_own() {
    const TEST: &str = "a_foreign_miner_mines_on_regtest_through_our_translator_on_a_channel_of_its_own";
    through_our_translator(TEST, Kind::Core, Chain::Regtest, "per-machine");
}

#[test]
fn a_foreign_miner_mines_on_a_signet_through_our_translator_on_one_channel() {
    const TEST: &str = "a_foreign_miner_mines_on_a_signet_through_our_translator_on_one_channel";
    through_our_translator(TEST, Kind::Core, Chain::PrivateSignet, "aggregated");
}

#[test]
fn a_foreign_miner_mines_on_a_signet_through_our_translator_on_a_channel_of_its_own() {
    const TEST: &str = "a_foreign_miner_mines_on_a_signet_through_our_translator_on_a_channel_of_its_own";
    through_our_translator(TEST, Kind::Knots, Chain::PrivateSignet, "per-machine");
}

#[test]
fn our_translator_needs_no_config() {
    const TEST: &str = "our_translator_needs_no_config";
    let Some(program) = foreign(TEST, "ADIT_CPUMINER") else { return };
    let Some(mut pool) = Pool::start(TEST, Kind::Knots, Chain::Regtest) else { return };
    let mut translator = Translator::start_bare(pool.folder(), &pool.url);
    let mut miners = two_miners(&program, &translator.address, pool.folder());
    assert_credited(&mine(&mut pool, &mut translator.program, &mut miners, (BLOCKS, names_both)), USER);
}

/// Through the reference implementation's translator to our pool.
fn through_the_reference_translator(test: &str, chain: Chain, aggregates: bool) {
    let Some(program) = foreign(test, "ADIT_CPUMINER") else { return };
    let Some(translator) = foreign(test, "ADIT_SRI_TRANSLATOR") else { return };
    let Some(mut pool) = Pool::start(test, Kind::Knots, chain) else { return };
    let (mut translator, address) = reference_translator(&translator, &pool, aggregates);
    let mut miners = two_miners(&program, &address, pool.folder());
    let blocks = if chain == Chain::Regtest { BLOCKS } else { 1 };
    let records = mine(&mut pool, &mut translator, &mut miners, (blocks, |_| true));
    assert!(records.iter().all(|record| record.user.as_str().starts_with("translator.")), "{records:?}");
}

#[test]
fn a_foreign_miner_mines_on_regtest_through_the_reference_translator() {
    const TEST: &str = "a_foreign_miner_mines_on_regtest_through_the_reference_translator";
    through_the_reference_translator(TEST, Chain::Regtest, false);
}

#[test]
fn a_foreign_miner_mines_on_a_signet_through_the_reference_translator() {
    const TEST: &str = "a_foreign_miner_mines_on_a_signet_through_the_reference_translator";
    through_the_reference_translator(TEST, Chain::PrivateSignet, true);
}

/// Through our translator to the reference implementation's pool.
fn on_the_reference_pool(test: &str, chain: Chain, mode: &str) {
    let Some(program) = foreign(test, "ADIT_CPUMINER") else { return };
    let Some(pool) = foreign(test, "ADIT_SRI_POOL") else { return };
    beginning_anew(test, || one_run_on_the_reference_pool(test, chain, mode, [&program, &pool]));
}

fn one_run_on_the_reference_pool(
    test: &str,
    chain: Chain,
    mode: &str,
    [program, pool]: [&PathBuf; 2],
) -> Result<(), OwnDefect> {
    let Some(node) = Kind::Core.start(test, chain, &[]) else { return Ok(()) };
    crate::pool::prepare(&node);
    let (start, folder, payout) = (height(&node), folder(), payee(0x51, chain));
    let templates = declaration::reference_templates(&node);
    let mut pool = ReferencePool::start(pool, folder.path(), &payout, &templates)?;
    let mut translator =
        Translator::start(folder.path(), mode, &[upstream(&pool.address, POOL_PUBLIC_KEY, USER)]);
    let mut miners = two_miners(program, &translator.address, folder.path());
    let blocks = if chain == Chain::Regtest { BLOCKS } else { 1 };
    wait_for("blocks of the reference pool and shares of each miner", || {
        let [first, second] = &mut miners;
        let programs = &mut [&mut translator.program, &mut first.program, &mut second.program];
        if let Err(defect) = pool.check(programs) {
            return Some(Err(defect));
        }
        let all_have = miners.iter().all(|miner| miner.accepted() >= SHARES);
        (all_have && height(&node) >= start + blocks).then_some(Ok(()))
    })?;
    for miner in &mut miners {
        miner.assert_never_lost();
        miner.program.stop();
        eprintln!("measured: {} shares accepted, {} refused", miner.accepted(), miner.refused());
    }
    miners.iter().for_each(Miner::assert_refused_only_when_late);
    translator.stop();
    pool.stop();
    for height in start + 1..=start + blocks {
        declaration::assert_pays(&node, height, &payout);
    }
    Ok(())
}

#[test]
fn a_foreign_miner_mines_on_regtest_through_our_translator_on_the_reference_pool() {
    const TEST: &str = "a_foreign_miner_mines_on_regtest_through_our_translator_on_the_reference_pool";
    on_the_reference_pool(TEST, Chain::Regtest, "aggregated");
}

#[test]
fn a_foreign_miner_mines_on_a_signet_through_our_translator_on_the_reference_pool() {
    const TEST: &str = "a_foreign_miner_mines_on_a_signet_through_our_translator_on_the_reference_pool";
    on_the_reference_pool(TEST, Chain::PrivateSignet, "per-machine");
}

/// Waits until more shares stand in a pool's log, and tells how long the next one took.
#[expect(clippy::disallowed_methods, reason = "what is measured here is how long things take")]
fn shares_go_on(what: &str, pool: &declaration::Pool, miners: &mut [Miner]) -> Duration {
    let (before, started) = (pool.records_so_far().len(), Instant::now());
    wait_for(what, || (pool.records_so_far().len() > before).then_some(()));
    let took = started.elapsed();
    tell(&format!("measured: {what}: the next share after {took:?}"));
    wait_for(what, || (pool.records_so_far().len() > before + SHARES).then_some(()));
    miners.iter_mut().for_each(Miner::assert_never_lost);
    took
}

/// As [`shares_go_on`], until there are new ones of both miners.
fn both_go_on(what: &str, pool: &declaration::Pool, miners: &mut [Miner]) -> Duration {
    let before = pool.records_so_far().len();
    let took = shares_go_on(what, pool, miners);
    wait_for(what, || names_both(&pool.records_so_far()[before..]).then_some(()));
    took
}

/// Two pools on a node, of which the preferred one is killed and brought back while two miners work.
fn pools_come_and_go(test: &str, mode: &str) {
    let Some(program) = foreign(test, "ADIT_CPUMINER") else { return };
    let Some(node) = Kind::Core.start(test, Chain::PrivateSignet, &[]) else { return };
    crate::pool::prepare(&node);
    let folder = folder();
    let preferred = declaration::Pool::start(Kind::Core, &node, &folder.path().join("preferred"));
    let mut spare = declaration::Pool::start(Kind::Core, &node, &folder.path().join("spare"));
    let (first, second) = (&preferred.upstream, &spare.upstream);
    let upstreams =
        [upstream(&first.pool, &first.key, USER), upstream(&second.pool, &second.key, SPARE_USER)];
    let mut translator = Translator::start(folder.path(), mode, &upstreams);
    let mut miners = two_miners(&program, &translator.address, folder.path());
    both_go_on("the preferred pool is there", &preferred, &mut miners);
    assert!(spare.records_so_far().is_empty(), "the spare pool has work already");

    let (upstream, kept) = preferred.kill();
    let took = both_go_on("the preferred pool is killed", &spare, &mut miners);
    assert!(took < STANDSTILL, "{took:?}");

    let mut preferred = declaration::Pool::run(upstream, kept);
    both_go_on("the preferred pool is back", &preferred, &mut miners);
    let left = spare.records_so_far().len();
    both_go_on("the preferred pool is used again", &preferred, &mut miners);
    assert_eq!(spare.records_so_far().len(), left, "the spare pool still has work");

    for miner in &mut miners {
        miner.program.stop();
        eprintln!("measured: {} shares accepted, {} refused", miner.accepted(), miner.refused());
    }
    translator.stop();
    for (pool, user) in [(&mut preferred, USER), (&mut spare, SPARE_USER)] {
        pool.program.assert_running();
        pool.program.stop();
        assert_credited(&pool.records(), user);
    }
}

#[test]
fn a_pool_is_killed_and_comes_back_and_miners_on_one_channel_do_not_notice() {
    const TEST: &str = "a_pool_is_killed_and_comes_back_and_miners_on_one_channel_do_not_notice";
    pools_come_and_go(TEST, "aggregated");
}

#[test]
fn a_pool_is_killed_and_comes_back_and_miners_on_channels_of_their_own_do_not_notice() {
    const TEST: &str = "a_pool_is_killed_and_comes_back_and_miners_on_channels_of_their_own_do_not_notice";
    pools_come_and_go(TEST, "per-machine");
}

/// The first upstream is a job declarator server, which refuses to set up a connection for mining; the second opens no channel for such a user.
#[test]
fn upstreams_that_refuse_are_passed_over() {
    const TEST: &str = "upstreams_that_refuse_are_passed_over";
    let Some(program) = foreign(TEST, "ADIT_CPUMINER") else { return };
    let Some(node) = Kind::Knots.start(TEST, Chain::PrivateSignet, &[]) else { return };
    crate::pool::prepare(&node);
    let folder = folder();
    let mut pool = declaration::Pool::start(Kind::Knots, &node, folder.path());
    let declaration::Upstream { pool: address, declarator, key } = &pool.upstream;
    let upstreams = [
        upstream(declarator, key, USER),
        upstream(address, key, REFUSED_USER),
        upstream(address, key, SPARE_USER),
    ];
    let mut translator = Translator::start(folder.path(), "aggregated", &upstreams);
    let mut miners = two_miners(&program, &translator.address, folder.path());
    both_go_on("the third upstream is used", &pool, &mut miners);
    for miner in &mut miners {
        miner.program.stop();
    }
    translator.stop();
    assert!(pool.program.output().contains("channel refused"), "{}", pool.program.output());
    pool.program.stop();
    assert_credited(&pool.records(), SPARE_USER);
}

/// The first upstream pays somebody else; the second pays who is expected, as its user asks for a block of its own.
#[test]
fn an_upstream_that_pays_somebody_else_is_passed_over() {
    const TEST: &str = "an_upstream_that_pays_somebody_else_is_passed_over";
    let Some(program) = foreign(TEST, "ADIT_CPUMINER") else { return };
    let Some(node) = Kind::Knots.start(TEST, Chain::PrivateSignet, &[]) else { return };
    crate::pool::prepare(&node);
    let (start, folder, payee) = (height(&node), folder(), payee(0x53, node.chain()));
    let mut pool = declaration::Pool::start(Kind::Knots, &node, folder.path());
    let declaration::Upstream { pool: address, key, .. } = &pool.upstream;
    let user = format!("sri/solo/{payee}/farm");
    let expects = format!("pays = \"{payee}\"\n");
    let upstreams = [upstream(address, key, USER) + &expects, upstream(address, key, &user) + &expects];
    let mut translator = Translator::start(folder.path(), "aggregated", &upstreams);
    let mut miners = two_miners(&program, &translator.address, folder.path());
    both_go_on("the second upstream is used", &pool, &mut miners);
    wait_for("a block", || (height(&node) > start).then_some(()));
    for miner in &mut miners {
        miner.program.stop();
    }
    translator.stop();
    pool.program.stop();
    assert_credited(&pool.records(), &user);
    declaration::assert_pays(&node, start + 1, &payee);
}

/// The shares of [`USER`], and those of all others.
fn by_user(records: Vec<ShareRecord>) -> (Vec<ShareRecord>, Vec<ShareRecord>) {
    records.into_iter().partition(|record| record.user.as_str().starts_with(USER))
}

/// Two translators share a pool with somebody who connects and says nothing.
#[test]
fn translators_share_a_pool() {
    const TEST: &str = "translators_share_a_pool";
    let Some(program) = foreign(TEST, "ADIT_CPUMINER") else { return };
    let Some(mut pool) = Pool::start(TEST, Kind::Knots, Chain::PrivateSignet) else { return };
    let _silent = TcpStream::connect(&pool.address).expect("the pool listens");
    let mut each =
        [("one", "aggregated", USER), ("other", "per-machine", SPARE_USER)].map(|(name, mode, user)| {
            let folder = pool.folder().join(name);
            let translator =
                Translator::start(&folder, mode, &[upstream(&pool.address, &pool.authority, user)]);
            let miners = two_miners(&program, &translator.address, &folder);
            (translator, miners)
        });
    wait_for("shares of each miner", || {
        pool.assert_running();
        let (ours, others) = by_user(pool.records_so_far());
        let all_have = each.iter().flat_map(|(_, miners)| miners).all(|miner| miner.accepted() >= SHARES);
        (all_have && names_both(&ours) && names_both(&others)).then_some(())
    });
    for (translator, miners) in &mut each {
        for miner in miners {
            miner.assert_never_lost();
            miner.program.stop();
        }
        translator.stop();
    }
    pool.stop();
    let (ours, others) = by_user(pool.records());
    assert_credited(&ours, USER);
    assert_credited(&others, SPARE_USER);
}

/// How long the only pool stays away.
const AWAY: Duration = Duration::from_secs(8);

#[test]
fn the_only_pool_is_killed_and_comes_back_and_the_translator_waits_for_it() {
    const TEST: &str = "the_only_pool_is_killed_and_comes_back_and_the_translator_waits_for_it";
    let Some(program) = foreign(TEST, "ADIT_CPUMINER") else { return };
    let Some(node) = Kind::Knots.start(TEST, Chain::PrivateSignet, &[]) else { return };
    crate::pool::prepare(&node);
    let folder = folder();
    let pool = declaration::Pool::start(Kind::Knots, &node, folder.path());
    let upstreams = [upstream(&pool.upstream.pool, &pool.upstream.key, USER)];
    let mut translator = Translator::start(folder.path(), "aggregated", &upstreams);
    let mut miners = two_miners(&program, &translator.address, folder.path());
    shares_go_on("the pool is there", &pool, &mut miners);
    let (upstream, kept) = pool.kill();
    std::thread::sleep(AWAY);
    translator.program.assert_running();
    let mut pool = declaration::Pool::run(upstream, kept);
    shares_go_on("the pool is back", &pool, &mut miners);
    for miner in &mut miners {
        miner.program.stop();
    }
    translator.stop();
    pool.program.stop();
}

/// Which job declarator client stands between the translator and the pool.
enum Client {
    Ours,
    References(PathBuf),
}

/// Our translator on a job declarator client: what the miner's node knows is mined, and credited by the pool.
fn jobs_of_a_client(test: &str, client: &Client) {
    let Some(program) = foreign(test, "ADIT_CPUMINER") else { return };
    let Some(node) = Kind::Core.start(test, Chain::PrivateSignet, &[]) else { return };
    crate::pool::prepare(&node);
    let folder = folder();
    let mut pool = declaration::Pool::start(Kind::Core, &node, folder.path());
    let (mut jdc, address, key) = match client {
        Client::Ours => {
            let (jdc, address) =
                declaration::client(Kind::Core, &node, &pool.upstream, "full-template", folder.path());
            (jdc, address, declaration::authority(&folder.path().join("jdc")))
        }
        Client::References(program) => {
            let (jdc, address) =
                declaration::reference_client(program, &node, &pool, "FULLTEMPLATE", folder.path());
            (jdc, address, POOL_PUBLIC_KEY.to_owned())
        }
    };
    // A client leaves less room to machines than a pool does.
    let upstreams = [upstream(&address, &key, USER)];
    let mut translator = Translator::start_with(folder.path(), "extranonce2_size = 4\n", &upstreams);
    let mut miners = two_miners(&program, &translator.address, folder.path());
    shares_go_on("jobs of the client", &pool, &mut miners);
    for program in [&mut translator.program, &mut jdc, &mut pool.program] {
        program.assert_running();
        program.stop();
    }
    let records = pool.records();
    assert!(records.iter().all(|record| record.user.as_str() == declaration::USER), "{records:?}");
    assert!(records.iter().all(|record| record.custom.is_some()), "{records:?}");
}

#[test]
fn a_foreign_miner_mines_jobs_of_our_declarator_client_through_our_translator() {
    const TEST: &str = "a_foreign_miner_mines_jobs_of_our_declarator_client_through_our_translator";
    jobs_of_a_client(TEST, &Client::Ours);
}

#[test]
fn a_foreign_miner_mines_jobs_of_the_reference_client_through_our_translator() {
    const TEST: &str = "a_foreign_miner_mines_jobs_of_the_reference_client_through_our_translator";
    let Some(client) = foreign(TEST, "ADIT_SRI_JD_CLIENT") else { return };
    jobs_of_a_client(TEST, &Client::References(client));
}
