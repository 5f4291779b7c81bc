//! A node as the daemon has it: the control machine itself, in surroundings of our own making. Reactors, door and messages are
//! simulated here; the disks, and what is done on them, are the scenario's.
//!
//! Whatever is told comes late, in any order, and often twice; the process may end between any two effects. What reactors
//! really use is kept and checked:
//!
//! - a device is used by nobody when it is closed, and no route leads to it when a reactor is told to let go of it;
//! - a route leads to devices that its reactor uses, and shares no sector with another volume's on any reactor, nor with
//!   space that is being cleared;
//! - a volume is offered when all reactors have its route, and has lost it only when nobody is let in to it any more;
//! - no number is given while somebody still uses it;
//! - a device that was away gives way to its successor when no reactor uses it any more, and a look from before a superblock
//!   was written shows nothing new.

mod devices;
mod reactors;
mod sessions;

use crate::finding::Invariant;
use crate::rng::Rng;
use devices::Replacements;
use palisade_block::Nanos;
use palisade_block::mailbox::ReactorChange;
use palisade_control::{Control, DoorChange, Effect, NodeEvent, TaskEnd, TaskId, Work};
use palisade_model::{Cluster, Extent};
use palisade_words::limits::DISKS_MAX;
use palisade_words::{DeviceIndex, Generation, Name};
use reactors::Reactors;
pub use reactors::{RoutedVolume, ServedRoute};
use sessions::Sessions;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How many reactors there are: more than one, so that one is ahead of the other.
const REACTORS: u16 = 3;

/// Once in so many steps nothing more happens in a turn, and what is on its way stays so.
const PAUSE_ONE_IN: u64 = 24;

/// Once in so often what is told is told again later.
const TWICE_ONE_IN: u64 = 5;

/// What does not hold.
#[derive(Clone, Debug)]
pub struct Breach {
    /// Of the house's invariants.
    pub invariant: Invariant,
    /// What was seen.
    pub what: String,
}

impl Breach {
    fn straddling(what: String) -> Breach {
        Breach {
            invariant: Invariant::OneGeneration,
            what,
        }
    }
}

impl From<Breach> for String {
    fn from(breach: Breach) -> String {
        format!("{:?}: {}", breach.invariant, breach.what)
    }
}

impl From<Breach> for (Invariant, String) {
    fn from(breach: Breach) -> (Invariant, String) {
        (breach.invariant, breach.what)
    }
}

/// Something for the scenario to do.
#[derive(Debug)]
pub enum Todo {
    /// Work: [`SimNode::finish`] when it has ended.
    Work {
        /// Its name.
        task: TaskId,
        /// The cluster that it is to be done with.
        cluster: Arc<Cluster>,
        /// What is to be done.
        work: Work,
    },
    /// A clearing under way is to end.
    StopClearing {
        /// Of which volume.
        volume: Name,
    },
}

/// The node.
#[derive(Debug)]
pub struct SimNode {
    name: Name,
    /// The machine.
    pub control: Control,
    now: Nanos,
    /// Given by the machine, and not carried out.
    effects: VecDeque<Effect>,
    /// On their way to the machine.
    events: Vec<NodeEvent>,
    reactors: Reactors,
    sessions: Sessions,
    /// Open devices, each with its disk.
    open: BTreeMap<DeviceIndex, Name>,
    /// Descriptors that are to take the place of dead ones.
    replacements: Replacements,
    /// Where zeros are being written.
    clearings: BTreeMap<TaskId, Vec<Extent>>,
    rng: Rng,
    /// Tasks whose end was told twice, for a look at what a seed is worth.
    pub told_twice: u64,
}

impl SimNode {
    /// A node that has just started.
    pub fn new(name: Name, rng: Rng) -> SimNode {
        SimNode {
            control: Control::new(name.clone(), REACTORS, Generation::default()),
            name,
            now: Nanos::default(),
            effects: VecDeque::new(),
            events: Vec::new(),
            reactors: Reactors::new(REACTORS),
            sessions: Sessions::default(),
            open: BTreeMap::new(),
            replacements: Replacements::default(),
            clearings: BTreeMap::new(),
            rng,
            told_twice: 0,
        }
    }

    /// Its devices go and come back, stall, and are looked at.
    pub fn with_restless_devices(mut self) -> SimNode {
        self.replacements.come_and_go = true;
        self
    }

    /// Now and then a reactor says that it cannot use a device.
    pub fn with_unusable_devices(mut self) -> SimNode {
        self.replacements.are_unusable = true;
        self
    }

