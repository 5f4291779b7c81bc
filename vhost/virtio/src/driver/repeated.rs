//! A ring that is written once and offered again and again by moving its available index: a guest that costs next to
//! nothing, for whoever measures the other side.

use super::{BlkHeader, Buffer, DriverOptions, DriverQueue};
use crate::{BlkQueue, Features, Notify, QueueSetup, SetupError};
use palisade_memory::{GuestMemory, InflightQueue};
use std::sync::Arc;

/// Nobody to notify: the guest polls.
#[derive(Debug)]
pub struct Silent;

impl Notify for Silent {
    fn notify(&mut self) {}
}

/// A guest's side of such a ring.
#[derive(Debug)]
pub struct RepeatedRing {
    memory: Arc<GuestMemory>,
    driver: DriverQueue,
    heads: Vec<u16>,
    avail_idx_at: u64,
    used_idx_at: u64,
    avail_idx: u16,
}

impl RepeatedRing {
    /// Makes a ring in zeroed guest memory at `at` and writes requests into it, none of them offered yet. Fewer requests
    /// than entries come round several times in a lap; without any it is a ring on which nothing is to be offered. `None`
    /// when the ring or the requests have no room.
    pub fn new(
        memory: Arc<GuestMemory>,
        at: u64,
        options: DriverOptions,
        requests: impl IntoIterator<Item = (BlkHeader, Buffer)>,
    ) -> Option<RepeatedRing> {
        let mut driver = DriverQueue::new(Arc::clone(&memory), at, options)?;
        let heads = requests
            .into_iter()
            .map(|(header, buffer)| driver.submit(header, &[buffer]));
        let heads: Vec<u16> = heads.collect::<Option<_>>()?;
        let ring = driver.addresses();
        for (position, &head) in (0..u64::from(options.size)).zip(heads.iter().cycle()) {
            memory.store_u16(ring.avail + 4 + 2 * position, head);
        }
        driver.disable_notifications();
        Some(RepeatedRing {
            memory,
            driver,
            heads,
            avail_idx_at: ring.avail + 2,
            used_idx_at: ring.used + 2,
            avail_idx: 0,
        })
    }

    /// The other end, for whoever is measured: all features, a writable volume of 512-byte blocks, no migration.
    pub fn serve(&self, inflight: Option<InflightQueue>) -> Result<BlkQueue<Silent>, SetupError> {
        let options = self.driver.options();
        let mut features = Features::VERSION_1 | Features::INDIRECT_DESC | Features::FLUSH;
        if options.event_idx {
            features = features | Features::EVENT_IDX;
        }
        let setup = QueueSetup {
            memory: Arc::clone(&self.memory),
            size: options.size,
            ring: self.driver.addresses(),
            base: 0,
            features,
            inflight,
            serial: [0; 20],
            writable: true,
            block_bytes: 512,
            dirty_log: None,
            log_used_at: None,
            stats: Arc::default(),
        };
        BlkQueue::new(setup, Silent)
    }

    /// Offers the next entries, as many as this.
    #[inline]
    pub fn offer(&mut self, entries: u16) {
        self.avail_idx = self.avail_idx.wrapping_add(entries);
        self.memory.store_u16(self.avail_idx_at, self.avail_idx);
    }

    /// Whether everything offered has been answered, well or not.
    pub fn all_answered(&self) -> bool {
        self.memory.load_u16(self.used_idx_at) == Some(self.avail_idx)
    }

    /// Whether every request of the ring has a good status, from whichever lap.
    pub fn all_well(&self) -> bool {
        self.heads.iter().all(|&head| self.driver.status(head) == 0)
    }

    /// The ring itself.
    pub fn driver(&self) -> &DriverQueue {
        &self.driver
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blk::kind;
    use palisade_block::{Answer, Pulled, SegmentList, Source, Status};

    const MEMORY_BYTES: u64 = 1 << 20;

    fn ring(requests: u64) -> RepeatedRing {
        let memory = GuestMemory::anonymous(&[(0, MEMORY_BYTES)]).unwrap();
        let options = DriverOptions {
            size: 16,
            event_idx: true,
            indirect: true,
        };
        let request = |number| {
            let header = BlkHeader {
                kind: kind::IN,
                sector: number,
            };
            let buffer = Buffer {
                address: MEMORY_BYTES / 2 + 512 * number,
                bytes: 512,
                write: true,
            };
            (header, buffer)
        };
        RepeatedRing::new(memory, 0, options, (0..requests).map(request)).unwrap()
    }

    /// Answers what there is; the sectors that were asked for.
    fn answer(queue: &mut BlkQueue<Silent>, status: Status) -> Vec<u64> {
        let (mut list, mut sectors) = (SegmentList::default(), Vec::new());
        while let Pulled::Request(request) = queue.pull(&mut list) {
            sectors.push(request.lba.0);
            queue.finish(Answer {
                token: request.token,
                status,
                fault: None,
                dirtied: &[],
            });
        }
        queue.publish();
        sectors
    }

    #[test]
    fn requests_come_round_and_answers_are_seen() {
        let mut ring = ring(6);
        let mut queue = ring.serve(None).unwrap();
        assert!(ring.all_answered() && !ring.all_well());
        ring.offer(4);
        assert!(!ring.all_answered());
        assert_eq!(answer(&mut queue, Status::Ok), [0, 1, 2, 3]);
        assert!(
            ring.all_answered() && !ring.all_well(),
            "two were not offered yet"
        );
        ring.offer(4);
        assert_eq!(answer(&mut queue, Status::Ok), [4, 5, 0, 1]);
        assert!(ring.all_answered() && ring.all_well());
        // Often enough for the index to come round.
        for _ in 0..70_000 / 16 {
            ring.offer(16);
            assert_eq!(answer(&mut queue, Status::Ok).len(), 16);
        }
        ring.offer(1);
        answer(&mut queue, Status::IoErr);
        assert!(ring.all_answered() && !ring.all_well());
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let memory = GuestMemory::anonymous(&[(0, MEMORY_BYTES)]).unwrap();
        let options = DriverOptions {
            size: 4,
            event_idx: true,
            indirect: false,
        };
        let request = (
            BlkHeader {
                kind: kind::IN,
                sector: 0,
            },
            Buffer {
                address: MEMORY_BYTES / 2,
                bytes: 512,
                write: true,
            },
        );
        let make = |at, count| RepeatedRing::new(Arc::clone(&memory), at, options, vec![request; count]);
        assert!(make(0, 1).is_some());
        assert!(make(0, 2).is_none(), "a direct request takes three descriptors");
        assert!(make(MEMORY_BYTES, 0).is_none());
    }
}
