//! What tests of the whole stack share: the bodies of the fuzz targets, real nodes, pools in memory, simulated miners, attackers and the load generator.
#![forbid(unsafe_code)]

pub mod answers;
pub mod bitcoind;
pub mod flood;
pub mod fuzz;
pub mod load;
pub mod mining;
pub mod session_model;
#[cfg(feature = "stage")]
pub mod stage;
