//! What a plan does and what it says it waits for, case by case, where two things meet.

mod node;

use node::{Node, apply, begin, name};
use palisade_model::{Cluster, Disk, Extent, FirstSuperblock, Fragment, Piece};
use palisade_reconcile::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Generation, Uuid};

type CommandCode = (u8, u8, u8, u8, bool);

/// Two pooled files, `v0` on both of them, and `a0` for it.
const SPREAD: [CommandCode; 5] = [
    (0, 0, 0, 15, true),
    (0, 1, 0, 18, true),
    (4, 0, 0, 3, true),
    (6, 1, 0, 5, true),
    (8, 0, 0, 0, false),
];

fn after(cluster: &Cluster, commands: &[CommandCode]) -> Cluster {
    let mut next = cluster.clone();
    for command in commands {
        let serial = 100 + u128::from(next.generation.0);
        let before = next.clone();
        next = apply(&before, serial, *command);
        assert_ne!(next, before, "{command:?} is refused");
    }
    next
}

fn settled(cluster: &Cluster) -> Observed {
    let mut node = Node::default();
    node.settle(cluster);
    node.observed
}

fn disk(cluster: &mut Cluster, number: u8) -> &mut Disk {
    cluster.disks.get_mut(&name("d", number)).expect("a disk")
}

fn open(observed: &mut Observed, number: u8) -> &mut ObservedDisk {
    observed.disks.get_mut(&name("d", number)).expect("it is open")
}

/// The steps of a plan, in words.
fn steps(cluster: &Cluster, observed: &Observed) -> Vec<String> {
    let steps = plan(cluster, &name("n", 0), observed).into_iter();
    steps
        .map(|step| format!("{} {}", step.action.as_str(), step.action.target().1))
        .collect()
}

/// Which resources wait for which, in words.
fn waiting(cluster: &Cluster, observed: &Observed) -> Vec<String> {
    let waits = waits(cluster, &name("n", 0), observed).into_iter();
    waits
        .filter(|wait| matches!(wait.cause, Cause::On { .. }))
        .map(|wait| format!("{} {} {}", wait.kind, wait.name, wait))
        .collect()
}

/// Carries out the steps of one plan that are of a kind.
fn take(cluster: &Cluster, observed: &mut Observed, kind: &str) {
    let steps = plan(cluster, &name("n", 0), observed);
    for step in steps.iter().filter(|step| step.action.as_str() == kind) {
        observed.record(cluster, step, StepOutcome::default());
    }
}

/// Begins all clearings that are planned.
fn begin_clearings(cluster: &Cluster, observed: &mut Observed) {
    for step in plan(cluster, &name("n", 0), observed) {
        if let Action::ClearVolume { volume } = &step.action {
            observed.begin(&step);
            observed.begin_clearing(cluster, volume).expect("to be cleared");
        }
    }
}

/// A pooled file, all steps but clearings done, and so many volumes on it that are to be cleared.
fn to_be_cleared(volumes: u8) -> (Cluster, Observed) {
    let mut cluster = after(&begin(), &[(0, 0, 0, 15, true)]);
    for number in 0..volumes {
        cluster = after(&cluster, &[(12, 0, number, 1, true)]);
    }
    let mut node = Node::default();
    let is_clearing = |step: &Step| step.action.as_str() == "clear_volume";
    for _ in 0..5 {
        node.round(&cluster, 0, &mut { is_clearing });
    }
    node.observed.failures.clear();
    (cluster, node.observed)
}

#[test]
fn what_goes_away_goes_from_the_socket_downwards_on_every_disk_it_lies_on() {
    let cluster = after(&begin(), &SPREAD);
    let before = settled(&cluster);
    let volume = [(11, 0, 0, 0, false), (7, 0, 0, 0, false)];
    let volume_gone = after(&cluster, &volume);
    let all_gone = after(&volume_gone, &[(2, 0, 0, 0, false), (2, 1, 0, 0, false)]);
    let recorded = ["write_superblock d0", "write_superblock d1"];
    let erased = ["erase_superblock d0", "erase_superblock d1"];
    for (cluster, then) in [(volume_gone, recorded), (all_gone, erased)] {
        let mut observed = before.clone();
        assert_eq!(steps(&cluster, &observed), ["withdraw_socket a0"]);
        let waits = [
            "volume v0 waits for attachment a0",
            "disk d0 waits for volume v0",
            "disk d1 waits for volume v0",
        ];
        assert_eq!(waiting(&cluster, &observed), waits);
        take(&cluster, &mut observed, "withdraw_socket");
        assert_eq!(steps(&cluster, &observed), ["clear_route v0"]);
        assert_eq!(waiting(&cluster, &observed), waits[1..]);
        take(&cluster, &mut observed, "clear_route");
        assert_eq!(steps(&cluster, &observed), then);
        assert_eq!(waiting(&cluster, &observed), [""; 0]);
    }
}

