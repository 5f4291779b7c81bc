//! What a reactor costs by itself: for a request, for a volume more, for an attachment that does nothing, and for a
//! second reactor beside it.

use super::table::{Cell, Table};
use super::workbench::{Cost, Guest, Prepared, RING, Workbench, null_device};
use crate::Failure;
use crate::report::figure;
use crate::tally::Spread;
use palisade_block::stats::ReactorStats;
use palisade_sys::{Opened, affinity};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// Requests of a slice, about: some tens of microseconds, so that most slices are not disturbed by anybody.
const SLICE_REQUESTS: u32 = 2000;

/// How often arming is repeated in a slice.
const SLICE_ARMS: u32 = 50;

/// Volumes that are busy at once on one reactor.
const VOLUMES: usize = 64;

/// Attachments of one reactor of which all but one do nothing.
const ATTACHMENTS: usize = 256;

/// A limit that is never reached, and counted all the same.
const LIMIT_IOPS: u64 = 500_000_000;

/// How many times the rate of one reactor two must reach.
const TWO_REACTORS_MIN: f64 = 1.9;

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Repetitions of everything, in turns.
    pub repeats: u32,
    /// Length of each repetition of each case.
    pub length: Duration,
    /// The core for a single reactor.
    pub core: usize,
    /// The core for the second one.
    pub other_core: usize,
}

/// All tables of this part.
pub fn tables(rounds: Rounds) -> Result<Vec<Table>, Failure> {
    affinity::pin_current_thread(rounds.core).map_err(Failure::system("pin a thread"))?;
    Ok(vec![
        alone(rounds)?,
        two_reactors(rounds)?,
        many_volumes(rounds)?,
        idle_attachments(rounds)?,
    ])
}

/// Medians of slices, repetition by repetition.
#[derive(Debug, Default)]
struct Case {
    request_ns: Vec<f64>,
    turn_ns: Vec<f64>,
}

impl Case {
    fn request(&self) -> Option<Spread> {
        Spread::of(self.request_ns.iter().copied())
    }

    fn turn(&self) -> Option<Spread> {
        Spread::of(self.turn_ns.iter().copied())
    }
}

/// Measures all cases in turns. Each is a workbench, and the busy guests with their depth.
fn measure(
    benches: &mut [Workbench],
    cases: &[(usize, (usize, u16))],
    rounds: Rounds,
) -> Result<Vec<Case>, Failure> {
    let mut found: Vec<Case> = cases.iter().map(|_| Case::default()).collect();
    for _ in 0..rounds.repeats {
        for (&(bench, busy), case) in cases.iter().zip(&mut found) {
            let Some(bench) = benches.get_mut(bench) else {
                continue;
            };
            bench.busy = busy;
            let cost = median_slice(bench, rounds.length)?;
            case.request_ns.push(cost.request_ns);
            case.turn_ns.push(cost.turn_ns);
        }
    }
    Ok(found)
}

