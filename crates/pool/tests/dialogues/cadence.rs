//! How soon a miner's change of speed shows in its target when jobs come as this pool makes them, and who is given a job for that.

#[path = "../../../channel/src/vardiff/tests/random.rs"]
mod random;

use core::time::Duration;
use std::sync::Arc;

use adit_messages::flags::MiningSetupFlags;
use adit_messages::{Message, mining};
use adit_pool::{JOB_AGE_MAX, WISHED_JOB_AGE, Work};
use adit_units::{Monotonic, Now, Target};
use random::Random;

use crate::world::{Client, Received, World, bridging, open_extended, update};

/// Hashes a second that the miner says it has, and has until its speed changes: twelve hashes make a share.
const SPEED: f32 = 2.0;

/// How long the miner is steady at least, in seconds; up to a minute comes to it, so that its speed changes at any point of a job's life.
const STEADY: f64 = 600.0;

/// A pool's jobs and one miner, every hash of whom is submitted, and its driver.
struct Run {
    world: World,
    start: Now,
    client: Client,
    random: Random,
    /// The work that was made for those who wait for it.
    aside: Option<Arc<Work>>,
    job: u32,
    target: Target,
    nonce: u32,
    /// Seconds since the beginning.
    now: f64,
    /// The seconds at which the miner's target changed, and whether shares became harder.
    changed: Vec<(f64, bool)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        let mut client = world.connect_with(MiningSetupFlags::NONE);
        client.sends(open_extended(SPEED, &[0xff; 32]), &world);
        let target = client.opened().target;
        let (start, random) = (world.now, Random(seed));
        Self {
            world,
            start,
            client,
            random,
            aside: None,
            job: 1,
            target,
            nonce: 0,
            now: 0.0,
            changed: Vec::new(),
        }
    }

    /// Goes on to whatever comes next, but not beyond `bound`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "seconds"
    )]
    fn step(&mut self, speed: f64, bound: f64) {
        // The exponential wait has no memory, so it may be drawn anew after every other event.
        let hash = self.now + self.random.wait(60.0 * speed);
        let due = [self.world.factory.poll_timeout(), self.client.session.poll_timeout()];
        let seconds = |due: Monotonic| (due - self.start.monotonic).as_micros() as f64 / 1e6;
        let due = due.into_iter().flatten().map(seconds).fold(bound, f64::min).max(self.now + 1e-6);
        self.now = hash.min(due);
        self.world.now = self.start.after(Duration::from_micros((self.now * 1e6) as u64 + 1));
        if self.now == hash {
            self.nonce += 1;
            self.client.submits(self.job, self.nonce, &self.world);
            self.client.is_durable(self.client.records.len());
        }
        self.drive();
    }

    /// What a driver does; the pool's own one has the connection's turn besides.
    fn drive(&mut self) {
        let Self { world, client, aside, .. } = self;
        if client.session.poll_timeout().is_some_and(|due| due <= world.now.monotonic) {
            client.session.handle_timeout(world.now).unwrap();
        }
        if client.session.take_wish() {
            let taken = aside.as_ref().is_some_and(|work| client.session.handle_aside(work, world.now));
            if !taken {
                world.factory.handle_wish(world.now.monotonic);
            }
        }
        if let Some(work) = world.factory.handle_timeout(world.now).unwrap() {
            if work.is_aside() {
                client.session.handle_aside(&work, world.now);
                *aside = Some(work);
            } else {
                client.session.handle_work(work, world.now);
            }
        }
        client.collect();
        self.read();
    }

    /// What the miner makes of what came.
    fn read(&mut self) {
        while self.client.has_mail() {
            match self.client.receives().message() {
                Message::NewExtendedMiningJob(job) => self.job = job.job_id,
                Message::SetTarget(told) => {
                    let target = Target::from_le_bytes(told.maximum_target.to_array());
                    self.changed.push((self.now, target < self.target));
                    self.target = target;
                }
                _ => {}
            }
        }
    }

    /// The miner has its first speed for so long, and is then `factor` times as fast, until `end`.
    fn mine(&mut self, turn: f64, factor: f64, end: f64) {
        let speed = f64::from(SPEED);
        while self.now < turn {
            self.step(speed, turn);
        }
        while self.now < end {
            self.step(speed * factor, end);
        }
    }
}

