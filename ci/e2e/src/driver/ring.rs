//! The guest's side of a split ring (virtio 1.3, 2.7) in a guest's memory that is a file.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::failure::{Failure, Outcome, demand};

/// Where the monitor says it has the guest's address 0.
pub const USER_BASE: u64 = 0x7f00_0000_0000;
/// Where the rings end and requests may lie.
pub const ARENA: u64 = 1 << 20;
const MEMORY_BYTES: u64 = 64 << 20;
/// Entries: the length of the longest chain.
pub const ENTRIES: u16 = 256;

const NEXT: u16 = 1;
const DEVICE_WRITES: u16 = 2;
const INDIRECT: u16 = 4;

/// Guest addresses of the ring's three parts.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    pub descriptors: u64,
    pub avail: u64,
    pub used: u64,
}

/// One piece of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Where it lies.
    pub address: u64,
    /// How long it is.
    pub bytes: u32,
    /// Whether the device writes it (or reads it).
    pub device_writes: bool,
}

/// The memory and the ring in it.
#[derive(Debug)]
pub struct Ring {
    memory: File,
    memory_bytes: u64,
    avail: u16,
    used: u16,
    kick: OwnedFd,
    call: OwnedFd,
    error: OwnedFd,
}

/// Where the parts lie: the tables one behind the other, the used ring on a page of its own.
const PLACES: Places = Places {
    descriptors: 0,
    avail: 16 * ENTRIES as u64,
    used: 16 * ENTRIES as u64 + 4096,
};

impl Ring {
    /// An empty ring in memory of zeroes.
    ///
    /// # Errors
    /// When the kernel gives no memory or no eventfd.
    pub fn new() -> Outcome<Self> {
        Self::in_memory_of(MEMORY_BYTES)
    }

    /// The same in so many bytes, the first mebibyte of which is the ring's.
    ///
    /// # Errors
    /// As [`Ring::new`].
    pub fn in_memory_of(memory_bytes: u64) -> Outcome<Self> {
        let during = |error: rustix::io::Errno| Failure::during("memory and events of a guest", error);
        let memory = memfd_create("guest", MemfdFlags::CLOEXEC).map_err(during)?;
        ftruncate(&memory, memory_bytes).map_err(during)?;
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(during);
        Ok(Self {
            memory: memory.into(),
            memory_bytes,
            avail: 0,
            used: 0,
            kick: event()?,
            call: event()?,
            error: event()?,
        })
    }

    pub fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub fn size(&self) -> u16 {
        ENTRIES
    }

