//! Front-ends that mean harm: any message, any bytes, any descriptors. Nothing panics, no descriptor stays open, and
//! every message ends in one reply, in being carried out, or in the end of the session.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_frontend::codec::{HEADER_BYTES, Message, MessageHeader, request};
use palisade_frontend::features::PROTOCOL_FEATURES;
use palisade_frontend::{AttachmentSpec, Door, DoorSettings, Offer, Session, SessionAction};
use palisade_memory::{ShareLimits, Shares};
use palisade_words::AttachmentIndex;
use proptest::collection::vec;
use proptest::prelude::*;
use stand::client::{Client, frame, longs, words};
use stand::guest::{USER_BASE, memfd};
use stand::ram_host::{RamHost, Seen};
use stand::{Entrance, open_fds, spec, until};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Tests here count the process's descriptors, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// What a front-end sends.
#[derive(Clone, Debug)]
struct Shot {
    request: u32,
    need_reply: bool,
    payload: Vec<u8>,
    fds: Vec<Kind>,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Event,
    Memory,
    EmptyFile,
    Socket,
    Null,
}

impl Kind {
    fn open(self) -> OwnedFd {
        match self {
            Kind::Event => palisade_sys::EventFd::new().unwrap().into(),
            Kind::Memory => memfd(1 << 20),
            Kind::EmptyFile => memfd(0),
            Kind::Socket => std::os::unix::net::UnixStream::pair().unwrap().0.into(),
            Kind::Null => std::fs::File::open("/dev/null").unwrap().into(),
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    use Kind::{EmptyFile, Event, Memory, Null, Socket};
    prop::sample::select(vec![Event, Event, Memory, Memory, EmptyFile, Socket, Null])
}

/// Numbers near the borders that matter.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(64),
        Just(4096),
        Just(1 << 20),
        Just(u64::MAX),
        Just(USER_BASE),
        Just(USER_BASE + 0x1000),
        Just(PROTOCOL_FEATURES | 1 << 32),
        0..0x20_0000u64,
        any::<u64>(),
    ]
}

fn index() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..2u32, 1 => any::<u32>()]
}

/// Messages of the right shape with contents of any kind.
fn shaped() -> impl Strategy<Value = Shot> {
    let empty = prop::sample::select(vec![
        request::GET_FEATURES,
        request::SET_OWNER,
        request::RESET_OWNER,
        request::RESET_DEVICE,
        request::GET_QUEUE_NUM,
        request::GET_MAX_MEM_SLOTS,
    ]);
    let longs_of = |requests: Vec<u32>, count| {
        (prop::sample::select(requests), vec(number(), count))
            .prop_map(|(request, values)| (request, longs(&values)))
    };
    let per_ring = vec![
        request::SET_VRING_NUM,
        request::SET_VRING_BASE,
        request::GET_VRING_BASE,
        request::SET_VRING_ENABLE,
    ];
    let ring_value = prop_oneof![Just(1u32), Just(64), Just(0), any::<u32>()];
    let states = (prop::sample::select(per_ring), index(), ring_value)
        .prop_map(|(request, index, value)| (request, words(&[index, value])));
    let addresses = (index(), 0..3u32, vec(number(), 4)).prop_map(|(index, log, values)| {
        let mut payload = words(&[index, log]);
        payload.extend(longs(&values));
        (request::SET_VRING_ADDR, payload)
    });
    let features = vec![request::SET_FEATURES, request::SET_PROTOCOL_FEATURES];
    let plain = prop_oneof![
        empty.prop_map(|request| (request, Vec::new())),
        longs_of(features, 1),
        states,
        addresses,
    ];
    let rings = vec![
        request::SET_VRING_KICK,
        request::SET_VRING_CALL,
        request::SET_VRING_ERR,
    ];
    let with_fd = prop_oneof![
        (prop::sample::select(rings), 0..3u64).prop_map(|(request, index)| (request, longs(&[index]))),
        longs_of(vec![request::ADD_MEM_REG, request::REM_MEM_REG], 5),
        Just((request::ADD_MEM_REG, longs(&[0, 0, 1 << 20, USER_BASE, 0]))),
        longs_of(vec![request::SET_LOG_BASE], 2),
        (number(), number(), any::<u16>(), any::<u16>()).prop_map(|(bytes, at, queues, size)| {
            let mut payload = longs(&[bytes, at]);
            payload.extend(words(&[u32::from(queues % 4) | u32::from(size % 512) << 16, 0]));
            (request::SET_INFLIGHT_FD, payload)
        }),
        Just((request::SET_BACKEND_REQ_FD, Vec::new())),
    ];
    prop_oneof![
        (plain, any::<bool>()).prop_map(|((request, payload), need_reply)| Shot {
            request,
            need_reply,
            payload,
            fds: vec![]
        }),
        (with_fd, any::<bool>(), kind()).prop_map(|((request, payload), need_reply, kind)| Shot {
            request,
            need_reply,
            payload,
            fds: vec![kind]
        }),
    ]
}

