//! Requests that have met a fault which somebody may heal wait for a decision, if their route says so.

use crate::bench_of::*;
use crate::mapping::{end, is_at_rest, is_given_back, lbas, leave};
use palisade_block::mailbox::{AttachmentSettings, Notice, ReactorChange, ReactorCommand};
use palisade_block::stats::AttachmentStats;
use palisade_block::*;
use palisade_engine::ReactorConfig;
use palisade_words::{DeviceIndex, Epoch, Generation, Lba, Sectors};
use std::sync::Arc;

/// A route over both devices, from a sector of the first on, by which faults wait.
fn route(bed: &mut Bed, generation: u64, first: u64) {
    bed.resume(VOLUME, two_runs(generation, first).parking_faults());
    assert_eq!(told(bed), [format!("in use {generation}")]);
}

fn bed() -> (Bed, Script) {
    let mut bed = Bed::new(16, 2);
    route(&mut bed, 2, 100);
    let guest = bed.attach(QUEUE, |_| {});
    (bed, guest)
}

fn fail(bed: &mut Bed, generation: u64) {
    bed.reactor.apply(ReactorChange::Fail {
        volume: VOLUME,
        generation: Generation(generation),
    });
}

/// Devices and faults by which requests are told to be parked.
fn parked(bed: &mut Bed) -> Vec<(u16, Fault)> {
    let told = bed.notices().into_iter().map(|notice| match notice {
        Notice::Parked { device, fault, .. } => (device.0, fault),
        other => unreachable!("{other:?}"),
    });
    told.collect()
}

const MAY_HEAL: [Fault; 4] = [Fault::Gone, Fault::Fenced, Fault::Unreachable, Fault::TimedOut];

#[test]
fn only_what_may_heal_waits_and_only_where_the_route_says_so() {
    for fault in Fault::ALL {
        let waits = MAY_HEAL.contains(&fault);
        for parks in [true, false] {
            let (mut bed, guest) = bed();
            if !parks {
                bed.route(3, 100);
                bed.notices();
            }
            guest.ask(1, Op::Read, 0, 1, data(1));
            bed.turn();
            end(&mut bed, Err(fault));
            let expected = u64::from(waits && parks);
            assert_eq!(bed.stats.parked.get(), expected, "{fault:?}");
            assert_eq!(guest.answers().len() as u64, 1 - expected, "{fault:?}");
            bed.reactor.abandon();
        }
    }
}

#[test]
fn a_fault_is_told_once_for_each_device_and_its_requests_go_by_the_next_route() {
    let (mut bed, guest) = bed();
    for (head, lba) in [(1, 0), (2, 8), (3, 500), (4, 508)] {
        guest.ask(head, Op::Write, lba, 1, data(1));
    }
    bed.turn();
    end(&mut bed, Err(Fault::Unreachable));
    assert_eq!(
        parked(&mut bed),
        [(0, Fault::Unreachable), (1, Fault::Unreachable)]
    );
    assert_eq!((bed.stats.parked.get(), bed.reactor.in_flight()), (4, 4));
    assert!(guest.answers().is_empty() && !bed.reactor.is_held_up());
    // Others go on meanwhile.
    guest.ask(5, Op::Read, 16, 1, data(1));
    bed.turn();
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers(), [(5, Status::Ok)]);
    route(&mut bed, 3, 0);
    bed.turn();
    let mut sent = lbas(&mut bed);
    sent.sort();
    assert_eq!(sent, [0, 0, 8, 8]);
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers().len(), 5);
    assert!(guest.answers().iter().all(|(_, status)| *status == Status::Ok));
    assert!(is_at_rest(&bed));
    // After a decision it is told again.
    guest.ask(6, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    assert_eq!(parked(&mut bed), [(0, Fault::Gone)]);
    bed.reactor.abandon();
}

