//! The machine's side of one SV1 connection, without its socket.

use std::collections::VecDeque;

use adit_miner::HeaderHasher;
use adit_units::{Monotonic, Target};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use serde_json::{Value, json};

use super::super::channel::{TRIES_MAX, TooHard};
use super::job::{Job, marked};

/// The numbers of the first requests; shares come behind.
const CONFIGURE: u64 = 1;
const SUBSCRIBE: u64 = 2;
const AUTHORIZE: u64 = 3;

/// The version bits that a machine asks to roll (BIP 320).
const VERSION_MASK: u32 = 0x1fff_e000;

/// What a machine writes when it connects: everything at once, as small devices do.
fn greeting(user: &str, password: &str) -> String {
    let (mask, bits) = (format!("{VERSION_MASK:08x}"), 2);
    let settings = json!({ "version-rolling.mask": mask, "version-rolling.min-bit-count": bits });
    let configure =
        json!({ "id": CONFIGURE, "method": "mining.configure", "params": [["version-rolling"], settings] });
    let subscribe = json!({ "id": SUBSCRIBE, "method": "mining.subscribe", "params": ["adit-bench"] });
    let authorize = json!({ "id": AUTHORIZE, "method": "mining.authorize", "params": [user, password] });
    format!("{configure}\n{subscribe}\n{authorize}\n")
}

/// What a line meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Work that is new to this machine, by the pool's number.
    Job(u32),
    /// The share that was due then is good.
    Accepted(Monotonic),
    /// A share is not.
    Refused(String),
    /// Something to act on, or nothing.
    Other,
}

/// What it hashes now.
struct Active {
    job: Job,
    extranonce2: Vec<u8>,
    /// What held when the job came.
    target: Target,
    hasher: HeaderHasher,
}

/// One machine.
pub(super) struct Machine {
    user: String,
    /// What is to be written.
    pub(super) out: Vec<u8>,
    extranonce1: Vec<u8>,
    extranonce2_len: usize,
    is_authorized: bool,
    /// The bits that it sets in the version, if it may set any, and those that it may.
    rolled: Option<(u32, u32)>,
    target: Target,
    /// The last line of `mining.notify`, which is only understood when a share is wanted; that is work which a farm does not do here.
    notify: Vec<u8>,
    number: Option<u32>,
    active: Option<Active>,
    /// Never the same for two headers, so that a job that is told again makes no share twice.
    next_nonce: u32,
    next_id: u64,
    /// Shares without an answer, oldest first.
    waiting: VecDeque<(u64, Monotonic)>,
}

