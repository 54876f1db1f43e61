//! What the steward makes of what its links report, without anybody at the other end of them.

use adit_net::{Admission, Bulletin, Limits, Reader, Url};
use adit_transport::AuthorityKeyPair;

use super::super::entrance::Objections;
use super::super::watcher::{self, Numbers};
use super::super::{Registry, UpstreamTarget};
use super::*;
use crate::job::fixture::Given;
use crate::upstream::UpstreamError;
use crate::{MachineConfig, Share};

struct Stage {
    steward: Steward,
    /// What machines see, where each has a channel of its own, by their numbers.
    boards: BTreeMap<u64, Reader<Board>>,
    common: Reader<Board>,
}

/// Where nobody listens.
fn target() -> UpstreamTarget {
    let key = AuthorityKeyPair::generate(&mut OsRng).public_key();
    let url = Url::new("127.0.0.1".to_owned(), 1, Some(key)).unwrap();
    UpstreamTarget { pool: url.into(), user: "farm".to_owned(), password: None, expects: None }
}

impl Stage {
    fn new(mode: Mode, upstreams: usize) -> Self {
        let config = TranslatorConfig {
            upstreams: (0..upstreams).map(|_| target()).collect(),
            mode,
            machine: MachineConfig::default(),
            keepalive: Duration::from_secs(30),
            first_guess: Hashrate::from_hashes_per_second(1),
            limits: Limits::default(),
            insecure: false,
            allows_public: false,
            expects_proxy: false,
            rest: None,
        };
        let (joining, joined) = mpsc::channel(4);
        let post = Bulletin::new(Board::default());
        let common = post.reader();
        let machine = Arc::new(config.machine.clone());
        let hall = Hall {
            config: Arc::new(config),
            machine,
            registry: Registry::new(),
            common: Some(common.clone()),
            joining,
            objections: Objections::default(),
        };
        let overview = Overview::of(upstreams);
        let mut steward = Steward::new(Arc::new(hall), post, joined, overview);
        steward.act();
        Self { steward, boards: BTreeMap::new(), common }
    }

    /// All machines share a channel of the first of those upstreams, whose link it is, and have work.
    fn at_work(upstreams: usize) -> (Self, LinkId) {
        let mut stage = Self::new(Mode::Aggregated, upstreams);
        let link = stage.link(0);
        stage.steward.handle_report(link, Report::Ready);
        stage.works(link, COMMON);
        (stage, link)
    }

    /// A machine comes that wants a channel of its own.
    fn joins(&mut self, machine: u64) {
        let board = Bulletin::new(Board::default());
        let seen = board.reader();
        let nominal = Hashrate::from_hashes_per_second(1);
        self.steward.handle_joining(Joining::Joined { machine, user: "a.b".into(), nominal, board });
        self.boards.insert(machine, seen);
    }

    /// The newest attempt at an upstream.
    fn link(&self, upstream: usize) -> LinkId {
        let own = |attempt: &&Attempt<Line, ()>| attempt.upstream == upstream && !attempt.is_leaving();
        self.steward.roster.attempts().filter(own).map(|attempt| attempt.id).max().unwrap()
    }

    /// The upstreams of all attempts but those that are being let go.
    fn tried(&self) -> BTreeSet<usize> {
        let attempts = self.steward.roster.attempts().filter(|attempt| !attempt.is_leaving());
        attempts.map(|attempt| attempt.upstream).collect()
    }

    /// What is told of an upstream.
    fn known(&self, upstream: usize) -> Known {
        lock(&self.steward.overview).upstreams[upstream].clone()
    }

    fn works(&mut self, link: LinkId, key: u64) {
        let work = ChannelWork { key, ..Given::default().work() };
        self.steward.handle_report(link, Report::Work(work));
    }

    fn refuses(&mut self, link: LinkId, key: u64, was_open: bool) {
        self.steward.handle_report(link, Report::Refused { key, reason: "no".to_owned(), was_open });
    }

    fn ends(&mut self, link: LinkId, credit: Credit) {
        let report = Report::Ended { reason: LinkError::Dismissed, doubt_after: DOUBT_AFTER, credit };
        self.steward.handle_report(link, report);
    }

    /// The number of the job that a machine works on.
    fn job(&self, machine: u64) -> Option<u64> {
        let board = self.boards[&machine].borrow();
        assert!(board.job.is_none() || board.is_live(), "nobody is left with work for nothing");
        board.job.as_ref().map(|job| job.number())
    }
}

