//! Which clocks are found to be off, how soon, and when they are trusted again.

use super::*;
use crate::log_change::LogPosition;

const MS: u64 = 1_000_000;
const LEASE: Nanos = Nanos(600 * MS);
const AT: LogPosition = LogPosition { term: 1, index: 1 };

fn voters(count: u128) -> VoterSets {
    VoterSets::uniform(AT, (1..=count).map(Uuid).collect())
}

fn reading(voter: u128, boot: u128, clock: u64) -> ClockReading {
    ClockReading {
        node: Uuid(voter),
        boot: Uuid(boot),
        clock: Nanos(clock),
    }
}

/// Three voters whose clocks go at these rates, in millionths of the true time, and one's own; each is looked at every 100 ms, and its
/// answer takes 1 ms.
struct Bench {
    watch: ClockWatch,
    /// True time, one's own, those of the others, in ns.
    clocks: [u64; 5],
    rates: [u64; 4],
    boot: u128,
}

impl Bench {
    fn new(rates: [u64; 4]) -> Bench {
        Bench {
            watch: ClockWatch::new(1000, LEASE),
            clocks: [0, 5 * MS, 77, 12_345, 999 * MS],
            rates,
            boot: 5,
        }
    }

    fn pass(&mut self, ns: u64) {
        self.clocks[0] += ns;
        for (clock, rate) in self.clocks[1..].iter_mut().zip(self.rates) {
            *clock += ns / 1000 * rate / 1000;
        }
    }

    /// After so many ms, in milliseconds; ends when the clock is found to be off, or no longer to be.
    fn run(&mut self, ms: u64) -> ClockRate {
        let before = self.watch.rate();
        for _ in 0..ms / 100 {
            let asked = Nanos(self.clocks[1]);
            self.pass(MS / 2);
            let readings: Vec<ClockReading> = (1..=3)
                .map(|voter| reading(voter, self.boot, self.clocks[voter as usize + 1]))
                .collect();
            self.pass(MS / 2);
            let now = Nanos(self.clocks[1]);
            for reading in readings {
                self.watch.answered(&reading, (asked, now), &voters(3));
            }
            self.pass(99 * MS);
            if self.watch.rate() != before {
                break;
            }
        }
        self.watch.rate()
    }
}

#[test]
fn a_clock_within_the_bound_is_never_off() {
    let mut bench = Bench::new([1_000_000, 1_000_000, 1_000_900, 999_100]);
    assert_eq!(bench.run(1_500_000), ClockRate::Kept);
}

#[test]
fn a_clock_outside_of_it_is_off_when_a_majority_says_so() {
    let after = |rates| Bench::new(rates).run(60_000);
    let (same, more, less) = (1_000_000, 1_002_000, 998_000);
    assert_eq!(after([same, more, more, same]), ClockRate::Off, "slower");
    assert_eq!(after([same, same, less, less]), ClockRate::Off, "faster");
    assert_eq!(
        after([same, same, same, 2 * same]),
        ClockRate::Kept,
        "the other one"
    );
    assert_eq!(
        after([same, 2 * same, same, same / 2]),
        ClockRate::Off,
        "no two agree with it"
    );
}

#[test]
fn a_clock_that_jumps_late_in_a_long_window_is_found_within_a_lease() {
    for (own, others) in [(0, 300 * MS), (300 * MS, 0)] {
        let mut bench = Bench::new([1_000_000; 4]);
        assert_eq!(bench.run(599_000), ClockRate::Kept);
        bench.clocks[1] += own;
        bench.clocks[2..].iter_mut().for_each(|clock| *clock += others);
        assert_eq!(bench.run(LEASE.0 / MS / 2), ClockRate::Off, "{own} {others}");
    }
}

#[test]
fn a_clock_that_stands_still_is_found_by_what_others_say_unasked() {
    let mut bench = Bench::new([1_000_000; 4]);
    bench.run(500_000);
    let (now, others) = (Nanos(bench.clocks[1]), bench.clocks);
    for ms in [0, 1, 5] {
        for voter in [1, 2] {
            let reading = reading(voter, 5, others[voter as usize + 1] + ms * MS);
            bench.watch.heard(&reading, now, &voters(3));
        }
        let rate = bench.watch.rate();
        assert_eq!(
            rate == ClockRate::Off,
            ms == 5,
            "{ms}: the bound, and how long a look takes"
        );
    }
}

