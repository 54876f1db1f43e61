//! Nodes that die, hang, fall behind and come back, on a clock that the test moves.

use adit_units::{Height, Target};
use bitcoin::CompactTarget;
use bitcoin::hashes::Hash as _;

use super::*;
use crate::sources::voice::{PATIENCE, PATIENCE_MAX, SILENCE, STEADY};

/// Two nodes and the time.
struct World {
    choice: Choice,
    now: Monotonic,
}

const FIRST: Decision = Decision::Use(0);
const SECOND: Decision = Decision::Use(1);
const BEHIND: Decision = Decision::Wait(Idle::Behind);
const DOWN: Decision = Decision::Wait(Idle::Down);

/// The last block of branch `branch` at `height`.
fn end(branch: u8, height: u32) -> ChainEnd {
    let mut hash = [branch; 32];
    hash[..4].copy_from_slice(&height.to_le_bytes());
    ChainEnd { hash: BlockHash::from_byte_array(hash), height: Height(height), work: None }
}

fn with_work(end: ChainEnd, work: u64) -> ChainEnd {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&work.to_be_bytes());
    ChainEnd { work: Some(Work::from_be_bytes(bytes)), ..end }
}

fn tip(on: ChainEnd) -> Tip {
    let (height, nbits) = (Height(on.height.0 + 1), CompactTarget::from_consensus(0x207f_ffff));
    let target = Target::from_compact(nbits);
    Tip { prev_hash: on.hash, height, nbits, target, min_ntime: 0 }
}

impl World {
    fn new() -> Self {
        let now = Monotonic::from_micros(1_000_000_000);
        Self { choice: Choice::new(2, now), now }
    }

    /// Both nodes well at `height`, the first one in use.
    fn at(height: u32) -> Self {
        let mut world = Self::new();
        world.well(0, end(0, height));
        world.well(1, end(0, height));
        assert_eq!(world.decide(), FIRST);
        world
    }

    fn template(&mut self, index: usize, on: ChainEnd) {
        self.choice.handle_template(index, &tip(on), self.now);
    }

    fn tip(&mut self, index: usize, on: ChainEnd) {
        self.choice.handle_tip(index, &tip(on), self.now);
    }

    /// A node is asked, and answers at once.
    fn told(&mut self, index: usize, end: ChainEnd) {
        self.choice.handle_question(index, self.now);
        self.answers(index, end);
    }

    fn answers(&mut self, index: usize, end: ChainEnd) {
        self.choice.handle_end(index, end, self.now);
    }

    fn up(&mut self, index: usize) {
        self.choice.handle_state(index, State::Up);
    }

    fn down(&mut self, index: usize, reason: &str) {
        self.choice.handle_state(index, State::Down(reason.to_owned()));
    }

    /// A node is asked, and does not answer in time.
    fn silent(&mut self, index: usize) {
        self.choice.handle_question(index, self.now);
        self.now = self.now + SILENCE + Duration::from_millis(1);
    }

    /// Lets both nodes be asked for a while as the program does it, and answer each after a time of its own; the decisions that were new.
    fn live(
        &mut self,
        time: Duration,
        on: ChainEnd,
        mut latency: impl FnMut(usize) -> Duration,
    ) -> Vec<Decision> {
        let (mut decisions, until) = (Vec::new(), self.now + time);
        // Of each node, whether it owes an answer, and when that comes or the next question.
        let mut next = [(false, self.now), (false, self.now + Duration::from_millis(300))];
        while self.now < until {
            self.now = self.now + Duration::from_millis(50);
            for (index, (owes, at)) in next.iter_mut().enumerate().filter(|(_, (_, at))| *at <= self.now) {
                if *owes {
                    self.choice.handle_end(index, on, self.now);
                } else {
                    self.choice.handle_question(index, self.now);
                }
                let pause = if *owes { Duration::from_millis(500) } else { latency(index) };
                (*owes, *at) = (!*owes, self.now + pause);
            }
            decisions.push(self.decide());
        }
        decisions.dedup();
        decisions
    }

