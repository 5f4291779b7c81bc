//! # sim: the daemon's machines in a world of our own making
//!
//! Storey 6. Puts simulated disks, guests, memory and time under the very engine, ring reader and request parser that
//! the daemon runs, lets everything go wrong that may go wrong, and checks what must always hold. A run is a seed and
//! a plan; it replays bit by bit, which its hash proves.
//!
//! It must never contain a second version of anything the daemon does, nor ask a real clock, the operating system's
//! chance, or a thread.
//!
//! ```text
//!   guest ── door ── source ──┐                    ┌── devices ── array ── medium
//!     │     (lists or rings)  ├── reactor (engine) ┤     (faults, late, torn, cut)
//!   watch ── history          └── kill, drain      └── pool
//!
//!   operator ── cluster ── node (control) ── reactors, door, work on media
//!
//!   clients ── session (port) ── links ── session (port) ── clients
//!
//!   clients ── network ── voters (Raft) ── log and state on media that lose what was not synced
//! ```
//!
//! What is checked, by number of the house's invariants: 1 in [`door`], [`ring_door`] and [`guest`]; 2 in
//! [`history`] and [`backup`]; 4 and 13 in [`links`] and [`forward`]; 5 in [`leases`] and [`sensing`]; 6 and 7 in [`moves`],
//! [`remap`] and [`mappings`]; 10 in [`operator`],
//! [`superblock`] and [`raft`], which also checks 13; 15 in [`lineage`]; 11 and 12 in [`verify`]; 14 in [`memory`],
//! [`guest`] and [`hostile`]; and that a turn does not
//! allocate, in [`daemon`].
//!
//! Start reading at [`scenario`], then [`world`]. [`plan::Break`] lists the deliberate faults that prove the checkers
//! can fail.

#![forbid(unsafe_code)]

pub mod array;
pub mod backup;
mod chaos;
pub mod clock;
pub mod daemon;
pub mod devices;
pub mod disk;
pub mod door;
pub mod finding;
pub mod forward;
mod frames;
pub mod guest;
pub mod history;
pub mod hostile;
pub mod leases;
pub mod lineage;
pub mod links;
pub mod mappings;
pub mod memory;
pub mod moves;
pub mod mutation;
pub mod node;
pub mod operator;
pub mod plan;
pub mod pool;
pub mod port;
pub mod raft;
pub mod remap;
pub mod ring_door;
pub mod rng;
pub mod scenario;
pub mod sensing;
pub mod source;
pub mod stamp;
pub mod suite;
pub mod superblock;
mod taking;
pub mod verify;
pub mod vm;
pub mod watch;
pub mod world;

/// Counts what turns allocate, in every binary and test that links this crate.
#[global_allocator]
static ALLOCATOR: palisade_sys::counting_allocator::CountingAllocator =
    palisade_sys::counting_allocator::CountingAllocator;
