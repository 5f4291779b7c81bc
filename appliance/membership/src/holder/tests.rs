//! What a holder makes of words, of answers that are none, and of clocks.

use super::*;
use crate::log_change::LogPosition;
use crate::voter::LeaseRefusal;

const MS: u64 = 1_000_000;
const LEASE: Nanos = Nanos::from_millis(600);

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

fn set(nodes: &[u128]) -> BTreeSet<Uuid> {
    nodes.iter().copied().map(Uuid).collect()
}

fn uniform(index: u64, voters: &[u128]) -> VoterSets {
    VoterSets::uniform(at(1, index), set(voters))
}

fn holder(voters: &[u128]) -> LeaseHolder {
    LeaseHolder::new(LeaseTimes::default(), uniform(1, voters), Epoch(1), 0, Nanos(0))
}

/// A word, by a clock that goes as the questions are numbered: one every quarter of a lease.
fn word(voter: u128, question: u64, voters: &VoterSets) -> LeaseAnswer {
    LeaseAnswer {
        voter: Uuid(voter),
        question,
        boot: Uuid(5),
        clock: Nanos(question.wrapping_mul(LEASE.0 / 4)),
        word: Ok(LeaseWord {
            member_since: Epoch(1),
            voters: voters.clone(),
            lease: LEASE,
        }),
    }
}

fn changed(answer: LeaseAnswer, change: impl Fn(&mut LeaseWord)) -> LeaseAnswer {
    let mut word = answer.word.clone().unwrap();
    change(&mut word);
    LeaseAnswer {
        word: Ok(word),
        ..answer
    }
}

/// The questions of so many quarters of a lease, and when the last one was sent.
fn asked(holder: &mut LeaseHolder, quarters: std::ops::Range<u64>) -> Nanos {
    let mut now = Nanos(0);
    for quarter in quarters {
        now = Nanos(quarter * LEASE.0 / 4);
        assert_eq!(holder.ask(now).map(|question| question.question), Some(quarter));
    }
    now
}

#[test]
fn a_lease_counts_from_the_question_and_needs_a_majority() {
    let mut holder = holder(&[1, 2, 3]);
    let voters = uniform(1, &[1, 2, 3]);
    assert!(!holder.holds(Nanos(0)), "nobody was asked");
    let question = holder.ask(Nanos(5)).unwrap();
    assert_eq!(question.voters, [Uuid(1), Uuid(2), Uuid(3)]);
    assert_eq!(holder.ask(Nanos(6)), None);
    assert_eq!(holder.next_ask(), Nanos(5 + LEASE.0 / 4));
    holder.answered(&word(1, 0, &voters), Nanos(1000));
    assert_eq!(holder.until(Nanos(1000)), None);
    holder.answered(&word(2, 0, &voters), Nanos(2000));
    assert_eq!(holder.until(Nanos(2000)), Some(Nanos(5 + LEASE.0)));
    assert!(holder.holds(Nanos(4 + LEASE.0)) && !holder.holds(Nanos(5 + LEASE.0)));
    holder.answered(&word(3, 99, &voters), Nanos(3000));
    assert_eq!(
        holder.until(Nanos(3000)),
        Some(Nanos(5 + LEASE.0)),
        "an answer to nothing"
    );
}

#[test]
fn a_late_answer_to_an_earlier_question_takes_nothing_back() {
    let mut holder = holder(&[1]);
    let voters = uniform(1, &[1]);
    let later = asked(&mut holder, 0..2);
    holder.answered(&word(1, 1, &voters), Nanos(later.0 + 5));
    holder.answered(&word(1, 0, &voters), Nanos(later.0 + 6));
    assert_eq!(holder.until(later), Some(later.after(LEASE)));
}

/// Those of before may not know that this node was evicted by those to come.
#[test]
fn who_names_other_voters_counts_for_those_alone() {
    let mut holder = holder(&[1, 2, 3]);
    let old = uniform(1, &[1, 2, 3]);
    let joint = VoterSets::joint(at(1, 7), set(&[1, 2, 3]), set(&[3, 4, 5]));
    asked(&mut holder, 0..1);
    holder.answered(&word(1, 0, &old), Nanos(1));
    holder.answered(&word(2, 0, &joint), Nanos(1));
    holder.answered(&word(3, 0, &joint), Nanos(1));
    assert_eq!(
        holder.until(Nanos(1)),
        None,
        "one of three, and two of three beside one of three"
    );
    let now = asked(&mut holder, 1..2);
    holder.answered(&word(4, 1, &joint), now);
    assert_eq!(
        holder.until(now),
        Some(LEASE),
        "the first majority is the first to end"
    );
    holder.answered(&word(3, 1, &old), now);
    assert_eq!(holder.until(now), Some(LEASE), "an entry taken away again");
}

