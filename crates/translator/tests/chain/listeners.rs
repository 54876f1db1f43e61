//! Machines that come over TLS, or through a proxy that says where they come from.

use core::net::SocketAddr;
use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit_net::Limits;
use adit_translator::server::{Mode, Tls, TranslatorConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::SOME;
use crate::stage::{
    Machine, Pool, chain, config, eventually, status, stop, translator, translator_with_tls, upstream,
};

/// The beginning of a session in plain text.
const SUBSCRIBE: &[u8] = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-vectors/tls").join(name)
}

fn tls() -> Tls {
    Tls::read(&vector("localhost.crt"), &vector("localhost.key")).unwrap()
}

/// Shakes hands as a client that trusts the test certificate and nothing else.
async fn shake(stream: TcpStream, version: &'static SupportedProtocolVersion) -> TlsStream<TcpStream> {
    let certificate = fs::read(vector("localhost.crt")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificate).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Connects, with `first` before anything else.
async fn connect(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

/// What comes until the connection is closed.
async fn everything(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let end = timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes));
    // A connection that is closed with bytes unread is reset.
    let _ = end.await.expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_mine_over_tls_and_in_plain_text_at_once() {
    let node = chain();
    let pool = Pool::start(&node);
    let translator = translator_with_tls(config(Mode::Aggregated, &[upstream(&pool)]), tls());
    let address = translator.tls_address().unwrap();
    let over = |version, user| {
        Machine::start_over(async move { shake(connect(address, b"").await, version).await }, user)
    };
    let machines = [over(&TLS13, "a.new"), over(&TLS12, "a.old"), Machine::start(&translator, "a.plain")];
    eventually("all have shares", || machines.iter().all(|machine| machine.accepted() > SOME)).await;
    let jobs = machines.iter().map(|machine| machine.seen().jobs.len()).collect::<Vec<_>>();
    eventually("jobs go on", || {
        machines.iter().zip(&jobs).all(|(machine, before)| machine.seen().jobs.len() > *before)
    })
    .await;
    for machine in &machines {
        let seen = machine.seen();
        assert!(seen.refused.iter().all(|error| error.starts_with("[21,")), "{:?}", seen.refused);
    }
    drop(machines);
    stop(translator, [pool]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_no_tls_is_not_served_over_it() {
    let node = chain();
    let pool = Pool::start(&node);
    let translator = translator_with_tls(config(Mode::Aggregated, &[upstream(&pool)]), tls());
    let stream = connect(translator.tls_address().unwrap(), SUBSCRIBE).await;
    let answer = everything(stream).await;
    assert!(!answer.contains("result"), "{answer}");
    // Others are served all the same.
    let address = translator.tls_address().unwrap();
    let machine = Machine::start_over(async move { shake(connect(address, b"").await, &TLS13).await }, "a.b");
    eventually("shares", || machine.accepted() > 0).await;
    drop(machine);
    stop(translator, [pool]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_says_where_machines_come_from() {
    let node = chain();
    let pool = Pool::start(&node);
    let open = |config| TranslatorConfig { expects_proxy: true, allows_public: true, ..config };
    let translator = translator_with_tls(open(config(Mode::PerMachine, &[upstream(&pool)])), tls());
    let (plain, encrypted) = (translator.address(), translator.tls_address().unwrap());
    let status = status(&translator);
    let v1 = b"PROXY TCP4 203.0.113.7 10.0.0.9 56324 34255\r\n";
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    v2.extend([192, 168, 7, 1, 10, 0, 0, 9, 0x12, 0x34, 0x85, 0xcf]);
    let machines = [
        Machine::start_over(async move { connect(plain, v1).await }, "a.one"),
        Machine::start_over(async move { shake(connect(encrypted, &v2).await, &TLS13).await }, "a.two"),
        Machine::start_over(async move { connect(plain, b"PROXY UNKNOWN\r\n").await }, "a.three"),
    ];
    eventually("all have shares", || machines.iter().all(|machine| machine.accepted() > 0)).await;
    eventually("all are told of", || status().machines.len() == 3).await;
    let peer = |user: &str| {
        let status = status();
        let found = status.machines.iter().find(|machine| machine.users == [user]);
        found.map(|machine| machine.peer).unwrap()
    };
    assert_eq!(peer("a.one").to_string(), "203.0.113.7:56324");
    assert_eq!(peer("a.two").to_string(), "192.168.7.1:4660");
    assert!(peer("a.three").ip().is_loopback());
    // Whoever comes without a header is not served.
    assert_eq!(everything(connect(plain, SUBSCRIBE).await).await, "");
    drop(machines);
    stop(translator, [pool]).await;
}

/// The limit for one address was that for all machines of a farm, because they came through one proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_behind_a_proxy_were_counted_as_one_address() {
    let node = chain();
    let pool = Pool::start(&node);
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let behind =
        TranslatorConfig { expects_proxy: true, limits, ..config(Mode::Aggregated, &[upstream(&pool)]) };
    let translator = translator_with_tls(behind, tls());
    let (plain, encrypted) = (translator.address(), translator.tls_address().unwrap());
    let status = status(&translator);
    let machines = [
        Machine::start_over(
            async move { connect(plain, b"PROXY TCP4 10.0.0.1 10.0.0.9 5 6\r\n").await },
            "a.one",
        ),
        Machine::start_over(
            async move { connect(plain, b"PROXY TCP4 10.0.0.2 10.0.0.9 5 6\r\n").await },
            "a.two",
        ),
    ];
    eventually("both have shares", || machines.iter().all(|machine| machine.accepted() > 0)).await;
    for address in [plain, encrypted] {
        let another = connect(address, b"PROXY TCP4 10.0.0.2 10.0.0.9 7 6\r\n").await;
        assert_eq!(everything(another).await, "", "10.0.0.2 has one already");
    }
    eventually("that is counted", || status().connections_refused == 2).await;
    // One that leaves makes room for the next from its address.
    let [one, two] = machines;
    drop(two);
    eventually("it has left", || status().machines.len() == 1).await;
    let third = Machine::start_over(
        async move {
            loop {
                let stream = connect(plain, b"PROXY TCP4 10.0.0.2 10.0.0.9 8 6\r\n").await;
                // The place is free a little after the machine is no longer shown. Whoever is served hears nothing until it asks.
                if timeout(Duration::from_millis(300), stream.peek(&mut [0])).await.is_err() {
                    return stream;
                }
            }
        },
        "a.three",
    );
    eventually("it has shares", || third.accepted() > 0).await;
    drop((one, third));
    stop(translator, [pool]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_proxy_names_is_judged_and_without_a_proxy_nobody_is_named() {
    let node = chain();
    let pool = Pool::start(&node);
    let header = [b"PROXY TCP4 203.0.113.7 10.0.0.9 56324 34255\r\n", SUBSCRIBE].concat();
    let behind = TranslatorConfig { expects_proxy: true, ..config(Mode::Aggregated, &[upstream(&pool)]) };
    let behind = translator(behind);
    assert_eq!(everything(connect(behind.address(), &header).await).await, "", "a public address");
    behind.shutdown().await;

    let direct = translator(config(Mode::Aggregated, &[upstream(&pool)]));
    let mut stream = connect(direct.address(), &header).await;
    let mut answer = vec![0; 1024];
    let count = timeout(Duration::from_secs(30), stream.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.contains("\"result\":["), "one malformed line is passed over: {answer}");
    stop(direct, [pool]).await;
}