/// It went on with the last job, was told so anew every half minute, and each of its shares was answered `true`.
#[tokio::test]
async fn a_machine_whose_channel_the_pool_closed_worked_for_nothing() {
    let mut stage = Stage::new(Mode::PerMachine, 1);
    let link = stage.link(0);
    [1, 2].into_iter().for_each(|machine| stage.joins(machine));
    stage.steward.handle_report(link, Report::Ready);
    [1, 2].into_iter().for_each(|machine| stage.works(link, machine));
    assert!(stage.job(1).is_some());
    let other = stage.job(2).unwrap();
    stage.refuses(link, 1, true);
    assert_eq!(stage.job(1), None);
    let later = Clock.monotonic() + Duration::from_secs(60);
    stage.steward.renew(later);
    assert_eq!(stage.job(1), None, "what is dead is not given anew");
    assert!(stage.job(2).unwrap() > other, "nobody else is the worse for it");
    stage.refuses(link, 1, false);
    assert_eq!((stage.job(1), stage.tried()), (None, BTreeSet::from([0])));
    stage.works(link, 1);
    assert!(stage.job(1).is_some(), "it has a channel again");
}

#[tokio::test]
async fn non_aggregated_translator_correctly_deals_with_close_channel_message() {
    let mut stage = Stage::new(Mode::PerMachine, 2);
    let link = stage.link(0);
    [1, 2].into_iter().for_each(|machine| stage.joins(machine));
    stage.steward.handle_report(link, Report::Ready);
    [1, 2].into_iter().for_each(|machine| stage.works(link, machine));
    stage.refuses(link, 1, true);
    assert!(stage.tried().contains(&0), "the other machine has its channel");
    stage.refuses(link, 2, true);
    stage.steward.act();
    assert!(!stage.tried().contains(&0) && stage.tried().contains(&1), "nobody has one: {:?}", stage.tried());
}

#[tokio::test]
async fn aggregated_translator_triggers_fallback_on_close_channel_message() {
    let (mut stage, link) = Stage::at_work(2);
    assert!(stage.common.borrow().is_live());
    stage.refuses(link, COMMON, true);
    assert!(!stage.common.borrow().is_live(), "machines are told at once");
    stage.steward.act();
    assert_eq!(stage.tried(), BTreeSet::from([1]), "and the next pool is tried at once");
    let next = stage.link(1);
    stage.steward.handle_report(next, Report::Ready);
    stage.works(next, COMMON);
    assert!(stage.common.borrow().is_live());
    let [UpstreamState::Failed { reason }, UpstreamState::InUse] =
        [0, 1].map(|upstream| stage.known(upstream).state)
    else {
        panic!("{:?}", stage.steward.overview)
    };
    assert!(reason.contains("closed the channel: no"), "{reason}");
}

#[tokio::test]
async fn a_pool_that_sends_its_miners_on_is_followed_to_the_other_address() {
    let (mut stage, link) = Stage::at_work(1);
    stage.steward.handle_report(link, Report::Redirected { host: "127.0.0.2".to_owned(), port: 7 });
    let next = stage.link(0);
    assert_ne!(next, link);
    let to = stage.steward.roster.attempt(next).unwrap().link.to.clone();
    assert_eq!(to.pool.address(), "127.0.0.2:7");
    let key = |pool: &Pool| if let Pool::Sv2(url) = pool { url.authority() } else { None };
    assert_eq!(key(&to.pool), key(&stage.steward.config.upstreams[0].pool), "with the same key");
    assert!(stage.common.borrow().is_live(), "machines go on meanwhile");
    stage.steward.handle_report(next, Report::Ready);
    stage.works(next, COMMON);
    assert_eq!(stage.common.borrow().job.as_ref().unwrap().route().link, next);
}

/// The pool in use was shown as being connected to, for as long as its redirection was tried and ever after, and the server elsewhere was told
/// that it had been called by the former address.
#[tokio::test]
async fn a_pool_in_use_was_shown_as_connecting_after_a_redirection_that_failed() {
    let (mut stage, link) = Stage::at_work(1);
    stage.steward.handle_report(link, Report::Redirected { host: "127.0.0.2".to_owned(), port: 7 });
    assert!(matches!(stage.known(0).state, UpstreamState::InUse), "{:?}", stage.known(0).state);
    let next = stage.link(0);
    let told = Arc::clone(&stage.steward.roster.attempt(next).unwrap().link.to.upstream);
    assert_eq!((told.host.as_str(), told.port), ("127.0.0.2", 7));
    stage.ends(next, Credit::Given);
    assert!(matches!(stage.known(0).state, UpstreamState::InUse), "{:?}", stage.known(0).state);
    assert!(stage.common.borrow().is_live());
    assert_eq!(stage.link(0), link);
}

