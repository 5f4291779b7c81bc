//! From the sectors of a disk to what it says, and a list of what is damaged.
//!
//! The newest sound superblock whose table is complete wins, wherever it lies; sectors of the table are taken from
//! head or tail, whichever is sound. Everything that had to be passed over is told.
//!
//! One number stands for one write as long as nobody copies sectors about. Where two copies have the same number and say
//! different things, the number proves nothing: the one whose table is there is the disk's, and of two such the one that
//! has grown out of the other, by its lineage. Otherwise nobody can tell, and neither is believed.

use crate::encode::{EncodeError, check_extents};
use crate::extent::{ExtentRecord, RECORDS_PER_SECTOR, table_crc, table_sector};
use crate::geometry::{Geometry, SECTORS_PER_4K, SUPERBLOCKS, TABLES};
use crate::lineage::Kinship;
use crate::sector::{RecordType, Sector, SectorError, open};
use crate::superblock::Superblock;
use palisade_words::{Lba, Uuid};
use std::fmt;

/// A record's place on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordPlace {
    /// In the tail area; otherwise in the head area.
    pub tail: bool,
    /// Which record there.
    pub part: Part,
}

/// A record of the head or tail area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Superblock copy 0 (A) or 1 (B).
    Superblock {
        /// Which copy.
        copy: usize,
    },
    /// A sector of extent table 0 (A) or 1 (B).
    Table {
        /// Which table.
        slot: usize,
        /// Which sector of it.
        index: u32,
    },
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let area = if self.tail { "tail" } else { "head" };
        let letter = |which| if which == 0 { 'A' } else { 'B' };
        match self.part {
            Part::Superblock { copy } => write!(f, "{area} superblock {}", letter(copy)),
            Part::Table { slot, index } => write!(f, "{area} extent table {} sector {index}", letter(slot)),
        }
    }
}

/// Why a record could not be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Why {
    /// The disk did not give it, in the reader's words.
    #[error("cannot be read: {error}")]
    Unreadable {
        /// What the reader said.
        error: String,
    },
    /// It is not what it should be.
    #[error("{0}")]
    Sector(#[source] SectorError),
    /// Sound, but of another disk or cluster than the first sound superblock.
    #[error("belongs to disk {:032x} of cluster {:032x}", .disk.0, .cluster.0)]
    OtherDisk {
        /// Disk it belongs to.
        disk: Uuid,
        /// Cluster it belongs to.
        cluster: Uuid,
    },
    /// Sound, but not of the write that is in force: a lost write, or a change that did not get to its end.
    #[error("is of write {found} where write {wanted} is in force")]
    OtherWrite {
        /// Its sequence.
        found: u64,
        /// The sequence in force.
        wanted: u64,
    },
    /// Sound, and with the number of the write in force, but it says something else: it was copied there from elsewhere, or
    /// has been left by a write that was lost.
    #[error("has the number of the write in force, {sequence}, and says something else; {proof}")]
    OtherContent {
        /// The number that both have.
        sequence: u64,
        /// What shows that it is not the one.
        proof: Proof,
    },
    /// The superblock is sound, but the table it names is not; an older state was looked for.
    #[error("is sound, but the extent table of write {sequence} is lost")]
    TableLost {
        /// Sequence of the state that is lost.
        sequence: u64,
    },
    /// It lies behind the end of the disk, which has become smaller. Units of 512 bytes.
    #[error("lies beyond the end: the disk had {wanted} sectors and has {found}")]
    BeyondEnd {
        /// Size according to the superblock.
        wanted: u64,
        /// Size now.
        found: u64,
    },
}

/// What shows which of two records of one number is the disk's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// The table that it names is not there, and the other's is.
    TableLost,
    /// The other has grown out of it, by its lineage.
    GrownOut,
    /// The checksum in the superblock is that of the other.
    Checksum,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proof::TableLost => "its extent table is not there",
            Proof::GrownOut => "the one in force has grown out of it",
            Proof::Checksum => "its checksum is not that of the table in force",
        })
    }
}

/// One record that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Which record.
    pub place: RecordPlace,
    /// Where it lies.
    pub lba: Lba,
    /// What is wrong.
    pub why: Why,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (LBA {}) {}", self.place, self.lba, self.why)
    }
}

/// What a disk says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// The newest superblock with a complete table.
    pub superblock: Superblock,
    /// Its extents, in the order they were written.
    pub extents: Vec<ExtentRecord>,
    /// Superblock copies that are sound, with the sequence of each.
    pub sound: Vec<(RecordPlace, u64)>,
    /// What these say.
    pub copies: Vec<(RecordPlace, Superblock)>,
    /// What is not as it should be. Empty on a healthy disk; [`crate::mend`] repairs it, and so do the next two updates.
    pub damage: Vec<Damage>,
}

