//! The miner against a server on a real socket, whose frames are written by hand and which checks shares with rust-bitcoin.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod server;

use core::time::Duration;

use adit_messages::error_code::{OpenMiningChannelError, SubmitSharesError};
use adit_messages::flags::MiningSuccessFlags;
use adit_messages::{common, mining};
use adit_miner::{ChannelKind, Failure, Miner, MinerConfig, MinerHandle, Stats, Url};
use adit_net::OsRng;
use adit_transport::AuthorityKeyPair;
use adit_units::Hashrate;
use server::{PATIENCE, Peer, Server};

/// Waits until the miner's counters are as wanted.
async fn until(miner: &MinerHandle, wanted: impl Fn(&Stats) -> bool) -> Stats {
    let wait = async {
        loop {
            let stats = miner.stats();
            if wanted(&stats) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("still {:?}", miner.stats()))
}

/// Stops the miner, with a server that closes its end when the miner has closed its own.
async fn stop(miner: MinerHandle, mut peer: Peer) -> bool {
    let hang_up = async {
        let said_goodbye = peer.goodbye_or_end().await;
        drop(peer);
        said_goodbye
    };
    tokio::join!(miner.stop(), hang_up).1
}

fn config(url: Url, channel: ChannelKind) -> MinerConfig {
    let mut config = MinerConfig::new(url, "account.worker");
    config.channel = channel;
    config.threads = core::num::NonZeroUsize::new(2);
    config.nominal_hashrate = Some(Hashrate::from_hashes_per_second(1_000_000));
    config
}

/// A miner whose channel is open and who has a job.
async fn mining(server: &Server, channel: ChannelKind) -> (MinerHandle, Peer) {
    let miner = Miner::start(config(server.url(), channel)).unwrap();
    let mut peer = server.accept().await;
    peer.open(channel).await;
    peer.send_future_job(1, true).await;
    peer.send_prev_hash(1).await;
    (miner, peer)
}

#[tokio::test]
async fn an_extended_channel_is_mined_on() {
    let server = Server::start();
    let (miner, mut peer) = mining(&server, ChannelKind::Extended).await;
    for number in 1..=50 {
        let share = peer.share().await;
        assert_eq!((share.sequence_number, share.job_id, share.extranonce.len()), (number, 1, 14));
    }
    peer.accept_shares(50).await;
    let error_code = SubmitSharesError::StaleShare.to_wire();
    peer.send(mining::SubmitSharesError { channel_id: server::CHANNEL, sequence_number: 51, error_code })
        .await;
    let stats = until(&miner, |stats| stats.accepted == 50 && stats.rejected.total() == 1).await;
    assert_eq!(stats.rejected.iter().collect::<Vec<_>>(), [("stale-share", 1)]);
    assert!(stats.connected && stats.submitted >= 50 && stats.hashes > 0);
    assert_eq!((stats.connections, stats.threads, stats.last_error), (1, 2, None));
    // The network's target in these tests is as easy as can be: half of all hashes are blocks.
    assert!(stats.blocks > 0);
    stop(miner, peer).await;
}

#[tokio::test]
async fn a_standard_channel_is_mined_on() {
    let server = Server::start();
    let (miner, mut peer) = mining(&server, ChannelKind::Standard).await;
    for _ in 0..20 {
        assert_eq!(peer.share().await.job_id, 1);
    }
    let speed = until(&miner, |stats| stats.hashrate > Hashrate::default()).await;
    assert!(speed.hashes > 0);
    stop(miner, peer).await;
}

#[tokio::test]
async fn without_version_rolling_the_version_stays() {
    let server = Server::start();
    let miner = Miner::start(config(server.url(), ChannelKind::Extended)).unwrap();
    let mut peer = server.accept().await;
    peer.open(ChannelKind::Extended).await;
    peer.send_future_job(1, false).await;
    peer.send_prev_hash(1).await;
    for _ in 0..20 {
        assert_eq!(peer.share().await.version, server::VERSION);
    }
    stop(miner, peer).await;
}

#[tokio::test]
async fn new_jobs_and_new_tips_are_turned_to() {
    let server = Server::start();
    let (miner, mut peer) = mining(&server, ChannelKind::Extended).await;
    peer.share().await;
    peer.send_active_job(2).await;
    while peer.share().await.job_id != 2 {}
    peer.send_future_job(3, true).await;
    peer.send_prev_hash(3).await;
    while peer.share().await.job_id != 3 {}
    stop(miner, peer).await;
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let server = Server::start();
    let (miner, mut peer) = mining(&server, ChannelKind::Extended).await;
    peer.share().await;
    drop(peer);
    let stats = until(&miner, |stats| !stats.connected).await;
    assert!(stats.last_error.is_some() && stats.target.is_none());
    let mut peer = server.accept().await;
    peer.open(ChannelKind::Extended).await;
    peer.send_future_job(7, true).await;
    peer.send_prev_hash(7).await;
    // Shares are numbered from the start and none is of the connection that was lost.
    let share = peer.share().await;
    assert_eq!((share.sequence_number, share.job_id), (1, 7));
    assert_eq!(until(&miner, |stats| stats.connected).await.connections, 2);
    stop(miner, peer).await;
}

#[tokio::test]
async fn a_server_that_misbehaves_is_left_and_tried_again() {
    let server = Server::start();
    let (miner, mut peer) = mining(&server, ChannelKind::Extended).await;
    peer.send_prev_hash(99).await;
    peer.goodbye_or_end().await;
    let stats = until(&miner, |stats| stats.last_error.is_some()).await;
    assert!(stats.last_error.unwrap().contains("broke the protocol"));
    let mut peer = server.accept().await;
    peer.open(ChannelKind::Extended).await;
    stop(miner, peer).await;
}

#[tokio::test]
async fn a_redirection_leads_to_a_server_of_the_same_authority() {
    let authority = AuthorityKeyPair::generate(&mut OsRng);
    let (first, second) = (Server::with_authority(&authority), Server::with_authority(&authority));
    let (miner, mut peer) = mining(&first, ChannelKind::Extended).await;
    let there = common::Reconnect { new_host: "".try_into().unwrap(), new_port: second.url().port() };
    peer.send(there).await;
    assert!(peer.goodbye_or_end().await, "it closes its channel before it goes");
    drop(peer);
    let mut peer = second.accept().await;
    peer.open(ChannelKind::Extended).await;
    // When that one is gone, it asks at home again.
    drop(peer);
    let mut peer = first.accept().await;
    peer.open(ChannelKind::Extended).await;
    stop(miner, peer).await;
}

#[tokio::test]
async fn a_redirection_to_a_stranger_leads_home_again() {
    let (first, stranger) = (Server::start(), Server::start());
    let (miner, mut peer) = mining(&first, ChannelKind::Extended).await;
    let there =
        common::Reconnect { new_host: "127.0.0.1".try_into().unwrap(), new_port: stranger.url().port() };
    peer.send(there).await;
    peer.goodbye_or_end().await;
    drop(peer);
    // The stranger's side of the handshake is over before the miner has looked at the certificate.
    stranger.accept().await;
    let mut peer = first.accept().await;
    peer.open(ChannelKind::Extended).await;
    let stats = until(&miner, |stats| stats.connected).await;
    assert_eq!(stats.connections, 2, "the stranger does not count");
    stop(miner, peer).await;
}

#[tokio::test]
async fn a_server_without_the_right_key_is_not_mined_for() {
    let server = Server::start();
    let other = AuthorityKeyPair::generate(&mut OsRng).public_key();
    let url = Url::new("127.0.0.1", server.url().port(), Some(other)).unwrap();
    let miner = Miner::start(config(url, ChannelKind::Extended)).unwrap();
    // The server's side of the handshake is over before the miner has looked at the certificate.
    server.accept().await;
    let stats = until(&miner, |stats| stats.last_error.is_some()).await;
    assert_eq!((stats.connected, stats.connections), (false, 0));
    miner.stop().await;
}

#[tokio::test]
async fn a_refusal_ends_a_miner_that_never_mined() {
    let server = Server::start();
    let miner = Miner::start(config(server.url(), ChannelKind::Extended)).unwrap();
    let mut peer = server.accept().await;
    peer.set_up(MiningSuccessFlags::NONE).await;
    peer.request().await;
    let error_code = OpenMiningChannelError::UnknownUser.to_wire();
    peer.send(mining::OpenMiningChannelError { request_id: server::REQUEST, error_code }).await;
    let failure = tokio::time::timeout(PATIENCE, miner.failure()).await.unwrap();
    assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
    assert_eq!(failure.to_string(), "the server refuses to open a channel: unknown-user");
    miner.stop().await;
}

#[tokio::test]
async fn a_refusal_later_on_is_waited_out() {
    let server = Server::start();
    let (miner, peer) = mining(&server, ChannelKind::Extended).await;
    until(&miner, |stats| stats.connected).await;
    drop(peer);
    let mut peer = server.accept().await;
    peer.set_up(MiningSuccessFlags::NONE).await;
    peer.request().await;
    let error_code = OpenMiningChannelError::ChannelCapacityExhausted.to_wire();
    peer.send(mining::OpenMiningChannelError { request_id: server::REQUEST, error_code }).await;
    drop(peer);
    let mut peer = server.accept().await;
    peer.open(ChannelKind::Extended).await;
    until(&miner, |stats| stats.connections == 2).await;
    stop(miner, peer).await;
}

#[tokio::test]
async fn nobody_is_mined_for_without_a_key_to_know_them_by() {
    // An address for documentation; were it tried, nobody would answer.
    let miner = Miner::start(config("192.0.2.1:34254".parse().unwrap(), ChannelKind::Extended)).unwrap();
    let failure = tokio::time::timeout(PATIENCE, miner.failure()).await.unwrap();
    assert!(matches!(failure, Failure::Unauthenticated(_)), "{failure:?}");
    miner.stop().await;
}

#[tokio::test]
async fn stopping_says_goodbye_and_ends_the_threads() {
    let server = Server::start();
    let (miner, mut peer) = mining(&server, ChannelKind::Extended).await;
    peer.share().await;
    assert!(stop(miner, peer).await);
}

#[tokio::test]
async fn a_miner_that_is_not_connected_stops_too() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let miner = Miner::start(config(free.to_string().parse().unwrap(), ChannelKind::Extended)).unwrap();
    until(&miner, |stats| stats.last_error.is_some()).await;
    tokio::time::timeout(PATIENCE, miner.stop()).await.unwrap();
}

#[tokio::test]
async fn the_speed_to_tell_is_measured_if_nobody_says_it() {
    let server = Server::start();
    let mut config = config(server.url(), ChannelKind::Extended);
    config.nominal_hashrate = None;
    let miner = Miner::start(config).unwrap();
    let mut peer = server.accept().await;
    peer.set_up(MiningSuccessFlags::NONE).await;
    let told = peer.request().await;
    assert!(told > Hashrate::from_hashes_per_second(10_000), "{told}");
    stop(miner, peer).await;
}
