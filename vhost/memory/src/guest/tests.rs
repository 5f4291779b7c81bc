//! Regions as front-ends offer them, good and bad.

use super::*;
use std::fs::File;

const PAGE: u64 = 4096;

fn file(bytes: u64) -> OwnedFd {
    let path = std::env::temp_dir().join(format!(
        "palisade-memory-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    file.set_len(bytes).unwrap();
    file.into()
}

fn spec(guest_address: u64, bytes: u64, user_address: u64, mmap_offset: u64, file: &OwnedFd) -> RegionSpec {
    RegionSpec {
        guest_address,
        bytes,
        user_address,
        mmap_offset,
        file: file.try_clone().unwrap(),
    }
}

#[test]
fn the_same_file_is_seen_through_both_regions() {
    let file = file(4 * PAGE);
    let memory = GuestMemory::map(vec![
        spec(0x10_0000, 2 * PAGE, 0x7000_0000, 2 * PAGE, &file),
        spec(0, 2 * PAGE, 0x6000_0000, 0, &file),
    ])
    .unwrap();
    assert!(memory.write(0x10_0000 + 5, b"hello"));
    let mut whole = vec![0; 4 * PAGE as usize];
    std::os::unix::fs::FileExt::read_exact_at(&File::from(file), &mut whole, 0).unwrap();
    assert_eq!(&whole[2 * PAGE as usize + 5..][..5], b"hello");
    assert_eq!(
        memory.user_to_guest(0x7000_0000 + 2 * PAGE - 1),
        Some(0x10_0000 + 2 * PAGE - 1)
    );
    assert_eq!(memory.user_to_guest(0x7000_0000 + 2 * PAGE), None);
    assert_eq!(memory.user_to_guest(0x6000_0000 - 1), None);
    let host = memory.slice(0x10_0000 + 7, 1).unwrap().address();
    assert_eq!(memory.host_to_guest(host), Some(0x10_0000 + 7));
    assert_eq!(memory.host_to_guest(8), None);
    assert_eq!(
        memory
            .regions()
            .map(|region| region.guest_address)
            .collect::<Vec<_>>(),
        [0, 0x10_0000]
    );
}

#[test]
fn an_offset_inside_a_page_is_honoured() {
    let file = file(2 * PAGE);
    std::os::unix::fs::FileExt::write_all_at(&File::from(file.try_clone().unwrap()), b"x", 100).unwrap();
    let memory = GuestMemory::map(vec![spec(0, PAGE, 0, 100, &file)]).unwrap();
    let mut byte = [0];
    assert!(memory.read(0, &mut byte));
    assert_eq!(&byte, b"x");
    assert!(!memory.read(PAGE, &mut byte));
}

#[test]
fn regions_that_cannot_be_are_refused() {
    let file = file(4 * PAGE);
    let map = |specs| GuestMemory::map(specs).unwrap_err();
    assert!(matches!(
        map(vec![spec(0, 0, 0, 0, &file)]),
        MapError::Extent { .. }
    ));
    assert!(matches!(
        map(vec![spec(u64::MAX - 1, PAGE, 0, 0, &file)]),
        MapError::Extent { .. }
    ));
    assert!(matches!(
        map(vec![spec(0, PAGE, u64::MAX - 1, 0, &file)]),
        MapError::Extent { .. }
    ));
    assert!(matches!(
        map(vec![spec(0, PAGE, 0, u64::MAX - 1, &file)]),
        MapError::Extent { .. }
    ));
    assert!(matches!(
        map(vec![spec(0, u64::MAX, 0, 0, &file)]),
        MapError::Extent { .. }
    ));
    assert!(matches!(
        map(vec![spec(0, 5 * PAGE, 0, 0, &file)]),
        MapError::FileTooShort {
            file_bytes: 16384,
            ..
        }
    ));
    assert!(matches!(
        map(vec![spec(0, PAGE, 0, 4 * PAGE, &file)]),
        MapError::FileTooShort { .. }
    ));
    assert!(matches!(
        map(vec![spec(0, PAGE, 0, 3 * PAGE + 1, &file)]),
        MapError::FileTooShort { .. }
    ));
    let overlap = vec![
        spec(0, 2 * PAGE, 0, 0, &file),
        spec(PAGE, PAGE, 0x10_0000, 0, &file),
    ];
    assert!(matches!(
        map(overlap),
        MapError::Overlap {
            first: 0,
            second: 4096
        }
    ));
    let overlap = vec![
        spec(0, 2 * PAGE, 0, 0, &file),
        spec(0x10_0000, PAGE, PAGE, 0, &file),
    ];
    assert!(matches!(
        map(overlap),
        MapError::Overlap {
            first: 0,
            second: 0x10_0000
        }
    ));
    let many = (0..513)
        .map(|at| spec(at * PAGE, PAGE, at * PAGE, 0, &file))
        .collect();
    assert!(matches!(map(many), MapError::TooMany { regions: 513 }));
    let pipe: OwnedFd = std::io::pipe().unwrap().0.into();
    assert!(matches!(
        map(vec![spec(0, PAGE, 0, 0, &pipe)]),
        MapError::FileTooShort { file_bytes: 0, .. }
    ));
}

#[test]
fn regions_come_and_go_and_what_stays_is_not_mapped_again() {
    let file = file(4 * PAGE);
    let one = GuestMemory::map(vec![spec(0, PAGE, 0, 0, &file)]).unwrap();
    let two = one.with_region(spec(PAGE, PAGE, 0x10_0000, PAGE, &file)).unwrap();
    assert_eq!(two.slice(0, 1), one.slice(0, 1));
    assert!(matches!(
        two.with_region(spec(0, PAGE, 0x20_0000, 0, &file)),
        Err(MapError::Overlap { .. })
    ));
    assert!(matches!(
        two.without_region(PAGE, PAGE, 1),
        Err(MapError::NoSuchRegion { .. })
    ));
    assert!(matches!(
        two.without_region(PAGE, 1, 0x10_0000),
        Err(MapError::NoSuchRegion { .. })
    ));
    let back = two.without_region(0, PAGE, 0).unwrap();
    assert_eq!(back.slice(0, 1), None);
    assert_eq!(back.slice(PAGE, 1), two.slice(PAGE, 1));
    drop((one, two));
    assert!(back.write(PAGE, b"still mapped"));
    let none = back.without_region(PAGE, PAGE, 0x10_0000).unwrap();
    assert_eq!(none.regions().len(), 0);
    assert_eq!(GuestMemory::empty().slice(0, 0), None);
}

#[test]
fn ranges_are_translated_across_neighbours_and_refused_at_gaps() {
    let memory = GuestMemory::anonymous(&[(PAGE, PAGE), (2 * PAGE, PAGE), (4 * PAGE, PAGE)]).unwrap();
    let mut list = SegmentList::default();
    assert!(memory.segments(PAGE + 10, 2 * PAGE - 10, &mut list));
    assert_eq!((list.len(), list.bytes()), (2, 2 * PAGE - 10));
    list.clear();
    assert!(!memory.segments(2 * PAGE, 2 * PAGE, &mut list), "a gap");
    assert!(!memory.segments(0, 1, &mut list));
    assert!(!memory.segments(4 * PAGE, PAGE + 1, &mut list));
    assert!(!memory.segments(u64::MAX, 2, &mut list));
    assert_eq!(memory.slice(PAGE, PAGE + 1), None, "not in one piece");
    assert_eq!(memory.slice(5 * PAGE, 0), None);
    assert_eq!(memory.slice(PAGE, u64::MAX), None);
    assert_eq!(memory.load_u16(PAGE + 1), None);
    assert!(memory.store_u16(PAGE + 2, 0x1234));
    assert_eq!(memory.load_u16(PAGE + 2), Some(0x1234));
}

#[test]
fn the_last_byte_of_the_address_space_can_be_reached() {
    let memory = GuestMemory::anonymous(&[(u64::MAX - (PAGE - 1), PAGE)]).unwrap();
    let mut list = SegmentList::default();
    assert!(memory.segments(u64::MAX - 1, 2, &mut list));
    list.clear();
    assert!(!memory.segments(u64::MAX - 1, 3, &mut list));
}

#[test]
fn a_memfd_is_sealed_when_it_is_mapped_and_can_then_not_shrink() {
    let memfd = |seals: bool| {
        use std::os::fd::FromRawFd;
        let flags = if seals { libc::MFD_ALLOW_SEALING } else { 0 };
        // SAFETY: the name is a C string, and the descriptor is owned by nobody else.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"test".as_ptr(), flags)) };
        file.set_len(PAGE).unwrap();
        file
    };
    for (seals, sealed) in [(true, true), (false, false)] {
        let file = memfd(seals);
        let memory = GuestMemory::map(vec![spec(0, PAGE, 0, 0, &file.try_clone().unwrap().into())]).unwrap();
        assert_eq!(memory.regions().next().unwrap().sealed, sealed);
        assert_eq!(file.set_len(0).is_err(), sealed);
    }
}

#[test]
fn a_file_that_shrinks_costs_its_own_guest_and_no_other() {
    use std::os::fd::FromRawFd;
    let unsealed = || {
        // SAFETY: the name is a C string, and the descriptor is owned by nobody else.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"test".as_ptr(), 0)) };
        file.set_len(4 * PAGE).unwrap();
        file
    };
    let (file, other) = (unsealed(), unsealed());
    let map = |file: &File| {
        GuestMemory::map(vec![spec(0, 4 * PAGE, 0, 0, &file.try_clone().unwrap().into())]).unwrap()
    };
    let (memory, neighbour) = (map(&file), map(&other));
    assert!(memory.write(0, &[7]) && neighbour.write(0, &[7]));
    file.set_len(PAGE).unwrap();
    assert!(!memory.is_lost(), "nobody has touched what is gone");
    let mut byte = [9];
    assert!(memory.read(2 * PAGE, &mut byte));
    assert_eq!(byte, [0]);
    assert!(memory.is_lost() && !neighbour.is_lost());
    assert!(memory.has_shrunk() && !neighbour.has_shrunk());
    assert!(memory.write(3 * PAGE, &[1]) && memory.store_u16(0, 5));
    assert!(neighbour.read(0, &mut byte));
    assert_eq!(byte, [7]);
    drop(memory);
    assert!(!map(&other).is_lost(), "the place is used again");
}

/// Of a file of huge pages; none where the kernel has no such files.
fn huge(pages: u64) -> Option<File> {
    use std::os::fd::FromRawFd;
    let flags = libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"huge".as_ptr(), flags) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor is owned by nobody else.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(pages << 21).ok()?;
    Some(file)
}

#[test]
fn huge_pages_that_are_not_to_be_had_cost_their_own_guest_and_no_other() {
    const HUGE: u64 = 2 << 20;
    const PAGES: u64 = 64;
    let (Some(taker), Some(file)) = (huge(4096), huge(PAGES)) else {
        eprintln!("skipped: no huge pages here");
        return;
    };
    let map = |file: &File, bytes: u64| {
        GuestMemory::map(vec![spec(0, bytes, 0, 0, &file.try_clone().unwrap().into())]).unwrap()
    };
    // Mapped without a page behind it, as a front-end may that has never touched it.
    let memory = map(&file, PAGES * HUGE);
    let other = unsealed(4 * PAGE);
    let neighbour = map(&other, 4 * PAGE);
    assert!(neighbour.write(0, &[7]));
    // Another takes all there are. Somebody on this machine may give one back meanwhile: then the next page is met.
    for page in 0..PAGES {
        use std::os::fd::AsRawFd;
        // SAFETY: plain numbers.
        unsafe { libc::fallocate(taker.as_raw_fd(), 0, 0, 4096 * HUGE as libc::off_t) };
        let mut byte = [9];
        assert!(memory.read(page * HUGE, &mut byte));
        assert_eq!(byte, [0]);
        if memory.is_lost() {
            break;
        }
    }
    assert!(memory.is_lost() && !neighbour.is_lost());
    assert!(!memory.has_shrunk(), "the file has its length");
    let mut byte = [0];
    assert!(neighbour.read(0, &mut byte));
    assert_eq!(byte, [7]);
}

fn unsealed(bytes: u64) -> File {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a C string, and the descriptor is owned by nobody else.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"test".as_ptr(), 0)) };
    file.set_len(bytes).unwrap();
    file
}

