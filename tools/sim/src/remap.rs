//! Invariants 6 and 7 with all that can go wrong between who decides and who carries out: a volume's mapping changes under
//! load, each reactor is told by messages that are lost, come late or twice, and no reactor starts anything between its
//! acknowledgement and the decision.
//!
//! ```text
//! told        Suspend ─────► each reactor, some of them lost        Resume, Cancel ─────► until each has acknowledged
//! reactor     running | suspending | suspended .................. | running
//! content     old place ................. all suspended: moved at once, and the old place is nobody's
//!                                         one missing at the deadline: given up, it stays where it is
//! ```
//!
//! Copies of what was said come again much later, when they must change nothing; so does the word of somebody who has been
//! deposed meanwhile, with a newer generation and an older epoch. Each of them leads to a place that is nobody's.

use crate::array::{Moving, Taken};
use crate::vm::Vm;
use crate::world::{Later, World, command_of};
use palisade_block::mailbox::ReactorChange;
use palisade_words::{Generation, VolumeIndex};
use std::collections::BTreeSet;

/// How long reactors have to say that a volume is at rest.
const DEADLINE_NS: (u64, u64) = (300_000, 3_000_000);

/// A change of a volume's mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remap {
    vm: usize,
    generation: u64,
    /// The membership in which it was agreed on: each reactor that acknowledges that has heard of it.
    epoch: u64,
    phase: Change,
    /// Reactors that have not acknowledged.
    awaited: BTreeSet<u16>,
}

/// How far a change has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Announced,
    AgreedOn,
    GivenUp,
}

/// What a reactor is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// A change is announced.
    Suspend,
    /// It is agreed on, and leads to where the volume lay after so many moves.
    Resume(u64),
    /// It is given up.
    Cancel,
    /// Somebody who was deposed by this membership says that another is agreed on.
    Deposed(u64),
}

/// A word on its way to a reactor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    reactor: u16,
    vm: usize,
    generation: u64,
    word: Word,
}

impl World {
    /// Announces a change of a volume's mapping, unless one is under way.
    pub(crate) fn begin_remap(&mut self, index: usize) {
        let is_moving = self.moves.iter().any(|one| one.is_of(index));
        let Some(vm) = self.vms.get(index) else { return };
        if self.daemon.is_none() || is_moving || self.is_remapped(index) || vm.grow_at.is_some() {
            return;
        }
        let generation = vm.generation + 1;
        self.remaps.push(Remap {
            vm: index,
            generation,
            epoch: 0,
            phase: Change::Announced,
            awaited: (0..self.plan.setup.reactors).collect(),
        });
        for reactor in 0..self.plan.setup.reactors {
            // A word that is lost is the reason for most changes that are given up.
            if !self.rng.one_in(6) {
                self.say(reactor, index, generation, Word::Suspend);
            }
        }
        self.later(DEADLINE_NS.0, DEADLINE_NS.1, Later::Decide(index, generation));
        self.disturbed = self.now;
    }

    /// Whether a volume's mapping is being changed.
    pub(crate) fn is_remapped(&self, index: usize) -> bool {
        self.remaps.iter().any(|one| one.vm == index)
    }

    /// The process is dead: nobody waits for its reactors, and what was announced is given up.
    pub(crate) fn end_remaps(&mut self) {
        for one in std::mem::take(&mut self.remaps) {
            if let Some(vm) = self.vms.get_mut(one.vm) {
                vm.generation = vm.generation.max(one.generation);
            }
        }
        self.array.borrow_mut().resume_all();
    }

    /// Sends a word on its way, and now and then a copy that comes much later.
    fn say(&mut self, reactor: u16, vm: usize, generation: u64, word: Word) {
        let said = Said {
            reactor,
            vm,
            generation,
            word,
        };
        self.later(1_000, 200_000, Later::Hear(said));
        if self.rng.one_in(3) {
            self.later(200_000, 12_000_000, Later::Hear(said));
        }
    }

    /// A word has come.
    pub(crate) fn hear(&mut self, said: Said) {
        let (Some(daemon), Some(vm)) = (&mut self.daemon, self.vms.get(said.vm)) else {
            return;
        };
        let (volume, generation) = (VolumeIndex(vm.number), Generation(said.generation));
        let decides = |one: &Remap| one.vm == said.vm && one.generation == said.generation;
        let is_decided = self
            .remaps
            .iter()
            .any(|one| decides(one) && one.phase != Change::Announced && said.word != Word::Suspend);
        let command = match said.word {
            Word::Suspend => ReactorChange::Suspend { volume, generation },
            Word::Cancel => ReactorChange::Cancel { volume, generation },
            Word::Resume(moves) => command_of(vm, said.generation, self.epoch, (vm.moves - moves) % 2 == 1),
            Word::Deposed(by) => command_of(vm, said.generation, by - 1, true),
        };
        if is_decided {
            self.array.borrow_mut().resume(said.reactor, vm.number);
        }
        daemon.tell(said.reactor, command);
    }

