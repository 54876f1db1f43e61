//! What the pages of all roles have in common: how numbers are written, and parts of lists.

use std::collections::BTreeMap;

use adit_units::{Difficulty, Target, UnixTime};
use serde::Serialize;

use crate::names::hex;
use crate::request::Page;
use crate::{Answer, Request};

/// Accepted shares after which a measured speed is called stable: it is then within a fifth in two cases of three.
pub(crate) const STABLE_SHARES: u64 = 25;

/// `/api/v1/health`
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    status: &'static str,
    timestamp: u32,
}

impl Health {
    pub(crate) fn at(now: UnixTime) -> Self {
        Self { status: "ok", timestamp: now.to_secs() }
    }
}

/// What there is to ask for.
#[derive(Debug, Serialize)]
pub(crate) struct Index {
    service: &'static str,
    version: &'static str,
    endpoints: BTreeMap<&'static str, &'static str>,
}

impl Index {
    pub(crate) fn of(service: &'static str, pages: &[(&'static str, &'static str)]) -> Self {
        Self { service, version: env!("CARGO_PKG_VERSION"), endpoints: pages.iter().copied().collect() }
    }
}

/// A part of a list.
pub(crate) fn part<T: Serialize>(request: &Request<'_>, list: impl FnOnce(Page) -> T) -> Answer {
    match Page::read(request.query) {
        Ok(page) => Answer::json(&list(page)),
        Err(error) => Answer::bad_request(&error.to_string()),
    }
}

/// A difficulty as an API has it.
pub(crate) fn float(difficulty: Difficulty) -> f64 {
    difficulty.to_trillionths() as f64 / Difficulty::ONE.to_trillionths() as f64
}

/// A target, most significant byte first.
pub(crate) fn target(target: Target) -> String {
    hex(target.to_le_bytes().into_iter().rev())
}

/// A count, as far as 32 bits can hold it.
pub(crate) fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
