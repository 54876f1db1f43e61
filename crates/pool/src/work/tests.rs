//! Templates become work: what the messages say, what differs from job to job, and what makes no job.

use adit_messages::{Protocol, decode};
use adit_share::{FULL_EXTRANONCE_LEN, RawTransaction, TemplateParts, witness_commitment};
use adit_units::{Height, Sats, TemplateId, UnixTime};
use bitcoin::{Amount, BlockHash, CompactTarget, TxOut, consensus};
use proptest::prelude::*;

use super::*;

const TIME: u32 = 1_700_000_000;

fn now() -> Now {
    Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(TIME) }
}

fn config() -> PoolConfig {
    PoolConfig::new(7, ScriptBuf::from_bytes(vec![0x51]))
}

fn factory() -> JobFactory {
    JobFactory::new(&config(), 3).unwrap()
}

/// A template with one transaction that pays `fee`.
fn parts(fee: u64) -> TemplateParts {
    let (subsidy, fees) = (Sats::from_sats(5_000_000_000), Sats::from_sats(fee));
    let transaction = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn {
            previous_output: bitcoin::OutPoint { txid: bitcoin::Txid::all_zeros(), vout: 0 },
            ..Default::default()
        }],
        output: vec![TxOut { value: Amount::from_sat(fee), script_pubkey: ScriptBuf::new() }],
    };
    let transactions = vec![RawTransaction::parse(consensus::serialize(&transaction)).unwrap()];
    TemplateParts {
        id: TemplateId(1),
        tip: Tip::new(
            BlockHash::all_zeros(),
            Height(101),
            CompactTarget::from_consensus(0x1d00_ffff),
            TIME - 600,
        ),
        version: 0x2000_0000,
        time: TIME,
        coinbase_value: subsidy.checked_add(fees).unwrap(),
        subsidy,
        fees,
        sigops: 0,
        required_outputs: vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: witness_commitment(&transactions),
        }],
        transactions,
    }
}

fn template(fee: u64) -> Arc<Template> {
    Arc::new(Template::new(parts(fee)).unwrap())
}

