//! The devices as the reactor sees them: what they can do, whether they get anything, and whether they are late.

use palisade_block::stats::DeviceStats;
use palisade_block::{DeviceLimits, Fault, Nanos};
use palisade_words::{AttachmentIndex, DeviceIndex};
use std::sync::Arc;

/// A device under watch. What it has of operations is in the books.
pub(crate) struct Device {
    pub(crate) limits: DeviceLimits,
    pub(crate) stats: Arc<DeviceStats>,
    pub(crate) deadline: Nanos,
    /// It gets nothing more, and what is asked of it ends with this: it is dropped, or has refused this node.
    pub(crate) refuses: Option<Fault>,
    /// It goes when nothing of it is in flight.
    pub(crate) dropped: bool,
    pub(crate) stalled: bool,
    /// Who asked for something last that it did not do at once.
    asked_by: Option<AttachmentIndex>,
}

impl Device {
    /// One that has been asked for nothing yet.
    pub(crate) fn new(limits: DeviceLimits, stats: Arc<DeviceStats>, deadline: Nanos) -> Device {
        Device {
            limits,
            stats,
            deadline,
            refuses: None,
            dropped: false,
            stalled: false,
            asked_by: None,
        }
    }

    /// It has taken an operation of an attachment, the last of so many. This one and the one that it was asked by
    /// before, if that was another.
    #[inline]
    pub(crate) fn began(&mut self, of: AttachmentIndex, in_flight: u32) -> Option<[AttachmentIndex; 2]> {
        self.stats.in_flight.set(in_flight.into());
        let before = self.asked_by.replace(of);
        before.filter(|&before| before != of).map(|before| [before, of])
    }

    /// It has finished one, with so many left. Whether it goes now.
    #[inline]
    pub(crate) fn ended(&mut self, in_flight: u32) -> bool {
        self.stats.finished.add(1);
        self.stats.in_flight.set(in_flight.into());
        self.dropped && in_flight == 0
    }
}

/// All devices by their numbers.
#[derive(Default)]
pub(crate) struct Watched(Vec<Option<Device>>);

impl Watched {
    /// Numbers, in use or not.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    pub(crate) fn get(&self, device: DeviceIndex) -> Option<&Device> {
        self.0.get(device.usize())?.as_ref()
    }

    #[inline(always)]
    pub(crate) fn get_mut(&mut self, device: DeviceIndex) -> Option<&mut Device> {
        self.0.get_mut(device.usize())?.as_mut()
    }

    /// Watches a device under a number, that was free or another one's.
    pub(crate) fn add(&mut self, index: DeviceIndex, device: Device) {
        if self.0.len() <= index.usize() {
            self.0.resize_with(index.usize() + 1, || None);
        }
        self.0[index.usize()] = Some(device);
    }

    /// All, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DeviceIndex, &Device)> {
        let devices = (0..).map(DeviceIndex).zip(&self.0);
        devices.filter_map(|(index, device)| Some((index, device.as_ref()?)))
    }

    /// The same, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (DeviceIndex, &mut Device)> {
        let devices = (0..).map(DeviceIndex).zip(&mut self.0);
        devices.filter_map(|(index, device)| Some((index, device.as_mut()?)))
    }

    /// With what a device ends that gets nothing more.
    #[cold]
    #[inline(never)]
    pub(crate) fn refusal(&self, device: DeviceIndex) -> Fault {
        let device = self.get(device);
        device.and_then(|device| device.refuses).unwrap_or(Fault::Gone)
    }
}
