//! The client's side of one SV2 connection to a pool, with a channel for all machines or one for each.
