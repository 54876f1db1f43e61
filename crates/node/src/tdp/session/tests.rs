//! Dialogues with a template provider, frame by frame, and hostile bytes.

use adit_messages::template_distribution::RequestTransactionData;
use adit_messages::{MESSAGES, types::Str0255};
use adit_units::{UnixTime, Work};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, deserialize_partial, serialize};
use bitcoin::hashes::sha256d;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, transaction};

use super::*;
use crate::{Devnet, DevnetConfig, Fate, Pace};

const NOW: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };

/// Room for a payout.
const SMALL: CoinbaseOutputConstraints = CoinbaseOutputConstraints {
    coinbase_output_max_additional_size: 100,
    coinbase_output_max_additional_sigops: 4,
};

/// A chain whose blocks take two hashes, and which gets a transaction each second.
fn devnet() -> Devnet {
    let pace = Pace::Fixed(Work::from_hashes(2));
    Devnet::new(&DevnetConfig { pace, arrival: Duration::from_secs(1), ..DevnetConfig::new([7; 32]) }, NOW)
}

fn later(secs: u64) -> Now {
    NOW.after(Duration::from_secs(secs))
}

fn template(chain: &mut Devnet, secs: u64) -> Arc<Template> {
    Arc::new(chain.template(later(secs)))
}

fn setup() -> common::SetupConnection<'static> {
    let text = |text: &'static str| Str0255::new(text.as_bytes()).unwrap();
    common::SetupConnection {
        protocol: common::Protocol::TemplateDistributionProtocol,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: text("127.0.0.1"),
        endpoint_port: 8442,
        vendor: text("tests"),
        hardware_version: text(""),
        firmware: text("1"),
        device_id: text(""),
    }
}

/// A client's message on its way: payload, header.
fn frames_of<'a>(message: impl Into<Message<'a>>) -> FrameQueue {
    let mut queue = FrameQueue::default();
    encode(message, &mut queue).unwrap();
    queue
}

/// Sends one message and takes what is answered.
fn say<'a>(session: &mut Session, message: impl Into<Message<'a>>) -> Result<FrameQueue, SessionEnd> {
    let queue = frames_of(message);
    session.handle_frame(queue.iter().next().unwrap(), later(40))?;
    Ok(heard(session))
}

fn heard(session: &mut Session) -> FrameQueue {
    core::mem::take(session.frames())
}

fn messages(queue: &FrameQueue) -> Vec<Message<'_>> {
    queue.iter().map(|frame| decode(Protocol::TemplateDistribution, frame).unwrap()).collect()
}

/// A session that is set up, and has sent nothing but that.
fn set_up(offers: Offers) -> Session {
    let mut session = Session::new(1, Arc::new(offers), NOW);
    let answer = say(&mut session, setup()).unwrap();
    let [Message::SetupConnectionSuccess(success)] = messages(&answer)[..] else { panic!("{answer:?}") };
    assert_eq!((success.used_version, success.flags), (2, 0));
    session
}

