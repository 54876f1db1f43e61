//! What a link tells of shares, and that they wait for nobody.

use adit_share::Extranonce;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_test::{assert_pending, assert_ready, task};

use super::*;
use crate::job::Route;
use crate::legacy::SETUP_PATIENCE;
use crate::machine::Share;
use crate::sv1;
use crate::upstream::{DOUBT_AFTER, Source};

#[tokio::test]
async fn what_becomes_of_shares_is_told_of_each_machine() {
    let (reports, mut reported) = mpsc::channel(4);
    let mut desk = Desk::new(1, reports);
    let work = Work::from_hashes(100);
    let mut sends = |machine| desk.tally.note_sent(Sent { machine, key: 0, work, is_block: false });
    let [good, stale, older, lost, waiting] = [7, 7, 7, 7, 8].map(&mut sends);
    assert!(waiting > lost);
    desk.tally.settle(good, &Outcome::Accepted);
    for tag in [stale, older] {
        desk.tally.settle(tag, &Outcome::Refused("stale-share".to_owned()));
    }
    desk.tally.settle(lost, &Outcome::Lost);
    let legacy = LegacyConfig { user: String::new(), password: String::new(), version_mask: 0 };
    let upstream = crate::legacy::LegacyUpstream::new(&Arc::new(legacy), Clock.monotonic());
    let speaker = Speaker::Sv1(Box::new(upstream));
    desk.add_tally(&speaker);
    assert!(desk.tell().is_ok());
    let Some((1, Report::Tally { machines, .. })) = reported.recv().await else { panic!("a tally") };
    let expected = UpstreamShares {
        accepted: 1,
        refused: 2,
        lost: 1,
        pending: 4,
        work: 100,
        refusals: vec![("stale-share".to_owned(), 2)],
    };
    assert_eq!(machines.get(&7), Some(&expected));
    assert_eq!(machines.get(&8), Some(&UpstreamShares { pending: 1, ..UpstreamShares::default() }));
    desk.add_tally(&speaker);
    assert!(desk.tell().is_ok());
    let Some((1, Report::Tally { machines, .. })) = reported.recv().await else { panic!("a tally") };
    assert!(machines.is_empty(), "nothing is told twice");
}

/// What a pool says in SV1 to let us in.
const WELCOME: &str = concat!(
    r#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}"#,
    "\n",
    r#"{"id":2,"result":[null,"c0ffee01",8],"error":null}"#,
    "\n",
    r#"{"id":3,"result":true,"error":null}"#,
    "\n",
);

/// A job on a block of its own.
fn notify(number: u8) -> Vec<u8> {
    let mut line = Vec::new();
    let mut coinbase = vec![0; 41];
    coinbase.extend([30, 3, 0xa0, 0xbb, 0x0d]);
    let notify = sv1::Notify {
        job: number.into(),
        prev_hash: &[number; 32],
        coinbase_prefix: &[&coinbase],
        coinbase_suffix: &[0xff; 60],
        merkle_path: &[],
        version: 0x2000_0000,
        nbits: 0x1702_0000,
        ntime: 1_700_000_000,
        clean: true,
    };
    sv1::write_notify(&mut line, &notify);
    line
}

/// A way to a pool that speaks SV1.
fn plain(pool: &TcpListener) -> Destination {
    let config = UpstreamConfig {
        host: String::new(),
        port: 0,
        user: "farm".to_owned(),
        min_extranonce_size: 8,
        names_workers: false,
        doubt_after: DOUBT_AFTER,
    };
    Destination {
        pool: format!("stratum+tcp://{}", pool.local_addr().unwrap()).parse().unwrap(),
        insecure: false,
        upstream: Arc::new(config),
        legacy: Arc::new(LegacyConfig {
            user: "farm".to_owned(),
            password: "x".to_owned(),
            version_mask: 0x1fff_e000,
        }),
        rest: None,
    }
}

/// Reads until the link has said that.
async fn hears(stream: &mut TcpStream, what: &str) {
    hears_times(stream, what, 1).await;
}

