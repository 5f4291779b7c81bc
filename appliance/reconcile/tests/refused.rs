//! A medium that may not be used is not held: it is closed, looked at now and then, and used when it is the right one.

mod node;

use node::{Node, apply, begin, name};
use palisade_model::{Cluster, Command, Kind, RemoveDisk, Usage};
use palisade_reconcile::refused::{LOOK_MS_FIRST, LOOK_MS_MAX};
use palisade_reconcile::*;
use palisade_words::{Generation, Uuid};

const DISK: Uuid = Uuid(100);

const NEWER: SuperblockState = SuperblockState::Newer {
    generation: Generation(99),
};

const OLDER: SuperblockState = SuperblockState::Older {
    generation: Generation(1),
    last: Some(Generation(2)),
};

/// A pooled file `d0` with the volume `v0`, offered as `a0`.
fn served() -> Cluster {
    let cluster = apply(&begin(), DISK.0, (0, 0, 0, 3, true));
    let cluster = apply(&cluster, 101, (4, 0, 0, 0, true));
    apply(&cluster, 102, (8, 0, 0, 0, false))
}

fn steps(cluster: &Cluster, observed: &Observed) -> Vec<String> {
    plan(cluster, &name("n", 0), observed)
        .into_iter()
        .map(|step| format!("{} {}", step.action.as_str(), step.action.target().1))
        .collect()
}

/// Why the disk is not used, if it is told.
fn told(cluster: &Cluster, observed: &Observed) -> Option<Cause> {
    let waits = waits(cluster, &name("n", 0), observed);
    let mut of_disk = waits.into_iter().filter(|wait| wait.kind == Kind::Disk);
    let cause = of_disk.next().map(|wait| wait.cause);
    assert_eq!(of_disk.next(), None, "one disk, one cause");
    cause
}

/// Takes the one step that is planned, with what is found by it; between its beginning and its end too it is told why.
fn take(cluster: &Cluster, observed: &mut Observed, step: &str, superblock: SuperblockState, cause: &Cause) {
    assert_eq!(steps(cluster, observed), [step]);
    let planned = plan(cluster, &name("n", 0), observed).remove(0);
    observed.begin(&planned);
    assert_eq!(told(cluster, observed).as_ref(), Some(cause), "{step} under way");
    observed.record(cluster, &planned, StepOutcome { index: 0, superblock });
    assert_eq!(told(cluster, observed).as_ref(), Some(cause), "after {step}");
}

/// A node that has just started, and has found something else under the disk's path.
fn refused(cluster: &Cluster, superblock: SuperblockState) -> Observed {
    let mut observed = Observed::default();
    for step in ["open_disk d0", "close_disk d0"] {
        assert_eq!(steps(cluster, &observed), [step]);
        let planned = plan(cluster, &name("n", 0), &observed).remove(0);
        observed.record(cluster, &planned, StepOutcome { index: 0, superblock });
    }
    assert!(observed.disks.is_empty());
    observed
}

#[test]
fn it_is_open_for_a_look_only_and_the_looks_come_less_often() {
    let cluster = served();
    for (superblock, cause) in [
        (SuperblockState::Foreign, Cause::ForeignSuperblock),
        (SuperblockState::Damaged, Cause::DamagedSuperblock),
        (SuperblockState::Missing, Cause::LostSuperblock),
        (
            NEWER,
            Cause::NewerSuperblock {
                generation: Generation(99),
            },
        ),
        (
            OLDER,
            Cause::OlderSuperblock {
                generation: Generation(1),
                last: Some(Generation(2)),
            },
        ),
    ] {
        let mut observed = refused(&cluster, superblock);
        let mut wait_ms = LOOK_MS_FIRST;
        for _ in 0..10 {
            assert_eq!(steps(&cluster, &observed), [""; 0]);
            assert_eq!(told(&cluster, &observed).as_ref(), Some(&cause));
            assert_eq!(observed.next_retry_ms(), Some(observed.now_ms + wait_ms));
            observed.now_ms += wait_ms - 1;
            assert_eq!(steps(&cluster, &observed), [""; 0]);
            observed.now_ms += 1;
            take(&cluster, &mut observed, "open_disk d0", superblock, &cause);
            take(&cluster, &mut observed, "close_disk d0", superblock, &cause);
            wait_ms = (2 * wait_ms).min(LOOK_MS_MAX);
        }
        // Something else that may not be used: it may be on its way back.
        observed.now_ms += LOOK_MS_MAX;
        let other = match superblock {
            SuperblockState::Foreign => SuperblockState::Damaged,
            _ => SuperblockState::Foreign,
        };
        for _ in 0..2 {
            let planned = plan(&cluster, &name("n", 0), &observed).remove(0);
            let opened = StepOutcome {
                index: 0,
                superblock: other,
            };
            observed.record(&cluster, &planned, opened);
        }
        assert_eq!(observed.next_retry_ms(), Some(observed.now_ms + LOOK_MS_FIRST));
    }
}

