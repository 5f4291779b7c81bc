use super::*;
use palisade_words::Epoch;
use proptest::prelude::*;

const LINK: LinkIndex = LinkIndex(0);
const OTHER: LinkIndex = LinkIndex(1);

fn settings(streams: u16, window: u16, messages: u32) -> SessionSettings {
    SessionSettings {
        streams,
        window,
        messages,
        ..SessionSettings::default()
    }
}

fn message(stream: u16, key: u64) -> PortMessage {
    PortMessage {
        client: 0,
        stream: StreamIndex(stream),
        words: [0; 22],
        payload_bytes: 0,
        answer_bytes: 0,
        epoch: Epoch(0),
        key,
        completes: Completes::Answered,
    }
}

fn with(streams: u16, window: u16, keys: std::ops::Range<u64>) -> Outbox {
    let mut outbox = Outbox::new(&settings(streams, window, 64));
    for key in keys {
        assert!(outbox.take(message((key % u64::from(streams)) as u16, key)));
    }
    outbox
}

/// Keys and numbers of what is sent next, as far as it may be.
fn sent(outbox: &mut Outbox, link: LinkIndex) -> Vec<(u64, u64)> {
    let next = || {
        outbox
            .next(link, Nanos(1))
            .map(|(_, taken, _)| (taken.message.key, taken.sequence))
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn of_a_stream_a_window_is_sent_and_of_all_streams_in_turn() {
    let mut outbox = with(2, 2, 0..7);
    assert_eq!(sent(&mut outbox, LINK), [(0, 0), (1, 0), (2, 1), (3, 1)]);
    assert!(outbox.answered(StreamIndex(0), 1).is_some());
    assert_eq!(sent(&mut outbox, LINK), [(4, 2)], "one answered, one more");
    assert_eq!(outbox.check(), Ok(()));
}

#[test]
fn a_slow_answer_holds_up_no_more_than_a_span() {
    let mut outbox = with(1, 2, 0..20);
    assert_eq!(sent(&mut outbox, LINK), [(0, 0), (1, 1)]);
    for sequence in 1..4 {
        assert!(outbox.answered(StreamIndex(0), sequence).is_some());
        let expected = (sequence < 3).then_some((sequence + 1, sequence + 1));
        assert_eq!(
            sent(&mut outbox, LINK),
            Vec::from_iter(expected),
            "after {sequence}"
        );
    }
    assert!(outbox.answered(StreamIndex(0), 0).is_some());
    assert_eq!(sent(&mut outbox, LINK), [(4, 4), (5, 5)]);
}

#[test]
fn what_a_link_took_with_it_is_sent_first_in_order_and_says_how_far_behind_it_is() {
    let mut outbox = with(1, 8, 0..3);
    assert_eq!(
        outbox
            .next(LINK, Nanos(1))
            .map(|(_, taken, behind)| (taken.attempts, behind)),
        Some((0, 0))
    );
    assert_eq!(
        outbox
            .next(OTHER, Nanos(1))
            .map(|(_, taken, behind)| (taken.attempts, behind)),
        Some((0, 1))
    );
    assert_eq!(outbox.lost(LINK), 1);
    assert!(outbox.take(message(0, 9)));
    let (_, again, behind) = outbox.next(OTHER, Nanos(2)).unwrap();
    assert_eq!((again.message.key, again.attempts, behind), (0, 1, 0));
    assert_eq!(sent(&mut outbox, OTHER), [(2, 2), (9, 3)]);
    assert_eq!(outbox.check(), Ok(()));
}

/// The network says late that a frame has left, when its message is long answered, and another one with the same name lies in its
/// place; or when it was sent once more.
#[test]
fn what_was_sent_is_known_by_its_place_and_how_often_that_was_used() {
    let mut outbox = Outbox::new(&settings(1, 2, 1));
    let sent = |outbox: &mut Outbox| {
        outbox
            .next(LINK, Nanos(1))
            .map(|(place, taken, _)| (place, taken.generation))
            .unwrap()
    };
    assert!(outbox.take(message(0, 7)));
    let (place, first) = sent(&mut outbox);
    assert!(outbox.at(place, first).is_some());
    outbox.lost(LINK);
    assert_eq!(sent(&mut outbox), (place, first + 1));
    assert!(outbox.at(place, first).is_none());
    assert!(outbox.answered(StreamIndex(0), 0).is_some());
    assert!(outbox.at(place, first + 1).is_none(), "nothing lies there");
    assert!(outbox.take(message(0, 7)));
    assert!(
        outbox.at(place, first + 1).is_none(),
        "what lies there now was not sent yet"
    );
    let (_, last) = sent(&mut outbox);
    assert!(outbox.at(place, first + 1).is_none() && outbox.at(place, last).is_some());
}

#[test]
fn what_comes_back_says_whether_it_may_land() {
    let mut outbox = with(1, 3, 0..5);
    assert_eq!(sent(&mut outbox, LINK).len(), 3);
    for (sequence, completes) in [(1, Completes::Sent), (2, Completes::Accepted)] {
        let taken = outbox.sent(StreamIndex(0), sequence).unwrap();
        (taken.message.completes, taken.is_told) = (completes, true);
    }
    let mut back = Vec::new();
    assert_eq!(
        outbox.clear(|message, nack| back.push((message.key, nack))),
        1,
        "of two that were told already one was delivered"
    );
    let nack = |may_land| Completion::Nack { may_land };
    assert_eq!(back, [(0, nack(true)), (3, nack(false)), (4, nack(false))]);
    assert!(outbox.is_empty());
    assert_eq!(outbox.check(), Ok(()));
}

#[test]
fn what_is_kept_begins_anew_in_order_and_still_may_land() {
    let mut outbox = with(2, 2, 0..6);
    sent(&mut outbox, LINK);
    assert!(outbox.answered(StreamIndex(0), 0).is_some());
    assert_eq!(outbox.begin_anew(), 0);
    assert_eq!(outbox.oldest_sent(), None, "nothing of it is sent in this round");
    assert_eq!(outbox.check(), Ok(()));
    let all: Vec<_> = sent(&mut outbox, OTHER);
    assert_eq!(all, [(2, 0), (1, 0), (4, 1), (3, 1)]);
    let mut back = Vec::new();
    outbox.clear(|message, nack| back.push((message.key, nack == Completion::Nack { may_land: true })));
    assert_eq!(back, [(2, true), (4, true), (1, true), (3, true), (5, false)]);
}

#[test]
fn clients_hold_back_from_half_full_until_three_quarters_are_free() {
    let mut outbox = Outbox::new(&settings(1, 8, 8));
    let mut told = Vec::new();
    for key in 0..8 {
        assert!(outbox.take(message(0, key)));
        told.push(outbox.flow());
    }
    assert_eq!(told.iter().flatten().count(), 1);
    assert_eq!(told[3], Some(true));
    assert!(!outbox.take(message(0, 9)), "there is no room");
    sent(&mut outbox, LINK);
    let left: Vec<_> = (0..8)
        .map(|sequence| {
            outbox.answered(StreamIndex(0), sequence);
            outbox.flow()
        })
        .collect();
    assert_eq!(left.iter().position(|flow| *flow == Some(false)), Some(5));
}

proptest! {
    /// Whatever comes in whatever order, the books agree, and each message is sent in the order of its stream.
    #[test]
    fn the_books_agree(steps in prop::collection::vec((0u8..6, 0u16..3, 0u64..12), 1..200)) {
        let mut outbox = Outbox::new(&settings(3, 4, 16));
        let mut key = 0;
        let mut next = [0u64; 3];
        for (what, stream, number) in steps {
            match what {
                0 | 1 => {
                    key += 1;
                    outbox.take(message(stream, key));
                }
                2 | 3 => {
                    if let Some((_, taken, _)) = outbox.next(LinkIndex(stream as u8), Nanos(number)) {
                        let next = &mut next[taken.message.stream.usize()];
                        if taken.attempts == 0 {
                            prop_assert_eq!(taken.sequence, *next);
                            *next += 1;
                        } else {
                            prop_assert!(taken.sequence < *next);
                        }
                    }
                }
                4 => {
                    outbox.answered(StreamIndex(stream), number);
                }
                _ => {
                    outbox.lost(LinkIndex(stream as u8));
                }
            }
            prop_assert_eq!(outbox.check(), Ok(()));
        }
    }
}
