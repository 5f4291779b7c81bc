//! One shared mapping of a piece of a file, or of anonymous memory.

use crate::kind;
use crate::lost::Watch;
use crate::share::{Held, MemoryShare};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, MmapRegion};

/// Why memory could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The region is empty, or its end does not fit 64 bits in one of its address spaces.
    #[error("a region of {bytes} bytes at guest address {guest_address:#x} is empty or wraps")]
    Extent {
        /// First guest address.
        guest_address: u64,
        /// Length.
        bytes: u64,
    },
    /// Two regions share guest addresses or front-end addresses.
    #[error("the regions at guest addresses {first:#x} and {second:#x} overlap")]
    Overlap {
        /// First guest address of the one.
        first: u64,
        /// First guest address of the other.
        second: u64,
    },
    /// More regions than [`MEMORY_REGIONS_MAX`](palisade_block::limits::MEMORY_REGIONS_MAX).
    #[error("{regions} memory regions are too many")]
    TooMany {
        /// How many.
        regions: usize,
    },
    /// The file ends before the region does.
    #[error("the file has {file_bytes} bytes, the region needs {needed_bytes}")]
    FileTooShort {
        /// Bytes there are.
        file_bytes: u64,
        /// Bytes there would have to be.
        needed_bytes: u64,
    },
    /// The file is of a kind whose pages somebody else brings, and who does not keeps us waiting.
    #[error(
        "{file} is neither a memfd nor a file of tmpfs or hugetlbfs: memory on it could keep us waiting; give the \
         virtual machine memory of one of these kinds"
    )]
    Waits {
        /// The file, as the kernel names it.
        file: String,
    },
    /// More than the attachment's share, or than what all attachments have together leaves it.
    #[error("{asked} {what} would be more than the attachment's share of {share}")]
    Share {
        /// Of what.
        what: &'static str,
        /// How much there would be.
        asked: u64,
        /// How much there may be.
        share: u64,
    },
    /// No region has these bounds.
    #[error("there is no such region at guest address {guest_address:#x}")]
    NoSuchRegion {
        /// First guest address asked for.
        guest_address: u64,
    },
    /// The kernel refused to look at or to map the file.
    #[error("{call} failed: {source}")]
    System {
        /// What was tried.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// Memory mapped shared, readable and writable; unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Stands first, to be dropped before the mapping goes; `None` where no file can shrink.
    watch: Option<Watch>,
    region: MmapRegion<()>,
    skip: usize,
    bytes: usize,
    sealed: bool,
    /// Whether its pages are the kernel's own.
    prompt: bool,
    /// Whether it lies in hugetlbfs.
    huge: bool,
    /// Its pages, if there may be none for an access within its file.
    lacking_page_bytes: Option<usize>,
    /// Stands last, to be given back when the mapping has gone.
    _held: Option<Held>,
}

