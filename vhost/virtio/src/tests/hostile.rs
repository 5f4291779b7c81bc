//! Chains and rings no driver should make (invariant 14).

use super::rig::{Bell, DATA, END, Rig, setup, shared_file};
use crate::blk::kind;
use crate::chain::chain_descriptors_max;
use crate::driver::{BlkHeader, DriverOptions, DriverQueue, STATUS_NONE, descriptor};
use crate::{BlkQueue, Broken};
use palisade_block::{Answer, LongList, Pulled, SegmentList, Source, Status};
use palisade_memory::{Descriptor, GuestMemory, RegionSpec};
use proptest::prelude::*;
use std::sync::Arc;

const WRITE: u16 = Descriptor::WRITE;

fn big() -> Rig {
    Rig::with(
        DriverOptions {
            size: 256,
            event_idx: true,
            indirect: true,
        },
        |_| {},
    )
}

/// Header, given buffers and status for the next head.
fn read_chain(rig: &Rig, data: &[Descriptor]) -> Vec<Descriptor> {
    let slot = rig.driver.slot(rig.driver.next_head().unwrap());
    rig.memory.write(
        slot,
        &BlkHeader {
            kind: kind::IN,
            sector: 0,
        }
        .encode(),
    );
    rig.memory.write(slot + 32, &[STATUS_NONE]);
    let mut chain = vec![descriptor(slot, 16, 0)];
    chain.extend_from_slice(data);
    chain.push(descriptor(slot + 32, 1, WRITE));
    chain
}

#[test]
fn memory_whose_file_shrinks_breaks_its_own_queue_only() {
    memory_is_lost(false, Broken::MemoryLost);
}

#[test]
fn memory_that_is_lost_though_its_file_is_long_enough_is_said_to_have_no_page() {
    memory_is_lost(true, Broken::NoPage);
    let told = [Broken::MemoryLost, Broken::NoPage].map(|broken| broken.to_string());
    assert!(
        told[0].contains("shrunk") && told[1].contains("no page"),
        "{told:?}"
    );
}

/// `regrows`: the file has its length again when somebody looks.
fn memory_is_lost(regrows: bool, expected: Broken) {
    let region = |guest_address: u64, bytes: u64, file: &std::fs::File| RegionSpec {
        guest_address,
        bytes,
        user_address: guest_address,
        mmap_offset: 0,
        file: file.try_clone().unwrap().into(),
    };
    let (rings, data) = (shared_file(0x10_0000), shared_file(0x10_0000));
    let specs = vec![region(0, 0x10_0000, &rings), region(0x10_0000, 0x10_0000, &data)];
    let memory = GuestMemory::map(specs).unwrap();
    let options = DriverOptions {
        size: 16,
        event_idx: false,
        indirect: false,
    };
    let mut driver = DriverQueue::new(Arc::clone(&memory), 0x1000, options).unwrap();
    let mut queue = BlkQueue::new(setup(&memory, &driver, None), Bell::default()).unwrap();
    data.set_len(0).unwrap();
    // The device id is the one answer that is written by our own hand.
    let slot = driver.slot(driver.next_head().unwrap());
    let header = BlkHeader {
        kind: kind::GET_ID,
        sector: 0,
    };
    memory.write(slot, &header.encode());
    let chain = [
        descriptor(slot, 16, 0),
        descriptor(0x10_0000, 20, WRITE),
        descriptor(slot + 32, 1, WRITE),
    ];
    driver.submit_chain(&chain).unwrap();
    driver.publish();
    let mut segments = SegmentList::default();
    assert!(matches!(queue.pull(&mut segments), Pulled::Answered));
    assert_eq!(queue.broken(), None);
    if regrows {
        data.set_len(0x10_0000).unwrap();
    }
    driver.submit_chain(&chain).unwrap();
    driver.publish();
    assert!(matches!(queue.pull(&mut segments), Pulled::Empty));
    assert_eq!(queue.broken(), Some(expected));
    queue.publish();
    assert_eq!(
        driver.poll_used().unwrap().bytes,
        21,
        "what was taken is answered"
    );
}

