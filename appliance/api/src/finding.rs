//! What can be wrong: one row for each kind of finding, from which health, events and the printed table are made.
//!
//! Whoever sees the cause of something raises a finding of a kind below; what is said of it in general (how bad it is,
//! what the guest sees meanwhile, the remedy, when it ends) stands in the row and nowhere else.

#[macro_use]
mod disks;
#[macro_use]
mod guests;
#[macro_use]
mod node;
#[macro_use]
mod operators;

use crate::health::Overall;

/// When a finding ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clears {
    /// When whoever raised it says so.
    WhenTold,
    /// When it has not been raised again for so many seconds, or when whoever raised it says so.
    AfterQuiet {
        /// How long.
        seconds: u64,
    },
    /// When what had failed has been done well again and the fault has not come back for some seconds; or, when nothing
    /// of the kind is done any more, when it has not been raised again for so many seconds.
    WhenItWorksAgain {
        /// How long, in the latter case.
        seconds: u64,
    },
    /// It is worked out from the present state at each look, and ends with its cause.
    WithItsCause,
}

/// All that is said of a kind of finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FindingRow {
    /// Stable name in snake_case, for programs. An event of this kind is sent when it begins, and one of kind
    /// `<code>_over` when it ends.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Overall,
    /// What is the matter, in a sentence.
    pub means: &'static str,
    /// What the guest sees.
    pub guest: &'static str,
    /// The metric in which it shows, besides `palisade_findings`.
    pub metric: &'static str,
    /// What to do about it. `{name}` stands for the name of the subject. Commands in backquotes exist, and none of them
    /// loses data.
    pub remedy: &'static str,
    /// When it ends.
    pub clears: Clears,
}

impl FindingRow {
    /// The remedy for a subject such as `disk/d1`.
    pub fn remedy_for(&self, subject: &str) -> String {
        let name = subject.split_once('/').map_or(subject, |(_, name)| name);
        self.remedy.replace("{name}", name)
    }
}

macro_rules! findings {
    ({ $( $kind:ident {
        code: $code:literal, severity: $severity:ident,
        means: $means:literal, guest: $guest:literal, metric: $metric:literal,
        remedy: $remedy:literal, clears: $clears:expr $(,)?
    } )* }) => {
        /// A kind of finding.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum FindingKind {
            $( #[doc = $means] $kind, )*
        }

        impl FindingKind {
            /// All of them.
            pub const ALL: &[FindingKind] = &[ $( FindingKind::$kind, )* ];

            /// All that is said of it.
            pub const fn row(self) -> &'static FindingRow {
                match self {
                    $( FindingKind::$kind => &FindingRow {
                        code: $code, severity: Overall::$severity, means: $means, guest: $guest, metric: $metric,
                        remedy: $remedy, clears: $clears,
                    }, )*
                }
            }
        }
    };
}

/// Of faults of disks.
const WORKS_AGAIN: Clears = Clears::WhenItWorksAgain { seconds: 600 };

// The rows stand in a file for each group of kinds, in the order of the printed table.
node_rows! { disks_rows guests_rows operators_rows findings {} }

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_whole_and_its_code_is_its_own() {
        let mut codes = BTreeSet::new();
        for kind in FindingKind::ALL {
            let row = kind.row();
            assert!(codes.insert(row.code), "{} is there twice", row.code);
            let snake = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(row.code.chars().all(snake), "{}", row.code);
            for text in [row.means, row.guest, row.metric, row.remedy] {
                assert!(!text.trim().is_empty(), "{} leaves something out", row.code);
            }
            assert!(
                row.means.ends_with('.') && row.guest.ends_with('.'),
                "{}",
                row.code
            );
            assert!(row.metric.starts_with("palisade_"), "{}", row.code);
        }
    }

    #[test]
    fn a_remedy_names_the_subject() {
        let row = FindingKind::DiskBlocked.row();
        assert!(row.remedy_for("disk/d1").contains("`palisade disk show d1`"));
    }
}