/// A session whose client has had its first template, and that template's id.
fn serving(offers: Offers) -> (Session, u64) {
    let mut session = set_up(offers);
    let answer = say(&mut session, SMALL).unwrap();
    let messages = messages(&answer);
    let [Message::NewTemplate(new), Message::TemplateSetNewPrevHash(tip)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    assert!(new.future_template);
    assert_eq!(new.template_id, tip.template_id);
    (session, new.template_id)
}

/// The coinbase that a client makes of a template: everything to one script.
fn coinbase(new: &NewTemplate<'_>) -> Transaction {
    let mut script = new.coinbase_prefix.as_bytes().to_vec();
    script.extend([3, 1, 2, 3]);
    let mut output = vec![TxOut {
        value: Amount::from_sat(new.coinbase_tx_value_remaining),
        script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
    }];
    let mut rest = new.coinbase_tx_outputs.as_bytes();
    for _ in 0..new.coinbase_tx_outputs_count {
        let (required, used) = deserialize_partial(rest).unwrap();
        output.push(required);
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: ScriptBuf::from_bytes(script),
        sequence: Sequence::from_consensus(new.coinbase_tx_input_sequence),
        witness: Witness::from_slice(&[[0; 32]]),
    };
    Transaction {
        version: transaction::Version(new.coinbase_tx_version.cast_signed()),
        lock_time: LockTime::from_consensus(new.coinbase_tx_locktime),
        input: vec![input],
        output,
    }
}

/// Header fields that make a block (or, if not `good`, none), found from what the messages say and nothing else.
fn mine(new: &NewTemplate<'_>, tip: &SetNewPrevHash<'_>, coinbase: &Transaction, good: bool) -> u32 {
    let path = new.merkle_path.iter().map(|node| node.as_bytes().to_vec());
    let root = path.fold(coinbase.compute_txid().to_byte_array().to_vec(), |left, right| {
        sha256d::Hash::hash(&[left, right].concat()).to_byte_array().to_vec()
    });
    let header = |nonce: u32| {
        let mut bytes = new.version.to_le_bytes().to_vec();
        bytes.extend(tip.prev_hash.as_bytes());
        bytes.extend(&root);
        bytes.extend(tip.header_timestamp.to_le_bytes());
        bytes.extend(tip.n_bits.to_le_bytes());
        bytes.extend(nonce.to_le_bytes());
        sha256d::Hash::hash(&bytes).to_byte_array()
    };
    let target: Vec<u8> = tip.target.as_bytes().iter().rev().copied().collect();
    let meets = |hash: [u8; 32]| hash.iter().rev().copied().collect::<Vec<_>>() <= target;
    (0..u32::MAX).find(|&nonce| meets(header(nonce)) == good).unwrap()
}

#[test]
fn a_client_gets_its_first_template_and_then_the_block_that_it_stands_on() {
    let mut chain = devnet();
    let template = template(&mut chain, 30);
    let mut session = set_up(Offers::first(NOW.unix, Arc::clone(&template)));
    assert!(!session.is_established() && session.poll_timeout().is_some());
    let answer = say(&mut session, SMALL).unwrap();
    assert!(session.is_established() && session.poll_timeout().is_none());
    let messages = messages(&answer);
    let [Message::NewTemplate(new), Message::TemplateSetNewPrevHash(tip)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    assert!(new.future_template, "the block that it stands on is told after it (spec 7.3)");
    assert_eq!(new.template_id, tip.template_id);
    assert_eq!(new.version, template.version);
    assert_eq!(new.coinbase_tx_value_remaining, template.coinbase_value.to_sats());
    assert_eq!(new.merkle_path.len(), template.merkle_path.len());
    assert_eq!(tip.prev_hash.as_bytes(), template.tip.prev_hash.as_byte_array());
    assert_eq!(tip.n_bits, template.tip.nbits.to_consensus());
    assert_eq!(tip.target.as_bytes(), template.tip.target.to_le_bytes());
    assert_eq!(tip.header_timestamp, later(40).unix.to_secs(), "mining starts with the time of now");
    let height = ScriptBuf::from_bytes(new.coinbase_prefix.as_bytes().to_vec());
    assert_eq!(
        height.instructions().next().unwrap().unwrap().script_num(),
        Some(template.tip.height.0.into())
    );
}

#[test]
fn more_fees_bring_a_template_and_a_new_block_brings_both() {
    let mut chain = devnet();
    let mut offers = Offers::first(NOW.unix, template(&mut chain, 0));
    let (mut session, first) = serving(offers.clone());
    offers = offers.with(template(&mut chain, 20));
    session.handle_offers(Arc::new(offers.clone()), later(20)).unwrap();
    let answer = heard(&mut session);
    let [Message::NewTemplate(second)] = &messages(&answer)[..] else { panic!("{answer:?}") };
    assert!(!second.future_template && second.template_id > first);

    let mut other = Devnet::new(&DevnetConfig::new([8; 32]), NOW);
    offers = offers.with(template(&mut other, 20));
    session.handle_offers(Arc::new(offers), later(21)).unwrap();
    let answer = heard(&mut session);
    let messages = messages(&answer);
    let [Message::NewTemplate(third), Message::TemplateSetNewPrevHash(tip)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    assert!(third.future_template && third.template_id > second.template_id);
    assert_eq!(tip.template_id, third.template_id);
}

#[test]
fn offers_before_the_constraints_say_nothing_to_the_client() {
    let mut chain = devnet();
    let offers = Offers::first(NOW.unix, template(&mut chain, 0));
    let mut session = set_up(offers.clone());
    session.handle_offers(Arc::new(offers.with(template(&mut chain, 20))), later(20)).unwrap();
    assert!(heard(&mut session).is_empty());
    assert_eq!(say(&mut session, SMALL).unwrap().iter().count(), 2, "the newest, and its tip");
}

#[test]
fn constraints_may_change_and_are_answered_each_time() {
    let mut chain = devnet();
    let full = template(&mut chain, 30);
    assert!(full.weight > 0);
    let (mut session, mut last) = serving(Offers::first(NOW.unix, Arc::clone(&full)));
    let most = (MAX_BLOCK_WEIGHT - FIXED_WEIGHT - full.weight) / 4;
    for (size, is_full) in [(most, true), (most + 1, false), (0, true)] {
        let constraints = CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: size.try_into().unwrap(),
            ..SMALL
        };
        let answer = say(&mut session, constraints).unwrap();
        let [Message::NewTemplate(new)] = &messages(&answer)[..] else { panic!("{answer:?}") };
        assert!(new.template_id > last && !new.future_template);
        last = new.template_id;
        let value = if is_full { full.coinbase_value } else { full.subsidy };
        assert_eq!(new.coinbase_tx_value_remaining, value.to_sats(), "room for {size} bytes");
        assert_eq!(new.merkle_path.is_empty(), !is_full);
    }
    let sigops = CoinbaseOutputConstraints { coinbase_output_max_additional_sigops: u16::MAX, ..SMALL };
    assert_eq!(say(&mut session, sigops).unwrap().iter().count(), 1);
    let too_many = (0..ISSUES_PER_OFFER).find_map(|_| say(&mut session, SMALL).err());
    assert_eq!(too_many, Some(SessionEnd::TooManyConstraints));
}

#[test]
fn room_that_no_block_has_ends_the_session() {
    let mut session = set_up(Offers::first(NOW.unix, template(&mut devnet(), 0)));
    let size = 1_000_000;
    let constraints = CoinbaseOutputConstraints { coinbase_output_max_additional_size: size, ..SMALL };
    assert_eq!(say(&mut session, constraints).unwrap_err(), SessionEnd::NoRoom { size, sigops: 4 });
}

#[test]
fn transactions_are_handed_out_while_they_can_be_mined() {
    let mut chain = devnet();
    let full = template(&mut chain, 30);
    let offers = Offers::first(NOW.unix, Arc::clone(&full));
    let (mut session, id) = serving(offers.clone());
    let ask = RequestTransactionData { template_id: id };
    let answer = say(&mut session, ask).unwrap();
    let [Message::RequestTransactionDataSuccess(data)] = &messages(&answer)[..] else { panic!("{answer:?}") };
    assert_eq!(data.template_id, id);
    let sent: Vec<&[u8]> = data.transaction_list.iter().map(B016M::as_bytes).collect();
    assert!(sent.len() > 1);
    assert_eq!(sent, full.transactions.iter().map(|tx| tx.as_bytes()).collect::<Vec<_>>());

    let error = |session: &mut Session, id| {
        let answer = say(session, RequestTransactionData { template_id: id }).unwrap();
        let [Message::RequestTransactionDataError(error)] = &messages(&answer)[..] else {
            panic!("{answer:?}")
        };
        assert_eq!(error.template_id, id);
        DataError::from_wire(&error.error_code).unwrap()
    };
    assert_eq!(error(&mut session, id + 1000), DataError::TemplateIdNotFound);
    let mut other = Devnet::new(&DevnetConfig::new([8; 32]), NOW);
    session.handle_offers(Arc::new(offers.with(template(&mut other, 0))), later(50)).unwrap();
    heard(&mut session);
    assert_eq!(error(&mut session, id), DataError::StaleTemplateId);
}

#[test]
fn a_solution_makes_the_block_that_the_client_mined() {
    let mut chain = devnet();
    let mut session = set_up(Offers::first(NOW.unix, template(&mut chain, 30)));
    let answer = say(&mut session, SMALL).unwrap();
    let messages = messages(&answer);
    let [Message::NewTemplate(new), Message::TemplateSetNewPrevHash(tip)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    let coinbase = coinbase(new);
    let mut stripped = coinbase.clone();
    stripped.input[0].witness.clear();
    let solution = |good, bytes| SubmitSolution {
        template_id: new.template_id,
        version: new.version,
        header_timestamp: tip.header_timestamp,
        header_nonce: mine(new, tip, &coinbase, good),
        coinbase_tx: B064K::new(bytes).unwrap(),
    };
    let (whole, bare) = (serialize(&coinbase), serialize(&stripped));
    for bytes in [&whole, &bare] {
        assert!(
            say(&mut session, solution(true, bytes)).unwrap().is_empty(),
            "it is not answered (spec 7.7)"
        );
        let block = session.poll_block().expect("a block");
        block.check().unwrap();
        assert_eq!(block.coinbase(), whole, "with the witness, whether the client has left it on or not");
        let same: bitcoin::Block = deserialize(&block.to_bytes()).unwrap();
        assert_eq!(same.txdata[0], coinbase);
    }
    for wrong in [
        solution(false, &whole),
        SubmitSolution { template_id: 77, ..solution(true, &whole) },
        SubmitSolution { coinbase_tx: B064K::new(&[1, 2, 3]).unwrap(), ..solution(true, &whole) },
    ] {
        assert!(say(&mut session, wrong).unwrap().is_empty());
        assert!(session.poll_block().is_none());
    }
    // Another connection may bring it, as when the first one broke.
    let mut another = set_up(Offers::clone(&session.offers));
    say(&mut another, solution(true, &whole)).unwrap();
    let block = another.poll_block().expect("a block");
    let found = later(60);
    chain.submit_block(&block.to_bytes(), found).unwrap();
    assert_eq!(chain.fate(&block.hash), Fate::InChain { confirmations: 1 });
}

#[test]
fn who_does_not_fit_is_told_why() {
    let refusal = |setup: common::SetupConnection<'static>| {
        let mut session = Session::new(1, Arc::new(Offers::first(NOW.unix, template(&mut devnet(), 0))), NOW);
        let end = say(&mut session, setup).unwrap_err();
        let answer = heard(&mut session);
        let [Message::SetupConnectionError(error)] = &messages(&answer)[..] else { panic!("{answer:?}") };
        let code = SetupError::from_wire(&error.error_code).unwrap();
        assert_eq!(end, SessionEnd::Refused(code));
        (code, error.flags)
    };
    let mining = common::SetupConnection { protocol: common::Protocol::MiningProtocol, ..setup() };
    assert_eq!(refusal(mining), (SetupError::UnsupportedProtocol, 0));
    let old = common::SetupConnection { min_version: 1, max_version: 1, ..setup() };
    assert_eq!(refusal(old), (SetupError::ProtocolVersionMismatch, 0));
    let flags = common::SetupConnection { flags: 5, ..setup() };
    assert_eq!(refusal(flags), (SetupError::UnsupportedFeatureFlags, 5));
}

#[test]
fn who_says_nothing_is_sent_away() {
    let mut session = Session::new(1, Arc::new(Offers::first(NOW.unix, template(&mut devnet(), 0))), NOW);
    let deadline = session.poll_timeout().unwrap();
    assert_eq!(deadline, NOW.monotonic + SETUP_TIMEOUT);
    session.handle_timeout(NOW.after(SETUP_TIMEOUT - Duration::from_micros(1))).unwrap();
    let end = session.handle_timeout(NOW.after(SETUP_TIMEOUT)).unwrap_err();
    assert_eq!(end, SessionEnd::Idle("SetupConnection"));
    let mut session = set_up(Offers::first(NOW.unix, template(&mut devnet(), 0)));
    let end = session.handle_timeout(later(40).after(CONSTRAINTS_TIMEOUT)).unwrap_err();
    assert_eq!(end, SessionEnd::Idle("CoinbaseOutputConstraints"));
}

#[test]
fn extensions_are_declined() {
    let mut session = set_up(Offers::first(NOW.unix, template(&mut devnet(), 0)));
    let ask = |extensions: &[u16]| RequestExtensions {
        request_id: 9,
        requested_extensions: Seq064K::new(extensions.to_vec()).unwrap(),
    };
    let answer = say(&mut session, ask(&[2, 77])).unwrap();
    assert!(
        matches!(&messages(&answer)[..], [Message::RequestExtensionsError(error)] if error.request_id == 9)
    );
    let answer = say(&mut session, ask(&[EXTENSIONS_NEGOTIATION, 2])).unwrap();
    let [Message::RequestExtensionsSuccess(success)] = &messages(&answer)[..] else { panic!("{answer:?}") };
    assert_eq!(success.supported_extensions.as_slice(), [EXTENSIONS_NEGOTIATION]);
    let header = Header { extension_type: 0x4000, channel_msg: false, msg_type: 9, length: 3 };
    session.handle_frame(Frame { header, payload: &[1, 2, 3] }, NOW).unwrap();
    assert!(heard(&mut session).is_empty(), "what nobody knows is read and dropped");
}

/// All that a client may say, in an order that works.
fn dialogue(id: u64) -> Vec<FrameQueue> {
    let solution = SubmitSolution {
        template_id: id,
        version: 0x2000_0000,
        header_timestamp: 1,
        header_nonce: 2,
        coinbase_tx: B064K::new(&[0x5a; 120]).unwrap(),
    };
    let extensions =
        RequestExtensions { request_id: 1, requested_extensions: Seq064K::new(vec![1, 2]).unwrap() };
    vec![
        frames_of(setup()),
        frames_of(extensions),
        frames_of(SMALL),
        frames_of(RequestTransactionData { template_id: id }),
        frames_of(solution),
    ]
}

/// A session that has heard the first `count` messages.
fn after(dialogue: &[FrameQueue], count: usize, offers: &Arc<Offers>) -> Session {
    let mut session = Session::new(1, Arc::clone(offers), NOW);
    for message in &dialogue[..count] {
        session.handle_frame(message.iter().next().unwrap(), NOW).unwrap();
    }
    session
}

#[test]
fn every_message_cut_at_every_byte_ends_the_session_and_nothing_else() {
    let offers = Arc::new(Offers::first(NOW.unix, template(&mut devnet(), 0)));
    let dialogue = dialogue(5);
    let mut cases = 0;
    for (count, message) in dialogue.iter().enumerate() {
        let Frame { header, payload } = message.iter().next().unwrap();
        for length in 0..payload.len() {
            let mut session = after(&dialogue, count, &offers);
            let cut = Header { length: length.try_into().unwrap(), ..header };
            let end = session.handle_frame(Frame { header: cut, payload: &payload[..length] }, NOW);
            assert!(matches!(end, Err(SessionEnd::Malformed(_))), "{header:?} at {length}: {end:?}");
            cases += 1;
        }
    }
    assert!(cases > 150, "{cases}");
}

#[test]
fn bytes_behind_a_message_are_ignored_up_to_its_limit() {
    let offers = Arc::new(Offers::first(NOW.unix, template(&mut devnet(), 0)));
    let dialogue = dialogue(5);
    for (count, message) in dialogue.iter().enumerate() {
        let Frame { header, payload } = message.iter().next().unwrap();
        let limit = after(&dialogue, count, &offers).frame_limit(&header);
        for length in [limit, limit + 1] {
            let mut long = payload.to_vec();
            long.resize(length, 0xee);
            let mut session = after(&dialogue, count, &offers);
            let frame =
                Frame { header: Header { length: length.try_into().unwrap(), ..header }, payload: &long };
            let end = session.handle_frame(frame, NOW);
            let expected = if length > limit { Err(SessionEnd::TooLong { length, limit }) } else { Ok(()) };
            assert_eq!(end, expected, "{header:?}");
        }
    }
}

#[test]
fn any_message_in_any_state_is_answered_or_ends_the_session() {
    let offers = Arc::new(Offers::first(NOW.unix, template(&mut devnet(), 0)));
    let dialogue = dialogue(5);
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    let mut ended = 0;
    for count in 0..=dialogue.len() {
        for message in MESSAGES {
            for length in 0..90 {
                let payload: Vec<u8> = (0..length).map(|_| random()).collect();
                let header = Header {
                    extension_type: message.extension_type,
                    channel_msg: message.channel_msg,
                    msg_type: message.msg_type,
                    length,
                };
                let mut session = after(&dialogue, count, &offers);
                ended += usize::from(session.handle_frame(Frame { header, payload: &payload }, NOW).is_err());
            }
        }
    }
    assert!(ended > 10_000, "{ended}");
}

/// Each wrote a line, and the client was heard for ever.
#[test]
fn a_client_whose_solutions_make_no_block_is_sent_away_in_the_end() {
    let (mut session, id) = serving(Offers::first(NOW.unix, template(&mut devnet(), 30)));
    let garbage = || SubmitSolution {
        template_id: id,
        version: 0,
        header_timestamp: 0,
        header_nonce: 0,
        coinbase_tx: B064K::new(&[1, 2, 3]).unwrap(),
    };
    for _ in 0..WORTHLESS_MAX {
        assert!(say(&mut session, garbage()).unwrap().is_empty());
    }
    assert_eq!(say(&mut session, garbage()).unwrap_err(), SessionEnd::TooManyWorthless);
}

#[test]
fn a_client_that_asks_for_the_same_block_again_and_again_is_sent_away() {
    let (mut session, id) = serving(Offers::first(NOW.unix, template(&mut devnet(), 30)));
    let ask = |session: &mut Session| say(session, RequestTransactionData { template_id: id });
    for _ in 0..LISTS_MAX {
        assert!(!ask(&mut session).unwrap().is_empty());
    }
    assert_eq!(ask(&mut session).unwrap_err(), SessionEnd::TooManyLists);
}

/// It was answered from memory, whatever had become of the node.
#[test]
fn a_question_for_a_sign_of_life_is_answered_when_the_node_has_given_one() {
    let (mut session, _) = serving(Offers::first(NOW.unix, template(&mut devnet(), 30)));
    let ask = |session: &mut Session| say(session, RequestTransactionData { template_id: NO_TEMPLATE.0 });
    assert!(!session.awaits_pulse());
    for _ in 0..PULSES_OWED_MAX {
        assert!(ask(&mut session).unwrap().is_empty());
    }
    assert!(session.awaits_pulse());
    assert_eq!(ask(&mut session).unwrap_err(), SessionEnd::TooManyPulses);
    session.handle_pulse();
    let answers = heard(&mut session);
    let is_answer = |message: &Message<'_>| matches!(message, Message::RequestTransactionDataError(error) if error.template_id == NO_TEMPLATE.0);
    assert_eq!(
        messages(&answers).iter().filter(|message| is_answer(message)).count(),
        usize::from(PULSES_OWED_MAX)
    );
    assert!(!session.awaits_pulse());
    session.handle_pulse();
    assert!(heard(&mut session).is_empty());
}
