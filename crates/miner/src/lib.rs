//! An SV2 client library with a CPU miner on it.