/// A file of a disk: others have to bring its pages.
fn of_a_disk(bytes: u64) -> (OwnedFd, String) {
    let path = format!("/var/tmp/palisade-memory-{}-{bytes}", std::process::id());
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file.set_len(bytes).unwrap();
    (file.into(), path)
}

#[test]
fn files_that_may_be_without_a_page_within_their_length_are_known() {
    let lacks = |file: OwnedFd| {
        let memory = GuestMemory::map(vec![spec(0, PAGE, 0, 0, &file)]).unwrap();
        memory.lease().lacking_page_bytes()
    };
    assert_eq!(lacks(unsealed(PAGE).into()), None, "it has what the host has");
    assert_eq!(lacks(of_a_disk(PAGE).0), Some(4096));
    let mut mine = std::fs::File::options();
    let path = format!("/dev/shm/palisade-memory-{}", std::process::id());
    let limited = mine
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    limited.set_len(PAGE).unwrap();
    let limited = OwnedFd::from(limited);
    assert_eq!(
        lacks(limited.try_clone().unwrap()),
        Some(4096),
        "a tmpfs that is mounted has a limit"
    );
    let anonymous = GuestMemory::anonymous(&[(0, PAGE)]).unwrap();
    assert_eq!(anonymous.lease().lacking_page_bytes(), None);
    if let Some(huge) = huge(1) {
        let huge = OwnedFd::from(huge);
        let memory = GuestMemory::map(vec![spec(0, 2 << 20, 0, 0, &huge)]).unwrap();
        assert_eq!(memory.lease().lacking_page_bytes(), Some(2 << 20));
        let both = vec![
            spec(0, 2 << 20, 0, 0, &huge),
            spec(2 << 20, PAGE, 2 << 20, 0, &limited),
        ];
        let memory = GuestMemory::map(both).unwrap();
        assert_eq!(memory.lease().lacking_page_bytes(), Some(4096), "the shortest");
    }
}

