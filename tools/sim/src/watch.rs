//! What the checkers know of one volume while guests use it: its history, who uses which sector now, and whether its
//! disks have been given leave to misbehave.

use crate::finding::{Findings, Invariant};
use crate::history::{Emptying, History, Outcome, Tick};
use crate::stamp::{self, Content, SECTOR};
use palisade_block::{Nanos, Op, Status};

/// Who uses a sector just now.
#[derive(Clone, Copy, Default, Debug)]
struct Use {
    reads: u16,
    writes: u16,
    emptying: bool,
}

/// One volume under watch.
#[derive(Debug)]
pub struct VolumeWatch {
    /// Its number.
    pub volume: u16,
    /// What its sectors may hold.
    pub history: History,
    /// Bytes of a logical block.
    pub block_bytes: u32,
    /// Errors are allowed: a disk below has been told to fail.
    pub may_fail: bool,
    /// Errors are allowed: the volume has been taken away from the guest.
    pub taken_away: bool,
    /// What is begun from this moment on must fail: every reactor has let go of the volume.
    pub taken_since: Option<Tick>,
    /// Writes begun at or after this moment are durable when they are acknowledged.
    pub write_through_since: Option<Tick>,
    /// Whether two writes may be in flight to one sector. Not where the daemon is killed or routes change: a write that is
    /// submitted or sent again repeats itself, so a guest that lets two of them race is told nothing about their order.
    pub racing_writes: bool,
    uses: Vec<Use>,
    findings: Findings,
}

impl VolumeWatch {
    /// A fresh volume of zeroes.
    pub fn new(volume: u16, sectors: u64, block_bytes: u32, findings: Findings) -> VolumeWatch {
        VolumeWatch {
            volume,
            history: History::new(sectors),
            block_bytes,
            may_fail: false,
            taken_away: false,
            taken_since: None,
            write_through_since: None,
            racing_writes: true,
            uses: vec![Use::default(); sectors as usize],
            findings,
        }
    }

    /// It has a guest again.
    pub fn given(&mut self) {
        (self.taken_away, self.taken_since) = (false, None);
    }

    /// Size.
    pub fn sectors(&self) -> u64 {
        self.uses.len() as u64
    }

    /// The volume has become larger.
    pub fn grow(&mut self, sectors: u64) {
        self.uses.resize(sectors as usize, Use::default());
        self.history.grow(sectors);
    }

    /// Whether an operation may begin beside those in flight.
    pub fn admits(&self, op: Op, lba: u64, sectors: u64) -> bool {
        self.range(lba, sectors).iter().all(|held| match op {
            Op::Read => !held.emptying,
            Op::Write => !held.emptying && (self.racing_writes || held.writes == 0),
            Op::Flush => true,
            Op::Discard | Op::WriteZeroes { .. } => !held.emptying && held.reads == 0 && held.writes == 0,
        })
    }

    /// An operation begins. `number` is the write's.
    pub fn begins(&mut self, op: Op, lba: u64, sectors: u64, number: u64, at: Tick) {
        for lba in lba..lba + sectors {
            match op {
                Op::Write => self.history.write_begins(lba, number, at),
                Op::Discard | Op::WriteZeroes { .. } => self.history.emptying_begins(lba),
                Op::Read | Op::Flush => {}
            }
            self.hold(op, lba, true);
        }
    }

    /// An operation ends. `data` is what a read that succeeded has brought.
    pub fn ends(&mut self, ended: &Ended<'_>) {
        let Ended {
            op,
            lba,
            sectors,
            number,
            begun,
            at,
            status,
            data,
            now,
        } = *ended;
        let outcome = match status {
            Some(Status::Ok) => Outcome::Done {
                durable: self.write_through_since.is_some_and(|since| begun >= since),
            },
            _ => Outcome::Failed,
        };
        for index in 0..sectors {
            let lba = lba + index;
            self.hold(op, lba, false);
            let result = match op {
                Op::Write => self.history.write_ends(lba, number, at, outcome),
                Op::Discard => {
                    self.history.emptying_ends(lba, Emptying::Discard, at, outcome);
                    Ok(())
                }
                Op::WriteZeroes { .. } => {
                    self.history.emptying_ends(lba, Emptying::Zero, at, outcome);
                    Ok(())
                }
                Op::Read if status == Some(Status::Ok) => {
                    let from = index as usize * SECTOR;
                    let seen = data.get(from..from + SECTOR).map_or(Content::Garbage, |sector| {
                        stamp::read(sector, stamp::place(self.volume, lba))
                    });
                    self.history.read(lba, seen, begun, at)
                }
                Op::Read | Op::Flush => Ok(()),
            };
            if let Err(impossible) = result {
                let what = format!("volume {}, {impossible}", self.volume);
                self.findings.add(Invariant::WriteKept, now, what);
            }
        }
        if op == Op::Flush && status == Some(Status::Ok) {
            self.history.flushed(begun);
        }
    }

    /// The power has been cut, and the guests with it.
    pub fn power_cut(&mut self, at: Tick) {
        self.uses.fill(Use::default());
        self.history.power_cut(at);
    }

    fn hold(&mut self, op: Op, lba: u64, taken: bool) {
        let Some(held) = self.uses.get_mut(lba as usize) else {
            return;
        };
        let count = match op {
            Op::Read => &mut held.reads,
            Op::Write => &mut held.writes,
            Op::Flush => return,
            Op::Discard | Op::WriteZeroes { .. } => {
                held.emptying = taken;
                return;
            }
        };
        *count = if taken {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
    }

    fn range(&self, lba: u64, sectors: u64) -> &[Use] {
        self.uses
            .get(lba as usize..(lba + sectors) as usize)
            .unwrap_or(&[])
    }
}

/// The end of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// What it was.
    pub op: Op,
    /// First sector.
    pub lba: u64,
    /// Length.
    pub sectors: u64,
    /// Its number, when it was a write.
    pub number: u64,
    /// When it was begun.
    pub begun: Tick,
    /// When its answer was seen.
    pub at: Tick,
    /// The answer; `None` when there will be none, because the guest has gone.
    pub status: Option<Status>,
    /// What a read brought.
    pub data: &'a [u8],
    /// Virtual time, for reports.
    pub now: Nanos,
}
