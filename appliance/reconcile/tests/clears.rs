//! Space is cleared before a guest sees it, and never while one may: whatever is agreed on meanwhile, wherever the
//! daemon ends, and whichever steps fail.

mod node;

use node::{GRAIN, Node, apply, begin, medium_of, name};
use palisade_model::{AdoptDisk, Clear, Cluster, Command, Kind, OnMedium, SuperblockState, Usage};
use palisade_reconcile::{Action, Cause, Observed, plan, waits};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Epoch, Uuid};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// An operator's command: mostly volumes that come, grow and go on few disks, all of them to be cleared.
fn command() -> impl Strategy<Value = (u8, u8, u8, u8, bool)> {
    let kind = prop_oneof![2 => 0u8..2, 1 => Just(2u8), 5 => Just(12u8), 4 => Just(13u8), 3 => Just(7u8), 3 => Just(14u8),
                           1 => Just(15u8), 6 => 8u8..10, 3 => Just(11u8)];
    (kind, 0u8..2, 0u8..4, 0u8..6, any::<bool>())
}

/// Two pooled files with a volume each, attached.
fn furnished() -> Cluster {
    let commands = [
        (0, 0, 0, 3, true),
        (0, 1, 0, 4, true),
        (12, 0, 0, 1, true),
        (12, 1, 1, 1, true),
        (8, 0, 0, 0, false),
        (8, 1, 1, 1, false),
    ];
    let cluster = commands
        .into_iter()
        .enumerate()
        .fold(begin(), |cluster, (serial, command)| {
            apply(&cluster, 10 + serial as u128, command)
        });
    assert_eq!(cluster.attachments.len(), 2);
    cluster
}

/// Notes who has chosen to see what was there.
fn note(careless: &mut BTreeSet<Uuid>, cluster: &Cluster) {
    let chosen = |name: &palisade_words::Name| cluster.clear_of(name) == Some(Clear::Never);
    let volumes = cluster.volumes.iter().filter(|(name, _)| chosen(name));
    careless.extend(volumes.map(|(_, volume)| volume.uuid));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_guest_reads_what_another_wrote(
        acts in proptest::collection::vec((command(), 0u8..12, any::<u64>()), 1..80),
    ) {
        let mut cluster = furnished();
        let mut careless = BTreeSet::new();
        let mut node = Node::default();
        for (serial, (command, act, bits)) in acts.into_iter().enumerate() {
            cluster = apply(&cluster, 100 + serial as u128, command);
            note(&mut careless, &cluster);
            for round in 0..act as usize % 6 {
                node.observed.now_ms += bits % 400;
                let mut failing = bits;
                node.round(&cluster, (bits >> 8) as usize + round, &mut |_| {
                    failing = failing.rotate_left(5);
                    failing.is_multiple_of(5)
                });
                node.guests_read_and_write(&careless);
                node.work(&mut cluster, bits.rotate_left(round as u32 * 11));
                node.guests_read_and_write(&careless);
            }
            match act {
                10 => node.settle_and_clear(&mut cluster),
                // The daemon ends wherever it is, with whatever is under way.
                11 => node.restart(),
                _ => {}
            }
            node.guests_read_and_write(&careless);
        }
        node.settle_and_clear(&mut cluster);
        node.guests_read_and_write(&careless);
        node.is_as_wanted(&cluster);
        prop_assert!(cluster.volumes.values().all(|volume| volume.clearing.is_none()));
        prop_assert_eq!(waits(&cluster, &name("n", 0), &node.observed), vec![]);
    }
}

fn actions(cluster: &Cluster, node: &Node) -> Vec<&'static str> {
    let steps = plan(cluster, &name("n", 0), &node.observed);
    steps.iter().map(|step| step.action.as_str()).collect()
}