/// Each voter names the new ones as soon as it hears of them, and its word for those of before is not lost by that.
#[test]
fn a_change_of_voters_costs_no_time() {
    let mut holder = holder(&[1, 2, 3]);
    let old = uniform(1, &[1, 2, 3]);
    let joint = VoterSets::joint(at(1, 7), set(&[1, 2, 3]), set(&[3, 4, 5]));
    asked(&mut holder, 0..1);
    for voter in [1, 2, 3] {
        holder.answered(&word(voter, 0, &old), Nanos(1));
    }
    let now = asked(&mut holder, 1..2);
    holder.answered(&word(1, 1, &joint), now);
    holder.answered(&word(2, 1, &joint), now);
    holder.answered(&word(3, 1, &old), now);
    assert_eq!(holder.until(now), Some(LEASE), "by those of before");
}

#[test]
fn all_voters_that_were_named_are_asked_those_of_before_too() {
    let mut holder = holder(&[1, 2, 3]);
    let joint = VoterSets::joint(at(1, 7), set(&[1, 2, 3]), set(&[3, 4]));
    holder.voters_are(joint.clone());
    holder.voters_are(joint);
    let after = uniform(8, &[3, 4]);
    holder.voters_are(after.clone());
    let all: Vec<Uuid> = set(&[1, 2, 3, 4]).into_iter().collect();
    assert_eq!(
        holder.ask(Nanos(0)).unwrap().voters,
        all,
        "its own log may be ahead of most"
    );
    // A word of the same index and an earlier term names voters that were taken away again.
    let away = VoterSets::uniform(at(0, 9), set(&[9]));
    holder.answered(
        &changed(word(3, 0, &after), |word| word.voters = away.clone()),
        Nanos(1),
    );
    holder.voters_are(uniform(10, &[3, 4, 5]));
    let voters = holder.ask(Nanos(2 * LEASE.0)).unwrap().voters;
    assert_eq!(voters, [Uuid(3), Uuid(4), Uuid(5)]);
}

#[test]
fn voters_of_one_index_and_two_terms_are_not_the_same() {
    let mut holder = holder(&[1, 2, 3]);
    asked(&mut holder, 0..1);
    holder.answered(&word(1, 0, &uniform(7, &[1, 2, 3])), Nanos(1));
    let other = VoterSets::uniform(at(2, 7), set(&[1, 2, 3]));
    holder.answered(&word(2, 0, &other), Nanos(1));
    assert_eq!(holder.until(Nanos(1)), None);
    holder.answered(&word(3, 0, &other), Nanos(1));
    assert_eq!(holder.until(Nanos(1)), Some(LEASE));
}

/// It gave its word before it had heard that this node was evicted, and that it is the only voter since.
#[test]
fn a_word_given_among_many_does_not_count_alone() {
    let mut holder = holder(&[1, 2, 3]);
    asked(&mut holder, 0..1);
    holder.answered(&word(1, 0, &uniform(1, &[1, 2, 3])), Nanos(1));
    holder.voters_are(uniform(9, &[1]));
    assert_eq!(holder.until(Nanos(2)), None);
}

/// One voter has not heard of the eviction, another has heard of the return.
#[test]
fn words_for_a_member_of_before_do_not_count_beside_those_for_one_that_came_back() {
    let mut holder = holder(&[1, 2, 3]);
    let voters = uniform(1, &[1, 2, 3]);
    asked(&mut holder, 0..1);
    holder.answered(&word(1, 0, &voters), Nanos(1));
    let back = |voter| changed(word(voter, 0, &voters), |word| word.member_since = Epoch(6));
    holder.answered(&back(2), Nanos(1));
    holder.answered(&back(3), Nanos(1));
    assert_eq!(holder.until(Nanos(1)), None, "it does not know that it came back");
    holder.member_since_is(Epoch(6));
    holder.answered(&back(2), Nanos(1));
    assert_eq!(holder.until(Nanos(1)), None);
    holder.answered(&back(3), Nanos(1));
    assert_eq!(holder.until(Nanos(1)), Some(LEASE));
    assert_eq!(holder.member_since(), Epoch(6));
}

