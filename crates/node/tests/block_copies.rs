//! How much memory is written for a block on its way to a node, which is time in which others find one too.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use adit_node::{Auth, Node, RpcConfig, Submitted};
use allocation_counter::measure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;

/// Bytes of the block.
const BLOCK: u64 = 2_000_000;

/// Requests whose credentials are refused from now on.
static REFUSALS: AtomicUsize = AtomicUsize::new(0);

/// Reads requests, and says of each that all is well, or that its credentials are wrong.
async fn answer(mut stream: TcpStream) {
    let (mut head, mut space, mut came) = (Vec::new(), [0; 4_096], 0);
    while let Ok(count @ 1..) = stream.read(&mut space).await {
        came += count;
        let room = space.len().saturating_sub(head.len());
        head.extend_from_slice(&space[..count.min(room)]);
        let text = String::from_utf8_lossy(&head).to_lowercase();
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if came < end + 4 + length.trim().parse::<usize>().unwrap() {
            continue;
        }
        let is_refused = REFUSALS.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        let (status, body) = match is_refused {
            true => ("401 Unauthorized", ""),
            false => ("200 OK", r#"{"result":null,"error":null,"id":"adit"}"#),
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        (head, came) = (Vec::new(), 0);
    }
}

#[test]
fn a_block_is_written_down_for_a_node_once() {
    // One thread, whose memory is counted.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        let auth = Auth::UserPass { user: "miner".to_owned(), password: "secret".to_owned().into() };
        Node::rpc(&RpcConfig::new(&url, auth).unwrap())
    });
    let block = vec![7_u8; usize::try_from(BLOCK).unwrap()];
    for refusals in [0, 1] {
        REFUSALS.store(refusals, Relaxed);
        let mut submitted = None;
        let memory = measure(|| submitted = Some(runtime.block_on(node.submit_bytes(&block))));
        eprintln!("measured: {} bytes for a block of {BLOCK}", memory.bytes_total);
        assert_eq!(submitted, Some(Submitted::Accepted));
        // The block for whoever is to have it, the same in hexadecimal, and what each request is sent from.
        let requests = 1 + u64::try_from(refusals).unwrap();
        let most = BLOCK + 2 * BLOCK + requests * 2 * BLOCK + BLOCK / 2;
        assert!(memory.bytes_total < most, "{} with {refusals} refusals", memory.bytes_total);
    }
}