#[test]
fn what_nobody_heals_is_answered_with_its_fault_and_so_is_what_comes_then() {
    let (mut bed, guest) = bed();
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    fail(&mut bed, 1);
    assert_eq!(bed.stats.stale_commands.get(), 1, "of an older configuration");
    fail(&mut bed, 2);
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    assert_eq!(guest.answers()[1..], [(2, Status::IoErr)]);
    bed.notices();
    // Until somebody gives it a route again.
    route(&mut bed, 3, 0);
    guest.ask(3, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    assert_eq!(parked(&mut bed), [(0, Fault::Gone)]);
    bed.reactor.abandon();
}

/// A part that fails parks its request, when the others have come back; what was done is done once more.
#[test]
fn a_request_in_pieces_is_parked_by_its_first_fault_and_sent_again_whole() {
    let (mut bed, guest) = bed();
    guest.ask(1, Op::Write, 490, 20, data(20));
    bed.turn();
    let slots: Vec<_> = bed.devices().seen.drain(..).map(|io| io.slot).collect();
    bed.devices()
        .finished
        .push_back((slots[1], Err(Fault::Unreachable)));
    bed.turn();
    assert_eq!(bed.stats.parked.get(), 0, "a device has the other");
    bed.devices().finished.push_back((slots[0], Ok(())));
    bed.turn();
    assert_eq!(parked(&mut bed), [(1, Fault::Unreachable)]);
    route(&mut bed, 3, 0);
    bed.turn();
    let lbas: Vec<_> = bed.devices().seen.iter().map(|io| (io.lba, io.sectors)).collect();
    assert_eq!(lbas, [(490, 10), (0, 10)]);
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

/// Nobody has decided about the fault: what waits for the change goes on alone.
#[test]
fn a_change_that_is_given_up_decides_nothing_about_faults() {
    let (mut bed, guest) = bed();
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    assert_eq!(parked(&mut bed), [(0, Fault::Gone)]);
    bed.devices().busy = true;
    guest.ask(2, Op::Read, 8, 1, data(1));
    bed.turn();
    bed.devices().busy = false;
    bed.suspend(3);
    assert_eq!(bed.stats.parked.get(), 2);
    bed.cancel(3);
    assert_eq!(told(&mut bed), ["suspended 3", "cancelled 3"]);
    bed.turn();
    assert_eq!((bed.devices().seen.len(), bed.stats.parked.get()), (1, 1));
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers(), [(2, Status::Ok)]);
    fail(&mut bed, 2);
    bed.turn();
    assert_eq!(guest.answers()[1..], [(1, Status::IoErr)]);
}

/// A route that is in force was decided on, whatever is announced behind it and given up.
#[test]
fn a_fault_is_decided_by_a_route_that_comes_into_force_under_another_change() {
    let (mut bed, guest) = bed();
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    assert_eq!(parked(&mut bed), [(0, Fault::Gone)]);
    guest.ask(2, Op::Read, 8, 1, data(1));
    bed.turn();
    bed.resume(VOLUME, two_runs(3, 0).parking_faults());
    bed.suspend(4);
    end(&mut bed, Ok(()));
    assert_eq!(told(&mut bed), ["in use 3", "suspended 4"]);
    assert_eq!(bed.stats.parked.get(), 1);
    bed.cancel(4);
    bed.turn();
    assert_eq!((lbas(&mut bed), bed.stats.parked.get()), (vec![0], 0));
    end(&mut bed, Ok(()));
    assert!(is_at_rest(&bed));
}

/// A drain does not wait for what waits for its end.
#[test]
fn a_volume_is_suspended_while_requests_are_parked_by_a_fault() {
    let (mut bed, guest) = bed();
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    bed.suspend(3);
    end(&mut bed, Err(Fault::Gone));
    let told = bed.notices();
    assert!(
        matches!(told[..], [Notice::Parked { .. }, Notice::Suspended { .. }]),
        "{told:?}"
    );
    route(&mut bed, 3, 0);
    bed.turn();
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
}

/// The books say that the device holds it, from the moment on at which there is one.
#[test]
fn what_waits_for_a_device_that_comes_later_is_held_by_it() {
    let (mut bed, guest) = bed();
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(8),
        device: DeviceIndex(2),
        lba: Lba(0),
    };
    let route = |generation| {
        let mapping = mapping_of(Generation(generation), Epoch(1));
        let route = Route::new(mapping, vec![run]).expect("one run");
        route.parking_faults()
    };
    bed.resume(VOLUME, route(3));
    bed.notices();
    guest.ask(1, Op::Flush, 0, 0, Vec::new());
    bed.turn();
    assert_eq!(parked(&mut bed), [(2, Fault::Gone)]);
    bed.devices().limits.push(limits(1000));
    bed.reactor.apply(ReactorCommand::AddDevice {
        opened: (),
        device: DeviceIndex(2),
        stats: Arc::default(),
        deadline: Nanos(1000),
    });
    bed.turn();
    bed.resume(VOLUME, route(4));
    bed.turn();
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers(), [(1, Status::Ok)]);
    assert!(is_at_rest(&bed));
}

