//! Which of several nodes to take templates from: a pure decision over what each has said, and when.

use core::time::Duration;

use adit_share::Tip;
use adit_units::{Height, Monotonic};
use bitcoin::{BlockHash, Work};

/// How long a preferred node must have been well before it takes over from one that works.
pub(crate) const FAILBACK: Duration = Duration::from_secs(10);
/// How long a preferred node may take over its first template, at the start, before another one is used.
pub(crate) const START_GRACE: Duration = Duration::from_secs(2);
/// How long a block counts that only a node without a template on it has told of, or only one that has not been heard of since. A
/// block reaches every healthy node in seconds; after a minute it is the one who told of it that is wrong.
pub(crate) const HEARSAY: Duration = Duration::from_secs(60);

/// Where a node's chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainEnd {
    /// Its last block.
    pub(crate) hash: BlockHash,
    /// That block's height.
    pub(crate) height: Height,
    /// The work in the whole chain, when the node tells it.
    pub(crate) work: Option<Work>,
}

impl ChainEnd {
    /// The end that a template stands on.
    pub(crate) fn below(tip: &Tip) -> Self {
        Self { hash: tip.prev_hash, height: Height(tip.height.0.saturating_sub(1)), work: None }
    }

    /// Whether this chain has less work in it than the other; by height where the work is unknown.
    fn is_behind(&self, other: &Self) -> bool {
        match (self.work, other.work) {
            _ if self.hash == other.hash => false,
            (Some(work), Some(more)) => work < more,
            _ => self.height < other.height,
        }
    }
}

/// How a node is doing, as its board says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Up,
    /// With the reason.
    Down(String),
}

/// Whether a node answers at all.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Voice {
    /// Not known yet.
    Unheard,
    Answers,
    /// With what is wrong.
    Silent(String),
}

/// A chain's end, and when it was told.
#[derive(Clone, Copy, Debug)]
struct Seen {
    end: ChainEnd,
    first: Monotonic,
    last: Monotonic,
}

#[derive(Debug)]
struct Source {
    state: State,
    voice: Voice,
    /// What it said when it was asked for its last block.
    told: Option<Seen>,
    /// What its template stands on.
    offered: Option<Seen>,
    /// Since when its template could be mined on without a break.
    well_since: Option<Monotonic>,
}

/// Why no node is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Nothing has been heard yet.
    Starting,
    /// A block is known that no node has given a template on, though one of them may at any moment.
    Behind,
    /// No node is in order.
    Down,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Take templates from this node.
    Use(usize),
    /// Take none; what was last used stays up, and may be outdated.
    Wait(Idle),
}

/// The decision, and all that it rests on.
#[derive(Debug)]
pub(crate) struct Choice {
    started: Monotonic,
    sources: Vec<Source>,
    chosen: Option<usize>,
}

impl Choice {
    /// A choice between `count` nodes, the most preferred first.
    pub(crate) fn new(count: usize, now: Monotonic) -> Self {
        let source = || Source {
            state: State::Starting,
            voice: Voice::Unheard,
            told: None,
            offered: None,
            well_since: None,
        };
        Self { started: now, sources: (0..count).map(|_| source()).collect(), chosen: None }
    }

    /// What the board of a node says of it.
    pub(crate) fn handle_state(&mut self, index: usize, state: State) {
        if let Some(source) = self.sources.get_mut(index) {
            source.state = state;
        }
    }

    /// A node has put up a template on this tip.
    pub(crate) fn handle_template(&mut self, index: usize, tip: &Tip, now: Monotonic) {
        let Some(source) = self.sources.get_mut(index) else { return };
        let mut end = ChainEnd::below(tip);
        if let Some(told) = source.told.filter(|told| told.end.hash == end.hash) {
            end.work = told.end.work;
        }
        source.offered = Some(see(source.offered, end, now));
    }

    /// A node has said where its chain ends.
    pub(crate) fn handle_end(&mut self, index: usize, end: ChainEnd, now: Monotonic) {
        let Some(source) = self.sources.get_mut(index) else { return };
        source.voice = Voice::Answers;
        source.told = Some(see(source.told, end, now));
        if let Some(offered) = source.offered.filter(|offered| offered.end.hash == end.hash) {
            source.offered = Some(see(Some(offered), end, now));
        }
    }

    /// A node has not answered in time, or cannot be asked.
    pub(crate) fn handle_silence(&mut self, index: usize, reason: String) {
        if let Some(source) = self.sources.get_mut(index) {
            source.voice = Voice::Silent(reason);
        }
    }