/// The median of many slices: what a slice costs when nobody else takes the core.
fn median_slice(bench: &mut Workbench, length: Duration) -> Result<Cost, Failure> {
    let rounds = SLICE_REQUESTS.div_ceil(bench.busy.0 as u32 * u32::from(bench.busy.1));
    bench.rounds(rounds)?;
    let (mut costs, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < length || costs.len() < 3 {
        costs.push(bench.rounds(rounds)?);
    }
    let median = |of: fn(&Cost) -> f64| Spread::of(costs.iter().map(of)).map_or(0.0, |spread| spread.median);
    Ok(Cost {
        request_ns: median(|cost| cost.request_ns),
        turn_ns: median(|cost| cost.turn_ns),
    })
}

/// A reactor with so many guests of one queue each.
fn reactor(guests: usize, device: &Arc<Opened>) -> Result<Workbench, Failure> {
    let queues: Result<Vec<Prepared>, Failure> = (0..guests as u16)
        .map(|number| Guest::new(number, 1)?.queue(0))
        .collect();
    Workbench::new(queues?, Arc::default(), device)
}

fn alone(rounds: Rounds) -> Result<Table, Failure> {
    let mut benches = [reactor(1, &null_device()?)?];
    let cases: Vec<(usize, (usize, u16))> = [1, 32, 128].map(|depth| (0, (1, depth))).into();
    let found = measure(&mut benches, &cases, rounds)?;
    let about = format!(
        "One reactor, one queue, null device, 4 KiB reads, guest and reactor on one thread, so that no cache line \
         crosses cores: what the code itself costs. Each figure is the median of {} repetitions (smallest .. largest) of \
         {} ms; each repetition is the median of its slices of some {SLICE_REQUESTS} requests. A turn is one pass of the \
         reactor's loop; it takes up to 32 requests of a queue.",
        rounds.repeats,
        rounds.length.as_millis(),
    );
    let mut table = Table::new(
        "A reactor by itself",
        about,
        &["queue depth", "ns a request", "ns a turn"],
    );
    for ((_, (_, depth)), case) in cases.iter().zip(&found) {
        table.row([
            Cell::from(format!("{depth}")),
            case.request().into(),
            case.turn().into(),
        ]);
    }
    Ok(table)
}

fn many_volumes(rounds: Rounds) -> Result<Table, Failure> {
    let device = null_device()?;
    let mut benches = [reactor(1, &device)?, reactor(VOLUMES, &device)?];
    let one_of = |depth: u16| (VOLUMES as u16 * depth).min(RING);
    let cases: Vec<(usize, (usize, u16))> = [1, 32]
        .into_iter()
        .flat_map(|depth| [(0, (1, one_of(depth))), (1, (VOLUMES, depth))])
        .collect();
    let found = measure(&mut benches, &cases, rounds)?;
    let about = format!(
        "One reactor with {VOLUMES} volumes, each with its own attachment, guest memory and queue, all busy, beside one \
         volume that has as many requests in flight by itself (at most {RING}, which is what its ring holds; more make no \
         difference, since a turn takes 32 of a queue). The guests' side is on the same thread and is counted."
    );
    let columns = [
        "volumes",
        "queue depth",
        "in flight",
        "ns a request",
        "ns a turn",
        "times one volume",
    ];
    let mut table = Table::new("64 volumes on one reactor", about, &columns);
    for (pair, cases) in found.chunks(2).zip(cases.chunks(2)) {
        let Some(one) = pair.first() else { continue };
        for (case, &(_, (volumes, depth))) in pair.iter().zip(cases) {
            table.row([
                Cell::from(format!("{volumes}")),
                format!("{depth}").into(),
                format!("{}", volumes * usize::from(depth)).into(),
                case.request().into(),
                case.turn().into(),
                ratio(case, one).into(),
            ]);
        }
    }
    Ok(table)
}

fn ratio(of: &Case, to: &Case) -> Option<Spread> {
    Spread::of(of.request_ns.iter().zip(&to.request_ns).map(|(of, to)| of / to))
}

fn idle_attachments(rounds: Rounds) -> Result<Table, Failure> {
    let device = null_device()?;
    let counts = [1, VOLUMES + 1, ATTACHMENTS];
    let mut benches = Vec::new();
    for count in counts {
        benches.push(reactor(count, &device)?);
    }
    let depths = [1, 32];
    let cases: Vec<(usize, (usize, u16))> = depths
        .iter()
        .flat_map(|&depth| (0..counts.len()).map(move |bench| (bench, (1, depth))))
        .collect();
    let found = measure(&mut benches, &cases, rounds)?;
    let ways = [("to sleep again", false), ("to sleep after polling", true)];
    let mut arms = ways.map(|_| vec![Vec::<f64>::new(); counts.len()]);
    for _ in 0..rounds.repeats {
        for ((_, polled), arms) in ways.iter().zip(&mut arms) {
            for (bench, arms) in benches.iter_mut().zip(arms) {
                let slices: Result<Vec<f64>, Failure> = (0..100)
                    .map(|_| bench.sleep_and_wake(SLICE_ARMS, *polled))
                    .collect();
                arms.extend(Spread::of(slices?).map(|spread| spread.median));
            }
        }
    }
    let about = "One reactor of which one attachment is busy and the others do nothing: every turn looks at every ring. \
         The slope is what one idle attachment adds to each turn; going to sleep and waking up adds its own, once each \
         time (all rings armed and asked for what is due; after polling, they were disarmed before. The kernel's part is \
         not in it)."
        .to_owned();
    let columns = ["idle attachments", "what", "ns", "ns for each idle attachment"];
    let mut table = Table::new("Attachments that do nothing", about, &columns);
    for (&depth, cases) in depths.iter().zip(found.chunks(counts.len())) {
        let turns: Vec<&[f64]> = cases.iter().map(|case| case.turn_ns.as_slice()).collect();
        rows(&mut table, &format!("a turn, depth {depth}"), counts, &turns);
    }
    for ((what, _), arms) in ways.iter().zip(&arms) {
        let arms: Vec<&[f64]> = arms.iter().map(Vec::as_slice).collect();
        rows(&mut table, what, counts, &arms);
    }
    Ok(table)
}

/// One row for each count of attachments, with the slope from the first, repetition by repetition.
fn rows(table: &mut Table, what: &str, counts: [usize; 3], figures: &[&[f64]]) {
    let Some(first) = figures.first() else { return };
    for (count, figures) in counts.into_iter().zip(figures) {
        let slopes = figures
            .iter()
            .zip(*first)
            .map(|(more, one)| (more - one) / (count - 1) as f64);
        let slope = Spread::of(slopes).filter(|_| count > 1);
        table.row([
            Cell::from(format!("{}", count - 1)),
            what.into(),
            Spread::of(figures.iter().copied()).into(),
            slope.into(),
        ]);
    }
}

fn two_reactors(rounds: Rounds) -> Result<Table, Failure> {
    let about = format!(
        "One volume whose attachment has two queues, each on a reactor of its own on a core of its own (depth 32, null \
         device), beside one reactor with one queue. The two share what they share in the daemon: the open device, the \
         guest's memory and, where the attachment has a limit, the words that keep its pace (the limit is {} million \
         requests a second: counted, never reached). Twice the rate means that they share nothing that costs.",
        LIMIT_IOPS / 1_000_000
    );
    let columns = [
        "attachment",
        "ns a request, one reactor",
        "ns a request, each of two",
        "times the rate of one",
    ];
    let mut table = Table::new("One volume on two reactors", about, &columns);
    for (what, iops) in [("no limit", 0), ("with a limit on requests", LIMIT_IOPS)] {
        let (mut one, mut two, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds.repeats {
            let guest = || Ok::<Guest, Failure>(Guest::new(0, 2)?.limited(iops));
            let single = beside(&guest()?, &[rounds.core], rounds.length)?;
            let other = beside(&guest()?, &[rounds.other_core], rounds.length)?;
            let both = beside(&guest()?, &[rounds.core, rounds.other_core], rounds.length)?;
            let rate = |costs: &[f64]| costs.iter().map(|cost| 1.0 / cost).sum::<f64>();
            times.push(2.0 * rate(&both) / (rate(&single) + rate(&other)));
            one.extend(single.iter().chain(&other));
            two.extend(&both);
        }
        let times = Spread::of(times);
        table.row([
            Cell::from(what),
            Spread::of(one).into(),
            Spread::of(two).into(),
            times.into(),
        ]);
        let median = times.map_or(0.0, |times| times.median);
        table.verdict(
            format!("{what}: two reactors carry at least {TWO_REACTORS_MIN} times as much as one"),
            median >= TWO_REACTORS_MIN,
            format!("{} times", figure(median)),
        );
    }
    Ok(table)
}

/// Runs one reactor on each of these cores at the same time, each with a queue of the same guest; ns a request of each.
fn beside(guest: &Guest, cores: &[usize], length: Duration) -> Result<Vec<f64>, Failure> {
    let device = null_device()?;
    let barrier = Barrier::new(cores.len());
    let stats: Vec<Arc<ReactorStats>> = cores.iter().map(|_| Arc::default()).collect();
    let queues: Result<Vec<Prepared>, Failure> =
        (0..cores.len()).map(|queue| guest.queue(queue as u16)).collect();
    std::thread::scope(|scope| {
        let reactor = |((queue, stats), &core): ((Prepared, Arc<ReactorStats>), &usize)| {
            let (device, barrier) = (&device, &barrier);
            scope.spawn(move || {
                let pinned = affinity::pin_current_thread(core).map_err(Failure::system("pin a thread"));
                let bench = pinned.and_then(|()| Workbench::new(vec![queue], stats, device));
                // Also after a failure, or the other would wait for ever.
                barrier.wait();
                let mut bench = bench?;
                bench.busy = (1, 32);
                Ok(median_slice(&mut bench, length)?.request_ns)
            })
        };
        let threads: Vec<_> = queues?.into_iter().zip(stats).zip(cores).map(reactor).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Err(Failure::Ring {
                        problem: "a reactor ended by a panic".into(),
                    })
                })
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_all_its_rows() {
        let cores = affinity::allowed_cpus().unwrap();
        let rounds = Rounds {
            repeats: 1,
            length: Duration::from_millis(2),
            core: cores[0],
            other_core: *cores.last().unwrap(),
        };
        let tables = std::thread::spawn(move || tables(rounds).unwrap())
            .join()
            .unwrap();
        let rows: Vec<usize> = tables.iter().map(|table| table.rows.len()).collect();
        assert_eq!(rows, [3, 2, 4, 12]);
        for table in &tables {
            for row in &table.rows {
                assert_eq!(row.len(), table.columns.len());
            }
        }
    }
}
