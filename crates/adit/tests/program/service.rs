//! `adit pool` as a service: reloads on SIGHUP, and restarts behind a socket that its supervisor keeps open.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;
use std::thread::sleep;
use std::time::Duration;

use adit_messages::{Message, Protocol, common, decode, encode};
use adit_net::{Clock, OsRng};
use adit_transport::{
    ACT2_LEN, AuthorityPublicKey, FrameQueue, HandshakeError, Initiator, RecvBuffer, Transport,
};
use adit_units::UnixTime;
use rustix::process::{Pid, Signal, kill_process};

use crate::node::{FakeNode, Trouble};
use crate::{ADDRESS, edit, fs, initialised_for, run, stops};

/// Longer than anything should take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const SECS_PER_DAY: u32 = 24 * 60 * 60;

/// A pool, or another service, that runs, and what it says.
pub(crate) struct Pool<'a> {
    folder: &'a Path,
    child: Child,
}

impl<'a> Pool<'a> {
    /// Starts a pool in a folder, by itself or behind a supervisor's socket.
    pub(crate) fn start(folder: &'a Path, socket: Option<&TcpListener>, settings: &[(&str, &Path)]) -> Self {
        let mut command = match socket {
            None => Command::new(env!("CARGO_BIN_EXE_adit")),
            Some(socket) => {
                // As a supervisor does it: the socket is number 3, and the process is named that it is for.
                let mut command = Command::new("sh");
                let script = r#"LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$0" "$@" 3<&0 </dev/null"#;
                command.args(["-c", script, env!("CARGO_BIN_EXE_adit")]);
                command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
                command
            }
        };
        command.arg("pool").envs(settings.iter().copied());
        Self::run(folder, command)
    }

    /// Starts a command in a folder, whose log it gets.
    pub(crate) fn run(folder: &'a Path, mut command: Command) -> Self {
        command.env_remove("ADIT_CONFIG");
        Self::run_as_is(folder, command)
    }

