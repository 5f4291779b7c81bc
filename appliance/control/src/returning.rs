//! A disk whose device had gone and is there again: the new descriptor takes the place of the dead one, under the same number, so
//! that routes and sockets stay as they are and a guest sees errors only for as long as the device was away.
//!
//! It has been opened in the same way as at the start, so its identity and its superblock have been checked. The dead one is
//! drained on every reactor first; what comes in meanwhile fails as it did before.

use crate::control::{Control, Turn};
use crate::disk::Returning;
use crate::effect::{Effect, LogEntry};
use crate::task::{Purpose, TaskId};
use palisade_block::mailbox::ReactorChange;
use palisade_reconcile::{Action, SuperblockState};
use palisade_words::{DeviceIndex, Name, ReactorIndex};

impl Control {
    /// A disk that had gone could be opened again.
    pub(crate) fn device_back(
        &mut self,
        name: &Name,
        device: DeviceIndex,
        superblock: SuperblockState,
        turn: &mut Turn<'_>,
    ) {
        let close = Action::CloseDisk { disk: name.clone() };
        let closing = self.state.under_way.contains_key(&close);
        let known = self.state.observed.disks.get(name).map(|open| open.superblock);
        let open = self.state.disks.get(name);
        let takes_it = open.is_some_and(|open| open.index == device && open.returning.is_none());
        // A superblock that was written to meanwhile, or by somebody else, is for the next start to judge.
        if closing || !takes_it || known != Some(superblock) {
            return;
        }
        let task = self.new_task(Purpose::Return(name.clone()));
        let awaited = self.all_reactors();
        if let Some(open) = self.state.disks.get_mut(name) {
            open.returning = Some(Returning { task, awaited });
        }
        turn.effects.push(Effect::HoldReplacement { disk: name.clone() });
        self.tell_all(Some(task), &ReactorChange::CloseDevice { device }, turn);
    }