#[test]
fn a_disk_waits_for_a_clearing_that_lies_on_others_too() {
    let disks = [SPREAD[0], SPREAD[1], (12, 0, 0, 3, true), (13, 1, 0, 5, true)];
    let cluster = after(&begin(), &disks);
    let mut node = Node::default();
    while node.observed.clearings.is_empty() {
        node.round(&cluster, 0, &mut |_| false);
    }
    let clearing = &node.observed.clearings[&name("v", 0)];
    assert_eq!(clearing.extents.len(), 2);
    let gone = after(
        &cluster,
        &[(7, 0, 0, 0, false), (2, 0, 0, 0, false), (2, 1, 0, 0, false)],
    );
    assert_eq!(steps(&gone, &node.observed), ["stop_clearing v0"]);
    let waits = ["disk d0 waits for volume v0", "disk d1 waits for volume v0"];
    assert_eq!(waiting(&gone, &node.observed), waits);
    // A disk on which it does not lie is free.
    let free = after(&gone, &[(0, 2, 0, 2, true)]);
    take(&free, &mut node.observed, "open_disk");
    let gone = after(&free, &[(2, 2, 0, 0, false)]);
    assert_eq!(
        steps(&gone, &node.observed),
        ["stop_clearing v0", "close_disk d2"]
    );
}

/// A volume with one bad disk is used no more, and nothing else is changed of it meanwhile.
#[test]
fn a_volume_with_one_disk_that_is_another_one_is_withdrawn() {
    let cluster = after(&begin(), &[&SPREAD[..4], &[(8, 0, 0, 0, true)]].concat());
    let mut observed = settled(&cluster);
    open(&mut observed, 1).superblock = SuperblockState::Foreign;
    let changed = after(&cluster, &[(10, 0, 0, 0, false), (8, 1, 1, 0, true)]);
    for (cluster, waits) in [
        (
            &cluster,
            vec![
                "volume v0 waits for attachment a0",
                "attachment a0 waits for volume v0",
            ],
        ),
        (
            &changed,
            vec![
                "volume v0 waits for attachment a0",
                "attachment a0 waits for volume v0",
                "attachment a1 waits for volume v0",
            ],
        ),
    ] {
        assert_eq!(steps(cluster, &observed), ["withdraw_socket a0"]);
        assert_eq!(waiting(cluster, &observed), waits);
    }
}

/// A disk that another node has now: whoever was served from it is let go of, the superblock stays for that node, and that node is
/// asked from then on.
#[test]
fn a_disk_that_moves_to_another_node_is_closed_and_keeps_its_superblock() {
    let mut cluster = after(&begin(), &SPREAD[..1]);
    cluster = after(&cluster, &[(4, 0, 0, 3, true), (8, 0, 0, 0, false)]);
    let mut observed = settled(&cluster);
    disk(&mut cluster, 0).node = name("n", 1);
    let planned: [(&[&str], &str); 5] = [
        (&["withdraw_socket a0"], "withdraw_socket"),
        (&["clear_route v0"], "clear_route"),
        (&["close_disk d0", "set_route v0"], "close_disk"),
        (&["set_route v0"], "set_route"),
        (&["offer_socket a0"], "offer_socket"),
    ];
    for (expected, done) in planned {
        assert_eq!(steps(&cluster, &observed), expected);
        take(&cluster, &mut observed, done);
    }
    assert_eq!(steps(&cluster, &observed), [""; 0]);
    assert_eq!(waiting(&cluster, &observed), [""; 0]);
    assert_eq!(observed.routes[&name("v", 0)].reached_by, name("n", 1));
}