/// Anything at all.
fn shot() -> impl Strategy<Value = Shot> {
    let wild = (
        0..46u32,
        any::<bool>(),
        vec(any::<u8>(), 0..80),
        vec(kind(), 0..4),
    )
        .prop_map(|(request, need_reply, payload, fds)| Shot {
            request,
            need_reply,
            payload,
            fds,
        });
    prop_oneof![12 => shaped(), 1 => wild]
}

/// Makes what follows matter more often: acknowledgements negotiated, a ring that runs.
fn opening() -> Vec<Shot> {
    let shot = |request, payload, fds: &[Kind]| Shot {
        request,
        need_reply: false,
        payload,
        fds: fds.to_vec(),
    };
    vec![
        shot(
            request::SET_PROTOCOL_FEATURES,
            longs(&[palisade_frontend::features::protocol::OFFERED]),
            &[],
        ),
        shot(request::SET_FEATURES, longs(&[PROTOCOL_FEATURES | 1 << 32]), &[]),
        shot(
            request::ADD_MEM_REG,
            longs(&[0, 0, 1 << 20, USER_BASE, 0]),
            &[Kind::Memory],
        ),
        shot(request::SET_VRING_NUM, words(&[0, 64]), &[]),
        shot(
            request::SET_VRING_ADDR,
            [
                words(&[0, 0]),
                longs(&[USER_BASE, USER_BASE + 0x2000, USER_BASE + 0x1000, 0]),
            ]
            .concat(),
            &[],
        ),
        shot(request::SET_VRING_KICK, longs(&[0]), &[Kind::Event]),
        shot(request::SET_VRING_ENABLE, words(&[0, 1]), &[]),
    ]
}

fn offer() -> Offer {
    Offer {
        geometry: stand::geometry(),
        queue_size: 256,
        volume: 7,
        serial: [0; 20],
        write_cache: true,
        stats: Arc::from([Arc::default(), Arc::default()]),
        interrupts: Arc::default(),
        share: palisade_memory::Shares::new(palisade_memory::ShareLimits::default()).join(),
    }
}

/// Gives a session everything that is shot at it, stopping queues at once or only at the end, and checks the order
/// of actions.
fn shoot(shots: &[Shot], lazy: bool) {
    let mut session = Session::new(offer());
    let mut running = BTreeMap::new();
    let mut replies = 0;
    let mut handle = |session: &mut Session, mut actions: Vec<SessionAction>| {
        let mut closed = false;
        while !actions.is_empty() {
            let mut stopped = Vec::new();
            for action in actions.drain(..) {
                match action {
                    SessionAction::Reply(_) => replies += 1,
                    SessionAction::Memory(_) => assert!(running.is_empty()),
                    SessionAction::StartQueue { index, queue, .. } => {
                        assert!(running.insert(index, queue).is_none())
                    }
                    SessionAction::StopQueue { index } => stopped.push(index),
                    SessionAction::LeaveQueue { index } => assert!(running.contains_key(&index)),
                    SessionAction::Closed { .. } => {
                        assert!(running.is_empty() && !closed);
                        closed = true;
                    }
                    SessionAction::WriteThrough(_)
                    | SessionAction::WriteCache(_)
                    | SessionAction::BackendChannel(_)
                    | SessionAction::BackendSend(_) => {}
                }
            }
            for index in stopped {
                let queue = running.remove(&index).expect("only what runs is stopped");
                let next_avail = (!lazy).then(|| queue.next_avail());
                session.queue_stopped(index, next_avail, &mut actions);
            }
        }
        std::mem::take(&mut replies)
    };
    for shot in shots {
        let fds = shot.fds.iter().map(|kind| kind.open()).collect();
        let header = MessageHeader {
            request: shot.request,
            need_reply: shot.need_reply,
            payload_bytes: shot.payload.len(),
        };
        let mut actions = Vec::new();
        match Message::parse(header, &shot.payload, fds) {
            Ok(message) => session.on_message(message, shot.need_reply, &mut actions),
            Err(error) => session.on_protocol_error(error, shot.need_reply, &mut actions),
        }
        let replies = handle(&mut session, actions);
        assert!(replies <= 1);
        assert!(session.waiting().is_none());
        if session.is_closed() {
            return;
        }
    }
    let mut actions = Vec::new();
    session.disconnect("the shots are spent", &mut actions);
    handle(&mut session, actions);
    assert!(session.is_closed());
}

