//! Devices that go and come back, that stall, and whose superblocks are looked at now and then.

use super::Breach;
use crate::rng::Rng;
use palisade_block::Nanos;
use palisade_control::{Control, NodeEvent, SuperblockLook};
use palisade_reconcile::SuperblockState;
use palisade_words::{DeviceIndex, Name, ReactorIndex};
use std::collections::{BTreeMap, BTreeSet};

/// Once in so many looks one of these things happens to one device.
const HAPPENS_ONE_IN: u64 = 3;

/// Descriptors that are to take the place of dead ones.
#[derive(Debug, Default)]
pub(super) struct Replacements {
    /// Whether any device goes and comes back.
    pub(super) come_and_go: bool,
    /// Whether reactors say of some that they cannot use them.
    pub(super) are_unusable: bool,
    held: BTreeSet<Name>,
    /// Looks at superblocks that have begun, with what was known of them before.
    looks: Vec<(Name, DeviceIndex, SuperblockState)>,
}

impl Replacements {
    /// What is left to the process that comes: none.
    pub(super) fn of_the_next(&self) -> Replacements {
        Replacements {
            come_and_go: self.come_and_go,
            are_unusable: self.are_unusable,
            ..Replacements::default()
        }
    }

    /// Disks whose new descriptor waits for reactors to let go of the dead one.
    pub(super) fn held(&self) -> &BTreeSet<Name> {
        &self.held
    }

    /// What happens to one of the open devices, if it does. It is told later.
    pub(super) fn happen(
        &mut self,
        rng: &mut Rng,
        open: &BTreeMap<DeviceIndex, Name>,
        control: &Control,
        reactors: u16,
    ) -> Option<NodeEvent> {
        if !self.come_and_go || !rng.one_in(HAPPENS_ONE_IN) {
            return None;
        }
        let (&device, disk) = open.iter().nth(rng.index(open.len().max(1)))?;
        let superblock = |disk: &Name| control.observed.disks.get(disk).map(|disk| disk.superblock);
        let present = superblock(disk)?;
        let disk = disk.clone();
        // Without those that are unusable, seeds that have found something go the way that they went.
        let kinds = if self.are_unusable { 7 } else { 6 };
        Some(match rng.index(kinds) {
            0 => NodeEvent::DeviceBack {
                disk,
                device,
                superblock: present,
            },
            1 | 2 => {
                self.looks.push((disk, device, present));
                return None;
            }
            // What is read may have been written since the look began, and again when it is told.
            3 | 4 => {
                let mut looks = self.looks.iter();
                let rewritten = looks.position(|(disk, _, known)| superblock(disk) != Some(*known));
                let index = rewritten.unwrap_or_else(|| rng.index(self.looks.len().max(1)));
                let begun = (index < self.looks.len()).then(|| self.looks.swap_remove(index));
                let (disk, device, known) = begun?;
                let superblock = superblock(&disk)?;
                let found = Ok(SuperblockLook {
                    superblock,
                    ..SuperblockLook::default()
                });
                NodeEvent::Looked {
                    disk,
                    device,
                    known,
                    found,
                }
            }
            6 => NodeEvent::DeviceUnusable {
                reactor: ReactorIndex(rng.index(reactors.into()) as u16),
                device,
                error: "no memory".to_owned(),
            },
            _ => NodeEvent::DeviceStalled {
                reactor: ReactorIndex(rng.index(reactors.into()) as u16),
                device,
                oldest: match rng.one_in(2) {
                    true => Nanos::from_secs(9),
                    false => Nanos(0),
                },
            },
        })
    }

    pub(super) fn hold(&mut self, disk: Name) -> Result<(), Breach> {
        match self.held.insert(disk.clone()) {
            true => Ok(()),
            false => Err(Breach::straddling(format!(
                "a second descriptor is held for disk {disk}, whose first has not taken its place"
            ))),
        }
    }

    /// The new descriptor takes the place of the dead one, under this number.
    pub(super) fn replace(
        &mut self,
        disk: &Name,
        open: &BTreeMap<DeviceIndex, Name>,
    ) -> Result<DeviceIndex, Breach> {
        let device = open
            .iter()
            .find(|(_, other)| *other == disk)
            .map(|(device, _)| *device);
        match (self.held.remove(disk), device) {
            (true, Some(device)) => Ok(device),
            (held, device) => Err(Breach::straddling(format!(
                "the device of disk {disk} is to be replaced; a descriptor is held: {held}, it is open as {device:?}"
            ))),
        }
    }

    /// The disk is closed, and what was held for it with it.
    pub(super) fn close(&mut self, disk: &Name) {
        self.held.remove(disk);
    }
}

/// The disk of a look. None shows anything new: nobody but the node itself writes to its disks.
pub(super) fn looked_at(event: &NodeEvent) -> Option<&Name> {
    match event {
        NodeEvent::Looked { disk, .. } => Some(disk),
        _ => None,
    }
}
