//! The superblock: what a pooled disk is, to whom it belongs, and which extent table is in force.

use crate::geometry::{DATA_START_LEAST, Geometry, GeometryError};
use crate::label::{LABEL_BYTES_MAX, Label};
use crate::lineage::{ANCESTORS_MAX, Lineage};
use crate::sector::{
    BODY_BYTES, RecordType, Sector, SectorError, SectorHeader, VERSION, VERSION_OF_ONE_DATA_START,
    VERSION_WITHOUT_LINEAGE, open, seal,
};
use palisade_words::limits::EXTENTS_PER_DISK_MAX;
use palisade_words::{Ancestor, Epoch, Generation, Lba, LineageId, SECTOR_BYTES, Uuid};
use zerocopy::byteorder::little_endian::{U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

/// The extent table in force. It lies at the same place in the head and in the tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableRef {
    /// Which of the two, 0 (A) or 1 (B).
    pub slot: u32,
    /// Number of extents.
    pub count: u32,
    /// CRC-32C over the records of all extents, in order.
    pub crc: u32,
}

/// A superblock, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Permanent id of the disk.
    pub disk: Uuid,
    /// The cluster that it belongs to.
    pub cluster: Uuid,
    /// The node that wrote it last.
    pub owner: Uuid,
    /// Label for people.
    pub label: Label,
    /// Logical block of the disk in bytes: 512 or 4096.
    pub block_bytes: u32,
    /// Size of the disk in units of 512 bytes, when it was written.
    pub disk_sectors: u64,
    /// First position of data: 4 MiB in versions 1 and 2.
    pub data_start: Lba,
    /// First position behind the data.
    pub data_end: Lba,
    /// The configuration written here.
    pub generation: Generation,
    /// The membership under which it was written.
    pub epoch: Epoch,
    /// Number of the write, from 1; set by [`crate::format`] and [`crate::update`].
    pub sequence: u64,
    /// The table in force; set by [`crate::format`] and [`crate::update`].
    pub table: TableRef,
    /// Where the configuration comes from; `None` in superblocks of version 1.
    pub lineage: Option<Lineage>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawAncestor {
    generation: U64,
    id: U128,
}

/// Bytes of the body before what is reserved.
const USED_BYTES: usize = LABEL_BYTES_MAX + 40 + 24 + ANCESTORS_MAX * 24;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawSuperblock {
    label: [u8; LABEL_BYTES_MAX],
    disk_sectors: U64,
    data_start: U64,
    data_end: U64,
    block_bytes: U32,
    table_slot: U32,
    table_count: U32,
    table_crc: U32,
    // From here on zero in version 1.
    lineage_id: U128,
    ancestor_count: U32,
    unused: U32,
    ancestors: [RawAncestor; ANCESTORS_MAX],
    reserved: [u8; BODY_BYTES - USED_BYTES],
}

const _: () = assert!(size_of::<RawSuperblock>() == BODY_BYTES);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, disk_sectors) == 64);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, block_bytes) == 88);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, lineage_id) == 104);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, ancestors) == 128);

impl RawAncestor {
    const NONE: RawAncestor = RawAncestor {
        generation: U64::ZERO,
        id: U128::ZERO,
    };
}

impl RawSuperblock {
    fn has_lineage(&self) -> bool {
        let ancestors = self.ancestors.as_bytes().iter().any(|byte| *byte != 0);
        ancestors || (self.lineage_id.get(), self.ancestor_count.get()) != (0, 0)
    }

    fn lineage(&self) -> Result<Lineage, &'static str> {
        let count = self.ancestor_count.get() as usize;
        let (used, unused) = self.ancestors.split_at_checked(count).ok_or("ancestor_count")?;
        if unused.as_bytes().iter().any(|byte| *byte != 0) {
            return Err("ancestors");
        }
        let ancestors = used.iter().map(|raw| Ancestor {
            generation: Generation(raw.generation.get()),
            id: LineageId(raw.id.get()),
        });
        Ok(Lineage {
            id: LineageId(self.lineage_id.get()),
            ancestors: ancestors.collect(),
        })
    }
}

