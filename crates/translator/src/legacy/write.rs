//! Writes lines to an SV1 pool, each in the one form that all pools read.

use std::io::Write as _;

use super::work::Issue;
use crate::sv1::{Id, hex};
use crate::upstream::UpShare;

/// What we say that we are.
pub(super) const VERSION: &str = concat!("adit/", env!("CARGO_PKG_VERSION"));

/// The version bits that machines need at least, for pools that want to know.
const MIN_BITS: u32 = 2;

pub(super) fn configure(out: &mut Vec<u8>, id: u64, mask: u32) {
    line(
        out,
        format_args!(
            "{{\"id\":{id},\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],\
             {{\"version-rolling.mask\":\"{mask:08x}\",\"version-rolling.min-bit-count\":{MIN_BITS}}}]}}"
        ),
    );
}

pub(super) fn subscribe(out: &mut Vec<u8>, id: u64) {
    line(out, format_args!("{{\"id\":{id},\"method\":\"mining.subscribe\",\"params\":[\"{VERSION}\"]}}"));
}

pub(super) fn authorize(out: &mut Vec<u8>, id: u64, (user, password): (&str, &str)) {
    let (user, password) = (quoted(user), quoted(password));
    line(out, format_args!("{{\"id\":{id},\"method\":\"mining.authorize\",\"params\":[{user},{password}]}}"));
}

pub(super) fn extranonce_subscribe(out: &mut Vec<u8>, id: u64) {
    line(out, format_args!("{{\"id\":{id},\"method\":\"mining.extranonce.subscribe\",\"params\":[]}}"));
}

/// Version bits are told only where the pool has agreed to them (BIP 310); others take a sixth parameter for a mistake.
pub(super) fn submit(out: &mut Vec<u8>, id: u64, (user, issue): (&str, &Issue), share: &UpShare) {
    let (user, job) = (quoted(user), quoted(&issue.id));
    let mut extranonce2 = Vec::new();
    hex::put(&mut extranonce2, share.extranonce.as_bytes());
    let extranonce2 = String::from_utf8_lossy(&extranonce2);
    let (ntime, nonce, mask) = (share.ntime, share.nonce, issue.version_mask);
    let bits = if mask == 0 { String::new() } else { format!(",\"{:08x}\"", share.version & mask) };
    line(
        out,
        format_args!(
            "{{\"id\":{id},\"method\":\"mining.submit\",\"params\":[{user},{job},\"{extranonce2}\",\"{ntime:08x}\",\"{nonce:08x}\"{bits}]}}"
        ),
    );
}

pub(super) fn answer(out: &mut Vec<u8>, id: Id, result: &str) {
    line(out, format_args!("{{\"id\":{},\"result\":\"{result}\",\"error\":null}}", id.as_str()));
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is always JSON")
}

fn line(out: &mut Vec<u8>, text: core::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("memory takes all that is written");
}
