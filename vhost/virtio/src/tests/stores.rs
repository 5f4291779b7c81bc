//! The process is killed behind each single store of a turn: several queues, several answers in each, full lines of them
//! shown before the turn ends (invariant 1; vhost-user, "Inflight I/O tracking"). And again behind each store of the
//! recovery. The turn is that of the product, in a child that is carried on instruction by instruction: whatever it
//! stores, in whichever order, is seen.

use super::rig::{Bell, all_features, shared_file};
use crate::blk::kind;
use crate::driver::{BlkHeader, STATUS_NONE, descriptor, encode};
use crate::{BlkQueue, Features, Owed, QueueSetup};
use palisade_block::{Answer, Pulled, SegmentList, Source, Status, Token};
use palisade_memory::stepped::step_through;
use palisade_memory::{Descriptor, GuestMemory, InflightRegion, RegionSpec, RingAddresses};
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const SIZE: u16 = 64;
/// Requests of a queue, two descriptors each.
const REQUESTS: u16 = SIZE / 2;
/// Where both indices begin, so that they wrap on the way.
const FIRST: u16 = u16::MAX - 11;
/// Guest memory of each queue.
const STRIDE: u64 = 0x1000;

/// One queue as its guest knows it.
#[derive(Clone, Debug)]
struct Guest {
    at: u64,
    /// Heads that were offered and that the used ring has not given back, in the order of the available ring.
    open: Vec<u16>,
    avail_idx: u16,
    used_seen: u16,
}

impl Guest {
    fn ring(&self) -> RingAddresses {
        RingAddresses {
            descriptors: self.at,
            avail: self.at + 0x400,
            used: self.at + 0x500,
        }
    }

    fn slot(&self, head: u16) -> u64 {
        self.at + 0x800 + 16 * u64::from(head)
    }

    /// What a head asks for: the queue answers one request in eight itself, and another has no status byte.
    fn is_handed_over(head: u16) -> bool {
        ![3, 5].contains(&(head / 2 % 8))
    }

    fn has_status(head: u16) -> bool {
        head / 2 % 8 != 5
    }

    fn new(memory: &GuestMemory, at: u64, offered: u16) -> Guest {
        let mut guest = Guest {
            at,
            open: Vec::new(),
            avail_idx: FIRST,
            used_seen: FIRST,
        };
        memory.store_u16(guest.ring().avail + 2, FIRST);
        memory.store_u16(guest.ring().used + 2, FIRST);
        for head in (0..SIZE).step_by(2) {
            let slot = guest.slot(head);
            let kind = if head / 2 % 8 == 3 { 99 } else { kind::FLUSH };
            memory.write(slot, &BlkHeader { kind, sector: 0 }.encode());
            let flags = if Guest::has_status(head) {
                Descriptor::WRITE
            } else {
                0
            };
            let first = Descriptor {
                next: head + 1,
                ..descriptor(slot, 16, Descriptor::NEXT)
            };
            let at = guest.ring().descriptors + 16 * u64::from(head);
            memory.write(at, &encode(first));
            memory.write(at + 16, &encode(descriptor(slot + 16, 1, flags)));
        }
        (0..offered).for_each(|request| guest.offer(memory, 2 * request));
        guest
    }

    fn offer(&mut self, memory: &GuestMemory, head: u16) {
        memory.write(self.slot(head) + 16, &[STATUS_NONE]);
        let position = u64::from(self.avail_idx % SIZE);
        memory.store_u16(self.ring().avail + 4 + 2 * position, head);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        memory.store_u16(self.ring().avail + 2, self.avail_idx);
        self.open.push(head);
    }

    /// Takes what the used ring shows: each entry gives back what was offered, with its status.
    fn poll(&mut self, memory: &GuestMemory) -> Vec<u16> {
        let mut answered = Vec::new();
        while memory.load_u16(self.ring().used + 2) != Some(self.used_seen) {
            let mut entry = [0; 8];
            memory.read(
                self.ring().used + 4 + 8 * u64::from(self.used_seen % SIZE),
                &mut entry,
            );
            let (head, bytes) = (u64::from_le_bytes(entry) as u16, entry[4]);
            let at = self.open.iter().position(|open| *open == head);
            self.open
                .remove(at.unwrap_or_else(|| panic!("{head} is answered twice: {self:?}")));
            let mut status = [0];
            memory.read(self.slot(head) + 16, &mut status);
            assert_eq!(u8::from(Guest::has_status(head)), bytes);
            assert_eq!(
                Guest::has_status(head),
                status[0] != STATUS_NONE,
                "status of {head}"
            );
            self.used_seen = self.used_seen.wrapping_add(1);
            answered.push(head);
        }
        answered
    }
}

/// A process: all queues, and what it holds of them.
struct Process {
    queues: Vec<BlkQueue<Bell>>,
    segments: SegmentList,
    held: Vec<Vec<Token>>,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Pull(usize),
    Finish(usize, usize),
    /// All queues, as at the end of a turn.
    Publish,
}

