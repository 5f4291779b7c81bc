//! From a cluster and a command to the next cluster, or to a refusal. Pure and total: it draws no chance, reads no
//! clock, and a refused command leaves nothing behind.

mod attachment;
mod clearing;
mod disk;
mod import;
mod membership;
mod node;
mod path;
mod relocate;
mod text;
mod token;
mod volume;

use crate::argument::{Field, Rule};
use crate::cluster::Cluster;
use crate::command::{Command, InitCluster, Outcome};
use crate::disk::Disk;
use crate::lineage::successor;
use crate::node::Node;
use crate::refusal::{Kind, Refusal};
pub(crate) use node::addresses_are_good;
use palisade_words::limits::NODES_MAX;
use palisade_words::{Ancestor, Epoch, Generation, Name, Uuid};
pub(crate) use text::path_is_good;

impl Cluster {
    /// The cluster as it is after `command`, with what the command did; or why it is refused.
    ///
    /// With [`Outcome::Unchanged`] the cluster is returned as it was, its generation included. Every other outcome
    /// makes the generation grow: by one, or beyond that of a medium which is taken over.
    pub fn apply(&self, command: &Command) -> Result<(Cluster, Outcome), Refusal> {
        if !self.is_initialised() && !matches!(command, Command::InitCluster(_)) {
            return Err(Refusal::NotInitialised);
        }
        if command.needs() > self.feature_level {
            return Err(Refusal::FeatureOff {
                needed: command.needs(),
                level: self.feature_level,
            });
        }
        let mut next = self.clone();
        next.generation = self.generation.next();
        next.lineage = successor(self.lineage, command);
        let outcome = match command {
            Command::InitCluster(init) => next.init(init),
            Command::AddNode(add) => next.add_node(add),
            Command::CreateToken(create) => next.create_token(create),
            Command::RevokeToken(revoke) => next.revoke_token(revoke),
            Command::AdmitNode(admit) => next.admit_node(admit),
            Command::NodeStarted(started) => next.node_started(started),
            Command::RaiseFeatureLevel(raise) => next.raise_feature_level(raise),
            Command::ChangeNode(change) => next.change_node(change),
            Command::RemoveNode(remove) => next.remove_node(remove),
            Command::EvictNodes(evict) => next.evict_nodes(evict),
            Command::ReadmitNode(readmit) => next.readmit_node(readmit),
            Command::AddDisk(add) => next.add_disk(add),
            Command::RemoveDisk(remove) => next.remove_disk(remove),
            Command::ReleaseDisk(release) => next.release_disk(release),
            Command::GrowDisk(grow) => next.grow_disk(grow),
            Command::IdentifyDisk(identify) => next.identify_disk(identify),
            Command::RelocateDisks(relocate) => next.relocate_disks(relocate),
            Command::AddPath(add) => next.add_path(add),
            Command::RemovePath(remove) => next.remove_path(remove),
            Command::ChangeDisk(change) => next.change_disk(change),
            Command::ConfirmSuperblock(confirm) => next.confirm_superblock(confirm),
            Command::AdoptDisk(adopt) => next.adopt_disk(adopt),
            Command::ImportDisks(import) => next.import_disks(import),
            Command::CreateVolume(create) => next.create_volume(create),
            Command::GrowVolume(grow) => next.grow_volume(grow),
            Command::ChangeVolume(change) => next.change_volume(change),
            Command::DeleteVolume(delete) => next.delete_volume(delete),
            Command::DeleteFragment(delete) => next.delete_fragment(*delete),
            Command::RecordCleared(record) => next.record_cleared(record),
            Command::HoldClearings => Ok(next.hold_clearings()),
            Command::HoldDisks(held) => Ok(next.hold_disks(*held)),
            Command::ClearHeld(held) => next.clear_held(held),
            Command::CreateAttachment(create) => next.create_attachment(create),
            Command::ChangeAttachment(change) => next.change_attachment(change),
            Command::DeleteAttachment(delete) => next.delete_attachment(delete),
        }?;
        if let Outcome::Unchanged { .. } = outcome {
            return Ok((self.clone(), outcome));
        }
        next.remember_changed_disks();
        debug_assert_eq!(crate::check::check(&next), Ok(()), "after {command:?}");
        Ok((next, outcome))
    }