impl Superblock {
    /// A superblock for a disk of `disk_sectors` units of 512 bytes, not yet written: generation, epoch and sequence
    /// are 0 and the table is empty.
    pub fn new(
        disk: Uuid,
        cluster: Uuid,
        owner: Uuid,
        label: Label,
        block_bytes: u32,
        disk_sectors: u64,
    ) -> Result<Superblock, GeometryError> {
        let geometry = Geometry::of(disk_sectors)?;
        Ok(Superblock {
            disk,
            cluster,
            owner,
            label,
            block_bytes,
            disk_sectors,
            data_start: geometry.data_start,
            data_end: geometry.data_end,
            generation: Generation(0),
            epoch: Epoch(0),
            sequence: 0,
            table: TableRef::default(),
            lineage: None,
        })
    }

    /// The superblock of a disk that has become larger, whose data begins where it began; to be written with
    /// [`crate::update`].
    pub fn resized(&self, disk_sectors: u64) -> Result<Superblock, GeometryError> {
        let geometry = Geometry::of(disk_sectors)?;
        Ok(Superblock {
            disk_sectors,
            data_end: geometry.data_end,
            ..self.clone()
        })
    }

    /// Room for data in units of 512 bytes.
    pub fn data_sectors(&self) -> u64 {
        self.data_end.0.saturating_sub(self.data_start.0)
    }

    /// The least version that can say this, so that an earlier program reads what it can understand.
    fn version(&self) -> u16 {
        match (&self.lineage, self.data_start) {
            (_, start) if start != DATA_START_LEAST => VERSION,
            (Some(_), _) => VERSION_OF_ONE_DATA_START,
            (None, _) => VERSION_WITHOUT_LINEAGE,
        }
    }

    /// The header of a sector that belongs to this superblock's write.
    pub(crate) fn header(&self, record: RecordType, lba: Lba) -> SectorHeader {
        SectorHeader {
            record,
            version: self.version(),
            lba,
            epoch: self.epoch,
            generation: self.generation,
            sequence: self.sequence,
            owner: self.owner,
            cluster: self.cluster,
            disk: self.disk,
        }
    }

    /// The sector to write at `lba`.
    pub fn to_sector(&self, lba: Lba) -> Sector {
        let raw = RawSuperblock {
            label: self.label.to_field(),
            disk_sectors: U64::new(self.disk_sectors),
            data_start: U64::new(self.data_start.0),
            data_end: U64::new(self.data_end.0),
            block_bytes: U32::new(self.block_bytes),
            table_slot: U32::new(self.table.slot),
            table_count: U32::new(self.table.count),
            table_crc: U32::new(self.table.crc),
            lineage_id: U128::new(self.lineage.as_ref().map_or(0, |lineage| lineage.id.0)),
            ancestor_count: U32::new(self.ancestors().len() as u32),
            unused: U32::ZERO,
            ancestors: [RawAncestor::NONE; ANCESTORS_MAX],
            reserved: [0; BODY_BYTES - USED_BYTES],
        };
        let mut raw = raw;
        for (place, ancestor) in raw.ancestors.iter_mut().zip(self.ancestors()) {
            *place = RawAncestor {
                generation: U64::new(ancestor.generation.0),
                id: U128::new(ancestor.id.0),
            };
        }
        seal(&self.header(RecordType::Superblock, lba), transmute!(raw))
    }

