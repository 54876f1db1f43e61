//! The text that Prometheus scrapes, in its exposition format 0.0.4.

use core::fmt::{Display, Write as _};
use core::time::Duration;

use crate::names::PLAIN_MAX;

/// The media type of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What stands in the place of a number or name where a series is for all.
pub(crate) const ALL: &str = "all";

/// A channel or machine whose last accepted share is older may be dead.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(600);

/// A number that may do anything between two looks.
pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

/// A number that only grows.
pub(crate) const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help }
}

/// A metric: its name, what kind of number it is, and what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

/// What a number may do between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grow, until the program ends.
    Counter,
    /// Anything.
    Gauge,
}

/// The text, written one metric after the other.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a metric; its samples follow.
    pub(crate) fn begin(&mut self, metric: &'static Metric) -> Samples<'_> {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let Metric { name, help, .. } = metric;
        // Writing to a string does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Samples { name, text: &mut self.text }
    }

    /// Writes a metric that is one number.
    pub(crate) fn single(&mut self, metric: &'static Metric, value: impl Display) {
        self.begin(metric).add(&[], value);
    }

    /// The whole text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// The samples of one metric.
#[derive(Debug)]
pub(crate) struct Samples<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl Samples<'_> {
    /// Writes one sample, with its labels.
    pub(crate) fn add(&mut self, labels: &[(&'static str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (number, (name, value)) in labels.iter().enumerate() {
            let opening = if number == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{opening}{name}=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Appends a label's value so that it ends where it ends. Whoever adds a label has made its value plain; that it is bounded is seen to here once
/// more.
fn escape(text: &mut String, value: &str) {
    let mut left = PLAIN_MAX;
    for character in value.chars() {
        left = match left.checked_sub(character.len_utf8()) {
            Some(left) => left,
            None => return,
        };
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SHARES: Metric = Metric { name: "shares_total", kind: Kind::Counter, help: "Shares." };

    #[test]
    fn labels_end_where_they_end() {
        let mut exposition = Exposition::default();
        exposition.single(&SHARES, 7);
        exposition.begin(&SHARES).add(&[("a", "\"} 1\nevil\\"), ("b", &"x".repeat(300))], 8_u128);
        let long = "x".repeat(PLAIN_MAX);
        let head = "# HELP shares_total Shares.\n# TYPE shares_total counter\n";
        let text =
            format!("{head}shares_total 7\n{head}shares_total{{a=\"\\\"}} 1\\nevil\\\\\",b=\"{long}\"}} 8\n");
        assert_eq!(exposition.into_text(), text);
    }
}
