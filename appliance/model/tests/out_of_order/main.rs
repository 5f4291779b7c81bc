//! What `check` says of a cluster that no command makes: a database that was read back damaged, or a fault of ours. Each
//! rule is broken by the smallest step there is, and kept by the one beside it.

#![cfg(test)]

#[path = "../lab/mod.rs"]
mod lab;
mod places;
mod resources;
mod rich;
