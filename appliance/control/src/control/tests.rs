//! What holds however late, often and out of order the machine is told.

use super::*;
use crate::event::TaskEnd;
use crate::testing::{Bench, SECTORS, create_volume, ended, name, opened};
use palisade_block::Fault;
use palisade_model::{Command, DeleteAttachment, DeleteVolume, GrowVolume, RemoveDisk};
use palisade_reconcile::SuperblockState;
use palisade_words::{AttachmentIndex, DeviceIndex, QueueId, VolumeIndex};

fn remove_disk(disk: &str) -> Command {
    Command::RemoveDisk(RemoveDisk {
        name: name(disk),
        expected: None,
        releases: true,
    })
}

fn delete_attachment() -> Command {
    Command::DeleteAttachment(DeleteAttachment {
        name: name("a"),
        expected: None,
    })
}

fn delete_volume() -> Command {
    Command::DeleteVolume(DeleteVolume {
        name: name("v"),
        expected: None,
        clear: Some(false),
        detaches: false,
    })
}

/// Disk `d` is open and told to go: the task that reactors are to acknowledge.
fn being_closed() -> (Bench, TaskId) {
    let mut bench = Bench::new();
    bench.settle();
    bench.apply(remove_disk("d"));
    bench.changed();
    let task = bench.asked();
    (bench, task)
}

#[test]
fn a_volume_is_offered_over_a_route_over_an_open_disk() {
    let mut bench = Bench::new();
    bench.apply(create_volume("v", 20));
    bench.attach("a");
    bench.changed();
    let (task, work) = bench.work();
    let is_first_try =
        |work: &Work| matches!(work, Work::OpenDisk { is_short, is_again, .. } if *is_short && !is_again);
    assert!(is_first_try(&work), "{work:?}");
    assert!(bench.told().is_empty());
    bench.finish(task, Ok(opened(SuperblockState::Missing)));
    let is_use = |effect: &Effect| matches!(effect, Effect::UseDevice { device } if device.0 == 0);
    let is_told = |effect: &Effect| matches!(effect, Effect::Tell { .. });
    let [used, first_told] =
        [&is_use as &dyn Fn(&Effect) -> bool, &is_told].map(|is| bench.effects.iter().position(is));
    assert!(used.is_some() && used < first_told, "{:?}", bench.effects);
    let told = bench.told();
    let routes: Vec<_> = told
        .iter()
        .filter_map(|(reactor, task, change)| match change {
            ReactorChange::Resume { volume, .. } => Some((reactor.0, *task, *volume)),
            _ => None,
        })
        .collect();
    let [(0, Some(task), volume), (1, Some(other), _)] = routes[..] else {
        panic!("{routes:?}");
    };
    assert_eq!((task, volume), (other, VolumeIndex(0)));
    bench.acknowledge(task, 1);
    assert!(bench.works().is_empty(), "one reactor has no route yet");
    bench.acknowledge(task, 0);
    let (task, work) = bench.work();
    assert!(matches!(work, Work::OfferSocket { .. }), "{work:?}");
    bench.finish(task, Ok(ended(&work)));
    assert!(bench.control.under_way.is_empty() && bench.control.strays == 0);
    assert_eq!(bench.control.due(), None, "it sleeps");
}

/// One reactor knows of something newer: the step is not done, whatever the other says, and comes again.
#[test]
fn a_route_that_a_reactor_refuses_is_planned_again() {
    let mut bench = Bench::new();
    bench.apply(create_volume("v", 20));
    bench.attach("a");
    bench.changed();
    let (task, _) = bench.work();
    bench.finish(task, Ok(opened(SuperblockState::Missing)));
    let route = |bench: &mut Bench| {
        let told = bench.told().into_iter();
        let route = |(_, task, change): (_, Option<TaskId>, ReactorChange)| match change {
            ReactorChange::Resume { route, .. } => task.map(|task| (task, route.generation())),
            _ => None,
        };
        told.filter_map(route).collect::<Vec<_>>()
    };
    let first = route(&mut bench);
    assert_eq!((first.len(), first[0]), (2, first[1]));
    assert_eq!(first[0].1, bench.cluster.generation, "all route by one count");
    let task = first[0].0;
    bench.acknowledge(task, 0);
    let reactor = palisade_words::ReactorIndex(1);
    bench.on(NodeEvent::Refused { task, reactor });
    bench.acknowledge(task, 1);
    assert_eq!(bench.control.strays, 1, "it comes too late");
    assert!(bench.works().is_empty(), "nothing is offered");
    let due = bench.control.due().expect("another try");
    bench.now = due;
    bench.changed();
    let second = route(&mut bench);
    assert_eq!(second.len(), 2);
    assert_ne!(second[0].0, task);
}

