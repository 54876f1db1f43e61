//! The reference implementation's pool, and how a run on it is begun anew when it ends by a defect of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use bitcoin::Address;

use crate::program::{Program, free_address, listens, tell, wait_for};

/// The key pair of the reference implementation's sample configs, by which its miner knows its pool.
pub(crate) const POOL_PUBLIC_KEY: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
pub(crate) const POOL_SECRET_KEY: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

/// How often a run is begun before the defect counts as a failure.
const RUNS: u32 = 5;

/// `pool_sv2` 0.7 has ended by the defect that it is known for.
///
/// It keeps the last future template and the last `SetNewPrevHash` apart and starts every connection and every channel with both.
/// What comes between the two finds no template of the id that the latter names, and with that the pool ends, in peace.
#[derive(Debug)]
pub(crate) struct OwnDefect;

/// Calls `run` until the pool in it has not ended by its own defect, five times at the most.
pub(crate) fn beginning_anew(test: &str, mut run: impl FnMut() -> Result<(), OwnDefect>) {
    for _ in 0..RUNS {
        if run().is_ok() {
            return;
        }
        tell(&format!(
            "BEGUN ANEW: {test}: pool_sv2 ended, as something was opened between a future template and its SetNewPrevHash"
        ));
    }
    panic!("pool_sv2 has ended by its own defect in each of {RUNS} runs");
}

/// Whether the pool's log says that it ends for that defect, and that whoever gave it templates gave each before its `SetNewPrevHash`.
fn names_own_defect(log: &str) -> bool {
    let mut templates = Vec::new();
    for line in log.lines() {
        if let Some(rest) = after(line, "NewTemplate(template_id: ") {
            let (id, rest) = rest.split_once(", future_template: ").unwrap_or_default();
            templates.extend(rest.starts_with("true").then_some(id));
        } else if let Some(rest) = after(line, "SetNewPrevHash { template_id: ") {
            let (id, _) = rest.split_once(',').unwrap_or_default();
            if !templates.contains(&id) {
                return false;
            }
        }
    }
    log.contains("TemplateIdNotFound")
}

fn after<'a>(line: &'a str, what: &str) -> Option<&'a str> {
    line.split_once("Received: ")?.1.strip_prefix(what)
}

/// The running pool.
#[derive(Debug)]
pub(crate) struct ReferencePool {
    program: Program,
    /// `HOST:PORT` that miners connect to.
    pub(crate) address: String,
}

impl ReferencePool {
    /// Starts it with these tables of its config, and waits until it has a template and takes connections.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        payout: &Address,
        tables: &str,
    ) -> Result<Self, OwnDefect> {
        let address = free_address();
        let config = format!(
            r#"
authority_public_key = "{POOL_PUBLIC_KEY}"
authority_secret_key = "{POOL_SECRET_KEY}"
cert_validity_sec = 3600
listen_address = "{address}"
coinbase_reward_script = "addr({payout})"
server_id = 1
pool_signature = "interop"
shares_per_minute = 60.0
share_batch_size = 1
{tables}"#
        );
        let file = folder.join("pool_sv2.toml");
        fs::write(&file, config).expect("the test's folder can be written");
        let mut command = Command::new(program);
        command.current_dir(folder).arg("--config").arg(file);
        let mut pool = Self { program: Program::start("pool_sv2", &mut command, folder), address };
        // It listens before it has a template.
        pool.wait_for("the reference pool's template", &mut [], |pool| {
            pool.program.output().contains("Required template data received")
        })?;
        listens("the reference pool's port", &pool.address, &mut pool.program);
        Ok(pool)
    }

    /// Waits until `done`, while the pool and those programs run.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        programs: &mut [&mut Program],
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<(), OwnDefect> {
        wait_for(what, || {
            if let Err(defect) = self.check(programs) {
                return Some(Err(defect));
            }
            done(self).then_some(Ok(()))
        })
    }

    /// Fails the test if the pool or one of those programs has ended, unless the pool has, or is about to, by its own defect.
    pub(crate) fn check(&mut self, programs: &mut [&mut Program]) -> Result<(), OwnDefect> {
        // The pool says why it ends before anybody can notice; so its log is read after it was seen who runs.
        let all_run = self.program.is_running() && programs.iter_mut().all(|program| program.is_running());
        if names_own_defect(&self.program.output()) {
            self.program.wait();
            return Err(OwnDefect);
        }
        if !all_run {
            self.program.assert_running();
            programs.iter_mut().for_each(|program| program.assert_running());
        }
        Ok(())
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.program.stop();
    }
}

#[test]
fn the_known_defect_is_told_from_a_template_provider_that_errs() {
    let log = |prev_hash: u32, error: &str| {
        format!(
            "INFO pool_sv2: Received: NewTemplate(template_id: 7, future_template: true, version: 0x20000000)\n\
             INFO pool_sv2: Received: NewTemplate(template_id: 8, future_template: false, version: 0x20000000)\n\
             INFO pool_sv2: Received: SetNewPrevHash {{ template_id: {prev_hash}, prev_hash: 00 }}\n\
             WARN pool_sv2: requested shutdown error_kind={error}\n"
        )
    };
    assert!(names_own_defect(&log(7, "ChannelSv2(GroupChannelServerSide(TemplateIdNotFound))")));
    assert!(!names_own_defect(&log(7, "JobNotFound")));
    assert!(!names_own_defect(&log(8, "ChannelSv2(GroupChannelServerSide(TemplateIdNotFound))")));
    assert!(!names_own_defect(&log(9, "ChannelSv2(GroupChannelServerSide(TemplateIdNotFound))")));
}