#[test]
fn a_guest_keeps_its_size_and_its_route_until_what_was_added_is_clear() {
    let mut cluster = furnished();
    let mut node = Node::default();
    node.settle_and_clear(&mut cluster);
    let before = node.observed.clone();
    cluster = apply(&cluster, 50, (13, 0, 0, 1, true));
    while actions(&cluster, &node) != ["clear_volume"] {
        assert!(node.round(&cluster, 0, &mut |_| false));
    }
    node.round(&cluster, 0, &mut |_| false);
    assert_eq!(
        (&node.observed.routes, &node.observed.sockets),
        (&before.routes, &before.sockets)
    );
    // A daemon that starts meanwhile gives the guest what it had.
    node.restart();
    while node.round(&cluster, 0, &mut |step| {
        matches!(step.action, Action::ClearVolume { .. })
    }) {}
    assert_eq!(node.observed.sockets, before.sockets);
    node.observed.failures.clear();
    node.settle_and_clear(&mut cluster);
    node.is_as_wanted(&cluster);
    assert_ne!(node.observed.sockets, before.sockets);
}

#[test]
fn a_volume_in_the_place_of_one_that_is_being_cleared_waits_until_that_has_ended() {
    let mut cluster = furnished();
    let mut node = Node::default();
    let begun = |node: &Node| node.observed.clearings.contains_key(&name("v", 0));
    while !begun(&node) {
        node.round(&cluster, 0, &mut |_| false);
    }
    // Its attachment, and itself, are taken away; another volume gets the space, without being cleared.
    for (serial, command) in [
        (11, 0, 0, 0, false),
        (7, 0, 0, 0, false),
        (4, 0, 2, 1, true),
        (8, 0, 2, 2, false),
    ]
    .into_iter()
    .enumerate()
    {
        cluster = apply(&cluster, 60 + serial as u128, command);
    }
    assert_eq!(
        cluster.volumes[&name("v", 2)].all_extents()[0].disk_lba,
        node.observed.clearings[&name("v", 0)].extents[0].disk_lba
    );
    while node.round(&cluster, 0, &mut |_| false) {}
    assert!(begun(&node) && node.observed.clearings[&name("v", 0)].stopping);
    assert!(!node.observed.routes.contains_key(&name("v", 2)));
    node.settle_and_clear(&mut cluster);
    assert!(node.observed.routes.contains_key(&name("v", 2)));
}

#[test]
fn a_disk_is_not_closed_under_a_clearing() {
    let mut cluster = furnished();
    let mut node = Node::default();
    while node.observed.clearings.is_empty() {
        node.round(&cluster, 0, &mut |_| false);
    }
    for (serial, command) in [(11, 0, 0, 0, false), (7, 0, 0, 0, false), (2, 0, 0, 0, false)]
        .into_iter()
        .enumerate()
    {
        cluster = apply(&cluster, 70 + serial as u128, command);
    }
    assert!(!cluster.disks.contains_key(&name("d", 0)));
    while node.round(&cluster, 0, &mut |_| false) {}
    assert!(node.observed.disks.contains_key(&name("d", 0)));
    node.settle_and_clear(&mut cluster);
    assert!(!node.observed.disks.contains_key(&name("d", 0)));
}

/// A database that was put back would clear what a guest may have written since.
#[test]
fn nothing_is_cleared_or_served_while_a_clearing_is_held() {
    let mut cluster = furnished();
    let v = name("v", 0);
    let hold = |cluster: &mut Cluster, held| {
        let volume = cluster.volumes.get_mut(&v).expect("a volume");
        volume.clearing.as_mut().expect("it is to be cleared").held = held;
    };
    hold(&mut cluster, true);
    let mut node = Node::default();
    node.settle(&cluster);
    assert!(!node.observed.clearings.contains_key(&v) && !node.observed.routes.contains_key(&v));
    let cause = Cause::HeldClearing {
        volume: v.clone(),
        deleting: false,
    };
    let all = waits(&cluster, &name("n", 0), &node.observed);
    let wait = all
        .iter()
        .find(|wait| wait.kind == Kind::Volume && wait.name == v && wait.cause == cause);
    let told = wait.expect("it waits for a word").to_string();
    assert!(
        told.contains("volume set v0 --clear never") && told.contains("volume set v0 --clear-held"),
        "{told}"
    );
    hold(&mut cluster, false);
    while !node.observed.clearings.contains_key(&v) {
        assert!(
            node.round(&cluster, 0, &mut |_| false),
            "it begins once that is said"
        );
    }
    // Said to be held while it is under way.
    hold(&mut cluster, true);
    assert!(actions(&cluster, &node).contains(&"stop_clearing"));
}

