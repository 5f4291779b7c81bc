//! What memory the daemon needs for each attachment and for each reactor.

use super::daemon::{Daemon, Setting};
use super::footprint::Footprint;
use super::table::{Cell, Table};
use crate::Failure;
use crate::ring::Layout;
use crate::row::SMALL_BYTES;
use crate::session::Session;
use crate::tally::Spread;
use std::time::Duration;

/// Attachments at which it is looked.
const COUNTS: [usize; 4] = [0, 1, 64, 256];

/// What each guest may have in flight; its memory is one region of 2 MiB.
const LAYOUT: Layout = Layout {
    depth: 1,
    bytes: SMALL_BYTES,
};

/// For what is done late to be done.
const SETTLE: Duration = Duration::from_millis(400);

/// The tables: what is resident, and what follows for each attachment and reactor.
pub fn tables(setting: &Setting, cores: [usize; 2], repeats: u32) -> Result<Vec<Table>, Failure> {
    let [one, two] = cores;
    let kinds = [vec![one], vec![one, two]];
    let mut found: Vec<Vec<Vec<Footprint>>> = vec![Vec::new(); kinds.len()];
    for _ in 0..repeats {
        for (cores, found) in kinds.iter().zip(&mut found) {
            let setting = Setting {
                cores: cores.clone(),
                ..setting.clone()
            };
            found.push(grow(&setting)?);
        }
    }
    Ok(vec![resident(&kinds, &found, repeats), each(&found)])
}

/// One daemon that is given more and more attachments, each with a connected guest.
fn grow(setting: &Setting) -> Result<Vec<Footprint>, Failure> {
    let last = COUNTS.iter().copied().max().unwrap_or(0);
    let setting = Setting {
        volumes: last as u64,
        ..setting.clone()
    };
    let daemon = Daemon::start(&setting)?;
    let mut guests: Vec<Session> = Vec::new();
    let mut found = Vec::new();
    for count in COUNTS {
        daemon.attach(guests.len()..count)?;
        while guests.len() < count {
            guests.push(daemon.connect(guests.len(), LAYOUT)?);
        }
        std::thread::sleep(SETTLE);
        found.push(Footprint::of(daemon.process.id())?);
    }
    for guest in guests {
        guest.close()?;
    }
    Ok(found)
}

fn resident(kinds: &[Vec<usize>], found: &[Vec<Vec<Footprint>>], repeats: u32) -> Table {
    let about = format!(
        "Resident memory of a daemon with null disks, all attachments with a guest connected ({repeats} daemons each). \
         Own memory is heap and stacks; hugepages are the reactors' buffer pools (16 MiB each unless configured \
         otherwise, in ordinary pages where there are no hugepages); program is code and libraries, which \
         other processes may share, and io_uring rings, of which each guest has one that its memory is pinned in; the guests' memory is theirs and only mapped here (2 MiB each, in hugepages where there are any, pinned \
         for the devices)."
    );
    let columns = [
        "reactors",
        "attachments",
        "own memory, KiB",
        "hugepages, KiB",
        "program and rings, KiB",
        "guests' memory, KiB",
        "descriptors",
        "threads",
    ];
    let mut table = Table::new("Memory", about, &columns);
    for (cores, runs) in kinds.iter().zip(found) {
        for (position, count) in COUNTS.iter().enumerate() {
            let of = |value: fn(&Footprint) -> u64| {
                let at = runs.iter().filter_map(|run| run.get(position));
                Cell::from(Spread::of(at.map(|footprint| value(footprint) as f64)))
            };
            table.row([
                Cell::from(format!("{}", cores.len())),
                format!("{count}").into(),
                of(|footprint| footprint.anonymous_kib),
                of(|footprint| footprint.huge_kib),
                of(|footprint| footprint.file_kib),
                of(|footprint| footprint.shared_kib),
                of(|footprint| footprint.descriptors),
                of(|footprint| footprint.threads),
            ]);
        }
    }
    table
}

/// Differences between the footprints above.
fn each(found: &[Vec<Vec<Footprint>>]) -> Table {
    let about = "Differences of the figures above. An attachment is what each one adds between the first and the last; the \
         first one is more, because it uses code for the first time. A reactor is the difference between daemons with \
         two and with one, without attachments.";
    let columns = [
        "what",
        "own memory, KiB",
        "program and rings, KiB",
        "hugepages, KiB",
        "descriptors",
    ];
    let mut table = Table::new("Memory of one more", about, &columns);
    let own = |footprint: &Footprint| footprint.anonymous_kib as f64;
    let file = |footprint: &Footprint| footprint.file_kib as f64;
    let huge = |footprint: &Footprint| footprint.huge_kib as f64;
    let descriptors = |footprint: &Footprint| footprint.descriptors as f64;
    let values: [&dyn Fn(&Footprint) -> f64; 4] = [&own, &file, &huge, &descriptors];
    for (reactors, runs) in found.iter().enumerate() {
        let mut row = vec![Cell::from(format!("an attachment, {} reactor(s)", reactors + 1))];
        for value in values {
            let slopes = runs.iter().filter_map(|run| {
                let more = (COUNTS.last()? - COUNTS.get(1)?) as f64;
                Some((value(run.last()?) - value(run.get(1)?)) / more)
            });
            row.push(Spread::of(slopes).into());
        }
        table.row(row);
    }
    let mut row = vec![Cell::from("a reactor")];
    for value in values {
        let first = |runs: &Vec<Vec<Footprint>>| -> Vec<f64> {
            runs.iter().filter_map(|run| run.first()).map(value).collect()
        };
        let one = found.first().map(first).unwrap_or_default();
        let two = found.get(1).map(first).unwrap_or_default();
        row.push(Spread::of(two.iter().zip(&one).map(|(two, one)| two - one)).into());
    }
    table.row(row);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_is_the_slope() {
        let run = |reactors: u64| -> Vec<Footprint> {
            let at = |&count: &usize| Footprint {
                anonymous_kib: 1000 * reactors + count as u64 * 20,
                file_kib: 8000 + count as u64 * 8,
                huge_kib: 16384 * reactors,
                descriptors: 30 + count as u64 * 6,
                ..Footprint::default()
            };
            COUNTS.iter().map(at).collect()
        };
        let table = each(&[vec![run(1), run(1)], vec![run(2), run(2)]]);
        let found: Vec<f64> = table
            .rows
            .iter()
            .flat_map(|row| &row[1..])
            .map(|cell| match cell {
                Cell::Spread(spread) => spread.median,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            found,
            [
                20.0, 8.0, 0.0, 6.0, 20.0, 8.0, 0.0, 6.0, 1000.0, 0.0, 16384.0, 0.0
            ]
        );
    }
}
