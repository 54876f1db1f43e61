//! What is known of devices by the name that they give themselves.

use core::fmt::Write as _;

use adit_units::{Difficulty, Hashrate};

/// A family of devices that are to be treated alike.
#[derive(Debug, PartialEq, Eq)]
pub struct Class {
    /// What it is called in numbers and logs.
    pub name: &'static str,
    /// Parts of user agents that tell it, in lower case.
    pub patterns: &'static [&'static str],
    /// How fast such a device is, as a first guess until shares tell.
    pub nominal: Hashrate,
    /// The lowest difficulty that such a device is given, as long as the upstream asks for as much.
    pub least_difficulty: Difficulty,
    /// The longest coinbase that it can work with, in bytes.
    pub coinbase_max: usize,
    /// How it differs from others.
    pub quirks: Quirks,
}

/// How devices of a class differ from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// It rounds difficulties, so only powers of two mean the same to both sides: one that its password asks for is raised to the next.
    pub powers_of_two: bool,
    /// It answers `mining.ping`, so it is asked whether it is there when it has said nothing for long.
    pub answers_pings: bool,
}

impl Quirks {
    /// An ordinary device.
    const NONE: Self = Self { powers_of_two: false, answers_pings: false };
    /// A market for hashrate.
    const RENTAL: Self = Self { powers_of_two: true, ..Self::NONE };
    /// Firmware of which it is known how it answers.
    const ANSWERS: Self = Self { answers_pings: true, ..Self::NONE };

    /// Those that are called so, and no others: what an operator writes in place of a class's.
    ///
    /// # Errors
    ///
    /// If one is called something else than in [`QUIRKS`].
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownQuirk> {
        let mut quirks = Self::NONE;
        for name in names {
            match name {
                POWERS_OF_TWO => quirks.powers_of_two = true,
                ANSWERS_PINGS => quirks.answers_pings = true,
                _ => return Err(UnknownQuirk(name.to_owned())),
            }
        }
        Ok(quirks)
    }

    /// What those that are set are called.
    fn names(self) -> impl Iterator<Item = &'static str> {
        let Self { powers_of_two, answers_pings } = self;
        let all = [(powers_of_two, POWERS_OF_TWO), (answers_pings, ANSWERS_PINGS)];
        all.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name)
    }
}

/// What [`Quirks::powers_of_two`] is called.
const POWERS_OF_TWO: &str = "powers-of-two";
/// What [`Quirks::answers_pings`] is called.
const ANSWERS_PINGS: &str = "answers-pings";

/// What quirks are called in a config and in the table of classes.
pub const QUIRKS: [&str; 2] = [POWERS_OF_TWO, ANSWERS_PINGS];

/// Something that is called a quirk and is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quirk; use some of {names}, or [] for a device that has none", names = QUIRKS.join(" and "))]
pub struct UnknownQuirk(String);

/// The difficulty that small devices go down to: 2^-11, the power of two nearest to the 0.0005 that pools for them begin at.
const SMALL: Difficulty = Difficulty::from_trillionths(1_000_000_000_000 >> 11);
/// What stock Antminers can take; DATUM holds it for the limit of every device that it does not know.
const COINBASE: usize = 750;

/// An ordinary mining machine of that many terahashes per second.
const fn machine(
    name: &'static str,
    patterns: &'static [&'static str],
    terahashes: u64,
    coinbase_max: usize,
) -> Class {
    Class {
        name,
        patterns,
        nominal: Hashrate::from_hashes_per_second(terahashes * 1_000_000_000_000),
        least_difficulty: Difficulty::ONE,
        coinbase_max,
        quirks: Quirks::NONE,
    }
}

