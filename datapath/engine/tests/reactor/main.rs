//! The reactor against scripted sources and obedient devices.

mod batch;
mod bench_of;
mod changes;
mod counters;
mod devices;
mod isolation;
mod long;
mod model;
mod pieces;
mod ranges;
mod rations;
mod requests;
mod revoke;
mod settings;
mod sleep;
mod slow_ranges;
mod steps;
mod touches;
mod turns;
mod walks;
mod ways;
