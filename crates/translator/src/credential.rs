//! Who a machine says that it works for: the user name and password of SV1.

use core::str::FromStr as _;
use std::borrow::Cow;

use adit_channel::{WorkerName, prints};
use adit_units::{Difficulty, Hashrate};
use bitcoin::Address;
use bitcoin::address::NetworkUnchecked;

/// What stands in the user name and the password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    /// All of the user name before the first `.`.
    pub account: Box<str>,
    /// All behind it, if there is anything.
    pub worker: Option<Box<str>>,
    /// The difficulty that shares are to have for good: `d=` or `diff=`.
    pub difficulty: Option<Difficulty>,
    /// The difficulty that shares are to have at least: `md=`.
    pub least: Option<Difficulty>,
    /// How fast the machine is, so that its first difficulty is right: `th=`, in terahashes per second.
    pub start: Option<Hashrate>,
}

impl Credential {
    /// Reads both; words of the password that mean nothing here are passed over.
    #[must_use]
    pub fn parse(user: &str, password: &str) -> Self {
        let (account, worker) = account_and_worker(user);
        let mut credential = Self {
            account: account.as_ref().into(),
            worker: worker.as_deref().map(Into::into),
            ..Self::default()
        };
        for word in password.split([',', ';', ' ', '\t']) {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            let Ok(number) = value.parse::<Difficulty>() else {
                continue;
            };
            match key.to_ascii_lowercase().as_str() {
                "d" | "diff" | "difficulty" => credential.difficulty = Some(number),
                "md" => credential.least = Some(number),
                // A trillionth of a terahash is a hash.
                "th" => {
                    let hashes = u64::try_from(number.to_trillionths()).unwrap_or(u64::MAX);
                    credential.start = Some(Hashrate::from_hashes_per_second(hashes));
                }
                _ => {}
            }
        }
        credential
    }
}

/// The name by which a pool shows a machine: the worker's part of the user name, else all of it, cut to what SV2 carries for each share.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "cannot happen: the name was made to fit")]
pub fn worker_name(user: &str) -> WorkerName {
    let (account, worker) = account_and_worker(user);
    let whole = worker.unwrap_or(account);
    let printable: String = whole.chars().filter(|&character| prints(character)).collect();
    let name =
        printable.get(..printable.floor_char_boundary(WorkerName::MAX_LEN)).unwrap_or_default().trim_end();
    WorkerName::from_wire(name.as_bytes()).expect("the name is printable and was cut to its limit")
}

/// The name under which a pool is to credit one machine: the operator's, and the worker's behind it.
///
/// Behind an address within one of the forms with slashes, and behind `sri/donate`, stands another slash: a point would belong to the address.
#[must_use]
pub fn user_of(operator: &str, worker: &str) -> String {
    let is_bare = match operator.strip_prefix("sri/").and_then(|form| form.rsplit('/').next()) {
        Some(last) => operator == "sri/donate" || Address::<NetworkUnchecked>::from_str(last).is_ok(),
        None => false,
    };
    match (worker, is_bare) {
        ("", _) => operator.to_owned(),
        (worker, true) => format!("{operator}/{}", worker.replace('/', "_")),
        (worker, false) => format!("{operator}.{worker}"),
    }
}

/// The two parts of a user name, without space around them.
fn account_and_worker(user: &str) -> (Cow<'_, str>, Option<Cow<'_, str>>) {
    // Split first: a point that firmware has encoded belongs to one of the parts.
    let (account, worker) =
        user.split_once('.').map_or((user, None), |(account, worker)| (account, Some(worker)));
    let worker = worker.map(str::trim).filter(|worker| !worker.is_empty());
    (decoded(account.trim()), worker.map(decoded))
}