    /// Parses the sector read from `lba`.
    pub fn from_sector(bytes: &Sector, lba: Lba) -> Result<Superblock, SectorError> {
        let (header, body) = open(bytes, RecordType::Superblock, lba)?;
        let raw: RawSuperblock = transmute!(body);
        let malformed = |field| Err(SectorError::Malformed { field });
        let Ok(label) = Label::from_field(&raw.label) else {
            return malformed("label");
        };
        let superblock = Superblock {
            disk: header.disk,
            cluster: header.cluster,
            owner: header.owner,
            label,
            block_bytes: raw.block_bytes.get(),
            disk_sectors: raw.disk_sectors.get(),
            data_start: Lba(raw.data_start.get()),
            data_end: Lba(raw.data_end.get()),
            generation: header.generation,
            epoch: header.epoch,
            sequence: header.sequence,
            table: TableRef {
                slot: raw.table_slot.get(),
                count: raw.table_count.get(),
                crc: raw.table_crc.get(),
            },
            lineage: None,
        };
        let superblock = match header.version {
            VERSION_WITHOUT_LINEAGE if raw.has_lineage() => return malformed("reserved"),
            VERSION_WITHOUT_LINEAGE => superblock,
            _ => match raw.lineage() {
                Ok(lineage) => Superblock {
                    lineage: Some(lineage),
                    ..superblock
                },
                Err(field) => return malformed(field),
            },
        };
        if let Some(field) = superblock.impossible_field() {
            return malformed(field);
        }
        // Versions are told apart by what they alone can say.
        if header.version != superblock.version() {
            return malformed("data_start");
        }
        if raw.unused.get() != 0 || raw.reserved.iter().any(|byte| *byte != 0) {
            return malformed("reserved");
        }
        Ok(superblock)
    }

    fn ancestors(&self) -> &[Ancestor] {
        self.lineage.as_ref().map_or(&[], |lineage| &lineage.ancestors)
    }

    /// The first field with a value that this version never writes. Also asked before writing.
    pub(crate) fn impossible_field(&self) -> Option<&'static str> {
        let Ok(geometry) = Geometry::of(self.disk_sectors) else {
            return Some("disk_sectors");
        };
        let checks = [
            (
                "block_bytes",
                matches!(u64::from(self.block_bytes), SECTOR_BYTES | 4096),
            ),
            ("data_start", geometry.starting_at(self.data_start).is_some()),
            ("data_end", self.data_end == geometry.data_end),
            ("disk", !self.disk.is_nil()),
            ("cluster", !self.cluster.is_nil()),
            ("owner", !self.owner.is_nil()),
            ("sequence", self.sequence != 0),
            // Each write takes the table whose turn it is.
            ("table_slot", u64::from(self.table.slot) == self.sequence % 2),
            ("table_count", self.table.count as usize <= EXTENTS_PER_DISK_MAX),
            // Lineages were there before other places of data.
            (
                "lineage",
                self.lineage.is_some() || self.data_start == DATA_START_LEAST,
            ),
            (
                "lineage_id",
                self.lineage.as_ref().is_none_or(|lineage| !lineage.id.is_nil()),
            ),
            ("ancestor_count", self.ancestors().len() <= ANCESTORS_MAX),
            (
                "ancestors",
                self.ancestors().iter().all(|ancestor| !ancestor.id.is_nil()),
            ),
        ];
        checks.iter().find(|(_, holds)| !holds).map(|(field, _)| *field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn survives_its_sector_and_says_no_later_version_than_it_needs(ids in [1u128.., 1u128.., 1u128..], label in "[a-zäß -]{0,20}", disk_sectors in Geometry::LEAST_SECTORS..1 << 50,
                               old_place: bool, numbers: [u64; 3], count in 0..EXTENTS_PER_DISK_MAX as u32, crc: u32,
                               lineage in proptest::option::of((1u128.., proptest::collection::vec((0u64.., 1u128..), 0..=ANCESTORS_MAX)))) {
            let [disk, cluster, owner] = ids.map(Uuid);
            let label = Label::new(&label).unwrap();
            let mut superblock = Superblock::new(disk, cluster, owner, label, 4096, disk_sectors).unwrap();
            (superblock.generation, superblock.epoch, superblock.sequence) = (Generation(numbers[0]), Epoch(numbers[1]), numbers[2].max(1));
            superblock.table = TableRef { slot: (superblock.sequence % 2) as u32, count, crc };
            superblock.lineage = lineage.map(|(id, ancestors)| Lineage {
                id: LineageId(id),
                ancestors: ancestors.into_iter().map(|(generation, id)| Ancestor { generation: Generation(generation), id: LineageId(id) }).collect(),
            });
            if old_place || superblock.lineage.is_none() {
                superblock.data_start = DATA_START_LEAST;
            }
            let sector = superblock.to_sector(Lba(128));
            let version = match (superblock.data_start == DATA_START_LEAST, &superblock.lineage) {
                (true, None) => 1,
                (true, Some(_)) => 2,
                (false, _) => 3,
            };
            prop_assert_eq!(sector[10], version);
            prop_assert_eq!(Superblock::from_sector(&sector, Lba(128)), Ok(superblock));
        }
    }

