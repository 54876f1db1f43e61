//! How do two programs get an encrypted connection: a server and a client shake hands over a socket and exchange a message.
//!
//! Run it with `cargo run -p adit-examples --bin handshake`. Blocking sockets and two threads keep it short; `adit-net` does the same
//! for many connections at once.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use adit_net::{Clock, OsRng};
use adit_transport::{
    ACT1_LEN, ACT2_LEN, AuthorityKeyPair, AuthorityPublicKey, FrameQueue, Identity, Initiator, RecvBuffer,
    Responder, StaticKeyPair, Transport,
};
use adit_units::UnixTime;
use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    // The pool's authority certifies a server's own key. `adit keys` does this once, away from the server; its public key
    // is what miners put into their configuration.
    let authority = AuthorityKeyPair::generate(&mut OsRng);
    let server_key = StaticKeyPair::generate(&mut OsRng);
    let now = Clock.unix();
    let in_a_day = UnixTime::from_millis(now.to_millis() + 86_400_000);
    let identity = Arc::new(Identity::new(&authority, server_key, now, in_a_day)?);
    println!("authority: {}", authority.public_key());

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || serve(&listener, identity));
    ask(TcpStream::connect(address)?, authority.public_key(), now)?;
    server.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The server: answers act 1 with act 2, then echoes one message.
fn serve(listener: &TcpListener, identity: Arc<Identity>) -> Result<()> {
    let (mut socket, _) = listener.accept()?;
    let mut act1 = [0; ACT1_LEN];
    socket.read_exact(&mut act1)?;
    let (act2, mut transport) = Responder::new(identity, &mut OsRng).accept(&act1)?;
    socket.write_all(&act2)?;

    let (msg_type, payload) = receive(&mut socket, &mut transport)?;
    println!("server got message {msg_type:#04x}: {}", String::from_utf8_lossy(&payload));
    send(&mut socket, &mut transport, msg_type, b"hello, client")
}

/// The client: trusts nobody but the authority, then asks.
fn ask(mut socket: TcpStream, authority: AuthorityPublicKey, now: UnixTime) -> Result<()> {
    let initiator = Initiator::new(Some(authority), &mut OsRng);
    socket.write_all(&initiator.act1())?;
    let mut act2 = [0; ACT2_LEN];
    socket.read_exact(&mut act2)?;
    let mut transport = initiator.finish(&act2, now).context("the server is not to be trusted")?;

    send(&mut socket, &mut transport, 0x7f, b"hello, server")?;
    let (msg_type, payload) = receive(&mut socket, &mut transport)?;
    println!("client got message {msg_type:#04x}: {}", String::from_utf8_lossy(&payload));
    Ok(())
}

/// Queues a frame in the clear, seals all that is queued, and writes it at once.
fn send(socket: &mut TcpStream, transport: &mut Transport, msg_type: u8, payload: &[u8]) -> Result<()> {
    let mut queue = FrameQueue::default();
    queue.push(0, false, msg_type, payload)?;
    let mut outbox = Vec::new();
    transport.sealer.seal_all(&mut queue, &mut outbox)?;
    socket.write_all(&outbox)?;
    Ok(())
}

/// Reads until a whole frame has come and opens it; a program with more to say keeps the buffer for the next one.
fn receive(socket: &mut TcpStream, transport: &mut Transport) -> Result<(u8, Vec<u8>)> {
    /// The longest message that is expected here, in bytes.
    const PAYLOAD_LIMIT: usize = 1024;
    let mut buffer = RecvBuffer::default();
    loop {
        if let Some(frame) = transport.opener.open(&mut buffer, |_header| PAYLOAD_LIMIT)? {
            return Ok((frame.header.msg_type, frame.payload.to_vec()));
        }
        let received = socket.read(buffer.spare(4096))?;
        if received == 0 {
            bail!("the peer went away");
        }
        buffer.advance(received);
    }
}