/// Reads until the link has said that so many times.
async fn hears_times(stream: &mut TcpStream, what: &str, times: usize) {
    let mut said = String::new();
    while said.matches(what).count() < times {
        let mut bytes = [0; 4_096];
        let count = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut bytes)).await;
        let count = count.expect("a link that waits for the steward says nothing").unwrap();
        assert!(count > 0, "{said}");
        said += core::str::from_utf8(&bytes[..count]).unwrap();
    }
}

/// Lets a link in, has it open a channel, and gives it work.
async fn begins(
    link: &Link,
    stream: &mut TcpStream,
    reported: &mut mpsc::Receiver<(LinkId, Report)>,
) -> Source {
    stream.write_all(WELCOME.as_bytes()).await.unwrap();
    assert!(matches!(reported.recv().await, Some((1, Report::Ready))));
    let nominal = Hashrate::from_hashes_per_second(1);
    assert!(link.task.tell(Command::Open { key: 0, user: String::new(), nominal }));
    stream.write_all(&notify(1)).await.unwrap();
    loop {
        if let Report::Work(work) = reported.recv().await.unwrap().1 {
            return work.source;
        }
    }
}

/// A share of that work on its way up.
fn up(source: Source, is_block: bool) -> Up {
    let share = Share {
        route: Route { link: 1, key: 0, source },
        nonce: 7,
        ntime: 1_700_000_000,
        version: 0x2000_0000,
        extranonce: Extranonce::join(&[0; 8], &[]),
        work: Work::from_hashes(1),
        is_block,
        worker: None,
    };
    Up { machine: 1, share }
}

#[test]
fn a_share_that_is_not_wanted_yet_wakes_nobody_and_a_block_does() {
    let ((shares, submitted), (blocks, found)) = (mpsc::channel(2), mpsc::channel(1));
    let mut submitted = Submitted { shares: submitted, blocks: found };
    let source = Source { channel: 1, job: 1, generation: 1 };
    let mut waits = task::spawn(submitted.recv(false));
    assert_pending!(waits.poll());
    shares.try_send(up(source, false)).unwrap();
    assert!(!waits.is_woken());
    blocks.try_send(up(source, true)).unwrap();
    assert!(waits.is_woken());
    assert!(assert_ready!(waits.poll()).share.is_block);
    drop(waits);

    let mut rest = Vec::new();
    submitted.take_rest(&mut rest);
    assert_eq!(rest.len(), 1, "the share has waited");
    let mut waits = task::spawn(submitted.recv(true));
    assert_pending!(waits.poll());
    shares.try_send(up(source, false)).unwrap();
    assert!(waits.is_woken());
    assert!(!assert_ready!(waits.poll()).share.is_block);
}

/// In quiet times that was one waking in three.
#[tokio::test(start_paused = true)]
async fn the_link_woke_up_after_each_share_although_none_waited() {
    let pool = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut desk = Desk::new(1, mpsc::channel(1).0);
    let mut upstream = Speaker::new(&plain(&pool), Clock.monotonic());
    let ((shares, submitted), (_blocks, found)) = (mpsc::channel(2), mpsc::channel(1));
    let mut submitted = Submitted { shares: submitted, blocks: found };
    let source = Source { channel: 1, job: 1, generation: 1 };
    tokio::time::advance(GATHERING).await;

    desk.gather(up(source, false), &mut upstream, &mut submitted);
    assert_eq!((desk.tally.last_tag, desk.gathered_due()), (1, None), "after a quiet time none waits");
    let due = Clock.monotonic() + GATHERING;
    desk.gather(up(source, false), &mut upstream, &mut submitted);
    assert_eq!((desk.tally.last_tag, desk.gathered_due()), (1, Some(due)), "the next one does");
    shares.try_send(up(source, false)).unwrap();
    desk.gather(up(source, true), &mut upstream, &mut submitted);
    assert_eq!(
        (desk.tally.last_tag, desk.gathered_due()),
        (4, Some(due + LULL)),
        "a block takes all with it"
    );
    let mut told = task::spawn(async { desk.departure.come().await });
    assert_pending!(told.poll());
    desk.departure.handle_share(due);
    assert!(told.is_woken(), "then they come many at a time, and the next one in time takes all with it");
    drop(told);
    tokio::time::advance(GATHERING).await;
    desk.send_rest(&mut upstream, &mut submitted);
    assert_eq!(
        desk.gathered_due(),
        None,
        "where several came together one looks once more, and in vain here"
    );
    desk.gather(up(source, false), &mut upstream, &mut submitted);
    assert_eq!((desk.tally.last_tag, desk.gathered_due()), (5, None));
}