    /// The process ends wherever it is, between any two effects, and another starts with nothing but the cluster. The guests'
    /// queues stay in their rings.
    pub fn restart(&mut self, started: Generation) {
        *self = SimNode {
            control: Control::new(self.name.clone(), REACTORS, started),
            now: self.now,
            told_twice: self.told_twice,
            replacements: self.replacements.of_the_next(),
            ..SimNode::new(self.name.clone(), self.rng.split("next"))
        };
    }

    /// Time goes by.
    pub fn pass(&mut self, span: Nanos) {
        self.now = self.now.after(span);
    }

    /// The cluster may have changed, or the machine may be due.
    pub fn look(&mut self, cluster: &Arc<Cluster>) {
        if self.rng.one_in(4) {
            let gone = self.sessions.move_guests(&mut self.rng, &mut self.control);
            self.events.extend(gone);
        }
        let happened = self
            .replacements
            .happen(&mut self.rng, &self.open, &self.control, REACTORS);
        self.events.extend(happened);
        self.on(NodeEvent::Changed, cluster);
    }

    /// Work has ended.
    pub fn finish(&mut self, task: TaskId, result: Result<TaskEnd, String>) {
        self.clearings.remove(&task);
        self.events.push(NodeEvent::Finished { task, result });
    }

    /// Something else has happened.
    pub fn happens(&mut self, event: NodeEvent) {
        self.events.push(event);
    }

    /// Whether nothing is on its way and nothing under way.
    pub fn is_quiet(&self) -> bool {
        let is_told = self.effects.is_empty() && self.events.is_empty();
        is_told && self.control.under_way.is_empty() && self.reactors.are_idle() && self.sessions.are_idle()
    }

    /// Disks whose devices are open.
    pub fn open_disks(&self) -> impl Iterator<Item = &Name> {
        self.open.values()
    }

    /// What reactors serve guests by: one route of one volume on one reactor each.
    pub fn used(&self) -> impl Iterator<Item = &ServedRoute> {
        self.reactors.used()
    }

    /// Goes on until there is something for the scenario to do. `None`: there is nothing more just now.
    ///
    /// # Errors
    /// What does not hold.
    pub fn next(&mut self, cluster: &Arc<Cluster>) -> Result<Option<Todo>, Breach> {
        loop {
            let ways = [
                self.effects.len().min(2),
                self.events.len().min(2),
                usize::from(!self.reactors.are_idle()),
                usize::from(!self.sessions.are_idle()),
            ];
            let all: usize = ways.iter().sum();
            if all == 0 || self.rng.one_in(PAUSE_ONE_IN) {
                return Ok(None);
            }
            let mut drawn = self.rng.index(all);
            let way = ways.iter().position(|&weight| match drawn < weight {
                true => true,
                false => {
                    drawn -= weight;
                    false
                }
            });
            match way {
                Some(0) => {
                    if let Some(todo) = self.carry_out_next()? {
                        return Ok(Some(todo));
                    }
                }
                Some(1) => self.deliver(cluster)?,
                Some(2) => {
                    let returning = self.replacements.held();
                    let acknowledged =
                        self.reactors
                            .go_on(&mut self.rng, &self.open, returning, &self.clearings)?;
                    self.events.extend(acknowledged);
                }
                _ => self
                    .events
                    .extend(self.sessions.go_on(&mut self.rng, &self.control)),
            }
        }
    }

    /// One of the events on their way arrives.
    fn deliver(&mut self, cluster: &Arc<Cluster>) -> Result<(), Breach> {
        let index = self.rng.index(self.events.len());
        let has_name = |event: &NodeEvent| {
            matches!(
                event,
                NodeEvent::Finished { .. }
                    | NodeEvent::Acknowledged { .. }
                    | NodeEvent::GivenUp { .. }
                    | NodeEvent::Detached { .. }
            )
        };
        let event = match self.events.get(index) {
            Some(event) if has_name(event) && self.rng.one_in(TWICE_ONE_IN) => {
                self.told_twice += 1;
                event.clone()
            }
            Some(_) => self.events.swap_remove(index),
            None => return Ok(()),
        };
        let looked_at = devices::looked_at(&event).cloned();
        let known = |node: &SimNode| {
            let observed = &node.control.observed.disks;
            let known = looked_at.as_ref().and_then(|disk| observed.get(disk));
            known.map(|disk| disk.superblock)
        };
        let before = known(self);
        self.on(event, cluster);
        let now = known(self);
        match before == now {
            true => Ok(()),
            false => Err(Breach::straddling(format!(
                "a look that came late changed what is known of a superblock from {before:?} to {now:?}"
            ))),
        }
    }

