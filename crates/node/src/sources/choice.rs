//! Which of several nodes to take templates from: a pure decision over what each has said, and when.

use core::time::Duration;

use adit_share::Tip;
use adit_units::{Height, Monotonic};
use bitcoin::{BlockHash, Work};

use super::voice::Voice;

/// How long a preferred node must have been well before it takes over from one that works.
pub(crate) const FAILBACK: Duration = Duration::from_secs(10);
/// How long a preferred node may take over its first template, at the start, before another one is used.
pub(crate) const START_GRACE: Duration = Duration::from_secs(2);
/// How long a block counts that only a node without a template on it has told of, or only one that has not been heard of since. A
/// block reaches every healthy node in seconds; after a minute it is the one who told of it that is wrong.
pub(crate) const HEARSAY: Duration = Duration::from_secs(60);
/// How long the template on a known block is waited for when only one on a rival of the same height is there. A node in order has built
/// it by then; the block that was known first may be our own.
pub(crate) const RIVAL_GRACE: Duration = Duration::from_secs(2);

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
    /// Whether it has told of a tip or given a template since it was last asked for its last block: the answer may be older than that.
    is_overtaken: bool,
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
    /// The block that the last template which was used stands on.
    mined_on: Option<BlockHash>,
}

impl Choice {
    /// A choice between `count` nodes, the most preferred first.
    pub(crate) fn new(count: usize, now: Monotonic) -> Self {
        let source = || Source {
            state: State::Starting,
            voice: Voice::default(),
            told: None,
            offered: None,
            is_overtaken: false,
            well_since: None,
        };
        Self { started: now, sources: (0..count).map(|_| source()).collect(), chosen: None, mined_on: None }
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
        source.voice.hear(now);
        source.is_overtaken = true;
    }

    /// A node has told of a tip, on which it may have no template yet.
    pub(crate) fn handle_tip(&mut self, index: usize, tip: &Tip, now: Monotonic) {
        let Some(source) = self.sources.get_mut(index) else { return };
        source.hear_end(ChainEnd::below(tip), now);
        source.voice.hear(now);
        source.is_overtaken = true;
    }

    /// A node is asked for its last block.
    pub(crate) fn handle_question(&mut self, index: usize, now: Monotonic) {
        if let Some(source) = self.sources.get_mut(index) {
            source.voice.ask(now);
            source.is_overtaken = false;
        }
    }

    /// A node has answered where its chain ends, or ended when it was asked.
    pub(crate) fn handle_end(&mut self, index: usize, end: ChainEnd, now: Monotonic) {
        let Some(source) = self.sources.get_mut(index) else { return };
        let is_no_more = |told: Seen| told.end.hash != end.hash && !told.end.is_behind(&end);
        source.voice.answer(now);
        if !source.is_overtaken || !source.told.is_some_and(is_no_more) {
            source.hear_end(end, now);
        }
    }

    /// A node cannot be asked.
    pub(crate) fn handle_failure(&mut self, index: usize, reason: String, now: Monotonic) {
        if let Some(source) = self.sources.get_mut(index) {
            source.voice.fail(reason, now);
        }
    }

    /// Which node to use now.
    pub(crate) fn decide(&mut self, now: Monotonic) -> Decision {
        let newest = self.newest(now);
        for source in &mut self.sources {
            if source.is_shaken(now) {
                source.voice.shake(now);
            }
            let well = source.trouble(now).is_none() && source.is_level(newest.as_ref());
            let since = source.well_since.filter(|&since| source.voice.is_sound_since(since));
            source.well_since = well.then(|| since.unwrap_or(now));
        }
        let Some(next) = self.next(newest.as_ref(), now) else { return Decision::Wait(self.idle(now)) };
        self.chosen = Some(next);
        self.mined_on = self.sources.get(next).and_then(Source::stands_on);
        Decision::Use(next)
    }

    /// The end of the chain with the most work that is known; of several, the one that was told of first.
    pub(crate) fn best(&self, now: Monotonic) -> Option<ChainEnd> {
        self.newest(now).map(|seen| seen.end)
    }

