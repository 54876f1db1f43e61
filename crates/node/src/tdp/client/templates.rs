//! What the client makes of templates, tips and transactions.

use adit_messages::error_code::RequestTransactionDataError as DataError;
use adit_messages::template_distribution::{
    NewTemplate, RequestTransactionData, RequestTransactionDataError, RequestTransactionDataSuccess,
    SetNewPrevHash,
};
use adit_messages::types::B016M;
use adit_share::Tip;
use adit_units::{Monotonic, Now, Target, TemplateId};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget};

use super::super::NO_TEMPLATE;
use super::draft::Draft;
use super::{
    Candidate, Client, ClientEnd, Event, FUTURES_KEPT, NAMED_PATIENCE, NewEnd, Offered, Pulse, REQUEST_PAUSE,
    Request, STALE_PATIENCE, Standing, State, TIME_AHEAD_MAX, TRANSACTIONS_PATIENCE, printable,
};

impl Client {
    /// Takes in a template (spec 7.2).
    pub(super) fn handle_template(&mut self, new: &NewTemplate<'_>, now: Monotonic) -> Result<(), ClientEnd> {
        let State::Serving(serving) = &mut self.state else { return Ok(()) };
        let id = TemplateId(new.template_id);
        // With an id that has been there, nobody could tell what a solution is of.
        if id == NO_TEMPLATE || serving.last_id.is_some_and(|last| last >= id) {
            return Err(ClientEnd::Misbehaved("a template's id is not greater than the one before"));
        }
        let draft = Draft::read(new)?;
        serving.last_id = Some(id);
        if let Some((end, _)) = serving.named.take_if(|(end, _)| end.id == id) {
            return self.stand_on(end, draft, now);
        }
        if new.future_template {
            if serving.futures.len() >= FUTURES_KEPT {
                serving.futures.pop_front();
            }
            serving.futures.push_back(draft);
            return Ok(());
        }
        let Some(standing) = &serving.standing else {
            return Err(ClientEnd::Misbehaved("it sent a template before the block that it stands on"));
        };
        if draft.height != standing.tip.height {
            return Err(ClientEnd::Misbehaved(
                "a template is not of the height of the block that it stands on",
            ));
        }
        self.events.push_back(Event::Offered(draft.on(standing.tip.prev_hash)));
        serving.wanted = Some(draft);
        Ok(())
    }

    /// Takes in the end of the chain, and which template stands on it (spec 7.3).
    pub(super) fn handle_tip(&mut self, new: &SetNewPrevHash<'_>, now: Now) -> Result<(), ClientEnd> {
        let State::Serving(serving) = &mut self.state else { return Ok(()) };
        let ahead = new.header_timestamp.saturating_sub(now.unix.to_secs());
        if ahead > TIME_AHEAD_MAX {
            return Err(ClientEnd::Time(ahead));
        }
        let prev_hash = BlockHash::from_slice(new.prev_hash.as_bytes())
            .map_err(|_| ClientEnd::Misbehaved("a block hash has not 32 bytes"))?;
        let end = NewEnd {
            id: TemplateId(new.template_id),
            prev_hash,
            nbits: CompactTarget::from_consensus(new.n_bits),
            header_time: new.header_timestamp,
        };
        // Whatever was named before is outdated.
        serving.named = None;
        let named = serving.futures.iter().position(|draft| draft.id == end.id);
        if let Some(draft) = named.and_then(|at| serving.futures.remove(at)) {
            return self.stand_on(end, draft, now.monotonic);
        }
        // It may say again what is known.
        if serving.standing.is_some_and(|standing| standing.tip.prev_hash == prev_hash) {
            return Ok(());
        }
        // It should have sent the template first (spec 7.3). Ids grow, so one that is passed cannot come any more.
        if end.id == NO_TEMPLATE || serving.last_id.is_some_and(|last| last >= end.id) {
            return Err(ClientEnd::Misbehaved("a new block names a template that was not sent for it"));
        }
        serving.named = Some((end, now.monotonic + NAMED_PATIENCE));
        Ok(())
    }

    /// The chain has a new end, or an old one a new template, with both at hand.
    fn stand_on(&mut self, end: NewEnd, draft: Draft, now: Monotonic) -> Result<(), ClientEnd> {
        let State::Serving(serving) = &mut self.state else { return Ok(()) };
        let NewEnd { prev_hash, nbits, header_time, .. } = end;
        let known = serving.standing.map(|standing| standing.tip).filter(|tip| tip.prev_hash == prev_hash);
        // What it says of the target is for weak blocks, which nobody here makes; blocks are what meets the difficulty.
        let tip = match known.filter(|tip| (tip.height, tip.nbits) == (draft.height, nbits)) {
            Some(tip) => tip,
            None => Tip::new(prev_hash, draft.height, nbits, header_time),
        };
        if tip.target == Target::ZERO {
            return Err(ClientEnd::Misbehaved("no hash can meet the difficulty of its next block"));
        }
        serving.futures.clear();
        serving.standing = Some(Standing { tip, header_time, told: now });
        if known != Some(tip) {
            (serving.next_request, serving.stale_since) = (now, None);
            self.events.push_back(Event::Tip(tip));
        }
        self.events.push_back(Event::Offered(draft.on(prev_hash)));
        serving.wanted = Some(draft);
        Ok(())
    }

