//! The table against the specification, the codec against the published one, and both against bytes that nobody meant.

mod hostile;
mod limits;
mod oracle;
mod samples;
mod spec;
mod tlv;

use adit_transport::{Frame, FrameQueue, Header};

use crate::{Message, encode};

/// The bytes of one frame of this message.
fn frame_bytes(message: &Message<'_>) -> Vec<u8> {
    let mut queue = FrameQueue::default();
    encode(message.clone(), &mut queue).expect("samples are short");
    queue.as_bytes().to_vec()
}

/// One whole frame.
fn frame(bytes: &[u8]) -> Frame<'_> {
    match Frame::split_from(bytes) {
        Some((frame, [])) => frame,
        other => panic!("not one frame: {other:?}"),
    }
}

/// A frame of any bytes with the header of a row.
fn frame_of<'a>(info: &crate::MessageInfo, payload: &'a [u8]) -> Frame<'a> {
    Frame::new(info.extension_type, info.channel_msg, info.msg_type, payload)
        .expect("payloads here are short")
}

/// A header of a row that announces `length` bytes.
fn header_of(info: &crate::MessageInfo, length: u32) -> Header {
    let (extension_type, channel_msg, msg_type) = (info.extension_type, info.channel_msg, info.msg_type);
    Header { extension_type, channel_msg, msg_type, length }
}

/// The lines of a file of vectors, comments left out, split at tabs.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

/// Bytes from hexadecimal digits.
fn unhex(digits: &str) -> Vec<u8> {
    let digits = digits.replace(' ', "");
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { panic!("an odd number of digits") };
    let pairs = pairs.iter().map(|pair| core::str::from_utf8(pair).expect("digits are ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
}