impl Process {
    /// Takes the queues up from wherever they were left.
    fn new(memory: &Arc<GuestMemory>, region: &InflightRegion, guests: &[Guest]) -> Process {
        let queues = (0..).zip(guests).map(|(number, guest)| {
            let setup = QueueSetup {
                memory: Arc::clone(memory),
                size: SIZE,
                ring: guest.ring(),
                base: 0x7777,
                features: all_features().without(Features::EVENT_IDX),
                inflight: region.queue(number),
                serial: [0; 20],
                writable: true,
                block_bytes: 512,
                dirty_log: None,
                log_used_at: None,
                stats: Arc::default(),
            };
            BlkQueue::new(setup, Bell::default()).unwrap()
        });
        Process {
            queues: queues.collect(),
            segments: SegmentList::default(),
            held: guests.iter().map(|_| Vec::new()).collect(),
        }
    }

    fn act(&mut self, act: Act) {
        let count = self.queues.len();
        match act {
            Act::Pull(queue) => {
                let queue = queue % count;
                if let Pulled::Request(request) = self.queues[queue].pull(&mut self.segments) {
                    self.held[queue].push(request.token);
                }
            }
            Act::Finish(queue, which) => {
                let queue = queue % count;
                let held = &mut self.held[queue];
                if !held.is_empty() {
                    let token = held.remove(which % held.len());
                    self.queues[queue].finish(Answer {
                        token,
                        status: Status::Ok,
                        fault: None,
                        dirtied: &[],
                    });
                }
            }
            Act::Publish => self.queues.iter_mut().for_each(Source::publish),
        }
    }

    fn pull_all(&mut self, queue: usize) -> Vec<u16> {
        loop {
            match self.queues[queue].pull(&mut self.segments) {
                Pulled::Request(request) => self.held[queue].push(request.token),
                Pulled::Empty => break,
                _ => {}
            }
        }
        self.held[queue]
            .iter()
            .map(|token| Owed::of(token).head)
            .collect()
    }

    fn end(mut self) {
        self.held
            .iter_mut()
            .flat_map(|held| held.drain(..))
            .for_each(Token::spend);
    }
}

/// Memory and region in files that parent and child share.
struct Shared {
    memory: Arc<GuestMemory>,
    memory_file: File,
    region: InflightRegion,
    region_file: File,
}

/// What is left when the process is killed.
#[derive(Clone, PartialEq, Eq)]
struct Left {
    memory: Vec<u8>,
    region: Vec<u8>,
}

impl Shared {
    fn new(queues: u16) -> Shared {
        let bytes = STRIDE * u64::from(queues);
        let memory_file = shared_file(bytes);
        let spec = RegionSpec {
            guest_address: 0,
            bytes,
            user_address: 0,
            mmap_offset: 0,
            file: memory_file.try_clone().unwrap().into(),
        };
        let (region, region_file) = InflightRegion::create(queues, SIZE).unwrap();
        Shared {
            memory: GuestMemory::map(vec![spec]).unwrap(),
            memory_file,
            region,
            region_file: region_file.into(),
        }
    }

    /// With what a process has left behind.
    fn of(queues: u16, left: &Left) -> Shared {
        let shared = Shared::new(queues);
        shared.memory_file.write_all_at(&left.memory, 0).unwrap();
        shared.region_file.write_all_at(&left.region, 0).unwrap();
        shared
    }

    fn left(&self, queues: u16) -> Left {
        let mut left = Left {
            memory: vec![0; (STRIDE * u64::from(queues)) as usize],
            region: vec![0; self.region.mmap_bytes() as usize],
        };
        self.look(&mut left);
        left
    }

    fn look(&self, left: &mut Left) {
        self.memory_file.read_exact_at(&mut left.memory, 0).unwrap();
        self.region_file.read_exact_at(&mut left.region, 0).unwrap();
    }
}

/// Another process goes on, after the guest has (or has not) looked and offered anew what it got back. It takes up all
/// that is open, in the order in which it was offered, and answers it once.
fn goes_on(shared: &Shared, mut guests: Vec<Guest>, reacts: bool) {
    let memory = &shared.memory;
    for guest in &mut guests {
        let answered = guest.poll(memory);
        if reacts {
            answered.into_iter().for_each(|head| guest.offer(memory, head));
        }
    }
    // The first of them is killed again, with half of the requests answered and a part of that shown.
    for last in [false, true] {
        let mut process = Process::new(memory, &shared.region, &guests);
        for (queue, guest) in guests.iter().enumerate() {
            let handed_over = guest
                .open
                .iter()
                .copied()
                .filter(|head| Guest::is_handed_over(*head));
            assert_eq!(
                process.pull_all(queue),
                handed_over.collect::<Vec<_>>(),
                "what is open, in its order"
            );
            let part = if last { 0 } else { process.held[queue].len() / 2 };
            for which in (part..process.held[queue].len()).rev() {
                process.act(Act::Finish(queue, which));
            }
        }
        if last {
            process.act(Act::Publish);
        }
        for (queue, guest) in process.queues.iter().zip(&mut guests) {
            guest.poll(memory);
            assert!(queue.broken().is_none());
            assert!(!last || guest.open.is_empty(), "not answered: {guest:?}");
        }
        process.end();
    }
}