#[test]
fn the_right_medium_is_used_when_it_is_back() {
    let cluster = served();
    let mut node = Node::default();
    node.settle(&cluster);
    node.restart();
    node.strange.insert(DISK, SuperblockState::Foreign);
    for _ in 0..30 {
        node.observed.now_ms += 10_000;
        node.round(&cluster, 0, &mut |_| false);
    }
    assert!(node.observed.sockets.is_empty());
    node.strange.clear();
    node.settle(&cluster);
    node.is_as_wanted(&cluster);
    assert!(node.observed.refused.is_empty());
    assert_eq!(told(&cluster, &node.observed), None);
}

/// Its requests end and its route goes first, however long that takes.
#[test]
fn what_is_in_service_is_not_closed() {
    let cluster = served();
    let mut node = Node::default();
    node.settle(&cluster);
    node.observed.disks.get_mut(&name("d", 0)).unwrap().superblock = NEWER;
    for step in ["withdraw_socket a0", "clear_route v0", "close_disk d0"] {
        assert_eq!(steps(&cluster, &node.observed), [step]);
        // What is told is why it is not used, not what it waits for.
        assert!(matches!(
            told(&cluster, &node.observed),
            Some(Cause::NewerSuperblock { .. })
        ));
        let planned = plan(&cluster, &name("n", 0), &node.observed).remove(0);
        node.observed.record(&cluster, &planned, StepOutcome::default());
    }
    assert_eq!(node.observed.refused[&name("d", 0)].superblock, NEWER);
}

#[test]
fn an_operator_is_not_kept_waiting() {
    let cluster = served();
    let mut observed = refused(&cluster, NEWER);
    assert_eq!(steps(&cluster, &observed), [""; 0]);
    let mut asked = observed.clone();
    asked.look_again(&name("d", 0));
    assert_eq!(steps(&cluster, &asked), ["open_disk d0"]);
    // Whatever was agreed on about the disk.
    let mut moved = cluster.clone();
    moved.disks.get_mut(&name("d", 0)).unwrap().revision.0 += 1;
    assert_eq!(steps(&moved, &observed), ["open_disk d0"]);
    let mut decided = cluster.clone();
    decided.disks.get_mut(&name("d", 0)).unwrap().extents_revision.0 += 100;
    assert_eq!(steps(&decided, &observed), ["open_disk d0"]);
    // A look that has failed is no reason to wait either, and its reason is told by itself.
    observed.now_ms += LOOK_MS_FIRST;
    let open = plan(&cluster, &name("n", 0), &observed).remove(0);
    observed.record_failure(&open, "it is locked".into());
    assert_eq!(steps(&cluster, &observed), [""; 0]);
    assert!(
        matches!(told(&cluster, &observed), Some(Cause::Failed { reason, .. }) if reason == "it is locked")
    );
    assert_eq!(observed.last_read(&name("d", 0)), Some(NEWER));
    observed.look_again(&name("d", 0));
    assert_eq!(steps(&cluster, &observed), ["open_disk d0"]);
}

