//! `adit keys`: the authority key that miners pin, and the server key that it signs.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_channel::TokenKey;
use adit_net::{Clock, OsRng};
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, Identity, StaticKeyPair};
use adit_units::UnixTime;
use anyhow::{Context as _, bail};

use crate::cli::KeysCommand;

/// How long before its making a certificate begins to hold, so that miners whose clocks are behind accept it.
const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);

const SECS_PER_DAY: u32 = 24 * 60 * 60;

/// Does what the subcommand says.
///
/// # Errors
///
/// If a key file cannot be read, understood or written.
pub(crate) fn run(command: &KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Authority { out } => {
            make_authority(out)?;
            let key = read_authority(out)?.public_key();
            println!("wrote {}; keep it off the server", out.display());
            println!("miners pin the public key {key}");
        }
        KeysCommand::Server { authority, out, days } => {
            make_server(authority, out, *days)?;
            println!("wrote {}, good for {days} days", out.display());
        }
        KeysCommand::Rotate { authority, server, days } => rotate(authority, server, *days)?,
        KeysCommand::Token { out } => {
            write_secret(out, &TokenKey::generate(&mut OsRng).to_text(), false)?;
            println!("wrote {}; the pool and its job declarator server need the same", out.display());
        }
        KeysCommand::Show { file } => show(file)?,
    }
    Ok(())
}

/// Writes a new authority key.
pub(crate) fn make_authority(out: &Path) -> anyhow::Result<()> {
    let key = AuthorityKeyPair::generate(&mut OsRng);
    write_secret(out, &key.to_text(), false)
}

/// Writes a new server key that the authority signs for some days from now.
pub(crate) fn make_server(authority: &Path, out: &Path, days: u32) -> anyhow::Result<()> {
    let identity = certify(&read_authority(authority)?, days)?;
    write_secret(out, &identity.to_text(), false)
}

/// A new server key, signed for some days from now.
pub(crate) fn certify(authority: &AuthorityKeyPair, days: u32) -> anyhow::Result<Identity> {
    let now = Clock.now().unix.to_millis();
    let from = now.saturating_sub(millis(BACKDATED));
    let until = now.saturating_add(u64::from(days) * 24 * 60 * 60 * 1000);
    let key = StaticKeyPair::generate(&mut OsRng);
    Ok(Identity::new(authority, key, UnixTime::from_millis(from), UnixTime::from_millis(until))?)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a server's key and certificate.
pub(crate) fn read_identity(file: &Path) -> anyhow::Result<Identity> {
    let text = read(file)?;
    Identity::from_text(&text).with_context(|| format!("{} is not a server key", file.display()))
}

/// The public key that miners of this server pin.
pub(crate) fn authority_public_key(server: &Path) -> anyhow::Result<AuthorityPublicKey> {
    Ok(read_identity(server)?.authority())
}

/// Reads the secret that seals tokens, and refuses one that is none any more.
pub(crate) fn read_token_key(file: &Path) -> anyhow::Result<TokenKey> {
    let text = read(file).context("`adit keys token` makes one")?;
    if let Some(complaint) = open_to_others(file)? {
        bail!("{complaint}");
    }
    TokenKey::from_text(&text).with_context(|| format!("{} is not a token key", file.display()))
}

fn read_authority(file: &Path) -> anyhow::Result<AuthorityKeyPair> {
    let text = read(file)?;
    AuthorityKeyPair::from_text(&text).with_context(|| format!("{} is not an authority key", file.display()))
}

fn read(file: &Path) -> anyhow::Result<zeroize::Zeroizing<String>> {
    fs::read_to_string(file)
        .map(zeroize::Zeroizing::new)
        .with_context(|| format!("cannot read the key file {}", file.display()))
}

/// Says which others than the owner can read or write the file, if any.
pub(crate) fn open_to_others(file: &Path) -> anyhow::Result<Option<String>> {
    let mode = fs::metadata(file)
        .with_context(|| format!("cannot look at {}", file.display()))?
        .permissions()
        .mode();
    let open = mode & 0o077 != 0;
    Ok(open.then(|| {
        format!("others can use {}: its mode is {:03o}; run chmod 600 on it", file.display(), mode & 0o777)
    }))
}

/// Makes a new server key under the same authority; the old one stays beside it until miners have moved.
fn rotate(authority: &Path, server: &Path, days: u32) -> anyhow::Result<()> {
    let pair = read_authority(authority)?;
    let old = read_identity(server)?;
    if old.authority() != pair.public_key() {
        bail!(
            "{} was signed by {}, not by {}; miners that pin the one would refuse the other",
            server.display(),
            old.authority(),
            pair.public_key()
        );
    }
    let new = certify(&pair, days)?;
    let kept = with_suffix(server, ".old");
    fs::copy(server, &kept).with_context(|| format!("cannot keep the old key as {}", kept.display()))?;
    write_secret(server, &new.to_text(), true)?;
    println!("wrote {}, good for {days} days; the old key is {}", server.display(), kept.display());
    println!("tell the pool to use it: send it SIGHUP, as `systemctl reload` does");
    Ok(())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Prints what a key file is about.
fn show(file: &Path) -> anyhow::Result<()> {
    let text = read(file)?;
    if let Ok(pair) = AuthorityKeyPair::from_text(&text) {
        println!("authority key");
        println!("public key       {}", pair.public_key());
        return Ok(());
    }
    if TokenKey::from_text(&text).is_ok() {
        println!("token key: the secret of a pool and its job declarator server");
        return Ok(());
    }
    let identity = Identity::from_text(&text).with_context(|| {
        format!("{} is none of the keys that `adit keys` makes: authority, server or token", file.display())
    })?;
    let certificate = identity.certificate();
    println!("server key");
    println!("authority        {}", identity.authority());
    println!("valid from       {}", date(certificate.valid_from));
    println!("not valid after  {}", date(certificate.not_valid_after));
    println!("now              {}", validity(&identity, Clock.now().unix));
    Ok(())
}

/// A time in seconds since 1970 as people write it: day, hour and minute in UTC.
fn date(secs: u32) -> String {
    let is_leap =
        |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut days, minutes) = (secs / SECS_PER_DAY, secs % SECS_PER_DAY / 60);
    let (mut year, mut month) = (1970, 1);
    loop {
        let february = if is_leap(year) { 29 } else { 28 };
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if days < length {
                return format!(
                    "{year}-{month:02}-{:02} {:02}:{:02} UTC",
                    days + 1,
                    minutes / 60,
                    minutes % 60
                );
            }
            days -= length;
            month += 1;
        }
        (year, month) = (year + 1, 1);
    }
}

