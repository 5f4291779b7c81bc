//! What a superblock says of where its configuration comes from.
//!
//! A generation's number tells which of two is later only when one has grown out of the other. So each has an id, and
//! the superblock carries that of its own generation and those of the generations before it that it was written for,
//! the newest first.

use crate::superblock::Superblock;
use palisade_words::limits::HISTORY_MAX;
use palisade_words::{Ancestor, Generation, LineageId};
use sha2::{Digest, Sha256};

/// Generations that a superblock has room for besides its own.
pub const ANCESTORS_MAX: usize = 64;

const _: () = assert!(HISTORY_MAX <= ANCESTORS_MAX + 1, "all that is remembered fits");

/// Where a configuration comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lineage {
    /// Id of the superblock's own generation, never nil.
    pub id: LineageId,
    /// The generations before it that this disk has carried, the newest first, at most [`ANCESTORS_MAX`], none
    /// with the nil id.
    pub ancestors: Vec<Ancestor>,
}

/// How a configuration stands to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kinship {
    /// The same generation.
    Same,
    /// The other has grown out of it.
    Ancestor,
    /// It has grown out of the other.
    Descendant,
    /// Both have grown out of a third, which both remember: apart since the generation of this number.
    Apart {
        /// The latest that they have in common.
        since: Generation,
    },
    /// Nothing that they remember shows how they stand to each other.
    Unknown,
}

impl Superblock {
    /// The generation it carries, by number and id. One that was written before there were lineages has none; a hash
    /// over what it says stands in, so that it can be told from any other all the same.
    pub fn point(&self) -> Ancestor {
        let id = self
            .lineage
            .as_ref()
            .map_or_else(|| self.stand_in(), |lineage| lineage.id);
        let generation = self.generation;
        Ancestor { generation, id }
    }

    fn stand_in(&self) -> LineageId {
        let mut hasher = Sha256::new();
        hasher.update(b"palisade superblock without lineage");
        for id in [self.disk, self.cluster, self.owner] {
            hasher.update(id.0.to_le_bytes());
        }
        for number in [self.generation.0, self.epoch.0, self.disk_sectors] {
            hasher.update(number.to_le_bytes());
        }
        hasher.update(self.table.count.to_le_bytes());
        hasher.update(self.table.crc.to_le_bytes());
        let digest = hasher.finalize();
        let id = digest
            .first_chunk::<16>()
            .map_or(0, |first| u128::from_be_bytes(*first));
        LineageId(id.max(1))
    }

    /// How this superblock's configuration stands to that of `other`. Numbers are not compared.
    pub fn kinship(&self, other: &Superblock) -> Kinship {
        let (this, that) = (self.point(), other.point());
        let [ours, theirs] = [self, other].map(|superblock| {
            let lineage = superblock.lineage.as_ref();
            lineage.map_or(&[][..], |lineage| &lineage.ancestors)
        });
        if this == that {
            return Kinship::Same;
        }
        if theirs.contains(&this) {
            return Kinship::Ancestor;
        }
        if ours.contains(&that) {
            return Kinship::Descendant;
        }
        // The newest comes first, and so does the latest common one.
        let common = ours.iter().find(|point| theirs.contains(point));
        common.map_or(Kinship::Unknown, |point| Kinship::Apart {
            since: point.generation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Label;
    use crate::superblock::TableRef;
    use palisade_words::{Epoch, Uuid};

    /// SHA-256 over what the superblock of the test says, as any other program computes it.
    const STAND_IN: LineageId = LineageId(0x6ff9_de75_a56c_572e_aa1c_d598_0e3a_7b09);

    fn at(path: &[(u64, u128)]) -> Superblock {
        let blank = Superblock::new(Uuid(1), Uuid(2), Uuid(3), Label::default(), 512, 100_000).unwrap();
        let mut newest_first = path.iter().rev().map(|&(generation, id)| Ancestor {
            generation: Generation(generation),
            id: LineageId(id),
        });
        let own = newest_first.next().unwrap();
        let lineage = Lineage {
            id: own.id,
            ancestors: newest_first.collect(),
        };
        Superblock {
            generation: own.generation,
            lineage: Some(lineage),
            ..blank
        }
    }

    #[test]
    fn kin_are_told_by_ids_and_never_by_numbers() {
        let root = at(&[(1, 10)]);
        let (left, right) = (at(&[(1, 10), (2, 20)]), at(&[(1, 10), (2, 21), (3, 31)]));
        assert_eq!(left.kinship(&left), Kinship::Same);
        assert_eq!(root.kinship(&left), Kinship::Ancestor);
        assert_eq!(left.kinship(&root), Kinship::Descendant);
        assert_eq!(left.kinship(&right), Kinship::Apart { since: Generation(1) });
        assert_eq!(right.kinship(&left), Kinship::Apart { since: Generation(1) });
        // The same numbers, another root.
        let stranger = at(&[(1, 99), (2, 98)]);
        assert_eq!(left.kinship(&stranger), Kinship::Unknown);
        assert_eq!(at(&[(1, 99)]).kinship(&root), Kinship::Unknown);
    }

    /// A later superblock names it as its ancestor, on disks that exist: it is what it was, and each field counts.
    #[test]
    fn the_point_of_one_without_lineage_never_changes() {
        let plain = Superblock {
            generation: Generation(4),
            epoch: Epoch(1),
            ..Superblock::new(Uuid(1), Uuid(2), Uuid(3), Label::new("a").unwrap(), 512, 100_000).unwrap()
        };
        let id = plain.point().id;
        assert_eq!(id, STAND_IN);
        let table = plain.table;
        for (what, other) in [
            (
                "disk",
                Superblock {
                    disk: Uuid(9),
                    ..plain.clone()
                },
            ),
            (
                "cluster",
                Superblock {
                    cluster: Uuid(9),
                    ..plain.clone()
                },
            ),
            (
                "owner",
                Superblock {
                    owner: Uuid(9),
                    ..plain.clone()
                },
            ),
            (
                "generation",
                Superblock {
                    generation: Generation(9),
                    ..plain.clone()
                },
            ),
            (
                "epoch",
                Superblock {
                    epoch: Epoch(9),
                    ..plain.clone()
                },
            ),
            ("size", plain.resized(200_000).unwrap()),
            (
                "count",
                Superblock {
                    table: TableRef { count: 9, ..table },
                    ..plain.clone()
                },
            ),
            (
                "crc",
                Superblock {
                    table: TableRef { crc: 9, ..table },
                    ..plain.clone()
                },
            ),
        ] {
            assert_ne!(other.point().id, id, "{what}");
        }
    }

    #[test]
    fn one_without_lineage_has_a_point_of_its_own() {
        let plain = |generation, label: &str| Superblock {
            generation,
            ..Superblock::new(
                Uuid(1),
                Uuid(2),
                Uuid(3),
                Label::new(label).unwrap(),
                512,
                100_000,
            )
            .unwrap()
        };
        let (a, b) = (plain(Generation(4), "a"), plain(Generation(5), "a"));
        assert_eq!(a.kinship(&a), Kinship::Same);
        assert_eq!(a.kinship(&b), Kinship::Unknown);
        let mut adopted = at(&[(9, 90)]);
        adopted.lineage.as_mut().unwrap().ancestors.push(a.point());
        assert_eq!(adopted.kinship(&a), Kinship::Descendant);
        assert_eq!(adopted.kinship(&b), Kinship::Unknown);
    }
}