/// A volume of this node's disks that is offered elsewhere has a route and no socket here. It is said anew when others ask than
/// before and in another membership; one that is this node's own business is not.
#[test]
fn a_volume_that_other_nodes_ask_for_has_a_route_here() {
    let mut cluster = after(&begin(), &SPREAD);
    let observed = settled(&cluster);
    cluster.epoch = cluster.epoch.next();
    assert_eq!(steps(&cluster, &observed), [""; 0], "nobody else is concerned");

    let attachment = |cluster: &mut Cluster, node: u8, read_only: bool| {
        let attachment = cluster.attachments.get_mut(&name("a", 0)).unwrap();
        (attachment.node, attachment.read_only) = (name("n", node), read_only);
    };
    cluster.attachments.retain(|other, _| *other == name("a", 0));
    attachment(&mut cluster, 1, false);
    let mut observed = settled(&cluster);
    assert!(observed.sockets.is_empty());
    let route = observed.routes[&name("v", 0)].clone();
    assert_eq!(
        (route.reached_by, route.askers.into_iter().collect::<Vec<_>>()),
        (name("n", 0), vec![(name("n", 1), true)])
    );
    attachment(&mut cluster, 1, true);
    assert_eq!(
        steps(&cluster, &observed),
        ["set_route v0"],
        "it may not change it any more"
    );
    take(&cluster, &mut observed, "set_route");
    assert_eq!(steps(&cluster, &observed), [""; 0]);
    cluster.epoch = cluster.epoch.next();
    assert_eq!(steps(&cluster, &observed), ["set_route v0"], "another membership");
    take(&cluster, &mut observed, "set_route");
    cluster.attachments.clear();
    assert_eq!(
        steps(&cluster, &observed),
        ["clear_route v0"],
        "nobody asks any more"
    );
}

/// What is written through a route to a disk that is closed would be lost.
#[test]
fn a_route_over_a_disk_that_is_not_open_is_ended_from_the_socket_downwards() {
    let cluster = after(&begin(), &SPREAD);
    let mut observed = settled(&cluster);
    observed.disks.remove(&name("d", 1));
    let first = steps(&cluster, &observed);
    assert!(first.contains(&"withdraw_socket a0".to_owned()), "{first:?}");
    take(&cluster, &mut observed, "withdraw_socket");
    let then = steps(&cluster, &observed);
    assert!(then.contains(&"clear_route v0".to_owned()), "{then:?}");
}

/// Events are read long after, by somebody who sees nothing else.
#[test]
fn each_step_that_was_taken_is_told_in_a_sentence_with_the_name_of_what_it_was_about() {
    let cluster = after(&begin(), &SPREAD);
    let mut node = Node::default();
    let mut told = Vec::new();
    for _ in 0..20 {
        let planned = plan(&cluster, &name("n", 0), &node.observed);
        told.extend(planned.iter().map(|step| step.action.done()));
        node.round(&cluster, 0, &mut |_: &Step| false);
    }
    for sentence in [
        "disk d0 was opened",
        "it is recorded on disk d1 which volumes lie on it",
        "volume v0 is served from its disks",
        "attachment a0 is offered: a virtual machine can connect to its socket",
    ] {
        assert!(told.iter().any(|one| one == sentence), "{sentence}: {told:?}");
    }
}

#[test]
fn a_socket_without_a_route_is_withdrawn() {
    let cluster = after(&begin(), &SPREAD);
    let mut observed = settled(&cluster);
    observed.routes.clear();
    assert_eq!(steps(&cluster, &observed), ["withdraw_socket a0", "set_route v0"]);
}

#[test]
fn a_socket_is_offered_only_over_the_route_of_its_volume_as_it_is() {
    let cluster = after(&begin(), &SPREAD);
    let settled = settled(&cluster);
    let volume = &cluster.volumes[&name("v", 0)];
    let (uuid, generation) = (volume.uuid, volume.route_generation());
    for (uuid, generation, plan) in [
        (uuid, generation, vec!["offer_socket a0"]),
        (uuid, Generation(generation.0 - 1), vec!["set_route v0"]),
        (Uuid(1), generation, vec!["clear_route v0"]),
    ] {
        let mut observed = settled.clone();
        observed.sockets.clear();
        let route = observed.routes.get_mut(&name("v", 0)).expect("a route");
        (route.uuid, route.generation) = (uuid, generation);
        assert_eq!(steps(&cluster, &observed), plan);
    }
}

