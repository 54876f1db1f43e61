//! Who a machine says that it works for: the user name and password of SV1.
