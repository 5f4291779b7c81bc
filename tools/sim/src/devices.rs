//! The simulated disks as one reactor sees them.

use crate::array::Array;
use crate::mappings::Mappings;
use palisade_block::{DeviceLimits, Devices, Fault, Io, Lease, MappingId, Started};
use palisade_sys::counting_allocator::uncounted;
use palisade_words::{DeviceIndex, Generation, MemoryId, PinnedId, SlotIndex};
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

/// A deliberate fault between the engine and the disks, to prove that the checkers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tampering {
    /// Two segments of one operation change places.
    SwapSegments,
    /// Durable writes are treated as ordinary ones.
    ForgetDurable,
    /// An operation is never completed, on a healthy disk.
    LoseCompletion,
    /// Operations are said to be under the mapping before the one in force.
    MappingBefore,
}

/// One reactor's way to the disks.
#[derive(Debug)]
pub struct SimDevices {
    reactor: u16,
    array: Rc<RefCell<Array>>,
    mappings: Rc<RefCell<Mappings>>,
    taken: Vec<u64>,
}

impl SimDevices {
    /// For the reactor of this number, with what that is told of mappings.
    pub fn new(reactor: u16, array: Rc<RefCell<Array>>, mappings: Rc<RefCell<Mappings>>) -> SimDevices {
        SimDevices {
            reactor,
            array,
            mappings,
            taken: Vec::new(),
        }
    }
}

// What happens here stands in for the kernel's work: it may allocate.
impl Devices for SimDevices {
    type Opened = ();
    type Pinned = ();
    type Kick = ();
    type Order = Infallible;
    type Report = Infallible;

    fn open(&mut self, _: DeviceIndex, (): ()) -> std::io::Result<()> {
        Ok(())
    }

    fn close(&mut self, _: DeviceIndex) {}

    fn grow(&mut self, _: DeviceIndex) {}

    fn pin(&mut self, _: PinnedId, (): ()) {}

    fn unpin(&mut self, _: PinnedId) -> Option<()> {
        None
    }

    fn order(&mut self, order: Infallible) {
        match order {}
    }

    fn next_report(&mut self) -> Option<Infallible> {
        None
    }

    fn keep(&mut self, lease: &Lease) -> MemoryId {
        self.array.borrow_mut().keep(self.reactor, lease)
    }

    fn keep_pool(&mut self, lease: &Lease) {
        self.array.borrow_mut().keep_pool(self.reactor, lease);
    }

    fn let_go(&mut self, memory: MemoryId) {
        self.array.borrow_mut().let_go(self.reactor, memory);
    }

    fn start(&mut self, io: Io<'_>) -> Started {
        uncounted(|| {
            let (mut array, mut mappings) = (self.array.borrow_mut(), self.mappings.borrow_mut());
            let before = MappingId {
                generation: Generation(io.mapping.generation.0.saturating_sub(1)),
                ..*io.mapping
            };
            let io = match array.tampering {
                Some(Tampering::MappingBefore) => Io {
                    mapping: &before,
                    ..io
                },
                _ => io,
            };
            mappings.start(&io, array.now);
            let (started, id) = array.start(self.reactor, &io);
            if started == Started::Pending {
                mappings.begin(&io, array.now);
            }
            self.taken.extend(id);
            started
        })
    }

    fn submit(&mut self) {
        let mut array = self.array.borrow_mut();
        uncounted(|| self.taken.drain(..).for_each(|id| array.submit(id)));
    }

    fn reap(&mut self, mut done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize {
        let batch = uncounted(|| self.array.borrow_mut().reap(self.reactor));
        let count = batch.len();
        for (slot, result) in &batch {
            done(*slot, *result);
        }
        count
    }

    fn cancel(&mut self, slot: SlotIndex) {
        uncounted(|| {
            let mut array = self.array.borrow_mut();
            self.mappings.borrow_mut().cancel(slot, array.now);
            array.cancel(self.reactor, slot);
        });
    }

    fn limits(&self, device: DeviceIndex) -> Option<DeviceLimits> {
        let array = self.array.borrow();
        let disk = array.disks.get(device.usize())?;
        (!disk.gone).then_some(disk.limits)
    }
}