/// One superblock that knows more than the database says that the database is old, also for disks that keep none.
#[test]
fn nothing_is_cleared_on_a_whole_disk_while_another_shows_that_the_database_is_old() {
    let mut cluster = furnished();
    cluster.disks.get_mut(&name("d", 0)).expect("a disk").usage = Usage::Whole;
    let mut node = Node::default();
    let d1 = name("d", 1);
    node.settle(&cluster);
    node.observed.clearings.clear();
    let clears = |node: &Node| actions(&cluster, node).contains(&"clear_volume");
    assert!(clears(&node));
    let newer = SuperblockState::Newer {
        generation: cluster.generation.next(),
    };
    node.observed.disks.get_mut(&d1).expect("it is open").superblock = newer;
    assert!(!clears(&node));
    let all = waits(&cluster, &name("n", 0), &node.observed);
    let on = Cause::On {
        kind: Kind::Disk,
        name: d1,
    };
    assert!(
        all.iter()
            .any(|wait| wait.name == name("v", 0) && wait.cause == on)
    );
}

/// It is told apart from what its guest has put there by an operator.
#[test]
fn a_whole_disk_with_somebody_elses_superblock_is_not_served() {
    let mut cluster = furnished();
    let mut node = Node::default();
    node.settle_and_clear(&mut cluster);
    let d0 = name("d", 0);
    cluster.disks.get_mut(&d0).expect("a disk").usage = Usage::Whole;
    let open = node.observed.disks.get_mut(&d0).expect("it is open");
    open.superblock = SuperblockState::Foreign;
    let cause = Cause::SuperblockOnWhole { disk: d0.clone() };
    let all = waits(&cluster, &name("n", 0), &node.observed);
    let wait = all.iter().find(|wait| wait.name == d0 && wait.cause == cause);
    let told = wait.map(ToString::to_string).unwrap_or_default();
    assert!(told.contains("palisade disk confirm d0 --yes"), "{all:?}");
    assert!(actions(&cluster, &node).contains(&"withdraw_socket"));
}

/// Others have written all over volume 0, which lies on disk 0, and it is emptied of that.
fn emptied(cluster: &Cluster, node: &mut Node) -> Cluster {
    emptied_behind(cluster, node, 0)
}

/// Others have written to volume 0 behind its first sectors, and it is emptied of that.
fn emptied_behind(cluster: &Cluster, node: &mut Node, kept: u64) -> Cluster {
    let (disk, volume) = (&cluster.disks[&name("d", 0)], &cluster.volumes[&name("v", 0)]);
    for extent in volume.extents_between(kept, volume.sectors) {
        assert_eq!(extent.disk, name("d", 0));
        for grain in extent.disk_lba / GRAIN..(extent.disk_lba + extent.sectors) / GRAIN {
            node.content.insert((medium_of(disk), grain), Uuid(4711));
        }
    }
    let uuid = volume.uuid;
    let adopt = AdoptDisk {
        name: name("d", 0),
        uuid: disk.uuid,
        seen: disk.history.iter().last().map(|point| OnMedium {
            point: *point,
            epoch: Epoch(1),
            ancestors: Vec::new(),
        }),
        empties: vec![uuid],
        keeps: (kept > 0).then_some((uuid, kept)).into_iter().collect(),
        older: true,
    };
    let (next, _) = cluster.apply(&Command::AdoptDisk(adopt)).expect("it is emptied");
    next
}

