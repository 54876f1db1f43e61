//! Dialogues with one vardiff on a virtual clock, and simulations of steady and changing miners.

use proptest::prelude::*;

use self::random::Random;
use super::*;

mod random;

/// Ten shares a minute, with no floor or ceiling in reach.
const CONFIG: VardiffConfig = VardiffConfig {
    rate: ShareRate::from_shares_per_minute(10),
    easiest: Target::MAX,
    hardest: Target::ZERO,
    steps: TargetSteps::Any,
};

/// One terahash a second; the work of a share at ten a minute is six terahashes.
const TERAHASH: u64 = 1_000_000_000_000;

fn hashrate(hashes: u64) -> Hashrate {
    Hashrate::from_hashes_per_second(hashes)
}

fn vardiff(config: VardiffConfig, nominal: u64) -> Vardiff {
    Vardiff::new(config, hashrate(nominal), Target::MAX, Target::ZERO).unwrap()
}

fn seconds(seconds: u64) -> Monotonic {
    Monotonic::from_micros(seconds * 1_000_000)
}

fn work(vardiff: &Vardiff) -> u128 {
    vardiff.target().to_work().to_hashes()
}

/// Submits a share of the present target every `every` seconds, with a job every 30 seconds, and returns the last target.
fn mine(vardiff: &mut Vardiff, from: u64, to: u64, every: u64) -> u128 {
    for second in from..to {
        if second % 30 == 0 {
            vardiff.handle_job(seconds(second));
        }
        if second % every == 0 {
            vardiff.handle_share(vardiff.target().to_work(), seconds(second));
        }
    }
    work(vardiff)
}

#[test]
fn the_first_target_is_that_of_the_nominal_speed() {
    assert_eq!(work(&vardiff(CONFIG, TERAHASH)), 6_000_000_000_000);
}

#[test]
fn floor_ceiling_and_the_miner_bound_the_first_target() {
    let [easy, middle, hard] =
        [1_000, 2_000, 3_000].map(|hashes| Target::from_work(Work::from_hashes(hashes)));
    let config = VardiffConfig { easiest: easy, hardest: hard, ..CONFIG };
    assert_eq!(vardiff(config, 0).target(), easy);
    assert_eq!(vardiff(config, u64::MAX).target(), hard);
    assert_eq!(Vardiff::new(config, hashrate(0), middle, Target::ZERO).unwrap().target(), middle);
    assert_eq!(Vardiff::new(config, hashrate(0), hard, Target::ZERO).unwrap().target(), hard);
    for harder in [Target::from_work(Work::from_hashes(3_001)), Target::ZERO] {
        let refused = Vardiff::new(config, hashrate(0), harder, Target::ZERO);
        assert_eq!(refused.unwrap_err(), TargetOutOfRange { max_target: harder, hardest: hard });
    }
}

#[test]
fn no_target_is_harder_than_the_networks_unless_floor_or_miner_want_it_so() {
    let [easy, network, hard] =
        [1_000, 1_000_000, 1_000_000_000].map(|hashes| Target::from_work(Work::from_hashes(hashes)));
    let new = |config, max_target| Vardiff::new(config, hashrate(TERAHASH), max_target, network).unwrap();
    let mut vardiff = new(CONFIG, Target::MAX);
    assert_eq!(vardiff.target(), network, "at the opening");
    assert_eq!(vardiff.update(hashrate(10 * TERAHASH), Target::MAX), Ok(None));
    assert_eq!((vardiff.target(), vardiff.nominal()), (network, hashrate(10 * TERAHASH)), "by an update");
    mine(&mut vardiff, 0, 600, 1);
    assert_eq!(vardiff.target(), network, "by evidence");
    let harder = vardiff.handle_new_tip(hard, seconds(600)).expect("the evidence counts at a harder tip");
    assert!((hard..network).contains(&harder), "{harder}");
    assert_eq!(
        vardiff.handle_new_tip(easy, seconds(1200)),
        Some(easy),
        "announced before the job of the tip"
    );
    assert_eq!(vardiff.handle_job(seconds(1201)), None, "and once");
    let floor = VardiffConfig { easiest: hard, ..CONFIG };
    assert_eq!(new(floor, Target::MAX).target(), hard, "the floor is the operator's");
    assert_eq!(new(CONFIG, hard).target(), hard, "the miner takes none that is easier");
}

