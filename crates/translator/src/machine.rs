//! The server's side of one SV1 connection, from the first line to the last.