/// One takes them with it that comes in time; and where none comes, they are not forgotten.
#[tokio::test(start_paused = true)]
async fn shares_of_a_busy_time_go_up_with_the_next_one_or_after_a_lull() {
    // The first reading of the clock is the start of time, and a paused one may not have got there.
    let _ = Clock.monotonic();
    tokio::time::advance(Duration::from_secs(1)).await;
    let pool = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (reports, mut reported) = mpsc::channel(16);
    let link = Link::begin(1, plain(&pool), reports);
    let (mut stream, _) = pool.accept().await.unwrap();
    let source = begins(&link, &mut stream, &mut reported).await;
    let sends = |count| {
        (0..count).for_each(|_| assert!(link.uplink.send(up(source, false), Clock.monotonic())));
    };
    sends(3);
    hears_times(&mut stream, "mining.submit", 3).await;
    let start = Clock.monotonic();
    sends(2);
    tokio::time::advance(GATHERING).await;
    sends(1);
    hears_times(&mut stream, "mining.submit", 3).await;
    assert!(Clock.monotonic() - start < LULL, "nobody has waited for a timer");
    sends(2);
    hears_times(&mut stream, "mining.submit", 2).await;
    assert!(Clock.monotonic() - start >= GATHERING + LULL);
}

/// So a found block was queued and not sent, for as long as the steward was busy.
#[tokio::test]
async fn nothing_was_written_while_many_reports_waited() {
    let pool = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = plain(&pool);
    let (reports, _reported) = mpsc::channel(1);
    let redirected = || Report::Redirected { host: String::new(), port: 0 };
    let mut desk = Desk::new(1, reports);
    desk.outgoing = (0..=OUTGOING_MAX).map(|_| redirected()).collect();
    let ((_shares, shares), (_blocks, blocks)) = (mpsc::channel(1), mpsc::channel(1));
    let _link = TaskHandle::spawn(1, move |told| desk.serve(to, told, Submitted { shares, blocks }));
    let (mut stream, _) = pool.accept().await.unwrap();
    hears(&mut stream, "mining.subscribe").await;
}

/// What it had said in time was in the socket, and was not read any more: shares were counted as lost, and machines went to another pool.
#[tokio::test(start_paused = true)]
async fn a_pool_was_taken_for_dead_because_the_process_had_been_stopped() {
    let pool = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (reports, mut reported) = mpsc::channel(4);
    let _link = Link::begin(1, plain(&pool), reports);
    let (mut stream, _) = pool.accept().await.unwrap();
    hears(&mut stream, "mining.subscribe").await;
    stream.try_write(WELCOME.as_bytes()).unwrap();
    tokio::time::advance(SETUP_PATIENCE * 2).await;
    let said = reported.recv().await;
    assert!(matches!(said, Some((1, Report::Ready))), "{said:?}");
}

