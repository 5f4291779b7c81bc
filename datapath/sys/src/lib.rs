//! # sys: the hands of the data path
//!
//! Storey 2. Everything the data path asks of the kernel and the hardware: rings, files and block devices,
//! hugepages, eventfds, sleeping, pinning, the clock. Together with `vhost/memory` the only crate with `unsafe`.
//!
//! It must never know virtio, volumes, the cluster or REST, and it never decides: it does what it is told and says
//! what became of it.
//!
//! Invariants:
//! - A device is used only under an exclusive lock of its open file description ([`device`]): a predecessor's late
//!   write cannot land after we have begun.
//! - No thread of the daemon waits for a disk in the kernel: each file and block device has a process of its own for that
//!   (`disk_process`), so that one that hangs keeps no other's files, locks or sockets when the daemon ends.
//! - No thread of the daemon holds or closes a descriptor of a kind whose closing may hang: what somebody from outside
//!   sends is received, looked at and let go in a process of its own, too ([`fd_filter`]).
//! - Whoever opens a device is shown its identity, read from the open descriptor, before anything is read from it or
//!   written to it ([`device::identity`]).
//! - Success is never reported for a short transfer ([`local`]).
//! - Memory is read and written only where it lies in a lease that the one who does it has in hand, and the lease is
//!   kept until the kernel and the disk processes are done with it ([`local`]).
//! - `start`, `submit` and `reap` of [`LocalDevices`] neither allocate nor block nor log.
//! - Opening, creating, probing and pinning guest memory happen on control threads; a reactor only adds the result.
//!
//! Start reading at [`local`] (the hot path), then [`device`] (how a device is opened) and [`sleep`].

pub mod affinity;
pub mod clock;
mod copy;
pub mod counting_allocator;
pub mod device;
mod disk_process;
pub mod event;
pub mod fd_filter;
pub mod filesystem;
pub mod guard;
mod heartbeat;
pub mod hugepage;
pub mod ktls;
pub mod local;
#[cfg(test)]
mod made_up;
pub mod memory_limit;
mod own_process;
pub mod peer;
pub mod peer_event;
pub mod signals;
pub mod sleep;
pub mod stable_file;
pub mod stopwatch;

pub use clock::MonotonicClock;
pub use device::{DeviceMedium, DeviceSpec, OpenError, Opened};
pub use event::EventFd;
pub use fd_filter::FdFilter;
pub use hugepage::{HugeMemory, HugePool, PageBacking};
pub use local::{Coverage, LocalDevices, LocalSettings, MemoryRegistration, SocketConnection};
pub use memory_limit::MemoryLimit;
pub use peer_event::{PeerEvent, PeerSignal};
pub use sleep::{Pending, Waker};
pub use stopwatch::ThreadStopwatch;
