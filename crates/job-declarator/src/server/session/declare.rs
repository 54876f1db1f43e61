//! Declarations: from `DeclareMiningJob` to its answer, one at a time (spec 6.4.4 to 6.4.8).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use adit_channel::{Token, UserIdentity};
use adit_messages::job_declaration::{
    DeclareMiningJob, DeclareMiningJobError, DeclareMiningJobSuccess, ProvideMissingTransactions,
    ProvideMissingTransactionsSuccess,
};
use adit_messages::limits::{BLOCK_BYTES, BLOCK_TRANSACTIONS};
use adit_messages::types::{B064K, Seq064K};
use adit_share::{MAX_BLOCK_WEIGHT, RawTransaction, Tip};
use adit_units::{Monotonic, Now};
use bitcoin::Wtxid;
use bitcoin::hashes::Hash as _;
use rand_core::CryptoRng;

use super::job::{DeclaredJob, Draft};
use super::tokens::wire_token;
use super::{Judgement, Request, Session};
use crate::server::Refusal;
use crate::server::limits::{
    ANSWER_TIMEOUT, DECLARATIONS_KEPT, DECLARATIONS_WAITING, Hold, MISSING_TIMEOUT, TIP_PATIENCE,
};

/// What an accepted job is counted with for each of its transactions, in bytes, beside those that the client has sent.
const TRANSACTION_OVERHEAD: usize = 64;

/// A declaration as it was sent.
#[derive(Debug)]
pub(super) struct Proposed {
    request_id: u32,
    token: Vec<u8>,
    version: u32,
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    wtxids: Vec<Wtxid>,
    hold: Hold,
}

/// A declaration that is under way.
#[derive(Debug)]
pub(super) struct Pending {
    request_id: u32,
    token: Token,
    user: UserIdentity,
    draft: Draft,
    wtxids: Vec<Wtxid>,
    /// Bytes that are held for it, until it is refused or kept.
    hold: Hold,
    /// Bytes of transactions that the client has sent for it.
    provided: usize,
    stage: Stage,
    deadline: Monotonic,
}

/// What a declaration waits for.
#[derive(Debug)]
enum Stage {
    /// The block that it stands on, which the client has seen before our node.
    Tip,
    /// The transactions that the node has.
    Resolving { id: u64 },
    /// The others, from the client.
    Missing { found: Vec<Option<RawTransaction>> },
    /// A node's word.
    Checking { id: u64, job: Box<DeclaredJob> },
}

impl Pending {
    pub(super) const fn deadline(&self) -> Monotonic {
        self.deadline
    }

    /// How many transactions it has.
    pub(super) fn transactions(&self) -> usize {
        match &self.stage {
            Stage::Tip | Stage::Resolving { .. } => 0,
            Stage::Missing { found } => found.iter().flatten().count(),
            Stage::Checking { job, .. } => job.transactions().len(),
        }
    }
}

impl Session {
    /// Takes in a declaration, which waits if another one is under way; `length` is its payload's.
    pub(super) fn handle_declare(&mut self, declare: &DeclareMiningJob<'_>, length: usize, now: Now) {
        let request_id = declare.request_id;
        if self.waiting.len() >= DECLARATIONS_WAITING {
            return self.refuse(request_id, &Refusal::TooMany);
        }
        let Some(hold) = self.budget.take(length) else {
            return self.refuse(request_id, &Refusal::Full);
        };
        self.waiting.push_back(Proposed {
            request_id,
            token: declare.mining_job_token.as_bytes().to_vec(),
            version: declare.version,
            prefix: declare.coinbase_tx_prefix.as_bytes().to_vec(),
            suffix: declare.coinbase_tx_suffix.as_bytes().to_vec(),
            wtxids: declare
                .wtxid_list
                .iter()
                .filter_map(|id| Wtxid::from_slice(id.as_bytes()).ok())
                .collect(),
            hold,
        });
        self.begin_next(now);
    }

    /// Begins with the next declarations that wait, until one is under way.
    fn begin_next(&mut self, now: Now) {
        while self.pending.is_none() {
            let Some(proposed) = self.waiting.pop_front() else { return };
            let request_id = proposed.request_id;
            let placed = self.examine(proposed, now).and_then(|pending| self.place(pending, now));
            match placed {
                Ok(pending) => self.pending = Some(pending),
                Err(refusal) => self.refuse(request_id, &refusal),
            }
        }
    }

