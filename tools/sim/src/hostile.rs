//! A guest that is out to do harm: random bytes where descriptors belong, chains with loops and without an end in sight,
//! addresses outside its memory, indices that jump. Nobody owes it a sensible answer; it must not hurt anybody (invariant 14).

use crate::door::{Answered, Asked, Door};
use crate::ring_door::RingDoor;
use crate::rng::Rng;
use crate::source::AnySource;
use palisade_memory::GuestMemory;
use palisade_virtio::driver::DriverOptions;
use std::sync::Arc;

/// A ring that its driver fills with nonsense.
pub struct HostileDoor {
    ring: RingDoor,
    memory: Arc<GuestMemory>,
    options: DriverOptions,
    at: u64,
    rng: Rng,
    avail: u16,
}

impl HostileDoor {
    /// Puts nonsense into a ring at `at`.
    pub fn new(
        ring: RingDoor,
        memory: Arc<GuestMemory>,
        options: DriverOptions,
        at: u64,
        rng: Rng,
    ) -> HostileDoor {
        HostileDoor {
            ring,
            memory,
            options,
            at,
            rng,
            avail: 0,
        }
    }

    /// Writes some nonsense. True when a well-behaved driver would kick now.
    pub fn harm(&mut self) -> bool {
        let size = u64::from(self.options.size);
        let avail = self.at + 16 * size;
        for _ in 0..self.rng.between(1, 24) {
            let index = self.rng.below(size);
            let descriptor = self.descriptor();
            self.memory.write(self.at + 16 * index, &descriptor);
        }
        if self.rng.one_in(4) {
            self.write_long_table(size);
        }
        for _ in 0..self.rng.between(0, 8) {
            let head = if self.rng.one_in(60) {
                self.rng.bits()
            } else {
                self.rng.below(size)
            };
            let position = u64::from(self.avail) & (size - 1);
            self.memory.store_u16(avail + 4 + 2 * position, head as u16);
            self.avail = self.avail.wrapping_add(1);
        }
        if self.rng.one_in(80) {
            self.avail = self.rng.bits() as u16;
        }
        if self.rng.one_in(10) {
            let offset = self.rng.below(self.options.bytes());
            let word = self.rng.bits().to_le_bytes();
            self.memory.write(self.at + offset, &word);
        }
        self.memory.store_u16(avail + 2, self.avail);
        self.rng.one_in(2)
    }

    /// A table of many descriptors that carry nothing or a byte, with a header in front and a status byte behind: as long as
    /// may be, a little longer, or much; now and then one of them leads elsewhere.
    fn write_long_table(&mut self, size: u64) {
        let end = self
            .memory
            .regions()
            .map(|region| region.bytes)
            .min()
            .unwrap_or(0);
        let entries = [size, size + 1, 126, 127, 128, 129, 300, 2000][self.rng.index(8)].max(3);
        if end <= 16 * entries + 64 {
            return;
        }
        let at = self.rng.below(end - 16 * entries - 64);
        let (data, writable) = (at + 16 * entries, self.rng.below(2) as u16 * 2);
        let wrong = self.rng.one_in(3).then(|| self.rng.below(entries));
        for entry in 0..entries {
            let (address, bytes, flags) = match entry {
                0 => (data, 16, 1),
                _ if entry + 1 == entries => (data + 32, 1, 2),
                _ => (data + 48, (entry & 1) as u32, 1 | writable),
            };
            let next = match wrong == Some(entry) {
                true => self.rng.below(entries),
                false => entry + 1,
            };
            let rest = u64::from(bytes) | u64::from(flags) << 32 | (next & 0xffff) << 48;
            let raw = u128::from(address) | u128::from(rest) << 64;
            self.memory.write(at + 16 * entry, &raw.to_le_bytes());
        }
        let rest = (16 * entries) | (4 << 32);
        let raw = u128::from(at) | u128::from(rest) << 64;
        let index = self.rng.below(size);
        self.memory.write(self.at + 16 * index, &raw.to_le_bytes());
    }

    /// A descriptor: mostly nearly right, for what is nearly right gets furthest.
    fn descriptor(&mut self) -> [u8; 16] {
        let end = self
            .memory
            .regions()
            .map(|region| region.guest_address + region.bytes)
            .max()
            .unwrap_or(0);
        let address = match self.rng.below(8) {
            0 => self.rng.bits(),
            1 => u64::MAX - self.rng.below(64),
            2 => end - self.rng.below(64),
            // The ring's own memory: requests that overwrite the ring they came from.
            3 => self.at + self.rng.below(self.options.bytes()),
            _ => self.rng.below(end),
        };
        let bytes = match self.rng.below(8) {
            0 => self.rng.bits() as u32,
            1 => u32::MAX,
            2 => 0,
            3 => 1,
            4 => 16,
            _ => 512 * self.rng.between(1, 8) as u32,
        };
        let flags = if self.rng.one_in(10) {
            self.rng.bits() as u16
        } else {
            self.rng.below(4) as u16
        };
        let next = self.rng.below(u64::from(self.options.size) + 1) as u16;
        if self.rng.one_in(3) {
            // A header that means something, where a chain may find it.
            let kinds = [0u32, 1, 4, 8, 11, 13, 77];
            let kind = kinds[self.rng.index(kinds.len())];
            let sector = if self.rng.one_in(4) {
                self.rng.bits()
            } else {
                self.rng.below(600)
            };
            let header = u128::from(kind) | u128::from(sector) << 64;
            self.memory.write(address, &header.to_le_bytes());
        }
        let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
        (u128::from(address) | u128::from(rest) << 64).to_le_bytes()
    }
}

impl Door for HostileDoor {
    fn ask(&mut self, _: &Asked) -> Option<u16> {
        None
    }

    fn show(&mut self) -> bool {
        self.harm()
    }

    fn answers(&mut self, found: &mut Vec<Answered>) {
        found.clear();
    }

    fn source(&mut self) -> AnySource {
        self.ring.source()
    }
}
