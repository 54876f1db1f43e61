//! A node that answers calls as a test has written down, and says that it is starting to all others.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use adit_node::{Auth, Node, RpcConfig};
use adit_testkit::answers::TEMPLATE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the node says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// It closes the connection without a word.
    Dead,
    /// `null`: to `submitblock` that means that the block is in.
    Null,
    /// A word: to `submitblock` that is why the block is not in.
    Word(&'static str),
    /// A block with so many confirmations.
    Confirmed(u32),
    /// No such block.
    NotFound,
    /// What is asked for, as JSON.
    Json(&'static str),
}

/// Answers by the beginning of the call: its method, a space, and the first letters of its first parameter; or its method alone.
type Script = Arc<Mutex<BTreeMap<String, VecDeque<Answer>>>>;

pub(crate) struct FakeNode {
    listener: TcpListener,
    script: Script,
}

/// The answers of a node that has a template on an empty chain, by method.
const HEALTHY: [(&str, &str); 3] = [
    ("getbestblockhash", r#""0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206""#),
    (
        "getblockchaininfo",
        r#"{"chain":"regtest","blocks":0,"bestblockhash":"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"}"#,
    ),
    ("getblocktemplate", TEMPLATE),
];

/// Says what the node answers from now on.
#[derive(Clone)]
pub(crate) struct Switch(Script);

impl Switch {
    /// There is a template.
    pub(crate) fn healthy(&self) {
        for (method, answer) in HEALTHY {
            self.0.lock().unwrap().insert(method.to_owned(), [Answer::Json(answer)].into());
        }
    }

    /// Nothing is answered any more.
    pub(crate) fn dead(&self) {
        for (method, _) in HEALTHY {
            self.0.lock().unwrap().insert(method.to_owned(), [Answer::Dead].into());
        }
    }
}

impl FakeNode {
    /// What turns the node on and off.
    pub(crate) fn switch(&self) -> Switch {
        Switch(Arc::clone(&self.script))
    }

    /// A node without a script, and its address.
    pub(crate) async fn bind() -> (Self, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (Self { listener, script: Script::default() }, url)
    }

    /// Our side of it, which gives up soon.
    pub(crate) fn client(&self, url: &str) -> Node {
        let auth = Auth::UserPass { user: "user".to_owned(), password: "password".to_owned().into() };
        let mut config = RpcConfig::new(url, auth).unwrap();
        config.timing.submit_tries = 1;
        config.timing.first_retry = Duration::from_millis(100);
        Node::rpc(&config)
    }

    /// Answers such calls so, one after another; the last answer holds for all that follow.
    pub(crate) fn script(&self, call: &str, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().unwrap().insert(call.to_owned(), answers.into_iter().collect());
    }

    /// Tells which answers are still waiting for their question.
    pub(crate) fn rest(&self) -> impl Fn() -> Vec<(String, Vec<Answer>)> + use<> {
        let script = Arc::clone(&self.script);
        move || {
            let script = script.lock().unwrap();
            let rest =
                script.iter().map(|(call, rest)| (call.clone(), rest.iter().skip(1).copied().collect()));
            rest.filter(|(_, rest): &(String, Vec<_>)| !rest.is_empty()).collect()
        }
    }

    pub(crate) async fn run(self) {
        loop {
            let (stream, _) = self.listener.accept().await.unwrap();
            tokio::spawn(serve(stream, Arc::clone(&self.script)));
        }
    }
}

/// Answers one call and closes.
async fn serve(mut stream: TcpStream, script: Script) -> Option<()> {
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
    let answer = match answer(&body, &script) {
        Some(Answer::Dead) => return None,
        Some(Answer::Null) => r#"{"result":null,"error":null,"id":0}"#.to_owned(),
        Some(Answer::Word(word)) => format!(r#"{{"result":"{word}","error":null,"id":0}}"#),
        Some(Answer::Confirmed(count)) => {
            format!(r#"{{"result":{{"confirmations":{count}}},"error":null,"id":0}}"#)
        }
        Some(Answer::NotFound) => error(-5),
        Some(Answer::Json(result)) => format!(r#"{{"result":{result},"error":null,"id":0}}"#),
        None => error(-28),
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length";
    stream.write_all(format!("{head}: {}\r\n\r\n{answer}", answer.len()).as_bytes()).await.ok()
}

fn error(code: i32) -> String {
    format!(r#"{{"result":null,"error":{{"code":{code},"message":"as scripted"}},"id":0}}"#)
}

fn content_length(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    line.map_or(0, |length| length.trim().parse().unwrap())
}

/// The next answer to a call.
fn answer(body: &str, script: &Script) -> Option<Answer> {
    let mut script = script.lock().unwrap();
    let (_, answers) = script.iter_mut().find(|(call, _)| {
        let (method, parameter) = call.split_once(' ').unwrap_or((call, ""));
        let parameter = if call.contains(' ') { format!("[\"{parameter}") } else { String::new() };
        body.contains(&format!("\"{method}\"")) && body.contains(&parameter)
    })?;
    if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() }
}
