//! The orders in which virtual machine monitors speak, replayed from what their sources do: connect, start, stop, and the
//! connect after this daemon has ended under them.
//!
//! | monitor | read from |
//! |---|---|
//! | QEMU 7.2, 10 | `hw/virtio/vhost-user.c`, `hw/virtio/vhost.c`, `hw/block/vhost-user-blk.c` |
//! | Cloud Hypervisor | `virtio-devices/src/vhost_user/{blk,vu_common_ctrl}.rs` |
//! | Firecracker | `src/vmm/src/devices/virtio/{vhost_user,block/vhost_user/device}.rs` |
//! | crosvm | `devices/src/virtio/vhost_user_frontend/mod.rs` |
//! | OpenVMM | `vm/devices/virtio/vhost_user_frontend/src/lib.rs` |
//! | libkrun | `src/devices/src/virtio/vhost_user/device.rs` |

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_block::{Answer, Pulled, SegmentList, Source, Status};
use palisade_frontend::codec::{Message, VringFd, VringState};
use palisade_frontend::features::{LOG_ALL, PROTOCOL_FEATURES, protocol};
use palisade_sys::EventFd;
use palisade_virtio::driver::{BlkHeader, Buffer};
use stand::client::dup;
use stand::guest::memfd;
use stand::walk::Walk;
use std::os::fd::OwnedFd;

const fn bits<const N: usize>(bits: [u32; N]) -> u64 {
    let (mut set, mut at) = (0, 0);
    while at < N {
        set |= 1 << bits[at];
        at += 1;
    }
    set
}

/// What a monitor says. Where it speaks of rings it means the one that the test has.
#[derive(Clone, Copy, Debug)]
enum Say {
    GetFeatures,
    /// All that was offered, before there is a driver.
    SetAllFeatures,
    /// What the guest's driver has taken.
    SetFeatures,
    GetProtocol,
    SetProtocol,
    Owner,
    QueueNum,
    MemSlots,
    Config(u32, u32),
    BackendChannel,
    MemTable,
    AddMemory,
    RemoveMemory,
    GetInflight,
    SetInflight,
    Num,
    Base,
    Addresses,
    Kick,
    Call,
    Errors,
    Enable,
    Disable,
    GetBase,
    Reset,
}

use Say::*;

/// One monitor.
struct Monitor {
    name: &'static str,
    /// What it wants of the protocol.
    protocol: u64,
    /// Which features it lets its guest see.
    passes: u64,
    /// What it adds to that by itself.
    adds: u64,
    /// Whether it asks for acknowledgements where it may.
    acknowledges: bool,
    /// Entries of its rings by default.
    entries: u16,
    connect: &'static [Say],
    start: &'static [Say],
    stop: &'static [Say],
    /// What comes when the guest starts its driver again.
    restart: &'static [Say],
    /// What comes instead of `connect` and `start` when the daemon is back; empty for those that give up.
    reconnect: &'static [Say],
}

const QEMU_BLOCK: u64 = bits([1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14, 24, 28, 29, 32, 33, 34, 40]);