    /// A node that answers, has a template on `end`, and says that it is up.
    fn well(&mut self, index: usize, end: ChainEnd) {
        self.told(index, end);
        self.template(index, end);
        self.up(index);
    }

    fn decide(&mut self) -> Decision {
        self.choice.decide(self.now)
    }

    /// Lets time pass in half seconds, in which the nodes `answering` say the same as before; the decisions that were new.
    fn pass(&mut self, time: Duration, answering: &[(usize, ChainEnd)]) -> Vec<Decision> {
        let (mut decisions, until) = (Vec::new(), self.now + time);
        while self.now < until {
            self.now = self.now + Duration::from_millis(500);
            for &(index, end) in answering {
                self.told(index, end);
            }
            decisions.push(self.decide());
        }
        decisions.dedup();
        decisions
    }
}

#[test]
fn the_most_preferred_node_is_used() {
    let mut world = World::at(7);
    assert_eq!(world.pass(FAILBACK * 3, &[(0, end(0, 7)), (1, end(0, 7))]), [FIRST]);
}

#[test]
fn the_preferred_node_is_waited_for_at_the_start_but_not_for_long() {
    let mut world = World::new();
    assert_eq!(world.decide(), Decision::Wait(Idle::Starting));
    world.well(1, end(0, 7));
    assert_eq!(world.decide(), Decision::Wait(Idle::Starting));
    assert_eq!(world.pass(START_GRACE, &[]), [Decision::Wait(Idle::Starting), SECOND]);

    let mut world = World::new();
    world.well(1, end(0, 7));
    world.down(0, "no cookie");
    assert_eq!(world.decide(), SECOND, "nobody waits for a node that has given up");
    let mut world = World::new();
    world.well(1, end(0, 7));
    world.silent(0);
    assert_eq!(world.decide(), SECOND, "nor for one that does not answer");
}

#[test]
fn a_node_that_dies_hangs_or_gives_bad_templates_is_left_at_once() {
    let mut world = World::at(7);
    world.silent(0);
    assert_eq!(world.decide(), SECOND);
    let mut world = World::at(7);
    world.down(0, "the node's template is refused");
    assert_eq!(world.decide(), SECOND);
    assert_eq!(world.choice.fault(0, world.now).unwrap(), "the node's template is refused");
    world.down(1, "no connection");
    assert_eq!(world.decide(), DOWN);
}

#[test]
fn a_preferred_node_must_have_been_well_for_a_while_to_be_taken_up_again() {
    let mut world = World::at(7);
    let both = [(0, end(0, 7)), (1, end(0, 7))];
    world.silent(0);
    assert_eq!(world.decide(), SECOND);
    for _ in 0..5 {
        let nearly = FAILBACK - Duration::from_millis(500);
        assert_eq!(world.pass(nearly, &both), [SECOND], "well, but not for long enough");
        world.silent(0);
        assert_eq!(world.decide(), SECOND);
    }
    assert_eq!(world.pass(FAILBACK + Duration::from_secs(1), &both), [SECOND, FIRST]);
}

#[test]
fn a_node_that_has_just_come_back_is_better_than_none() {
    let mut world = World::at(7);
    world.silent(0);
    assert_eq!(world.decide(), SECOND);
    world.told(0, end(0, 7));
    assert_eq!(world.decide(), SECOND);
    world.down(1, "no connection");
    assert_eq!(world.decide(), FIRST);
}

