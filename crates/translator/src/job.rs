//! A job as machines get it: the notify line, and what a share of it is worth above.