/// A side may be taken before a route of before has been ended, and the disk is ours again at once. What the route leads to
/// is not the volume's any more: no guest uses it after the next plan, and the clearing does not wait for it.
#[test]
fn a_route_of_before_a_volume_was_emptied_is_ended() {
    let mut cluster = furnished();
    let mut node = Node::default();
    node.settle_and_clear(&mut cluster);
    node.guests_read_and_write(&BTreeSet::new());
    let route = node.observed.routes[&name("v", 0)].generation;
    cluster = emptied(&cluster, &mut node);
    let first: Vec<String> = plan(&cluster, &name("n", 0), &node.observed)
        .iter()
        .map(|step| step.to_string())
        .collect();
    assert!(
        first.iter().any(|step| step.contains("attachment a0"))
            && !first
                .iter()
                .any(|step| step.contains("a1") || step.contains("v1")),
        "{first:?}"
    );
    node.round(&cluster, 0, &mut |_| false);
    node.guests_read_and_write(&BTreeSet::new());
    assert!(!node.observed.sockets.contains_key(&name("a", 0)));
    while node.round(&cluster, 0, &mut |_| false) {}
    assert!(!node.observed.routes.contains_key(&name("v", 0)));
    assert!(node.observed.clearings.contains_key(&name("v", 0)));
    assert!(
        node.observed.sockets.contains_key(&name("a", 1)),
        "a neighbour is served"
    );
    node.settle_and_clear(&mut cluster);
    node.guests_read_and_write(&BTreeSet::new());
    node.is_as_wanted(&cluster);
    assert!(node.observed.routes[&name("v", 0)].generation > route);
}

/// What is a volume's own on an older copy stays, and no guest reads what it had grown by before that is cleared again: neither
/// by a route of before nor by one of after, wherever the daemon ends.
#[test]
fn a_volume_that_had_grown_keeps_what_is_its_own_and_is_cleared_behind_that() {
    for restarts in [false, true] {
        let mut cluster = furnished();
        let mut node = Node::default();
        cluster = apply(&cluster, 50, (13, 0, 0, 1, true));
        node.settle_and_clear(&mut cluster);
        node.guests_read_and_write(&BTreeSet::new());
        let v = name("v", 0);
        let grown = cluster.volumes[&v].sectors;
        assert!(grown > UNIT && node.observed.routes[&v].sectors == grown);
        let kept_by_its_guest = node.content.clone();
        cluster = emptied_behind(&cluster, &mut node, UNIT);
        if restarts {
            node.restart();
        }
        let is_cleared = |node: &Node| node.observed.clearings.contains_key(&v);
        while !is_cleared(&node) || !node.observed.sockets.contains_key(&name("a", 0)) {
            assert!(node.round(&cluster, 0, &mut |_| false));
            node.guests_read_and_write(&BTreeSet::new());
        }
        assert_eq!(
            node.observed.routes[&v].sectors, UNIT,
            "its guest has what is its own"
        );
        node.settle_and_clear(&mut cluster);
        node.guests_read_and_write(&BTreeSet::new());
        node.is_as_wanted(&cluster);
        assert_eq!(node.observed.routes[&v].sectors, grown);
        let disk = medium_of(&cluster.disks[&name("d", 0)]);
        for extent in cluster.volumes[&v].extents_between(0, UNIT) {
            let first = (disk.clone(), extent.disk_lba / GRAIN);
            assert_eq!(node.content.get(&first), kept_by_its_guest.get(&first));
            assert!(node.content.contains_key(&first), "it is still there");
        }
    }
}

/// A clearing of what a volume has grown by does not end that of the whole, which came later.
#[test]
fn a_clearing_of_before_a_volume_was_emptied_is_stopped() {
    let mut cluster = furnished();
    let mut node = Node::default();
    node.settle_and_clear(&mut cluster);
    cluster = apply(&cluster, 50, (13, 0, 0, 1, true));
    while node.round(&cluster, 0, &mut |_| false) {}
    let begun = &node.observed.clearings[&name("v", 0)];
    assert_eq!(begun.start, UNIT);
    cluster = emptied(&cluster, &mut node);
    node.round(&cluster, 0, &mut |_| false);
    let old = node.observed.clearings.get(&name("v", 0));
    assert!(old.is_some_and(|old| old.stopping), "{old:?}");
    // It ends, and the one of the whole begins where that does.
    node.work(&mut cluster, 8);
    while node.round(&cluster, 0, &mut |_| false) {}
    assert_eq!(node.observed.clearings[&name("v", 0)].start, 0);
    node.settle_and_clear(&mut cluster);
    node.guests_read_and_write(&BTreeSet::new());
    node.is_as_wanted(&cluster);
}

