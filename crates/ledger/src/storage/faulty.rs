//! A directory in memory that loses what was not synced, tears writes and fails on demand: what a disk may do on its worst day.
//!
//! It knows two states of every file: what the running system sees, and what is on the disk. A sync copies the one to the other; a
//! power cut keeps the disk, plus any part of what was on its way there. A sync that fails forgets what it should have written, so that a
//! second one succeeds without having done anything, as Linux file systems do.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{AppendFile, Storage};

/// A disk writes whole sectors, in bytes.
const SECTOR: usize = 512;

/// How long a test waits for another thread.
const PATIENCE: Duration = Duration::from_secs(60);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails, a write after a part of its bytes. All later operations work.
    Error,
    /// The power goes off in the middle of the operation: this and all later ones fail.
    PowerCut,
}

/// How many operations of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// All that change something, or make it durable.
    pub total: u64,
    /// Appends to files.
    pub appends: u64,
    /// Syncs of the data of files.
    pub data_syncs: u64,
    /// Syncs of the directory.
    pub directory_syncs: u64,
}

/// The faulty directory; clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct FaultyStorage(Arc<Shared>);

/// A file of it that is being appended to.
#[derive(Debug)]
pub struct FaultyFile {
    shared: Arc<Shared>,
    inode: usize,
}

/// Holds all data syncs back until it is dropped.
#[derive(Debug)]
pub struct HeldSyncs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    disk: Mutex<Disk>,
    /// Woken when syncs are no longer held, and when one begins to wait.
    gate: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    /// The names as the running system sees them.
    names: BTreeMap<String, usize>,
    /// The names on the disk.
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the last sync of the directory, in order.
    name_changes: Vec<NameChange>,
    operations: Operations,
    /// The number of the operation that fails, and how.
    plan: Option<(u64, Fault)>,
    dead: bool,
    lies: bool,
    holds: bool,
    /// Syncs that wait because they are held.
    held: usize,
    random: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that a sync has to write.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, usize),
    Rename(String, String),
    Remove(String),
}

impl FaultyStorage {
    /// Lets the operation with that number, counted from zero over all kinds, go wrong.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.disk().plan = Some((operation, fault));
    }

    /// From now on, syncs say that they have succeeded and do nothing; shows that a test would notice.
    pub fn lie_about_syncs(&self) {
        self.disk().lies = true;
    }

    /// Holds all data syncs back, until the value is dropped.
    #[must_use]
    pub fn hold_syncs(&self) -> HeldSyncs {
        self.disk().holds = true;
        HeldSyncs(Arc::clone(&self.0))
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> Operations {
        self.disk().operations
    }

    /// The directory that a new process finds after this one was killed: all that the system has seen. Where a power cut was to
    /// happen, the kill came in the middle of that operation instead.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut disk = self.disk().clone();
        (disk.plan, disk.dead, disk.holds, disk.held) = (None, false, false, 0);
        disk.operations = Operations::default();
        Self::with(disk)
    }

    /// The directory that is found after a power cut, one of the many possible ones.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> Self {
        let mut old = self.disk().clone();
        old.random = seed;
        let mut names = old.durable_names.clone();
        let kept = old.below(old.name_changes.len() + 1);
        old.name_changes.iter().take(kept).for_each(|change| change.apply(&mut names));
        let mut disk =
            Disk { durable_names: names.clone(), names, lies: old.lies, random: seed, ..Disk::default() };
        for index in 0..old.inodes.len() {
            let content = old.surviving(index);
            disk.inodes.push(Inode { seen: content.clone(), durable: content, dirty: BTreeSet::new() });
        }
        Self::with(disk)
    }

    /// Changes a file behind everybody's back, as a failing disk does; a missing file is created.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let Disk { inodes, names, durable_names, .. } = &mut *disk;
        let inode = *names.entry(name.to_owned()).or_insert_with(|| {
            inodes.push(Inode::default());
            inodes.len() - 1
        });
        durable_names.insert(name.to_owned(), inode);
        if let Some(inode) = inodes.get_mut(inode) {
            change(&mut inode.seen);
            inode.durable.clone_from(&inode.seen);
        }
    }

    fn with(disk: Disk) -> Self {
        Self(Arc::new(Shared { disk: Mutex::new(disk), gate: Condvar::new() }))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.disk()
    }
}

impl HeldSyncs {
    /// Blocks until a sync waits for this to be dropped.
    ///
    /// # Panics
    ///
    /// If none does so within a minute.
    pub fn wait_for_sync(&self) {
        let waited = self.0.gate.wait_timeout_while(self.0.disk(), PATIENCE, |disk| disk.held == 0);
        let disk = waited.unwrap_or_else(PoisonError::into_inner).0;
        assert!(disk.held > 0, "no sync was begun");
    }
}

