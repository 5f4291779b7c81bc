//! Long chains: what one turn follows of them, whom they hold up, and that each comes to its turn.

use crate::bench_of::*;
use palisade_block::limits::TURN_DESCRIPTORS_ALL;
use palisade_block::mailbox::{Notice, ReactorCommand};
use palisade_block::*;
use palisade_words::QueueId;
use palisade_words::limits::QUEUE_SIZE_MAX;

const LONGEST: u32 = QUEUE_SIZE_MAX as u32 + 1;

fn queue(number: u16) -> QueueId {
    QueueId {
        queue: number,
        ..QUEUE
    }
}

/// Queues whose rings are full of chains of so many descriptors, which they answer by themselves.
fn hostile(bed: &mut Bed, queues: u16, chains: u16, descriptors: u32) -> Vec<Script> {
    let ask = |number| {
        let guest = bed.attach(queue(number), |_| {});
        for head in 0..chains {
            guest.ask(head, Op::Flush, 0, 0, Vec::new());
            guest.0.borrow_mut().by_itself.insert(head, descriptors);
        }
        guest
    };
    (0..queues).map(ask).collect()
}

/// What has been followed since the last call, of all queues.
fn walked(guests: &[Script]) -> Vec<Vec<u32>> {
    let take = |guest: &Script| std::mem::take(&mut guest.0.borrow_mut().walks);
    guests.iter().map(take).collect()
}

fn sum(walks: &[Vec<u32>]) -> u32 {
    walks.iter().flatten().sum()
}

