//! A declarator session whose client, node and clock do what the bytes say: it may refuse and disconnect, but it keeps its promises.

use core::convert::Infallible;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use adit_channel::TokenKey;
use adit_job_declarator::server::limits::{Budget, DECLARATIONS_KEPT};
use adit_job_declarator::server::{JdsConfig, Judgement, Request, Session, Solved};
use adit_messages::job_declaration::{
    AllocateMiningJobToken, DeclareMiningJob, ProvideMissingTransactionsSuccess, PushSolution,
};
use adit_messages::types::{B016M, B032, B064K, Seq064K, Str0255, U256};
use adit_messages::{Direction, Message, MessageKind, Protocol, common, decode, encode};
use adit_share::{MAX_EXTRANONCE_LEN, RawTransaction, Tip, witness_commitment};
use adit_transport::{Frame, FrameQueue};
use adit_units::{ConnectionId, Height, Monotonic, Now, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    consensus,
};
use rand_core::{TryCryptoRng, TryRng};

/// The wall clock at the start, in seconds.
const START: u32 = 1_700_000_000;
/// Most actions of one input.
const ACTIONS: usize = 200;
/// Bytes that the session may hold: so few that the limit is reached.
const BUDGET: usize = 9_000_000;
/// The transactions that there are.
const TRANSACTIONS: u32 = 8;

/// Numbers that are the same in every run.
struct Numbers(u64);

impl TryRng for Numbers {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| u32::try_from(number >> 32).unwrap_or_default())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 += 1;
        Ok(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = u8::try_from(self.try_next_u64()? >> 56).unwrap_or_default();
        }
        Ok(())
    }
}

impl TryCryptoRng for Numbers {}

/// The bytes of an input, zeros behind its end.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The session and what has been seen of it.
struct Stage {
    now: Now,
    session: Session,
    budget: Budget,
    rng: Numbers,
    tip: Tip,
    transactions: Vec<RawTransaction>,
    tokens: Vec<Vec<u8>>,
    questions: VecDeque<Request>,
    /// The coinbase and the transactions of the last declaration.
    last: Option<(Transaction, Vec<RawTransaction>)>,
    declared: u64,
    answered: u64,
    accepted: u64,
    blocks: u64,
}

/// The session has ended.
struct Ended;

/// Lets the bytes act.
///
/// # Panics
///
/// If a declaration is answered twice or accepted without a token, if a block that a node is to judge or to take is none or does not pay
/// the pool, if more is held than may be or anything is left at the end, or if the session sends what a server may not.
pub fn run(bytes: &[u8]) {
    let stage = play(bytes);
    let Stage { session, budget, questions, .. } = stage;
    drop((session, questions));
    assert_eq!(budget.held(), 0, "all that was held is given back");
}

/// Lets the bytes act, and gives what came of it.
fn play(bytes: &[u8]) -> Stage {
    let mut script = Script(bytes);
    let mut stage = Stage::new();
    for _ in 0..ACTIONS {
        if script.0.is_empty() || stage.act(&mut script).is_err() {
            break;
        }
    }
    stage
}

fn payout() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

fn tip(height: u32, seed: u8) -> Tip {
    let nbits = CompactTarget::from_consensus(0x207f_ffff);
    Tip::new(BlockHash::from_byte_array([seed; 32]), Height(height), nbits, START - 100)
}

fn transaction(number: u32) -> RawTransaction {
    let mut id = [7; 32];
    id.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    let transaction = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array(id), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[1; 64]]),
        }],
        output: vec![TxOut { value: Amount::ONE_SAT, script_pubkey: payout() }],
    };
    RawTransaction::parse(consensus::serialize(&transaction)).expect("it was just written")
}

fn coinbase(height: u32, transactions: &[RawTransaction]) -> Transaction {
    let mut script_sig = Builder::new().push_int(height.into()).push_slice(b"fuzz").into_bytes();
    script_sig.extend([0; MAX_EXTRANONCE_LEN]);
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(transactions) };
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script_sig),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(1_000), script_pubkey: payout() }, commitment],
    }
}

