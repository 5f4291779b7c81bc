//! A volume's mapping changes: suspended, drained, agreed on or given up, whatever is lost, late or said twice.

use crate::bench_of::*;
use palisade_block::mailbox::{Notice, ReactorChange, ReactorCommand};
use palisade_block::*;
use palisade_engine::{RETRY_AFTER, ReactorConfig};
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, VolumeIndex};

/// Another volume.
const OTHER: VolumeIndex = VolumeIndex(1);

/// All that devices have ends so.
pub fn end(bed: &mut Bed, result: Result<(), Fault>) {
    bed.finish_all(result);
    bed.turn();
}

/// Answers everything until nothing is asked for any more.
pub fn finish(bed: &mut Bed) {
    for _ in 0..400 {
        end(bed, Ok(()));
    }
    assert!(bed.devices().seen.is_empty());
    assert!(is_at_rest(bed));
}

/// Nothing is in flight, parked or held up.
pub fn is_at_rest(bed: &Bed) -> bool {
    let (in_flight, parked) = (bed.reactor.in_flight(), bed.stats.parked.get());
    in_flight == 0 && parked == 0 && !bed.reactor.is_held_up()
}

/// Where devices have been asked for something since all that they had was ended.
pub fn lbas(bed: &mut Bed) -> Vec<u64> {
    bed.devices().seen.iter().map(|seen| seen.lba).collect()
}

/// A queue is to stop, and soon.
pub fn leave(bed: &mut Bed, queue: QueueId) {
    bed.reactor.apply(ReactorCommand::StopQueue { queue });
    bed.reactor.apply(ReactorCommand::LeaveQueue { queue });
}

/// A queue has just been given back, and nothing else has been told.
pub fn is_given_back(bed: &mut Bed) -> bool {
    matches!(bed.notices()[..], [Notice::QueueStopped { source: Some(_), .. }])
}

#[test]
fn a_volume_is_suspended_when_no_device_has_anything_of_it() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.suspend(2);
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert!(told(&mut bed).is_empty(), "a device has the first");
    end(&mut bed, Ok(()));
    assert_eq!(told(&mut bed), ["suspended 2"]);
    assert_eq!(guest.answers(), [(1, Status::Ok)], "what was begun ends as ever");
    for _ in 0..3 {
        bed.turn();
    }
    assert_eq!(guest.0.borrow().waiting.len(), 1, "the ring keeps the other");
    assert!(!bed.reactor.arm(), "nobody stays awake for it");
    bed.route(2, 0);
    assert_eq!(told(&mut bed), ["in use 2"]);
    bed.turn();
    assert_eq!(lbas(&mut bed), [0], "by the new route");
    bed.reactor.abandon();
}

#[test]
fn a_change_that_is_given_up_lets_the_old_route_go_on() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.suspend(2);
    assert_eq!(told(&mut bed), ["suspended 2"]);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert!(bed.devices().seen.is_empty());
    bed.cancel(2);
    assert_eq!(told(&mut bed), ["cancelled 2"]);
    bed.turn();
    assert_eq!(lbas(&mut bed), [100]);
    finish(&mut bed);
    // Whatever comes late of it, or is said twice.
    bed.suspend(2);
    bed.route(2, 0);
    bed.cancel(2);
    assert_eq!(told(&mut bed), ["stale 1", "stale 1", "cancelled 2"]);
    assert_eq!(bed.stats.stale_commands.get(), 2);
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(lbas(&mut bed), [100]);
    bed.reactor.abandon();
}

#[test]
fn a_change_that_is_given_up_before_it_is_heard_of_is_never_begun() {
    let mut bed = Bed::new(16, 2);
    bed.cancel(4);
    bed.suspend(4);
    bed.suspend(3);
    assert_eq!(told(&mut bed), ["cancelled 4", "stale 1", "stale 1"]);
    // The route in force may be said again, of other devices perhaps, and the next change comes as ever.
    bed.route(1, 300);
    bed.suspend(5);
    bed.route(5, 0);
    assert_eq!(told(&mut bed), ["in use 1", "suspended 5", "in use 5"]);
}