#[test]
fn a_floor_above_the_ceiling_is_a_mistake() {
    assert_eq!(VardiffConfig::default().check(), Ok(()));
    let (easiest, hardest) = (Target::ZERO, Target::DIFFICULTY_1);
    let config = VardiffConfig { easiest, hardest, ..CONFIG };
    assert_eq!(config.check(), Err(VardiffConfigError { easiest, hardest }));
}

#[test]
fn a_steady_miner_is_left_alone() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    assert_eq!(mine(&mut vardiff, 0, 36_000, 6), 6_000_000_000_000);
}

#[test]
fn a_change_is_announced_with_the_next_job_and_once() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    assert_eq!(vardiff.handle_job(seconds(0)), None, "the first target was told when the channel was opened");
    assert_eq!(vardiff.handle_job(seconds(600)).map(Target::to_work), Some(vardiff.target().to_work()));
    assert_eq!(vardiff.handle_job(seconds(601)), None);
}

#[test]
fn a_silent_miner_gets_easier_shares_down_to_the_floor() {
    let floor = Target::from_work(Work::from_hashes(1_000_000));
    let mut vardiff = vardiff(VardiffConfig { easiest: floor, ..CONFIG }, TERAHASH);
    for minute in 0..120 {
        vardiff.handle_job(seconds(minute * 60));
    }
    assert_eq!(vardiff.target(), floor);
    assert_eq!(vardiff.handle_job(seconds(7200)), None, "nothing to tell at the floor");
}

#[test]
fn one_step_makes_shares_at_most_eight_times_easier() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    vardiff.handle_job(seconds(0));
    vardiff.handle_job(seconds(86_400));
    assert_eq!(work(&vardiff), 6_000_000_000_000 / 8);
}

#[test]
fn a_fast_miner_with_a_low_nominal_speed_reaches_its_difficulty_within_five_jobs() {
    // A hundred terahashes a second, of which no more than 2000 shares a second fit through the wire.
    let (mut vardiff, actual) = (vardiff(VardiffConfig::default(), 0), 100 * u128::from(TERAHASH));
    for job in 0..5 {
        vardiff.handle_job(seconds(job * 30));
        let per_second = (actual / work(&vardiff)).min(2_000);
        for share in 0..per_second * 30 {
            let micros = u64::try_from(share * 1_000_000 / per_second).unwrap();
            let now = Monotonic::from_micros(job * 30_000_000 + micros);
            vardiff.handle_share(vardiff.target().to_work(), now);
        }
    }
    vardiff.handle_job(seconds(150));
    let wanted = actual * 6;
    assert!((wanted / 2..wanted * 2).contains(&work(&vardiff)), "{} of {wanted}", work(&vardiff));
}

#[test]
fn shares_of_another_target_tell_nothing() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    vardiff.handle_job(seconds(0));
    for second in 0..60 {
        vardiff.handle_share(Work::from_hashes(7), seconds(second));
    }
    assert_eq!(vardiff.handle_job(seconds(60)), None);
}

#[test]
fn time_before_the_first_job_does_not_count() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    vardiff.handle_share(vardiff.target().to_work(), seconds(100));
    assert_eq!(vardiff.handle_job(seconds(100_000)), None);
    assert_eq!(vardiff.handle_job(seconds(100_060)), None, "a minute without a share is no evidence");
}

#[test]
fn a_clock_that_stands_still_is_survived() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    for _ in 0..100 {
        vardiff.handle_share(vardiff.target().to_work(), seconds(0));
        vardiff.handle_job(seconds(0));
    }
    assert!(work(&vardiff) > 6_000_000_000_000);
}

