//! Who shows as much as before counts, in whatever order its messages come; who shows less does not.

use super::*;

const A: VoterId = VoterId(Uuid(1));
const B: VoterId = VoterId(Uuid(2));

/// `applied` counts entries.
fn shown(incarnation: u64, (term, voted_for): (u64, VoterId), applied: u64) -> Shown {
    Shown {
        incarnation: Incarnation(incarnation),
        run: Uuid(u128::from(incarnation) + 1_000),
        term,
        voted_for: voted_for.0,
        is_elected: false,
        applied: applied.checked_sub(1),
    }
}

fn elected(shown: Shown) -> Shown {
    Shown {
        is_elected: true,
        ..shown
    }
}

#[test]
fn who_shows_as_much_or_more_counts() {
    let mut remembered = Remembered::default();
    let all = [
        (shown(1, (0, A), 0), News::Promise),
        (shown(1, (1, A), 0), News::Promise),
        (shown(1, (1, A), 5), News::Progress),
        (shown(2, (1, A), 5), News::Promise),
        // It has voted for one, and another was elected.
        (elected(shown(2, (1, B), 5)), News::Promise),
        (shown(2, (3, A), 6), News::Promise),
        (shown(2, (3, A), 6), News::Nothing),
        // One that was overtaken by those before it.
        (shown(2, (1, A), 5), News::Nothing),
    ];
    for (shown, news) in all {
        assert_eq!(remembered.meets(A, shown), Ok(news), "{shown:?}");
    }
    // Of another voter nothing is known by that.
    assert_eq!(remembered.meets(B, shown(1, (0, A), 0)), Ok(News::Promise));
    assert_eq!((remembered.refused(A), remembered.refused(B)), (None, None));
    // What was overtaken has taken nothing back.
    assert!(remembered.meets(A, shown(3, (2, A), 6)).is_err());
}

#[test]
fn who_shows_less_of_anything_does_not_count_and_is_counted() {
    let before = elected(shown(3, (7, A), 9));
    let cases = [
        (shown(2, (8, B), 10), "run 2 after run 3"),
        (shown(4, (6, A), 10), "term 6 after term 7"),
        (shown(4, (7, A), 10), "whom it has followed in this term"),
        (elected(shown(4, (7, B), 10)), "a vote for"),
        (shown(4, (8, B), 8), "entry 7 as applied after entry 8"),
        (shown(4, (8, B), 0), "entry none as applied after entry 8"),
        // A copy of the files runs beside it, or from before it counted its runs on.
        (
            Shown {
                run: Uuid(9),
                ..before
            },
            "a second run of number 3",
        ),
    ];
    let mut remembered = Remembered::default();
    assert_eq!(remembered.meets(A, before), Ok(News::Promise));
    for (number, (now, what)) in (1..).zip(cases) {
        assert!(remembered.check(A, now).is_err());
        let text = remembered.meets(A, now).unwrap_err().to_string();
        assert!(text.contains(what) && text.contains("join anew"), "{text}");
        let (count, why) = remembered.refused(A).unwrap();
        assert_eq!((count, why.to_string()), (number, text));
    }
    // It was not taken for what it is now, and counts again once it shows as much.
    assert_eq!(remembered.meets(A, before), Ok(News::Nothing));
    assert_eq!(remembered.refused(A), None);
    let twice = [shown(1, (7, A), 0), shown(1, (7, B), 0)];
    assert_eq!(remembered.meets(B, twice[0]), Ok(News::Promise));
    let text = remembered.meets(B, twice[1]).unwrap_err().to_string();
    assert!(text.contains("in a term in which it voted for"), "{text}");
}

/// A new run that has forgotten something is held against all runs before for as long as it goes on.
#[test]
fn a_run_that_began_with_less_counts_once_it_shows_all_of_it() {
    let mut remembered = Remembered::default();
    remembered.meets(A, elected(shown(1, (3, B), 20))).unwrap();
    remembered.meets(A, shown(2, (5, A), 20)).unwrap();
    for less in [shown(3, (4, A), 20), shown(3, (5, A), 19), shown(3, (5, B), 20)] {
        assert!(remembered.meets(A, less).is_err(), "{less:?}");
    }
    assert_eq!(remembered.meets(A, shown(3, (5, A), 20)), Ok(News::Promise));
    // And a late one of its own from before does not count afterwards either.
    assert!(remembered.meets(A, shown(3, (4, A), 20)).is_err());
    // A new start of a machine that has nothing at all.
    assert!(remembered.meets(A, shown(4, (0, VoterId(Uuid(0))), 0)).is_err());
}

#[test]
fn what_others_tell_counts_as_if_it_had_been_shown() {
    let mut remembered = Remembered::default();
    remembered.meets(A, shown(1, (3, B), 5)).unwrap();
    assert_eq!(
        remembered.hears_of(A, elected(shown(1, (4, B), 9))),
        News::Promise
    );
    assert_eq!(remembered.hears_of(A, shown(1, (2, B), 4)), News::Nothing);
    assert_eq!(remembered.hears_of(A, shown(0, (9, B), 40)), News::Nothing);
    assert!(remembered.meets(A, shown(2, (3, B), 9)).is_err());
    // Written down and read again it is the same.
    let again = Remembered::of(remembered.record());
    assert_eq!(
        again.all().collect::<Vec<_>>(),
        remembered.all().collect::<Vec<_>>()
    );
    assert!(again.check(A, shown(2, (3, B), 9)).is_err());
    assert!(again.check(A, elected(shown(2, (4, B), 9))).is_ok());
    let mut again = again;
    again.keep_only(|voter| voter != A);
    assert_eq!(again.all().count(), 0);
}
