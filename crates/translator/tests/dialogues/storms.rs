//! Machines of which nothing good comes any more.

use adit_translator::{Disconnect, MALFORMED_MAX};
use serde_json::{Value, json};

use super::world::{Attempt, Rig, World, fine, methods, refused};

#[test]
fn a_machine_whose_shares_are_all_refused_gets_its_job_then_an_invitation_then_its_leave() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let wrong = Attempt { job: "ff00".into(), ..rig.attempt(1) };
    let mut remedies = Vec::new();
    for second in 0..=180 {
        let lines = rig.submits_all(&mut world, &wrong);
        assert_eq!(lines[0], refused(7, 21, "Invalid JobID"), "answered to the last");
        remedies.extend(methods(&lines[1..]).into_iter().map(|method| (second, method.to_owned())));
        if rig.ended.is_some() {
            assert_eq!((second, rig.ended), (180, Some(Disconnect::Storm)));
        }
        world.wait(1);
    }
    assert_eq!(remedies, [(60, "mining.notify".to_owned()), (120, "client.reconnect".to_owned())]);
    assert!(
        rig.told().clean && rig.jobs[0].id != rig.told().id,
        "the job comes anew, with all before it void"
    );
    assert_eq!(rig.ended, Some(Disconnect::Storm));
}

#[test]
fn one_good_share_ends_the_storm() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let wrong = Attempt { job: "ff00".into(), ..rig.attempt(1) };
    for second in 0..1_000 {
        rig.submits(&mut world, &wrong);
        if second % 50 == 49 {
            assert_eq!(rig.tries(&mut world, second), fine(7));
        }
        world.wait(1);
    }
    assert_eq!((rig.jobs.len(), rig.ended), (1, None));
}

#[test]
fn a_slow_machine_with_a_few_late_shares_is_left_alone() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let wrong = Attempt { job: "ff00".into(), ..rig.attempt(1) };
    for _ in 0..9 {
        rig.submits(&mut world, &wrong);
        world.wait(600);
    }
    assert_eq!((rig.jobs.len(), rig.ended), (1, None));
}

#[test]
fn lines_that_are_no_requests_are_answered_where_they_can_be_and_end_it_at_last() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let lines = [
        ("nonsense", Vec::new()),
        ("[]", Vec::new()),
        ("{\"id\":3}", vec![refused(3, 20, "No method")]),
        ("{\"id\":3,\"method\":null}", vec![refused(3, 20, "No method")]),
        ("{\"id\":[],\"method\":\"mining.ping\"}", Vec::new()),
        ("\u{1f4a5}", Vec::new()),
    ];
    for round in 0..MALFORMED_MAX {
        let (line, answer) = &lines[round as usize % lines.len()];
        assert_eq!(rig.ended, None);
        assert_eq!(rig.says(&mut world, line), *answer, "{line}");
    }
    assert_eq!(rig.ended, Some(Disconnect::Malformed));
}

#[test]
fn now_and_then_a_line_that_is_no_request_does_no_harm() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    for round in 0..100 {
        for _ in 1..MALFORMED_MAX {
            assert_eq!(rig.says(&mut world, "nonsense"), Vec::<Value>::new());
        }
        assert_eq!(rig.tries(&mut world, round), fine(7));
    }
    assert_eq!(rig.ended, None);
}

#[test]
fn requests_of_any_number_make_output_of_bounded_size() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::ready(&mut world);
    let calls = [
        json!({"id": 1, "method": "mining.extranonce.subscribe", "params": []}),
        json!({"id": 1, "method": "mining.suggest_difficulty", "params": [5]}),
        json!({"id": 1, "method": "mining.subscribe", "params": ["x"]}),
        json!({"id": 1, "method": "mining.authorize", "params": ["alice.rig", "x"]}),
        json!({"id": 1, "method": "mining.configure", "params": [["version-rolling"], {}]}),
    ];
    for call in calls {
        rig.says(&mut world, &call.to_string());
        for _ in 0..300 {
            let line = call.to_string();
            rig.machine.handle_line(line.as_bytes(), &mut world.lent, world.now).unwrap();
            let written = core::mem::take(rig.machine.output()).len();
            assert!(written <= 4 * line.len(), "{written} bytes for {line}");
        }
    }
}
