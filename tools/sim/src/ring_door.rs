//! Real rings in guest memory: the driver's half here, the device's half in the very code of the daemon.

use crate::door::{Answered, Asked, Door, RequestKind};
use crate::finding::{Findings, Invariant};
use crate::source::AnySource;
use palisade_block::{Nanos, Op};
use palisade_memory::{GuestMemory, InflightRegion};
use palisade_virtio::blk::{RANGE_UNMAP, SERIAL_BYTES, kind};
use palisade_virtio::driver::{BlkHeader, Buffer, DriverOptions, DriverQueue, Range};
use palisade_virtio::{BlkQueue, Features, Notify, QueueSetup, QueueStats};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// A queue of the daemon's own kind.
pub type RingSource = BlkQueue<Bell>;

/// The interrupt of a simulated guest.
#[derive(Clone, Debug, Default)]
pub struct Bell(Rc<Cell<bool>>);

impl Notify for Bell {
    fn notify(&mut self) {
        self.0.set(true);
    }
}

/// What the device side of a ring is made from, again after every restart.
#[derive(Clone, Debug)]
pub struct RingPlan {
    /// How the driver uses the ring.
    pub options: DriverOptions,
    /// Where it lies in guest memory.
    pub at: u64,
    /// Its number inside the guest.
    pub queue: u16,
    /// The region that survives the daemon, shared by all queues of the guest.
    pub inflight: InflightRegion,
    /// Whether the volume may be written.
    pub writable: bool,
    /// The volume's logical block in bytes.
    pub block_bytes: u32,
    /// The guest looks only when it has been notified.
    pub interrupts: bool,
    /// A deliberate fault: the record of what is in flight is not there after a restart.
    pub forget_inflight: bool,
}

/// The guest's half of a ring.
pub struct RingDoor {
    plan: RingPlan,
    driver: DriverQueue,
    memory: Arc<GuestMemory>,
    bell: Bell,
    findings: Findings,
    /// Bytes that a good answer to each head writes, and the operation.
    written: BTreeMap<u16, u32>,
    stats: Arc<QueueStats>,
}

impl RingDoor {
    /// An empty ring; `None` when it does not fit the memory.
    pub fn new(memory: Arc<GuestMemory>, plan: RingPlan, findings: Findings) -> Option<RingDoor> {
        let mut driver = DriverQueue::new(Arc::clone(&memory), plan.at, plan.options)?;
        if plan.interrupts {
            driver.enable_notifications();
        } else {
            driver.disable_notifications();
        }
        Some(RingDoor {
            plan,
            driver,
            memory,
            bell: Bell::default(),
            findings,
            written: BTreeMap::new(),
            stats: Arc::default(),
        })
    }

    fn take_all(&mut self, found: &mut Vec<Answered>) {
        while let Some(used) = self.driver.poll_used() {
            let status = self.driver.status(used.head);
            let written = self.written.remove(&used.head);
            if !used.expected {
                let what = format!("used entry for head {}, which was not in flight", used.head);
                self.findings.add(Invariant::OneAnswer, Nanos(0), what);
                continue;
            }
            if status == 0 && written.is_some_and(|written| written + 1 != used.bytes) {
                let what = format!(
                    "head {}: {} bytes written, expected {written:?} and one",
                    used.head, used.bytes
                );
                self.findings.add(Invariant::OneAnswer, Nanos(0), what);
            }
            found.push(Answered {
                key: used.head,
                status,
            });
        }
    }
}

impl Door for RingDoor {
    fn ask(&mut self, asked: &Asked) -> Option<u16> {
        let write = matches!(asked.kind, RequestKind::GetId | RequestKind::Block(Op::Read));
        let buffers: Vec<Buffer> = asked
            .data
            .iter()
            .map(|&(address, bytes)| Buffer {
                address,
                bytes,
                write,
            })
            .collect();
        let header = |kind| BlkHeader {
            kind,
            sector: asked.lba,
        };
        let range = |flags| Range {
            sector: asked.lba,
            sectors: asked.sectors as u32,
            flags,
        };
        let head = match asked.kind {
            RequestKind::GetId => self.driver.submit(header(kind::GET_ID), &buffers),
            RequestKind::Block(Op::Read) => self.driver.submit(header(kind::IN), &buffers),
            RequestKind::Block(Op::Write) => self.driver.submit(header(kind::OUT), &buffers),
            RequestKind::Block(Op::Flush) => self.driver.submit(
                BlkHeader {
                    kind: kind::FLUSH,
                    sector: 0,
                },
                &[],
            ),
            RequestKind::Block(Op::Discard) => self.driver.submit_range(kind::DISCARD, range(0)),
            RequestKind::Block(Op::WriteZeroes { unmap }) => self
                .driver
                .submit_range(kind::WRITE_ZEROES, range(if unmap { RANGE_UNMAP } else { 0 })),
        }?;
        let bytes = if write {
            asked.data.iter().map(|(_, bytes)| bytes).sum()
        } else {
            0
        };
        self.written.insert(head, bytes);
        Some(head)
    }

    fn show(&mut self) -> bool {
        self.driver.publish()
    }

    fn answers(&mut self, found: &mut Vec<Answered>) {
        if !self.plan.interrupts {
            return self.take_all(found);
        }
        if !self.bell.0.take() {
            return;
        }
        loop {
            self.driver.disable_notifications();
            self.take_all(found);
            if !self.driver.enable_notifications() {
                return;
            }
        }
    }

    fn source(&mut self) -> AnySource {
        let inflight = (!self.plan.forget_inflight)
            .then(|| self.plan.inflight.queue(self.plan.queue))
            .flatten();
        let mut features = Features::VERSION_1 | Features::FLUSH | Features::DISCARD | Features::WRITE_ZEROES;
        if self.plan.options.indirect {
            features = features | Features::INDIRECT_DESC;
        }
        if self.plan.options.event_idx {
            features = features | Features::EVENT_IDX;
        }
        let used_idx = self
            .memory
            .load_u16(self.driver.addresses().used + 2)
            .unwrap_or(0);
        let setup = QueueSetup {
            memory: Arc::clone(&self.memory),
            size: self.plan.options.size,
            ring: self.driver.addresses(),
            base: used_idx,
            features,
            inflight,
            serial: [b's'; SERIAL_BYTES],
            writable: self.plan.writable,
            block_bytes: self.plan.block_bytes,
            dirty_log: None,
            log_used_at: None,
            stats: Arc::clone(&self.stats),
        };
        match BlkQueue::new(setup, self.bell.clone()) {
            Ok(queue) => AnySource::Ring(Box::new(queue)),
            Err(error) => {
                self.findings.add(
                    Invariant::DataPath,
                    Nanos(0),
                    format!("a good ring was refused: {error}"),
                );
                AnySource::None(self.memory.lease().clone())
            }
        }
    }
}