/// The coinbase before and behind the extranonce.
fn parts(coinbase: &Transaction) -> (Vec<u8>, Vec<u8>) {
    let bytes = consensus::serialize(coinbase);
    let script = coinbase.input.first().map_or(0, |input| input.script_sig.len());
    let end = 4 + 2 + 1 + 36 + 1 + script;
    let (with_extranonce, suffix) = bytes.split_at(end);
    let (prefix, _) = with_extranonce.split_at(end - MAX_EXTRANONCE_LEN);
    (prefix.to_vec(), suffix.to_vec())
}

fn text(bytes: &[u8]) -> Str0255<'_> {
    Str0255::new(bytes).expect("it is short")
}

fn part(bytes: &[u8]) -> B064K<'_> {
    B064K::new(bytes).expect("it is short")
}

fn whole(bytes: &[u8]) -> B016M<'_> {
    B016M::new(bytes).expect("it is short")
}

fn extranonce_field(bytes: &[u8]) -> B032<'_> {
    B032::new(bytes).expect("it is short")
}

fn list<'a, T>(elements: impl Iterator<Item = T>) -> Seq064K<'a, T> {
    Seq064K::new(elements.collect()).expect("there are few")
}

impl Stage {
    fn new() -> Self {
        let mut rng = Numbers(0);
        let key = Arc::new(TokenKey::generate(&mut rng));
        let now = Now { monotonic: Monotonic::from_micros(1_000_000), unix: UnixTime::from_secs(START) };
        let (budget, tip) = (Budget::new(BUDGET), tip(900_000, 1));
        let config = Arc::new(JdsConfig { least_percent: 50, ..JdsConfig::new(payout()) });
        let mut session = Session::new(config, key, ConnectionId(1), budget.clone(), now);
        session.handle_tip(tip, now);
        Self {
            now,
            session,
            budget,
            rng,
            tip,
            transactions: (0..TRANSACTIONS).map(transaction).collect(),
            tokens: Vec::new(),
            questions: VecDeque::new(),
            last: None,
            declared: 0,
            answered: 0,
            accepted: 0,
            blocks: 0,
        }
    }

    /// One action of the client, the node or the clock.
    fn act(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        match script.byte() % 10 {
            0 => self.any_frame(script),
            1 => self.set_up(script),
            2 => self.allocate(script),
            3 => self.declare(script),
            4 => self.provide(script),
            5 => self.solve(script),
            6 => {
                let height = self.tip.height.0 + u32::from(script.byte() % 2);
                self.tip = tip(height, script.byte());
                self.session.handle_tip(self.tip, self.now);
                self.settle();
                Ok(())
            }
            7 => {
                self.now = self.now.after(Duration::from_secs(script.byte().into()));
                let timed = self.session.handle_timeout(self.now, &mut self.rng);
                self.settle();
                timed.map_err(|_| Ended)
            }
            _ => {
                self.answer(script);
                Ok(())
            }
        }
    }

    fn any_frame(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let (extension, msg_type, length) = (script.byte() % 3, script.byte(), script.byte());
        let payload = script.bytes(length.into());
        let extension = if extension == 2 { 0x4000 } else { extension.into() };
        self.hear(Frame::new(extension, false, msg_type, payload).map_err(|_| Ended)?)
    }

    fn set_up(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        self.send(common::SetupConnection {
            protocol: common::Protocol::JobDeclarationProtocol,
            min_version: 2,
            max_version: 2,
            flags: (script.byte() % 4).into(),
            endpoint_host: text(&[]),
            endpoint_port: 0,
            vendor: text(&[]),
            hardware_version: text(&[]),
            firmware: text(&[]),
            device_id: text(&[]),
        })
    }

    fn allocate(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let length = script.byte() % 8;
        let user_identifier = text(script.bytes(length.into()));
        self.send(AllocateMiningJobToken { user_identifier, request_id: 1 })
    }