#[test]
fn what_is_decided_is_not_given_up_again() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.suspend(2);
    bed.route(2, 0);
    bed.cancel(2);
    bed.suspend(2);
    assert_eq!(told(&mut bed), ["stale 1", "stale 1"]);
    end(&mut bed, Ok(()));
    assert_eq!(
        told(&mut bed),
        ["in use 2"],
        "and it is not suspended for it again"
    );
    bed.cancel(2);
    assert_eq!(told(&mut bed), ["stale 2"]);
}

#[test]
fn a_suspension_that_is_asked_for_twice_is_told_twice() {
    let mut bed = Bed::new(16, 2);
    bed.suspend(2);
    bed.suspend(2);
    assert_eq!(told(&mut bed), ["suspended 2", "suspended 2"]);
    bed.turn();
    assert!(told(&mut bed).is_empty());
}

/// What came of change 2 is not known here: the others may have gone by it.
#[test]
fn the_old_route_does_not_go_on_when_the_decision_on_a_change_was_lost() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.suspend(2);
    bed.suspend(3);
    bed.cancel(3);
    assert_eq!(
        told(&mut bed),
        ["suspended 2", "suspended 3", "suspended 3"],
        "it goes on to wait"
    );
    bed.cancel(2);
    assert_eq!(told(&mut bed), ["stale 1"]);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert!(bed.devices().seen.is_empty());
    bed.route(4, 0);
    assert_eq!(told(&mut bed), ["in use 4"]);
    bed.turn();
    assert_eq!(lbas(&mut bed), [0]);
    bed.reactor.abandon();
}

/// The same when the change that is given up has never been heard of here.
#[test]
fn a_newer_change_that_is_given_up_says_nothing_about_the_one_announced() {
    let mut bed = Bed::new(16, 2);
    bed.suspend(2);
    bed.cancel(3);
    assert_eq!(told(&mut bed), ["suspended 2", "suspended 3"]);
    bed.cancel(3);
    assert_eq!(told(&mut bed), ["suspended 3"]);
    bed.route(4, 0);
    assert_eq!(told(&mut bed), ["in use 4"]);
}

#[test]
fn a_change_announced_behind_one_that_waits_for_devices_follows_it() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.route(2, 0);
    bed.suspend(3);
    assert!(told(&mut bed).is_empty());
    bed.finish_all(Ok(()));
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(told(&mut bed), ["in use 2", "suspended 3"]);
    bed.turn();
    assert!(bed.devices().seen.is_empty());
    bed.cancel(3);
    bed.turn();
    assert_eq!(lbas(&mut bed), [0]);
    bed.reactor.abandon();
}

#[test]
fn a_suspended_volume_may_end() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.suspend(2);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    let (volume, generation) = (VOLUME, Generation(2));
    bed.reactor.apply(ReactorChange::EndVolume { volume, generation });
    bed.turn();
    assert_eq!(told(&mut bed), ["suspended 2", "ended 2"]);
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
}

#[test]
fn a_route_of_an_older_membership_changes_nothing() {
    let mut bed = Bed::new(16, 2);
    let route = |generation, epoch| {
        let run = Run {
            volume: Lba(0),
            sectors: Sectors(500),
            device: DeviceIndex(0),
            lba: Lba(0),
        };
        Route::new(mapping_of(Generation(generation), Epoch(epoch)), vec![run]).expect("one run")
    };
    bed.resume(OTHER, route(2, 3));
    bed.resume(VOLUME, route(5, 2));
    let notices = bed.notices();
    let [
        Notice::RouteInUse { .. },
        Notice::Stale {
            volume,
            generation,
            epoch,
        },
    ] = notices[..]
    else {
        panic!("{notices:?}")
    };
    assert_eq!((volume, generation, epoch), (VOLUME, Generation(1), Epoch(3)));
    assert_eq!(bed.stats.stale_commands.get(), 1);
    bed.resume(VOLUME, route(5, 3));
    assert_eq!(told(&mut bed), ["in use 5"]);
}

