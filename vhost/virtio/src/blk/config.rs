//! The configuration space (`struct virtio_blk_config`, virtio 1.3, 5.2.4): 60 bytes, one of them writable.

use palisade_block::limits::{DISCARD_SECTORS_MAX, SEGMENT_BYTES_MAX, SEGMENTS_PER_REQUEST};
use palisade_words::Sectors;
use palisade_words::limits::QUEUES_MAX;

/// What the guest is told about a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VolumeGeometry {
    /// Size.
    pub sectors: Sectors,
    /// Logical block in bytes: a power of two of at least 512.
    pub block_bytes: u32,
    /// Physical block in bytes: a power-of-two multiple of the logical block.
    pub physical_block_bytes: u32,
    /// Best length of an operation in bytes, 0 when there is none.
    pub optimal_io_bytes: u32,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Virtqueues.
    pub queues: u16,
    /// Whether discard is offered.
    pub discard: bool,
    /// Bytes to whose multiples discards should be aligned; 0 for the logical block.
    pub discard_alignment_bytes: u32,
    /// Whether write-zeroes is offered.
    pub write_zeroes: bool,
    /// Whether the volatile write cache is on at first.
    pub writeback: bool,
}

/// Why a write to the configuration space changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigWriteError {
    /// A byte would change that is not `writeback` at [`ConfigSpace::WRITEBACK_OFFSET`].
    #[error(
        "byte {offset} of the configuration space would change and is not writable (only `writeback`, byte {}, \
         is)",
        ConfigSpace::WRITEBACK_OFFSET
    )]
    NotWritable {
        /// The first such byte.
        offset: u64,
    },
    /// `writeback` is neither 0 nor 1.
    #[error("writeback is 0 or 1, not {value}")]
    Value {
        /// The byte.
        value: u8,
    },
}

/// The configuration space of one attachment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigSpace {
    geometry: VolumeGeometry,
    writeback: bool,
    seg_max: u32,
}

impl ConfigSpace {
    /// Its length.
    pub const BYTES: usize = 60;
    /// Where `writeback` is.
    pub const WRITEBACK_OFFSET: u32 = 32;

    /// From a volume.
    pub fn new(geometry: VolumeGeometry) -> ConfigSpace {
        ConfigSpace {
            writeback: geometry.writeback,
            seg_max: SEGMENTS_PER_REQUEST as u32,
            geometry,
        }
    }

    /// For rings of so many entries: a driver that keeps to `seg_max` and does without indirect tables must be able to
    /// put header, data and status into one.
    #[must_use]
    pub fn for_rings_of(self, entries: u16) -> ConfigSpace {
        let fits = u32::from(entries).saturating_sub(2).max(1);
        ConfigSpace {
            seg_max: fits.min(SEGMENTS_PER_REQUEST as u32),
            ..self
        }
    }

    /// The volume has grown. The caller tells the guest (CONFIG_CHANGE).
    pub fn set_sectors(&mut self, sectors: Sectors) {
        self.geometry.sectors = sectors;
    }

    /// What it was made from.
    pub fn geometry(&self) -> &VolumeGeometry {
        &self.geometry
    }

    /// Whether the guest has the volatile write cache on. Off means that every write is stable before it is
    /// answered.
    pub fn writeback(&self) -> bool {
        self.writeback
    }

    /// All bytes, little endian.
    pub fn encode(&self) -> [u8; ConfigSpace::BYTES] {
        let geometry = &self.geometry;
        let block = geometry.block_bytes.max(512);
        let exponent = (geometry.physical_block_bytes.max(block) / block).trailing_zeros() as u8;
        let min_io = u16::try_from(geometry.physical_block_bytes.max(block) / block).unwrap_or(1);
        let discards = geometry.discard && !geometry.read_only;
        let zeroes = geometry.write_zeroes && !geometry.read_only;
        let discard_alignment = geometry.discard_alignment_bytes.max(block) / 512;
        let queues = geometry.queues.clamp(1, QUEUES_MAX);
        let mut encoder = Encoder {
            bytes: [0; ConfigSpace::BYTES],
        };
        encoder.put(0, &geometry.sectors.0.to_le_bytes());
        encoder.put(8, &SEGMENT_BYTES_MAX.to_le_bytes());
        encoder.put(12, &self.seg_max.to_le_bytes());
        // 16..20: cylinders, heads and sectors, which VIRTIO_BLK_F_GEOMETRY would offer; we do not.
        encoder.put(20, &block.to_le_bytes());
        encoder.put(24, &[exponent, 0]);
        encoder.put(26, &min_io.to_le_bytes());
        encoder.put(28, &(geometry.optimal_io_bytes / block).to_le_bytes());
        encoder.put(32, &[self.writeback.into(), 0]);
        encoder.put(34, &queues.to_le_bytes());
        if discards {
            encoder.put(36, &DISCARD_SECTORS_MAX.to_le_bytes());
            encoder.put(40, &1u32.to_le_bytes());
            encoder.put(44, &discard_alignment.to_le_bytes());
        }
        if zeroes {
            encoder.put(48, &DISCARD_SECTORS_MAX.to_le_bytes());
            encoder.put(52, &1u32.to_le_bytes());
            encoder.put(56, &[1]);
        }
        encoder.bytes
    }

