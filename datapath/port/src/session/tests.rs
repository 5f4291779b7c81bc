//! What a session does with single frames, those included that no program of ours sends.

use super::*;
use crate::greeting::tests::ends;
use crate::message::{BufferIndex, Landed, Landing, Violation};
use palisade_wire::{Hello, LinkRefusal};
use palisade_words::StreamIndex;

mod runs;

const NOW: Nanos = Nanos::from_millis(1);
const LINK: LinkIndex = LinkIndex(0);
const OTHER: LinkIndex = LinkIndex(1);
const STREAM: StreamIndex = StreamIndex(0);

fn settings() -> SessionSettings {
    SessionSettings {
        links: 2,
        streams: 1,
        window: 4,
        messages: 8,
        ..SessionSettings::default()
    }
}

/// What the other end says when a link is made.
fn hello(link: LinkIndex, round: u32) -> Hello {
    ends(3, 2).hello(&settings(), link, (round, Epoch(0)), None)
}

/// An asking session with both links and in its first round.
fn up() -> PortSession {
    let mut session = PortSession::asking(ends(2, 3), settings(), Nanos(0)).unwrap();
    let effects = &mut Vec::new();
    session.earlier_runs_landed(effects);
    session.begin(NOW, effects);
    for link in [LINK, OTHER] {
        session.connected(link, NOW, effects);
        session.welcomed(link, &hello(link, 0), NOW, effects);
    }
    let done = FrameHeader {
        round: 1,
        ..FrameHeader::of(FrameKind::ResetDone)
    };
    session.arrived(LINK, &done, Landed::Nowhere, NOW, effects);
    assert_eq!(
        (session.phase(), effects.last()),
        (SessionPhase::Up, Some(&PortEffect::Up))
    );
    session
}

fn message(key: u64, answer_bytes: u32) -> PortMessage {
    PortMessage {
        client: 1,
        stream: STREAM,
        words: [0; 22],
        payload_bytes: 0,
        answer_bytes,
        epoch: Epoch(0),
        key,
        completes: Completes::Answered,
    }
}

/// Sends messages; the links by which each goes.
fn send(session: &mut PortSession, messages: impl IntoIterator<Item = PortMessage>) -> Vec<LinkIndex> {
    let mut effects = Vec::new();
    for message in messages {
        session.send(message, &mut effects).unwrap();
    }
    session.pump(NOW, &mut effects);
    let sent = effects.iter().filter_map(|effect| match effect {
        PortEffect::Send { link, header, .. } if header.kind == FrameKind::Message => Some(*link),
        _ => None,
    });
    sent.collect()
}

fn reset(round: u32) -> FrameHeader {
    FrameHeader {
        round,
        ..FrameHeader::of(FrameKind::Reset)
    }
}

fn of_round_1(kind: FrameKind, sequence: u64, payload_bytes: u32) -> FrameHeader {
    FrameHeader {
        round: 1,
        sequence,
        payload_bytes,
        ..FrameHeader::of(kind)
    }
}

/// A frame comes: where its payload goes, and what follows.
fn comes(session: &mut PortSession, link: LinkIndex, header: &FrameHeader) -> (Landing, Vec<PortEffect>) {
    let mut effects = Vec::new();
    let landing = session.landing(link, header, NOW, &mut effects);
    let landed = match landing {
        Landing::Buffer => Landed::Buffer(BufferIndex(5)),
        Landing::Answer { .. } => Landed::Answer,
        Landing::Nowhere => Landed::Nowhere,
    };
    session.arrived(link, header, landed, NOW, &mut effects);
    session.check().unwrap();
    (landing, effects)
}

fn cut(link: LinkIndex, violation: Violation) -> PortEffect {
    let cause = CutCause::Violation(violation);
    PortEffect::Cut { link, cause }
}

