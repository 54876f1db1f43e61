//! `adit translator` as a farm manager starts, checks and asks it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use crate::service::{PATIENCE, Pool, authority, folder};
use crate::{adit, run};

/// The authority's key of no pool.
const STRANGER: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";

/// A port where nobody is, for as long as nobody else takes it.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

/// The lines of `adit check` on a config, by how they begin.
fn checked(folder: &Path, config: &str) -> (bool, String) {
    fs::write(folder.join("farm.toml"), config).unwrap();
    run(folder, &["check", "--config", "farm.toml"])
}

/// A translator that runs in a folder.
fn translator<'a>(folder: &'a Path, arguments: &[&str]) -> Pool<'a> {
    let mut command = adit(folder, &["translator"]);
    command.args(arguments);
    let translator = Pool::run(folder, command);
    translator.says("translator started", 1);
    translator
}

/// What stands behind a word in the line about the start.
fn started(translator: &Pool<'_>, word: &str) -> String {
    let said = translator.said();
    let line = said.lines().find(|line| line.contains("translator started")).unwrap();
    let value = line.split(word).nth(1).expect("the line has it").split_whitespace().next().unwrap();
    value.trim_start_matches("Some(").trim_end_matches(')').to_owned()
}

/// What is said to a question that names a host.
fn ask(address: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_translator_that_could_not_work_was_called_ready() {
    let (folder, _node) = folder();
    let pool = Pool::start(folder.path(), None, &[]);
    let (address, key) = (pool.address(), authority(folder.path()));
    let translator_at = |api: &str, upstreams: &str| {
        checked(
            folder.path(),
            &format!("[translator]\nlisten = \"127.0.0.1:0\"\napi = \"{api}\"\n{upstreams}"),
        )
    };
    let upstream = |pool: &str| format!("[[upstreams]]\npool = \"{pool}\"\nuser = \"account.farm\"\n");
    let good = upstream(&format!("stratum2+tcp://{address}/{key}"));
    let (done, said) = translator_at("127.0.0.1:0", &good);
    assert!(done && said.contains(&format!("{address} takes miners")), "{said}");
    assert!(said.contains("ready: adit translator --config farm.toml"), "{said}");

    let nobody = free();
    for (api, upstreams, told) in [
        ("192.0.2.1:4081", good.clone(), "FAIL  listen   cannot listen at 192.0.2.1:4081".to_owned()),
        (
            "off",
            upstream(&format!("stratum2+tcp://{nobody}")) + &good,
            format!("FAIL  upstream {nobody}: cannot reach {nobody}: Connection refused"),
        ),
        (
            "off",
            upstream(&format!("stratum2+tcp://{address}/{STRANGER}")),
            "is not certified by the authority".to_owned(),
        ),
        (
            "off",
            upstream("stratum2+tcp://pool.invalid:34254/9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72"),
            "FAIL  upstream pool.invalid:34254: cannot find pool.invalid:34254".to_owned(),
        ),
        // It waits for a handshake, and answers no line.
        (
            "off",
            upstream(&format!("stratum+tcp://{address}")),
            "is it the address of an SV1 pool?".to_owned(),
        ),
    ] {
        let (done, said) = translator_at(api, &upstreams);
        assert!(!done && said.contains(&told), "{told} in {said}");
        assert_eq!(said.matches("FAIL").count(), 1, "{said}");
        assert!(!said.contains("ready"), "{said}");
    }
    assert!(pool.stops());
}

#[test]
fn check_passes_an_sv1_pool_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("stratum2+tcp://{}", free());
    let old = translator(
        folder.path(),
        &["--pool", &nobody, "--user", "x", "--listen", "127.0.0.1:0", "--api", "off"],
    );
    let upstream =
        format!("[upstream]\npool = \"stratum+tcp://{}\"\nuser = \"account\"\n", started(&old, "address="));
    let (done, said) = checked(
        folder.path(),
        &format!("[translator]\nlisten = \"127.0.0.1:0\"\napi = \"127.0.0.1:0\"\n{upstream}"),
    );
    assert!(done && said.contains("takes miners"), "{said}");
    assert!(
        said.contains("note  upstream") && said.contains("neither encrypted nor authenticated"),
        "{said}"
    );
    assert!(old.stops());
}

#[test]
fn a_payee_that_differs_from_the_user_was_not_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (mine, other) =
        ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx");
    let taproot = "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c";
    let note = |user: &str, pays: &str| {
        let upstream = format!(
            "[upstream]\npool = \"stratum2+tcp://{}\"\nuser = \"{user}\"\npays = \"{pays}\"\n",
            free()
        );
        let (_, said) = checked(
            folder.path(),
            &format!("[translator]\nlisten = \"127.0.0.1:0\"\napi = \"off\"\n{upstream}"),
        );
        said.contains("blocks must pay somebody else")
    };
    assert!(note(&format!("sri/solo/{taproot}/farm"), mine));
    assert!(!note(&format!("sri/solo/{mine}/farm"), "user"));
    // The same script on another network is nobody else.
    assert!(!note(&format!("{mine}.farm"), other));
    assert!(!note("account.farm", mine), "an account is nobody's address");
}

#[test]
fn a_config_in_the_environment_made_a_pool_on_the_command_line_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let pool = format!("stratum2+tcp://{}", free());
    let arguments = ["translator", "--pool", &pool, "--user", "x", "--listen", "127.0.0.1:0", "--api", "off"];
    let mut command = adit(folder.path(), &arguments);
    command.env("ADIT_CONFIG", "elsewhere.toml");
    let translator = Pool::run_as_is(folder.path(), command);
    translator.says("translator started", 1);
    assert!(translator.stops());
    let output = adit(folder.path(), &["translator"]).env("ADIT_CONFIG", "elsewhere.toml").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("there is no config at") && said.contains("elsewhere.toml"), "{said}");
    let (done, said) = run(folder.path(), &["translator", "--pool", "pool.example.org:1", "--user", "x"]);
    assert!(!done && said.contains("--pool: the key is missing"), "{said}");
    assert!(said.contains("adit: cannot use these arguments (1 mistake)"), "{said}");
}

