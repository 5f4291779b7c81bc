//! An attachment is taken away for good: the reactors let go of its volume and the door of its socket, and whoever is
//! connected stays with a session that answers with errors ([`left`](crate::plant::left)).

use super::Steward;
use crate::orders::Order;
use crate::plant::left::{GivenUp, Left};
use crate::plant::{Plant, UnderWay};
use palisade_block::mailbox::Command;
use palisade_model::Cluster;
use palisade_reconcile::{Action, Step};
use palisade_words::{AttachmentIndex, Name};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::Offered;
    use crate::plant::left::LEFT_MAX;
    use crate::rest::tests::still_shared;
    use palisade_block::Progress;
    use palisade_frontend::Door;
    use palisade_model::{Attachment, Limits};
    use palisade_reconcile::ObservedSocket;
    use palisade_words::{Generation, ReactorIndex, VolumeIndex};
    use std::collections::BTreeSet;
    use std::path::Path;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn attachment() -> Attachment {
        Attachment {
            volume: name("v"),
            node: name("n1"),
            socket: "/run/a.sock".into(),
            queues: 1,
            queue_size: 256,
            owner: None,
            group: None,
            mode: 0o660,
            read_only: false,
            serial: "s".into(),
            limits: Limits::default(),
            write_cache: true,
            created: Generation(1),
            revision: Generation(1),
        }
    }

    fn withdraw() -> Action {
        Action::WithdrawSocket {
            attachment: name("a"),
        }
    }

    /// A steward that does not run, and the attachment `a` of number 3, which is being withdrawn on two reactors.
    fn being_withdrawn(folder: &Path) -> (Steward, Plant, Door) {
        let (shared, door) = still_shared(folder);
        let (_, events) = crossbeam::channel::unbounded();
        let wanted = shared.cluster();
        let steward = Steward::new(shared, events, Arc::new(Progress::default()));
        let mut plant = Plant::default();
        let mut offered = Offered::new(AttachmentIndex(3), VolumeIndex(0), &attachment(), 2, 0);
        offered.given_up = Some(GivenUp::Told);
        plant.attachments.insert(name("a"), offered);
        let socket = ObservedSocket {
            attachment: attachment(),
            sectors: 8,
        };
        plant.observed.sockets.insert(name("a"), socket);
        let step = Step {
            generation: wanted.generation,
            action: withdraw(),
        };
        plant.observed.begin(&step);
        let under_way = UnderWay {
            step,
            wanted,
            awaited: BTreeSet::from([ReactorIndex(0), ReactorIndex(1)]),
            index: 3,
            since: Instant::now(),
        };
        plant.under_way.insert(withdraw(), under_way);
        (steward, plant, door)
    }

    fn acknowledge(plant: &mut Plant, reactor: u16) {
        let step = plant.under_way.get_mut(&withdraw()).unwrap();
        assert!(step.awaited.remove(&ReactorIndex(reactor)));
    }

    fn acknowledge_all(plant: &mut Plant) {
        acknowledge(plant, 0);
        acknowledge(plant, 1);
    }

    fn is_over(plant: &Plant) -> bool {
        let over = !plant.under_way.contains_key(&withdraw());
        assert_eq!(over, !plant.attachments.contains_key(&name("a")));
        assert_eq!(over, !plant.observed.sockets.contains_key(&name("a")));
        assert_eq!(over, !plant.observed.under_way.contains(&withdraw()));
        over
    }

    /// Whatever follows relies on both: no request on the volume, and a free name and socket.
    #[test]
    fn it_is_over_when_all_reactors_and_the_door_have_done_their_part_in_whatever_order() {
        for door_first in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let (steward, mut plant, _door) = being_withdrawn(folder.path());
            steward.given_up(&mut plant, &name("a"));
            assert!(!is_over(&plant), "nobody has answered");
            if door_first {
                assert!(steward.door_came(&mut plant, AttachmentIndex(3), GivenUp::Left));
                assert!(!is_over(&plant), "the reactors have not");
            }
            for reactor in [0, 1] {
                acknowledge(&mut plant, reactor);
                steward.given_up(&mut plant, &name("a"));
                assert_eq!(is_over(&plant), door_first && reactor == 1);
            }
            if !door_first {
                assert!(steward.door_came(&mut plant, AttachmentIndex(3), GivenUp::Left));
            }
            assert!(is_over(&plant));
            let left = &plant.left[&AttachmentIndex(3)];
            assert_eq!(
                (&left.name, &left.volume, left.ending),
                (&name("a"), &name("v"), false)
            );
            let settings = left.offered.settings(ReactorIndex(0));
            assert!(settings.revoked, "its session leads to nothing");
            assert_eq!(plant.free_attachment(), AttachmentIndex(0));
        }
    }

    #[test]
    fn of_one_that_nobody_is_connected_to_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (steward, mut plant, _door) = being_withdrawn(folder.path());
        acknowledge_all(&mut plant);
        // That it has been told is no answer.
        assert!(steward.door_came(&mut plant, AttachmentIndex(3), GivenUp::Told));
        assert!(!is_over(&plant));
        assert!(steward.door_came(&mut plant, AttachmentIndex(3), GivenUp::Gone));
        assert!(is_over(&plant) && plant.left.is_empty());
    }

    /// A socket that is withdrawn for the sake of its disk comes back, and the door's answer about that is another one.
    #[test]
    fn what_was_not_given_up_is_none_of_its_business() {
        let folder = tempfile::tempdir().unwrap();
        let (steward, mut plant, _door) = being_withdrawn(folder.path());
        acknowledge_all(&mut plant);
        assert!(!steward.door_came(&mut plant, AttachmentIndex(4), GivenUp::Gone));
        plant.attachments.get_mut(&name("a")).unwrap().given_up = None;
        assert!(!steward.door_came(&mut plant, AttachmentIndex(3), GivenUp::Gone));
        steward.given_up(&mut plant, &name("a"));
        assert!(!is_over(&plant));
    }

    #[test]
    fn queues_that_are_started_once_it_has_begun_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (steward, mut plant, _door) = being_withdrawn(folder.path());
        let UnderWay { step, wanted, .. } = plant.under_way.remove(&withdraw()).unwrap();
        let offered = plant.attachments.get_mut(&name("a")).unwrap();
        offered.given_up = None;
        assert!(!offered.settings(ReactorIndex(1)).revoked);
        steward.give_up(&mut plant, step, &wanted, &name("a"), AttachmentIndex(3));
        let offered = &plant.attachments[&name("a")];
        assert_eq!(offered.given_up, Some(GivenUp::Told));
        assert!(offered.settings(ReactorIndex(1)).revoked);
        assert!(!is_over(&plant), "the door has to answer");
        // This node has no reactors, so none is waited for.
        assert!(plant.under_way[&withdraw()].awaited.is_empty());
        assert!(steward.door_came(&mut plant, AttachmentIndex(3), GivenUp::Gone));
        assert!(is_over(&plant));
    }

    #[test]
    fn with_too_many_left_the_longest_is_told_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let (steward, mut plant, _door) = being_withdrawn(folder.path());
        for index in 100..100 + LEFT_MAX as u16 {
            let offered = Offered::new(AttachmentIndex(index), VolumeIndex(0), &attachment(), 2, 0);
            plant.leave(Left {
                name: name("b"),
                volume: name("v"),
                offered,
                since: Instant::now(),
                ending: false,
            });
        }
        acknowledge_all(&mut plant);
        assert!(steward.door_came(&mut plant, AttachmentIndex(3), GivenUp::Left));
        assert!(is_over(&plant));
        let ending: Vec<u16> = plant
            .left
            .values()
            .filter(|left| left.ending)
            .map(|left| left.offered.index.0)
            .collect();
        assert_eq!((plant.left.len(), ending), (LEFT_MAX + 1, vec![100]));
    }
}
