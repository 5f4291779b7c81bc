//! A disk whose device had gone and is there again: the new descriptor takes the place of the dead one, under the same
//! number, so that routes and sockets stay as they are and a guest sees errors only for as long as the device was away.
//!
//! It has been opened in the same way as at the start, so its identity and its superblock have been checked. The dead one
//! is drained on every reactor first; what comes in meanwhile fails as it did before.

use super::Steward;
use crate::orders::Order;
use crate::plant::{Plant, Returning};
use crate::sight::Sight;
use palisade_api::Severity;
use palisade_reconcile::{Action, Superblock};
use palisade_sys::Opened;
use palisade_words::{DeviceIndex, Name, ReactorIndex};
use std::sync::Arc;

impl Steward {
    /// A disk that had gone could be opened again.
    pub(super) fn came_back(
        &self,
        name: &Name,
        device: DeviceIndex,
        opened: Arc<Opened>,
        superblock: Superblock,
    ) {
        let mut plant = self.shared.plant();
        let closing = plant
            .under_way
            .contains_key(&Action::CloseDisk { disk: name.clone() });
        let known = plant.observed.disks.get(name).map(|observed| observed.superblock);
        let Some(open) = plant.disks.get_mut(name).filter(|open| open.index == device) else {
            return;
        };
        // A superblock that was written to meanwhile, or by somebody else, is for the next start to judge.
        if closing || open.returning.is_some() || known != Some(superblock) {
            return;
        }
        open.returning = Some(Returning {
            opened,
            awaited: self.all_reactors(),
        });
        for reactor in &self.shared.reactors {
            reactor.send(Order::CloseDevice { device });
        }
    }

    /// A reactor has let go of a device. Whether that was because another takes its place.
    pub(super) fn let_go_for_another(&self, reactor: ReactorIndex, device: DeviceIndex) -> bool {
        let mut plant = self.shared.plant();
        let Plant { disks, .. } = &mut *plant;
        let Some((name, open)) = disks.iter_mut().find(|(_, open)| open.index == device) else {
            return false;
        };
        let name = name.clone();
        let Some(returning) = &mut open.returning else {
            return false;
        };
        returning.awaited.remove(&reactor);
        if !returning.awaited.is_empty() {
            return true;
        }
        let Some(Returning { opened, .. }) = open.returning.take() else {
            return true;
        };
        for (reactor, stats) in self.shared.reactors.iter().zip(&open.stats) {
            reactor.send(Order::OpenDevice {
                device,
                opened: Arc::clone(&opened),
                stats: Arc::clone(stats),
                deadline: self.shared.settings.stall,
            });
        }
        let dead = std::mem::replace(&mut open.opened, opened);
        open.sight = Sight::default();
        open.stalled_on.clear();
        self.shared.publish(&mut plant);
        // Closing can take long; not under the lock.
        let _ = std::thread::Builder::new()
            .name("close".into())
            .spawn(move || drop(dead));
        let message = format!("disk {name} is there again and was opened anew");
        log::info!("{message}");
        self.shared
            .events
            .push(Severity::Info, "disk_returned", format!("disk/{name}"), message);
        true
    }
}
