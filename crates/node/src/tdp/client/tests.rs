//! Dialogues of the client on a virtual clock: with the server of this crate, with providers as they are elsewhere, and with hostile ones.

use std::sync::Arc;

use adit_messages::error_code::RequestTransactionDataError as DataError;
use adit_messages::template_distribution::{
    NewTemplate, RequestTransactionDataError, RequestTransactionDataSuccess, SetNewPrevHash,
};
use adit_messages::types::{B016M, B0255, Seq064K, Seq0255, U256};
use adit_share::Template;
use adit_units::{Height, UnixTime, Work};
use bitcoin::Network;
use bitcoin::hashes::Hash as _;
use miner::solve;

use super::*;
use crate::tdp::{Offers, Session};
use crate::{Devnet, DevnetConfig, Pace};

const NOW: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };
const ROOM: Room = Room { bytes: 200, sigops: 40 };

fn later(secs: u64) -> Now {
    NOW.after(Duration::from_secs(secs))
}

fn devnet(seed: u8) -> Devnet {
    let pace = Pace::Fixed(Work::from_hashes(2));
    Devnet::new(&DevnetConfig { pace, arrival: Duration::from_secs(1), ..DevnetConfig::new([seed; 32]) }, NOW)
}

fn client() -> Client {
    let config = ClientConfig { host: "127.0.0.1".to_owned(), port: 8442, room: ROOM, pulse: Pulse::Unknown };
    Client::new(&config, NOW)
}

fn frames_of<'a>(message: impl Into<Message<'a>>) -> FrameQueue {
    let mut queue = FrameQueue::default();
    encode(message, &mut queue).unwrap();
    queue
}

/// Says one thing to the client.
pub(super) fn say<'a>(
    client: &mut Client,
    message: impl Into<Message<'a>>,
    now: Now,
) -> Result<(), ClientEnd> {
    let queue = frames_of(message);
    client.handle_frame(queue.iter().next().unwrap(), now)
}

/// The names of what the client says.
fn said(client: &mut Client) -> Vec<String> {
    let queue = core::mem::take(client.frames());
    let name = |frame: Frame<'_>| match decode(Protocol::TemplateDistribution, frame).unwrap() {
        Message::RequestTransactionData(request) if request.template_id == NO_TEMPLATE.0 => "ping".to_owned(),
        Message::RequestTransactionData(request) => format!("data {}", request.template_id),
        Message::CoinbaseOutputConstraints(room) => {
            format!(
                "room {} {}",
                room.coinbase_output_max_additional_size, room.coinbase_output_max_additional_sigops
            )
        }
        Message::SetupConnection(setup) => {
            assert_eq!(setup.protocol, common::Protocol::TemplateDistributionProtocol);
            assert!(!setup.vendor.as_bytes().is_empty());
            "setup".to_owned()
        }
        other => panic!("{other:?}"),
    };
    queue.iter().map(name).collect()
}

fn events(client: &mut Client) -> Vec<Event> {
    core::iter::from_fn(|| client.poll_event()).collect()
}

/// What happened, in short.
fn told(client: &mut Client) -> Vec<String> {
    let short = |event: &Event| match event {
        Event::Tip(tip) => format!("tip {}", tip.height.0),
        Event::Offered(offered) => format!("offered {}", offered.id.0),
        Event::Candidate(candidate) => format!("candidate {}", candidate.id().0),
        Event::Withheld(reason) => format!("withheld {reason}"),
    };
    events(client).iter().map(short).collect()
}

/// A template without transactions, as providers elsewhere write it below height 17.
fn new_template(id: u64, height: u8, future_template: bool) -> NewTemplate<'static> {
    const PREFIXES: [[u8; 2]; 5] = [[0x51, 0], [0x52, 0], [0x53, 0], [0x54, 0], [0x55, 0]];
    NewTemplate {
        template_id: id,
        future_template,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: B0255::new(&PREFIXES[usize::from(height) - 1]).unwrap(),
        coinbase_tx_input_sequence: u32::MAX,
        coinbase_tx_value_remaining: 5_000_000_000,
        coinbase_tx_outputs_count: 0,
        coinbase_tx_outputs: B064K::new(&[]).unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: Seq0255::new(Vec::new()).unwrap(),
    }
}

