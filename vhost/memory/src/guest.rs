//! All memory of one guest: its regions, and translation between the three address spaces of vhost-user (guest
//! physical, front-end virtual, and our own).

use crate::lost;
use crate::mapping::{MapError, Mapping};
use crate::raw;
use crate::resident;
use crate::share::MemoryShare;
use palisade_block::limits::MEMORY_REGIONS_MAX;
use palisade_block::{Lease, Mapped, Segment, SegmentList};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One region as a front-end offers it (vhost-user, "Memory region description").
#[derive(Debug)]
pub struct RegionSpec {
    /// First guest physical address.
    pub guest_address: u64,
    /// Length.
    pub bytes: u64,
    /// Address of its first byte in the front-end's process; ring addresses are given in this space.
    pub user_address: u64,
    /// Where in the file it begins, in bytes.
    pub mmap_offset: u64,
    /// The file.
    pub file: OwnedFd,
}

/// One mapped region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionInfo {
    /// First guest physical address.
    pub guest_address: u64,
    /// Length.
    pub bytes: u64,
    /// Address in the front-end.
    pub user_address: u64,
    /// Address in this process.
    pub host_address: usize,
    /// Whether the file behind it can no longer shrink.
    pub sealed: bool,
}

/// All memory of one guest. Never changed; a changed guest gets a new one that shares the mappings.
#[derive(Debug)]
pub struct GuestMemory {
    /// Sorted by guest address.
    table: Box<[Extent]>,
    /// The mappings behind the table, in the same order.
    mappings: Arc<Mappings>,
    /// Of these mappings.
    lease: Lease,
}

/// What is unmapped when nobody uses it any more.
#[derive(Debug)]
struct Mappings(Box<[Arc<Mapping>]>);

// SAFETY: each is a mapping of its own, readable and writable, that is unmapped when it is dropped, as these keep it from
// being; should it be lost, zeroes stand in its place at once. No reference to what is in it is ever made in this crate.
unsafe impl Mapped for Mappings {
    fn ranges(&self) -> Vec<(usize, usize)> {
        self.0
            .iter()
            .map(|mapping| (mapping.address(), mapping.bytes()))
            .collect()
    }

    fn lacking_page_bytes(&self) -> Option<usize> {
        self.0
            .iter()
            .filter_map(|mapping| mapping.lacking_page_bytes())
            .min()
    }
}

impl GuestMemory {
    /// Maps regions in any order, of files of any kind, without limits: for memory of our own making, in tests and
    /// tools. They must be neither empty nor overlap, and their files must be long enough.
    pub fn map(specs: Vec<RegionSpec>) -> Result<Arc<GuestMemory>, MapError> {
        GuestMemory::map_within(specs, &MemoryShare::unlimited())
    }

    /// Maps regions that a front-end offers, within its share.
    pub fn map_within(
        specs: Vec<RegionSpec>,
        share: &Arc<MemoryShare>,
    ) -> Result<Arc<GuestMemory>, MapError> {
        if specs.len() > MEMORY_REGIONS_MAX {
            return Err(MapError::TooMany { regions: specs.len() });
        }
        let bytes = specs
            .iter()
            .fold(0u64, |sum, spec| sum.saturating_add(spec.bytes));
        share.allows(bytes, specs.len())?;
        let regions = specs
            .into_iter()
            .map(|spec| map_region(spec, share))
            .collect::<Result<Vec<_>, _>>()?;
        GuestMemory::of(regions)
    }

    /// Fresh zeroed memory for the simulator and for tests: regions of (guest address, bytes). The front-end's
    /// addresses equal the guest's.
    pub fn anonymous(regions: &[(u64, u64)]) -> Result<Arc<GuestMemory>, MapError> {
        let regions = regions.iter().map(|&(guest_address, bytes)| {
            let mapping = Arc::new(Mapping::anonymous(bytes)?);
            Ok((Extent::new(guest_address, guest_address, &mapping)?, mapping))
        });
        GuestMemory::of(regions.collect::<Result<Vec<_>, _>>()?)
    }