const MONITORS: &[Monitor] = &[
    Monitor {
        name: "QEMU 7.2",
        protocol: protocol::OFFERED,
        passes: QEMU_BLOCK,
        // ANY_LAYOUT is QEMU's own, and passed on when the guest takes it.
        adds: bits([27]),
        acknowledges: true,
        entries: 128,
        connect: &[
            GetFeatures,
            GetProtocol,
            SetProtocol,
            QueueNum,
            MemSlots,
            BackendChannel,
            Owner,
            GetFeatures,
            Call,
            Config(0, 60),
        ],
        start: &[
            GetInflight,
            SetInflight,
            Call,
            SetFeatures,
            AddMemory,
            Num,
            Base,
            Addresses,
            Kick,
            Call,
            Enable,
        ],
        stop: &[GetBase, RemoveMemory],
        restart: &[
            GetInflight,
            SetInflight,
            Call,
            SetFeatures,
            AddMemory,
            Num,
            Base,
            Addresses,
            Kick,
            Call,
            Enable,
        ],
        reconnect: &[
            GetFeatures,
            GetProtocol,
            SetProtocol,
            QueueNum,
            MemSlots,
            BackendChannel,
            Owner,
            GetFeatures,
            Call,
            SetInflight,
            Call,
            SetFeatures,
            AddMemory,
            Num,
            Base,
            Addresses,
            Kick,
            Call,
            Enable,
        ],
    },
    Monitor {
        name: "QEMU 10, queue-size=1024",
        protocol: protocol::OFFERED,
        passes: QEMU_BLOCK | bits([35, 38]),
        adds: bits([27]),
        acknowledges: true,
        entries: 1024,
        connect: &[
            GetFeatures,
            GetProtocol,
            SetProtocol,
            QueueNum,
            MemSlots,
            BackendChannel,
            Owner,
            GetFeatures,
            Call,
            Errors,
            Config(0, 60),
        ],
        start: &[
            GetInflight,
            SetInflight,
            Call,
            SetFeatures,
            AddMemory,
            Num,
            Base,
            Addresses,
            Kick,
            Call,
            Enable,
        ],
        stop: &[Disable, GetBase, RemoveMemory],
        restart: &[
            GetInflight,
            SetInflight,
            Call,
            SetFeatures,
            AddMemory,
            Num,
            Base,
            Addresses,
            Kick,
            Call,
            Enable,
        ],
        reconnect: &[
            GetFeatures,
            GetProtocol,
            SetProtocol,
            QueueNum,
            MemSlots,
            BackendChannel,
            Owner,
            GetFeatures,
            Call,
            Errors,
            SetInflight,
            Call,
            SetFeatures,
            AddMemory,
            Num,
            Base,
            Addresses,
            Kick,
            Call,
            Enable,
        ],
    },
    Monitor {
        name: "Cloud Hypervisor",
        protocol: protocol::CONFIG
            | protocol::MQ
            | protocol::CONFIGURE_MEM_SLOTS
            | protocol::REPLY_ACK
            | protocol::INFLIGHT_SHMFD
            | protocol::LOG_SHMFD,
        passes: bits([1, 2, 4, 5, 6, 9, 10, 11, 12, 13, 14, 28, 29, 32, 35, 36, 38]),
        adds: 0,
        acknowledges: true,
        entries: 128,
        connect: &[
            Owner,
            GetFeatures,
            GetProtocol,
            SetProtocol,
            QueueNum,
            Config(0, 60),
        ],
        start: &[
            SetFeatures,
            SetProtocol,
            MemTable,
            Num,
            GetInflight,
            SetInflight,
            Addresses,
            Base,
            Call,
            Kick,
            Enable,
        ],
        stop: &[Disable, GetBase],
        restart: &[
            SetFeatures,
            SetProtocol,
            MemTable,
            Num,
            GetInflight,
            SetInflight,
            Addresses,
            Base,
            Call,
            Kick,
            Enable,
        ],
        reconnect: &[
            Owner,
            GetFeatures,
            SetFeatures,
            GetProtocol,
            SetProtocol,
            MemTable,
            Num,
            SetInflight,
            Addresses,
            Base,
            Call,
            Kick,
            Enable,
        ],
    },
    Monitor {
        name: "Firecracker",
        protocol: protocol::CONFIG,
        passes: bits([5, 9, 29, 32]),
        adds: 0,
        acknowledges: false,
        entries: 256,
        connect: &[Owner, GetFeatures, GetProtocol, SetProtocol, Config(0, 60)],
        start: &[SetFeatures, MemTable, Num, Addresses, Base, Call, Kick, Enable],
        stop: &[],
        restart: &[],
        reconnect: &[],
    },
    Monitor {
        name: "crosvm",
        protocol: protocol::CONFIG | protocol::MQ | protocol::BACKEND_REQ | protocol::REPLY_ACK,
        passes: 0xff_ffff | bits([32]),
        adds: 0,
        acknowledges: false,
        entries: 32768,
        connect: &[
            Owner,
            GetFeatures,
            GetProtocol,
            SetProtocol,
            BackendChannel,
            QueueNum,
            Config(0, 8),
            Config(8, 4),
        ],
        start: &[SetFeatures, MemTable, Num, Addresses, Base, Call, Kick, Enable],
        stop: &[Disable, GetBase],
        restart: &[SetFeatures, MemTable, Num, Addresses, Base, Call, Kick, Enable],
        reconnect: &[],
    },
    Monitor {
        name: "OpenVMM",
        protocol: protocol::MQ | protocol::REPLY_ACK | protocol::CONFIG | protocol::RESET_DEVICE,
        passes: 0xff_ffff | bits([28, 29, 32]),
        adds: 0,
        acknowledges: true,
        entries: 64,
        connect: &[
            GetFeatures,
            SetAllFeatures,
            GetProtocol,
            SetProtocol,
            Owner,
            QueueNum,
            Config(0, 256),
        ],
        start: &[MemTable, SetFeatures, Num, Addresses, Base, Kick, Call, Enable],
        stop: &[Disable, GetBase, Reset],
        restart: &[SetFeatures, Num, Addresses, Base, Kick, Call, Enable],
        reconnect: &[],
    },
    Monitor {
        name: "libkrun",
        protocol: protocol::CONFIG | protocol::MQ,
        passes: !PROTOCOL_FEATURES & !LOG_ALL,
        adds: 0,
        acknowledges: false,
        entries: 256,
        connect: &[GetFeatures, GetProtocol, SetProtocol, QueueNum, Config(0, 60)],
        start: &[
            Owner,
            MemTable,
            SetFeatures,
            Num,
            Base,
            Addresses,
            Kick,
            Call,
            Enable,
        ],
        stop: &[],
        restart: &[],
        reconnect: &[],
    },
];