#[test]
fn an_answer_comes_by_the_link_that_its_message_went_by_and_by_no_other() {
    let mut session = up();
    let went = send(&mut session, [message(7, 512)])[0];
    let other = if went == LINK { OTHER } else { LINK };
    let answer = of_round_1(FrameKind::Answer, 0, 512);
    assert_eq!(comes(&mut session, other, &answer), (Landing::Nowhere, vec![]));
    let (landing, effects) = comes(&mut session, went, &answer);
    assert_eq!(landing, Landing::Answer { key: 7 });
    let completion = Completion::Answered {
        words: [0; 22],
        payload_bytes: 512,
    };
    assert_eq!(
        effects,
        [PortEffect::Complete {
            client: 1,
            key: 7,
            completion
        }]
    );
    assert_eq!(
        comes(&mut session, went, &answer),
        (Landing::Nowhere, vec![]),
        "it is done"
    );
}

#[test]
fn an_answer_is_not_put_where_there_is_no_room_for_it() {
    let mut session = up();
    let went = send(&mut session, [message(7, 512)])[0];
    let longer = of_round_1(FrameKind::Answer, 0, 513);
    let mut effects = Vec::new();
    assert_eq!(
        session.landing(went, &longer, NOW, &mut effects),
        Landing::Nowhere
    );
    assert_eq!(effects, [cut(went, Violation::TooMuchData)]);
}

/// Its client has been told that the other end has it, and its data may be gone.
#[test]
fn what_was_accepted_is_sent_again_without_its_data() {
    let mut session = up();
    let accepted = PortMessage {
        payload_bytes: 4096,
        completes: Completes::Accepted,
        ..message(7, 0)
    };
    let went = send(&mut session, [accepted])[0];
    comes(&mut session, went, &of_round_1(FrameKind::Accepted, 0, 0));
    let mut effects = Vec::new();
    session.lost(went, NOW, &mut effects);
    session.pump(NOW, &mut effects);
    let again = effects.iter().find_map(|effect| match effect {
        PortEffect::Send { header, .. } if header.kind == FrameKind::Message => Some(header),
        _ => None,
    });
    assert!(
        again.is_some_and(|header| header.is_void && header.payload_bytes == 0),
        "{effects:?}"
    );
    assert_eq!(session.counters().lost_after_sent, 0);
}

#[test]
fn messages_go_by_the_link_with_the_least_outstanding_what_is_to_come_included() {
    let mut session = up();
    let links = send(
        &mut session,
        [message(1, 1 << 20), message(2, 0), message(3, 0), message(4, 0)],
    );
    assert!(links[1..].iter().all(|link| *link != links[0]), "{links:?}");
}

#[test]
fn frames_that_no_program_of_ours_sends_cut_their_link_and_no_more() {
    let strange = [
        (of_round_1(FrameKind::Answer, 0, 0), Violation::NeverAsked),
        (
            of_round_1(FrameKind::Answer, u64::MAX, 512),
            Violation::NeverAsked,
        ),
        (
            FrameHeader {
                behind: 100,
                ..of_round_1(FrameKind::Message, 100, 0)
            },
            Violation::Window,
        ),
        (
            FrameHeader {
                stream: StreamIndex(9),
                ..of_round_1(FrameKind::Message, 0, 0)
            },
            Violation::NoStream,
        ),
        (
            FrameHeader {
                behind: 0,
                ..of_round_1(FrameKind::Message, 1, 0)
            },
            Violation::NeverAnswered,
        ),
        (FrameHeader::of(FrameKind::Reset), Violation::OutOfPlace),
        (
            FrameHeader {
                payload_bytes: 128,
                ..FrameHeader::of(FrameKind::Hello)
            },
            Violation::OutOfPlace,
        ),
    ];
    for (header, violation) in strange {
        let mut session = up();
        let (_, effects) = comes(&mut session, OTHER, &header);
        assert_eq!(effects, [cut(OTHER, violation)], "{header:?}");
        assert_eq!(
            (session.phase(), session.counters().violations),
            (SessionPhase::Up, 1)
        );
        // The other link is none the worse for it.
        assert_eq!(send(&mut session, [message(1, 0)]), [LINK]);
    }
    // A message of another window is one that may not be.
    let mut session = up();
    for sequence in 0..4 {
        let frame = FrameHeader {
            behind: sequence as u16,
            ..of_round_1(FrameKind::Message, sequence, 0)
        };
        assert!(matches!(
            comes(&mut session, LINK, &frame).1[..],
            [PortEffect::Deliver { .. }]
        ));
    }
    let fifth = FrameHeader {
        behind: 4,
        ..of_round_1(FrameKind::Message, 4, 512)
    };
    assert_eq!(
        comes(&mut session, LINK, &fifth),
        (Landing::Nowhere, vec![cut(LINK, Violation::Window)])
    );
}