#[test]
fn memory_of_any_lost_region_is_lost() {
    let (stays, shrinks) = (unsealed(PAGE), unsealed(PAGE));
    let region = |at, file: &File| spec(at, PAGE, at, 0, &file.try_clone().unwrap().into());
    let memory = GuestMemory::map(vec![region(0, &stays), region(PAGE, &shrinks)]).unwrap();
    shrinks.set_len(0).unwrap();
    assert!(!memory.is_lost());
    assert!(memory.read(PAGE, &mut [0]));
    assert!(memory.is_lost() && memory.has_shrunk());
    let rest = memory.without_region(PAGE, PAGE, PAGE).unwrap();
    assert!(!rest.is_lost());
    assert!(
        !GuestMemory::anonymous(&[(0, PAGE)]).unwrap().is_lost(),
        "nothing of this can be lost"
    );
    assert!(!Mapping::anonymous(PAGE).unwrap().is_cut());
}

#[test]
fn files_of_disks_are_for_memory_of_our_own_making_alone() {
    let shares = crate::Shares::new(crate::ShareLimits::default());
    let (disk, path) = of_a_disk(PAGE);
    let (memfd, share) = (OwnedFd::from(unsealed(PAGE)), shares.join());
    let refused = GuestMemory::map_within(vec![spec(0, PAGE, 0, 0, &disk)], &share).unwrap_err();
    assert!(
        matches!(&refused, MapError::Waits { file } if file.starts_with(&path)),
        "{refused}"
    );
    assert_eq!(share.mapped(), crate::MappingTotals::default());
    let memory = GuestMemory::map_within(vec![spec(0, PAGE, 0, 0, &memfd)], &share).unwrap();
    assert!(memory.is_prompt() && GuestMemory::anonymous(&[(0, PAGE)]).unwrap().is_prompt());
    assert_eq!(
        shares.charged_bytes(),
        PAGE,
        "plain pages are charged to whoever touches them first"
    );
    let both = vec![spec(0, PAGE, 0, 0, &memfd), spec(PAGE, PAGE, PAGE, 0, &disk)];
    assert!(!GuestMemory::map(both).unwrap().is_prompt());
}

