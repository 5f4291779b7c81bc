//! Changes under load: routes, queues and devices come and go without a request lost or straddling.

use crate::bench_of::*;
use palisade_block::mailbox::{AttachmentSettings, Command, Notice, Pace};
use palisade_block::*;
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
    let notices = bed.notices();
    assert!(matches!(
        notices[..],
        [
            Notice::RouteInUse {
                generation: Generation(5),
                ..
            },
            Notice::RouteInUse {
                generation: Generation(5),
                ..
            }
        ]
    ));
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(bed.devices().seen[0].lba, 200);
    bed.reactor.abandon();
}

#[test]
fn after_its_end_a_route_may_begin_again_at_any_generation() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    let (volume, generation) = (VOLUME, Generation(9));
    bed.reactor.apply(Command::SetRoute {
        volume,
        route: None,
        generation,
    });
    assert!(matches!(
        bed.notices()[..],
        [Notice::RouteInUse {
            generation: Generation(9),
            ..
        }]
    ));
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(
        guest.answers(),
        [(1, Status::IoErr)],
        "a volume without a route is gone"
    );
    bed.route(3, 100);
    assert!(matches!(
        bed.notices()[..],
        [Notice::RouteInUse {
            generation: Generation(3),
            ..
        }]
    ));
    bed.devices().at_once = Some(Ok(()));
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(guest.answers()[1], (2, Status::Ok));
}

/// What a route in use is told as.
fn in_use(bed: &mut Bed) -> Vec<u64> {
    let told = bed.notices().into_iter().map(|notice| match notice {
        Notice::RouteInUse { generation, .. } => generation.0,
        other => unreachable!("{other:?}"),
    });
    told.collect()
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
        let refused: &[u64] = if takes == 1 { &[1] } else { &[] };
        assert_eq!(
            in_use(&mut bed),
            refused,
            "{second} after 5: what is in use is told"
        );
        bed.finish_all(Ok(()));
        guest.ask(2, Op::Read, 0, 1, data(1));
        bed.turn();
        assert_eq!(in_use(&mut bed), [second.max(5)]);
        assert_eq!(bed.devices().seen[0].lba, 100 + 100 * takes);
        bed.reactor.abandon();
    }
}

#[test]
fn a_route_in_use_gives_way_to_another_of_its_generation() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.route(1, 300);
    assert_eq!(in_use(&mut bed), [1]);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(bed.devices().seen[0].lba, 300);
    bed.reactor.abandon();
}

#[test]
fn requests_of_a_volume_that_nobody_has_told_of_fail() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |settings| settings.volume = VolumeIndex(7));
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
}

/// Settings with a limit on requests and none on bursts.
fn paced(iops: u64) -> AttachmentSettings {
    let pace = Pace {
        iops,
        ..Pace::default()
    };
    AttachmentSettings {
        volume: VOLUME,
        revoked: false,
        read_only: false,
        write_through: false,
        pace,
        stats: Arc::default(),
    }
}

#[test]
fn what_was_drawn_from_a_limit_is_not_spent_under_the_next_one() {
    let mut bed = Bed::new(64, 2);
    bed.devices().at_once = Some(Ok(()));
    bed.now = 5_000_000;
    // It draws 50 requests at once.
    let guest = bed.attach(QUEUE, |settings| *settings = paced(1_000_000));
    guest.ask(0, Op::Read, 0, 1, data(1));
    bed.turn();
    let settings = paced(1000);
    let attachment = QUEUE.attachment;
    bed.reactor.apply(Command::SetAttachment { attachment, settings });
    (1..11).for_each(|head| guest.ask(head, Op::Read, 0, 1, data(1)));
    bed.turn();
    assert_eq!(guest.answers().len(), 2);
}