#[test]
fn a_node_that_hesitates_is_left_only_for_one_that_has_answered_in_time_for_a_while() {
    let mut world = World::at(7);
    world.silent(1);
    assert_eq!(world.decide(), FIRST);
    world.told(1, end(0, 7));
    world.silent(0);
    assert_eq!(world.decide(), FIRST, "the second was no better a moment ago");
    let told = [(1, end(0, 7))];
    assert_eq!(world.pass(PATIENCE - SILENCE - Duration::from_millis(500), &told), [FIRST]);
    assert_eq!(
        world.pass(Duration::from_secs(1), &told),
        [SECOND],
        "whoever says nothing for so long is left"
    );

    let mut world = World::at(7);
    world.silent(1);
    world.told(1, end(0, 7));
    assert_eq!(world.pass(STEADY, &[(0, end(0, 7)), (1, end(0, 7))]), [FIRST]);
    world.silent(0);
    assert_eq!(world.decide(), SECOND, "it has been steady since");
}

#[test]
fn nodes_that_are_slow_alike_make_no_job_storm() {
    for latency in [1.2, 2.5, 2.9].map(Duration::from_secs_f64) {
        let mut world = World::at(7);
        let decisions = world.live(Duration::from_secs(300), end(0, 7), |_| latency);
        assert!(decisions == [FIRST, SECOND] || decisions == [FIRST], "{latency:?}: {decisions:?}");
    }
    // Slower than anybody waits for at first, but not for ever.
    let mut world = World::at(7);
    let decisions = world.live(Duration::from_secs(300), end(0, 7), |_| Duration::from_secs(6));
    assert!(decisions.len() < 6, "{decisions:?}");

    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut world = World::at(7);
    let decisions = world.live(Duration::from_secs(3600), end(0, 7), |_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        Duration::from_millis(200 + random % 2300)
    });
    assert!(decisions.len() < 100, "{} changes in an hour", decisions.len());
}

#[test]
fn a_slow_node_that_is_the_only_one_alive_does_not_flap() {
    for (latency, most) in [(1.2, 1), (2.9, 1), (4.0, 3), (14.0, 9)] {
        let mut world = World::at(7);
        world.down(1, "no connection");
        let latency = Duration::from_secs_f64(latency);
        let decisions = world.live(Duration::from_secs(300), end(0, 7), |_| latency);
        assert!(decisions.len() <= most, "{latency:?}: {decisions:?}");
    }
    let mut world = World::at(7);
    world.down(1, "no connection");
    world.silent(0);
    assert_eq!(world.pass(PATIENCE_MAX, &[]), [FIRST, DOWN], "one that hangs is noticed all the same");
}

#[test]
fn a_slow_node_is_left_for_a_quick_one_and_stays_so() {
    let mut world = World::at(7);
    let latency = |index| Duration::from_millis(if index == 0 { 1300 } else { 20 });
    assert_eq!(world.live(Duration::from_secs(120), end(0, 7), latency), [FIRST, SECOND]);
    let quick = |_| Duration::from_millis(20);
    assert_eq!(world.live(FAILBACK * 2, end(0, 7), quick), [SECOND, FIRST]);
}

#[test]
fn whatever_is_heard_of_a_node_is_its_voice() {
    let mut world = World::at(7);
    world.choice.handle_question(0, world.now);
    for _ in 0..20 {
        world.now = world.now + Duration::from_millis(700);
        world.template(0, end(0, 7));
        assert_eq!(world.decide(), FIRST);
    }
    assert_eq!(world.pass(SILENCE + Duration::from_millis(500), &[]), [FIRST, SECOND]);
}

#[test]
fn a_node_behind_another_is_not_used() {
    let mut world = World::at(7);
    world.well(1, end(0, 8));
    assert_eq!(world.decide(), SECOND);
    assert_eq!(world.pass(FAILBACK * 2, &[(0, end(0, 7)), (1, end(0, 8))]), [SECOND]);
    assert_eq!(world.choice.level(world.now), [false, true]);
    world.well(0, end(0, 8));
    assert_eq!(world.decide(), SECOND);
    assert_eq!(world.choice.level(world.now), [true, true]);
    assert_eq!(world.pass(FAILBACK, &[(0, end(0, 8)), (1, end(0, 8))]), [SECOND, FIRST]);
}