/// A monitor at work: the conversation, and what it keeps of it.
struct Talk {
    monitor: &'static Monitor,
    walk: Walk,
    offered: u64,
    inflight: Option<(u64, OwnedFd)>,
    /// Where it believes its ring to stand.
    base: u16,
    negotiated: bool,
    errors: EventFd,
}

impl Talk {
    fn new(monitor: &'static Monitor) -> Talk {
        Talk {
            monitor,
            walk: Walk::with(monitor.entries),
            offered: 0,
            inflight: None,
            base: 0,
            negotiated: false,
            errors: EventFd::new().unwrap(),
        }
    }

    fn say_all(&mut self, said: &[Say]) {
        for &say in said {
            self.say(say);
            assert!(
                self.walk.closed.is_none(),
                "{} after {say:?}: {:?}",
                self.monitor.name,
                self.walk.closed
            );
        }
    }

    /// A message without a reply of its own, acknowledged if the monitor wants that; queues stop when they are told to.
    fn order(&mut self, message: Message) {
        let wants = self.monitor.acknowledges && self.negotiated;
        let acknowledged = wants && self.monitor.protocol & protocol::REPLY_ACK != 0;
        self.walk.hear(message, acknowledged);
        self.drain();
        if acknowledged {
            assert_eq!(
                self.walk.last_payload(),
                0u64.to_ne_bytes(),
                "{}",
                self.monitor.name
            );
        }
        assert!(self.walk.replies.is_empty());
    }

    fn ask(&mut self, message: Message) -> Vec<u8> {
        self.walk.hear(message, false);
        self.drain();
        self.walk.last_payload()
    }

    fn drain(&mut self) {
        for index in self.walk.stopping.clone() {
            let at = self.walk.running[&index].next_avail();
            self.walk.give_back(index, at);
        }
    }

