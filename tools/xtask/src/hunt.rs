//! The systematic hunt: every operator, condition, statement and function of the crates that hold data is made wrong, one
//! at a time, and the crate's own tests have to mind, or the simulator. What survives is on record in `ci/survivors.toml`,
//! or is a fault of the tests.
//!
//! All faults of a crate are woven into one copy of it, each behind a switch that is thrown from outside: one build and
//! one look at which test passes by which place, and a fault costs what the few tests take that pass by it.

mod ask;
mod build;
mod list;
mod places;
mod weave;

use crate::bed::{self, Bed};
use crate::hunt::ask::Verdict;
use crate::hunt::build::Built;
use crate::hunt::list::{Entry, Listed, Name};
use crate::hunt::places::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A crate that is hunted through.
#[derive(Clone, Copy, Debug)]
struct Ground {
    /// Its short name.
    name: &'static str,
    /// Where it lies.
    folder: &'static str,
    /// The simulator's scenarios that are asked about what its own tests let through.
    scenarios: &'static [&'static str],
}

/// The simulator's worlds of guests and disks.
const WORLDS: &[&str] = &[
    "lists", "rings", "faults", "life", "taken", "kill", "power", "scarce", "hostile", "storm",
];

/// Its scenarios of commands and superblocks.
const MEDIA: &[&str] = &["superblock", "operator", "lineage"];

/// Its scenarios in which a whole node lives.
const NODES: &[&str] = &["operator", "nodes", "lineage", "backup"];

/// What is hunted through: those whose faults cost data, or let a guest in.
const CRATES: &[Ground] = &[
    Ground {
        name: "engine",
        folder: "datapath/engine",
        scenarios: WORLDS,
    },
    Ground {
        name: "reconcile",
        folder: "appliance/reconcile",
        scenarios: MEDIA,
    },
    Ground {
        name: "control",
        folder: "appliance/control",
        scenarios: NODES,
    },
    Ground {
        name: "volume",
        folder: "datapath/volume",
        scenarios: MEDIA,
    },
    Ground {
        name: "model",
        folder: "appliance/model",
        scenarios: MEDIA,
    },
    Ground {
        name: "wire",
        folder: "datapath/wire",
        scenarios: MEDIA,
    },
    Ground {
        name: "virtio",
        folder: "vhost/virtio",
        scenarios: WORLDS,
    },
    Ground {
        name: "memory",
        folder: "vhost/memory",
        scenarios: WORLDS,
    },
];

/// Seeds of each scenario that the simulator is asked with.
const SEEDS: u64 = 4;

/// What lies in those and is no part of the product: the driver that tests of several crates use, and stepping.
const LEFT_ALONE: &[&str] = &["vhost/virtio/src/driver", "vhost/memory/src/stepped"];

/// Faults in the slice of a day.
const TODAY_FAULTS: usize = 60;

/// How long the slice of a day may take once it is built.
const TODAY_LASTS: Duration = Duration::from_secs(100);

/// The this-th of so many.
type Slice = (usize, usize);

/// What is asked for.
#[derive(Debug)]
pub enum Hunt {
    /// A small part, another one each day and with each commit.
    Today,
    /// All crates that the list knows, whole.
    All,
    /// These crates, or a part of each.
    Crates(Vec<String>, Part),
    /// The same on their own tests alone: what there is to do for who writes tests.
    Own(Vec<String>, Part),
    /// These crates, whole, and the list is brought up to date.
    Update(Vec<String>),
}

/// What is tried of a crate's faults.
#[derive(Clone, Debug)]
pub enum Part {
    /// All.
    Whole,
    /// The this-th of so many.
    Slice(usize, usize),
    /// Those whose names hold one of these texts. Only they are woven in, so that who has written a test soon knows what
    /// it finds.
    Named(Vec<String>),
}

impl Part {
    /// Whether a fault is woven in at all.
    fn weaves(&self, name: &Name) -> bool {
        let shown = name.to_string();
        match self {
            Part::Named(texts) => texts.iter().any(|text| shown.contains(text.as_str())),
            Part::Whole | Part::Slice(..) => true,
        }
    }

