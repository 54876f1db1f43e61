//! The seam between the log and the file system: one directory, and the few operations whose order makes a crash harmless.

#[cfg(any(test, feature = "faulty-storage"))]
pub mod faulty;

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A directory in which files are created, appended to and renamed, and are durable only once told to be.
pub trait Storage: Debug + Send + Sync + 'static {
    /// A file that is being appended to.
    type File: AppendFile;

    /// The file's path, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// The names of all files.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The first `at_most` bytes of a file.
    ///
    /// # Errors
    ///
    /// If there is no such file or it cannot be read.
    fn read(&self, name: &str, at_most: u64) -> io::Result<Vec<u8>>;

    /// An empty file; what stood under that name is gone. The name is durable only after [`Self::sync_directory`].
    ///
    /// # Errors
    ///
    /// If the file cannot be created.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Writes `tail` at `offset`, makes it the end of the file, and returns once all of that is durable.
    ///
    /// # Errors
    ///
    /// If the file cannot be written or synced.
    fn rewrite_end(&self, name: &str, offset: u64, tail: &[u8]) -> io::Result<()>;

    /// Gives a file another name, replacing what stands there, in one step. Durable only after [`Self::sync_directory`].
    ///
    /// # Errors
    ///
    /// If there is no such file or it cannot be renamed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable only after [`Self::sync_directory`].
    ///
    /// # Errors
    ///
    /// If there is no such file or it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns once the names of all files are durable.
    ///
    /// # Errors
    ///
    /// If that failed; then it is unknown which of the names are.
    fn sync_directory(&self) -> io::Result<()>;
}

/// A file that is being appended to.
pub trait AppendFile: Debug + Send + 'static {
    /// Adds bytes at the end. They are durable only after [`Self::sync_data`].
    ///
    /// # Errors
    ///
    /// If not all bytes could be written; some may have been.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns once all bytes are durable.
    ///
    /// # Errors
    ///
    /// If that failed. The bytes may be lost although they can still be read, and trying again proves nothing.
    fn sync_data(&mut self) -> io::Result<()>;
}

/// Puts a whole file in place: after a crash, there is either this one under `name` or what stood there before.
///
/// # Errors
///
/// If any step fails; then it is unknown which of the two stands there.
pub(crate) fn place_file<S: Storage>(storage: &S, name: &str, bytes: &[u8]) -> io::Result<S::File> {
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    let mut file = storage.create(&temporary)?;
    file.append(bytes)?;
    file.sync_data()?;
    storage.rename(&temporary, name)?;
    storage.sync_directory()?;
    Ok(file)
}

/// Removes what an interrupted [`place_file`] left behind.
///
/// # Errors
///
/// If such a file cannot be removed.
pub(crate) fn remove_leftovers<S: Storage>(storage: &S) -> io::Result<()> {
    let names = storage.list()?;
    names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)).try_for_each(|name| storage.remove(name))
}

/// Ends the name of a file that is not in place yet.
const TEMPORARY_SUFFIX: &str = ".new";

/// The file whose lock says that a directory is in use.
const LOCK_NAME: &str = "lock";

/// A directory of the local file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    /// Held for as long as this lives; a mere reader has none.
    _lock: Option<File>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Somebody else has it open for writing.
    #[error(
        "{} is in use by another process: stop that one, or give this one a directory and an instance number of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file system refused.
    #[error("cannot open the directory {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

impl Directory {
    /// Opens a directory for writing, creating it and those above it where they are missing, and locks it until the value is
    /// dropped.
    ///
    /// # Errors
    ///
    /// If another process (or another value in this one) has it locked, or the file system refuses.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
        create_durably(path).map_err(failed)?;
        let mut directory = Self::view(path)?;
        let mut options = OpenOptions::new();
        let lock =
            options.write(true).create(true).truncate(false).open(path.join(LOCK_NAME)).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => directory._lock = Some(lock),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DirectoryError::InUse(path.to_owned())),
            Err(errno) => return Err(failed(errno.into())),
        }
        Ok(directory)
    }

    /// Opens a directory for reading, while another process may be writing.
    ///
    /// # Errors
    ///
    /// If there is no such directory or the file system refuses.
    pub fn view(path: &Path) -> Result<Self, DirectoryError> {
        let handle =
            File::open(path).map_err(|source| DirectoryError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), handle, _lock: None })
    }
}

/// Creates a directory and those above it, so that none of them is lost in a power cut.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

impl Storage for Directory {
    type File = File;

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // What is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn read(&self, name: &str, at_most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(name))?.take(at_most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        File::create(self.path(name))
    }

    fn rewrite_end(&self, name: &str, offset: u64, tail: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.write_all_at(tail, offset)?;
        file.set_len(offset + tail.len() as u64)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

impl AppendFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Self::sync_data(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_writer_and_any_number_of_readers() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("some/where");
        let first = Directory::open(&path).unwrap();
        let second = Directory::open(&path);
        assert!(matches!(second, Err(DirectoryError::InUse(in_use)) if in_use == path));
        assert_eq!(Directory::view(&path).unwrap().list().unwrap(), [LOCK_NAME]);
        drop(first);
        Directory::open(&path).unwrap();
    }

    #[test]
    fn what_a_directory_cannot_be_is_an_error() {
        let top = tempfile::tempdir().unwrap();
        assert!(matches!(Directory::view(&top.path().join("nowhere")), Err(DirectoryError::Io { .. })));
        fs::write(top.path().join("file"), b"").unwrap();
        assert!(matches!(Directory::open(&top.path().join("file/below")), Err(DirectoryError::Io { .. })));
    }

    #[test]
    fn files_are_placed_cut_and_renamed() {
        let top = tempfile::tempdir().unwrap();
        let directory = Directory::open(top.path()).unwrap();
        let mut file = place_file(&directory, "a", b"one ").unwrap();
        file.append(b"two three").unwrap();
        directory.rewrite_end("a", 4, b"TWO").unwrap();
        assert_eq!(directory.read("a", 100).unwrap(), b"one TWO");
        assert_eq!(directory.read("a", 3).unwrap(), b"one");
        drop(directory.create("b.new").unwrap());
        directory.rename("a", "c").unwrap();
        remove_leftovers(&directory).unwrap();
        let mut names = directory.list().unwrap();
        names.sort();
        assert_eq!(names, ["c", LOCK_NAME]);
    }
}