#[test]
fn an_address_that_is_taken_was_told_twice() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let pool = format!("stratum2+tcp://{}", free());
    for (listen, api, told) in [
        (&*listen, "off", "cannot start the translator"),
        ("127.0.0.1:0", &*listen, "choose another translator.api, or off"),
    ] {
        let arguments = ["translator", "--pool", &pool, "--user", "x", "--listen", listen, "--api", api];
        let (done, said) = run(folder.path(), &arguments);
        assert!(!done && said.contains(told), "{said}");
        assert_eq!(said.matches("Address already in use").count(), 1, "{said}");
    }
}

#[test]
fn a_proxy_in_front_of_the_api_was_refused_whatever_the_config_said() {
    let folder = tempfile::tempdir().unwrap();
    let (listen, pool) = ("listen = \"127.0.0.1:0\"\napi = \"127.0.0.1:0\"", free());
    let upstream = format!("[upstream]\npool = \"stratum2+tcp://{pool}\"\nuser = \"account\"\n");
    let config = format!("[translator]\n{listen}\napi_hosts = [\"farm.example.org\"]\n{upstream}");
    fs::write(folder.path().join("adit.toml"), config).unwrap();
    let translator = translator(folder.path(), &[]);
    let api = started(&translator, "api=");
    let answer = ask(&api, "/api/adit/v1/translator", "farm.example.org");
    // What is known of the upstream is asked for only now.
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&pool.to_string()), "{answer}");
    let answer = ask(&api, "/api/adit/v1/translator", "stranger.example.org");
    assert!(answer.starts_with("HTTP/1.1 421") && answer.contains("api_hosts"), "{answer}");
    assert!(translator.stops());
}

/// Runs on one of the processors that this thread may use, as what it starts does.
#[cfg(target_os = "linux")]
fn on_one_processor<T>(work: impl FnOnce() -> T) -> T {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|&processor| all.is_set(processor)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    let done = work();
    sched_setaffinity(None, &all).unwrap();
    done
}

/// How often the threads of a program have fallen asleep.
#[cfg(target_os = "linux")]
fn sleeps(program: &Pool<'_>) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", program.pid())).unwrap();
    let of_thread = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    threads.map(|thread| of_thread(thread.unwrap())).sum()
}

/// Asks a question each half millisecond, and takes the answers.
#[cfg(target_os = "linux")]
fn keep_busy(machine: &mut TcpStream, questions: u32) {
    use std::thread;
    use std::time::Duration;

    use adit_net::Clock;

    let answers = machine.try_clone().unwrap();
    let listener = thread::spawn(move || {
        let lines = BufReader::new(answers).lines().map(Result::unwrap);
        let answers = lines.filter(|line| line.contains("pong"));
        assert_eq!(answers.take(questions as usize).count(), questions as usize);
    });
    let begin = Clock.monotonic();
    for number in 0..questions {
        thread::sleep((Duration::from_micros(500) * number).saturating_sub(Clock.monotonic() - begin));
        writeln!(machine, r#"{{"id":3,"method":"mining.ping","params":[]}}"#).unwrap();
    }
    listener.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_translator_on_one_processor_serves_its_machines_and_looks_seldom() {
    let (folder, _node) = folder();
    let pool = Pool::start(folder.path(), None, &[]);
    let url = format!("stratum2+tcp://{}/{}", pool.address(), authority(folder.path()));
    let arguments = ["--pool", &url, "--user", "farm", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"];
    let translator = on_one_processor(|| translator(folder.path(), &arguments));
    let mut machine = TcpStream::connect(started(&translator, "address=")).unwrap();
    machine.set_read_timeout(Some(PATIENCE)).unwrap();
    let lines = [
        r#"{"id":1,"method":"mining.subscribe","params":["x"]}"#,
        r#"{"id":2,"method":"mining.authorize","params":["farm.rig","x"]}"#,
    ];
    writeln!(machine, "{}\n{}", lines[0], lines[1]).unwrap();
    let told = BufReader::new(&machine).lines().map(Result::unwrap);
    assert!(told.take(8).any(|line| line.contains("mining.notify")), "it has work");
    let (before, questions) = (sleeps(&translator), 2_000);
    keep_busy(&mut machine, questions);
    let sleeps = sleeps(&translator) - before;
    assert!(sleeps * 3 < u64::from(questions), "it slept {sleeps} times, and not in one thread that rests");
    assert_eq!(started(&translator, "rests="), "true");
    let answer = ask(&started(&translator, "api="), "/api/adit/v1/translator", "localhost");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(translator.stops() && pool.stops());
}

#[cfg(target_os = "linux")]
#[test]
fn a_translator_that_is_to_answer_at_once_does_not_rest() {
    let (folder, _node) = folder();
    let config = "[translator]\nlisten = \"127.0.0.1:0\"\napi = \"off\"\nrest = false\n\
                  [[upstreams]]\npool = \"stratum2+tcp://127.0.0.1:1\"\nuser = \"farm\"\n";
    fs::write(folder.path().join("farm.toml"), config).unwrap();
    let translator = on_one_processor(|| translator(folder.path(), &["--config", "farm.toml"]));
    assert_eq!(started(&translator, "rests="), "false");
    assert!(translator.stops());
}