#[test]
fn a_path_is_free_once_the_one_who_had_it_is_gone() {
    // Of the disk's medium: `d1` is the file that `d0` was.
    let cluster = after(&begin(), &SPREAD[..1]);
    let observed = settled(&cluster);
    let cluster = after(&cluster, &[(2, 0, 0, 0, false), (0, 1, 0, 15, true)]);
    assert_eq!(steps(&cluster, &observed), ["erase_superblock d0"]);
    assert_eq!(waiting(&cluster, &observed), ["disk d1 waits for disk d0"]);
    // Memory has no path to meet at.
    let memory = after(&begin(), &[(0, 0, 0, 2, true)]);
    let observed = self::settled(&memory);
    let memory = after(&memory, &[(0, 1, 0, 2, true)]);
    assert_eq!(steps(&memory, &observed), ["open_disk d1"]);
    // Of the socket: `a1` is to be where `a0` is.
    let cluster = after(&begin(), &SPREAD);
    let observed = self::settled(&cluster);
    let cluster = after(&cluster, &[(11, 0, 0, 0, false), (8, 0, 1, 0, false)]);
    assert_eq!(steps(&cluster, &observed), ["withdraw_socket a0"]);
    assert_eq!(
        waiting(&cluster, &observed),
        ["attachment a1 waits for attachment a0"]
    );
}

#[test]
fn what_is_under_way_is_not_begun_again_and_holds_up_its_own_disk_alone() {
    let cluster = after(&begin(), &SPREAD[..2]);
    let mut observed = Observed::default();
    take(&cluster, &mut observed, "open_disk");
    open(&mut observed, 0).superblock = SuperblockState::Ours {
        generation: Generation(0),
        flawed: false,
    };
    open(&mut observed, 1).superblock = SuperblockState::Ours {
        generation: Generation(0),
        flawed: false,
    };
    let both = ["write_superblock d0", "write_superblock d1"];
    assert_eq!(steps(&cluster, &observed), both);
    // Whatever it is that is done to the disk.
    for action in [
        Action::WriteSuperblock { disk: name("d", 0) },
        Action::ExamineSuperblock { disk: name("d", 0) },
    ] {
        observed.under_way = [action].into();
        assert_eq!(steps(&cluster, &observed), both[1..]);
    }
    // A volume or an attachment may have other things done to it.
    let readers = [(8, 0, 0, 0, true), (8, 1, 1, 0, true)];
    let cluster = after(&begin(), &[&SPREAD[..4], &readers].concat());
    let mut observed = settled(&cluster);
    observed.sockets.clear();
    let both = ["offer_socket a0", "offer_socket a1"];
    assert_eq!(steps(&cluster, &observed), both);
    observed.under_way = [Action::OfferSocket {
        attachment: name("a", 0),
    }]
    .into();
    assert_eq!(steps(&cluster, &observed), both[1..]);
    observed.under_way = [Action::ChangeLimits {
        attachment: name("a", 0),
    }]
    .into();
    assert_eq!(steps(&cluster, &observed), both);
}

#[test]
fn only_so_many_volumes_are_cleared_at_a_time() {
    let (cluster, mut observed) = to_be_cleared(6);
    let four = [
        "clear_volume v0",
        "clear_volume v1",
        "clear_volume v2",
        "clear_volume v3",
    ];
    assert_eq!(steps(&cluster, &observed), four);
    assert_eq!(waiting(&cluster, &observed), [""; 0]);
    // Other steps of the same plan take no turn.
    let more = after(&cluster, &[(0, 1, 0, 2, true)]);
    assert_eq!(steps(&more, &observed), [&["open_disk d1"][..], &four].concat());
    begin_clearings(&cluster, &mut observed);
    assert_eq!(steps(&cluster, &observed), [""; 0]);
    let waits = ["volume v4 waits for volume v0", "volume v5 waits for volume v0"];
    assert_eq!(waiting(&cluster, &observed), waits);
    // One that fails gives its turn to another.
    let failed = Step {
        generation: cluster.volumes[&name("v", 1)]
            .clearing
            .expect("to be cleared")
            .since,
        action: Action::ClearVolume { volume: name("v", 1) },
    };
    observed.record_failure(&failed, "EIO".into());
    assert_eq!(steps(&cluster, &observed), ["clear_volume v4"]);
    assert_eq!(waiting(&cluster, &observed), ["volume v5 waits for volume v0"]);
}

#[test]
fn another_node_clears_its_own_volumes() {
    let (mut cluster, observed) = to_be_cleared(1);
    assert_eq!(steps(&cluster, &observed), ["clear_volume v0"]);
    disk(&mut cluster, 0).node = name("n", 1);
    assert_eq!(steps(&cluster, &observed), ["close_disk d0"]);
    assert_eq!(waiting(&cluster, &observed), [""; 0]);
}

