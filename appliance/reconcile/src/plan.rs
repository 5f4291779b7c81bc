//! Wanted and observed in, steps out.

mod clearings;
mod disks;
mod routes;
mod sockets;

use crate::observed::{Observed, ObservedDisk, ObservedRoute};
use crate::step::{Action, Step};
use palisade_model::superblock::end_in_words;
use palisade_model::{Cluster, Disk, Extent, Kind, Volume};
use palisade_words::{Generation, Name};
use std::collections::BTreeMap;
use std::fmt;

pub(crate) use disks::{is_lost, unusable};

/// The steps that a node can take now towards what is wanted: away from guests first, then towards them. Empty when
/// everything is as wanted, or waits (see [`waits`]).
pub fn plan(wanted: &Cluster, node: &Name, observed: &Observed) -> Vec<Step> {
    Planner::run(wanted, node, observed).steps
}

/// What is not as wanted and cannot be changed by a step now, and why. What waits for a step of the present plan is
/// not listed.
pub fn waits(wanted: &Cluster, node: &Name, observed: &Observed) -> Vec<Wait> {
    Planner::run(wanted, node, observed).waits
}

/// Something that is not as wanted, and why it stays so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// Kind of the resource.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Why.
    pub cause: Cause,
}

/// Why something is not as wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Its step has failed and will be tried again.
    Failed {
        /// Which step.
        action: Action,
        /// What went wrong.
        reason: String,
        /// Failures in a row.
        attempts: u32,
        /// When it is tried again, on the clock of [`Observed::now_ms`].
        retry_at_ms: u64,
    },
    /// Another resource has to be ready, or gone, first.
    On {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// The disk carries another disk's or cluster's superblock.
    ForeignSuperblock,
    /// The disk is given whole, and its medium carries a superblock that nobody has said to be its guest's.
    SuperblockOnWhole {
        /// Which disk.
        disk: Name,
    },
    /// The disk had a superblock when it was last used and has none now.
    LostSuperblock,
    /// No copy of the disk's superblock can be used, or two of them contradict each other.
    DamagedSuperblock,
    /// The medium of a disk without volumes has no superblock, and holds something that nobody here has looked at.
    OccupiedMedium,
    /// The disk's superblock has grown out of what the cluster knows.
    NewerSuperblock {
        /// The superblock's generation.
        generation: Generation,
    },
    /// The disk's superblock grew on apart from the cluster's database.
    DivergedSuperblock {
        /// The superblock's generation.
        generation: Generation,
    },
    /// The disk's superblock is earlier than the one that was last known to be on its medium: it is an older copy. Or nothing
    /// is known of that, and the cluster has gone on from it: it may be one.
    OlderSuperblock {
        /// The superblock's generation.
        generation: Generation,
        /// The generation that was last known to be there, if any is known.
        last: Option<Generation>,
    },
    /// Both copies of the disk's superblock at one end of its medium are gone, and what else was there may be as well.
    EndLost {
        /// Whether it is the end behind the data; otherwise the one before it.
        tail: bool,
    },
    /// The volume was being cleared when the database was written down that was put back since, on a disk that keeps no record:
    /// an operator has to say whether what lies there is somebody's.
    HeldClearing {
        /// Which volume.
        volume: Name,
        /// It has been deleted, and is gone once it is clear.
        deleting: bool,
    },
    /// The disk keeps no record, and the database was put back from a copy: an operator has to say whether what lies there is
    /// what the database says.
    HeldDisk {
        /// Which disk.
        disk: Name,
        /// The volumes on it, as the database has them.
        volumes: Vec<Name>,
    },
    /// Steps for a later generation were taken already: what is wanted here has been overtaken.
    Overtaken {
        /// The later generation.
        generation: Generation,
    },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.tell(f, &self.name)
    }
}