/// A small device of that many thousand hashes per second.
const fn small(name: &'static str, patterns: &'static [&'static str], kilohashes: u64) -> Class {
    Class {
        name,
        patterns,
        nominal: Hashrate::from_hashes_per_second(kilohashes * 1000),
        least_difficulty: SMALL,
        coinbase_max: COINBASE,
        quirks: Quirks::NONE,
    }
}

/// All classes; the first with a pattern that fits is taken, and the last is for all others.
///
/// Limits of the coinbase are those of DATUM's gateway (`datum_stratum_fingerprint_by_UA`). Speeds are those that Spiral Pool's router
/// starts from (500 kH/s and less, 500 GH/s, 5 TH/s, 110 TH/s and so on) unless another source is named.
pub const CLASSES: &[Class] = &[
    // DATUM gives at least difficulty 524 288, which is a share in ten seconds at 225 TH/s.
    Class {
        least_difficulty: Difficulty::from_whole(524_288),
        quirks: Quirks::RENTAL,
        ..machine("nicehash", &["nicehash"], 225, 500)
    },
    Class { quirks: Quirks::RENTAL, ..machine("rental", &["miningrigrentals", "mrr/"], 110, COINBASE) },
    machine("antminer-s21", &["antminer s21/"], 110, 2250),
    machine("antminer", &["antminer", "bmminer"], 110, COINBASE),
    machine("whatsminer-v1", &["whatsminer/v1"], 126, 6500),
    machine("whatsminer", &["btminer", "whatsminer"], 126, COINBASE),
    // Takes any length; DATUM gives it as much as an S21.
    machine("braiins", &["bosminer", "braiins"], 110, 2250),
    machine("vnish", &["xminer-1.", "vnish"], 110, 16_000),
    machine("epic", &["powerplay-bm/"], 110, 16_000),
    machine("luxos", &["luxminer", "luxos"], 110, COINBASE),
    // Most of them call themselves cgminer.
    machine("avalon", &["avalon", "canaan"], 50, COINBASE),
    machine("nerdqaxe", &["nerdqaxe", "nerdoctaxe"], 5, COINBASE),
    // An ASIC of 175 GH/s on the smallest boards, some of which still start as those do.
    small("nerdnos", &["nerdnos"], 175_000_000),
    // Longer coinbases work, but slow down the change of jobs.
    Class {
        nominal: Hashrate::from_hashes_per_second(500_000_000_000),
        quirks: Quirks::ANSWERS,
        ..machine("bitaxe", &["bitaxe", "esp-miner", "nerdaxe"], 0, 6500)
    },
    small(
        "esp32",
        &[
            "nerdminer",
            "nmminer",
            "leafminer",
            "nerdesp32",
            "esp32",
            "han_solominer",
            "sparkminer",
            "arduino",
        ],
        200,
    ),
    // Public-pool starts it at difficulty 0.1, which is a share in ten seconds at 43 MH/s.
    small("cpuminer", &["cpuminer"], 43_000),
    // Anything from a USB stick to a whole machine.
    Class { quirks: Quirks::ANSWERS, ..machine("cgminer", &["cgminer", "bfgminer"], 1, COINBASE) },
    UNKNOWN,
];

/// All devices that are not known.
const UNKNOWN: Class = Class { least_difficulty: SMALL, ..machine("unknown", &[], 1, COINBASE) };

impl Class {
    /// The class of a device that calls itself so, in letters of either case.
    #[must_use]
    pub fn of(user_agent: &str) -> &'static Self {
        static OTHERS: Class = UNKNOWN;
        let fits = |class: &&Self| class.patterns.iter().any(|pattern| contains(user_agent, pattern));
        CLASSES.iter().find(fits).unwrap_or(&OTHERS)
    }
}

/// What an operator knows better about devices whose user agent contains a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// Part of the user agent, in letters of either case.
    pub pattern: Box<str>,
    /// In place of [`Class::nominal`].
    pub nominal: Option<Hashrate>,
    /// In place of [`Class::least_difficulty`].
    pub least_difficulty: Option<Difficulty>,
    /// In place of [`Class::coinbase_max`].
    pub coinbase_max: Option<usize>,
    /// In place of all of [`Class::quirks`].
    pub quirks: Option<Quirks>,
}

/// What is known of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its family.
    pub class: &'static Class,
    /// How fast it is, as a first guess.
    pub nominal: Hashrate,
    /// The lowest difficulty that it is given.
    pub least_difficulty: Difficulty,
    /// The longest coinbase that it can work with, in bytes.
    pub coinbase_max: usize,
    /// How it differs from others.
    pub quirks: Quirks,
}

impl Device {
    /// The device that calls itself so; the first override that fits goes before what its class says.
    #[must_use]
    pub fn of(user_agent: &str, overrides: &[Override]) -> Self {
        let class = Class::of(user_agent);
        let known = overrides.iter().find(|known| contains(user_agent, &known.pattern));
        Self {
            class,
            nominal: known.and_then(|known| known.nominal).unwrap_or(class.nominal),
            least_difficulty: known
                .and_then(|known| known.least_difficulty)
                .unwrap_or(class.least_difficulty),
            coinbase_max: known.and_then(|known| known.coinbase_max).unwrap_or(class.coinbase_max),
            quirks: known.and_then(|known| known.quirks).unwrap_or(class.quirks),
        }
    }
}

