//! What stands below a simulated reactor: the disks of its node, and its ends of the connections.

use super::network::{Network, SimConnection};
use crate::array::Array;
use crate::finding::{Findings, Invariant};
use crate::pool::after;
use crate::rng::Rng;
use palisade_block::{DeviceLimits, Devices, Fault, Io, Lease, Nanos, Segment, Started};
use palisade_forward::{FrameBody, FrameLinks, LinkEnd, LinkEvent, LinkPlace, OutFrame};
use palisade_sys::counting_allocator::uncounted;
use palisade_wire::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, HELLO_BYTES, payload_checksum};
use palisade_words::{DeviceIndex, MemoryId, PinnedId, SlotIndex};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;

/// A node's reactors are one: number 0 of its array.
pub(super) const REACTOR: u16 = 0;

/// A frame that is just coming.
#[derive(Debug)]
struct Arriving {
    header: FrameHeader,
    payload: Vec<u8>,
    arrives: (Nanos, Nanos),
    landing: Option<(MemoryId, Vec<Segment>)>,
    landed: Result<(), Fault>,
    written: usize,
}

/// A frame that is just going.
#[derive(Debug)]
struct Going {
    frame: OutFrame,
    payload: Vec<u8>,
    done: Nanos,
}

/// One end of a connection.
#[derive(Debug)]
struct Line {
    wire: usize,
    end: usize,
    urgent: VecDeque<OutFrame>,
    others: VecDeque<OutFrame>,
    going: Option<Going>,
    arriving: Option<Arriving>,
    is_broken: bool,
    closes: Option<Nanos>,
}

/// The hands of one reactor.
#[derive(Debug)]
pub(super) struct Hands {
    array: Rc<RefCell<Array>>,
    network: Rc<RefCell<Network>>,
    findings: Findings,
    rng: Rng,
    lines: BTreeMap<LinkPlace, Line>,
    taken: Vec<u64>,
    kept: Vec<(MemoryId, Lease)>,
    /// Memory that its guest's monitor has taken away.
    gone: Rc<RefCell<Vec<Lease>>>,
    now: Nanos,
}

impl Hands {
    pub(super) fn new(
        array: &Rc<RefCell<Array>>,
        network: &Rc<RefCell<Network>>,
        gone: &Rc<RefCell<Vec<Lease>>>,
        findings: &Findings,
        rng: Rng,
    ) -> Hands {
        Hands {
            array: Rc::clone(array),
            network: Rc::clone(network),
            findings: findings.clone(),
            rng,
            lines: BTreeMap::new(),
            taken: Vec::new(),
            kept: Vec::new(),
            gone: Rc::clone(gone),
            now: Nanos(0),
        }
    }

    /// The process ends: all connections are closed with it.
    pub(super) fn drop_all(mut self, now: Nanos) {
        let mut network = self.network.borrow_mut();
        for line in self.lines.values() {
            network.wires[line.wire].let_go(line.end, now, &mut self.rng);
        }
    }

    /// Whether the connections have something to tell by now, which wakes a reactor.
    pub(super) fn is_ready(&self, now: Nanos) -> bool {
        let network = self.network.borrow();
        self.lines.values().any(|line| {
            let wire = &network.wires[line.wire];
            if let Some(closes) = line.closes {
                return closes <= now;
            }
            let frame = wire.to[line.end].frames.front();
            let breaks = wire.breaks[line.end].is_some_and(|at| at <= now) && !line.is_broken;
            let comes = match &line.arriving {
                Some(arriving) => arriving.arrives.1 <= now,
                None => !line.is_broken && frame.is_some_and(|frame| frame.arrives.0 <= now),
            };
            let goes = line.going.as_ref().is_some_and(|going| going.done <= now);
            breaks || comes || goes
        })
    }

    fn find(&self, what: String) {
        self.findings.add(Invariant::DataPath, self.now, what);
    }

    fn is_gone(&self, memory: MemoryId) -> bool {
        let kept = self.kept.iter().find(|(id, _)| *id == memory);
        kept.is_some_and(|(_, lease)| self.gone.borrow().iter().any(|gone| gone.is(lease)))
    }

    fn read_memory(&self, memory: MemoryId, segments: &[Segment], bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        let array = self.array.borrow();
        if let Err(segment) = array.memories.gather(REACTOR, memory, segments, &mut data) {
            drop(array);
            let what = format!("{segment:?} is read outside {memory:?}");
            self.findings.add(Invariant::ForeignBytes, self.now, what);
        }
        data
    }