#[test]
fn a_device_that_is_gone_or_was_never_here_is_told_by_its_number() {
    let (mut bed, guest) = bed();
    bed.reactor.apply(ReactorChange::CloseDevice {
        device: DeviceIndex(1),
    });
    bed.notices();
    guest.ask(1, Op::Read, 500, 1, data(1));
    bed.turn();
    assert_eq!(parked(&mut bed), [(1, Fault::Gone)]);
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(8),
        device: DeviceIndex(7),
        lba: Lba(0),
    };
    let route = Route::new(mapping_of(Generation(3), Epoch(1)), vec![run]).expect("one run");
    bed.resume(VOLUME, route.parking_faults());
    bed.notices();
    bed.turn();
    assert_eq!(
        guest.answers(),
        [(1, Status::IoErr)],
        "it lies behind the end now"
    );
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(parked(&mut bed), [(7, Fault::Gone)]);
    bed.reactor.abandon();
}

#[test]
fn queues_end_with_what_is_parked_of_them() {
    for remembers in [true, false] {
        let (mut bed, guest) = bed();
        guest.0.borrow_mut().remembers = remembers;
        guest.ask(1, Op::Read, 0, 1, data(1));
        guest.ask(2, Op::Read, 490, 20, data(20));
        bed.turn();
        end(&mut bed, Err(Fault::Unreachable));
        assert_eq!(bed.stats.parked.get(), 2);
        bed.notices();
        bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
        bed.turn();
        assert!(bed.notices().is_empty(), "it waits for the decision");
        bed.reactor.apply(ReactorCommand::LeaveQueue { queue: QUEUE });
        bed.turn();
        assert!(is_given_back(&mut bed));
        let answers = if remembers { 0 } else { 2 };
        assert_eq!(guest.answers().len(), answers);
        assert!(is_at_rest(&bed));
    }
    let (mut bed, guest) = bed();
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Unreachable));
    bed.notices();
    let attachment = QUEUE.attachment;
    bed.reactor.apply(ReactorChange::Revoke { attachment });
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    assert!(matches!(bed.notices()[..], [Notice::Revoked { .. }]));
}

/// What meets a fault while its queue is left comes again, or is answered at once: nobody waits for a decision there.
#[test]
fn a_fault_on_a_queue_that_ends_soon_does_not_wait() {
    for remembers in [true, false] {
        let (mut bed, guest) = bed();
        guest.0.borrow_mut().remembers = remembers;
        guest.ask(1, Op::Read, 0, 1, data(1));
        bed.turn();
        leave(&mut bed, QUEUE);
        end(&mut bed, Err(Fault::Unreachable));
        assert!(is_given_back(&mut bed));
        let answers = guest.answers();
        match remembers {
            true => assert!(answers.is_empty()),
            false => assert_eq!(answers, [(1, Status::IoErr)]),
        }
        assert!(is_at_rest(&bed));
    }
    let (mut bed, guest) = bed();
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    let attachment = QUEUE.attachment;
    bed.reactor.apply(ReactorChange::Revoke { attachment });
    end(&mut bed, Err(Fault::Unreachable));
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
}

/// What is done about one queue, attachment or volume is nothing to the others.
#[test]
fn what_others_have_parked_stays_parked() {
    let (mut bed, _) = bed();
    let volume = palisade_words::VolumeIndex(1);
    bed.resume(volume, two_runs(2, 100).parking_faults());
    bed.notices();
    let on_other = |settings: &mut AttachmentSettings| settings.volume = Some(volume);
    let guests = [
        bed.attach(id(1, 0), |_| {}),
        bed.attach(id(1, 1), |_| {}),
        bed.attach(id(2, 0), |_| {}),
        bed.attach(id(3, 0), on_other),
    ];
    for guest in &guests {
        guest.0.borrow_mut().remembers = true;
        guest.ask(1, Op::Read, 0, 1, data(1));
    }
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    let parked = |bed: &Bed| bed.stats.parked.get();
    assert_eq!(parked(&bed), 4);
    leave(&mut bed, id(1, 0));
    assert_eq!(parked(&bed), 3);
    guests[1].0.borrow_mut().remembers = false;
    leave(&mut bed, id(1, 1));
    assert_eq!(parked(&bed), 2);
    let attachment = id(2, 0).attachment;
    bed.reactor.apply(ReactorChange::Revoke { attachment });
    assert_eq!(parked(&bed), 1);
    fail(&mut bed, 2);
    assert_eq!(parked(&bed), 1, "it is on another volume");
    bed.turn();
    let answered = guests.each_ref().map(|guest| guest.answers().len());
    assert_eq!(answered, [0, 1, 1, 0]);
    bed.reactor.abandon();
}

