use super::*;
use crate::MessageAnswer;
use palisade_wire::FrameKind;

const STREAM: StreamIndex = StreamIndex(0);
/// A link that is not there any more.
const GONE: LinkIndex = LinkIndex(99);

fn inbox(window: u16) -> Inbox {
    Inbox::new(&SessionSettings {
        streams: 1,
        window,
        ..SessionSettings::default()
    })
}

fn header(sequence: u64, behind: u16, attempt: u8) -> FrameHeader {
    FrameHeader {
        sequence,
        behind,
        attempt,
        ..FrameHeader::of(FrameKind::Message)
    }
}

/// A message comes by the link whose number is that of the attempt.
fn arrive(inbox: &mut Inbox, sequence: u64, behind: u16, attempt: u8) -> Result<Arrival, Violation> {
    let arrival = inbox.arrive(&header(sequence, behind, attempt), LinkIndex(attempt), None);
    inbox.check().unwrap();
    arrival
}

fn due(inbox: &mut Inbox) -> Vec<u64> {
    std::iter::from_fn(|| inbox.due(STREAM).map(|due| due.sequence)).collect()
}

fn answer(inbox: &mut Inbox, sequence: u64, is_repeatable: bool) -> bool {
    let answer = MessageAnswer {
        round: 1,
        stream: STREAM,
        sequence,
        words: [7; 22],
        payload_bytes: 0,
        key: sequence,
        is_repeatable,
    };
    let taken = inbox.answer(&answer, false);
    inbox.check().unwrap();
    taken
}

/// The numbers whose answers are sent, and by which links.
fn answers(inbox: &mut Inbox) -> Vec<(u64, LinkIndex)> {
    let next = || inbox.next_answer();
    let all = std::iter::from_fn(next);
    all.filter(|(.., is_wanted)| *is_wanted)
        .map(|(_, sequence, given, _)| (sequence, given.link().unwrap_or(GONE)))
        .collect()
}

#[test]
fn what_comes_out_of_order_is_held() {
    let mut inbox = inbox(4);
    assert_eq!(arrive(&mut inbox, 2, 2, 0), Ok(Arrival::New));
    assert_eq!(arrive(&mut inbox, 1, 1, 0), Ok(Arrival::New));
    assert_eq!(due(&mut inbox), []);
    assert_eq!(arrive(&mut inbox, 0, 0, 0), Ok(Arrival::New));
    assert_eq!(due(&mut inbox), [0, 1, 2]);
    assert_eq!(inbox.given(), 3);
}

#[test]
fn what_was_done_is_not_done_again_and_its_answer_comes_once_more() {
    let mut inbox = inbox(4);
    arrive(&mut inbox, 0, 0, 0).unwrap();
    assert_eq!(due(&mut inbox), [0]);
    assert_eq!(
        arrive(&mut inbox, 0, 0, 1),
        Ok(Arrival::Known),
        "it is with the client"
    );
    assert!(answer(&mut inbox, 0, false));
    assert_eq!(
        answers(&mut inbox),
        [(0, LinkIndex(1))],
        "by the link of the latest attempt"
    );
    assert_eq!(arrive(&mut inbox, 0, 0, 2), Ok(Arrival::Known));
    assert_eq!(answers(&mut inbox), [(0, LinkIndex(2))]);
    assert_eq!(due(&mut inbox), []);
}

/// Else the answer goes by a link that the other end has given up, and it waits for it on the one that it sent by last.
#[test]
fn an_attempt_that_was_delayed_does_not_take_the_answer_with_it() {
    let mut inbox = inbox(4);
    arrive(&mut inbox, 0, 0, 1).unwrap();
    assert_eq!(due(&mut inbox), [0]);
    assert_eq!(arrive(&mut inbox, 0, 0, 0), Ok(Arrival::Known));
    assert!(answer(&mut inbox, 0, false));
    assert_eq!(answers(&mut inbox), [(0, LinkIndex(1))]);
    assert_eq!(arrive(&mut inbox, 0, 0, 0), Ok(Arrival::Known));
    assert_eq!(answers(&mut inbox), []);
    assert_eq!(
        arrive(&mut inbox, 0, 0, 255),
        Ok(Arrival::Known),
        "attempts are counted modulo 256"
    );
    assert_eq!(answers(&mut inbox), []);
}

#[test]
fn a_read_is_delivered_again_when_its_answer_is_lost() {
    let mut inbox = inbox(1);
    arrive(&mut inbox, 0, 0, 0).unwrap();
    assert_eq!(due(&mut inbox), [0]);
    assert!(answer(&mut inbox, 0, true));
    assert_eq!(
        arrive(&mut inbox, 0, 0, 1),
        Ok(Arrival::Known),
        "its answer is not sent yet"
    );
    assert_eq!(answers(&mut inbox), [(0, LinkIndex(1))]);
    assert_eq!(arrive(&mut inbox, 0, 0, 2), Ok(Arrival::Again));
    assert_eq!(inbox.given(), 1);
    // The other end has got the first answer after all, and sends what its window allows.
    assert_eq!(arrive(&mut inbox, 1, 0, 0), Ok(Arrival::New));
    assert_eq!(due(&mut inbox), [1]);
    assert_eq!(inbox.given(), 2, "the client is at work on it all the same");
    assert!(!answer(&mut inbox, 0, true), "nobody waits for it");
    assert_eq!(inbox.given(), 1);
    assert!(!answer(&mut inbox, 0, true), "nor is it answered twice");
    assert_eq!(inbox.given(), 1);
}

