//! An attachment's settings, its limits among them, while it is served.

use crate::bench_of::*;
use palisade_block::mailbox::{AttachmentSettings, Pace, ReactorChange};
use palisade_block::*;
use palisade_words::{AttachmentIndex, QueueId};
use std::sync::Arc;

/// Settings with a limit on requests and none on bursts.
fn paced(iops: u64) -> AttachmentSettings {
    let pace = Pace {
        iops,
        ..Pace::default()
    };
    AttachmentSettings {
        volume: Some(VOLUME),
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
    bed.reactor
        .apply(ReactorChange::SetAttachment { attachment, settings });
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
    bed.reactor
        .apply(ReactorChange::SetAttachment { attachment, settings });
    for guest in &guests {
        guest.ask(1, Op::Write, 0, 1, data(1));
    }
    bed.turn();
    let statuses = guests.map(|guest| guest.answers()[0].1);
    assert_eq!(statuses, [Status::IoErr, Status::IoErr, Status::Ok]);
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
