//! A volume is taken away from a guest that stays connected, and is another guest's after a while: what each reactor has said
//! to have let go of it does not reach again, and what the guest asks for when all have ends with an error.

use crate::array::{Array, Taken};
use crate::vm::{Phase, Vm};
use crate::world::{Later, World};
use palisade_block::mailbox::ReactorChange;
use palisade_words::AttachmentIndex;
use std::cell::{Cell, RefCell};

impl World {
    pub(crate) fn take_away(&mut self, index: usize) {
        let reactors = self.plan.setup.reactors;
        let (Some(daemon), Some(vm)) = (&mut self.daemon, self.vms.get_mut(index)) else {
            return;
        };
        if vm.phase == Phase::Stopping || self.draining || vm.revoked {
            return;
        }
        vm.revoke();
        let attachment = AttachmentIndex(vm.number);
        (0..reactors).for_each(|reactor| daemon.tell(reactor, ReactorChange::Revoke { attachment }));
        self.disturbed = self.now;
        self.later(100_000, 2_000_000, Later::GiveOn(index));
    }

    /// The guest leaves, and the volume has another.
    pub(crate) fn give_on(&mut self, index: usize) {
        let waits = |vm: &Vm| vm.revoked && vm.phase == Phase::Running;
        if !self.vms.get(index).is_some_and(waits) {
            return;
        }
        self.reset(index);
        // Not now: the process is stopping, or there is none.
        if self.vms.get(index).is_some_and(waits) {
            self.later(100_000, 2_000_000, Later::GiveOn(index));
        }
    }

    /// Notes which reactors have let go of what was taken away.
    pub(crate) fn note_let_go(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        for (reactor, attachment) in std::mem::take(&mut daemon.revoked) {
            let Some(vm) = self.vms.get_mut(attachment.usize()) else {
                continue;
            };
            // Its guest may have left before.
            if !vm.revoked {
                continue;
            }
            let_go(vm, reactor, &self.array);
            if vm.let_go.len() == usize::from(self.plan.setup.reactors) {
                all_let_go(vm, &self.ticks);
            }
        }
    }
}

/// A reactor uses a volume no more, in its present place and in the one it may move to.
pub(crate) fn let_go(vm: &mut Vm, reactor: u16, array: &RefCell<Array>) {
    vm.let_go.insert(reactor);
    for (run, elsewhere) in vm.runs.iter().zip(&vm.elsewhere) {
        for lba in [run.lba, *elsewhere] {
            array.borrow_mut().take(Taken {
                reactor,
                volume: vm.number,
                device: run.device,
                lba,
                sectors: run.sectors,
            });
        }
    }
}

/// What the guest asks for from now on must fail.
pub(crate) fn all_let_go(vm: &Vm, ticks: &Cell<u64>) {
    ticks.set(ticks.get() + 1);
    let since = &mut vm.watch.borrow_mut().taken_since;
    *since = since.or(Some(ticks.get()));
}
