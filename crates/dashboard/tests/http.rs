//! The server as clients meet it: over a socket, with good and with hostile requests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use adit_dashboard::{Server, ServerConfig, TranslatorPages};
use adit_translator::Status;
use tokio::sync::watch;

/// How long an answer may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

fn start() -> (Server, watch::Sender<Arc<Status>>) {
    let (sender, receiver) = watch::channel(Arc::new(Status::default()));
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = ServerConfig { listen, hosts: vec!["farm.example.org".to_owned()] };
    (Server::start(&config, Arc::new(TranslatorPages::new(receiver))).unwrap(), sender)
}

/// Sends bytes and reads until the server closes, or until it has been silent for a while.
fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has read enough closes before all is sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn status_line(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

#[test]
fn pages_are_served() {
    let (server, sender) = start();
    let status = Status { machines_seen: 77, ..Status::default() };
    sender.send_replace(Arc::new(status));
    let answer = exchange(&server, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(status_line(&answer), "HTTP/1.1 200 OK");
    for header in [
        "content-type: text/plain; version=0.0.4; charset=utf-8",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
    ] {
        assert!(answer.contains(&format!("{header}\r\n")), "{answer}");
    }
    assert!(answer.contains("\nadit_translator_machines_seen_total 77\n"), "{answer}");
}

#[test]
fn a_connection_serves_several_requests_and_a_head_is_a_head() {
    let (server, _sender) = start();
    let request = b"HEAD /api/v1/health HTTP/1.1\r\nHost: [::1]:9092\r\n\r\n\
        GET /api/v1/clients HTTP/1.1\r\nHost: sv2-translator:9092\r\nContent-Type: application/json\r\n\r\n\
        GET /api/v1/health?x HTTP/1.1\r\nHost: FARM.example.org\r\nConnection: close\r\n\r\n";
    let answer = exchange(&server, request);
    let codes: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(codes, ["200", "404", "200"]);
    assert_eq!(answer.matches("\"timestamp\"").count(), 1, "{answer}");
    assert!(answer.contains("{\"error\":\"Sv2 clients monitoring not available\"}"), "{answer}");
}

#[test]
fn nothing_is_changed_and_nobody_else_is_served() {
    let (server, _sender) = start();
    for (request, line) in [
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
            "HTTP/1.1 405 Method Not Allowed",
        ),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        (
            "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 421 Misdirected Request",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 421 Misdirected Request",
        ),
        (
            "GET http://evil.example/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 421 Misdirected Request",
        ),
        ("GET / HTTP/1.1\r\nHost: \u{e9}\r\nConnection: close\r\n\r\n", "HTTP/1.1 421 Misdirected Request"),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"),
    ] {
        let answer = exchange(&server, request.as_bytes());
        assert_eq!(status_line(&answer), line, "{request}");
        assert!(!answer.contains("access-control-"), "{answer}");
    }
}

#[test]
fn requests_beyond_their_limits_end_their_connection_only() {
    let (server, _sender) = start();
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100_000));
    let long_header = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(1000));
    let hostile: [&[u8]; 5] = [
        long_path.as_bytes(),
        long_header.as_bytes(),
        many_headers.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"{\"id\":1,\"method\":\"mining.subscribe\"}\n\r\n\r\n",
    ];
    for request in hostile {
        let answer = exchange(&server, request);
        assert!(answer.is_empty() || status_line(&answer).starts_with("HTTP/1.1 4"), "{answer}");
    }
    // Whoever leaves in doubt where his request ends is answered once, and what follows is not read as another.
    let smuggling =
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(exchange(&server, smuggling).matches("HTTP/1.1 ").count() <= 1);
    let answer = exchange(&server, b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(status_line(&answer), "HTTP/1.0 200 OK");
}

#[test]
fn one_address_gets_no_more_than_its_connections() {
    let (server, _sender) = start();
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        open.push(stream);
    }
    assert_eq!(exchange(&server, b"GET / HTTP/1.0\r\n\r\n"), "");
    open.clear();
    // The places are free once the server has seen that their holders left.
    let mut tries = (0..500).map(|_| {
        std::thread::sleep(PATIENCE / 500);
        exchange(&server, b"GET / HTTP/1.0\r\n\r\n")
    });
    let answer = tries.find(|answer| !answer.is_empty());
    assert_eq!(status_line(&answer.unwrap()), "HTTP/1.0 200 OK");
}

#[test]
fn a_server_stops_and_frees_its_address() {
    let (server, _sender) = start();
    let address = server.address();
    let idle = TcpStream::connect(address).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, server.shutdown()).await }).unwrap();
    assert!(TcpStream::connect(address).is_err());
    drop(idle);
    // Dropping is ending, too, and may happen anywhere.
    let (server, _sender) = start();
    runtime.block_on(async move { drop(server) });
}
