//! The partitions that a table on a disk tells of, to be shown to whoever is about to take the disk. A table is believed
//! as it stands: what is shown decides nothing.

use crate::device::Opened;
use std::io;

/// Most entries that are read: what a GPT has unless somebody asked for more (UEFI 2.10, 5.3.2).
const ENTRIES_MAX: usize = 128;

/// Longest entry that is read.
const ENTRY_BYTES_MAX: usize = 512;

/// An entry of a protective MBR, beside a GPT.
const PROTECTIVE: u8 = 0xee;

/// A partition, as its entry in the table describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionEntry {
    /// Its place in the table, counted from 1, as Linux does.
    pub number: u32,
    /// Its name, which only a GPT has.
    pub name: String,
    /// Where it begins, in bytes.
    pub offset_bytes: u64,
    /// Its size.
    pub bytes: u64,
}

/// The partitions of a disk: of a GPT at either end, else of an MBR without what lies in extended partitions.
///
/// # Errors
/// What reading says.
pub fn partitions(device: &Opened) -> io::Result<Vec<PartitionEntry>> {
    let bytes = device.sectors().bytes();
    let read = |at: u64, length: usize| -> io::Result<Vec<u8>> {
        let length = length.min(usize::try_from(bytes.saturating_sub(at)).unwrap_or(usize::MAX));
        let mut piece = vec![0; length];
        if length > 0 {
            device.read_at(at, &mut piece)?;
        }
        Ok(piece)
    };
    for block in [512, 4096] {
        for at in [
            Some(block),
            (bytes / block).checked_sub(1).map(|last| last * block),
        ] {
            let Some(at) = at else { continue };
            let header = read(at, 512)?;
            let Some(table) = Table::of(&header, block) else {
                continue;
            };
            return Ok(table.partitions(&read(table.at, table.bytes())?));
        }
    }
    Ok(of_mbr(&read(0, 512)?))
}

/// Where the entries of a GPT are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Table {
    block: u64,
    at: u64,
    entries: usize,
    entry_bytes: usize,
}

impl Table {
    fn of(header: &[u8], block: u64) -> Option<Table> {
        if !header.starts_with(b"EFI PART") {
            return None;
        }
        let entry_bytes = usize::try_from(number(header, 84, 4)?).ok()?;
        if !(128..=ENTRY_BYTES_MAX).contains(&entry_bytes) {
            return None;
        }
        Some(Table {
            block,
            at: number(header, 72, 8)?.checked_mul(block)?,
            entries: usize::try_from(number(header, 80, 4)?).ok()?.min(ENTRIES_MAX),
            entry_bytes,
        })
    }

    fn bytes(self) -> usize {
        self.entries * self.entry_bytes
    }

    fn partitions(self, entries: &[u8]) -> Vec<PartitionEntry> {
        let all = entries.chunks_exact(self.entry_bytes).zip(1..);
        all.filter_map(|(entry, number)| self.partition(entry, number))
            .collect()
    }

    fn partition(self, entry: &[u8], of: u32) -> Option<PartitionEntry> {
        if entry.get(..16)?.iter().all(|&byte| byte == 0) {
            return None;
        }
        let (first, last) = (number(entry, 32, 8)?, number(entry, 40, 8)?);
        let blocks = last.checked_sub(first)?.checked_add(1)?;
        let units = entry.get(56..128)?.chunks_exact(2);
        let units: Vec<u16> = units
            .map_while(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?)).filter(|&unit| unit != 0))
            .collect();
        // What would move a terminal's cursor is no part of a name.
        let name: String = String::from_utf16_lossy(&units)
            .chars()
            .filter(|char| !char.is_control())
            .collect();
        Some(PartitionEntry {
            number: of,
            name,
            offset_bytes: first.checked_mul(self.block)?,
            bytes: blocks.checked_mul(self.block)?,
        })
    }
}

