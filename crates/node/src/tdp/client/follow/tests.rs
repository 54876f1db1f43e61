//! What is learned of a provider from the ends of its connections, and one that gives no signs of life.

use adit_messages::error_code::RequestTransactionDataError as DataError;
use adit_net::{Bound, HANDSHAKE_PATIENCE, HandshakeLane, OsRng};
use adit_transport::{AuthorityKeyPair, Identity, StaticKeyPair};
use adit_units::{Now, UnixTime, Work};
use tokio::sync::watch;

use super::super::tests::{no_data, say, serving_with};
use super::*;
use crate::tdp::{NO_TEMPLATE, Offers, ProviderConfig, Session, provider_limits};
use crate::{Devnet, DevnetConfig, Pace};

const NOW: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };

fn lost() -> End {
    End::Io(IoError::Closed)
}

/// A connection that has given a template, was asked for a sign of life, and has given one or not.
fn asked(answers: bool) -> Client {
    let mut client = serving_with(Pulse::Unknown);
    client.ping(NOW.monotonic);
    if answers {
        say(&mut client, no_data(NO_TEMPLATE.0, DataError::TemplateIdNotFound), NOW).unwrap();
    }
    client
}

/// It turned the detection of hangs off for the life of the process.
#[test]
fn one_connection_lost_before_its_first_answer_says_nothing_of_the_provider() {
    let mut habit = Habit::default();
    assert!(!habit.note_end(&asked(false), &lost(), NOW.monotonic));
    assert_eq!(habit.pulse(NOW.monotonic), Pulse::Unknown);
    assert!(!habit.note_end(&asked(true), &lost(), NOW.monotonic));
    assert!(!habit.note_end(&asked(false), &lost(), NOW.monotonic), "not in a row");
    assert_eq!(habit.pulse(NOW.monotonic), Pulse::Given, "what it can is remembered over connections");
}

#[test]
fn a_provider_that_never_answers_is_asked_again_after_an_hour() {
    let mut habit = Habit::default();
    let hung = || End::Client(ClientEnd::Late { what: "a sign of life", secs: 15 });
    assert!(!habit.note_end(&asked(false), &hung(), NOW.monotonic));
    assert!(habit.note_end(&asked(false), &lost(), NOW.monotonic));
    let until = NOW.monotonic + UNASKED_FOR;
    assert_eq!(habit.pulse(NOW.monotonic), Pulse::NotBefore(until));
    assert_eq!(habit.pulse(until), Pulse::Unknown);
}

#[test]
fn a_provider_that_has_answered_is_doubted_late_and_its_other_failures_are_no_reason() {
    let mut habit = Habit::default();
    habit.note_end(&asked(true), &lost(), NOW.monotonic);
    for _ in 0..100 {
        assert!(!habit.note_end(&asked(false), &End::Client(ClientEnd::SentAway), NOW.monotonic));
        assert!(!habit.note_end(&serving_with(Pulse::Given), &lost(), NOW.monotonic), "it was not asked");
    }
    for _ in 1..UNANSWERED_MAX_AFTER_ANSWERS {
        assert!(!habit.note_end(&asked(false), &lost(), NOW.monotonic));
        assert_eq!(habit.pulse(NOW.monotonic), Pulse::Given);
    }
    assert!(habit.note_end(&asked(false), &lost(), NOW.monotonic), "another program may stand there now");
}

/// A provider that answers all but questions for a sign of life.
async fn mute(listener: adit_net::Listener, identity: Arc<Identity>, offers: watch::Receiver<Arc<Offers>>) {
    let mut listener = listener;
    let lane = HandshakeLane::start(1).unwrap();
    let adit_net::Accepted { stream, at, permit: _permit, .. } = listener.accept().await;
    let outbox = ProviderConfig::new(listener.address()).outbox;
    let mut connection = lane.respond(stream, identity, at + HANDSHAKE_PATIENCE, outbox).await.unwrap();
    let mut news = offers;
    let mut session = Session::new(1, Arc::clone(&news.borrow_and_update()), Clock.now());
    loop {
        connection.queue(session.frames()).unwrap();
        tokio::select! {
            Ok(()) = news.changed() => {
                let newest = Arc::clone(&news.borrow_and_update());
                session.handle_offers(newest, Clock.now()).unwrap();
            }
            done = connection.io(Intake::Open) => drop(done.unwrap()),
        }
        while let Some(frame) = connection.next_frame(|header| session.frame_limit(header)).unwrap() {
            session.handle_frame(frame, Clock.now()).unwrap();
        }
    }
}

