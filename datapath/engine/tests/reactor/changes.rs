//! Changes under load: routes, queues and devices come and go without a request lost or straddling.

use crate::bench_of::*;
use palisade_block::mailbox::{Notice, Pace, ReactorChange, ReactorCommand};
use palisade_block::*;
use palisade_words::{AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, VolumeIndex};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

#[test]
fn a_new_route_waits_for_the_requests_of_the_old_one_and_holds_back_new_ones() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.route(2, 0);
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(
        bed.devices().seen.len(),
        1,
        "nothing new while the old route drains"
    );
    assert!(bed.notices().is_empty());
    bed.finish_all(Ok(()));
    bed.turn();
    assert!(matches!(
        bed.notices()[..],
        [Notice::RouteInUse {
            generation: Generation(2),
            ..
        }]
    ));
    bed.turn();
    assert_eq!(
        bed.devices().seen[0].lba,
        0,
        "the next request takes the new route"
    );
    bed.reactor.abandon();
}

#[test]
fn an_older_generation_changes_nothing() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.route(5, 200);
    bed.route(3, 0);
    assert_eq!(told(&mut bed), ["in use 5", "stale 5"]);
    assert_eq!(bed.stats.stale_commands.get(), 1);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(bed.devices().seen[0].lba, 200);
    bed.reactor.abandon();
}

#[test]
fn the_end_of_a_route_keeps_its_generation() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    let (volume, generation) = (VOLUME, Generation(9));
    bed.reactor.apply(ReactorChange::EndVolume { volume, generation });
    assert_eq!(told(&mut bed), ["ended 9"]);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(
        guest.answers(),
        [(1, Status::IoErr)],
        "a volume without a route is gone"
    );
    // What is said late of the volume that has ended.
    bed.route(3, 100);
    assert_eq!(told(&mut bed), ["stale 9"]);
    guest.ask(3, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(guest.answers()[1], (3, Status::IoErr));
    // Its number is given on under the same configuration, or a later one.
    bed.route(9, 100);
    assert_eq!(told(&mut bed), ["in use 9"]);
    bed.devices().at_once = Some(Ok(()));
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(guest.answers()[2], (2, Status::Ok));
}

#[test]
fn a_route_that_waits_gives_way_to_one_of_its_generation_or_newer_only() {
    for (second, takes) in [(4, 1), (5, 2), (6, 2)] {
        let mut bed = Bed::new(16, 2);
        let guest = bed.attach(QUEUE, |_| {});
        guest.ask(1, Op::Read, 0, 1, data(1));
        bed.turn();
        bed.route(5, 200);
        bed.route(second, 300);
        let refused: &[&str] = if takes == 1 { &["stale 1"] } else { &[] };
        assert_eq!(
            told(&mut bed),
            refused,
            "{second} after 5: what is in use is told"
        );
        bed.finish_all(Ok(()));
        guest.ask(2, Op::Read, 0, 1, data(1));
        bed.turn();
        assert_eq!(told(&mut bed), [format!("in use {}", second.max(5))]);
        assert_eq!(bed.devices().seen[0].lba, 100 + 100 * takes);
        bed.reactor.abandon();
    }
}

#[test]
fn a_route_in_use_gives_way_to_another_of_its_generation() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.route(1, 300);
    assert_eq!(told(&mut bed), ["in use 1"]);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(bed.devices().seen[0].lba, 300);
    bed.reactor.abandon();
}

#[test]
fn requests_of_a_volume_that_nobody_has_told_of_fail() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |settings| settings.volume = Some(VolumeIndex(7)));
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
}

#[test]
fn a_queue_that_is_told_to_stop_twice_is_given_back_once() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    (0..2).for_each(|_| bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE }));
    assert!(bed.notices().is_empty());
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(bed.notices().len(), 1);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!((bed.notices().len(), guest.answers().len()), (0, 1));
}

