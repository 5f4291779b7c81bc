//! A ring beside the bytes of guest memory, laid out by the letter of the standard (virtio 1.3, 2.7).

use super::*;
use crate::view::MemoryView;
use proptest::prelude::*;
use std::os::fd::{FromRawFd, OwnedFd};

const BYTES: u64 = 0x1_0000;

/// Where the areas of a ring lie in the tests.
const AT: RingAddresses = RingAddresses {
    descriptors: 0x1010,
    avail: 0x8002,
    used: 0xc004,
};

/// A ring of so many entries in memory of given bytes.
fn ring(size: u16, bytes: &[u8]) -> SplitRing {
    let memory = GuestMemory::anonymous(&[(0, BYTES)]).unwrap();
    assert!(memory.write(0, bytes));
    SplitRing::new(memory, size, AT).unwrap()
}

fn word(bytes: &[u8], at: u64) -> u16 {
    u16::from_le_bytes([bytes[at as usize], bytes[at as usize + 1]])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// All that is read is what the bytes say, and all that is written changes the bytes that it has to and no others.
    #[test]
    fn every_field_lies_where_the_standard_puts_it(
        seed: [u8; 32], log in 0..9u32, positions in prop::collection::vec(any::<u16>(), 4), value: u16, length: u32,
    ) {
        let size = 1u16 << log;
        let entries = u64::from(size);
        let bytes: Vec<u8> = seed.iter().copied().cycle().take(BYTES as usize).collect();
        let bytes: Vec<u8> = bytes.iter().zip(0u32..).map(|(byte, at)| byte ^ (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        let ring = ring(size, &bytes);
        prop_assert_eq!(ring.size(), size);
        prop_assert_eq!(ring.avail_flags(), word(&bytes, AT.avail));
        prop_assert_eq!(ring.avail_idx(), word(&bytes, AT.avail + 2));
        prop_assert_eq!(ring.used_event(), word(&bytes, AT.avail + 4 + 2 * entries));
        prop_assert_eq!(ring.used_idx(), word(&bytes, AT.used + 2));
        for &position in &positions {
            let place = u64::from(position % size);
            prop_assert_eq!(ring.avail_entry(position), word(&bytes, AT.avail + 4 + 2 * place));
            let at = (AT.descriptors + 16 * place) as usize;
            let descriptor = ring.descriptor(position);
            prop_assert_eq!(&descriptor.address.to_le_bytes()[..], &bytes[at..at + 8]);
            prop_assert_eq!(&descriptor.bytes.to_le_bytes()[..], &bytes[at + 8..at + 12]);
            let flags = word(&bytes, at as u64 + 12);
            prop_assert_eq!((descriptor.flags, descriptor.next), (flags, word(&bytes, at as u64 + 14)));
            let said = (descriptor.has_next(), descriptor.is_write(), descriptor.is_indirect());
            prop_assert_eq!(said, (flags % 2 == 1, flags / 2 % 2 == 1, flags / 4 % 2 == 1));
        }
        let mut expected = bytes;
        let mut put = |at: u64, new: &[u8]| expected[at as usize..][..new.len()].copy_from_slice(new);
        for &position in &positions {
            ring.put_used(position, value, length);
            let at = AT.used + 4 + 8 * u64::from(position % size);
            put(at, &u32::from(value).to_le_bytes());
            put(at + 4, &length.to_le_bytes());
            // Hints, which change nothing.
            ring.prefetch_used(position);
            ring.prefetch_descriptor(position);
        }
        ring.set_used_flags(value ^ 1);
        put(AT.used, &(value ^ 1).to_le_bytes());
        ring.set_used_idx(value);
        put(AT.used + 2, &value.to_le_bytes());
        ring.set_avail_event(!value);
        put(AT.used + 4 + 8 * entries, &(!value).to_le_bytes());
        let mut now = vec![0; BYTES as usize];
        prop_assert!(ring.memory().read(0, &mut now));
        prop_assert!(now == expected, "other bytes were written");
    }
}

#[test]
fn an_area_that_ends_with_memory_is_taken_and_one_byte_less_is_not() {
    for size in [1u16, 2, 256, QUEUE_SIZE_MAX] {
        let entries = u64::from(size);
        // Of each area its length, its alignment, and the addresses of a ring in which it lies at that place.
        type Place = fn(u64) -> RingAddresses;
        let areas: [(&str, u64, u64, Place); 3] = [
            ("descriptor", 16 * entries, 16, |descriptors| RingAddresses {
                descriptors,
                ..SPARE
            }),
            ("available", 6 + 2 * entries, 2, |avail| RingAddresses {
                avail,
                ..SPARE
            }),
            ("used", 6 + 8 * entries, 4, |used| RingAddresses { used, ..SPARE }),
        ];
        const SPARE: RingAddresses = RingAddresses {
            descriptors: 0x100_0000,
            avail: 0x200_0000,
            used: 0x300_0000,
        };
        for (area, bytes, align, at) in areas {
            let new = |region: u64, address: u64| {
                let regions = [(0, region), (0x100_0000, 0x300_0000)];
                SplitRing::new(GuestMemory::anonymous(&regions).unwrap(), size, at(address)).map(|_| ())
            };
            assert_eq!(new(bytes, 0), Ok(()), "{area} of {size}");
            assert_eq!(
                new(bytes - 1, 0),
                Err(RingError::NotMapped {
                    area,
                    guest_address: 0
                })
            );
            assert_eq!(new(bytes + align, align), Ok(()), "{area} of {size}");
            for address in [1, align / 2, align - 1] {
                let refused = Err(RingError::Misaligned {
                    area,
                    guest_address: address,
                });
                assert_eq!(new(2 * bytes + align, address), refused, "{size}");
            }
        }
    }
}

#[test]
fn the_size_of_a_ring_is_a_power_of_two_up_to_the_standards_bound() {
    let memory = GuestMemory::anonymous(&[(0, 1 << 21)]).unwrap();
    let at = RingAddresses {
        descriptors: 0,
        avail: 0x10_0000,
        used: 0x18_0000,
    };
    for size in 0..=u16::MAX {
        let made = SplitRing::new(Arc::clone(&memory), size, at).map(|ring| ring.size());
        match size.count_ones() == 1 && size <= 32768 {
            true => assert_eq!(made, Ok(size)),
            false => assert_eq!(made.unwrap_err(), RingError::Size { size }),
        }
    }
}

/// A file whose offset is odd in a page gives memory that is aligned in the guest and not with us, or the other way.
#[test]
fn an_area_must_be_aligned_in_the_guest_and_with_us() {
    // SAFETY: the name is a C string, and nobody else owns the new descriptor.
    let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC)) };
    let file = std::fs::File::from(file);
    file.set_len(0x2000).unwrap();
    let new = |guest_address: u64, mmap_offset: u64| {
        let memory = GuestMemory::map(vec![crate::RegionSpec {
            guest_address,
            bytes: 0x1000,
            user_address: guest_address,
            mmap_offset,
            file: file.try_clone().unwrap().into(),
        }]);
        let at = RingAddresses {
            descriptors: guest_address,
            avail: guest_address + 0x100,
            used: guest_address + 0x200,
        };
        SplitRing::new(memory.unwrap(), 4, at).map(|_| ())
    };
    let refused = |guest_address| {
        Err(RingError::Misaligned {
            area: "descriptor",
            guest_address,
        })
    };
    assert_eq!((new(0x1000, 0x10), new(0x1010, 0)), (Ok(()), Ok(())));
    assert_eq!(new(0x1000, 8), refused(0x1000));
    assert_eq!(new(0x1008, 0), refused(0x1008));
}