/// Who waits for the end of a lease waits for the one that was agreed on, which the voters know, and not what this node was told.
#[test]
fn a_word_holds_as_long_as_its_giver_says_and_not_beside_one_for_another_lease() {
    let mut holder = holder(&[1, 2, 3]);
    let voters = uniform(1, &[1, 2, 3]);
    let short = |voter| changed(word(voter, 0, &voters), |word| word.lease = Nanos(100 * MS));
    asked(&mut holder, 0..1);
    holder.answered(&word(1, 0, &voters), Nanos(1));
    holder.answered(&short(2), Nanos(1));
    assert_eq!(holder.until(Nanos(1)), None);
    holder.answered(&short(3), Nanos(1));
    assert_eq!(holder.until(Nanos(1)), Some(Nanos(100 * MS)));
    let next = holder.next_ask();
    assert!(holder.ask(next).is_some());
    assert_eq!(
        holder.next_ask().since(next),
        Nanos(25 * MS),
        "it asks as often as that needs"
    );
}

#[test]
fn questions_that_nobody_answers_are_given_up() {
    let voters = uniform(1, &[1]);
    for first in [0, u64::MAX - 150] {
        let mut holder = LeaseHolder::new(LeaseTimes::default(), voters.clone(), Epoch(1), first, Nanos(0));
        let when = |count: u64| Nanos(count * LEASE.0);
        for count in 0..200 {
            holder.ask(when(count)).unwrap();
        }
        let now = Nanos(199 * LEASE.0 + 5);
        let answer = |count| LeaseAnswer {
            clock: when(count),
            ..word(1, first.wrapping_add(count), &voters)
        };
        holder.answered(&answer(135), now);
        assert_eq!(holder.words.len(), 0, "{first}");
        holder.answered(&answer(136), now);
        assert_eq!(holder.words.len(), 1, "{first}");
        holder.answered(&answer(199), now);
        assert_eq!(holder.until(now), Some(Nanos(200 * LEASE.0)));
    }
}

#[test]
fn a_clock_that_is_off_ends_the_lease_and_refusals_show_that_too() {
    let voters = uniform(1, &[1, 2, 3]);
    let refused = |voter, question, ahead: u64| {
        let answer = word(voter, question, &voters);
        LeaseAnswer {
            clock: Nanos(answer.clock.0 + ahead),
            word: Err(LeaseRefusal::NotAVoter { voter: Uuid(voter) }),
            ..answer
        }
    };
    for ahead in [0, 50 * MS] {
        let mut holder = holder(&[1, 2, 3]);
        for quarter in 0..2 {
            let now = asked(&mut holder, quarter..quarter + 1);
            for voter in [1, 2] {
                holder.answered(&word(voter, quarter, &voters), now);
            }
        }
        let now = asked(&mut holder, 2..3);
        assert!(holder.holds(now));
        for voter in [1, 2] {
            holder.answered(&refused(voter, 2, ahead), now);
        }
        assert_eq!(holder.holds(now), ahead == 0);
        assert_eq!(holder.until(now).is_some(), ahead == 0);
        assert_eq!(holder.clock() == ClockRate::Kept, ahead == 0);
    }
}

#[test]
fn a_clock_that_has_gone_back_shows_no_lease_and_asks_at_once() {
    let mut holder = holder(&[1]);
    let voters = uniform(1, &[1]);
    let now = asked(&mut holder, 0..4);
    holder.answered(&word(1, 3, &voters), now);
    assert!(holder.holds(now) && !holder.holds(Nanos(now.0 - 1)));
    assert!(holder.ask(now).is_none() && holder.ask(Nanos(now.0 - 1)).is_some());
}

#[test]
fn a_clock_that_stands_still_is_found_by_a_message_that_was_no_answer() {
    let mut holder = holder(&[1, 2, 3]);
    let voters = uniform(1, &[1, 2, 3]);
    let now = asked(&mut holder, 0..1);
    for voter in [1, 2] {
        holder.answered(&word(voter, 0, &voters), now);
    }
    assert!(holder.holds(now));
    for voter in [1, 2] {
        let reading = ClockReading {
            node: Uuid(voter),
            boot: Uuid(5),
            clock: Nanos(MS),
        };
        holder.clock_heard(&reading, now);
    }
    assert!(!holder.holds(now));
}
