//! A few sensors beside each other, and links that are cut between them.

use super::*;
use crate::log_change::LogPosition;

const STEP: u64 = 5_000_000;

/// Nodes 1 to so many, all of them voters; time goes on in steps, and heartbeats take none.
struct Bench {
    sensors: Vec<Sensor>,
    now: Nanos,
    /// From, to, link: nothing comes.
    cut: BTreeSet<(usize, usize, u8)>,
    dead: BTreeSet<usize>,
}

fn me(node: u128, incarnation: u64) -> SensorIdentity {
    SensorIdentity {
        node: Uuid(node),
        incarnation: Incarnation(incarnation),
        boot: Uuid(node + 100),
        nonce: node as u64 * 1000 + incarnation,
    }
}

fn members(count: u128) -> SensedMembers {
    let ids = (1..=count).map(Uuid);
    SensedMembers {
        epoch: Epoch(1),
        weights: ids.clone().map(|id| (id, 1)).collect(),
        voters: VoterSets::uniform(LogPosition { term: 1, index: 1 }, ids.collect()),
    }
}

impl Bench {
    fn new(count: u128) -> Bench {
        let sensor = |node| Sensor::new(me(node, 1), LeaseTimes::default(), members(count), Nanos(0));
        let mut bench = Bench {
            sensors: (1..=count).map(sensor).collect(),
            now: Nanos(0),
            cut: BTreeSet::new(),
            dead: BTreeSet::new(),
        };
        bench.run(2000);
        bench
    }

    /// So many ms. What each proposes at the end.
    fn run(&mut self, ms: u64) -> Vec<Option<Vec<u128>>> {
        let until = self.now.after(Nanos::from_millis(ms));
        while self.now < until {
            self.now = self.now.after(Nanos(STEP));
            let alive = (0..self.sensors.len()).filter(|node| !self.dead.contains(node));
            let alive: Vec<usize> = alive.collect();
            for from in &alive {
                if self.sensors[*from].beats(self.now) {
                    self.beat(*from);
                }
            }
            for node in alive {
                self.sensors[node].proposal(self.now);
            }
        }
        let now = self.now;
        let proposed = self.sensors.iter_mut().map(|sensor| sensor.proposal(now));
        proposed
            .map(|evict| evict.map(|evict| evict.nodes.iter().map(|id| id.0).collect()))
            .collect()
    }

