//! Forms of lines that machines are known to send, and the one form that is written.
