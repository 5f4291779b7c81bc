//! What a damage means, in words for whoever must act.

use palisade_wire::{DecodeError, SectorError, Why};

/// What it means that a record cannot be used.
pub fn of(why: &Why) -> &'static str {
    match why {
        Why::Unreadable { .. } => {
            "the medium fails here; the other copies say the same, but replace the disk soon"
        }
        Why::OtherDisk { .. } => {
            "left over from earlier use, or copied here from another disk; it is ignored"
        }
        Why::OtherWrite { .. } => {
            "a change did not get to its end, or the disk lost a write that it had acknowledged; \
             the daemon writes it again when it opens the disk"
        }
        Why::OtherContent { .. } => {
            "somebody has copied it here from another disk or an image, or a change did not get to its end; it is not \
             believed, and the daemon writes the right one when it opens the disk, if the cluster knows this one"
        }
        Why::TableLost { .. } => {
            "the newest state cannot be had any more and an older one is shown; compare it with the cluster before use"
        }
        Why::BeyondEnd { .. } => "the disk has become smaller; what lay behind its new end is lost",
        Why::Sector(error) => of_sector(error),
    }
}

fn of_sector(error: &SectorError) -> &'static str {
    match error {
        SectorError::Blank => {
            "nothing was written here, or it was wiped; the daemon writes it again when it opens the disk"
        }
        SectorError::NotOurs => {
            "something else wrote over it; find out what; the daemon writes it again when it opens the disk"
        }
        SectorError::Torn => {
            "the power failed while it was written; the daemon writes it again when it opens the disk"
        }
        SectorError::BadChecksum { .. } => {
            "the medium changed what was written, or something wrote into it; \
             the daemon writes it again when it opens the disk, but watch the disk"
        }
        SectorError::WrongVersion { .. } => "written by a newer program; use that one",
        SectorError::WrongPlace { .. } => {
            "the disk or the way to it puts sectors elsewhere than asked; do not trust it with data"
        }
        SectorError::WrongType { .. } | SectorError::Malformed { .. } => {
            "a program wrote what it should not have; keep a copy of the disk and report it"
        }
    }
}

/// What to do when a disk says nothing.
pub fn of_failure(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::TooSmall { .. } => "it is too small to be a pooled disk",
        DecodeError::NotOurs => "it is no pooled disk, or a disk given whole to one volume",
        DecodeError::Unreadable { .. } => "check its cable, its path and its health; then look again",
        DecodeError::WrongVersion { .. } => "it was written by a newer program: use that one",
        DecodeError::Contradiction(_) => {
            "nobody can tell which of the two is right: keep an image of the disk; the cluster's database knows its \
             extents, and `palisade disk adopt` shows what it would write here"
        }
        DecodeError::Impossible { .. } => {
            "a program wrote what it should not have: keep an image of the disk and report it; the cluster's database knows \
             its extents, and `palisade disk adopt` shows what it would write here"
        }
        DecodeError::Damaged { .. } => {
            "all copies are spoilt: keep an image of the disk; the cluster's database knows its extents, and \
             `palisade disk adopt` shows what it would write here"
        }
    }
}