fn new_tip(template_id: u64, prev_hash: &[u8; 32]) -> SetNewPrevHash<'_> {
    SetNewPrevHash {
        template_id,
        prev_hash: U256::from(prev_hash),
        header_timestamp: NOW.unix.to_secs(),
        n_bits: 0x207f_ffff,
        target: U256::from(&[0xff; 32]),
    }
}

fn no_transactions(id: u64) -> RequestTransactionDataSuccess<'static> {
    RequestTransactionDataSuccess {
        template_id: id,
        excess_data: B064K::new(&[]).unwrap(),
        transaction_list: Seq064K::new(Vec::new()).unwrap(),
    }
}

pub(super) fn no_data(id: u64, code: DataError) -> RequestTransactionDataError<'static> {
    RequestTransactionDataError { template_id: id, error_code: code.to_wire() }
}

fn set_up() -> Client {
    let mut client = client();
    assert_eq!(said(&mut client), ["setup"]);
    say(&mut client, common::SetupConnectionSuccess { used_version: 2, flags: 0 }, NOW).unwrap();
    assert_eq!(said(&mut client), ["room 200 40"]);
    client
}

/// A client that has its first template, number 1 at height 3, and has looked at it.
fn serving() -> Client {
    let mut client = set_up();
    say(&mut client, new_template(1, 3, true), NOW).unwrap();
    assert!(told(&mut client).is_empty() && said(&mut client).is_empty(), "nobody knows its block");
    say(&mut client, new_tip(1, &[1; 32]), NOW).unwrap();
    assert_eq!(told(&mut client), ["tip 3", "offered 1"], "the tip, although transactions are not there");
    assert_eq!(said(&mut client), ["data 1"]);
    say(&mut client, no_transactions(1), NOW).unwrap();
    assert_eq!(told(&mut client), ["candidate 1"]);
    client.handle_judged(TemplateId(1), NOW);
    client
}

/// Carries frames both ways until nobody has anything to say; gives what happened at the client.
fn converse(client: &mut Client, session: &mut Session, now: Now) -> Vec<Event> {
    let mut happened = Vec::new();
    loop {
        let (up, down) = (core::mem::take(client.frames()), core::mem::take(session.frames()));
        if up.is_empty() && down.is_empty() {
            return happened;
        }
        up.iter().for_each(|frame| session.handle_frame(frame, now).unwrap());
        for frame in down.iter() {
            client.handle_frame(frame, now).unwrap();
            for event in events(client) {
                if let Event::Candidate(candidate) = &event {
                    client.handle_judged(candidate.id(), now);
                }
                happened.push(event);
            }
        }
    }
}

fn candidates(happened: Vec<Event>) -> Vec<Template> {
    let checked = happened.into_iter().filter_map(|event| match event {
        Event::Candidate(candidate) => Some(candidate.check(Network::Regtest, None).unwrap()),
        Event::Tip(_) | Event::Offered(_) | Event::Withheld(_) => None,
    });
    checked.collect()
}