/// While it is decided about the medium is in the hands of those who carry that out.
#[test]
fn nobody_opens_a_medium_that_is_being_decided_about() {
    let cluster = served();
    let mut observed = refused(&cluster, NEWER);
    let disk = name("d", 0);
    observed.look_again(&disk);
    assert!(!observed.is_on_the_move(&disk));
    observed.deciding.insert(disk.clone());
    assert!(observed.is_on_the_move(&disk), "nor does another operator");
    assert_eq!(steps(&cluster, &observed), [""; 0]);
    assert!(matches!(
        told(&cluster, &observed),
        Some(Cause::NewerSuperblock { .. })
    ));
    let mut failed = observed.clone();
    let open = Step {
        generation: cluster.disks[&disk].revision,
        action: Action::OpenDisk { disk: disk.clone() },
    };
    failed.record_failure(&open, "it is locked".into());
    failed.look_again(&disk);
    assert_eq!(steps(&cluster, &failed), [""; 0]);
    assert!(matches!(told(&cluster, &failed), Some(Cause::Failed { .. })));
    observed.deciding.clear();
    let open = plan(&cluster, &name("n", 0), &observed).remove(0);
    observed.begin(&open);
    assert!(observed.is_on_the_move(&disk));
    let superblock = NEWER;
    observed.record(&cluster, &open, StepOutcome { index: 0, superblock });
    assert!(observed.is_on_the_move(&disk), "it is about to be closed");
    let mut node = Node::default();
    node.settle(&cluster);
    assert!(!node.observed.is_on_the_move(&disk), "it is in use");
    node.observed.disks.get_mut(&disk).unwrap().superblock = NEWER;
    assert!(!node.observed.is_on_the_move(&disk), "it is in service still");
    let mut extents = cluster.volumes[&name("v", 0)].all_extents().to_vec();
    let elsewhere = extents[0].clone();
    extents.insert(0, elsewhere);
    extents[0].disk = name("d", 1);
    let clearing = ObservedClearing {
        uuid: cluster.volumes[&name("v", 0)].uuid,
        start: 0,
        extents,
        stopping: false,
    };
    node.observed.clearings.insert(name("v", 0), clearing);
    assert!(node.observed.is_on_the_move(&disk), "its space is being cleared");
}

/// One that is given whole and carries somebody's superblock is about to be closed as well; any other whole disk is in use.
#[test]
fn a_whole_disk_that_somebody_has_pooled_is_on_the_move() {
    let mut cluster = served();
    let disk = name("d", 0);
    cluster.disks.get_mut(&disk).unwrap().usage = Usage::Whole;
    let mut node = Node::default();
    node.settle(&cluster);
    let mut observed = node.observed;
    let superblock = |observed: &mut Observed, found| {
        observed.disks.get_mut(&disk).unwrap().superblock = found;
    };
    superblock(&mut observed, SuperblockState::Missing);
    assert!(!observed.is_on_the_move(&disk));
    superblock(&mut observed, SuperblockState::Foreign);
    assert!(!observed.is_on_the_move(&disk), "it is in service still");
    observed.routes.clear();
    assert!(observed.is_on_the_move(&disk));
    superblock(&mut observed, SuperblockState::Missing);
    assert!(!observed.is_on_the_move(&disk), "no volume of it is attached");
}

/// Nothing is agreed on that the medium speaks against, also while it is closed.
#[test]
fn what_was_read_stands_against_changes() {
    let cluster = served();
    let more = apply(&cluster, 103, (4, 0, 1, 1, true));
    assert_eq!(more.volumes.len(), 2);
    for superblock in [SuperblockState::Foreign, SuperblockState::Damaged, NEWER, OLDER] {
        let observed = refused(&cluster, superblock);
        let found = objection(&cluster, &more, &name("n", 0), &observed);
        let disk = name("d", 0);
        assert_eq!(found, Some(Objection::Disk { disk, superblock }));
    }
}

/// Its volumes are deleted, and it is given up.
fn leaving(cluster: &Cluster) -> Cluster {
    let empty = apply(&apply(cluster, 0, (11, 0, 0, 0, false)), 0, (7, 0, 0, 0, true));
    assert!(empty.volumes.is_empty() && empty.attachments.is_empty());
    let remove = Command::RemoveDisk(RemoveDisk {
        name: name("d", 0),
        expected: None,
        releases: true,
    });
    empty.apply(&remove).expect("it should be accepted").0
}