    /// The same with whatever config the environment names.
    pub(crate) fn run_as_is(folder: &'a Path, mut command: Command) -> Self {
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        command.current_dir(folder).env_remove("ADIT_LOG");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { folder, child }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Waits until the log says something for the `count`-th time.
    pub(crate) fn says(&self, what: &str, count: usize) {
        let start = Clock.monotonic();
        while self.said().matches(what).count() < count {
            assert!(Clock.monotonic() - start < PATIENCE, "the log does not say {what}:\n{}", self.said());
            sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens, once it does.
    pub(crate) fn address(&self) -> SocketAddr {
        self.told("listening for miners", "address=")
    }

    /// The address that a line of the log tells.
    fn told(&self, line: &str, name: &str) -> SocketAddr {
        self.says(line, 1);
        let said = self.said();
        let line = said.lines().find(|found| found.contains(line)).unwrap();
        let address = line.split(name).nth(1).expect("the line says where");
        address.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn reload(&self) {
        self.signal(Signal::HUP);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn stops(self) -> bool {
        stops(self.child)
    }
}

/// A connection whose handshake is done.
struct Connection {
    stream: TcpStream,
    transport: Transport,
}

/// Shakes hands with a pool that is trusted if its certificate holds at that time.
fn shake_hands(
    stream: TcpStream,
    trusted: AuthorityPublicKey,
    at: UnixTime,
) -> Result<Connection, HandshakeError> {
    let initiator = Initiator::new(Some(trusted), &mut OsRng);
    let (stream, act2) = answered(stream, &initiator);
    Ok(Connection { transport: initiator.finish(&act2, at)?, stream })
}

/// What the pool says to the first act.
fn answered(mut stream: TcpStream, initiator: &Initiator) -> (TcpStream, [u8; ACT2_LEN]) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&initiator.act1()).unwrap();
    let mut act2 = [0; ACT2_LEN];
    stream.read_exact(&mut act2).expect("the pool answers");
    (stream, act2)
}

impl Connection {
    /// Sets the connection up, which shows that there is a pool behind it.
    fn is_served(&mut self) -> bool {
        let mut frames = FrameQueue::default();
        let text = |text: &'static str| text.try_into().unwrap();
        let setup = common::SetupConnection {
            protocol: common::Protocol::MiningProtocol,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: text("localhost"),
            endpoint_port: 34254,
            vendor: text("test"),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        };
        encode(setup, &mut frames).unwrap();
        let mut sealed = Vec::new();
        self.transport.sealer.seal_all(&mut frames, &mut sealed).unwrap();
        self.stream.write_all(&sealed).unwrap();
        let mut received = RecvBuffer::default();
        loop {
            let Ok(count) = self.stream.read(received.spare(1_000)) else { return false };
            received.advance(count);
            if count == 0 {
                return false;
            }
            if let Some(frame) = self.transport.opener.open(&mut received, |_| 1_000).unwrap() {
                let answer = decode(Protocol::Mining, frame).unwrap();
                return matches!(answer, Message::SetupConnectionSuccess(_));
            }
        }
    }
}

/// The key that miners of the pool in a folder pin.
pub(crate) fn authority(folder: &Path) -> AuthorityPublicKey {
    let (_, said) = run(folder, &["keys", "show", "keys/server.key"]);
    let line = said.lines().find_map(|line| line.strip_prefix("authority")).expect("it is shown");
    AuthorityPublicKey::from_str(line.trim()).unwrap()
}

/// A time that many days from now.
fn in_days(days: u32) -> UnixTime {
    UnixTime::from_secs(Clock.unix().to_secs() + days * SECS_PER_DAY)
}

/// A folder for a pool that listens at a free port, and its node.
pub(crate) fn folder() -> (tempfile::TempDir, FakeNode) {
    let node = FakeNode::start(Trouble::None);
    let folder = initialised_for(&node.url);
    edit(folder.path(), |text| text.replace("[pool]", "[pool]\nlisten = \"127.0.0.1:0\""));
    (folder, node)
}

/// Completes the config in a folder for a job declarator server and a client whose upstream is away.
pub(crate) fn declaring(folder: &Path) {
    let (done, said) = run(folder, &["keys", "token"]);
    assert!(done, "{said}");
    let key = authority(folder);
    let port = "listen = \"127.0.0.1:0\"";
    let upstream = format!(
        "[upstream]\npool = \"stratum2+tcp://127.0.0.1:1/{key}\"\njds = \"stratum2+tcp://127.0.0.1:1/{key}\"\nuser = \"farm\""
    );
    edit(folder, |text| {
        text.replace("[jds]", &format!("[jds]\n{port}\npayout_address = \"{ADDRESS}\""))
            .replace("[jdc]", &format!("[jdc]\n{port}\nsolo_address = \"{ADDRESS}\""))
            .replace("[upstream]", &upstream)
    });
}

/// What the program answers over HTTP.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_pool_serves_its_numbers_and_one_whose_address_is_taken_runs_without() {
    let (first, _node) = folder();
    let set = |folder: &Path, api: String| {
        edit(folder, |text| text.replace("[pool]", &format!("[pool]\napi = \"{api}\"")));
    };
    set(first.path(), "127.0.0.1:0".to_owned());
    let pool = Pool::start(first.path(), None, &[]);
    pool.address();
    let api = pool.told("numbers are served here", "api=");
    let metrics = get(api, "/metrics");
    assert!(metrics.contains("adit_pool_node_state{node=\"0\",state=\"up\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\nadit_pool_height 1\n"), "{metrics}");
    let overview = get(api, "/api/adit/v1/pool");
    assert!(overview.contains("\"network\":\"regtest\""), "{overview}");

    let (second, _node) = folder();
    set(second.path(), api.to_string());
    let other = Pool::start(second.path(), None, &[]);
    let trusted = authority(second.path());
    let stream = TcpStream::connect(other.address()).unwrap();
    assert!(shake_hands(stream, trusted, in_days(0)).unwrap().is_served(), "it serves miners all the same");
    other.says("numbers are served nowhere", 1);
    assert!(other.stops() && pool.stops());
    assert!(TcpStream::connect(api).is_err());
}

#[test]
fn a_reload_shows_another_certificate_and_keeps_connections() {
    let (folder, _node) = folder();
    let folder = folder.path();
    let pool = Pool::start(folder, None, &[]);
    let (address, trusted) = (pool.address(), authority(folder));
    let connect = |at| shake_hands(TcpStream::connect(address).unwrap(), trusted, at);
    let mut old = connect(in_days(0)).unwrap();
    assert!(connect(in_days(500)).is_err(), "the first certificate holds for a year");

    let (done, said) = run(folder, &["keys", "rotate", "--days", "700"]);
    assert!(done, "{said}");
    pool.reload();
    pool.says("reloaded", 1);
    connect(in_days(500)).expect("the second certificate holds for longer");
    assert!(old.is_served(), "who was connected stays");
    assert!(pool.stops());
}

/// The job declarator server showed the certificate that it was started with, until that ended.
#[test]
fn a_reload_reaches_the_job_declarator_server_in_a_pool() {
    let (folder, _node) = folder();
    let folder = folder.path();
    declaring(folder);
    let pool = Pool::start(folder, None, &[]);
    let (address, trusted) = (pool.told("listening for declarator clients", "address="), authority(folder));
    let connect = |at| shake_hands(TcpStream::connect(address).unwrap(), trusted, at);
    assert!(connect(in_days(500)).is_err(), "the first certificate holds for a year");

    let (done, said) = run(folder, &["keys", "rotate", "--days", "700"]);
    assert!(done, "{said}");
    edit(folder, |text| {
        text.replace(
            &format!("[jds]\nlisten = \"127.0.0.1:0\"\npayout_address = \"{ADDRESS}\""),
            "[jds]\nlisten = \"127.0.0.1:0\"",
        )
    });
    pool.reload();
    pool.says("reloaded", 1);
    connect(in_days(500)).expect("the second certificate holds for longer");
    let said = pool.said();
    assert!(said.contains("changed=\"jds.payout_address\"") && !said.contains("needs a restart"), "{said}");
    assert!(pool.stops());
}

#[test]
fn a_reload_takes_what_it_can_and_names_what_needs_a_restart() {
    let (folder, _node) = folder();
    let folder = folder.path();
    let pool = Pool::start(folder, None, &[]);
    pool.address();
    let changed = "[pool]\nsignature = \"/other/\"\nconnections = 99\ninstance = 4";
    edit(folder, |text| format!("log = \"debug\"\n{}", text.replace("[pool]", changed)));
    pool.reload();
    pool.says("needs a restart", 1);
    let said = pool.said();
    assert!(said.contains("changed=\"log, pool.connections, pool.signature\""), "{said}");
    assert!(said.contains("keys=\"pool.instance\""), "{said}");
    // What is logged now shows that the config was taken.
    let mut miner =
        shake_hands(TcpStream::connect(pool.address()).unwrap(), authority(folder), in_days(0)).unwrap();
    assert!(miner.is_served());
    pool.says("connected", 1);
    assert!(pool.stops());
}

#[test]
fn who_runs_into_a_limit_is_told_with_what_to_do() {
    let (folder, _node) = folder();
    let folder = folder.path();
    edit(folder, |text| text.replace("[pool]", "[pool]\nconnections = 2\nconnections_per_address = 1"));
    let pool = Pool::start(folder, None, &[]);
    let (address, trusted) = (pool.address(), authority(folder));
    let mut only = shake_hands(TcpStream::connect(address).unwrap(), trusted, in_days(0)).unwrap();
    let others = [(); 3].map(|()| TcpStream::connect(address).unwrap());
    pool.says("connections are refused", 1);
    for mut other in others {
        other.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(other.read(&mut [0]), Ok(0) | Err(_)), "it was let in");
    }
    let said = pool.said();
    let line = said.lines().find(|line| line.contains("connections are refused")).unwrap();
    for part in
        ["WARN", "peer=127.0.0.1", "limit=1", "raise the limit for one address if a farm is behind it"]
    {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
    assert_eq!(said.matches("connections are refused").count(), 1, "once a minute: {said}");
    assert!(only.is_served());
    assert!(pool.stops());
}

#[test]
fn a_mistake_leaves_everything_as_it_was() {
    let (folder, _node) = folder();
    let folder = folder.path();
    let pool = Pool::start(folder, None, &[]);
    let (address, trusted) = (pool.address(), authority(folder));
    let good = fs::read_to_string(folder.join("adit.toml")).unwrap();
    edit(folder, |text| text.replace("[pool]", "[pool]\nsignatur = \"/other/\"\nconnections = 0"));
    pool.reload();
    pool.says("not reloaded; the pool goes on as it was", 2);
    let said = pool.said();
    assert!(said.contains("pool.signatur: unknown key; did you mean pool.signature?"), "{said}");
    assert!(said.contains("pool.connections: 0 is out of range"), "{said}");

    fs::write(folder.join("adit.toml"), good).unwrap();
    fs::write(folder.join("keys/server.key"), "no key").unwrap();
    pool.reload();
    pool.says("keys/server.key is not a server key", 1);
    let mut miner = shake_hands(TcpStream::connect(address).unwrap(), trusted, in_days(0)).unwrap();
    assert!(miner.is_served());
    assert!(pool.stops());
}

#[test]
fn nobody_is_refused_while_a_pool_behind_a_supervisors_socket_restarts() {
    let (folder, _node) = folder();
    let folder = folder.path();
    let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (address, trusted) = (socket.local_addr().unwrap(), authority(folder));
    let notify = folder.join("notify");
    let told = UnixDatagram::bind(&notify).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 100];
        let count = told.recv(&mut bytes).expect("the pool tells its supervisor");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let start = || Pool::start(folder, Some(&socket), &[("NOTIFY_SOCKET", &notify)]);

    let first = start();
    assert_eq!(hear(), "READY=1");
    assert_eq!(first.address(), address, "it listens at the supervisor's socket");
    let mut early = shake_hands(TcpStream::connect(address).unwrap(), trusted, in_days(0)).unwrap();
    assert!(early.is_served());
    first.reload();
    assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(hear(), "READY=1");
    assert!(first.stops());
    assert_eq!(hear(), "STOPPING=1");

    let between = TcpStream::connect(address).expect("the socket listens without a pool");
    let second = start();
    let mut between = shake_hands(between, trusted, in_days(0)).unwrap();
    assert!(between.is_served());
    assert!(second.stops());
}

#[test]
fn a_template_provider_outlives_a_reload_that_it_does_not_know() {
    let (folder, _node) = folder();
    let listen = "[template_provider]\nlisten = \"127.0.0.1:0\"";
    edit(folder.path(), |text| text.replace("[template_provider]", listen));
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.arg("template-provider");
    let provider = Pool::run(folder.path(), command);
    provider.says("template provider started", 1);
    provider.reload();
    provider.says("nothing is read anew; restart", 1);
    assert!(provider.stops());
}

#[test]
fn a_job_declarator_server_and_its_client_start_outlive_a_reload_and_stop() {
    let (folder, _node) = folder();
    let folder = folder.path();
    declaring(folder);
    for (role, name) in [("jds", "job declarator server"), ("jdc", "job declarator client")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command.arg(role);
        let service = Pool::run(folder, command);
        service.says(&format!("{name} started"), 1);
        service.reload();
        service.says("nothing is read anew; restart", if role == "jds" { 1 } else { 2 });
        let log = folder.join("log");
        assert!(service.stops(), "{}", fs::read_to_string(&log).unwrap());
        assert!(fs::read_to_string(&log).unwrap().contains(&format!("{name} stopped")));
    }
}

#[test]
fn a_socket_that_is_none_is_not_taken() {
    let (folder, _node) = folder();
    let mut command = Command::new("sh");
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec "$0" pool 3</dev/null"#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_adit")]).current_dir(folder.path());
    let output = command.env_remove("ADIT_CONFIG").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("cannot take over the supervisor's socket"), "{said}");
}

#[test]
fn systemd_understands_the_units() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("LEFT OUT: systemd-analyze is not installed, so nobody has looked at docs/systemd");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/systemd");
    let mut analyze = Command::new("systemd-analyze");
    analyze.arg("verify");
    for name in ["adit-pool.service", "adit-pool.socket", "adit-translator.service"] {
        // It looks for the program, which is not installed where tests run.
        let unit = fs::read_to_string(units.join(name)).unwrap();
        let unit = unit.replace("/usr/local/bin/adit", env!("CARGO_BIN_EXE_adit"));
        let copy = folder.path().join(name);
        fs::write(&copy, unit).unwrap();
        analyze.arg(copy);
    }
    let output = analyze.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
