//! A whole turn of a reactor with the real hands: the engine, virtqueues, a null device and an idle io_uring.

use crate::guest::Guest;
use palisade_block::mailbox::{AttachmentSettings, Pace, ReactorChange, ReactorCommand};
use palisade_block::{MappingId, Nanos, Route, Run};
use palisade_engine::{Reactor, ReactorConfig};
use palisade_sys::device::{DeviceMedium, DeviceSpec};
use palisade_sys::{HugePool, LocalDevices, LocalSettings, MonotonicClock, Opened};
use palisade_virtio::BlkQueue;
use palisade_virtio::driver::repeated::Silent;
use palisade_words::{
    AttachmentIndex, DeviceIndex, Epoch, Generation, Lba, QueueId, Sectors, Uuid, VolumeIndex,
};
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const DEVICE: DeviceIndex = DeviceIndex(0);
const DEVICE_BYTES: u64 = 1 << 30;
/// The clock moves on by this much with each turn. It is not asked: that costs what the machine's clock costs.
const TURN: Nanos = Nanos(500);

/// A reactor and its time.
pub struct WholeTurn {
    reactor: Reactor<BlkQueue<Silent>, LocalDevices, HugePool>,
    now: Nanos,
}

impl WholeTurn {
    /// A reactor that serves the guest's busy ring, and as many idle ones of other attachments with volumes of their
    /// own.
    pub fn new(queue: BlkQueue<Silent>, guest: &mut Guest, idle: u16) -> Result<WholeTurn, Box<dyn Error>> {
        let config = ReactorConfig::default();
        let slots = config.slots + config.parts;
        let devices = LocalDevices::new(LocalSettings {
            slots,
            in_flight_max: slots,
            ..LocalSettings::default()
        })?;
        let spec = DeviceSpec {
            medium: DeviceMedium::Null { bytes: DEVICE_BYTES },
            block_bytes: 512,
            read_only: false,
        };
        let opened = Arc::new(Opened::open(&spec, Duration::ZERO)?);
        let mut reactor = Reactor::new(config, devices, HugePool::new(4)?, Arc::default());
        reactor.bound_turns(Box::new(MonotonicClock::new()));
        reactor.apply(ReactorCommand::AddDevice {
            device: DEVICE,
            opened,
            stats: Arc::default(),
            deadline: Nanos::from_secs(30),
        });
        add(&mut reactor, 0, queue)?;
        for number in 1..=idle {
            add(&mut reactor, number, guest.idle_queue()?)?;
        }
        while reactor.next_notice().is_some() {}
        Ok(WholeTurn {
            reactor,
            now: Nanos(0),
        })
    }

    /// One turn. `cargo xtask budget` counts the instructions of functions of this name.
    #[inline(never)]
    pub fn measured_turn(&mut self) {
        self.now = self.now.after(TURN);
        // What comes back is looked at, so that the call stays a call and its end is seen.
        black_box(self.reactor.turn(self.now));
    }
}

/// Adds one attachment with one queue and a volume that is the whole device.
fn add(
    reactor: &mut Reactor<BlkQueue<Silent>, LocalDevices, HugePool>,
    number: u16,
    queue: BlkQueue<Silent>,
) -> Result<(), Box<dyn Error>> {
    let run = Run {
        volume: Lba(0),
        sectors: Sectors::from_bytes(DEVICE_BYTES),
        device: DEVICE,
        lba: Lba(0),
    };
    reactor.apply(ReactorChange::Resume {
        volume: VolumeIndex(number),
        route: Route::new(MappingId::new(Uuid(1), Generation(1), Epoch(1)), vec![run])?,
    });
    reactor.apply(ReactorCommand::AddQueue {
        kick: None,
        queue: QueueId {
            attachment: AttachmentIndex(number),
            queue: 0,
        },
        settings: AttachmentSettings {
            volume: Some(VolumeIndex(number)),
            revoked: false,
            read_only: false,
            write_through: false,
            pace: Pace::default(),
            stats: Arc::default(),
        },
        source: queue,
    });
    Ok(())
}
