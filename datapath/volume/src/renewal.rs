//! Whether a medium may be written, and what: asked with what is on the medium at that very moment, before each write of
//! a superblock.

use crate::carried::{GoneBack, Known, gone_back, lost_end};
use crate::image::Image;
use crate::standing::{Standing, standing};
use palisade_model::superblock::end_in_words;
use palisade_wire::{DecodeError, Decoded, EncodeError, Phase, format, mend, update};
use palisade_words::Generation;

/// What else is known of a medium on which no superblock was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bare {
    /// The cluster waits for the disk's first superblock, so that no extent can lie on it.
    pub pending: bool,
    /// The daemon that runs has looked at the medium when the disk was added, and was told to take it.
    pub examined: bool,
    /// Everything that was looked at is zero.
    pub blank: bool,
    /// What is left there is of a first write of this disk that was cut off: it names this disk, and none another.
    pub cut_off: bool,
}

/// Why nothing is written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Forbidden {
    /// The medium carries a configuration that ours has not grown out of.
    #[error("{}", carries(.0))]
    Standing(Standing),
    /// The medium carries an earlier configuration than it was last known to carry: it is an older copy.
    #[error("the medium carries generation {found}, and {}", went_back(*.last))]
    Older {
        /// The generation that it carries.
        found: Generation,
        /// The generation that it was last known to carry; `None`: nothing is known of it, and the database has gone on from
        /// what it carries.
        last: Option<Generation>,
    },
    /// One end of the medium has lost both copies, and with them what else was there.
    #[error("the {} of the medium is lost", end_in_words(*.tail))]
    EndLost {
        /// Whether it is the one behind the data.
        tail: bool,
    },
    /// The disk had a superblock, and the medium has none.
    #[error("the medium has lost its superblock")]
    Lost,
    /// There is no superblock, but something else.
    #[error("the medium has no superblock but holds something else")]
    NotBlank,
    /// The superblock cannot be read.
    #[error("the superblock cannot be used: {0}")]
    Unusable(#[source] DecodeError),
    /// What the disk should say cannot be written.
    #[error("{0}")]
    Encode(#[source] EncodeError),
}

fn went_back(last: Option<Generation>) -> String {
    match last {
        Some(last) => format!("was last known to carry {last}: it is an older copy"),
        None => "nothing is known of what it carried last: it may be an older copy".to_owned(),
    }
}

fn carries(standing: &Standing) -> &'static str {
    match standing {
        Standing::Ahead => "the medium carries a later configuration than the database",
        Standing::OtherDisk => "the medium carries the superblock of another disk",
        Standing::OtherCluster => "the medium carries the superblock of another cluster",
        _ => "the medium carries a configuration that grew on apart from the database",
    }
}

/// What to write, in order, so that a medium says what it should; a damaged copy of what it should say already is
/// written anew as it was. `known` is what else is known of the disk's medium. `bare` is asked only when there is no
/// superblock that can be used.
///
/// # Errors
/// See [`Forbidden`]: nothing may be written then.
pub fn renewal(
    found: &Result<Decoded, DecodeError>,
    wanted: &Image,
    known: Known,
    bare: impl FnOnce() -> Bare,
) -> Result<Vec<Phase>, Forbidden> {
    let Image { superblock, extents } = wanted;
    let written = match found {
        Ok(found) => match standing(found, wanted) {
            standing if let Some(GoneBack { last }) = gone_back(&standing, found, wanted, known.last) => {
                let found = found.superblock.generation;
                return Err(Forbidden::Older { found, last });
            }
            standing if let Some(tail) = lost_end(&standing, found, wanted, known) => {
                return Err(Forbidden::EndLost { tail });
            }
            // What is in force may be in one place only, after a write that was cut off: it is put into all of them before
            // anything takes its place.
            Standing::InForce | Standing::Unstamped | Standing::Behind if let Some(phases) = mend(found) => {
                return Ok(phases);
            }
            Standing::InForce | Standing::Unstamped | Standing::Behind => {
                update(&found.superblock, superblock, extents)
            }
            other => return Err(Forbidden::Standing(other)),
        },
        Err(DecodeError::NotOurs) => {
            let bare = bare();
            match bare {
                Bare {
                    pending: true,
                    examined: true,
                    ..
                } => {}
                Bare { pending: false, .. } if !extents.is_empty() => return Err(Forbidden::Lost),
                Bare {
                    pending: true,
                    cut_off: true,
                    ..
                } => {}
                Bare { blank: false, .. } => return Err(Forbidden::NotBlank),
                Bare { .. } => {}
            }
            format(superblock, extents)
        }
        Err(error @ DecodeError::Damaged { .. }) => {
            let bare = bare();
            if !(bare.pending && bare.cut_off) {
                return Err(Forbidden::Unusable(error.clone()));
            }
            format(superblock, extents)
        }
        // What is whole, and not to be believed: an operator has been shown it, and that by the daemon that runs.
        Err(error @ (DecodeError::Contradiction(_) | DecodeError::Impossible { .. })) => {
            let bare = bare();
            if !(bare.pending && bare.cut_off && bare.examined) {
                return Err(Forbidden::Unusable(error.clone()));
            }
            format(superblock, extents)
        }
        Err(error) => return Err(Forbidden::Unusable(error.clone())),
    };
    written.map(|update| update.phases).map_err(Forbidden::Encode)
}