/// Reads a broadcast back as the message that channel 9 gets.
fn read(broadcast: &Broadcast, check: impl FnOnce(Message<'_>)) {
    let mut frames = FrameQueue::default();
    broadcast.queue(ChannelId(9), &mut frames);
    let frame = frames.iter().next().expect("one message was queued");
    assert!(frame.header.channel_msg);
    check(decode(Protocol::Mining, frame).expect("it is a message of the mining protocol"));
}

#[test]
fn the_messages_say_what_the_job_is() {
    let work = factory().handle_template(&template(5), now()).unwrap().unwrap();
    let job = work.job();
    for (broadcast, min_ntime) in [(&work.future_job, None), (&work.active_job, Some(TIME))] {
        read(broadcast, |message| {
            let Message::NewExtendedMiningJob(message) = message else { panic!("{message:?}") };
            assert_eq!((message.channel_id, message.job_id), (9, 1));
            assert_eq!(message.min_ntime.as_ref().copied(), min_ntime);
            assert_eq!((message.version, message.version_rolling_allowed), (0x2000_0000, true));
            let path: Vec<_> = message.merkle_path.iter().map(|node| node.to_array()).collect();
            assert_eq!(path, job.merkle_path());
            assert_eq!(message.coinbase_tx_prefix.as_bytes(), job.coinbase_prefix());
            assert_eq!(message.coinbase_tx_suffix.as_bytes(), job.coinbase_suffix());
        });
    }
    read(&work.set_new_prev_hash, |message| {
        let Message::SetNewPrevHash(message) = message else { panic!("{message:?}") };
        assert_eq!((message.channel_id, message.job_id, message.min_ntime), (9, 1, TIME));
        assert_eq!((message.prev_hash.to_array(), message.nbits), ([0; 32], 0x1d00_ffff));
    });
}

#[test]
fn the_coinbase_pays_all_to_the_configured_script() {
    let work = factory().handle_template(&template(5), now()).unwrap().unwrap();
    let coinbase =
        [work.job().coinbase_prefix(), &[0; FULL_EXTRANONCE_LEN], work.job().coinbase_suffix()].concat();
    let coinbase: bitcoin::Transaction = consensus::deserialize(&coinbase).unwrap();
    let [payout, commitment] = &coinbase.output[..] else { panic!("{:?}", coinbase.output) };
    assert_eq!((payout.value.to_sat(), &payout.script_pubkey), (5_000_000_005, &config().payout_script));
    assert_eq!((commitment.value, commitment.script_pubkey.is_op_return()), (Amount::ZERO, true));
}

#[test]
fn every_job_has_a_number_and_a_mark_of_its_own() {
    let mut factory = factory();
    for number in 1..5 {
        let work = factory.handle_template(&template(number.into()), now()).unwrap().unwrap();
        assert_eq!(work.id(), JobId(number));
        assert_eq!(work.tag(), JobTag { instance: 7, boot: 3, job: JobId(number) });
        assert_eq!(work.job().tag(), Some(work.tag()));
    }
}

/// Whether a template makes a job right after that with a fee of five.
fn is_news(template: TemplateParts) -> bool {
    let mut factory = factory();
    factory.handle_template(&self::template(5), now()).unwrap().expect("the first template makes a job");
    factory.handle_template(&Arc::new(Template::new(template).unwrap()), now()).unwrap().is_some()
}

#[test]
fn only_what_changes_the_work_is_news() {
    assert!(!is_news(parts(5)));
    assert!(!is_news(TemplateParts { id: TemplateId(2), time: TIME + 30, ..parts(5) }));
    assert!(is_news(parts(6)));
    assert!(is_news(TemplateParts { version: 0x2000_0004, ..parts(5) }));
    let tip = parts(5).tip;
    for other in [
        Tip { prev_hash: BlockHash::from_byte_array([1; 32]), ..tip },
        Tip { height: Height(102), ..tip },
        Tip::new(tip.prev_hash, tip.height, CompactTarget::from_consensus(0x1d00_fffe), tip.min_ntime),
    ] {
        assert!(is_news(TemplateParts { tip: other, ..parts(5) }));
    }
    let other_clock = Tip { min_ntime: tip.min_ntime + 1, ..tip };
    assert!(!is_news(TemplateParts { tip: other_clock, ..parts(5) }), "another node tells the same block");
    let none = TemplateParts { transactions: Vec::new(), required_outputs: Vec::new(), ..parts(5) };
    assert!(is_news(none));
}

#[test]
fn a_template_that_cannot_be_mined_uses_up_no_number() {
    let mut factory = factory();
    let heavy = TemplateParts { sigops: 80_001, ..parts(5) };
    let refused = factory.handle_template(&Arc::new(Template::new(heavy).unwrap()), now());
    assert!(matches!(refused, Err(WorkError::Job(JobError::TooManySigops { .. }))), "{refused:?}");
    let work = factory.handle_template(&template(5), now()).unwrap().unwrap();
    assert_eq!(work.id(), JobId(1));
}

#[test]
fn job_numbers_never_come_back() {
    let mut factory = JobFactory { last_id: JobId(u32::MAX - 1), ..factory() };
    let last = factory.handle_template(&template(1), now()).unwrap().unwrap();
    assert_eq!(last.id(), JobId(u32::MAX));
    assert_eq!(factory.handle_template(&template(2), now()).unwrap_err(), WorkError::NumbersExhausted);
}

#[test]
fn a_factory_needs_a_configuration_that_passes_its_check() {
    let config = PoolConfig { payout_script: ScriptBuf::new(), ..config() };
    assert_eq!(JobFactory::new(&config, 0).unwrap_err(), PoolConfigError::PayoutScript);
}

#[test]
fn a_wrong_clock_on_the_host_of_the_pool_makes_no_bad_blocks() {
    for wrong in [0, TIME - 10_000, TIME + 10_000, u32::MAX] {
        let at = |secs: u64| Now {
            monotonic: Monotonic::from_micros(secs * 1_000_000 + secs.min(1) * 999_000),
            unix: UnixTime::from_secs(wrong),
        };
        let mut factory = factory();
        let work = factory.handle_template(&template(5), at(0)).unwrap().unwrap();
        assert_eq!(work.job().min_ntime(), TIME);
        let with_reserve = factory.handle_timeout(at(RESERVE_DELAY.as_secs())).unwrap().unwrap();
        assert_eq!(with_reserve.id(), work.id(), "what is new is the job for the next tip");
        for minute in 1..=120 {
            let work = factory.handle_timeout(at(minute * 61)).unwrap().expect("a minute is over");
            // Nothing is lost to rounding, however often it is renewed.
            assert_eq!(u64::from(work.job().min_ntime()), u64::from(TIME) + minute * 61, "clock at {wrong}");
        }
    }
}

/// Whether a job's coinbase carries a text.
fn names(work: &Work, signature: &str) -> bool {
    let prefix = work.job().coinbase_prefix();
    prefix.windows(signature.len()).any(|window| window == signature.as_bytes())
}

#[test]
fn other_rules_hold_for_the_next_job_and_not_for_one_that_miners_have() {
    let at = |secs: u64| Now { monotonic: Monotonic::from_micros(secs * 1_000_000), ..now() };
    let mut factory = factory();
    let first = factory.handle_template(&template(5), at(0)).unwrap().unwrap();
    assert!(names(&first, "/adit/"));
    assert!(factory.handle_timeout(at(RESERVE_DELAY.as_secs())).unwrap().is_some(), "the reserve is out");
    let payout_script = ScriptBuf::from_bytes(vec![0x52]);
    let other =
        PoolConfig { signature: "/other/".to_owned(), payout_script: payout_script.clone(), ..config() };
    factory.handle_config(&other);
    let tip = Tip { prev_hash: BlockHash::from_byte_array([1; 32]), height: Height(102), ..*first.tip() };
    let interim = factory.handle_tip(&tip, at(3)).unwrap().expect("miners hold its job");
    assert!(names(&interim, "/adit/"), "it is what they were given");
    let next =
        factory.handle_template(&Arc::new(Template::new(TemplateParts { tip, ..parts(5) }).unwrap()), at(4));
    let next = next.unwrap().unwrap();
    assert!(names(&next, "/other/"));
    let outputs = next.job().coinbase_suffix();
    let paid = [&[1][..], payout_script.as_bytes()].concat();
    assert!(outputs.windows(2).any(|window| window == paid), "it pays to the other script");
    assert_eq!(next.tag(), JobTag { instance: 7, boot: 3, job: next.id() });
}

#[test]
fn another_coinbase_is_mined_at_once_and_again_after_an_empty_block() {
    let at = |secs: u64| Now { monotonic: Monotonic::from_micros(secs * 1_000_000), ..now() };
    let mut factory = factory();
    let first = factory.handle_template(&template(5), at(0)).unwrap().unwrap();
    assert!(!first.is_urgent());
    factory.handle_timeout(at(RESERVE_DELAY.as_secs())).unwrap().expect("the reserve is out");
    let (further, extranonce) =
        (ScriptBuf::from_bytes(vec![0x6a, 0x01, 0x07]), ExtranonceBase::new(&[9; 6], 32, 14));
    let other = PoolConfig {
        further_outputs: vec![TxOut { value: Amount::ZERO, script_pubkey: further.clone() }],
        extranonce: extranonce.unwrap(),
        ..config()
    };
    factory.handle_config(&other);
    assert!(factory.poll_timeout().unwrap() <= at(3).monotonic);
    let next = factory.handle_timeout(at(3)).unwrap().expect("nobody is to work by the old rules any longer");
    assert!(next.is_urgent() && next.reserve.is_none(), "what was held in reserve was made by the old rules");
    assert_eq!((next.job().extranonce_len(), next.extranonce()), (32, &extranonce.unwrap()));
    assert!(next.job().coinbase_suffix().windows(3).any(|window| window == further.as_bytes()));
    let reserved = factory.handle_timeout(at(4)).unwrap().expect("a new job is held in reserve");
    factory.handle_config(&other);
    assert!(factory.handle_timeout(at(4)).unwrap().is_none(), "nothing has changed");
    factory.handle_config(&config());
    let tip = Tip { prev_hash: BlockHash::from_byte_array([1; 32]), height: Height(102), ..*first.tip() };
    let interim = factory.handle_tip(&tip, at(5)).unwrap().expect("better than a job on the old tip");
    assert_eq!(
        (interim.id(), interim.extranonce()),
        (reserved.reserve.as_ref().unwrap().id(), next.extranonce())
    );
    let last = factory.handle_timeout(at(5)).unwrap().expect("and then by the rules of now");
    assert_eq!(last.job().extranonce_len(), FULL_EXTRANONCE_LEN);
}

#[test]
fn a_template_that_pays_hardly_more_is_no_job_where_jobs_are_dear() {
    let at = |secs: u64| Now { monotonic: Monotonic::from_micros(secs * 1_000_000), ..now() };
    let paying = |fees: u64| {
        let parts = parts(5);
        let (subsidy, fees) = (parts.subsidy, Sats::from_sats(fees));
        let coinbase_value = subsidy.checked_add(fees).unwrap();
        Arc::new(Template::new(TemplateParts { fees, coinbase_value, ..parts }).unwrap())
    };
    let config = PoolConfig { least_fee_gain: Sats::from_sats(100), ..config() };
    let mut factory = JobFactory::new(&config, 3).unwrap();
    assert!(factory.handle_template(&paying(1_000), at(0)).unwrap().is_some());
    assert!(factory.handle_template(&paying(1_099), at(1)).unwrap().is_none());
    assert!(factory.handle_template(&paying(1_100), at(2)).unwrap().is_some());
    assert!(factory.handle_template(&paying(1_000), at(3)).unwrap().is_none(), "nor one that pays less");
    let renewed = at(2 + JOB_AGE_MAX.as_secs());
    assert!(factory.handle_template(&paying(1_001), renewed).unwrap().is_some(), "but one day it is");
}

#[test]
fn the_empty_block_commits_to_its_witnesses_because_signets_refuse_it_otherwise() {
    let at = |secs: u64| Now { monotonic: Monotonic::from_micros(secs * 1_000_000), ..now() };
    let mut factory = factory();
    let first = factory.handle_template(&template(5), at(0)).unwrap().unwrap();
    factory.handle_timeout(at(RESERVE_DELAY.as_secs())).unwrap().expect("the reserve is out");
    let tip = Tip { prev_hash: BlockHash::from_byte_array([1; 32]), height: Height(102), ..*first.tip() };
    let interim = factory.handle_tip(&tip, at(3)).unwrap().unwrap();
    let block = interim.job().block(interim.template(), [0; 80], &[0; FULL_EXTRANONCE_LEN]);
    let block: bitcoin::Block = consensus::deserialize(&block.to_bytes()).unwrap();
    let coinbase = &block.txdata[0];
    let commitment = coinbase.output.last().unwrap().script_pubkey.as_bytes();
    assert!(commitment.starts_with(&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]), "{commitment:02x?}");
    assert!(block.check_witness_commitment());
    assert_eq!(coinbase.input[0].witness.len(), 1, "the reserved value");
}

