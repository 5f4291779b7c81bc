//! Lineage: which configuration a configuration grew out of.
//!
//! Each generation has an id, a hash over the id of the generation before and the command that led to it. Two
//! databases that were one and went on apart may reach the same number; they never reach the same id. So a larger
//! number is taken for a later one only where the ids show that both lie on one lineage.
//!
//! ```text
//!   id(1) = H(nil, init)   id(2) = H(id(1), add d1)   id(3) = H(id(2), create v1)
//!                                                \
//!                                                 id'(3) = H(id(2), create v2)     a copy of the database, used
//! ```
//!
//! A disk keeps the generations at which what its superblock says has changed, the latest [`HISTORY_MAX`] of them.

use crate::cluster::Cluster;
use crate::command::Command;
use palisade_words::limits::HISTORY_MAX;
use palisade_words::{Ancestor, Generation, LineageId, Name, Uuid};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The generations at which what a disk's superblock says has changed, oldest first, at most [`HISTORY_MAX`]. Empty
/// for a disk without a superblock, and in a database that was written before there were lineages until
/// [`Cluster::rooted`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<Ancestor>);

impl Cluster {
    /// The cluster of a database without lineages, with one that begins here: its id is a hash over all that the
    /// cluster is, so that two copies of a database have the same if, and only if, they say the same. One with a
    /// lineage is returned as it is.
    #[must_use]
    pub fn rooted(mut self) -> Cluster {
        if !self.is_initialised() || !self.lineage.is_nil() {
            return self;
        }
        let id = hash(b"palisade root", LineageId::NIL, &self);
        self.lineage = id;
        for disk in self.disks.values_mut().filter(|disk| disk.has_superblock()) {
            let generation = disk.superblock_generation();
            disk.history = History(vec![Ancestor { generation, id }]);
        }
        self
    }

    /// The cluster as a database without lineages has it. What such a database says of itself is compared with this.
    #[must_use]
    pub fn unrooted(mut self) -> Cluster {
        self.lineage = LineageId::NIL;
        self.disks
            .values_mut()
            .for_each(|disk| disk.history = History::default());
        self
    }

    /// The cluster with another id for its latest generation: the one that was given when the command was agreed on,
    /// by a program that may write the command down in another way.
    #[must_use]
    pub fn known_as(mut self, id: LineageId) -> Cluster {
        let (generation, before) = (self.generation, self.lineage);
        let points = self.disks.values_mut().flat_map(|disk| &mut disk.history.0);
        points
            .filter(|point| point.generation == generation && point.id == before)
            .for_each(|point| point.id = id);
        self.lineage = id;
        self
    }
}

impl History {
    /// The latest.
    pub fn latest(&self) -> Option<&Ancestor> {
        self.0.last()
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Ancestor> + ExactSizeIterator {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the latest; the oldest goes when there are too many.
    pub(crate) fn push(&mut self, point: Ancestor) {
        self.0.push(point);
        let over = self.0.len().saturating_sub(HISTORY_MAX);
        self.0.drain(..over);
    }
}

/// The id of the generation that `command` leads to from the one of the id `parent`.
#[must_use]
pub fn successor(parent: LineageId, command: &Command) -> LineageId {
    hash(b"palisade generation", parent, command)
}

/// The permanent id that an attachment gets which was made before attachments had one:
/// H("palisade id of an attachment", cluster id, (name, generation of its creation)). The same on every node, and another for a
/// later one of the name.
pub(crate) fn id_of_attachment(cluster: Uuid, name: &Name, created: Generation) -> Uuid {
    Uuid(
        hash(
            b"palisade id of an attachment",
            LineageId(cluster.0),
            &(name, created),
        )
        .0,
    )
}

fn hash(what: &[u8], parent: LineageId, value: &impl Serialize) -> LineageId {
    let mut hasher = Sha256::new();
    hasher.update(what);
    hasher.update(parent.0.to_be_bytes());
    // What is hashed has names and numbers only, which JSON always holds.
    hasher.update(serde_json::to_vec(value).unwrap_or_default());
    let digest = hasher.finalize();
    let id = digest
        .first_chunk::<16>()
        .map_or(0, |first| u128::from_be_bytes(*first));
    // Nil means "none"; no hash may be taken for that.
    LineageId(id.max(1))
}