    /// A declaration that is good but for what the bytes change.
    fn declare(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let (mask, height, change) = (script.byte(), script.byte(), script.byte());
        let chosen = (0..8).filter(|bit| mask >> bit & 1 == 1);
        let transactions: Vec<_> =
            chosen.filter_map(|place: usize| self.transactions.get(place).cloned()).collect();
        let height = self.tip.height.0 + u32::from(height % 4 == 1);
        let coinbase = coinbase(height, &transactions);
        let (mut prefix, mut suffix) = parts(&coinbase);
        match change % 4 {
            1 => damage(&mut prefix, script),
            2 => damage(&mut suffix, script),
            _ => {}
        }
        let token = self.tokens.get(usize::from(script.byte()) % self.tokens.len().max(1)).cloned();
        let mut hashes: Vec<[u8; 32]> =
            transactions.iter().map(|known| known.wtxid().to_byte_array()).collect();
        if change >> 4 == 1 {
            hashes.push([change; 32]);
        }
        let token = token.unwrap_or_default();
        self.last = Some((coinbase, transactions));
        self.send(DeclareMiningJob {
            request_id: 1,
            mining_job_token: text(&token),
            version: 0x2000_0000,
            coinbase_tx_prefix: part(&prefix),
            coinbase_tx_suffix: part(&suffix),
            wtxid_list: list(hashes.iter().map(U256::from)),
            excess_data: part(&[]),
        })
    }

    fn provide(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let (mask, spoiled) = (script.byte(), script.byte());
        let chosen = self.transactions.iter().zip(0..8).filter(|(_, bit)| mask >> bit & 1 == 1);
        let mut sent: Vec<Vec<u8>> = chosen.map(|(raw, _)| raw.as_bytes().to_vec()).collect();
        if spoiled < 64 {
            sent.push(script.bytes(spoiled.into()).to_vec());
        }
        let transaction_list = list(sent.iter().map(|bytes| whole(bytes)));
        self.send(ProvideMissingTransactionsSuccess { request_id: 1, transaction_list })
    }

    fn solve(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let length = if script.byte().is_multiple_of(4) { script.byte() % 33 } else { 32 };
        let extranonce = vec![script.byte(); length.into()];
        let tip = self.tip;
        self.send(PushSolution {
            extranonce: extranonce_field(&extranonce),
            prev_hash: U256::from(tip.prev_hash.as_byte_array()),
            nonce: script.byte().into(),
            ntime: START,
            nbits: tip.nbits.to_consensus(),
            version: 0x2000_0000,
        })
    }

    /// The node answers the oldest question.
    fn answer(&mut self, script: &mut Script<'_>) {
        let (what, mask) = (script.byte(), script.byte());
        match self.questions.pop_front() {
            Some(Request::Resolve { id, wtxids }) => {
                let known = |wtxid| self.transactions.iter().zip(0..8).find(|(raw, _)| raw.wtxid() == wtxid);
                let has = |wtxid| known(wtxid).filter(|(_, bit)| mask >> bit & 1 == 1);
                let found = wtxids.into_iter().map(|wtxid| has(wtxid).map(|(raw, _)| raw.clone())).collect();
                self.session.handle_resolved(id, found, self.now);
            }
            Some(Request::Check { id, block, .. }) => {
                check_block(&block);
                let judgement = match what % 5 {
                    4 => Judgement::OffTip("late".to_owned()),
                    0 => Judgement::Refused("bad".to_owned()),
                    1 => Judgement::Unknown("away".to_owned()),
                    _ => Judgement::Valid,
                };
                self.session.handle_checked(id, judgement, self.now, &mut self.rng);
            }
            Some(Request::Keep(_) | Request::Propagate(_)) | None => {}
        }
        self.settle();
    }

