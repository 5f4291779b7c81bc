//! Superblocks: the first one before any extent, none left behind, none written over what is not ours.

mod node;

use node::{Node, apply, begin, name};
use palisade_model::{Cluster, Command, ConfirmSuperblock, RemoveDisk};
use palisade_reconcile::*;
use palisade_words::{Generation, Uuid};

const DISK: Uuid = Uuid(100);

/// A pooled file `d0` that has just been added, its superblock to come.
fn fresh() -> Cluster {
    let mut cluster = apply(&begin(), DISK.0, (0, 0, 0, 3, true));
    let disk = cluster.disks.get_mut(&name("d", 0)).expect("it was added");
    disk.first_superblock = palisade_model::FirstSuperblock::Pending;
    cluster
}

fn does(cluster: &Cluster, command: Command) -> Cluster {
    cluster.apply(&command).expect("it should be accepted").0
}

fn removed(cluster: &Cluster) -> Cluster {
    let remove = RemoveDisk {
        name: name("d", 0),
        expected: None,
        releases: false,
    };
    does(cluster, Command::RemoveDisk(remove))
}

/// Given up, until its node has let go of it.
fn leaving(cluster: &Cluster) -> Cluster {
    let remove = RemoveDisk {
        name: name("d", 0),
        expected: None,
        releases: true,
    };
    does(cluster, Command::RemoveDisk(remove))
}

fn steps(cluster: &Cluster, observed: &Observed) -> Vec<Action> {
    plan(cluster, &name("n", 0), observed)
        .into_iter()
        .map(|step| step.action)
        .collect()
}

fn open_missing(cluster: &Cluster) -> Observed {
    let mut observed = Observed::default();
    for step in plan(cluster, &name("n", 0), &observed) {
        observed.record(cluster, &step, StepOutcome::default());
    }
    assert_eq!(
        steps(cluster, &observed),
        [Action::WriteSuperblock { disk: name("d", 0) }]
    );
    observed
}

#[test]
fn a_volume_comes_only_once_the_first_superblock_is_confirmed() {
    let cluster = fresh();
    let refused = apply(&cluster, 7, (4, 0, 0, 1, true));
    assert_eq!(refused, cluster, "no extent before the superblock");
    let mut node = Node::default();
    let confirm = Action::ConfirmSuperblock { disk: name("d", 0) };
    while !steps(&cluster, &node.observed).contains(&confirm) {
        assert!(node.round(&cluster, 0, &mut |_| false));
    }
    assert_eq!(
        node.superblock(DISK),
        Some(cluster.disks[&name("d", 0)].superblock_generation())
    );
    let confirmed = ConfirmSuperblock {
        name: name("d", 0),
        uuid: DISK,
    };
    let cluster = does(&cluster, Command::ConfirmSuperblock(confirmed));
    node.settle(&cluster);
    let cluster = apply(&cluster, 7, (4, 0, 0, 1, true));
    assert_eq!(cluster.volumes.len(), 1);
    node.settle(&cluster);
    node.is_as_wanted(&cluster);
}

/// The daemon ends anywhere between the writing of the first superblock and its confirmation; the next one goes on.
#[test]
fn a_disk_whose_superblock_is_to_come_is_never_stuck() {
    let cluster = fresh();
    for rounds in 0..6 {
        let mut node = Node::default();
        for _ in 0..rounds {
            node.round(&cluster, 0, &mut |_| false);
        }
        node.restart();
        node.settle(&cluster);
        node.is_as_wanted(&cluster);
        assert_eq!(waits(&cluster, &name("n", 0), &node.observed), []);
        assert!(
            node.observed.disks[&name("d", 0)].confirmed,
            "after {rounds} rounds"
        );
    }
}

/// Found from outside, one time in 60: the disk was closed while its superblock was being written, which then stayed.
#[test]
fn a_removal_does_not_overtake_the_writing_of_a_superblock() {
    let cluster = fresh();
    let gone = removed(&cluster);
    let (disk, write) = (name("d", 0), Action::WriteSuperblock { disk: name("d", 0) });
    for fails in [false, true] {
        let mut observed = open_missing(&cluster);
        let step = Step {
            generation: cluster.disks[&disk].superblock_generation(),
            action: write.clone(),
        };
        observed.begin(&step);
        assert_eq!(steps(&cluster, &observed), [], "once is enough");
        assert_eq!(steps(&gone, &observed), [], "nothing before the write has ended");
        // It may have got half way when it failed.
        match fails {
            true => observed.record_failure(&step, "EIO".into()),
            false => observed.record(&cluster, &step, StepOutcome::default()),
        }
        let erase = Action::EraseSuperblock { disk: disk.clone() };
        assert_eq!(steps(&gone, &observed), std::slice::from_ref(&erase));
        let erase = Step {
            generation: gone.generation,
            action: erase,
        };
        observed.begin(&erase);
        assert_eq!(steps(&gone, &observed), []);
        observed.record(&gone, &erase, StepOutcome::default());
        assert_eq!(
            steps(&gone, &observed),
            [Action::CloseDisk { disk: disk.clone() }]
        );
    }
}

