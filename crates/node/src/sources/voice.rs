//! Whether a node answers, and in time: what was asked of it, and what was heard.

use core::time::Duration;

use adit_units::Monotonic;

/// How long a node that owes an answer may say nothing before a better one is used. With the pause between two questions it keeps a
/// change of nodes under two seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// How long a node must have answered in time to be better than one that does not.
pub(crate) const STEADY: Duration = Duration::from_secs(5);
/// How long a node may say nothing before it is used no longer, whatever the others do, when it was quick until then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// The same at the most, for one that has been slow.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_secs(15);
/// How many times as long as lately a node may say nothing.
const LENIENCE: u32 = 4;

/// What is known of a node's answers.
///
/// A question stays open until it is answered. Whatever is heard meanwhile, a tip or a template, shows that the node lives.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// Since when it owes an answer.
    asked: Option<Monotonic>,
    heard: Option<Monotonic>,
    /// Why it cannot be asked, and since when.
    failing: Option<(String, Monotonic)>,
    /// The longest time that it has said nothing lately, while it owed an answer; shrinks with each answer.
    slowness: Duration,
    /// When it was in trouble last.
    shaken: Option<Monotonic>,
}

impl Voice {
    /// It is asked.
    pub(super) fn ask(&mut self, now: Monotonic) {
        self.asked = Some(now);
    }

    /// It has told something unasked.
    pub(super) fn hear(&mut self, now: Monotonic) {
        let silence = self.silence(now);
        self.slowness = self.slowness.max(silence);
        if silence > SILENCE {
            self.shake(now);
        }
        self.heard = Some(now);
    }

    /// It has answered.
    pub(super) fn answer(&mut self, now: Monotonic) {
        self.slowness = self.slowness / 8 * 7;
        self.hear(now);
        (self.asked, self.failing) = (None, None);
    }

    /// It could not be asked.
    pub(super) fn fail(&mut self, reason: String, now: Monotonic) {
        let since = self.failing.take().map_or(now, |(_, since)| since);
        (self.asked, self.failing) = (None, Some((reason, since)));
        self.shake(now);
    }

    /// It is in trouble.
    pub(super) fn shake(&mut self, now: Monotonic) {
        self.shaken = Some(now);
    }

    /// How long it has said nothing while it owes an answer.
    fn silence(&self, now: Monotonic) -> Duration {
        let since = self.asked.map(|asked| self.heard.map_or(asked, |heard| heard.max(asked)));
        since.map_or(Duration::ZERO, |since| now.saturating_since(since))
    }

    /// Why a better node should be used, if there is one; `None` while it answers in time.
    pub(super) fn hesitation(&self, now: Monotonic) -> Option<String> {
        if let Some((reason, _)) = &self.failing {
            return Some(reason.clone());
        }
        (self.silence(now) > SILENCE).then(|| format!("it has not answered within {} s", SILENCE.as_secs()))
    }

    /// Whether it has been silent, or could not be asked, for so long that it must be left for any other node. Nodes that are always
    /// slow would be left for each other in turns otherwise.
    pub(super) fn is_lost(&self, now: Monotonic) -> bool {
        let failing = self.failing.as_ref().map_or(Duration::ZERO, |(_, since)| now.saturating_since(*since));
        let patience = (self.slowness * LENIENCE).clamp(PATIENCE, PATIENCE_MAX);
        self.silence(now).max(failing) > patience
    }

    /// Whether it has been without trouble since then.
    pub(super) fn is_sound_since(&self, then: Monotonic) -> bool {
        self.shaken.is_none_or(|shaken| shaken <= then)
    }

    /// Whether it has been without trouble for a while, or always.
    pub(super) fn is_steady(&self, now: Monotonic) -> bool {
        self.shaken.is_none_or(|shaken| now.saturating_since(shaken) >= STEADY)
    }
}
