//! The shared tokio shell: accept, connection, outbox, shutdown.
