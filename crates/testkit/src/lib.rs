//! What tests of the whole stack share: the bodies of the fuzz targets, real nodes and simulated miners.

pub mod bitcoind;
pub mod fuzz;
pub mod mining;