/// Each time was a line in the log.
#[tokio::test]
async fn a_pool_that_sent_its_miners_on_without_end_filled_the_log() {
    let (mut stage, link) = Stage::at_work(1);
    for port in [7, 8, 9] {
        stage.steward.handle_report(link, Report::Redirected { host: "127.0.0.2".to_owned(), port });
        stage.steward.handle_report(link, Report::Redirected { host: "no host".to_owned(), port });
    }
    let line = &mut stage.steward.roster.attempt_mut(link).unwrap().link;
    assert_eq!(line.unfollowed, 5, "but for the one that is followed");
    line.unfollowed = 0;
    let told: Vec<u64> = (0..10_000).filter_map(|_| line.note_unfollowed()).collect();
    assert_eq!((told.first(), told.len()), (Some(&1), 14));
}

/// Until the better pool had opened a channel for them too, or for as long as it had none, they worked on blocks of the past.
#[tokio::test]
async fn machines_that_the_better_pool_had_not_served_yet_were_frozen_on_the_former_one() {
    let mut stage = Stage::new(Mode::PerMachine, 2);
    let [better, former] = [0, 1].map(|upstream| stage.link(upstream));
    (1..=4).for_each(|machine| stage.joins(machine));
    for link in [former, better] {
        stage.steward.handle_report(link, Report::Ready);
    }
    (1..=4).for_each(|machine| stage.works(former, machine));
    stage.works(better, 1);
    let numbers = [1, 2, 3].map(|machine| stage.job(machine).unwrap());
    [1, 2].into_iter().for_each(|machine| stage.works(former, machine));
    assert_eq!(stage.job(1), Some(numbers[0]), "it has gone over");
    assert!(stage.job(2).unwrap() > numbers[1], "a new tip");
    stage.refuses(better, 2, false);
    stage.works(former, 2);
    assert!(stage.steward.desks[&2].reopen.is_some(), "the better one is asked again");
    stage.refuses(former, 3, true);
    assert_eq!(stage.job(3), None, "nobody would take its shares");
    // All that the better one serves is there, so time is what ends the former.
    let mut now = Clock.monotonic();
    for _ in 0..60 {
        now = now + TICK;
        stage.steward.keep_needed(now);
        stage.steward.roster.handle_timeout(now);
    }
    assert!(stage.steward.roster.attempt(former).is_some(), "machines have no other work");
    let number = stage.job(2).unwrap();
    stage.steward.renew(now);
    assert!(stage.job(2).unwrap() > number, "which is given anew as any other");
    (2..=4).for_each(|machine| stage.works(better, machine));
    for _ in 0..11 {
        now = now + TICK;
        stage.steward.keep_needed(now);
        stage.steward.roster.handle_timeout(now);
    }
    assert!(stage.steward.roster.attempt(former).is_none(), "nobody needs it any more");
}

impl Stage {
    /// All machines share a channel of the first of two upstreams, and the link of the other one, which was left, is still up.
    fn gone_over() -> (Self, [LinkId; 2]) {
        let mut stage = Self::new(Mode::Aggregated, 2);
        let [better, former] = [0, 1].map(|upstream| stage.link(upstream));
        for link in [former, better] {
            stage.steward.handle_report(link, Report::Ready);
            stage.works(link, COMMON);
        }
        (stage, [better, former])
    }

    /// Another attempt at the first upstream has work.
    fn comes_back(&mut self) -> LinkId {
        let to = self.steward.destination(0).unwrap();
        self.steward.begin((0, 0), to);
        self.steward.act();
        let link = self.link(0);
        self.steward.handle_report(link, Report::Ready);
        self.works(link, COMMON);
        link
    }

    /// The newest job of all machines.
    fn newest(&self) -> Arc<Sv1Job> {
        let board = self.common.borrow();
        assert!(board.is_live());
        Arc::clone(board.job.as_ref().unwrap())
    }
}