#[test]
fn our_server_gives_our_client_the_nodes_templates() {
    let mut chain = devnet(1);
    let mut template = |secs| Arc::new(chain.template(later(secs)));
    let first = template(30);
    let mut offers = Offers::first(NOW.unix, Arc::clone(&first));
    let mut session = Session::new(1, Arc::new(offers.clone()), NOW);
    let mut client = client();
    let same = |got: &Template, node: &Template| {
        let facts = |template: &Template| {
            let Template { tip, version, coinbase_value, subsidy, fees, .. } = template;
            (tip.prev_hash, tip.height, tip.nbits, *version, *coinbase_value, *subsidy, *fees)
        };
        assert_eq!(facts(got), facts(node));
        assert_eq!(got.transactions, node.transactions);
        assert_eq!(got.required_outputs, node.required_outputs);
        assert_eq!(got.merkle_path, node.merkle_path);
        assert_eq!(u64::from(got.sigops), MAX_SIGOPS - u64::from(ROOM.sigops));
    };
    let got = candidates(converse(&mut client, &mut session, later(40)));
    let [got] = &got[..] else { panic!("{got:?}") };
    same(got, &first);
    assert_eq!(got.time, later(40).unix.to_secs(), "the provider's time");

    let second = template(60);
    offers = offers.with(Arc::clone(&second));
    session.handle_offers(Arc::new(offers.clone()), later(60)).unwrap();
    let happened = converse(&mut client, &mut session, later(61));
    assert!(!happened.iter().any(|event| matches!(event, Event::Tip(_))), "no new tip");
    let got = candidates(happened);
    same(&got[0], &second);
    assert_eq!(got[0].time, later(61).unix.to_secs());
    assert_eq!(got[0].tip.min_ntime, later(40).unix.to_secs(), "the tip stays what it was");

    // A new block is known before there is a template on it.
    let block = solve(&second);
    let tip = Tip { prev_hash: block.hash, height: Height(second.tip.height.0 + 1), ..second.tip };
    offers = offers.ahead(&tip, later(70).unix).unwrap();
    session.handle_offers(Arc::new(offers.clone()), later(70)).unwrap();
    let happened = converse(&mut client, &mut session, later(70));
    assert!(matches!(&happened[0], Event::Tip(told) if told.prev_hash == block.hash), "{happened:?}");
    let got = candidates(happened);
    assert!(got[0].transactions.is_empty() && got[0].tip.prev_hash == block.hash);
    chain.submit_block(&block.to_bytes(), later(70)).unwrap();
    let third = Arc::new(chain.template(later(90)));
    session.handle_offers(Arc::new(offers.with(Arc::clone(&third))), later(90)).unwrap();
    let happened = converse(&mut client, &mut session, later(90));
    assert!(!happened.iter().any(|event| matches!(event, Event::Tip(_))), "it is known already");
    same(&candidates(happened)[0], &third);
}

/// The greatest cost of signature operations in a block.
const MAX_SIGOPS: u64 = 80_000;

#[test]
fn a_block_found_on_what_the_client_got_is_the_servers_block() {
    let mut chain = devnet(1);
    let offers = Offers::first(NOW.unix, Arc::new(chain.template(later(30))));
    let mut session = Session::new(1, Arc::new(offers), NOW);
    let mut client = client();
    let mut memory = memory::Memory::default();
    let happened = converse(&mut client, &mut session, later(40));
    for event in &happened {
        match event {
            Event::Tip(tip) => memory.note_tip(tip),
            Event::Offered(offered) => memory.note_offered(offered.clone()),
            Event::Candidate(_) | Event::Withheld(_) => {}
        }
    }
    let template = Arc::new(candidates(happened).remove(0));
    let block = solve(&template);
    let bytes = block.to_bytes();
    let solved = memory::Solved::read(&bytes).unwrap();
    client.submit(memory.find(&solved).unwrap(), &solved.header, solved.coinbase).unwrap();
    converse(&mut client, &mut session, later(41));
    let arrived = session.poll_block().expect("the block is known by its parts");
    assert_eq!(arrived.to_bytes(), bytes);
    chain.submit_block(&arrived.to_bytes(), later(41)).unwrap();
    let long = client.submit(TemplateId(1), &solved.header, &vec![0; 65_536]);
    assert_eq!(long, Err(CoinbaseTooLong));
}

