//! The durable share log.
