//! The volumes of a reactor, and of which of them a queue's next requests are.

use crate::books::Books;
use crate::mapping::Volume;
use crate::queue::Queue;
use palisade_block::Source;
use palisade_block::mailbox::AttachmentSettings;
use palisade_words::VolumeIndex;

/// All volumes by their numbers.
#[derive(Default)]
pub(crate) struct Volumes {
    table: Vec<Volume>,
    /// Where queues find themselves whose volume has been taken away: it never has a route.
    nowhere: Volume,
}

impl Volumes {
    /// Where the requests of a queue go that are taken now, of this volume.
    #[inline(always)]
    pub(crate) fn of(&self, settings: &AttachmentSettings, index: VolumeIndex) -> &Volume {
        match settings.revoked {
            false => self.get(index),
            true => &self.nowhere,
        }
    }

    /// A volume. A source may name one that this reactor was never told of.
    #[inline(always)]
    pub(crate) fn get(&self, index: VolumeIndex) -> &Volume {
        self.table.get(index.usize()).unwrap_or(&self.nowhere)
    }

    /// A volume that this reactor is told of, for the first time or not. Not part of a turn in the first case: this may
    /// allocate.
    pub(crate) fn known(&mut self, index: VolumeIndex) -> &mut Volume {
        if self.table.len() <= index.usize() {
            self.table.resize_with(index.usize() + 1, Volume::default);
        }
        &mut self.table[index.usize()]
    }

    /// All that this reactor was told of.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Volume> {
        self.table.iter()
    }

    /// Of which volume the next requests of a queue are. Its attachment's, if it has one, whatever becomes of that;
    /// else the one that its source turns to.
    #[inline]
    pub(crate) fn next_of<S: Source>(&self, queue: &mut Queue<S>, books: &Books) -> Option<VolumeIndex> {
        queue.settings.volume.or_else(|| {
            let settings = &queue.settings;
            queue.source.turn_to(|index| {
                let volume = self.of(settings, index);
                !volume.is_held() && books.room_of(index, volume.devices()) > 0
            })
        })
    }
}