/// Where a provider listens, as whom, and how it is reached.
fn provider() -> (Arc<Identity>, adit_net::Listener, adit_net::Url) {
    let keys = AuthorityKeyPair::generate(&mut OsRng);
    let (from, until) = (UnixTime::default(), UnixTime::from_secs(u32::MAX));
    let identity = Identity::new(&keys, StaticKeyPair::generate(&mut OsRng), from, until).unwrap();
    let bound = Bound::new(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = bound.listen(provider_limits()).unwrap();
    let (address, key) = (listener.address(), keys.public_key());
    let url = adit_net::Url::new(address.ip().to_string(), address.port(), Some(key)).unwrap();
    (Arc::new(identity), listener, url)
}

/// Who follows it, and the way to ask him.
fn follower(url: adit_net::Url, board: Arc<Board>) -> (mpsc::Sender<Request>, Follower) {
    let (asks, requests) = mpsc::channel(1);
    let (config, absence) = (TdpConfig::new(url, bitcoin::Network::Regtest), String::new());
    let (memory, habit) = (Memory::default(), Habit::default());
    (asks, Follower { absence, config, board, requests, memory, habit })
}

/// What it had said in time was in the socket, and was not read any more.
#[tokio::test]
async fn a_provider_was_taken_for_dead_because_the_process_had_been_stopped() {
    let (identity, mut listener, url) = provider();
    let (_asks, mut follower) = follower(url, Arc::new(Board::new("stopped".to_owned())));
    let following = tokio::spawn(async move { follower.connection().await });
    let lane = HandshakeLane::start(1).unwrap();
    let adit_net::Accepted { stream, at, permit: _permit, .. } = listener.accept().await;
    let outbox = ProviderConfig::new(listener.address()).outbox;
    let mut connection = lane.respond(stream, identity, at + HANDSHAKE_PATIENCE, outbox).await.unwrap();
    let mut chain = Devnet::new(&DevnetConfig::new([1; 32]), Clock.now());
    let offers = Offers::first(Clock.unix(), Arc::new(chain.template(Clock.now())));
    let mut session = Session::new(1, Arc::new(offers), Clock.now());
    while session.frames().is_empty() {
        connection.read().await.unwrap();
        while let Some(frame) = connection.next_frame(|header| session.frame_limit(header)).unwrap() {
            session.handle_frame(frame, Clock.now()).unwrap();
        }
    }
    tokio::time::pause();
    connection.queue(session.frames()).unwrap();
    connection.flush().await.unwrap();
    tokio::time::advance(super::super::SETUP_PATIENCE * 2).await;
    connection.read().await.expect("it goes on with what it wants of templates");
    following.abort();
}

/// After a quiet minute the task turned without end and never read its socket again: no tip came, and no block went out.
#[tokio::test]
async fn a_provider_that_gives_no_signs_of_life_is_still_heard_after_quiet_minutes() {
    let (identity, listener, url) = provider();
    let config = DevnetConfig { pace: Pace::Fixed(Work::from_hashes(2)), ..DevnetConfig::new([1; 32]) };
    let mut chain = Devnet::new(&config, Clock.now());
    let template = Arc::new(chain.template(Clock.now()));
    let (publish, offers) = watch::channel(Arc::new(Offers::first(Clock.unix(), Arc::clone(&template))));
    let server = tokio::spawn(mute(listener, identity, offers));

    let board = Arc::new(Board::new("mute".to_owned()));
    let (mut templates, mut tips) = (board.templates(), board.tips());
    let (_requests, mut follower) = follower(url, board);
    follower.habit.unasked_until = Some(Clock.monotonic() + UNASKED_FOR);
    let following = tokio::spawn(async move { follower.connection().await });
    timeout(Duration::from_secs(60), templates.wait_for(Option::is_some)).await.unwrap().unwrap();

    // From now on the clock goes on by itself when nobody has anything to do; a task that turns without end holds it.
    tokio::time::pause();
    sleep(Duration::from_secs(180)).await;
    let block = adit_testkit::mining::mine(&template, bitcoin::ScriptBuf::from_bytes(vec![0x51]));
    chain.submit_block(&block.to_bytes(), Clock.now()).unwrap();
    let next = publish.borrow().with(Arc::new(chain.template(Clock.now())));
    publish.send_replace(Arc::new(next));
    let is_next = |tip: &Option<adit_share::Tip>| tip.is_some_and(|tip| tip.prev_hash == block.hash);
    timeout(Duration::from_secs(1), tips.wait_for(is_next)).await.expect("it is read").unwrap();
    following.abort();
    server.abort();
}