#[test]
fn an_update_makes_shares_harder_at_once_and_easier_with_the_next_job() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    let tenfold = vardiff.update(hashrate(10 * TERAHASH), Target::MAX).unwrap();
    assert_eq!(tenfold.map(|target| target.to_work().to_hashes()), Some(60_000_000_000_000));
    assert_eq!(vardiff.handle_job(seconds(0)), None, "it was told at once");
    assert_eq!(vardiff.update(hashrate(TERAHASH), Target::MAX), Ok(None));
    assert_eq!(vardiff.handle_job(seconds(1)), Some(vardiff.target()));
    assert_eq!(work(&vardiff), 6_000_000_000_000);
}

#[test]
fn an_update_that_repeats_the_speed_keeps_what_was_measured() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    let measured = mine(&mut vardiff, 0, 600, 1);
    assert!(measured > 12_000_000_000_000);
    assert_eq!(vardiff.update(hashrate(TERAHASH), Target::MAX), Ok(None));
    assert_eq!(work(&vardiff), measured);
}

#[test]
fn an_update_with_a_smaller_maximum_is_honoured_at_once() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    let maximum = Target::from_work(Work::from_hashes(7_000_000_000_000));
    assert_eq!(vardiff.update(hashrate(TERAHASH), maximum), Ok(Some(maximum)));
    for hour in 0..10 {
        vardiff.handle_job(seconds(hour * 3600));
    }
    assert_eq!(vardiff.target(), maximum, "never easier than the miner accepts");
}

#[test]
fn an_impossible_update_changes_nothing() {
    let hardest = Target::from_work(Work::from_hashes(1 << 80));
    let mut vardiff = vardiff(VardiffConfig { hardest, ..CONFIG }, TERAHASH);
    let before = vardiff.target();
    assert!(vardiff.update(hashrate(0), Target::ZERO).is_err());
    assert_eq!((vardiff.target(), vardiff.nominal()), (before, hashrate(TERAHASH)));
    assert_eq!(vardiff.handle_job(seconds(0)), None);
}

/// Simulates a miner that submits ten shares a minute at its first target for `steady` seconds and then is `factor` times as
/// fast; gives the second of each change of target and whether it made shares harder.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a simulation in seconds"
)]
fn changes(seed: u64, steady: f64, factor: f64, end: f64) -> Vec<(f64, bool)> {
    let (mut random, mut vardiff, mut changes) = (Random(seed), vardiff(CONFIG, TERAHASH), Vec::new());
    let at = |time: f64| Monotonic::from_micros((time * 1e6) as u64);
    let mut next_job = 30.0 * (seed % 100) as f64 / 100.0;
    vardiff.handle_job(at(0.0));
    let (mut now, first) = (0.0, work(&vardiff) as f64);
    while now < end {
        let speed = if now < steady { 10.0 } else { 10.0 * factor };
        let share = now + random.wait(speed * first / work(&vardiff) as f64);
        // The exponential wait has no memory, so it may be drawn anew after every other event.
        let turn = if now < steady { steady } else { end };
        now = share.min(next_job).min(turn);
        if now == next_job {
            next_job += 30.0;
            let before = work(&vardiff);
            if vardiff.handle_job(at(now)).is_some() {
                changes.push((now, work(&vardiff) > before));
            }
        } else if now == share {
            vardiff.handle_share(vardiff.target().to_work(), at(now));
        }
    }
    changes
}

/// In how many runs of a hundred a change of speed after ten steady minutes is answered in the right direction in time.
fn caught(factor: f64, within: f64) -> usize {
    let answered = |seed: &u64| {
        let changes = changes(*seed, 600.0, factor, 600.0 + within);
        changes.iter().any(|&(time, harder)| time > 600.0 && harder == (factor > 1.0))
    };
    (0..400).filter(answered).count() / 4
}

#[test]
fn a_steady_hour_passes_without_a_change_in_98_of_100_runs() {
    let quiet = (0..1000).filter(|&seed| changes(seed, 3600.0, 1.0, 3600.0).is_empty()).count();
    assert!(quiet >= 980, "{quiet} of 1000");
}

#[test]
fn a_halving_is_caught_within_ten_minutes_in_95_of_100_runs() {
    assert!(caught(0.5, 600.0) >= 95, "{}", caught(0.5, 600.0));
}