    /// Whether the one at this position is tried, of those that compile.
    fn tries(&self, at: usize) -> bool {
        match self {
            Part::Slice(this, of) => at % of == this - 1,
            Part::Whole | Part::Named(_) => true,
        }
    }
}

/// The crate under the hunt, with all that can be made wrong in it.
#[derive(Debug)]
pub struct Quarry {
    /// Its files.
    pub files: Vec<File>,
}

/// A file of it.
#[derive(Debug)]
pub struct File {
    /// Its name from the root of the tree.
    pub name: String,
    /// What it says.
    pub text: String,
    /// Its places, each with the number of its first fault.
    pub places: Vec<(u32, Place)>,
    /// It is the root of the crate.
    pub is_root: bool,
}

/// Hunts. What is wrong with the tests or with the list, in words.
///
/// # Errors
/// The tree cannot be read or built, or the tests fail without any fault.
pub fn hunt(root: &Path, what: &Hunt) -> Result<Vec<String>, String> {
    let mut listed = list::read(root)?;
    let (crates, part, limit) = match what {
        Hunt::All => (listed.crates.iter().cloned().collect(), Part::Whole, None),
        Hunt::Crates(crates, part) | Hunt::Own(crates, part) => (crates.clone(), part.clone(), None),
        Hunt::Update(crates) => (crates.clone(), Part::Whole, None),
        Hunt::Today => match today(root, &listed)? {
            Some((name, (this, of))) => {
                println!(
                    "hunt: today {name}, slice {this}/{of}; the same again: cargo xtask hunt {name} --slice {this}/{of}"
                );
                (vec![name], Part::Slice(this, of), Some(TODAY_LASTS))
            }
            None => (Vec::new(), Part::Whole, None),
        },
    };
    let mut faults = Vec::new();
    for name in crates {
        let Some(ground) = CRATES.iter().find(|ground| ground.name == name) else {
            let known: Vec<&str> = CRATES.iter().map(|ground| ground.name).collect();
            return Err(format!(
                "{name} is not hunted through; there are {}",
                known.join(", ")
            ));
        };
        let asks_simulator = !matches!(what, Hunt::Own(..));
        let hunted = hunt_crate(root, ground, (&part, limit), asks_simulator, &listed.entries)?;
        if matches!(what, Hunt::Update(_)) {
            listed.entries = hunted.updated(ground, listed.entries);
            listed.crates.insert(name);
            list::write(root, &listed)?;
        } else {
            faults.extend(hunted.faults);
        }
    }
    for ground in CRATES
        .iter()
        .filter(|ground| !listed.crates.contains(ground.name))
    {
        println!(
            "hunt: {0} was not hunted through yet: cargo xtask hunt {0} --update",
            ground.name
        );
    }
    let open = listed.entries.values().filter(|entry| **entry == Entry::Open);
    println!(
        "hunt: {} of the {} on the list are not explained yet",
        open.count(),
        listed.entries.len()
    );
    Ok(faults)
}