#[test]
fn addresses_of_a_front_end_are_translated_each_by_itself() {
    let memory = GuestMemory::anonymous(&[(0x1000, 0x1000), (0x3000, 0x1000)]).unwrap();
    let from = |descriptors, avail, used| RingAddresses::from_user(&memory, descriptors, avail, used);
    let at = RingAddresses {
        descriptors: 0x1000,
        avail: 0x1fff,
        used: 0x3001,
    };
    assert_eq!(from(0x1000, 0x1fff, 0x3001), Some(at));
    assert_eq!(from(0xfff, 0x1fff, 0x3001), None);
    assert_eq!(from(0x1000, 0x2000, 0x3001), None);
    assert_eq!(from(0x1000, 0x1fff, 0x4000), None);
}

#[test]
fn an_indirect_table_has_whole_descriptors_and_none_behind_its_end() {
    let view = MemoryView::new(GuestMemory::anonymous(&[(0, 0x1000)]).unwrap());
    let bytes: Vec<u8> = (0..0x1000u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as u8)
        .collect();
    assert!(view.memory().write(0, &bytes));
    for bytes in [0, 1, 15, 17, 31] {
        assert!(view.indirect(0, bytes).is_none(), "{bytes}");
    }
    // A table may lie at any address (virtio 1.3, 2.7.5.3 asks for no alignment).
    for at in [0u64, 8, 16, 1, 7, 0xfb1] {
        let entries = ((0x1000 - at) / 16).min(5);
        let table = view.indirect(at, 16 * entries as u32).unwrap();
        assert_eq!(u64::from(table.entries()), entries);
        for index in 0..entries {
            let raw = &bytes[(at + 16 * index) as usize..][..16];
            let raw = Descriptor::of(u128::from_le_bytes(raw.try_into().unwrap()));
            assert_eq!(table.descriptor(index as u16), Some(raw), "{index} at {at}");
        }
        assert_eq!(table.descriptor(entries as u16), None);
        assert_eq!(table.descriptor(u16::MAX), None);
    }
}
