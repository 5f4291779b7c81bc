//! What a node knows after each step, and what it forgets.

mod node;

use node::{Node, apply, begin, name};
use palisade_model::{Account, Cluster, FirstSuperblock, Fragment, Kind, Limits, Piece};
use palisade_reconcile::*;
use palisade_words::{Generation, Uuid};

/// A pooled file `d0` with `v0` on it and its attachment `a0`, a second one `d1`, and what the node has of it.
fn furnished() -> (Cluster, Observed) {
    let commands = [
        (0, 0, 0, 15, true),
        (0, 1, 0, 18, true),
        (4, 0, 0, 3, true),
        (8, 0, 0, 0, false),
    ];
    let mut cluster = begin();
    for (serial, command) in commands.into_iter().enumerate() {
        cluster = apply(&cluster, 100 + serial as u128, command);
    }
    let mut node = Node::default();
    node.settle(&cluster);
    assert_eq!((cluster.disks.len(), node.observed.sockets.len()), (2, 1));
    (cluster, node.observed)
}

fn step(generation: u64, action: Action) -> Step {
    let generation = Generation(generation);
    Step { generation, action }
}

/// Every action there is, on the resources of [`furnished`].
fn all_actions() -> Vec<Action> {
    let (disk, volume, attachment) = (name("d", 0), name("v", 0), name("a", 0));
    let of_disks: [fn(palisade_words::Name) -> Action; 8] = [
        |disk| Action::EraseSuperblock { disk },
        |disk| Action::CloseDisk { disk },
        |disk| Action::ReleaseDisk { disk },
        |disk| Action::OpenDisk { disk },
        |disk| Action::GrowDisk { disk },
        |disk| Action::WriteSuperblock { disk },
        |disk| Action::ExamineSuperblock { disk },
        |disk| Action::ConfirmSuperblock { disk },
    ];
    let of_volumes: [fn(palisade_words::Name) -> Action; 4] = [
        |volume| Action::ClearRoute { volume },
        |volume| Action::ClearVolume { volume },
        |volume| Action::StopClearing { volume },
        |volume| Action::SetRoute { volume },
    ];
    let of_attachments: [fn(palisade_words::Name) -> Action; 6] = [
        |attachment| Action::WithdrawSocket { attachment },
        |attachment| Action::ResizeVolume { attachment },
        |attachment| Action::OfferSocket { attachment },
        |attachment| Action::ReopenSocket { attachment },
        |attachment| Action::ChangeSocketPermissions { attachment },
        |attachment| Action::ChangeLimits { attachment },
    ];
    let disks = of_disks.iter().map(|of| of(disk.clone()));
    let volumes = of_volumes.iter().map(|of| of(volume.clone()));
    let attachments = of_attachments.iter().map(|of| of(attachment.clone()));
    disks.chain(volumes).chain(attachments).collect()
}

#[test]
fn a_step_that_is_done_has_not_failed_and_is_not_under_way() {
    for action in all_actions() {
        let (cluster, mut observed) = furnished();
        let step = step(cluster.generation.0, action.clone());
        observed.begin(&step);
        observed.record_failure(&step, "EIO".into());
        assert_eq!(observed.failures[&action].attempts, 1);
        assert!(observed.under_way.is_empty(), "{action}: it has ended");
        observed.begin(&step);
        observed.record(&cluster, &step, StepOutcome::default());
        let left = (observed.failures.get(&action), observed.under_way.get(&action));
        assert_eq!(left, (None, None), "{action}");
        // The next failure is the first one again.
        observed.record_failure(&step, "EIO".into());
        assert_eq!(observed.failures[&action].attempts, 1, "{action}");
    }
}

/// Steps may end in any order: what was reached stays reached, and an older cluster is not planned for.
#[test]
fn the_latest_generation_that_steps_were_taken_for_is_kept() {
    for action in all_actions() {
        let (cluster, mut observed) = furnished();
        for (before, of, then) in [(0, 7, 7), (9, 8, 9), (8, 9, 9)] {
            observed.generation = Generation(before);
            let wanted = Cluster {
                generation: Generation(of),
                ..cluster.clone()
            };
            observed.record(&wanted, &step(of, action.clone()), StepOutcome::default());
            assert_eq!(observed.generation, Generation(then), "{action} of {of}");
        }
    }
}