/// What is closed is used by nobody.
#[test]
fn a_device_is_closed_when_every_reactor_has_let_go_of_it() {
    let (mut bench, task) = being_closed();
    for _ in 0..3 {
        bench.acknowledge(task, 0);
        assert!(bench.works().is_empty(), "reactor 1 still uses it");
    }
    // An end of work is no acknowledgement.
    bench.finish(task, Ok(TaskEnd::Done));
    assert!(bench.works().is_empty() && bench.control.observed.disks.contains_key(&name("d")));
    assert_eq!(bench.control.strays, 3);
    bench.acknowledge(task, 1);
    let (closing, work) = bench.work();
    let is_it =
        |work: &Work| matches!(work, Work::CloseDevice { device, stays, .. } if device.0 == 0 && !stays);
    assert!(is_it(&work), "{work:?}");
    // What the reactors say once more is not the end of the closing.
    bench.acknowledge(task, 0);
    bench.finish(task, Ok(TaskEnd::Done));
    assert!(bench.control.observed.disks.contains_key(&name("d")));
    assert_eq!(bench.control.strays, 5);
    bench.finish(closing, Ok(TaskEnd::Done));
    assert!(!bench.control.observed.disks.contains_key(&name("d")));
}

#[test]
fn an_end_counts_once_and_for_its_own_task() {
    let mut bench = Bench::new();
    bench.add_disk("e", 11);
    bench.changed();
    let tasks: Vec<TaskId> = bench.works().into_iter().map(|(task, _)| task).collect();
    let [first, second] = tasks[..] else {
        panic!("{tasks:?}");
    };
    assert_ne!(first, second);
    bench.finish(TaskId(77), Ok(opened(SuperblockState::Missing)));
    assert!(bench.control.disks.is_empty());
    bench.finish(second, Ok(opened(SuperblockState::Missing)));
    bench.finish(second, Ok(opened(SuperblockState::Missing)));
    bench.finish(second, Err("late".into()));
    let open: Vec<_> = bench.control.disks.keys().map(Name::as_str).collect();
    assert_eq!(open, ["e"]);
    assert!(bench.control.observed.failures.is_empty());
    assert_eq!(bench.control.strays, 3);
    // A reactor that acknowledges what is no reactor's business ends nothing.
    bench.acknowledge(first, 0);
    assert!(!bench.control.disks.contains_key(&name("d")));
    bench.finish(first, Ok(opened(SuperblockState::Missing)));
    assert_eq!(bench.control.disks[&name("d")].index, DeviceIndex(1));
}

/// A device's number is another's once its disk is closed: what is late of the one before does not concern it.
#[test]
fn a_number_that_is_given_again_is_not_let_go_by_what_was_said_of_the_one_before() {
    let (mut bench, before) = being_closed();
    bench.acknowledge(before, 0);
    bench.acknowledge(before, 1);
    bench.settle();
    bench.add_disk("e", 11);
    bench.settle();
    let open = bench
        .control
        .disks
        .iter()
        .map(|(name, open)| (name.as_str(), open.index));
    assert_eq!(open.collect::<Vec<_>>(), [("e", DeviceIndex(0))]);
    bench.apply(remove_disk("e"));
    bench.changed();
    let task = bench.asked();
    assert_ne!(task, before);
    bench.acknowledge(before, 0);
    bench.acknowledge(before, 1);
    bench.acknowledge(task, 0);
    assert!(bench.works().is_empty(), "reactor 1 still uses it");
}

