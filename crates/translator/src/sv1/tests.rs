//! Forms of lines that machines are known to send, and the one form that is written.

use adit_units::{Difficulty, Target};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What a line asks.
fn call(line: &str) -> Call {
    parse(line.as_bytes()).unwrap_or_else(|malformed| panic!("{line}: {malformed}")).call
}

/// What is written.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn ids_come_back_byte_for_byte() {
    for token in
        ["1", "null", "\"abc\"", "-7", "1.50e3", "18446744073709551616", "\"a\\u0041\"", "true", "\"\""]
    {
        let request = parse(format!("{{\"id\": {token} ,\"method\":\"mining.ping\"}}").as_bytes()).unwrap();
        let id = request.id.expect("an id that is null is an id");
        assert_eq!(id.as_str(), token);
        assert_eq!(
            written(|out| write_true(out, &id)),
            format!("{{\"id\":{token},\"result\":true,\"error\":null}}\n")
        );
    }
    assert_eq!(parse(b"{\"method\":\"mining.ping\"}").unwrap(), Request { id: None, call: Call::Ping });
    assert_eq!(parse(b"{\"id\":null,\"method\":\"mining.ping\"}").unwrap().id, Some(Id::NULL));
    assert_eq!(Id::from_number(u64::MAX).to_number(), Some(u64::MAX));
    assert_eq!(
        parse(b"{\"id\":\"12\",\"method\":\"mining.ping\"}").unwrap().id.unwrap().to_number(),
        Some(12)
    );
}

#[test]
fn what_cannot_be_understood_says_why() {
    for (line, id, reason) in [
        ("", None, Reason::NotJson),
        ("[]", None, Reason::NotJson),
        ("{", None, Reason::NotJson),
        ("GET / HTTP/1.1", None, Reason::NotJson),
        ("{\"id\":1,\"method\":\"mining.ping\"} x", None, Reason::NotJson),
        ("{\"id\":[1],\"method\":\"mining.ping\"}", None, Reason::Id),
        ("{\"id\":{},\"method\":\"mining.ping\"}", None, Reason::Id),
        ("{\"id\":1}", Some("1"), Reason::NoMethod),
        ("{\"id\":1,\"method\":\"\"}", Some("1"), Reason::NoMethod),
        ("{\"id\":1,\"method\":[]}", Some("1"), Reason::NoMethod),
        ("{\"id\":1,\"method\":\"mining.submit\"}", Some("1"), Reason::Parameter("job id")),
        (
            "{\"id\":1,\"method\":\"mining.submit\",\"params\":[\"u\",\"1\"]}",
            Some("1"),
            Reason::Parameter("extranonce2"),
        ),
    ] {
        let malformed = parse(line.as_bytes()).expect_err(line);
        assert_eq!((malformed.id.as_ref().map(Id::as_str), malformed.reason), (id, reason), "{line}");
        assert_eq!(malformed.fault().code(), 20);
    }
    let long = format!("{{\"id\":\"{}\",\"method\":\"mining.ping\"}}", "x".repeat(63));
    assert_eq!(parse(long.as_bytes()).unwrap_err().reason, Reason::Id);
    let deep = format!("{{\"id\":1,\"method\":\"x\",\"params\":{}", "[".repeat(100_000));
    assert_eq!(parse(deep.as_bytes()).unwrap_err().reason, Reason::NotJson);
}