#[test]
fn a_block_that_anybody_tells_of_ends_the_templates_below_it() {
    let mut world = World::at(7);
    world.told(1, end(0, 8));
    assert_eq!(world.decide(), BEHIND);
    world.template(0, end(0, 8));
    assert_eq!(world.decide(), FIRST, "the node in use was as quick");

    let mut world = World::at(7);
    world.told(0, end(0, 8));
    assert_eq!(world.decide(), BEHIND, "its own template is no better");
    world.template(1, end(0, 8));
    assert_eq!(world.decide(), SECOND);
}

#[test]
fn a_preferred_node_that_goes_back_to_an_old_block_is_left() {
    let mut world = World::at(7);
    world.well(0, end(0, 3));
    assert_eq!(world.decide(), SECOND);
    assert_eq!(world.pass(HEARSAY * 2, &[(0, end(0, 3)), (1, end(0, 7))]), [SECOND]);
}

#[test]
fn coming_back_to_a_preferred_node_never_moves_miners_to_a_rival_of_their_block() {
    let mut world = World::at(7);
    world.well(1, end(1, 8));
    assert_eq!(world.decide(), SECOND);
    world.well(0, end(0, 8));
    let (ours, rival) = ((1, end(1, 8)), (0, end(0, 8)));
    assert_eq!(world.pass(FAILBACK * 3, &[rival, ours]), [SECOND], "their block may be our own");
    world.well(1, end(1, 9));
    assert_eq!(world.pass(FAILBACK * 2, &[rival, (1, end(1, 9))]), [SECOND], "it has won");
    world.well(0, end(1, 9));
    let same = [(0, end(1, 9)), (1, end(1, 9))];
    assert_eq!(world.pass(FAILBACK + Duration::from_secs(1), &same), [SECOND, FIRST]);

    world.well(1, end(0, 10));
    assert_eq!(world.decide(), SECOND);
    world.well(0, end(1, 11));
    assert_eq!(world.decide(), FIRST, "the rival has won");
}

#[test]
fn a_node_that_dies_is_replaced_by_one_on_the_same_block() {
    let mut world = World::new();
    world.choice = Choice::new(3, world.now);
    for (index, branch) in [(0, 0), (1, 1), (2, 0)] {
        world.well(index, end(branch, 8));
    }
    assert_eq!(world.decide(), FIRST);
    world.silent(0);
    assert_eq!(world.decide(), Decision::Use(2), "the second stands on a rival");
    let same = [(1, end(1, 8)), (2, end(0, 8))];
    assert_eq!(world.pass(FAILBACK * 2, &same), [Decision::Use(2)]);
    world.down(2, "no connection");
    assert_eq!(world.decide(), SECOND, "a rival is better than nothing");
}

#[test]
fn a_rival_with_a_template_does_not_outrun_a_block_that_was_known_first() {
    let mut world = World::at(7);
    world.told(0, end(0, 8));
    assert_eq!(world.decide(), BEHIND);
    world.now = world.now + Duration::from_millis(300);
    world.well(1, end(1, 8));
    assert_eq!(world.decide(), BEHIND, "miners are on the empty job of the first");
    assert_eq!(world.choice.best(world.now).unwrap().hash, end(0, 8).hash);
    world.template(0, end(0, 8));
    assert_eq!(world.decide(), FIRST);

    let mut world = World::at(7);
    world.told(0, end(0, 8));
    world.well(1, end(1, 8));
    let told = [(0, end(0, 8)), (1, end(1, 8))];
    assert_eq!(world.pass(RIVAL_GRACE, &told), [BEHIND, SECOND], "but it is not waited for any longer");
    let mut world = World::at(7);
    world.told(0, end(0, 8));
    world.well(1, end(1, 8));
    world.silent(0);
    assert_eq!(world.decide(), SECOND, "nor where nobody could give a template on it");
}

