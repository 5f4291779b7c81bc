//! What a medium without an identity of its own is known by: the ids that its content carries, and checksums of some of
//! its blocks.
//!
//! A disk that is given whole to a guest is the guest's to write: a fingerprint that had to stay the same would lock the
//! guest out of its own disk. So it is taken again while the disk is in use, and when it is let go ([`Hold`] says which
//! of both the latest one is), and it is compared by what a guest changes rarely:
//!
//! | latest fingerprint taken | taken for the same medium when |
//! |---|---|
//! | when it was let go | all blocks are the same; or the content's id is, and three quarters of the blocks that held data |
//! | while in use, then a crash | all blocks are the same; or half of the blocks that held data, and no other id has appeared |
//!
//! A block of zeroes says nothing and is not counted. What fits neither is another medium, or one that was written
//! behind our back; which, only an operator knows. Two copies of one image that have hardly been written to since
//! cannot be told apart after a crash: give such disks a serial number.

use super::Opened;
use std::fmt;
use std::io;
use std::str::FromStr;

/// Blocks that are looked at.
const SAMPLES: usize = 64;

/// Of those at the start, one after the other: partition tables and superblocks.
const HEAD_SAMPLES: u64 = 9;

/// Bytes of one.
const SAMPLE_BYTES: u64 = 4096;

/// Bytes of the start in which ids are looked for.
const NAMES_BYTES: u64 = 128 << 10;

/// What a medium is known by at one moment. Its text keeps it over restarts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// Size of the medium in bytes.
    bytes: u64,
    /// The id that its content carries, if it is of a kind that does.
    name: Option<String>,
    /// CRC-32C of each block, 0 for one of zeroes.
    samples: Vec<u32>,
}

/// When a fingerprint was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// While the medium was in use: it may have been written to since.
    InUse,
    /// When it was let go: nothing of ours has been written to it since.
    LetGo,
}

impl Fingerprint {
    /// Takes the one of an open device. Reads some 400 KiB.
    ///
    /// # Errors
    /// What reading says.
    pub fn of(device: &Opened) -> io::Result<Fingerprint> {
        Fingerprint::read(device.sectors().bytes(), |offset, to| device.read_at(offset, to))
    }

    /// The same of the first `bytes` bytes, for a medium that has grown since.
    ///
    /// # Errors
    /// What reading says.
    pub fn of_first(device: &Opened, bytes: u64) -> io::Result<Fingerprint> {
        let bytes = bytes.min(device.sectors().bytes());
        Fingerprint::read(bytes, |offset, to| device.read_at(offset, to))
    }

    fn read(bytes: u64, mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>) -> io::Result<Fingerprint> {
        let mut head = vec![0; bytes.min(NAMES_BYTES) as usize];
        read(0, &mut head)?;
        let mut block = [0; SAMPLE_BYTES as usize];
        let mut samples = Vec::with_capacity(SAMPLES);
        for offset in places(bytes) {
            let length = (bytes - offset).min(SAMPLE_BYTES) as usize;
            let (block, _) = block.split_at_mut(length);
            read(offset, block)?;
            samples.push(checksum(block));
        }
        let name = name(&head);
        Ok(Fingerprint { bytes, name, samples })
    }

    /// Size of the medium that it was taken of, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all blocks that were looked at are zeroes: many a medium holds nothing, and nothing tells them apart.
    pub fn is_blank(&self) -> bool {
        self.samples.iter().all(|&sample| sample == 0)
    }