/// A request that no device has is not waited for: it is parked, and goes by the route that comes.
#[test]
fn what_found_its_device_busy_is_parked_and_sent_by_the_new_route() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.devices().busy = true;
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.suspend(2);
    assert_eq!(told(&mut bed), ["suspended 2"], "at once");
    assert_eq!((bed.stats.parked.get(), bed.reactor.in_flight()), (1, 1));
    bed.devices().busy = false;
    bed.turn();
    assert!(bed.devices().seen.is_empty() && !bed.reactor.is_held_up());
    bed.route(2, 0);
    assert_eq!((bed.stats.parked.get(), bed.reactor.is_held_up()), (0, true));
    assert!(bed.reactor.arm(), "it is to be sent");
    assert!(bed.reactor.due() <= Some(Nanos(bed.now).after(RETRY_AFTER)));
    bed.turn();
    assert_eq!(lbas(&mut bed), [0]);
    finish(&mut bed);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

/// Of what is in pieces the pieces begun are waited for, and it is sent again whole: also the one that was done.
#[test]
fn a_request_in_pieces_is_parked_when_its_pieces_are_back_and_sent_again_whole() {
    for cancelled in [false, true] {
        let mut bed = Bed::new(16, 2);
        let guest = bed.attach(QUEUE, |_| {});
        bed.devices().busy_device = Some(1);
        guest.ask(1, Op::Write, 490, 20, data(20));
        bed.turn();
        assert_eq!(lbas(&mut bed), [590], "the second piece finds its device busy");
        bed.suspend(2);
        bed.turn();
        assert!(told(&mut bed).is_empty(), "a device has the first piece");
        bed.finish_all(Ok(()));
        bed.devices().busy_device = None;
        bed.turn();
        assert_eq!(told(&mut bed), ["suspended 2"]);
        assert!(bed.devices().seen.is_empty());
        match cancelled {
            true => bed.cancel(2),
            false => bed.route(2, 0),
        }
        bed.turn();

        let first = if cancelled { 590 } else { 490 };
        assert_eq!(lbas(&mut bed), [first, 0]);
        finish(&mut bed);
        assert_eq!(guest.answers(), [(1, Status::Ok)]);
    }
}

/// The last piece has been begun: nothing of it is left to be parked.
#[test]
fn a_request_whose_pieces_are_all_begun_ends_while_its_volume_is_drained() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Write, 490, 20, data(20));
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 2);
    bed.suspend(2);
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert_eq!(told(&mut bed), ["suspended 2"]);
}

/// A bed whose volume is one large device, and a guest whose request is begun in part.
fn begun_in_part(remembers: bool) -> (Bed, Script) {
    let config = ReactorConfig {
        slots: 16,
        parts: 64,
        long: 4,
        watch_every: Nanos(u64::MAX / 2),
    };
    let mut bed = Bed::of(config, 2);
    bed.devices().limits[0].sectors = Sectors(1 << 20);
    bed.give_device(VOLUME, 0, Nanos(u64::MAX / 2));
    let guest = bed.attach(QUEUE, |_| {});
    guest.0.borrow_mut().remembers = remembers;
    guest.ask(1, Op::Read, 0, 64 << 11, data(64 << 11));
    bed.turn();
    assert!(!bed.devices().seen.is_empty() && bed.reactor.is_held_up());
    bed.suspend(3);
    end(&mut bed, Ok(()));
    assert_eq!(told(&mut bed), ["suspended 3"]);
    assert_eq!((bed.stats.parked.get(), bed.reactor.is_held_up()), (1, false));
    (bed, guest)
}

/// It rested, and nothing was taken from its queue meanwhile: what holds a queue back lets go of it.
#[test]
fn what_rests_is_parked_and_its_queue_is_served_by_and_by() {
    let (mut bed, guest) = begun_in_part(false);
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.cancel(3);
    finish(&mut bed);
    let mut answers = guest.answers();
    answers.sort_by_key(|answer| answer.0);
    assert_eq!(answers, [(1, Status::Ok), (2, Status::Ok)]);
}

