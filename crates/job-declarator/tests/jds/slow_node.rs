//! A node that has a template and judges blocks when the test lets it.

use core::future::{Future as _, poll_fn};
use core::pin::pin;
use core::task::Poll;
use std::sync::Arc;

use adit_node::{Auth, Node, RpcConfig};
use adit_testkit::answers::TEMPLATE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

const TIP: &str = r#""0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206""#;

/// How it is let go on, and how far it has come.
#[derive(Clone)]
pub(crate) struct SlowNode {
    judgements: Arc<Semaphore>,
    asked: watch::Sender<usize>,
}

impl SlowNode {
    /// A node, and our side of it.
    pub(crate) async fn start() -> (Self, Node) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let slow = Self { judgements: Arc::new(Semaphore::new(0)), asked: watch::Sender::new(0) };
        tokio::spawn(slow.clone().run(listener));
        let auth = Auth::UserPass { user: "user".to_owned(), password: "password".to_owned().into() };
        (slow, Node::rpc(&RpcConfig::new(&url, auth).unwrap()))
    }

    /// Lets it judge so many blocks more.
    pub(crate) fn judge(&self, blocks: usize) {
        self.judgements.add_permits(blocks);
    }

    /// Waits until it has been asked about so many blocks.
    pub(crate) async fn asked(&self, blocks: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= blocks).await.unwrap();
    }

    /// About how many blocks it has been asked.
    pub(crate) fn count(&self) -> usize {
        *self.asked.borrow()
    }

    async fn run(self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(self.clone().serve(stream));
        }
    }

    /// Waits until the test lets it judge one more block; who asked first is judged first.
    async fn wait_for_judgement(&self) -> Option<()> {
        let mut turn = pin!(self.judgements.acquire());
        // It is in line before it is counted, so that nobody who asks when the test has counted it comes before it.
        let at_once = poll_fn(|context| Poll::Ready(turn.as_mut().poll(context))).await;
        self.asked.send_modify(|asked| *asked += 1);
        let permit = match at_once {
            Poll::Ready(permit) => permit,
            Poll::Pending => turn.await,
        };
        permit.ok()?.forget();
        Some(())
    }

    /// Answers one call and closes.
    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        let mut request = Vec::new();
        let body = loop {
            if stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.len() >= content_length(head)
            {
                break body.to_owned();
            }
        };
        let result = if body.contains("\"proposal\"") {
            self.wait_for_judgement().await?;
            "null"
        } else if body.contains("\"longpollid\"") {
            core::future::pending().await
        } else if body.contains("\"getblocktemplate\"") {
            TEMPLATE
        } else if body.contains("\"getbestblockhash\"") {
            TIP
        } else if body.contains("\"getblockchaininfo\"") {
            r#"{"chain":"regtest","blocks":0,"bestblockhash":"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"}"#
        } else {
            "[]"
        };
        let answer = format!(r#"{{"result":{result},"error":null,"id":0}}"#);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length";
        stream.write_all(format!("{head}: {}\r\n\r\n{answer}", answer.len()).as_bytes()).await.ok()
    }
}

fn content_length(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    line.map_or(0, |length| length.trim().parse().unwrap())
}