    fn on(&mut self, event: NodeEvent, cluster: &Arc<Cluster>) {
        let effects = self.control.on(event, cluster, self.now);
        self.effects.extend(effects);
    }

    fn carry_out_next(&mut self) -> Result<Option<Todo>, Breach> {
        let Some(effect) = self.effects.pop_front() else {
            return Ok(None);
        };
        match effect {
            Effect::Start { task, cluster, work } => {
                self.look_at_work(task, &cluster, &work)?;
                return Ok(Some(Todo::Work { task, cluster, work }));
            }
            Effect::StopClearing { volume } => return Ok(Some(Todo::StopClearing { volume })),
            Effect::Tell {
                reactor,
                task,
                change,
            } => {
                let of = task.and_then(|task| self.volume_of(task, &change));
                self.reactors.tell(reactor, task, change, of);
            }
            Effect::UseDevice { device } => self.reactors.use_device(device),
            Effect::UsePeer { device, .. } => self.reactors.use_peer(device),
            Effect::Serve { .. } => {}
            Effect::TellDoor(change) => self.sessions.tell(change),
            Effect::OpenDevice { disk, device, .. } => {
                self.reactors
                    .have_let_go(device, &format!("its number is given to disk {disk}"))?;
                if let Some(other) = self.open.insert(device, disk.clone()) {
                    let what =
                        format!("the device number of disk {other}, which is open, is given to disk {disk}");
                    return Err(Breach::straddling(what));
                }
            }
            Effect::HoldReplacement { disk } => self.replacements.hold(disk)?,
            Effect::ReplaceDevice { disk } => {
                let device = self.replacements.replace(&disk, &self.open)?;
                self.reactors
                    .have_let_go(device, &format!("the device of disk {disk} is replaced"))?;
            }
            Effect::LookSoon { .. }
            | Effect::ClearFindings { .. }
            | Effect::DeriveFindings
            | Effect::Log(_) => {}
        }
        Ok(None)
    }

    /// The volume that a route is for, with what its guests may use by it.
    fn volume_of(&self, task: TaskId, change: &ReactorChange) -> Option<RoutedVolume> {
        let ReactorChange::Resume { route, .. } = change else {
            return None;
        };
        let mut steps = self.control.under_way.values();
        let step = steps.find(|step| step.task == task)?;
        let (_, name) = step.step.action.target();
        let volume = step.cluster.volumes.get(name)?;
        Some(RoutedVolume {
            name: name.clone(),
            uuid: volume.uuid,
            // By a route to another node nothing is used here.
            extents: match route.devices() {
                [device] if device.usize() >= DISKS_MAX => Vec::new(),
                _ => volume.usable_extents(),
            },
        })
    }

    /// The checks of work that begins.
    fn look_at_work(&mut self, task: TaskId, cluster: &Cluster, work: &Work) -> Result<(), Breach> {
        let device = match work {
            Work::GrowDisk { device, disk, .. }
            | Work::CloseDevice { device, disk, .. }
            | Work::WriteSuperblock { device, disk, .. }
            | Work::ExamineSuperblock { device, disk, .. }
            | Work::EraseSuperblock { device, disk, .. } => Some((device, disk)),
            _ => None,
        };
        if let Some((device, disk)) = device
            && self.open.get(device) != Some(disk)
        {
            let what = format!("work on the device of disk {disk}, which is not open: {work:?}");
            return Err(Breach::straddling(what));
        }
        match work {
            Work::CloseDevice { device, disk, .. } => {
                self.reactors
                    .have_let_go(*device, &format!("disk {disk} is closed"))?;
                self.open.remove(device);
                self.replacements.close(disk);
            }
            Work::ClearSpace { extents, .. } => {
                self.reactors.lead_elsewhere(extents)?;
                self.clearings.insert(task, extents.clone());
            }
            Work::OfferSocket {
                attachment, index, ..
            } => {
                let volume = cluster.attachments.get(attachment).map(|wanted| &wanted.volume);
                self.reactors.all_lead_to(volume, attachment)?;
                self.sessions.begin(*index, attachment)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Sessions {
    fn tell(&mut self, change: DoorChange) {
        match change {
            DoorChange::Detach { attachment } => self.ask(attachment, true),
            DoorChange::GiveUp { attachment } => self.ask(attachment, false),
            DoorChange::Resize { .. } => {}
        }
    }
}