impl Drop for HeldSyncs {
    fn drop(&mut self) {
        self.0.disk().holds = false;
        self.0.gate.notify_all();
    }
}

impl Shared {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    /// Writes at an offset; no hole is left, as nobody writes behind the end.
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.seen.resize(self.seen.len().max(end), 0);
        if let Some(slot) = self.seen.get_mut(offset..end) {
            slot.copy_from_slice(bytes);
        }
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    /// Puts on the disk what is dirty; what a failed sync has forgotten stays as it was, and is zero where there was nothing.
    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.copy_sector(sector, SECTOR);
        }
    }

    /// Copies the first bytes of a sector to the disk.
    fn copy_sector(&mut self, sector: usize, count: usize) {
        let seen = self.seen.iter().skip(sector * SECTOR).take(count.min(SECTOR));
        self.durable.iter_mut().skip(sector * SECTOR).zip(seen).for_each(|(durable, &seen)| *durable = seen);
    }
}

impl Disk {
    /// Counts an operation; tells whether it goes wrong.
    fn begin(&mut self) -> Result<(), io::Error> {
        let number = self.operations.total;
        self.operations.total += 1;
        match self.plan {
            _ if self.dead => {}
            Some((operation, fault)) if operation == number => self.dead = fault == Fault::PowerCut,
            _ => return Ok(()),
        }
        Err(io::Error::other("injected fault"))
    }

    /// Reading works until the power is off.
    fn check_alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Runs `change` on a file, of which only a part happens if the operation goes wrong.
    fn write(&mut self, inode: usize, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let was_dead = self.dead;
        let result = self.begin();
        let written = match &result {
            Ok(()) => bytes.len(),
            Err(_) if was_dead => 0,
            Err(_) => self.below(bytes.len() + 1),
        };
        if let (Some(inode), Some(bytes)) = (self.inodes.get_mut(inode), bytes.get(..written)) {
            inode.write(offset, bytes);
        }
        result
    }

    fn sync(&mut self, inode: usize) -> io::Result<()> {
        let result = self.begin();
        let lies = self.lies;
        let Some(inode) = self.inodes.get_mut(inode) else { return result };
        match result {
            Ok(()) if lies => {}
            Ok(()) => inode.sync(),
            // While the power goes off, any part of it may still reach the disk, so it stays dirty.
            Err(_) if self.dead => {}
            Err(_) => inode.dirty.clear(),
        }
        result
    }

    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        let was_dead = self.dead;
        let result = self.begin();
        // A change of names is whole or not at all. The one that goes wrong has happened half of the time.
        if result.is_ok() || (!was_dead && self.below(2) == 0) {
            change.apply(&mut self.names);
            self.name_changes.push(change);
        }
        result
    }

    /// What a power cut leaves of a file: what was synced, and of each sector that was on its way all, nothing or a part.
    fn surviving(&mut self, index: usize) -> Vec<u8> {
        let Some(mut inode) = self.inodes.get(index).cloned() else { return Vec::new() };
        if inode.dirty.is_empty() && inode.seen.len() == inode.durable.len() {
            return inode.durable;
        }
        let (shorter, longer) = if inode.seen.len() < inode.durable.len() {
            (inode.seen.len(), inode.durable.len())
        } else {
            (inode.durable.len(), inode.seen.len())
        };
        let len = match self.below(4) {
            0 => shorter,
            1 => longer,
            _ => shorter + self.below(longer - shorter + 1),
        };
        inode.durable.resize(len, 0);
        for sector in inode.dirty.clone() {
            let count = match self.below(4) {
                0 => 0,
                1 => self.below(SECTOR + 1),
                _ => SECTOR,
            };
            inode.copy_sector(sector, count);
        }
        inode.durable
    }

    /// A number below `bound`, the next of the sequence that the seed began (SplitMix64).
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % (bound as u64).max(1)).unwrap_or(0)
    }
}