/// The daemon ends anywhere between "the removal is agreed on" and "the cluster knows that it is done"; the next one goes
/// on, and nothing stays on the medium.
#[test]
fn a_removal_is_finished_by_the_next_daemon() {
    let cluster = fresh();
    for rounds in 0..8 {
        for written in [false, true] {
            let mut node = Node::default();
            match written {
                true => node.settle(&cluster),
                // It is open, and its first superblock still to be written.
                false => drop(node.round(&cluster, 0, &mut |_| false)),
            }
            let cluster = leaving(&cluster);
            for _ in 0..rounds {
                node.round(&cluster, 0, &mut |_| false);
            }
            node.restart();
            node.settle(&cluster);
            assert_eq!(node.superblock(DISK), None, "after {rounds} rounds");
            node.is_as_wanted(&cluster);
            let release = palisade_model::ReleaseDisk {
                name: name("d", 0),
                uuid: DISK,
            };
            let cluster = does(&cluster, Command::ReleaseDisk(release));
            node.settle(&cluster);
            node.is_as_wanted(&cluster);
        }
    }
}

/// A medium that cannot be erased, or not even opened, keeps its disk, and the operator is told.
#[test]
fn a_disk_leaves_only_when_its_superblock_is_erased() {
    let mut node = Node::default();
    node.settle(&fresh());
    let cluster = leaving(&fresh());
    let is_told = |node: &Node, action: &Action| {
        let waits = waits(&cluster, &name("n", 0), &node.observed);
        waits
            .iter()
            .any(|wait| matches!(&wait.cause, Cause::Failed { action: failed, .. } if failed == action))
    };
    let erase = Action::EraseSuperblock { disk: name("d", 0) };
    for _ in 0..5 {
        node.round(&cluster, 0, &mut |step| step.action == erase);
    }
    assert!(is_told(&node, &erase));
    assert!(node.superblock(DISK).is_some() && node.observed.disks.contains_key(&name("d", 0)));
    node.restart();
    let open = Action::OpenDisk { disk: name("d", 0) };
    for _ in 0..5 {
        node.round(&cluster, 0, &mut |step| step.action == open);
    }
    assert!(is_told(&node, &open));
    assert_eq!(node.observed.released.len(), 0);
    node.settle(&cluster);
    node.is_as_wanted(&cluster);
}

/// What the cluster does not know to be its own stays on a medium, and does not keep the disk.
#[test]
fn a_disk_leaves_whatever_grew_on_apart_from_the_cluster() {
    let cluster = leaving(&fresh());
    let generation = Generation(1);
    for superblock in [
        SuperblockState::Foreign,
        SuperblockState::Newer { generation },
        SuperblockState::Diverged { generation },
    ] {
        let mut observed = open_missing(&fresh());
        observed.disks.get_mut(&name("d", 0)).unwrap().superblock = superblock;
        let close = Action::CloseDisk { disk: name("d", 0) };
        assert_eq!(steps(&cluster, &observed), [close]);
        observed.record(
            &cluster,
            &plan(&cluster, &name("n", 0), &observed)[0],
            StepOutcome::default(),
        );
        let release = Action::ReleaseDisk { disk: name("d", 0) };
        assert_eq!(steps(&cluster, &observed), [release]);
    }
    // What cannot be read may be the rest of an erasure that was cut off: that is told apart on the medium.
    let mut observed = open_missing(&fresh());
    let erase = Action::EraseSuperblock { disk: name("d", 0) };
    let older = SuperblockState::Older {
        generation,
        last: Some(Generation(2)),
    };
    for superblock in [SuperblockState::Damaged, older] {
        observed.disks.get_mut(&name("d", 0)).unwrap().superblock = superblock;
        assert_eq!(steps(&cluster, &observed), std::slice::from_ref(&erase));
    }
}

#[test]
fn what_was_never_written_is_not_erased() {
    let observed = open_missing(&fresh());
    let close = Action::CloseDisk { disk: name("d", 0) };
    assert_eq!(steps(&removed(&fresh()), &observed), [close]);
}