    /// Checks what needs no node.
    fn examine(&self, proposed: Proposed, now: Now) -> Result<Pending, Refusal> {
        let Proposed { request_id, token, version, prefix, suffix, wtxids, hold } = proposed;
        let (token, user) = self.open_token(&token, now)?;
        if wtxids.len() > BLOCK_TRANSACTIONS {
            return Err(Refusal::TooManyTransactions(wtxids.len()));
        }
        let mut seen = HashSet::with_capacity(wtxids.len());
        if let Some(place) = wtxids.iter().position(|wtxid| !seen.insert(wtxid)) {
            return Err(Refusal::Repeated(place));
        }
        let draft = Draft::read(version, &prefix, &suffix, self.config.extranonce_len)?;
        draft.check_payout(&token, self.config.least_percent)?;
        let (stage, deadline) = (Stage::Tip, now.monotonic + TIP_PATIENCE);
        Ok(Pending { request_id, token, user, draft, wtxids, hold, provided: 0, stage, deadline })
    }

    /// Goes on with a declaration if the node mines its height, or holds it if that is about to come.
    fn place(&mut self, pending: Pending, now: Now) -> Result<Pending, Refusal> {
        let tip = self.tip.ok_or(Refusal::NoTip)?;
        let (declared, expected) = (pending.draft.height().0, tip.height.0);
        if declared == expected {
            let id = self.next_question();
            self.requests.push_back(Request::Resolve { id, wtxids: pending.wtxids.clone() });
            let deadline = now.monotonic + ANSWER_TIMEOUT;
            return Ok(Pending { stage: Stage::Resolving { id }, deadline, ..pending });
        }
        if expected.checked_add(1) == Some(declared) && now.monotonic < pending.deadline {
            return Ok(pending);
        }
        Err(Refusal::StaleTip { declared, expected })
    }

    /// There is another tip: what was declared for its height goes on, the rest is too late.
    pub(super) fn resume_on(&mut self, tip: Tip, now: Now) {
        let Some(pending) = self.pending.take() else { return };
        let request_id = pending.request_id;
        let resumed = match pending.stage {
            Stage::Tip => self.place(pending, now),
            _ if pending.draft.height() != tip.height => {
                let (declared, expected) = (pending.draft.height().0, tip.height.0);
                Err(Refusal::StaleTip { declared, expected })
            }
            // Another block of the same height has won; the job is to stand on that one.
            Stage::Checking { ref job, .. } => {
                let transactions = Arc::clone(job.transactions());
                self.check(pending, transactions, now)
            }
            Stage::Resolving { .. } | Stage::Missing { .. } => Ok(pending),
        };
        self.go_on(request_id, resumed, now);
    }

    /// Takes in which transactions the node has: for each of the [`Request::Resolve`] one, in their order.
    pub fn handle_resolved(&mut self, id: u64, found: Vec<Option<RawTransaction>>, now: Now) {
        let asked =
            |pending: &mut Pending| matches!(pending.stage, Stage::Resolving { id: asked } if asked == id);
        let Some(pending) = self.pending.take_if(asked) else { return };
        let request_id = pending.request_id;
        let mut found = found.into_iter();
        let is_it =
            |(wtxid, found): (&Wtxid, Option<RawTransaction>)| found.filter(|tx| tx.wtxid() == *wtxid);
        let found = pending.wtxids.iter().map(|wtxid| is_it((wtxid, found.next().flatten()))).collect();
        let next = self.complete(pending, found, now);
        self.go_on(request_id, next, now);
    }

