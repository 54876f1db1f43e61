//! The pool role.
