//! The columns of the table: what each shows, how it sorts, and which of them fit.

use core::cmp::Ordering;
use core::time::Duration;
use std::borrow::Cow;

use adit_dashboard::plain;
use adit_translator::MachineStatus;
use adit_units::Difficulty;

/// A column, in the order in which they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    User,
    Hashrate,
    Difficulty,
    Accepted,
    Stale,
    Refused,
    /// Sent up, and refused there or lost on the way.
    Above,
    LastShare,
    Device,
    Address,
}

impl Column {
    /// All of them, from left to right.
    pub(super) const ALL: [Self; 10] = [
        Self::User,
        Self::Hashrate,
        Self::Difficulty,
        Self::Accepted,
        Self::Stale,
        Self::Refused,
        Self::Above,
        Self::LastShare,
        Self::Device,
        Self::Address,
    ];

    /// The ones that a narrow terminal shows, most wanted first.
    const BY_WORTH: [Self; 10] = [
        Self::User,
        Self::Hashrate,
        Self::Accepted,
        Self::LastShare,
        Self::Refused,
        Self::Stale,
        Self::Difficulty,
        Self::Above,
        Self::Device,
        Self::Address,
    ];

    /// What stands above it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Hashrate => "Hashrate",
            Self::Difficulty => "Diff",
            Self::Accepted => "Accepted",
            Self::Stale => "Stale",
            Self::Refused => "Refused",
            Self::Above => "Pool no",
            Self::LastShare => "Last",
            Self::Device => "Device",
            Self::Address => "Address",
        }
    }

    /// The least width, which holds the title with a mark of its order.
    const fn least(self) -> u16 {
        match self {
            Self::User => 10,
            Self::Hashrate | Self::Accepted => 9,
            Self::Difficulty | Self::Refused | Self::Above => 8,
            Self::Stale => 6,
            Self::LastShare => 5,
            Self::Device => 12,
            Self::Address => 15,
        }
    }

    /// The width from which on more is of no use.
    const fn most(self) -> u16 {
        match self {
            Self::User => 64,
            Self::Device => 48,
            Self::Address => 39,
            _ => self.least(),
        }
    }

    /// Whether it holds numbers, which stand at the right.
    pub(super) const fn is_number(self) -> bool {
        !matches!(self, Self::User | Self::Device | Self::Address)
    }

    /// Whether the greatest comes first when it is first sorted by.
    pub(super) const fn descends(self) -> bool {
        self.is_number() && !matches!(self, Self::LastShare)
    }

    /// The column at the left or right of this, in a ring.
    pub(super) fn neighbour(self, is_right: bool) -> Self {
        let length = Self::ALL.len();
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        let next = if is_right { at + 1 } else { at + length - 1 };
        Self::ALL.get(next % length).copied().unwrap_or(self)
    }

    /// What it shows of a machine.
    pub(super) fn text(self, machine: &MachineStatus) -> Cow<'_, str> {
        match self {
            Self::User => user(machine),
            Self::Hashrate => machine.hashrate.to_string().into(),
            Self::Difficulty => difficulty(machine.difficulty).into(),
            Self::Accepted => short(machine.shares.accepted).into(),
            Self::Stale => short(machine.shares.stale).into(),
            Self::Refused => short(refused(machine)).into(),
            Self::Above => short(above(machine)).into(),
            Self::LastShare => machine.last_share.map_or(Cow::Borrowed("-"), |since| ago(since).into()),
            Self::Device => {
                let name = match machine.user_agent.as_str() {
                    "" => machine.class.into(),
                    name => plain(name),
                };
                match machine.long_coinbase {
                    Some(bytes) => format!("!{bytes} B {name}").into(),
                    None => name,
                }
            }
            Self::Address => machine.peer.ip().to_string().into(),
        }
    }

    /// Which of two machines comes first when the least does.
    pub(super) fn order(self, one: &MachineStatus, other: &MachineStatus) -> Ordering {
        let by_number = |number: fn(&MachineStatus) -> u64| number(one).cmp(&number(other));
        match self {
            Self::User => one.users.first().cmp(&other.users.first()),
            Self::Hashrate => one.hashrate.cmp(&other.hashrate),
            Self::Difficulty => one.difficulty.cmp(&other.difficulty),
            Self::Accepted => by_number(|machine| machine.shares.accepted),
            Self::Stale => by_number(|machine| machine.shares.stale),
            Self::Refused => by_number(refused),
            Self::Above => by_number(above),
            // Whoever has never found a share has waited since it came, and longer than anybody.
            Self::LastShare => {
                let since = |machine: &MachineStatus| (machine.last_share.is_none(), machine.last_share);
                since(one).cmp(&since(other)).then_with(|| one.connected.cmp(&other.connected))
            }
            Self::Device => (&one.user_agent, one.class).cmp(&(&other.user_agent, other.class)),
            Self::Address => one.peer.cmp(&other.peer),
        }
    }
}

