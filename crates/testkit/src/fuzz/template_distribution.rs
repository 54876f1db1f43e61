//! Frames from anybody, given to both sides of the template distribution protocol.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use adit_messages::{Message, Protocol, Side, decode};
use adit_node::tdp::{Client, ClientConfig, Event, Offers, Pulse, REQUEST_PAUSE, Room, Session};
use adit_node::{Devnet, DevnetConfig, Pace};
use adit_transport::{Frame, FrameQueue};
use adit_units::{Monotonic, Now, UnixTime, Work};
use bitcoin::Network;

const START: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };

/// The first byte chooses the side. Behind it stand frames, each after a byte that says what happens before it: how many seconds pass
/// (its low half), and what else (its high half).
pub fn run(bytes: &[u8]) {
    let Some((side, rest)) = bytes.split_first() else { return };
    if side & 1 == 0 { Server::new().run(rest) } else { Peer::new().run(rest) }
}

/// What happens before the next frame, and that frame.
fn next(bytes: &[u8]) -> Option<(u8, Frame<'_>, &[u8])> {
    let (action, rest) = bytes.split_first()?;
    let (frame, behind) = Frame::split_from(rest)?;
    Some((*action, frame, behind))
}

fn seconds(action: u8) -> Duration {
    Duration::from_secs(u64::from(action & 0x0f))
}

/// A server with a node that goes on, and what its client was told.
struct Server {
    now: Now,
    chain: Devnet,
    offers: Offers,
    session: Session,
    last: Option<u64>,
    named: Option<u64>,
}

impl Server {
    fn new() -> Self {
        let config = DevnetConfig {
            pace: Pace::Fixed(Work::from_hashes(1)),
            transactions: 3,
            arrival: Duration::from_secs(1),
            ..DevnetConfig::new([1; 32])
        };
        let mut chain = Devnet::new(&config, START);
        let offers = Offers::first(START.unix, Arc::new(chain.template(START)));
        let session = Session::new(1, Arc::new(offers.clone()), START);
        Self { now: START, chain, offers, session, last: None, named: None }
    }

    fn run(mut self, mut rest: &[u8]) {
        while let Some((action, frame, behind)) = next(rest) {
            rest = behind;
            self.now = self.now.after(seconds(action));
            if self.act(action).is_err() || self.hear(frame).is_err() {
                break;
            }
        }
        self.check_frames();
    }

    /// Time passes, and the node has news.
    fn act(&mut self, action: u8) -> Result<(), ()> {
        self.session.handle_timeout(self.now).map_err(drop)?;
        if action & 0x10 != 0 {
            self.offers = self.offers.with(Arc::new(self.chain.template(self.now)));
        }
        if action & 0x20 != 0 {
            let mut tip = self.chain.template(self.now).tip;
            tip.prev_hash = bitcoin::hashes::Hash::from_byte_array([action; 32]);
            tip.height.0 += 1;
            self.offers = self.offers.ahead(&tip, self.now.unix).unwrap_or_else(|| self.offers.clone());
        }
        if action & 0x30 != 0 {
            self.session.handle_offers(Arc::new(self.offers.clone()), self.now).map_err(drop)?;
        }
        Ok(())
    }

    fn hear(&mut self, frame: Frame<'_>) -> Result<(), ()> {
        // The transport refuses what is longer than the session allows.
        if frame.payload.len() > self.session.frame_limit(&frame.header) {
            return Err(());
        }
        let heard = self.session.handle_frame(frame, self.now);
        if self.session.awaits_pulse() && self.now.unix.to_secs().is_multiple_of(2) {
            self.session.handle_pulse();
        }
        while let Some(block) = self.session.poll_block() {
            // It has the work; the rest is for the node to say, which must not fail over it.
            let _ = self.chain.submit_block(&block.to_bytes(), self.now);
        }
        self.check_frames();
        heard.map_err(drop)
    }

    /// All that the server says is meant for clients, ids grow, and a new block names the template before it.
    fn check_frames(&mut self) {
        let said = core::mem::take(self.session.frames());
        for message in messages(&said, Side::Client) {
            match message {
                Message::NewTemplate(new) => {
                    assert!(self.last.is_none_or(|last| last < new.template_id), "ids grow");
                    assert!(self.named.is_some() || new.future_template, "its block is known");
                    self.last = Some(new.template_id);
                }
                Message::TemplateSetNewPrevHash(tip) => {
                    assert_eq!(Some(tip.template_id), self.last, "it names what was just sent");
                    self.named = self.last;
                }
                _ => {}
            }
        }
    }
}

/// A client with any server.
struct Peer {
    now: Now,
    client: Client,
    /// When transactions of a template were asked for last.
    asked: HashMap<u64, Monotonic>,
}

impl Peer {
    fn new() -> Self {
        let room = Room { bytes: 200, sigops: 40 };
        let config = ClientConfig { host: "tp.example".into(), port: 8442, room, pulse: Pulse::Unknown };
        Self { now: START, client: Client::new(&config, START), asked: HashMap::new() }
    }

    fn run(mut self, mut rest: &[u8]) {
        while let Some((action, frame, behind)) = next(rest) {
            rest = behind;
            self.now = self.now.after(seconds(action));
            if self.client.handle_timeout(self.now).is_err() {
                break;
            }
            let due = self.client.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now.monotonic), "what was due is done");
            if action & 0x10 != 0 {
                self.client.ping(self.now.monotonic);
            }
            let is_read = frame.payload.len() <= self.client.frame_limit(&frame.header);
            let heard = is_read && self.client.handle_frame(frame, self.now).is_ok();
            self.look(action & 0x20 != 0);
            self.check_frames();
            if !heard {
                break;
            }
        }
    }

    /// Looks at templates, unless that is `late`.
    fn look(&mut self, late: bool) {
        while let Some(event) = self.client.poll_event() {
            let Event::Candidate(candidate) = event else { continue };
            let (id, tip) = (candidate.id(), *candidate.tip());
            if let Ok(template) = candidate.check(Network::Regtest, None) {
                assert_eq!((template.id, template.tip), (id, tip));
                assert_eq!(template.subsidy.checked_add(template.fees), Some(template.coinbase_value));
            }
            if !late {
                self.client.handle_judged(id, self.now);
            }
        }
    }

    /// All that the client says is meant for servers, and transactions of one template are not asked for again at once.
    fn check_frames(&mut self) {
        let said = core::mem::take(self.client.frames());
        for message in messages(&said, Side::Server) {
            if let Message::RequestTransactionData(request) = message
                && request.template_id != u64::MAX
            {
                let now = self.now.monotonic;
                let before = self.asked.insert(request.template_id, now);
                assert!(before.is_none_or(|before| now - before >= REQUEST_PAUSE), "not again at once");
            }
        }
    }
}

/// What was said, all of it for `receiver`.
fn messages(said: &FrameQueue, receiver: Side) -> impl Iterator<Item = Message<'_>> {
    said.iter().map(move |frame| {
        let message = decode(Protocol::TemplateDistribution, frame).expect("what is said can be read");
        assert!(message.info().direction.reaches(receiver), "{}", message.info().name);
        message
    })
}