/// Why a disk says nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Smaller than any pooled disk. Units of 512 bytes.
    #[error("{disk_sectors} sectors of 512 bytes are too few for a pooled disk")]
    TooSmall {
        /// Size of the disk.
        disk_sectors: u64,
    },
    /// No place of a superblock carries our magic.
    #[error("no superblock of Palisade at the head or tail")]
    NotOurs,
    /// No place of a superblock could be read.
    #[error("no superblock could be read{}", first(": ", .damage))]
    Unreadable {
        /// What the reader said, by place.
        damage: Vec<Damage>,
    },
    /// A sound sector was written by a version not known here. Refused even if another copy could be read: the newer
    /// program may have meant to replace that one.
    #[error("written by on-disk version {found}, which this program does not know")]
    WrongVersion {
        /// The version.
        found: u16,
    },
    /// Two sound superblocks of the same write, each with its table, say different things, and neither has grown out of the
    /// other: one was copied here from elsewhere.
    #[error(
        "{} (generation {}) and {} (generation {}) are both of write {}, each with its table, and say different things: one \
         of them was copied here from elsewhere, and nothing tells which",
        .0[0].place, .0[0].superblock.generation, .0[1].place, .0[1].superblock.generation, .0[0].superblock.sequence
    )]
    Contradiction(Box<[Claim; 2]>),
    /// The newest superblock, or the table that it names by its checksum, says what is never written. No older state is
    /// taken for it: whoever has written it meant to replace that.
    #[error("{place} is of write {sequence} and says what cannot be: {what}")]
    Impossible {
        /// Which record.
        place: RecordPlace,
        /// Of which write.
        sequence: u64,
        /// What is wrong.
        what: Impossibility,
    },
    /// It was ours, but no superblock with a complete table is left.
    #[error("no complete superblock and table left{}", first("; ", .damage))]
    Damaged {
        /// What is wrong with each record.
        damage: Vec<Damage>,
    },
}

/// What a record says that cannot be, although its checksum is right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Impossibility {
    /// By itself.
    #[error("{0}")]
    Record(#[source] SectorError),
    /// Together with the rest of its table.
    #[error("{0}")]
    Table(#[source] EncodeError),
}

/// A complete state that a disk may be in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Where its superblock lies.
    pub place: RecordPlace,
    /// What that says.
    pub superblock: Superblock,
    /// Its table.
    pub extents: Vec<ExtentRecord>,
}

/// The first of the damage, behind what tells of all of it.
fn first(separator: &str, damage: &[Damage]) -> String {
    damage
        .first()
        .map_or_else(String::new, |first| format!("{separator}{first}"))
}

/// Reads what a disk of `disk_sectors` units of 512 bytes says. `read` gives the 4 KiB at a position.
pub fn decode<E: fmt::Display>(
    disk_sectors: u64,
    read: impl FnMut(Lba) -> Result<Sector, E>,
) -> Result<Decoded, DecodeError> {
    let device = Geometry::of(disk_sectors).map_err(|_| DecodeError::TooSmall { disk_sectors })?;
    let mut reader = Reader {
        read,
        damage: Vec::new(),
        impossible: Vec::new(),
    };
    let mut copies = reader.superblocks(&device, false);
    let newest = copies.iter().max_by_key(|copy| copy.superblock.sequence);
    // A disk that has grown has its tail where its superblock says, until it is told of the new size.
    let geometry = newest
        .and_then(|copy| Geometry::of(copy.superblock.disk_sectors).ok())
        .unwrap_or(device);
    if geometry.disk_sectors > disk_sectors {
        reader.beyond_end(&geometry, disk_sectors);
    } else {
        copies.extend(reader.superblocks(&geometry, true));
    }
    if let Some(found) = reader.unknown_version() {
        return Err(DecodeError::WrongVersion { found });
    }
    reader.keep_one_disk(&mut copies);
    reader.choose(copies, disk_sectors)
}

/// A sound superblock and where it was found.
struct Copy {
    place: RecordPlace,
    lba: Lba,
    superblock: Superblock,
}

struct Reader<R> {
    read: R,
    damage: Vec<Damage>,
    /// Superblocks with a right checksum that say what cannot be: the disk, the number of the write, and why.
    impossible: Vec<(Uuid, DecodeError)>,
}

impl<R> Reader<R> {
    fn blame(&mut self, place: RecordPlace, lba: Lba, why: Why) {
        self.damage.push(Damage { place, lba, why });
    }