    /// A sector with some bytes changed and the checksum made to fit.
    fn forged(superblock: &Superblock, at: usize, byte: u8) -> Result<Superblock, SectorError> {
        let mut sector = superblock.to_sector(Lba(0));
        sector[at] = byte;
        sector[12..16].fill(0);
        let crc = crate::sector::crc32c(&sector);
        sector[12..16].copy_from_slice(&crc.to_le_bytes());
        Superblock::from_sector(&sector, Lba(0))
    }

    /// What a version does not write may mean something to a later one: it is not passed over.
    #[test]
    fn bytes_that_this_version_does_not_write_are_refused_wherever_they_are() {
        let plain = Superblock::new(Uuid(1), Uuid(2), Uuid(3), Label::default(), 512, 100_000).unwrap();
        let plain = Superblock { sequence: 2, ..plain };
        let ancestor = |generation| Ancestor {
            generation: Generation(generation),
            id: LineageId(7),
        };
        let kin = |ancestors| Superblock {
            lineage: Some(Lineage {
                id: LineageId(5),
                ancestors,
            }),
            ..plain.clone()
        };
        let (none, two, full) = (
            kin(Vec::new()),
            kin(vec![ancestor(2), ancestor(1)]),
            kin((0..ANCESTORS_MAX as u64).rev().map(ancestor).collect()),
        );
        for sound in [&plain, &none, &two, &full] {
            assert_eq!(forged(sound, 0, b'P').as_ref(), Ok(sound));
        }
        // Where the body has the id of the lineage, the number of ancestors, what is unused, the ancestors, the rest.
        let (id, count, unused, ancestors, rest) = (200, 216, 220, 224, 224 + 24 * ANCESTORS_MAX);
        let malformed = |field| Err(SectorError::Malformed { field });
        let (second, last) = (ancestors + 24, ancestors + 24 * (ANCESTORS_MAX - 1));
        for at in [
            id,
            id + 15,
            count,
            count + 3,
            unused,
            ancestors,
            ancestors + 23,
            last,
            rest - 1,
            rest,
            4087,
        ] {
            assert_eq!(
                forged(&plain, at, 1),
                malformed("reserved"),
                "{at} without lineage"
            );
        }
        for at in [ancestors, ancestors + 23, second, last, rest - 1] {
            assert_eq!(forged(&none, at, 1), malformed("ancestors"), "{at} behind none");
        }
        for at in [second + 24, last, rest - 1] {
            assert_eq!(forged(&two, at, 1), malformed("ancestors"), "{at} behind two");
        }
        for with in [&none, &two, &full] {
            for at in [unused, unused + 3, rest, rest + 1, 4087] {
                assert_eq!(forged(with, at, 1), malformed("reserved"), "{at}");
            }
            assert_eq!(forged(with, id, 0), malformed("lineage_id"));
            let more = ANCESTORS_MAX as u8 + 1;
            assert_eq!(forged(with, count, more), malformed("ancestor_count"));
        }
        // One more than there are has no id; one less leaves one over.
        assert_eq!(forged(&two, count, 3), malformed("ancestors"));
        assert_eq!(forged(&two, count, 1), malformed("ancestors"));
    }