#[test]
fn empty_blocks_can_be_turned_off_while_miners_hold_one() {
    let at = |secs: u64| Now { monotonic: Monotonic::from_micros(secs * 1_000_000), ..now() };
    let mut factory = factory();
    let first = factory.handle_template(&template(5), at(0)).unwrap().unwrap();
    assert!(factory.handle_timeout(at(RESERVE_DELAY.as_secs())).unwrap().is_some(), "the reserve is out");
    factory.handle_config(&PoolConfig { empty_jobs: EmptyJobs::Never, ..config() });
    let tip = Tip { prev_hash: BlockHash::from_byte_array([1; 32]), height: Height(102), ..*first.tip() };
    assert!(factory.handle_tip(&tip, at(3)).unwrap().is_none());
}

/// The bytes of the longest output that pays an address.
const LONGEST_OUTPUT: u64 = 8 + 1 + 42;

#[test]
fn a_template_without_room_for_every_way_to_pay_makes_no_job() {
    let mut template = Template::new(parts(5)).unwrap();
    template.weight = adit_share::MAX_BLOCK_WEIGHT;
    let made = |template: &Template| factory().handle_template(&Arc::new(template.clone()), now());
    let Err(WorkError::Job(JobError::TooHeavy { weight })) = made(&template) else { panic!("it is full") };
    // Now the pool's own coinbase has room, and not a byte more.
    template.weight -= weight - adit_share::MAX_BLOCK_WEIGHT;
    let weight = adit_share::MAX_BLOCK_WEIGHT + 4 * LONGEST_OUTPUT;
    assert_eq!(made(&template).unwrap_err(), WorkError::Job(JobError::TooHeavy { weight }));
    template.weight -= 4 * LONGEST_OUTPUT;
    let work = made(&template).unwrap().unwrap();
    let (pool, miner) = (adit_channel::Percent::new(1).unwrap(), ScriptBuf::from_bytes(vec![0x51; 42]));
    assert_eq!(work.variant(&Distribution::Split { pool, miner }).tag(), Some(work.tag()));
}

