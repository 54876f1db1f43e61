//! One table of all SV2 messages, their flags, limits, error codes and TLVs.