    fn send<'a>(&mut self, message: impl Into<Message<'a>>) -> Result<(), Ended> {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).map_err(|_| Ended)?;
        queue.iter().try_for_each(|frame| self.hear(frame))
    }

    fn hear(&mut self, frame: Frame<'_>) -> Result<(), Ended> {
        // The transport refuses what is longer than the session allows.
        if frame.payload.len() > self.session.frame_limit(&frame.header) {
            return Err(Ended);
        }
        let info = adit_messages::info(Protocol::JobDeclaration, &frame.header);
        self.declared += u64::from(info.is_some_and(|info| info.kind == MessageKind::DeclareMiningJob));
        let heard = self.session.handle_frame(frame, self.now, &mut self.rng);
        self.settle();
        heard.map_err(|_| Ended)
    }

    /// Looks at all that the session wants and says.
    fn settle(&mut self) {
        while let Some(request) = self.session.poll_request() {
            match request {
                Request::Propagate(solved) => self.check_solved(&solved),
                Request::Keep(job) => assert!(self.session.recent().any(|recent| recent.id() == job.id())),
                question => self.questions.push_back(question),
            }
        }
        assert!(self.budget.held() <= BUDGET && self.session.recent().count() <= DECLARATIONS_KEPT);
        let said = core::mem::take(self.session.frames());
        for frame in said.iter() {
            let message = decode(Protocol::JobDeclaration, frame).expect("what is said can be read");
            assert_ne!(message.info().direction, Direction::ToServer, "{}", message.info().name);
            match message {
                Message::AllocateMiningJobTokenSuccess(success) => {
                    self.tokens.push(success.mining_job_token.as_bytes().to_vec())
                }
                Message::DeclareMiningJobSuccess(_) => {
                    self.answered += 1;
                    self.accepted += 1;
                }
                Message::DeclareMiningJobError(_) => self.answered += 1,
                _ => {}
            }
        }
        assert!(self.answered <= self.declared, "each declaration is answered once");
        assert!(self.accepted <= self.tokens.len() as u64, "each token is good once");
    }

    fn check_solved(&mut self, solved: &Solved) {
        self.blocks += 1;
        let block = check_block(&solved.bytes);
        assert_eq!(block.block_hash(), solved.hash);
        assert!(block.header.target().is_met_by(solved.hash), "it has the work");
        assert!(block.check_witness_commitment());
    }
}

/// A block is one, and pays the pool.
fn check_block(bytes: &[u8]) -> bitcoin::Block {
    let block: bitcoin::Block = consensus::deserialize(bytes).expect("a block can be read");
    assert!(block.check_merkle_root());
    let coinbase = block.coinbase().expect("its first transaction is a coinbase");
    let pays = coinbase.output.iter().filter(|output| output.script_pubkey == payout());
    assert!(pays.map(|output| output.value).sum::<Amount>() > Amount::ZERO, "it pays the pool");
    block
}

/// Changes some bytes.
fn damage(bytes: &mut Vec<u8>, script: &mut Script<'_>) {
    let (at, cut, length) = (script.byte(), script.byte() % 8, script.byte() % 8);
    let at = usize::from(at).min(bytes.len());
    let end = (at + usize::from(cut)).min(bytes.len());
    bytes.splice(at..end, script.bytes(length.into()).iter().copied());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_pass(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            run(&bytes);
        }
    }

    fn stored(name: &str) -> Stage {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/jds_session");
        play(&std::fs::read(format!("{folder}/{name}")).unwrap())
    }

    #[test]
    fn the_stored_inputs_get_as_far_as_their_names_say() {
        assert_eq!(stored("declares-known").accepted, 1);
        let stage = stored("declares-missing");
        assert_eq!((stage.accepted, stage.answered), (1, 1));
        assert!(stored("finds-a-block").blocks > 0);
        let stage = stored("is-refused-by-the-node");
        assert_eq!((stage.accepted, stage.answered), (0, 1));
        assert_eq!(stored("is-held-for-a-tip").accepted, 1);
        assert_eq!(stored("damaged-coinbase").accepted, 0);
    }
}