/// Otherwise the properties below would shoot at a session in which nothing can happen.
#[test]
fn the_opening_makes_a_queue_run() {
    let _turn = TURN.lock();
    let mut session = Session::new(offer());
    let mut actions = Vec::new();
    for shot in opening() {
        let fds = shot.fds.iter().map(|kind| kind.open()).collect();
        let header = MessageHeader {
            request: shot.request,
            need_reply: false,
            payload_bytes: shot.payload.len(),
        };
        session.on_message(
            Message::parse(header, &shot.payload, fds).unwrap(),
            false,
            &mut actions,
        );
    }
    assert_eq!(session.queues_running(), [0]);
}

/// A pipe, a socket or a file has a life that its other end rules: none of them is taken for kicks, interrupts, errors
/// or the log, whatever its flags say.
#[test]
fn only_eventfds_are_taken_for_events() {
    let _turn = TURN.lock();
    let Entrance {
        door,
        path,
        folder: _folder,
        ..
    } = Entrance::new(0);
    let client = Client::connect(&path);
    client.negotiate();
    for request in [
        request::SET_VRING_KICK,
        request::SET_VRING_CALL,
        request::SET_VRING_ERR,
        request::SET_LOG_FD,
    ] {
        let payload = if request == request::SET_LOG_FD {
            vec![]
        } else {
            longs(&[0])
        };
        for kind in [Kind::Null, Kind::Memory, Kind::Socket] {
            assert_eq!(client.order(request, &payload, &[&kind.open()]), 1, "{kind:?}");
        }
        assert_eq!(client.order(request, &payload, &[&Kind::Event.open()]), 0);
    }
    let report = || door.handle().report(AttachmentIndex(0)).unwrap();
    until("the count", || report().messages_refused == 12);
    let report = report();
    let said = report.last_error.unwrap();
    assert!(
        said.contains("the descriptor for the log cannot be used: it is no eventfd but socket:["),
        "{said}"
    );
    door.shutdown(Duration::from_secs(10)).unwrap();
}

/// A file on a disk may lie on a file system whose server never answers: whoever touched its pages would wait with it.
#[test]
fn memory_is_taken_only_from_files_that_wait_for_nobody() {
    let _turn = TURN.lock();
    let Entrance {
        door,
        path,
        folder: _folder,
        ..
    } = Entrance::new(0);
    let file = tempfile::tempfile_in("/var/tmp").unwrap();
    file.set_len(1 << 20).unwrap();
    let file = OwnedFd::from(file);
    let table = [words(&[1, 0]), longs(&[0, 1 << 20, USER_BASE, 0])].concat();
    let inflight = [longs(&[1 << 16, 0]), words(&[1 | 64 << 16, 0])].concat();
    let said = || {
        let report = door.handle().report(AttachmentIndex(0)).unwrap();
        report.last_error.unwrap_or_default()
    };
    let client = Client::connect(&path);
    client.negotiate();
    for (request, payload) in [
        (request::SET_MEM_TABLE, table),
        (
            request::ADD_MEM_REG,
            longs(&[0, 1 << 30, 1 << 20, USER_BASE + (1 << 30), 0]),
        ),
        (request::SET_INFLIGHT_FD, inflight),
    ] {
        assert_eq!(client.order(request, &payload, &[&file]), 1, "request {request}");
        until("the sentence", || {
            said().contains("is neither a memfd, a file of tmpfs or hugetlbfs, an eventfd nor a Unix socket")
        });
        assert_eq!(
            client.order(request, &payload, &[&memfd(1 << 20)]),
            0,
            "request {request}"
        );
    }
    // The log has a reply of its own, in which there is no room for a refusal.
    let log = frame(request::SET_LOG_BASE, 0, &longs(&[4096, 0]));
    client.send(&log, &[&file]).unwrap();
    client.wait_for_end();
    until("the sentence", || said().starts_with("SET_LOG_BASE: /var/tmp/"));
    door.shutdown(Duration::from_secs(10)).unwrap();
}

