//! What each command does: ask, then show.

pub mod attachment;
pub mod cluster;
pub mod cluster_status;
pub mod disk;
pub mod disk_preview;
pub mod events;
pub mod health;
pub mod node;
pub mod preflight;
pub mod state;
pub mod takeover;
pub mod top;
pub mod volume;