    /// Notes the id of this generation with each disk whose superblock has to tell of it.
    fn remember_changed_disks(&mut self) {
        let (generation, id) = (self.generation, self.lineage);
        let changed = |disk: &&mut Disk| disk.has_superblock() && disk.superblock_generation() == generation;
        self.disks
            .values_mut()
            .filter(changed)
            .for_each(|disk| disk.history.push(Ancestor { generation, id }));
    }

    fn init(&mut self, init: &InitCluster) -> Result<Outcome, Refusal> {
        if self.is_initialised() {
            let same = self.id == init.id
                && self
                    .nodes
                    .get(&init.node)
                    .is_some_and(|node| node.uuid == init.node_uuid);
            if same {
                return Ok(Outcome::Unchanged {
                    revision: Generation(1),
                });
            }
            return Err(Refusal::AlreadyInitialised { id: self.id });
        }
        const { assert!(NODES_MAX >= 1) };
        not_nil(init.id, Kind::Node, &init.node)?;
        not_nil(init.node_uuid, Kind::Node, &init.node)?;
        self.id = init.id;
        self.epoch = Epoch(1);
        let revision = self.generation;
        let node = Node::of(init.node_uuid, revision);
        self.nodes.insert(init.node.clone(), node);
        Ok(Outcome::Created { revision })
    }
}

/// Refuses the all-zero uuid.
fn not_nil(uuid: Uuid, kind: Kind, name: &Name) -> Result<(), Refusal> {
    require(!uuid.is_nil(), kind, name, Field::Uuid, Rule::NotNil)
}

/// Refuses an argument that breaks its rule.
fn require(holds: bool, kind: Kind, name: &Name, field: Field, rule: Rule) -> Result<(), Refusal> {
    if holds {
        return Ok(());
    }
    Err(Refusal::Invalid {
        kind,
        name: name.clone(),
        field,
        rule,
    })
}

/// Refuses a client that has not seen the latest revision.
fn expect_revision(
    kind: Kind,
    name: &Name,
    expected: Option<Generation>,
    actual: Generation,
) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != actual => Err(Refusal::RevisionMismatch {
            kind,
            name: name.clone(),
            expected,
            actual,
        }),
        _ => Ok(()),
    }
}

/// Refuses a name that is in use with other arguments. `same` pairs each argument with whether it is the same.
fn exists(kind: Kind, name: &Name, revision: Generation, same: &[(Field, bool)]) -> Result<Outcome, Refusal> {
    match same.iter().find(|(_, same)| !same) {
        None => Ok(Outcome::Unchanged { revision }),
        Some((differs, _)) => Err(Refusal::Exists {
            kind,
            name: name.clone(),
            differs: *differs,
        }),
    }
}

fn not_found(kind: Kind, name: &Name) -> Refusal {
    Refusal::NotFound {
        kind,
        name: name.clone(),
    }
}

/// Refuses one more than there may be.
fn room_for_one(kind: Kind, count: usize, max: usize) -> Result<(), Refusal> {
    if count < max {
        Ok(())
    } else {
        Err(Refusal::TooMany { kind, max })
    }
}

/// The logical blocks there are.
fn block_is_known(block_bytes: u32) -> bool {
    matches!(block_bytes, 512 | 4096)
}

/// Whether a count of sectors is a multiple of the logical block.
fn whole_blocks(sectors: u64, block_bytes: u32) -> bool {
    sectors.is_multiple_of(u64::from(block_bytes / 512).max(1))
}
