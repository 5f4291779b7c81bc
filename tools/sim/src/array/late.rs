//! What disks carry out when nobody waits for it any more: what a dead process had submitted, and what was answered with a lost
//! way. It lands once, later.

use super::{Array, Operation};
use palisade_block::{Nanos, Op};
use palisade_words::{DeviceIndex, Lba};

/// A change that lands later.
#[derive(Debug)]
pub(super) struct Late {
    device: usize,
    lba: Lba,
    data: Vec<u8>,
    /// Nobody could tell it from one that was lost: it may land in part, or not at all.
    is_orphan: bool,
}

impl Array {
    /// A reactor dies with its process, and the disks go on with what it had submitted.
    pub fn orphan(&mut self, reactor: u16) {
        let ids: Vec<u64> = self.of_reactor(reactor).collect();
        for id in ids {
            let Some(operation) = self.operations.remove(&id) else {
                continue;
            };
            if operation.submitted && !self.rng.one_in(4) {
                self.land_later(id, &operation, true);
            }
        }
        if let Some(list) = self.finished.get_mut(reactor as usize) {
            list.clear();
        }
    }

    /// Whether something may land on a disk, or on any, that nobody waits for.
    pub fn is_landing(&self, device: Option<DeviceIndex>) -> bool {
        let mut late = self.late.values();
        late.any(|late| device.is_none_or(|device| device.usize() == late.device))
    }

    /// Whether something may land on a disk after it has been answered: such a thing is under way, or one that is in flight will be.
    pub fn may_land_late(&self, device: DeviceIndex) -> bool {
        let mut in_flight = self.operations.values();
        self.is_landing(Some(device))
            || in_flight.any(|operation| operation.device == device.usize() && operation.comes_late)
    }

    /// A change lands later, whatever its answer says.
    pub(super) fn land_later(&mut self, id: u64, operation: &Operation, is_orphan: bool) {
        let data = match operation.op {
            Op::Write => self.data_of(operation).ok(),
            Op::WriteZeroes { .. } => Some(vec![0; operation.sectors.bytes() as usize]),
            // What a discard leaves is anything that was there, or zeroes.
            Op::Read | Op::Flush | Op::Discard => None,
        };
        let Some(data) = data else { return };
        let late = Late {
            device: operation.device,
            lba: self.place(operation.device, operation.lba),
            data,
            is_orphan,
        };
        self.late.insert(id, late);
        let at = self.now.after(Nanos(self.rng.between(20_000, 12_000_000)));
        self.agenda.plan(at, id);
    }

    /// Lands what is due; false when the number is none of these.
    pub(super) fn land(&mut self, id: u64) -> bool {
        let Some(late) = self.late.remove(&id) else {
            return false;
        };
        let Some(disk) = self.disks.get_mut(late.device) else {
            return true;
        };
        let rng = &mut self.rng;
        self.hash.add([self.now.0, late.device as u64, late.lba.0]);
        disk.medium
            .write(late.lba, &late.data, false, || !late.is_orphan || !rng.one_in(4));
        true
    }
}
