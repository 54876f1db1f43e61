//! What do these bytes say: reads frames in hexadecimal and prints their headers and messages.
//!
//! Run it with `cargo run -p adit-examples --bin decode_frame`, or put `-- HEX` behind it to give it frames of the mining
//! protocol in the clear; `test-vectors/messages/frames.tsv` has one of each.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an example speaks to the terminal")]

use adit_messages::{Protocol, decode, info};
use adit_transport::Frame;
use anyhow::{Context, Result, bail};
use bitcoin::hex::FromHex;

/// A `SubmitSharesExtended`: a miner's share with its nonce, time, version and extranonce.
const SAMPLE: &str = "00801b1c00000400000005000000060000000403020101f1536504e0ff3f030e0f10";

fn main() -> Result<()> {
    let text = std::env::args().nth(1);
    let text = text.as_deref().unwrap_or(SAMPLE);
    let bytes = Vec::from_hex(text).context("give the frame in hexadecimal")?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let Some((frame, behind)) = Frame::split_from(rest) else {
            bail!("{} bytes are left, which is less than their header says", rest.len());
        };
        print(frame);
        rest = behind;
    }
    Ok(())
}

fn print(frame: Frame<'_>) {
    let header = frame.header;
    println!("extension type  {:#06x}", header.extension_type);
    println!("for a channel   {}", header.channel_msg);
    println!("message type    {:#04x}", header.msg_type);
    println!("payload         {} bytes", header.length);
    match info(Protocol::Mining, &header) {
        Some(info) => println!("name            {} ({:?})", info.name, info.direction),
        None => println!("name            unknown to the mining protocol"),
    }
    match decode(Protocol::Mining, frame) {
        Ok(message) => println!("{message:#?}"),
        Err(error) => println!("not decoded: {error}"),
    }
}
