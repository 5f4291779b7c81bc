//! A volume is taken away from a guest that stays connected, and is another guest's after a while: what each reactor has said
//! to have let go of it does not reach again, and what the guest asks for when all have ends with an error.

use crate::rack::{Rack, Taken};
use crate::tenant::{Phase, Tenant};
use crate::world::{Later, World};
use palisade_block::mailbox::Command;
use palisade_words::AttachmentIndex;
use std::cell::{Cell, RefCell};

impl World {
    pub(crate) fn take_away(&mut self, index: usize) {
        let reactors = self.plan.setup.reactors;
        let (Some(daemon), Some(tenant)) = (&mut self.daemon, self.tenants.get_mut(index)) else {
            return;
        };
        if tenant.phase == Phase::Stopping || self.draining || tenant.revoked {
            return;
        }
        tenant.revoked = true;
        tenant.watch.borrow_mut().taken_away = true;
        let attachment = AttachmentIndex(tenant.number);
        (0..reactors).for_each(|reactor| daemon.tell(reactor, Command::Revoke { attachment }));
        self.disturbed = self.now;
        self.later(100_000, 2_000_000, Later::GiveOn(index));
    }

    /// The guest leaves, and the volume has another.
    pub(crate) fn give_on(&mut self, index: usize) {
        let waits = |tenant: &Tenant| tenant.revoked && tenant.phase == Phase::Running;
        if !self.tenants.get(index).is_some_and(waits) {
            return;
        }
        self.reset(index);
        // Not now: the process is stopping, or there is none.
        if self.tenants.get(index).is_some_and(waits) {
            self.later(100_000, 2_000_000, Later::GiveOn(index));
        }
    }

    /// Notes which reactors have let go of what was taken away.
    pub(crate) fn note_let_go(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        for (reactor, attachment) in std::mem::take(&mut daemon.revoked) {
            let Some(tenant) = self.tenants.get_mut(attachment.usize()) else {
                continue;
            };
            // Its guest may have left before.
            if !tenant.revoked {
                continue;
            }
            let_go(tenant, reactor, &self.rack);
            if tenant.let_go.len() == usize::from(self.plan.setup.reactors) {
                all_let_go(tenant, &self.ticks);
            }
        }
    }
}

/// A reactor uses a volume no more, in its present place and in the one it may move to.
pub(crate) fn let_go(tenant: &mut Tenant, reactor: u16, rack: &RefCell<Rack>) {
    tenant.let_go.insert(reactor);
    for (run, elsewhere) in tenant.runs.iter().zip(&tenant.elsewhere) {
        for lba in [run.lba, *elsewhere] {
            rack.borrow_mut().take(Taken {
                reactor,
                volume: tenant.number,
                device: run.device,
                lba,
                sectors: run.sectors,
            });
        }
    }
}

/// What the guest asks for from now on must fail.
pub(crate) fn all_let_go(tenant: &Tenant, ticks: &Cell<u64>) {
    ticks.set(ticks.get() + 1);
    let since = &mut tenant.watch.borrow_mut().taken_since;
    *since = since.or(Some(ticks.get()));
}