impl Cause {
    /// Says it of the resource `of`, so that commands can be typed as they are written.
    fn tell(&self, f: &mut fmt::Formatter<'_>, of: &Name) -> fmt::Result {
        match self {
            Cause::Failed { action, reason, attempts, .. } => {
                write!(f, "{action} failed ({attempts} in a row) and will be tried again: {reason}")
            }
            Cause::On { kind, name } => write!(f, "waits for {kind} {name}"),
            Cause::ForeignSuperblock => f.write_str(
                "the medium carries the superblock of another disk or cluster: nothing is written to it; check where \
                 the path leads, and bring the right medium back. `palisade-inspect` shows what this one is; it can be \
                 taken in by `palisade disk import` once no disk here is recorded under its path",
            ),
            Cause::SuperblockOnWhole { disk } => write!(
                f,
                "the disk is given whole to a volume, and its medium carries a superblock of Palisade: another daemon, or this \
                 one by another name, may have put it into a pool meanwhile, and what lies there would be others'. Nothing is \
                 written to it and no guest is served from it. If the disk's guest has put it there itself, as one that runs \
                 Palisade does: `palisade disk confirm {disk} --yes`, and it is asked no more"
            ),
            Cause::LostSuperblock => write!(
                f,
                "the medium carries no superblock any more although volumes lie on it: nothing is written to it; check \
                 that the path leads to the medium that it was. If it does, `palisade disk adopt {of}` shows what is \
                 there and what the database would write anew; that touches no data of the volumes, where it is still there",
            ),
            Cause::DamagedSuperblock => write!(
                f,
                "the medium's superblock cannot be used, because no copy of it is sound or two of them contradict each other: \
                 nothing is written to it; `palisade-inspect` shows what is wrong with each, and `palisade disk adopt {of}` what \
                 the database would write in their place; the data of the volumes is not touched by that",
            ),
            Cause::OccupiedMedium => f.write_str(
                "the medium has no superblock but holds something else: nothing is written to it. No volume lies on the disk: \
                 check where its path leads, `palisade-inspect` shows what is there; or remove the disk and add it anew",
            ),
            Cause::NewerSuperblock { generation } => write!(
                f,
                "the medium's superblock, of generation {generation}, has grown out of what the cluster database \
                 knows: the database is an old copy, and nothing is written to the disk; restore the latest one, or \
                 see with `palisade disk adopt {of}` what each side knows"
            ),
            Cause::DivergedSuperblock { generation } => write!(
                f,
                "the medium's superblock, of generation {generation}, grew on apart from the cluster database: nothing \
                 is written to the disk; restore the database that belongs to it, or see with `palisade disk adopt {of}` \
                 what each side knows"
            ),
            Cause::OlderSuperblock { generation, last: Some(last) } => write!(
                f,
                "the medium's superblock is of generation {generation}, and the disk's was of generation {last} when this \
                 node last wrote or saw it: it is an earlier one, as on an older copy of the medium, and what guests have \
                 written meanwhile to another copy is not here. Nothing is written to it and no guest is served from it; bring the \
                 right medium back, or see with `palisade disk adopt {of}` what each side knows, and choose one"
            ),
            Cause::EndLost { tail } => {
                let end = end_in_words(*tail);
                write!(
                    f,
                    "both copies of the superblock at the {end} of the medium are gone, and those at its other end are sound: \
                     somebody has cut the medium off there and made it as long as before, or has written over it; no crash does \
                     that. What guests had next to it may be gone and read as zeros, so nothing is written to the medium and no \
                     guest is served from it. Put a copy of the whole medium in its place if there is one. `palisade disk \
                     confirm {of} --yes` goes on with what is there: restore then what is lost from a backup before its guests use it"
                )
            }
            Cause::HeldClearing { volume, deleting: false } => write!(
                f,
                "its space was still to be cleared in the database that was put back from a copy. It lies on a disk that keeps \
                 no record of that, so it may have been cleared since, and what lies there may be what its guest has written: \
                 nothing is cleared and no guest is served before you have decided. To keep what lies there as this volume's \
                 data: `palisade volume set {volume} --clear never`. To zero it, whatever it is: `palisade volume set {volume} \
                 --clear-held`"
            ),
            Cause::HeldClearing { volume, deleting: true } => write!(
                f,
                "it is deleted, and its space was still to be cleared in the database that was put back from a copy. It lies on \
                 a disk that keeps no record of that, so the space may be another volume's by now: nothing is cleared before you \
                 have decided. To leave what lies there as it is and let the volume go: `palisade volume delete {volume} \
                 --no-clear`. To zero it, whatever it is: `palisade volume set {volume} --clear-held`"
            ),
            Cause::HeldDisk { disk, volumes } => {
                let names: Vec<&str> = volumes.iter().map(Name::as_str).collect();
                let told = match names.is_empty() {
                    true => "no volume".to_owned(),
                    false => names.join(", "),
                };
                write!(
                    f,
                    "the cluster database was put back from a copy, and has {told} on it by now. The disk is given whole and keeps \
                     no record of its own, so what lies there may be another volume's, and its guest another's: nobody opens it \
                     before you have decided. If that is what is on it today: `palisade disk confirm {disk} --yes`. If not, "
                )?;
                if let Some(first) = names.first() {
                    write!(
                        f,
                        "take that off it first, without clearing anything (`palisade attachment delete ID`, `palisade volume \
                         delete {first} --no-clear`); "
                    )?;
                }
                write!(
                    f,
                    "create the volume of today with what lies there (`palisade volume create ID SIZE --disk {disk} --clear \
                     never`), and then say the same: `palisade disk confirm {disk} --yes`"
                )
            }
            Cause::OlderSuperblock { generation, last: None } => write!(
                f,
                "the medium's superblock is of generation {generation}, the cluster database has gone on from that, and this \
                 node does not know what was there last, as after its state directory was restored or lost: what is there may \
                 be an older copy of the medium, on which what guests have written since is not. Nothing is written to it and \
                 no guest is served from it; bring the right medium back, or see with `palisade disk adopt {of}` what each side \
                 knows, and choose one"
            ),
            Cause::Overtaken { generation } => write!(f, "generation {generation} has been applied already"),
        }
    }
}

