//! The numbers that order everything: none ever goes back. A step of an older generation, a message of an older epoch and
//! one of an earlier incarnation change nothing.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this. At the end of 64 bits it stays: no command can be applied any more, which is
            /// out of reach at any pace.
            #[must_use]
            pub fn next(self) -> $name {
                $name(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The number of a configuration: grows by one with each change. 0 is the empty cluster before its first
    /// command. As a resource's `revision` it is the ETag that If-Match is compared with.
    Generation
);
number!(
    /// The number of a cluster membership. 0 before the cluster exists, 1 while it has its first members.
    Epoch
);
number!(
    /// Which run of a node it is: counts its starts from 1. With the node's permanent id it names one run of one
    /// node, in what peers say to each other and in the key that a disk knows it by: what an earlier run has begun is
    /// told apart from what this one does.
    Incarnation
);
number!(
    /// What a program can, or a cluster has switched on: each level holds all that the ones below it do. 0 is what
    /// there was before nodes said so.
    FeatureLevel
);
