//! Solutions of declared jobs: blocks, if their work is there (spec 6.4.9).

use std::sync::Arc;

use adit_messages::job_declaration::PushSolution;
use adit_units::Now;
use tracing::debug;

use super::{Request, Session};

/// Blocks of a connection that are remembered so that they go out once, however often they are pushed.
const SOLVED_KEPT: usize = 16;

impl Session {
    /// Takes in a solution of one of the last jobs that were accepted on this connection; whatever is none is passed over, as there is
    /// no answer to it.
    ///
    /// It does not say of which job it is. Where the work is so little that it makes blocks of several, all of them go out.
    pub(super) fn handle_solution(&mut self, solution: &PushSolution<'_>, now: Now) {
        if !self.solutions.take(now.monotonic) {
            return debug!(connection = self.connection.0, "solution beyond the limit");
        }
        let solved: Vec<_> = self.recent.iter().filter_map(|job| job.solve(solution)).collect();
        if solved.is_empty() {
            debug!(connection = self.connection.0, "solution of no job that was declared lately");
        }
        for solved in solved.into_iter() {
            if self.solved.contains(&solved.hash) {
                continue;
            }
            self.solved.truncate(SOLVED_KEPT - 1);
            self.solved.push_front(solved.hash);
            self.counters.blocks += 1;
            self.requests.push_back(Request::Propagate(solved));
        }
    }

    /// The jobs whose solutions are taken, the newest first.
    pub fn recent(&self) -> impl Iterator<Item = &Arc<super::DeclaredJob>> {
        self.recent.iter()
    }
}
