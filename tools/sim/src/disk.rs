//! The medium of a simulated disk: what reads return now, what a power cut may leave, and what it must leave.
//!
//! ```text
//!            write ──► volatile ──flush──► stable
//!                         │                  │
//!     power cut:  each block keeps any one of its versions since the last flush, or the stable one
//! ```
//!
//! Legal conduct is what every honest disk may do; the faults in [`Lie`] are what no honest disk does. The two are
//! kept apart: without checksums nobody can be blamed for believing a liar.

use crate::rng::Rng;
use palisade_block::Fault;
use palisade_words::{Lba, SECTOR_BYTES, Sectors};
use std::collections::BTreeMap;

/// How a dishonest disk cheats. Only scenarios whose data carries checksums, and deliberate faults, use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// Flushes and durable writes complete without anything becoming stable.
    FlushDoesNothing,
    /// A write completes and is forgotten.
    WriteLost,
    /// A write lands on the neighbouring block.
    WriteMisplaced,
    /// A read returns one bit turned.
    BitTurned,
}

/// The content of one disk.
#[derive(Debug)]
pub struct Medium {
    block: usize,
    volatile: Vec<u8>,
    stable: Vec<u8>,
    unflushed: BTreeMap<usize, Vec<Version>>,
    version: u64,
}

#[derive(Debug)]
struct Version {
    number: u64,
    content: Box<[u8]>,
}

/// A moment in a medium's history: everything written before it is covered by a flush that begins at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlushMark(u64);

impl Medium {
    /// A copy of what is stable on it, as of a medium that was taken out and read elsewhere.
    pub fn copy(&self) -> Medium {
        Medium {
            block: self.block,
            volatile: self.stable.clone(),
            stable: self.stable.clone(),
            unflushed: BTreeMap::new(),
            version: self.version,
        }
    }

    /// A medium of zeroes.
    pub fn new(sectors: Sectors, block_bytes: u32) -> Medium {
        let bytes = sectors.bytes() as usize;
        Medium {
            block: block_bytes as usize,
            volatile: vec![0; bytes],
            stable: vec![0; bytes],
            unflushed: BTreeMap::new(),
            version: 0,
        }
    }

    /// Bytes that are written whole or not at all.
    pub fn block_bytes(&self) -> usize {
        self.block
    }

    /// Size.
    pub fn sectors(&self) -> Sectors {
        Sectors::from_bytes(self.volatile.len() as u64)
    }

    /// Adds zeroes at the end.
    pub fn grow(&mut self, sectors: Sectors) {
        let bytes = (sectors.bytes() as usize).max(self.volatile.len());
        self.volatile.resize(bytes, 0);
        self.stable.resize(bytes, 0);
    }

    /// Whether a range lies on the medium and on block borders.
    pub fn takes(&self, lba: Lba, sectors: Sectors) -> bool {
        let per_block = self.block as u64 / SECTOR_BYTES;
        lba.checked_add(sectors)
            .is_some_and(|end| end.0 <= self.sectors().0)
            && lba.0.is_multiple_of(per_block)
            && sectors.0.is_multiple_of(per_block)
    }

    /// What the range holds now. The range has been checked by [`Medium::takes`].
    pub fn read(&self, lba: Lba, sectors: Sectors) -> &[u8] {
        let start = lba.bytes() as usize;
        self.volatile
            .get(start..start + sectors.bytes() as usize)
            .unwrap_or(&[])
    }

    /// Writes the blocks for which `keep` says so.
    pub fn write(&mut self, lba: Lba, data: &[u8], durable: bool, mut keep: impl FnMut() -> bool) {
        let first = lba.bytes() as usize / self.block;
        for (block, content) in (first..).zip(data.chunks_exact(self.block)) {
            if keep() {
                self.put(block, content, durable);
            }
        }
    }

    /// Where a flush begins.
    pub fn flush_begin(&self) -> FlushMark {
        FlushMark(self.version)
    }

    /// Makes stable what was written before the flush began.
    pub fn flush_end(&mut self, mark: FlushMark) {
        let (stable, block_bytes) = (&mut self.stable, self.block);
        self.unflushed.retain(|block, versions| {
            let covered = versions
                .iter()
                .take_while(|version| version.number <= mark.0)
                .count();
            if let Some(last) = versions.drain(..covered).next_back() {
                copy_block(stable, *block, block_bytes, &last.content);
            }
            !versions.is_empty()
        });
    }

