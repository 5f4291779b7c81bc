//! The memory of the simulated machine by address: guests' memory and the reactors' pools. The engine hands addresses
//! around; the simulated disks follow them here, and an address that is nobody's, or another's, is a finding
//! (invariant 14), never an access.

use palisade_block::{Lease, Segment};
use palisade_memory::GuestMemory;
use palisade_words::MemoryId;

use std::sync::Arc;

/// Whose memory there is, and which reactor keeps which.
#[derive(Debug, Default)]
pub struct Memories {
    known: Vec<Arc<GuestMemory>>,
    kept: Vec<Kept>,
}

/// Memory that a reactor's devices keep.
#[derive(Debug)]
struct Kept {
    reactor: u16,
    id: MemoryId,
    memory: Arc<GuestMemory>,
    users: u32,
}

impl Memories {
    /// Makes a guest's or a pool's memory known: only what is known can be kept.
    pub fn learn(&mut self, memory: &Arc<GuestMemory>) {
        self.forget(memory);
        self.known.push(Arc::clone(memory));
    }

    /// Forgets a guest's memory: nothing may reach it from here on. False when a reactor keeps it still.
    pub fn forget(&mut self, memory: &GuestMemory) -> bool {
        let lease = memory.lease();
        self.known.retain(|known| !known.lease().is(lease));
        !self.kept.iter().any(|kept| kept.memory.lease().is(lease))
    }

    /// A reactor keeps memory, or keeps it for one user more; `None` when it is nobody's.
    pub fn keep(&mut self, reactor: u16, lease: &Lease) -> Option<MemoryId> {
        let mine = |kept: &&mut Kept| kept.reactor == reactor && kept.memory.lease().is(lease);
        if let Some(kept) = self.kept.iter_mut().find(mine) {
            kept.users += 1;
            return Some(kept.id);
        }
        let taken = |id| {
            self.kept
                .iter()
                .any(|kept| (kept.reactor, kept.id) == (reactor, id))
        };
        let id = (0..).map(MemoryId).find(|id| !taken(*id))?;
        self.keep_as(reactor, id, lease)
    }

    /// The same under a number of the caller's choice.
    pub fn keep_as(&mut self, reactor: u16, id: MemoryId, lease: &Lease) -> Option<MemoryId> {
        let memory = self.known.iter().find(|known| known.lease().is(lease))?;
        self.kept.push(Kept {
            reactor,
            id,
            memory: Arc::clone(memory),
            users: 1,
        });
        Some(id)
    }

    /// Whether a reactor has one user of memory and no more.
    pub fn is_last_user(&self, reactor: u16, id: MemoryId) -> bool {
        let mut kept = self.kept.iter();
        kept.any(|kept| (kept.reactor, kept.id) == (reactor, id) && kept.users == 1)
    }

    /// A reactor has one user of memory less; false when it had none.
    pub fn let_go(&mut self, reactor: u16, id: MemoryId) -> bool {
        let place = self
            .kept
            .iter()
            .position(|kept| (kept.reactor, kept.id) == (reactor, id));
        let Some((place, kept)) = place.and_then(|place| Some((place, self.kept.get_mut(place)?))) else {
            return false;
        };
        kept.users -= 1;
        if kept.users == 0 {
            self.kept.swap_remove(place);
        }
        true
    }

    /// A reactor dies, with its pool: it keeps nothing any more.
    pub fn forget_reactor(&mut self, reactor: u16) {
        let pool = self
            .kept
            .iter()
            .find(|kept| (kept.reactor, kept.id) == (reactor, MemoryId::POOL));
        if let Some(pool) = pool.map(|kept| Arc::clone(&kept.memory)) {
            self.forget(&pool);
        }
        self.kept.retain(|kept| kept.reactor != reactor);
    }

    /// Copies a list of segments into `to`; the segment that lies outside, if any.
    pub fn gather(
        &self,
        reactor: u16,
        id: MemoryId,
        segments: &[Segment],
        to: &mut [u8],
    ) -> Result<(), Segment> {
        let mut rest = to;
        for segment in segments {
            let (part, after) = rest.split_at_mut(segment.bytes().min(rest.len()));
            let memory = self.of(reactor, id).ok_or(*segment)?;
            if !read(memory, segment.address(), part) {
                return Err(*segment);
            }
            rest = after;
        }
        Ok(())
    }

    /// Copies `from` into a list of segments; the segment that lies outside, if any.
    pub fn scatter(
        &self,
        reactor: u16,
        id: MemoryId,
        from: &[u8],
        segments: &[Segment],
    ) -> Result<(), Segment> {
        let mut rest = from;
        for segment in segments {
            let (part, after) = rest.split_at(segment.bytes().min(rest.len()));
            let memory = self.of(reactor, id).ok_or(*segment)?;
            if !write(memory, segment.address(), part) {
                return Err(*segment);
            }
            rest = after;
        }
        Ok(())
    }

    /// Copies from memory of a lease; false when the range does not lie in it, or it is nobody's.
    pub fn read(&self, lease: &Lease, address: usize, to: &mut [u8]) -> bool {
        let memory = self.known.iter().find(|known| known.lease().is(lease));
        memory.is_some_and(|memory| read(memory, address, to))
    }

    /// Copies to memory of a lease; false when the range does not lie in it, or it is nobody's.
    pub fn write(&self, lease: &Lease, address: usize, from: &[u8]) -> bool {
        let memory = self.known.iter().find(|known| known.lease().is(lease));
        memory.is_some_and(|memory| write(memory, address, from))
    }

    fn of(&self, reactor: u16, id: MemoryId) -> Option<&GuestMemory> {
        self.kept
            .iter()
            .find(|kept| (kept.reactor, kept.id) == (reactor, id))
            .map(|kept| &*kept.memory)
    }
}

/// Copies from memory by address in this process; false when the range does not lie in it.
fn read(memory: &GuestMemory, address: usize, to: &mut [u8]) -> bool {
    memory
        .host_to_guest(address)
        .is_some_and(|guest| memory.read(guest, to))
}

/// The same the other way.
fn write(memory: &GuestMemory, address: usize, from: &[u8]) -> bool {
    memory
        .host_to_guest(address)
        .is_some_and(|guest| memory.write(guest, from))
}
