//! Raft: the voters of the daemon on a runtime, a network and media of our own.
//!
//! Openraft asks for everything that is not arithmetic by its runtime seam: tasks, time, chance, channels. Here all of that is one
//! thread, a clock that stands still while somebody works, and the seed ([`tasks`]), so that a run replays bit by bit.
//!
//! ```text
//!   clients -- network -- node: openraft -- log store      -- medium (loses what was not synced)
//!                |          |           `-- state machine  -- medium
//!                `-- node   `-- history: one sequence, applied by all
//! ```
//!
//! Start reading at [`run`], then [`history`]; below that are [`tasks`] and [`runtime`].

pub mod clients;
pub mod cluster;
pub mod following;
pub mod forgetting;
pub mod history;
pub mod medium;
pub mod mpsc;
pub mod mutex;
pub mod network;

pub mod oneshot;
pub mod run;
pub mod runtime;
pub mod sleep;
pub mod tasks;
pub mod watch;
pub mod watched_state;