/// What a front-end maps is taken from its attachment's share, and of the whole a part is kept for the others.
#[test]
fn address_space_and_mappings_have_a_share() {
    let _turn = TURN.lock();
    let door = Door::open(DoorSettings::default(), |handle| {
        RamHost::new(handle, Seen::new())
    })
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let shares = Shares::new(ShareLimits {
        memory_bytes: 1 << 40,
        mappings: 40,
    });
    let open = |index: u16| {
        let path = folder.path().join(format!("{index}.sock"));
        let share = shares.join();
        door.handle()
            .attach(AttachmentSpec {
                share,
                ..spec(index, &path)
            })
            .unwrap();
        let client = Client::connect(&path);
        client.negotiate();
        client
    };
    let (greedy, modest) = (open(0), open(1));
    let add = |client: &Client, at: u64, bytes: u64| {
        let region = longs(&[0, at, bytes, USER_BASE + at, 0]);
        client.order(request::ADD_MEM_REG, &region, &[&memfd(bytes)])
    };
    assert_eq!(add(&greedy, 0, 2 << 40), 1, "more than its share at once");
    let said = || {
        door.handle()
            .report(AttachmentIndex(0))
            .unwrap()
            .last_error
            .unwrap_or_default()
    };
    until("the sentence", || {
        said()
            == "ADD_MEM_REG: guest memory: 2199023255552 bytes of memory would be more than the attachment's share of \
                   1099511627776"
    });
    let taken = (0..100)
        .take_while(|at| add(&greedy, at << 21, 1 << 20) == 0)
        .count();
    assert_eq!(taken, 40);
    assert_eq!(add(&modest, 0, 1 << 20), 0);
    drop(greedy);
    let again = Client::connect(&folder.path().join("0.sock"));
    again.negotiate();
    assert_eq!(add(&again, 0, 1 << 40), 0, "what was let go can be had again");
    door.shutdown(Duration::from_secs(10)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_messages_hurts_a_session(shots in vec(shot(), 1..30), open in any::<bool>(), lazy in any::<bool>()) {
        let _turn = TURN.lock();
        let before = open_fds();
        let shots = if open { [opening(), shots].concat() } else { shots };
        shoot(&shots, lazy);
        // Looked at again before it counts as a leak: once in 60,000 cases there was a descriptor more at this
        // moment, from where is not known; one that stays fails the test.
        until("all descriptors closed", || open_fds() <= before);
    }

    #[test]
    fn no_header_hurts(bytes in any::<[u8; HEADER_BYTES]>()) {
        if let Ok(header) = MessageHeader::parse(bytes) {
            prop_assert!(header.payload_bytes <= palisade_frontend::codec::PAYLOAD_BYTES_MAX);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_stream_of_bytes_hurts_the_door(
        shots in vec(shot(), 1..20),
        noise in vec(any::<u8>(), 0..64),
        pieces in 1..9usize,
    ) {
        let _turn = TURN.lock();
        let before = open_fds();
        let Entrance { door, path, folder, .. } = Entrance::new(0);
        let client = Client::connect(&path);
        for shot in [opening(), shots].concat() {
            let fds: Vec<_> = shot.fds.iter().map(|kind| kind.open()).collect();
            let bytes = frame(shot.request, u32::from(shot.need_reply) << 3, &shot.payload);
            let (first, rest) = bytes.split_at(bytes.len().min(pieces));
            let sent = client.send(first, &fds.iter().collect::<Vec<_>>());
            // The door may have closed the connection by now: that is an end, too.
            if sent.is_err() || rest.chunks(pieces).any(|piece| client.send(piece, &[]).is_err()) {
                break;
            }
        }
        let _closed_or_not = client.send(&noise, &[]);
        drop(client);
        // The next front-end is served as if nothing had been.
        let next = Client::connect(&path);
        next.negotiate();
        drop(next);
        door.shutdown(Duration::from_secs(10)).unwrap();
        drop(folder);
        until("all descriptors closed", || open_fds() <= before);
    }
}