#[test]
fn what_fails_is_told_once_and_tried_again_when_it_is_due() {
    let mut bench = Bench::new();
    bench.changed();
    let failures = |bench: &mut Bench| {
        let told = bench.effects.iter();
        let told = told.filter(|effect| matches!(effect, Effect::Log(LogEntry::Failed { .. })));
        let count = told.count();
        bench.effects.clear();
        count
    };
    for (attempt, wait_ms) in [(1, 100), (2, 200), (3, 400)] {
        let (task, work) = bench.work();
        let is_first = attempt == 1;
        assert!(
            matches!(&work, Work::OpenDisk { is_short, .. } if *is_short == is_first),
            "{work:?}"
        );
        bench.finish(task, Err("it is locked".into()));
        assert!(bench.works().is_empty(), "not at once");
        assert_eq!(failures(&mut bench), usize::from(is_first));
        let due = bench.now.after(Nanos::from_millis(wait_ms));
        assert_eq!(bench.control.due(), Some(due));
        bench.now = due;
        bench.changed();
    }
    let (task, _) = bench.work();
    bench.finish(task, Ok(opened(SuperblockState::Missing)));
    let told = bench.effects.iter().find_map(|effect| match effect {
        Effect::Log(LogEntry::Done { message, .. }) => Some(message.as_str()),
        _ => None,
    });
    assert_eq!(told, Some("disk d was opened, after it had failed before"));
    assert_eq!(bench.control.due(), None);
}

/// A route that is being set, and is no longer wanted before all have it.
#[test]
fn two_changes_of_one_route_are_never_under_way_together() {
    let mut bench = Bench::serving();
    bench.apply(Command::GrowVolume(GrowVolume {
        name: name("v"),
        sectors: SECTORS / 2 + 4096,
        disk: None,
        expected: None,
        clears: false,
    }));
    bench.changed();
    let growing = bench.asked();
    let offering = bench.offering("a");
    bench.apply(delete_attachment());
    bench.apply(delete_volume());
    bench.changed();
    let revoking = bench.asked();
    bench.acknowledge(revoking, 0);
    bench.acknowledge(revoking, 1);
    bench.on(NodeEvent::Detached { offering });
    for (task, work) in bench.works() {
        bench.finish(task, Ok(ended(&work)));
    }
    assert!(bench.control.attachments.is_empty());
    assert!(bench.told().is_empty(), "the route is still being set");
    bench.acknowledge(growing, 1);
    bench.acknowledge(growing, 0);
    let ending = bench.asked();
    bench.acknowledge(ending, 0);
    assert!(bench.control.observed.routes.contains_key(&name("v")));
    bench.acknowledge(ending, 1);
    assert!(bench.control.observed.routes.is_empty() && bench.control.volumes.is_empty());
}

#[test]
fn nobody_is_let_in_while_the_route_of_its_volume_is_being_ended() {
    let mut bench = Bench::serving();
    let offering = bench.offering("a");
    bench.apply(delete_attachment());
    bench.changed();
    let revoking = bench.asked();
    bench.acknowledge(revoking, 0);
    bench.acknowledge(revoking, 1);
    bench.on(NodeEvent::Detached { offering });
    for (task, work) in bench.works() {
        bench.finish(task, Ok(ended(&work)));
    }
    let ending = bench.asked();
    bench.attach("b");
    bench.changed();
    bench.acknowledge(ending, 0);
    assert!(bench.works().is_empty(), "reactor 1 is about to lose the route");
    bench.acknowledge(ending, 1);
    assert!(bench.works().is_empty(), "the route is set anew first");
    let setting = bench.asked();
    bench.acknowledge(setting, 0);
    bench.acknowledge(setting, 1);
    let (_, work) = bench.work();
    assert!(matches!(work, Work::OfferSocket { .. }), "{work:?}");
}

