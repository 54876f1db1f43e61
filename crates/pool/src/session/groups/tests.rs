//! How long a group keeps the jobs that it has made.

use core::time::Duration;
use std::sync::Arc;

use adit_node::{Devnet, DevnetConfig};
use adit_units::Now;
use bitcoin::ScriptBuf;

use super::*;
use crate::{JOB_AGE_MAX, JobFactory, PoolConfig};

/// As many jobs as can earn.
fn works() -> Vec<Arc<Work>> {
    let config = PoolConfig::new(1, ScriptBuf::from_bytes(vec![0x51]));
    let mut now = Now { unix: adit_units::UnixTime::from_secs(1_800_000_000), ..Now::default() };
    let template = Arc::new(Devnet::new(&DevnetConfig::new([7; 32]), now).template(now));
    let mut factory = JobFactory::new(&config, 0).unwrap();
    let jobs = (0..=PAST_JOBS).map(|_| {
        now = now.after(JOB_AGE_MAX + Duration::from_secs(1));
        factory.handle_template(&template, now).unwrap().unwrap()
    });
    jobs.collect()
}

#[test]
fn shares_that_cycle_over_all_jobs_have_none_made_twice() {
    const ID: ChannelId = ChannelId(3);
    let (works, mut groups) = (works(), Groups::default());
    groups.open(ID, Distribution::Solo(ScriptBuf::from_bytes(vec![0x52])));
    for work in &works {
        groups.job(ID, work);
    }
    let kept = |groups: &Groups| works.iter().filter(|work| groups.kept_job(ID, work).is_some()).count();
    assert_eq!(kept(&groups), 2, "an idle channel's are the newest and the one that it followed");
    for work in &works {
        assert_eq!(groups.job(ID, work).id(), work.id());
    }
    assert_eq!(kept(&groups), works.len(), "so the next round finds them all");
    let places: Vec<_> = works.iter().map(|work| groups.job(ID, work).id()).collect();
    assert!(places.is_sorted() && groups.others()[0].jobs.len() == works.len());
}
