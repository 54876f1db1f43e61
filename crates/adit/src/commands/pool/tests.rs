//! What `adit pool` does for blocks when nothing else works.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use adit_channel::TokenKey;
use adit_net::OsRng;
use adit_node::{Auth, RpcConfig};
use adit_units::Height;

use super::*;

/// A node that takes every block and is starting for all else; tells what it is asked.
fn node() -> (String, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, questions) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(request) = answer(stream.unwrap()) else { continue };
            if asked.send(request).is_err() {
                return;
            }
        }
    });
    (url, questions)
}

/// Answers one call and closes.
fn answer(mut stream: TcpStream) -> Option<String> {
    let mut request = Vec::new();
    // The body is one object, so it ends with the brace that closes the parameters' list and it.
    while !request.ends_with(b"}") {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).ok().filter(|&count| count > 0)?;
        request.extend_from_slice(&bytes[..count]);
    }
    let request = String::from_utf8(request).unwrap();
    let answer = if request.contains("submitblock") {
        r#"{"result":null,"error":null}"#
    } else {
        r#"{"result":null,"error":{"code":-28,"message":"starting"}}"#
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length";
    write!(stream, "{head}: {}\r\n\r\n{answer}", answer.len()).ok()?;
    Some(request)
}

/// A folder with a config, keys, one pending block, and a share log that cannot be opened.
fn folder(url: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    keys::make_authority(&path("authority.key")).unwrap();
    keys::make_server(&path("authority.key"), &path("server.key"), 1).unwrap();
    fs::create_dir(path("data")).unwrap();
    fs::write(path("data/shares"), "a file where a folder should be").unwrap();
    let store = BlockStore::open(&path("data/blocks")).unwrap();
    store.save([7; 32], Height(101), b"a block of an earlier run").unwrap();
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let text = format!(
        "network = \"regtest\"\ndata_dir = \"data\"\n[node]\nurl = \"{url}\"\nuser = \"u\"\npassword = \"p\"\n\
         [pool]\nlisten = \"127.0.0.1:0\"\npayout_address = \"{address}\"\nserver_key = \"server.key\"\n"
    );
    fs::write(path("adit.toml"), text).unwrap();
    let config = path("adit.toml");
    (folder, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_goes_out_although_the_share_log_cannot_be_opened() {
    let (url, questions) = node();
    let (_folder, config) = folder(&url);
    let error = run(&ConfigArgs { config }, Supervisor::default(), &Logging::default()).await.unwrap_err();
    assert!(error.to_string().contains("share log"), "{error:#}");
    let block = b"a block of an earlier run".to_lower_hex_string();
    let submitted =
        questions.try_iter().any(|request| request.contains("submitblock") && request.contains(&block));
    assert!(submitted, "the block was left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_goes_out_although_there_is_no_server_key() {
    let (url, questions) = node();
    let (folder, config) = folder(&url);
    fs::remove_file(folder.path().join("server.key")).unwrap();
    let error = run(&ConfigArgs { config }, Supervisor::default(), &Logging::default()).await.unwrap_err();
    assert!(error.to_string().contains("server.key"), "{error:#}");
    assert!(questions.try_iter().any(|request| request.contains("submitblock")), "the block was left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_on_disk_needs_no_rescue() {
    // Nobody answers there.
    let auth = Auth::UserPass { user: "u".to_owned(), password: "p".to_owned().into() };
    let node = Node::rpc(&RpcConfig::new("http://127.0.0.1:9", auth).unwrap());
    let (folder, _) = folder("http://127.0.0.1:9");
    let blocks = open_blocks(&folder.path().join("data"), node).await.unwrap();
    let mut out = Vec::new();
    rescue(&blocks, &mut out);
    assert!(out.is_empty());
}

#[test]
fn a_pool_takes_what_its_job_declarator_server_elsewhere_takes() {
    let (folder, file) = folder("http://127.0.0.1:9");
    let key = TokenKey::generate(&mut OsRng).to_text();
    keys::write_secret(&folder.path().join("token.key"), &key, false).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}token_key = \"token.key\"\n[jds]\nleast_pool_percent = 90\n")).unwrap();
    let (config, _) = config::load_with_values(&file).unwrap();
    let custom = custom_jobs(&config).unwrap().expect("it shares a secret");
    assert_eq!((custom.least_pool_percent, custom.accepts_undeclared), (90, true));
}
