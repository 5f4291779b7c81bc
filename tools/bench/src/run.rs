//! The whole measurement of rows and of load: for each kind of device start all targets, fill their disks, and for
//! each row let them take turns.

use crate::Failure;
use crate::contestant::{Arrivals, Contestant, Rounds, rounds};
use crate::load::{self, LoadRow};
use crate::row::{Medium, Row};
use crate::session::Manner;
use crate::tally::{RowFigures, figures};
use crate::target::{Ground, Way};
use palisade_sys::affinity;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who.
    pub ways: Vec<Way>,
    /// What.
    pub rows: Vec<Row>,
    /// What of it at a tenth of the load.
    pub load: Vec<Row>,
    /// How often and how long for null and memory.
    pub rounds: Rounds,
    /// The same for files, which have to be told apart from the bare device by less.
    pub file_rounds: Rounds,
    /// How to speak to servers.
    pub manner: Manner,
    /// The client's core.
    pub client_core: usize,
}

impl Plan {
    /// How often and how long for a kind of device.
    pub fn rounds_of(&self, medium: Medium) -> Rounds {
        match medium {
            Medium::Null | Medium::Memory => self.rounds,
            Medium::File => self.file_rounds,
        }
    }
}

/// What has been found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// As fast as possible.
    pub rows: Vec<RowFigures>,
    /// At a tenth of the load.
    pub load: Vec<LoadRow>,
}

/// Measures everything; `say` is told what happens.
pub fn run(plan: &Plan, ground: &Ground, say: &mut dyn FnMut(&str)) -> Result<Found, Failure> {
    affinity::pin_current_thread(plan.client_core).map_err(Failure::system("pin the client"))?;
    let mut found = Found::default();
    for medium in [Medium::Null, Medium::Memory, Medium::File] {
        let of_medium =
            |rows: &[Row]| -> Vec<Row> { rows.iter().filter(|row| row.medium == medium).copied().collect() };
        let (rows, load) = (of_medium(&plan.rows), of_medium(&plan.load));
        let needed = |way: &&Way| {
            way.serves(medium) && (!rows.is_empty() || !load.is_empty() && load::takes_part(way))
        };
        let mut contestants = Vec::new();
        for way in plan.ways.iter().filter(needed) {
            say(&format!("starting {} with a {medium} disk", way.name));
            contestants.push(Contestant::enter(way, medium, plan.manner, ground)?);
        }
        let how = plan.rounds_of(medium);
        for row in rows {
            let mut all: Vec<&mut Contestant> = contestants.iter_mut().collect();
            let series = rounds(&mut all, row, Arrivals::Closed, plan.manner, how)?;
            let figures = figures(row, &series);
            say(&crate::report::row_text(&figures));
            found.rows.push(figures);
        }
        for row in load {
            match load::measure(row, &mut contestants, plan.manner, how)? {
                Some(figures) => {
                    say(&load::page::row_text(&figures));
                    found.load.push(figures);
                }
                None => say("no load without qemu-storage-daemon: it sets the rate"),
            }
        }
    }
    Ok(found)
}