/// The crate and slice of the day: they go on with days and with commits, so that all are seen over time.
fn today(root: &Path, listed: &Listed) -> Result<Option<(String, Slice)>, String> {
    let days = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / 86_400);
    let counted = Command::new("git")
        .args(["rev-list", "--count", "HEAD"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("git cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&counted.stdout).into_owned();
    let commits: u64 = text.trim().parse().unwrap_or(0);
    let number = usize::try_from(days + commits).unwrap_or(0);
    let is_known = |ground: &&Ground| listed.crates.contains(ground.name);
    let known: Vec<&Ground> = CRATES.iter().filter(is_known).collect();
    let Some(ground) = known.get(number.checked_rem(known.len()).unwrap_or(0)) else {
        return Ok(None);
    };
    let all = Quarry::of(root, ground.folder)?.names().len();
    let slices = all.div_ceil(TODAY_FAULTS).max(1);
    let slice = number / known.len() % slices + 1;
    Ok(Some((ground.name.to_owned(), (slice, slices))))
}

fn hunt_crate(
    root: &Path,
    ground: &Ground,
    (part, limit): (&Part, Option<Duration>),
    asks_simulator: bool,
    listed: &BTreeMap<Name, Entry>,
) -> Result<Hunted, String> {
    let begun = Instant::now();
    let name = ground.name;
    let quarry = Quarry::of(root, ground.folder)?;
    let names = quarry.names();
    // Files that are woven are not laid bare first: they would be compiled anew each time.
    let woven: BTreeSet<&str> = quarry.files.iter().map(|file| file.name.as_str()).collect();
    let tree = format!("hunted-{name}");
    let before = bed::folder(root).join(&tree);
    let bed = Bed::new(root, &tree, |file, content| match woven.contains(file) {
        true => fs::read(before.join(file)).unwrap_or(content),
        false => content,
    })?;
    let left_out = names.iter().filter(|(_, name)| !part.weaves(name));
    let left_out: BTreeSet<u32> = left_out.map(|(number, _)| *number).collect();
    let woven = names.len() - left_out.len();
    let built = build::build(&bed, &quarry, &format!("palisade-{name}"), left_out)?;
    let scratch = bed.target.join("hunt");
    fs::create_dir_all(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let tests = ask::tests(&built.programs, &scratch)?;
    println!(
        "hunt: {name}: {} faults that compile, {} that do not, {} tests, ready in {} s",
        names.len() - not_viable(&quarry, &built),
        woven + not_viable(&quarry, &built) - names.len(),
        tests.len(),
        begun.elapsed().as_secs()
    );
    let chosen: Vec<(u32, &Name)> = names
        .iter()
        .filter(|(number, _)| quarry.is_viable(**number, &built))
        .enumerate()
        .filter(|(at, _)| part.tries(*at))
        .map(|(_, (number, name))| (*number, name))
        .collect();
    let own = |number| ask::judge(&built.programs, &tests, number);
    let verdicts = ask_all(&chosen, limit, own)?;
    println!(
        "hunt: {name}: {} of {} tried on its own tests in {} s: {}",
        verdicts.len(),
        chosen.len(),
        begun.elapsed().as_secs(),
        counts(&verdicts)
    );
    // The simulator is asked about what the list does not explain; in a slice, about what it does not name at all.
    let is_open = |name: &Name| match (verdicts.get(name), listed.get(name)) {
        (Some(Verdict::Survived | Verdict::Unseen), None) => true,
        (Some(Verdict::Survived | Verdict::Unseen), Some(Entry::Simulated | Entry::Open)) => {
            !matches!(part, Part::Slice(..))
        }
        _ => false,
    };
    let open: Vec<(u32, &Name)> = chosen.iter().filter(|(_, name)| is_open(name)).copied().collect();
    let mut simulated = BTreeMap::new();
    if asks_simulator && !open.is_empty() {
        let simulator = build::simulator(&bed)?;
        if let found @ (Verdict::Found(_) | Verdict::Endless) =
            ask::simulate(&simulator, ground.scenarios, SEEDS, 0)?
        {
            return Err(format!(
                "the simulator finds something without any fault: {found:?}"
            ));
        }
        let by_simulator = |number| ask::simulate(&simulator, ground.scenarios, SEEDS, number);
        simulated = ask_all(&open, None, by_simulator)?;
        println!(
            "hunt: {name}: {} tried on the simulator, after {} s: {}",
            simulated.len(),
            begun.elapsed().as_secs(),
            counts(&simulated)
        );
    }
    let mut faults = match part {
        // What was not woven in was not looked for.
        Part::Named(_) => Vec::new(),
        Part::Whole | Part::Slice(..) => gone(ground, &names, &quarry, &built, listed),
    };
    for (name, verdict) in &verdicts {
        let by_simulator = simulated.get(name);
        faults.extend(compare(name, verdict, by_simulator, listed.get(name)));
    }
    Ok(Hunted {
        faults,
        own: verdicts,
        simulated,
    })
}

/// What came of the hunt through a crate.
#[derive(Debug)]
struct Hunted {
    /// What is not as the list says.
    faults: Vec<String>,
    /// What its own tests said.
    own: BTreeMap<Name, Verdict>,
    /// What the simulator said of those that survived.
    simulated: BTreeMap<Name, Verdict>,
}

impl Hunted {
    /// The list as it should be: what was explained and still survives stays explained.
    fn updated(&self, ground: &Ground, mut listed: BTreeMap<Name, Entry>) -> BTreeMap<Name, Entry> {
        let source = format!("{}/src/", ground.folder);
        let survives = |name: &Name| matches!(self.own.get(name), Some(Verdict::Survived | Verdict::Unseen));
        listed.retain(|name, entry| {
            let is_other = !name.file.starts_with(&source);
            is_other || (matches!(entry, Entry::Explained(_)) && survives(name))
        });
        for name in self.own.keys().filter(|name| survives(name)) {
            let entry = match self.simulated.get(name) {
                Some(Verdict::Found(_) | Verdict::Endless) => Entry::Simulated,
                _ => Entry::Open,
            };
            listed.entry(name.clone()).or_insert(entry);
        }
        listed
    }
}

fn not_viable(quarry: &Quarry, built: &Built) -> usize {
    let numbers = quarry.names();
    numbers
        .keys()
        .filter(|number| !quarry.is_viable(**number, built))
        .count()
}

fn counts(verdicts: &BTreeMap<Name, Verdict>) -> String {
    let count = |of: fn(&Verdict) -> bool| verdicts.values().filter(|verdict| of(verdict)).count();
    format!(
        "{} found, {} end no more, {} survive, {} of these passed by no test",
        count(|verdict| matches!(verdict, Verdict::Found(_))),
        count(|verdict| *verdict == Verdict::Endless),
        count(|verdict| matches!(verdict, Verdict::Survived | Verdict::Unseen)),
        count(|verdict| *verdict == Verdict::Unseen)
    )
}

/// Asks the tests of all faults, as many at a time as there are cores.
fn ask_all(
    chosen: &[(u32, &Name)],
    limit: Option<Duration>,
    ask: impl Fn(u32) -> Result<Verdict, String> + Sync,
) -> Result<BTreeMap<Name, Verdict>, String> {
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(BTreeMap::new());
    let worker = || -> Result<(), String> {
        while limit.is_none_or(|limit| begun.elapsed() < limit) {
            let Some((number, name)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let verdict = ask(*number)?;
            if let Ok(mut verdicts) = verdicts.lock() {
                verdicts.insert((*name).clone(), verdict);
            }
        }
        Ok(())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err("a worker panicked".to_owned()))
        })
    })?;
    verdicts.into_inner().map_err(|error| error.to_string())
}

