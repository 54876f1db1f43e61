//! What a running role tells of itself over HTTP: an API that existing tools poll, and metrics.
//!
//! A [`Server`] is the shell: a listener of its own, with limits, on threads that step back behind those that mine. What it serves are
//! [`Pages`], which are pure: a path and a query in, an [`Answer`] out. Everything is read-only.
//!
//! Names that miners give themselves reach every page. They go through [`plain`] or [`label`] first, so that no terminal, browser or scraper
//! takes a part of them for something else.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod answer;
mod exposition;
mod hosts;
mod json;
mod names;
mod pool;
mod request;
mod server;
mod shapes;
mod translator;

pub use answer::Answer;
pub use names::{LABEL_MAX, PLAIN_MAX, label, plain};
pub use pool::{NodeView, PoolPages, PoolView, WatchedNode};
pub use request::Request;
pub use server::{Pages, Preparation, Server, ServerConfig, ServerError};
pub use translator::{TranslatorNumbers, TranslatorPages};
