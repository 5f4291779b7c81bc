//! Attachments are taken away: for a while, and the door says when it has let one go; or for good, and then the reactors let go
//! of its volume and the door of its socket, and whoever is connected stays with a session that answers with errors
//! ([`left`](crate::left)).

use crate::attachment::GivenUp;
use crate::control::{Control, Turn};
use crate::effect::{DoorChange, Effect, Work};
use crate::left::Left;
use crate::task::{StepPhase, TaskId, UnderWay};
use palisade_block::mailbox::ReactorChange;
use palisade_model::{Cluster, Kind};
use palisade_reconcile::{Action, ObservedSocket, Step};
use palisade_words::{AttachmentIndex, Name};
use std::sync::Arc;

impl Control {
    pub(crate) fn withdraw(&mut self, step: Step, name: &Name, turn: &mut Turn<'_>) {
        let observed = &self.state.observed;
        let is_wanted = |socket: &ObservedSocket| socket.wanted(turn.cluster, &self.node, name).is_some();
        let is_given_up = observed
            .sockets
            .get(name)
            .is_some_and(|socket| !is_wanted(socket));
        let Some(offered) = self.state.attachments.get_mut(name) else {
            return self.done(&step, turn.cluster, turn);
        };
        let index = offered.index;
        // A machine that is connected still believes what it was told of its write cache if the attachment comes back.
        offered.forgets = matches!(step.action, Action::WithdrawSocket { .. }) && !offered.connected;
        match is_given_up {
            true => self.give_up(step, name, index, turn),
            false => {
                self.enter(step, turn.cluster, (StepPhase::Door, index.0), turn.now);
                let detach = DoorChange::Detach { attachment: index };
                turn.effects.push(Effect::TellDoor(detach));
            }
        }
    }

    /// Takes an attachment away for good. The step is over when no request is on the volume any more and the door has answered:
    /// what follows it, the end of the route and another use of the extents, relies on the former, another socket of that name
    /// on the latter.
    fn give_up(&mut self, step: Step, name: &Name, index: AttachmentIndex, turn: &mut Turn<'_>) {
        if let Some(offered) = self.state.attachments.get_mut(name) {
            // Queues that are started from now on are told so in their settings.
            offered.given_up = Some(GivenUp::Told);
        }
        let task = self.enter(step, turn.cluster, (StepPhase::Revoking, index.0), turn.now);
        let attachment = index;
        self.tell_all(Some(task), &ReactorChange::Revoke { attachment }, turn);
        turn.effects
            .push(Effect::TellDoor(DoorChange::GiveUp { attachment }));
    }

    /// The door has taken the socket away; a virtual machine is still connected.
    pub(crate) fn socket_given_up(&mut self, offering: TaskId, turn: &mut Turn<'_>) {
        if !self.door_came(offering, GivenUp::Left, turn) {
            self.stray();
        }
    }

    /// The door has let an attachment go.
    pub(crate) fn detached(&mut self, offering: TaskId, turn: &mut Turn<'_>) {
        let mut left = self.state.left.iter();
        let left = left.find(|(_, left)| left.offered.offering == offering);
        if let Some(&index) = left.map(|(index, _)| index) {
            self.state.left.remove(&index);
            return;
        }
        if self.door_came(offering, GivenUp::Gone, turn) {
            return;
        }
        let mut all = self.state.attachments.iter();
        let Some(name) = all
            .find(|(_, offered)| offered.offering == offering)
            .map(|(name, _)| name.clone())
        else {
            return self.stray();
        };
        self.is_gone(&name, turn);
        let forgets = self
            .state
            .attachments
            .remove(&name)
            .is_some_and(|offered| offered.forgets);
        let withdraw = Action::WithdrawSocket {
            attachment: name.clone(),
        };
        let reopen = Action::ReopenSocket {
            attachment: name.clone(),
        };
        let waits = |action: &Action| {
            let step = self.state.under_way.get(action);
            step.is_some_and(|step| step.phase == StepPhase::Door)
        };
        let Some(action) = [withdraw, reopen].into_iter().find(waits) else {
            return;
        };
        let Some(UnderWay { step, cluster, .. }) = self.leave_phase(&action) else {
            return;
        };
        match action {
            // The second half of reopening.
            Action::ReopenSocket { .. } => self.offer(step, &cluster, &name, turn),
            _ => self.withdrawn(step, &cluster, &name, forgets, turn),
        }
    }

    /// The door has come so far with an attachment. False when that was not given up.
    fn door_came(&mut self, offering: TaskId, how: GivenUp, turn: &mut Turn<'_>) -> bool {
        let mut all = self.state.attachments.iter_mut();
        let given_up = all.find(|(_, offered)| offered.offering == offering && offered.given_up.is_some());
        let Some((name, offered)) = given_up else {
            return false;
        };
        // That a session is left is no news once it is gone.
        if offered.given_up != Some(GivenUp::Gone) {
            offered.given_up = Some(how);
        }
        let name = name.clone();
        self.is_given_up(&name, turn);
        true
    }

