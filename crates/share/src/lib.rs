//! From template to coinbase to job, and the judge of one share.
