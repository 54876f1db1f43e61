//! Tests of what key files say and how wrong ones are refused.

use super::*;
use crate::test_rng::TestRng;

fn authority() -> AuthorityKeyPair {
    AuthorityKeyPair::generate(&mut TestRng::new(1))
}

fn identity() -> Identity {
    let server = StaticKeyPair::generate(&mut TestRng::new(2));
    Identity::new(&authority(), server, UnixTime::from_secs(1000), UnixTime::from_secs(2000)).unwrap()
}

fn read_identity(text: &str) -> Result<String, KeyFileError> {
    Identity::from_text(text).map(|identity| identity.to_text().to_string())
}

#[test]
fn an_authority_survives_its_file() {
    let text = authority().to_text();
    let again = AuthorityKeyPair::from_text(&text).unwrap();
    assert_eq!(again.public_key(), authority().public_key());
    assert_eq!(again.to_text(), text);
}

#[test]
fn an_identity_survives_its_file_without_the_authoritys_secret() {
    let text = identity().to_text();
    assert!(!text.contains(authority().secret_text().as_str()));
    let again = Identity::from_text(&text).unwrap();
    assert_eq!(again.to_string(), identity().to_string());
    assert_eq!(again.certificate(), identity().certificate());
    assert_eq!(again.authority(), identity().authority());
    assert_eq!(again.static_key().encoded().encoding(), identity().static_key().encoded().encoding());
    assert_eq!(again.to_text(), text);
    assert_eq!(again.verify(UnixTime::from_secs(1500)), Ok(()));
    assert!(again.verify(UnixTime::from_secs(3000)).is_err());
}

#[test]
fn order_space_and_comments_do_not_matter() {
    let text = identity().to_text();
    let mut lines: Vec<_> = text.lines().map(|line| format!("  {line}\r\n")).collect();
    lines.reverse();
    lines.insert(3, "\n# a remark: with a colon\n".to_owned());
    assert_eq!(read_identity(&lines.concat()), Ok(text.to_string()));
}

#[test]
fn a_line_that_is_missing_twice_there_or_unknown_is_named() {
    let text = identity().to_text();
    for name in ["format", "authority-public-key", "server-secret-key", "valid-from", "signature"] {
        let without: String =
            text.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n")).collect();
        assert_eq!(read_identity(&without), Err(KeyFileError::Missing { name }));
    }
    let repeated = format!("{}valid-from: 7\n", *text);
    assert_eq!(read_identity(&repeated), Err(KeyFileError::Repeated { line: 9, name: "valid-from" }));
    let unknown = format!("{}colour: red\n", *text);
    assert_eq!(
        read_identity(&unknown),
        Err(KeyFileError::UnknownName { line: 9, name: "colour".to_owned() })
    );
    let bare = format!("{}colour\n", *text);
    assert_eq!(read_identity(&bare), Err(KeyFileError::NotAField { line: 9 }));
}

#[test]
fn a_value_that_cannot_be_read_is_named_and_not_repeated() {
    let text = identity().to_text();
    for (name, value) in [
        ("format", "adit-identity-2"),
        ("authority-public-key", "topsecret"),
        ("server-secret-key", "topsecret"),
        ("certificate-version", "topsecret"),
        ("valid-from", "-1"),
        ("not-valid-after", "4294967296"),
        ("signature", "topsecret"),
        ("signature", "00"),
    ] {
        let spoiled: String = text
            .lines()
            .map(
                |line| {
                    if line.starts_with(name) { format!("{name}: {value}\n") } else { format!("{line}\n") }
                },
            )
            .collect();
        let error = read_identity(&spoiled).unwrap_err();
        assert!(matches!(error, KeyFileError::Value { name: found, .. } if found == name), "{error}");
        assert!(!error.to_string().contains("topsecret"), "{error}");
    }
}

#[test]
fn keys_that_do_not_belong_together_are_refused() {
    let other = AuthorityKeyPair::generate(&mut TestRng::new(3));
    let (own, foreign) = (authority().public_key().to_string(), other.public_key().to_string());
    let mixed = authority().to_text().replace(&own, &foreign);
    let expected = KeyFileError::NotAPair { public: authority().public_key() };
    assert_eq!(AuthorityKeyPair::from_text(&mixed).unwrap_err(), expected);
    for (from, to) in [
        (own.as_str(), foreign.as_str()),
        ("valid-from: 1000", "valid-from: 999"),
        ("not-valid-after: 2000", "not-valid-after: 2001"),
        ("certificate-version: 0", "certificate-version: 1"),
        (&*identity().static_key().secret_text(), &*other.secret_text()),
    ] {
        let mixed = identity().to_text().replace(from, to);
        assert!(matches!(read_identity(&mixed), Err(KeyFileError::Certificate(_))), "{from} -> {to}");
    }
}

#[test]
fn other_files_are_told_apart() {
    let wrong_kind = Identity::from_text(&authority().to_text()).unwrap_err();
    assert!(matches!(wrong_kind, KeyFileError::UnknownName { line: 4, .. }), "{wrong_kind}");
    let long = "x".repeat(KEY_FILE_MAX + 1);
    assert_eq!(read_identity(&long), Err(KeyFileError::TooLong { length: KEY_FILE_MAX + 1 }));
    assert_eq!(read_identity(""), Err(KeyFileError::Missing { name: "format" }));
}

#[test]
fn a_certificate_that_would_never_hold_is_not_made() {
    let server = StaticKeyPair::generate(&mut TestRng::new(2));
    let made = Identity::new(&authority(), server, UnixTime::from_secs(5), UnixTime::from_secs(4));
    let expected = crate::identity::ValidityError { valid_from: 5, not_valid_after: 4 };
    assert_eq!(made.unwrap_err(), expected);
}
