//! Histories that are possible, and histories that are not.

use super::*;

const DONE: Outcome = Outcome::Done { durable: false };
const STABLE: Outcome = Outcome::Done { durable: true };

fn written(history: &mut History, number: u64, begun: Tick, ended: Tick, outcome: Outcome) {
    history.write_begins(0, number, begun);
    history.write_ends(0, number, ended, outcome).unwrap();
}

#[test]
fn a_read_sees_the_last_write() {
    let mut history = History::new(1);
    assert!(history.read(0, Content::Zero, 1, 2).is_ok());
    written(&mut history, 1, 3, 4, DONE);
    assert!(history.read(0, Content::Write(1), 5, 6).is_ok());
    assert!(history.read(0, Content::Zero, 7, 8).is_err());
}

#[test]
fn concurrent_writes_may_land_either_way_but_stay_as_seen() {
    let mut history = History::new(1);
    history.write_begins(0, 1, 1);
    history.write_begins(0, 2, 2);
    history.write_ends(0, 2, 3, DONE).unwrap();
    history.write_ends(0, 1, 4, DONE).unwrap();
    assert_eq!(history.possible(0, 5), [Content::Write(1), Content::Write(2)]);
    assert!(history.read(0, Content::Write(2), 5, 6).is_ok());
    assert!(history.read(0, Content::Write(1), 7, 8).is_err(), "it went back");
}

#[test]
fn an_acknowledged_write_is_not_undone_by_an_older_one() {
    let mut history = History::new(1);
    history.write_begins(0, 1, 1);
    history.read(0, Content::Write(1), 2, 3).unwrap();
    written(&mut history, 2, 4, 5, DONE);
    let late = history.read(0, Content::Write(1), 6, 7);
    assert_eq!(
        late.unwrap_err().why,
        Why::Replaced {
            by: Content::Write(2)
        }
    );
}

#[test]
fn a_failed_write_may_have_happened_but_only_once_and_not_later() {
    let mut history = History::new(1);
    written(&mut history, 1, 1, 2, Outcome::Failed);
    assert_eq!(history.possible(0, 3), [Content::Zero, Content::Write(1)]);
    written(&mut history, 2, 4, 5, DONE);
    assert!(history.read(0, Content::Write(1), 6, 7).is_err());

    let mut history = History::new(1);
    written(&mut history, 1, 1, 2, Outcome::Failed);
    history.read(0, Content::Zero, 3, 4).unwrap();
    assert!(history.read(0, Content::Write(1), 5, 6).is_err());
}

#[test]
fn only_flushed_writes_must_survive_a_power_cut() {
    let mut history = History::new(1);
    written(&mut history, 1, 1, 2, DONE);
    history.flushed(3);
    written(&mut history, 2, 4, 5, DONE);
    history.power_cut(6);
    assert_eq!(history.possible(0, 7), [Content::Write(1), Content::Write(2)]);
    assert!(history.read(0, Content::Zero, 7, 8).is_err());
}

#[test]
fn a_flush_promises_nothing_about_writes_answered_after_it_began() {
    let mut history = History::new(1);
    written(&mut history, 1, 1, 5, DONE);
    history.flushed(5);
    history.power_cut(6);
    assert!(history.read(0, Content::Zero, 7, 8).is_ok());
}

#[test]
fn a_durable_write_survives_without_a_flush() {
    let mut history = History::new(1);
    written(&mut history, 1, 1, 2, STABLE);
    history.power_cut(3);
    assert_eq!(history.possible(0, 4), [Content::Write(1)]);
}

#[test]
fn after_a_power_cut_one_value_is_found_and_kept() {
    let mut history = History::new(1);
    written(&mut history, 1, 1, 2, DONE);
    history.power_cut(3);
    history.read(0, Content::Write(1), 4, 5).unwrap();
    assert!(history.read(0, Content::Zero, 6, 7).is_err());
}

#[test]
fn zeroes_last_and_old_content_comes_back_only_by_a_power_cut_before_a_flush() {
    for flush in [false, true] {
        let mut history = History::new(1);
        written(&mut history, 1, 1, 2, STABLE);
        history.emptying_begins(0);
        history.emptying_ends(0, Emptying::Zero, 4, DONE);
        assert_eq!(history.possible(0, 5), [Content::Zero]);
        if flush {
            history.flushed(5);
        }
        history.power_cut(6);
        assert_eq!(history.read(0, Content::Write(1), 7, 8).is_ok(), !flush);
    }
}

#[test]
fn discarded_sectors_hold_the_old_or_zeroes() {
    let mut history = History::new(1);
    written(&mut history, 1, 1, 2, STABLE);
    history.emptying_begins(0);
    history.emptying_ends(0, Emptying::Discard, 4, DONE);
    assert_eq!(history.possible(0, 5), [Content::Write(1), Content::Zero]);
    history.read(0, Content::Zero, 5, 6).unwrap();
    assert!(history.read(0, Content::Write(1), 7, 8).is_err());
}

#[test]
fn a_durable_write_that_was_read_afterwards_is_not_its_own_successor() {
    let mut history = History::new(1);
    written(&mut history, 1, 1, 2, STABLE);
    history.read(0, Content::Write(1), 3, 4).unwrap();
    history.power_cut(5);
    assert_eq!(history.possible(0, 6), [Content::Write(1)]);
}
