//! Any bytes and descriptors on a vhost-user socket: every message ends in a reply, in being carried out, or in the
//! end of the session, which leaves nothing open. Queues that start are served from whatever the memory holds.
//!
//! The input is a row of records: one byte of control, one that names the request or an event, one for the payload's
//! length, one for each descriptor, the payload.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_block::{Answer, LongList, Pulled, SegmentList, Source, Status};
use palisade_frontend::codec::{HEADER_BYTES, Message, MessageHeader, request};
use palisade_frontend::features::protocol;
use palisade_frontend::{CallNotify, Offer, Session, SessionAction};
use palisade_fuzz::{Bytes, memfd};
use palisade_virtio::{BlkQueue, VolumeGeometry};
use palisade_words::Sectors;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const GUEST_BYTES: u64 = 0x8000;
const SMALL_BYTES: u64 = 0x5000;

/// The lowest two bits count descriptors.
const FDS: u8 = 3;
const NEED_REPLY: u8 = 1 << 2;
/// A queue that stops was never the engine's.
const NEVER_HAD: u8 = 1 << 3;
/// The front-end goes away while queues stop.
const GOES: u8 = 1 << 4;
/// The header announces something else than follows.
const LIES: u8 = 1 << 5;
/// The header is part of the input.
const RAW: u8 = 1 << 6;
/// No message, but an event.
const EVENT: u8 = 1 << 7;

thread_local! {
    static FILES: Files = Files { guest: memfd(GUEST_BYTES).into(), small: memfd(SMALL_BYTES).into() };
}

fuzz_target!(|data: &[u8]| FILES.with(|files| {
    files
        .guest
        .write_all_at(&[0; GUEST_BYTES as usize], 0)
        .expect("a file in memory");
    files
        .small
        .write_all_at(&[0; SMALL_BYTES as usize], 0)
        .expect("a file in memory");
    let free = lowest_free(&files.guest);
    Walk::new(files).follow(Bytes(data));
    assert_eq!(lowest_free(&files.guest), free, "a descriptor was left open");
}));

/// The number the next descriptor gets: higher than before when one was left open.
fn lowest_free(file: &File) -> i32 {
    file.try_clone().expect("a descriptor is free").as_raw_fd()
}

struct Files {
    guest: File,
    small: File,
}

impl Files {
    fn fd(&self, choice: u8) -> OwnedFd {
        let clone = |file: &File| file.try_clone().expect("a descriptor is free").into();
        match choice & 7 {
            0 | 1 => clone(&self.guest),
            2 | 3 => eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"),
            4 | 5 => clone(&self.small),
            6 => File::open("/dev/null").expect("/dev/null").into(),
            _ => memfd(0),
        }
    }
}

/// A session and the host behind it.
struct Walk<'a> {
    files: &'a Files,
    session: Session,
    running: BTreeMap<u16, Box<BlkQueue<CallNotify>>>,
    stopping: Vec<u16>,
    memory: bool,
    write_through: Option<bool>,
    replies: Vec<u32>,
    closed: bool,
}