    /// The id that the content carries, as `gpt 1b4e28ba2fa111d2883fb9a761bde3fb`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether `found` is the medium that this fingerprint was taken of; if not, what speaks against it, as a clause.
    ///
    /// # Errors
    /// The clause.
    pub fn check(&self, found: &Fingerprint, hold: Hold) -> Result<(), String> {
        if self.bytes != found.bytes {
            return Err(format!("it had {} bytes and has {}", self.bytes, found.bytes));
        }
        if self.samples == found.samples {
            return Ok(());
        }
        let pairs = self.samples.iter().zip(&found.samples);
        let told = self.samples.iter().filter(|&&sample| sample != 0).count();
        let kept = pairs.filter(|(was, is)| **was != 0 && was == is).count();
        let (names, enough) = match hold {
            Hold::LetGo => (
                self.name.is_some() && self.name == found.name,
                kept * 4 >= told * 3,
            ),
            Hold::InUse => (
                found.name.is_none() || self.name == found.name,
                kept * 2 >= told && kept > 0,
            ),
        };
        if names && enough {
            return Ok(());
        }
        let show = |name: &Option<String>| name.clone().unwrap_or_else(|| "no id known here".into());
        let content = match self.name == found.name {
            true => format!("its content carries {}", show(&self.name)),
            false => format!(
                "its content carried {} and carries {}",
                show(&self.name),
                show(&found.name)
            ),
        };
        Err(format!(
            "{content}, and {kept} of {told} blocks that were looked at are as they were"
        ))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1:{}:{}:", self.bytes, self.name.as_deref().unwrap_or("-"))?;
        let mut samples = self.samples.iter();
        if let Some(first) = samples.next() {
            write!(f, "{first:x}")?;
        }
        samples.try_for_each(|sample| write!(f, ",{sample:x}"))
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is no fingerprint of a version known here")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, NotAFingerprint> {
        let mut fields = text.splitn(4, ':');
        let (Some("1"), Some(bytes), Some(name), Some(samples)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(NotAFingerprint);
        };
        let bytes = bytes.parse().map_err(|_| NotAFingerprint)?;
        let samples: Result<Vec<u32>, _> = samples
            .split(',')
            .map(|sample| u32::from_str_radix(sample, 16))
            .collect();
        let samples = samples.map_err(|_| NotAFingerprint)?;
        let name = (name != "-").then(|| name.to_owned());
        match samples.len() == places(bytes).count() {
            true => Ok(Fingerprint { bytes, name, samples }),
            false => Err(NotAFingerprint),
        }
    }
}

/// Where the blocks lie on a medium of `bytes` bytes: the first ones, the last one, and the others evenly between.
fn places(bytes: u64) -> impl Iterator<Item = u64> {
    let blocks = bytes.div_ceil(SAMPLE_BYTES);
    let few = blocks.min(SAMPLES as u64);
    let spread = few.saturating_sub(HEAD_SAMPLES).max(1);
    (0..few).map(move |index| match index {
        _ if blocks == few => index * SAMPLE_BYTES,
        index if index < HEAD_SAMPLES => index * SAMPLE_BYTES,
        index => {
            let (of, behind_head) = (index - HEAD_SAMPLES + 1, blocks - HEAD_SAMPLES);
            let block = u128::from(behind_head) * u128::from(of) / u128::from(spread);
            (HEAD_SAMPLES - 1 + block as u64) * SAMPLE_BYTES
        }
    })
}

/// CRC-32C, never 0 except for zeroes.
fn checksum(block: &[u8]) -> u32 {
    if block.iter().all(|&byte| byte == 0) {
        return 0;
    }
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, block) as u32;
    sum.max(1)
}