/// Holds what was said of a fault against what the list says of it.
fn compare(
    name: &Name,
    own: &Verdict,
    by_simulator: Option<&Verdict>,
    listed: Option<&Entry>,
) -> Option<String> {
    let said = match (own, listed) {
        (Verdict::Found(by), Some(_)) => format!("listed as a survivor, and found by {by}"),
        (Verdict::Endless, Some(_)) => "listed as a survivor, and does not end".to_owned(),
        (Verdict::Found(_) | Verdict::Endless, None) | (_, Some(Entry::Explained(_))) => return None,
        (Verdict::Survived | Verdict::Unseen, Some(Entry::Simulated)) => match by_simulator {
            Some(Verdict::Survived | Verdict::Unseen) => "the simulator finds it no more".to_owned(),
            _ => return None,
        },
        (Verdict::Survived | Verdict::Unseen, None | Some(Entry::Open)) => match (by_simulator, own) {
            (Some(Verdict::Found(by)), _) => format!("own tests let it through, and {by} finds it: say so"),
            (Some(Verdict::Endless), _) => {
                "own tests let it through, and the simulator does not end: say so".to_owned()
            }
            _ if listed.is_some() => return None,
            (_, Verdict::Unseen) => "no test passes by".to_owned(),
            _ => "survives".to_owned(),
        },
    };
    Some(format!("{said}: {name}"))
}

