//! A pattern over the beginning of a volume, as a guest would have written it: put there through one daemon, looked for
//! through the next.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::Chance;
use super::ring::{ARENA, Part, Ring};
use super::session::Session;
use crate::failure::{Failure, Outcome, demand};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one request.
const PIECE: u64 = 256 << 10;
/// Where the status byte and the data lie.
const STATUS: u64 = ARENA + 64;
const DATA: u64 = ARENA + 4096;

/// Kinds of requests (virtio 1.3, 5.2.6).
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;

/// Writes the pattern of `seed` to the first `bytes` of what `socket` offers, and flushes.
///
/// # Errors
/// A request that ended otherwise than well.
pub fn put(socket: &Path, seed: u64, bytes: u64) -> Outcome {
    let mut guest = Guest::at(socket)?;
    let mut chance = Chance::new(seed);
    for at in (0..bytes).step_by(PIECE as usize) {
        guest.ring.put(DATA, &chance.bytes(PIECE as usize))?;
        guest.request(WRITE, at, PIECE)?;
    }
    guest.request(FLUSH, 0, 0)
}

/// The first `bytes` of the pattern of `seed`, to be laid on a disk.
pub fn bytes(seed: u64, bytes: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    let pieces = (0..bytes).step_by(PIECE as usize);
    pieces.flat_map(|_| chance.bytes(PIECE as usize)).collect()
}

/// Demands that the pattern of `seed` is there.
///
/// # Errors
/// Where something else is.
pub fn must_hold(socket: &Path, seed: u64, bytes: u64) -> Outcome {
    let mut guest = Guest::at(socket)?;
    let mut chance = Chance::new(seed);
    for at in (0..bytes).step_by(PIECE as usize) {
        guest.request(READ, at, PIECE)?;
        demand(
            guest.ring.get(DATA, PIECE as usize)? == chance.bytes(PIECE as usize),
            format!("{}: another content at {at}", socket.display()),
        )?;
    }
    Ok(())
}

/// Demands that the first `bytes` read as zeros.
///
/// # Errors
/// Where something else is.
pub fn must_be_zeros(socket: &Path, bytes: u64) -> Outcome {
    let mut guest = Guest::at(socket)?;
    for at in (0..bytes).step_by(PIECE as usize) {
        guest.request(READ, at, PIECE)?;
        let read = guest.ring.get(DATA, PIECE as usize)?;
        demand(
            read.iter().all(|&byte| byte == 0),
            format!("{}: something is there at {at}", socket.display()),
        )?;
    }
    Ok(())
}

/// A guest with one request at a time.
#[derive(Debug)]
pub struct Guest {
    ring: Ring,
    session: Session,
}

impl Guest {
    /// Connects to what `socket` offers.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn at(socket: &Path) -> Outcome<Self> {
        Self::with(Ring::new()?, socket)
    }

    /// The same with so many bytes of memory.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn with_memory(socket: &Path, bytes: u64) -> Outcome<Self> {
        Self::with(Ring::in_memory_of(bytes)?, socket)
    }

    fn with(ring: Ring, socket: &Path) -> Outcome<Self> {
        let session = Session::start(socket, &ring, &mut None)?;
        Ok(Self { ring, session })
    }

    /// Its memory.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn memory(&self) -> Outcome<OwnedFd> {
        let memory = self.ring.memory().try_clone_to_owned();
        memory.map_err(|error| Failure::during("a guest's memory", error))
    }

    /// Reads the beginning of its disk to a place of its memory.
    ///
    /// # Errors
    /// When the request ends otherwise than well, or the session does.
    pub fn read_to(&mut self, address: u64, bytes: u64) -> Outcome {
        self.request_with(READ, 0, (address, bytes))
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// When the request ends otherwise than well.
    pub fn read(&mut self, at: u64, bytes: u64) -> Outcome {
        self.request(READ, at, bytes)
    }

    fn request(&mut self, kind: u32, at: u64, bytes: u64) -> Outcome {
        self.request_with(kind, at, (DATA, bytes))
    }

    fn request_with(&mut self, kind: u32, at: u64, (data, bytes): (u64, u64)) -> Outcome {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend((at / 512).to_le_bytes());
        self.ring.put(ARENA, &header)?;
        self.ring.put(STATUS, &[0xff])?;
        let part = |address, bytes: u64, device_writes| Part {
            address,
            bytes: bytes as u32,
            device_writes,
        };
        let mut chain = vec![part(ARENA, 16, false)];
        if bytes > 0 {
            chain.push(part(data, bytes, kind == READ));
        }
        chain.push(part(STATUS, 1, true));
        self.ring.offer(0, &chain, None)?;
        while self.ring.answered()?.is_empty() {
            let gone = self.ring.sleep(self.session.socket(), PATIENCE)?;
            demand(!gone, "the daemon has closed the session")?;
        }
        let status = self.ring.get(STATUS, 1)?;
        demand(
            status == [0],
            format!("request {kind} at {at} ended with {status:?}"),
        )
    }
}
