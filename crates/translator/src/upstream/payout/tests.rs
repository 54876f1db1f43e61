//! Payouts.
