//! What a medium carries, as those see it who decide what is done about it.

use palisade_words::Generation;

/// The end of a medium, for people: the one behind the data (`tail`) or the one before it.
pub fn end_in_words(tail: bool) -> &'static str {
    if tail { "end" } else { "beginning" }
}

/// What is found where a superblock belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SuperblockState {
    /// Nothing that is a superblock; or the disk keeps none.
    #[default]
    Missing,
    /// The one of this disk, which the cluster's configuration has grown out of.
    Ours {
        /// Of this generation.
        generation: Generation,
        /// A copy is damaged or lacks its lineage: it is to be written again.
        flawed: bool,
    },
    /// The one of this disk, grown out of what the cluster knows: the database is an old copy.
    Newer {
        /// Of this generation.
        generation: Generation,
    },
    /// The one of this disk, grown on apart from the cluster's database.
    Diverged {
        /// Of this generation.
        generation: Generation,
    },
    /// The one of this disk, which the cluster's configuration has grown out of; but a later one was on its medium since, so
    /// this is an older copy of it: what guests have written meanwhile is not here. Or nothing is known of what was there, and
    /// it may be one.
    Older {
        /// Of this generation.
        generation: Generation,
        /// The generation of the superblock that was last known to be on the medium, if any is known.
        last: Option<Generation>,
    },
    /// The one of this disk, which the cluster's configuration has grown out of; but both copies at one end of the medium are
    /// gone, which no crash and no turned bit brings about: somebody has cut that end off or written over it, and what guests
    /// had there may be gone as well.
    EndLost {
        /// Of this generation.
        generation: Generation,
        /// Whether it is the end behind the data; otherwise the one before it.
        tail: bool,
    },
    /// It was a superblock, and no copy is left that can be used; or two of them contradict each other.
    Damaged,
    /// Nothing that is a superblock, on the medium of a disk without volumes; but something else, over which none is written.
    Occupied,
    /// One of another disk or cluster.
    Foreign,
}

impl SuperblockState {
    /// Whether it is the one of this disk, of a generation or a later one on the same lineage.
    pub fn has_reached(&self, wanted: Generation) -> bool {
        matches!(self, SuperblockState::Ours { generation, .. } if *generation >= wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_has_reached_a_generation_and_none_beyond_its_own() {
        let ours = |flawed| SuperblockState::Ours {
            generation: Generation(7),
            flawed,
        };
        for superblock in [ours(false), ours(true)] {
            let reached = [6, 7, 8].map(|wanted| superblock.has_reached(Generation(wanted)));
            assert_eq!(reached, [true, true, false]);
        }
        let generation = Generation(9);
        for other in [
            SuperblockState::Missing,
            SuperblockState::Newer { generation },
            SuperblockState::Diverged { generation },
            SuperblockState::Older {
                generation,
                last: Some(Generation(10)),
            },
            SuperblockState::EndLost {
                generation,
                tail: true,
            },
            SuperblockState::Damaged,
            SuperblockState::Occupied,
            SuperblockState::Foreign,
        ] {
            assert!(!other.has_reached(Generation(1)), "{other:?}");
        }
    }
    #[test]
    fn an_end_of_a_medium_is_called_by_where_it_lies() {
        assert_eq!((end_in_words(true), end_in_words(false)), ("end", "beginning"));
    }
}