#[test]
fn chains_without_a_usable_status_byte_are_returned_with_length_0() {
    let mut rig = big();
    let head = |rig: &Rig| read_chain(rig, &[])[0];
    type Chain = Box<dyn Fn(&Rig) -> Vec<Descriptor>>;
    let cases: Vec<Chain> = vec![
        Box::new(move |rig| vec![head(rig)]),
        Box::new(move |rig| vec![head(rig), descriptor(DATA, 512, 0)]),
        Box::new(move |rig| vec![head(rig), descriptor(DATA, 0, WRITE)]),
        Box::new(move |rig| vec![head(rig), descriptor(END, 1, WRITE)]),
        Box::new(move |rig| vec![head(rig), descriptor(END - 1, 2, WRITE)]),
        Box::new(move |rig| vec![head(rig), descriptor(u64::MAX, 1, WRITE)]),
        Box::new(move |rig| vec![head(rig), descriptor(u64::MAX, u32::MAX, WRITE)]),
        Box::new(move |rig| vec![head(rig), descriptor(DATA, u32::MAX, WRITE)]),
        Box::new(|_| vec![descriptor(0, 0, 0)]),
    ];
    let count = cases.len() as u64;
    for (index, chain) in cases.into_iter().enumerate() {
        let chain = chain(&rig);
        let (used, status) = rig.answered_by_itself(&chain);
        assert_eq!((used.bytes, status), (0, STATUS_NONE), "case {index}");
    }
    assert_eq!(
        (rig.stats().malformed.get(), rig.stats().unanswerable.get()),
        (count, count)
    );
    assert_eq!(rig.queue.broken(), None);
}

#[test]
fn malformed_chains_with_a_status_byte_are_answered() {
    let mut rig = big();
    let cases: Vec<(&str, Vec<Descriptor>)> = vec![
        ("outside", vec![descriptor(END, 512, WRITE)]),
        ("half outside", vec![descriptor(END - 256, 512, WRITE)]),
        ("wraps", vec![descriptor(u64::MAX - 511, 1024, WRITE)]),
        ("longer than memory", vec![descriptor(DATA, u32::MAX, WRITE)]),
        (
            "outside, later good",
            vec![descriptor(END, 512, WRITE), descriptor(DATA, 512, WRITE)],
        ),
        (
            "readable behind writable",
            vec![descriptor(DATA, 512, WRITE), descriptor(DATA, 512, 0)],
        ),
        (
            "no whole blocks",
            vec![descriptor(DATA, 512, WRITE), descriptor(DATA, 1, WRITE)],
        ),
    ];
    let count = cases.len() as u64;
    for (name, data) in cases {
        let chain = read_chain(&rig, &data);
        let (used, status) = rig.answered_by_itself(&chain);
        assert_eq!((used.bytes, status), (1, 1), "{name}");
    }
    assert_eq!(
        (rig.stats().malformed.get(), rig.stats().unanswerable.get()),
        (count, 0)
    );
}

#[test]
fn a_header_that_is_short_or_outside_is_answered() {
    let mut rig = Rig::new();
    for header in [
        descriptor(END - 8, 16, 0),
        descriptor(END, 16, 0),
        descriptor(u64::MAX - 3, 16, 0),
    ] {
        let mut chain = read_chain(&rig, &[]);
        chain[0] = header;
        assert_eq!(rig.answered_by_itself(&chain).1, 1, "{header:?}");
    }
    for bytes in [0, 1, 15] {
        let mut chain = read_chain(&rig, &[]);
        chain[0].bytes = bytes;
        assert_eq!(rig.answered_by_itself(&chain).1, 1, "{bytes} bytes");
        let chain = &chain[1..];
        let head = rig.driver.submit_chain(chain).unwrap();
        rig.driver.publish();
        assert_eq!(rig.taken_by_itself(head).0.bytes, 1, "no header at all");
    }
}