#[test]
fn down_is_said_when_all_links_are_closed_and_then_each_message_comes_back_once() {
    let mut session = up();
    assert_eq!(
        send(&mut session, (0..6).map(|key| message(key, 0))).len(),
        4,
        "the window"
    );
    let mut effects = Vec::new();
    session.peer_left(NOW, &mut effects);
    let cuts = [LINK, OTHER].map(|link| PortEffect::Cut {
        link,
        cause: CutCause::Down,
    });
    assert_eq!(effects, cuts);
    assert_eq!(session.send(message(9, 0), &mut effects), Err(SendError::Down));
    session.lost(LINK, NOW, &mut effects);
    assert_eq!(effects.len(), 2, "one link may still bring something");
    effects.clear();
    session.lost(OTHER, NOW, &mut effects);
    let back = effects.iter().filter_map(|effect| match effect {
        PortEffect::Complete {
            key,
            completion: Completion::Nack { may_land },
            ..
        } => Some((*key, *may_land)),
        _ => None,
    });
    let back: Vec<_> = back.collect();
    assert_eq!(effects[0], PortEffect::Down(DownCause::PeerLeft));
    assert_eq!(
        back,
        [(0, true), (1, true), (2, true), (3, true), (4, false), (5, false)]
    );
    assert!(
        effects.ends_with(&[PortEffect::Dial(LINK), PortEffect::Dial(OTHER)]),
        "it is tried again"
    );
    assert_eq!(session.send(message(9, 0), &mut effects), Err(SendError::Down));
}

#[test]
fn a_frame_of_another_round_counts_for_nothing() {
    let mut session = up();
    send(&mut session, [message(1, 512)]);
    for round in [0, 2, u32::MAX] {
        for kind in [FrameKind::Message, FrameKind::Answer] {
            for link in [LINK, OTHER] {
                let frame = FrameHeader {
                    round,
                    ..of_round_1(kind, 0, 512)
                };
                assert_eq!(comes(&mut session, link, &frame), (Landing::Nowhere, vec![]));
            }
        }
    }
    assert_eq!((session.counters().stale, session.outstanding()), (12, 1));
}

#[test]
fn a_session_that_is_closed_in_good_order_is_down_at_the_other_end_and_not_made_anew() {
    let mut session = up();
    send(&mut session, [message(1, 0)]);
    let mut effects = Vec::new();
    session.close(NOW, &mut effects);
    assert_eq!(effects, [], "a message is not done yet");
    assert_eq!(session.send(message(2, 0), &mut effects), Err(SendError::Down));
    for link in [LINK, OTHER] {
        comes(&mut session, link, &of_round_1(FrameKind::Answer, 0, 0));
    }
    session.pump(NOW, &mut effects);
    let closes = |effect: &PortEffect| matches!(effect, PortEffect::Send { header, .. } if header.kind == FrameKind::Close);
    assert!(closes(&effects[0]) && closes(&effects[1]), "by each link");
    assert!(!effects[0].is_urgent(), "what waits there goes first");
    assert_eq!(
        effects[2..],
        [LINK, OTHER].map(|link| PortEffect::Cut {
            link,
            cause: CutCause::Closed
        })
    );

    let mut other = up();
    send(&mut other, [message(1, 0)]);
    comes(&mut other, LINK, &of_round_1(FrameKind::Close, 0, 0));
    let mut effects = Vec::new();
    other.lost(LINK, NOW, &mut effects);
    other.lost(OTHER, NOW, &mut effects);
    let nack = PortEffect::Complete {
        client: 1,
        key: 1,
        completion: Completion::Nack { may_land: true },
    };
    assert_eq!(effects, [PortEffect::Down(DownCause::PeerClosed), nack]);
    assert_eq!((other.phase(), other.next_look()), (SessionPhase::Closed, None));
}

