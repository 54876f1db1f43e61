//! The SV1 wire: any bytes as a stream of lines, each line read, answered and measured against the same lines in one piece.

use adit_translator::sv1::{self, Call, Configured, Fault, LineReader, Request};
use adit_translator::{Class, Credential, worker_name};
use serde_json::Value;

/// The most bytes of a line, as a server would have it.
const LIMIT: usize = 1024;

/// The bytes as a stream that arrives in pieces, whose length the first byte tells.
///
/// # Panics
///
/// If the pieces make a difference, if an answer is not one line of JSON with the id that was asked with, or if something that is read
/// exceeds its limits.
pub fn run(bytes: &[u8]) {
    let piece = bytes.first().map_or(1, |&byte| usize::from(byte).max(1));
    let whole = lines([bytes].into_iter());
    let pieces = lines(bytes.chunks(piece));
    // In one piece, the lines before one that is too long are given out too.
    assert_eq!(whole, pieces, "the pieces in which a stream arrives make a difference");
    for line in whole.0 {
        match sv1::parse(&line) {
            Ok(request) => understood(&request),
            Err(malformed) => {
                let id = malformed.id.unwrap_or(sv1::Id::NULL);
                answer(&id, |out| sv1::write_error(out, &id, malformed.fault()));
            }
        }
    }
}

/// All lines of a stream, and whether it ended with one that was too long.
fn lines<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let (mut reader, mut found) = (LineReader::new(LIMIT), Vec::new());
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next_line() {
                Ok(Some(line)) => found.push(line.to_vec()),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
        assert!(reader.held() <= 2 * (LIMIT + piece.len() + 2), "memory for lines that are not in flight");
    }
    (found, false)
}

/// What holds of every request, whatever the machine meant by it.
fn understood(request: &Request) {
    let id = request.id.unwrap_or(sv1::Id::NULL);
    match &request.call {
        Call::Configure(configure) => {
            assert!(configure.unknown.len() <= 8);
            let configured = Configured {
                version_rolling: configure
                    .version_rolling
                    .map(|rolling| rolling.mask & sv1::DEFAULT_VERSION_MASK),
                minimum_difficulty: configure.minimum_difficulty.map(|_| true),
                subscribe_extranonce: Some(configure.subscribe_extranonce),
                unknown: configure.unknown.clone(),
            };
            answer(&id, |out| sv1::write_configured(out, &id, &configured));
        }
        Call::Subscribe { user_agent, session } => {
            let user_agent = user_agent.as_deref().unwrap_or_default();
            shown(user_agent);
            assert!(Class::of(user_agent).coinbase_max > 0);
            assert_ne!(*session, Some([0; 4]), "an extranonce1 of zeros is never given out");
            answer(&id, |out| sv1::write_subscribed(out, &id, session.unwrap_or([1; 4]), 8));
        }
        Call::Authorize { user, password } => {
            shown(user);
            shown(password);
            let credential = Credential::parse(user, password);
            assert!(credential.account.len() <= user.len());
            assert!(worker_name(user).as_str().len() <= user.len());
            answer(&id, |out| sv1::write_true(out, &id));
        }
        Call::Submit(submit) => {
            shown(&submit.user);
            for len in [0, 4, 8, 32] {
                assert_eq!(submit.extranonce2.resized(len).as_slice().len(), usize::from(len));
            }
            answer(&id, |out| sv1::write_error(out, &id, Fault::Stale));
        }
        Call::SuggestDifficulty(Some(difficulty)) => {
            let mut out = Vec::new();
            sv1::write_set_difficulty(&mut out, *difficulty);
            let told = serde_json::from_slice::<Value>(&out).expect("what is written is JSON");
            let number = told.pointer("/params/0").map(Value::to_string).unwrap_or_default();
            assert!(number.parse::<f64>().is_ok_and(|number| number > 0.0), "{number}");
        }
        Call::Unknown(text) => {
            shown(text);
            answer(&id, |out| sv1::write_result(out, &id, text));
        }
        Call::Answer(answer) => shown(answer.text.as_deref().unwrap_or_default()),
        Call::SuggestDifficulty(None)
        | Call::SuggestTarget(_)
        | Call::ExtranonceSubscribe
        | Call::Ping
        | Call::GetTransactions
        | Call::GetVersion => answer(&id, |out| sv1::write_pong(out, &id)),
    }
}

/// Text from a machine that is stored and shown.
fn shown(text: &str) {
    assert!(text.len() <= 255, "{} bytes", text.len());
    assert!(text.chars().all(adit_channel::prints), "{text:?}");
}

/// Whatever was asked, an answer is one line, and carries the id as the machine wrote it.
fn answer(id: &sv1::Id, write: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(out.last(), Some(&b'\n'));
    let begin = format!("{{\"id\":{},", id.as_str());
    assert!(out.starts_with(begin.as_bytes()), "{}", String::from_utf8_lossy(&out));
    // A number such as 1e999 is JSON, but too great for the reader.
    if id.to_number().is_some() || *id == sv1::Id::NULL {
        assert!(serde_json::from_slice::<Value>(&out).is_ok(), "{}", String::from_utf8_lossy(&out));
    }
}
