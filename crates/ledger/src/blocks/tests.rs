//! A saved block is there at every later start, until it is settled.

use super::*;
use crate::storage::faulty::{Fault, FaultyStorage};

fn block(number: u8, height: u32) -> SavedBlock {
    SavedBlock {
        hash: [number; 32],
        height: Height(height),
        bytes: vec![number; 80 + usize::from(number) * 10],
    }
}

fn save(store: &BlockStore<FaultyStorage>, block: &SavedBlock) -> Result<(), BlockStoreError> {
    store.save(block.hash, block.height, &block.bytes)
}

fn pending(storage: &FaultyStorage) -> Vec<SavedBlock> {
    let pending = BlockStore::open_in(storage.clone()).unwrap().pending().unwrap();
    assert_eq!(pending.damaged, []);
    pending.blocks
}

#[test]
fn blocks_are_pending_lowest_first_until_they_are_settled() {
    let storage = FaultyStorage::default();
    let store = BlockStore::open_in(storage.clone()).unwrap();
    let blocks = [block(1, 1000), block(2, 999), block(3, 1000)];
    for block in &blocks {
        save(&store, block).unwrap();
    }
    save(&store, &blocks[0]).unwrap();
    let in_order = [blocks[1].clone(), blocks[0].clone(), blocks[2].clone()];
    assert_eq!(store.pending().unwrap().blocks, in_order);

    store.settle(blocks[0].hash, BlockFate::InChain).unwrap();
    store.settle(blocks[1].hash, BlockFate::Stale).unwrap();
    assert_eq!(pending(&storage.after_power_cut(1)), [blocks[2].clone()]);
    store.settle(blocks[2].hash, BlockFate::Refused).unwrap();
    assert_eq!(pending(&storage.after_power_cut(2)), []);
    assert!(matches!(store.settle(blocks[2].hash, BlockFate::Stale), Err(BlockStoreError::NotPending(_))));

    let names = storage.list().unwrap();
    let name = |number: &str, height: u32, fate| format!("{height:010}-{}.{fate}", number.repeat(32));
    assert_eq!(names, [name("02", 999, "stale"), name("01", 1000, "in-chain"), name("03", 1000, "refused")]);
}

#[test]
fn a_hash_is_written_as_explorers_do() {
    let mut hash = [0; 32];
    hash[0] = 0xab;
    assert_eq!(file_name(Height(5), hash, PENDING), format!("0000000005-{}ab.pending", "00".repeat(31)));
}

#[test]
fn a_saved_block_survives_a_power_cut_at_any_point() {
    let first = block(1, 10);
    let second = block(2, 11);
    for operation in 0..12 {
        for (fault, seed) in
            [(Fault::Error, 0), (Fault::PowerCut, 1), (Fault::PowerCut, 2), (Fault::PowerCut, 3)]
        {
            let storage = FaultyStorage::default();
            let store = BlockStore::open_in(storage.clone()).unwrap();
            save(&store, &first).unwrap();
            storage.fail_at(storage.operations().total + operation, fault);
            let saved = save(&store, &second);
            let settled = store.settle(first.hash, BlockFate::InChain);

            for after in [storage.after_power_cut(seed), storage.after_kill()] {
                let found = pending(&after);
                assert!(found.contains(&second) || saved.is_err());
                assert!(!found.contains(&first) || settled.is_err());
                let first_is_kept = found.contains(&first)
                    || after.list().unwrap().iter().any(|name| name.ends_with(BlockFate::InChain.suffix()));
                assert!(first_is_kept);
                assert!(found.iter().all(|block| [&first, &second].contains(&block)));
            }
        }
    }
}

#[test]
fn a_damaged_file_is_reported_and_keeps_no_other_back() {
    let storage = FaultyStorage::default();
    let store = BlockStore::open_in(storage.clone()).unwrap();
    let blocks = [block(1, 10), block(2, 11)];
    for block in &blocks {
        save(&store, block).unwrap();
    }
    let name = file_name(blocks[0].height, blocks[0].hash, PENDING);
    let good = storage.read(&name, 10_000).unwrap();
    for place in 0..good.len() {
        storage.tamper(&name, |bytes| bytes[place] ^= 4);
        let found = store.pending().unwrap();
        assert_eq!(found.blocks, blocks[1..]);
        assert_eq!(found.damaged.len(), 1);
        assert!(found.damaged[0].to_string().contains(&name));
        storage.tamper(&name, |bytes| bytes[place] ^= 4);
    }
    for len in 0..good.len() {
        assert_eq!(unwrap(&good[..len]), None);
    }
    assert_eq!(unwrap(&good), Some(blocks[0].clone()));
}

#[test]
fn the_bytes_are_those_of_the_documentation() {
    let file = wrap([9; 32], Height(0x0102_0304), b"block");
    let mut expected = b"\x8aADITBLK\x01\x00\x04\x03\x02\x01".to_vec();
    expected.extend([9; 32]);
    expected.extend(b"\x05\x00\x00\x00block");
    let checksum = crc32c::crc32c(&expected).to_le_bytes();
    expected.extend(checksum);
    assert_eq!(file, expected);
    assert_eq!(file.len(), WRAPPING_LEN + 5);
}

#[test]
fn what_is_larger_than_any_block_is_refused() {
    let store = BlockStore::open_in(FaultyStorage::default()).unwrap();
    let largest = vec![7; BLOCK_BYTES_MAX];
    store.save([1; 32], Height(1), &largest).unwrap();
    assert_eq!(store.pending().unwrap().blocks[0].bytes, largest);
    let error = store.save([2; 32], Height(1), &vec![7; BLOCK_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(error, BlockStoreError::TooLarge(4_000_001)));
}

#[test]
fn a_directory_has_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlockStore::open(&dir.path().join("blocks")).unwrap();
    let found = block(5, 50);
    store.save(found.hash, found.height, &found.bytes).unwrap();
    let second = BlockStore::open(&dir.path().join("blocks"));
    assert!(matches!(second, Err(BlockStoreError::Directory(DirectoryError::InUse(_)))));
    drop(store);
    let store = BlockStore::open(&dir.path().join("blocks")).unwrap();
    assert_eq!(store.pending().unwrap().blocks, [found]);
}