    fn newest(&self, now: Monotonic) -> Option<Seen> {
        let counted = self.sources.iter().flat_map(|source| source.counted(now));
        counted.fold(None, |best: Option<Seen>, seen| {
            let stays = |best: &Seen| {
                seen.end.is_behind(&best.end) || !best.end.is_behind(&seen.end) && best.first <= seen.first
            };
            best.filter(stays).or(Some(seen))
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

    /// For each node, whether nothing is wrong with it itself.
    pub(crate) fn sound(&self, now: Monotonic) -> Vec<bool> {
        self.sources.iter().map(|source| source.trouble(now).is_none()).collect()
    }

    /// What is wrong with a node itself, whatever block the others know; `None` when nothing is.
    pub(crate) fn fault(&self, index: usize, now: Monotonic) -> Option<String> {
        self.sources.get(index)?.trouble(now)
    }

    /// What keeps a node from being used; `None` when nothing does.
    pub(crate) fn trouble(&self, index: usize, now: Monotonic) -> Option<String> {
        let source = self.sources.get(index)?;
        source
            .trouble(now)
            .or_else(|| source.well_since.is_none().then(|| "it does not know the newest block".to_owned()))
    }

    fn next(&self, newest: Option<&Seen>, now: Monotonic) -> Option<usize> {
        let Some(chosen) = self.chosen else {
            let first = self.well().next()?;
            let in_grace = now.saturating_since(self.started) < START_GRACE;
            let awaited = self.sources.iter().take(first).any(|source| source.is_awaited(now));
            return (!in_grace || !awaited).then_some(first);
        };
        let is_usable = |source: &Source| source.lives(now) && source.is_level(newest);
        if self.well().any(|index| index == chosen) {
            return self.well().find(|&index| index == chosen || self.may_take_over(index, chosen, now));
        }
        if self.sources.get(chosen).is_some_and(is_usable) {
            return self.well().find(|&index| self.is_better_than_slow(index, now)).or(Some(chosen));
        }
        // Miners stay on their block where they can, and else on the one that was known first.
        let known_first = newest.map(|seen| seen.end.hash);
        let stands_on = |tip: Option<BlockHash>| {
            let tip = tip?;
            self.well().find(|&index| self.sources.get(index).and_then(Source::stands_on) == Some(tip))
        };
        let of_ours = stands_on(self.mined_on).or_else(|| stands_on(known_first));
        if of_ours.is_none() && newest.is_some_and(|newest| self.is_awaited_on(newest, now)) {
            return None;
        }
        of_ours.or_else(|| self.well().next()).or_else(|| self.sources.iter().position(is_usable))
    }

    /// The nodes that can be mined on, the most preferred first.
    fn well(&self) -> impl Iterator<Item = usize> {
        let sources = self.sources.iter().enumerate();
        sources.filter(|(_, source)| source.well_since.is_some()).map(|(index, _)| index)
    }

    /// Whether a preferred node takes over from one that works: it must have been well for a while. A block of the same height is
    /// no reason to leave the one that miners are on, which may be our own.
    fn may_take_over(&self, candidate: usize, chosen: usize, now: Monotonic) -> bool {
        let (Some(better), Some(present)) = (self.sources.get(candidate), self.sources.get(chosen)) else {
            return false;
        };
        let (Some(to), Some(from), Some(since)) = (better.offered, present.offered, better.well_since) else {
            return false;
        };
        let is_no_rival = to.end.hash == from.end.hash || from.end.is_behind(&to.end);
        candidate < chosen && is_no_rival && now.saturating_since(since) >= FAILBACK
    }

    /// Whether a node is better than one that hesitates, which costs nothing as long as there is a template on the same block.
    fn is_better_than_slow(&self, candidate: usize, now: Monotonic) -> bool {
        self.sources
            .get(candidate)
            .is_some_and(|source| source.voice.is_steady(now) && source.stands_on() == self.mined_on)
    }

    /// Whether a template on the newest block may still come at any moment.
    fn is_awaited_on(&self, newest: &Seen, now: Monotonic) -> bool {
        let tells = |source: &Source| {
            source.trouble(now).is_none() && source.told.is_some_and(|told| told.end.hash == newest.end.hash)
        };
        now.saturating_since(newest.first) < RIVAL_GRACE && self.sources.iter().any(tells)
    }

    fn idle(&self, now: Monotonic) -> Idle {
        if self.sources.iter().any(|source| source.offered.is_some() && source.lives(now)) {
            // Its template is there, but something newer is known.
            return if self.chosen.is_some() { Idle::Behind } else { Idle::Starting };
        }
        if self.chosen.is_none() && self.sources.iter().any(|source| source.is_awaited(now)) {
            Idle::Starting
        } else {
            Idle::Down
        }
    }
}

impl Source {
    /// What is wrong with it, whatever the others know.
    fn trouble(&self, now: Monotonic) -> Option<String> {
        let hesitation = || self.voice.hesitation(now);
        match &self.state {
            State::Down(reason) => Some(reason.clone()),
            State::Starting => hesitation().or_else(|| Some("it has given no template yet".to_owned())),
            State::Up => hesitation(),
        }
    }

    /// Whether something is wrong with it that tells against it for a while.
    fn is_shaken(&self, now: Monotonic) -> bool {
        matches!(self.state, State::Down(_)) || self.voice.hesitation(now).is_some()
    }

    /// Whether its templates can be used, though it be slow.
    fn lives(&self, now: Monotonic) -> bool {
        self.state == State::Up && !self.voice.is_lost(now)
    }

    /// Takes down where its chain ends.
    fn hear_end(&mut self, end: ChainEnd, now: Monotonic) {
        self.told = Some(see(self.told, end, now));
        if let Some(offered) = self.offered.filter(|offered| offered.end.hash == end.hash) {
            self.offered = Some(see(Some(offered), end, now));
        }
    }

    /// Whether its first template may come at any moment.
    fn is_awaited(&self, now: Monotonic) -> bool {
        self.state == State::Starting && self.voice.hesitation(now).is_none()
    }

    /// Whether its template stands on the newest block, or on one with as much work below it.
    fn is_level(&self, newest: Option<&Seen>) -> bool {
        let Some(offered) = self.offered else { return false };
        newest.is_none_or(|newest| !offered.end.is_behind(&newest.end))
    }

    /// The block that its template stands on.
    fn stands_on(&self) -> Option<BlockHash> {
        self.offered.map(|offered| offered.end.hash)
    }

    /// The ends that it has told of and that count.
    fn counted(&self, now: Monotonic) -> impl Iterator<Item = Seen> {
        let agree = match (&self.told, &self.offered) {
            (Some(told), Some(offered)) => told.end.hash == offered.end.hash && self.state == State::Up,
            _ => false,
        };
        let counts = move |seen: &Seen| {
            let age = |since: Monotonic| now.saturating_since(since);
            age(seen.last) <= HEARSAY && (agree || age(seen.first) <= HEARSAY)
        };
        [self.told, self.offered].into_iter().flatten().filter(counts)
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