    fn event(index: u32) -> VringFd {
        VringFd {
            index,
            fd: Some(dup(&EventFd::new().unwrap())),
        }
    }

    fn say(&mut self, say: Say) {
        let (index, size) = (0, u32::from(self.monitor.entries));
        match say {
            GetFeatures => {
                let offered = self.ask(Message::GetFeatures);
                self.offered = u64::from_ne_bytes(offered.try_into().unwrap());
            }
            SetAllFeatures => self.order(Message::SetFeatures(self.offered | PROTOCOL_FEATURES)),
            SetFeatures => {
                let taken = self.offered & self.monitor.passes | self.monitor.adds;
                self.order(Message::SetFeatures(taken | PROTOCOL_FEATURES));
            }
            GetProtocol => drop(self.ask(Message::GetProtocolFeatures)),
            SetProtocol => {
                self.order(Message::SetProtocolFeatures(self.monitor.protocol));
                self.negotiated = true;
            }
            Owner => self.order(Message::SetOwner),
            QueueNum => assert_eq!(self.ask(Message::GetQueueNum), 2u64.to_ne_bytes()),
            MemSlots => drop(self.ask(Message::GetMaxMemSlots)),
            Config(offset, bytes) => {
                let flags = 0;
                let reply = self.ask(Message::GetConfig { offset, bytes, flags });
                assert_eq!(reply.len(), 12 + bytes as usize);
            }
            BackendChannel => self.order(Message::SetBackendReqFd(memfd(0))),
            MemTable => {
                let table = vec![(self.walk.guest.region, self.walk.guest.fd())];
                self.order(Message::SetMemTable(table));
            }
            AddMemory => {
                let (region, file) = (self.walk.guest.region, self.walk.guest.fd());
                self.order(Message::AddMemReg(region, file));
            }
            RemoveMemory => self.order(Message::RemMemReg(self.walk.guest.region)),
            GetInflight => {
                let message = Message::GetInflightFd {
                    queues: 2,
                    queue_size: self.monitor.entries,
                    reply_bytes: 24,
                };
                self.walk.hear(message, false);
                let reply = self.walk.replies.pop().unwrap();
                let bytes = u64::from_ne_bytes(reply.bytes[12..20].try_into().unwrap());
                self.inflight = Some((bytes, reply.fd.unwrap()));
            }
            SetInflight => {
                let (bytes, file) = self.inflight.as_ref().unwrap();
                let message = Message::SetInflightFd {
                    bytes: *bytes,
                    file_offset: 0,
                    queues: 2,
                    queue_size: self.monitor.entries,
                    fd: file.try_clone().unwrap(),
                };
                self.order(message);
            }
            Num => self.order(Message::SetVringNum(VringState { index, value: size })),
            Base => {
                let value = self.base.into();
                self.order(Message::SetVringBase(VringState { index, value }));
            }
            Addresses => {
                let addresses = self.walk.addresses(false);
                self.order(Message::SetVringAddr(addresses));
            }
            Kick => self.order(Message::SetVringKick(Talk::event(index))),
            Call => self.order(Message::SetVringCall(Talk::event(index))),
            Errors => {
                let fd = Some(dup(&self.errors));
                self.order(Message::SetVringErr(VringFd { index, fd }));
            }
            Enable => self.order(Message::SetVringEnable { index, enable: true }),
            Disable => self.order(Message::SetVringEnable { index, enable: false }),
            Reset => self.order(Message::ResetDevice),
            GetBase => {
                let reply = self.ask(Message::GetVringBase(index));
                self.base = u16::from_ne_bytes(reply[4..6].try_into().unwrap());
            }
        }
    }

