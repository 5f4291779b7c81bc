//! The memory of the simulated machine by address: guests' memory and the reactors' pools. The engine hands addresses
//! around; the simulated disks follow them here, and an address that is nobody's, or another's, is a finding
//! (invariant 14), never an access.

use palisade_block::{MemoryId, Segment};

use std::sync::{Arc, Mutex, PoisonError};

/// What one registered memory is made of.
pub trait Area {
    /// Copies from the area; false when the range does not lie in it.
    fn read(&self, address: usize, to: &mut [u8]) -> bool;

    /// Copies to the area; false when the range does not lie in it.
    fn write(&self, address: usize, from: &[u8]) -> bool;
}

/// Memory of the simulator's own with made-up addresses: nobody but the simulated disks can follow them.
#[derive(Debug)]
pub struct PlainArea {
    base: usize,
    bytes: Mutex<Vec<u8>>,
}

impl PlainArea {
    /// Zeroes at made-up addresses from `base` on.
    pub fn new(base: usize, bytes: usize) -> Arc<PlainArea> {
        Arc::new(PlainArea {
            base,
            bytes: Mutex::new(vec![0; bytes]),
        })
    }

    /// The first address.
    pub fn base(&self) -> usize {
        self.base
    }
}

impl Area for PlainArea {
    fn read(&self, address: usize, to: &mut [u8]) -> bool {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(from) = address
            .checked_sub(self.base)
            .and_then(|at| bytes.get(at..at.checked_add(to.len())?))
        else {
            return false;
        };
        to.copy_from_slice(from);
        true
    }

    fn write(&self, address: usize, from: &[u8]) -> bool {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(to) = address
            .checked_sub(self.base)
            .and_then(|at| bytes.get_mut(at..at.checked_add(from.len())?))
        else {
            return false;
        };
        to.copy_from_slice(from);
        true
    }
}

/// Which memories are registered.
#[derive(Default)]
pub struct Memories {
    areas: Vec<(u16, MemoryId, Arc<dyn Area>)>,
}

impl Memories {
    /// Registers an area. The pool of each reactor is registered under that reactor's number; a guest's memory under
    /// every reactor's.
    pub fn register(&mut self, reactor: u16, id: MemoryId, area: Arc<dyn Area>) {
        self.areas.retain(|(r, known, _)| (*r, *known) != (reactor, id));
        self.areas.push((reactor, id, area));
    }

    /// Takes a guest's memory away from all reactors.
    pub fn forget(&mut self, id: MemoryId) {
        self.areas.retain(|(_, known, _)| *known != id);
    }

    /// Takes all of a reactor's memories away.
    pub fn forget_reactor(&mut self, reactor: u16) {
        self.areas.retain(|(r, _, _)| *r != reactor);
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
            let (part, after) = rest.split_at_mut(segment.bytes.min(rest.len()));
            let area = self.area(reactor, id).ok_or(*segment)?;
            if !area.read(segment.address, part) {
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
            let (part, after) = rest.split_at(segment.bytes.min(rest.len()));
            let area = self.area(reactor, id).ok_or(*segment)?;
            if !area.write(segment.address, part) {
                return Err(*segment);
            }
            rest = after;
        }
        Ok(())
    }

    /// Copies from any memory of a reactor, found by address: the pool's view, which is told no id.
    pub fn read_any(&self, reactor: u16, address: usize, to: &mut [u8]) -> bool {
        self.of(reactor).any(|area| area.read(address, to))
    }

    /// Copies to any memory of a reactor, found by address.
    pub fn write_any(&self, reactor: u16, address: usize, from: &[u8]) -> bool {
        self.of(reactor).any(|area| area.write(address, from))
    }

    fn of(&self, reactor: u16) -> impl Iterator<Item = &Arc<dyn Area>> {
        self.areas
            .iter()
            .filter(move |(r, _, _)| *r == reactor)
            .map(|(_, _, area)| area)
    }

    fn area(&self, reactor: u16, id: MemoryId) -> Option<&Arc<dyn Area>> {
        self.areas
            .iter()
            .find(|(r, known, _)| (*r, *known) == (reactor, id))
            .map(|(_, _, area)| area)
    }
}

impl std::fmt::Debug for Memories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.areas.iter().map(|(reactor, id, _)| (reactor, id)).collect();
        f.debug_struct("Memories").field("areas", &ids).finish()
    }
}

/// A guest's memory, by address in this process.
impl Area for palisade_memory::GuestMemory {
    fn read(&self, address: usize, to: &mut [u8]) -> bool {
        self.host_to_guest(address)
            .is_some_and(|guest| palisade_memory::GuestMemory::read(self, guest, to))
    }

    fn write(&self, address: usize, from: &[u8]) -> bool {
        self.host_to_guest(address)
            .is_some_and(|guest| palisade_memory::GuestMemory::write(self, guest, from))
    }
}
