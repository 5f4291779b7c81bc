//! Runs of the nodes at both ends, and machines that are copies of each other.

use super::*;
use crate::greeting::tests::start;

/// A copied machine has the node id and the run of the one that it was copied from.
fn of_a_copy(hello: Hello) -> Hello {
    Hello {
        start: start(99),
        ..hello
    }
}

#[test]
fn two_machines_of_one_identity_do_not_serve_one_session() {
    let begun = |links: &[LinkIndex]| {
        let mut session = PortSession::asking(ends(2, 3), settings(), Nanos(0)).unwrap();
        let effects = &mut Vec::new();
        session.earlier_runs_landed(effects);
        session.begin(NOW, effects);
        for &link in links {
            session.connected(link, NOW, effects);
        }
        session.welcomed(LINK, &hello(LINK, 0), NOW, effects);
        session
    };
    let refused = PortEffect::Cut {
        link: OTHER,
        cause: CutCause::Refused(LinkRefusal::Cloned),
    };
    // While the round is being agreed on, and when it is in force.
    for is_up in [false, true] {
        let mut session = begun(&[LINK, OTHER]);
        let mut effects = Vec::new();
        if is_up {
            comes(&mut session, LINK, &of_round_1(FrameKind::ResetDone, 0, 0));
        }
        session.welcomed(OTHER, &of_a_copy(hello(OTHER, 0)), NOW, &mut effects);
        assert_eq!(effects, [refused]);
        assert_eq!(
            (session.link(LINK), session.counters().clones),
            (Some(LinkState::Up), 1)
        );
    }
    // The copy is told of it too, and says so.
    let mut session = begun(&[LINK]);
    session.refused(OTHER, LinkRefusal::Cloned, NOW, &mut Vec::new());
    assert_eq!(session.counters().clones, 1);
}

#[test]
fn two_machines_of_one_identity_do_not_ask_in_one_session() {
    let mut session = PortSession::serving(ends(2, 3), settings(), Nanos(0)).unwrap();
    let effects = &mut Vec::new();
    session.greeted(LINK, &hello(LINK, 0), NOW, effects).unwrap();
    effects.clear();
    let copy = of_a_copy(hello(OTHER, 0));
    assert_eq!(
        session.greeted(OTHER, &copy, NOW, effects),
        Err(LinkRefusal::Cloned)
    );
    // One who has talked to a copy of this end.
    let misled = Hello {
        peer_incarnation: Some(Incarnation(1)),
        peer_start: Some(start(99)),
        ..hello(OTHER, 0)
    };
    assert_eq!(
        session.greeted(OTHER, &misled, NOW, effects),
        Err(LinkRefusal::Cloned)
    );
    assert_eq!((effects.len(), session.counters().clones), (0, 2));
    assert_eq!(session.greeted(OTHER, &hello(OTHER, 0), NOW, effects), Ok(()));
}

#[test]
fn links_to_two_runs_of_the_other_end_are_not_mixed() {
    let of_run = |link, number| Hello {
        incarnation: Incarnation(number),
        ..hello(link, 0)
    };
    let resetting = || {
        let mut session = PortSession::asking(ends(2, 3), settings(), Nanos(0)).unwrap();
        let effects = &mut Vec::new();
        session.earlier_runs_landed(effects);
        session.begin(NOW, effects);
        session.connected(LINK, NOW, effects);
        session.connected(OTHER, NOW, effects);
        session.welcomed(LINK, &of_run(LINK, 4), NOW, effects);
        session
    };
    let mut session = resetting();
    let mut effects = Vec::new();
    session.welcomed(OTHER, &of_run(OTHER, 3), NOW, &mut effects);
    let latest = Incarnation(4);
    let refused = CutCause::Refused(LinkRefusal::EarlierIncarnation { latest });
    assert_eq!(
        effects,
        [PortEffect::Cut {
            link: OTHER,
            cause: refused
        }]
    );
    assert_eq!(session.peer_incarnation(), Some(latest));

    let mut session = resetting();
    let mut effects = Vec::new();
    session.welcomed(OTHER, &of_run(OTHER, 5), NOW, &mut effects);
    let cuts = [LINK, OTHER].map(|link| PortEffect::Cut {
        link,
        cause: CutCause::Down,
    });
    assert_eq!(effects, cuts, "the question went to a run that is over");
    assert_eq!(session.peer_incarnation(), Some(Incarnation(5)));
}

/// What the last run of the node had submitted is still on its way to a disk, of which this run knows nothing.
#[test]
fn no_round_is_confirmed_before_what_earlier_runs_have_submitted_has_landed() {
    let mut session = PortSession::serving(ends(2, 3), settings(), Nanos(0)).unwrap();
    let mut effects = Vec::new();
    assert_eq!(session.waits_for(), Some(ResetWait::EarlierRuns));
    session.greeted(LINK, &hello(LINK, 0), NOW, &mut effects).unwrap();
    assert_eq!(
        comes(&mut session, LINK, &reset(1)).1,
        [],
        "held, and not refused"
    );
    assert_eq!(session.phase(), SessionPhase::Resetting);
    assert_eq!(session.waits_for(), Some(ResetWait::EarlierRuns));
    // It is asked again, since it has not answered.
    assert_eq!(comes(&mut session, LINK, &reset(2)).1, []);
    effects.clear();
    session.earlier_runs_landed(&mut effects);
    let done = effects.first().is_some_and(|effect| matches!(effect, PortEffect::Send { header, .. } if header.kind == FrameKind::ResetDone && header.round == 2));
    assert!(done && effects.ends_with(&[PortEffect::Up]), "{effects:?}");
    assert_eq!(session.waits_for(), None);
}

#[test]
fn no_round_is_asked_for_before_what_earlier_runs_have_submitted_has_landed() {
    let mut session = PortSession::asking(ends(2, 3), settings(), Nanos(0)).unwrap();
    let mut effects = Vec::new();
    session.begin(NOW, &mut effects);
    session.connected(LINK, NOW, &mut effects);
    effects.clear();
    session.welcomed(LINK, &hello(LINK, 0), NOW, &mut effects);
    session.tick(NOW, &mut effects);
    assert_eq!((effects.len(), session.phase()), (0, SessionPhase::Down));
    session.earlier_runs_landed(&mut effects);
    assert!(
        matches!(effects[..], [PortEffect::Send { header, .. }] if header == reset(1)),
        "{effects:?}"
    );
    assert_eq!(session.waits_for(), Some(ResetWait::OtherEnd));
    session.lost(LINK, NOW, &mut effects);
    assert_eq!(session.waits_for(), Some(ResetWait::Link));
}