    fn beat(&mut self, from: usize) {
        for to in (0..self.sensors.len()).filter(|to| *to != from) {
            for link in [0, 1] {
                if self.cut.contains(&(from, to, link)) || self.dead.contains(&to) {
                    continue;
                }
                let node = self.sensors[to].me.node;
                let heartbeat = self.sensors[from].heartbeat(node, LinkIndex(link), self.now);
                assert!(self.sensors[to].heard(&heartbeat, self.now).is_ok());
            }
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.cut.extend([(from, to, 0), (from, to, 1)]);
    }

    fn state(&self, from: usize, to: usize) -> PeerState {
        self.sensors[from].state(self.sensors[to].me.node, self.now)
    }
}

#[test]
fn all_are_alive_and_nothing_is_proposed() {
    let mut bench = Bench::new(3);
    assert_eq!(bench.run(5000), [None, None, None]);
    assert_eq!(bench.state(0, 2), PeerState::Alive);
    assert!(!bench.sensors[0].is_left_out(bench.now));
}

#[test]
fn a_dead_node_is_proposed_by_all_others_in_time_and_not_at_once() {
    let mut bench = Bench::new(3);
    let died = bench.now;
    bench.dead.insert(1);
    let times = LeaseTimes::default();
    assert_eq!(bench.run(375), [None, None, None], "silence alone is not enough");
    bench.dead.clear();
    let within = times.proposed_within().since(bench.now.since(died));
    bench.dead.insert(1);
    let proposed = bench.run(within.0 / 1_000_000);
    assert_eq!((&proposed[0], &proposed[2]), (&Some(vec![2]), &Some(vec![2])));
    assert!(matches!(bench.state(0, 1), PeerState::Silent { since } if since <= died));
}

#[test]
fn what_cannot_be_heard_both_ways_ends_with_one_group_by_weight_and_id() {
    let mut bench = Bench::new(3);
    bench.cut(0, 2);
    let proposed = bench.run(1500);
    assert_eq!(
        proposed,
        [Some(vec![3]), Some(vec![3]), None],
        "the lowest ids stay"
    );
    assert!(matches!(bench.state(0, 2), PeerState::OneWay { since: Some(_) }));
    assert!(matches!(bench.state(2, 0), PeerState::Silent { .. }));
    let mut heavy = members(3);
    heavy.epoch = Epoch(2);
    heavy.weights.insert(Uuid(3), 5);
    for sensor in &mut bench.sensors {
        sensor.members_are(heavy.clone());
    }
    assert_eq!(bench.run(1500), [None, Some(vec![1]), Some(vec![1])]);
}

/// Its log may be behind, and it is there all the same.
#[test]
fn who_goes_by_another_membership_is_not_taken_for_gone() {
    let mut bench = Bench::new(5);
    let mut later = members(5);
    later.epoch = Epoch(2);
    later.weights.remove(&Uuid(1));
    for sensor in bench.sensors.iter_mut().skip(2) {
        sensor.members_are(later.clone());
    }
    assert_eq!(bench.run(1500)[2..], [None, None, None]);
    bench.dead.insert(1);
    let all = Some(vec![2]);
    assert_eq!(bench.run(1500)[2..], [all.clone(), all.clone(), all]);
}

#[test]
fn a_minority_proposes_nothing_and_who_is_not_heard_knows_it() {
    let mut bench = Bench::new(3);
    for other in [0, 1] {
        bench.cut(2, other);
    }
    assert_eq!(bench.run(1500), [Some(vec![3]), Some(vec![3]), None]);
    let left_out: Vec<bool> = bench
        .sensors
        .iter()
        .map(|sensor| sensor.is_left_out(bench.now))
        .collect();
    assert_eq!(left_out, [false, false, true]);
    bench.cut(0, 1);
    bench.cut(1, 0);
    assert_eq!(bench.run(1500), [None, None, None], "one and one and one");
}

#[test]
fn one_link_of_two_that_is_lost_or_flaps_evicts_nobody_and_is_named() {
    let mut bench = Bench::new(2);
    for turn in 0..40 {
        match turn % 2 {
            0 => bench.cut.extend([(0, 1, 1), (1, 0, 1)]),
            _ => bench.cut.clear(),
        }
        assert_eq!(bench.run(400 + turn), [None, None]);
        let lost = PeerState::Limping(Limp::LinksLost(vec![LinkIndex(1)]));
        assert_eq!(bench.state(0, 1) == lost, turn % 2 == 0, "turn {turn}");
    }
}

/// An address may have been wrong from the beginning, or be taken away later.
#[test]
fn a_link_over_which_nothing_ever_came_is_lost_and_one_that_is_none_any_more_is_not() {
    let mut bench = Bench::new(2);
    let lost = |links: &[u8]| {
        let links = links.iter().copied().map(LinkIndex).collect();
        PeerState::Limping(Limp::LinksLost(links))
    };
    bench.sensors[0].links_are(Uuid(2), 3);
    assert_eq!(bench.state(0, 1), lost(&[2]));
    bench.cut.insert((1, 0, 1));
    bench.run(500);
    assert_eq!(bench.state(0, 1), lost(&[1, 2]));
    bench.sensors[0].links_are(Uuid(2), 1);
    bench.run(100);
    assert_eq!(bench.state(0, 1), PeerState::Alive);
    assert_eq!(
        bench.sensors[0].last_heard(Uuid(2)),
        bench.sensors[1].last_heard(Uuid(1))
    );
    assert_eq!(bench.sensors[0].run_of(Uuid(2)), Some(Incarnation(1)));
    assert_eq!(
        (
            bench.sensors[0].last_heard(Uuid(9)),
            bench.sensors[0].run_of(Uuid(9))
        ),
        (None, None)
    );
    // One that was heard only now may still be about to be heard over the others.
    let mut late = Sensor::new(me(1, 1), LeaseTimes::default(), members(2), bench.now);
    let heartbeat = bench.sensors[1].heartbeat(Uuid(1), LinkIndex(0), bench.now);
    late.heard(&heartbeat, bench.now).unwrap();
    late.links_are(Uuid(2), 2);
    assert_eq!(late.state(Uuid(2), bench.now), PeerState::Alive);
}

/// A node that becomes a member has its first word still to say: its connections are made only then.
#[test]
fn one_that_has_only_come_is_not_given_up_before_it_could_be_heard() {
    let mut bench = Bench::new(3);
    bench.dead.insert(2);
    let two = SensedMembers {
        epoch: Epoch(2),
        ..members(2)
    };
    bench
        .sensors
        .iter_mut()
        .for_each(|sensor| sensor.members_are(two.clone()));
    assert_eq!(bench.run(2000), [None, None, None]);
    let three = SensedMembers {
        epoch: Epoch(3),
        ..members(3)
    };
    bench
        .sensors
        .iter_mut()
        .for_each(|sensor| sensor.members_are(three.clone()));
    assert_eq!(
        bench.run(900),
        [None, None, None],
        "as long as a lease and a silence"
    );
    // Who dies meanwhile is another matter.
    bench.dead.insert(1);
    let alone = bench.run(500);
    assert_eq!(alone, [None, None, None], "one of three has no majority");
    bench.dead.remove(&1);
    bench.run(1000);
    let proposed = bench.run(300);
    assert_eq!(proposed[..2], [Some(vec![3]), Some(vec![3])]);
}

/// It wakes for its heartbeats, and not for what it has said already.
#[test]
fn what_is_proposed_already_does_not_keep_it_awake() {
    let mut bench = Bench::new(3);
    bench.dead.insert(2);
    bench.run(1500);
    assert_eq!(
        bench.sensors[0]
            .proposal(bench.now)
            .map(|evict| evict.nodes.len()),
        Some(1)
    );
    assert!(bench.sensors[0].next() > bench.now);
}

#[test]
fn who_is_configured_no_more_is_forgotten() {
    let mut bench = Bench::new(2);
    assert!(bench.sensors[0].run_of(Uuid(2)).is_some());
    bench.sensors[0].configured_are(&[Uuid(2), Uuid(3)].into());
    assert!(bench.sensors[0].run_of(Uuid(2)).is_some());
    bench.sensors[0].configured_are(&[Uuid(3)].into());
    assert_eq!(bench.sensors[0].run_of(Uuid(2)), None);
}

#[test]
fn a_node_that_comes_and_goes_counts_only_after_an_unbroken_time() {
    let mut bench = Bench::new(3);
    bench.dead.insert(1);
    bench.run(1500);
    bench.dead.clear();
    let proposed = bench.run(225);
    assert_eq!(proposed[0], Some(vec![2]), "it was heard for less than a silence");
    assert_eq!(bench.run(600)[0], None);
    assert!(bench.sensors[0].unbroken_since(Uuid(2), bench.now).is_some());
}

#[test]
fn who_has_started_or_stood_still_waits_a_lease_before_it_proposes() {
    let mut bench = Bench::new(3);
    bench.dead.insert(1);
    bench.run(1500);
    bench.sensors[0] = Sensor::new(me(1, 2), LeaseTimes::default(), members(3), bench.now);
    let proposed = bench.run(595);
    assert_eq!((&proposed[0], &proposed[2]), (&None, &Some(vec![2])));
    assert_eq!(bench.run(300)[0], Some(vec![2]));
    bench.dead.insert(2);
    bench.dead.insert(0);
    bench.run(5000);
    bench.dead.remove(&0);
    bench.dead.remove(&2);
    assert_eq!(bench.run(595), [None, None, None], "nobody was there to look");
    assert_eq!(bench.run(300)[0], Some(vec![2]));
}

#[test]
fn a_node_that_is_late_or_slow_limps_and_stays() {
    let mut sensor = Sensor::new(me(1, 1), LeaseTimes::default(), members(2), Nanos(0));
    let mut other = Sensor::new(me(2, 1), LeaseTimes::default(), members(2), Nanos(0));
    let mut late = Vec::new();
    for ms in (0..9000).step_by(5) {
        let now = Nanos::from_millis(ms);
        // Its thread gets its turn at every 200 ms.
        if ms % 200 == 0 && other.beats(now) {
            assert!(
                sensor
                    .heard(&other.heartbeat(Uuid(1), LinkIndex(0), now), now)
                    .is_ok()
            );
        }
        if sensor.beats(now) {
            late.push((
                now.after(Nanos::from_millis(100)),
                sensor.heartbeat(Uuid(2), LinkIndex(0), now),
            ));
        }
        for (_, heartbeat) in late.extract_if(.., |(at, _)| *at <= now) {
            assert!(other.heard(&heartbeat, now).is_ok());
        }
        assert_eq!(sensor.proposal(now), None);
    }
    let now = Nanos::from_millis(9000);
    let gap = Nanos::from_millis(200);
    assert_eq!(sensor.state(Uuid(2), now), PeerState::Limping(Limp::Late { gap }));
    let state = other.state(Uuid(1), now);
    assert!(
        matches!(state, PeerState::Limping(Limp::Slow { round_trip }) if round_trip >= Nanos::from_millis(100)),
        "{state:?}"
    );
}

#[test]
fn heartbeats_that_count_for_nothing_say_why() {
    let mut sensor = Sensor::new(me(1, 1), LeaseTimes::default(), members(2), Nanos(0));
    let from = |incarnation, nonce| {
        let mut other = Sensor::new(me(2, incarnation), LeaseTimes::default(), members(2), Nanos(0));
        assert!(other.beats(Nanos(0)));
        Heartbeat {
            nonce,
            ..other.heartbeat(Uuid(1), LinkIndex(0), Nanos(7))
        }
    };
    let mut says = |heartbeat: &Heartbeat| {
        sensor
            .heard(heartbeat, Nanos(9))
            .map_err(|error| error.to_string())
    };
    let reading = says(&from(2, 5)).unwrap();
    assert_eq!(
        (reading.node, reading.boot, reading.clock),
        (Uuid(2), Uuid(102), Nanos(7))
    );
    assert!(says(&from(2, 5)).unwrap_err().contains("not later"));
    assert!(says(&from(2, 6)).unwrap_err().contains("there twice"));
    assert!(says(&from(1, 5)).unwrap_err().contains("as run 2"));
    assert!(says(&from(3, 6)).is_ok(), "it has started again");
    let own = Heartbeat {
        node: Uuid(1),
        ..from(9, 9)
    };
    assert!(says(&own).unwrap_err().contains("there twice"));
    for stranger in 0..STRANGERS_MAX as u128 {
        let stranger = Heartbeat {
            node: Uuid(1000 + stranger),
            ..from(1, 1)
        };
        assert!(says(&stranger).is_ok());
    }
    let one_more = Heartbeat {
        node: Uuid(5000),
        ..from(1, 1)
    };
    assert!(says(&one_more).unwrap_err().contains("too many"));
}

#[test]
fn times_that_change_while_it_runs_hold_from_the_next_heartbeat() {
    let mut bench = Bench::new(3);
    let times = LeaseTimes {
        detection: Nanos::from_millis(300),
        ..LeaseTimes::default()
    };
    for sensor in &mut bench.sensors {
        sensor.times_are(times, bench.now);
    }
    bench.run(1000);
    bench.dead.insert(1);
    let proposed = bench.run(times.proposed_within().0 / 1_000_000);
    assert_eq!(proposed[0], Some(vec![2]));
}