#[test]
fn a_queue_in_the_place_of_one_that_went_is_served_once_in_a_turn() {
    let mut bed = Bed::new(16, 2);
    bed.devices().at_once = Some(Ok(()));
    let id = |queue| QueueId { queue, ..QUEUE };
    let stays = [1, 2].map(|queue| bed.attach(id(queue), |_| {}));
    for queue in 3..6 {
        bed.attach(id(queue), |_| {});
        bed.reactor.apply(ReactorCommand::StopQueue { queue: id(queue) });
        assert_eq!(bed.notices().len(), 1);
    }
    let guests = [&stays[0], &stays[1], &bed.attach(id(6), |_| {})];
    for guest in guests {
        (0..200).for_each(|head| guest.ask(head, Op::Read, 0, 1, data(1)));
    }
    bed.turn();
    for guest in guests {
        assert_eq!(guest.answers().len(), limits::PULL_BATCH);
    }
}

#[test]
fn a_stopped_queue_answers_what_it_took_and_takes_no_more() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert!(bed.notices().is_empty());
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert!(matches!(
        bed.notices()[..],
        [Notice::QueueStopped {
            queue: QUEUE,
            source: Some(_)
        }]
    ));
    assert_eq!(
        guest.0.borrow().waiting.len(),
        1,
        "the ring keeps what was not taken"
    );
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    assert!(matches!(
        bed.notices()[..],
        [Notice::QueueStopped { source: None, .. }]
    ));
}

#[test]
fn a_stopped_queue_first_hands_over_what_its_predecessor_had_taken() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.devices().at_once = Some(Ok(()));
    for head in 0..3 {
        guest.ask(head, Op::Read, 0, 1, data(1));
    }
    guest.0.borrow_mut().backlog = 2;
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    assert!(
        bed.notices().is_empty(),
        "its place in the ring lies behind the backlog"
    );
    bed.turn();
    assert_eq!(guest.answers(), [(0, Status::Ok), (1, Status::Ok)]);
    assert!(matches!(
        bed.notices()[..],
        [Notice::QueueStopped { source: Some(_), .. }]
    ));
}

/// A backlog of more than one turn's worth, and devices that answer at once: no completion would wake who sleeps.
#[test]
fn nobody_sleeps_before_a_queue_that_stops_has_handed_over_its_backlog() {
    let mut bed = Bed::new(256, 2);
    let guest = bed.attach(QUEUE, |settings| {
        settings.pace = Pace {
            iops: 1,
            ..Pace::default()
        };
    });
    bed.devices().at_once = Some(Ok(()));
    for head in 0..100 {
        guest.ask(head, Op::Read, 0, 1, data(1));
    }
    guest.0.borrow_mut().backlog = 80;
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    let mut turns = 0;
    while bed.reactor.arm() {
        bed.turn();
        turns += 1;
        assert!(turns < 10, "nor does anybody stay awake for nothing");
    }
    assert_eq!(guest.answers().len(), 80, "no limit holds it back either");
    assert!(matches!(
        bed.notices()[..],
        [Notice::QueueStopped { source: Some(_), .. }]
    ));
}

#[test]
fn a_hungry_queue_leaves_slots_for_its_neighbour() {
    let mut bed = Bed::new(64, 2);
    let hungry = bed.attach(QUEUE, |_| {});
    for head in 0..200 {
        hungry.ask(head, Op::Read, 0, 1, data(1));
    }
    for _ in 0..20 {
        bed.turn();
    }
    assert_eq!(bed.devices().seen.len(), 32, "half of the slots");
    let modest = bed.attach(
        QueueId {
            attachment: AttachmentIndex(1),
            queue: 0,
        },
        |_| {},
    );
    modest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 33);
    bed.reactor.abandon();
}

