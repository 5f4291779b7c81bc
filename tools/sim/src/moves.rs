//! Invariant 7, seen from the disks: a volume's content moves to another place while its guest goes on, as a
//! rebalancing or an evacuated disk will ask for. No request may be at the old place once its reactor has said that the
//! new route is in use; and when all have said so the content is at the new place and the old one is nobody's, so that a
//! request which comes late is seen on the disk as well.
//!
//! ```text
//! reactor 0   old old old | new new new new new
//! reactor 1   old old old old old old | new new
//! content     old place (both are one)  | new place; the old one is poisoned
//!                                       all have acknowledged
//! ```

use crate::array::{Array, Moving, POISON};
use crate::finding::Invariant;
use crate::world::{SPARE, World};
use palisade_words::Sectors;
use std::collections::BTreeSet;

/// A volume's content on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    vm: usize,
    /// The first generation under which the volume lies at the new places.
    generation: u64,
    places: Vec<Moving>,
    /// Reactors that have said to use the new route.
    done: BTreeSet<u16>,
}

impl Move {
    /// Whether it is of this VM's volume.
    pub(crate) fn is_of(&self, vm: usize) -> bool {
        self.vm == vm
    }
}

impl World {
    /// Before anything runs: the places to which volumes may move are full of what is nobody's.
    pub(crate) fn poison_elsewhere(&mut self) {
        let mut array = self.array.borrow_mut();
        for vm in &self.vms {
            for (run, elsewhere) in vm.runs.iter().zip(&vm.elsewhere) {
                if let Some(disk) = array.disk_mut(run.device) {
                    let sectors = Sectors(run.sectors.0 + SPARE / 2);
                    let poison = vec![POISON; sectors.bytes() as usize];
                    disk.medium.write(*elsewhere, &poison, true, || true);
                }
            }
        }
    }

    /// A VM's volume changes its places, with its next generation. Not while it is on its way.
    pub(crate) fn begin_move(&mut self, index: usize) {
        let Some(vm) = self.vms.get_mut(index) else {
            return;
        };
        if self.daemon.is_none() || self.moves.iter().any(|one| one.is_of(index)) {
            return;
        }
        vm.moves += 1;
        // Its length is that of a volume which has grown: growth may come while it moves.
        let longer = if vm.grown { 0 } else { SPARE / 2 };
        let runs = vm.runs.len();
        let mut places = Vec::new();
        for (number, (run, elsewhere)) in vm.runs.iter_mut().zip(&mut vm.elsewhere).enumerate() {
            let more = if number + 1 == runs { longer } else { 0 };
            places.push(Moving {
                device: run.device,
                from: run.lba,
                to: *elsewhere,
                sectors: Sectors(run.sectors.0 + more),
            });
            std::mem::swap(&mut run.lba, elsewhere);
        }
        let mut array = self.array.borrow_mut();
        places.iter().for_each(|place| array.begin_move(*place));
        self.moves.push(Move {
            vm: index,
            generation: vm.generation + 1,
            places,
            done: BTreeSet::new(),
        });
    }

    /// Looks which reactors have taken the new route, and ends moves for which all have.
    pub(crate) fn go_on_moving(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let mut array = self.array.borrow_mut();
        let reactors = self.plan.setup.reactors;
        for one in &mut self.moves {
            let Some(vm) = self.vms.get(one.vm) else {
                continue;
            };
            for reactor in 0..reactors {
                let in_use = daemon.routes.get(&(reactor, vm.number)).copied();
                if in_use >= Some(one.generation) && one.done.insert(reactor) {
                    one.places.iter().for_each(|place| array.leave(reactor, *place));
                }
            }
        }
        let (over, under_way) = std::mem::take(&mut self.moves)
            .into_iter()
            .partition(|one| one.done.len() == usize::from(reactors));
        self.moves = under_way;
        let over: Vec<Move> = over;
        for place in over.iter().flat_map(|one| &one.places) {
            array.end_move(*place);
        }
    }

    /// The process is dead, and its successor begins with the new routes.
    pub(crate) fn end_moves(&mut self) {
        let mut array = self.array.borrow_mut();
        for one in std::mem::take(&mut self.moves) {
            one.places.iter().for_each(|place| array.end_move(*place));
        }
        array.forget_left();
    }

    /// Places that belong to no volume are as they were left.
    pub(crate) fn check_places_left(&self, array: &Array) {
        if !self.moves.is_empty() {
            return;
        }
        for vm in &self.vms {
            for (run, elsewhere) in vm.runs.iter().zip(&vm.elsewhere) {
                let Some(disk) = array.disks.get(run.device.usize()) else {
                    continue;
                };
                let left = disk.medium.read(*elsewhere, run.sectors);
                if left.iter().any(|byte| *byte != POISON) {
                    let what = format!(
                        "disk {}: a request of volume {} landed at {}, which the volume has left",
                        run.device.0, vm.number, elsewhere.0
                    );
                    self.findings.add(Invariant::OneGeneration, self.now, what);
                }
            }
        }
    }
}