    /// Takes in transactions that were asked for (spec 7.5).
    pub(super) fn handle_transactions(
        &mut self,
        data: &RequestTransactionDataSuccess<'_>,
        now: Now,
    ) -> Result<(), ClientEnd> {
        let State::Serving(serving) = &mut self.state else { return Ok(()) };
        let of = |request: &&mut Request| request.id.0 == data.template_id && request.open.is_some();
        let request = serving.requests.iter_mut().find(of);
        let Some((draft, _)) = request.and_then(|request| request.open.take()) else {
            return Err(ClientEnd::Misbehaved("it sent transactions that were not asked for"));
        };
        let prev_hash_of = |request: &Request| (request.id == draft.id).then_some(request.prev_hash);
        let prev_hash = serving.requests.iter().find_map(prev_hash_of);
        match &serving.standing {
            Some(standing) if Some(standing.tip.prev_hash) == prev_hash => {
                let elapsed = now.monotonic.saturating_since(standing.told).as_secs();
                let candidate = Candidate {
                    draft,
                    tip: standing.tip,
                    time: standing.header_time.saturating_add(u32::try_from(elapsed).unwrap_or(u32::MAX)),
                    room: self.room,
                    transactions: data
                        .transaction_list
                        .iter()
                        .map(B016M::as_bytes)
                        .map(<[u8]>::to_vec)
                        .collect(),
                };
                serving.stale_since = None;
                self.events.push_back(Event::Candidate(Box::new(candidate)));
            }
            // The chain has moved on meanwhile.
            Some(_) | None => serving.requests.retain(|request| request.id != draft.id),
        }
        Ok(())
    }

    /// Takes in that there are no transactions (spec 7.6).
    pub(super) fn handle_no_transactions(&mut self, error: &RequestTransactionDataError<'_>, now: Monotonic) {
        if error.template_id == NO_TEMPLATE.0 {
            if self.was_asked {
                (self.has_answered, self.pulse) = (true, Pulse::Given);
            }
            return;
        }
        let State::Serving(serving) = &mut self.state else { return };
        let of = |request: &Request| request.id.0 == error.template_id && request.open.is_some();
        let Some(at) = serving.requests.iter().position(of) else { return };
        let Some(Request { prev_hash, open: Some((draft, _)), .. }) = serving.requests.remove(at) else {
            return;
        };
        let is_current = serving.standing.is_some_and(|standing| standing.tip.prev_hash == prev_hash);
        if !is_current {
            return;
        }
        let is_outdated = DataError::from_wire(&error.error_code) == Some(DataError::StaleTemplateId);
        if !is_outdated {
            if serving.wanted.is_none() {
                self.events.push_back(Event::Withheld(printable(&error.error_code)));
            }
            return;
        }
        // A newer one should be on its way. Until it is here, this is the newest that is known, and is asked for again.
        let since = *serving.stale_since.get_or_insert(now);
        if serving.wanted.is_none() {
            serving.wanted = Some(draft);
            serving.next_request = now + REQUEST_PAUSE;
        }
        if now.saturating_since(since) >= STALE_PATIENCE {
            self.events.push_back(Event::Withheld(printable(&error.error_code)));
        }
    }

    /// Asks for the transactions of the newest template, if that is due.
    pub(super) fn request(&mut self, now: Monotonic) {
        let State::Serving(serving) = &mut self.state else { return };
        if now < serving.next_request || !serving.may_request() {
            return;
        }
        let (Some(standing), Some(draft)) = (&serving.standing, serving.wanted.take()) else { return };
        let (id, prev_hash) = (draft.id, standing.tip.prev_hash);
        let open = Some((draft, now + TRANSACTIONS_PATIENCE));
        serving.requests.push_back(Request { id, prev_hash, open });
        serving.next_request = now + REQUEST_PAUSE;
        self.send(RequestTransactionData { template_id: id.0 });
    }
}

impl Draft {
    /// What is remembered of it, once it is known what it stands on.
    fn on(&self, prev_hash: BlockHash) -> Offered {
        Offered { id: self.id, prev_hash, merkle_path: self.merkle_path.clone() }
    }
}
