//! Invariant 2, and the single copy of invariant 3 for one node: what the sectors of a volume may hold.
//!
//! Every write carries a number of its own, so a read tells which write it saw. A write and the reads that saw it
//! form a *cluster*, with two moments: `finish`, when the first of its operations was answered, and `start`, when the
//! last of them was begun. Cluster A must precede B when `A.finish < B.start`; a history of one sector is
//! linearizable if and only if no two clusters must each precede the other (Gibbons and Korach, "Testing shared
//! memories", 1997: no two forward zones overlap, no backward zone lies inside a forward one).
//!
//! Operations that zero or discard a sector run alone on it, so they end an *era*: what the sector may hold then is
//! the base of the next one. A power cut ends one too, with everything as base that no durable write must have
//! replaced.

use crate::stamp::Content;
use std::fmt;

/// A moment of the run as guests see it. It grows with every event.
pub type Tick = u64;

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done; durable when the volume writes through.
    Done {
        /// On stable storage.
        durable: bool,
    },
    /// Answered with an error: it may have taken effect, until the answer.
    Failed,
}

/// An operation that empties sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emptying {
    /// Reads as zeroes afterwards.
    Zero,
    /// Holds what it held, or zeroes.
    Discard,
}

/// What a volume did that no disk may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Impossible {
    /// On which sector.
    pub lba: u64,
    /// What was read.
    pub read: Content,
    /// Why that cannot be.
    pub why: Why,
}

/// Why a value cannot have been read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// Nobody wrote it here, or it was replaced for certain long ago.
    NeverOrLongGone {
        /// What could have been read before anything was written since.
        base: Vec<Content>,
    },
    /// It was replaced before the read began, or a newer value had been seen, by this other value.
    Replaced {
        /// The value that must lie both before and after.
        by: Content,
    },
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sector {} read as {:?}: ", self.lba, self.read)?;
        match &self.why {
            Why::NeverOrLongGone { base } => {
                write!(
                    f,
                    "nobody wrote that here, or it was gone for certain (base {base:?})"
                )
            }
            Why::Replaced { by } => write!(f, "{by:?} must come both before and after it"),
        }
    }
}

/// The history of all sectors of one volume.
#[derive(Debug, Default)]
pub struct History {
    sectors: Vec<Sector>,
    unflushed: Vec<Unflushed>,
}

#[derive(Debug)]
struct Sector {
    base: Cluster,
    bases: Vec<Content>,
    writes: Vec<Cluster>,
    /// What a power cut may bring back of earlier eras, now and after the next flush that covers the era's start.
    survivors: Vec<Content>,
    survivors_flushed: Vec<Content>,
    emptying: bool,
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    value: Content,
    begun: Tick,
    answered: Option<Tick>,
    finish: Tick,
    start: Tick,
    durable: bool,
}

#[derive(Clone, Copy, Debug)]
struct Unflushed {
    lba: u64,
    answered: Tick,
    value: Content,
}

const NOT_YET: Tick = Tick::MAX;

impl Cluster {
    fn must_precede(&self, other: &Cluster) -> bool {
        self.finish < other.start
    }

    /// The same cluster if it were read by somebody from `start` to `finish`.
    fn if_read(&self, start: Tick, finish: Tick) -> Cluster {
        Cluster {
            finish: self.finish.min(finish).min(self.answered.unwrap_or(NOT_YET)),
            start: self.start.max(start),
            ..*self
        }
    }

    fn fresh_base(at: Tick) -> Cluster {
        Cluster {
            value: Content::Zero,
            begun: at,
            answered: Some(at),
            finish: at,
            start: at,
            durable: true,
        }
    }
}

impl History {
    /// A volume of zeroes.
    pub fn new(sectors: u64) -> History {
        let mut history = History::default();
        history.grow(sectors);
        history
    }

    /// The volume has become larger.
    pub fn grow(&mut self, sectors: u64) {
        self.sectors.resize_with(sectors as usize, || Sector {
            base: Cluster::fresh_base(0),
            bases: vec![Content::Zero],
            writes: Vec::new(),
            survivors: Vec::new(),
            survivors_flushed: Vec::new(),
            emptying: false,
        });
    }

    /// A write begins.
    pub fn write_begins(&mut self, lba: u64, number: u64, at: Tick) {
        if let Some(sector) = self.sectors.get_mut(lba as usize) {
            sector.writes.push(Cluster {
                value: Content::Write(number),
                begun: at,
                answered: None,
                finish: NOT_YET,
                start: at,
                durable: false,
            });
        }
    }

    /// A write is answered.
    pub fn write_ends(
        &mut self,
        lba: u64,
        number: u64,
        at: Tick,
        outcome: Outcome,
    ) -> Result<(), Impossible> {
        let Some(sector) = self.sectors.get_mut(lba as usize) else {
            return Ok(());
        };
        let value = Content::Write(number);
        let Some(write) = sector.writes.iter_mut().find(|write| write.value == value) else {
            return Ok(());
        };
        write.answered = Some(at);
        if let Outcome::Done { durable } = outcome {
            write.finish = write.finish.min(at);
            write.durable = durable;
            let write = *write;
            if !durable {
                self.unflushed.push(Unflushed {
                    lba,
                    answered: at,
                    value,
                });
            }
            sector.agrees(lba, &write)?;
        }
        Ok(())
    }

