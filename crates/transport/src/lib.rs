//! The Noise NX handshake and SV2 frames sealed and opened in place; knows no message.