#[test]
fn templates_of_providers_elsewhere_are_taken_as_they_are() {
    let mut client = serving();
    // A block later, with two templates for it to choose from, sent in quiet time.
    say(&mut client, new_template(2, 4, true), later(5)).unwrap();
    say(&mut client, new_template(9, 4, true), later(6)).unwrap();
    say(&mut client, new_tip(2, &[2; 32]), later(7)).unwrap();
    assert_eq!(told(&mut client), ["tip 4", "offered 2"]);
    assert_eq!(said(&mut client), ["data 2"], "at once, whatever was asked for before");
    say(&mut client, no_transactions(2), later(8)).unwrap();
    let happened = events(&mut client);
    let [Event::Candidate(candidate)] = &happened[..] else { panic!("{happened:?}") };
    let template = candidate.clone().check(Network::Regtest, None).unwrap();
    assert_eq!(template.coinbase_form.after_height.as_bytes(), [0]);
    assert_eq!(template.time, later(1).unix.to_secs(), "the header's time, and a second since");
    client.handle_judged(TemplateId(2), later(8));
    // The other one is of the past now.
    let end = say(&mut client, new_tip(9, &[3; 32]), later(9)).unwrap_err();
    assert!(matches!(end, ClientEnd::Misbehaved(_)), "{end}");
}

#[test]
fn a_tip_told_twice_is_no_news() {
    let mut client = serving();
    say(&mut client, new_tip(1, &[1; 32]), later(5)).unwrap();
    assert!(told(&mut client).is_empty());
    say(&mut client, new_template(2, 3, true), later(5)).unwrap();
    let again = SetNewPrevHash { header_timestamp: later(5).unix.to_secs(), ..new_tip(2, &[1; 32]) };
    say(&mut client, again, later(5)).unwrap();
    assert_eq!(told(&mut client), ["offered 2"]);
    assert_eq!(client.tip().unwrap().min_ntime, NOW.unix.to_secs(), "the tip stays what it was");
}

#[test]
fn of_many_templates_only_the_newest_is_asked_for_and_not_too_often() {
    let mut client = serving();
    for id in 2..100 {
        say(&mut client, new_template(id, 3, false), NOW).unwrap();
    }
    assert!(said(&mut client).is_empty(), "a request was made just now");
    assert_eq!(client.poll_timeout(), Some(NOW.monotonic + REQUEST_PAUSE));
    client.handle_timeout(later(1)).unwrap();
    assert_eq!(said(&mut client), ["data 99"]);
    for id in 100..200 {
        say(&mut client, new_template(id, 3, false), later(5)).unwrap();
    }
    client.handle_timeout(later(5)).unwrap();
    assert!(said(&mut client).is_empty(), "one request at a time");
    say(&mut client, no_transactions(99), later(5)).unwrap();
    assert!(said(&mut client).is_empty(), "it is being looked at");
    client.handle_judged(TemplateId(99), later(5));
    assert_eq!(said(&mut client), ["data 199"]);
}

#[test]
fn a_new_tip_outdates_what_was_asked_for() {
    let mut client = serving();
    say(&mut client, new_template(2, 3, false), later(2)).unwrap();
    assert_eq!(said(&mut client), ["data 2"]);
    for id in [3, 4] {
        say(&mut client, new_template(id, 4, true), later(2)).unwrap();
        say(&mut client, new_tip(id, &[u8::try_from(id).unwrap(); 32]), later(2)).unwrap();
    }
    assert_eq!(said(&mut client), ["data 3"], "no more than two at once");
    told(&mut client);
    say(&mut client, no_transactions(2), later(3)).unwrap();
    assert!(told(&mut client).is_empty(), "outdated");
    assert_eq!(said(&mut client), ["data 4"]);
    say(&mut client, no_data(3, DataError::StaleTemplateId), later(3)).unwrap();
    say(&mut client, no_transactions(4), later(3)).unwrap();
    assert_eq!(told(&mut client), ["candidate 4"]);
}

#[test]
fn transactions_that_are_withheld_are_told_of_unless_something_newer_is_there() {
    let mut client = serving();
    say(&mut client, new_template(2, 3, false), later(2)).unwrap();
    told(&mut client);
    say(&mut client, no_data(2, DataError::TemplateIdNotFound), later(2)).unwrap();
    assert_eq!(told(&mut client), ["withheld template-id-not-found"]);
    say(&mut client, new_template(3, 3, false), later(4)).unwrap();
    say(&mut client, new_template(4, 3, false), later(4)).unwrap();
    told(&mut client);
    say(&mut client, no_data(3, DataError::TemplateIdNotFound), later(4)).unwrap();
    assert!(told(&mut client).is_empty());
    client.handle_timeout(later(5)).unwrap();
    assert_eq!(said(&mut client), ["data 2", "data 3", "data 4"]);
}