/// Whether a text contains another, letters of either case being the same.
fn contains(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// All classes as a Markdown table, for the documentation.
#[must_use]
pub fn class_table() -> String {
    let mut table = String::from(
        "| Class | User agent contains | First guess | Least difficulty | Coinbase at most | Quirks |\n\
         |---|---|---|---|---|---|\n",
    );
    for class in CLASSES {
        let patterns: Vec<_> = class.patterns.iter().map(|pattern| format!("`{pattern}`")).collect();
        let patterns = if patterns.is_empty() { "anything else".to_owned() } else { patterns.join(", ") };
        let Class { name, nominal, least_difficulty, coinbase_max, quirks, .. } = class;
        let quirks = quirks.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        writeln!(
            table,
            "| {name} | {patterns} | {nominal} | {least_difficulty} | {coinbase_max} B | {quirks} |"
        )
        .expect("a string takes all that is written to it");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_tell_the_class() {
        for (user_agent, name) in [
            ("NiceHash/1.0.0", "nicehash"),
            ("MiningRigRentals/2.0", "rental"),
            ("mrr/1.0", "rental"),
            ("Antminer S21/Tue Jul 30 2024", "antminer-s21"),
            ("Antminer S21 XP/2024", "antminer"),
            ("Antminer S19j Pro/Tue Jan 1 2022", "antminer"),
            ("bmminer/2.0.0", "antminer"),
            ("whatsminer/v1.1", "whatsminer-v1"),
            ("btminer/3.4.0", "whatsminer"),
            ("bosminer-plus-tuner 0.2.0", "braiins"),
            ("Braiins OS 24.04", "braiins"),
            ("xminer-1.2.6", "vnish"),
            ("PowerPlay-BM/1.15", "epic"),
            ("LUXminer 2024.1", "luxos"),
            ("AvalonMiner 1466", "avalon"),
            ("NerdQAxe++/BM1370/v1.0.36", "nerdqaxe"),
            ("NerdNOS/1.0", "nerdnos"),
            ("bitaxe/BM1370/v2.9.31", "bitaxe"),
            ("BITAXE/BM1366/V2.9.31", "bitaxe"),
            ("NerdMinerV2/V1.8.3", "esp32"),
            ("NMMiner/1.0", "esp32"),
            ("LeafMiner", "esp32"),
            ("cpuminer/2.5.1", "cpuminer"),
            ("cgminer/4.11.1", "cgminer"),
            ("", "unknown"),
            ("totally new device", "unknown"),
        ] {
            assert_eq!(Class::of(user_agent).name, name, "{user_agent}");
        }
    }

    #[test]
    fn every_pattern_finds_its_own_class() {
        for class in CLASSES {
            for pattern in class.patterns {
                assert_eq!(pattern.to_ascii_lowercase(), *pattern);
                assert_eq!(Class::of(pattern), class, "{pattern}");
            }
        }
        assert_eq!(CLASSES.last(), Some(Class::of("")));
    }

    #[test]
    fn difficulties_are_powers_of_two() {
        for Class { name, least_difficulty, nominal, .. } in CLASSES {
            let near = Difficulty::power_of_two_near(least_difficulty.to_target());
            assert_eq!(near, *least_difficulty, "{name}");
            assert!(nominal.to_hashes_per_second() > 0, "{name}");
        }
    }

    #[test]
    fn the_operator_knows_better() {
        let overrides = [
            Override {
                pattern: "BM1370".into(),
                nominal: Some(Hashrate::from_hashes_per_second(1_200_000_000_000)),
                least_difficulty: None,
                coinbase_max: Some(2250),
                quirks: Some(Quirks::RENTAL),
            },
            Override {
                pattern: "bitaxe".into(),
                nominal: None,
                least_difficulty: Some(Difficulty::from_whole(64)),
                coinbase_max: None,
                quirks: None,
            },
        ];
        let gamma = Device::of("bitaxe/BM1370/v2.9.31", &overrides);
        assert_eq!(gamma.nominal.to_string(), "1.20 TH/s");
        assert_eq!((gamma.class.name, gamma.least_difficulty), ("bitaxe", Difficulty::ONE));
        assert_eq!((gamma.coinbase_max, gamma.quirks), (2250, Quirks::RENTAL));
        let ultra = Device::of("bitaxe/BM1366/v2.9.31", &overrides);
        assert_eq!(
            (ultra.nominal, ultra.least_difficulty),
            (ultra.class.nominal, Difficulty::from_whole(64))
        );
        assert_eq!((ultra.coinbase_max, ultra.quirks), (ultra.class.coinbase_max, Quirks::ANSWERS));
        assert_eq!(Device::of("cgminer/4", &overrides).nominal, Class::of("cgminer").nominal);
    }

    #[test]
    fn every_quirk_has_a_name_and_what_is_none_is_told() {
        assert_eq!(Quirks::named([]), Ok(Quirks::NONE));
        assert_eq!(Quirks::named([ANSWERS_PINGS]), Ok(Quirks::ANSWERS));
        let all = Quirks::named(QUIRKS).unwrap();
        assert_eq!(all.names().collect::<Vec<_>>(), QUIRKS);
        let error = Quirks::named([POWERS_OF_TWO, "pings"]).unwrap_err().to_string();
        let told = "\"pings\" is no quirk; use some of powers-of-two and answers-pings, or [] for a device that has none";
        assert_eq!(error, told);
    }

    #[test]
    fn the_table_in_the_documentation_is_this_one() {
        let page = include_str!("../../../docs/translator.md");
        let table = class_table();
        assert_eq!(table.lines().count(), CLASSES.len() + 2);
        assert!(page.contains(&table), "docs/translator.md is to have this:\n{table}");
    }
}
