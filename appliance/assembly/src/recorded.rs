//! As which other disk a medium is recorded. What an operator is asked to confirm as one disk may be the medium of another,
//! which lies there since files were moved over each other or devices got their names anew: the guest of the one would get the
//! data of the other, so nobody's word makes it so. It becomes free when the other disk is said to be elsewhere, or given up.

use crate::last_seen::LastSeen;
use crate::medium;
use palisade_model::{Cluster, Disk};
use palisade_sys::Opened;
use palisade_sys::device::Identity;
use palisade_sys::device::fingerprint::Fingerprint;
use palisade_sys::device::underlay::Underlay;
use palisade_words::Name;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What is looked at to tell whose a medium is.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// What is agreed on.
    pub cluster: &'a Cluster,
    /// What disks that are told by their content looked like.
    pub seen: &'a LastSeen,
    /// Disks that are in use.
    pub open: &'a BTreeMap<Name, Arc<Opened>>,
}

/// Another disk, whose medium something is.
#[derive(Clone, Debug)]
pub struct Recorded<'a> {
    /// The disk.
    pub name: &'a Name,
    /// As it is recorded.
    pub disk: &'a Disk,
    /// What tells that it is its medium: a clause.
    pub by: String,
    /// That is its content, which a copy of the medium has as well.
    pub may_be_copy: bool,
}

impl<'a> Records<'a> {
    /// The disk of the same node, other than the one that is asked about, as whose medium something is recorded. Nothing is
    /// said of what may be the asked one's own as well, nor of what is beside the other's medium: that one is elsewhere.
    pub fn another(&self, asked: Option<&Name>, node: &Name, there: &Opened) -> Option<Recorded<'a>> {
        let own = asked.and_then(|name| self.cluster.disks.get(name));
        let mut others = self
            .cluster
            .disks
            .iter()
            .filter(|(name, disk)| Some(*name) != asked && *disk.custodian() == *node);
        others.find_map(|(name, disk)| {
            let by_identity = self.by_identity(own, disk, there);
            let may_be_copy = by_identity.is_none();
            let by = by_identity.or_else(|| self.by_content(own, disk, there))?;
            (!self.is_beside(name, disk, there)).then_some(Recorded {
                name,
                disk,
                by,
                may_be_copy,
            })
        })
    }

    /// By what a medium tells of itself, and no copy of it does.
    fn by_identity(&self, own: Option<&Disk>, disk: &Disk, there: &Opened) -> Option<String> {
        let is_it = |disk: &Disk| tells(disk) && medium::check(disk, there).is_ok();
        if !is_it(disk) || own.is_some_and(is_it) {
            return None;
        }
        medium::describe(&disk.record, disk.medium.wwid())
    }

    /// By its content, of one that has nothing else to be known by, unless there is none.
    fn by_content(&self, own: Option<&Disk>, disk: &Disk, there: &Opened) -> Option<String> {
        let is_it = |disk: &Disk| {
            let is_told = medium::alike::is_told_by_content(disk) && medium::was_seen(disk, self.seen);
            is_told
                && medium::check(disk, there).is_ok()
                && medium::is_content_of(disk, there, self.seen).is_ok()
        };
        let is_block = matches!(there.identity(), Some(Identity::Block(_)));
        let is_found = is_block && is_it(disk) && !own.is_some_and(is_it);
        let print = Fingerprint::of(there).ok().filter(|_| is_found)?;
        (!print.is_blank()).then(|| "it holds what that disk held when it was last seen".to_owned())
    }

    /// Whether a disk's own medium is known to be elsewhere: two file systems number their inodes alike, and two devices may
    /// tell one serial number. A WWID is given once in the world.
    fn is_beside(&self, name: &Name, disk: &Disk, there: &Opened) -> bool {
        let Some(path) = there.path().filter(|_| disk.medium.wwid().is_none()) else {
            return false;
        };
        if let Some(open) = self.open.get(name) {
            return open.is_at(path).is_ok_and(|there| !there);
        }
        let (Some(recorded), Ok(own)) = (disk.medium.path(), medium::beside(disk)) else {
            return false;
        };
        let is_its = match tells(disk) {
            true => medium::check(disk, &own).is_ok(),
            false => medium::is_content_of(disk, &own, self.seen).is_ok(),
        };
        is_its && !are_one(path, Path::new(recorded))
    }
}

/// Whether two paths lead to one medium, or to parts of it.
pub fn are_one(one: &Path, other: &Path) -> bool {
    let (Ok(one), Ok(other)) = (Underlay::of(one), Underlay::of(other)) else {
        return false;
    };
    one.against(&other).is_some()
}

/// Whether anything but its content or its superblock tells a disk's medium.
fn tells(disk: &Disk) -> bool {
    let record = &disk.record;
    let by_record = record.serial.is_some() || record.file.is_some() || record.backing.is_some();
    by_record || disk.medium.wwid().is_some()
}
