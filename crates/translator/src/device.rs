//! What is known of devices by the name that they give themselves.
