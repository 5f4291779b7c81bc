//! An attachment is taken away for good: the reactors let go of its volume and the door of its socket, and whoever is
//! connected stays with a session that answers with errors ([`left`](crate::plant::left)).

use super::Steward;
use crate::orders::Order;
use crate::plant::left::{GivenUp, Left};
use crate::plant::{Plant, UnderWay};
use palisade_block::AttachmentIndex;
use palisade_block::mailbox::Command;
use palisade_model::{Cluster, Name};
use palisade_reconcile::{Action, Step};
use std::sync::Arc;
use std::time::Instant;

impl Steward {
    /// Begins it. The step is over when no request is on the volume any more and the door has answered: what follows it, the
    /// end of the route and another use of the extents, relies on the former, another socket of that name on the latter.
    pub(super) fn give_up(
        &self,
        plant: &mut Plant,
        step: Step,
        wanted: &Arc<Cluster>,
        name: &Name,
        index: AttachmentIndex,
    ) {
        if let Some(offered) = plant.attachments.get_mut(name) {
            // Under the lock under which queues are started: those that come later are told in their settings.
            offered.given_up = Some(GivenUp::Told);
        }
        self.under_way(plant, step, wanted, self.all_reactors(), index.0);
        let attachment = index;
        for reactor in &self.shared.reactors {
            reactor.send(Order::Engine(Command::Revoke { attachment }));
        }
        self.shared.door().give_up(index);
    }

    /// The door has come so far with an attachment. False when that was not given up.
    pub(super) fn door_came(&self, plant: &mut Plant, index: AttachmentIndex, how: GivenUp) -> bool {
        let mut all = plant.attachments.iter_mut();
        let given_up = all.find(|(_, offered)| offered.index == index && offered.given_up.is_some());
        let Some((name, offered)) = given_up else {
            return false;
        };
        offered.given_up = Some(how);
        let name = name.clone();
        self.given_up(plant, &name);
        true
    }

    /// Ends the step, if the reactors and the door have both done their part.
    pub(super) fn given_up(&self, plant: &mut Plant, name: &Name) {
        let attachment = name.clone();
        let action = Action::WithdrawSocket { attachment };
        let awaited = plant.under_way.get(&action).map(|step| step.awaited.is_empty());
        let how = plant.attachments.get(name).and_then(|offered| offered.given_up);
        let (Some(true), Some(how @ (GivenUp::Left | GivenUp::Gone))) = (awaited, how) else {
            return;
        };
        let socket = plant.observed.sockets.get(name);
        let volume = socket.map(|socket| socket.attachment.volume.clone());
        self.shared.findings.clear_all(&format!("attachment/{name}"));
        let offered = plant.attachments.remove(name);
        let forgets = offered.as_ref().is_some_and(|offered| offered.forgets);
        if let (Some(offered), GivenUp::Left) = (offered, how) {
            let too_many = plant.leave(Left {
                name: name.clone(),
                volume: volume.unwrap_or_else(|| name.clone()),
                offered,
                since: Instant::now(),
                ending: false,
            });
            too_many
                .into_iter()
                .for_each(|index| self.shared.door().detach(index));
        }
        if let Some(UnderWay { step, wanted, .. }) = plant.under_way.remove(&action) {
            self.withdrawn(plant, step, &wanted, name, forgets);
        }
    }
}