/// In how many runs of a hundred a change of speed shows in the right direction in time.
#[expect(clippy::cast_precision_loss, reason = "a simulation in seconds")]
fn caught(factor: f64, within: f64) -> usize {
    let answered = |seed: &u64| {
        let turn = STEADY + 60.0 * (seed % 100) as f64 / 100.0;
        let mut run = Run::new(*seed);
        run.mine(turn, factor, turn + within);
        run.changed.iter().any(|&(time, harder)| time > turn && harder == (factor > 1.0))
    };
    let caught = (0..200).filter(answered).count() / 2;
    eprintln!("measured: {factor} times as fast shows within {within} s in {caught} of 100 runs");
    caught
}

#[test]
fn a_tenfold_rise_does_not_wait_for_everybodys_next_job() {
    let caught = caught(10.0, 60.0);
    assert!(caught >= 98, "{caught}");
}

#[test]
fn a_fall_to_a_tenth_does_not_wait_for_everybodys_next_job() {
    let caught = caught(0.1, 180.0);
    assert!(caught >= 97, "{caught}");
}

#[test]
fn a_halving_shows_within_ten_minutes() {
    let caught = caught(0.5, 600.0);
    assert!(caught >= 95, "{caught}");
}

#[test]
fn a_steady_miner_is_given_everybodys_jobs_and_no_other_target() {
    let steady = |seed: &u64| {
        let mut run = Run::new(*seed);
        run.mine(3600.0, 1.0, 3600.0);
        run.changed.is_empty() && run.aside.is_none()
    };
    let steady = (0..100).filter(steady).count();
    eprintln!("measured: {steady} of 100 steady hours pass without another target");
    assert!(steady >= 98, "{steady}");
}

/// A miner with one extended channel who is much faster than its shares are hard, by any number of shares.
fn fast_miner(world: &mut World, shares: u32) -> Client {
    let mut client = world.extended_miner();
    for nonce in 0..shares {
        client.submits(1, nonce, world);
    }
    client.is_durable(client.records.len());
    client.skips_all();
    client
}

/// What is made for who waits for a job.
#[track_caller]
fn aside(world: &mut World) -> Arc<Work> {
    let work = world.factory.handle_timeout(world.now).unwrap().expect("a job that is waited for is due");
    assert!(work.is_aside());
    work
}

#[test]
fn a_miner_that_floods_is_given_a_harder_job_of_its_own_after_ten_seconds() {
    let mut world = World::new();
    let (mut client, mut other) = (fast_miner(&mut world, 200), world.extended_miner());
    assert!(!client.session.take_wish(), "its job is new");
    assert_eq!(client.session.poll_timeout(), Some(world.now.monotonic + WISHED_JOB_AGE));
    world.wait(WISHED_JOB_AGE.as_secs());
    client.ticks(&world);
    assert!(client.session.take_wish());
    assert!(!client.session.take_wish(), "once");
    assert!(client.session.awaits_job());
    world.factory.handle_wish(world.now.monotonic);
    let renewal = world.factory.poll_timeout();
    let work = aside(&mut world);
    assert_eq!(renewal, Some(world.now.monotonic), "the pool's own job was as old");
    assert!(client.session.handle_aside(&work, world.now));
    client.collect();
    assert_eq!(client.names(), ["SetTarget", "NewExtendedMiningJob"]);
    assert!(!client.session.awaits_job());
    client.submits(work.id().0, 0, &world);
    assert!(!other.session.handle_aside(&work, world.now), "who waits for nothing is left in peace");
    other.expects_nothing();
    let next = world.factory.poll_timeout().unwrap();
    assert_eq!(
        next,
        world.now.monotonic + (JOB_AGE_MAX - WISHED_JOB_AGE),
        "and has its next job in its time"
    );
    world.now = world.now.after(next - world.now.monotonic);
    let renewed = world.factory.handle_timeout(world.now).unwrap().expect("it is due");
    assert!(!renewed.is_aside());
    for miner in [&mut client, &mut other] {
        miner.skips_all();
        miner.hears(&renewed, &world);
        assert_eq!(miner.names().last(), Some(&"NewExtendedMiningJob"));
    }
}

