//! Answers that did not say what to do.

use super::*;

/// What is said of a farm's config with a line in its table of the translator, which is the third of the file.
fn said(line: &str) -> String {
    let text =
        format!("[upstream]\nuser = \"farm\"\npool = \"stratum2+tcp://127.0.0.1:1\"\n[translator]\n{line}\n");
    match parse_as(&text, &[], crate::config::translator::check) {
        Ok(_) => String::new(),
        Err(answer) => answer.strip_prefix("adit.toml:5: translator.").unwrap_or(&answer).to_owned(),
    }
}

#[test]
fn a_value_of_the_wrong_type_was_answered_in_the_words_of_rust() {
    for (line, answer) in [
        (
            "connections = -1",
            "connections: invalid value: integer `-1`; write a whole number from 0 to 4294967295, without quotes, such as 16384",
        ),
        (
            "extranonce2_size = \"8\"",
            "extranonce2_size: invalid type: string \"8\"; write a whole number from 0 to 255, without quotes, such as 8",
        ),
        (
            "listen = 34255",
            "listen: invalid type: integer `34255`; write it in quotes, such as \"0.0.0.0:34255\"",
        ),
        (
            "vardiff = \"no\"",
            "vardiff: invalid type: string \"no\"; write true or false, without quotes, such as true",
        ),
        (
            "api_hosts = \"farm\"",
            "api_hosts: invalid type: string \"farm\"; write a list in brackets, such as [\"farm.example.org\"]",
        ),
        (
            "devices = 1",
            "devices: invalid type: integer `1`; put what belongs together below a title [[translator.devices]]",
        ),
    ] {
        let told = said(line);
        assert!(told.starts_with(answer), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let answer = parse_with(&GOOD.replace("[pool]", "jds = 3\n[pool]"), &[]).unwrap_err();
    assert!(answer.contains("unknown key"), "it is a key of the node there: {answer}");
    let answer = parse_with(&format!("jds = 3\n{GOOD}"), &[]).unwrap_err();
    assert!(
        answer.contains("adit.toml:1: jds: invalid type: integer `3`; put its keys below a title [jds]"),
        "{answer}"
    );
}

#[test]
fn a_table_with_a_typing_error_was_taken_for_a_key() {
    for (title, answer) in [
        ("[pol]", "adit.toml:1: pol: unknown table; did you mean [pool]?"),
        ("[[upsteams]]", "adit.toml:1: upsteams: unknown table; did you mean [[upstreams]]?"),
        ("[[translator.device]]", "translator.device: unknown table; did you mean [[translator.devices]]?"),
        ("[miners]", "adit.toml:1: miners: unknown table; docs/operating.md lists those there are"),
    ] {
        let told = parse_with(&format!("{title}\nx = 1\n"), &[]).unwrap_err();
        assert!(told.contains(answer), "{told}");
    }
    let told = parse_with("pol = 1\n", &[]).unwrap_err();
    assert!(told.contains("pol: unknown key; docs/operating.md lists those there are"), "not log: {told}");
}

#[test]
fn numbers_that_the_page_shows_without_quotes_were_refused() {
    let role = |lines: &str| {
        let text = format!(
            "[upstream]\nuser = \"farm\"\npool = \"stratum2+tcp://127.0.0.1:1\"\n[translator]\n{lines}\n"
        );
        parse_as(&text, &[], crate::config::translator::check).map(|settings| settings.role)
    };
    for speed in ["110.5", "\"110.5\"", "1_10.5", "1105e-1"] {
        let guess = role(&format!("terahashes = {speed}")).unwrap().first_guess;
        assert_eq!(guess.to_hashes_per_second(), 110_500_000_000_000, "{speed}");
    }
    // Seventeen digits are more than a float has, and all of them count.
    let exact = role("terahashes = 12345.123456789013\nleast_difficulty = 16").unwrap();
    assert_eq!(exact.first_guess.to_hashes_per_second(), 12_345_123_456_789_013);
    assert_eq!(exact.machine.least_difficulty.to_string(), "16");
    assert_eq!(role("version_mask = 0x00ffe000").unwrap().machine.version_mask, 0x00ff_e000);
    let device = role("[[translator.devices]]\nuser_agent = \"x\"\nterahashes = 1.5\nleast_difficulty = 512");
    let device = device.unwrap().machine.devices.remove(0);
    assert_eq!(device.nominal.unwrap().to_hashes_per_second(), 1_500_000_000_000);
    assert_eq!(device.least_difficulty.unwrap().to_string(), "512");

    let decimal = said("version_mask = 1000");
    assert!(
        decimal.starts_with("version_mask: invalid type: integer `1000`; write it in quotes"),
        "{decimal}"
    );
    for bare in ["version_mask = 1fffe000", "listen = 0.0.0.0:34255", "mode = aggregated"] {
        let told = said(bare);
        assert!(told.starts_with("adit.toml:5: "), "{told}");
        assert!(told.contains("; what is no plain number, true or false goes in quotes"), "{told}");
    }
    assert!(!said("terahashes = 0").is_empty() && !said("terahashes = nan").is_empty());
}

#[test]
fn a_farm_without_a_config_was_told_to_make_a_pool() {
    let missing = Path::new("/nowhere/adit.toml");
    let farm = load_translator(missing).unwrap_err().to_string();
    assert!(
        farm.ends_with("name yours with --config, or give the pool with --pool and --user instead"),
        "{farm}"
    );
    let pool = load_roles(missing).unwrap_err().to_string();
    assert!(pool.ends_with("name yours with --config, or write one with `adit init`"), "{pool}");
}
