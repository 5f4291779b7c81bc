//! What more attachments and reactors take: memory and descriptors, what those that do nothing cost one that works, what
//! they cost when nobody works, and whether all is given back when they go.

use crate::Failure;
use crate::figures::{Spread, figure};
use crate::footprint::Footprint;
use crate::machine::{self, Machine};
use crate::ring::Layout;
use crate::row::{Medium, SMALL_BYTES};
use crate::session::Session;
use crate::table::Table;
use crate::target::Ground;
use crate::target::palisade::Daemon;
use crate::window::random_requests;
use palisade_sys::affinity;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Attachments at which it is looked, each with a guest connected.
const COUNTS: [usize; 4] = [0, 1, 64, 256];

/// Small, so that many fit.
const VOLUME_BYTES: u64 = 16 << 20;

/// One request at a time; a guest's memory is one region of 2 MiB.
const LAYOUT: Layout = Layout {
    depth: 1,
    bytes: SMALL_BYTES,
};

/// For what is done late to be done, and for reactors to go to sleep.
const SETTLE: Duration = Duration::from_millis(400);

/// How long a daemon is watched while nothing happens: whole seconds, since it looks after itself once in each.
const IDLE_WATCH: Duration = Duration::from_secs(2);

/// How long one guest works.
const WINDOW: Duration = Duration::from_millis(500);

/// Looks at a daemon while attachments come and go.
const CHURN_LOOKS: u32 = 8;

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Daemons of each kind.
    pub repeats: u32,
    /// Attachments that come and go.
    pub churn: u32,
    /// The core of the guests, and of a second reactor.
    pub client_core: usize,
}

/// One daemon with so many attachments.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SizeSample {
    /// Its reactors.
    pub reactors: usize,
    /// Its attachments.
    pub attachments: usize,
    /// What it holds.
    pub footprint: Footprint,
    /// Processor time in a second in which nobody asks for anything, us.
    pub idle_us: f64,
    /// One guest works and the others do nothing: half of its requests took no longer, us.
    pub p50_us: Option<f64>,
}

/// A daemon after so many attachments that came and went.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ChurnSample {
    /// How many.
    pub gone: u32,
    /// What it holds.
    pub footprint: Footprint,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Daemons that were given more and more attachments.
    pub steps: Vec<SizeSample>,
    /// A daemon whose attachments come and go.
    pub churn: Vec<ChurnSample>,
}

/// Measures everything; `say` is told what happens.
pub fn run(plan: &Plan, ground: &Ground, say: &mut dyn FnMut(&str)) -> Result<Report, Failure> {
    raise_descriptor_limit();
    let mut report = Report {
        machine: Machine::look(Path::new("")),
        steps: Vec::new(),
        churn: Vec::new(),
    };
    for repeat in 1..=plan.repeats {
        for cores in [&[ground.core][..], &[ground.core, plan.client_core]] {
            say(&format!("daemon {repeat} with {} reactor(s)", cores.len()));
            report.steps.extend(grow(plan, ground, cores)?);
        }
    }
    say(&format!("{} attachments come and go", plan.churn));
    report.churn = churn(plan, ground)?;
    report.machine.load_after = machine::load();
    Ok(report)
}

/// Hundreds of guests need some descriptors each, here and in the daemons, which inherit the limit.
fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it cannot be raised, opening says so when there are too many.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}

fn start(ground: &Ground, cores: &[usize], volumes: usize) -> Result<Daemon, Failure> {
    let appliance = Daemon::start("palisaded", "adaptive", cores, ground)?;
    appliance.add_disk(Medium::Null, volumes as u64 * VOLUME_BYTES, None)?;
    Ok(appliance)
}

fn connect(appliance: &mut Daemon, number: &str) -> Result<Session, Failure> {
    let socket = appliance.attach(number, VOLUME_BYTES)?;
    // By event index, as Linux guests speak.
    Session::open(&socket, true, LAYOUT)
}