    /// The guest asks for something; the request, taken and not answered.
    fn take(&mut self) -> palisade_block::Request {
        let read = BlkHeader { kind: 0, sector: 1 };
        let data = Buffer {
            address: self.walk.guest.region.bytes - 512,
            bytes: 512,
            write: true,
        };
        self.walk.ring.submit(read, &[data]).unwrap();
        self.walk.ring.publish();
        let queue = self.walk.running.get_mut(&0).unwrap();
        match queue.pull(&mut SegmentList::default()) {
            Pulled::Request(request) => request,
            other => panic!("{}: {other:?}", self.monitor.name),
        }
    }

    fn answer(&mut self, request: palisade_block::Request) {
        let queue = self.walk.running.get_mut(&0).unwrap();
        let head = palisade_virtio::Owed::of(&request.token).head;
        queue.finish(Answer {
            token: request.token,
            status: Status::Ok,
            fault: None,
            dirtied: &[],
        });
        queue.publish();
        let used = self.walk.ring.poll_used().unwrap();
        assert!(used.expected && used.head == head && used.bytes == 513);
        assert_eq!(self.walk.ring.status(head), 0);
        assert!(self.walk.ring.poll_used().is_none());
    }

    fn serves(&mut self) {
        assert!(
            self.walk.running.contains_key(&0),
            "{}: the queue runs",
            self.monitor.name
        );
        let report = self.walk.session.queues().swap_remove(0);
        assert!(report.running && report.size == self.monitor.entries && report.cannot_start.is_none());
        for _ in 0..3 {
            let request = self.take();
            self.answer(request);
        }
        assert_eq!(
            self.walk.session.refused(),
            0,
            "{:?}",
            self.walk.session.last_error()
        );
        assert_eq!(self.errors.drain().unwrap(), 0);
    }
}

#[test]
fn each_monitor_is_served_from_connect_to_stop_and_again() {
    for monitor in MONITORS {
        let mut talk = Talk::new(monitor);
        talk.say_all(monitor.connect);
        assert!(talk.walk.running.is_empty());
        talk.say_all(monitor.start);
        talk.serves();
        if monitor.stop.is_empty() {
            continue;
        }
        // A guest that shuts its driver down and starts it again, as firmware and system do one after the other. OpenVMM
        // resets the device, and counts on the memory being there still.
        talk.say_all(monitor.stop);
        assert!(talk.walk.running.is_empty(), "{}", monitor.name);
        if monitor.stop.iter().any(|say| matches!(say, GetBase)) {
            assert_eq!(talk.base, 3, "{}: three were taken", monitor.name);
        }
        talk.say_all(monitor.restart);
        talk.serves();
    }
}

#[test]
fn each_monitor_that_comes_back_finds_its_requests_taken_up() {
    for monitor in MONITORS.iter().filter(|monitor| !monitor.reconnect.is_empty()) {
        let mut talk = Talk::new(monitor);
        talk.say_all(monitor.connect);
        talk.say_all(monitor.start);
        talk.serves();
        // This process ends with one request in flight. The monitor knows the used index and no more.
        let lost = talk.take();
        lost.token.spend();
        talk.walk.again();
        talk.negotiated = false;
        talk.base = 3;
        talk.say_all(monitor.reconnect);
        let queue = talk.walk.running.get_mut(&0).unwrap();
        assert_eq!(queue.resubmissions_left(), 1, "{}", monitor.name);
        let Pulled::Request(again) = queue.pull(&mut SegmentList::default()) else {
            panic!("{}: the request is carried out again", monitor.name);
        };
        talk.answer(again);
        talk.serves();
    }
}

/// QEMU's guest may be one that has no VERSION_1 and takes all that QEMU offers it by itself.
#[test]
fn a_legacy_guest_on_qemu_is_served() {
    for monitor in MONITORS.iter().filter(|monitor| monitor.name.starts_with("QEMU")) {
        let mut talk = Talk::new(monitor);
        talk.say_all(monitor.connect);
        talk.offered &= !(1 << 32);
        talk.say_all(monitor.start);
        talk.serves();
        assert_eq!(talk.walk.session.features() >> 32 & 1, 0);
    }
}
