//! What went wrong in the Stratum Reference Implementation, by the numbers of its issues.
//!
//! For each that concerns a pool there is a test that holds it off here. Some of them live here, the others where they belong;
//! [`TABLE`] says where, and a test says that it is right. Not in the table, because no pool is concerned: token reuse and other matters
//! of job declaration (580, 645, 675, 749, 757, 759, 763, 766), the pages of a monitor (774) and SV1 without encryption (855).

use std::sync::Arc;

use adit_channel::ShareKind;
use adit_messages::{Message, common, mining};
use adit_pool::Fault;
use adit_share::Template;
use adit_units::{Target, Work};

use crate::world::{Client, EASY, START, World, extended_share, open_extended, open_standard, setup, text};

/// Number of the issue, what it is about, the file of the test and its name.
const TABLE: &[(&str, &str, &str, &str)] = &[
    (
        "2001",
        "late shares credited",
        "pool/tests/dialogues/jobs.rs",
        "a_new_tip_makes_shares_on_older_jobs_stale",
    ),
    (
        "2013",
        "good shares refused as invalid-job-id",
        HERE,
        "a_share_on_a_job_that_was_sent_is_never_called_unknown",
    ),
    (
        "2096",
        "a block again earns again",
        HERE,
        "a_block_that_comes_again_is_a_duplicate_and_no_second_block",
    ),
    ("2104", "certificate time overflows", CERTIFICATE, "times_at_the_ends_of_the_clock_do_not_wrap"),
    (
        "2156",
        "custom job after a tip panics",
        HERE,
        "a_custom_job_after_a_new_tip_is_refused_and_nothing_more",
    ),
    ("2239", "arithmetic of targets and rates", HERE, "no_rate_and_no_target_overflows_anything"),
    ("2241", "time before min_ntime accepted", HERE, "a_time_before_the_jobs_earns_nothing"),
    (
        "2243",
        "scriptSig too long for consensus",
        "share/src/coinbase/tests.rs",
        "the_longest_signature_fits_at_any_height",
    ),
    (
        "2255",
        "half a change of tip",
        "pool/tests/dialogues/jobs.rs",
        "a_session_that_missed_the_first_work_of_a_tip_still_announces_the_tip",
    ),
    ("2260", "prefix lent again too early", CHANNELS, "no_two_channels_of_a_pool_share_an_extranonce"),
    (
        "2262",
        "past jobs without bound",
        "pool/tests/dialogues/jobs.rs",
        "past_jobs_of_the_tip_earn_until_too_many_newer_ones_came",
    ),
    ("2267", "a template's number used again", HERE, "a_template_number_that_comes_again_makes_another_job"),
    ("2283", "secrets stay in memory", "transport/src/secret.rs", "a_secret_is_wiped_when_it_goes"),
    ("2289", "future jobs without bound", "channel/src/jobs.rs", "future_jobs_are_limited"),
    (
        "2297",
        "seen shares without bound",
        "channel/src/channel/tests.rs",
        "a_channel_that_may_remember_no_more_takes_nothing_but_blocks",
    ),
    (
        "2303",
        "the time left out of the seen shares",
        HERE,
        "the_same_nonce_at_another_time_is_another_share_and_earns_once",
    ),
    ("2329", "seen shares forgotten with the tip unchanged", HERE, "no_refresh_makes_a_share_new_again"),
    (
        "2330",
        "prefix lent again while its job earns",
        CHANNELS,
        "a_connection_that_has_opened_65535_channels_is_made_anew",
    ),
    (
        "2391",
        "an unverified server like a verified one",
        "net/src/client.rs",
        "a_server_elsewhere_needs_a_key",
    ),
    ("2396", "a tip that comes back forgets shares", HERE, "no_share_earns_again_when_a_tip_comes_back"),
    ("241", "a handshake that never ends", NET, "silent_and_dribbling_strangers_are_closed_in_time"),
    (
        "290",
        "a handshake that never ends",
        FLOODS,
        "slow_handshakes_end_at_the_handshakes_deadline_and_delay_nobody",
    ),
    (
        "683",
        "queues of peers that do not read",
        FLOODS,
        "peers_that_never_read_are_cut_off_at_the_outboxs_age_and_delay_nobody",
    ),
    ("715", "one connection's fault ends all", TIPS, "new_tips_and_reconnects_are_noticed_by_nobody_else"),
    (
        "730",
        "no prefix left ends the program",
        CHANNELS,
        "a_connection_has_a_limit_of_channels_and_closing_one_makes_room",
    ),
    (
        "743",
        "messages pile up before the first channel",
        HERE,
        "nothing_piles_up_for_a_peer_without_a_channel",
    ),
    ("772", "targets compared as bytes", HERE, "a_maximum_target_is_compared_as_a_number"),
    ("776", "no admission", FLOODS, "a_flood_of_handshakes_meets_the_limit_for_newcomers_and_delays_nobody"),
    (
        "815",
        "memory for what a header claims",
        FLOODS,
        "claims_of_sixteen_mebibytes_are_refused_from_their_header_and_delay_nobody",
    ),
    ("818", "peers write into the log", HERE, "a_device_writes_nothing_into_the_log_but_one_line_of_text"),
    (
        "877",
        "no limit of rates",
        FLOODS,
        "a_flood_of_worthless_shares_ends_with_the_patience_for_garbage_and_delays_nobody",
    ),
    (
        "877",
        "no limit of rates",
        FLOODS,
        "a_flood_of_repeated_shares_ends_with_the_patience_for_repeats_and_delays_nobody",
    ),
    (
        "877",
        "no limit of rates",
        FLOODS,
        "a_flood_of_channels_opened_and_closed_ends_with_the_patience_for_requests_and_delays_nobody",
    ),
];