    /// A version that says less than it could, or more than it can, was written by nobody.
    #[test]
    fn the_place_of_data_is_believed_in_the_version_that_has_it() {
        let lineage = Some(Lineage {
            id: LineageId(5),
            ancestors: Vec::new(),
        });
        let new = Superblock::new(Uuid(1), Uuid(2), Uuid(3), Label::default(), 512, 1 << 24).unwrap();
        let roomy = Superblock {
            sequence: 2,
            lineage,
            ..new
        };
        assert_eq!(roomy.data_start.bytes(), 68 << 20);
        let old = Superblock {
            data_start: DATA_START_LEAST,
            ..roomy.clone()
        };
        assert_eq!(forged(&roomy, 10, 3).as_ref(), Ok(&roomy));
        assert_eq!(forged(&old, 10, 2).as_ref(), Ok(&old));
        let malformed = |field| Err(SectorError::Malformed { field });
        assert_eq!(forged(&roomy, 10, 2), malformed("data_start"));
        assert_eq!(forged(&old, 10, 3), malformed("data_start"));
        assert_eq!(forged(&roomy, 10, 4), Err(SectorError::WrongVersion { found: 4 }));
        // The second byte of the place: 68 MiB are 0x22000 sectors.
        assert_eq!(
            forged(&roomy, 96 + 64 + 8 + 1, 1),
            malformed("data_start"),
            "no whole unit"
        );
        let unstamped = Superblock {
            lineage: None,
            ..roomy.clone()
        };
        assert_eq!(unstamped.impossible_field(), Some("lineage"));
        let grown = old.resized(1 << 25).unwrap();
        assert_eq!(
            (grown.data_start, grown.data_end),
            (DATA_START_LEAST, roomy.resized(1 << 25).unwrap().data_end)
        );
    }

    #[test]
    fn room_for_data_is_what_lies_between_its_ends() {
        let whole = Superblock::new(Uuid(1), Uuid(2), Uuid(3), Label::default(), 512, 100_000).unwrap();
        assert_eq!(whole.data_sectors(), 8192 * 10);
        let backwards = Superblock {
            data_start: whole.data_end,
            data_end: whole.data_start,
            ..whole
        };
        assert_eq!(backwards.data_sectors(), 0);
    }

    #[test]
    fn impossible_values_are_refused_although_the_checksum_fits() {
        let good = Superblock::new(Uuid(1), Uuid(2), Uuid(3), Label::default(), 512, 100_000).unwrap();
        let good = Superblock { sequence: 2, ..good };
        let refused = |bad: Superblock| Superblock::from_sector(&bad.to_sector(Lba(0)), Lba(0)).unwrap_err();
        let field = |field| SectorError::Malformed { field };
        assert_eq!(
            refused(Superblock {
                block_bytes: 513,
                ..good.clone()
            }),
            field("block_bytes")
        );
        assert_eq!(
            refused(Superblock {
                disk_sectors: 9,
                ..good.clone()
            }),
            field("disk_sectors")
        );
        assert_eq!(
            refused(Superblock {
                data_start: Lba(1),
                ..good.clone()
            }),
            field("data_start")
        );
        assert_eq!(
            refused(Superblock {
                data_end: Lba(99_999),
                ..good.clone()
            }),
            field("data_end")
        );
        let table = TableRef {
            count: u32::MAX,
            ..good.table
        };
        assert_eq!(
            refused(Superblock {
                table,
                ..good.clone()
            }),
            field("table_count")
        );
        let table = TableRef {
            slot: 2,
            ..good.table
        };
        assert_eq!(refused(Superblock { table, ..good }), field("table_slot"));
    }
}