impl Machine {
    /// A machine that has just connected.
    pub(super) fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            out: greeting(user, password).into_bytes(),
            extranonce1: Vec::new(),
            extranonce2_len: 0,
            is_authorized: false,
            rolled: None,
            target: Target::ZERO,
            notify: Vec::new(),
            number: None,
            active: None,
            next_nonce: 0,
            next_id: AUTHORIZE + 1,
            waiting: VecDeque::new(),
        }
    }

    /// Whether it is subscribed and authorized, and has work and a difficulty.
    pub(super) fn has_work(&self) -> bool {
        let is_subscribed = !self.extranonce1.is_empty();
        is_subscribed && self.is_authorized && !self.notify.is_empty() && self.target > Target::ZERO
    }

    /// Takes in one line.
    ///
    /// # Errors
    ///
    /// What the translator did that no machine can go on with.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<Heard, String> {
        if is_notify(line) {
            return Ok(self.take_notify(line));
        }
        let message: Value =
            serde_json::from_slice(line).map_err(|error| format!("a line is no JSON: {error}"))?;
        match message.get("method").and_then(Value::as_str) {
            Some(method) => self.take_call(method, &message).map(|()| Heard::Other),
            None => self.take_answer(&message),
        }
    }

    fn take_notify(&mut self, line: &[u8]) -> Heard {
        self.notify.clear();
        self.notify.extend_from_slice(line);
        self.active = None;
        let number = marked(line);
        // A job is told again when there has been none for long.
        if number == self.number {
            return Heard::Other;
        }
        self.number = number;
        number.map_or(Heard::Other, Heard::Job)
    }

    fn take_call(&mut self, method: &str, message: &Value) -> Result<(), String> {
        let params = &message["params"];
        match method {
            "mining.set_difficulty" => {
                let target = params[0].as_f64().and_then(target_of);
                self.target = target.ok_or_else(|| format!("no difficulty: {params}"))?;
            }
            "mining.set_extranonce" => self.set_extranonce(&params[0], &params[1])?,
            "mining.set_version_mask" => self.roll(params[0].as_str()),
            "mining.ping" => self.answer(&message["id"], "pong"),
            "client.get_version" => self.answer(&message["id"], "adit-bench"),
            "client.reconnect" => return Err("the translator sent the machine away".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn take_answer(&mut self, message: &Value) -> Result<Heard, String> {
        let (result, error) = (&message["result"], &message["error"]);
        match message["id"].as_u64() {
            // A translator need not know of extensions.
            Some(CONFIGURE) => {
                if result["version-rolling"] == json!(true) {
                    self.roll(result["version-rolling.mask"].as_str());
                }
                Ok(Heard::Other)
            }
            Some(SUBSCRIBE) => self.set_extranonce(&result[1], &result[2]).map(|()| Heard::Other),
            Some(AUTHORIZE) if result == &json!(true) => {
                self.is_authorized = true;
                Ok(Heard::Other)
            }
            Some(AUTHORIZE) => Err(format!("not authorized: {}", printable(error))),
            Some(id) => Ok(self.settle(id, result, error)),
            None => Ok(Heard::Other),
        }
    }

    fn settle(&mut self, id: u64, result: &Value, error: &Value) -> Heard {
        let Some(place) = self.waiting.iter().position(|(waiting, _)| *waiting == id) else {
            return Heard::Other;
        };
        let due = self.waiting.remove(place).map(|(_, due)| due);
        match due {
            Some(due) if result == &json!(true) => Heard::Accepted(due),
            Some(_) | None => Heard::Refused(printable(error)),
        }
    }

    fn set_extranonce(&mut self, extranonce1: &Value, extranonce2_len: &Value) -> Result<(), String> {
        let bytes = extranonce1.as_str().and_then(|digits| Vec::from_hex(digits).ok());
        let len = extranonce2_len.as_u64().and_then(|len| usize::try_from(len).ok()).filter(|len| *len <= 32);
        let (Some(bytes), Some(len)) = (bytes, len) else {
            return Err(format!("no extranonce: {extranonce1}, {extranonce2_len}"));
        };
        (self.extranonce1, self.extranonce2_len, self.active) = (bytes, len, None);
        Ok(())
    }

    fn roll(&mut self, mask: Option<&str>) {
        let mask = mask.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0) & VERSION_MASK;
        self.rolled = (mask != 0).then_some((mask & mask.wrapping_neg(), mask));
        self.active = None;
    }

    fn answer(&mut self, id: &Value, what: &str) {
        let line = json!({ "id": id, "result": what, "error": null });
        self.out.extend_from_slice(format!("{line}\n").as_bytes());
    }

    /// Finds a share that is `due` now and queues it; whether it meets the pool's target, too, or `None` without work.
    pub(super) fn submit(&mut self, due: Monotonic, pool: &Target) -> Result<Option<bool>, TooHard> {
        if self.active.is_none() {
            self.active = self.activate();
        }
        let Some(active) = &mut self.active else { return Ok(None) };
        // Translators differ in whether a new difficulty holds for the present job; the harder one satisfies all.
        let target = active.target.min(self.target);
        let first = self.next_nonce;
        let found = active.hasher.find(first..=first.saturating_add(TRIES_MAX), &target);
        let (nonce, hash) = found.ok_or(TooHard)?;
        self.next_nonce = nonce.wrapping_add(1);
        let (id, job) = (self.next_id, &active.job);
        let extranonce2 = active.extranonce2.to_lower_hex_string();
        let line = format!(
            r#"{{"id":{id},"method":"mining.submit","params":["{}","{}","{extranonce2}","{:08x}","{nonce:08x}""#,
            self.user, job.id, job.fields.ntime
        );
        self.out.extend_from_slice(line.as_bytes());
        if let Some((bits, _)) = self.rolled {
            self.out.extend_from_slice(format!(r#","{bits:08x}""#).as_bytes());
        }
        self.out.extend_from_slice(b"]}\n");
        self.next_id += 1;
        self.waiting.push_back((id, due));
        Ok(Some(pool.is_met_by(&hash)))
    }

    /// Begins to hash the last job.
    fn activate(&self) -> Option<Active> {
        let job = Job::parse(&self.notify)?;
        let mut extranonce2 = vec![0; self.extranonce2_len];
        if let Some(last) = extranonce2.last_mut() {
            *last = 1;
        }
        let mut fields = job.fields;
        if let Some((bits, mask)) = self.rolled {
            fields.version = (fields.version & !mask) | bits;
        }
        let header = fields.header(job.root(&self.extranonce1, &extranonce2), 0);
        Some(Active { job, extranonce2, target: self.target, hasher: HeaderHasher::new(&header) })
    }
}

/// Whether a line is `mining.notify`; much cheaper than to understand it, which matters when it comes to thousands at once.
fn is_notify(line: &[u8]) -> bool {
    // The method stands before the parameters or behind them, at one of the ends of a long line.
    const END: usize = 96;
    let has = |part: &[u8], name: &[u8]| part.windows(name.len()).any(|window| window == name);
    let ends = [line.get(..END).unwrap_or(line), line.get(line.len().saturating_sub(END)..).unwrap_or(line)];
    let names: [&[u8]; 2] = [br#""method":"mining.notify""#, br#""method": "mining.notify""#];
    names.iter().any(|name| ends.iter().any(|end| has(end, name)))
}

/// The target of an SV1 difficulty, harder by a part in four thousand, so that how it was rounded never matters; `None` for what is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is too great becomes the greatest"
)]
pub(super) fn target_of(difficulty: f64) -> Option<Target> {
    const TWO_POW_48: f64 = 281_474_976_710_656.0;
    const TWO_POW_128: f64 = TWO_POW_48 * TWO_POW_48 * 4_294_967_296.0;
    const MARGIN: f64 = 1.0 - 1.0 / 4_096.0;
    if !(difficulty.is_finite() && difficulty > 0.0) {
        return None;
    }
    let hashes = difficulty * TWO_POW_48 / 65_535.0;
    let high = (TWO_POW_128 / hashes * MARGIN) as u128;
    let mut bytes = [0; 32];
    bytes[16..].copy_from_slice(&high.to_le_bytes());
    Some(Target::from_le_bytes(bytes))
}

/// What a translator gave as its reason, safe to print.
fn printable(error: &Value) -> String {
    // SV1 writes [code, text, trace], some write an object.
    let text = [&error[1], &error["message"]].into_iter().find_map(Value::as_str);
    let text = text.map_or_else(|| error.to_string(), str::to_owned);
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests;
