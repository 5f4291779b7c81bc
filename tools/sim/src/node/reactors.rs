//! What reactors were told and have not done yet, and what each of them uses.

use super::Breach;
use crate::rng::Rng;
use palisade_block::mailbox::ReactorChange;
use palisade_control::{NodeEvent, TaskId};
use palisade_model::Extent;
use palisade_words::{DeviceIndex, Generation, Name, ReactorIndex, Uuid, VolumeIndex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where a volume's guests may go.
#[derive(Clone, Debug)]
pub struct RoutedVolume {
    /// The volume's name.
    pub name: Name,
    /// Its permanent id.
    pub uuid: Uuid,
    /// What they may use.
    pub extents: Vec<Extent>,
}

/// A route in use on one reactor.
#[derive(Clone, Debug)]
pub struct ServedRoute {
    /// Where it leads.
    pub place: RoutedVolume,
    devices: Vec<DeviceIndex>,
}

impl ServedRoute {
    /// Whether another one uses a sector of it.
    pub fn shares(&self, other: &ServedRoute) -> bool {
        share(&self.place.extents, &other.place.extents)
    }
}

/// What a reactor was told.
#[derive(Debug)]
enum Told {
    Change {
        task: Option<TaskId>,
        change: ReactorChange,
        /// The volume of a route.
        of: Option<RoutedVolume>,
    },
    UseDevice(DeviceIndex),
    UsePeer(DeviceIndex),
}

#[derive(Debug, Default)]
struct Reactor {
    told: VecDeque<Told>,
    devices: BTreeSet<DeviceIndex>,
    /// Those it has let go of for another descriptor of the same disk: routes lead to them meanwhile, and requests fail.
    away: BTreeSet<DeviceIndex>,
    routes: BTreeMap<VolumeIndex, ServedRoute>,
    /// The newest generation heard of each number, also of those that have ended.
    heard: BTreeMap<VolumeIndex, Generation>,
}

/// All reactors of a node.
#[derive(Debug)]
pub(super) struct Reactors(Vec<Reactor>);

impl Reactors {
    pub(super) fn new(count: u16) -> Reactors {
        Reactors((0..count).map(|_| Reactor::default()).collect())
    }

    pub(super) fn are_idle(&self) -> bool {
        self.0.iter().all(|reactor| reactor.told.is_empty())
    }

    pub(super) fn used(&self) -> impl Iterator<Item = &ServedRoute> {
        self.0.iter().flat_map(|reactor| reactor.routes.values())
    }

    pub(super) fn tell(
        &mut self,
        reactor: ReactorIndex,
        task: Option<TaskId>,
        change: ReactorChange,
        of: Option<RoutedVolume>,
    ) {
        if let Some(reactor) = self.0.get_mut(reactor.usize()) {
            reactor.told.push_back(Told::Change { task, change, of });
        }
    }

    pub(super) fn use_device(&mut self, device: DeviceIndex) {
        for reactor in &mut self.0 {
            reactor.told.push_back(Told::UseDevice(device));
        }
    }

    pub(super) fn use_peer(&mut self, device: DeviceIndex) {
        for reactor in &mut self.0 {
            reactor.told.push_back(Told::UsePeer(device));
        }
    }

    /// One of them does the next of what it was told, and acknowledges it.
    pub(super) fn go_on(
        &mut self,
        rng: &mut Rng,
        open: &BTreeMap<DeviceIndex, Name>,
        returning: &BTreeSet<Name>,
        clearings: &BTreeMap<TaskId, Vec<Extent>>,
    ) -> Result<Option<NodeEvent>, Breach> {
        let busy: Vec<usize> = (0..self.0.len())
            .filter(|index| self.0.get(*index).is_some_and(|reactor| !reactor.told.is_empty()))
            .collect();
        let Some(&index) = busy.get(rng.index(busy.len())) else {
            return Ok(None);
        };
        let Some(reactor) = self.0.get_mut(index) else {
            return Ok(None);
        };
        let (task, change, of) = match reactor.told.pop_front() {
            Some(Told::Change { task, change, of }) => (task, change, of),
            Some(Told::UseDevice(device)) => {
                reactor.uses(device, open)?;
                return Ok(None);
            }
            Some(Told::UsePeer(device)) => {
                reactor.devices.insert(device);
                return Ok(None);
            }
            None => return Ok(None),
        };
        let route = match (&change, of) {
            (ReactorChange::Resume { volume, route }, Some(place)) => {
                let devices = route.devices().to_vec();
                let used = ServedRoute { place, devices };
                self.shares_nothing(*volume, &used, clearings)?;
                Some(used)
            }
            _ => None,
        };
        if let Some(reactor) = self.0.get_mut(index) {
            reactor.does(change, route, open, returning)?;
        }
        let reactor = ReactorIndex(index as u16);
        Ok(task.map(|task| NodeEvent::Acknowledged { task, reactor }))
    }

    /// The check: no sector is another volume's as well, or being cleared.
    fn shares_nothing(
        &self,
        volume: VolumeIndex,
        used: &ServedRoute,
        clearings: &BTreeMap<TaskId, Vec<Extent>>,
    ) -> Result<(), Breach> {
        let extents = &used.place.extents;
        let mut others = self.0.iter().flat_map(|reactor| reactor.routes.iter());
        let other = others.find(|(index, other)| **index != volume && share(&other.place.extents, extents));
        if let Some((_, other)) = other {
            let what = format!(
                "volume {} ({:?}) comes into use where a reactor still has that of volume {} ({:?})",
                used.place.name, used.place.uuid, other.place.name, other.place.uuid
            );
            return Err(Breach::straddling(what));
        }
        match clearings.values().any(|cleared| share(cleared, extents)) {
            true => {
                let what = format!(
                    "volume {} comes into use where zeros are still being written",
                    used.place.name
                );
                Err(Breach::straddling(what))
            }
            false => Ok(()),
        }
    }

    /// The check of what is done with a device, or with its number, that none of them may use then.
    pub(super) fn have_let_go(&self, device: DeviceIndex, done: &str) -> Result<(), Breach> {
        let uses = |reactor: &Reactor| reactor.devices.contains(&device);
        match self.0.iter().position(uses) {
            Some(index) => {
                let what = format!("{done} while reactor {index} uses device {}", device.0);
                Err(Breach::straddling(what))
            }
            None => Ok(()),
        }
    }

    /// The check of space that is to be cleared.
    pub(super) fn lead_elsewhere(&self, extents: &[Extent]) -> Result<(), Breach> {
        match self.used().find(|used| share(&used.place.extents, extents)) {
            Some(used) => {
                let what = format!(
                    "space is cleared to which a reactor still has a route of volume {}",
                    used.place.name
                );
                Err(Breach::straddling(what))
            }
            None => Ok(()),
        }
    }

    /// The check of a volume that is offered.
    pub(super) fn all_lead_to(&self, volume: Option<&Name>, attachment: &Name) -> Result<(), Breach> {
        let leads = |reactor: &Reactor| {
            let mut routes = reactor.routes.values();
            routes.any(|used| Some(&used.place.name) == volume)
        };
        match self.0.iter().all(leads) {
            true => Ok(()),
            false => {
                let what = format!("attachment {attachment} is offered while a reactor has no route for it");
                Err(Breach::straddling(what))
            }
        }
    }
}

impl Reactor {
    /// The check that a reactor would not refuse what it is told of a volume, whoever had its number before.
    fn is_not_older(&mut self, volume: VolumeIndex, generation: Generation) -> Result<(), Breach> {
        let heard = self.heard.entry(volume).or_default();
        if generation < *heard {
            let what = format!(
                "a reactor that has heard of generation {} of volume number {} is told of generation {}",
                heard.0, volume.0, generation.0
            );
            return Err(Breach::straddling(what));
        }
        *heard = generation;
        Ok(())
    }

    fn uses(&mut self, device: DeviceIndex, open: &BTreeMap<DeviceIndex, Name>) -> Result<(), Breach> {
        if !open.contains_key(&device) {
            let what = format!("a reactor is to use device {}, which is closed", device.0);
            return Err(Breach::straddling(what));
        }
        if !self.devices.insert(device) {
            let what = format!("a reactor is to use device {} twice", device.0);
            return Err(Breach::straddling(what));
        }
        self.away.remove(&device);
        Ok(())
    }

    fn does(
        &mut self,
        change: ReactorChange,
        route: Option<ServedRoute>,
        open: &BTreeMap<DeviceIndex, Name>,
        returning: &BTreeSet<Name>,
    ) -> Result<(), Breach> {
        let broken = |what: String| Err(Breach::straddling(what));
        match change {
            ReactorChange::CloseDevice { device } => {
                let Some(disk) = open.get(&device) else {
                    return broken(format!(
                        "device {} is closed while a reactor is to let go of it",
                        device.0
                    ));
                };
                self.devices.remove(&device);
                if returning.contains(disk) {
                    self.away.insert(device);
                }
            }
            ReactorChange::Resume { volume, route: told } => {
                self.is_not_older(volume, told.generation())?;
                if let Some(used) = route {
                    let is_here =
                        |device: &DeviceIndex| self.devices.contains(device) || self.away.contains(device);
                    if !used.devices.iter().all(is_here) {
                        return broken(format!(
                            "the route of volume {} leads to a device that the reactor does not use",
                            used.place.name
                        ));
                    }
                    self.routes.insert(volume, used);
                }
            }
            ReactorChange::EndVolume { volume, generation } => {
                self.is_not_older(volume, generation)?;
                self.routes.remove(&volume);
            }
            ReactorChange::Suspend { .. } | ReactorChange::Cancel { .. } | ReactorChange::Fail { .. } => {
                return broken("a node of one member announces a change to its reactors".to_owned());
            }
            ReactorChange::Revoke { .. }
            | ReactorChange::SetAttachment { .. }
            | ReactorChange::GrowDevice { .. } => {}
        }
        Ok(())
    }
}

/// Whether two lists of extents have a sector in common.
fn share(some: &[Extent], others: &[Extent]) -> bool {
    let overlap = |a: &Extent, b: &Extent| {
        let starts_before = |a: &Extent, b: &Extent| a.disk_lba < b.disk_lba + b.sectors;
        a.disk == b.disk && starts_before(a, b) && starts_before(b, a)
    };
    some.iter().any(|a| others.iter().any(|b| overlap(a, b)))
}