    /// The power goes: of what was not flushed each block keeps some version or none.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        let block_bytes = self.block;
        for (block, versions) in std::mem::take(&mut self.unflushed) {
            let kept = rng.index(versions.len() + 1);
            if let Some(version) = kept.checked_sub(1).and_then(|index| versions.get(index)) {
                copy_block(&mut self.stable, block, block_bytes, &version.content);
            }
            let at = block * block_bytes;
            if let (Some(to), Some(from)) = (
                self.volatile.get_mut(at..at + block_bytes),
                self.stable.get(at..at + block_bytes),
            ) {
                to.copy_from_slice(from);
            }
        }
    }

    fn put(&mut self, block: usize, content: &[u8], durable: bool) {
        self.version += 1;
        copy_block(&mut self.volatile, block, self.block, content);
        if durable {
            self.unflushed.remove(&block);
            copy_block(&mut self.stable, block, self.block, content);
        } else {
            self.unflushed.entry(block).or_default().push(Version {
                number: self.version,
                content: content.into(),
            });
        }
    }
}

fn copy_block(image: &mut [u8], block: usize, block_bytes: usize, content: &[u8]) {
    let at = block * block_bytes;
    if let Some(to) = image.get_mut(at..at + block_bytes) {
        to.copy_from_slice(content);
    }
}

/// How a disk behaves at present.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    /// Shortest and longest time an operation takes, in ns.
    pub latency_ns: (u64, u64),
    /// Chance that an operation is refused with "busy", in a thousandth.
    pub busy_permille: u64,
    /// Chance that an operation fails, in a thousandth.
    pub fail_permille: u64,
    /// With what it fails.
    pub fault: Fault,
    /// Chance that the answer to an operation that was carried out is lost, in a thousandth: the disk is behind another node,
    /// which knows the operation again.
    pub loses_permille: u64,
    /// Chance that a change is answered with a lost way and is carried out later, in a thousandth.
    pub late_permille: u64,
    /// Nothing completes.
    pub hangs: bool,
    /// Whether an operation that hangs can be taken back.
    pub cancellable: bool,
    /// Cheats.
    pub lie: Option<Lie>,
}

impl Conduct {
    /// A healthy disk.
    pub const HEALTHY: Conduct = Conduct {
        latency_ns: (20_000, 400_000),
        busy_permille: 0,
        fail_permille: 0,
        fault: Fault::Media,
        loses_permille: 0,
        late_permille: 0,
        hangs: false,
        cancellable: true,
        lie: None,
    };

    /// As before it fell ill: as fast as it was, and healthy.
    #[must_use]
    pub fn healed(self) -> Conduct {
        Conduct {
            latency_ns: self.latency_ns,
            ..Conduct::HEALTHY
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medium() -> Medium {
        Medium::new(Sectors(64), 4096)
    }

    fn block(byte: u8) -> Vec<u8> {
        vec![byte; 4096]
    }

    #[test]
    fn flushed_and_durable_writes_survive_every_power_cut() {
        for seed in 0..50 {
            let mut medium = medium();
            medium.write(Lba(0), &block(1), false, || true);
            let mark = medium.flush_begin();
            medium.write(Lba(8), &block(2), true, || true);
            medium.flush_end(mark);
            medium.power_cut(&mut Rng::new(seed));
            assert_eq!(medium.read(Lba(0), Sectors(8)), block(1));
            assert_eq!(medium.read(Lba(8), Sectors(8)), block(2));
        }
    }

    #[test]
    fn a_power_cut_keeps_any_version_since_the_flush_and_every_one_some_time() {
        let mut seen = [0; 4];
        for seed in 0..200 {
            let mut medium = medium();
            for byte in 1..=3 {
                medium.write(Lba(16), &block(byte), false, || true);
            }
            medium.power_cut(&mut Rng::new(seed));
            let content = medium.read(Lba(16), Sectors(8));
            assert!(
                content.iter().all(|byte| *byte == content[0]),
                "a block is never torn inside"
            );
            seen[content[0] as usize] += 1;
        }
        assert!(seen.iter().all(|times| *times > 10), "{seen:?}");
    }

    #[test]
    fn a_flush_does_not_cover_what_came_after_it_began() {
        let mut lost = false;
        for seed in 0..50 {
            let mut medium = medium();
            medium.write(Lba(0), &block(1), false, || true);
            let mark = medium.flush_begin();
            medium.write(Lba(0), &block(2), false, || true);
            medium.flush_end(mark);
            medium.power_cut(&mut Rng::new(seed));
            let first = medium.read(Lba(0), Sectors(1))[0];
            assert_ne!(first, 0, "the first write was flushed");
            lost |= first == 1;
        }
        assert!(lost);
    }

    #[test]
    fn ranges_off_the_medium_or_off_its_blocks_are_refused() {
        let medium = medium();
        assert!(medium.takes(Lba(56), Sectors(8)));
        assert!(!medium.takes(Lba(56), Sectors(16)));
        assert!(!medium.takes(Lba(1), Sectors(8)));
        assert!(!medium.takes(Lba(0), Sectors(7)));
        assert!(!medium.takes(Lba(u64::MAX), Sectors(8)));
    }
}