    /// Ends the step, if the reactors and the door have both done their part.
    pub(crate) fn is_given_up(&mut self, name: &Name, turn: &mut Turn<'_>) {
        let attachment = name.clone();
        let action = Action::WithdrawSocket { attachment };
        let step = self.state.under_way.get(&action);
        let acknowledged = step.map(|step| step.phase == StepPhase::Revoking && step.awaited.is_empty());
        let offered = self.state.attachments.get(name);
        let how = offered.and_then(|offered| offered.given_up);
        let (Some(true), Some(how @ (GivenUp::Left | GivenUp::Gone))) = (acknowledged, how) else {
            return;
        };
        self.is_gone(name, turn);
        let socket = self.state.observed.sockets.get(name);
        let volume = socket.map_or_else(|| name.clone(), |socket| socket.attachment.volume.clone());
        let offered = self.state.attachments.remove(name);
        let forgets = offered.as_ref().is_some_and(|offered| offered.forgets);
        if let (Some(offered), GivenUp::Left) = (offered, how) {
            let too_many = self.state.leave(Left {
                name: name.clone(),
                volume,
                offered,
                since: turn.now,
                ending: false,
            });
            let detach = |attachment| Effect::TellDoor(DoorChange::Detach { attachment });
            turn.effects.extend(too_many.map(detach));
        }
        if let Some(UnderWay { step, cluster, .. }) = self.leave_phase(&action) {
            self.withdrawn(step, &cluster, name, forgets, turn);
        }
    }

    /// Ends the withdrawing of a socket. What the guest has made of its write cache is forgotten before, if it is to be: whoever
    /// is offered next under the name reads what is there.
    fn withdrawn(
        &mut self,
        step: Step,
        cluster: &Arc<Cluster>,
        name: &Name,
        forgets: bool,
        turn: &mut Turn<'_>,
    ) {
        let attachment = name.clone();
        match forgets {
            true => self.start(step, cluster, Work::ForgetWriteCache { attachment }, turn),
            false => self.done(&step, cluster, turn),
        }
    }