#[test]
fn a_queue_that_stops_waits_for_the_decision_about_what_is_parked() {
    let (mut bed, guest) = begun_in_part(false);
    leave(&mut bed, QUEUE);
    bed.turn();
    assert!(
        bed.notices().is_empty(),
        "it does not come again, so it is answered"
    );
    bed.cancel(3);
    finish(&mut bed);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert!(matches!(
        bed.notices()[..],
        [
            Notice::Cancelled { .. },
            Notice::QueueStopped { source: Some(_), .. }
        ]
    ));
}

#[test]
fn what_is_parked_is_left_with_its_queue() {
    let (mut bed, guest) = begun_in_part(true);
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    assert!(bed.notices().is_empty());
    leave(&mut bed, QUEUE);
    assert!(is_given_back(&mut bed));
    assert!(is_at_rest(&bed));
    bed.route(3, 0);
    assert_eq!(told(&mut bed), ["in use 3"]);
    bed.turn();
    assert!(bed.devices().seen.is_empty() && guest.answers().is_empty());
}

#[test]
fn what_is_parked_ends_when_the_volume_is_taken_away() {
    let (mut bed, guest) = begun_in_part(false);
    let attachment = QUEUE.attachment;
    bed.reactor.apply(ReactorChange::Revoke { attachment });
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    assert!(matches!(bed.notices()[..], [Notice::Revoked { .. }]));
    assert!(is_at_rest(&bed));
    bed.cancel(3);
    assert_eq!(told(&mut bed), ["cancelled 3"]);
    bed.turn();
    assert!(bed.devices().seen.is_empty());
}

/// What is released and not yet sent is taken back by the next suspension.
#[test]
fn a_suspension_after_a_release_parks_again_what_has_not_been_sent() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.devices().busy = true;
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.suspend(2);
    bed.route(2, 0);
    bed.suspend(3);
    assert_eq!(told(&mut bed), ["suspended 2", "in use 2", "suspended 3"]);
    assert_eq!((bed.stats.parked.get(), bed.reactor.is_held_up()), (1, false));
    bed.devices().busy = false;
    bed.turn();
    assert!(bed.devices().seen.is_empty());
    bed.cancel(3);
    bed.turn();
    assert_eq!(lbas(&mut bed), [0]);
    finish(&mut bed);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

/// A hundred that wait for their device are sent in turns.
#[test]
fn many_that_are_released_at_once_are_sent_a_few_in_a_turn() {
    let mut bed = Bed::new(512, 2);
    bed.devices().busy = true;
    let guest = bed.attach(QUEUE, |_| {});
    (0..100).for_each(|head| guest.ask(head, Op::Read, 0, 1, data(1)));
    for _ in 0..8 {
        bed.turn();
    }
    bed.suspend(2);
    assert_eq!((told(&mut bed).len(), bed.stats.parked.get()), (1, 100));
    bed.devices().busy = false;
    bed.devices().at_once = Some(Ok(()));
    bed.cancel(2);
    let mut answered = Vec::new();
    for _ in 0..5 {
        bed.turn();
        answered.push(guest.answers().len());
    }
    assert_eq!(answered, [32, 64, 96, 100, 100]);
}

/// What a bounce buffer or a part was waited for is parked as well, and its place in the line goes.
#[test]
fn what_waits_for_a_buffer_is_parked() {
    let mut bed = Bed::new(16, 1);
    let guest = bed.attach(QUEUE, |_| {});
    let odd = |at: usize| vec![piece(at + 1, 512)];
    guest.ask(1, Op::Read, 0, 1, odd(0));
    guest.ask(2, Op::Read, 8, 1, odd(4096));
    bed.turn();
    assert_eq!(bed.devices().seen.len(), 1, "one buffer");
    bed.suspend(2);
    end(&mut bed, Ok(()));
    assert_eq!(told(&mut bed), ["suspended 2"]);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    bed.route(2, 0);
    bed.turn();
    assert_eq!(lbas(&mut bed), [8]);
    finish(&mut bed);
    assert_eq!(guest.answers(), [(1, Status::Ok), (2, Status::Ok)]);
}