/// In the mode of one channel per machine, it waited until the steward had made thousands of jobs.
#[tokio::test]
async fn a_found_block_waited_behind_new_jobs() {
    let pool = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = plain(&pool);
    // The steward has room for one report, and is busy.
    let (reports, mut reported) = mpsc::channel(1);
    let others = reports.clone();
    let link = Link::begin(1, to, reports);
    let (mut stream, _) = pool.accept().await.unwrap();
    let Source { channel, job, generation } = begins(&link, &mut stream, &mut reported).await;
    // What another link has told is not looked at either; it may be that there is no room for that any more.
    let _ = others.try_send((2, Report::Ready));
    for number in 2..9 {
        stream.write_all(&notify(number)).await.unwrap();
    }
    stream.write_all(b"{\"id\":77,\"method\":\"client.get_version\",\"params\":[]}\n").await.unwrap();
    hears(&mut stream, "77").await;
    let newest = Source { channel, job: job + 7, generation: generation + 7 };
    link.uplink.blocks.try_send(up(newest, true)).unwrap();
    hears(&mut stream, "mining.submit").await;
    let mut told = Vec::new();
    while told.last() != Some(&newest) {
        if let Report::Work(work) = reported.recv().await.unwrap().1 {
            told.push(work.source);
        }
    }
    assert!(told.len() <= 2, "what waited was replaced by what came later: {told:?}");
}

#[test]
fn blocks_are_those_of_their_channel() {
    let mut tally = Tally::default();
    let mut sends = |key, is_block| {
        let sent = Sent { machine: 7, key, work: Work::from_hashes(100), is_block };
        let tag = tally.note_sent(sent);
        tally.settle(tag, &Outcome::Accepted);
        let OnChannel { shares, blocks } = &tally.channels[&key];
        (shares.accepted, *blocks)
    };
    assert_eq!([sends(1, false), sends(1, true), sends(1, false)], [(1, 0), (2, 1), (3, 1)]);
    assert_eq!(sends(2, false), (1, 0), "another channel has its own");
}

#[test]
fn the_last_shares_of_a_machine_that_left_kept_its_channel() {
    let mut tally = Tally::default();
    let tag = tally.note_sent(Sent { machine: 7, key: 7, work: Work::from_hashes(100), is_block: false });
    tally.channels.remove(&7);
    tally.settle(tag, &Outcome::Lost);
    assert!(tally.channels.is_empty());
    assert_eq!(tally.machines[&7].lost, 1, "the share is counted all the same");
}

#[test]
fn an_upstream_has_given_credit_that_accepted_a_share_or_was_sent_none() {
    let mut tally = Tally::default();
    assert_eq!(tally.credit(), Credit::Given);
    let mut settles = |outcome| {
        let work = Work::from_hashes(1);
        let tag = tally.note_sent(Sent { machine: 1, key: 0, work, is_block: false });
        tally.settle(tag, &outcome);
        tally.credit()
    };
    assert_eq!(settles(Outcome::Lost), Credit::Withheld);
    assert_eq!(settles(Outcome::Refused("no".to_owned())), Credit::Withheld);
    assert_eq!([settles(Outcome::Accepted), settles(Outcome::Lost)], [Credit::Given; 2]);
}

/// A hundred jobs for a group of thousands of channels came in one read, and the work of all of them was held at once.
#[tokio::test]
async fn all_that_came_in_one_read_was_made_work_of_before_any_was_taken() {
    let pool = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = plain(&pool);
    let mut wire = Wire::dial(&to).await.unwrap();
    let (mut stream, _) = pool.accept().await.unwrap();
    let mut speaker = Speaker::new(&to, Clock.monotonic());
    stream.write_all(WELCOME.as_bytes()).await.unwrap();
    while !matches!(speaker.poll_event(), Some(Event::Ready { .. })) {
        wire.queue(&mut speaker).unwrap();
        wire.io(Intake::Open).await.unwrap();
        while wire.read_one(&mut speaker).unwrap() {}
    }
    speaker.open(0, "", Hashrate::from_hashes_per_second(1), Clock.monotonic()).unwrap();
    stream.write_all(&[notify(1), notify(2)].concat()).await.unwrap();
    wire.io(Intake::Open).await.unwrap();
    assert!(wire.read_one(&mut speaker).unwrap());
    let works = core::iter::from_fn(|| speaker.poll_event()).filter(|event| matches!(event, Event::Work(_)));
    assert_eq!(works.count(), 1, "the other one waits");
    let mut desk = Desk::new(1, mpsc::channel(1).0);
    desk.hear(&mut wire, &mut speaker).unwrap();
    assert!(speaker.poll_event().is_none(), "it is taken");
    assert!(desk.newest.next_due().is_some());
}
