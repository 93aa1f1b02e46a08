//! Users and permissions: who may do what.

pub mod permissions;