#[test]
fn a_clearing_goes_on_as_long_as_no_guest_may_use_its_space() {
    let (mut cluster, mut observed) = to_be_cleared(1);
    begin_clearings(&cluster, &mut observed);
    let volume = name("v", 0);
    let wanted = cluster.volumes.get_mut(&volume).expect("a volume");
    wanted.clearing.as_mut().expect("to be cleared").cleared = UNIT / 2;
    observed.clearings.get_mut(&volume).expect("begun").start = UNIT / 2;
    assert_eq!(steps(&cluster, &observed), [""; 0]);
    let stop = ["stop_clearing v0"];
    for (from, expected) in [
        (0, &stop[..0]),
        (UNIT / 2 - 1, &stop[..0]),
        (UNIT / 2, &stop[..0]),
        (UNIT / 2 + 1, &stop),
    ] {
        let mut cluster = cluster.clone();
        let wanted = cluster.volumes.get_mut(&volume).expect("a volume");
        wanted.clearing.as_mut().expect("to be cleared").from = from;
        assert_eq!(steps(&cluster, &observed), expected, "used up to {from}");
    }
    // Less of it is clear than when that began: it has been emptied since.
    let mut emptied = cluster.clone();
    let wanted = emptied.volumes.get_mut(&volume).expect("a volume");
    wanted.clearing.as_mut().expect("to be cleared").cleared = UNIT / 2 - 1;
    assert_eq!(steps(&emptied, &observed), stop);
    // It is given as it is.
    let mut given = cluster.clone();
    given.volumes.get_mut(&volume).expect("a volume").clearing = None;
    assert_eq!(steps(&given, &observed), stop);
    // It is another volume's, or the disk somebody else's.
    let mut other = observed.clone();
    other.clearings.get_mut(&volume).expect("begun").uuid = Uuid(1);
    assert_eq!(steps(&cluster, &other), stop);
    let mut foreign = observed.clone();
    open(&mut foreign, 0).superblock = SuperblockState::Foreign;
    assert_eq!(steps(&cluster, &foreign), stop);
    // Told once.
    foreign.clearings.get_mut(&volume).expect("begun").stopping = true;
    assert_eq!(steps(&cluster, &foreign), [""; 0]);
}

/// Space that two volumes have, one after the other, is the second one's when both its extents are free.
#[test]
fn a_route_or_a_clearing_over_one_of_several_extents_is_waited_for() {
    for (kind, grows, action) in [(4, 6, "set_route v1"), (12, 13, "clear_volume v1")] {
        let cluster = after(&begin(), &SPREAD);
        let mut observed = settled(&cluster);
        let next = [
            (11, 0, 0, 0, false),
            (7, 0, 0, 0, false),
            (kind, 0, 1, 3, true),
            (grows, 1, 1, 5, true),
            (8, 1, 1, 1, false),
        ];
        let cluster = after(&cluster, &next);
        observed.sockets.clear();
        let route = observed.routes[&name("v", 0)].clone();
        for number in [0, 1] {
            let generation = cluster.disks[&name("d", number)].superblock_generation();
            open(&mut observed, number).superblock = SuperblockState::Ours {
                generation,
                flawed: false,
            };
        }
        let beside = Extent {
            disk_lba: 12 * UNIT,
            ..route.extents[0].clone()
        };
        for (at, others) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            // One extent in the way, alone or beside one that is not.
            let mut extents: Vec<Extent> = vec![route.extents[at].clone()];
            extents.extend(vec![beside.clone(); others]);
            let mut observed = observed.clone();
            observed.routes.get_mut(&name("v", 0)).expect("a route").extents = extents.clone();
            assert!(
                !steps(&cluster, &observed).contains(&action.to_owned()),
                "{action} over {at}"
            );
            let waits = waiting(&cluster, &observed);
            assert!(
                waits.contains(&"volume v1 waits for volume v0".to_owned()),
                "{waits:?}"
            );
            // The same with a clearing in the place of the route.
            observed.routes.clear();
            let clearing = ObservedClearing {
                uuid: Uuid(1),
                start: 0,
                extents,
                stopping: true,
            };
            observed.clearings.insert(name("v", 0), clearing);
            assert!(
                !steps(&cluster, &observed).contains(&action.to_owned()),
                "{action} over {at}"
            );
            observed.clearings.clear();
            assert!(
                steps(&cluster, &observed).contains(&action.to_owned()),
                "{action}: nothing there"
            );
        }
    }
}