#[test]
fn who_waits_takes_what_others_have_asked_for() {
    let mut world = World::new();
    let mut first = fast_miner(&mut world, 200);
    world.wait(20);
    first.ticks(&world);
    assert!(first.session.take_wish());
    world.factory.handle_wish(world.now.monotonic);
    let work = aside(&mut world);
    // Asked for by somebody else, while this miner was content.
    let mut second = fast_miner(&mut world, 0);
    world.wait(20);
    for nonce in 0..200 {
        second.submits(1, nonce, &world);
    }
    second.is_durable(200);
    second.skips_all();
    assert!(second.session.take_wish(), "its job is old enough");
    assert!(second.session.handle_aside(&work, world.now));
    second.collect();
    assert_eq!(second.names(), ["SetTarget", "NewExtendedMiningJob"]);
    assert!(!second.session.handle_aside(&work, world.now), "it has it");
}

#[test]
fn a_wish_that_has_come_to_nothing_brings_no_identical_job() {
    let mut world = World::new();
    // Just enough to be much faster for a moment.
    let mut client = fast_miner(&mut world, 20);
    world.wait(WISHED_JOB_AGE.as_secs());
    client.ticks(&world);
    assert!(client.session.take_wish());
    world.factory.handle_wish(world.now.monotonic);
    let work = aside(&mut world);
    world.wait(30);
    assert!(client.session.handle_aside(&work, world.now));
    client.collect();
    client.expects_nothing();
    assert!(!client.session.awaits_job());
}

#[test]
fn a_target_that_a_bound_holds_is_no_reason_for_a_job() {
    let mut world = World::without_work(crate::world::config());
    world.nbits = crate::world::EASY;
    world.new_tip();
    // The network's target is met by every second hash, and so are the miner's shares.
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.sends(open_extended(1e15, &[0xff; 32]), &world);
    client.opened();
    for nonce in 0..400 {
        client.submits(1, nonce, &world);
        client.blocks();
    }
    assert!(client.records.len() > 100);
    world.wait(30);
    client.ticks(&world);
    assert!(!client.session.take_wish());
}

#[test]
fn a_job_that_was_asked_for_is_not_followed_by_the_older_one_of_everybody() {
    let mut world = World::without_work(bridging());
    world.new_tip();
    let mut client = fast_miner(&mut world, 200);
    // The wish first, and then the pool's job for the next tip, which comes with the job that everybody has.
    world.wait(WISHED_JOB_AGE.as_secs());
    client.ticks(&world);
    assert!(client.session.take_wish());
    world.factory.handle_wish(world.now.monotonic);
    let with_reserve = world.factory.handle_timeout(world.now).unwrap().unwrap();
    let work = aside(&mut world);
    assert!(client.session.handle_aside(&work, world.now));
    client.collect();
    assert_eq!(client.names(), ["SetTarget", "NewExtendedMiningJob", "NewExtendedMiningJob"]);
    client.hears(&with_reserve, &world);
    client.expects_nothing();
    client.submits(work.id().0, 7, &world);
    let next = world.tip_alone().expect("there is a job in reserve");
    client.skips_all();
    client.hears(&next, &world);
    assert_eq!(client.names(), ["SetNewPrevHash"]);
}