    /// A read from `start` to `finish` saw this.
    pub fn read(&mut self, lba: u64, seen: Content, start: Tick, finish: Tick) -> Result<(), Impossible> {
        let Some(sector) = self.sectors.get_mut(lba as usize) else {
            return Ok(());
        };
        let cluster = match sector.writes.iter().position(|write| write.value == seen) {
            Some(index) => {
                let cluster = sector.writes[index].if_read(start, finish);
                sector.writes[index] = cluster;
                cluster
            }
            None if sector.bases.contains(&seen) => {
                // A base of several values was one of them all along.
                sector.bases = vec![seen];
                sector.base.value = seen;
                sector.base = sector.base.if_read(start, finish);
                sector.base
            }
            None => {
                let base = sector.bases.clone();
                return Err(Impossible {
                    lba,
                    read: seen,
                    why: Why::NeverOrLongGone { base },
                });
            }
        };
        sector.agrees(lba, &cluster)
    }

    /// An operation that empties a sector begins. Nobody else uses the sector until it ends.
    pub fn emptying_begins(&mut self, lba: u64) {
        if let Some(sector) = self.sectors.get_mut(lba as usize) {
            sector.emptying = true;
        }
    }

    /// An operation that emptied a sector has been answered.
    pub fn emptying_ends(&mut self, lba: u64, what: Emptying, at: Tick, outcome: Outcome) {
        let Some(sector) = self.sectors.get_mut(lba as usize) else {
            return;
        };
        let before = sector.possible(at);
        let mut after_cut = sector.after_power_cut();
        add(&mut after_cut, Content::Zero);
        let mut either = before;
        add(&mut either, Content::Zero);
        let (bases, flushed, durable) = match (what, outcome) {
            (Emptying::Zero, Outcome::Done { durable }) => (vec![Content::Zero], Vec::new(), durable),
            (Emptying::Discard, Outcome::Done { durable }) => (either.clone(), either, durable),
            (_, Outcome::Failed) => (either.clone(), after_cut.clone(), false),
        };
        sector.base = Cluster::fresh_base(at);
        sector.bases = bases;
        sector.writes.clear();
        sector.emptying = false;
        sector.survivors = if durable { flushed.clone() } else { after_cut };
        sector.survivors_flushed = flushed;
        if !durable && outcome != Outcome::Failed {
            self.unflushed.push(Unflushed {
                lba,
                answered: at,
                value: Content::Zero,
            });
        }
    }

    /// A flush that began at `begun` was answered with success.
    pub fn flushed(&mut self, begun: Tick) {
        let sectors = &mut self.sectors;
        self.unflushed.retain(|entry| {
            if entry.answered >= begun {
                return true;
            }
            if let Some(sector) = sectors.get_mut(entry.lba as usize) {
                if entry.value == Content::Zero {
                    if sector.base.begun == entry.answered {
                        sector.survivors = sector.survivors_flushed.clone();
                    }
                } else if let Some(write) = sector.writes.iter_mut().find(|write| write.value == entry.value)
                {
                    write.durable = true;
                }
            }
            false
        });
    }

    /// The power has been cut: nothing is in flight any more.
    pub fn power_cut(&mut self, at: Tick) {
        self.unflushed.clear();
        for sector in &mut self.sectors {
            sector.bases = sector.after_power_cut();
            sector.base = Cluster::fresh_base(at);
            sector.writes.clear();
            sector.survivors.clear();
            sector.survivors_flushed.clear();
            sector.emptying = false;
        }
    }

    /// Everything a read that begins now could return, when nothing is in flight.
    pub fn possible(&self, lba: u64, at: Tick) -> Vec<Content> {
        self.sectors
            .get(lba as usize)
            .map_or_else(Vec::new, |sector| sector.possible(at))
    }
}

impl Sector {
    /// Whether a cluster agrees with all others.
    fn agrees(&self, lba: u64, cluster: &Cluster) -> Result<(), Impossible> {
        match self.contradiction(cluster) {
            None => Ok(()),
            Some(by) => Err(Impossible {
                lba,
                read: cluster.value,
                why: Why::Replaced { by },
            }),
        }
    }

    fn contradiction(&self, cluster: &Cluster) -> Option<Content> {
        let others = self.writes.iter().chain([&self.base]);
        others
            .filter(|other| other.value != cluster.value || other.begun != cluster.begun)
            .find(|other| cluster.must_precede(other) && other.must_precede(cluster))
            .map(|other| other.value)
    }

    fn possible(&self, at: Tick) -> Vec<Content> {
        let mut values = Vec::new();
        if self.contradiction(&self.base.if_read(at, NOT_YET)).is_none() {
            values.clone_from(&self.bases);
        }
        for write in &self.writes {
            if self.contradiction(&write.if_read(at, NOT_YET)).is_none() {
                add(&mut values, write.value);
            }
        }
        values
    }

    fn after_power_cut(&self) -> Vec<Content> {
        let replaced = |cluster: &Cluster| {
            let cluster = cluster.if_read(0, NOT_YET);
            let others = self.writes.iter().filter(|other| other.value != cluster.value);
            others
                .into_iter()
                .any(|other| other.durable && cluster.must_precede(other))
        };
        let mut values = Vec::new();
        if !replaced(&self.base) {
            values.clone_from(&self.bases);
            for survivor in &self.survivors {
                add(&mut values, *survivor);
            }
        }
        for write in self.writes.iter().filter(|write| !replaced(write)) {
            add(&mut values, write.value);
        }
        if self.emptying {
            add(&mut values, Content::Zero);
        }
        values
    }
}

fn add(values: &mut Vec<Content>, value: Content) {
    if !values.contains(&value) {
        values.push(value);
    }
}

#[cfg(test)]
mod tests;