const HERE: &str = "pool/tests/dialogues/regressions.rs";
const CHANNELS: &str = "pool/tests/dialogues/channels.rs";
const FLOODS: &str = "pool/tests/server/floods.rs";
const TIPS: &str = "pool/tests/server/tips.rs";
const NET: &str = "net/tests/hostile.rs";
const CERTIFICATE: &str = "transport/src/certificate.rs";

#[test]
fn every_test_in_the_table_is_there() {
    for (issue, about, file, name) in TABLE {
        let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let lines: Vec<_> = source.lines().map(str::trim_start).collect();
        let is_named = |line: &&str| {
            line.trim_start_matches("async ")
                .strip_prefix("fn ")
                .is_some_and(|rest| rest.starts_with(&format!("{name}(")))
        };
        let at = lines.iter().position(is_named);
        let at = at.unwrap_or_else(|| panic!("{issue}, {about}: {file} has no {name}"));
        let mut attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        let is_test = |line: &&str| line.starts_with("#[test") || line.starts_with("#[tokio::test");
        assert!(attributes.clone().any(is_test), "{issue}, {about}: {name} in {file} is no test");
        let is_off = |line: &&str| line.starts_with("#[cfg");
        assert!(!attributes.any(is_off), "{issue}, {about}: {name} in {file} is not always run");
    }
}

#[test]
fn a_share_on_a_job_that_was_sent_is_never_called_unknown() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let mut sent = vec![1];
    for round in 0..60 {
        let work = if round % 7 == 0 { world.new_tip() } else { world.refresh() };
        client.hears(&work, &world);
        sent.push(work.id().0);
        client.skips_all();
        for &job in &sent {
            client.submits(job, round, &world);
            if client.has_mail() {
                let answer = client.receives();
                let Message::SubmitSharesError(error) = answer.message() else {
                    panic!("{:?}", answer.message())
                };
                // Vardiff makes shares harder meanwhile.
                let code = error.error_code.as_bytes();
                assert!(code == b"stale-share" || code == b"difficulty-too-low", "{error:?}");
            }
        }
    }
}

fn submit(client: &mut Client, (extended, job, nonce): (bool, u32, u32), world: &World) -> u32 {
    if extended { client.submits(job, nonce, world) } else { client.submits_standard(2, job, nonce, world) }
}

