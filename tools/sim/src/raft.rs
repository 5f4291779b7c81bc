//! Raft: the voters of the daemon on a runtime, a network and media of our own.
//!
//! Openraft asks for everything that is not arithmetic by its runtime seam: tasks, time, chance, channels. Here all of that is one
//! thread, a clock that stands still while somebody works, and the seed ([`tasks`]), so that a run replays bit by bit.
//!
//! Start reading at [`tasks`] and [`runtime`].

pub mod mpsc;
pub mod mutex;
pub mod oneshot;
pub mod runtime;
pub mod sleep;
pub mod tasks;
pub mod watch;