impl Storage for FaultyStorage {
    type File = FaultyFile;

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.disk();
        disk.check_alive()?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn read(&self, name: &str, at_most: u64) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        disk.check_alive()?;
        let inode = disk.inode(name)?;
        let at_most = usize::try_from(at_most).unwrap_or(usize::MAX);
        Ok(disk
            .inodes
            .get(inode)
            .map(|inode| inode.seen.iter().copied().take(at_most).collect())
            .unwrap_or_default())
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        let mut disk = self.disk();
        let inode = disk.inodes.len();
        disk.inodes.push(Inode::default());
        disk.change_names(NameChange::Set(name.to_owned(), inode))?;
        Ok(FaultyFile { shared: Arc::clone(&self.0), inode })
    }

    fn rewrite_end(&self, name: &str, offset: u64, tail: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        let index = disk.inode(name)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        disk.write(index, offset, tail)?;
        if let Some(inode) = disk.inodes.get_mut(index) {
            inode.seen.truncate(offset + tail.len());
        }
        disk.sync(index)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.inode(from)?;
        disk.change_names(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.inode(name)?;
        disk.change_names(NameChange::Remove(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operations.directory_syncs += 1;
        disk.begin()?;
        if !disk.lies {
            disk.durable_names = disk.names.clone();
            disk.name_changes.clear();
        }
        Ok(())
    }
}

impl AppendFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.shared.disk();
        disk.operations.appends += 1;
        let end = disk.inodes.get(self.inode).map_or(0, |inode| inode.seen.len());
        disk.write(self.inode, end, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut disk = self.shared.disk();
        disk.operations.data_syncs += 1;
        while disk.holds {
            disk.held += 1;
            self.shared.gate.notify_all();
            disk = self.shared.gate.wait(disk).unwrap_or_else(PoisonError::into_inner);
            disk.held -= 1;
        }
        disk.sync(self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::super::place_file;
    use super::*;

    const SEEDS: core::ops::Range<u64> = 0..200;

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_be_lost_torn_or_kept() {
        let storage = FaultyStorage::default();
        let mut file = place_file(&storage, "a", &[1; 700]).unwrap();
        file.append(&[2; 1500]).unwrap();
        let mut lengths = BTreeSet::new();
        let mut torn = 0;
        for seed in SEEDS {
            let found = storage.after_power_cut(seed).read("a", 10_000).unwrap();
            assert_eq!(found[..700], [1; 700]);
            assert!(found.len() <= 2200 && found[700..].iter().all(|&byte| byte == 2 || byte == 0));
            torn += usize::from(found[700..].contains(&2) && found[700..].contains(&0));
            lengths.insert(found.len());
        }
        assert!(lengths.contains(&700) && lengths.contains(&2200) && lengths.len() > 20 && torn > 20);
        file.sync_data().unwrap();
        for seed in SEEDS {
            assert_eq!(storage.after_power_cut(seed).read("a", 10_000).unwrap().len(), 2200);
        }
        assert_eq!(storage.after_kill().read("a", 10_000).unwrap().len(), 2200);
    }

    #[test]
    fn names_are_lost_in_order_until_the_directory_is_synced() {
        let storage = FaultyStorage::default();
        place_file(&storage, "a", b"old").unwrap();
        drop(storage.create("b").unwrap());
        storage.rename("b", "a").unwrap();
        let mut outcomes = BTreeSet::new();
        for seed in SEEDS {
            let after = storage.after_power_cut(seed);
            outcomes.insert((after.list().unwrap(), after.read("a", 10).unwrap()));
        }
        let (a, both) = (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]);
        let expected = [(a.clone(), b"old".to_vec()), (both, b"old".to_vec()), (a, Vec::new())];
        assert_eq!(outcomes, expected.into());
    }

    #[test]
    fn a_failed_sync_forgets_and_its_repetition_lies() {
        let storage = FaultyStorage::default();
        let mut file = place_file(&storage, "a", b"kept").unwrap();
        file.append(b"lost").unwrap();
        storage.fail_at(storage.operations().total, Fault::Error);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(storage.read("a", 10).unwrap(), b"keptlost");
        for seed in SEEDS {
            assert_eq!(storage.after_power_cut(seed).read("a", 10).unwrap(), b"kept\0\0\0\0");
        }
        storage.rewrite_end("a", 4, b"lost").unwrap();
        assert_eq!(storage.after_power_cut(0).read("a", 10).unwrap(), b"keptlost");
    }

    #[test]
    fn after_a_power_cut_nothing_works() {
        let storage = FaultyStorage::default();
        let mut file = place_file(&storage, "a", b"").unwrap();
        storage.fail_at(storage.operations().total, Fault::PowerCut);
        file.append(b"1").unwrap_err();
        file.append(b"2").unwrap_err();
        file.sync_data().unwrap_err();
        storage.sync_directory().unwrap_err();
        storage.list().unwrap_err();
        storage.read("a", 1).unwrap_err();
        assert_eq!(storage.operations().data_syncs, 2);
    }
}