#[test]
fn a_block_that_comes_again_is_a_duplicate_and_no_second_block() {
    for extended in [true, false] {
        let mut world = World::new();
        world.nbits = EASY;
        let job = world.new_tip().id().0;
        let mut client = if extended { world.extended_miner() } else { world.standard_miner() };
        let block = (0..100).find(|&nonce| {
            submit(&mut client, (extended, job, nonce), &world);
            !client.blocks().is_empty()
        });
        for _ in 0..3 {
            let number =
                submit(&mut client, (extended, job, block.expect("every second hash is a block")), &world);
            assert!(client.blocks().is_empty());
            client.is_refused(number, "duplicate-share");
        }
        let blocks = client.records.iter().filter(|record| record.kind == ShareKind::Block);
        assert_eq!(blocks.count(), 1);
    }
}

#[test]
fn a_custom_job_after_a_new_tip_is_refused_and_nothing_more() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let tip = world.new_tip();
    client.hears(&tip, &world);
    client.skips_all();
    let custom = crate::cut::client_messages(&world).into_iter();
    for message in custom.filter(|message| matches!(message, Message::SetCustomMiningJob(_))) {
        client.sends(message, &world);
    }
    assert_eq!(client.names(), ["SetCustomMiningJob.Error"]);
    assert_eq!(client.closed, None);
    client.submits(tip.id().0, 0, &world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn no_rate_and_no_target_overflows_anything() {
    let rates = [0.0, -0.0, f32::MIN_POSITIVE, 1e-45, 1.0, 1e12, 1e30, f32::MAX, f32::MIN];
    let rates = rates.into_iter().chain([f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    let targets = [[0; 32], [0xff; 32], one_byte(0, 1), one_byte(31, 1), one_byte(31, 0x80), one_byte(15, 7)];
    for (rate, target) in rates.flat_map(|rate| targets.map(|target| (rate, target))) {
        let mut world = World::new();
        let mut client = world.connect_with(adit_messages::flags::MiningSetupFlags::NONE);
        client.sends(open_standard(rate, &target), &world);
        client.sends(open_extended(rate, &target), &world);
        client.skips_all();
        client.opens_extended(&world);
        let update = mining::UpdateChannel { channel_id: 2, ..crate::world::update(rate, &target) };
        client.sends(update, &world);
        world.wait(86_400);
        let tip = world.new_tip();
        client.hears(&tip, &world);
        assert_eq!(client.closed, None, "{rate} {target:?}");
    }
}

/// A number with one byte that is not zero.
fn one_byte(place: usize, value: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[place] = value;
    bytes
}

#[test]
fn a_time_before_the_jobs_earns_nothing() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    // The clock has gone on, the job has not.
    world.wait(600);
    for (ntime, earns) in [(START - 1, false), (START, true), (0, false), (START + 600, true)] {
        let before = client.records.len();
        let share = mining::SubmitSharesExtended { ntime, ..extended_share(1, ntime, &world) };
        let number = client.submits_share(share, &world);
        assert_eq!(client.records.len(), before + usize::from(earns), "{ntime}");
        if !earns {
            client.is_refused(number, "invalid-share");
        }
    }
}

#[test]
fn a_template_number_that_comes_again_makes_another_job() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let first = world.work.clone().unwrap();
    let mut other = Template::clone(first.template());
    other.version ^= 1 << 13;
    let other = Arc::new(other);
    let work = world.factory.handle_template(&other, world.now).unwrap().expect("another version");
    assert_ne!(work.job().coinbase_prefix(), first.job().coinbase_prefix());
    client.hears(&work, &world);
    client.skips_all();
    client.submits(first.id().0, 0, &world);
    client.submits(work.id().0, 0, &world);
    let hashes: Vec<_> = client.records.iter().map(|record| record.hash).collect();
    assert_eq!(hashes.len(), 2);
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn the_same_nonce_at_another_time_is_another_share_and_earns_once() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    world.wait(100);
    for round in 0..2 {
        for ntime in START..START + 100 {
            let share = mining::SubmitSharesExtended { ntime, ..extended_share(1, 5, &world) };
            let number = client.submits_share(share, &world);
            if round == 1 {
                client.is_refused(number, "duplicate-share");
            }
        }
        assert_eq!(client.records.len(), 100);
    }
}

#[test]
fn no_refresh_makes_a_share_new_again() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.submits(1, 7, &world);
    for _ in 0..adit_channel::PAST_JOBS {
        let work = world.refresh();
        client.hears(&work, &world);
        client.skips_all();
        let number = client.submits(1, 7, &world);
        client.is_refused(number, "duplicate-share");
    }
    assert_eq!(client.records.len(), 1);
}