#[test]
fn an_attachment_maps_what_its_share_allows_and_pays_for_whole_pages() {
    let limits = crate::ShareLimits {
        memory_bytes: 4 * PAGE,
        mappings: 2,
    };
    let share = crate::Shares::new(limits).join();
    let file = OwnedFd::from(unsealed(8 * PAGE));
    let within = |specs| GuestMemory::map_within(specs, &share);
    let refused = |result: Result<Arc<GuestMemory>, MapError>, expected: (&str, u64)| match result {
        Err(MapError::Share { what, asked, .. }) => assert_eq!((what, asked), expected),
        other => unreachable!("{other:?}"),
    };
    refused(
        within(vec![
            spec(0, 3 * PAGE, 0, 0, &file),
            spec(0x10_0000, PAGE + 1, 0x10_0000, 0, &file),
        ]),
        ("bytes of memory", 4 * PAGE + 1),
    );
    let three = (0..3)
        .map(|at| spec(at * PAGE, PAGE, at * PAGE, 0, &file))
        .collect();
    refused(within(three), ("regions of memory", 3));
    let huge = vec![spec(0, u64::MAX, 0, 0, &file), spec(0, 2, 0, 0, &file)];
    refused(within(huge), ("bytes of memory", u64::MAX));
    assert_eq!(share.mapped(), crate::MappingTotals::default());
    // 100 bytes before the end of a page and one behind it are two pages.
    let one = within(vec![spec(0, 101, 0, 3 * PAGE - 100, &file)]).unwrap();
    assert_eq!(
        share.mapped(),
        crate::MappingTotals {
            bytes: 2 * PAGE,
            mappings: 1
        }
    );
    assert_eq!(one.bytes(), 101);
    let add = |to: &GuestMemory, at: u64, bytes| to.with_region_within(spec(at, bytes, at, 0, &file), &share);
    refused(add(&one, PAGE, 4 * PAGE), ("bytes of memory", 4 * PAGE + 101));
    let two = add(&one, PAGE, 3 * PAGE).unwrap();
    assert_eq!((two.bytes(), share.mapped().mappings), (3 * PAGE + 101, 2));
    refused(add(&two, 0x10_0000, 1), ("regions of memory", 3));
    drop((one, two));
    assert_eq!(share.mapped(), crate::MappingTotals::default());
}