#[test]
fn a_disk_of_which_it_is_said_anew_where_it_is_is_not_used_as_it_was_opened() {
    let mut bench = Bench::new();
    bench.changed();
    let (task, _) = bench.work();
    let TaskEnd::Opened { look, .. } = opened(SuperblockState::Missing) else {
        panic!("it opens");
    };
    let is_agreed = false;
    bench.finish(task, Ok(TaskEnd::Opened { look, is_agreed }));
    assert!(bench.control.disks.is_empty() && bench.told().is_empty());
    let failures = &bench.control.observed.failures;
    assert!(
        failures
            .values()
            .any(|failure| failure.reason.contains("said anew"))
    );
    // The same while an operator is about to say it.
    let mut bench = Bench::new();
    bench.changed();
    let (task, _) = bench.work();
    assert!(bench.control.decide(&name("d")));
    assert!(!bench.control.decide(&name("d")), "another does so just now");
    bench.finish(task, Ok(opened(SuperblockState::Missing)));
    assert!(bench.control.disks.is_empty() && bench.works().is_empty());
    bench.control.decided(&name("d"));
    bench.changed();
    let (task, _) = bench.work();
    bench.finish(task, Ok(opened(SuperblockState::Missing)));
    assert!(bench.control.disks.contains_key(&name("d")));
}

/// What was told of a medium that may not be used is not told again by each look at it.
#[test]
fn a_medium_that_may_not_be_used_is_told_once_and_looked_at_less_and_less_often() {
    let mut bench = Bench::new();
    bench.changed();
    let mut waits = Vec::new();
    for look in 0..4 {
        let (task, _) = bench.work();
        bench.finish(task, Ok(opened(SuperblockState::Foreign)));
        let task = bench.asked();
        bench.acknowledge(task, 0);
        bench.acknowledge(task, 1);
        let (task, work) = bench.work();
        assert!(matches!(work, Work::CloseDevice { stays: true, .. }), "{work:?}");
        bench.finish(task, Ok(TaskEnd::Done));
        let told = bench.effects.iter();
        let told = told.filter(|effect| matches!(effect, Effect::Log(LogEntry::Done { .. })));
        assert_eq!(told.count(), if look == 0 { 2 } else { 0 }, "look {look}");
        bench.effects.clear();
        let age = bench.control.age_of_last_read(&name("d"), bench.now).unwrap();
        assert!(age.starts_with("it was last read 0 s ago"), "{age}");
        let due = bench.control.due().unwrap();
        waits.push(due.since(bench.now).0 / 1_000_000_000);
        bench.now = due;
        bench.changed();
    }
    assert_eq!(waits, [1, 2, 4, 8]);
}

#[test]
fn queues_go_round_about_and_only_reactors_that_have_one_are_told_of_changes() {
    let mut bench = Bench::serving();
    let attachment = bench.index("a");
    let queue = |queue| QueueId { attachment, queue };
    let (first, _) = bench.control.start_queue(queue(0)).unwrap();
    let (second, _) = bench.control.start_queue(queue(1)).unwrap();
    assert_eq!((first, second), (ReactorIndex(0), ReactorIndex(1)));
    assert_eq!(bench.control.stop_queue(queue(0)), Some(ReactorIndex(0)));
    assert_eq!(bench.control.stop_queue(queue(0)), None, "it does not run");
    assert_eq!(bench.control.least_loaded(2), 0);
    let told = bench.control.set_write_through(attachment, true);
    let is_told =
        |effect: &Effect| matches!(effect, Effect::Tell { reactor, task: None, .. } if reactor.0 == 1);
    assert!(told.len() == 1 && told.iter().all(is_told), "{told:?}");
    assert!(bench.control.set_write_through(attachment, true).is_empty());
    let unknown = QueueId {
        attachment: AttachmentIndex(9),
        queue: 0,
    };
    assert!(bench.control.start_queue(unknown).is_none());
}

