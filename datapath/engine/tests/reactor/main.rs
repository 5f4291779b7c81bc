//! The reactor against scripted sources and obedient devices.

mod bench_of;
mod changes;
mod counters;
mod isolation;
mod long;
mod model;
mod requests;