/// What a plan is made of, and what it is made from.
struct Planner<'a> {
    wanted: &'a Cluster,
    node: &'a Name,
    observed: &'a Observed,
    /// Volumes that this node serves: to guests of its own, or to other nodes that ask it for what it reaches. Found once for each
    /// plan: asking all attachments for each volume takes the square of their number.
    served: BTreeMap<&'a Name, &'a Volume>,
    steps: Vec<Step>,
    waits: Vec<Wait>,
}

impl<'a> Planner<'a> {
    fn run(wanted: &'a Cluster, node: &'a Name, observed: &'a Observed) -> Planner<'a> {
        let here = wanted.attachments.values().filter(|attachment| {
            attachment.node == *node || wanted.node_of(&attachment.volume) == Some(node)
        });
        let mut planner = Planner {
            wanted,
            node,
            observed,
            served: here
                .filter_map(|attachment| wanted.volumes.get_key_value(&attachment.volume))
                .collect(),
            steps: Vec::new(),
            waits: Vec::new(),
        };
        if wanted.generation < observed.generation {
            let generation = observed.generation;
            planner.wait(Kind::Node, node, Cause::Overtaken { generation });
            return planner;
        }
        planner.withdraw_sockets();
        planner.clear_routes();
        planner.stop_clearings();
        planner.close_disks();
        planner.open_disks();
        planner.clear_volumes();
        planner.set_routes();
        planner.offer_sockets();
        planner
    }

    /// Adds a step, unless an earlier failure holds it back.
    fn step(&mut self, generation: Generation, action: Action) {
        let step = Step { generation, action };
        let failure = match self.is_busy(&step.action) {
            // One that is tried again has failed until it has not. What an operator has changed since is not known to fail.
            true => {
                let failure = self.observed.failures.get(&step.action);
                failure.filter(|failure| failure.generation >= step.generation)
            }
            false => self.observed.holds_back(&step),
        };
        let Some(failure) = failure else {
            if !self.is_busy(&step.action) {
                self.steps.push(step);
            }
            return;
        };
        let (kind, name) = step.action.target();
        let cause = Cause::Failed {
            action: step.action.clone(),
            reason: failure.reason.clone(),
            attempts: failure.attempts,
            retry_at_ms: failure.retry_at_ms,
        };
        self.wait(kind, name, cause);
    }

    /// Whether the same step is under way, or any on the same disk, or it is being decided about the disk.
    fn is_busy(&self, action: &Action) -> bool {
        let target = action.target();
        if target.0 == Kind::Disk && self.observed.deciding.contains(target.1) {
            return true;
        }
        let same = |other: &Action| other == action || (target.0 == Kind::Disk && other.target() == target);
        self.observed.under_way.iter().any(same)
    }

    fn wait(&mut self, kind: Kind, name: &Name, cause: Cause) {
        let name = name.clone();
        self.waits.push(Wait { kind, name, cause });
    }

    fn wait_on(&mut self, (kind, name): (Kind, &Name), on: (Kind, &Name)) {
        let cause = Cause::On {
            kind: on.0,
            name: on.1.clone(),
        };
        self.wait(kind, name, cause);
    }

    /// The wanted disk, if this node reaches it and it is the one that is open.
    fn wanted_disk(&self, name: &Name, open: &ObservedDisk) -> Option<&'a Disk> {
        let disk = self.wanted.disks.get(name)?;
        (*disk.custodian() == *self.node && disk.uuid == open.disk.uuid).then_some(disk)
    }

    /// Whether a route's volume is still to be served by this node.
    fn route_is_wanted(&self, name: &Name, route: &ObservedRoute) -> bool {
        let volume = self.served.get(name);
        volume.is_some_and(|volume| volume.uuid == route.uuid && !volume.is_clearing_held())
    }
}

/// Whether two lists of extents have a sector in common.
fn share(some: &[Extent], others: &[Extent]) -> bool {
    some.iter()
        .any(|one| others.iter().any(|other| overlap(one, other)))
}

/// Whether two extents have a sector in common.
fn overlap(a: &Extent, b: &Extent) -> bool {
    a.disk == b.disk
        && a.disk_lba < b.disk_lba.saturating_add(b.sectors)
        && b.disk_lba < a.disk_lba.saturating_add(a.sectors)
}
