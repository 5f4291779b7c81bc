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

use crate::finding::Invariant;
use crate::rack::{Moving, POISON, Rack};
use crate::world::{SPARE, World};
use palisade_words::Sectors;
use std::collections::BTreeSet;

/// A volume's content on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    tenant: usize,
    /// The first generation under which the volume lies at the new places.
    generation: u64,
    places: Vec<Moving>,
    /// Reactors that have said to use the new route.
    done: BTreeSet<u16>,
}

impl World {
    /// Before anything runs: the places to which volumes may move are full of what is nobody's.
    pub(crate) fn poison_elsewhere(&mut self) {
        let mut rack = self.rack.borrow_mut();
        for tenant in &self.tenants {
            for (run, elsewhere) in tenant.runs.iter().zip(&tenant.elsewhere) {
                if let Some(disk) = rack.disk_mut(run.device) {
                    let sectors = Sectors(run.sectors.0 + SPARE / 2);
                    let poison = vec![POISON; sectors.bytes() as usize];
                    disk.medium.write(*elsewhere, &poison, true, || true);
                }
            }
        }
    }

    /// A tenant's volume changes its places, with its next generation. Not while it is on its way.
    pub(crate) fn begin_move(&mut self, index: usize) {
        let Some(tenant) = self.tenants.get_mut(index) else {
            return;
        };
        if self.daemon.is_none() || self.moves.iter().any(|one| one.tenant == index) {
            return;
        }
        // Its length is that of a volume which has grown: growth may come while it moves.
        let longer = if tenant.grown { 0 } else { SPARE / 2 };
        let runs = tenant.runs.len();
        let mut places = Vec::new();
        for (number, (run, elsewhere)) in tenant.runs.iter_mut().zip(&mut tenant.elsewhere).enumerate() {
            let more = if number + 1 == runs { longer } else { 0 };
            places.push(Moving {
                device: run.device,
                from: run.lba,
                to: *elsewhere,
                sectors: Sectors(run.sectors.0 + more),
            });
            std::mem::swap(&mut run.lba, elsewhere);
        }
        let mut rack = self.rack.borrow_mut();
        places.iter().for_each(|place| rack.begin_move(*place));
        self.moves.push(Move {
            tenant: index,
            generation: tenant.generation + 1,
            places,
            done: BTreeSet::new(),
        });
    }

    /// Looks which reactors have taken the new route, and ends moves for which all have.
    pub(crate) fn go_on_moving(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let mut rack = self.rack.borrow_mut();
        let reactors = self.plan.setup.reactors;
        for one in &mut self.moves {
            let Some(tenant) = self.tenants.get(one.tenant) else {
                continue;
            };
            for reactor in 0..reactors {
                let in_use = daemon.routes.get(&(reactor, tenant.number)).copied();
                if in_use >= Some(one.generation) && one.done.insert(reactor) {
                    one.places.iter().for_each(|place| rack.leave(reactor, *place));
                }
            }
        }
        let (over, under_way) = std::mem::take(&mut self.moves)
            .into_iter()
            .partition(|one| one.done.len() == usize::from(reactors));
        self.moves = under_way;
        let over: Vec<Move> = over;
        for place in over.iter().flat_map(|one| &one.places) {
            rack.end_move(*place);
        }
    }

    /// The process is dead, and its successor begins with the new routes.
    pub(crate) fn end_moves(&mut self) {
        let mut rack = self.rack.borrow_mut();
        for one in std::mem::take(&mut self.moves) {
            one.places.iter().for_each(|place| rack.end_move(*place));
        }
        rack.forget_left();
    }

    /// Places that belong to no volume are as they were left.
    pub(crate) fn check_places_left(&self, rack: &Rack) {
        if !self.moves.is_empty() {
            return;
        }
        for tenant in &self.tenants {
            for (run, elsewhere) in tenant.runs.iter().zip(&tenant.elsewhere) {
                let Some(disk) = rack.disks.get(run.device.usize()) else {
                    continue;
                };
                let left = disk.medium.read(*elsewhere, run.sectors);
                if left.iter().any(|byte| *byte != POISON) {
                    let what = format!(
                        "disk {}: a request of volume {} landed at {}, which the volume has left",
                        run.device.0, tenant.number, elsewhere.0
                    );
                    self.findings.add(Invariant::OneGeneration, self.now, what);
                }
            }
        }
    }
}