#[test]
fn subscribes_in_every_form() {
    let subscribe = |user_agent: Option<&str>, session| Call::Subscribe {
        user_agent: user_agent.map(Into::into),
        session,
    };
    for (params, user_agent, session) in [
        ("[]", None, None),
        ("null", None, None),
        ("{}", None, None),
        ("[\"cgminer/4.11.1\"]", Some("cgminer/4.11.1"), None),
        ("[\"cgminer/4.11.1\",\"deadbeef\"]", Some("cgminer/4.11.1"), Some([0xde, 0xad, 0xbe, 0xef])),
        ("[\"x\",null]", Some("x"), None),
        ("[\"x\",\"00000000\"]", Some("x"), None),
        ("[\"x\",\"0xdeadbe\"]", Some("x"), None),
        ("[\"x\",\"deadbeef00\"]", Some("x"), None),
        ("[\"x\",{\"a\":[1]},\"host\",3333]", Some("x"), None),
        ("[null,\"DEADBEEF\"]", None, Some([0xde, 0xad, 0xbe, 0xef])),
        ("[\" a\\u0000b\\u202e \"]", Some("ab"), None),
        ("[12]", Some("12"), None),
        ("\"cgminer\"", Some("cgminer"), None),
    ] {
        let line = format!("{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":{params}}}");
        assert_eq!(call(&line), subscribe(user_agent, session), "{params}");
    }
    assert_eq!(call("{\"id\":1,\"method\":\"mining.subscribe\"}"), subscribe(None, None));
    let long = format!("{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"{}\"]}}", "ä".repeat(200));
    assert_eq!(call(&long), subscribe(Some(&"ä".repeat(127)), None));
}

#[test]
fn authorizes_in_every_form() {
    for (params, user, password) in [
        ("[\"a.b\",\"x\"]", "a.b", "x"),
        ("[\"a.b\"]", "a.b", ""),
        ("[\"a.b\",null]", "a.b", ""),
        ("[\"a.b\",123]", "a.b", "123"),
        ("[\"\\u0061.b\",\"x, diff=200\"]", "a.b", "x, diff=200"),
        ("[]", "", ""),
        ("[\"a\",\"x\",\"more\",1,2,3,4,5,6,7,8,9]", "a", "x"),
    ] {
        let line =
            format!("{{\"params\":{params},\"id\":2,\"method\":\"mining.authorize\",\"jsonrpc\":\"2.0\"}}");
        assert_eq!(call(&line), Call::Authorize { user: user.into(), password: password.into() }, "{params}");
    }
    let latin = b"{\"id\":1,\"method\":\"mining.authorize\",\"params\":[\"a.\xe4\",\"x\"]}";
    let user = "a.\u{fffd}".into();
    assert_eq!(parse(latin).unwrap().call, Call::Authorize { user, password: "x".into() });
}

#[test]
fn configures_in_every_form() {
    let configure = |params: &str| match call(&format!(
        "{{\"id\":1,\"method\":\"mining.configure\",\"params\":{params}}}"
    )) {
        Call::Configure(configure) => configure,
        other => panic!("{other:?}"),
    };
    let rolling = |mask, min_bits| Some(VersionRolling { mask, min_bits });
    let bitaxe = configure("[[\"version-rolling\"],{\"version-rolling.mask\":\"ffffffff\"}]");
    assert_eq!(bitaxe, Configure { version_rolling: rolling(u32::MAX, 0), ..Configure::default() });
    let all = configure(
        "[[\"version-rolling\",\"minimum-difficulty\",\"subscribe-extranonce\",\"info\"],{\"version-rolling.mask\":\"1fffe000\",\
         \"version-rolling.min-bit-count\":16,\"minimum-difficulty.value\":2048,\"info.hw-id\":\"x\"}]",
    );
    let expected = Configure {
        version_rolling: rolling(0x1fff_e000, 16),
        minimum_difficulty: Some(Difficulty::from_whole(2048)),
        subscribe_extranonce: true,
        unknown: vec!["info".into()],
    };
    assert_eq!(all, expected);
    let bare = configure("[[\"version-rolling\",\"minimum-difficulty\"]]");
    assert_eq!(bare.version_rolling, rolling(DEFAULT_VERSION_MASK, 0));
    assert_eq!(bare.minimum_difficulty, Some(Difficulty::from_trillionths(1)));
    let text = configure(
        "[\"version-rolling\",{\"version-rolling.mask\":\"0x3fff\",\"version-rolling.min-bit-count\":\"2\"}]",
    );
    assert_eq!(text.version_rolling, rolling(0x3fff, 2));
    let odd = configure(
        "[[\"version-rolling\",7,null,[]],{\"version-rolling.mask\":[],\"version-rolling.min-bit-count\":-1}]",
    );
    assert_eq!((odd.version_rolling, odd.unknown.len()), (rolling(DEFAULT_VERSION_MASK, 0), 1));
    assert_eq!(configure("[]"), Configure::default());
    assert_eq!(configure(&format!("[{}]", json!(vec!["x"; 50]))).unknown.len(), 8);
}