/// What the list names and the crate does not have.
fn gone(
    ground: &Ground,
    names: &BTreeMap<u32, Name>,
    quarry: &Quarry,
    built: &Built,
    listed: &BTreeMap<Name, Entry>,
) -> Vec<String> {
    let viable: BTreeSet<&Name> = names
        .iter()
        .filter(|(number, _)| quarry.is_viable(**number, built))
        .map(|(_, name)| name)
        .collect();
    let source = format!("{}/src/", ground.folder);
    listed
        .keys()
        .filter(|name| name.file.starts_with(&source) && !viable.contains(name))
        .map(|name| {
            format!(
                "listed as a survivor, and {} has no such place: {name}",
                ground.name
            )
        })
        .collect()
}

impl Quarry {
    /// All that can be made wrong in a crate.
    fn of(root: &Path, folder: &str) -> Result<Quarry, String> {
        let mut files = Vec::new();
        let mut next = 1;
        let source = format!("{folder}/src/");
        for name in bed::sources(root)? {
            if !name.starts_with(&source) || !name.ends_with(".rs") || is_left_alone(&name) {
                continue;
            }
            let text = fs::read_to_string(root.join(&name)).map_err(|error| format!("{name}: {error}"))?;
            let mut places = Vec::new();
            for place in places::of(&text).map_err(|error| format!("{name}: {error}"))? {
                let faults = u32::try_from(place.faults.len()).unwrap_or(0);
                places.push((next, place));
                next += faults;
            }
            let is_root = name == format!("{source}lib.rs");
            files.push(File {
                name,
                text,
                places,
                is_root,
            });
        }
        Ok(Quarry { files })
    }

    /// What each fault is called.
    fn names(&self) -> BTreeMap<u32, Name> {
        let mut names = BTreeMap::new();
        let mut times: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
        for file in &self.files {
            for (first, place) in &file.places {
                for (number, fault) in (*first..).zip(&place.faults) {
                    let times = times
                        .entry((&file.name, &place.function, &fault.what))
                        .and_modify(|times| *times += 1)
                        .or_insert(1);
                    let what = match times {
                        1 => fault.what.clone(),
                        more => format!("{} ({more})", fault.what),
                    };
                    let name = Name {
                        file: file.name.clone(),
                        function: place.function.clone(),
                        what,
                    };
                    names.insert(number, name);
                }
            }
        }
        names
    }

    /// Whether a fault is one that can be tried.
    fn is_viable(&self, number: u32, built: &Built) -> bool {
        let place = self
            .files
            .iter()
            .flat_map(|file| &file.places)
            .find(|(first, place)| {
                let faults = u32::try_from(place.faults.len()).unwrap_or(0);
                (*first..*first + faults).contains(&number)
            });
        let last = |place: &Place| place.function.rsplit("::").next().unwrap_or_default().to_owned();
        place.is_some_and(|(_, place)| !built.computed.contains(&last(place)))
            && !built.refused.contains(&number)
    }
}

fn is_left_alone(name: &str) -> bool {
    let is_test = name.ends_with("/tests.rs") || name.contains("/tests/");
    is_test || LEFT_ALONE.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_woven_in() {
        let name = Name {
            file: "datapath/wire/src/frame.rs".to_owned(),
            function: "Frame::read".to_owned(),
            what: "at < end: <= for <".to_owned(),
        };
        for (text, is_woven) in [("frame.rs", true), ("Frame::read: at <", true), ("write", false)] {
            let part = Part::Named(vec!["elsewhere".to_owned(), text.to_owned()]);
            assert_eq!((part.weaves(&name), part.tries(3)), (is_woven, true), "{text}");
        }
        assert!(Part::Slice(2, 3).weaves(&name) && Part::Whole.weaves(&name));
        let of_slice: Vec<usize> = (0..9).filter(|at| Part::Slice(2, 3).tries(*at)).collect();
        assert_eq!(of_slice, [1, 4, 7]);
    }
}