#[test]
fn a_link_is_taken_from_nobody_and_an_earlier_run_is_refused() {
    let mut session = PortSession::serving(ends(2, 3), settings(), Nanos(0)).unwrap();
    let effects = &mut Vec::new();
    let of_run = |number| Hello {
        incarnation: Incarnation(number),
        ..hello(LINK, 0)
    };
    assert_eq!(session.greeted(LINK, &of_run(4), NOW, effects), Ok(()));
    assert_eq!(
        session.greeted(LINK, &of_run(4), NOW, effects),
        Err(LinkRefusal::LinkInUse)
    );
    let latest = Incarnation(4);
    assert_eq!(
        session.greeted(LINK, &of_run(3), NOW, effects),
        Err(LinkRefusal::EarlierIncarnation { latest })
    );
    assert_eq!(session.link(LINK), Some(LinkState::Up));
    // A later run is let in when nothing is left of this one.
    assert_eq!(
        session.greeted(LINK, &of_run(5), NOW, effects),
        Err(LinkRefusal::Draining)
    );
    assert_eq!(session.link(LINK), Some(LinkState::Closing));
    session.lost(LINK, NOW, effects);
    assert_eq!(session.greeted(LINK, &of_run(5), NOW, effects), Ok(()));
}

/// The other end's clients are at work on what was asked before: the new round waits for them.
#[test]
fn a_round_begins_when_clients_have_done_what_they_had() {
    let mut session = PortSession::serving(ends(2, 3), settings(), Nanos(0)).unwrap();
    let effects = &mut Vec::new();
    session.earlier_runs_landed(effects);
    session.greeted(LINK, &hello(LINK, 0), NOW, effects).unwrap();
    comes(&mut session, LINK, &reset(1));
    comes(&mut session, LINK, &of_round_1(FrameKind::Message, 0, 0));
    session.peer_left(NOW, effects);
    session.lost(LINK, NOW, effects);
    session.greeted(LINK, &hello(LINK, 0), NOW, effects).unwrap();
    assert_eq!(
        comes(&mut session, LINK, &reset(2)).1,
        [],
        "one message is worked on"
    );
    assert_eq!(session.phase(), SessionPhase::Resetting);
    assert_eq!(session.waits_for(), Some(ResetWait::OwnClients { unanswered: 1 }));
    let answer = MessageAnswer {
        round: 1,
        stream: STREAM,
        sequence: 0,
        words: [0; 22],
        payload_bytes: 0,
        key: 0,
        is_repeatable: false,
    };
    effects.clear();
    session.answer(answer, effects);
    let says = |effect: &PortEffect| matches!(effect, PortEffect::Send { header, .. } if header.kind == FrameKind::ResetDone && header.round == 2);
    assert!(says(&effects[0]) && effects[1] == PortEffect::Up, "{effects:?}");
    let again = comes(&mut session, LINK, &reset(2)).1;
    assert!(
        again.len() == 1 && says(&again[0]),
        "whoever asks again has not heard it: {again:?}"
    );
    assert_eq!(
        comes(&mut session, LINK, &reset(1)).1,
        [],
        "one that comes late changes nothing"
    );
}

/// The asking end takes the last round for being in force, and this link is the only one that it has: its greeting passed by when
/// neither end was up.
#[test]
fn a_link_on_which_the_last_round_goes_on_is_cut_by_the_end_that_is_down() {
    let kinds = [
        FrameKind::Message,
        FrameKind::Answer,
        FrameKind::Probe,
        FrameKind::ProbeAnswer,
    ];
    for frame in kinds.map(|kind| of_round_1(kind, 0, 0)) {
        let mut session = PortSession::serving(ends(2, 3), settings(), Nanos(0)).unwrap();
        let effects = &mut Vec::new();
        session.earlier_runs_landed(effects);
        session.greeted(LINK, &hello(LINK, 0), NOW, effects).unwrap();
        comes(&mut session, LINK, &reset(1));
        let probe = comes(&mut session, LINK, &of_round_1(FrameKind::Probe, 0, 0)).1;
        assert!(
            matches!(probe[..], [PortEffect::Send { header, .. }] if header == of_round_1(FrameKind::ProbeAnswer, 0, 0)),
            "{probe:?}"
        );
        session.peer_left(NOW, effects);
        session.lost(LINK, NOW, effects);
        session.greeted(OTHER, &hello(OTHER, 0), NOW, effects).unwrap();
        let asked = comes(&mut session, OTHER, &FrameHeader::of(FrameKind::Probe)).1;
        assert!(
            matches!(asked[..], [PortEffect::Send { header, .. }] if header == FrameHeader::of(FrameKind::ProbeAnswer)),
            "it knows that no round is in force: {asked:?}"
        );
        let cause = CutCause::OtherRound;
        let cut = PortEffect::Cut { link: OTHER, cause };
        assert_eq!(comes(&mut session, OTHER, &frame), (Landing::Nowhere, vec![cut]));
        assert_eq!(session.counters().stale, 1);
    }
}

