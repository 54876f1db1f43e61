//! The pool's side: tokens for miners, and a node's judgement of the jobs that they declare (spec 6.1).
//!
//! A [`Session`] is one connection. Whoever drives it
//!
//! * tells it the node's tip with [`Session::handle_tip`], the first one right after [`Session::new`];
//! * hands each frame that arrives to [`Session::handle_frame`], having asked [`Session::frame_limit`] how long it may be;
//! * calls [`Session::handle_timeout`] when [`Session::poll_timeout`] says so;
//! * after each of these drains [`Session::poll_request`] and sees to what it gives, blocks before anything else, then sends
//!   [`Session::frames`];
//! * brings the answers with [`Session::handle_resolved`] and [`Session::handle_checked`];
//! * tells it with [`Session::handle_rules`] when the operator wants other rules.
//!
//! A [`Disconnect`] is final: what is queued is still to be sent, then the connection is closed.

mod config;
mod disconnect;
mod docket;
pub mod limits;
mod queue;
mod session;
#[cfg(feature = "server")]
mod shell;
#[cfg(feature = "server")]
mod throttle;

pub use config::{JdsConfig, JdsConfigError, TOKEN_OUTPUTS_MAX};
pub use disconnect::{Disconnect, Refusal};
pub use docket::{CHECK_INTERVAL, CHECKS_MAX, Docket};
pub use queue::FairQueue;
pub use session::{Counters, DeclaredJob, Judgement, Request, Session, Solved};
#[cfg(feature = "server")]
pub use shell::{
    CHECKS_AT_ONCE, DeclaredTemplates, Jds, JdsMetrics, JdsParts, JdsReload, JdsReloadError, JdsServerConfig,
    JdsStartError, PreparedReload, TEMPLATES_KEPT, jds_limits,
};
