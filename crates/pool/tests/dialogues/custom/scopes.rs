//! Many channels whose miners make jobs: none takes the place of another's, and all together take no more memory than they may.

use adit_channel::{LATE_JOBS, PAST_JOBS};
use adit_pool::CUSTOM_BYTES_MAX;

use super::*;

/// A client with so many channels, which are numbered from 2 on.
fn proxy(stage: &mut Stage, channels: u32) -> Client {
    let mut client = stage.client();
    for _ in 1..channels {
        client.opens_extended(&stage.world);
    }
    client
}

fn job_for(stage: &mut Stage, channel: u32) -> Job {
    stage.job().other(|job| job.channel = channel)
}

fn submits_on(client: &mut Client, (channel, job): (u32, u32), nonce: u32, world: &World) -> u32 {
    let share = mining::SubmitSharesExtended { channel_id: channel, ..share(job, nonce, world) };
    client.submits_share(share, world)
}

/// The largest job that is accepted: 15 steps, and outputs that make its list 6 KiB long.
fn largest(stage: &mut Stage, channel: u32) -> Job {
    job_for(stage, channel).other(|job| {
        job.path = vec![[1; 32]; 15];
        let len = |job: &Job| consensus::serialize(&job.outputs).len();
        let nothing = |script| TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) };
        // A count of three bytes, and outputs of nine.
        job.outputs.extend(vec![nothing(Vec::new()); 600]);
        let rest = 6 * 1024 - len(job) - 11;
        job.outputs.push(nothing(vec![0x6a; rest]));
        assert_eq!(len(job), 6 * 1024);
    })
}

#[test]
fn a_channel_lost_its_only_job_to_those_of_other_channels() {
    let mut stage = Stage::new();
    let mut client = proxy(&mut stage, 20);
    let numbers: Vec<_> = (2..22)
        .map(|channel| {
            let job = job_for(&mut stage, channel);
            (channel, stage.accepts(&mut client, &job))
        })
        .collect();
    for _ in 0..2 * PAST_JOBS {
        let job = job_for(&mut stage, 21);
        stage.accepts(&mut client, &job);
    }
    for &on in &numbers[..19] {
        submits_on(&mut client, on, 1, &stage.world);
    }
    assert_eq!(client.records.len(), 19, "each is the newest of its channel");
    let sequence_number = submits_on(&mut client, numbers[19], 1, &stage.world);
    let error_code = text("stale-share");
    client.expects(mining::SubmitSharesError { channel_id: 21, sequence_number, error_code });
    let (_, of_another) = numbers[5];
    let stray = submits_on(&mut client, (2, of_another), 1, &stage.world);
    client.is_refused(stray, "invalid-job-id");
}

#[test]
fn the_ninth_job_in_one_read_was_refused() {
    let mut stage = Stage::new();
    let mut client = proxy(&mut stage, 20);
    let jobs: Vec<_> = (2..22).map(|channel| job_for(&mut stage, channel)).collect();
    jobs.iter().for_each(|job| job.send(&mut client, &stage.world));
    stage.answers(&mut client);
    assert_eq!(client.names(), ["SetCustomMiningJob.Success"; 20]);
}

#[test]
fn an_early_job_of_one_channel_took_the_place_of_anothers() {
    let mut stage = Stage::new();
    let mut client = proxy(&mut stage, 3);
    let mut ahead = World::without_work(config());
    (0..2).for_each(|_| drop(ahead.new_tip()));
    for channel in 2..5 {
        let token = stage.seal(Purpose::CoinbaseOnly, "alice");
        let early = Job::on(ahead.work.as_ref().unwrap(), token).other(|job| job.channel = channel);
        stage.puts(&mut client, &early);
        client.expects_nothing();
    }
    let work = stage.world.new_tip();
    client.hears(&work, &stage.world);
    stage.answers(&mut client);
    assert_eq!(client.names(), ["SetCustomMiningJob.Success"; 3]);
    assert_eq!(client.session.poll_timeout(), None, "none waits any more");
}

#[test]
fn a_block_on_a_job_that_newer_ones_had_pushed_out_was_not_looked_for() {
    let mut stage = Stage::new();
    stage.world.nbits = EASY;
    stage.world.new_tip();
    let mut client = stage.client();
    let jobs: Vec<_> = (0..=PAST_JOBS + 1)
        .map(|_| {
            let job = stage.job();
            stage.accepts(&mut client, &job)
        })
        .collect();
    let found = (0..64).find_map(|nonce| {
        let share = submits(&mut client, jobs[0], nonce, &stage.world);
        client.is_refused(share, "stale-share");
        client.session.poll_custom_block()
    });
    assert!(found.is_some(), "it stands on the present tip");
    assert!(client.records.is_empty());
}

#[test]
fn jobs_that_no_block_could_have_or_that_take_too_much_room_are_refused() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let largest = largest(&mut stage, 2);
    let deep = largest.other(|job| job.path.push([1; 32]));
    stage.refuses(&mut client, &deep, "invalid-merkle-path");
    let long = largest.other(|job| job.outputs.push(job.outputs[0].clone()));
    stage.refuses(&mut client, &long, "invalid-coinbase-tx-outputs");
    stage.accepts(&mut client, &largest);
}

#[test]
fn one_address_could_have_gigabytes_of_jobs_held() {
    let mut stage = Stage::new();
    let mut client = proxy(&mut stage, 4);
    let job = job_for(&mut stage, 5);
    let first = stage.accepts(&mut client, &job);
    let fills = |stage: &mut Stage, client: &mut Client| {
        for channel in 2..5 {
            for _ in 0..=PAST_JOBS + LATE_JOBS {
                let job = largest(stage, channel);
                stage.accepts(client, &job);
            }
        }
    };
    let counted = allocation_counter::measure(|| {
        fills(&mut stage, &mut client);
        submits_on(&mut client, (5, first), 1, &stage.world);
        assert_eq!(client.records.len(), 1, "the newest job of a channel stays");
        let work = stage.world.new_tip();
        client.hears(&work, &stage.world);
        fills(&mut stage, &mut client);
    });
    let held = u64::try_from(counted.bytes_current).unwrap();
    let most = CUSTOM_BYTES_MAX as u64;
    assert!(held <= most + most / 4, "{held} bytes, with the tables and the tokens that were used");
    assert!(held >= most / 2, "{held} bytes are not all that there is room for");
    let job = job_for(&mut stage, 5);
    stage.accepts(&mut client, &job);
}