/// The id that some content carries, from its first bytes.
fn name(head: &[u8]) -> Option<String> {
    let id = |at: usize, length: usize| {
        let bytes = head.get(at..at + length)?;
        let blank = bytes.iter().all(|&byte| byte == 0);
        (!blank).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    // A kind, where its mark lies, the mark, and where its id lies.
    const KINDS: [(&str, usize, &[u8], usize, usize); 11] = [
        ("gpt", 512, b"EFI PART", 512 + 56, 16),
        ("gpt", 4096, b"EFI PART", 4096 + 56, 16),
        ("luks", 0, b"LUKS\xba\xbe", 168, 36),
        ("lvm", 512, b"LABELONE", 512 + 32, 32),
        ("md", 4096, b"\xfc\x4e\x2b\xa9", 4096 + 16, 16),
        ("xfs", 0, b"XFSB", 32, 16),
        ("ext", 1080, b"\x53\xef", 1024 + 104, 16),
        ("btrfs", 0x10040, b"_BHRfS_M", 0x10020, 16),
        ("ntfs", 3, b"NTFS    ", 72, 8),
        ("swap", 4086, b"SWAPSPACE2", 1036, 16),
        ("mbr", 510, b"\x55\xaa", 440, 4),
    ];
    let is_there = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|from| from.starts_with(mark));
    KINDS
        .iter()
        .filter(|(_, at, mark, ..)| is_there(*at, mark))
        .find_map(|(kind, _, _, at, length)| Some(format!("{kind} {}", id(*at, *length)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 16 << 20;

    fn take(medium: &[u8]) -> Fingerprint {
        let read = |offset: u64, to: &mut [u8]| {
            to.copy_from_slice(&medium[offset as usize..offset as usize + to.len()]);
            Ok(())
        };
        Fingerprint::read(medium.len() as u64, read).unwrap()
    }

    /// A medium with an ext file system of an id, all of whose blocks hold data of a seed.
    fn medium(id: u8, seed: u8) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..BYTES).map(|at| (at / 4096) as u8 ^ seed | 1).collect();
        bytes[1080..1082].copy_from_slice(b"\x53\xef");
        bytes[1024 + 104..1024 + 120].fill(id);
        bytes
    }

    fn write(medium: &mut [u8], blocks: std::ops::Range<usize>) {
        let places: Vec<_> = places(BYTES as u64).collect();
        for &at in &places[blocks] {
            medium[at as usize + 2048] ^= 0xff;
        }
    }

    #[test]
    fn a_text_gives_back_the_fingerprint() {
        for bytes in [512, 4096, 5000, 100 << 10, 300 << 10, BYTES] {
            let found = take(&medium(7, 3)[..bytes.max(2048)]);
            assert_eq!(found.to_string().parse(), Ok(found));
        }
        for text in ["", "2:4096:-:0", "1:x:-:0", "1:4096:-:zz", "1:4096:-:0,0"] {
            assert_eq!(text.parse::<Fingerprint>(), Err(NotAFingerprint), "{text}");
        }
    }

    #[test]
    fn blocks_are_within_and_cover_both_ends() {
        for bytes in [
            1,
            512,
            4096,
            4097,
            63 * 4096,
            64 * 4096,
            65 * 4096,
            1 << 30,
            1 << 55,
        ] {
            let places: Vec<_> = places(bytes).collect();
            assert!(places.iter().is_sorted() && places[0] == 0, "{bytes}: {places:?}");
            let last = *places.last().unwrap();
            assert!(last < bytes && bytes - last <= 4096, "{bytes}: {places:?}");
        }
    }

    #[test]
    fn what_the_guest_writes_between_two_looks_does_not_lock_it_out() {
        let before = medium(7, 3);
        let mut after = before.clone();
        write(&mut after, 0..30);
        let (before, after) = (take(&before), take(&after));
        assert_eq!(before.check(&after, Hold::InUse), Ok(()));
        // After it was let go nobody writes to it: so much is not the host mounting it once.
        assert!(before.check(&after, Hold::LetGo).is_err());
    }

    #[test]
    fn a_mount_on_the_host_is_the_same_medium() {
        let before = medium(7, 3);
        let mut after = before.clone();
        write(&mut after, 0..3);
        assert_eq!(take(&before).check(&take(&after), Hold::LetGo), Ok(()));
    }

    #[test]
    fn another_medium_is_none() {
        let ours = take(&medium(7, 3));
        let other = take(&medium(8, 77));
        let blank = take(&vec![0; BYTES]);
        assert_eq!([&ours, &blank].map(Fingerprint::is_blank), [false, true]);
        for hold in [Hold::InUse, Hold::LetGo] {
            assert!(ours.check(&other, hold).is_err());
            assert!(ours.check(&blank, hold).is_err());
            assert!(blank.check(&other, hold).is_err());
            assert_eq!(ours.check(&ours, hold), Ok(()));
            assert_eq!(blank.check(&blank, hold), Ok(()));
            // A clone of the image, with the same id and other data since.
            assert!(ours.check(&take(&medium(7, 77)), hold).is_err());
            assert!(ours.check(&take(&medium(7, 3)[..BYTES / 2]), hold).is_err());
        }
    }

    #[test]
    fn another_id_is_another_medium_even_where_most_is_the_same() {
        let (ours, other) = (take(&medium(7, 3)), take(&medium(8, 3)));
        let refused = ours.check(&other, Hold::InUse).unwrap_err();
        assert!(
            refused.contains("ext 0707") && refused.contains("ext 0808"),
            "{refused}"
        );
        assert!(ours.check(&other, Hold::LetGo).is_err());
    }
}