/// One daemon that is given more and more attachments.
fn grow(plan: &Plan, ground: &Ground, cores: &[usize]) -> Result<Vec<SizeSample>, Failure> {
    let last = COUNTS.iter().copied().max().unwrap_or(0);
    let mut appliance = start(ground, cores, last)?;
    affinity::pin_current_thread(plan.client_core).map_err(Failure::system("pin the guests"))?;
    let (mut guests, mut steps) = (Vec::new(), Vec::new());
    for count in COUNTS {
        while guests.len() < count {
            guests.push(connect(&mut appliance, &guests.len().to_string())?);
        }
        sleep(SETTLE);
        let before = appliance.process.usage()?;
        sleep(IDLE_WATCH);
        let used = appliance.process.usage()?.since(&before);
        // A second reactor would share its core with the guest.
        let worker = guests.first_mut().filter(|_| cores.len() == 1);
        let window = worker
            .map(|guest| random_requests(guest, WINDOW, 1))
            .transpose()?;
        steps.push(SizeSample {
            reactors: cores.len(),
            attachments: count,
            footprint: Footprint::of(appliance.process.id())?,
            idle_us: used.0 as f64 / 1e3 / IDLE_WATCH.as_secs_f64(),
            p50_us: window.map(|window| window.latency.us(0.5)),
        });
    }
    guests.into_iter().try_for_each(Session::close)?;
    Ok(steps)
}

/// One daemon whose attachments come, are used and go, each second one with its guest still connected.
fn churn(plan: &Plan, ground: &Ground) -> Result<Vec<ChurnSample>, Failure> {
    let mut appliance = start(ground, &[ground.core], 1)?;
    let mut looks = Vec::new();
    for gone in 0..=plan.churn {
        if gone % plan.churn.div_ceil(CHURN_LOOKS).max(1) == 0 || gone == plan.churn {
            sleep(SETTLE);
            let footprint = Footprint::of(appliance.process.id())?;
            looks.push(ChurnSample { gone, footprint });
        }
        if gone == plan.churn {
            break;
        }
        let mut guest = connect(&mut appliance, "0")?;
        random_requests(&mut guest, Duration::from_millis(1), gone.into())?;
        if gone % 2 == 0 {
            guest.close()?;
            appliance.detach("0")?;
        } else {
            appliance.detach("0")?;
            drop(guest);
        }
    }
    Ok(looks)
}