#[cfg(feature = "server")] // for what nodes are asked to leave free
#[test]
fn the_room_that_nodes_leave_holds_every_way_to_pay() {
    let reserve = adit_node::CoinbaseReserve::default();
    let mut template = Template::new(parts(5)).unwrap();
    let header_and_count = 4 * (80 + 3);
    template.weight = adit_share::MAX_BLOCK_WEIGHT - header_and_count - reserve.weight;
    template.sigops = u32::try_from(adit_share::MAX_BLOCK_SIGOPS - reserve.sigops).unwrap();
    // The longest signature, and the address of a pool that takes the most room.
    let config = PoolConfig {
        payout_script: ScriptBuf::from_bytes(vec![0x51; 42]),
        signature: "x".repeat(adit_share::MAX_SIGNATURE_LEN),
        ..config()
    };
    let work = JobFactory::new(&config, 3).unwrap().handle_template(&Arc::new(template), now());
    assert!(work.unwrap().is_some());
}

/// The longest extranonces, beside which the longest signature has no room.
fn without_room() -> PoolConfig {
    let signature = "x".repeat(adit_share::MAX_SIGNATURE_LEN);
    let extranonce = ExtranonceBase::new(&[1; 12], adit_share::MAX_EXTRANONCE_LEN, 14).unwrap();
    PoolConfig { signature, extranonce, ..config() }
}