    fn write_memory(&self, memory: MemoryId, segments: &[Segment], data: &[u8]) {
        let array = self.array.borrow();
        if let Err(segment) = array.memories.scatter(REACTOR, memory, data, segments) {
            drop(array);
            let what = format!("{segment:?} is written outside {memory:?}");
            self.findings.add(Invariant::ForeignBytes, self.now, what);
        }
    }

    /// As much of a payload as has come by now goes to where it is to go.
    fn write_part(&self, arriving: &mut Arriving) {
        let (first, last) = arriving.arrives;
        let whole = arriving.payload.len();
        let here = if self.now >= last {
            whole
        } else {
            let passed = self.now.since(first).0 as usize;
            (whole * passed / (last.since(first).0 as usize).max(1)).min(whole)
        };
        let before = arriving.written;
        arriving.written = here.max(before);
        let Some((memory, segments)) = &arriving.landing else {
            return;
        };
        if before >= here || arriving.landed.is_err() {
            return;
        }
        if self.is_gone(*memory) {
            arriving.landed = Err(Fault::GuestMemory);
            return;
        }
        let rest = after(segments, before);
        self.write_memory(*memory, &rest, &arriving.payload[before..here]);
    }

    /// What happens next on a line.
    fn next_of(&mut self, place: LinkPlace, line: &mut Line) -> Option<LinkEvent> {
        let now = self.now;
        if let Some(arriving) = &mut line.arriving {
            self.write_part(arriving);
        }
        if let Some(closes) = line.closes {
            return (closes <= now).then_some(LinkEvent::Closed { link: place });
        }
        if let Some(going) = line.going.take_if(|going| going.done <= now) {
            return self.sent(place, line, going);
        }
        if line.is_broken {
            return None;
        }
        let broken = |line: &mut Line, end| {
            line.is_broken = true;
            Some(LinkEvent::Broken { link: place, end })
        };
        let network = Rc::clone(&self.network);
        let mut network = network.borrow_mut();
        let wire = &mut network.wires[line.wire];
        if wire.breaks[line.end].is_some_and(|at| at <= now) {
            let end = match wire.is_held[1 - line.end] {
                true => LinkEnd::Failed { errno: 104 },
                false => LinkEnd::Closed,
            };
            return broken(line, end);
        }
        if let Some(arriving) = &line.arriving {
            if arriving.arrives.1 > now {
                return None;
            }
            let arriving = line.arriving.take()?;
            return match self.come(place, &arriving) {
                Ok(event) => Some(event),
                Err(end) => broken(line, end),
            };
        }
        let frames = &mut wire.to[line.end].frames;
        let frame = frames.pop_front_if(|frame| frame.arrives.0 <= now)?;
        let header = match FrameHeader::decode(&frame.header) {
            Ok(header) => header,
            Err(error) => return broken(line, LinkEnd::NoFrame(error)),
        };
        line.arriving = Some(Arriving {
            header,
            payload: frame.payload,
            arrives: frame.arrives,
            landing: None,
            landed: Ok(()),
            written: 0,
        });
        match is_greeting(header.kind) {
            true => Some(LinkEvent::Heard { link: place }),
            false => Some(LinkEvent::Header { link: place, header }),
        }
    }

    fn come(&self, link: LinkPlace, arriving: &Arriving) -> Result<LinkEvent, LinkEnd> {
        let (header, payload) = (arriving.header, &arriving.payload);
        let computed = payload_checksum([payload.as_slice()]);
        if !payload.is_empty() && header.payload_crc != Some(computed) {
            return Err(LinkEnd::BadPayload {
                bytes: header.payload_bytes,
                stored: header.payload_crc.unwrap_or_default(),
                computed,
            });
        }
        if !is_greeting(header.kind) {
            let landed = arriving.landed;
            return Ok(LinkEvent::Arrived { link, header, landed });
        }
        let mut body = [0; HELLO_BYTES];
        for (room, byte) in body.iter_mut().zip(payload) {
            *room = *byte;
        }
        Ok(LinkEvent::Greeting { link, header, body })
    }