#[test]
fn no_share_earns_again_when_a_tip_comes_back() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let tips = [world.template(), world.new_tip().template().clone()];
    let (mut given, mut hashes) = (vec![1], std::collections::HashSet::new());
    for round in 0..6 {
        // The first, the second, the first again, and so on; all on jobs of their own.
        let work = world.factory.handle_template(&tips[round % 2], world.now).unwrap();
        if let Some(work) = work {
            client.hears(&work, &world);
            given.push(work.id().0);
        }
        client.skips_all();
        for job in &given {
            client.submits(*job, 3, &world);
        }
        client.skips_all();
    }
    assert!(client.records.len() >= 5);
    assert!(client.records.iter().all(|record| hashes.insert(record.hash)), "a hash earned twice");
}

#[test]
fn nothing_piles_up_for_a_peer_without_a_channel() {
    let mut world = World::new();
    let mut client = world.connect_with(adit_messages::flags::MiningSetupFlags::NONE);
    for _ in 0..1_000 {
        let work = world.new_tip();
        client.hears(&work, &world);
        client.expects_nothing();
    }
    client.opens_extended(&world);
    let newest = world.work.as_ref().unwrap().id().0;
    client.submits(newest, 0, &world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn a_maximum_target_is_compared_as_a_number() {
    // As bytes from the lowest on, the harder one of these is the greater one.
    let (easy, hard) = (one_byte(31, 1), one_byte(0, 0xff));
    assert!(hard > easy && Target::from_le_bytes(hard) < Target::from_le_bytes(easy));
    let mut world = World::new();
    let mut client = world.connect_with(adit_messages::flags::MiningSetupFlags::NONE);
    client.sends(open_extended(0.0, &easy), &world);
    let opened = client.opened();
    assert_eq!(opened.target, Target::from_le_bytes(easy));
    client.submits(1, 0, &world);
    let earned: Vec<_> = client.records.iter().map(|record| record.work).collect();
    let worth = Target::from_le_bytes(easy).to_work();
    assert!(earned.iter().all(|work| *work == worth) && worth > Work::from_hashes(1));
    client.skips_all();
    client.sends(open_extended(0.0, &hard), &world);
    assert_eq!(client.names(), ["OpenMiningChannel.Error"], "harder than the ceiling");
}

#[test]
fn a_device_writes_nothing_into_the_log_but_one_line_of_text() {
    let world = &mut World::new();
    for evil in [
        "\x1b[2J\x1b[31m",
        "a\r\nINFO forged",
        "\u{202e}drowssap",
        "\u{2066}x\u{2069}",
        "\0\x07\x08",
        "\u{2028}",
    ] {
        let mut client = world.connect();
        client.sends(common::SetupConnection { vendor: text(evil), ..setup(0) }, world);
        let said = client.session.device();
        let is_safe = |c: char| {
            !c.is_control()
                && !('\u{2028}'..='\u{202e}').contains(&c)
                && !('\u{2066}'..='\u{2069}').contains(&c)
        };
        assert!(said.chars().all(is_safe), "{said:?}");
    }
    // And no reason for closing quotes the peer.
    let mut client = world.connect();
    client.sends(open_extended(0.0, &[0xff; 32]), world);
    let closed = client.closed.unwrap();
    assert_eq!(closed.fault(), Fault::PeerMisbehaved);
    assert!(!closed.to_string().contains("alice"), "{closed}");
}
