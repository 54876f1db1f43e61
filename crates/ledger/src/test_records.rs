//! Share records for tests: numbered ones, and arbitrary ones.

use std::sync::Arc;

use adit_channel::{
    CustomShare, DeclarationId, Percent, RewardKind, ShareKind, ShareRecord, UserIdentity, WorkerName,
};
use adit_units::{ChannelId, ConnectionId, Height, JobId, JobTag, Sats, SequenceNumber, UnixTime, Work};
use proptest::prelude::*;

/// A kind of reward for each number.
fn reward(number: u64) -> RewardKind {
    let percent = u8::try_from(number).ok().and_then(Percent::new);
    match number {
        100 => RewardKind::Solo,
        101 => RewardKind::Donated,
        _ => percent.map_or(RewardKind::Pooled, RewardKind::Split),
    }
}

/// A record unlike that of any other number, of a length that varies with it.
pub(crate) fn record(number: u64) -> ShareRecord {
    let low = u32::try_from(number & 0xffff_ffff).unwrap();
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    let user = format!("account{}.rig{}", number % 7, "x".repeat(usize::try_from(number % 23).unwrap()));
    ShareRecord {
        received: UnixTime::from_millis(1_790_000_000_000 + number),
        connection: ConnectionId(low % 5 + 1),
        channel: ChannelId(low % 3),
        sequence_number: SequenceNumber(low),
        tag: JobTag { instance: 1, boot: 2, job: JobId(low) },
        height: Height(900_000),
        work: Work::from_hashes(u128::from(number) << 40),
        hash,
        kind: if number.is_multiple_of(11) { ShareKind::Block } else { ShareKind::Share },
        reward: reward(number % 104),
        user: UserIdentity::from_wire(user.as_bytes()).unwrap(),
        worker: number.is_multiple_of(3).then(|| WorkerName::from_wire(b"w1").unwrap()),
        custom: number.is_multiple_of(5).then(|| custom([7; 32], [number, number + 1, number + 2])),
    }
}

/// What is known of a job that a miner has made.
fn custom(declaration: [u8; 32], [fees, pays_pool, value]: [u64; 3]) -> Arc<CustomShare> {
    let [fees, pays_pool, value] = [fees, pays_pool, value].map(Sats::from_sats);
    Arc::new(CustomShare { declaration: DeclarationId(declaration), fees, pays_pool, value })
}

/// The records with these numbers.
pub(crate) fn records(numbers: core::ops::Range<u64>) -> Vec<ShareRecord> {
    numbers.map(record).collect()
}

/// Any record.
pub(crate) fn any_record() -> impl Strategy<Value = ShareRecord> {
    let numbers = any::<(u64, u32, u32, u32, [u8; JobTag::LEN], u32, u128, [u8; 32], bool)>();
    (
        numbers,
        0_u64..102,
        "[^\\p{C}\\p{Zl}\\p{Zp}]{0,60}",
        prop::option::of("[ -~]{0,32}"),
        any::<Option<([u8; 32], [u64; 3])>>(),
    )
        .prop_map(|(numbers, rewarded, user, worker, customs)| {
            let (received, connection, channel, sequence_number, tag, height, work, hash, block) = numbers;
            ShareRecord {
                received: UnixTime::from_millis(received),
                connection: ConnectionId(connection),
                channel: ChannelId(channel),
                sequence_number: SequenceNumber(sequence_number),
                tag: JobTag::from_bytes(tag),
                height: Height(height),
                work: Work::from_hashes(work),
                hash,
                kind: if block { ShareKind::Block } else { ShareKind::Share },
                reward: reward(rewarded),
                user: UserIdentity::from_wire(user.as_bytes()).unwrap(),
                worker: worker.map(|name| WorkerName::from_wire(name.as_bytes()).unwrap()),
                custom: customs.map(|(declaration, sats)| custom(declaration, sats)),
            }
        })
}
