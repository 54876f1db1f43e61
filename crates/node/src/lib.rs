//! The only code that speaks to a Bitcoin node.