#[test]
fn a_neighbours_request_is_begun_in_the_same_turn_and_the_longest_chains_come_one_a_turn() {
    for at in [0, 3, 8] {
        let mut bed = Bed::new(64, 2);
        bed.devices().at_once = Some(Ok(()));
        let mut guests = hostile(&mut bed, at, 3, LONGEST);
        let neighbour = bed.attach(queue(100), |_| {});
        for number in at..8 {
            let guest = bed.attach(queue(number), |_| {});
            for head in 0..3 {
                guest.ask(head, Op::Flush, 0, 0, Vec::new());
                guest.0.borrow_mut().by_itself.insert(head, LONGEST);
            }
            guests.push(guest);
        }
        for turn in 1..=24 {
            neighbour.ask(turn, Op::Read, 0, 1, data(1));
            bed.turn();
            assert_eq!(neighbour.answers().len(), usize::from(turn));
            assert_eq!(sum(&walked(&guests)), LONGEST);
            let answered: Vec<_> = guests.iter().map(|guest| guest.answers().len()).collect();
            let (least, most) = (answered.iter().min(), answered.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{answered:?}");
            assert_eq!(answered.iter().sum::<usize>(), usize::from(turn));
        }
    }
}

#[test]
fn queues_share_what_a_turn_follows() {
    let mut bed = Bed::new(64, 2);
    let guests = hostile(&mut bed, 8, 40, 1000);
    let mut turns = 0;
    while guests.iter().any(|guest| guest.answers().len() < 40) {
        bed.turn();
        let walks = walked(&guests);
        assert!(sum(&walks) <= TURN_DESCRIPTORS_ALL, "{walks:?}");
        // Three chains of 1000, as each counts for 16 of 32.
        let chains = |walks: &Vec<u32>| walks.iter().filter(|walk| **walk > 0).count();
        assert!(walks.iter().all(|walks| chains(walks) <= 3), "{walks:?}");
        turns += 1;
    }
    assert!(turns <= 320 / 4 + 16, "{turns} turns");
    assert_eq!(bed.turn(), 0);
}

/// Whatever order the queues have, as one of them waits for slots and is always the first.
#[test]
fn each_long_chain_comes_to_its_turn_beside_a_queue_that_is_always_the_first() {
    let mut bed = Bed::new(8, 2);
    let starved = bed.attach(queue(50), |_| {});
    (0..8).for_each(|head| starved.ask(head, Op::Read, 0, 1, data(1)));
    bed.turn();
    let guests = hostile(&mut bed, 4, 10, LONGEST);
    for turn in 1..=40 {
        bed.turn();
        let answered: Vec<_> = guests.iter().map(|guest| guest.answers().len()).collect();
        let (least, most) = (answered.iter().min(), answered.iter().max());
        assert!(most.unwrap() - least.unwrap() <= 1, "turn {turn}: {answered:?}");
    }
    assert!(guests.iter().all(|guest| guest.answers().len() == 10));
    assert!(!starved.0.borrow().waiting.is_empty(), "it still waits");
    bed.reactor.abandon();
}

#[test]
fn a_request_counts_in_its_batch_by_the_length_of_its_chain() {
    // One, and one more for each 64 descriptors.
    for (descriptors, taken) in [(0, 32), (63, 32), (64, 16), (128, 11), (31 * 64, 1), (LONGEST, 1)] {
        let mut bed = Bed::new(64, 2);
        bed.devices().at_once = Some(Ok(()));
        let guest = bed.attach(QUEUE, |_| {});
        for head in 0..40 {
            guest.ask(head, Op::Read, 0, 1, data(1));
            guest.0.borrow_mut().chains.insert(head, descriptors);
        }
        assert_eq!(bed.turn(), taken, "{descriptors}");
        assert_eq!(guest.answers().len(), taken);
        // And with all others of the turn.
        let left = TURN_DESCRIPTORS_ALL.saturating_sub(taken as u32 * descriptors);
        let may_follow = if descriptors == 0 { u32::MAX } else { left };
        assert_eq!(guest.0.borrow().may_follow, Some(may_follow));
    }
}

/// It is followed twice, once to learn that it needs a list, and the others have the less.
#[test]
fn a_chain_that_needs_a_list_counts_twice_and_comes_to_its_end() {
    let mut bed = Bed::new(64, 2);
    let guest = bed.attach(queue(0), |_| {});
    let other = hostile(&mut bed, 2, 2, TURN_DESCRIPTORS_ALL - 1600);
    let segments: Vec<Segment> = (0..300).map(|at| piece(0x20_0000 + at * 512, 512)).collect();
    guest.ask(0, Op::Read, 0, 300, segments.clone());
    guest.0.borrow_mut().chains.insert(0, 1000);
    bed.turn();
    assert_eq!(walked(std::slice::from_ref(&guest)), [[1000, 1000]]);
    assert_eq!(sum(&walked(&other)), TURN_DESCRIPTORS_ALL - 2000);
    assert_eq!(bed.reactor.in_flight(), 1);
    bed.reactor.abandon();
    // Behind others it is left where it does not fit, and is the first then.
    let mut bed = Bed::new(64, 2);
    let other = hostile(&mut bed, 1, 1, 3000);
    let guest = bed.attach(queue(1), |_| {});
    guest.ask(0, Op::Read, 0, 300, segments);
    guest.0.borrow_mut().chains.insert(0, 1200);
    bed.turn();
    assert_eq!(walked(std::slice::from_ref(&guest)), [[1096]]);
    assert_eq!(bed.reactor.in_flight(), 0);
    assert_eq!(sum(&walked(&other)), 3000);
    bed.turn();
    assert_eq!(walked(std::slice::from_ref(&guest)), [[1200, 1200]]);
    assert_eq!(bed.reactor.in_flight(), 1);
    bed.reactor.abandon();
}

/// So many segments that a list is needed.
fn many() -> Vec<Segment> {
    (0..300).map(|at| piece(0x20_0000 + at * 512, 512)).collect()
}

/// Behind one that was followed: so much of the turn is left for a queue, of which one chain is followed, and the next.
#[test]
fn what_a_list_is_fetched_for_may_be_followed_as_far_as_before() {
    let mut bed = Bed::new(64, 2);
    hostile(&mut bed, 1, 1, 2000);
    let guest = bed.attach(queue(1), |_| {});
    guest.ask(0, Op::Read, 0, 300, many());
    guest.0.borrow_mut().chains.insert(0, 1200);
    bed.turn();
    assert_eq!(walked(std::slice::from_ref(&guest)), [[1200, 1200]]);
    assert_eq!(bed.reactor.in_flight(), 1);
    bed.reactor.abandon();
}

#[test]
fn what_was_followed_in_vain_or_answered_by_its_source_counts_for_those_behind() {
    // There is no list; it is answered when it has one.
    for (long, by_itself) in [(0, false), (4, true)] {
        let mut bed = Bed::of(
            palisade_engine::ReactorConfig {
                slots: 64,
                parts: 8,
                long,
                watch_every: Nanos(10),
            },
            2,
        );
        let guest = bed.attach(queue(9), |_| {});
        guest.ask(0, Op::Read, 0, 300, many());
        match by_itself {
            true => guest.0.borrow_mut().by_itself.insert(0, 1000),
            false => guest.0.borrow_mut().chains.insert(0, 1000),
        };
        let followed = if by_itself { 2000 } else { 1000 };
        let behind = hostile(&mut bed, 1, 1, TURN_DESCRIPTORS_ALL - followed + 1);
        bed.turn();
        assert_eq!(guest.answers().len(), usize::from(by_itself));
        assert_eq!(sum(&walked(std::slice::from_ref(&guest))), followed);
        assert_eq!(
            sum(&walked(&behind)),
            TURN_DESCRIPTORS_ALL - followed,
            "by itself: {by_itself}"
        );
        assert_eq!(behind[0].answers(), [], "one too many");
        bed.turn();
        assert_eq!(behind[0].answers().len(), 1);
    }
}

/// A guest may change what it asks for meanwhile.
#[test]
fn a_chain_that_grows_while_its_list_is_fetched_is_left_and_counts() {
    let mut bed = Bed::new(64, 2);
    hostile(&mut bed, 1, 1, 3000);
    let guest = bed.attach(queue(1), |_| {});
    guest.ask(0, Op::Read, 0, 300, many());
    guest.0.borrow_mut().chains.extend([(0, 1000), (1, 2000)]);
    guest.0.borrow_mut().changes_to = Some((1, Op::Read, 0, 300, many()));
    let behind = bed.attach(queue(2), |_| {});
    (0..2).for_each(|head| behind.ask(head, Op::Read, 0, 1, data(1)));
    behind.0.borrow_mut().chains.insert(0, 90);
    bed.turn();
    assert_eq!(
        walked(std::slice::from_ref(&guest)),
        [[1000, TURN_DESCRIPTORS_ALL - 3000]]
    );
    assert_eq!(
        sum(&walked(std::slice::from_ref(&behind))),
        0,
        "nothing is left of the turn"
    );
    bed.turn();
    assert_eq!(walked(std::slice::from_ref(&guest)), [[2000, 2000]]);
    bed.reactor.abandon();
}

/// Who is served out of its order has its answers when it is served, as all others do.
#[test]
fn what_is_answered_first_is_shown_before_the_next_is_served() {
    let mut bed = Bed::new(64, 2);
    bed.devices().at_once = Some(Ok(()));
    let guests = hostile(&mut bed, 2, 1, LONGEST);
    bed.turn();
    let left = guests.iter().find(|guest| guest.answers().is_empty());
    let left = left.expect("one of the two").clone();
    let neighbour = bed.attach(queue(9), |_| {});
    neighbour.0.borrow_mut().watched = Some(left.clone());
    neighbour.ask(1, Op::Read, 0, 1, data(1));
    bed.turn();
    assert_eq!(left.answers().len(), 1);
    assert_eq!(neighbour.0.borrow().seen_of_watched.first(), Some(&1));
}

/// Its place in the ring lies behind the chain that was left.
#[test]
fn a_queue_that_stops_gives_what_was_left_its_turn_first() {
    let mut bed = Bed::new(64, 2);
    let guests = hostile(&mut bed, 2, 2, LONGEST);
    bed.turn();
    let left = usize::from(guests[0].answers().len() == 1);
    assert_eq!(guests[left].0.borrow().backlog, 1);
    assert!(bed.reactor.arm(), "there is something to do");
    bed.reactor.disarm();
    bed.reactor.apply(ReactorCommand::StopQueue {
        queue: queue(left as u16),
    });
    bed.turn();
    assert_eq!(guests[left].answers().len(), 1);
    bed.turn();
    let notices = bed.notices();
    let stopped = |notice: &Notice<Script, Obedient>| matches!(notice, Notice::QueueStopped { queue: id, .. } if *id == queue(left as u16));
    assert!(notices.iter().any(stopped), "{notices:?}");
    assert_eq!(guests[left].0.borrow().waiting.len(), 1, "that is the next one's");
}
