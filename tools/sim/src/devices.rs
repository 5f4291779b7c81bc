//! The simulated disks as one reactor sees them.

use crate::rack::Rack;
use palisade_block::{DeviceLimits, Devices, Fault, Io, Lease, Started};
use palisade_sys::counting_allocator::uncounted;
use palisade_words::{DeviceIndex, MemoryId, SlotIndex};
use std::cell::RefCell;
use std::rc::Rc;

/// One reactor's way to the disks.
#[derive(Debug)]
pub struct SimDevices {
    reactor: u16,
    rack: Rc<RefCell<Rack>>,
    taken: Vec<u64>,
}

impl SimDevices {
    /// For the reactor of this number.
    pub fn new(reactor: u16, rack: Rc<RefCell<Rack>>) -> SimDevices {
        SimDevices {
            reactor,
            rack,
            taken: Vec::new(),
        }
    }
}

// What happens here stands in for the kernel's work: it may allocate.
impl Devices for SimDevices {
    fn keep(&mut self, lease: &Lease) -> MemoryId {
        self.rack.borrow_mut().keep(self.reactor, lease)
    }

    fn keep_pool(&mut self, lease: &Lease) {
        self.rack.borrow_mut().keep_pool(self.reactor, lease);
    }

    fn let_go(&mut self, memory: MemoryId) {
        self.rack.borrow_mut().let_go(self.reactor, memory);
    }

    fn start(&mut self, io: Io<'_>) -> Started {
        uncounted(|| {
            let (started, id) = self.rack.borrow_mut().start(self.reactor, &io);
            self.taken.extend(id);
            started
        })
    }

    fn submit(&mut self) {
        let mut rack = self.rack.borrow_mut();
        uncounted(|| self.taken.drain(..).for_each(|id| rack.submit(id)));
    }

    fn reap(&mut self, mut done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize {
        let batch = uncounted(|| self.rack.borrow_mut().reap(self.reactor));
        let count = batch.len();
        for (slot, result) in &batch {
            done(*slot, *result);
        }
        count
    }

    fn cancel(&mut self, slot: SlotIndex) {
        uncounted(|| self.rack.borrow_mut().cancel(self.reactor, slot));
    }

    fn limits(&self, device: DeviceIndex) -> Option<DeviceLimits> {
        let rack = self.rack.borrow();
        let disk = rack.disks.get(device.usize())?;
        (!disk.gone).then_some(disk.limits)
    }
}