#[test]
fn an_attachments_settings_are_those_of_all_its_queues_and_of_no_other() {
    let mut bed = Bed::new(64, 2);
    bed.devices().at_once = Some(Ok(()));
    let id = |attachment, queue| QueueId {
        attachment: AttachmentIndex(attachment),
        queue,
    };
    let guests = [id(0, 0), id(0, 1), id(1, 0)].map(|queue| bed.attach(queue, |_| {}));
    let settings = AttachmentSettings {
        read_only: true,
        ..paced(0)
    };
    let attachment = AttachmentIndex(0);
    bed.reactor.apply(Command::SetAttachment { attachment, settings });
    for guest in &guests {
        guest.ask(1, Op::Write, 0, 1, data(1));
    }
    bed.turn();
    let statuses = guests.map(|guest| guest.answers()[0].1);
    assert_eq!(statuses, [Status::IoErr, Status::IoErr, Status::Ok]);
}

#[test]
fn a_queue_that_is_told_to_stop_twice_is_given_back_once() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    (0..2).for_each(|_| bed.reactor.apply(Command::StopQueue { queue: QUEUE }));
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
fn a_stopped_queue_answers_what_it_took_and_takes_no_more() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.reactor.apply(Command::StopQueue { queue: QUEUE });
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
    bed.reactor.apply(Command::StopQueue { queue: QUEUE });
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
    bed.reactor.apply(Command::StopQueue { queue: QUEUE });
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
    bed.reactor.apply(Command::StopQueue { queue: QUEUE });
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
        let route = Route::new(generation, Epoch(1), vec![run(device)]).unwrap();
        bed.reactor.apply(Command::SetRoute {
            volume,
            route: Some(route),
            generation,
        });
    }
    for guest in 0..20 {
        let queue = QueueId {
            attachment: AttachmentIndex(guest),
            queue: 0,
        };
        let hungry = bed.attach(queue, |settings| settings.volume = VolumeIndex(1));
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
    let healthy = bed.attach(healthy, |settings| settings.volume = VolumeIndex(2));
    healthy.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(bed.devices().seen.len(), hung + 1);
    bed.reactor.abandon();
}

#[test]
fn a_limit_holds_requests_in_the_ring_and_tells_when_it_ends() {
    let mut bed = Bed::new(64, 2);
    let guest = bed.attach(QUEUE, |settings| {
        settings.pace = Pace {
            iops: 1000,
            burst: Nanos(0),
            ..Pace::default()
        };
    });
    bed.devices().at_once = Some(Ok(()));
    bed.now = 5_000_000;
    (0..3).for_each(|head| guest.ask(head, Op::Read, 0, 1, data(1)));
    bed.turn();
    assert_eq!(guest.answers().len(), 1);
    assert!(
        !bed.reactor.arm(),
        "a held request does not keep the reactor awake"
    );
    assert_eq!(bed.reactor.due(), Some(Nanos(6_000_001)));
    bed.now = 6_000_001;
    bed.turn();
    assert_eq!(guest.answers().len(), 2);
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
    bed.reactor.apply(Command::StopQueue { queue: QUEUE });
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

fn revoke(bed: &mut Bed) {
    bed.reactor.apply(Command::Revoke {
        attachment: QUEUE.attachment,
    });
}

fn is_revoked(notices: &[Notice<Script>]) -> bool {
    matches!(notices, [Notice::Revoked { attachment }] if *attachment == QUEUE.attachment)
}

#[test]
fn what_is_asked_of_a_volume_taken_away_ends_with_an_error_and_what_was_taken_before_goes_on() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Write, 0, 1, data(1));
    bed.turn();
    revoke(&mut bed);
    for (key, op) in (2..).zip([Op::Read, Op::Write, Op::Flush, Op::Discard]) {
        let sectors = if op == Op::Flush { 0 } else { 1 };
        guest.ask(key, op, 0, sectors, data(if op.moves_data() { 1 } else { 0 }));
    }
    bed.turn();
    assert_eq!(
        guest.answers(),
        (2..6).map(|key| (key, Status::IoErr)).collect::<Vec<_>>(),
        "they do not wait for the one before"
    );
    assert!(bed.notices().is_empty(), "one is on the volume yet");
    assert_eq!(bed.devices().seen.len(), 1);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(guest.answers()[4], (1, Status::Ok));
    assert!(is_revoked(&bed.notices()));
}