#[test]
fn suggests_difficulties_and_targets_in_every_form() {
    let suggest = |rest: &str| match call(&format!("{{\"id\":1,{rest}}}")) {
        Call::SuggestDifficulty(difficulty) => difficulty.map(|difficulty| difficulty.to_string()),
        other => panic!("{other:?}"),
    };
    for (rest, found) in [
        ("\"method\":\"mining.suggest_difficulty\",\"params\":[512]", Some("512")),
        ("\"method\":\"mining.suggest_difficulty\",\"params\":[0.00015]", Some("0.00015")),
        ("\"method\":\"mining.suggest_difficulty\",\"params\":[1e3]", Some("1000")),
        ("\"method\":\"mining.suggest_difficulty\",\"params\":[\"42.5\"]", Some("42.5")),
        ("\"method\":\"mining.suggest_difficulty\",\"params\":1000", Some("1000")),
        ("\"method\":\"mining.suggest_difficulty(512)\",\"params\":[]", Some("512")),
        ("\"method\":\"mining.suggest_difficulty(512.000000)\"", Some("512")),
        ("\"method\":\"mining.suggest_difficulty 512\",\"params\":null", Some("512")),
        ("\"method\":\"mining.suggest_difficulty\",\"params\":[null]", None),
        ("\"method\":\"mining.suggest_difficulty\",\"params\":null", None),
        ("\"method\":\"mining.suggest_difficulty\"", None),
        ("\"method\":\"mining.suggest_difficulty\",\"params\":[0]", None),
        ("\"method\":\"mining.suggest_difficulty\",\"params\":[-1]", None),
    ] {
        assert_eq!(suggest(rest).as_deref(), found, "{rest}");
    }
    let target =
        |param: &str| call(&format!("{{\"method\":\"mining.suggest_target\",\"params\":[{param}]}}"));
    let one = format!("\"{}\"", Target::DIFFICULTY_1);
    assert_eq!(target(&one), Call::SuggestTarget(Some(Target::DIFFICULTY_1)));
    assert_eq!(target("\"0xffff0000000000000000000000000000000000000000000000000000\""), target(&one));
    for bad in ["\"\"", "null", "\"xyz\"", &format!("\"{}\"", "f".repeat(65))] {
        assert_eq!(target(bad), Call::SuggestTarget(None), "{bad}");
    }
}

#[test]
fn everything_else_has_a_name() {
    let answer = |text: Option<&str>, refused| Call::Answer(Answer { text: text.map(Into::into), refused });
    for (line, expected) in [
        ("{\"id\":1,\"method\":\"mining.extranonce.subscribe\",\"params\":[]}", Call::ExtranonceSubscribe),
        ("{\"id\":1,\"method\":\"mining.get_transactions\",\"params\":[\"1\"]}", Call::GetTransactions),
        ("{\"id\":1,\"method\":\"client.get_version\",\"params\":[]}", Call::GetVersion),
        (
            "{\"id\":1,\"method\":\"mining.multi_version\",\"params\":[1]}",
            Call::Unknown("mining.multi_version".into()),
        ),
        ("{\"id\":7,\"method\":\"pong\",\"params\":[]}", answer(Some("pong"), false)),
        ("{\"id\":7,\"result\":\"pong\",\"error\":null}", answer(Some("pong"), false)),
        ("{\"id\":7,\"result\":\"cgminer/4.11.1\",\"method\":null}", answer(Some("cgminer/4.11.1"), false)),
        ("{\"id\":7,\"result\":null,\"error\":null}", answer(None, false)),
        ("{\"id\":7,\"result\":null,\"error\":[20,\"Not supported.\",null]}", answer(None, true)),
        ("{\"id\":7,\"error\":{\"code\":-32601}}", answer(None, true)),
        ("{\"id\":7,\"result\":true}\0", answer(Some("true"), false)),
    ] {
        assert_eq!(call(line), expected, "{line}");
    }
}