/// By another link, or behind others on the same one, answers may be on their way that were given before.
#[test]
fn what_was_answered_before_a_close_arrives_after_it() {
    let mut session = up();
    let links = send(&mut session, [message(1, 0), message(2, 0), message(3, 0)]);
    let (first, other) = (links[0], links[1]);
    assert_ne!(first, other);
    let effects = comes(&mut session, other, &of_round_1(FrameKind::Close, 0, 0)).1;
    let cut = |link| PortEffect::Cut {
        link,
        cause: CutCause::Down,
    };
    assert_eq!(effects, [cut(other)], "nothing follows by this one");
    assert_eq!(session.send(message(4, 0), &mut Vec::new()), Err(SendError::Down));
    let mut effects = Vec::new();
    session.lost(other, NOW, &mut effects);
    session.pump(NOW, &mut effects);
    session.tick(NOW.after(settings().again_after), &mut effects);
    assert_eq!(effects, [], "nothing is sent again, and no link made anew");
    let answered = comes(&mut session, first, &of_round_1(FrameKind::Answer, 0, 0)).1;
    assert!(
        matches!(answered[..], [PortEffect::Complete { key: 1, .. }]),
        "{answered:?}"
    );
    let effects = comes(&mut session, first, &of_round_1(FrameKind::Close, 0, 0)).1;
    assert_eq!(effects, [cut(first)], "and by none");
    let mut effects = Vec::new();
    session.lost(first, NOW, &mut effects);
    assert_eq!(effects[0], PortEffect::Down(DownCause::PeerClosed));
    assert_eq!(
        effects.len(),
        3,
        "what was sent by the link that is gone comes back: {effects:?}"
    );
}

#[test]
fn a_session_that_is_closed_while_it_has_no_link_makes_one_to_say_so() {
    let mut session = up();
    let mut effects = Vec::new();
    session.lost(LINK, NOW, &mut effects);
    session.lost(OTHER, NOW, &mut effects);
    session.close(NOW, &mut effects);
    assert_eq!((effects.len(), session.phase()), (0, SessionPhase::Up));
    let later = NOW.after(settings().again_after);
    session.tick(later, &mut effects);
    assert_eq!(effects, [PortEffect::Dial(LINK), PortEffect::Dial(OTHER)]);
    session.connected(LINK, later, &mut effects);
    session.welcomed(LINK, &hello(LINK, 1), later, &mut effects);
    effects.clear();
    session.pump(later, &mut effects);
    assert!(matches!(effects[0], PortEffect::Send { header, .. } if header.kind == FrameKind::Close));
    // If there is none to be had, it is closed all the same.
    let mut session = up();
    session.lost(LINK, NOW, &mut effects);
    session.lost(OTHER, NOW, &mut effects);
    session.close(NOW, &mut effects);
    effects.clear();
    session.tick(NOW.after(settings().down_after), &mut effects);
    session.lost(LINK, NOW, &mut effects);
    session.lost(OTHER, NOW, &mut effects);
    assert_eq!(effects.last(), Some(&PortEffect::Down(DownCause::NoLink)));
    assert_eq!(session.phase(), SessionPhase::Closed);
}

