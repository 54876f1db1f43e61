//! What was asked for, and which part of a list.

/// A request, as far as pages need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The path, as sent: percent-encoding is not undone, because no path of ours needs it.
    pub path: &'a str,
    /// What stands behind the question mark.
    pub query: &'a str,
}

/// Entries of a list that are sent if nothing else is asked for.
const LIMIT_DEFAULT: usize = 25;
/// Most entries of a list that are sent at once: as many as the reference implementation's web interface asks for, though its own translator
/// sends a tenth of that.
const LIMIT_MAX: usize = 1000;

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Entries before it.
    pub(crate) offset: usize,
    /// Most entries in it.
    pub(crate) limit: usize,
}

/// A query that asks for no part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`offset` and `limit` must be whole numbers, not negative")]
pub(crate) struct BadQuery;

impl Page {
    /// Reads `offset` and `limit`; other parts of the query are passed over.
    pub(crate) fn read(query: &str) -> Result<Self, BadQuery> {
        let mut page = Self { offset: 0, limit: LIMIT_DEFAULT };
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let field = match name {
                "offset" => &mut page.offset,
                "limit" => &mut page.limit,
                _ => continue,
            };
            *field = value.parse().map_err(|_| BadQuery)?;
        }
        page.limit = page.limit.min(LIMIT_MAX);
        Ok(page)
    }

    /// That part of `list`.
    pub(crate) fn of<T>(self, list: impl Iterator<Item = T>) -> Vec<T> {
        list.skip(self.offset).take(self.limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_lists_are_read() {
        let page = |offset, limit| Ok(Page { offset, limit });
        assert_eq!(Page::read(""), page(0, 25));
        assert_eq!(Page::read("offset=7"), page(7, 25));
        assert_eq!(Page::read("limit=10000&x=y&offset=3&="), page(3, 1000));
        assert_eq!(Page::read("limit=0"), page(0, 0));
        for bad in ["limit=x", "offset=-1", "offset=", "limit", "offset=99999999999999999999", "limit=%31"] {
            assert_eq!(Page::read(bad), Err(BadQuery), "{bad}");
        }
        assert_eq!(Page { offset: 2, limit: 2 }.of(0..9), [2, 3]);
        assert_eq!(Page { offset: usize::MAX, limit: 2 }.of(0..9).len(), 0);
    }
}
