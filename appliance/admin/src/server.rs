//! The server: a runtime on threads of its own, from start to stop.

use crate::appliance::Appliance;
use crate::config::{AdminConfig, StartError};
use std::net::SocketAddr;
use std::sync::Arc;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
}
