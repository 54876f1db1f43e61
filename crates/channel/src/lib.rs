//! Channels, extranonce space, vardiff and job lifetime, shared by every role that serves miners.
