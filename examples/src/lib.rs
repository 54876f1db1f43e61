//! Small programs, one per newcomer's question; each lives in `src/bin`.
#![forbid(unsafe_code)]