    /// Has the block judged if all of its transactions are there, or asks for the others.
    fn complete(
        &mut self,
        pending: Pending,
        found: Vec<Option<RawTransaction>>,
        now: Now,
    ) -> Result<Pending, Refusal> {
        let weight: u64 = found.iter().flatten().map(|found| u64::from(found.weight())).sum();
        if weight > MAX_BLOCK_WEIGHT {
            return Err(Refusal::Weight(weight));
        }
        if found.iter().all(Option::is_some) {
            let transactions: Vec<RawTransaction> = found.into_iter().flatten().collect();
            return self.check(pending, transactions.into(), now);
        }
        let places = (0_u16..).zip(&found).filter(|(_, found)| found.is_none()).map(|(place, _)| place);
        let places: Vec<u16> = places.collect();
        self.make_room(answer_length(places.len(), MAX_BLOCK_WEIGHT - weight))?;
        self.unanswered = self.unanswered.saturating_add(1);
        self.ask_for(pending.request_id, places);
        let deadline = now.monotonic + MISSING_TIMEOUT;
        Ok(Pending { stage: Stage::Missing { found }, deadline, ..pending })
    }

    /// Holds what an answer of that length needs while it is read. It stays until no answer can come any more: one may be on its way
    /// when nobody waits for it any longer.
    fn make_room(&mut self, length: usize) -> Result<(), Refusal> {
        let is_there = match &mut self.room {
            Some(room) => room.bytes() >= length || room.resize(length),
            None => {
                self.room = self.budget.take(length);
                self.room.is_some()
            }
        };
        if is_there { Ok(()) } else { Err(Refusal::Full) }
    }

    fn ask_for(&mut self, request_id: u32, places: Vec<u16>) {
        let unknown_tx_position_list =
            Seq064K::new(places).expect("a part of a list that came as a sequence is one");
        self.send(ProvideMissingTransactions { request_id, unknown_tx_position_list });
    }

    /// Takes in transactions that were asked for, in whatever order. Nobody has to listen to any others.
    pub(super) fn handle_provided(&mut self, provided: &ProvideMissingTransactionsSuccess<'_>, now: Now) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.unanswered == 0 {
            self.room = None;
        }
        let asked = |pending: &mut Pending| {
            pending.request_id == provided.request_id && matches!(pending.stage, Stage::Missing { .. })
        };
        let Some(mut pending) = self.pending.take_if(asked) else { return };
        let request_id = pending.request_id;
        let Stage::Missing { mut found } = core::mem::replace(&mut pending.stage, Stage::Tip) else {
            return;
        };
        let next = fill(&pending.wtxids, &mut found, provided).and_then(|bytes| {
            pending.provided = bytes;
            if !pending.hold.resize(pending.hold.bytes() + bytes) {
                return Err(Refusal::Full);
            }
            self.complete(pending, found, now)
        });
        self.go_on(request_id, next, now);
    }

    /// Puts the block together and has a node judge it.
    fn check(
        &mut self,
        pending: Pending,
        transactions: Arc<[RawTransaction]>,
        now: Now,
    ) -> Result<Pending, Refusal> {
        let tip = self.tip.ok_or(Refusal::NoTip)?;
        let (job, block) = pending.draft.assemble(tip, transactions, pending.user.clone(), now.unix)?;
        let (id, account, declaration) = (self.next_question(), pending.token.account, job.id());
        let hold = self.budget.take(block.len()).ok_or(Refusal::Full)?;
        self.requests.push_back(Request::Check { id, account, declaration, block, hold });
        let deadline = now.monotonic + ANSWER_TIMEOUT;
        Ok(Pending { stage: Stage::Checking { id, job: Box::new(job) }, deadline, ..pending })
    }

    /// Takes in what a node says of the block of a [`Request::Check`].
    pub fn handle_checked(&mut self, id: u64, judgement: Judgement, now: Now, rng: &mut impl CryptoRng) {
        let asked =
            |pending: &mut Pending| matches!(pending.stage, Stage::Checking { id: asked, .. } if asked == id);
        let Some(pending) = self.pending.take_if(asked) else { return };
        match judgement {
            Judgement::Valid => self.accept(pending, now, rng),
            Judgement::Refused(reason) => self.refuse(pending.request_id, &Refusal::Node(reason)),
            Judgement::OffTip(reason) => self.refuse(pending.request_id, &Refusal::OffTip(reason)),
            Judgement::Unknown(reason) => self.refuse(pending.request_id, &Refusal::Unchecked(reason)),
        }
        self.begin_next(now);
    }

    /// Remembers the job, and tells the client that it may be set at the pool.
    fn accept(&mut self, pending: Pending, now: Now, rng: &mut impl CryptoRng) {
        let Pending { request_id, token, stage, mut hold, provided, .. } = pending;
        let Stage::Checking { job, .. } = stage else { return };
        let bytes = provided + job.transactions().len() * TRANSACTION_OVERHEAD;
        if !hold.resize(bytes) {
            return self.refuse(request_id, &Refusal::Full);
        }
        let job = Arc::new(job.held_by(hold));
        self.recent.retain(|known| known.id() != job.id());
        self.recent.truncate(DECLARATIONS_KEPT - 1);
        self.recent.push_front(Arc::clone(&job));
        self.counters.accepted += 1;
        let token = self.use_token(&token, job.id(), now, rng);
        self.requests.push_back(Request::Keep(job));
        self.send(DeclareMiningJobSuccess { request_id, new_mining_job_token: wire_token(&token) });
    }

    /// Refuses a declaration whose deadline has passed.
    pub(super) fn give_up_late(&mut self, now: Now) {
        let Some(pending) = self.pending.take_if(|pending| pending.deadline <= now.monotonic) else { return };
        let refusal = match &pending.stage {
            Stage::Tip => {
                let declared = pending.draft.height().0;
                let expected = self.tip.map_or(0, |tip| tip.height.0);
                Refusal::StaleTip { declared, expected }
            }
            Stage::Missing { found } => missing(found),
            Stage::Resolving { .. } | Stage::Checking { .. } => {
                Refusal::Unchecked("it took too long".to_owned())
            }
        };
        self.refuse(pending.request_id, &refusal);
        self.begin_next(now);
    }

    /// Puts a declaration back, or refuses it and goes on with the next one.
    fn go_on(&mut self, request_id: u32, next: Result<Pending, Refusal>, now: Now) {
        match next {
            Ok(pending) => self.pending = Some(pending),
            Err(refusal) => {
                self.refuse(request_id, &refusal);
                self.begin_next(now);
            }
        }
    }

    /// Tells the client why its job is not accepted (spec 6.4.6). Its token stays good.
    fn refuse(&mut self, request_id: u32, refusal: &Refusal) {
        self.counters.refused += 1;
        let details = refusal.to_string();
        tracing::debug!(connection = self.connection.0, reason = details, "declaration refused");
        let end = details.floor_char_boundary(DETAILS_MAX);
        let details = details.get(..end).unwrap_or_default().as_bytes();
        self.send(DeclareMiningJobError {
            request_id,
            error_code: refusal.code().to_wire(),
            error_details: B064K::new(details).expect("it was cut to fit"),
        });
    }
}