/// Whatever is wrong, what can be written is written: a driver reads a status byte that was left alone as it pleases.
#[test]
fn chains_that_never_end_are_given_up_and_say_so() {
    let mut rig = Rig::new();
    // A circle of two, one onto itself, and a next outside the table.
    for (next_of_second, size) in [(0, 16), (1, 16), (16, 16), (u16::MAX, 16)] {
        rig.memory.write(DATA + 511, &[STATUS_NONE]);
        let chain = read_chain(&rig, &[descriptor(DATA, 512, WRITE)]);
        let head = rig.driver.submit_chain(&chain).unwrap();
        let second = head + 1;
        let next = if next_of_second < size {
            head + next_of_second
        } else {
            next_of_second
        };
        let looped = Descriptor {
            next,
            ..descriptor(DATA, 512, WRITE | Descriptor::NEXT)
        };
        rig.driver.write_descriptor(second, looped);
        rig.driver.publish();
        assert_eq!(rig.taken_by_itself(head).0.bytes, 1);
        assert_eq!(byte(&rig, DATA + 511), 1, "the last writable byte that was met");
    }
    assert_eq!(rig.stats().unanswerable.get(), 0);
    assert_eq!(rig.stats().malformed.get(), 4);
}

fn byte(rig: &Rig, at: u64) -> u8 {
    let mut byte = [0];
    assert!(rig.memory.read(at, &mut byte));
    byte[0]
}

fn entry(address: u64, bytes: u32, flags: u16, next: u16) -> [u8; 16] {
    let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
    (u128::from(address) | u128::from(rest) << 64).to_le_bytes()
}

#[test]
fn indirect_tables_that_break_a_rule() {
    let table = DATA + 0x8000;
    const STATUS: u64 = DATA + 1024;
    let mut rig = big();
    let whole = |rig: &Rig| {
        rig.memory.write(table, &entry(DATA, 16, 1, 1));
        rig.memory.write(table + 16, &entry(DATA + 512, 512, 3, 2));
        rig.memory.write(table + 32, &entry(STATUS, 1, 2, 0));
    };
    let indirect = |address, bytes| descriptor(address, bytes, Descriptor::INDIRECT);
    // What is answered: the used length and the byte at `at`.
    let seen = |rig: &mut Rig, one: Descriptor, at: u64| {
        rig.memory.write(at, &[STATUS_NONE]);
        let (used, _) = rig.answered_by_itself(&[one]);
        (used.bytes, byte(rig, at))
    };
    whole(&rig);
    // No table, or one that ends before anything writable: there is nothing to write to.
    for bad in [
        indirect(table, 0),
        indirect(table, 15),
        indirect(table, 17),
        indirect(END, 48),
        indirect(u64::MAX - 15, 48),
    ] {
        assert_eq!(seen(&mut rig, bad, STATUS), (0, STATUS_NONE), "{bad:?}");
    }
    // One that is misshaped or goes on behind its end has a last writable byte up to there.
    for bytes in [32, 47] {
        assert_eq!(
            seen(&mut rig, indirect(table, bytes), DATA + 1023),
            (1, 1),
            "{bytes}"
        );
    }
    assert_eq!(seen(&mut rig, indirect(table, 49), STATUS), (1, 1));
    rig.memory.write(END - 16, &entry(STATUS, 1, 3, 1));
    assert_eq!(
        seen(&mut rig, indirect(END - 16, 48), STATUS),
        (1, 1),
        "it ends with memory"
    );
    // Longer than memory, and whole as far as it is used: what lies behind the last entry is not looked at.
    rig.driver.submit_chain(&[indirect(table, !15)]).unwrap();
    rig.driver.publish();
    let request = rig.request();
    rig.answer(request, Status::Ok);
    rig.driver.poll_used().unwrap();
    // Nested, a next behind the end, a circle.
    rig.memory.write(table + 32, &entry(table, 48, 4, 0));
    assert_eq!(seen(&mut rig, indirect(table, 48), DATA + 1023), (1, 1));
    for next in [3, u16::MAX, 1] {
        rig.memory.write(table + 32, &entry(STATUS, 1, 3, next));
        rig.memory.write(DATA + 1023, &[STATUS_NONE]);
        let (bytes, status) = seen(&mut rig, indirect(table, 48), STATUS);
        // Where a circle is left is no matter; that one of its writable ends says so is.
        assert_eq!((bytes, status & byte(&rig, DATA + 1023)), (1, 1), "{next}");
    }
    whole(&rig);
    // INDIRECT with NEXT, which the driver's half would not write: behind the table the chain goes on.
    let head = rig.driver.submit_chain(&[indirect(table, 48)]).unwrap();
    let both = Descriptor {
        next: head ^ 1,
        ..descriptor(table, 48, Descriptor::INDIRECT | Descriptor::NEXT)
    };
    rig.driver.write_descriptor(head, both);
    rig.driver
        .write_descriptor(head ^ 1, descriptor(STATUS + 8, 4, WRITE));
    rig.memory.write(STATUS + 11, &[STATUS_NONE]);
    rig.driver.publish();
    assert_eq!(rig.taken_by_itself(head).0.bytes, 1);
    assert_eq!(byte(&rig, STATUS + 11), 1);
    // And the good one is good.
    rig.driver.submit_chain(&[indirect(table, 48)]).unwrap();
    rig.driver.publish();
    let request = rig.request();
    rig.answer(request, Status::Ok);
}