fn of_mbr(sector: &[u8]) -> Vec<PartitionEntry> {
    if sector.get(510..512) != Some(b"\x55\xaa") {
        return Vec::new();
    }
    let entries = sector.get(446..510).unwrap_or_default().chunks_exact(16);
    let partition = |(entry, of): (&[u8], u32)| {
        let kind = *entry.get(4)?;
        let (first, sectors) = (number(entry, 8, 4)?, number(entry, 12, 4)?);
        (kind != 0 && kind != PROTECTIVE && sectors > 0).then(|| PartitionEntry {
            number: of,
            name: String::new(),
            offset_bytes: first * 512,
            bytes: sectors * 512,
        })
    };
    entries.zip(1..).filter_map(partition).collect()
}

/// A number of up to 8 bytes, the lowest byte first.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(at: u64, entries: u32, entry_bytes: u32) -> Vec<u8> {
        let mut header = vec![0; 512];
        header[..8].copy_from_slice(b"EFI PART");
        header[72..80].copy_from_slice(&at.to_le_bytes());
        header[80..84].copy_from_slice(&entries.to_le_bytes());
        header[84..88].copy_from_slice(&entry_bytes.to_le_bytes());
        header
    }

    fn entry(first: u64, last: u64, name: &str) -> Vec<u8> {
        let mut entry = vec![0; 128];
        entry[0] = 1;
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
        for (at, unit) in name.encode_utf16().enumerate() {
            entry[56 + 2 * at..58 + 2 * at].copy_from_slice(&unit.to_le_bytes());
        }
        entry
    }

    #[test]
    fn entries_are_shown_as_they_stand() {
        let table = Table::of(&header(2, 128, 128), 4096).unwrap();
        assert_eq!((table.at, table.bytes()), (8192, 16384));
        let entries = [entry(6, 6, "boot\u{1b}[2J"), vec![0; 128], entry(7, 15, "root")];
        let found = table.partitions(&entries.concat());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].number, found[0].name.as_str()), (1, "boot[2J"));
        let last = PartitionEntry {
            number: 3,
            name: "root".to_owned(),
            offset_bytes: 7 * 4096,
            bytes: 9 * 4096,
        };
        assert_eq!(found[1], last);
    }

    #[test]
    fn nonsense_is_bounded_and_left_out() {
        assert_eq!(Table::of(&[0; 512], 512), None);
        assert_eq!(Table::of(b"EFI PART", 512), None);
        for entry_bytes in [0, 127, 513, u32::MAX] {
            assert_eq!(Table::of(&header(2, 4, entry_bytes), 512), None, "{entry_bytes}");
        }
        assert_eq!(Table::of(&header(u64::MAX, 4, 128), 512), None);
        let table = Table::of(&header(2, u32::MAX, 512), 512).unwrap();
        assert_eq!(table.bytes(), ENTRIES_MAX * ENTRY_BYTES_MAX);
        let table = Table::of(&header(2, 4, 128), 512).unwrap();
        let wrong = [
            entry(9, 8, ""),
            entry(0, u64::MAX, ""),
            entry(u64::MAX, u64::MAX, ""),
        ];
        assert_eq!(table.partitions(&wrong.concat()), []);
        assert_eq!(table.partitions(&[1; 100]), [], "cut short");
    }

    #[test]
    fn an_mbr_has_four_places() {
        let mut sector = vec![0; 512];
        assert_eq!(of_mbr(&sector), []);
        sector[510..].copy_from_slice(b"\x55\xaa");
        sector[446 + 4] = PROTECTIVE;
        sector[446 + 12] = 9;
        sector[446 + 48 + 4] = 0x83;
        sector[446 + 48 + 8..][..4].copy_from_slice(&2048u32.to_le_bytes());
        sector[446 + 48 + 12..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let found = of_mbr(&sector);
        let last = PartitionEntry {
            number: 4,
            name: String::new(),
            offset_bytes: 1 << 20,
            bytes: u64::from(u32::MAX) * 512,
        };
        assert_eq!(found, [last]);
    }
}