    /// Which node to use now.
    pub(crate) fn decide(&mut self, now: Monotonic) -> Decision {
        let best = self.best(now);
        for source in &mut self.sources {
            let well = source.trouble().is_none() && source.is_level(best.as_ref());
            source.well_since = if well { source.well_since.or(Some(now)) } else { None };
        }
        let Some(next) = self.next(now) else { return Decision::Wait(self.idle()) };
        self.chosen = Some(next);
        Decision::Use(next)
    }

    /// The end of the longest chain that is known.
    pub(crate) fn best(&self, now: Monotonic) -> Option<ChainEnd> {
        let counted = self.sources.iter().flat_map(|source| source.counted(now));
        counted.fold(None, |best: Option<ChainEnd>, end| match best {
            Some(best) if !best.is_behind(&end) => Some(best),
            Some(_) | None => Some(end),
        })
    }

    /// For each node, whether it knows the newest block.
    pub(crate) fn level(&self, now: Monotonic) -> Vec<bool> {
        let best = self.best(now);
        let level = |source: &Source| match (source.told.or(source.offered), &best) {
            (Some(seen), Some(best)) => !seen.end.is_behind(best),
            _ => false,
        };
        self.sources.iter().map(level).collect()
    }

    /// What is wrong with a node itself, whatever block the others know; `None` when nothing is.
    pub(crate) fn fault(&self, index: usize) -> Option<String> {
        self.sources.get(index)?.trouble()
    }

    /// What keeps a node from being used; `None` when nothing does.
    pub(crate) fn trouble(&self, index: usize) -> Option<String> {
        let source = self.sources.get(index)?;
        source
            .trouble()
            .or_else(|| source.well_since.is_none().then(|| "it does not know the newest block".to_owned()))
    }

    fn next(&self, now: Monotonic) -> Option<usize> {
        let mut well =
            self.sources.iter().enumerate().filter_map(|(index, source)| Some((index, source.well_since?)));
        let Some(chosen) = self.chosen else {
            let (first, _) = well.next()?;
            let in_grace = now.saturating_since(self.started) < START_GRACE;
            let awaited = self.sources.iter().take(first).any(Source::is_awaited);
            return (!in_grace || !awaited).then_some(first);
        };
        let works = self.sources.get(chosen).is_some_and(|source| source.well_since.is_some());
        // Whoever is preferred to one that works must have been well for a while; when it does not, the first that is well will do.
        let ready = |&(index, since): &(usize, Monotonic)| {
            !works || index >= chosen || now.saturating_since(since) >= FAILBACK
        };
        well.find(ready).map(|(index, _)| index)
    }

    fn idle(&self) -> Idle {
        if self.sources.iter().any(|source| source.offered.is_some() && source.trouble().is_none()) {
            // Its template is there, but something newer is known.
            return if self.chosen.is_some() { Idle::Behind } else { Idle::Starting };
        }
        if self.chosen.is_none() && self.sources.iter().any(Source::is_awaited) {
            Idle::Starting
        } else {
            Idle::Down
        }
    }
}

impl Source {
    /// What is wrong with it, whatever the others know.
    fn trouble(&self) -> Option<String> {
        match (&self.state, &self.voice) {
            (State::Down(reason), _) | (_, Voice::Silent(reason)) => Some(reason.clone()),
            (State::Starting, _) => Some("it has given no template yet".to_owned()),
            (State::Up, Voice::Unheard | Voice::Answers) => None,
        }
    }

    /// Whether its first template may come at any moment.
    fn is_awaited(&self) -> bool {
        self.state == State::Starting && !matches!(self.voice, Voice::Silent(_))
    }

    /// Whether its template stands on the newest block.
    fn is_level(&self, best: Option<&ChainEnd>) -> bool {
        let Some(offered) = self.offered else { return false };
        best.is_none_or(|best| !offered.end.is_behind(best))
    }

    /// The ends that it has told of and that count.
    fn counted(&self, now: Monotonic) -> impl Iterator<Item = ChainEnd> {
        let agree = match (&self.told, &self.offered) {
            (Some(told), Some(offered)) => told.end.hash == offered.end.hash && self.state == State::Up,
            _ => false,
        };
        let counts = move |seen: &Seen| {
            let age = |since: Monotonic| now.saturating_since(since);
            age(seen.last) <= HEARSAY && (agree || age(seen.first) <= HEARSAY)
        };
        [self.told, self.offered].into_iter().flatten().filter(counts).map(|seen| seen.end)
    }
}

/// The end as it is known now that it was told once more.
fn see(before: Option<Seen>, end: ChainEnd, now: Monotonic) -> Seen {
    match before {
        Some(before) if before.end.hash == end.hash => {
            let work = end.work.or(before.end.work);
            Seen { end: ChainEnd { work, ..end }, first: before.first, last: now }
        }
        Some(_) | None => Seen { end, first: now, last: now },
    }
}

#[cfg(test)]
mod tests;