/// A piece of it fails while the rest waits for its turn.
#[test]
fn what_rests_is_parked_by_a_fault_and_holds_its_queue_back_no_more() {
    let config = ReactorConfig {
        slots: 16,
        parts: 64,
        long: 4,
        watch_every: Nanos(u64::MAX / 2),
    };
    let mut bed = Bed::of(config, 2);
    bed.devices().limits[0].sectors = Sectors(1 << 20);
    bed.give_device(VOLUME, 0, Nanos(u64::MAX / 2));
    let run = Run {
        volume: Lba(0),
        sectors: Sectors(1 << 20),
        device: DeviceIndex(0),
        lba: Lba(0),
    };
    let route = Route::new(mapping_of(Generation(3), Epoch(1)), vec![run]).expect("one run");
    bed.resume(VOLUME, route.parking_faults());
    bed.notices();
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Read, 0, 64 << 11, data(64 << 11));
    bed.turn();
    assert!(bed.reactor.is_held_up(), "the rest of it waits");
    end(&mut bed, Err(Fault::Unreachable));
    assert_eq!(parked(&mut bed), [(0, Fault::Unreachable)]);
    assert_eq!((bed.stats.parked.get(), bed.reactor.is_held_up()), (1, false));
    guest.ask(2, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Ok(()));
    assert_eq!(guest.answers(), [(2, Status::Ok)]);
    bed.reactor.abandon();
}

/// It is to be answered, and nothing more is decided about it.
#[test]
fn what_nobody_heals_is_answered_although_its_volume_is_suspended_meanwhile() {
    let (mut bed, guest) = bed();
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    bed.notices();
    fail(&mut bed, 2);
    bed.suspend(3);
    assert!(told(&mut bed).is_empty());
    bed.turn();
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
    assert_eq!(told(&mut bed), ["suspended 3"]);
}

/// That somebody has said so late does not take it back.
#[test]
fn faults_of_a_volume_that_nobody_heals_are_answered_whatever_is_said_late() {
    let (mut bed, guest) = bed();
    fail(&mut bed, 2);
    fail(&mut bed, 1);
    guest.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Err(Fault::Gone));
    assert_eq!(guest.answers(), [(1, Status::IoErr)]);
}

/// As what is in flight is.
#[test]
fn parked_requests_are_counted_with_their_attachment() {
    let (mut bed, _) = bed();
    let [one, other, next] = [(); 3].map(|()| Arc::new(AttachmentStats::default()));
    let counted = |stats: &Arc<AttachmentStats>| (stats.parked.get(), stats.in_flight.get());
    let guest = bed.attach(id(1, 0), |settings| settings.stats = Arc::clone(&one));
    bed.attach(id(2, 0), |settings| settings.stats = Arc::clone(&other));
    for head in 0..3 {
        guest.ask(head, Op::Read, 0, 1, data(1));
    }
    bed.turn();
    assert_eq!(counted(&one), (0, 3));
    end(&mut bed, Err(Fault::Gone));
    assert_eq!(parked(&mut bed), [(0, Fault::Gone)]);
    assert_eq!((counted(&one), counted(&other)), ((3, 3), (0, 0)));
    let settings = AttachmentSettings {
        volume: Some(VOLUME),
        revoked: false,
        read_only: false,
        write_through: false,
        pace: Default::default(),
        stats: Arc::clone(&next),
    };
    let attachment = id(1, 0).attachment;
    bed.reactor.apply(ReactorChange::SetAttachment {
        attachment,
        settings: settings.clone(),
    });
    assert_eq!((counted(&one), counted(&next)), ((0, 0), (3, 3)));
    route(&mut bed, 3, 0);
    assert_eq!(counted(&next), (0, 3));
    let settings = AttachmentSettings {
        stats: Arc::clone(&one),
        ..settings
    };
    bed.reactor
        .apply(ReactorChange::SetAttachment { attachment, settings });
    assert_eq!((counted(&one), counted(&next)), ((0, 3), (0, 0)));
    bed.turn();
    end(&mut bed, Ok(()));
    assert_eq!((counted(&one), guest.answers().len()), ((0, 0), 3));
}

/// However many are parked, their device leaves slots to the other.
#[test]
fn parked_requests_leave_room_for_other_devices() {
    let (mut bed, guest) = bed();
    for head in 0..40 {
        guest.ask(head, Op::Read, 0, 1, data(1));
    }
    for _ in 0..20 {
        bed.turn();
        end(&mut bed, Err(Fault::Unreachable));
    }
    let parked = bed.stats.parked.get();
    assert!((4..16).contains(&parked), "{parked} of 16 slots");
    let other = bed.attach(id(1, 0), |settings| {
        settings.volume = Some(palisade_words::VolumeIndex(1))
    });
    bed.give_run(palisade_words::VolumeIndex(1), 1);
    other.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    end(&mut bed, Ok(()));
    assert_eq!(other.answers(), [(1, Status::Ok)]);
    assert_eq!(bed.stats.parked.get(), parked);
    bed.reactor.abandon();
}