#[test]
fn a_hung_device_leaves_slots_for_a_healthy_one() {
    let mut bed = Bed::new(16, 2);
    let run = |device| Run {
        volume: Lba(0),
        sectors: Sectors(500),
        device: DeviceIndex(device),
        lba: Lba(0),
    };
    for (volume, device) in [(VolumeIndex(1), 0), (VolumeIndex(2), 1)] {
        let generation = Generation(1);
        let route = Route::new(mapping_of(generation, Epoch(1)), vec![run(device)]).unwrap();
        bed.reactor.apply(ReactorChange::Resume { volume, route });
    }
    for guest in 0..20 {
        let queue = QueueId {
            attachment: AttachmentIndex(guest),
            queue: 0,
        };
        let hungry = bed.attach(queue, |settings| settings.volume = Some(VolumeIndex(1)));
        (0..8).for_each(|head| hungry.ask(head, Op::Read, 0, 1, data(1)));
        bed.turn();
    }
    let hung = bed.devices().seen.len();
    assert!(hung < 16, "all slots are held by a device that hangs");
    assert!(!bed.reactor.arm(), "nobody spins for those that wait for it");
    let healthy = QueueId {
        attachment: AttachmentIndex(99),
        queue: 0,
    };
    let healthy = bed.attach(healthy, |settings| settings.volume = Some(VolumeIndex(2)));
    healthy.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(bed.devices().seen.len(), hung + 1);
    bed.reactor.abandon();
}

#[test]
fn turns_take_from_every_queue_and_publish_once_each() {
    let mut bed = Bed::new(1024, 2);
    bed.devices().at_once = Some(Ok(()));
    let queues: Vec<_> = (0..4)
        .map(|queue| {
            bed.attach(
                QueueId {
                    attachment: AttachmentIndex(0),
                    queue,
                },
                |_| {},
            )
        })
        .collect();
    for queue in &queues {
        (0..100).for_each(|head| queue.ask(head, Op::Read, 0, 1, data(1)));
    }
    bed.turn();
    for queue in &queues {
        assert_eq!(queue.answers().len(), limits::PULL_BATCH);
        assert_eq!(queue.0.borrow().publications, 1);
    }
}

/// Memory of which a test sees when it goes.
fn own_memory() -> (Lease, std::sync::Weak<[AtomicU64]>) {
    let words: Arc<[AtomicU64]> = (0..1024).map(|_| AtomicU64::new(0)).collect();
    let gone = Arc::downgrade(&words);
    (Lease::of_words(words), gone)
}

#[test]
fn the_devices_keep_a_queues_memory_from_its_coming_until_its_last_answer() {
    let mut bed = Bed::new(16, 1);
    let (lease, gone) = own_memory();
    let guest = bed.attach_with(QUEUE, &lease);
    guest.ask(1, Op::Write, 0, 8, vec![lease.regions()[0].first(4096)]);
    bed.turn();
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    bed.turn();
    let keeps = |bed: &mut Bed| bed.devices().kept.iter().any(|(_, kept, _)| kept.is(&lease));
    assert!(keeps(&mut bed), "an operation is on it");
    bed.finish_all(Ok(()));
    bed.turn();
    assert!(!keeps(&mut bed));
    let stopped = bed.notices();
    assert!(matches!(
        &stopped[..],
        [Notice::QueueStopped {
            queue: QUEUE,
            source: Some(_)
        }]
    ));
    drop((guest, stopped, lease));
    assert!(gone.upgrade().is_none(), "the reactor keeps nothing of it");
}

/// An operation may be taken, and not be handed to the kernel yet, when the reactor is given up.
#[test]
fn a_reactor_that_is_given_up_leaves_the_devices_the_memory_of_what_is_in_flight() {
    let mut bed = Bed::new(16, 1);
    let (lease, gone) = own_memory();
    let guest = bed.attach_with(QUEUE, &lease);
    guest.ask(1, Op::Write, 0, 8, vec![lease.regions()[0].first(4096)]);
    bed.turn();
    drop((guest, lease));
    let devices = bed.reactor.abandon();
    assert!(gone.upgrade().is_some(), "its operation has not ended");
    drop(devices);
    assert!(gone.upgrade().is_none());
}

#[test]
fn a_volume_does_not_end_in_an_older_configuration() {
    let mut bed = Bed::new(16, 2);
    bed.route(3, 0);
    let (volume, generation) = (VOLUME, Generation(2));
    bed.reactor.apply(ReactorChange::EndVolume { volume, generation });
    assert_eq!(told(&mut bed), ["in use 3", "stale 3"]);
    assert_eq!(bed.stats.stale_commands.get(), 1);
}