#[test]
fn rules_that_leave_no_room_in_the_script_are_refused() {
    let PoolConfigError::SignatureTooLong { len, extranonce_len, limit } =
        without_room().check().unwrap_err()
    else {
        panic!("it is too long");
    };
    assert_eq!((len, extranonce_len, limit), (61, 32, 49));
    let signature = "x".repeat(limit);
    let fitting = PoolConfig { signature, ..without_room() };
    assert_eq!(fitting.check(), Ok(()));
    // Heights take the most bytes at the end of all heights.
    let mut parts = parts(5);
    parts.tip.height = Height(u32::MAX);
    let template = Arc::new(Template::new(parts).unwrap());
    let work = JobFactory::new(&fitting, 3).unwrap().handle_template(&template, now()).unwrap();
    assert!(work.is_some(), "what passes the check fits");
}

#[test]
fn a_renewal_that_could_not_be_made_was_due_all_the_time() {
    let at = |secs: u64| Now { monotonic: Monotonic::from_micros(secs * 1_000_000), ..now() };
    let mut factory = factory();
    let first = factory.handle_template(&template(5), at(0)).unwrap().unwrap();
    factory.handle_config(&without_room());
    assert_eq!(factory.poll_timeout(), Some(at(0).monotonic), "at once");
    for second in [1, 11] {
        let fault = factory.handle_timeout(at(second)).unwrap_err();
        assert!(matches!(fault, WorkError::Job(JobError::ScriptSigLength { .. })), "{fault}");
        factory.handle_config(&without_room());
        assert_eq!(factory.poll_timeout(), Some(at(second).monotonic + RENEWAL_PAUSE));
        assert!(factory.handle_timeout(at(second + 9)).unwrap().is_none());
    }
    factory.handle_config(&config());
    assert!(factory.poll_timeout() <= Some(at(12).monotonic), "other rules are tried at once");
    let work = factory.handle_timeout(at(12)).unwrap().unwrap();
    assert!(work.id() > first.id() && work.is_urgent());
}

/// What can happen to a factory.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Template { fee: u64, is_full: bool, is_new: bool },
    Tip,
    Rules { has_room: bool },
    Wish,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..90).prop_map(Step::Wait),
        (0_u64..3, any::<bool>(), any::<bool>()).prop_map(|(fee, is_full, is_new)| Step::Template {
            fee,
            is_full,
            is_new,
        }),
        Just(Step::Tip),
        any::<bool>().prop_map(|has_room| Step::Rules { has_room }),
        Just(Step::Wish),
    ]
}

proptest! {
    #[test]
    fn what_is_due_can_be_done_or_waits(steps in prop::collection::vec(any_step(), 1..60)) {
        let (mut now, mut factory, mut height) = (now(), factory(), 101_u32);
        let tip = |height: u32| {
            let prev_hash = BlockHash::hash(&height.to_le_bytes());
            Tip { prev_hash, height: Height(height), ..parts(0).tip }
        };
        for step in steps {
            match step {
                Step::Wait(secs) => now = now.after(Duration::from_secs(secs)),
                Step::Template { fee, is_full, is_new } => {
                    height += u32::from(is_new);
                    let mut template = Template::new(TemplateParts { tip: tip(height), ..parts(fee) }).unwrap();
                    if is_full {
                        template.weight = adit_share::MAX_BLOCK_WEIGHT;
                    }
                    let _ = factory.handle_template(&Arc::new(template), now);
                }
                Step::Tip => {
                    height += 1;
                    let _ = factory.handle_tip(&tip(height), now);
                }
                Step::Rules { has_room } => {
                    factory.handle_config(&if has_room { config() } else { without_room() });
                }
                Step::Wish => factory.handle_wish(now.monotonic),
            }
            // A renewal, and a job for the next tip.
            for _ in 0..2 {
                if factory.poll_timeout().is_some_and(|due| due <= now.monotonic) {
                    let _ = factory.handle_timeout(now);
                }
            }
            prop_assert!(factory.poll_timeout().is_none_or(|due| due > now.monotonic));
        }
    }
}