    fn sent(&self, link: LinkPlace, line: &Line, going: Going) -> Option<LinkEvent> {
        let Going { frame, payload, .. } = going;
        if self.payload_of(&frame) != payload {
            self.find(format!("{:?} has changed while it was sent", frame.header));
        }
        let header = FrameHeader {
            payload_crc: Some(payload_checksum([payload.as_slice()])),
            ..frame.header
        };
        let bytes = (FRAME_HEADER_BYTES + payload.len()) as u64;
        let wire = &mut self.network.borrow_mut().wires[line.wire];
        wire.carry(1 - line.end, header.encode(), payload, self.now);
        Some(LinkEvent::Sent {
            link,
            bytes,
            payload: frame.payload,
        })
    }

    fn payload_of(&self, frame: &OutFrame) -> Vec<u8> {
        let bytes = frame.header.payload_bytes as usize;
        match frame.body {
            FrameBody::Nothing => Vec::new(),
            FrameBody::Greeting(body) => body[..bytes].to_vec(),
            FrameBody::Memory { memory, segment } => self.read_memory(memory, &[segment], bytes),
        }
    }

    /// The next frame of each line goes out.
    fn transmit(&mut self) {
        let now = self.now;
        let mut lines = std::mem::take(&mut self.lines);
        for line in lines.values_mut() {
            if line.closes.is_some() || line.is_broken || line.going.is_some() {
                continue;
            }
            let Some(frame) = line.urgent.pop_front().or_else(|| line.others.pop_front()) else {
                continue;
            };
            let payload = self.payload_of(&frame);
            if payload.len() != frame.header.payload_bytes as usize {
                self.find(format!("{:?} has {} bytes", frame.header, payload.len()));
            }
            let pace = self.network.borrow().wires[line.wire].nanos_per_byte;
            let done = now.after(Nanos(pace * (FRAME_HEADER_BYTES + payload.len()) as u64));
            line.going = Some(Going { frame, payload, done });
        }
        self.lines = lines;
    }
}

fn is_greeting(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Hello | FrameKind::Welcome | FrameKind::Refused)
}

// What happens here stands in for the kernel's work: it may allocate.
impl FrameLinks for Hands {
    type Connection = SimConnection;

    fn attach(&mut self, link: LinkPlace, connection: SimConnection) -> io::Result<()> {
        let line = Line {
            wire: connection.wire,
            end: connection.end,
            urgent: VecDeque::new(),
            others: VecDeque::new(),
            going: None,
            arriving: None,
            is_broken: false,
            closes: None,
        };
        if self.rng.one_in(60) {
            let mut network = self.network.borrow_mut();
            network.wires[line.wire].let_go(line.end, self.now, &mut self.rng);
            return Err(io::Error::from_raw_os_error(24));
        }
        if self.lines.insert(link, line).is_some() {
            self.find(format!("two connections are attached in {link:?}"));
        }
        Ok(())
    }

    fn send(&mut self, link: LinkPlace, frame: OutFrame) {
        uncounted(|| match self.lines.get_mut(&link) {
            Some(line) if line.closes.is_some() || line.is_broken => {}
            Some(line) if frame.is_urgent => line.urgent.push_back(frame),
            Some(line) => line.others.push_back(frame),
            None => self.find(format!("{:?} goes to {link:?}, where nothing is", frame.header)),
        });
    }

    fn next_event(&mut self) -> Option<LinkEvent> {
        uncounted(|| {
            let places: Vec<LinkPlace> = self.lines.keys().copied().collect();
            for place in places {
                let Some(mut line) = self.lines.remove(&place) else {
                    continue;
                };
                let event = self.next_of(place, &mut line);
                if let Some(LinkEvent::Closed { .. }) = event {
                    let mut network = self.network.borrow_mut();
                    network.wires[line.wire].let_go(line.end, self.now, &mut self.rng);
                } else {
                    self.lines.insert(place, line);
                }
                if event.is_some() {
                    return event;
                }
            }
            None
        })
    }

    fn land(&mut self, link: LinkPlace, memory: MemoryId, segments: &[Segment]) {
        uncounted(|| {
            let room: usize = segments.iter().map(|segment| segment.bytes()).sum();
            match self.lines.get_mut(&link).and_then(|line| line.arriving.as_mut()) {
                Some(arriving) if room >= arriving.payload.len() && arriving.written == 0 => {
                    arriving.landing = Some((memory, segments.to_vec()));
                }
                Some(arriving) => {
                    let header = arriving.header;
                    self.find(format!("{header:?} is to land in {room} bytes, or late"));
                }
                None => self.find(format!("what comes by {link:?} is to land, and nothing comes")),
            }
        });
    }