    fn beyond_end(&mut self, geometry: &Geometry, found: u64) {
        for (copy, offset) in SUPERBLOCKS.iter().enumerate() {
            let place = RecordPlace {
                tail: true,
                part: Part::Superblock { copy },
            };
            let wanted = geometry.disk_sectors;
            self.blame(
                place,
                Lba(geometry.tail.0 + offset),
                Why::BeyondEnd { wanted, found },
            );
        }
    }

    fn unknown_version(&self) -> Option<u16> {
        self.damage.iter().find_map(|damage| match damage.why {
            Why::Sector(SectorError::WrongVersion { found }) => Some(found),
            _ => None,
        })
    }

    fn note_impossible(&mut self, place: RecordPlace, lba: Lba, bytes: &Sector) {
        let whose = open(bytes, RecordType::Superblock, lba);
        let said = Superblock::from_sector(bytes, lba);
        if let (Ok((header, _)), Err(error @ SectorError::Malformed { .. })) = (whose, said) {
            let what = Impossibility::Record(error);
            let sequence = header.sequence;
            let impossible = DecodeError::Impossible {
                place,
                sequence,
                what,
            };
            self.impossible.push((header.disk, impossible));
        }
    }

    /// A superblock of a disk, of a write or a later one, that says what cannot be.
    fn impossible_from(&self, disk: Uuid, write: u64) -> Option<DecodeError> {
        let of_it = self.impossible.iter().filter(|(whose, _)| *whose == disk);
        let mut impossible = of_it.map(|(_, impossible)| impossible);
        let found = impossible
            .find(|error| matches!(error, DecodeError::Impossible { sequence, .. } if *sequence >= write));
        found.cloned()
    }

    /// Drops copies of another disk or cluster than the first: the head speaks for the disk.
    fn keep_one_disk(&mut self, copies: &mut Vec<Copy>) {
        let Some(identity) = copies
            .first()
            .map(|copy| (copy.superblock.disk, copy.superblock.cluster))
        else {
            return;
        };
        copies.retain(|copy| {
            let (disk, cluster) = (copy.superblock.disk, copy.superblock.cluster);
            let same = (disk, cluster) == identity;
            if !same {
                let why = Why::OtherDisk { disk, cluster };
                self.damage.push(Damage {
                    place: copy.place,
                    lba: copy.lba,
                    why,
                });
            }
            same
        });
    }
}

impl<E: fmt::Display, R: FnMut(Lba) -> Result<Sector, E>> Reader<R> {
    fn sector(&mut self, lba: Lba) -> Result<Sector, Why> {
        (self.read)(lba).map_err(|error| Why::Unreadable {
            error: error.to_string(),
        })
    }

    /// The sound copies of the superblock in one area.
    fn superblocks(&mut self, geometry: &Geometry, tail: bool) -> Vec<Copy> {
        let mut sound = Vec::new();
        for (copy, offset) in SUPERBLOCKS.iter().enumerate() {
            let place = RecordPlace {
                tail,
                part: Part::Superblock { copy },
            };
            let lba = Lba(geometry.area(tail) + offset);
            let bytes = self.sector(lba);
            if let Ok(bytes) = &bytes {
                self.note_impossible(place, lba, bytes);
            }
            let parsed = bytes.and_then(|bytes| Superblock::from_sector(&bytes, lba).map_err(Why::Sector));
            match parsed {
                Ok(superblock) => sound.push(Copy {
                    place,
                    lba,
                    superblock,
                }),
                Err(why) => self.blame(place, lba, why),
            }
        }
        sound
    }

    /// The newest state that is complete.
    fn choose(mut self, mut copies: Vec<Copy>, disk_sectors: u64) -> Result<Decoded, DecodeError> {
        if copies.is_empty() {
            return Err(nothing_sound(self.damage));
        }
        let sound = copies
            .iter()
            .map(|copy| (copy.place, copy.superblock.sequence))
            .collect();
        // Stable: of copies of the same write the head's comes first.
        copies.sort_by_key(|copy| std::cmp::Reverse(copy.superblock.sequence));
        for of_one_write in copies.chunk_by(|a, b| a.superblock.sequence == b.superblock.sequence) {
            if let Some((superblock, extents)) = self.complete(of_one_write, disk_sectors)? {
                if let Some(impossible) = self.impossible_from(superblock.disk, superblock.sequence) {
                    return Err(impossible);
                }
                self.blame_laggards(&copies, &superblock);
                let copies = copies.iter().map(|copy| (copy.place, copy.superblock.clone()));
                return Ok(Decoded {
                    superblock,
                    extents,
                    sound,
                    copies: copies.collect(),
                    damage: self.damage,
                });
            }
        }
        Err(DecodeError::Damaged { damage: self.damage })
    }

