//! Dialogues with SV1 pools.