/// Whoever takes over is killed itself behind each of its stores, and another goes on from there. How many they were.
fn is_killed_taking_over(left: &Left, guests: &[Guest]) -> usize {
    let count = guests.len() as u16;
    let shared = Shared::of(count, left);
    let mut lefts = vec![left.clone()];
    let takes_over = || std::mem::forget(Process::new(&shared.memory, &shared.region, guests));
    let mut now = left.clone();
    let look = || {
        shared.look(&mut now);
        if lefts.last() != Some(&now) {
            lefts.push(now.clone());
        }
    };
    step_through(takes_over, look).unwrap();
    for left in &lefts[1..] {
        is_taken_over(left, guests);
    }
    lefts.len() - 1
}

/// Another goes on from what was left, whether the guest has looked meanwhile or not.
fn is_taken_over(left: &Left, guests: &[Guest]) {
    for reacts in [false, true] {
        goes_on(&Shared::of(guests.len() as u16, left), guests.to_vec(), reacts);
    }
}

/// How often a process was killed: in the turn, in the recovery.
type Kills = (usize, usize);

/// Carries out `before`, then kills the process behind each store of `turn`. An eager guest offers anew at once what it
/// got back, within the turn.
fn killed_behind_each_store(guests: usize, offered: u16, eager: bool, before: &[Act], turn: &[Act]) -> Kills {
    let count = guests as u16;
    let shared = Shared::new(count);
    let memory = &shared.memory;
    let mut guests: Vec<Guest> = (0..u64::from(count))
        .map(|queue| Guest::new(memory, STRIDE * queue, offered))
        .collect();
    let mut process = Process::new(memory, &shared.region, &guests);
    let react = |guests: &mut Vec<Guest>| {
        for guest in guests {
            let answered = guest.poll(memory);
            answered.into_iter().for_each(|head| guest.offer(memory, head));
        }
    };
    for act in before {
        process.act(*act);
        react(&mut guests);
    }
    let mut lefts = vec![(shared.left(count), guests.clone())];
    let mut now = shared.left(count);
    let look = || {
        shared.look(&mut now);
        if lefts.last().is_some_and(|(last, _)| *last == now) {
            return;
        }
        lefts.push((now.clone(), guests.clone()));
        if eager {
            react(&mut guests);
        }
    };
    step_through(|| turn.iter().for_each(|act| process.act(*act)), look).unwrap();
    process.end();
    // A recovery has most to repair where the used index has just been stored, and the same, in parts, behind that.
    let shown = |left: &Left| -> Vec<u8> {
        left.memory
            .chunks(STRIDE as usize)
            .flat_map(|one| one[0x502..0x504].to_vec())
            .collect()
    };
    let mut again = 0;
    for two in lefts.windows(2) {
        let (left, guests) = &two[1];
        is_taken_over(left, guests);
        if shown(left) != shown(&two[0].0) {
            again += is_killed_taking_over(left, guests);
        }
    }
    (lefts.len() - 1, again)
}

/// All are taken, then all are answered, in another order, and shown together.
#[test]
fn a_turn_with_full_lines_in_several_queues() {
    let offered = 18;
    let pulls = (0..2 * usize::from(offered)).map(Act::Pull);
    let finishes = (0..2 * usize::from(offered)).map(|number| Act::Finish(number, 7 * number));
    let turn: Vec<Act> = pulls.chain(finishes).chain([Act::Publish]).collect();
    let (kills, again) = killed_behind_each_store(2, offered, false, &[], &turn);
    // For each request at least: counter and flag; status, entry, `next` and `last_batch_head`; the flag again. For each
    // queue, two full lines and the rest: both indices.
    let (requests, shows) = (2 * usize::from(offered), 2 * 3);
    assert!(kills >= requests * 6 + shows * 2, "{kills}");
    // Behind each store of a used index the recovery clears the flags of its batch and stores the index once more.
    assert_eq!(again, requests + shows);
}

fn acts(most: usize) -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => any::<usize>().prop_map(Act::Pull),
        6 => any::<(usize, usize)>().prop_map(|(queue, which)| Act::Finish(queue, which)),
        1 => Just(Act::Publish),
    ];
    prop::collection::vec(act, 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_turn(guests in 1..4usize, offered in 1..=REQUESTS, eager: bool, before in acts(80), turn in acts(30)) {
        killed_behind_each_store(guests, offered, eager, &before, &turn);
    }
}