#[test]
fn what_a_superblock_says_is_as_it_was_found_last() {
    let generation = Generation(40);
    let sound_or_not = [false, true].map(|flawed| SuperblockState::Ours { generation, flawed });
    let others = [
        SuperblockState::Missing,
        SuperblockState::Foreign,
        SuperblockState::Damaged,
        SuperblockState::EndLost {
            generation,
            tail: false,
        },
        SuperblockState::Newer { generation },
        SuperblockState::Diverged { generation },
        SuperblockState::Older {
            generation,
            last: Some(Generation(41)),
        },
    ];
    let write = step(40, Action::WriteSuperblock { disk: name("d", 0) });
    let examine = step(40, Action::ExamineSuperblock { disk: name("d", 0) });
    // A write that was forbidden because the superblock is gone says so, and is no write.
    let found = sound_or_not.into_iter().chain(others);
    for (step, found) in found.flat_map(|found| [(&write, found), (&examine, found)]) {
        let (mut cluster, mut observed) = furnished();
        let before = observed.clone();
        let wanted = cluster.disks.get_mut(&name("d", 0)).expect("a disk");
        wanted.protected = true;
        let wanted = wanted.clone();
        let opened = StepOutcome {
            index: 0,
            superblock: found,
        };
        observed.record(&cluster, step, opened);
        let open = &observed.disks[&name("d", 0)];
        assert_eq!(
            (open.superblock, open.looked_for),
            (found, generation),
            "{step} found {found:?}"
        );
        // What was written is the disk as it was agreed on; a look changes nothing of it.
        let is_written = step == &write;
        assert_eq!(open.disk == wanted, is_written);
        assert_eq!(observed.disks[&name("d", 1)], before.disks[&name("d", 1)]);
    }
}

#[test]
fn permissions_and_limits_change_apart_from_each_other() {
    let (mut cluster, observed) = furnished();
    let wanted = cluster.attachments.get_mut(&name("a", 0)).expect("an attachment");
    wanted.owner = Some(Account::Id(7));
    wanted.group = Some(Account::Name("kvm".into()));
    wanted.mode = 0o660;
    wanted.limits = Limits {
        iops: 9,
        ..Limits::default()
    };
    let wanted = wanted.clone();
    let changed = |actions: &[Action]| {
        let mut observed = observed.clone();
        for action in actions {
            observed.record(&cluster, &step(20, action.clone()), StepOutcome::default());
        }
        observed.sockets[&name("a", 0)].attachment.clone()
    };
    let permissions = Action::ChangeSocketPermissions {
        attachment: name("a", 0),
    };
    let limits = Action::ChangeLimits {
        attachment: name("a", 0),
    };
    let before = observed.sockets[&name("a", 0)].attachment.clone();
    let now = changed(std::slice::from_ref(&permissions));
    assert_eq!(
        (&now.owner, &now.group, now.mode),
        (&wanted.owner, &wanted.group, wanted.mode)
    );
    assert_eq!(now.limits, before.limits);
    let now = changed(std::slice::from_ref(&limits));
    assert_eq!(
        (&now.owner, &now.group, now.mode),
        (&before.owner, &before.group, before.mode)
    );
    assert_eq!(now.limits, wanted.limits);
    assert_eq!(changed(&[permissions, limits]), wanted);
}

/// A disk that could not be erased was closed all the same; the next one of its name is erased like any other.
#[test]
fn a_failed_erasure_is_forgotten_with_its_disk() {
    let (cluster, mut observed) = furnished();
    let [erase, other, close] = [
        Action::EraseSuperblock { disk: name("d", 0) },
        Action::EraseSuperblock { disk: name("d", 1) },
        Action::CloseDisk { disk: name("d", 0) },
    ];
    for action in [&erase, &other] {
        observed.record_failure(&step(20, action.clone()), "EIO".into());
    }
    observed.record(&cluster, &step(20, close), StepOutcome::default());
    assert!(observed.failures.keys().eq([&other]));
}

/// Those let go are remembered for as long as the cluster knows them, and no longer.
#[test]
fn disks_that_were_let_go_are_forgotten_once_the_cluster_has_forgotten_them() {
    let (mut cluster, mut observed) = furnished();
    let leaving = cluster.disks.get_mut(&name("d", 0)).expect("a disk");
    leaving.leaving = true;
    let (leaving, known) = (leaving.uuid, cluster.disks[&name("d", 1)].uuid);
    observed.released = [(known, true), (Uuid(9), true)].into();
    let close = step(20, Action::CloseDisk { disk: name("d", 0) });
    // The medium of another disk of the name is not the one that leaves.
    let mut other = observed.clone();
    other.disks.get_mut(&name("d", 0)).expect("open").disk.uuid = Uuid(8);
    other.record(&cluster, &close, StepOutcome::default());
    assert_eq!(other.released, [(known, true)].into());
    observed.record(&cluster, &close, StepOutcome::default());
    assert_eq!(observed.released, [(leaving, false), (known, true)].into());
    let release = step(20, Action::ReleaseDisk { disk: name("d", 0) });
    observed.record(&cluster, &release, StepOutcome::default());
    assert_eq!(observed.released, [(leaving, true), (known, true)].into());
}