    /// The same memory with one region more (vhost-user ADD_MEM_REG), without limits. Nothing is mapped twice.
    pub fn with_region(&self, spec: RegionSpec) -> Result<Arc<GuestMemory>, MapError> {
        self.with_region_within(spec, &MemoryShare::unlimited())
    }

    /// The same, within a front-end's share.
    pub fn with_region_within(
        &self,
        spec: RegionSpec,
        share: &Arc<MemoryShare>,
    ) -> Result<Arc<GuestMemory>, MapError> {
        share.allows(self.bytes().saturating_add(spec.bytes), self.table.len() + 1)?;
        let mut regions: Vec<_> = self.parts().collect();
        regions.push(map_region(spec, share)?);
        GuestMemory::of(regions)
    }

    /// The same memory with one region less (vhost-user REM_MEM_REG, which names it by these three).
    pub fn without_region(
        &self,
        guest_address: u64,
        bytes: u64,
        user_address: u64,
    ) -> Result<Arc<GuestMemory>, MapError> {
        let named = |extent: &Extent| {
            (extent.guest, extent.bytes, extent.user) == (guest_address, bytes, user_address)
        };
        let left: Vec<_> = self.parts().filter(|(extent, _)| !named(extent)).collect();
        if left.len() == self.table.len() {
            return Err(MapError::NoSuchRegion { guest_address });
        }
        GuestMemory::of(left)
    }

    /// Memory without any region.
    pub fn empty() -> Arc<GuestMemory> {
        GuestMemory::with(Vec::new(), Vec::new())
    }

    fn with(regions: Vec<(u64, u64)>, mappings: Vec<Arc<Mapping>>) -> Arc<GuestMemory> {
        let mappings = Arc::new(Mappings(mappings.into()));
        let lease = Lease::of(Arc::clone(&mappings) as Arc<dyn Mapped>);
        let extent = |((guest, user), mapping): ((u64, u64), &Arc<Mapping>)| {
            let Some(host) = lease.segment(mapping.address(), mapping.bytes()) else {
                unreachable!("the lease of a guest's mappings has all of them");
            };
            Extent {
                guest,
                bytes: mapping.bytes() as u64,
                host,
                user,
            }
        };
        Arc::new(GuestMemory {
            table: regions.into_iter().zip(&mappings.0).map(extent).collect(),
            mappings,
            lease,
        })
    }