#[test]
fn a_table_has_as_many_regions_as_the_protocol_allows_and_not_one_more() {
    let file = OwnedFd::from(unsealed(PAGE));
    let one = |at: u64| spec(at * PAGE, PAGE, at * PAGE, 0, &file);
    let full = GuestMemory::map((0..512).map(one).collect()).unwrap();
    assert_eq!(full.regions().len(), MEMORY_REGIONS_MAX);
    assert!(matches!(
        full.with_region(one(512)),
        Err(MapError::TooMany { regions: 513 })
    ));
    let less = full.without_region(0, PAGE, 0).unwrap();
    assert_eq!(less.with_region(one(512)).unwrap().bytes(), 512 * PAGE);
}

#[test]
fn regions_overlap_by_their_distance_wherever_they_lie() {
    for start in [0u64, 0x10_0000, 1 << 46] {
        let map = |second, bytes| GuestMemory::anonymous(&[(start, 2 * PAGE), (second, bytes)]).map(|_| ());
        assert!(map(start + 2 * PAGE, PAGE).is_ok());
        let refused = map(start + 2 * PAGE - 1, PAGE);
        assert!(
            matches!(refused, Err(MapError::Overlap { .. })),
            "{start:#x}: {refused:?}"
        );
    }
}

#[test]
fn memory_without_any_byte_or_with_more_than_there_can_be_is_refused() {
    for bytes in [0, 1 << 63, u64::MAX] {
        let refused = GuestMemory::anonymous(&[(0, bytes)]);
        assert!(
            matches!(refused, Err(MapError::Extent { .. })),
            "{bytes}: {refused:?}"
        );
    }
}