#[test]
fn submits_in_every_form() {
    let submit = |params: &str| match call(&format!(
        "{{\"id\":4,\"method\":\"mining.submit\",\"params\":{params}}}"
    )) {
        Call::Submit(submit) => submit,
        other => panic!("{other:?}"),
    };
    let plain = submit("[\"a.b\",\"00000000000000ff\",\"0102030405060708\",\"66aabbcc\",\"deadbeef\"]");
    assert_eq!(
        (&*plain.user, plain.job, plain.ntime, plain.nonce),
        ("a.b", Some(255), 0x66aa_bbcc, 0xdead_beef)
    );
    assert_eq!((plain.extranonce2.as_slice(), plain.version_bits), (&[1, 2, 3, 4, 5, 6, 7, 8][..], None));
    let with_bits = |bits: &str| submit(&format!("[\"a\",\"1\",\"00\",\"1\",\"2\",{bits}]")).version_bits;
    for (bits, found) in [
        ("\"06a6c000\"", Some(0x06a6_c000)),
        ("\"00000000\"", Some(0)),
        ("\"0x2000\"", Some(0x2000)),
        ("null", None),
        ("\"\"", None),
    ] {
        assert_eq!(with_bits(bits), found, "{bits}");
    }
    assert_eq!(submit("[\"a\",\"0xAbC\",\"\",\"0x1\",\"deadbeef00\"]").job, Some(0xabc));
    assert_eq!(submit("[\"a\",\"deadbeef\",\"\",\"1\",\"deadbeef00\"]").nonce, 0xdead_beef);
    for foreign in ["\"job-1\"", "\"\"", "\"00000000000000001\"", "\"bm\""] {
        assert_eq!(submit(&format!("[\"a\",{foreign},\"\",\"1\",\"1\"]")).job, None, "{foreign}");
    }
    let odd = submit(&format!("[null,\"1\",\"abc\",\"1\",\"1\",null,\"{}\"]", "x".repeat(500)));
    assert_eq!((&*odd.user, odd.extranonce2.as_slice()), ("", &[0xab, 0xc0][..]));
    assert_eq!(odd.extranonce2.resized(4).as_slice(), [0xab, 0xc0, 0, 0]);
    assert_eq!(odd.extranonce2.resized(1).as_slice(), [0xab]);
    assert_eq!(odd.extranonce2.resized(255).as_slice().len(), 32);
    let long = submit(&format!("[\"{}\",\"1\",\"{}\",\"1\",\"1\"]", "u".repeat(300), "ab".repeat(50)));
    assert_eq!((long.user.len(), long.extranonce2.as_slice().len()), (255, 32));
    for bad in [
        "\"xx\",\"1\",\"1\"",
        "\"00\",\"\",\"1\"",
        "\"00\",\"1\",\"g\"",
        "\"00\",\"1\",\"1\",\"zz\"",
        "\"00\",\"1\",null",
    ] {
        let line = format!("{{\"id\":4,\"method\":\"mining.submit\",\"params\":[\"a\",\"1\",{bad}]}}");
        let malformed = parse(line.as_bytes()).expect_err(bad);
        assert!(matches!(malformed.reason, Reason::Parameter(_)), "{bad}");
        assert_eq!(malformed.id.map(|id| id.to_number()), Some(Some(4)));
    }
}

