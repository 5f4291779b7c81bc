//! Who tells whom, and when not (virtio 1.3, 2.7.7 and 2.7.10).

use super::rig::{DATA, Rig, device_writes};
use crate::blk::kind;
use crate::driver::DriverOptions;
use palisade_block::{Answer, Source, Status};

fn rigs() -> [Rig; 2] {
    [true, false].map(|event_idx| {
        Rig::with(
            DriverOptions {
                size: 32,
                event_idx,
                indirect: false,
            },
            |_| {},
        )
    })
}

fn submit(rig: &mut Rig) -> bool {
    rig.submit(kind::IN, 0, &[device_writes(DATA, 512)]);
    rig.driver.publish()
}

fn finish_one(rig: &mut Rig) {
    let request = rig.request();
    rig.queue.finish(Answer {
        token: request.token,
        status: Status::Ok,
        fault: None,
        dirtied: &[],
    });
}

#[test]
fn one_notification_for_a_batch_and_none_for_nothing() {
    for mut rig in rigs() {
        for _ in 0..4 {
            submit(&mut rig);
        }
        for _ in 0..4 {
            finish_one(&mut rig);
        }
        assert_eq!(rig.bell.rings(), 0);
        rig.queue.publish();
        assert_eq!(rig.bell.rings(), 1);
        rig.queue.publish();
        assert_eq!(rig.bell.rings(), 1);
        assert_eq!((rig.stats().notified.get(), rig.stats().suppressed.get()), (1, 0));
    }
}

#[test]
fn a_driver_that_wants_silence_gets_it() {
    for mut rig in rigs() {
        rig.driver.disable_notifications();
        submit(&mut rig);
        finish_one(&mut rig);
        rig.queue.publish();
        assert_eq!(rig.bell.rings(), 0);
        assert_eq!(rig.stats().suppressed.get(), 1);
        assert!(rig.driver.enable_notifications(), "there is one to be seen");
        rig.driver.poll_used().unwrap();
        assert!(!rig.driver.enable_notifications());
        submit(&mut rig);
        finish_one(&mut rig);
        rig.queue.publish();
        assert_eq!(rig.bell.rings(), 1);
    }
}

/// A legacy driver with NOTIFY_ON_EMPTY relies on hearing of the last request, silence or not (virtio 1.3, 6.3).
#[test]
fn a_legacy_driver_hears_when_its_ring_has_run_empty() {
    for event_idx in [false, true] {
        let options = DriverOptions {
            size: 32,
            event_idx,
            indirect: false,
        };
        let mut rig = Rig::with(options, |setup| {
            setup.features = setup.features | crate::Features::NOTIFY_ON_EMPTY;
        });
        rig.driver.disable_notifications();
        submit(&mut rig);
        submit(&mut rig);
        finish_one(&mut rig);
        rig.queue.publish();
        assert_eq!(rig.bell.rings(), 0, "one is left in the ring");
        finish_one(&mut rig);
        rig.queue.publish();
        assert_eq!(rig.bell.rings(), 1);
    }
}

#[test]
fn kicks_come_when_armed_and_not_when_disarmed() {
    for mut rig in rigs() {
        rig.queue.disarm();
        assert!(!submit(&mut rig));
        assert!(!submit(&mut rig));
        assert!(rig.queue.arm(), "two are waiting");
        finish_one(&mut rig);
        finish_one(&mut rig);
        assert!(!rig.queue.arm());
        assert!(!rig.queue.arm(), "armed twice is as good as once");
        assert!(submit(&mut rig), "armed: the first one kicks");
        assert!(rig.queue.arm(), "kicked for and not taken");
        finish_one(&mut rig);
        assert!(!rig.queue.arm(), "asked for the one after it");
        assert!(submit(&mut rig));
        finish_one(&mut rig);
        rig.queue.disarm();
        assert!(!submit(&mut rig));
        assert!(!submit(&mut rig));
    }
}

/// The line is the driver's as well: it is written when something changes, and a reactor that sleeps and wakes for other
/// queues arms this one each time.
#[test]
fn what_has_been_asked_for_is_not_asked_for_again() {
    for mut rig in rigs() {
        let options = rig.driver.options();
        let used = rig.driver.addresses().used;
        let (at, other) = match options.event_idx {
            true => (used + 4 + 8 * u64::from(options.size), 7),
            false => (used, 1),
        };
        let armed = |rig: &mut Rig, asked: u16| {
            assert!(rig.memory.store_u16(at, other));
            assert!(!rig.queue.arm());
            assert_eq!(rig.memory.load_u16(at), Some(asked));
        };
        let event = |next| if options.event_idx { next } else { 0 };
        armed(&mut rig, event(0));
        armed(&mut rig, other);
        submit(&mut rig);
        finish_one(&mut rig);
        // The event is for one entry alone, the flag for all.
        armed(&mut rig, if options.event_idx { 1 } else { other });
        armed(&mut rig, other);
        rig.queue.disarm();
        armed(&mut rig, event(1));
    }
}

#[test]
fn nothing_is_lost_where_the_indices_wrap() {
    for mut rig in rigs() {
        let mut kicks = 0;
        for round in 0..70_000u32 {
            // Every ninth round both sides sleep and must be woken; otherwise both poll.
            let sleepy = round % 9 == 0 || (65_530..65_545).contains(&round);
            if sleepy {
                assert!(!rig.queue.arm());
                assert!(!rig.driver.enable_notifications());
            } else {
                rig.queue.disarm();
                rig.driver.disable_notifications();
            }
            let rings = rig.bell.rings();
            assert_eq!(submit(&mut rig), sleepy, "kick in round {round}");
            kicks += u32::from(sleepy);
            finish_one(&mut rig);
            rig.queue.publish();
            assert_eq!(
                rig.bell.rings() - rings,
                usize::from(sleepy),
                "notification in round {round}"
            );
            assert!(rig.driver.poll_used().unwrap().expected);
        }
        assert!(kicks > 7_000);
        assert_eq!(rig.queue.next_avail(), (70_000u32 % 65_536) as u16);
        assert_eq!(rig.stats().returned.get(), 70_000);
    }
}

#[test]
fn a_used_event_in_the_middle_of_a_batch_is_seen_across_the_wrap() {
    use crate::split::event_passed;
    for (event, now, before, passed) in [
        (0, 1, 0, true),
        (1, 1, 0, false),
        (u16::MAX, 0, u16::MAX, true),
        (u16::MAX, u16::MAX, u16::MAX - 1, false),
        (2, 5, u16::MAX - 2, true),
        (5, 5, u16::MAX - 2, false),
        (u16::MAX - 3, 5, u16::MAX - 2, false),
        (7, 7, 7, false),
    ] {
        assert_eq!(
            event_passed(event, now, before),
            passed,
            "{event} {before}..{now}"
        );
    }
}
