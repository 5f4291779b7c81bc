//! Clearing: what a guest has not written reads as zeros.
//!
//! Space that was somebody else's, or of which nothing is known, is cleared before a guest sees it. Which part of a
//! volume is clear is agreed on like everything else, so a crash in the middle loses no more than the work since the
//! last record, and what a guest may have written can never be taken for something to be cleared:
//!
//! ```text
//! 0                      from              cleared                     sectors
//! |  guests may use this  |  reads as zeros  |  not known: being cleared  |
//! ```
//!
//! No route covers anything behind `from`; nothing before `cleared` is ever cleared. When all is clear the whole of it
//! comes into use with a generation of its own, recorded on the disks first. A database or a superblock that is older
//! than that can therefore not be taken for the present one.
//!
//! A disk that is given whole keeps no record by which to tell that. What a database which was put back knows of its clearing
//! may have ended long ago, and a guest may have written there since: it is held until an operator has decided.

use palisade_words::Generation;
use serde::{Deserialize, Serialize};

/// When a volume's space is cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clear {
    /// Before a guest sees it.
    Now,
    /// As [`Clear::Now`], and again when the volume is deleted, before anybody else gets the space.
    OnDelete,
    /// Not at all: a guest may find what was there before.
    Never,
}

/// The part of a volume that is not known to be clear: all behind [`Clearing::cleared`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Clearing {
    /// Sectors from the volume's beginning that guests may use meanwhile.
    pub from: u64,
    /// Sectors from the volume's beginning that are in use or read as zeros.
    pub cleared: u64,
    /// The generation at which the space to be cleared was last given to the volume. The disks must have that on
    /// record before anything is written to it.
    pub since: Generation,
    /// Nothing is cleared, and no guest is served, before an operator has decided: the database is, or may be, older than what
    /// lies there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The volume was emptied, because others have written to its space: not even its operator can choose to have it as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
}

impl Clearing {
    /// One of which nothing is done yet: of what lies behind `from`, given to the volume at the generation `since`.
    pub(crate) fn behind(from: u64, since: Generation) -> Clearing {
        Clearing {
            from,
            cleared: from,
            since,
            held: false,
            withheld: false,
        }
    }
}
