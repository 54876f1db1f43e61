//! `adit bench` as a user runs it, in small: a server of its own, shares, new tips, and a report that says so.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs `adit bench` with these arguments.
fn bench(arguments: &[&str]) -> Output {
    let run = Command::new(env!("CARGO_BIN_EXE_adit")).arg("bench").args(arguments).output();
    run.expect("the program was built for this test")
}

/// The report of a run with these arguments.
fn report(arguments: &[&str]) -> Value {
    let run = bench(&[arguments, &["--json"]].concat());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("the report is JSON")
}

/// What a run with these arguments complains of as it fails.
fn complaint(arguments: &[&str]) -> String {
    let run = bench(arguments);
    assert!(!run.status.success());
    String::from_utf8_lossy(&run.stderr).into_owned()
}

/// What a run complains of whose last argument is a program that says this and ends.
fn complaint_with_broken_program(arguments: &[&str], words: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("broken");
    std::fs::write(&program, format!("#!/bin/sh\necho {words}; exit 3\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    complaint(&[arguments, &[program.to_str().unwrap()]].concat())
}

#[test]
fn paced_shares_and_new_tips_are_measured_on_a_server_of_its_own() {
    let report = report(&[
        "--serve",
        "--connections",
        "5",
        "--channels",
        "2",
        "--rate",
        "100",
        "--seconds",
        "2",
        "--tips",
        "2",
        "--generations",
        "2",
        "--reconnects",
        "5",
    ]);
    assert!(report["lost"].as_object().unwrap().is_empty(), "{report:#}");
    assert!(report["shares"]["accepted"].as_u64().unwrap() > 50, "{report:#}");
    assert_eq!(report["shares"]["unanswered"], 0, "{report:#}");
    let ordered = |tip: &&Value| tip["first_micros"].is_u64();
    let tips: Vec<_> = report["tips"].as_array().unwrap().iter().filter(ordered).collect();
    // A share that is a block by chance may make one of them late.
    assert!(!tips.is_empty() && tips.iter().all(|tip| tip["told"] == 5), "{report:#}");
    assert_eq!(report["tip_summary"]["told_everybody"], tips.len(), "{report:#}");
    let visits = &report["visits"];
    assert!(visits["set_out"].as_u64().unwrap() > 3 && visits["set_out"] == visits["served"], "{report:#}");
    assert_eq!(report["opening"]["connections"], 5);
    assert_eq!(report["handshakes"]["count"], 5);
    assert_eq!(report["memory"]["generations"].as_array().unwrap().len(), 2);
}

#[test]
fn acknowledgements_are_measured_beside_a_flood_and_without() {
    let flood = ["--serve", "--connections", "4", "--rate", "200", "--flood"];
    // A hundred declarers shake hands anew in each of the rounds before one of them can be answered, which takes a busy machine its time.
    for (kind, seconds) in [("handshakes", "2"), ("worthless-shares", "2"), ("declarations", "4")] {
        let report = report(&[&flood[..], &[kind, "--seconds", seconds]].concat());
        let flood = &report["flood"];
        assert_eq!((&flood["kind"], flood["rounds"].as_array().unwrap().len()), (&Value::from(kind), 5));
        assert!(flood["quiet_p99_micros"].is_u64() && flood["beside_p99_micros"].is_u64(), "{report:#}");
        assert!(flood["felt"]["acts"].as_u64().unwrap() > 0, "{report:#}");
        assert!(kind != "declarations" || flood["felt"]["answered"].as_u64().unwrap() > 0, "{report:#}");
        assert_eq!(report["lost"], serde_json::json!({}), "{report:#}");
        assert_eq!(report["shares"]["refused"], serde_json::json!({}), "{report:#}");
    }
}

#[test]
fn a_saturated_server_refuses_nothing() {
    for kind in ["standard", "extended"] {
        let report = report(&["--serve", "--connections", "2", "--seconds", "1", "--kind", kind]);
        assert!(report["shares"]["accepted"].as_u64().unwrap() > 100, "{report:#}");
        assert_eq!(report["shares"]["refused"], serde_json::json!({}), "{report:#}");
        assert_eq!(report["shares"]["unanswered"], 0, "{report:#}");
        assert_eq!(report["clean"], true, "{report:#}");
        assert!(report["shares"]["ack_micros"]["p99"].is_u64(), "{report:#}");
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let url = format!("stratum2+tcp://{free}");
    let complaint = complaint(&["--connections", "1", "--url", &url]);
    assert!(complaint.contains("0 of 1 connections") && complaint.contains("cannot reach"), "{complaint}");
}

#[test]
fn a_reference_pool_that_does_not_start_is_an_error() {
    let complaint = complaint_with_broken_program(&["--connections", "1", "--sri"], "no pool at all");
    assert!(complaint.contains("does not start") && complaint.contains("no pool at all"), "{complaint}");
}

#[test]
fn a_translator_that_does_not_start_is_an_error() {
    let arguments = ["sv1", "--machines", "1", "--translator"];
    let complaint = complaint_with_broken_program(&arguments, "no translator at all");
    assert!(complaint.contains("no translator at all"), "{complaint}");
}

#[test]
fn machines_are_measured_on_both_kinds_of_channels() {
    let crowd = ["sv1", "--machines", "6", "--jobs", "2", "--tips", "2", "--rate", "60", "--seconds", "2"];
    for more in [&[][..], &["--per-machine"], &["--one-up-in", "5"]] {
        let report = report(&[&crowd[..], more].concat());
        assert_eq!(report["clean"], true, "{report:#}");
        assert_eq!(
            (&report["jobs"]["told_everybody"], &report["tips"]["told_everybody"]),
            (&2.into(), &2.into())
        );
        let [accepted, up] = ["accepted", "went_up"].map(|count| report["shares"][count].as_u64().unwrap());
        assert!(accepted > 60 && (up < accepted) == more.contains(&"--one-up-in"), "{report:#}");
    }
}
