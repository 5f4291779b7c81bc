//! How the appliance grows: more reactors, more volumes, more attachments, more hours.
//!
//! Other targets are not part of it. What is measured without processes, on one thread ([`reactor_cost`]), is repeatable
//! to a percent and tells what the code costs; what is measured with the daemon and guests on the other core
//! ([`attachments`], [`neighbour`], [`memory`]) tells what that comes to. [`soak`] is for hours.
//!
//! Start reading at [`run`]; [`workbench`] is a reactor without a daemon, [`daemon`] is one with, [`guests`] are the
//! clients, [`table`] is what comes out.

pub mod attachments;
pub mod daemon;
pub mod footprint;
pub mod guests;
pub mod memory;
pub mod neighbour;
pub mod reactor_cost;
pub mod rest;
pub mod soak;
pub mod table;
pub mod trend;
pub mod workbench;

use crate::Failure;
use crate::machine::{self, Machine};
use daemon::Setting;
use palisade_sys::affinity;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use soak::Soak;
use std::path::PathBuf;
use std::time::Duration;
use table::Table;

/// What to measure.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// One reactor on one thread, without a daemon: requests, volumes, idle attachments, a second reactor
    Reactor,
    /// A daemon with up to 256 attachments
    Attachments,
    /// A guest that asks little beside one that asks for everything
    Neighbour,
    /// Resident memory for each attachment and reactor
    Memory,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What.
    pub subjects: Vec<Subject>,
    /// How long to soak after that, if at all.
    pub soak: Option<Duration>,
    /// Repetitions of each figure.
    pub repeats: u32,
    /// Length of each window.
    pub length: Duration,
    /// Folder of palisaded.
    pub programs: PathBuf,
    /// A folder for sockets, logs and state. Its path must be short.
    pub folder: PathBuf,
    /// The core of the reactor.
    pub target_core: usize,
    /// The core of the guests, and of a second reactor.
    pub client_core: usize,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// The figures.
    pub tables: Vec<Table>,
    /// The soak with all its samples.
    pub soak: Option<Soak>,
}

/// Measures everything; `say` is told what happens.
pub fn run(plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Report, Failure> {
    raise_descriptor_limit();
    let setting = Setting {
        programs: plan.programs.clone(),
        folder: plan.folder.clone(),
        cores: vec![plan.target_core],
        mode: "always-poll",
        memory: false,
        volumes: 2,
    };
    let mut report = Report {
        machine: Machine::look(std::path::Path::new("")),
        tables: Vec::new(),
        soak: None,
    };
    for subject in &plan.subjects {
        say(&format!("measuring: {subject:?}"));
        let tables = measure(*subject, plan, &setting)?;
        tables
            .iter()
            .for_each(|table| say(&format!("\n{}", table.text())));
        report.tables.extend(tables);
    }
    if let Some(length) = plan.soak {
        let setting = Setting {
            mode: "adaptive",
            memory: true,
            volumes: 8,
            ..setting
        };
        let soak = soak::soak(&setting, length, say)?;
        report.tables.push(soak.table());
        report.soak = Some(soak);
    }
    report.machine.load_after = machine::load();
    Ok(report)
}

fn measure(subject: Subject, plan: &Plan, setting: &Setting) -> Result<Vec<Table>, Failure> {
    let (repeats, length) = (plan.repeats, plan.length);
    let pin = || affinity::pin_current_thread(plan.client_core).map_err(Failure::system("pin the client"));
    match subject {
        Subject::Reactor => {
            let rounds = reactor_cost::Rounds {
                repeats,
                length: length / 5,
                core: plan.target_core,
                other_core: plan.client_core,
            };
            // It pins itself where the reactor belongs, and the guests' thread must not stay there.
            std::thread::scope(|scope| {
                let thread = scope.spawn(move || reactor_cost::tables(rounds));
                thread.join().unwrap_or_else(|_| {
                    Err(Failure::Ring {
                        problem: "the workbench ended by a panic".into(),
                    })
                })
            })
        }
        Subject::Attachments => {
            pin()?;
            attachments::tables(setting, attachments::Rounds { repeats, length })
        }
        Subject::Neighbour => {
            pin()?;
            // Many short windows: half of them are then not disturbed by anybody else, and it is p99 that is looked at.
            Ok(vec![neighbour::table(setting, 3 * repeats, length / 2)?])
        }
        Subject::Memory => {
            pin()?;
            let setting = Setting {
                mode: "adaptive",
                ..setting.clone()
            };
            memory::tables(&setting, [plan.target_core, plan.client_core], repeats.min(3))
        }
    }
}

/// Hundreds of guests need some descriptors each, here and in the daemons, which inherit the limit.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, opening says so when there are too many.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::text).collect();
        format!("{}\n\n{}", self.machine.describe(), tables.join("\n"))
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(Table::markdown).collect();
        format!(
            "# Scaling and memory\n\n{}\n\n{}",
            self.machine.describe(),
            tables.join("\n")
        )
    }

    /// For programs.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
