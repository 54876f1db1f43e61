//! What holds of every machine and every upstream: difficulties that lose nothing.

use adit_translator::{CLASSES, MachineConfig};
use adit_units::{Difficulty, Target, Work};
use proptest::prelude::*;
use serde_json::json;

use super::world::{Rig, World};

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
            let is_fixed = fixed.is_some_and(|fixed| told == millionths(fixed));
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
