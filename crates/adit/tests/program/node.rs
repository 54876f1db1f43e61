//! A node that answers calls with one template on an empty chain, or with what is wrong with it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use adit_testkit::answers::{GENESIS, TEMPLATE};

/// What is wrong with the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// It is downloading the chain.
    Syncing,
    /// It is on the main network.
    OtherNetwork,
    /// It never answers who hands it a block.
    DeafToBlocks,
}

/// A node that lives as long as the test's process.
pub(crate) struct FakeNode {
    pub(crate) url: String,
    blocks: Arc<AtomicUsize>,
}

impl FakeNode {
    /// A node with that trouble.
    pub(crate) fn start(trouble: Trouble) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let blocks = Arc::<AtomicUsize>::default();
        let handed_over = Arc::clone(&blocks);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let blocks = Arc::clone(&handed_over);
                // A caller that hangs up has no further wishes.
                thread::spawn(move || serve(stream, trouble, &blocks));
            }
        });
        Self { url, blocks }
    }

    /// How often it was handed a block.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.load(Relaxed)
    }
}

/// Answers one call and closes.
fn serve(mut stream: TcpStream, trouble: Trouble, blocks: &AtomicUsize) -> Option<()> {
    let mut request = Vec::new();
    let body = loop {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).ok().filter(|&count| count > 0)?;
        request.extend_from_slice(&bytes[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if body.len() >= content_length(head) {
            break body.to_owned();
        }
    };
    if body.contains("\"submitblock\"") {
        blocks.fetch_add(1, Relaxed);
        if trouble == Trouble::DeafToBlocks {
            loop {
                thread::park();
            }
        }
    }
    let answer = match answer(&body, trouble) {
        Ok(result) => format!(r#"{{"result":{result},"error":null,"id":"adit"}}"#),
        Err((code, message)) => {
            format!(r#"{{"result":null,"error":{{"code":{code},"message":"{message}"}},"id":"adit"}}"#)
        }
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length";
    write!(stream, "{head}: {}\r\n\r\n{answer}", answer.len()).ok()
}

fn content_length(head: &str) -> usize {
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

/// The result of a call, or the error's number and text.
fn answer(body: &str, trouble: Trouble) -> Result<String, (i32, &'static str)> {
    let asks_for = |method: &str| body.contains(&format!("\"{method}\""));
    let is_syncing = trouble == Trouble::Syncing;
    if asks_for("getblockchaininfo") {
        let chain = if trouble == Trouble::OtherNetwork { "main" } else { "regtest" };
        return Ok(format!(
            r#"{{"chain":"{chain}","blocks":0,"bestblockhash":"{GENESIS}","initialblockdownload":{is_syncing}}}"#
        ));
    }
    if asks_for("getnetworkinfo") {
        return Ok(r#"{"version":290000,"subversion":"/Fake:1.0/","connections":3}"#.to_owned());
    }
    if asks_for("getbestblockhash") {
        return Ok(format!("\"{GENESIS}\""));
    }
    if asks_for("submitblock") {
        return Ok("null".to_owned());
    }
    match asks_for("getblocktemplate") {
        true if is_syncing => Err((-10, "Bitcoin Core is in initial sync and waiting for blocks...")),
        true => Ok(TEMPLATE.to_owned()),
        false => Err((-32601, "Method not found")),
    }
}