    /// All regions, by guest address.
    pub fn regions(&self) -> impl ExactSizeIterator<Item = RegionInfo> + '_ {
        self.table
            .iter()
            .zip(&self.mappings.0)
            .map(|(extent, mapping)| RegionInfo {
                guest_address: extent.guest,
                bytes: extent.bytes,
                user_address: extent.user,
                host_address: extent.host.address(),
                sealed: mapping.sealed(),
            })
    }

    /// Bytes of all regions.
    pub fn bytes(&self) -> u64 {
        self.table
            .iter()
            .fold(0, |sum, extent| sum.saturating_add(extent.bytes))
    }

    /// Whether all pages are the kernel's own, so that an access waits for nobody.
    pub fn is_prompt(&self) -> bool {
        self.mappings.0.iter().all(|mapping| mapping.prompt())
    }

    /// Keeps it mapped, for whoever follows segments of it.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The parts of it that exist, as far as that can be told: the `most` longest, by address. Nothing is made by asking.
    pub fn resident_segments(&self, most: usize) -> Vec<Segment> {
        let mut parts = Vec::new();
        for (extent, mapping) in self.table.iter().zip(&self.mappings.0) {
            resident::add_parts(mapping, extent.host, &mut parts);
        }
        parts.sort_unstable_by_key(|part| std::cmp::Reverse(part.bytes()));
        parts.truncate(most);
        parts.sort_unstable_by_key(|part| part.address());
        parts
    }

    /// All regions as memory of this process, by guest address.
    pub fn host_segments(&self) -> impl ExactSizeIterator<Item = Segment> + '_ {
        self.table.iter().map(|extent| extent.host)
    }

    /// Whether some of it is gone: its file has shrunk under us, or had no page to give, and zeroes stand in for the
    /// whole region. Nothing that is read here from then on is the guest's.
    #[inline]
    pub fn is_lost(&self) -> bool {
        lost::any_lost() && self.mappings.0.iter().any(|mapping| mapping.is_lost())
    }

    /// Whether a file behind lost memory has shrunk; if not, it had no page to give.
    pub fn has_shrunk(&self) -> bool {
        let cut = |mapping: &Arc<Mapping>| mapping.is_lost() && mapping.is_cut();
        self.mappings.0.iter().any(cut)
    }

    /// Translates a guest range that lies in one region.
    #[inline]
    pub fn slice(&self, guest_address: u64, bytes: u64) -> Option<Segment> {
        self.find(guest_address)?.slice(guest_address, bytes)
    }

    /// Translates a guest range, adding one segment per region it touches. False when some of it is not mapped or
    /// the list is full; the list then holds a part of it.
    pub fn segments(&self, guest_address: u64, bytes: u64, list: &mut SegmentList) -> bool {
        let (mut at, mut left) = (guest_address, bytes);
        while left > 0 {
            let Some(extent) = self.find(at) else { return false };
            let here = left.min(extent.bytes - (at - extent.guest));
            let Some(segment) = extent.slice(at, here) else {
                return false;
            };
            if !list.push(segment) {
                return false;
            }
            left -= here;
            let Some(next) = at.checked_add(here) else {
                return left == 0;
            };
            at = next;
        }
        true
    }

    /// Translates an address of the front-end's process.
    pub fn user_to_guest(&self, user_address: u64) -> Option<u64> {
        let inside = |extent: &&Extent| user_address.wrapping_sub(extent.user) < extent.bytes;
        let extent = self.table.iter().find(inside)?;
        Some(extent.guest + (user_address - extent.user))
    }

    /// Translates an address of this process back.
    pub fn host_to_guest(&self, host_address: usize) -> Option<u64> {
        let extent = self.find_host(host_address)?;
        Some(extent.guest + (host_address - extent.host.address()) as u64)
    }

    /// Copies out of guest memory; false when the range is not mapped in one piece.
    pub fn read(&self, guest_address: u64, to: &mut [u8]) -> bool {
        match self.slice(guest_address, to.len() as u64) {
            Some(from) => {
                // SAFETY: `slice` found the range inside a mapping that `self` keeps.
                unsafe { raw::read(from.address(), to) };
                true
            }
            None => false,
        }
    }

    /// Copies into guest memory; false when the range is not mapped in one piece.
    pub fn write(&self, guest_address: u64, from: &[u8]) -> bool {
        match self.slice(guest_address, from.len() as u64) {
            Some(to) => {
                // SAFETY: `slice` found the range inside a mapping that `self` keeps.
                unsafe { raw::write(to.address(), from) };
                true
            }
            None => false,
        }
    }

    /// Reads a little-endian word with acquire order; `None` when it is not mapped or not aligned.
    pub fn load_u16(&self, guest_address: u64) -> Option<u16> {
        let at = self
            .slice(guest_address, 2)
            .filter(|at| at.address().is_multiple_of(2))?;
        // SAFETY: the word is mapped, as `slice` says, and aligned.
        Some(unsafe { raw::load_u16(at.address(), Ordering::Acquire) })
    }

    /// Writes a little-endian word with release order; false when it is not mapped or not aligned.
    pub fn store_u16(&self, guest_address: u64, value: u16) -> bool {
        match self
            .slice(guest_address, 2)
            .filter(|at| at.address().is_multiple_of(2))
        {
            Some(at) => {
                // SAFETY: the word is mapped, as `slice` says, and aligned.
                unsafe { raw::store_u16(at.address(), value, Ordering::Release) };
                true
            }
            None => false,
        }
    }

    /// The region that holds a guest address.
    #[inline]
    pub(crate) fn find(&self, guest_address: u64) -> Option<&Extent> {
        let after = self.table.partition_point(|extent| extent.guest <= guest_address);
        let extent = self.table.get(after.checked_sub(1)?)?;
        (guest_address - extent.guest < extent.bytes).then_some(extent)
    }

    /// The region that holds an address of this process.
    #[inline]
    pub(crate) fn find_host(&self, host_address: usize) -> Option<&Extent> {
        self.table
            .iter()
            .find(|extent| extent.holds_host(host_address, 1))
    }

    fn parts(&self) -> impl Iterator<Item = (Extent, Arc<Mapping>)> + '_ {
        self.table.iter().copied().zip(self.mappings.0.iter().cloned())
    }

    fn of(mut regions: Vec<(Extent, Arc<Mapping>)>) -> Result<Arc<GuestMemory>, MapError> {
        if regions.len() > MEMORY_REGIONS_MAX {
            return Err(MapError::TooMany {
                regions: regions.len(),
            });
        }
        regions.sort_by_key(|(extent, _)| extent.user);
        no_overlap(&regions, |extent| extent.user)?;
        regions.sort_by_key(|(extent, _)| extent.guest);
        no_overlap(&regions, |extent| extent.guest)?;
        let (places, mappings) = regions
            .into_iter()
            .map(|(extent, mapping)| ((extent.guest, extent.user), mapping))
            .unzip();
        Ok(GuestMemory::with(places, mappings))
    }
}

