//! One JSON-RPC call over one connection, as plainly as can be, so that tests do not judge our client with itself.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// How long the node may take over one answer; mining a signet block is the slowest.
const ANSWER_DEADLINE: Duration = Duration::from_secs(120);

/// Why a call of a test to its node failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The node cannot be reached, or its cookie not be read.
    #[error("the node cannot be reached: {0}")]
    Io(std::io::Error),
    /// The answer is none that a node gives.
    #[error("the node's answer is malformed: {0}")]
    Malformed(String),
    /// The node says no.
    #[error("the node refused the call ({code}): {message}")]
    Refused {
        /// The number of the error.
        code: i64,
        /// What the node said about it.
        message: String,
    },
}

/// Calls `method` of the node at `port` of the loopback, with `credentials` as `user:password`.
pub(super) fn call(port: u16, credentials: &str, method: &str, params: &Value) -> Result<Value, CallError> {
    let body = json!({ "id": 0, "method": method, "params": params }).to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Basic {}\r\nContent-Type: \
         application/json\r\nContent-Length: {}\r\n\r\n{body}",
        base64(credentials.as_bytes()),
        body.len(),
    );
    let answer = exchange(port, &request).map_err(CallError::Io)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| CallError::Malformed("no end of the header".to_owned()))?;
    let mut answer: Value = serde_json::from_str(body).map_err(|error| {
        CallError::Malformed(format!("{error} in the answer {:?}", head.lines().next().unwrap_or_default()))
    })?;
    match &answer["error"] {
        Value::Null => Ok(answer["result"].take()),
        error => Err(CallError::Refused {
            code: error["code"].as_i64().unwrap_or_default(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
        }),
    }
}

/// Sends a request and reads until the node closes.
fn exchange(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The alphabet of RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_usize, |group, &byte| group << 8 | usize::from(byte))
            << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let digit = ALPHABET[group >> (18 - 6 * position) & 0x3f];
            text.push(if position <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    /// The examples of RFC 4648 section 10.
    #[test]
    fn base64_pads() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, encoded) in cases {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }
}