#[test]
fn a_quiet_provider_is_asked_for_a_sign_of_life() {
    let mut client = serving();
    assert!(!client.ping(NOW.monotonic), "nobody knows whether it answers such questions");
    assert_eq!(said(&mut client), ["ping"]);
    assert!(client.has_left_unanswered());
    say(&mut client, no_data(NO_TEMPLATE.0, DataError::TemplateIdNotFound), later(1)).unwrap();
    assert!(client.has_answered() && !client.has_left_unanswered() && told(&mut client).is_empty());
    assert_eq!(client.poll_timeout(), Some(later(1).monotonic + QUIET_PATIENCE));
    client.handle_timeout(later(16)).unwrap();
    assert_eq!(said(&mut client), ["ping"]);
    client.handle_sign_of_life(later(20).monotonic);
    client.handle_timeout(later(35)).unwrap();
    assert!(client.ping(later(35).monotonic));
    assert_eq!(said(&mut client), ["ping"], "one question at a time");
    client.handle_timeout(later(49)).unwrap();
    let end = client.handle_timeout(later(50)).unwrap_err();
    assert_eq!(end, ClientEnd::Late { what: "a sign of life", secs: 15 });
}

/// It was taken for one that does not answer such questions, and was believed to be alive for ever.
#[test]
fn a_provider_that_hangs_right_after_its_first_template_is_given_up() {
    let mut client = serving();
    assert!(!client.ping(NOW.monotonic));
    client.handle_timeout(later(14)).unwrap();
    let end = client.handle_timeout(later(15)).unwrap_err();
    assert_eq!(end, ClientEnd::Late { what: "a sign of life", secs: 15 });
    assert!(client.has_left_unanswered(), "it may also be one that does not answer such questions");
}

pub(super) fn serving_with(pulse: Pulse) -> Client {
    Client { pulse, ..serving() }
}

#[test]
fn a_provider_that_answered_on_an_earlier_connection_is_held_to_it_from_the_start() {
    let mut client = serving_with(Pulse::Given);
    assert!(client.ping(NOW.monotonic), "its answer can be waited for");
    assert!(client.has_left_unanswered());
    assert!(client.handle_timeout(later(15)).is_err());
}

#[test]
fn a_provider_that_does_not_answer_is_not_asked_before_its_time() {
    let mut client = serving_with(Pulse::NotBefore(later(1000).monotonic));
    assert!(!client.ping(NOW.monotonic));
    client.handle_timeout(later(999)).unwrap();
    assert!(said(&mut client).is_empty());
    assert_eq!(client.poll_timeout(), Some(later(1000).monotonic));
    client.handle_timeout(later(1000)).unwrap();
    assert_eq!(said(&mut client), ["ping"]);
    say(&mut client, no_data(NO_TEMPLATE.0, DataError::TemplateIdNotFound), later(1000)).unwrap();
    assert!(client.ping(later(1001).monotonic));
}

/// A deadline that stays in the past made the task turn without end and without ever reading the socket.
#[test]
fn a_provider_that_is_not_asked_for_signs_of_life_leaves_no_deadline_that_is_always_due() {
    for pulse in [Pulse::Unknown, Pulse::Given, Pulse::NotBefore(later(70).monotonic)] {
        for said_last in 0..4 {
            let mut client = serving_with(pulse);
            match said_last {
                1 => say(&mut client, new_template(2, 3, false), NOW).unwrap(),
                2 => say(&mut client, new_tip(7, &[2; 32]), NOW).unwrap(),
                3 => say(&mut client, new_template(2, 4, true), NOW).unwrap(),
                _ => {}
            }
            for tenths in 0..2_000 {
                let now = NOW.after(Duration::from_millis(100 * tenths));
                if client.handle_timeout(now).is_err() {
                    break;
                }
                let due = client.poll_timeout();
                assert!(
                    due.is_none_or(|due| due > now.monotonic),
                    "{pulse:?} {said_last}: {due:?} at {now:?}"
                );
            }
        }
    }
    for mut client in [client(), set_up()] {
        while let Some(due) = client.poll_timeout() {
            let now = Now { monotonic: due, ..NOW };
            if client.handle_timeout(now).is_err() {
                break;
            }
            assert!(client.poll_timeout().is_none_or(|next| next > due));
        }
    }
}

