//! The translator as a program runs it: sockets, tasks and numbers around the pure core.