#[test]
fn what_was_found_stands_until_whole_windows_have_shown_better() {
    let mut bench = Bench::new([1_000_000; 4]);
    assert_eq!(bench.run(1_300_000), ClockRate::Kept);
    bench.clocks[1] += 300 * MS;
    assert_eq!(bench.run(1000), ClockRate::Off);
    // The short window is through, the long one not; and neither is another set of voters, nor another boot of one.
    assert_eq!(bench.run(590_000), ClockRate::Off);
    let two = VoterSets::uniform(AT, [Uuid(1), Uuid(8)].into());
    let mut other = bench.watch.clone();
    other.heard(&reading(1, 5, 0), Nanos(0), &two);
    assert_eq!(other.rate(), ClockRate::Off);
    assert_eq!(bench.run(20_000), ClockRate::Kept);
}

/// Machines that have booted show nothing against a clock that was broken, and for it only what a whole long window shows.
#[test]
fn a_broken_clock_is_not_trusted_because_all_others_have_booted() {
    let mut bench = Bench::new([1_000_000; 4]);
    bench.run(10_000);
    bench.clocks[1] += 300 * MS;
    assert_eq!(bench.run(1000), ClockRate::Off);
    bench.boot = 6;
    assert_eq!(bench.run(590_000), ClockRate::Off);
    assert_eq!(bench.run(20_000), ClockRate::Kept);
}

#[test]
fn what_cannot_be_told_from_a_slow_answer_is_not_held_against_it() {
    let one = voters(1);
    let mut watch = ClockWatch::new(0, LEASE);
    let mut look = |own: (u64, u64), other, boot| {
        let own = (Nanos(own.0 * MS), Nanos(own.1 * MS));
        watch.answered(&reading(1, boot, other * MS), own, &one);
        watch.rate()
    };
    assert_eq!(look((0, 10), 5, 1), ClockRate::Kept);
    assert_eq!(look((100, 140), 130, 1), ClockRate::Kept);
    assert_eq!(look((150, 150), 156, 1), ClockRate::Off);
}

#[test]
fn the_look_that_tells_most_is_the_one_compared_with() {
    let one = voters(1);
    let mut watch = ClockWatch::new(0, LEASE);
    let mut look = |own: (u64, u64), other: u64| {
        let own = (Nanos(own.0 * MS), Nanos(own.1 * MS));
        watch.answered(&reading(1, 5, other * MS), own, &one);
        watch.rate()
    };
    assert_eq!(look((0, 200), 100), ClockRate::Kept, "it took 200 ms");
    assert_eq!(look((250, 252), 251), ClockRate::Kept);
    assert_eq!(look((500, 502), 550), ClockRate::Off, "49 ms too many");
}

/// The clock of a machine that boots begins anew, and soon shows more than it did when it was first looked at.
#[test]
fn a_machine_that_boots_again_and_again_says_nothing_about_ones_own() {
    let mut watch = ClockWatch::new(1000, LEASE);
    let voters = voters(3);
    for look in 0..100u64 {
        let own = Nanos(look * 1000 * MS);
        let booted = own.0 / (30_000 * MS);
        for voter in [1, 2] {
            let clock = own.0 - booted * 29_000 * MS;
            let reading = reading(voter, booted.into(), clock);
            watch.answered(&reading, (own, own.after(Nanos(MS))), &voters);
            watch.heard(&reading, own, &voters);
        }
        assert_eq!(watch.rate(), ClockRate::Kept, "look {look}");
    }
}

/// The window is over at the very look that takes so long because one's own clock jumps in it.
#[test]
fn a_jump_between_a_question_and_its_answer_is_found_by_the_next_look() {
    let one = voters(1);
    let mut watch = ClockWatch::new(100_000, LEASE);
    let mut look = |asked: u64, answered: u64, other: u64| {
        let own = (Nanos(asked * MS), Nanos(answered * MS));
        watch.answered(&reading(1, 5, other * MS), own, &one);
        watch.rate()
    };
    // Each window ends at the thirteenth look.
    for ms in (0..31_200).step_by(100) {
        assert_eq!(look(ms, ms + 1, ms), ClockRate::Kept);
    }
    assert_eq!(look(31_200, 31_501, 31_200), ClockRate::Kept);
    assert_eq!(look(31_600, 31_601, 31_300), ClockRate::Off);
}