    /// What is in force if a write is, by all sound copies of its number; `None` when no table of it is complete. Whoever
    /// writes takes the next number after the newest complete one on the disk, so one number stands for one complete write
    /// as long as nobody copies sectors about.
    fn complete(&mut self, copies: &[Copy], disk_sectors: u64) -> Result<Option<State>, DecodeError> {
        let mut claims: Vec<(Claim, Vec<Damage>)> = Vec::new();
        let mut lost: Vec<(&Copy, Vec<Damage>)> = Vec::new();
        for (index, copy) in copies.iter().enumerate() {
            let before = copies.iter().take(index);
            if before
                .map(|one| &one.superblock)
                .any(|one| *one == copy.superblock)
            {
                continue;
            }
            let told = self.damage.len();
            let extents = self.table(copy, disk_sectors)?;
            let damage = self.damage.split_off(told);
            match extents {
                None => lost.push((copy, damage)),
                Some(extents) => {
                    let (place, superblock) = (copy.place, copy.superblock.clone());
                    let claim = Claim {
                        place,
                        superblock,
                        extents,
                    };
                    claims.push((claim, damage));
                }
            }
        }
        if claims.is_empty() {
            for (copy, damage) in lost {
                self.damage.extend(damage);
                let sequence = copy.superblock.sequence;
                self.blame(copy.place, copy.lba, Why::TableLost { sequence });
            }
            return Ok(None);
        }
        if let Some(pair) = contradiction(&claims) {
            return Err(DecodeError::Contradiction(pair));
        }
        let is_latest = |(one, _): &(Claim, Vec<Damage>)| {
            let others = claims.iter().map(|(other, _)| other);
            others
                .into_iter()
                .all(|other| other == one || has_grown_out_of(one, other))
        };
        let Some(at) = claims.iter().position(is_latest) else {
            // Each says that it has grown out of the next, in a circle.
            let damage = std::mem::take(&mut self.damage);
            return Err(DecodeError::Damaged { damage });
        };
        let (in_force, damage) = claims.swap_remove(at);
        self.damage.extend(damage);
        for copy in copies
            .iter()
            .filter(|copy| copy.superblock != in_force.superblock)
        {
            let is_complete = claims
                .iter()
                .any(|(claim, _)| claim.superblock == copy.superblock);
            let proof = match is_complete {
                true => Proof::GrownOut,
                false => Proof::TableLost,
            };
            let sequence = in_force.superblock.sequence;
            self.blame(copy.place, copy.lba, Why::OtherContent { sequence, proof });
        }
        Ok(Some((in_force.superblock, in_force.extents)))
    }

    /// Tells of the places where the superblock in force should lie and a sound older one does.
    fn blame_laggards(&mut self, copies: &[Copy], chosen: &Superblock) {
        let turn = Part::Superblock {
            copy: chosen.table.slot as usize,
        };
        for copy in copies.iter().filter(|copy| copy.place.part == turn) {
            let (found, wanted) = (copy.superblock.sequence, chosen.sequence);
            if found < wanted {
                self.blame(copy.place, copy.lba, Why::OtherWrite { found, wanted });
            }
        }
    }