/// While its payload arrives, the answer that was known is sent, and lost.
#[test]
fn a_message_with_a_payload_that_may_be_delivered_again_has_a_buffer() {
    let with_data = |attempt| FrameHeader {
        payload_bytes: 512,
        ..header(0, 0, attempt)
    };
    let (link, buffer) = (LinkIndex(0), Some(BufferIndex(1)));
    let mut inbox = inbox(4);
    let needs = |inbox: &mut Inbox, attempt| inbox.may_be_delivered(&with_data(attempt));
    assert!(needs(&mut inbox, 0));
    assert_eq!(inbox.arrive(&with_data(0), link, buffer), Ok(Arrival::New));
    assert!(needs(&mut inbox, 1) && !needs(&mut inbox, 0), "held");
    assert_eq!(due(&mut inbox), [0]);
    assert!(needs(&mut inbox, 1) && !needs(&mut inbox, 0), "with the client");
    assert!(answer(&mut inbox, 0, true));
    assert_eq!(
        inbox.judge(&with_data(1)),
        Ok(Arrival::Known),
        "its answer is not sent yet"
    );
    assert!(needs(&mut inbox, 1) && !needs(&mut inbox, 0), "answered");
    assert_eq!(answers(&mut inbox).len(), 1);
    assert_eq!(
        inbox.arrive(&with_data(1), link, None),
        Err(Violation::OutOfPlace),
        "it is delivered with its data or not at all"
    );
    assert_eq!(inbox.arrive(&with_data(1), link, buffer), Ok(Arrival::Again));
    // What is not done again needs none.
    assert!(answer(&mut inbox, 0, false));
    assert!(!needs(&mut inbox, 2));
}

#[test]
fn answers_are_kept_until_the_other_end_has_them() {
    let mut inbox = inbox(2);
    for sequence in 0..8 {
        let behind = if sequence < 2 { sequence as u16 } else { 1 };
        assert_eq!(arrive(&mut inbox, sequence, behind, 0), Ok(Arrival::New));
        assert_eq!(due(&mut inbox), [sequence]);
        assert!(answer(&mut inbox, sequence, false));
        assert_eq!(answers(&mut inbox), [(sequence, LinkIndex(0))]);
    }
    assert_eq!(arrive(&mut inbox, 6, 0, 1), Ok(Arrival::Known));
    assert_eq!(answers(&mut inbox), [(6, LinkIndex(1))]);
    assert_eq!(arrive(&mut inbox, 2, 0, 1), Ok(Arrival::Known), "long settled");
    assert_eq!(answers(&mut inbox), []);
}

#[test]
fn what_no_program_of_ours_sends_is_named() {
    let mut two = inbox(2);
    assert_eq!(
        arrive(&mut two, 4, 4, 0),
        Err(Violation::Window),
        "beyond the span"
    );
    arrive(&mut two, 0, 0, 0).unwrap();
    arrive(&mut two, 1, 1, 0).unwrap();
    assert_eq!(
        arrive(&mut two, 2, 2, 0),
        Err(Violation::Window),
        "a third one of two"
    );
    assert_eq!(due(&mut two), [0, 1]);
    assert_eq!(arrive(&mut two, 2, 1, 0), Err(Violation::NeverAnswered));
    let elsewhere = FrameHeader {
        stream: StreamIndex(1),
        ..header(0, 0, 0)
    };
    assert_eq!(
        two.arrive(&elsewhere, LinkIndex(0), None),
        Err(Violation::NoStream)
    );
    let far = header(u64::MAX, u16::MAX, 0);
    assert_eq!(
        two.arrive(&far, LinkIndex(0), None),
        Err(Violation::NeverAnswered)
    );
    let last = header(u64::MAX, 0, 0);
    assert_eq!(
        inbox(1).arrive(&last, LinkIndex(0), None),
        Err(Violation::NeverAnswered)
    );
}

#[test]
fn a_void_message_fills_its_place_and_no_more() {
    let mut inbox = inbox(4);
    arrive(&mut inbox, 1, 1, 0).unwrap();
    let void = FrameHeader {
        is_void: true,
        ..header(0, 0, 0)
    };
    assert_eq!(inbox.arrive(&void, LinkIndex(0), None), Ok(Arrival::New));
    assert_eq!(due(&mut inbox), [1]);
    assert_eq!(answers(&mut inbox), [(0, LinkIndex(0))]);
    assert_eq!(inbox.given(), 1);
}

/// The other end does not wait for it there: by that link it was never asked.
#[test]
fn an_answer_does_not_go_by_a_link_that_was_made_anew() {
    let mut inbox = inbox(4);
    for sequence in [0, 1] {
        arrive(&mut inbox, sequence, sequence as u16, 0).unwrap();
    }
    assert_eq!(due(&mut inbox), [0, 1]);
    assert!(answer(&mut inbox, 0, false));
    inbox.lost(LinkIndex(0));
    assert!(answer(&mut inbox, 1, false));
    assert_eq!(answers(&mut inbox), [(0, GONE), (1, GONE)]);
    assert_eq!(arrive(&mut inbox, 1, 1, 1), Ok(Arrival::Known));
    assert_eq!(answers(&mut inbox), [(1, LinkIndex(1))]);
}