/// A superblock that is not there is written anew only where nothing can be lost by that.
#[test]
fn a_superblock_is_lost_when_it_was_there_and_something_lies_on_the_disk() {
    let empty = after(&begin(), &[(0, 0, 0, 15, true)]);
    let volume = after(&empty, &[(4, 0, 0, 3, true)]);
    let mut fragment = empty.clone();
    fragment.fragments.insert(Uuid(7), a_fragment_on_d0());
    // Of the volume whose disk this is not.
    let mut elsewhere = empty.clone();
    let mut piece = a_fragment_on_d0();
    piece.pieces[0].extent.disk = name("d", 5);
    elsewhere.fragments.insert(Uuid(7), piece);
    for (mut cluster, is_used) in [
        (empty, false),
        (volume, true),
        (fragment, true),
        (elsewhere, false),
    ] {
        for first in [FirstSuperblock::OnMedium, FirstSuperblock::Pending] {
            disk(&mut cluster, 0).first_superblock = first;
            let mut observed = Observed::default();
            take(&cluster, &mut observed, "open_disk");
            let is_lost = is_used && first.is_on_medium();
            let told = waits(&cluster, &name("n", 0), &observed);
            let is_told = told.iter().any(|wait| wait.cause == Cause::LostSuperblock);
            let writes = steps(&cluster, &observed).contains(&"write_superblock d0".to_owned());
            assert_eq!(
                (is_told, writes),
                (is_lost, !is_lost),
                "{first:?}, used: {is_used}"
            );
        }
    }
}

fn a_fragment_on_d0() -> Fragment {
    let extent = Extent {
        disk: name("d", 0),
        disk_lba: UNIT,
        sectors: UNIT,
    };
    Fragment {
        name: name("v", 9),
        sectors: 4 * UNIT,
        block_bytes: 512,
        pieces: vec![Piece {
            volume_lba: 0,
            extent,
        }],
    }
}

/// What keeps no superblock has nothing to be erased, and is not opened for that.
#[test]
fn a_disk_that_leaves_is_opened_again_only_for_its_superblock() {
    for (units, opened) in [(15, "open_disk d0"), (2, "release_disk d0")] {
        let mut cluster = after(&begin(), &[(0, 0, 0, units, true)]);
        disk(&mut cluster, 0).leaving = true;
        let uuid = disk(&mut cluster, 0).uuid;
        let mut observed = Observed::default();
        assert_eq!(steps(&cluster, &observed), [opened]);
        observed.released.insert(uuid, false);
        assert_eq!(steps(&cluster, &observed), ["release_disk d0"]);
        observed.released.insert(uuid, true);
        assert_eq!(steps(&cluster, &observed), [""; 0]);
    }
}

#[test]
fn a_socket_that_is_being_offered_anew_is_withdrawn_after_that() {
    let mut cluster = after(&begin(), &SPREAD);
    let mut observed = settled(&cluster);
    cluster.attachments.remove(&name("a", 0));
    for (under_way, plan) in [
        (
            Action::ReopenSocket {
                attachment: name("a", 0),
            },
            vec![],
        ),
        (
            Action::ReopenSocket {
                attachment: name("a", 1),
            },
            vec!["withdraw_socket a0"],
        ),
        (
            Action::ChangeLimits {
                attachment: name("a", 0),
            },
            vec!["withdraw_socket a0"],
        ),
    ] {
        observed.under_way = [under_way].into();
        assert_eq!(steps(&cluster, &observed), plan);
    }
}

#[test]
fn a_socket_belongs_to_the_attachment_it_was_made_for_and_to_no_other_of_the_name() {
    let mut cluster = after(&begin(), &SPREAD);
    let observed = settled(&cluster);
    let (attachment, node, other) = (name("a", 0), name("n", 0), name("n", 1));
    let socket = &observed.sockets[&attachment];
    let has =
        |cluster: &Cluster, node: &palisade_words::Name| socket.wanted(cluster, node, &attachment).is_some();
    assert!(has(&cluster, &node));
    assert!(!has(&cluster, &other), "on another node");
    let now = cluster.attachments.get_mut(&attachment).expect("it is there");
    now.revision = Generation(1000);
    assert!(has(&cluster, &node), "changed");
    let now = cluster.attachments.get_mut(&attachment).expect("it is there");
    now.created = Generation(1000);
    assert!(!has(&cluster, &node), "made anew");
    cluster.attachments.remove(&attachment);
    assert!(!has(&cluster, &node), "gone");
}