#[test]
fn a_fall_to_a_tenth_is_caught_within_three_minutes() {
    assert!(caught(0.1, 180.0) >= 99, "{}", caught(0.1, 180.0));
}

#[test]
fn a_tenfold_rise_is_caught_within_a_minute() {
    assert!(caught(10.0, 60.0) >= 99, "{}", caught(10.0, 60.0));
}

#[test]
fn where_steps_are_powers_of_two_all_targets_are_of_such_difficulties() {
    let config = VardiffConfig { steps: TargetSteps::PowersOfTwo, ..CONFIG };
    let difficulty = |vardiff: &Vardiff| Difficulty::from_target(vardiff.target());
    // Six terahashes are a difficulty of 1396.98.
    let mut vardiff = vardiff(config, TERAHASH);
    assert_eq!(difficulty(&vardiff), Difficulty::from_whole(1024));
    for minute in 0..20 {
        mine(&mut vardiff, minute * 60, (minute + 1) * 60, 1);
        let now = difficulty(&vardiff).to_trillionths() / Difficulty::ONE.to_trillionths();
        assert!(now.is_power_of_two(), "{now}");
    }
    assert!(difficulty(&vardiff) > Difficulty::from_whole(1024));
}

#[test]
fn a_bound_between_two_steps_holds() {
    let config = VardiffConfig { steps: TargetSteps::PowersOfTwo, ..CONFIG };
    let network = Difficulty::from_whole(1000).to_target();
    let mut vardiff = Vardiff::new(config, hashrate(TERAHASH), Target::MAX, network).unwrap();
    assert_eq!(Difficulty::from_target(vardiff.target()), Difficulty::from_whole(512));
    vardiff.limit(Difficulty::from_whole(500).to_target());
    assert_eq!(Difficulty::from_target(vardiff.target()), Difficulty::from_whole(256));
    assert_eq!(vardiff.handle_job(seconds(0)), Some(Difficulty::from_whole(256).to_target()));
    let narrow = VardiffConfig { easiest: Difficulty::from_whole(600).to_target(), ..config };
    let vardiff = Vardiff::new(narrow, hashrate(TERAHASH), Target::MAX, network).unwrap();
    let found = Difficulty::from_target(vardiff.target());
    assert_eq!(found, Difficulty::from_whole(1000), "there is no power of two between 600 and 1000");
}

#[test]
fn a_flood_is_noticed_before_the_next_job() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    vardiff.handle_job(seconds(0));
    assert!(!vardiff.is_off(seconds(1)));
    for _ in 0..15 {
        vardiff.handle_share(vardiff.target().to_work(), seconds(1));
    }
    assert!(vardiff.is_off(seconds(1)));
    assert!(vardiff.handle_job(seconds(1)).is_some());
    assert!(!vardiff.is_off(seconds(2)));
}

#[test]
fn who_can_make_a_job_is_told_of_a_flood_with_the_share_that_proves_it() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    vardiff.handle_job(seconds(0));
    let mut shares = 0;
    while !vardiff.waits_for_job() {
        assert!(!vardiff.needs_job(seconds(1)));
        vardiff.handle_share(vardiff.target().to_work(), seconds(1));
        shares += 1;
    }
    assert!(vardiff.needs_job(seconds(1)));
    assert_eq!(shares, 15, "each is worth the logarithm of two");
    assert!(!vardiff.needs_job(seconds(30)), "half a minute without a share says otherwise");
    vardiff.handle_share(vardiff.target().to_work(), seconds(30));
    assert!(!vardiff.waits_for_job());
    for _ in 0..15 {
        vardiff.handle_share(vardiff.target().to_work(), seconds(30));
    }
    assert!(vardiff.waits_for_job());
    assert!(vardiff.handle_job(seconds(31)).is_some());
    assert!(!vardiff.waits_for_job());
}

#[test]
fn a_flood_at_the_networks_target_waits_for_no_job() {
    let network = Target::from_work(Work::from_hashes(6_000_000_000_000));
    let mut vardiff = Vardiff::new(CONFIG, hashrate(TERAHASH), Target::MAX, network).unwrap();
    vardiff.handle_job(seconds(0));
    for _ in 0..100 {
        vardiff.handle_share(vardiff.target().to_work(), seconds(1));
    }
    assert!(vardiff.is_off(seconds(1)));
    assert!(!vardiff.needs_job(seconds(1)));
    assert!(!vardiff.waits_for_job());
}

