//! Content that goes to another place of its disk.

use super::{Array, Moving, POISON};
use palisade_words::{DeviceIndex, Lba, Sectors};

impl Array {
    /// Everybody uses the new place: the content goes there, and the old place is nobody's.
    pub fn end_move(&mut self, moving: Moving) {
        self.moving.retain(|one| *one != moving);
        self.relocate(moving.device, moving.from, moving.to, moving.sectors);
    }

    /// Content goes to another place, and the old place is nobody's. Nothing is in flight on either.
    pub fn relocate(&mut self, device: DeviceIndex, from: Lba, to: Lba, sectors: Sectors) {
        if let Some(disk) = self.disks.get_mut(device.usize()) {
            let content = disk.medium.read(from, sectors).to_vec();
            disk.medium.write(to, &content, true, || true);
            disk.medium
                .write(from, &vec![POISON; content.len()], true, || true);
        }
    }
}
