//! Invariant 11: what fails holds up what depends on it, and nothing else. And what is not ours is left alone.

mod node;

use node::{Node, apply, begin, name};
use palisade_model::Cluster;
use palisade_reconcile::*;
use palisade_words::Generation;

/// Two pooled files `d0` and `d1`, with `v0` on the one and `v1` on the other, both attached.
fn two_of_each() -> Cluster {
    let mut cluster = begin();
    let commands = [
        (0, 0, 0, 3, true),
        (0, 1, 0, 4, true),
        (4, 0, 0, 0, true),
        (4, 1, 1, 0, true),
        (8, 0, 0, 0, false),
        (8, 1, 1, 1, false),
    ];
    for (serial, command) in commands.into_iter().enumerate() {
        cluster = apply(&cluster, 100 + serial as u128, command);
    }
    assert_eq!(
        (
            cluster.disks.len(),
            cluster.volumes.len(),
            cluster.attachments.len()
        ),
        (2, 2, 2)
    );
    cluster
}

#[test]
fn a_disk_that_does_not_open_holds_up_its_own_volume_only() {
    let cluster = two_of_each();
    let mut node = Node::default();
    let broken = Action::OpenDisk { disk: name("d", 0) };
    while node.round(&cluster, 0, &mut |step| step.action == broken) {}
    assert!(node.observed.sockets.keys().eq([&name("a", 1)]));
    let waits = waits(&cluster, &name("n", 0), &node.observed);
    let named: Vec<_> = waits.iter().map(|wait| wait.name.as_str()).collect();
    assert_eq!(named, ["d0", "v0", "a0"]);
    assert!(matches!(waits[0].cause, Cause::Failed { attempts: 1, .. }));
    node.settle(&cluster);
    node.is_as_wanted(&cluster);
}

#[test]
fn a_failed_step_waits_and_comes_again() {
    let cluster = two_of_each();
    let mut node = Node::default();
    node.round(&cluster, 0, &mut |_| true);
    assert_eq!(plan(&cluster, &name("n", 0), &node.observed), []);
    assert_eq!(node.observed.next_retry_ms(), Some(backoff::RETRY_MS_FIRST));
    node.observed.now_ms += backoff::RETRY_MS_FIRST;
    assert_eq!(plan(&cluster, &name("n", 0), &node.observed).len(), 2);
    // What is due is in the plan; waiting longer brings nothing more.
    assert_eq!(node.observed.next_retry_ms(), None);
}

#[test]
fn nothing_is_written_to_a_disk_that_is_not_ours() {
    let cluster = two_of_each();
    let generation = Generation(99);
    let cases = [
        (SuperblockState::Foreign, Cause::ForeignSuperblock),
        (SuperblockState::Missing, Cause::LostSuperblock),
        (SuperblockState::Damaged, Cause::DamagedSuperblock),
        (
            SuperblockState::EndLost {
                generation,
                tail: true,
            },
            Cause::EndLost { tail: true },
        ),
        (
            SuperblockState::Newer { generation },
            Cause::NewerSuperblock { generation },
        ),
        (
            SuperblockState::Older {
                generation: Generation(1),
                last: Some(generation),
            },
            Cause::OlderSuperblock {
                generation: Generation(1),
                last: Some(generation),
            },
        ),
        // A smaller number than ours is no older one.
        (
            SuperblockState::Diverged {
                generation: Generation(1),
            },
            Cause::DivergedSuperblock {
                generation: Generation(1),
            },
        ),
    ];
    for (superblock, cause) in cases {
        let mut node = Node::default();
        node.settle(&cluster);
        node.restart();
        for step in plan(&cluster, &name("n", 0), &node.observed) {
            let index = 0;
            node.observed
                .record(&cluster, &step, StepOutcome { index, superblock });
        }
        // Not held either, and told all the while.
        for step in plan(&cluster, &name("n", 0), &node.observed) {
            assert!(matches!(step.action, Action::CloseDisk { .. }), "{step}");
            let waits = waits(&cluster, &name("n", 0), &node.observed);
            assert!(waits.iter().any(|wait| wait.cause == cause), "{waits:?}");
            node.observed.record(&cluster, &step, StepOutcome::default());
        }
        assert!(node.observed.disks.is_empty());
        assert_eq!(plan(&cluster, &name("n", 0), &node.observed), []);
        let waits = waits(&cluster, &name("n", 0), &node.observed);
        assert!(waits.iter().any(|wait| wait.cause == cause), "{waits:?}");
        for wait in waits {
            can_be_typed(&wait);
        }
    }
}

/// What an operator is told to do names the disk, and is set as a sentence.
fn can_be_typed(wait: &Wait) {
    let told = wait.to_string();
    assert!(!told.contains("  "), "{told}");
    for command in ["palisade disk adopt", "palisade disk confirm"] {
        for (at, _) in told.match_indices(command) {
            let named = format!("{command} {}", wait.name);
            assert!(told[at..].starts_with(&named), "{told}");
        }
    }
}

/// The sectors of a deleted volume belong to nobody until its route has ended: not to the next volume, and not free
/// on record. `units` chooses the medium: 3 for memory, which keeps no superblock, 4 for a file.
fn freed_sectors_wait_for_the_drain(units: u8) -> (Cluster, Node, Vec<Step>) {
    let commands = [
        (0, 0, 0, units - 1, true),
        (4, 0, 0, 2, true),
        (8, 0, 0, 0, false),
    ];
    let mut cluster = begin();
    for (serial, command) in commands.into_iter().enumerate() {
        cluster = apply(&cluster, 100 + serial as u128, command);
    }
    let mut node = Node::default();
    node.settle(&cluster);
    let next = [
        (11, 0, 0, 0, false),
        (7, 0, 0, 0, false),
        (4, 0, 1, 2, true),
        (8, 1, 1, 1, false),
    ];
    for (serial, command) in next.into_iter().enumerate() {
        cluster = apply(&cluster, 200 + serial as u128, command);
    }
    assert!(
        cluster.attachments.contains_key(&name("a", 1)),
        "v1 has the sectors that v0 had"
    );
    let stuck = Action::ClearRoute { volume: name("v", 0) };
    let mut taken = Vec::new();
    for _ in 0..5 {
        let round = node.round(&cluster, 0, &mut |step| {
            taken.push(step.clone());
            step.action == stuck
        });
        assert!(round || !taken.is_empty());
    }
    assert!(node.observed.routes.contains_key(&name("v", 0)));
    (cluster, node, taken)
}

#[test]
fn a_route_waits_for_the_one_that_has_its_sectors() {
    let (cluster, mut node, taken) = freed_sectors_wait_for_the_drain(3);
    assert!(
        !taken
            .iter()
            .any(|step| matches!(step.action, Action::SetRoute { .. })),
        "{taken:?}"
    );
    node.settle(&cluster);
    node.is_as_wanted(&cluster);
}

#[test]
fn a_superblock_waits_for_the_route_of_a_deleted_volume() {
    let (cluster, mut node, taken) = freed_sectors_wait_for_the_drain(4);
    assert!(
        !taken
            .iter()
            .any(|step| matches!(step.action, Action::WriteSuperblock { .. })),
        "{taken:?}"
    );
    node.settle(&cluster);
    node.is_as_wanted(&cluster);
}
