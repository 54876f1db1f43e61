//! What holds of every machine and every upstream: difficulties that lose nothing.

use adit_translator::{CLASSES, MachineConfig};
use adit_units::{Difficulty, Target, Work};
use proptest::prelude::*;
use serde_json::json;

use super::world::{Rig, TINY, World, fine};

/// The least power of two that has no more decimals than fit.
const LEAST_POWER: Difficulty = Difficulty::from_trillionths(1_000_000_000_000 >> 12);

fn is_power_of_two(difficulty: Difficulty) -> bool {
    let parts = difficulty.to_trillionths() / LEAST_POWER.to_trillionths();
    parts.is_power_of_two() && parts * LEAST_POWER.to_trillionths() == difficulty.to_trillionths()
}

/// A difficulty that comes through a machine's floating point as it is.
fn millionths(parts: u64) -> Difficulty {
    Difficulty::from_trillionths(u128::from(parts) * 1_000_000)
}

/// The target of a share that is worth about `2^(bits / 4)` hashes.
fn target(bits: u32, more: u64) -> Target {
    let hashes = (1_u128 << (bits / 4)) + u128::from(more) % (1 << (bits / 4));
    Target::from_work(Work::from_hashes(hashes))
}

/// Whether `told` is what a device is given that asked for `wanted`: without a fraction, if it is not below one.
fn fits(told: Difficulty, wanted: Difficulty) -> bool {
    let one = Difficulty::ONE.to_trillionths();
    let (told, wanted) = (told.to_trillionths(), wanted.to_trillionths());
    told == wanted || (wanted > one && told.is_multiple_of(one) && told > wanted && told - wanted < one)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_machine_is_ever_asked_for_more_than_the_upstream_asks(
        class in 0..CLASSES.len(),
        password in prop::sample::select(vec!["x", "th=0.0000005", "th=400", "md=1000", "md=0.01"]),
        fixed in prop::option::of(1_u64..1 << 40),
        suggested in prop::option::of(1_u64..1 << 40),
        follows_speed: bool,
        upstreams in prop::collection::vec((0_u32..360, any::<u64>(), 0_u64..2_000), 1..12),
    ) {
        let config = MachineConfig { follows_speed, ..MachineConfig::default() };
        let mut world = World::with(config);
        let user_agent = CLASSES[class].patterns.first().copied().unwrap_or("");
        let password = fixed.map_or_else(|| password.to_owned(), |fixed| format!("d={}", millionths(fixed)));
        let mut rig = Rig::connects(&mut world);
        rig.asks(&mut world, 1, "mining.subscribe", json!([user_agent]));
        rig.asks(&mut world, 2, "mining.authorize", json!(["alice.rig", password]));
        for (round, (bits, more, seconds)) in upstreams.into_iter().enumerate() {
            world.target = target(bits, more);
            world.wait(seconds);
            let job = if round % 3 == 0 { world.new_tip() } else { world.refresh() };
            rig.takes(&world, &job);
            if let Some(suggested) = suggested.filter(|_| round == 1) {
                rig.asks(&mut world, 3, "mining.suggest_difficulty", json!([suggested]));
            }
            let told = rig.difficulty.unwrap();
            // What a machine makes of the number that it is told is what counts.
            prop_assert!(told.to_target() >= world.target, "{told} is harder than the upstream's");
            let is_upstreams = Difficulty::from_target(told.to_target()) < LEAST_POWER;
            let is_fixed = fixed.is_some_and(|fixed| fits(told, millionths(fixed)));
            prop_assert!(is_power_of_two(told) || is_upstreams || is_fixed, "{told} is no power of two");
        }
    }
}

#[test]
fn a_device_that_is_to_have_much_follows_an_upstream_that_asks_for_little() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::ready_as(&mut world, "NiceHash/1.0", "x");
    assert_eq!(rig.difficulty.unwrap().to_string(), "524288");
    world.target = Difficulty::from_whole(1_000).to_target();
    let job = world.refresh();
    rig.takes(&world, &job);
    assert_eq!(rig.difficulty.unwrap().to_string(), "512", "or what the upstream pays for would be lost");
    world.target = Difficulty::from_whole(1_000_000).to_target();
    let job = world.refresh();
    rig.takes(&world, &job);
    assert_eq!(rig.difficulty.unwrap().to_string(), "524288", "and goes back when it can");
}

/// How many shares of `target` a machine finds in ten minutes that makes `speed` hashes a second and can say no more than a hundred a second.
fn floods(world: &mut World, speed: u64, follows: &str) -> usize {
    let mut rig = Rig::ready_as(world, TINY, follows);
    let mut submitted = 0;
    let mut nonce = 0;
    for second in 0..600 {
        let mut left = 100;
        for _ in 0..speed {
            nonce += 1;
            let attempt = rig.attempt(nonce);
            let meets = rig.difficulty.unwrap().to_target().is_met_by(&rig.hash(&attempt, 0));
            if meets && left > 0 {
                left -= 1;
                assert_eq!(rig.submits(world, &attempt), fine(7));
                submitted += usize::from(second >= 300);
            }
        }
        world.wait(1);
        if second % 30 == 0 {
            let job = world.refresh();
            rig.takes(world, &job);
        }
    }
    submitted
}

#[test]
fn a_pool_that_took_every_hash_made_machines_do_nothing_but_submit() {
    for password in ["x", "d=1000"] {
        let mut world = World::new();
        let shares = floods(&mut world, 200, password);
        // Ten a minute are wanted, and sixty times as many are borne: 3 000 in five minutes.
        assert!((1_000..=4_500).contains(&shares), "{shares} with {password}");
    }
}

#[test]
fn a_slow_machine_of_a_test_network_is_followed_to_the_easiest_target() {
    let mut world = World::new();
    assert_eq!(floods(&mut world, 1, "x"), 300, "each hash is a share, and none is lost");
}