/// A miner that has become much faster and has asked for a job, and the one that was made for it.
fn asked_for() -> (World, Client, Arc<Work>) {
    let mut world = World::new();
    let mut client = fast_miner(&mut world, 200);
    world.factory.handle_wish(world.now.monotonic);
    world.wait(WISHED_JOB_AGE.as_secs());
    client.ticks(&world);
    assert!(client.session.take_wish());
    let work = aside(&mut world);
    (world, client, work)
}

/// What everybody has, put up again with a job in reserve, because only now the operator wants empty blocks.
fn put_up_again(world: &mut World, before: &Work) -> Arc<Work> {
    world.factory.handle_config(&bridging());
    let again = world.factory.handle_timeout(world.now).unwrap().expect("there is none yet");
    assert!(!again.is_aside() && again.id() < before.id());
    again
}

/// A job's number, and whether it is to be worked on at once.
fn job(received: &Received) -> (u32, bool) {
    let Message::NewExtendedMiningJob(mining::NewExtendedMiningJob { job_id, min_ntime, .. }) =
        received.message()
    else {
        panic!("{:?}", received.message())
    };
    (job_id, min_ntime.into_inner().is_some())
}

#[test]
fn the_job_for_the_next_tip_may_come_after_one_that_was_asked_for() {
    let (mut world, mut client, work) = asked_for();
    assert!(client.session.handle_aside(&work, world.now));
    client.collect();
    client.skips_all();
    let again = put_up_again(&mut world, &work);
    client.hears(&again, &world);
    let (number, is_active) = job(&client.receives());
    assert!(number > work.id().0 && !is_active, "the job in reserve, and not everybody's again");
    client.expects_nothing();
}

#[test]
fn a_wish_was_lost_when_the_present_job_was_put_up_again_before_it_was_granted() {
    let (mut world, mut client, work) = asked_for();
    let again = put_up_again(&mut world, &work);
    client.hears(&again, &world);
    client.collect();
    client.skips_all();
    assert!(client.session.awaits_job());
    assert!(client.session.handle_aside(&work, world.now) && !client.session.awaits_job());
    client.collect();
    let mut last = client.receives();
    while client.has_mail() {
        last = client.receives();
    }
    assert_eq!(job(&last), (work.id().0, true));
}

#[test]
fn an_update_that_makes_shares_much_harder_has_the_next_job_come_sooner() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let target = |hashes| Target::from_work(adit_units::Work::from_hashes(hashes)).to_le_bytes();
    client.sends(update(0.0, &target(4)), &world);
    assert_eq!(client.session.poll_timeout(), None, "four times as hard is not much harder");
    client.sends(update(0.0, &target(1_000)), &world);
    client.sends(update(0.0, &target(1_000)), &world);
    client.sends(update(0.0, &[0xff; 32]), &world);
    assert!(!client.session.take_wish());
    world.wait(WISHED_JOB_AGE.as_secs());
    client.ticks(&world);
    assert!(client.session.take_wish());
    assert!(!client.session.take_wish(), "once");
    world.factory.handle_wish(world.now.monotonic);
    let work = aside(&mut world);
    assert_eq!(work.tip(), world.work.as_ref().unwrap().tip());
    client.skips_all();
    assert!(client.session.handle_aside(&work, world.now));
    client.collect();
    assert_eq!(client.names().last(), Some(&"NewExtendedMiningJob"));
}

#[test]
fn wishes_bring_no_more_than_a_job_every_ten_seconds() {
    let mut world = World::new();
    let (mut aside, mut all) = (0, 0);
    for _ in 0..600 {
        world.factory.handle_wish(world.now.monotonic);
        world.wait(1);
        match world.factory.handle_timeout(world.now).unwrap() {
            Some(work) if work.is_aside() => aside += 1,
            Some(_) => all += 1,
            None => {}
        }
    }
    assert_eq!(all, 600 / JOB_AGE_MAX.as_secs(), "those of everybody come as ever");
    let most = 600 / WISHED_JOB_AGE.as_secs();
    assert!((most / 2..=most).contains(&aside), "{aside} of {most}");
}
