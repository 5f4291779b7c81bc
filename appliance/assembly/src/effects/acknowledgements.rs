//! What reactors were told and have not acknowledged. A reactor answers by number and generation; here that is brought together
//! with the task that it was told for. It answers everything once, in the order in which it was told, and no number is given
//! again before that.

use crate::orders::Report;
use palisade_block::mailbox::Notice;
use palisade_control::{ReactorChange, TaskId};
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
            ReactorChange::SetRoute {
                volume, generation, ..
            } => (About::Route(*volume), *generation),
            ReactorChange::Revoke { attachment } => (About::Attachment(*attachment), Generation::default()),
            ReactorChange::CloseDevice { device } => (About::Device(*device), Generation::default()),
            ReactorChange::SetAttachment { .. }
            | ReactorChange::UseDevice { .. }
            | ReactorChange::GrowDevice { .. } => return,
        };
        self.0.insert((reactor, about), (task, generation));
    }

    /// What a reactor acknowledges with this, if anything.
    pub fn take(&mut self, report: &Report) -> Option<(ReactorIndex, TaskId)> {
        let (reactor, about, reached) = match *report {
            Report::Notice(reactor, Notice::RouteInUse { volume, generation }) => {
                (reactor, About::Route(volume), generation)
            }
            Report::Notice(reactor, Notice::Revoked { attachment }) => {
                (reactor, About::Attachment(attachment), Generation::default())
            }
            Report::Notice(reactor, Notice::DeviceIdle { device })
            | Report::DeviceClosed(reactor, device) => {
                (reactor, About::Device(device), Generation::default())
            }
            _ => return None,
        };
        let asked = self.0.get(&(reactor, about))?.1;
        // A route of before, which a reactor had told of when it was told of the next.
        if reached < asked {
            return None;
        }
        let (task, _) = self.0.remove(&(reactor, about))?;
        Some((reactor, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ReactorIndex = ReactorIndex(0);
    const SECOND: ReactorIndex = ReactorIndex(1);

    fn route_in_use(reactor: ReactorIndex, generation: u64) -> Report {
        Report::Notice(
            reactor,
            Notice::RouteInUse {
                volume: VolumeIndex(3),
                generation: Generation(generation),
            },
        )
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
        let closed = Report::DeviceClosed(FIRST, DeviceIndex(3));
        assert_eq!(expected.take(&closed), Some((FIRST, TaskId(7))));
        assert_eq!(expected.take(&closed), None);
        let other = Report::DeviceClosed(SECOND, DeviceIndex(4));
        assert_eq!(expected.take(&other), None);
        let revoked = Report::Notice(
            FIRST,
            Notice::Revoked {
                attachment: AttachmentIndex(3),
            },
        );
        assert_eq!(expected.take(&revoked), Some((FIRST, TaskId(8))));
        let idle = Report::Notice(
            SECOND,
            Notice::DeviceIdle {
                device: DeviceIndex(3),
            },
        );
        assert_eq!(expected.take(&idle), Some((SECOND, TaskId(7))));
        assert_eq!(expected.take(&Report::Ended(FIRST)), None);
    }

    #[test]
    fn a_route_of_before_is_not_the_one_that_was_asked_for() {
        let mut expected = Acknowledgements::default();
        let change = ReactorChange::SetRoute {
            volume: VolumeIndex(3),
            route: None,
            generation: Generation(5),
        };
        expected.expect(FIRST, TaskId(7), &change);
        assert_eq!(expected.take(&route_in_use(FIRST, 4)), None);
        assert_eq!(expected.take(&route_in_use(FIRST, 5)), Some((FIRST, TaskId(7))));
        // What is in use already is of a later generation.
        expected.expect(FIRST, TaskId(8), &change);
        assert_eq!(expected.take(&route_in_use(FIRST, 6)), Some((FIRST, TaskId(8))));
    }

    #[test]
    fn what_is_just_told_is_not_waited_for() {
        let mut expected = Acknowledgements::default();
        let grow = ReactorChange::GrowDevice {
            device: DeviceIndex(3),
        };
        expected.expect(FIRST, TaskId(7), &grow);
        let closed = Report::DeviceClosed(FIRST, DeviceIndex(3));
        assert_eq!(expected.take(&closed), None);
    }
}