/// Nor does it end that of a volume which is cleared before it goes.
#[test]
fn a_volume_that_goes_while_it_grows_is_cleared_from_its_beginning() {
    let mut cluster = furnished();
    let mut node = Node::default();
    node.settle_and_clear(&mut cluster);
    node.guests_read_and_write(&BTreeSet::new());
    let uuid = cluster.volumes[&name("v", 0)].uuid;
    let is_left = |node: &Node| node.content.values().any(|writer| *writer == uuid);
    assert!(is_left(&node));
    cluster = apply(&cluster, 50, (13, 0, 0, 1, true));
    while node.round(&cluster, 0, &mut |_| false) {}
    assert_eq!(node.observed.clearings[&name("v", 0)].start, UNIT);
    cluster = apply(&cluster, 51, (14, 0, 0, 0, true));
    assert!(cluster.volumes[&name("v", 0)].deleting);
    node.settle_and_clear(&mut cluster);
    assert!(!cluster.volumes.contains_key(&name("v", 0)));
    assert!(!is_left(&node), "its content is left");
}

/// Whether the next plan clears the volume `v0`.
fn clears_v0(cluster: &Cluster, observed: &Observed) -> bool {
    let steps = plan(cluster, &name("n", 0), observed);
    let clear = Action::ClearVolume { volume: name("v", 0) };
    steps.iter().any(|step| step.action == clear)
}

/// A node that has come to where it clears the volume `v0` next.
fn about_to_clear_v0(cluster: &Cluster) -> Node {
    let mut node = Node::default();
    for turn in 0..100 {
        if !clears_v0(cluster, &node.observed) {
            node.round(cluster, turn, &mut |_| false);
        }
    }
    assert!(clears_v0(cluster, &node.observed), "it comes to be cleared");
    node
}

/// While a volume's route is being set nothing of it is cleared: what the route will lead to is known at its end.
#[test]
fn a_volume_whose_route_is_being_set_is_not_cleared_meanwhile() {
    let cluster = furnished();
    let mut node = about_to_clear_v0(&cluster);
    let route = Action::SetRoute { volume: name("v", 0) };
    node.observed.under_way.insert(route);
    assert!(!clears_v0(&cluster, &node.observed));
}

/// Whether the database is old is told by disks with a superblock: one given whole that is not open yet holds up no clearing.
#[test]
fn a_clearing_does_not_wait_for_a_whole_disk_that_was_not_looked_at() {
    let mut cluster = furnished();
    for disk in cluster.disks.values_mut() {
        disk.usage = Usage::Whole;
    }
    let mut node = about_to_clear_v0(&cluster);
    node.observed.disks.remove(&name("d", 1));
    assert!(clears_v0(&cluster, &node.observed));
}

/// A disk with a superblock that was not looked at yet may show that the database is old; one that cannot be opened shows
/// nothing.
#[test]
fn a_clearing_on_a_whole_disk_waits_until_the_others_were_looked_at() {
    let mut cluster = furnished();
    cluster.disks.get_mut(&name("d", 0)).unwrap().usage = Usage::Whole;
    let mut node = about_to_clear_v0(&cluster);
    node.observed.disks.remove(&name("d", 1));
    assert!(!clears_v0(&cluster, &node.observed));
    let open = plan(&cluster, &name("n", 0), &node.observed)
        .into_iter()
        .find(|step| step.action == Action::OpenDisk { disk: name("d", 1) });
    node.observed
        .record_failure(&open.unwrap(), "it does not answer".into());
    assert!(clears_v0(&cluster, &node.observed));
    // On a disk with a superblock of its own a record tells what is still to be cleared.
    cluster.disks.get_mut(&name("d", 0)).unwrap().usage = Usage::Pooled;
    let mut node = about_to_clear_v0(&cluster);
    node.observed.disks.remove(&name("d", 1));
    assert!(clears_v0(&cluster, &node.observed));
}