/// A column: its name, and what it shows of a footprint.
type Part = (&'static str, fn(&Footprint) -> f64);

const PARTS: [Part; 4] = [
    ("own memory, KiB", |one| one.anonymous_kib as f64),
    ("hugepages, KiB", |one| one.huge_kib as f64),
    ("program and rings, KiB", |one| one.file_kib as f64),
    ("descriptors", |one| one.descriptors as f64),
];

fn spread(figures: impl Iterator<Item = f64>) -> String {
    Spread::of(figures).map_or_else(String::new, |spread| spread.to_string())
}

/// A table whose columns are those of a footprint, with others before and behind them.
fn table(title: &str, about: &str, before: &[&str], behind: &[&str], rows: Vec<Vec<String>>) -> Table {
    let parts = PARTS.map(|(name, _)| name);
    let columns = [before, &parts, behind].concat();
    Table {
        title: title.to_owned(),
        about: about.to_owned(),
        columns: columns.into_iter().map(str::to_owned).collect(),
        rows,
        notes: Vec::new(),
    }
}

impl Report {
    /// The daemons with so many reactors and attachments.
    fn at(&self, reactors: usize, attachments: usize) -> impl Iterator<Item = &SizeSample> {
        let wanted = move |step: &&SizeSample| (step.reactors, step.attachments) == (reactors, attachments);
        self.steps.iter().filter(wanted)
    }

    /// Reactors and attachments of all daemons.
    fn kinds() -> impl Iterator<Item = (usize, usize)> {
        [1, 2]
            .into_iter()
            .flat_map(|reactors| COUNTS.map(|count| (reactors, count)))
    }

    fn all(&self) -> Table {
        let row = |(reactors, count): (usize, usize)| {
            let steps = || self.at(reactors, count);
            let mut cells = vec![reactors.to_string(), count.to_string()];
            cells.extend(PARTS.map(|(_, of)| spread(steps().map(|step| of(&step.footprint)))));
            cells.push(spread(steps().map(|step| step.idle_us)));
            cells.push(spread(steps().filter_map(|step| step.p50_us)));
            cells
        };
        let about = "Daemons with null disks and adaptive reactors, each attachment with a guest connected. Own memory \
                     is heap and stacks; hugepages are the reactors' buffer pools (16 MiB each unless configured \
                     otherwise, in ordinary pages where there are no hugepages); program is code and libraries, which \
                     other processes may share, and io_uring rings, of which each guest has one that its memory is \
                     pinned in. The guests' own memory is not in it. Idle is the processor time of the whole daemon \
                     while no guest asks for anything; then one asks for 4 KiB at depth 1, and the others for nothing.";
        let behind = ["idle, us of a core a second", "one works: p50, us"];
        let rows = Report::kinds().map(row).collect();
        table(
            "What a daemon takes",
            about,
            &["reactors", "attachments"],
            &behind,
            rows,
        )
    }

    fn one_more(&self) -> Table {
        let [_, first, .., last] = COUNTS;
        let row = |what: &str, from: (usize, usize), to: (usize, usize)| {
            let each = (to.0 - from.0).max(to.1 - from.1) as f64;
            let more = |of: fn(&Footprint) -> f64| {
                let pairs = self.at(from.0, from.1).zip(self.at(to.0, to.1));
                spread(pairs.map(|(one, other)| (of(&other.footprint) - of(&one.footprint)) / each))
            };
            std::iter::once(what.to_owned())
                .chain(PARTS.map(|(_, of)| more(of)))
                .collect()
        };
        let about = "Differences of the figures above. An attachment is what each one adds after the first, which is \
                     more, because it uses code for the first time; a reactor is without attachments.";
        let rows = vec![
            row("an attachment", (1, first), (1, last)),
            row("a reactor", (1, 0), (2, 0)),
        ];
        table("One more", about, &["what"], &[], rows)
    }

    fn come_and_go(&self) -> Table {
        let row = |look: &ChurnSample| {
            let cells = PARTS.map(|(_, of)| of(&look.footprint).to_string());
            std::iter::once(look.gone.to_string()).chain(cells).collect()
        };
        let about = "One daemon, of which a volume and an attachment are made, used by a guest and deleted, over and \
                     over, each second time with the guest still connected. Its memory of the last 4096 events fills up \
                     at first.";
        let mut table = table(
            "Attachments that come and go",
            about,
            &["gone"],
            &[],
            self.churn.iter().map(row).collect(),
        );
        if let (Some(half), Some(last)) = (self.churn.get(self.churn.len() / 2), self.churn.last())
            && half.gone < last.gone
        {
            let kib = last.footprint.own_kib() as f64 - half.footprint.own_kib() as f64;
            let each = figure(kib * 1024.0 / f64::from(last.gone - half.gone));
            table
                .notes
                .push(format!("since the {}th: {each} bytes more for each", half.gone));
        }
        table
    }

    /// For people.
    pub fn page(&self) -> String {
        let tables = [self.all(), self.one_more(), self.come_and_go()].map(|table| table.page());
        format!("# What more takes\n\n{}\n\n{}", self.machine, tables.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_is_the_slope() {
        let step = |(reactors, attachments): (usize, usize)| SizeSample {
            reactors,
            attachments,
            footprint: Footprint {
                anonymous_kib: 1000 * reactors as u64 + 20 * attachments as u64,
                huge_kib: 16384 * reactors as u64,
                descriptors: 30 + 6 * attachments as u64,
                ..Footprint::default()
            },
            idle_us: 40.0,
            p50_us: (reactors == 1).then_some(2.0),
        };
        let look = |gone: u32| ChurnSample {
            gone,
            footprint: Footprint {
                anonymous_kib: 1000 + u64::from(gone),
                ..Footprint::default()
            },
        };
        let report = Report {
            machine: Machine::look(Path::new("")),
            steps: Report::kinds().chain(Report::kinds()).map(step).collect(),
            churn: [0, 50, 100].map(look).to_vec(),
        };
        let rows = report.one_more().rows;
        let shown = |row: usize, cell: usize| rows[row][cell].split(' ').next().unwrap().to_owned();
        assert_eq!([1, 2, 4].map(|cell| shown(0, cell)), ["20.0", "0.00", "6.00"]);
        assert_eq!([1, 2, 4].map(|cell| shown(1, cell)), ["1000", "16384", "0.00"]);
        let text = report.page();
        for words in [
            "40.0 (40.0 .. 40.0)",
            "2.00 (2.00 .. 2.00)",
            "since the 50th: 1024 bytes more for each",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