#[test]
fn work_outweighs_height_where_it_is_known() {
    let mut world = World::new();
    let (heavy, long) = (with_work(end(0, 7), 1000), with_work(end(1, 9), 900));
    world.well(0, heavy);
    world.well(1, long);
    assert_eq!(world.decide(), FIRST);
    world.told(1, with_work(end(1, 10), 1001));
    world.template(1, end(1, 10));
    assert_eq!(world.decide(), SECOND);
}

#[test]
fn a_lost_block_is_mined_on_no_longer_when_nobody_alive_knows_it() {
    let mut world = World::at(7);
    world.well(1, end(0, 8));
    assert_eq!(world.decide(), SECOND);
    world.silent(1);
    let decisions = world.pass(HEARSAY + Duration::from_secs(1), &[(0, end(0, 7))]);
    assert_eq!(decisions, [SECOND, BEHIND, FIRST], "for a minute the block may still be good");
}

#[test]
fn a_node_that_tells_of_a_block_but_gives_no_template_on_it_stops_the_others_for_a_minute_only() {
    let mut world = World::at(7);
    world.told(1, end(9, 8));
    let decisions = world.pass(HEARSAY * 3, &[(0, end(0, 7)), (1, end(9, 8))]);
    assert_eq!(decisions, [BEHIND, FIRST]);
}

#[test]
fn a_block_that_its_node_takes_back_is_forgotten() {
    let mut world = World::at(7);
    world.well(0, end(0, 8));
    assert_eq!(world.decide(), FIRST);
    world.well(0, end(0, 7));
    assert_eq!(world.decide(), FIRST);
    assert_eq!(world.choice.best(world.now).unwrap().hash, end(0, 7).hash);
}

#[test]
fn a_late_answer_does_not_take_back_a_tip_that_was_told_after_the_question() {
    let mut world = World::at(7);
    world.choice.handle_question(0, world.now);
    world.tip(0, end(0, 8));
    assert_eq!(world.decide(), BEHIND);
    world.answers(0, end(0, 7));
    assert_eq!(world.decide(), BEHIND, "the answer was on its way");
    assert_eq!(world.choice.best(world.now).unwrap().hash, end(0, 8).hash);
    world.answers(0, end(0, 9));
    assert_eq!(world.choice.best(world.now).unwrap().hash, end(0, 9).hash, "but it may be newer");

    let mut world = World::at(7);
    world.tip(0, end(0, 8));
    world.told(0, end(0, 7));
    assert_eq!(world.decide(), FIRST, "who was asked afterwards has really gone back");
}

/// Random lives of three nodes: whatever happens, the node in use is up, answers, and is behind nobody who counts.
#[test]
fn no_history_leads_to_a_node_in_trouble_or_behind() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut used = [0_u32; 3];
    for _ in 0..200 {
        let mut world = World::new();
        world.choice = Choice::new(3, world.now);
        for _ in 0..200 {
            let index = usize::try_from(draw(3)).unwrap();
            let end = end(u8::try_from(draw(2)).unwrap(), 5 + u32::try_from(draw(4)).unwrap());
            match draw(9) {
                0 => world.silent(index),
                1 => world.down(index, "down"),
                2 => world.up(index),
                3 => world.told(index, end),
                7 => world.tip(index, end),
                8 => world.answers(index, end),
                4 => world.template(index, end),
                _ => world.well(index, end),
            }
            world.now = world.now + Duration::from_millis(draw(20_000));
            if let Decision::Use(index) = world.decide() {
                used[index] += 1;
                let source = &world.choice.sources[index];
                assert!(source.lives(world.now), "{source:?}");
                let ours = source.offered.unwrap().end;
                let known = world.choice.sources.iter().flat_map(|source| source.counted(world.now));
                assert!(known.into_iter().all(|seen| !ours.is_behind(&seen.end)));
            }
        }
    }
    assert!(used.iter().all(|&times| times > 100), "{used:?}");
}
