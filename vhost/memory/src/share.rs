//! What one attachment may make us spend on mappings, and what all may together. Address space and mappings are used
//! up by whoever asks for them, whether their pages are ever touched or not, and a process has only so many: so each
//! attachment has a share, and of what all have together a part is kept for each of the others.

use crate::mapping::MapError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Mappings of all attachments together. Each has a place in the table of those that are watched over, and the kernel
/// allows a process 65,530 (vm.max_map_count).
pub const MAPPINGS_TOTAL: u64 = crate::lost::PLACES as u64;

/// Bytes of address space of all attachments together: half of what a process has (x86-64, four-level page tables).
pub const ADDRESS_BYTES_TOTAL: u64 = 64 << 40;

/// What is kept for each attachment at most, whatever the others ask for.
const MAPPINGS_KEPT: u64 = 8;
const ADDRESS_BYTES_KEPT: u64 = 32 << 30;

/// A front-end that sends a new table of memory has the former one mapped until its queues have been given back and its
/// registration has ended: so many times its share it may have at once.
const AT_ONCE: u64 = 3;

/// Limits of one attachment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShareLimits {
    /// Bytes of guest memory.
    pub memory_bytes: u64,
    /// Mappings: a region of memory, a dirty log and an in-flight region are one each.
    pub mappings: u64,
}

impl Default for ShareLimits {
    fn default() -> Self {
        ShareLimits {
            memory_bytes: 4 << 40,
            mappings: palisade_block::limits::MEMORY_REGIONS_MAX as u64 + 2,
        }
    }
}

/// What an attachment has mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MappingTotals {
    /// Bytes of address space.
    pub bytes: u64,
    /// Mappings.
    pub mappings: u64,
}

/// The shares of all attachments.
#[derive(Debug)]
pub struct Shares {
    limits: ShareLimits,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    begun: u64,
    mapped: BTreeMap<u64, MappingTotals>,
    /// Bytes mapped whose pages are charged to whoever touches them first.
    charged_bytes: u64,
}

/// One attachment's share. What it holds is given back when it is unmapped, and the share itself when nothing is held.
#[derive(Debug)]
pub struct MemoryShare {
    /// `None` for memory of our own making, which nobody limits.
    of: Option<Arc<Shares>>,
    member: u64,
}

/// A mapping's part of a share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<MemoryShare>,
    bytes: u64,
    is_charged: bool,
}

impl Shares {
    /// With the same limits for each attachment.
    pub fn new(limits: ShareLimits) -> Arc<Shares> {
        Arc::new(Shares {
            limits,
            members: Mutex::default(),
        })
    }

    /// A share for one more attachment.
    pub fn join(self: &Arc<Shares>) -> Arc<MemoryShare> {
        let member = self.members().add();
        Arc::new(MemoryShare {
            of: Some(Arc::clone(self)),
            member,
        })
    }

    /// What all have mapped together.
    pub fn mapped(&self) -> MappingTotals {
        let members = self.members();
        let mut all = MappingTotals::default();
        for mapped in members.mapped.values() {
            all.bytes = all.bytes.saturating_add(mapped.bytes);
            all.mappings = all.mappings.saturating_add(mapped.mappings);
        }
        all
    }

