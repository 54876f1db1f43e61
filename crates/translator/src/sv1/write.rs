//! Writes lines to a machine, each in the one form that all machines read.

use core::fmt;
use std::io::Write as _;

use adit_units::Difficulty;

use super::{Fault, Id, hex};

/// Bytes of the answer `true` without its id.
const TRUE_LEN: usize = "{'id':,'result':true,'error':null}\n".len();

/// What a machine is told about the extensions that it asked for; nothing is said about those that it did not ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The version bits that it may roll; none of them refuses.
    pub version_rolling: Option<u32>,
    /// Whether it is given no lower difficulty than it asked for.
    pub minimum_difficulty: Option<bool>,
    /// Whether it may be told of a new extranonce1.
    pub subscribe_extranonce: Option<bool>,
    /// Extensions that are refused because we do not know them.
    pub unknown: Vec<Box<str>>,
}

/// Answers `mining.configure`.
pub fn write_configured(out: &mut Vec<u8>, id: &Id, configured: &Configured) {
    begin_result(out, id);
    out.push(b'{');
    let start = out.len();
    match configured.version_rolling {
        None => {}
        Some(0) => put_member(out, start, "version-rolling", false),
        Some(mask) => {
            put_member(out, start, "version-rolling", true);
            out.extend_from_slice(b",\"version-rolling.mask\":\"");
            hex::put(out, &mask.to_be_bytes());
            out.push(b'"');
        }
    }
    if let Some(granted) = configured.minimum_difficulty {
        put_member(out, start, "minimum-difficulty", granted);
    }
    if let Some(granted) = configured.subscribe_extranonce {
        put_member(out, start, "subscribe-extranonce", granted);
    }
    for name in &configured.unknown {
        put_member(out, start, name, false);
    }
    out.push(b'}');
    end_result(out);
}

/// Answers `mining.subscribe`: the session id is the extranonce1, so that a machine that comes back can ask for it.
pub fn write_subscribed(out: &mut Vec<u8>, id: &Id, extranonce1: [u8; 4], extranonce2_len: u8) {
    begin_result(out, id);
    out.extend_from_slice(b"[[[\"mining.set_difficulty\",\"");
    hex::put(out, &extranonce1);
    out.extend_from_slice(b"\"],[\"mining.notify\",\"");
    hex::put(out, &extranonce1);
    out.extend_from_slice(b"\"]],\"");
    hex::put(out, &extranonce1);
    out.extend_from_slice(b"\",");
    put_number(out, extranonce2_len);
    out.push(b']');
    end_result(out);
}

/// Answers that all is well.
pub fn write_true(out: &mut Vec<u8>, id: &Id) {
    begin_result(out, id);
    out.extend_from_slice(b"true");
    end_result(out);
}

/// Answers with text.
pub fn write_result(out: &mut Vec<u8>, id: &Id, text: &str) {
    begin_result(out, id);
    put_text(out, text);
    end_result(out);
}

/// Answers `mining.ping`.
pub fn write_pong(out: &mut Vec<u8>, id: &Id) {
    write_result(out, id, "pong");
}

/// Answers that the request is refused.
pub fn write_error(out: &mut Vec<u8>, id: &Id, fault: Fault) {
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(id.as_str().as_bytes());
    out.extend_from_slice(b",\"result\":null,\"error\":[");
    put_number(out, fault.code());
    out.push(b',');
    put_text(out, fault.text());
    out.extend_from_slice(b",null]}\n");
}

/// Tells the difficulty of jobs from now on.
pub fn write_set_difficulty(out: &mut Vec<u8>, difficulty: Difficulty) {
    begin_call(out, &Id::NULL, "mining.set_difficulty");
    put_number(out, difficulty);
    end_call(out);
}

/// Tells a new extranonce1, which is to be used from the next job on.
pub fn write_set_extranonce(out: &mut Vec<u8>, extranonce1: [u8; 4], extranonce2_len: u8) {
    begin_call(out, &Id::NULL, "mining.set_extranonce");
    out.push(b'"');
    hex::put(out, &extranonce1);
    out.extend_from_slice(b"\",");
    put_number(out, extranonce2_len);
    end_call(out);
}

/// Tells the version bits that may be rolled.
pub fn write_set_version_mask(out: &mut Vec<u8>, mask: u32) {
    begin_call(out, &Id::NULL, "mining.set_version_mask");
    out.push(b'"');
    hex::put(out, &mask.to_be_bytes());
    out.push(b'"');
    end_call(out);
}

/// Asks to connect anew: to another place, or to this one, which firmware takes from a list without parameters. Many machines stay, or come
/// back here.
pub fn write_reconnect(out: &mut Vec<u8>, elsewhere: Option<(&str, u16)>, wait_seconds: u32) {
    begin_call(out, &Id::NULL, "client.reconnect");
    if let Some((host, port)) = elsewhere {
        put_text(out, host);
        out.push(b',');
        put_number(out, port);
        out.push(b',');
        put_number(out, wait_seconds);
    }
    end_call(out);
}

/// Asks for a sign of life.
pub fn write_ping(out: &mut Vec<u8>, id: u64) {
    begin_call(out, &Id::from_number(id), "mining.ping");
    end_call(out);
}

/// Everything before the result.
fn begin_result(out: &mut Vec<u8>, id: &Id) {
    // Nearly all answers are `true`, into a buffer that was given back when the last one was sent: it is made once, and not in steps.
    out.reserve(TRUE_LEN + id.as_str().len());
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(id.as_str().as_bytes());
    out.extend_from_slice(b",\"result\":");
}

/// Everything behind the result.
fn end_result(out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"error\":null}\n");
}

/// Everything before the parameters.
pub(super) fn begin_call(out: &mut Vec<u8>, id: &Id, method: &str) {
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(id.as_str().as_bytes());
    out.extend_from_slice(b",\"method\":\"");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\",\"params\":[");
}

/// Everything behind the parameters.
pub(super) fn end_call(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]}\n");
}

/// A member of an object that began at `start`.
fn put_member(out: &mut Vec<u8>, start: usize, name: &str, value: bool) {
    if out.len() > start {
        out.push(b',');
    }
    put_text(out, name);
    out.extend_from_slice(if value { b":true" } else { b":false" });
}

/// A number in the form that it prints itself in.
fn put_number(out: &mut Vec<u8>, number: impl fmt::Display) {
    write!(out, "{number}").expect("memory takes all that is written to it");
}

/// Text with quotation marks, and escapes where JSON needs them.
fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("memory takes all that is written to it");
}