/// Spec 7.3 says that the template should come first, not that it must.
#[test]
fn a_new_block_may_name_a_template_that_comes_after_it() {
    for future in [true, false] {
        let mut client = serving();
        say(&mut client, new_tip(5, &[2; 32]), later(2)).unwrap();
        assert!(told(&mut client).is_empty());
        say(&mut client, new_template(5, 4, future), later(3)).unwrap();
        assert_eq!(told(&mut client), ["tip 4", "offered 5"]);
        assert_eq!(said(&mut client), ["data 5"]);
        assert_eq!(client.tip().unwrap().prev_hash, BlockHash::from_byte_array([2; 32]));
    }
    let mut client = serving();
    say(&mut client, new_tip(5, &[2; 32]), later(2)).unwrap();
    assert_eq!(client.poll_timeout(), Some(later(2).monotonic + NAMED_PATIENCE));
    let end = client.handle_timeout(later(7)).unwrap_err();
    assert!(matches!(end, ClientEnd::Late { secs: 5, .. }), "{end}");
    let mut client = set_up();
    say(&mut client, new_tip(5, &[2; 32]), NOW).unwrap();
    say(&mut client, new_template(5, 4, true), NOW).unwrap();
    assert_eq!(told(&mut client), ["tip 4", "offered 5"], "at the start, too");
}

/// The provider's word that a newer template follows was believed for ever.
#[test]
fn an_outdated_template_that_no_other_follows_is_asked_for_again_and_then_told_of() {
    let mut client = serving();
    say(&mut client, new_template(2, 3, false), later(2)).unwrap();
    assert_eq!(
        (told(&mut client), said(&mut client)),
        (vec!["offered 2".to_owned()], vec!["data 2".to_owned()])
    );
    for secs in 2..7 {
        say(&mut client, no_data(2, DataError::StaleTemplateId), later(secs)).unwrap();
        assert!(told(&mut client).is_empty() && said(&mut client).is_empty());
        client.handle_timeout(later(secs + 1)).unwrap();
        assert_eq!(said(&mut client), ["data 2"]);
    }
    say(&mut client, no_data(2, DataError::StaleTemplateId), later(7)).unwrap();
    assert_eq!(told(&mut client), ["withheld stale-template-id"]);
    say(&mut client, new_template(3, 3, false), later(8)).unwrap();
    client.handle_timeout(later(8)).unwrap();
    assert_eq!(said(&mut client), ["data 3"], "the newer one, and not both");
    say(&mut client, no_transactions(3), later(8)).unwrap();
    assert_eq!(told(&mut client), ["offered 3", "candidate 3"]);
}

#[test]
fn deadlines_pass() {
    let late = |client: &mut Client, secs: u64| {
        client.handle_timeout(NOW.after(Duration::from_secs(secs) - Duration::from_micros(1))).unwrap();
        assert!(client.poll_timeout().is_some_and(|due| due <= later(secs).monotonic));
        client.handle_timeout(later(secs)).unwrap_err()
    };
    assert!(matches!(late(&mut client(), 10), ClientEnd::Late { secs: 10, .. }));
    let mut silent = set_up();
    assert!(matches!(late(&mut silent, 60), ClientEnd::Late { secs: 60, .. }));
    let mut client = serving();
    say(&mut client, new_template(2, 3, false), later(2)).unwrap();
    // Other things that it says in between do not help.
    for secs in 3..62 {
        say(&mut client, new_template(secs, 3, false), later(secs)).unwrap();
        client.handle_timeout(later(secs)).unwrap();
    }
    let end = client.handle_timeout(later(62)).unwrap_err();
    assert_eq!(end, ClientEnd::Late { what: "the transactions of a template", secs: 60 });
}

