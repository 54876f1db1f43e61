//! How do I put a pool into my own program: a node, a pool and a miner in one loop, without sockets, tasks or a clock.
//!
//! Run it with `cargo run -p adit-examples --bin embed_pool`. A program for many miners has one [`Session`] for each of them, seals the
//! frames with `adit-transport`, and writes the records to a disk before it says that they are durable.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an example speaks to the terminal")]

use core::time::Duration;
use std::mem::take;
use std::sync::Arc;

use adit_channel::ShareRecord;
use adit_miner::{ChannelKind, Client, ClientConfig, Device, Event, HeaderHasher, Solution, Work};
use adit_node::{Devnet, DevnetConfig, Pace};
use adit_pool::{JobFactory, PoolConfig, Session};
use adit_units::{ConnectionId, Hashrate, Monotonic, Now, Target, UnixTime};
use anyhow::{Context, Result, bail};
use bitcoin::ScriptBuf;
use bitcoin::opcodes::all::OP_PUSHNUM_1;

/// How many blocks to mine.
const BLOCKS: usize = 3;

fn main() -> Result<()> {
    // Time is an argument everywhere, so a program may make its own.
    let mut now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(1_800_000_000) };
    let mut pool = Pool::new(now)?;
    let mut miner = Client::new(miner_config(), now.monotonic)?;
    // Slices of a search space are never used twice, so every share is a new one.
    let (mut work, mut slices) = (None, 0..);
    while pool.blocks < BLOCKS {
        now = now.after(Duration::from_secs(1));
        pool.new_template(now)?;
        pool.talk(&mut miner, now)?;
        while let Some(event) = miner.poll_event() {
            match event {
                Event::Work(newer) => work = Some(newer),
                other => println!("miner: {other:?}"),
            }
        }
        let work = work.as_ref().context("the pool gives work to everyone who opens a channel")?;
        miner.submit(&search(work, &mut slices)?)?;
    }
    println!("{} shares were recorded, {} of them blocks", pool.records.len(), pool.blocks);
    Ok(())
}

/// A pool with one connection.
struct Pool {
    node: Devnet,
    jobs: JobFactory,
    session: Session,
    /// Stands for the share log; what is in it counts as durable.
    records: Vec<ShareRecord>,
    blocks: usize,
}

impl Pool {
    fn new(now: Now) -> Result<Self> {
        let easy = Pace::Fixed(adit_units::Work::from_hashes(1 << 18));
        let node = Devnet::new(&DevnetConfig { pace: easy, ..DevnetConfig::new([7; 32]) }, now);
        // Whoever spends first gets these coins; a real pool names its address here.
        let payout = ScriptBuf::from_bytes(vec![OP_PUSHNUM_1.to_u8()]);
        let config = Arc::new(PoolConfig::new(1, payout));
        let jobs = JobFactory::new(&config, 0)?;
        // The key of the duplicate check is random in a program that strangers can reach.
        let session = Session::new(config, ConnectionId(1), [1; 16], now);
        Ok(Self { node, jobs, session, records: Vec::new(), blocks: 0 })
    }

    /// Makes a job of what the node has now, if that is new.
    fn new_template(&mut self, now: Now) -> Result<()> {
        let template = Arc::new(self.node.template(now));
        if let Some(work) = self.jobs.handle_template(&template, now)? {
            self.session.handle_work(work, now);
        }
        Ok(())
    }

    /// Carries frames both ways until nobody has anything more to say.
    fn talk(&mut self, miner: &mut Client, now: Now) -> Result<()> {
        while !miner.frames().is_empty() || !self.session.frames().is_empty() {
            for frame in &take(miner.frames()) {
                self.session.handle_frame(frame, now)?;
                self.carry_out(now)?;
            }
            for frame in &take(self.session.frames()) {
                miner.handle_frame(frame, now.monotonic)?;
            }
        }
        Ok(())
    }

    /// Does what the session asks for: blocks go to the node first, then the records are kept, then they are acknowledged.
    fn carry_out(&mut self, now: Now) -> Result<()> {
        while let Some(found) = self.session.poll_block() {
            let height = self.node.submit_block(&found.block.to_bytes(), now)?;
            println!("node: block {height} by {} has hash {}", found.user, found.block.hash);
            self.blocks += 1;
            self.new_template(now)?;
        }
        self.session.take_records(&mut self.records);
        self.session.handle_durable(self.records.len() as u64);
        Ok(())
    }
}

fn miner_config() -> ClientConfig {
    ClientConfig {
        host: "here".to_owned(),
        port: 0,
        device: Device::default(),
        user: "alice.example".to_owned(),
        channel: ChannelKind::Extended,
        nominal_hashrate: Hashrate::from_hashes_per_second(10_000),
        max_target: Target::MAX,
        min_extranonce_size: 4,
    }
}

/// Hashes until there is a share, one slice of the work's search space after the other.
fn search(work: &Arc<Work>, slices: &mut impl Iterator<Item = u64>) -> Result<Solution> {
    for slice in slices.map_while(|number| work.slice(number)) {
        let mut hasher = HeaderHasher::new(&work.header(&slice));
        if let Some((nonce, hash)) = hasher.find(slice.nonces.clone(), &work.target) {
            let (work, ntime) = (Arc::clone(work), work.ntime(&slice));
            let (version, extranonce) = (slice.version, slice.extranonce);
            return Ok(Solution { work, nonce, ntime, version, extranonce, hash });
        }
    }
    bail!("no share in all of the search space")
}