/// All jobs before it were void with the first job of whoever came next, also those of a link that was up and on the same tip.
#[tokio::test]
async fn the_death_of_a_pool_made_the_jobs_of_the_one_before_it_stale() {
    for closes in [false, true] {
        let (mut stage, [better, former]) = Stage::gone_over();
        let before = stage.newest().floor();
        if closes {
            stage.refuses(better, COMMON, true);
        } else {
            stage.ends(better, Credit::Given);
        }
        stage.steward.act();
        assert!(stage.common.borrow().uplink(former).is_some() && !stage.common.borrow().is_live());
        let next = stage.comes_back();
        assert_eq!((stage.newest().route().link, stage.newest().floor()), (next, before), "closes: {closes}");
        let work = ChannelWork { key: COMMON, ..Given { tip: 2, ..Given::default() }.work() };
        stage.steward.handle_report(next, Report::Work(work));
        assert!(stage.newest().floor() > before, "the tip has gone");
    }
}

/// What a link on its way out had to give was passed over, although nobody else had anything.
#[tokio::test(start_paused = true)]
async fn machines_whose_pool_had_died_were_not_given_the_work_of_the_one_before_it() {
    let (mut stage, [better, former]) = Stage::gone_over();
    stage.works(former, COMMON);
    assert_eq!(stage.newest().route().link, better, "it was left");
    tokio::time::advance(Duration::from_secs(9)).await;
    stage.ends(better, Credit::Given);
    stage.steward.act();
    stage.works(former, COMMON);
    assert_eq!(stage.newest().route().link, former);
    tokio::time::advance(Duration::from_secs(2)).await;
    stage.steward.act();
    assert_eq!(stage.newest().route().link, former, "it is needed again, however near its end was");
    let next = stage.comes_back();
    assert_eq!(stage.newest().route().link, next, "which is still the better one");
}

/// The better pool had no channel for a machine, and then the former one gave it a job: the better one was asked for it no more, and the other was
/// kept for it alone.
#[tokio::test]
async fn a_machine_stayed_at_the_former_pool_for_ever() {
    let mut stage = Stage::new(Mode::PerMachine, 2);
    let [better, former] = [0, 1].map(|upstream| stage.link(upstream));
    [1, 2].into_iter().for_each(|machine| stage.joins(machine));
    stage.steward.handle_report(former, Report::Ready);
    [1, 2].into_iter().for_each(|machine| stage.works(former, machine));
    stage.steward.handle_report(better, Report::Ready);
    stage.refuses(better, 1, false);
    stage.works(former, 1);
    stage.works(better, 2);
    assert!(stage.steward.desks[&1].reopen.is_some(), "the better one is asked again");
}

/// A share of the channel that a pool had closed after its machine had gone over to a better one was answered `true`, and the link threw it away.
#[tokio::test]
async fn shares_of_a_closed_channel_went_to_a_link_that_had_no_place_for_them() {
    let mut stage = Stage::new(Mode::PerMachine, 2);
    let [better, former] = [0, 1].map(|upstream| stage.link(upstream));
    [1, 2].into_iter().for_each(|machine| stage.joins(machine));
    for link in [former, better] {
        stage.steward.handle_report(link, Report::Ready);
        [1, 2].into_iter().for_each(|machine| stage.works(link, machine));
    }
    let is_open = |stage: &Stage, machine, link| stage.boards[&machine].borrow().uplink(link).is_some();
    stage.refuses(former, 1, true);
    assert!(stage.job(1).is_some(), "its work is another link's");
    assert_eq!([1, 2].map(|machine| is_open(&stage, machine, former)), [false, true]);
    stage.works(better, 1);
    let to = stage.steward.destination(0).unwrap();
    stage.steward.begin((0, 0), to);
    stage.steward.act();
    assert!(is_open(&stage, 1, stage.link(0)), "another link has come");
    assert!(!is_open(&stage, 1, former), "and the channel stays closed");
    let floor = |stage: &Stage| stage.boards[&1].borrow().job.as_ref().map(|job| job.floor());
    let before = floor(&stage);
    stage.refuses(better, 1, true);
    assert_eq!((stage.job(1), is_open(&stage, 1, better)), (None, false));
    let work = ChannelWork { key: 1, is_new_tip: false, ..Given::default().work() };
    stage.steward.handle_report(better, Report::Work(work));
    assert!(stage.job(1).is_some() && is_open(&stage, 1, better), "it has a channel again");
    assert!(floor(&stage) > before, "which knows no job of the one before");
}