impl Mapping {
    /// Maps `bytes` of a file from `offset`. The offset need not lie on a page: mapping starts at the page before,
    /// in the file's own page size, since hugetlbfs takes nothing else.
    pub(crate) fn of_file(
        file: OwnedFd,
        offset: u64,
        bytes: u64,
        share: &Arc<MemoryShare>,
    ) -> Result<Mapping, MapError> {
        let prompt = kind::waits_for_nobody(file.as_fd());
        if !prompt && !share.any_file() {
            return Err(MapError::Waits {
                file: kind::name(file.as_fd()),
            });
        }
        let file = File::from(file);
        let file_bytes = file.metadata().map_err(system("fstat"))?.len();
        let sealed = seal_against_shrinking(&file);
        let (page, may_lack_pages) = pages(&file)?;
        let extent = || MapError::Extent {
            guest_address: offset,
            bytes,
        };
        let end = offset
            .checked_add(bytes)
            .filter(|_| bytes > 0)
            .ok_or_else(extent)?;
        let start = offset - offset % page;
        let end = end.checked_next_multiple_of(page).ok_or_else(extent)?;
        let needed_bytes = offset + bytes;
        if file_bytes < needed_bytes {
            return Err(MapError::FileTooShort {
                file_bytes,
                needed_bytes,
            });
        }
        let length = usize::try_from(end - start).map_err(|_| extent())?;
        let held = share.hold(length as u64, page <= 4096)?;
        let region = MmapRegionBuilder::new(length)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::new(file, start))
            .build()
            .map_err(not_mapped)?;
        let watch = Watch::over(region.as_ptr() as usize, length)?;
        Ok(Mapping {
            watch: Some(watch),
            region,
            skip: (offset - start) as usize,
            bytes: bytes as usize,
            sealed,
            prompt,
            huge: page > 4096,
            lacking_page_bytes: may_lack_pages.then_some(page as usize),
            _held: Some(held),
        })
    }

    /// Maps fresh zeroed memory that no file stands behind.
    pub(crate) fn anonymous(bytes: u64) -> Result<Mapping, MapError> {
        let extent = || MapError::Extent {
            guest_address: 0,
            bytes,
        };
        let length = usize::try_from(bytes)
            .ok()
            .filter(|&bytes| bytes > 0 && isize::try_from(bytes).is_ok());
        let length = length.ok_or_else(extent)?;
        let region = MmapRegionBuilder::new(length)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
            .build()
            .map_err(not_mapped)?;
        Ok(Mapping {
            watch: None,
            region,
            skip: 0,
            bytes: length,
            sealed: true,
            prompt: true,
            huge: false,
            lacking_page_bytes: None,
            _held: None,
        })
    }

    /// Address of the first byte in this process.
    pub(crate) fn address(&self) -> usize {
        self.region.as_ptr() as usize + self.skip
    }

    /// Length in bytes, as asked for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an access has found nothing behind it: there are zeroes in its place now.
    #[inline]
    pub(crate) fn is_lost(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_lost)
    }

    /// The file behind it, and where in the file its first byte lies; `None` without a file.
    pub(crate) fn file(&self) -> Option<(&File, u64)> {
        let file = self.region.file_offset()?;
        Some((file.file(), file.start() + self.skip as u64))
    }

    /// Whether it lies in hugetlbfs.
    pub(crate) fn is_huge(&self) -> bool {
        self.huge
    }

    /// The length of its pages, if there may be none for an access within its file, as the file system has no room left.
    pub(crate) fn lacking_page_bytes(&self) -> Option<usize> {
        self.lacking_page_bytes
    }

    /// Whether its file ends before it does.
    pub(crate) fn is_cut(&self) -> bool {
        let ends = |(file, offset): (&File, u64)| {
            let length = file.metadata().map_or(0, |file| file.len());
            length < offset + self.bytes as u64
        };
        self.file().is_some_and(ends)
    }

    /// Whether its pages are the kernel's own, so that an access waits for nobody.
    pub(crate) fn prompt(&self) -> bool {
        self.prompt
    }

    /// Whether the file can no longer shrink.
    pub(crate) fn sealed(&self) -> bool {
        self.sealed
    }
}

/// Makes an error of the last system call.
pub(crate) fn system(call: &'static str) -> impl FnOnce(io::Error) -> MapError {
    move |source| MapError::System { call, source }
}

fn not_mapped(error: vm_memory::mmap::MmapRegionError) -> MapError {
    let source = match error {
        vm_memory::mmap::MmapRegionError::Mmap(source) => source,
        other => io::Error::new(io::ErrorKind::InvalidInput, other.to_string()),
    };
    MapError::System { call: "mmap", source }
}

/// Seals a memfd against shrinking; true when it is sealed afterwards, whoever did it.
fn seal_against_shrinking(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: plain calls on a descriptor that `file` keeps open; a file without seals answers EINVAL, a file whose
    // seals are sealed EPERM, and both change nothing.
    let seals = unsafe {
        libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK);
        libc::fcntl(fd, libc::F_GET_SEALS)
    };
    seals >= 0 && seals & libc::F_SEAL_SHRINK != 0
}

/// The page size in which the file is mapped, and whether its file system may have none left: a tmpfs without a limit of its
/// own, which memfds lie on, has what the host has.
fn pages(file: &File) -> Result<(u64, bool), MapError> {
    // SAFETY: all-zero is a valid `statfs`.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `stat` is writable for the call.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut stat) } != 0 {
        return Err(system("fstatfs")(io::Error::last_os_error()));
    }
    let huge = stat.f_type == libc::HUGETLBFS_MAGIC;
    let unlimited = stat.f_type == libc::TMPFS_MAGIC && stat.f_blocks == 0;
    let page = match huge {
        true => (stat.f_bsize as u64).max(4096),
        false => 4096,
    };
    Ok((page, !unlimited))
}