/// What is agreed on is held against what each medium of this node says, and against no other.
#[test]
fn a_change_is_held_against_the_media_that_it_changes() {
    let (before, observed) = furnished();
    let change = |cluster: &Cluster, commands: &[(u8, u8, u8, u8, bool)]| {
        commands
            .iter()
            .enumerate()
            .fold(cluster.clone(), |cluster, (serial, command)| {
                let next = apply(&cluster, 300 + serial as u128, *command);
                assert_ne!(next, cluster, "{command:?}");
                next
            })
    };
    let generation = Generation(1);
    let newer = SuperblockState::Newer { generation };
    let judge = |before: &Cluster, after: &Cluster, superblock| {
        let mut observed = observed.clone();
        observed.disks.get_mut(&name("d", 0)).expect("open").superblock = superblock;
        objection(before, after, &name("n", 0), &observed).is_some()
    };
    let more = change(&before, &[(4, 0, 1, 1, true)]);
    assert!(judge(&before, &more, newer));
    // Another node's medium, or one that keeps no superblock, is none of ours to judge.
    for makes_it in [
        (|disk| disk.node = name("n", 1)) as fn(&mut palisade_model::Disk),
        |disk| disk.usage = palisade_model::Usage::Whole,
    ] {
        let (mut before, mut more) = (before.clone(), more.clone());
        for cluster in [&mut before, &mut more] {
            makes_it(cluster.disks.get_mut(&name("d", 0)).expect("a disk"));
        }
        assert!(!judge(&before, &more, newer));
    }
    // A disk may always be given up.
    let two = change(&before, &[(4, 0, 1, 1, true)]);
    let one = change(&two, &[(7, 0, 1, 0, false)]);
    let none = change(&one, &[(11, 0, 0, 0, false), (7, 0, 0, 0, false)]);
    let gone = change(&none, &[(2, 0, 0, 0, false)]);
    assert!(judge(&none, &one, newer) && !judge(&none, &gone, newer));
    // On what is lost, less may lie, but nothing more; on what nothing lies on, something may.
    for (superblock, on_empty) in [
        (SuperblockState::Foreign, true),
        (SuperblockState::Damaged, true),
        (SuperblockState::Missing, false),
    ] {
        assert!(
            judge(&one, &two, superblock) && !judge(&two, &one, superblock),
            "{superblock:?}"
        );
        assert_eq!(judge(&none, &one, superblock), on_empty, "{superblock:?}");
        let with = |cluster: &Cluster, first| {
            let mut cluster = cluster.clone();
            cluster
                .disks
                .get_mut(&name("d", 0))
                .expect("a disk")
                .first_superblock = first;
            let extent = cluster
                .volumes
                .get(&name("v", 0))
                .map(|volume| volume.all_extents()[0].clone());
            let extent = extent.unwrap_or_else(|| one.volumes[&name("v", 0)].all_extents()[0].clone());
            let pieces = vec![Piece {
                volume_lba: 0,
                extent,
            }];
            let fragment = Fragment {
                name: name("v", 9),
                sectors: 1 << 20,
                block_bytes: 512,
                pieces,
            };
            cluster.fragments.insert(Uuid(7), fragment);
            cluster
        };
        // A part of a volume lies there as well as a whole one; before the first superblock nothing has.
        let (on, pending) = (FirstSuperblock::OnMedium, FirstSuperblock::Pending);
        assert!(
            judge(&with(&none, on), &with(&one, on), superblock),
            "{superblock:?}"
        );
        assert_eq!(
            judge(&with(&none, pending), &with(&one, pending), superblock),
            on_empty,
            "{superblock:?}"
        );
    }
}

/// A disk that has not been looked at yet is waited for; one that cannot be is no reason to refuse.
#[test]
fn a_change_waits_for_the_first_look_at_its_disk_unless_that_has_failed() {
    let (before, _) = furnished();
    let after = apply(&before, 300, (4, 0, 1, 1, true));
    let judge = |observed: &Observed| objection(&before, &after, &name("n", 0), observed);
    let mut observed = Observed::default();
    let not_yet = Some(Objection::NotLookedAt { disk: name("d", 0) });
    assert_eq!(judge(&observed), not_yet);
    observed.record_failure(&step(1, Action::OpenDisk { disk: name("d", 1) }), "ENOENT".into());
    assert_eq!(judge(&observed), not_yet, "the failure is another disk's");
    observed.record_failure(&step(1, Action::OpenDisk { disk: name("d", 0) }), "ENOENT".into());
    assert_eq!(judge(&observed), None);
    assert_eq!(
        Action::OpenDisk { disk: name("d", 0) }.target(),
        (Kind::Disk, &name("d", 0))
    );
}
