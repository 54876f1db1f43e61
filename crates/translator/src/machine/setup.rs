//! What a machine says of itself before it mines, in any order: extensions, its name, its users, the difficulty that it would like.

use std::sync::Arc;

use adit_units::{Difficulty, Monotonic};

use super::{Lender, Machine, Memory, USERS_MAX, USERS_REPORTED, User};
use crate::credential::{Credential, worker_name};
use crate::device::Device;
use crate::sv1::{self, Configure, Configured, Fault, Id};

impl Machine {
    /// `mining.configure` (BIP 310): all that is asked for is answered.
    pub(super) fn handle_configure(&mut self, id: Option<&Id>, configure: &Configure) {
        let mask = configure.version_rolling.map(|rolling| rolling.mask & self.config.version_mask);
        self.version_mask = mask.or(self.version_mask);
        // A password may have asked for more, and `None` is less than anything.
        self.demands.least = self.demands.least.max(configure.minimum_difficulty);
        let configured = Configured {
            version_rolling: mask,
            minimum_difficulty: configure.minimum_difficulty.map(|_| true),
            subscribe_extranonce: configure.subscribe_extranonce.then_some(true),
            unknown: configure.unknown.clone(),
        };
        if let Some(id) = id {
            sv1::write_configured(&mut self.output, id, &configured);
        }
        if let Some(mask) = mask.filter(|&mask| mask != 0) {
            // Some firmware takes the mask from here and not from the answer. The job that it works on may allow less.
            let mask = self.issued.back().map_or(mask, |issued| mask & issued.job.version_mask());
            self.told_mask = Some(mask);
            sv1::write_set_version_mask(&mut self.output, mask);
        }
    }

    /// `mining.subscribe`; one that comes again is answered with what holds.
    pub(super) fn handle_subscribe(
        &mut self,
        id: Option<&Id>,
        user_agent: Option<Box<str>>,
        session: Option<[u8; 4]>,
        lender: &mut impl Lender,
    ) {
        if let Some(user_agent) = user_agent {
            self.device = Device::of(&user_agent, &self.config.devices);
            Arc::make_mut(&mut self.identity).user_agent = user_agent.into();
        }
        if !self.is_subscribed
            && let Some(wanted) = session
            && lender.exchange(self.extranonce1, wanted)
        {
            self.extranonce1 = wanted;
            // What it found before is not taken again as long as that is known.
            if let Some(Memory { seen, told, .. }) = lender.memory(wanted) {
                (self.seen, self.told) = (seen, told);
            }
            // It may be forgotten, and the machine still work on the present job under its own number: under another it begins afresh.
            self.number_offset = u64::from(self.resumed_offset) + 1;
        }
        self.is_subscribed = true;
        if let Some(id) = id {
            sv1::write_subscribed(&mut self.output, id, self.extranonce1, self.config.extranonce2_len);
        }
    }

    /// `mining.authorize`: anybody may, because it is the upstream that knows who is who. A further user is one more worker.
    pub(super) fn handle_authorize(&mut self, id: Option<&Id>, user: &str, password: &str) {
        let is_known = self.users.iter().any(|known| *known.name == *user);
        if !is_known && self.users.len() >= USERS_MAX {
            return self.reply_fault(id, Fault::Unauthorized);
        }
        if !is_known {
            self.names_len += user.len();
            if self.users.len() < USERS_REPORTED {
                Arc::make_mut(&mut self.identity).users.push(user.to_owned());
            }
            self.users.push(User {
                name: user.into(),
                worker: Some(worker_name(user)).filter(|name| !name.as_str().is_empty()),
            });
        }
        if self.users.len() == 1 {
            let credential = Credential::parse(user, password);
            self.demands.fixed = credential.difficulty.or(self.demands.fixed);
            self.demands.least = self.demands.least.max(credential.least);
            self.demands.speed = credential.start.or(self.demands.speed);
        }
        self.reply_true(id);
    }

    /// `mining.suggest_difficulty` and `mining.suggest_target`: what the difficulty begins with. Later it is measured, and a suggestion no news.
    pub(super) fn handle_suggestion(
        &mut self,
        id: Option<&Id>,
        difficulty: Option<Difficulty>,
        now: Monotonic,
    ) {
        self.reply_true(id);
        let Some(difficulty) = difficulty else { return };
        if self.demands.first == Some(difficulty) {
            return;
        }
        self.demands.first = Some(difficulty);
        // Before its first share there is nothing to measure, and what the machine says is the best there is; Bitaxe says it after the first job.
        let is_measured = self.last_share.is_some() || self.is_suggested;
        if !is_measured && self.demands.fixed.is_none() && self.announced.is_some() {
            self.is_suggested = true;
            self.vardiff = None;
            self.reissue(false, now);
        }
    }
}