#[test]
fn a_medium_that_knows_more_is_left_alone_when_its_disk_is_removed() {
    let cluster = fresh();
    let generation = Generation(1);
    for superblock in [
        SuperblockState::Foreign,
        SuperblockState::Damaged,
        SuperblockState::Newer { generation },
        SuperblockState::Diverged { generation },
        SuperblockState::Older {
            generation,
            last: Some(Generation(2)),
        },
    ] {
        let mut observed = open_missing(&cluster);
        observed.disks.get_mut(&name("d", 0)).unwrap().superblock = superblock;
        let close = Action::CloseDisk { disk: name("d", 0) };
        assert_eq!(steps(&removed(&cluster), &observed), [close]);
    }
}

#[test]
fn changes_of_a_disk_that_knows_more_are_not_agreed_on() {
    let node = name("n", 0);
    let mut cluster = fresh();
    cluster.disks.get_mut(&name("d", 0)).unwrap().first_superblock = Default::default();
    let cluster = apply(&cluster, 7, (4, 0, 0, 1, true));
    let (more, less) = (
        apply(&cluster, 8, (4, 0, 1, 1, true)),
        apply(&cluster, 0, (7, 0, 0, 0, true)),
    );
    assert_eq!((more.volumes.len(), less.volumes.len()), (2, 0));
    let mut observed = Observed::default();
    let disk = name("d", 0);
    let not_yet = Some(Objection::NotLookedAt { disk: disk.clone() });
    assert_eq!(objection(&cluster, &more, &node, &observed), not_yet);
    observed = {
        let mut node = Node::default();
        node.settle(&cluster);
        node.observed
    };
    assert_eq!(objection(&cluster, &more, &node, &observed), None);
    let generation = Generation(1);
    let mut judge = |superblock, after: &Cluster| {
        observed.disks.get_mut(&disk).unwrap().superblock = superblock;
        objection(&cluster, after, &node, &observed).is_some()
    };
    for superblock in [
        SuperblockState::Newer { generation },
        SuperblockState::Diverged { generation },
        SuperblockState::Older {
            generation,
            last: Some(Generation(2)),
        },
    ] {
        assert!(judge(superblock, &more) && judge(superblock, &less));
        assert!(!judge(superblock, &cluster), "what does not touch the disk");
    }
    for superblock in [
        SuperblockState::Foreign,
        SuperblockState::Missing,
        SuperblockState::Damaged,
    ] {
        assert!(judge(superblock, &more));
        assert!(!judge(superblock, &less), "what has gone can be given up");
    }
}

/// Once an operator has decided, the disk is looked at again, and then written.
/// The side of the database is taken, over a medium of generation 40.
fn adopted() -> Command {
    Command::AdoptDisk(palisade_model::AdoptDisk {
        name: name("d", 0),
        uuid: DISK,
        seen: Some(palisade_model::OnMedium {
            point: palisade_words::Ancestor {
                generation: Generation(40),
                id: palisade_words::LineageId(40),
            },
            epoch: palisade_words::Epoch(1),
            ancestors: Vec::new(),
        }),
        empties: Vec::new(),
        keeps: Default::default(),
        older: false,
    })
}

fn confirmed() -> Command {
    Command::ConfirmSuperblock(ConfirmSuperblock {
        name: name("d", 0),
        uuid: DISK,
    })
}

#[test]
fn a_disk_that_was_adopted_is_looked_at_again() {
    let cluster = fresh();
    let mut node = Node::default();
    node.settle(&cluster);
    let diverged = SuperblockState::Diverged {
        generation: Generation(40),
    };
    node.observed.disks.get_mut(&name("d", 0)).unwrap().superblock = diverged;
    let adopted = does(&cluster, adopted());
    assert!(adopted.generation > Generation(40));
    let examine = Action::ExamineSuperblock { disk: name("d", 0) };
    assert_eq!(
        steps(&adopted, &node.observed),
        [examine],
        "while it is open still"
    );
    node.strange.insert(DISK, diverged);
    node.round(&cluster, 0, &mut |_| false);
    assert!(node.observed.disks.is_empty());
    assert_eq!(steps(&cluster, &node.observed), []);
    let open = Action::OpenDisk { disk: name("d", 0) };
    assert_eq!(steps(&adopted, &node.observed), [open], "at once");
}

/// A medium that is not the disk's is let go as it is when the disk is said to be somewhere else, and the other one is opened;
/// one that is in use stays open, whatever it is called.
#[test]
fn a_disk_that_is_found_elsewhere_is_opened_there_unless_it_is_in_use() {
    let mut node = Node::default();
    node.settle(&fresh());
    let agreed = does(&fresh(), confirmed());
    node.settle(&agreed);
    let moved = does(
        &agreed,
        Command::RelocateDisks(palisade_model::RelocateDisks {
            disks: vec![palisade_model::Relocation {
                name: name("d", 0),
                uuid: DISK,
                path: "/elsewhere".into(),
                found: None,
                confirmed: false,
                expected: None,
            }],
        }),
    );
    let close = Action::CloseDisk { disk: name("d", 0) };
    assert!(!steps(&moved, &node.observed).contains(&close), "it is in use");
    node.observed.disks.get_mut(&name("d", 0)).unwrap().superblock = SuperblockState::Foreign;
    assert_eq!(
        steps(&agreed, &node.observed),
        std::slice::from_ref(&close),
        "nor is it held under its own path"
    );
    assert_eq!(steps(&moved, &node.observed), std::slice::from_ref(&close));
    let step = plan(&moved, &name("n", 0), &node.observed).remove(0);
    node.observed.record(&moved, &step, StepOutcome::default());
    assert_eq!(
        steps(&moved, &node.observed),
        [Action::OpenDisk { disk: name("d", 0) }]
    );
}

