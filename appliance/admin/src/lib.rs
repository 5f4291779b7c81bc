//! # admin: letting an operator in
//!
//! Storey 4. The REST server, its page and its metrics: one file of thin handlers per resource below [`rest`], which
//! read a request, ask the [`Appliance`] and write the answer. The server runs on threads of its own and owns no
//! state that outlives a request; the data path never waits for it.
//!
//! It must never know reactors, the cluster model or how a request is carried out.
//!
//! What must hold:
//! - Whatever a client sends, it gets one [`Problem`](palisade_api::Problem) and nobody else is disturbed: bodies,
//!   connections, streams and times are bounded in [`limits`].
//! - Nobody comes in unknown: by the Unix socket the kernel tells who it is, over TCP a token does, on loopback too;
//!   beyond loopback nothing is served without a certificate as well. A port without a token is an explicit choice.
//! - A page of another origin cannot use an operator's browser: bodies must be JSON, the Origin must be ours, and on
//!   loopback the Host must be an address or localhost.
//! - A socket's file that is deleted from outside comes back, and keys that cannot be taken leave those of before in
//!   force; both are told for as long as they last (`keeper`).
//! - What an operator does is recorded before the client is answered: who, from where, what, and what became of it (`audit`);
//!   what lets somebody in stands neither there nor in the log (`withheld`).
//! - Clients that only hold connections open cannot shut an operator out (`crowd`).
//!
//! Start reading at [`appliance`] (what stands behind the door), then [`server`].

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod appliance;
pub mod body;
pub mod config;
pub mod events;
pub mod limits;
pub mod metrics;
pub mod rest;
pub mod server;

mod access;
mod audit;
mod certificate;
mod connection;
mod crowd;
mod exposition;
mod headers;
mod keeper;
mod keys;
mod objects;
mod page;
mod secret;
mod socket;
mod start_error;
mod tls;
mod withheld;

pub use appliance::{Appliance, CertificateState, DoorTrouble};
pub use body::parse_json;
pub use config::{AdminConfig, AdminStartError, SocketDoor, TcpAccess, TcpDoor, Tls};
pub use events::EventLog;
pub use metrics::MetricsSnapshot;
pub use server::Server;