/// A reactor that has taken a new route has sent what was parked, whatever the others have yet to do.
#[test]
fn what_has_parked_requests_is_known_until_their_reactor_has_taken_another_route() {
    let mut bench = Bench::serving();
    let volume = bench.control.volumes[&name("v")];
    let parked = |reactor, device, fault| NodeEvent::Parked {
        reactor: ReactorIndex(reactor),
        volume,
        device: DeviceIndex(device),
        fault,
    };
    assert_eq!(bench.control.parked_by(volume), None);
    bench.on(parked(1, 7, Fault::Gone));
    assert_eq!(bench.control.parked_by(volume), Some((None, Fault::Gone)));
    bench.on(parked(0, 0, Fault::Unreachable));
    bench.on(parked(0, 0, Fault::TimedOut));
    let disk = name("d");
    let by_disk = Some((Some(&disk), Fault::Unreachable));
    assert_eq!(bench.control.parked_by(volume), by_disk, "the first cause");
    assert_eq!(bench.control.parked_by(VolumeIndex(volume.0 + 1)), None);

    bench.effects.clear();
    bench.apply(Command::GrowVolume(GrowVolume {
        name: name("v"),
        sectors: SECTORS,
        disk: None,
        expected: None,
        clears: false,
    }));
    bench.changed();
    let task = bench.asked();
    bench.acknowledge(task, 0);
    assert_eq!(bench.control.parked_by(volume), Some((None, Fault::Gone)));
    bench.acknowledge(task, 1);
    assert_eq!(bench.control.parked_by(volume), None);
}

#[test]
fn a_disk_stands_still_until_its_device_moves_on_every_reactor() {
    let mut bench = Bench::new();
    bench.add_disk("e", 11);
    bench.settle();
    let stalled = |bench: &mut Bench, reactor, device, seconds| {
        bench.on(NodeEvent::DeviceStalled {
            reactor: ReactorIndex(reactor),
            device: DeviceIndex(device),
            oldest: Nanos::from_secs(seconds),
        });
        let derives = |effect: &Effect| matches!(effect, Effect::DeriveFindings);
        let derived = bench.effects.drain(..).filter(derives).count();
        let stalls = |disk| bench.control.has_stalled(&name(disk));
        (stalls("d"), stalls("e"), derived)
    };
    let device = bench.control.disks[&name("e")].index.0;
    assert_eq!(stalled(&mut bench, 0, device, 31), (false, true, 1));
    assert_eq!(stalled(&mut bench, 1, device, 40), (false, true, 1));
    assert_eq!(
        stalled(&mut bench, 0, device, 0),
        (false, true, 1),
        "on reactor 1"
    );
    assert_eq!(stalled(&mut bench, 1, device, 0), (false, false, 1));
    // One that has been closed since.
    assert_eq!(stalled(&mut bench, 0, 9, 31), (false, false, 0));
}

/// A descriptor that came back has nothing on it that could be late, and neither has another disk by the same number.
#[test]
fn what_stood_still_on_a_device_is_over_with_it() {
    let stalled = |bench: &mut Bench| {
        for reactor in [0, 1] {
            bench.on(NodeEvent::DeviceStalled {
                reactor: ReactorIndex(reactor),
                device: DeviceIndex(0),
                oldest: Nanos::from_secs(31),
            });
        }
        assert!(bench.control.has_stalled(&name("d")));
        bench.effects.clear();
    };
    let mut bench = Bench::new();
    bench.settle();
    stalled(&mut bench);
    bench.on(NodeEvent::DeviceBack {
        disk: name("d"),
        device: DeviceIndex(0),
        superblock: SuperblockState::Missing,
    });
    let task = bench.asked();
    bench.acknowledge(task, 0);
    assert!(
        bench.control.has_stalled(&name("d")),
        "reactor 1 has the dead one"
    );
    bench.acknowledge(task, 1);
    assert!(!bench.control.has_stalled(&name("d")));
    stalled(&mut bench);
    bench.apply(remove_disk("d"));
    bench.settle();
    bench.add_disk("e", 11);
    bench.settle();
    assert_eq!(bench.control.disks[&name("e")].index, DeviceIndex(0));
    assert!(!bench.control.has_stalled(&name("e")));
}