#[test]
fn a_number_used_again_is_not_the_volume_that_was_taken_away() {
    let mut bed = Bed::new(16, 2);
    let (old, new) = (
        bed.attach(QUEUE, |_| {}),
        QueueId {
            attachment: AttachmentIndex(7),
            ..QUEUE
        },
    );
    revoke(&mut bed);
    assert!(is_revoked(&bed.notices()), "nothing is in flight");
    let (volume, generation) = (VOLUME, Generation(9));
    bed.reactor.apply(Command::SetRoute {
        volume,
        route: None,
        generation,
    });
    bed.route(3, 200);
    let new = bed.attach(new, |_| {});
    let again = QueueId { queue: 1, ..QUEUE };
    let late = bed.attach(again, |settings| settings.revoked = true);
    // Settings that know nothing of it give nothing back.
    bed.reactor.apply(Command::SetAttachment {
        attachment: QUEUE.attachment,
        settings: palisade_block::mailbox::AttachmentSettings {
            volume: VOLUME,
            revoked: false,
            read_only: false,
            write_through: true,
            pace: Pace::default(),
            stats: Arc::default(),
        },
    });
    for guest in [&old, &new, &late] {
        guest.ask(1, Op::Write, 0, 1, data(1));
    }
    bed.turn();
    assert_eq!(old.answers(), [(1, Status::IoErr)]);
    // The second queue was told of its settings, too, and of itself at its beginning.
    assert_eq!(late.answers(), [(1, Status::IoErr)]);
    let seen: Vec<_> = bed.devices().seen.iter().map(|io| io.lba).collect();
    assert_eq!(seen, [200], "only the one that is attached");
    // A change of the route holds up the new one, and not the old.
    bed.route(4, 300);
    old.ask(2, Op::Read, 0, 1, data(1));
    new.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(old.answers()[1..], [(2, Status::IoErr)]);
    assert_eq!(bed.devices().seen.len(), 1);
    bed.finish_all(Ok(()));
    bed.turn();
    assert_eq!(new.answers(), [(1, Status::Ok)]);
    bed.reactor.abandon();
}

#[test]
fn taking_away_is_acknowledged_without_queues_and_when_they_stop() {
    let mut bed = Bed::new(16, 2);
    revoke(&mut bed);
    assert!(is_revoked(&bed.notices()), "there is no queue of it here");
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    revoke(&mut bed);
    bed.reactor.apply(Command::StopQueue { queue: QUEUE });
    assert!(bed.notices().is_empty());
    bed.finish_all(Ok(()));
    bed.turn();
    let notices = bed.notices();
    let stopped = |notice: &Notice<Script>| matches!(notice, Notice::QueueStopped { source: Some(_), .. });
    assert!(notices.len() == 2 && stopped(&notices[0]), "each is told");
    assert!(is_revoked(&notices[1..]));
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

#[test]
fn what_is_refused_does_not_wait_for_a_route_that_changes() {
    let mut bed = Bed::new(16, 2);
    let (old, new) = (
        bed.attach(QUEUE, |_| {}),
        QueueId {
            attachment: AttachmentIndex(7),
            ..QUEUE
        },
    );
    let new = bed.attach(new, |_| {});
    new.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    revoke(&mut bed);
    bed.route(2, 0);
    old.ask(1, Op::Read, 0, 1, data(1));
    assert!(bed.reactor.arm(), "it can be refused at once");
    bed.reactor.disarm();
    bed.turn();
    assert_eq!(old.answers(), [(1, Status::IoErr)]);
    new.ask(2, Op::Read, 0, 1, data(1));
    assert!(!bed.reactor.arm(), "this one waits for the route");
    bed.reactor.abandon();
}
