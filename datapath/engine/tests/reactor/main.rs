//! The reactor against scripted sources and obedient devices.

mod bench_of;
mod changes;
mod counters;
mod devices;
mod isolation;
mod long;
mod model;
mod requests;
mod revoke;
mod settings;
mod sleep;