    fn is_gone(&self, name: &Name, turn: &mut Turn<'_>) {
        turn.effects.push(Effect::ClearFindings {
            kind: Kind::Attachment,
            name: name.clone(),
            stays: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NodeEvent;
    use crate::left::LEFT_MAX;
    use crate::task::TaskId;
    use crate::testing::{Bench, attachment, name};
    use palisade_block::Nanos;
    use palisade_model::{ChangeAttachment, Command, DeleteAttachment};
    use palisade_words::{QueueId, ReactorIndex, VolumeIndex};

    /// Attachment `a` has a guest and is being taken away for good: what reactors are to acknowledge, and what has offered it.
    fn being_withdrawn(connected: bool) -> (Bench, TaskId, TaskId) {
        let mut bench = Bench::serving();
        let (index, offering) = (bench.index("a"), bench.offering("a"));
        bench.control.set_connected(index, connected);
        bench.apply(Command::DeleteAttachment(DeleteAttachment {
            name: name("a"),
            expected: None,
        }));
        bench.changed();
        let give_up = DoorChange::GiveUp { attachment: index };
        assert_eq!(bench.door(), [give_up]);
        let task = bench.asked();
        (bench, task, offering)
    }

    fn is_over(bench: &Bench) -> bool {
        let withdraw = Action::WithdrawSocket {
            attachment: name("a"),
        };
        let control = &bench.control;
        let over = !control.attachments.contains_key(&name("a"));
        assert_eq!(over, !control.observed.sockets.contains_key(&name("a")));
        assert_eq!(over, !control.under_way.contains_key(&withdraw));
        assert_eq!(over, !control.observed.under_way.contains(&withdraw));
        over
    }

    /// Whatever follows relies on both: no request on the volume, and a free name and socket.
    #[test]
    fn it_is_over_when_all_reactors_and_the_door_have_done_their_part_in_whatever_order() {
        for door_first in [true, false] {
            let (mut bench, task, offering) = being_withdrawn(true);
            assert!(!is_over(&bench), "nobody has answered");
            if door_first {
                bench.on(NodeEvent::GivenUp { offering });
                assert!(!is_over(&bench), "the reactors have not");
            }
            for reactor in [0, 1] {
                bench.acknowledge(task, reactor);
                assert_eq!(is_over(&bench), door_first && reactor == 1);
            }
            if !door_first {
                bench.on(NodeEvent::GivenUp { offering });
            }
            assert!(is_over(&bench));
            let left = &bench.control.left[&AttachmentIndex(0)];
            assert_eq!(
                (&left.name, &left.volume, left.ending),
                (&name("a"), &name("v"), false)
            );
            let settings = left.offered.settings(ReactorIndex(0));
            assert!(settings.revoked, "its session leads to nothing");
            assert_eq!(bench.control.free_attachment(), AttachmentIndex(1));
            bench.on(NodeEvent::Detached { offering });
            assert_eq!(bench.control.free_attachment(), AttachmentIndex(0));
            assert_eq!(bench.control.strays, 0);
        }
    }

    #[test]
    fn one_reactor_that_answers_twice_does_not_answer_for_another() {
        let (mut bench, task, offering) = being_withdrawn(true);
        bench.on(NodeEvent::GivenUp { offering });
        for _ in 0..3 {
            bench.acknowledge(task, 1);
        }
        assert!(!is_over(&bench));
        assert_eq!(bench.control.strays, 2);
        bench.acknowledge(task, 0);
        assert!(is_over(&bench));
    }

    #[test]
    fn of_one_that_nobody_is_connected_to_nothing_is_left() {
        let (mut bench, task, offering) = being_withdrawn(false);
        bench.acknowledge(task, 0);
        bench.acknowledge(task, 1);
        assert!(!is_over(&bench), "the door has to answer");
        bench.on(NodeEvent::Detached { offering });
        assert!(bench.control.left.is_empty());
        // What it has made of its write cache goes first.
        let (task, work) = bench.work();
        let forget = Work::ForgetWriteCache {
            attachment: name("a"),
        };
        assert_eq!(work, forget);
        assert!(bench.control.observed.sockets.contains_key(&name("a")));
        bench.finish(task, Ok(crate::TaskEnd::Done));
        assert!(is_over(&bench));
    }

    /// News of a session that is left may come after the news of its end.
    #[test]
    fn a_session_that_is_gone_is_not_left_by_news_that_come_late() {
        let (mut bench, task, offering) = being_withdrawn(true);
        bench.on(NodeEvent::Detached { offering });
        bench.on(NodeEvent::GivenUp { offering });
        bench.acknowledge(task, 0);
        bench.acknowledge(task, 1);
        assert!(is_over(&bench) && bench.control.left.is_empty());
    }

    /// The number of an attachment that is gone may be another's when the door is heard of it once more.
    #[test]
    fn the_door_is_not_taken_to_speak_of_another_of_the_same_number() {
        let (mut bench, task, offering) = being_withdrawn(true);
        bench.acknowledge(task, 0);
        bench.acknowledge(task, 1);
        bench.on(NodeEvent::Detached { offering });
        assert!(is_over(&bench));
        bench.attach("b");
        bench.settle();
        assert_eq!(
            bench.index("b"),
            AttachmentIndex(0),
            "the number of the one before"
        );
        bench.on(NodeEvent::Detached { offering });
        bench.on(NodeEvent::GivenUp { offering });
        assert!(bench.control.attachments.contains_key(&name("b")));
        assert_eq!(bench.control.strays, 2);
    }

    #[test]
    fn queues_that_are_started_once_it_has_begun_lead_nowhere() {
        let mut bench = Bench::serving();
        let queue = QueueId {
            attachment: bench.index("a"),
            queue: 1,
        };
        let (_, settings) = bench.control.start_queue(queue).unwrap();
        assert!(!settings.revoked);
        let (mut bench, ..) = being_withdrawn(true);
        let (_, settings) = bench.control.start_queue(queue).unwrap();
        assert!(settings.revoked);
    }

    /// A socket that is only drained comes back: nobody is revoked, and the door's end of it begins the second half.
    #[test]
    fn one_that_is_offered_anew_is_detached_first() {
        let mut bench = Bench::serving();
        let before = bench.offering("a");
        bench.apply(queues(1));
        bench.changed();
        assert_eq!((bench.door(), bench.told().len()), (vec![DETACH], 0));
        bench.on(NodeEvent::GivenUp { offering: before });
        assert_eq!(bench.control.strays, 1, "it was not given up");
        bench.on(NodeEvent::Detached { offering: before });
        let (task, work) = bench.work();
        assert!(matches!(work, Work::OfferSocket { .. }), "{work:?}");
        assert!(bench.offering("a") != before);
        bench.finish(task, Ok(crate::TaskEnd::Done));
        assert!(bench.control.under_way.is_empty());
    }

    /// Attachment `a` is being offered anew with one queue, and the door has let go of the one before: what offers it.
    fn being_offered_anew() -> (Bench, TaskId) {
        let mut bench = Bench::serving();
        let before = bench.offering("a");
        bench.apply(queues(1));
        bench.changed();
        assert_eq!(bench.door(), [DETACH]);
        bench.on(NodeEvent::Detached { offering: before });
        let (task, _) = bench.work();
        (bench, task)
    }

    fn queues(count: u16) -> Command {
        Command::ChangeAttachment(ChangeAttachment {
            name: name("a"),
            queues: Some(count),
            queue_size: None,
            owner: None,
            group: None,
            mode: None,
            read_only: None,
            serial: None,
            limits: None,
            write_cache: None,
            expected: None,
        })
    }

    /// How many queues the attachment has that is on offer, as far as is known.
    fn offered_queues(bench: &Bench) -> Option<u16> {
        let socket = bench.control.observed.sockets.get(&name("a"))?;
        Some(socket.attachment.queues)
    }

    const DETACH: DoorChange = DoorChange::Detach {
        attachment: AttachmentIndex(0),
    };

    #[test]
    fn what_cannot_be_offered_anew_is_tried_again_and_there_is_nothing_left_to_detach() {
        let (mut bench, task) = being_offered_anew();
        bench.finish(task, Err("its folder is not writable".into()));
        assert!(bench.control.attachments.is_empty(), "its number is free");
        assert_eq!(bench.works(), [], "not at once");
        bench.now = bench.control.due().expect("another try");
        bench.changed();
        assert_eq!(bench.door(), []);
        let (task, work) = bench.work();
        assert!(matches!(work, Work::OfferSocket { .. }), "{work:?}");
        bench.finish(task, Ok(crate::TaskEnd::Done));
        assert_eq!(offered_queues(&bench), Some(1));
        assert!(bench.control.observed.failures.is_empty() && bench.control.under_way.is_empty());
    }

    /// The step offers what was agreed when it began: a change that comes meanwhile has a step of its own.
    #[test]
    fn a_change_that_comes_while_it_is_offered_anew_follows_it() {
        let mut bench = Bench::serving();
        let before = bench.offering("a");
        bench.apply(queues(1));
        bench.changed();
        bench.apply(queues(4));
        bench.changed();
        assert_eq!(bench.door(), [DETACH], "one step");
        bench.on(NodeEvent::Detached { offering: before });
        let offered = bench.effects.iter().find_map(|effect| match effect {
            Effect::Start { cluster, .. } => Some(cluster.attachments[&name("a")].queues),
            _ => None,
        });
        assert_eq!(offered, Some(1));
        let (task, _) = bench.work();
        let offering = bench.offering("a");
        bench.finish(task, Ok(crate::TaskEnd::Done));
        assert_eq!(offered_queues(&bench), Some(1));
        assert_eq!(bench.door(), [DETACH]);
        bench.on(NodeEvent::Detached { offering });
        let (task, _) = bench.work();
        bench.finish(task, Ok(crate::TaskEnd::Done));
        assert_eq!(offered_queues(&bench), Some(4));
    }

    #[test]
    fn one_that_is_deleted_while_it_is_offered_anew_is_taken_away_after_that() {
        let (mut bench, task) = being_offered_anew();
        let offering = bench.offering("a");
        bench.apply(Command::DeleteAttachment(DeleteAttachment {
            name: name("a"),
            expected: None,
        }));
        bench.changed();
        assert_eq!((bench.door(), bench.told().len()), (vec![], 0));
        bench.finish(task, Ok(crate::TaskEnd::Done));
        let give_up = DoorChange::GiveUp {
            attachment: AttachmentIndex(0),
        };
        assert_eq!(bench.door(), [give_up]);
        let revoking = bench.asked();
        bench.acknowledge(revoking, 0);
        bench.acknowledge(revoking, 1);
        bench.on(NodeEvent::Detached { offering });
        bench.settle();
        assert!(is_over(&bench));
    }

    #[test]
    fn with_too_many_left_the_longest_is_told_to_end() {
        let (mut bench, task, offering) = being_withdrawn(true);
        for index in 100..100 + LEFT_MAX as u16 {
            let number = (AttachmentIndex(index), TaskId(u64::from(index)));
            let offered = crate::Offered::new(number, VolumeIndex(0), &attachment(), 2, 0);
            bench.control.state.leave(Left {
                name: name("b"),
                volume: name("v"),
                offered,
                since: Nanos(u64::from(index)),
                ending: false,
            });
        }
        bench.acknowledge(task, 0);
        bench.acknowledge(task, 1);
        bench.on(NodeEvent::GivenUp { offering });
        assert!(is_over(&bench));
        let detach = DoorChange::Detach {
            attachment: AttachmentIndex(100),
        };
        assert_eq!(bench.door(), [detach]);
        let left = &bench.control.left;
        assert!(left[&AttachmentIndex(100)].ending);
        assert_eq!(left.len(), LEFT_MAX + 1, "it is there until it is gone");
    }
}