/// Most bytes of a reason that a client is told; a node's own words are no longer.
const DETAILS_MAX: usize = 1_024;

/// The most bytes that an answer with so many transactions can have, all of which are in a block together: none has more bytes than
/// weight.
fn answer_length(transactions: usize, weight: u64) -> usize {
    let bytes = usize::try_from(weight).unwrap_or(usize::MAX).min(BLOCK_BYTES);
    // The request's number, the list's length, and the length of each.
    4 + 2 + 3 * transactions + bytes
}

/// Puts what was provided where it is missing; how many bytes that were.
fn fill(
    wtxids: &[Wtxid],
    found: &mut [Option<RawTransaction>],
    provided: &ProvideMissingTransactionsSuccess<'_>,
) -> Result<usize, Refusal> {
    let mut sent = HashMap::new();
    for (place, bytes) in provided.transaction_list.iter().enumerate().take(BLOCK_TRANSACTIONS) {
        let transaction = RawTransaction::parse(bytes.as_bytes()).map_err(|_| Refusal::Undecodable(place))?;
        sent.insert(transaction.wtxid(), transaction);
    }
    let mut bytes = 0;
    for (wtxid, slot) in wtxids.iter().zip(found.iter_mut()).filter(|(_, slot)| slot.is_none()) {
        *slot = sent.remove(wtxid);
        bytes += slot.as_ref().map_or(0, |transaction| transaction.as_bytes().len());
    }
    if found.iter().all(Option::is_some) { Ok(bytes) } else { Err(missing(found)) }
}

fn missing(found: &[Option<RawTransaction>]) -> Refusal {
    Refusal::Missing {
        missing: found.iter().filter(|found| found.is_none()).count(),
        first: found.iter().position(Option::is_none).unwrap_or_default(),
    }
}
