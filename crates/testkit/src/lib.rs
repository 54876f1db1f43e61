//! Real nodes, simulated miners and the house rules.