/// Every entry of the ring an indirect table, every table a circle: the work is that of one chain all the same.
#[test]
fn tables_behind_tables_are_bounded_work() {
    let mut rig = big();
    let table = DATA + 0x8000;
    rig.memory.write(table, &entry(DATA, 16, 1, 1));
    rig.memory.write(table + 16, &entry(DATA + 512, 512, 3, 0));
    for index in 0..256 {
        let one = Descriptor {
            next: (index + 1) % 256,
            ..descriptor(table, 32, Descriptor::INDIRECT | Descriptor::NEXT)
        };
        rig.driver.write_descriptor(index, one);
    }
    rig.driver.put_available(7);
    rig.driver.publish();
    assert!(matches!(rig.pull(), Pulled::Answered), "it is answered here");
    assert_eq!(rig.queue.followed(), chain_descriptors_max(256));
    assert_eq!(byte(&rig, DATA + 1023), 1);
}

#[test]
fn indirect_tables_not_negotiated_are_refused() {
    let options = DriverOptions {
        size: 16,
        event_idx: false,
        indirect: true,
    };
    let mut rig = Rig::with(options, |setup| {
        setup.features = setup.features.without(crate::Features::INDIRECT_DESC);
    });
    let flush = BlkHeader {
        kind: kind::FLUSH,
        sector: 0,
    };
    let head = rig.driver.submit(flush, &[]).unwrap();
    rig.driver.publish();
    let (used, status) = rig.taken_by_itself(head);
    assert_eq!((used.bytes, status), (1, 1));
}

#[test]
fn an_index_that_jumps_breaks_this_queue_and_what_was_taken_is_still_answered() {
    let mut rig = Rig::new();
    rig.submit(kind::FLUSH, 0, &[]);
    rig.driver.publish();
    let request = rig.request();
    let index = rig.driver.addresses().avail + 2;
    rig.memory.store_u16(index, 18);
    assert!(matches!(rig.pull(), Pulled::Empty));
    assert_eq!(
        rig.queue.broken(),
        Some(Broken::AvailJumped {
            avail_idx: 18,
            next_avail: 1
        })
    );
    assert!(!rig.queue.arm());
    rig.memory.store_u16(index, 2);
    assert!(matches!(rig.pull(), Pulled::Empty), "it stays broken");
    assert!(!rig.queue.arm() && !rig.queue.has_more());
    assert_eq!((rig.stats().broken.get(), rig.bell.breaks()), (1, 1), "said once");
    assert_eq!(rig.stats().broken_now(), rig.queue.broken());
    rig.answer(request, Status::Ok);
    assert!(rig.driver.poll_used().unwrap().expected);
}