    /// Bytes from `offset`, as many as there are up to `to.len()`; the rest of `to` is set to zero.
    pub fn read(&self, offset: u32, to: &mut [u8]) {
        let bytes = self.encode();
        let from = bytes.get(offset as usize..).unwrap_or(&[]);
        let mut from = from.iter();
        to.fill_with(|| from.next().copied().unwrap_or(0));
    }

    /// A write of the guest (with CONFIG_WCE negotiated). True when `writeback` changed.
    ///
    /// # Errors
    /// See [`ConfigSpace::writeback_after`]; nothing has changed then.
    pub fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<bool, ConfigWriteError> {
        let wanted = self.writeback_after(offset, bytes)?;
        let changed = wanted != self.writeback;
        self.writeback = wanted;
        Ok(changed)
    }

    /// What `writeback` would be after a write. A front-end may write more than that byte, as wide as its guest does or
    /// its own registers are, as long as all others stay what they are.
    ///
    /// # Errors
    /// Another byte would change, or `writeback` would be neither 0 nor 1.
    pub fn writeback_after(&self, offset: u32, bytes: &[u8]) -> Result<bool, ConfigWriteError> {
        let now = self.encode();
        let mut wanted = self.writeback;
        for (at, &value) in (u64::from(offset)..).zip(bytes) {
            if at == u64::from(ConfigSpace::WRITEBACK_OFFSET) {
                wanted = match value {
                    0 => false,
                    1 => true,
                    value => return Err(ConfigWriteError::Value { value }),
                };
                continue;
            }
            // Behind the last field all reads give zero.
            let unchanged = usize::try_from(at).ok().and_then(|at| now.get(at)).unwrap_or(&0) == &value;
            if !unchanged {
                return Err(ConfigWriteError::NotWritable { offset: at });
            }
        }
        Ok(wanted)
    }
}

struct Encoder {
    bytes: [u8; ConfigSpace::BYTES],
}