/// Text in which some firmware has written special characters as `%` and two hexadecimal digits; as it is if that gives no printable text.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let digits =
            behind.get(..2).filter(|digits| first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = digits
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    match String::from_utf8(bytes) {
        Ok(found) if found.chars().all(prints) => Cow::Owned(found),
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use adit_channel::{Reward, UserIdentity};
    use bitcoin::Network;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn user_names_part_at_the_first_point() {
        for (user, account, worker, shown) in [
            ("bc1qexample.rig1", "bc1qexample", Some("rig1"), "rig1"),
            ("bc1qexample_rig1", "bc1qexample_rig1", None, "bc1qexample_rig1"),
            (".rig1", "", Some("rig1"), "rig1"),
            ("bc1qexample", "bc1qexample", None, "bc1qexample"),
            ("bc1qexample.", "bc1qexample", None, "bc1qexample"),
            ("bc1qexample.rig1~half", "bc1qexample", Some("rig1~half"), "rig1~half"),
            ("bc1qexample.me@wallet.example", "bc1qexample", Some("me@wallet.example"), "me@wallet.example"),
            ("sri/solo/bc1qexample/rig1", "sri/solo/bc1qexample/rig1", None, "sri/solo/bc1qexample/rig1"),
            ("farm%40home.rig%231", "farm@home", Some("rig#1"), "rig#1"),
            ("100%.a%zz", "100%", Some("a%zz"), "a%zz"),
            ("x%ff.y%0a", "x%ff", Some("y%0a"), "y%0a"),
            ("a%2eb.c", "a.b", Some("c"), "c"),
            ("", "", None, ""),
        ] {
            let credential = Credential::parse(user, "x");
            assert_eq!((&*credential.account, credential.worker.as_deref()), (account, worker), "{user}");
            assert_eq!(worker_name(user).as_str(), shown, "{user}");
        }
    }

    #[test]
    fn machines_with_channels_of_their_own_were_refused_blocks_of_their_own() {
        const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
        for (operator, worker, user) in [
            ("farm", "rig", "farm.rig"),
            ("farm.house", "rig", "farm.house.rig"),
            ("farm", "", "farm"),
            ("ADDRESS", "rig", "ADDRESS.rig"),
            ("sri/solo/ADDRESS", "rig", "sri/solo/ADDRESS/rig"),
            ("sri/solo/ADDRESS", "a/b", "sri/solo/ADDRESS/a_b"),
            ("sri/solo/ADDRESS", "", "sri/solo/ADDRESS"),
            ("sri/solo/ADDRESS/farm", "rig", "sri/solo/ADDRESS/farm.rig"),
            ("sri/donate/30/ADDRESS", "rig", "sri/donate/30/ADDRESS/rig"),
            ("sri/donate/30/ADDRESS/farm", "rig", "sri/donate/30/ADDRESS/farm.rig"),
            ("sri/donate", "rig", "sri/donate/rig"),
            ("sri/donate/farm", "rig", "sri/donate/farm.rig"),
        ] {
            let [operator, user] = [operator, user].map(|text| text.replace("ADDRESS", ADDRESS));
            assert_eq!(user_of(&operator, worker), user);
            if user.contains("sri/") {
                let identity = UserIdentity::from_wire(user.as_bytes()).unwrap();
                assert!(Reward::of(&identity, Network::Regtest).is_ok(), "{user}");
            }
        }
    }

    #[test]
    fn passwords_carry_difficulties() {
        let read = |password| {
            let Credential { difficulty, least, start, .. } = Credential::parse("a", password);
            let text = |difficulty: Option<Difficulty>| difficulty.map(|d| d.to_string()).unwrap_or_default();
            (text(difficulty), text(least), start.map(Hashrate::to_hashes_per_second))
        };
        let found = |d: &str, md: &str, th| (d.to_owned(), md.to_owned(), th);
        assert_eq!(read("x"), found("", "", None));
        assert_eq!(read("d=512"), found("512", "", None));
        assert_eq!(read("x, diff=200"), found("200", "", None));
        assert_eq!(read("D=0.001 md=64"), found("0.001", "64", None));
        assert_eq!(read("th=1.5;md=1"), found("", "1", Some(1_500_000_000_000)));
        assert_eq!(read("th=1e18"), found("", "", Some(u64::MAX)));
        assert_eq!(read("d=,diff=abc,md=-1,th=0,=,==,d"), found("", "", None));
        assert_eq!(read("dGhpcyBpcyBhIHRva2Vu=="), found("", "", None));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(worker_name(&format!("a.{}", "x".repeat(40))).as_str(), "x".repeat(32));
        assert_eq!(worker_name(&format!("a.x{}", "ä".repeat(40))).as_str(), format!("x{}", "ä".repeat(15)));
    }

    proptest! {
        #[test]
        fn any_text_is_read(user: String, password: String) {
            let credential = Credential::parse(&user, &password);
            prop_assert!(credential.worker.is_none_or(|worker| !worker.is_empty()));
            prop_assert!(worker_name(&user).as_str().len() <= WorkerName::MAX_LEN);
        }
    }
}
