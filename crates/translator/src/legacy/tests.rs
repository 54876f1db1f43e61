//! Dialogues with SV1 pools, honest and hostile ones, on a clock that stands still.

use adit_share::Assignment;
use adit_units::Hashrate;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::sv1::{Notify, write_notify};
use crate::upstream::{ChannelWork, Source};

const KEY: u64 = 0;
const SPEED: Hashrate = Hashrate::from_hashes_per_second(1_000_000);
const START: Monotonic = Monotonic::from_micros(1_000_000);

fn config() -> Arc<LegacyConfig> {
    Arc::new(LegacyConfig {
        user: "farm\".1".to_owned(),
        password: "d=5\"".to_owned(),
        version_mask: 0x1fff_e000,
    })
}

/// What was said to the pool since this was asked last.
fn said(upstream: &mut LegacyUpstream) -> Vec<Value> {
    let bytes = core::mem::take(upstream.output());
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn events(upstream: &mut LegacyUpstream) -> Vec<Event> {
    core::iter::from_fn(|| upstream.poll_event()).collect()
}

fn tell(upstream: &mut LegacyUpstream, line: &str) {
    upstream.handle_line(line.as_bytes(), START).unwrap_or_else(|error| panic!("{line}: {error}"));
}

/// A pool that allows these bits has let us in.
fn ready(mask: &str) -> LegacyUpstream {
    let mut upstream = LegacyUpstream::new(&config(), START);
    tell(
        &mut upstream,
        &format!(
            r#"{{"id":1,"result":{{"version-rolling":true,"version-rolling.mask":"{mask}"}},"error":null}}"#
        ),
    );
    tell(&mut upstream, r#"{"id":2,"result":[[["mining.notify","a"]],"c0ffee01",8],"error":null}"#);
    tell(&mut upstream, r#"{"id":3,"result":true,"error":null}"#);
    assert_eq!(events(&mut upstream), [Event::Ready { names_workers: false }]);
    upstream.open(KEY, SPEED, START).unwrap();
    assert_eq!(events(&mut upstream), [Event::Opened { key: KEY }]);
    said(&mut upstream);
    upstream
}

/// A job on the block that is called `tip`.
fn notify(job: u64, tip: u8, clean: bool) -> String {
    let mut prefix = vec![0; 41];
    prefix.extend([30, 3, 0xa0, 0xbb, 0x0d]);
    let mut hash = [tip; 32];
    hash[0] = 1;
    let mut line = Vec::new();
    let notify = Notify {
        job,
        prev_hash: &hash,
        coinbase_prefix: &[&prefix],
        coinbase_suffix: &[0xff; 60],
        merkle_path: &[[2; 32], [3; 32]],
        version: 0x2000_0000,
        nbits: 0x1702_0000,
        ntime: 1_700_000_000,
        clean,
    };
    write_notify(&mut line, &notify);
    String::from_utf8(line).unwrap().trim().to_owned()
}

fn work(upstream: &mut LegacyUpstream) -> ChannelWork {
    match events(upstream).as_slice() {
        [Event::Work(work)] => work.clone(),
        other => panic!("{other:?}"),
    }
}

fn share(tag: u64, work: &ChannelWork) -> UpShare {
    UpShare {
        tag,
        key: work.key,
        source: work.source,
        nonce: 0xdead_beef,
        ntime: 1_700_000_001,
        version: work.job.version() | 0x0000_4000,
        extranonce: Extranonce::join(&[1, 2, 3, 4, 5, 6, 7, 8], &[]),
        worker: None,
    }
}

#[test]
fn a_pool_is_greeted_and_lets_us_in() {
    let mut upstream = LegacyUpstream::new(&config(), START);
    let first = said(&mut upstream);
    assert_eq!(first.len(), 2);
    assert_eq!(first[0]["method"], "mining.configure");
    assert_eq!(first[0]["params"][1]["version-rolling.mask"], "1fffe000");
    assert_eq!(first[1]["method"], "mining.subscribe");
    assert_eq!(first[1]["params"][0], concat!("adit/", env!("CARGO_PKG_VERSION")));
    assert_eq!(upstream.open(KEY, SPEED, START), Err(NotOpened::NotReady));
    tell(&mut upstream, r#"{"id":2,"result":[null,"c0ffee01",8],"error":null}"#);
    let then = said(&mut upstream);
    assert_eq!((&then[0]["method"], &then[0]["params"][0]), (&"mining.authorize".into(), &"farm\".1".into()));
    assert_eq!((&then[0]["params"][1], upstream.extranonce_size()), (&"d=5\"".into(), Some(8)));
    // Work that comes before we are let in is kept.
    tell(&mut upstream, &notify(7, 9, true));
    assert_eq!(events(&mut upstream), []);
    tell(&mut upstream, r#"{"id":3,"result":true,"error":null}"#);
    assert_eq!(said(&mut upstream)[0]["method"], "mining.extranonce.subscribe");
    assert_eq!(events(&mut upstream), [Event::Ready { names_workers: false }]);
    upstream.open(KEY, SPEED, START).unwrap();
    assert!(matches!(events(&mut upstream).as_slice(), [Event::Opened { key: KEY }, Event::Work(_)]));
    assert_eq!(upstream.open(KEY, SPEED, START), Err(NotOpened::Taken));
    assert_eq!(upstream.open(5, SPEED, START), Err(NotOpened::Single));
}

#[test]
fn who_does_not_let_us_in_is_left() {
    for (line, expected) in [
        (
            r#"{"id":2,"result":null,"error":[20,"Go\u0007 away",null]}"#,
            "refuses mining.subscribe: 20 Go away",
        ),
        (r#"{"id":2,"result":[[],"zz",8],"error":null}"#, "refuses mining.subscribe"),
        (r#"{"id":2,"result":[[],"00",32],"error":null}"#, "has 1 bytes and leaves 32"),
        (r#"{"id":2,"result":[[],"00",18446744073709551615],"error":null}"#, "has 1 bytes"),
    ] {
        let mut upstream = LegacyUpstream::new(&config(), START);
        let error = upstream.handle_line(line.as_bytes(), START).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for line in [
        r#"{"id":3,"result":false,"error":null}"#,
        r#"{"id":3,"result":null,"error":{"code":24,"message":"Unauthorized"}}"#,
        r#"{"id":3,"result":true,"error":"no"}"#,
    ] {
        let mut upstream = LegacyUpstream::new(&config(), START);
        tell(&mut upstream, r#"{"id":2,"result":[[],"c0ffee01",8],"error":null}"#);
        let refused = upstream.handle_line(line.as_bytes(), START);
        assert!(matches!(refused, Err(LegacyError::Refused { what: "mining.authorize", .. })), "{refused:?}");
    }
}

#[test]
fn a_job_is_read_as_it_was_written() {
    let mut upstream = ready("1fffe000");
    tell(&mut upstream, r#"{"id":null,"method":"mining.set_difficulty","params":[512]}"#);
    tell(&mut upstream, &notify(7, 9, true));
    let work = work(&mut upstream);
    let job = &work.job;
    assert_eq!(
        job.tip().prev_hash.as_ref() as &[u8; 32],
        &core::array::from_fn(|i| if i == 0 { 1 } else { 9 })
    );
    assert_eq!((job.height().0, job.tip().nbits.to_consensus()), (900_000, 0x1702_0000));
    assert_eq!(
        (job.version(), job.min_ntime(), job.version_rolling_allowed()),
        (0x2000_0000, 1_700_000_000, true)
    );
    assert_eq!(job.merkle_path(), [[2; 32], [3; 32]]);
    assert_eq!((job.coinbase_prefix().len(), job.coinbase_suffix()), (46, &[0xff; 60][..]));
    assert_eq!((work.prefix.as_bytes(), work.extranonce_size), (&[0xc0, 0xff, 0xee, 1][..], 8));
    assert_eq!(work.target, Difficulty::from_whole(512).to_target());
    assert!(work.is_new_tip);
    assert!(Assignment::extended(job, work.target, work.prefix.as_bytes()).is_ok());
}

#[test]
fn shares_are_written_as_the_pool_wants_them_and_settled_by_its_answers() {
    let mut upstream = ready("1fffe000");
    tell(&mut upstream, &notify(7, 9, true));
    let work = work(&mut upstream);
    for tag in 1..=3 {
        upstream.submit(&share(tag, &work), START).unwrap();
    }
    let lines = said(&mut upstream);
    let expected: Value = serde_json::from_str(
        r#"["farm\".1","0000000000000007","0102030405060708","6553f101","deadbeef","00004000"]"#,
    )
    .unwrap();
    assert_eq!((&lines[0]["method"], &lines[0]["params"]), (&"mining.submit".into(), &expected));
    let ids: Vec<_> = lines.iter().map(|line| line["id"].as_u64().unwrap()).collect();
    // In any order.
    tell(&mut upstream, &format!(r#"{{"id":{},"result":null,"error":[21,"Stale",null]}}"#, ids[1]));
    tell(&mut upstream, &format!(r#"{{"id":"{}","result":true}}"#, ids[0]));
    tell(&mut upstream, &format!(r#"{{"id":{},"result":true,"error":null}}"#, ids[0]));
    assert_eq!(upstream.ignored().answers, 1, "the second answer settles nothing");
    assert_eq!(upstream.pending(), 1);
    upstream.abandon();
    let settled = |tag, outcome| Event::Settled { tag, outcome };
    assert_eq!(
        events(&mut upstream),
        [
            settled(2, Outcome::Refused("21 Stale".to_owned())),
            settled(1, Outcome::Accepted),
            settled(3, Outcome::Lost)
        ]
    );
}

#[test]
fn versions_are_rolled_as_far_as_the_pool_allows() {
    for (mask, granted) in [
        ("1fffe000", 0x1fff_e000),
        ("ffffffff", 0x1fff_e000),
        ("0fffe000", 0x0fff_e000),
        ("0000001f", 0),
        ("00000000", 0),
    ] {
        let mut upstream = ready(mask);
        tell(&mut upstream, &notify(7, 9, true));
        let work = work(&mut upstream);
        let allowed = granted != 0;
        assert_eq!((work.job.version_rolling_allowed(), work.version_mask), (allowed, granted), "{mask}");
        assert_eq!(upstream.submit(&share(1, &work), START).is_ok(), allowed, "{mask}");
        let unrolled = UpShare { version: work.job.version(), ..share(2, &work) };
        upstream.submit(&unrolled, START).unwrap();
        let params = said(&mut upstream).pop().unwrap()["params"].as_array().unwrap().len();
        assert_eq!(params, if allowed { 6 } else { 5 }, "{mask}");
    }
    let mut upstream = ready("1fffe000");
    let rolled = UpShare {
        version: 0xffff_ffff,
        ..{
            tell(&mut upstream, &notify(7, 9, true));
            share(1, &work(&mut upstream))
        }
    };
    assert_eq!(upstream.submit(&rolled, START), Err(NotSubmitted::Version));
    tell(&mut upstream, r#"{"id":null,"method":"mining.set_version_mask","params":["00000000"]}"#);
    tell(&mut upstream, &notify(8, 9, false));
    assert!(!work(&mut upstream).job.version_rolling_allowed(), "from the next job on");
}

#[test]
fn a_job_keeps_the_difficulty_and_the_extranonce_that_it_came_with() {
    let mut upstream = ready("1fffe000");
    tell(&mut upstream, &notify(7, 9, true));
    let first = work(&mut upstream);
    tell(&mut upstream, r#"{"id":null,"method":"mining.set_difficulty","params":[0.5]}"#);
    tell(&mut upstream, r#"{"id":null,"method":"mining.set_extranonce","params":["aabb",4]}"#);
    assert_eq!(events(&mut upstream), []);
    tell(&mut upstream, &notify(8, 9, false));
    let second = work(&mut upstream);
    assert!(!second.is_new_tip);
    assert_eq!(first.target, Difficulty::ONE.to_target());
    assert!(second.target > first.target);
    assert_eq!((second.prefix.as_bytes(), second.extranonce_size), (&[0xaa, 0xbb][..], 4));
    upstream.submit(&share(1, &first), START).unwrap();
    assert_eq!(
        upstream.submit(&share(2, &second), START),
        Err(NotSubmitted::Extranonce { given: 8, size: 4 })
    );
}

#[test]
fn a_new_block_ends_what_was_before() {
    let mut upstream = ready("1fffe000");
    let mut works = Vec::new();
    for (job, tip, clean) in [(1, 1, true), (2, 1, false), (3, 2, false), (4, 2, true)] {
        tell(&mut upstream, &notify(job, tip, clean));
        works.push(work(&mut upstream));
    }
    let is_new: Vec<_> = works.iter().map(|work| work.is_new_tip).collect();
    assert_eq!(is_new, [true, false, true, true], "by the flag or by the hash");
    assert_eq!(upstream.submit(&share(1, &works[0]), START), Err(NotSubmitted::Stale));
    for work in &works[2..] {
        upstream.submit(&share(1, work), START).unwrap();
    }
    let unknown = UpShare { source: Source { job: 99, ..works[3].source }, ..share(1, &works[3]) };
    assert_eq!(upstream.submit(&unknown, START), Err(NotSubmitted::Stale));
    upstream.close(KEY);
    assert_eq!(upstream.submit(&share(1, &works[3]), START), Err(NotSubmitted::Closed));
    assert_eq!(upstream.pending(), 0);
}

#[test]
fn the_pools_requests_are_answered_and_nobody_is_followed() {
    let mut upstream = ready("1fffe000");
    tell(&mut upstream, r#"{"id":"p1","method":"mining.ping","params":[]}"#);
    tell(&mut upstream, r#"{"id":9,"method":"client.get_version","params":[]}"#);
    let answers = said(&mut upstream);
    assert_eq!((&answers[0]["id"], &answers[0]["result"]), (&"p1".into(), &"pong".into()));
    assert_eq!((&answers[1]["id"], &answers[1]["result"]), (&9.into(), &write::VERSION.into()));
    tell(&mut upstream, r#"{"id":null,"method":"client.reconnect","params":["evil.example",3333,0]}"#);
    tell(&mut upstream, r#"{"id":null,"method":"client.show_message","params":["hello\u001b[2J"]}"#);
    tell(&mut upstream, r#"{"id":null,"method":"mining.dance","params":{}}"#);
    assert_eq!((events(&mut upstream), said(&mut upstream)), (vec![], vec![]));
    assert_eq!((upstream.ignored().strays, upstream.ignored().unknown), (1, 1));
}

#[test]
fn silence_ends_a_connection() {
    let silent = |upstream: &mut LegacyUpstream| {
        let deadline = upstream.poll_timeout().unwrap();
        assert_eq!(upstream.handle_timeout(START), Ok(()));
        upstream.handle_timeout(deadline).unwrap_err()
    };
    let mut upstream = LegacyUpstream::new(&config(), START);
    assert_eq!(silent(&mut upstream), LegacyError::Silent("an answer to mining.subscribe"));
    tell(&mut upstream, r#"{"id":2,"result":[[],"c0ffee01",8],"error":null}"#);
    assert_eq!(silent(&mut upstream), LegacyError::Silent("an answer to mining.authorize"));
    let mut upstream = ready("1fffe000");
    assert_eq!(silent(&mut upstream), LegacyError::Silent("a job"));
    tell(&mut upstream, &notify(7, 9, true));
    assert_eq!(upstream.poll_timeout(), Some(START + QUIET_PATIENCE));
    assert_eq!(silent(&mut upstream), LegacyError::Silent("anything"));
}

#[test]
fn what_no_pool_may_send_is_named() {
    let good = notify(7, 9, true);
    let long = format!("[{}]", vec![format!("\"{}\"", "00".repeat(32)); MERKLE_STEPS_MAX + 1].join(","));
    let path = format!("[\"{}\",\"{}\"]", "02".repeat(32), "03".repeat(32));
    for (line, expected) in [
        (good.replace("0000000000000007", ""), "job whose id"),
        (good.replace("0000000000000007", &"x".repeat(65)), "job whose id"),
        (good.replace("09090909", "0909090"), "job whose previous hash"),
        (good.replacen("ff", "f", 1), "job whose coinbase"),
        (good.replace(&path, "null"), "job whose merkle path"),
        (good.replace("0303", "03"), "job whose merkle path"),
        (good.replace(&path, &long), "too many steps"),
        (good.replace("20000000", "120000000"), "job whose version"),
        (r#"{"method":"mining.notify"}"#.to_owned(), "job whose id"),
        (r#"{"method":"mining.set_difficulty","params":[0]}"#.to_owned(), "mining.set_difficulty"),
        (r#"{"method":"mining.set_difficulty","params":[-1]}"#.to_owned(), "mining.set_difficulty"),
        (r#"{"method":"mining.set_extranonce","params":["0"]}"#.to_owned(), "mining.set_extranonce"),
        (r#"{"method":"mining.set_version_mask","params":[]}"#.to_owned(), "mining.set_version_mask"),
    ] {
        let mut upstream = ready("1fffe000");
        let error = upstream.handle_line(line.as_bytes(), START).unwrap_err().to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let mut upstream = ready("1fffe000");
    for _ in 1..MALFORMED_MAX {
        tell(&mut upstream, "HTTP/1.1 400 Bad Request");
    }
    assert_eq!(upstream.handle_line(b"\xff", START), Err(LegacyError::Malformed));
}

#[test]
fn nothing_grows_without_bound() {
    let mut upstream = ready("1fffe000");
    for job in 0..10 * JOBS_KEPT as u64 {
        tell(&mut upstream, &notify(job, 9, false));
        tell(&mut upstream, r#"{"id":5,"method":"mining.ping"}"#);
        tell(&mut upstream, r#"{"id":5,"method":"client.show_message","params":["again"]}"#);
    }
    for _ in 0..1_000 {
        tell(&mut upstream, r#"{"id":5,"method":"mining.ping"}"#);
    }
    assert_eq!(upstream.jobs.len(), JOBS_KEPT);
    assert!(upstream.output().len() < ANSWERS_MAX + 128);
    let Some(Event::Work(newest)) = events(&mut upstream).pop() else { panic!("no work") };
    let total = PENDING_MAX as u64 + 10;
    for tag in 0..total {
        upstream.submit(&share(tag, &newest), START).unwrap();
        upstream.output().clear();
    }
    let lost = events(&mut upstream);
    assert_eq!((upstream.pending(), lost.len()), (PENDING_MAX, 10));
    assert_eq!(lost[0], Event::Settled { tag: 0, outcome: Outcome::Lost }, "the oldest first");
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(lines in prop::collection::vec(
        prop_oneof![
            any::<Vec<u8>>(),
            "\\{\"id\":[0-9]{1,2},\"(result|error|method)\":(true|null|\\[[0-9,\"a-f]{0,20}\\])(,\"params\":\\[[0-9a-f\",]{0,30}\\])?\\}".prop_map(String::into_bytes),
        ], 0..20)) {
        let mut upstream = ready("1fffe000");
        for line in lines {
            if upstream.handle_line(&line, START).is_err() {
                break;
            }
        }
        prop_assert!(upstream.jobs.len() <= JOBS_KEPT);
    }
}

/// Its jobs went on, so it was not silent, and shares were taken for it until machines went elsewhere.
#[test]
fn a_pool_that_answered_no_share_any_more_was_never_left() {
    let seconds = |seconds: u64| START + Duration::from_secs(seconds);
    let mut upstream = ready("1fffe000");
    upstream.handle_line(notify(7, 9, true).as_bytes(), START).unwrap();
    let work = work(&mut upstream);
    upstream.submit(&share(1, &work), seconds(1)).unwrap();
    upstream.submit(&share(2, &work), seconds(9)).unwrap();
    assert_eq!(upstream.poll_timeout(), Some(seconds(16)));
    let answered = said(&mut upstream)[0]["id"].as_u64().unwrap();
    let answer = format!(r#"{{"id":{answered},"result":true,"error":null}}"#);
    upstream.handle_line(answer.as_bytes(), seconds(10)).unwrap();
    upstream.handle_timeout(seconds(100)).unwrap();
    upstream.submit(&share(3, &work), seconds(100)).unwrap();
    upstream.handle_line(notify(8, 9, false).as_bytes(), seconds(114)).unwrap();
    upstream.handle_timeout(seconds(114)).unwrap();
    assert_eq!(upstream.handle_timeout(seconds(115)), Err(LegacyError::Silent("an answer to any share")));
}
