//! What the simulated guests write: each sector says which write put it there and where it belongs, and every one of
//! its words depends on both, so that a sector mixed from two writes, or found in the wrong place, is told apart.

use crate::rng::mix;
use palisade_words::SECTOR_BYTES;

/// Bytes of one sector.
pub const SECTOR: usize = SECTOR_BYTES as usize;

/// The content of one sector, as far as the checkers care.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Content {
    /// All bytes are zero.
    Zero,
    /// Put there by the write of this number.
    Write(u64),
    /// Neither zero nor wholly one write's sector for this place.
    Garbage,
}

/// Fills one sector for a write: `place` names volume and position.
pub fn fill(sector: &mut [u8], place: u64, write: u64) {
    let salt = mix(place ^ write.rotate_left(32));
    for (index, word) in sector.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&word_at(index, place, write, salt).to_le_bytes());
    }
}

/// Tells what a sector holds.
pub fn read(sector: &[u8], place: u64) -> Content {
    if sector.iter().all(|byte| *byte == 0) {
        return Content::Zero;
    }
    let Some(Ok(first)) = sector.get(..8).map(<[u8; 8]>::try_from) else {
        return Content::Garbage;
    };
    let write = u64::from_le_bytes(first);
    let salt = mix(place ^ write.rotate_left(32));
    let whole = sector
        .chunks_exact(8)
        .enumerate()
        .all(|(index, word)| word == word_at(index, place, write, salt).to_le_bytes());
    if whole && write != 0 {
        Content::Write(write)
    } else {
        Content::Garbage
    }
}

/// The name of a place: volume and sector.
pub fn place(volume: u16, lba: u64) -> u64 {
    (u64::from(volume) + 1) << 48 | lba
}

fn word_at(index: usize, place: u64, write: u64, salt: u64) -> u64 {
    match index {
        0 => write,
        1 => place,
        index => salt.wrapping_add((index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_its_write_and_only_in_its_place() {
        let mut sector = [0; SECTOR];
        assert_eq!(read(&sector, place(1, 2)), Content::Zero);
        fill(&mut sector, place(1, 2), 77);
        assert_eq!(read(&sector, place(1, 2)), Content::Write(77));
        assert_eq!(read(&sector, place(1, 3)), Content::Garbage);
        assert_eq!(read(&sector, place(2, 2)), Content::Garbage);
    }

    #[test]
    fn a_sector_mixed_from_two_writes_is_garbage() {
        let (mut old, mut new) = ([0; SECTOR], [0; SECTOR]);
        fill(&mut old, place(0, 9), 1);
        fill(&mut new, place(0, 9), 2);
        for cut in [1, 8, 16, 17, 256, 511] {
            let mixed = [&new[..cut], &old[cut..]].concat();
            assert_eq!(read(&mixed, place(0, 9)), Content::Garbage, "cut at {cut}");
        }
    }
}