/// A pool that was left in doubt is given the longer time that its last link asks for, and no other pool is.
#[tokio::test]
async fn each_upstream_has_the_patience_that_its_last_link_has_shown_to_be_needed() {
    let mut stage = Stage::new(Mode::Aggregated, 2);
    let (link, doubt_after) = (stage.link(0), DOUBT_AFTER * 2);
    let reason = UpstreamError::Silent("an answer to any share").into();
    stage.steward.handle_report(link, Report::Ended { reason, doubt_after, credit: Credit::Withheld });
    let patience = |upstream| stage.steward.destination(upstream).unwrap().upstream.doubt_after;
    assert_eq!([0, 1].map(patience), [doubt_after, DOUBT_AFTER]);
}

/// It was tried again a minute later however often it had paid for nothing, and had the machines each time.
#[tokio::test]
async fn an_upstream_that_accepts_nothing_is_left_alone_while_another_serves() {
    for (credit, tried) in [(Credit::Given, Some(0)), (Credit::Withheld, None)] {
        let mut stage = Stage::new(Mode::Aggregated, 2);
        for _ in 0..10 {
            let to = stage.steward.destination(0).unwrap();
            stage.steward.begin((0, 0), to);
            let link = stage.link(0);
            stage.steward.handle_report(link, Report::Ready);
            stage.works(link, COMMON);
            stage.ends(link, credit);
        }
        let other = stage.link(1);
        stage.steward.handle_report(other, Report::Ready);
        stage.works(other, COMMON);
        let soon = Clock.monotonic() + Duration::from_secs(120);
        assert_eq!(stage.steward.roster.poll_attempt(soon), tried, "{credit:?}");
    }
}

/// They were counted nowhere but at their machine, and there only until it left.
#[tokio::test]
async fn shares_that_found_no_way_up_vanished() {
    let mut stage = Stage::new(Mode::Aggregated, 1);
    let link = stage.link(0);
    for _ in 0..3 {
        stage.steward.hall.registry.count_unsent(link);
    }
    stage.steward.handle_tick(1);
    stage.steward.handle_tick(2);
    assert_eq!(stage.known(0).shares.lost, 3);
}

/// A better upstream that was tried again and again pushed it out of those that are remembered, and its numbers stood still.
#[tokio::test]
async fn an_upstream_in_use_for_hours_was_forgotten() {
    let mut stage = Stage::new(Mode::Aggregated, 2);
    let link = stage.link(0);
    stage.steward.owners.clear();
    stage.steward.hall.registry.count_unsent(link);
    stage.steward.handle_tick(1);
    stage.steward.handle_tick(2);
    assert_eq!(stage.known(0).shares.lost, 1);
}

#[tokio::test]
async fn shares_that_wait_for_an_answer_are_counted_for_each_machine() {
    let mut stage = Stage::new(Mode::Aggregated, 1);
    let link = stage.link(0);
    let mut tells = |shares: UpstreamShares| {
        let machines = BTreeMap::from([(7, shares)]);
        stage.steward.handle_report(link, Report::Tally { machines, channels: Vec::new(), pending: 0 });
        lock(&stage.steward.overview).machines[&7].clone()
    };
    let sent = |pending| UpstreamShares { pending, ..UpstreamShares::default() };
    assert_eq!(tells(sent(5)).pending, 5);
    assert_eq!(tells(UpstreamShares { accepted: 2, lost: 1, ..sent(1) }).pending, 3);
    let refusals = vec![("stale-share".to_owned(), 3)];
    let all = tells(UpstreamShares { refused: 3, refusals: refusals.clone(), ..sent(0) });
    assert_eq!((all.pending, all.refused, all.refusals), (0, 3, refusals));
}

/// A share for an upstream.
fn share(is_block: bool) -> Share {
    let work = Given::default().work();
    Share {
        route: crate::Route { link: 1, key: 0, source: work.source },
        nonce: 0,
        ntime: 0,
        version: 0,
        extranonce: work.prefix,
        work: work.target.to_work(),
        is_block,
        worker: None,
    }
}