    /// Bytes of what all have mapped together whose pages the kernel charges to whoever touches them first, and that may be this
    /// process: all but those of hugetlbfs.
    pub fn charged_bytes(&self) -> u64 {
        self.members().charged_bytes
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryShare {
    /// For memory that nobody from outside has a say in: no limits, any file.
    pub fn unlimited() -> Arc<MemoryShare> {
        Arc::new(MemoryShare { of: None, member: 0 })
    }

    /// What is mapped now.
    pub fn mapped(&self) -> MappingTotals {
        let of = self.of.as_ref();
        of.and_then(|of| of.members().mapped.get(&self.member).copied())
            .unwrap_or_default()
    }

    /// The limits, if there are any.
    pub fn limits(&self) -> Option<ShareLimits> {
        self.of.as_ref().map(|of| of.limits)
    }

    /// Whether memory may lie in files of any file system: for what nobody from outside has a say in. There is no such
    /// choice for an attachment: reactors, which serve others too, read and write a guest's memory, and an access to a
    /// page of a file system that does not answer cannot be taken back.
    pub(crate) fn any_file(&self) -> bool {
        self.of.is_none()
    }

    /// Whether a table of memory fits the share.
    pub(crate) fn allows(&self, bytes: u64, regions: usize) -> Result<(), MapError> {
        let Some(limits) = self.limits() else {
            return Ok(());
        };
        within("bytes of memory", bytes, limits.memory_bytes)?;
        within("regions of memory", regions as u64, limits.mappings)
    }

    /// Takes a mapping's part; whether its pages are charged to whoever touches them first ([`Shares::charged_bytes`]).
    pub(crate) fn hold(self: &Arc<MemoryShare>, bytes: u64, is_charged: bool) -> Result<Held, MapError> {
        let held = || Held {
            share: Arc::clone(self),
            bytes,
            is_charged,
        };
        let Some(of) = &self.of else { return Ok(held()) };
        let mut members = of.members();
        let count = members.mapped.len() as u64;
        let mine = members.mapped.get(&self.member).copied().unwrap_or_default();
        let wanted = MappingTotals {
            bytes: mine.bytes.saturating_add(bytes),
            mappings: mine.mappings + 1,
        };
        within(
            "bytes of address space",
            wanted.bytes,
            of.limits.memory_bytes.saturating_mul(AT_ONCE),
        )?;
        within(
            "mappings",
            wanted.mappings,
            of.limits.mappings.saturating_mul(AT_ONCE),
        )?;
        let kept = ADDRESS_BYTES_KEPT.min(ADDRESS_BYTES_TOTAL / 2 / count.max(1));
        let others = members.others(self.member, |mapped| mapped.bytes, kept);
        within(
            "bytes of address space",
            wanted.bytes,
            ADDRESS_BYTES_TOTAL.saturating_sub(others),
        )?;
        let kept = MAPPINGS_KEPT.min(MAPPINGS_TOTAL / 2 / count.max(1));
        let others = members.others(self.member, |mapped| mapped.mappings, kept);
        within("mappings", wanted.mappings, MAPPINGS_TOTAL.saturating_sub(others))?;
        members.mapped.insert(self.member, wanted);
        if is_charged {
            members.charged_bytes = members.charged_bytes.saturating_add(bytes);
        }
        Ok(held())
    }

    fn give_back(&self, bytes: u64, is_charged: bool) {
        let Some(of) = &self.of else { return };
        let mut members = of.members();
        if is_charged {
            members.charged_bytes = members.charged_bytes.saturating_sub(bytes);
        }
        if let Some(mapped) = members.mapped.get_mut(&self.member) {
            mapped.bytes = mapped.bytes.saturating_sub(bytes);
            mapped.mappings = mapped.mappings.saturating_sub(1);
        }
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            of.members().mapped.remove(&self.member);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.give_back(self.bytes, self.is_charged);
    }
}

impl Members {
    /// One more, who has nothing yet.
    fn add(&mut self) -> u64 {
        self.begun += 1;
        self.mapped.insert(self.begun, MappingTotals::default());
        self.begun
    }

    /// What the others have, or what is kept for them.
    fn others(&self, member: u64, of: fn(&MappingTotals) -> u64, kept: u64) -> u64 {
        let others = self.mapped.iter().filter(|(other, _)| **other != member);
        others.fold(0, |sum, (_, mapped)| sum.saturating_add(of(mapped).max(kept)))
    }
}

fn within(what: &'static str, asked: u64, share: u64) -> Result<(), MapError> {
    match asked <= share {
        true => Ok(()),
        false => Err(MapError::Share { what, asked, share }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ShareLimits = ShareLimits {
        memory_bytes: 30 << 40,
        mappings: 8192,
    };

    #[test]
    fn what_is_let_go_can_be_had_again() {
        let share = Shares::new(ShareLimits::default()).join();
        let held: Vec<_> = (0..3).map(|_| share.hold(1 << 42, true).unwrap()).collect();
        assert_eq!(
            share.mapped(),
            MappingTotals {
                bytes: 3 << 42,
                mappings: 3
            }
        );
        let refused = share.hold(1, true).unwrap_err().to_string();
        assert!(
            refused.contains("13194139533313 bytes of address space"),
            "{refused}"
        );
        assert_eq!(share.mapped().mappings, 3, "what was refused is not held");
        drop(held);
        assert_eq!(share.mapped(), MappingTotals::default());
        share.hold(1 << 42, true).unwrap();
    }

    #[test]
    fn what_all_have_together_is_the_sum() {
        let shares = Shares::new(ShareLimits::default());
        assert_eq!(shares.mapped(), MappingTotals::default());
        let (one, two) = (shares.join(), shares.join());
        let _held = [
            one.hold(3, true).unwrap(),
            two.hold(5, true).unwrap(),
            two.hold(7, true).unwrap(),
        ];
        let all = MappingTotals {
            bytes: 15,
            mappings: 3,
        };
        assert_eq!(shares.mapped(), all);
    }

    #[test]
    fn what_is_charged_to_who_touches_it_is_told_from_huge_pages() {
        let shares = Shares::new(ShareLimits::default());
        let (one, two) = (shares.join(), shares.join());
        let huge = one.hold(1 << 21, false).unwrap();
        let plain = [one.hold(3, true).unwrap(), two.hold(5, true).unwrap()];
        assert_eq!(shares.charged_bytes(), 8);
        drop(huge);
        assert_eq!(shares.charged_bytes(), 8);
        drop(plain);
        assert_eq!(shares.charged_bytes(), 0);
    }

    #[test]
    fn a_table_of_memory_and_all_mappings_keep_to_the_limits() {
        let limits = ShareLimits {
            memory_bytes: 1 << 20,
            mappings: 4,
        };
        let share = Shares::new(limits).join();
        assert_eq!(share.limits(), Some(limits));
        assert!(share.allows(1 << 20, 4).is_ok());
        let refused = |result: Result<(), MapError>| match result {
            Err(MapError::Share { what, asked, share }) => (what, asked, share),
            other => unreachable!("{other:?}"),
        };
        assert_eq!(
            refused(share.allows((1 << 20) + 1, 4)),
            ("bytes of memory", (1 << 20) + 1, 1 << 20)
        );
        assert_eq!(refused(share.allows(1 << 20, 5)), ("regions of memory", 5, 4));
        // The former table is there still, and the one before it.
        let held: Vec<_> = (0..3 * 4).map(|_| share.hold(1, true).unwrap()).collect();
        assert_eq!(refused(share.hold(1, true).map(drop)), ("mappings", 13, 12));
        drop(held);
        assert!(MemoryShare::unlimited().allows(u64::MAX, 1 << 20).is_ok());
        assert!(MemoryShare::unlimited().any_file() && !share.any_file());
    }

    #[test]
    fn by_default_the_longest_table_a_log_and_an_in_flight_region_fit() {
        let share = Shares::new(ShareLimits::default()).join();
        let regions = palisade_block::limits::MEMORY_REGIONS_MAX;
        assert!(share.allows(1 << 40, regions).is_ok());
        let held: Vec<_> = (0..AT_ONCE as usize * (regions + 2))
            .map(|_| share.hold(1, true).unwrap())
            .collect();
        assert_eq!(share.mapped().mappings, held.len() as u64);
    }

    #[test]
    fn a_part_is_kept_for_each_of_the_others() {
        let shares = Shares::new(LIMITS);
        let (greedy, modest) = (shares.join(), shares.join());
        let mut held = Vec::new();
        while let Ok(more) = greedy.hold(1 << 30, true) {
            held.push(more);
        }
        assert_eq!(greedy.mapped().mappings, MAPPINGS_TOTAL - MAPPINGS_KEPT);
        held.clear();
        held.push(
            greedy
                .hold(ADDRESS_BYTES_TOTAL - ADDRESS_BYTES_KEPT, true)
                .unwrap(),
        );
        assert!(greedy.hold(1, true).is_err());
        held.extend((0..MAPPINGS_KEPT).map(|_| modest.hold(4 << 30, true).unwrap()));
        assert!(modest.hold(1, true).is_err());
        // Whoever goes leaves what was kept for him.
        held.truncate(1);
        drop(modest);
        greedy.hold(ADDRESS_BYTES_KEPT, true).unwrap();
    }

    #[test]
    fn what_is_kept_for_many_never_exceeds_half_of_all() {
        let shares = Shares::new(LIMITS);
        let many: Vec<_> = (0..4096).map(|_| shares.join()).collect();
        many[0].hold(ADDRESS_BYTES_TOTAL / 2, true).unwrap();
        let held: Vec<_> = many
            .iter()
            .map(|share| share.hold(1 << 30, true).unwrap())
            .collect();
        assert_eq!(held.len(), many.len());
    }
}