/// A disk is given up whose medium is in its right owner's hands: it is looked at once more, and not waited for when what was
/// there is nothing to be erased by us.
#[test]
fn a_disk_that_is_given_up_does_not_wait_for_the_owner_of_its_medium() {
    let empty = apply(&begin(), DISK.0, (0, 0, 0, 3, true));
    for (before, superblock, next) in [
        (served(), SuperblockState::Foreign, "release_disk d0"),
        (empty.clone(), SuperblockState::Foreign, "release_disk d0"),
        (empty.clone(), NEWER, "release_disk d0"),
        // What has changed on the disk since may be that what it carries was taken over.
        (served(), NEWER, "open_disk d0"),
        (empty.clone(), OLDER, "open_disk d0"),
        (empty, SuperblockState::Damaged, "open_disk d0"),
    ] {
        let mut observed = refused(&before, superblock);
        let cluster = leaving(&before);
        assert_eq!(steps(&cluster, &observed), ["open_disk d0"], "at once");
        let open = plan(&cluster, &name("n", 0), &observed).remove(0);
        observed.record_failure(&open, "it is locked".into());
        observed.now_ms += 60_000;
        assert_eq!(steps(&cluster, &observed), [next], "{superblock:?}");
        if next == "release_disk d0" {
            let release = plan(&cluster, &name("n", 0), &observed).remove(0);
            observed.record(&cluster, &release, StepOutcome::default());
            assert!(observed.refused.is_empty());
            assert_eq!(steps(&cluster, &observed), [""; 0]);
        }
    }
}

/// A disk without volumes whose first superblock is to come, and under whose path another medium is found after a restart.
#[test]
fn what_holds_something_else_is_not_held_and_stays_told() {
    let mut cluster = apply(&begin(), DISK.0, (0, 0, 0, 3, true));
    let disk = cluster.disks.get_mut(&name("d", 0)).unwrap();
    disk.first_superblock = palisade_model::FirstSuperblock::Pending;
    let mut node = Node::default();
    node.strange.insert(DISK, SuperblockState::Missing);
    for _ in 0..3 {
        node.round(&cluster, 0, &mut |_| false);
    }
    assert!(node.observed.disks.is_empty());
    for _ in 0..40 {
        assert_eq!(told(&cluster, &node.observed), Some(Cause::OccupiedMedium));
        node.observed.now_ms += 30_000;
        node.round(&cluster, 0, &mut |_| false);
    }
    assert_eq!(
        node.observed.refused[&name("d", 0)].superblock,
        SuperblockState::Occupied
    );
    node.strange.clear();
    node.settle(&cluster);
    node.is_as_wanted(&cluster);
    assert_eq!(told(&cluster, &node.observed), None);
}

/// What a medium carried says nothing about the next disk of that name.
#[test]
fn a_disk_is_not_kept_waiting_for_another_that_had_its_name() {
    let cluster = served();
    let observed = refused(&cluster, SuperblockState::Foreign);
    assert!(steps(&cluster, &observed).is_empty(), "it is looked at later");
    let mut next = cluster;
    next.disks.get_mut(&name("d", 0)).unwrap().uuid = Uuid(7);
    assert_eq!(steps(&next, &observed), ["open_disk d0"]);
}

/// One that was in use and is closed, to be opened elsewhere, was not refused.
#[test]
fn a_disk_that_is_closed_because_it_is_elsewhere_is_not_looked_at_later() {
    let cluster = served();
    let mut node = Node::default();
    node.settle(&cluster);
    let mut observed = node.observed;
    assert!(observed.disks.contains_key(&name("d", 0)));
    let close = Step {
        generation: cluster.generation,
        action: Action::CloseDisk { disk: name("d", 0) },
    };
    observed.record(
        &cluster,
        &close,
        StepOutcome {
            index: 0,
            superblock: SuperblockState::Missing,
        },
    );
    assert!(observed.disks.is_empty() && observed.refused.is_empty());
}