impl Walk<'_> {
    fn new(files: &Files) -> Walk<'_> {
        let geometry = VolumeGeometry {
            sectors: Sectors(2048),
            block_bytes: 512,
            physical_block_bytes: 4096,
            optimal_io_bytes: 0,
            read_only: false,
            queues: 2,
            discard: true,
            discard_alignment_bytes: 0,
            write_zeroes: true,
            writeback: true,
        };
        let offer = Offer {
            interrupts: std::sync::Arc::default(),
            geometry,
            queue_size: 256,
            volume: 7,
            serial: [0; 20],
            write_cache: true,
            stats: Arc::from([Arc::default(), Arc::default()]),
            share: palisade_memory::MemoryShare::unlimited(),
        };
        Walk {
            files,
            session: Session::new(offer),
            running: BTreeMap::new(),
            stopping: Vec::new(),
            memory: false,
            write_through: None,
            replies: Vec::new(),
            closed: false,
        }
    }

    fn follow(mut self, mut input: Bytes<'_>) {
        while !input.is_empty() && !self.closed {
            let (control, what, bytes) = (input.u8(), input.u8(), input.u8());
            if control & EVENT != 0 {
                let payload = input.take(bytes.into());
                self.event(what, payload);
            } else {
                self.message(control, what, bytes, &mut input);
            }
        }
        self.act(|session, actions| session.disconnect("the input ends", actions));
        self.drain(0);
        assert!(self.closed && self.session.is_closed() && self.running.is_empty() && !self.memory);
    }

    fn event(&mut self, what: u8, payload: &[u8]) {
        let mut numbers = Bytes(payload);
        match what & 3 {
            0 => self.serve(),
            1 => self.act(|session, actions| session.resize(Sectors(numbers.u64()), actions)),
            2 => {
                let at = u64::from(numbers.u16()).min(GUEST_BYTES - 256);
                self.files
                    .guest
                    .write_all_at(numbers.0, at)
                    .expect("a file in memory");
            }
            _ => {
                let at = u64::from(numbers.u16()).min(SMALL_BYTES - 256);
                self.files
                    .small
                    .write_all_at(numbers.0, at)
                    .expect("a file in memory");
            }
        }
    }

    fn message(&mut self, control: u8, what: u8, bytes: u8, input: &mut Bytes<'_>) {
        let fds: Vec<OwnedFd> = (0..control & FDS).map(|_| self.files.fd(input.u8())).collect();
        let mut header = [0; HEADER_BYTES];
        if control & RAW != 0 {
            let raw = input.take(HEADER_BYTES);
            header[..raw.len()].copy_from_slice(raw);
        } else {
            let flags = 1 | if control & NEED_REPLY == 0 { 0 } else { 8 };
            let size = u32::from(bytes) + if control & LIES == 0 { 0 } else { 3 };
            header[..4].copy_from_slice(&u32::from(what).to_ne_bytes());
            header[4..8].copy_from_slice(&u32::to_ne_bytes(flags));
            header[8..].copy_from_slice(&size.to_ne_bytes());
        }
        let payload = input.take(bytes.into());
        self.replies.clear();
        let (number, need_reply) = match MessageHeader::parse(header) {
            Err(error) => {
                drop(fds);
                assert!(!error.to_string().is_empty());
                self.act(|session, actions| session.on_protocol_error(error, false, actions));
                assert!(self.session.waiting().is_some() || self.closed, "it cannot go on");
                (error.request, false)
            }
            Ok(header) => {
                // The door has read as much as was announced, or is still reading.
                let mut whole = payload.to_vec();
                whole.resize(header.payload_bytes, 0);
                match Message::parse(header, &whole, fds) {
                    Ok(message) => {
                        assert_eq!(message.request(), header.request);
                        self.act(|session, actions| session.on_message(message, header.need_reply, actions));
                    }
                    Err(error) => {
                        let need_reply = header.need_reply;
                        self.act(|session, actions| session.on_protocol_error(error, need_reply, actions));
                    }
                }
                (header.request, header.need_reply)
            }
        };
        if control & GOES != 0 {
            self.act(|session, actions| session.disconnect("gone", actions));
        }
        self.drain(control);
        self.check_replies(number, need_reply);
    }

    /// Stops queues as the engine does, until the session goes on.
    fn drain(&mut self, control: u8) {
        while let Some(index) = self.stopping.pop() {
            let mut queue = self
                .running
                .remove(&index)
                .expect("only a queue that runs is stopped");
            while queue.resubmissions_left() > 0 {
                serve(&mut queue, 1);
            }
            let next = (control & NEVER_HAD == 0).then(|| queue.next_avail());
            drop(queue);
            self.act(|session, actions| session.queue_stopped(index, next, actions));
        }
        assert_eq!(self.session.waiting(), None, "nothing is left to wait for");
    }

    fn check_replies(&self, number: u32, need_reply: bool) {
        assert!(self.replies.iter().all(|reply| *reply == number) && self.replies.len() <= 1);
        let acknowledged = need_reply && self.session.protocol_features() & protocol::REPLY_ACK != 0;
        let asked = matches!(
            number,
            request::GET_FEATURES
                | request::GET_PROTOCOL_FEATURES
                | request::GET_QUEUE_NUM
                | request::GET_VRING_BASE
                | request::GET_CONFIG
                | request::GET_INFLIGHT_FD
                | request::GET_MAX_MEM_SLOTS
        );
        if (acknowledged || asked) && !self.closed {
            assert_eq!(self.replies.len(), 1, "request {number} was not answered");
        }
    }

    fn act(&mut self, step: impl FnOnce(&mut Session, &mut Vec<SessionAction>)) {
        let mut actions = Vec::new();
        step(&mut self.session, &mut actions);
        for action in actions {
            assert!(!self.closed, "{action:?} after the end");
            match action {
                SessionAction::Reply(reply) => {
                    let word = |at: usize| {
                        let four = reply.bytes.get(at..at + 4).expect("a whole header");
                        u32::from_ne_bytes(four.try_into().expect("four bytes"))
                    };
                    assert_eq!((word(4), word(8) as usize), (5, reply.bytes.len() - HEADER_BYTES));
                    self.replies.push(word(0));
                }
                SessionAction::Memory(memory) => {
                    assert!(self.running.is_empty(), "memory under a running queue");
                    self.memory = memory.is_some();
                }
                SessionAction::WriteThrough(on) => assert_ne!(self.write_through.replace(on), Some(on)),
                SessionAction::StartQueue { index, queue, .. } => {
                    assert!(self.memory && self.write_through.is_some());
                    assert!(self.running.insert(index, queue).is_none(), "started twice");
                }
                SessionAction::StopQueue { index } => {
                    assert!(self.running.contains_key(&index) && !self.stopping.contains(&index));
                    self.stopping.push(index);
                }
                SessionAction::LeaveQueue { index } => {
                    assert!(self.stopping.contains(&index), "left although nobody drains it");
                }
                SessionAction::Closed { reason } => {
                    assert!(self.running.is_empty() && !self.memory && !reason.is_empty());
                    self.closed = true;
                }
                SessionAction::BackendSend(bytes) => assert_eq!(bytes.len(), HEADER_BYTES),
                SessionAction::WriteCache(_) | SessionAction::BackendChannel(_) => {}
            }
        }
    }

    fn serve(&mut self) {
        for queue in self.running.values_mut() {
            serve(queue, 64);
        }
    }
}

/// Takes some requests and answers them.
fn serve(queue: &mut BlkQueue<CallNotify>, most: usize) {
    let mut segments = SegmentList::default();
    for _ in 0..most {
        match queue.pull(&mut segments) {
            Pulled::Empty | Pulled::Later => break,
            Pulled::Answered => {}
            Pulled::NoRoom => segments.lend(LongList::default()),
            Pulled::Request(request) => {
                queue.finish(Answer {
                    token: request.token,
                    status: Status::Ok,
                    fault: None,
                    dirtied: segments.as_slice(),
                });
            }
        }
    }
    queue.publish();
}