    fn divert(&mut self, link: LinkPlace) {
        uncounted(|| {
            if let Some(arriving) = self.lines.get_mut(&link).and_then(|line| line.arriving.as_mut()) {
                arriving.landing = None;
            }
        });
    }

    fn close_link(&mut self, link: LinkPlace) {
        let closes = self.now.after(Nanos::from_micros(self.rng.below(500)));
        if let Some(line) = self.lines.get_mut(&link)
            && line.closes.is_none()
        {
            line.closes = Some(closes);
            line.urgent.clear();
            line.others.clear();
        }
    }

    fn copy(&mut self, from: (MemoryId, &[Segment]), to: (MemoryId, Segment)) -> Result<(), Fault> {
        uncounted(|| {
            if self.is_gone(from.0) {
                return Err(Fault::GuestMemory);
            }
            let data = self.read_memory(from.0, from.1, to.1.bytes());
            self.write_memory(to.0, &[to.1], &data);
            Ok(())
        })
    }
}

impl Devices for Hands {
    type Opened = ();
    type Pinned = ();
    type Kick = ();
    type Order = Infallible;
    type Report = Infallible;

    fn open(&mut self, _: DeviceIndex, (): ()) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self, _: DeviceIndex) {}

    fn grow(&mut self, _: DeviceIndex) {}

    fn pin(&mut self, _: PinnedId, (): ()) {}

    fn unpin(&mut self, _: PinnedId) -> Option<()> {
        None
    }

    fn order(&mut self, order: Infallible) {
        match order {}
    }

    fn next_report(&mut self) -> Option<Infallible> {
        None
    }

    fn keep(&mut self, lease: &Lease) -> MemoryId {
        let memory = self.array.borrow_mut().keep(REACTOR, lease);
        self.kept.push((memory, lease.clone()));
        memory
    }

    fn keep_pool(&mut self, lease: &Lease) {
        self.array.borrow_mut().keep_pool(REACTOR, lease);
    }

    fn let_go(&mut self, memory: MemoryId) {
        uncounted(|| {
            self.array.borrow_mut().let_go(REACTOR, memory);
            if let Some(at) = self.kept.iter().position(|(id, _)| *id == memory) {
                self.kept.swap_remove(at);
            }
            let is_kept = self.kept.iter().any(|(id, _)| *id == memory);
            let lands = |line: &Line| {
                let landing = line
                    .arriving
                    .as_ref()
                    .and_then(|arriving| arriving.landing.as_ref());
                landing.is_some_and(|(into, _)| *into == memory)
            };
            if !is_kept && self.lines.values().any(lands) {
                self.find(format!(
                    "{memory:?} is let go of with a payload on its way into it"
                ));
            }
        });
    }

    fn begin_turn(&mut self, now: Nanos) {
        self.now = now;
    }

    fn start(&mut self, io: Io<'_>) -> Started {
        uncounted(|| {
            if io.op.moves_data() && self.is_gone(io.memory) {
                return Started::Done(Err(Fault::GuestMemory));
            }
            let (started, id) = self.array.borrow_mut().start(REACTOR, &io);
            self.taken.extend(id);
            started
        })
    }

    fn submit(&mut self) {
        uncounted(|| {
            let mut array = self.array.borrow_mut();
            self.taken.drain(..).for_each(|id| array.submit(id));
            drop(array);
            self.transmit();
        });
    }

    fn reap(&mut self, mut done: impl FnMut(SlotIndex, Result<(), Fault>)) -> usize {
        let batch = uncounted(|| self.array.borrow_mut().reap(REACTOR));
        let count = batch.len();
        for (slot, result) in &batch {
            done(*slot, *result);
        }
        uncounted(|| drop(batch));
        count
    }

    fn cancel(&mut self, slot: SlotIndex) {
        uncounted(|| self.array.borrow_mut().cancel(REACTOR, slot));
    }

    fn limits(&self, device: DeviceIndex) -> Option<DeviceLimits> {
        let array = self.array.borrow();
        let disk = array.disks.get(device.usize())?;
        (!disk.gone).then_some(disk.limits)
    }
}
