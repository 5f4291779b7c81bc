//! What tests ask for and are told, in few words.

use super::{Bed, piece};
use palisade_block::mailbox::Notice;
use palisade_block::{MappingId, Route, Run, Segment};
use palisade_words::{AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, Uuid};

/// What has been told of volumes, in short.
pub fn told(bed: &mut Bed) -> Vec<String> {
    let told = bed.notices().into_iter().map(|notice| match notice {
        Notice::Suspended { generation, .. } => format!("suspended {}", generation.0),
        Notice::RouteInUse { generation, .. } => format!("in use {}", generation.0),
        Notice::Cancelled { generation, .. } => format!("cancelled {}", generation.0),
        Notice::VolumeEnded { generation, .. } => format!("ended {}", generation.0),
        Notice::Stale { generation, .. } => format!("stale {}", generation.0),
        other => unreachable!("{other:?}"),
    });
    told.collect()
}

/// The volume of the tests in a configuration and a membership.
pub fn mapping_of(generation: Generation, epoch: Epoch) -> MappingId {
    MappingId::new(Uuid(1), generation, epoch)
}

/// Aligned data of that many sectors; more than 4 MiB use the same memory again.
pub fn data(sectors: u64) -> Vec<Segment> {
    let bytes = (sectors * 512) as usize;
    let lengths = (0..bytes)
        .step_by(4 << 20)
        .map(|done| (bytes - done).min(4 << 20));
    lengths.map(|bytes| piece(0x10_0000, bytes)).collect()
}

/// A queue of an attachment.
pub fn id(attachment: u16, queue: u16) -> QueueId {
    QueueId {
        attachment: AttachmentIndex(attachment),
        queue,
    }
}

/// A route over both devices, 500 sectors each, from a sector of the first on.
pub fn two_runs(generation: u64, first: u64) -> Route {
    let run = |volume, device, lba| Run {
        volume: Lba(volume),
        sectors: Sectors(500),
        device: DeviceIndex(device),
        lba: Lba(lba),
    };
    let runs = vec![run(0, 0, first), run(500, 1, 0)];
    Route::new(mapping_of(Generation(generation), Epoch(1)), runs).expect("runs without a gap")
}