/// The naive twin of reading a share: by way of a tree of values and strings.
fn naive_submit(line: &str) -> Option<Submit> {
    let tree: Value = serde_json::from_str(line).ok()?;
    let text = |position: usize| tree["params"].get(position).and_then(Value::as_str);
    let hex = |text: &str| text.chars().all(|digit| digit.is_ascii_hexdigit()).then(|| text.to_owned());
    let bare = |text: &str| text.trim().trim_start_matches("0x").to_owned();
    let short = |text: &str| {
        let digits = bare(text);
        u32::from_str_radix(&hex(digits.get(..8).unwrap_or(&digits))?, 16).ok()
    };
    let mut digits = hex(&bare(text(2)?))?;
    digits += if digits.len() % 2 == 1 { "0" } else { "" };
    digits.truncate(64);
    let bytes = (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap());
    let bytes: Vec<u8> = bytes.collect();
    let job = bare(text(1)?);
    let user: String = text(0).unwrap_or("").chars().filter(|&c| adit_channel::prints(c)).collect();
    let submit = Submit {
        user: Name::from(user.trim()),
        job: hex(&job).filter(|job| job.len() <= 16).and_then(|job| u64::from_str_radix(&job, 16).ok()),
        extranonce2: Extranonce2::from_bytes(&bytes),
        ntime: short(text(3)?)?,
        nonce: short(text(4)?)?,
        version_bits: match text(5) {
            None | Some("") => None,
            Some(bits) => Some(short(bits)?),
        },
    };
    Some(submit)
}