impl Encoder {
    fn put(&mut self, offset: usize, field: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(offset).zip(field) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> VolumeGeometry {
        VolumeGeometry {
            sectors: Sectors(0x0102_0304_0506),
            block_bytes: 512,
            physical_block_bytes: 4096,
            optimal_io_bytes: 1 << 20,
            read_only: false,
            queues: 4,
            discard: true,
            discard_alignment_bytes: 65536,
            write_zeroes: true,
            writeback: true,
        }
    }

    #[test]
    fn fields_lie_where_the_standard_puts_them() {
        let bytes = ConfigSpace::new(geometry()).encode();
        assert_eq!(bytes[..8], [6, 5, 4, 3, 2, 1, 0, 0]);
        assert_eq!(bytes[8..12], (1u32 << 20).to_le_bytes());
        assert_eq!(bytes[12..16], 126u32.to_le_bytes());
        assert_eq!(bytes[16..20], [0; 4]);
        assert_eq!(bytes[20..24], 512u32.to_le_bytes());
        assert_eq!(bytes[24..28], [3, 0, 8, 0], "8 logical blocks make one physical");
        assert_eq!(bytes[28..32], 2048u32.to_le_bytes());
        assert_eq!(bytes[32..36], [1, 0, 4, 0]);
        assert_eq!(bytes[36..40], (1u32 << 22).to_le_bytes());
        assert_eq!(bytes[40..44], 1u32.to_le_bytes());
        assert_eq!(bytes[44..48], 128u32.to_le_bytes());
        assert_eq!(bytes[48..52], (1u32 << 22).to_le_bytes());
        assert_eq!(bytes[52..56], 1u32.to_le_bytes());
        assert_eq!(bytes[56..60], [1, 0, 0, 0]);
    }

    #[test]
    fn a_read_only_volume_offers_nothing_that_changes_it() {
        let bytes = ConfigSpace::new(VolumeGeometry {
            read_only: true,
            ..geometry()
        })
        .encode();
        assert_eq!(bytes[36..60], [0; 24]);
    }

    #[test]
    fn only_writeback_is_writable_and_only_as_a_flag() {
        let mut config = ConfigSpace::new(geometry());
        assert_eq!(config.write(32, &[0]), Ok(true));
        assert!(!config.writeback());
        assert_eq!(config.encode()[32], 0);
        assert_eq!(config.write(32, &[0]), Ok(false));
        assert_eq!(config.write(32, &[2]), Err(ConfigWriteError::Value { value: 2 }));
        for (offset, bytes, wrong) in [
            (0, 1, 0),
            (31, 1, 31),
            (33, 1, 33),
            (32, 2, 33),
            (31, 2, 31),
            (u32::MAX, 1, u64::from(u32::MAX)),
            (60, 1, 60),
        ] {
            let written = config.write(offset, &vec![1; bytes]);
            assert_eq!(written, Err(ConfigWriteError::NotWritable { offset: wrong }));
        }
        assert!(!config.writeback());
    }

    /// OpenVMM writes 32-bit words, others what the guest wrote, or all of it.
    #[test]
    fn a_wider_write_whose_other_bytes_stay_is_taken() {
        let mut config = ConfigSpace::new(geometry());
        let mut on = false;
        for from in 0..=33usize {
            for to in from..=70 {
                let mut bytes = config.encode().to_vec();
                bytes.resize(70, 0);
                let holds = (from..to).contains(&32);
                bytes[32] = on.into();
                let changed = config.write(from as u32, &bytes[from..to]);
                assert_eq!(changed, Ok(holds), "{from}..{to}");
                if holds {
                    assert_eq!(config.writeback(), on);
                    on = !on;
                }
                // One of the others, changed: nothing is taken.
                for other in (from..to).filter(|&at| at != 32) {
                    let mut bytes = bytes.clone();
                    bytes[32] = config.writeback().into();
                    bytes[other] ^= 0x80;
                    let refused = config.write(from as u32, &bytes[from..to]);
                    assert_eq!(
                        refused,
                        Err(ConfigWriteError::NotWritable { offset: other as u64 })
                    );
                }
            }
        }
    }

    #[test]
    fn a_request_as_announced_fits_a_ring_as_offered() {
        for (entries, seg_max) in [
            (1, 1u32),
            (2, 1),
            (4, 2),
            (64, 62),
            (128, 126),
            (256, 126),
            (32768, 126),
        ] {
            let bytes = ConfigSpace::new(geometry()).for_rings_of(entries).encode();
            assert_eq!(bytes[12..16], seg_max.to_le_bytes(), "{entries} entries");
        }
    }

    #[test]
    fn reads_past_the_end_are_zero() {
        let mut to = [9; 8];
        ConfigSpace::new(geometry()).read(56, &mut to);
        assert_eq!(to, [1, 0, 0, 0, 0, 0, 0, 0]);
        ConfigSpace::new(geometry()).read(u32::MAX, &mut to);
        assert_eq!(to, [0; 8]);
    }

    /// Blocks, the best lengths and the number of queues, in all proportions (virtio 1.3, 5.2.4 and 5.2.5).
    #[test]
    fn topology_is_told_in_logical_blocks() {
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        // Logical and physical block, best length; exponent, least length, best length in blocks.
        for ((block, physical, optimal), (exponent, least, best)) in [
            ((512, 512, 0), (0u8, 1u16, 0u32)),
            ((512, 4096, 65536), (3, 8, 128)),
            ((4096, 4096, 65536), (0, 1, 16)),
            ((4096, 16384, 4096), (2, 4, 1)),
            // A physical block below the logical one is none, and one beyond what 16 bits hold is not told.
            ((4096, 512, 0), (0, 1, 0)),
            ((512, 0, 0), (0, 1, 0)),
            ((512, 512 << 15, 0), (15, 1 << 15, 0)),
            ((512, 512 << 16, 0), (16, 1, 0)),
            ((0, 4096, 0), (3, 8, 0)),
        ] {
            let geometry = VolumeGeometry {
                block_bytes: block,
                physical_block_bytes: physical,
                optimal_io_bytes: optimal,
                ..geometry()
            };
            let bytes = ConfigSpace::new(geometry).encode();
            assert_eq!(word(&bytes, 20), block.max(512));
            assert_eq!((bytes[24], bytes[25]), (exponent, 0), "{block} {physical}");
            assert_eq!(
                u16::from_le_bytes([bytes[26], bytes[27]]),
                least,
                "{block} {physical}"
            );
            assert_eq!(word(&bytes, 28), best, "{block} {physical}");
        }
        for (queues, told) in [(0, 1u16), (1, 1), (64, 64), (65, 64)] {
            let bytes = ConfigSpace::new(VolumeGeometry { queues, ..geometry() }).encode();
            assert_eq!(bytes[34..36], told.to_le_bytes());
        }
    }

    #[test]
    fn discards_and_zeroes_are_told_each_by_itself() {
        for (discard, write_zeroes, block_bytes, alignment, told) in [
            (true, false, 512, 0, 1u32),
            (true, true, 4096, 0, 8),
            (true, false, 4096, 65536, 128),
            (false, true, 512, 65536, 0),
            (false, false, 512, 65536, 0),
        ] {
            let bytes = ConfigSpace::new(VolumeGeometry {
                discard,
                write_zeroes,
                block_bytes,
                discard_alignment_bytes: alignment,
                ..geometry()
            })
            .encode();
            assert_eq!(bytes[36..44].iter().any(|byte| *byte != 0), discard);
            assert_eq!(bytes[44..48], told.to_le_bytes());
            assert_eq!(bytes[48..60].iter().any(|byte| *byte != 0), write_zeroes);
        }
    }

    #[test]
    fn a_volume_that_grows_is_told_at_its_new_size() {
        let mut config = ConfigSpace::new(geometry());
        let before = config.encode();
        config.set_sectors(Sectors(77));
        assert_eq!(
            config.geometry(),
            &VolumeGeometry {
                sectors: Sectors(77),
                ..geometry()
            }
        );
        assert_eq!(config.encode()[..8], 77u64.to_le_bytes());
        assert_eq!(config.encode()[8..], before[8..]);
    }
}
