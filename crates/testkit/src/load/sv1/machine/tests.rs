//! The lines of both translators, as recorded, and what a machine makes of them.

use adit_units::{Monotonic, Target, Work};

use super::super::job::mark;
use super::*;

const POOL: Target = Target::MAX;

fn notify(number: u32, method_first: bool) -> String {
    let mark = mark(number).to_lower_hex_string();
    let (zeros, path) = ("00".repeat(32), "11".repeat(32));
    let params = format!(
        r#""params":["{number}","{zeros}","0200{mark}","ffffffff00",["{path}"],"20000000","17034219","6a000000",false]"#
    );
    let method = r#""method":"mining.notify""#;
    if method_first {
        format!("{{{method},{params}}}")
    } else {
        format!(r#"{{"id":null,{params},{method}}}"#)
    }
}

/// A machine that has heard all this.
fn machine(lines: &[&str]) -> Machine {
    let mut machine = Machine::new("bench.7", "d=1");
    for line in lines {
        machine.take(line.as_bytes()).unwrap();
    }
    machine
}

/// What the reference implementation's translator says to a newcomer.
const REFERENCE: [&str; 4] = [
    r#"{"id":1,"error":null,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":"00000002","minimum-difficulty":false}}"#,
    r#"{"id":2,"error":null,"result":[[["mining.set_difficulty","1"],["mining.notify","ae6812eb4cd7735a302a8a9dd95cf71f"]],"0102030405060000000000000000000a",8]}"#,
    r#"{"id":3,"error":null,"result":true}"#,
    r#"{"method":"mining.set_difficulty","params":[3.725e-9]}"#,
];

fn lines(machine: &mut Machine) -> Vec<Value> {
    let out = core::mem::take(&mut machine.out);
    let text = String::from_utf8(out).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_newcomer_says_everything_at_once() {
    let said = lines(&mut machine(&[]));
    let methods: Vec<_> = said.iter().map(|line| line["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["mining.configure", "mining.subscribe", "mining.authorize"]);
    assert_eq!(said[2]["params"], json!(["bench.7", "d=1"]));
}

#[test]
fn it_has_work_when_it_has_everything() {
    for missing in &REFERENCE[1..] {
        let mut machine = machine(&[]);
        for line in REFERENCE.iter().filter(|line| *line != missing) {
            machine.take(line.as_bytes()).unwrap();
        }
        assert_eq!(machine.take(notify(9, true).as_bytes()), Ok(Heard::Job(9)));
        assert!(!machine.has_work(), "without {missing}");
        machine.take(missing.as_bytes()).unwrap();
        assert!(machine.has_work());
    }
}

#[test]
fn a_job_is_news_once_wherever_its_method_stands() {
    let mut machine = machine(&REFERENCE);
    assert_eq!(machine.take(notify(1, false).as_bytes()), Ok(Heard::Job(1)));
    assert_eq!(machine.take(notify(1, true).as_bytes()), Ok(Heard::Other), "told again");
    assert_eq!(machine.take(notify(2, true).as_bytes()), Ok(Heard::Job(2)));
}

#[test]
fn a_share_is_what_it_says() {
    let mut machine = machine(&REFERENCE);
    machine.take(notify(1, true).as_bytes()).unwrap();
    lines(&mut machine);
    let due = Monotonic::from_micros(5);
    assert_eq!(machine.submit(due, &POOL), Ok(Some(true)));
    assert_eq!(machine.submit(due, &Target::ZERO), Ok(Some(false)));
    let said = lines(&mut machine);
    let params = said[0]["params"].as_array().unwrap();
    assert_eq!(params[..4], [json!("bench.7"), json!("1"), json!("0000000000000001"), json!("6a000000")]);
    assert_eq!(params[5], json!("00002000"), "the lowest bit that may be rolled");
    assert_ne!(params[4], said[1]["params"][4], "no share twice");

    // Whoever puts the header together as a translator does comes to a hash that meets the difficulty.
    let job = Job::parse(notify(1, true).as_bytes()).unwrap();
    let extranonce1 = Vec::from_hex("0102030405060000000000000000000a").unwrap();
    let root = job.root(&extranonce1, &[0, 0, 0, 0, 0, 0, 0, 1]);
    let mut fields = job.fields;
    fields.version = (fields.version & !0x1fff_e000) | 0x2000;
    let nonce = u32::from_str_radix(params[4].as_str().unwrap(), 16).unwrap();
    let hash = HeaderHasher::new(&fields.header(root, 0)).hash(nonce);
    assert!(Target::from_work(Work::from_hashes(15)).is_met_by(&hash));
}

#[test]
fn answers_belong_to_their_shares() {
    let mut machine = machine(&REFERENCE);
    machine.take(notify(1, true).as_bytes()).unwrap();
    let at = Monotonic::from_micros;
    for due in [1, 2, 3] {
        machine.submit(at(due), &POOL).unwrap();
    }
    let said = machine.take(br#"{"id":5,"result":true,"error":null}"#);
    assert_eq!(said, Ok(Heard::Accepted(at(2))));
    let said = machine.take(br#"{"id":4,"result":null,"error":[23,"Low difficulty share",null]}"#);
    assert_eq!(said, Ok(Heard::Refused("Low difficulty share".to_owned())));
    let said = machine.take(br#"{"id":6,"result":false,"error":null}"#);
    assert_eq!(said, Ok(Heard::Refused("null".to_owned())));
    assert_eq!(machine.take(br#"{"id":6,"result":true,"error":null}"#), Ok(Heard::Other), "answered already");
}

#[test]
fn it_answers_what_is_asked_and_goes_when_sent_away() {
    let mut machine = machine(&[]);
    lines(&mut machine);
    machine.take(br#"{"id":"a","method":"mining.ping","params":[]}"#).unwrap();
    assert_eq!(lines(&mut machine), [json!({ "id": "a", "result": "pong", "error": null })]);
    machine.take(br#"{"method":"mining.set_extranonce","params":["ff",4]}"#).unwrap();
    assert_eq!((machine.extranonce1.as_slice(), machine.extranonce2_len), (&[0xff][..], 4));
    machine.take(br#"{"method":"mining.set_extranonce","params":["ff",400]}"#).unwrap_err();
    machine.take(br#"{"id":null,"method":"client.reconnect","params":[]}"#).unwrap_err();
    machine.take(br#"{"id":3,"result":false,"error":null}"#).unwrap_err();
    machine.take(b"garbage").unwrap_err();
}

#[test]
fn difficulties_are_the_targets_that_they_are_elsewhere() {
    let easier = Target::DIFFICULTY_1.to_work().to_hashes();
    for (difficulty, work) in [(1.0, easier), (512.0, easier * 512), (0.001, easier / 1_000)] {
        let found = target_of(difficulty).unwrap().to_work().to_hashes();
        assert!(found >= work && found - work <= work / 2_000, "{difficulty}: {found} for {work}");
    }
    assert_eq!(target_of(1e-12).unwrap().to_work().to_hashes(), 1);
    for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(target_of(nonsense), None);
    }
}