    /// A reactor has let go of a dead device because another takes its place.
    pub(crate) fn let_go_for_another(
        &mut self,
        name: &Name,
        task: TaskId,
        reactor: ReactorIndex,
        turn: &mut Turn<'_>,
    ) {
        let open = self.state.disks.get_mut(name);
        let Some((open, returning)) = open.and_then(|open| {
            let returning = open.returning.take_if(|returning| returning.task == task)?;
            Some((open, returning))
        }) else {
            return self.stray();
        };
        let mut awaited = returning.awaited;
        let is_awaited = awaited.remove(&reactor);
        if !awaited.is_empty() {
            open.returning = Some(Returning { task, awaited });
            if !is_awaited {
                self.stray();
            }
            return;
        }
        open.stalled_on.clear();
        open.fenced_on.clear();
        open.unusable_on.clear();
        let device = open.index;
        self.tasks.remove(&task);
        let disk = name.clone();
        turn.effects.push(Effect::ReplaceDevice { disk: disk.clone() });
        turn.effects.push(Effect::UseDevice { device });
        turn.log(LogEntry::DeviceReturned { disk });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Work;
    use crate::event::NodeEvent;
    use crate::testing::{Bench, name};
    use palisade_model::{Command, RemoveDisk};

    /// Disk `d` was opened anew: the task by which reactors let go of the dead device.
    fn coming_back() -> (Bench, TaskId) {
        let mut bench = Bench::new();
        bench.settle();
        bench.on(back());
        let held = bench.effects.iter();
        let mut held = held.filter(|effect| matches!(effect, Effect::HoldReplacement { .. }));
        assert!(held.next().is_some());
        let task = bench.asked();
        (bench, task)
    }

    fn back() -> NodeEvent {
        NodeEvent::DeviceBack {
            disk: name("d"),
            device: DeviceIndex(0),
            superblock: SuperblockState::Missing,
        }
    }

    fn is_replaced(bench: &Bench) -> bool {
        let mut effects = bench.effects.iter();
        effects.any(|effect| matches!(effect, Effect::ReplaceDevice { .. }))
    }

    #[test]
    fn the_dead_device_is_replaced_when_every_reactor_has_let_go_of_it() {
        let (mut bench, task) = coming_back();
        bench.acknowledge(task, 0);
        bench.acknowledge(task, 0);
        assert!(!is_replaced(&bench), "reactor 1 still uses the dead one");
        bench.acknowledge(task, 1);
        assert!(is_replaced(&bench));
        let is_use = |effect: &&Effect| matches!(effect, Effect::UseDevice { device } if device.0 == 0);
        assert_eq!(bench.effects.iter().filter(is_use).count(), 1);
        assert_eq!(bench.control.strays, 1);
        bench.effects.clear();
        bench.acknowledge(task, 1);
        assert!(!is_replaced(&bench) && bench.control.strays == 2);
    }

    /// The device that comes in its place is asked anew, whatever the other one has refused.
    #[test]
    fn a_disk_that_has_refused_this_node_is_known_until_another_device_takes_its_place() {
        let mut bench = Bench::new();
        bench.settle();
        let fenced = |reactor, device| NodeEvent::DeviceFenced {
            reactor: ReactorIndex(reactor),
            device: DeviceIndex(device),
        };
        bench.on(fenced(1, 3));
        assert!(!bench.control.is_fenced(&name("d")), "another one");
        assert!(bench.effects.is_empty());
        bench.on(fenced(1, 0));
        assert!(bench.control.is_fenced(&name("d")) && !bench.control.is_fenced(&name("e")));
        assert!(matches!(bench.effects[..], [Effect::DeriveFindings]));
        bench.on(back());
        let task = bench.asked();
        bench.acknowledge(task, 0);
        assert!(bench.control.is_fenced(&name("d")));
        bench.acknowledge(task, 1);
        assert!(!bench.control.is_fenced(&name("d")));
    }

    /// The device that comes in its place is taken into use anew, by every reactor.
    #[test]
    fn a_disk_that_a_reactor_cannot_use_is_known_until_another_device_takes_its_place() {
        let mut bench = Bench::new();
        bench.settle();
        let unusable = |device| NodeEvent::DeviceUnusable {
            reactor: ReactorIndex(1),
            device: DeviceIndex(device),
            error: "Too many open files".into(),
        };
        bench.on(unusable(3));
        assert!(bench.effects.is_empty(), "another one");
        bench.on(unusable(0));
        assert!(matches!(bench.effects[..], [Effect::DeriveFindings]));
        let known = |bench: &Bench, disk| {
            let disk = name(disk);
            let mut unusable = bench.control.unusable_on(&disk);
            unusable.next().map(|(reactor, why)| (reactor, why.to_owned()))
        };
        let told = (ReactorIndex(1), "Too many open files".to_owned());
        assert_eq!(known(&bench, "d"), Some(told));
        assert_eq!(known(&bench, "e"), None);
        bench.on(back());
        let task = bench.asked();
        bench.acknowledge(task, 0);
        assert!(known(&bench, "d").is_some());
        bench.acknowledge(task, 1);
        assert_eq!(known(&bench, "d"), None);
    }

    #[test]
    fn another_descriptor_is_not_taken_while_one_is_on_its_way_or_the_disk_is_not_as_known() {
        let (mut bench, task) = coming_back();
        bench.effects.clear();
        bench.on(back());
        assert!(bench.effects.is_empty(), "one at a time");
        bench.acknowledge(task, 0);
        bench.acknowledge(task, 1);
        bench.effects.clear();
        bench.on(NodeEvent::DeviceBack {
            disk: name("d"),
            device: DeviceIndex(1),
            superblock: SuperblockState::Missing,
        });
        bench.on(NodeEvent::DeviceBack {
            disk: name("d"),
            device: DeviceIndex(0),
            superblock: SuperblockState::Foreign,
        });
        assert!(bench.effects.is_empty());
    }

    /// Reactors that have let go of it for the other one will not say so again.
    #[test]
    fn a_disk_that_is_closed_meanwhile_waits_for_those_who_have_not_let_go_of_it() {
        let (mut bench, task) = coming_back();
        bench.acknowledge(task, 0);
        bench.apply(Command::RemoveDisk(RemoveDisk {
            name: name("d"),
            expected: None,
            releases: true,
        }));
        bench.changed();
        assert!(bench.told().is_empty(), "they were told");
        bench.acknowledge(task, 0);
        assert!(bench.works().is_empty(), "reactor 1 still uses it");
        bench.acknowledge(task, 1);
        let (_, work) = bench.work();
        assert!(matches!(work, Work::CloseDevice { .. }), "{work:?}");
        assert!(!is_replaced(&bench));
    }
}