/// Where one region lies in each address space. It says nothing about how long the mapping lives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    pub(crate) guest: u64,
    bytes: u64,
    /// As long as the region; empty until the region has its place in a guest's memory.
    pub(crate) host: Segment,
    user: u64,
}

impl Extent {
    /// Checks that no address space wraps.
    fn new(guest: u64, user: u64, mapping: &Mapping) -> Result<Extent, MapError> {
        let bytes = mapping.bytes() as u64;
        let last = bytes.saturating_sub(1);
        if guest.checked_add(last).is_none() || user.checked_add(last).is_none() {
            return Err(MapError::Extent {
                guest_address: guest,
                bytes,
            });
        }
        Ok(Extent {
            guest,
            bytes,
            host: Segment::EMPTY,
            user,
        })
    }

    /// The range in this process, when all of it lies in the region.
    #[inline]
    pub(crate) fn slice(&self, guest_address: u64, bytes: u64) -> Option<Segment> {
        let offset = guest_address.wrapping_sub(self.guest);
        self.host.part(offset as usize, bytes as usize)
    }

    /// Whether the range of this process lies in the region.
    #[inline]
    pub(crate) fn holds_host(&self, host_address: usize, bytes: usize) -> bool {
        let offset = host_address.wrapping_sub(self.host.address());
        offset < self.host.bytes() && bytes <= self.host.bytes() - offset
    }
}

fn map_region(spec: RegionSpec, share: &Arc<MemoryShare>) -> Result<(Extent, Arc<Mapping>), MapError> {
    let RegionSpec {
        guest_address,
        bytes,
        user_address,
        mmap_offset,
        file,
    } = spec;
    let mapping = Mapping::of_file(file, mmap_offset, bytes, share).map_err(|error| match error {
        MapError::Extent { .. } => MapError::Extent { guest_address, bytes },
        other => other,
    })?;
    let mapping = Arc::new(mapping);
    Ok((Extent::new(guest_address, user_address, &mapping)?, mapping))
}

/// Checks regions sorted by the address that `start` gives.
fn no_overlap(regions: &[(Extent, Arc<Mapping>)], start: fn(&Extent) -> u64) -> Result<(), MapError> {
    for pair in regions.windows(2) {
        if let [(first, _), (second, _)] = pair
            && start(second) - start(first) < first.bytes
        {
            return Err(MapError::Overlap {
                first: first.guest,
                second: second.guest,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
