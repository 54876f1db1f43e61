//! One module for each command.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod init;
pub(crate) mod jdc;
pub(crate) mod jds;
pub(crate) mod keys;
pub(crate) mod miner;
pub(crate) mod pool;
pub(crate) mod template_provider;
pub(crate) mod translator;