#[test]
fn a_part_that_found_its_device_busy_gives_its_buffer_back() {
    let mut bed = Bed::new(16, 1);
    let guest = bed.attach(QUEUE, |_| {});
    bed.devices().busy = true;
    guest.ask(1, Op::Write, 0, 1, vec![piece(1, 512)]);
    bed.turn();
    assert_eq!(bed.stats.buffers_used.get(), 1);
    bed.suspend(2);
    assert_eq!(told(&mut bed), ["suspended 2"]);
    assert_eq!(bed.stats.buffers_used.get(), 0);
    bed.devices().busy = false;
    bed.cancel(2);
    bed.turn();
    assert_eq!(lbas(&mut bed), [100]);
    finish(&mut bed);
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

/// Its piece was taken back before, and nothing of that is left behind for whoever has its slot next.
#[test]
fn what_is_left_after_a_piece_of_it_was_taken_back_leaves_nothing_behind() {
    let mut bed = Bed::new(1, 1);
    let guest = bed.attach(QUEUE, |_| {});
    guest.0.borrow_mut().remembers = true;
    bed.devices().busy = true;
    guest.ask(1, Op::Write, 490, 20, data(20));
    bed.turn();
    bed.suspend(2);
    assert_eq!((told(&mut bed).len(), bed.stats.parked.get()), (1, 1));
    leave(&mut bed, QUEUE);
    assert!(is_given_back(&mut bed));
    bed.devices().busy = false;
    bed.cancel(2);
    let next = bed.attach(id(1, 0), |_| {});
    next.ask(1, Op::Write, 490, 20, data(20));
    bed.turn();
    end(&mut bed, Ok(()));
    assert_eq!(next.answers(), [(1, Status::Ok)]);
    assert!(bed.devices().seen.is_empty(), "it is begun once");
}

/// What is decided on waits for a device still: nothing is sent before.
#[test]
fn a_change_that_is_given_up_behind_one_that_waits_for_devices_sends_nothing() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.devices().busy = true;
    guest.ask(2, Op::Read, 8, 1, data(1));
    bed.turn();
    bed.devices().busy = false;
    bed.route(2, 0);
    bed.suspend(3);
    bed.cancel(3);
    assert_eq!(told(&mut bed), ["cancelled 3"]);
    bed.turn();
    assert_eq!((lbas(&mut bed), bed.stats.parked.get()), (vec![100], 1));
    end(&mut bed, Ok(()));
    assert_eq!(told(&mut bed), ["in use 2"]);
    bed.turn();
    assert_eq!(lbas(&mut bed), [8]);
    finish(&mut bed);
}

/// What others have waits for its device or is sent, as if nothing had been.
#[test]
fn a_suspension_leaves_other_volumes_alone() {
    let mut bed = Bed::new(16, 2);
    bed.give_run(OTHER, 1);
    let guest = bed.attach(QUEUE, |_| {});
    let other = bed.attach(id(1, 0), |settings| settings.volume = Some(OTHER));
    bed.devices().busy = true;
    let ask = |head| {
        guest.ask(head, Op::Read, 0, 1, data(1));
        other.ask(head, Op::Read, 8, 1, data(1));
        // In pieces.
        other.ask(head + 10, Op::Read, 16, 1, vec![piece(1, 512)]);
    };
    ask(1);
    bed.turn();
    bed.suspend(2);
    assert_eq!((told(&mut bed).len(), bed.stats.parked.get()), (1, 1));
    bed.devices().busy = false;
    bed.turn();
    assert_eq!(lbas(&mut bed), [8, 16]);
    end(&mut bed, Ok(()));

    // The same with what is to be sent again.
    bed.devices().busy = true;
    ask(2);
    bed.turn();
    let (volume, generation) = (OTHER, Generation(3));
    bed.reactor.apply(ReactorChange::Suspend { volume, generation });
    bed.reactor.apply(ReactorChange::Cancel { volume, generation });
    bed.suspend(3);
    bed.devices().busy = false;
    bed.turn();
    let mut sent = lbas(&mut bed);
    sent.sort();
    assert_eq!(sent, [8, 16]);
    end(&mut bed, Ok(()));
    assert_eq!((other.answers().len(), guest.answers().len()), (4, 0));
    bed.reactor.abandon();
}

