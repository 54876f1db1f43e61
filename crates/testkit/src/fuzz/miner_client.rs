//! Frames from any server, given to the miner's client.

use core::time::Duration;
use std::sync::Arc;

use adit_messages::{Direction, Protocol, decode};
use adit_miner::{ChannelKind, Client, ClientConfig, Device, Event, Extranonce, Solution, Work};
use adit_transport::Frame;
use adit_units::{Hashrate, Monotonic, Target};

/// The first byte chooses the kind of channel; the rest are frames, back to back.
pub fn run(bytes: &[u8]) {
    let Some((kind, mut rest)) = bytes.split_first() else { return };
    let channel = if kind & 1 == 0 { ChannelKind::Standard } else { ChannelKind::Extended };
    let mut now = Monotonic::default();
    let mut client = client(channel);
    while let Some((frame, behind)) = Frame::split_from(rest) {
        rest = behind;
        now = now + Duration::from_millis(1);
        // The transport refuses what is longer than the client allows, and the client has ended when it answers an error.
        let too_long = frame.payload.len() > client.frame_limit(&frame.header);
        if too_long || client.handle_frame(frame, now).is_err() {
            break;
        }
        while let Some(event) = client.poll_event() {
            if let Event::Work(work) = event {
                check(&mut client, &work);
            }
        }
    }
    client.close();
    check_frames(&mut client);
}

fn client(channel: ChannelKind) -> Client {
    let config = ClientConfig {
        host: "pool.example".into(),
        port: 34254,
        device: Device::default(),
        user: "account.worker".into(),
        channel,
        nominal_hashrate: Hashrate::from_hashes_per_second(1),
        max_target: Target::MAX,
        min_extranonce_size: 4,
    };
    Client::new(config, Monotonic::default()).expect("all texts are short")
}

/// Work that was just given can be hashed and its shares submitted.
fn check(client: &mut Client, work: &Arc<Work>) {
    // Even where the first time is the last that a header can express.
    let slice = work.slice(0).expect("there is always a first slice");
    assert!(slice.extranonce.as_bytes().len() <= Extranonce::MAX_LEN);
    assert_eq!(slice.version, work.version);
    let header = work.header(&slice);
    assert_eq!(header[4..36], work.tip.prev_hash);
    let (version, extranonce, ntime) = (slice.version, slice.extranonce, work.ntime(&slice));
    let solution = Solution { work: Arc::clone(work), nonce: 0, ntime, version, extranonce, hash: [0; 32] };
    client.submit(&solution).expect("the work is of the present tip");
}

/// All that the client says is meant for servers.
fn check_frames(client: &mut Client) {
    for frame in client.frames().iter() {
        let message = decode(Protocol::Mining, frame).expect("the client writes messages");
        assert_ne!(message.info().direction, Direction::ToClient, "{}", message.info().name);
    }
}