/// Whether the certificate holds now, and for how long yet.
pub(crate) fn validity(identity: &Identity, now: UnixTime) -> String {
    match identity.verify(now) {
        Ok(()) => {
            let left = identity.certificate().not_valid_after.saturating_sub(now.to_secs());
            format!("valid for {} more days", left / SECS_PER_DAY)
        }
        Err(error) => error.to_string(),
    }
}

/// Writes a file that only its owner can read; it must not exist unless `replace`.
pub(crate) fn write_secret(file: &Path, text: &str, replace: bool) -> anyhow::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    if replace {
        // A new file has its mode from the start, and a reader never sees half of it.
        let fresh = with_suffix(file, ".new");
        let _ = fs::remove_file(&fresh);
        create_secret(&fresh, text)?;
        return fs::rename(&fresh, file).with_context(|| format!("cannot replace {}", file.display()));
    }
    create_secret(file, text)
}

/// Makes a file that only its owner can read.
fn create_secret(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut opened = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already; keys are never replaced, choose another file", file.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
    };
    opened
        .write_all(text.as_bytes())
        .and_then(|()| opened.sync_all())
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_secret_is_as_private_as_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("adit.toml");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        write_secret(&file, "new", true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(open_to_others(&file).unwrap(), None);
        assert!(write_secret(&file, "newer", false).is_err(), "what is there is not replaced unasked");
    }

    #[test]
    fn keys_show_counted_seconds_where_people_read_dates() {
        for (secs, told) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (1_735_689_600, "2025-01-01 00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
            (u32::MAX, "2106-02-07 06:28 UTC"),
        ] {
            assert_eq!(date(secs), told);
        }
    }

    #[test]
    fn a_rotated_key_keeps_its_authority_and_the_old_key() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, server) = (folder.path().join("authority.key"), folder.path().join("server.key"));
        make_authority(&authority).unwrap();
        make_server(&authority, &server, 10).unwrap();
        let old = fs::read_to_string(&server).unwrap();
        rotate(&authority, &server, 20).unwrap();
        assert_eq!(fs::read_to_string(with_suffix(&server, ".old")).unwrap(), old);
        assert_ne!(fs::read_to_string(&server).unwrap(), old);
        assert_eq!(authority_public_key(&server).unwrap(), read_authority(&authority).unwrap().public_key());
        assert_eq!(open_to_others(&server).unwrap(), None);

        let other = folder.path().join("other.key");
        make_authority(&other).unwrap();
        let refused = rotate(&other, &server, 20).unwrap_err().to_string();
        assert!(refused.contains("miners that pin the one would refuse the other"), "{refused}");
    }
}