    /// The time to acknowledge is over, or what has been decided is said once more to those who have not.
    pub(crate) fn decide(&mut self, index: usize, generation: u64) {
        let of = |one: &&mut Remap| one.vm == index && one.generation == generation;
        let Some(one) = self.remaps.iter_mut().find(of) else {
            return;
        };
        if one.phase == Change::Announced {
            one.phase = Change::GivenUp;
            one.awaited = (0..self.plan.setup.reactors).collect();
            if let Some(vm) = self.vms.get_mut(index) {
                vm.generation = generation;
            }
        }
        let Some(vm) = self.vms.get(index) else { return };
        let word = match one.phase {
            Change::AgreedOn => Word::Resume(vm.moves),
            Change::Announced | Change::GivenUp => Word::Cancel,
        };
        let awaited: Vec<u16> = one.awaited.iter().copied().collect();
        for reactor in awaited {
            if !self.rng.one_in(6) {
                self.say(reactor, index, generation, word);
            }
        }
        self.later(300_000, 1_000_000, Later::Decide(index, generation));
        self.disturbed = self.now;
    }

    /// Takes what reactors have acknowledged.
    pub(crate) fn go_on_remapping(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let suspended = std::mem::take(&mut daemon.suspended);
        let cancelled = std::mem::take(&mut daemon.cancelled);
        let mut ready = Vec::new();
        for one in &mut self.remaps {
            let Some(vm) = self.vms.get(one.vm) else { continue };
            let is_this = |told: &&(u16, u16, u64)| told.1 == vm.number && told.2 == one.generation;
            let before = one.awaited.len();
            match one.phase {
                Change::Announced => {
                    for (reactor, ..) in suspended.iter().filter(is_this) {
                        one.awaited.remove(reactor);
                        places(vm, *reactor)
                            .into_iter()
                            .for_each(|place| self.array.borrow_mut().suspend(place));
                    }
                    if one.awaited.is_empty() {
                        ready.push((one.vm, one.generation));
                    }
                }
                Change::AgreedOn => one.awaited.retain(|reactor| {
                    daemon.routes.get(&(*reactor, vm.number)).copied() < Some(one.generation)
                }),
                Change::GivenUp => {
                    let told = cancelled.iter().filter(is_this);
                    for (reactor, ..) in told {
                        one.awaited.remove(reactor);
                    }
                }
            }
            if one.awaited.len() != before {
                self.disturbed = self.now;
            }
        }
        let is_over = |one: &Remap| one.phase != Change::Announced && one.awaited.is_empty();
        let over: Vec<Remap> = self.remaps.iter().filter(|one| is_over(one)).cloned().collect();
        self.remaps.retain(|one| !is_over(one));
        for one in over {
            self.speak_as_deposed(&one);
        }
        for (index, generation) in ready {
            self.agree(index, generation);
        }
    }

    /// All reactors are at rest: the content moves, and everybody is told.
    fn agree(&mut self, index: usize, generation: u64) {
        let of = |one: &&mut Remap| one.vm == index;
        let (Some(one), Some(vm)) = (self.remaps.iter_mut().find(of), self.vms.get_mut(index)) else {
            return;
        };
        one.phase = Change::AgreedOn;
        one.awaited = (0..self.plan.setup.reactors).collect();
        vm.generation = generation;
        vm.moves += 1;
        if self.rng.one_in(3) {
            self.epoch += 1;
        }
        one.epoch = self.epoch;
        let mut array = self.array.borrow_mut();
        for (run, elsewhere) in vm.runs.iter_mut().zip(&mut vm.elsewhere) {
            let place = Moving {
                device: run.device,
                from: run.lba,
                to: *elsewhere,
                sectors: run.sectors,
            };
            array.begin_move(place);
            (0..self.plan.setup.reactors).for_each(|reactor| array.leave(reactor, place));
            array.end_move(place);
            std::mem::swap(&mut run.lba, elsewhere);
        }
        drop(array);
        self.decide(index, generation);
    }

    /// Somebody who has been deposed, and does not know it, tells of a change.
    fn speak_as_deposed(&mut self, one: &Remap) {
        if one.phase == Change::AgreedOn && one.epoch > 1 && self.rng.one_in(2) {
            for reactor in 0..self.plan.setup.reactors {
                self.say(reactor, one.vm, one.generation + 1, Word::Deposed(one.epoch));
            }
        }
    }
}

/// Where a volume lies, as a reactor is not to touch it.
fn places(vm: &Vm, reactor: u16) -> Vec<Taken> {
    let place = |run: &palisade_block::Run| Taken {
        reactor,
        volume: vm.number,
        device: run.device,
        lba: run.lba,
        sectors: run.sectors,
    };
    vm.runs.iter().map(place).collect()
}