/// What an operator has taken over is the disk's own, also when it is given up before it was looked at again.
#[test]
fn a_disk_that_was_adopted_and_given_up_is_looked_at_before_it_is_let_go() {
    let generation = Generation(40);
    for known in [
        SuperblockState::Newer { generation },
        SuperblockState::Diverged { generation },
    ] {
        let mut node = Node::default();
        node.settle(&fresh());
        let agreed = does(&fresh(), confirmed());
        node.observed.disks.get_mut(&name("d", 0)).unwrap().superblock = known;
        let cluster = leaving(&does(&agreed, adopted()));
        let examine = Action::ExamineSuperblock { disk: name("d", 0) };
        assert_eq!(steps(&cluster, &node.observed), [examine], "{known:?}");
        let step = plan(&cluster, &name("n", 0), &node.observed).remove(0);
        // What was taken over is ours by then, and goes; what grew on once more meanwhile stays.
        let found = |superblock| StepOutcome { index: 0, superblock };
        let mut still = node.observed.clone();
        still.record(&cluster, &step, found(known));
        assert_eq!(
            steps(&cluster, &still),
            [Action::CloseDisk { disk: name("d", 0) }]
        );
        let ours = SuperblockState::Ours {
            generation,
            flawed: false,
        };
        node.observed.record(&cluster, &step, found(ours));
        assert_eq!(
            steps(&cluster, &node.observed),
            [Action::EraseSuperblock { disk: name("d", 0) }]
        );
    }
}

/// What has failed stays told while it is tried again: a disk that is locked by another process for hours is not well in
/// the seconds in which the next try waits for the lock.
#[test]
fn a_failure_is_told_while_the_step_is_tried_again() {
    let cluster = fresh();
    let mut observed = Observed::default();
    let open = plan(&cluster, &name("n", 0), &observed).remove(0);
    observed.record_failure(&open, "it is locked".into());
    let told = |observed: &Observed| {
        let waits = waits(&cluster, &name("n", 0), observed);
        matches!(waits.first().map(|wait| &wait.cause), Some(Cause::Failed { reason, .. }) if reason == "it is locked")
    };
    assert!(told(&observed), "held back");
    observed.now_ms += 60_000;
    observed.begin(&open);
    assert!(told(&observed), "tried again");
    assert_eq!(steps(&cluster, &observed), []);
    observed.record(&cluster, &open, StepOutcome::default());
    assert!(!told(&observed));
}

/// Somebody else has taken the medium of a disk in use, by another path or from another machine: whoever was served is
/// kept waiting, and served again when the disk is itself again.
#[test]
fn a_disk_that_becomes_another_one_is_used_by_nobody() {
    let disk = name("d", 0);
    let mut cluster = fresh();
    cluster.disks.get_mut(&disk).unwrap().first_superblock = Default::default();
    let cluster = apply(&cluster, 7, (4, 0, 0, 1, true));
    let cluster = apply(&cluster, 8, (8, 0, 0, 0, false));
    let mut node = Node::default();
    node.settle(&cluster);
    node.is_as_wanted(&cluster);
    let generation = Generation(99);
    for superblock in [
        SuperblockState::Foreign,
        SuperblockState::Missing,
        SuperblockState::Newer { generation },
        SuperblockState::Diverged { generation },
    ] {
        node.observed.disks.get_mut(&disk).unwrap().superblock = superblock;
        node.strange.insert(DISK, superblock);
        for _ in 0..8 {
            node.round(&cluster, 0, &mut |_| false);
        }
        assert!(
            node.observed.sockets.is_empty() && node.observed.routes.is_empty(),
            "{superblock:?}"
        );
        assert!(!node.observed.disks.contains_key(&disk), "nor is it held");
        let told = waits(&cluster, &name("n", 0), &node.observed);
        assert!(
            told.iter().any(|wait| wait.kind == palisade_model::Kind::Disk),
            "{told:?}"
        );
        node.strange.clear();
        node.settle(&cluster);
        node.is_as_wanted(&cluster);
        assert!(node.observed.refused.is_empty());
    }
}