/// What they had in flight is not in flight any more, or they had no room when they are sent again.
#[test]
fn what_fills_its_share_in_flight_is_parked_and_sent_again() {
    let mut bed = Bed::new(512, 1);
    let guest = bed.attach(QUEUE, |_| {});
    bed.devices().busy = true;
    (0..200).for_each(|head| guest.ask(head, Op::Read, 0, 500, data(500)));
    for _ in 0..50 {
        bed.turn();
    }
    assert!(!guest.0.borrow().waiting.is_empty(), "its share is full");
    bed.suspend(2);
    bed.cancel(2);
    assert_eq!(told(&mut bed), ["suspended 2", "cancelled 2"]);
    bed.devices().busy = false;
    finish(&mut bed);
    assert_eq!(guest.answers().len(), 200);
}

/// However often, nothing of it stays in any books: parts, buffers, what is in flight.
#[test]
fn what_is_parked_again_and_again_gives_back_what_it_had() {
    let kinds: [(Op, u64, Vec<Segment>); 4] = [
        (Op::Write, 1, vec![piece(1, 512)]),
        (Op::Write, 800, data(800)),
        (Op::Read, 500, data(500)),
        (Op::Discard, 400, Vec::new()),
    ];
    for (op, sectors, segments) in kinds {
        let mut bed = Bed::new(16, 1);
        let guest = bed.attach(QUEUE, |_| {});
        bed.devices().busy = true;
        (0..4).for_each(|head| guest.ask(head, op, 0, sectors, segments.clone()));
        bed.turn();
        for generation in 2..300 {
            bed.turn();
            bed.suspend(generation);
            bed.cancel(generation);
            let told = told(&mut bed);
            let expected = [
                format!("suspended {generation}"),
                format!("cancelled {generation}"),
            ];
            assert_eq!(told, expected, "{op:?}");
            assert_eq!(bed.stats.buffers_used.get(), 0, "{op:?}");
        }
        bed.devices().busy = false;
        finish(&mut bed);
        assert_eq!(guest.answers().len(), 4, "{op:?}");
    }
}

/// Its data is looked for from its beginning, wherever the last piece of the first time began.
#[test]
fn what_is_sent_again_has_its_own_data() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    bed.devices().busy_device = Some(1);
    let segments = vec![piece(0, 10 * 512), piece(1 << 20, 10 * 512)];
    guest.ask(1, Op::Write, 490, 20, segments.clone());
    bed.turn();
    bed.suspend(2);
    bed.devices().busy_device = None;
    end(&mut bed, Ok(()));
    assert_eq!(told(&mut bed), ["suspended 2"]);
    bed.cancel(2);
    bed.turn();
    let seen = &bed.devices().seen;
    let sent: Vec<&[Segment]> = seen.iter().map(|io| &io.segments[..]).collect();
    assert_eq!(sent, [&segments[..1], &segments[1..]]);
    finish(&mut bed);
}

/// It has nothing to wait for: whatever is decided, it ends with an error.
#[test]
fn what_has_met_a_fault_or_lost_its_volume_does_not_wait_for_a_decision() {
    let mut bed = Bed::new(16, 1);
    let guest = bed.attach(QUEUE, |_| {});
    // One part of it has failed, and the other waits for its device.
    bed.devices().busy_device = Some(1);
    guest.ask(1, Op::Write, 490, 20, data(20));
    bed.turn();
    end(&mut bed, Err(Fault::Media));
    bed.suspend(2);
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    assert_eq!(told(&mut bed), ["suspended 2"]);
    bed.cancel(2);

    // It waits for a buffer that another one has.
    let other = bed.attach(id(1, 0), |_| {});
    guest.ask(2, Op::Read, 0, 1, vec![piece(1, 512)]);
    bed.turn();
    other.ask(3, Op::Read, 0, 1, vec![piece(4097, 512)]);
    bed.turn();
    let attachment = id(1, 0).attachment;
    bed.reactor.apply(ReactorChange::Revoke { attachment });
    bed.suspend(3);
    bed.turn();
    assert_eq!(other.answers(), [(3, Status::IoErr)]);
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers()[1..], [(2, Status::Ok)]);
    assert!(is_at_rest(&bed));
}