    /// The table a superblock names; `None` when neither head nor tail nor both together have it whole.
    ///
    /// # Errors
    /// It is whole, and says what cannot be.
    fn table(&mut self, copy: &Copy, disk_sectors: u64) -> Result<Option<Vec<ExtentRecord>>, DecodeError> {
        let superblock = &copy.superblock;
        let slot = superblock.table.slot as usize;
        let (Ok(geometry), Some(&offset)) = (Geometry::of(superblock.disk_sectors), TABLES.get(slot)) else {
            return Ok(None);
        };
        let impossible = |place, what| {
            let sequence = superblock.sequence;
            DecodeError::Impossible {
                place,
                sequence,
                what,
            }
        };
        let areas: &[bool] = if geometry.disk_sectors > disk_sectors {
            &[false]
        } else {
            &[false, true]
        };
        let count = superblock.table.count.div_ceil(RECORDS_PER_SECTOR as u32);
        let mut parts = Vec::with_capacity(count as usize);
        for index in 0..count {
            let mut copies = Vec::with_capacity(areas.len());
            let mut unsayable = None;
            for tail in areas.iter().copied() {
                let place = RecordPlace {
                    tail,
                    part: Part::Table { slot, index },
                };
                let lba = Lba(geometry.area(tail) + offset + u64::from(index) * SECTORS_PER_4K);
                match self.table_part(superblock, lba, index) {
                    Ok(Ok(part)) => copies.push((place, lba, part)),
                    Ok(Err(error)) => {
                        self.blame(place, lba, Why::Sector(error));
                        unsayable = unsayable.or(Some((place, error)));
                    }
                    Err(why) => self.blame(place, lba, why),
                }
            }
            if let (true, Some((place, error))) = (copies.is_empty(), unsayable) {
                return Err(impossible(place, Impossibility::Record(error)));
            }
            parts.push(copies);
        }
        // Of two sound sectors that say different things it is the head's or the tail's, all through.
        let whole = [true, false].into_iter().find_map(|head| {
            let extents = put_together(&parts, head);
            let is_whole = extents.len() == superblock.table.count as usize
                && table_crc(&extents) == superblock.table.crc;
            is_whole.then_some((head, extents))
        });
        let Some((head, extents)) = whole else {
            return Ok(None);
        };
        if let Err(error) = check_extents(superblock, &extents) {
            return Err(impossible(copy.place, Impossibility::Table(error)));
        }
        for copies in &parts {
            let chosen = chosen(copies, head);
            for (place, lba, _) in copies.iter().filter(|copy| Some(&copy.2) != chosen) {
                let (sequence, proof) = (superblock.sequence, Proof::Checksum);
                self.blame(*place, *lba, Why::OtherContent { sequence, proof });
            }
        }
        Ok(Some(extents))
    }

    /// What a sector of the table says, if that can be; `Err` when it is none of this write.
    fn table_part(
        &mut self,
        superblock: &Superblock,
        lba: Lba,
        index: u32,
    ) -> Result<Result<Vec<ExtentRecord>, SectorError>, Why> {
        let bytes = self.sector(lba)?;
        let (header, part) = table_sector(&bytes, lba, index).map_err(Why::Sector)?;
        if (header.disk, header.cluster) != (superblock.disk, superblock.cluster) {
            return Err(Why::OtherDisk {
                disk: header.disk,
                cluster: header.cluster,
            });
        }
        if header.sequence != superblock.sequence {
            return Err(Why::OtherWrite {
                found: header.sequence,
                wanted: superblock.sequence,
            });
        }
        Ok(part)
    }
}

/// A superblock with its table.
type State = (Superblock, Vec<ExtentRecord>);

/// The copies of a sector of a table, from the head on.
type Part4k = Vec<(RecordPlace, Lba, Vec<ExtentRecord>)>;

/// The copy that counts: the head's, or the other one, where there are two.
fn chosen(copies: &Part4k, head: bool) -> Option<&Vec<ExtentRecord>> {
    let copy = if head { copies.first() } else { copies.last() };
    copy.map(|(_, _, part)| part)
}

/// A table from its parts. One that is missing shows in the number of extents.
fn put_together(parts: &[Part4k], head: bool) -> Vec<ExtentRecord> {
    let parts = parts.iter().filter_map(|copies| chosen(copies, head));
    parts.flatten().cloned().collect()
}

/// Whether one state has grown out of another, by what both say.
fn has_grown_out_of(one: &Claim, other: &Claim) -> bool {
    let kinship = (
        other.superblock.kinship(&one.superblock),
        one.superblock.kinship(&other.superblock),
    );
    kinship == (Kinship::Ancestor, Kinship::Descendant)
}

/// Two states of one number that stand against each other: neither has grown out of the other.
fn contradiction(claims: &[(Claim, Vec<Damage>)]) -> Option<Box<[Claim; 2]>> {
    let claims = claims.iter().map(|(claim, _)| claim);
    let pairs = claims
        .clone()
        .enumerate()
        .flat_map(|(at, one)| claims.clone().skip(at + 1).map(move |other| (one, other)));
    let mut against = pairs.filter(|(a, b)| !has_grown_out_of(a, b) && !has_grown_out_of(b, a));
    against
        .next()
        .map(|(one, other)| Box::new([one.clone(), other.clone()]))
}

/// What to say when there is no sound superblock.
fn nothing_sound(damage: Vec<Damage>) -> DecodeError {
    let foreign =
        |damage: &Damage| matches!(damage.why, Why::Sector(SectorError::Blank | SectorError::NotOurs));
    let unreadable = |damage: &Damage| matches!(damage.why, Why::Unreadable { .. });
    if damage.iter().all(foreign) {
        return DecodeError::NotOurs;
    }
    // Some or all of it cannot be read and the rest is foreign: nothing shows that it was ever ours.
    if damage.iter().all(|damage| unreadable(damage) || foreign(damage)) {
        return DecodeError::Unreadable { damage };
    }
    DecodeError::Damaged { damage }
}