    pub fn kick(&self) -> BorrowedFd<'_> {
        self.kick.as_fd()
    }

    pub fn call(&self) -> BorrowedFd<'_> {
        self.call.as_fd()
    }

    pub fn error(&self) -> BorrowedFd<'_> {
        self.error.as_fd()
    }

    /// How often the device has told of an error since it was asked last.
    pub fn errors(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.error, &mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }

    pub fn places(&self) -> Places {
        PLACES
    }

    /// Where a daemon that has nothing in flight goes on: at what it has answered.
    pub fn base(&self) -> u16 {
        self.used
    }

    /// Writes guest memory.
    ///
    /// # Errors
    /// Beyond its end.
    pub fn put(&self, address: u64, bytes: &[u8]) -> Outcome {
        demand(
            address + bytes.len() as u64 <= self.memory_bytes,
            format!("{address:#x} is no guest memory"),
        )?;
        self.memory
            .write_all_at(bytes, address)
            .map_err(|error| Failure::during("guest memory", error))
    }

    /// Reads guest memory.
    ///
    /// # Errors
    /// Beyond its end.
    pub fn get(&self, address: u64, bytes: usize) -> Outcome<Vec<u8>> {
        let mut all = vec![0; bytes];
        self.memory
            .read_exact_at(&mut all, address)
            .map_err(|error| Failure::during("guest memory", error))?;
        Ok(all)
    }

    /// Offers a chain that begins at descriptor `head`: in the table itself, or in an indirect table at `indirect`.
    ///
    /// # Errors
    /// As [`Ring::put`].
    pub fn offer(&mut self, head: u16, parts: &[Part], indirect: Option<u64>) -> Outcome {
        demand(
            parts.len() <= usize::from(ENTRIES),
            format!("a chain of {}", parts.len()),
        )?;
        let first = if indirect.is_some() { 0 } else { head };
        let table: Vec<u8> = (0_u16..)
            .zip(parts)
            .flat_map(|(index, part)| {
                let last = usize::from(index) + 1 == parts.len();
                let flags = if part.device_writes { DEVICE_WRITES } else { 0 } | if last { 0 } else { NEXT };
                descriptor(
                    part.address,
                    part.bytes,
                    flags,
                    if last { 0 } else { first + index + 1 },
                )
            })
            .collect();
        match indirect {
            Some(address) => {
                self.put(address, &table)?;
                let one = descriptor(address, table.len() as u32, INDIRECT, 0);
                self.put(PLACES.descriptors + 16 * u64::from(head), &one)?;
            }
            None => self.put(PLACES.descriptors + 16 * u64::from(head), &table)?,
        }
        let slot = u64::from(self.avail % ENTRIES);
        self.put(PLACES.avail + 4 + 2 * slot, &head.to_le_bytes())?;
        self.avail = self.avail.wrapping_add(1);
        self.put(PLACES.avail + 2, &self.avail.to_le_bytes())?;
        self.ring_bell()
    }

    /// Offers more chains than the ring has entries, as no driver may (virtio 1.3, 2.7.13).
    ///
    /// # Errors
    /// As [`Ring::put`].
    pub fn jump(&mut self) -> Outcome {
        self.avail = self.avail.wrapping_add(ENTRIES + 1);
        self.put(PLACES.avail + 2, &self.avail.to_le_bytes())?;
        self.ring_bell()
    }

    /// Takes the memory away from under the device: an access to it is a fault from now on.
    ///
    /// # Errors
    /// When the kernel does not let it be.
    pub fn lose_memory(&self) -> Outcome {
        ftruncate(&self.memory, 0).map_err(|error| Failure::during("guest memory", error))
    }

    /// Tells the device to look.
    ///
    /// # Errors
    /// When the event cannot be written.
    pub fn ring_bell(&self) -> Outcome {
        rustix::io::write(&self.kick, &1_u64.to_ne_bytes())
            .map(drop)
            .map_err(|error| Failure::during("the kick", error))
    }

    /// The heads of the chains that were answered since it was asked last.
    ///
    /// # Errors
    /// As [`Ring::get`].
    pub fn answered(&mut self) -> Outcome<Vec<u32>> {
        let index = self.get(PLACES.used + 2, 2)?;
        let end = u16::from_le_bytes(index.try_into().unwrap_or_default());
        let mut heads = Vec::new();
        while self.used != end {
            demand(
                heads.len() < usize::from(ENTRIES),
                "more answers than the ring has entries",
            )?;
            let slot = u64::from(self.used % ENTRIES);
            let entry = self.get(PLACES.used + 4 + 8 * slot, 4)?;
            heads.push(u32::from_le_bytes(entry.try_into().unwrap_or_default()));
            self.used = self.used.wrapping_add(1);
        }
        Ok(heads)
    }

    /// Waits for an interrupt, or for `socket` to have something to say: true then.
    ///
    /// # Errors
    /// When neither comes within `patience`.
    pub fn sleep(&self, socket: BorrowedFd<'_>, patience: Duration) -> Outcome<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let mut events = [
                PollFd::from_borrowed_fd(self.call.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(socket, PollFlags::IN),
            ];
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut events, Some(&limit)) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Failure::during("waiting for an interrupt", error)),
                Ok(0) => {
                    return Err(Failure::new(format!("no interrupt within {patience:?}")));
                }
                Ok(_) => {}
            }
            let [interrupt, session] = events.map(|event| !event.revents().is_empty());
            if interrupt {
                let _ = rustix::io::read(&self.call, &mut [0; 8]);
            }
            return Ok(session);
        }
    }
}

fn descriptor(address: u64, bytes: u32, flags: u16, next: u16) -> Vec<u8> {
    let mut one = address.to_le_bytes().to_vec();
    one.extend(bytes.to_le_bytes());
    one.extend(flags.to_le_bytes());
    one.extend(next.to_le_bytes());
    one
}
