//! The SV1 wire: JSON lines, read leniently and written strictly.
