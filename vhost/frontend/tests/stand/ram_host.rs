//! A host that serves each queue on a thread of its own, from a vector. It also checks the door's side of the
//! contract: no queue is started twice, the memory never changes under a running queue.

use palisade_block::{Answer, LongList, Op, Pulled, Request, SegmentList, Source, Status};
use palisade_frontend::{CallNotify, DoorHandle, Host};
use palisade_memory::{GuestMemory, MemoryView};
use palisade_sys::PeerEvent;
use palisade_virtio::BlkQueue;
use palisade_words::{AttachmentIndex, QueueId, SECTOR_BYTES};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What has happened, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Connected,
    Memory(usize),
    WriteThrough(bool),
    WriteCache(bool),
    Started(u16),
    Stopping(u16),
    Disconnected(String),
    Stuck(String),
    Recovered,
    GivenUp,
    Detached,
}

/// What the tests see of the host.
#[derive(Clone, Default)]
pub struct Seen {
    pub disk: Arc<Mutex<Vec<u8>>>,
    events: Arc<Mutex<Vec<(u16, Event)>>>,
    /// While set, requests that were taken are not answered.
    pub hold: Arc<AtomicBool>,
    /// While set, a guest that switches its write cache hangs its attachment's thread.
    pub hang: Arc<AtomicBool>,
}

impl Seen {
    pub fn new() -> Seen {
        let seen = Seen::default();
        *seen.disk.lock().unwrap() = vec![0; (super::DISK_SECTORS * SECTOR_BYTES) as usize];
        seen
    }

    pub fn events(&self, attachment: u16) -> Vec<Event> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter(|(index, _)| *index == attachment)
            .map(|(_, event)| event.clone())
            .collect()
    }

    pub fn count(&self, attachment: u16, matches: impl Fn(&Event) -> bool) -> usize {
        self.events(attachment)
            .iter()
            .filter(|event| matches(event))
            .count()
    }
}

pub struct RamHost {
    door: DoorHandle,
    seen: Seen,
    memory: Mutex<BTreeMap<AttachmentIndex, Arc<GuestMemory>>>,
    running: Mutex<BTreeMap<QueueId, Arc<AtomicBool>>>,
}

impl RamHost {
    pub fn new(door: DoorHandle, seen: Seen) -> RamHost {
        RamHost {
            door,
            seen,
            memory: Mutex::default(),
            running: Mutex::default(),
        }
    }

    fn runs(&self, attachment: AttachmentIndex) -> bool {
        let running = self.running.lock().unwrap();
        running.keys().any(|queue| queue.attachment == attachment)
    }

    fn note(&self, attachment: AttachmentIndex, event: Event) {
        self.seen.events.lock().unwrap().push((attachment.0, event));
    }
}

impl Host for RamHost {
    fn connected(&self, attachment: AttachmentIndex) {
        self.note(attachment, Event::Connected);
    }

    fn memory(&self, attachment: AttachmentIndex, memory: Option<Arc<GuestMemory>>) {
        assert!(!self.runs(attachment), "memory under a running queue");
        self.note(
            attachment,
            Event::Memory(memory.as_ref().map_or(0, |memory| memory.regions().len())),
        );
        match memory {
            Some(memory) => self.memory.lock().unwrap().insert(attachment, memory),
            None => self.memory.lock().unwrap().remove(&attachment),
        };
    }

    fn write_through(&self, attachment: AttachmentIndex, on: bool) {
        self.note(attachment, Event::WriteThrough(on));
    }

    fn write_cache(&self, attachment: AttachmentIndex, on: bool) {
        self.note(attachment, Event::WriteCache(on));
        // The stand's way to have an attachment's thread hang.
        while self.seen.hang.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn start_queue(&self, queue: QueueId, source: Box<BlkQueue<CallNotify>>, kick: Option<PeerEvent>) {
        self.note(queue.attachment, Event::Started(queue.queue));
        let stop = Arc::new(AtomicBool::new(false));
        assert!(
            self.running
                .lock()
                .unwrap()
                .insert(queue, Arc::clone(&stop))
                .is_none(),
            "started twice"
        );
        let server = Server {
            view: MemoryView::new(Arc::clone(&self.memory.lock().unwrap()[&queue.attachment])),
            disk: Arc::clone(&self.seen.disk),
            hold: Arc::clone(&self.seen.hold),
        };
        let door = self.door.clone();
        std::thread::spawn(move || {
            let source = server.serve(source, &stop);
            drop((server, kick));
            door.queue_stopped(queue, Some(source));
        });
    }

    fn stop_queue(&self, queue: QueueId) {
        self.note(queue.attachment, Event::Stopping(queue.queue));
        self.running
            .lock()
            .unwrap()
            .remove(&queue)
            .expect("a queue that runs")
            .store(true, Ordering::Release);
    }

    fn disconnected(&self, attachment: AttachmentIndex, reason: &str) {
        assert!(!self.runs(attachment));
        assert!(
            !self.memory.lock().unwrap().contains_key(&attachment),
            "memory outlives the session"
        );
        self.note(attachment, Event::Disconnected(reason.to_owned()));
    }

    fn stuck(&self, attachment: AttachmentIndex, reason: &str) {
        self.note(attachment, Event::Stuck(reason.to_owned()));
    }

    fn recovered(&self, attachment: AttachmentIndex) {
        self.note(attachment, Event::Recovered);
    }

    fn given_up(&self, attachment: AttachmentIndex) {
        self.note(attachment, Event::GivenUp);
    }

    fn detached(&self, attachment: AttachmentIndex) {
        self.note(attachment, Event::Detached);
    }
}

/// One queue's thread.
struct Server {
    view: MemoryView,
    disk: Arc<Mutex<Vec<u8>>>,
    hold: Arc<AtomicBool>,
}

impl Server {
    fn serve(&self, mut source: Box<BlkQueue<CallNotify>>, stop: &AtomicBool) -> Box<BlkQueue<CallNotify>> {
        let mut segments = SegmentList::default();
        while !stop.load(Ordering::Acquire) {
            match source.pull(&mut segments) {
                Pulled::Empty | Pulled::Later => std::thread::sleep(Duration::from_micros(50)),
                Pulled::Answered => source.publish(),
                Pulled::NoRoom => segments.lend(LongList::default()),
                Pulled::Request(request) => {
                    while self.hold.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_micros(50));
                    }
                    self.answer(&mut source, request, &segments);
                }
            }
        }
        source
    }

    fn answer(&self, source: &mut BlkQueue<CallNotify>, request: Request, segments: &SegmentList) {
        let mut disk = self.disk.lock().unwrap();
        let from = request.lba.bytes() as usize;
        let to = from + request.sectors.bytes() as usize;
        let status = match disk.get_mut(from..to) {
            Some(mut range) => {
                match request.op {
                    Op::Read | Op::Write => {
                        for segment in segments.as_slice() {
                            let (piece, rest) = range.split_at_mut(segment.bytes());
                            range = rest;
                            assert!(match request.op {
                                Op::Read => self.view.write_host(segment.address(), piece),
                                _ => self.view.read_host(segment.address(), piece),
                            });
                        }
                    }
                    Op::Discard | Op::WriteZeroes { .. } => range.fill(0),
                    Op::Flush => {}
                }
                Status::Ok
            }
            None => Status::IoErr,
        };
        let dirtied = if request.op == Op::Read {
            segments.as_slice()
        } else {
            &[]
        };
        source.finish(Answer {
            token: request.token,
            status,
            fault: None,
            dirtied,
        });
        source.publish();
    }
}