#[test]
fn silence_tells_exactly_when_it_was_said_to() {
    let mut vardiff = vardiff(CONFIG, TERAHASH);
    assert_eq!(vardiff.silence_tells_at(), None, "nothing is measured");
    vardiff.handle_job(seconds(0));
    for second in [0, 6, 9, 40, 41, 47] {
        vardiff.handle_share(vardiff.target().to_work(), seconds(second));
        let tells = vardiff.silence_tells_at().unwrap();
        let just_before = Monotonic::from_micros(tells.to_micros() - 5);
        assert!(!vardiff.needs_job(just_before) && vardiff.needs_job(tells), "{tells:?}");
    }
    let floor = Target::from_work(Work::from_hashes(6_000_000_000_000));
    let mut vardiff = self::vardiff(VardiffConfig { easiest: floor, ..CONFIG }, TERAHASH);
    vardiff.handle_job(seconds(0));
    assert_eq!(vardiff.silence_tells_at(), None, "no shares are easier");
}

/// What happens to a vardiff.
#[derive(Clone, Copy, Debug)]
enum Step {
    Limit(u128),
    NewTip(u128),
    Within(u128),
    Speed(u64),
    /// So many shares in a second, and a job.
    Mined(u8),
    Silence(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let hashes = || (2_u128.., 0_u32..120).prop_map(|(hashes, shift)| (hashes >> shift).max(2));
    prop_oneof![
        hashes().prop_map(Step::Limit),
        hashes().prop_map(Step::NewTip),
        hashes().prop_map(Step::Within),
        (any::<u64>(), 0_u32..64).prop_map(|(speed, shift)| Step::Speed(speed >> shift)),
        any::<u8>().prop_map(Step::Mined),
        any::<u16>().prop_map(Step::Silence),
    ]
}

impl Step {
    fn happens(self, vardiff: &mut Vardiff, second: &mut u64) {
        let target = |hashes| Target::from_work(Work::from_hashes(hashes));
        *second += 1;
        match self {
            Self::Limit(hashes) => vardiff.limit(target(hashes)),
            Self::NewTip(hashes) => drop(vardiff.handle_new_tip(target(hashes), seconds(*second))),
            Self::Within(hashes) => drop(vardiff.update(vardiff.nominal(), target(hashes)).unwrap()),
            Self::Speed(speed) => drop(vardiff.update(hashrate(speed), vardiff.easiest).unwrap()),
            Self::Mined(shares) => {
                for _ in 0..shares {
                    vardiff.handle_share(vardiff.target().to_work(), seconds(*second));
                }
                vardiff.handle_job(seconds(*second));
            }
            Self::Silence(pause) => {
                *second += u64::from(pause);
                vardiff.handle_job(seconds(*second));
            }
        }
    }
}

proptest! {
    /// So bounds and speeds that are named again need not be looked at again, and take nothing away that is still to be announced.
    #[test]
    fn a_target_is_always_what_its_bounds_make_of_it(
        (nominal, steps) in (any::<u64>(), prop::collection::vec(step(), 1..20)),
        in_powers: bool,
    ) {
        let kind = if in_powers { TargetSteps::PowersOfTwo } else { TargetSteps::Any };
        let (mut vardiff, mut second) = (vardiff(VardiffConfig { steps: kind, ..CONFIG }, nominal), 0);
        for step in steps {
            step.happens(&mut vardiff, &mut second);
            let (target, unannounced) = (vardiff.target(), vardiff.unannounced);
            prop_assert_eq!(vardiff.bounded(target), target);
            vardiff.limit(vardiff.network);
            prop_assert_eq!(vardiff.update(vardiff.nominal(), vardiff.easiest), Ok(None));
            prop_assert_eq!((vardiff.target(), vardiff.unannounced), (target, unannounced));
        }
    }
}