/// The columns that fit into `width`, each with its own width, one space between them.
pub(super) fn fit(width: u16) -> Vec<(Column, u16)> {
    let mut left = width;
    let mut chosen = Vec::new();
    for column in Column::BY_WORTH {
        let gap = u16::from(!chosen.is_empty());
        let Some(rest) = left.checked_sub(column.least() + gap) else { break };
        left = rest;
        chosen.push(column);
    }
    // On the narrowest of terminals at least something is seen.
    if chosen.is_empty() {
        return vec![(Column::User, width)];
    }
    let chosen = Column::ALL.into_iter().filter(|column| chosen.contains(column));
    let mut widths: Vec<(Column, u16)> = chosen.map(|column| (column, column.least())).collect();
    while left > 0 {
        let before = left;
        for (_, width) in widths.iter_mut().filter(|(column, width)| *width < column.most()) {
            let more = left.min(1);
            (*width, left) = (*width + more, left - more);
        }
        if left == before {
            break;
        }
    }
    widths
}

/// What we refused for other reasons than that it came too late.
fn refused(machine: &MachineStatus) -> u64 {
    machine.shares.refused().saturating_sub(machine.shares.stale)
}

fn above(machine: &MachineStatus) -> u64 {
    machine.upstream.refused.saturating_add(machine.upstream.lost)
}

/// The first name, and how many others there are.
fn user(machine: &MachineStatus) -> Cow<'_, str> {
    match machine.users.as_slice() {
        [] => format!("#{}", machine.id).into(),
        [only] => plain(only),
        [first, others @ ..] => format!("{} +{}", plain(first), others.len()).into(),
    }
}

/// A count in at most six characters, exact below a hundred thousand.
pub(super) fn short(number: u64) -> String {
    const PREFIXES: [(u64, &str); 6] = [
        (1_000_000_000_000_000_000, "E"),
        (1_000_000_000_000_000, "P"),
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    let scale = PREFIXES.into_iter().find(|(scale, _)| number >= *scale).filter(|_| number >= 100_000);
    let Some((scale, prefix)) = scale else { return number.to_string() };
    let (whole, rest) = (number / scale, number % scale);
    match whole {
        0..10 => format!("{whole}.{:02}{prefix}", rest / (scale / 100)),
        10..100 => format!("{whole}.{}{prefix}", rest / (scale / 10)),
        _ => format!("{whole}{prefix}"),
    }
}

/// A difficulty in at most eight characters.
fn difficulty(difficulty: Difficulty) -> String {
    /// Characters of a small difficulty, the rest of which says little.
    const LENGTH: usize = 8;
    let (number, one) = (difficulty.to_trillionths(), Difficulty::ONE.to_trillionths());
    if number >= 100 * one {
        return short(u64::try_from(number / one).unwrap_or(u64::MAX));
    }
    let mut text = difficulty.to_string();
    text.truncate(LENGTH);
    text
}

/// How long ago, in at most four characters for what is not ages ago.
pub(super) fn ago(since: Duration) -> String {
    match since.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