proptest! {
    #[test]
    fn shares_are_read_as_the_naive_twin_reads_them(
        user in "[a-zA-Z0-9._%ä\u{202e}\\\\\"\n ]{0,40}",
        job in "(0x)?[0-9a-fA-F]{0,17}|[a-z]{1,4}",
        extranonce2 in "(0x)?[0-9a-fA-F]{0,70}|[a-z]{1,4}",
        numbers in prop::collection::vec("(0x)?[0-9a-fA-F]{0,10}|[a-z]{1,3}", 0..4),
        space: bool,
    ) {
        let mut params = vec![user, job, extranonce2];
        params.extend(numbers);
        let value = json!({"id": 1, "method": "mining.submit", "params": params});
        let line = if space { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let found = match parse(line.as_bytes()) {
            Ok(Request { call: Call::Submit(submit), .. }) => Some(submit),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        };
        prop_assert_eq!(found, naive_submit(&line), "{}", line);
    }

    #[test]
    fn no_line_is_too_odd(line in "[\\[\\]{}:,\"a-z0-9.\\\\ ]{0,80}", bytes: Vec<u8>) {
        let _ = parse(line.as_bytes());
        let _ = parse(&bytes);
    }
}

#[test]
fn answers_have_one_form() {
    let id = Id::from_number(3);
    let everything = Configured {
        version_rolling: Some(0x1fff_e000),
        minimum_difficulty: Some(true),
        subscribe_extranonce: Some(true),
        unknown: vec!["in\"fo".into()],
    };
    let refused = Configured { version_rolling: Some(0), ..Configured::default() };
    let only_difficulty = Configured { minimum_difficulty: Some(true), ..Configured::default() };
    for (line, expected) in [
        (
            written(|out| write_configured(out, &id, &everything)),
            "{\"id\":3,\"result\":{\"version-rolling\":true,\"version-rolling.mask\":\"1fffe000\",\"minimum-difficulty\":true,\
             \"subscribe-extranonce\":true,\"in\\\"fo\":false},\"error\":null}\n",
        ),
        (
            written(|out| write_configured(out, &id, &refused)),
            "{\"id\":3,\"result\":{\"version-rolling\":false},\"error\":null}\n",
        ),
        (
            written(|out| write_configured(out, &id, &only_difficulty)),
            "{\"id\":3,\"result\":{\"minimum-difficulty\":true},\"error\":null}\n",
        ),
        (
            written(|out| write_subscribed(out, &id, [0xde, 0xad, 0xbe, 0xef], 8)),
            "{\"id\":3,\"result\":[[[\"mining.set_difficulty\",\"deadbeef\"],[\"mining.notify\",\"deadbeef\"]],\"deadbeef\",8],\
             \"error\":null}\n",
        ),
        (written(|out| write_pong(out, &id)), "{\"id\":3,\"result\":\"pong\",\"error\":null}\n"),
        (
            written(|out| write_error(out, &Id::NULL, Fault::Duplicate)),
            "{\"id\":null,\"result\":null,\"error\":[22,\"Duplicate\",null]}\n",
        ),
    ] {
        assert_eq!(line, expected);
    }
}

#[test]
fn faults_have_the_codes_and_words_that_machines_know() {
    for (fault, code, text) in [
        (Fault::Other("Worker mismatch"), 20, "Worker mismatch"),
        (Fault::Stale, 21, "Stale"),
        (Fault::JobNotFound, 21, "Invalid JobID"),
        (Fault::Duplicate, 22, "Duplicate"),
        (Fault::LowDifficulty, 23, "Above target"),
        (Fault::Unauthorized, 24, "Unauthorized worker"),
        (Fault::WorkerMismatch, 24, "Worker mismatch"),
        (Fault::NotSubscribed, 25, "Not subscribed"),
        (Fault::NtimeOutOfRange, 20, "Ntime out of range"),
        (Fault::InvalidVersionMask, 20, "Invalid version mask"),
        (Fault::Unsupported, 20, "Not supported."),
    ] {
        assert_eq!((fault.code(), fault.text()), (code, text));
    }
}

#[test]
fn calls_have_one_form() {
    let set = |text: &str| written(|out| write_set_difficulty(out, text.parse().unwrap()));
    assert_eq!(set("512"), "{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[512]}\n");
    assert_eq!(
        set("0.0009765625"),
        "{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[0.0009765625]}\n"
    );
    for (line, method, params) in [
        (
            written(|out| write_set_extranonce(out, [1, 2, 3, 4], 8)),
            "mining.set_extranonce",
            "[\"01020304\",8]",
        ),
        (written(|out| write_set_version_mask(out, 0x2000)), "mining.set_version_mask", "[\"00002000\"]"),
        (
            written(|out| write_reconnect(out, Some(("a.example", 3333)), 5)),
            "client.reconnect",
            "[\"a.example\",3333,5]",
        ),
        (written(|out| write_reconnect(out, None, 5)), "client.reconnect", "[]"),
    ] {
        assert_eq!(line, format!("{{\"id\":null,\"method\":\"{method}\",\"params\":{params}}}\n"));
    }
    assert_eq!(written(|out| write_ping(out, 9)), "{\"id\":9,\"method\":\"mining.ping\",\"params\":[]}\n");
}

#[test]
fn a_job_is_told_with_the_words_of_the_hash_swapped() {
    let prev_hash: [u8; 32] = core::array::from_fn(|i| u8::try_from(i).unwrap());
    let notify = Notify {
        job: 0x1a,
        prev_hash: &prev_hash,
        coinbase_prefix: &[&[0xaa, 0xbb], &[], &[0xcc]],
        coinbase_suffix: &[0xdd],
        merkle_path: &[[0x11; 32], [0x22; 32]],
        version: 0x2000_0000,
        nbits: 0x1703_4219,
        ntime: 0x66aa_bbcc,
        clean: true,
    };
    let line = written(|out| write_notify(out, &notify));
    assert!(line.ends_with('\n'));
    let tree: Value = serde_json::from_str(&line).unwrap();
    let expected = json!({"id": null, "method": "mining.notify", "params": [
        "000000000000001a",
        "03020100070605040b0a09080f0e0d0c13121110171615141b1a19181f1e1d1c",
        "aabbcc",
        "dd",
        ["11".repeat(32), "22".repeat(32)],
        "20000000",
        "17034219",
        "66aabbcc",
        true,
    ]});
    assert_eq!(tree, expected);
    let empty = Notify { merkle_path: &[], clean: false, ..notify };
    let tree: Value = serde_json::from_str(&written(|out| write_notify(out, &empty))).unwrap();
    assert_eq!((&tree["params"][4], &tree["params"][8]), (&json!([]), &json!(false)));
}
