//! Of which volume a queue's next requests are, and how many of it the devices may keep.

use super::may_take;
use crate::mapping::Volume;
use crate::rations::Flight;
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

/// Requests of a volume that the devices may keep for a queue now: of slots and of long lists the shares, and how many are
/// free. None while the queue's own large requests, or those of its attachment, keep things from being taken.
///
/// It is inlined wherever a queue is served: as a call of its own it costs a turn fifteen instructions.
#[inline(always)]
pub(crate) fn room_for<S>(
    queue: &mut Queue<S>,
    volume: &Volume,
    (slot_shares, free): (&Shares, u32),
    (long_shares, long_free): (&Shares, u32),
    flight: &Flight,
) -> u32 {
    match may_take(queue, volume, long_shares, long_free, flight) {
        true => room(
            held(&queue.settings, queue.in_flight, volume),
            volume,
            slot_shares,
            free,
        ),
        false => 0,
    }
}

/// What counts as held by a queue of those in flight. Each volume of a source that carries many is as a queue of its own: one
/// that hangs leaves as much to the others as to other queues.
#[inline]
fn held(settings: &AttachmentSettings, in_flight: u32, volume: &Volume) -> u32 {
    match settings.volume {
        Some(_) => in_flight,
        None => volume.active + volume.parked,
    }
}

/// Requests that the devices of a volume may keep for a queue that holds so many, if each keeps all of them, while so many slots are free.
/// A queue, like a device, may hold as many as are left free: a hungry one ends with half of them, two with a third
/// each, and a newcomer always finds some.
#[inline]
fn room(held: u32, volume: &Volume, shares: &Shares, free: u32) -> u32 {
    let devices = volume.route.as_ref().map_or(&[][..], Route::devices);
    devices
        .iter()
        .map(|&device| shares.room(device, free))
        .fold(free.saturating_sub(held).div_ceil(2), u32::min)
}