#[test]
fn more_chains_than_the_ring_has_entries_break_it() {
    let mut rig = Rig::new();
    let index = rig.driver.addresses().avail + 2;
    let head = rig.submit(kind::FLUSH, 0, &[]);
    for _ in 1..17 {
        rig.driver.put_available(head);
    }
    let mut tokens = Vec::new();
    for offered in 1..=16 {
        rig.memory.store_u16(index, offered);
        tokens.push(rig.request().token);
    }
    rig.memory.store_u16(index, 17);
    assert!(matches!(rig.pull(), Pulled::Empty));
    assert!(matches!(
        rig.queue.broken(),
        Some(Broken::AvailJumped {
            avail_idx: 17,
            next_avail: 16
        })
    ));
    for token in tokens {
        rig.queue.finish(Answer {
            token,
            status: Status::Ok,
            fault: None,
            dirtied: &[],
        });
    }
    rig.queue.publish();
}

#[test]
fn an_index_that_goes_back_breaks_the_queue() {
    let mut rig = Rig::new();
    rig.memory.store_u16(rig.driver.addresses().avail + 2, u16::MAX);
    assert!(rig.queue.broken().is_none());
    assert!(!rig.queue.arm());
    assert!(matches!(
        rig.queue.broken(),
        Some(Broken::AvailJumped {
            avail_idx: u16::MAX,
            ..
        })
    ));
}

#[test]
fn a_head_outside_the_table_breaks_the_queue() {
    for head in [16, 17, u16::MAX] {
        let mut rig = Rig::new();
        rig.driver.put_available(head);
        rig.driver.publish();
        assert!(matches!(rig.pull(), Pulled::Empty));
        assert_eq!(rig.queue.broken(), Some(Broken::HeadOutside { head }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the memory holds, pulls end, answers go somewhere inside, nothing panics.
    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>(), 0u8..4], 4096), base: u16) {
        let memory = GuestMemory::anonymous(&[(0, 4096)]).unwrap();
        let options = DriverOptions { size: 16, event_idx: base % 2 == 0, indirect: false };
        let driver = DriverQueue::new(Arc::clone(&memory), 0, options).unwrap();
        memory.write(0, &bytes);
        // Offer up to a full ring from wherever the used index happens to be, so that most cases get past it.
        let ring = driver.addresses();
        let used = memory.load_u16(ring.used + 2).unwrap();
        memory.store_u16(ring.avail + 2, used.wrapping_add(base % 18));
        for entry in 0..16 {
            let head = memory.load_u16(ring.avail + 4 + 2 * entry).unwrap();
            memory.store_u16(ring.avail + 4 + 2 * entry, head % 17);
        }
        let mut setup = setup(&memory, &driver, None);
        setup.base = used;
        let mut queue = BlkQueue::new(setup, Bell::default()).unwrap();
        let mut segments = SegmentList::default();
        for round in 0..300 {
            if round % 2 == 0 {
                queue.may_follow(round / 2);
            }
            match queue.pull(&mut segments) {
                Pulled::Empty => break,
                Pulled::Answered => {}
                Pulled::NoRoom => segments.lend(LongList::default()),
                Pulled::Later => queue.may_follow(u32::MAX),
                Pulled::Request(request) => {
                    let memory_bytes = memory.host_segments().next().unwrap();
                    for segment in segments.as_slice() {
                        prop_assert!(memory_bytes.contains(*segment));
                    }
                    if request.op.moves_data() {
                        prop_assert_eq!(request.sectors.bytes(), segments.bytes());
                    }
                    queue.finish(Answer { token: request.token, status: Status::Ok, fault: None, dirtied: &[] });
                }
            }
            queue.publish();
        }
        queue.arm();
        let stats = queue.stats();
        prop_assert_eq!(stats.taken.get(), stats.returned.get());
    }
}