/// Two templates with one id would make it a matter of luck which of them a solution is taken for.
#[test]
fn template_ids_that_do_not_grow_end_the_connection() {
    for id in [0, 1, u64::MAX] {
        let mut client = serving();
        let end = say(&mut client, new_template(id, 3, false), later(2)).unwrap_err();
        assert!(matches!(end, ClientEnd::Misbehaved(_)), "{id}: {end}");
    }
}

#[test]
fn what_does_not_fit_together_ends_the_connection() {
    let ends = |message: Message<'_>| say(&mut serving(), message, later(2)).unwrap_err();
    let passed = new_tip(1, &[2; 32]);
    let future = SetNewPrevHash { header_timestamp: later(7203).unix.to_secs(), ..new_tip(1, &[1; 32]) };
    assert!(matches!(ends(passed.into()), ClientEnd::Misbehaved(_)));
    assert_eq!(ends(future.into()), ClientEnd::Time(7201));
    assert!(matches!(ends(new_template(2, 4, false).into()), ClientEnd::Misbehaved(_)), "another height");
    let no_height = NewTemplate { coinbase_prefix: B0255::new(&[]).unwrap(), ..new_template(2, 3, true) };
    assert!(matches!(ends(no_height.into()), ClientEnd::Template(TemplateRefused::CoinbasePrefix)));
    let success = common::SetupConnectionSuccess { used_version: 2, flags: 0 };
    assert!(matches!(ends(success.into()), ClientEnd::Misbehaved(_)));
    let elsewhere = common::Reconnect { new_host: text("example.org"), new_port: 1 };
    assert_eq!(ends(elsewhere.into()), ClientEnd::SentAway);
    let impossible = SetNewPrevHash { n_bits: 0, ..new_tip(2, &[2; 32]) };
    let mut client = serving();
    say(&mut client, new_template(2, 4, true), later(2)).unwrap();
    assert!(matches!(say(&mut client, impossible, later(2)), Err(ClientEnd::Misbehaved(_))));
    let mut client = set_up();
    let first = say(&mut client, new_template(1, 3, false), NOW).unwrap_err();
    assert!(matches!(first, ClientEnd::Misbehaved(_)), "of no block: {first}");
}

#[test]
fn megabytes_are_only_read_when_they_were_asked_for() {
    let mut client = serving();
    let header = frames_of(no_transactions(1)).iter().next().unwrap().header;
    assert_eq!(client.frame_limit(&header), 0);
    let end = say(&mut client, no_transactions(1), NOW).unwrap_err();
    assert!(matches!(end, ClientEnd::TooLong { limit: 0, .. }), "{end}");
    say(&mut client, new_template(2, 3, false), later(2)).unwrap();
    assert!(client.frame_limit(&header) > limits::BLOCK_BYTES);
    assert!(client.frame_limit(&header) < 5_000_000, "a frame may claim sixteen megabytes");
    let end = say(&mut client, no_transactions(1), later(2)).unwrap_err();
    assert!(matches!(end, ClientEnd::Misbehaved(_)), "of another template: {end}");
}

#[test]
fn templates_for_blocks_to_come_are_bounded() {
    let mut client = serving();
    for id in 2..100 {
        say(&mut client, new_template(id, 4, true), later(2)).unwrap();
    }
    let mut forgetful = client;
    let oldest = 100 - FUTURES_KEPT as u64;
    let end = say(&mut forgetful, new_tip(oldest - 1, &[2; 32]), later(2)).unwrap_err();
    assert!(matches!(end, ClientEnd::Misbehaved(_)), "forgotten: {end}");
    say(&mut forgetful, new_tip(oldest, &[2; 32]), later(2)).unwrap();
    assert_eq!(told(&mut forgetful), ["tip 4".to_owned(), format!("offered {oldest}")]);
}

