//! The reactor against scripted sources and obedient devices.

mod bench_of;
mod changes;
mod isolation;
mod long;
mod model;
mod requests;
