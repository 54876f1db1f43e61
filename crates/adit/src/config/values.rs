//! The values of a config as they stand, to see which keys of it have changed.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Every value of a config by its key, environment included; what is left out is not there.
#[derive(Clone, PartialEq)]
pub(crate) struct Values(Table);

impl Values {
    /// The values of a table.
    pub(super) fn new(table: Table) -> Self {
        Self(table)
    }

    /// The dotted paths of all keys whose values differ, in order.
    pub(crate) fn changed(&self, other: &Self) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        compare_tables("", &self.0, &other.0, &mut changed);
        changed
    }
}

/// Values may be secret.
impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Values").finish_non_exhaustive()
    }
}

fn compare_tables(prefix: &str, one: &Table, other: &Table, changed: &mut BTreeSet<String>) {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for name in names {
        compare(&format!("{prefix}{name}"), one.get(name), other.get(name), changed);
    }
}

fn compare(path: &str, one: Option<&Value>, other: Option<&Value>, changed: &mut BTreeSet<String>) {
    let none = Table::new();
    let table = |value: Option<&Value>| match value {
        Some(Value::Table(table)) => Some(table.clone()),
        Some(_) => None,
        None => Some(none.clone()),
    };
    if one == other {
        return;
    }
    // A table that is left out is one without keys.
    if let (Some(one), Some(other)) = (table(one), table(other)) {
        return compare_tables(&format!("{path}."), &one, &other, changed);
    }
    changed.insert(path.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(one: &str, other: &str) -> Vec<String> {
        let values = |text: &str| Values::new(text.parse().unwrap());
        values(one).changed(&values(other)).into_iter().collect()
    }

    #[test]
    fn keys_that_come_go_or_change_are_named() {
        let text = "a = 1\n[b]\nc = 1\nd = \"x\"";
        assert_eq!(changed(text, text), [""; 0]);
        assert_eq!(changed(text, "a = 2\n[b]\nc = 1\nd = \"y\""), ["a", "b.d"]);
        assert_eq!(changed(text, "a = 1"), ["b.c", "b.d"]);
        assert_eq!(changed("", text), ["a", "b.c", "b.d"]);
        assert_eq!(changed("[[n]]\nu = 1", "[[n]]\nu = 1\n[[n]]\nu = 2"), ["n"]);
    }

    #[test]
    fn no_value_is_printed() {
        let values = Values::new("password = \"hunter2\"".parse().unwrap());
        assert!(!format!("{values:?}").contains("hunter2"));
    }
}