#[tokio::test]
async fn a_block_was_dropped_where_too_many_shares_waited() {
    let ((shares, _waiting), (blocks, mut found)) = (mpsc::channel(2), mpsc::channel(1));
    let uplink = Uplink { link: 1, shares, blocks, departure: Arc::default() };
    let up = |is_block| super::super::board::Up { machine: 1, share: share(is_block) };
    let sends = |is_block| uplink.send(up(is_block), Monotonic::default());
    assert!(sends(false) && sends(false) && !sends(false), "there is no room");
    assert!(sends(true), "but for a block");
    assert!(found.try_recv().unwrap().share.is_block);
}

#[tokio::test]
async fn numbers_were_put_together_every_second_although_nobody_looked() {
    let stage = Stage::new(Mode::Aggregated, 1);
    let steward = &stage.steward;
    let (hall, overview) = (Arc::clone(&steward.hall), Arc::clone(&steward.overview));
    let numbers = Numbers::new(hall, overview, Admission::new(Limits::default()));
    let (tell, told) = watch::channel(Arc::default());
    let mut watcher = tokio::spawn(watcher::run(numbers.clone(), tell));
    let mut passes = async |millis| {
        let _ = tokio::time::timeout(Duration::from_millis(millis), &mut watcher).await;
    };
    passes(100).await;
    assert!(!told.has_changed().unwrap(), "nobody is there to be told");
    let looks = told.clone();
    passes(3_000).await;
    assert!(looks.has_changed().unwrap());
    let now = Clock.monotonic() + Duration::from_secs(10);
    let first = numbers.status_at(now);
    steward.note(0, |known| known.shares.lost = 3);
    assert!(
        Arc::ptr_eq(&first, &numbers.status_at(now + Duration::from_millis(999))),
        "not twice in a second"
    );
    assert_eq!(numbers.status_at(now + Duration::from_secs(1)).upstreams[0].shares.lost, 3);
}

/// A pool that was told of no speed made its target as easy as can be, and a farm that was switched on again was given its jobs with that.
#[tokio::test]
async fn a_farm_that_came_back_found_an_absurdly_easy_target() {
    let mut stage = Stage::new(Mode::Aggregated, 1);
    let hashes = |count| vec![(COMMON, Hashrate::from_hashes_per_second(count))];
    assert_eq!(stage.steward.speeds(), [], "the operator's guess holds until somebody comes");
    let (slot, _) = stage.steward.hall.registry.enter("127.0.0.1:1".parse().unwrap());
    slot.nominal.store(500, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(stage.steward.speeds(), hashes(500));
    slot.nominal.store(0, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(stage.steward.speeds(), [], "while nobody is there nothing is told");
    let common = &stage.steward.desks[&COMMON];
    assert_eq!(
        common.nominal.to_hashes_per_second(),
        500,
        "and another pool is asked for a channel with the last speed"
    );
    slot.nominal.store(700, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(stage.steward.speeds(), hashes(700));
}

/// Jobs of machines that were there waited until all had come.
#[tokio::test]
async fn machines_that_come_in_crowds_held_up_jobs() {
    let mut stage = Stage::new(Mode::PerMachine, 1);
    let link = stage.link(0);
    stage.joins(1);
    stage.steward.handle_report(link, Report::Ready);
    let work = ChannelWork { key: 1, ..Given::default().work() };
    stage.steward.reporter.try_send((link, Report::Work(work))).unwrap();
    stage.joins(2);
    assert!(stage.job(1).is_some(), "what comes between two machines is looked at");
    for machine in 0..REPORTS_PER_JOINING + 1 {
        let refused = Report::Refused { key: 100 + machine as u64, reason: String::new(), was_open: false };
        stage.steward.reporter.try_send((link, refused)).unwrap();
    }
    stage.joins(3);
    assert_eq!(stage.steward.reports.len(), 1, "and not without end");
}

/// Whether a job had become too old was looked at once a second, and so it was given anew after half a minute and up to a second more.
#[tokio::test]
async fn a_job_was_given_anew_a_second_too_late() {
    let (mut stage, _) = Stage::at_work(1);
    let number = |stage: &Stage| stage.common.borrow().job.as_ref().unwrap().number();
    let (first, posted) = (number(&stage), stage.steward.desks[&COMMON].posted);
    stage.steward.renew(posted + Duration::from_millis(28_900));
    assert_eq!(number(&stage), first, "it can be looked at again in time");
    stage.steward.renew(posted + Duration::from_millis(29_100));
    assert!(number(&stage) > first);
}