#[test]
fn a_refusal_is_told_and_other_answers_to_setup_end_the_connection() {
    let mut asked = client();
    let code = Str0255::new(b"unsupported-protocol").unwrap();
    let end = say(&mut asked, common::SetupConnectionError { flags: 0, error_code: code }, NOW).unwrap_err();
    assert_eq!(end, ClientEnd::Refused("unsupported-protocol".to_owned()));
    for used_version in [0, 1, 3] {
        let success = common::SetupConnectionSuccess { used_version, flags: 0 };
        assert!(matches!(say(&mut client(), success, NOW), Err(ClientEnd::Misbehaved(_))));
    }
    let end = say(&mut client(), new_template(1, 3, true), NOW).unwrap_err();
    assert!(matches!(end, ClientEnd::TooLong { limit: 0, .. }), "{end}");
}

#[test]
fn what_nobody_asked_about_is_ignored() {
    let mut client = serving();
    say(&mut client, common::ChannelEndpointChanged { channel_id: 4 }, later(1)).unwrap();
    let header = Header { extension_type: 0x4000, channel_msg: false, msg_type: 9, length: 3 };
    client.handle_frame(Frame { header, payload: &[1, 2, 3] }, later(1)).unwrap();
    let unknown = Header { extension_type: 0, ..header };
    let end = client.handle_frame(Frame { header: unknown, payload: &[1, 2, 3] }, later(1)).unwrap_err();
    assert!(matches!(end, ClientEnd::Misbehaved(_)), "{end}");
    assert!(told(&mut client).is_empty());
}

#[test]
fn every_message_cut_at_every_byte_ends_the_connection_and_nothing_else() {
    let transactions = [B016M::new(&[0x5a; 90]).unwrap(), B016M::new(&[0xa5; 9]).unwrap()];
    let data = RequestTransactionDataSuccess {
        transaction_list: Seq064K::new(transactions.to_vec()).unwrap(),
        ..no_transactions(2)
    };
    let messages = [
        frames_of(new_template(3, 3, false)),
        frames_of(new_tip(1, &[1; 32])),
        frames_of(data),
        frames_of(no_data(2, DataError::StaleTemplateId)),
        frames_of(common::Reconnect { new_host: text("example.org"), new_port: 1 }),
    ];
    let mut cases = 0;
    for message in &messages {
        let Frame { header, payload } = message.iter().next().unwrap();
        for length in 0..payload.len() {
            let mut client = serving();
            say(&mut client, new_template(2, 3, false), later(2)).unwrap();
            let cut = Header { length: length.try_into().unwrap(), ..header };
            let end = client.handle_frame(Frame { header: cut, payload: &payload[..length] }, later(2));
            assert!(matches!(end, Err(ClientEnd::Malformed(_))), "{header:?} at {length}: {end:?}");
            cases += 1;
        }
    }
    assert!(cases > 250, "{cases}");
}

/// Solves blocks without the test kit, which stands on this crate.
mod miner {
    use adit_share::{Block, CoinbaseSpec, HEADER_LEN, Job};
    use adit_units::{JobId, JobTag};
    use bitcoin::consensus::serialize;
    use bitcoin::{Amount, ScriptBuf, TxMerkleNode, TxOut};

    use super::*;

    /// A block of the template that pays everything to one script.
    pub(super) fn solve(template: &Arc<Template>) -> Block {
        let value = Amount::from_sat(template.coinbase_value.to_sats());
        let spec = CoinbaseSpec {
            payouts: vec![TxOut { value, script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }],
            signature: String::new(),
            tag: JobTag { instance: 0, boot: 0, job: JobId(1) },
            extranonce_len: 4,
        };
        let job = Job::new(JobId(1), template, &spec).unwrap();
        let mut header = BlockHeader {
            version: bitcoin::block::Version::from_consensus(template.version.cast_signed()),
            prev_blockhash: template.tip.prev_hash,
            merkle_root: TxMerkleNode::from_byte_array(job.merkle_root(&[0; 4]).unwrap()),
            time: template.time,
            bits: template.tip.nbits,
            nonce: 0,
        };
        while !template.tip.target.is_met_by(&header.block_hash().to_byte_array()) {
            header.nonce += 1;
        }
        let header: [u8; HEADER_LEN] = serialize(&header).try_into().unwrap();
        job.block(template, header, &[0; 4])
    }
}
