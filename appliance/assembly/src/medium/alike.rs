//! Disks that nothing tells apart: block devices without an identity, given whole, whose contents look the same wherever they are
//! looked at. Under which name the kernel shows each of them after a restart is chance, and one in the other's place would give
//! a tenant the disk of another.

use super::{is_content_of, is_nameless_block, needs_fingerprint, was_seen};
use crate::exchanged;
use crate::last_seen::LastSeen;
use palisade_model::{Cluster, Disk};
use palisade_sys::Opened;
use palisade_words::Name;

/// Whether nothing but its content tells a disk from others.
pub fn is_told_by_content(disk: &Disk) -> bool {
    needs_fingerprint(disk) && is_nameless_block(disk) && disk.record.backing.is_none()
}

/// Refuses a medium that could as well be that of another disk, under whose path lies what could as well be this one's: unless
/// this daemon knows which of the two either is.
///
/// # Errors
/// A sentence for an operator.
pub fn refuse(
    cluster: &Cluster,
    name: &Name,
    disk: &Disk,
    opened: &Opened,
    seen: &LastSeen,
) -> Result<(), String> {
    if !is_told_by_content(disk) || !was_seen(disk, seen) || seen.is_placed(disk.uuid) {
        return Ok(());
    }
    let Some((other, other_path)) = twin(cluster, name, disk, opened, seen) else {
        return Ok(());
    };
    let path = disk.medium.path().unwrap_or_default();
    let command = exchanged::placed_at(&[(name, Some(path)), (other, Some(other_path))]);
    Err(format!(
        "{path} and {other_path} have no identity, and each of them holds what disk {name} and disk {other} held when they were \
         last seen: nothing tells which of the two is which. Nothing was written to either. If both are where they were: \
         {command} --yes. Give them a WWID or a serial number, and it is not asked again"
    ))
}

/// Another disk that could be what is open, and the path under which what could be this one lies.
fn twin<'a>(
    cluster: &'a Cluster,
    name: &Name,
    disk: &Disk,
    opened: &Opened,
    seen: &LastSeen,
) -> Option<(&'a Name, &'a str)> {
    let is_of = |disk: &Disk, there: &Opened| is_content_of(disk, there, seen).is_ok();
    let could_be = |other: &Disk| {
        let may_be =
            other.custodian() == disk.custodian() && is_told_by_content(other) && was_seen(other, seen);
        may_be && !seen.is_placed(other.uuid) && is_of(disk, opened) && is_of(other, opened)
    };
    let others = cluster
        .disks
        .iter()
        .filter(|(other, found)| *other != name && could_be(found));
    let mut there = others.filter_map(|(other, found)| {
        let lies_there = super::beside(found).ok()?;
        let both = is_of(disk, &lies_there) && is_of(found, &lies_there);
        Some((other, found.medium.path()?)).filter(|_| both)
    });
    there.next()
}