/// What is held is thrown away when the session goes down, and its sender does not send it again once it was told.
#[test]
fn a_message_is_accepted_when_it_is_delivered() {
    let mut session = up();
    let asks = |sequence, attempt| FrameHeader {
        asks_accepted: true,
        behind: sequence as u16,
        attempt,
        ..of_round_1(FrameKind::Message, sequence, 0)
    };
    let accepted = |link, sequence| PortEffect::Send {
        link,
        header: of_round_1(FrameKind::Accepted, sequence, 0),
        payload: Payload::None,
    };
    assert_eq!(
        comes(&mut session, LINK, &asks(1, 0)).1,
        [],
        "one before it is missing"
    );
    assert_eq!(comes(&mut session, OTHER, &asks(1, 1)).1, [], "and still is");
    let effects = comes(&mut session, LINK, &asks(0, 0)).1;
    assert!(
        matches!(effects[..], [PortEffect::Deliver { sequence: 0, .. }, first, PortEffect::Deliver { sequence: 1, .. }, second]
            if first == accepted(LINK, 0) && second == accepted(OTHER, 1)),
        "{effects:?}"
    );
    assert_eq!(
        comes(&mut session, OTHER, &asks(0, 1)).1,
        [accepted(OTHER, 0)],
        "whoever asks again has not heard it"
    );
    // By a link that is gone it is not said: its sender asks again.
    let mut session = up();
    comes(&mut session, LINK, &asks(1, 0));
    session.lost(LINK, NOW, &mut Vec::new());
    let effects = comes(&mut session, OTHER, &asks(0, 0)).1;
    assert_eq!(effects.len(), 3, "{effects:?}");
}

/// One frame may take longer than a link may be silent, at the end that reads it and at the end that sends it.
#[test]
fn a_link_that_carries_one_frame_for_long_is_not_given_up() {
    let mut session = up();
    let settings = settings();
    let slow = of_round_1(FrameKind::Message, 0, 1 << 20);
    let mut effects = Vec::new();
    assert_eq!(session.landing(LINK, &slow, NOW, &mut effects), Landing::Buffer);
    let step = Nanos(settings.probe_after.0 / 4);
    let mut now = NOW;
    let mut probes = Vec::new();
    while now.since(NOW) < Nanos(settings.lost_after.0 * 3) {
        now = now.after(step);
        // The other link is well.
        session.heard(LINK, now, &mut effects);
        session.arrived(
            OTHER,
            &FrameHeader::of(FrameKind::ProbeAnswer),
            Landed::Nowhere,
            now,
            &mut effects,
        );
        session.tick(now, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                PortEffect::Send {
                    link: LINK, header, ..
                } if header.kind == FrameKind::Probe => probes.push(now),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(session.link(LINK), Some(LinkState::Up));
    let apart = probes.windows(2).map(|two| two[1].since(two[0]));
    assert!(
        apart.clone().all(|apart| apart == settings.probe_after),
        "{probes:?}"
    );
    assert_eq!(
        apart.count(),
        11,
        "so the other end hears of it, and not more often"
    );
    // When nothing comes any more, it is given up.
    session.arrived(
        OTHER,
        &FrameHeader::of(FrameKind::ProbeAnswer),
        Landed::Nowhere,
        now.after(settings.lost_after),
        &mut effects,
    );
    session.tick(now.after(settings.lost_after), &mut effects);
    let cause = CutCause::Silent;
    assert_eq!(effects.last(), Some(&PortEffect::Cut { link: LINK, cause }));
}

/// The other end still knows the rounds of the session that was closed, and takes their numbers for late ones.
#[test]
fn rounds_go_on_from_one_session_of_a_run_to_the_next() {
    let mut closed = up();
    let mut effects = Vec::new();
    closed.peer_left(NOW, &mut effects);
    closed.lost(LINK, NOW, &mut effects);
    closed.lost(OTHER, NOW, &mut effects);
    closed.connected(LINK, NOW, &mut effects);
    closed.welcomed(LINK, &hello(LINK, 0), NOW, &mut effects);
    assert!(
        matches!(effects.last(), Some(PortEffect::Send { header, .. }) if *header == reset(2)),
        "{effects:?}"
    );
    closed.stop(NOW, &mut effects);
    let mut session = PortSession::asking(ends(2, 3), settings(), Nanos(0)).unwrap();
    session.follow(&closed);
    session.earlier_runs_landed(&mut effects);
    session.begin(NOW, &mut effects);
    session.connected(LINK, NOW, &mut effects);
    session.welcomed(LINK, &hello(LINK, 0), NOW, &mut effects);
    assert!(
        matches!(effects.last(), Some(PortEffect::Send { header, .. }) if *header == reset(3)),
        "{effects:?}"
    );
}
