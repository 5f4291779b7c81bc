//! What reactors were told and have not acknowledged. A reactor answers by number and generation; here that is brought together
//! with the task that it was told for. It answers everything once, in the order in which it was told, and no number is given
//! again before that.

use crate::reactor_thread::ReactorNotice;
use palisade_block::mailbox::{Notice, ReactorChange};
use palisade_control::{NodeEvent, TaskId};
use palisade_words::{AttachmentIndex, DeviceIndex, Generation, ReactorIndex, VolumeIndex};
use std::collections::BTreeMap;

/// What reactors have yet to acknowledge.
#[derive(Clone, Debug, Default)]
pub struct Acknowledgements(BTreeMap<(ReactorIndex, About), (TaskId, Generation)>);

/// What an acknowledgement is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum About {
    Route(VolumeIndex),
    Attachment(AttachmentIndex),
    Device(DeviceIndex),
}

impl Acknowledgements {
    /// A reactor is told something that it acknowledges.
    pub fn expect(&mut self, reactor: ReactorIndex, task: TaskId, change: &ReactorChange) {
        let (about, generation) = match change {
            ReactorChange::Resume { volume, route } => (About::Route(*volume), route.generation()),
            ReactorChange::EndVolume { volume, generation } => (About::Route(*volume), *generation),
            ReactorChange::Revoke { attachment } => (About::Attachment(*attachment), Generation::default()),
            ReactorChange::CloseDevice { device } => (About::Device(*device), Generation::default()),
            // Nothing is acknowledged of the first and the last; of a change that is only announced, nothing yet.
            ReactorChange::SetAttachment { .. }
            | ReactorChange::Suspend { .. }
            | ReactorChange::Cancel { .. }
            | ReactorChange::Fail { .. }
            | ReactorChange::GrowDevice { .. } => return,
        };
        self.0.insert((reactor, about), (task, generation));
    }

    /// What the machine is to hear of this, if anything: that a reactor has done what it was told, or that it has refused it.
    pub fn take(&mut self, reactor: ReactorIndex, notice: &ReactorNotice) -> Option<NodeEvent> {
        let (about, reached) = match *notice {
            Notice::RouteInUse { volume, generation } | Notice::VolumeEnded { volume, generation } => {
                (About::Route(volume), generation)
            }
            Notice::Stale { volume, .. } => {
                let (task, _) = self.0.remove(&(reactor, About::Route(volume)))?;
                return Some(NodeEvent::Refused { task, reactor });
            }
            Notice::Revoked { attachment } => (About::Attachment(attachment), Generation::default()),
            Notice::DeviceClosed { device } => (About::Device(device), Generation::default()),
            _ => return None,
        };
        let asked = self.0.get(&(reactor, about))?.1;
        // A route of before, which a reactor had told of when it was told of the next.
        if reached < asked {
            return None;
        }
        let (task, _) = self.0.remove(&(reactor, about))?;
        Some(NodeEvent::Acknowledged { task, reactor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_words::Epoch;

    const FIRST: ReactorIndex = ReactorIndex(0);
    const SECOND: ReactorIndex = ReactorIndex(1);

    fn done(reactor: ReactorIndex, task: u64) -> NodeEvent {
        let task = TaskId(task);
        NodeEvent::Acknowledged { task, reactor }
    }

    fn route_in_use(generation: u64) -> ReactorNotice {
        Notice::RouteInUse {
            volume: VolumeIndex(3),
            generation: Generation(generation),
        }
    }

    fn closed(device: u16) -> ReactorNotice {
        Notice::DeviceClosed {
            device: DeviceIndex(device),
        }
    }

    #[test]
    fn each_reactor_answers_for_itself_and_once() {
        let mut expected = Acknowledgements::default();
        let close = ReactorChange::CloseDevice {
            device: DeviceIndex(3),
        };
        let revoke = ReactorChange::Revoke {
            attachment: AttachmentIndex(3),
        };
        expected.expect(FIRST, TaskId(7), &close);
        expected.expect(SECOND, TaskId(7), &close);
        expected.expect(FIRST, TaskId(8), &revoke);
        assert_eq!(expected.take(FIRST, &closed(3)), Some(done(FIRST, 7)));
        assert_eq!(expected.take(FIRST, &closed(3)), None);
        assert_eq!(expected.take(SECOND, &closed(4)), None);
        let revoked = Notice::Revoked {
            attachment: AttachmentIndex(3),
        };
        assert_eq!(expected.take(FIRST, &revoked), Some(done(FIRST, 8)));
        assert_eq!(expected.take(SECOND, &closed(3)), Some(done(SECOND, 7)));
    }

    #[test]
    fn a_route_of_before_is_not_the_one_that_was_asked_for() {
        let mut expected = Acknowledgements::default();
        let change = ReactorChange::EndVolume {
            volume: VolumeIndex(3),
            generation: Generation(5),
        };
        expected.expect(FIRST, TaskId(7), &change);
        assert_eq!(expected.take(FIRST, &route_in_use(4)), None);
        assert_eq!(expected.take(FIRST, &route_in_use(5)), Some(done(FIRST, 7)));
        // What is in use already is of a later generation.
        expected.expect(FIRST, TaskId(8), &change);
        assert_eq!(expected.take(FIRST, &route_in_use(6)), Some(done(FIRST, 8)));
    }

    #[test]
    fn what_a_reactor_refuses_is_not_taken_for_done() {
        let mut expected = Acknowledgements::default();
        let change = ReactorChange::EndVolume {
            volume: VolumeIndex(3),
            generation: Generation(5),
        };
        expected.expect(FIRST, TaskId(7), &change);
        let stale = Notice::Stale {
            volume: VolumeIndex(3),
            generation: Generation(6),
            epoch: Epoch(1),
        };
        let refused = NodeEvent::Refused {
            task: TaskId(7),
            reactor: FIRST,
        };
        assert_eq!(expected.take(FIRST, &stale), Some(refused));
        assert_eq!(expected.take(FIRST, &stale), None);
    }

    #[test]
    fn what_is_just_told_is_not_waited_for() {
        let mut expected = Acknowledgements::default();
        let grow = ReactorChange::GrowDevice {
            device: DeviceIndex(3),
        };
        expected.expect(FIRST, TaskId(7), &grow);
        assert_eq!(expected.take(FIRST, &closed(3)), None);
    }
}
