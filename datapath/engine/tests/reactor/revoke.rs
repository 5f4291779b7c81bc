//! A volume that is taken away from an attachment whose queues stay.

use crate::bench_of::*;
use palisade_block::mailbox::{AttachmentSettings, Notice, Pace, ReactorChange, ReactorCommand};
use palisade_block::*;
use palisade_words::{AttachmentIndex, Generation, QueueId};
use std::sync::Arc;

fn revoke(bed: &mut Bed) {
    bed.reactor.apply(ReactorChange::Revoke {
        attachment: QUEUE.attachment,
    });
}

fn is_revoked(notices: &[Notice<Script, Obedient>]) -> bool {
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
    let (volume, generation) = (VOLUME, Generation(2));
    bed.reactor.apply(ReactorChange::EndVolume { volume, generation });
    bed.route(3, 200);
    let new = bed.attach(new, |_| {});
    let again = QueueId { queue: 1, ..QUEUE };
    let late = bed.attach(again, |settings| settings.revoked = true);
    // Settings that know nothing of it give nothing back.
    bed.reactor.apply(ReactorChange::SetAttachment {
        attachment: QUEUE.attachment,
        settings: AttachmentSettings {
            volume: Some(VOLUME),
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
    bed.reactor.apply(ReactorCommand::StopQueue { queue: QUEUE });
    assert!(bed.notices().is_empty());
    bed.finish_all(Ok(()));
    bed.turn();
    let notices = bed.notices();
    let stopped =
        |notice: &Notice<Script, Obedient>| matches!(notice, Notice::QueueStopped { source: Some(_), .. });
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

#[test]
fn each_order_is_acknowledged_however_many_wait() {
    let mut bed = Bed::new(16, 2);
    let guest = bed.attach(QUEUE, |_| {});
    guest.ask(1, Op::Write, 0, 1, data(1));
    bed.turn();
    (0..20).for_each(|_| revoke(&mut bed));
    bed.turn();
    assert!(bed.notices().is_empty());
    bed.finish_all(Ok(()));
    bed.turn();
    let notices = bed.notices();
    assert_eq!(notices.len(), 20);
    assert!(notices.chunks(1).all(is_revoked));
}

/// Who has lost his volume is told so at once, for each request, and does not wait for limits that nobody can lift any more.
#[test]
fn a_limit_holds_nothing_back_whose_volume_was_taken_away() {
    let mut bed = Bed::new(64, 2);
    let limited = |settings: &mut AttachmentSettings| {
        (settings.pace.iops, settings.pace.bytes_per_second) = (1, 512);
    };
    let guest = bed.attach(QUEUE, limited);
    let refused = || (0..20).map(|key| (key, Status::IoErr)).collect::<Vec<_>>();
    let ask = || (0..20).for_each(|key| guest.ask(key, Op::Write, 0, 8, data(8)));
    bed.devices().at_once = Some(Ok(()));
    guest.ask(99, Op::Write, 0, 8, data(8));
    bed.turn();
    ask();
    bed.turn();
    assert_eq!(
        guest.answers(),
        [(99, Status::Ok)],
        "the others wait for their limit"
    );
    revoke(&mut bed);
    bed.turn();
    assert_eq!(guest.answers()[1..], refused());
    // Nor do limits that it is told of later, or was told of at its beginning.
    let mut settings = AttachmentSettings {
        volume: Some(VOLUME),
        revoked: false,
        read_only: false,
        write_through: false,
        pace: Pace::default(),
        stats: Arc::default(),
    };
    limited(&mut settings);
    let attachment = QUEUE.attachment;
    bed.reactor
        .apply(ReactorChange::SetAttachment { attachment, settings });
    ask();
    bed.turn();
    assert_eq!(guest.answers()[21..], refused());
    let again = QueueId { queue: 1, ..QUEUE };
    let late = bed.attach(again, |settings| {
        limited(settings);
        settings.revoked = true;
    });
    (0..20).for_each(|key| late.ask(key, Op::Write, 0, 8, data(8)));
    bed.turn();
    assert_eq!(late.answers(), refused());
}
