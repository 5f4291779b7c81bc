//! Of which volume a queue's next requests are, and how many of it the devices may keep.

use crate::mapping::Volume;
use crate::reactor::{Queue, volume_of};
use crate::shares::Shares;
use palisade_block::mailbox::AttachmentSettings;
use palisade_block::{Route, Source};
use palisade_words::VolumeIndex;

/// Of which volume the next requests of a queue are. Its attachment's, if it has one, whatever becomes of that; else the one
/// that its source turns to.
#[inline]
pub(crate) fn next_volume<S: Source>(
    queue: &mut Queue<S>,
    volumes: &[Volume],
    nowhere: &Volume,
    shares: &Shares,
    free: u32,
) -> Option<VolumeIndex> {
    queue.settings.volume.or_else(|| {
        let (settings, in_flight) = (&queue.settings, queue.in_flight);
        queue.source.turn_to(|index| {
            let volume = volume_of(volumes, nowhere, settings, index);
            !volume.is_held() && room(held(settings, in_flight, volume), volume, shares, free) > 0
        })
    })
}

/// What counts as held by a queue of those in flight. Each volume of a source that carries many is as a queue of its own: one
/// that hangs leaves as much to the others as to other queues.
#[inline]
pub(crate) fn held(settings: &AttachmentSettings, in_flight: u32, volume: &Volume) -> u32 {
    match settings.volume {
        Some(_) => in_flight,
        None => volume.active + volume.parked,
    }
}

/// Requests that the devices of a volume may keep for a queue that holds so many, if each keeps all of them, while so many slots are free.
/// A queue, like a device, may hold as many as are left free: a hungry one ends with half of them, two with a third
/// each, and a newcomer always finds some.
#[inline]
pub(crate) fn room(held: u32, volume: &Volume, shares: &Shares, free: u32) -> u32 {
    let devices = volume.route.as_ref().map_or(&[][..], Route::devices);
    devices
        .iter()
        .map(|&device| shares.room(device, free))
        .fold(free.saturating_sub(held).div_ceil(2), u32::min)
}