/// The same of one that is given whole, on which somebody has put a superblock.
#[test]
fn a_whole_disk_that_stays_somebodys_is_looked_at_less_often() {
    let mut cluster = served();
    cluster.disks.get_mut(&name("d", 0)).unwrap().usage = Usage::Whole;
    let cause = Cause::SuperblockOnWhole { disk: name("d", 0) };
    let mut observed = refused(&cluster, SuperblockState::Foreign);
    let mut wait_ms = LOOK_MS_FIRST;
    for _ in 0..10 {
        assert_eq!(steps(&cluster, &observed), [""; 0]);
        assert_eq!(told(&cluster, &observed).as_ref(), Some(&cause));
        assert_eq!(observed.next_retry_ms(), Some(observed.now_ms + wait_ms));
        observed.now_ms += wait_ms;
        take(
            &cluster,
            &mut observed,
            "open_disk d0",
            SuperblockState::Foreign,
            &cause,
        );
        take(
            &cluster,
            &mut observed,
            "close_disk d0",
            SuperblockState::Foreign,
            &cause,
        );
        wait_ms = (2 * wait_ms).min(LOOK_MS_MAX);
    }
}

/// One that is given whole is in use again as soon as it is open without somebody's superblock.
#[test]
fn a_whole_disk_is_refused_no_longer_once_it_is_open() {
    let mut cluster = served();
    cluster.disks.get_mut(&name("d", 0)).unwrap().usage = Usage::Whole;
    let mut observed = refused(&cluster, SuperblockState::Foreign);
    assert_eq!(observed.refused.len(), 1);
    observed.now_ms += LOOK_MS_FIRST;
    let open = plan(&cluster, &name("n", 0), &observed).remove(0);
    assert!(matches!(open.action, Action::OpenDisk { .. }));
    observed.record(
        &cluster,
        &open,
        StepOutcome {
            index: 0,
            superblock: SuperblockState::Missing,
        },
    );
    assert!(observed.refused.is_empty() && observed.disks.contains_key(&name("d", 0)));
}

/// Nor is it remembered once the disk is no more.
#[test]
fn what_was_refused_is_forgotten_with_the_disk() {
    let cluster = served();
    let before = refused(&cluster, SuperblockState::Foreign);
    let done = Step {
        generation: cluster.generation,
        action: Action::ClearRoute { volume: name("v", 9) },
    };
    let nothing = StepOutcome {
        index: 0,
        superblock: SuperblockState::Missing,
    };
    let mut observed = before.clone();
    observed.record(&cluster, &done, nothing);
    assert_eq!(observed.refused.len(), 1, "the disk is there");
    let mut gone = cluster;
    gone.disks.clear();
    observed.record(&gone, &done, nothing);
    assert!(observed.refused.is_empty());
}

/// What is decided about a disk while it is open ends the refusal, whichever step finds it out.
#[test]
fn a_pooled_disk_is_refused_no_longer_once_its_superblock_is_its_own() {
    let cluster = served();
    let disk = name("d", 0);
    let mut open_for_a_look = refused(&cluster, OLDER);
    open_for_a_look.now_ms += LOOK_MS_FIRST;
    let open = plan(&cluster, &name("n", 0), &open_for_a_look).remove(0);
    let opened = |superblock| StepOutcome { index: 0, superblock };
    open_for_a_look.record(&cluster, &open, opened(OLDER));
    assert_eq!(open_for_a_look.refused.len(), 1);
    let generation = cluster.disks[&disk].superblock_generation();
    let ours = SuperblockState::Ours {
        generation,
        flawed: false,
    };
    for action in [
        Action::WriteSuperblock { disk: disk.clone() },
        Action::ExamineSuperblock { disk: disk.clone() },
    ] {
        let step = Step { generation, action };
        let mut observed = open_for_a_look.clone();
        observed.record(&cluster, &step, opened(OLDER));
        assert_eq!(observed.refused.len(), 1);
        observed.record(&cluster, &step, opened(ours));
        assert!(observed.refused.is_empty());
    }
}
