//! What a command says: its arguments and the rules that each has by itself, as values that are the same in every member.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An enum whose values have a text each.
macro_rules! texts {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident => $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $value,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$value,)*];

            /// Its text.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$value => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

texts! {
    /// An argument of a command, by the name that it has there.
    Field {
        /// Where a node is reached.
        Addresses => "addresses",
        /// The logical block.
        BlockBytes => "block_bytes",
        /// How long a limit may be exceeded.
        BurstMs => "burst_ms",
        /// The size of a medium in bytes.
        Bytes => "bytes",
        /// When space is cleared.
        Clear => "clear",
        /// Where the data area ends.
        DataEnd => "data_end",
        /// A disk.
        Disk => "disk",
        /// Several disks.
        Disks => "disks",
        /// The volumes that are emptied.
        Empties => "empties",
        /// What a node fails together with.
        FailureDomain => "failure_domain",
        /// When a token expires.
        ExpiresAtS => "expires_at_s",
        /// What a program can.
        FeatureLevel => "feature_level",
        /// What a medium looked like.
        Fingerprint => "fingerprint",
        /// The generation of a medium.
        Generation => "generation",
        /// The group that a socket belongs to.
        Group => "group",
        /// What a token is known by.
        Hash => "hash",
        /// A run of a node.
        Incarnation => "incarnation",
        /// What emptied volumes keep.
        Keeps => "keeps",
        /// What a node proves itself by.
        Key => "key",
        /// That a disk is given up.
        Leaving => "leaving",
        /// What a guest may ask for in a time.
        Limits => "limits",
        /// What a disk is.
        Medium => "medium",
        /// The permissions of a socket.
        Mode => "mode",
        /// What else a medium holds.
        Nested => "nested",
        /// A node.
        Node => "node",
        /// The user that a socket belongs to.
        Owner => "owner",
        /// Parts of volumes that are not whole.
        Parts => "parts",
        /// Where a medium lies on a node.
        Path => "path",
        /// The entries of a virtqueue.
        QueueSize => "queue_size",
        /// The number of virtqueues.
        Queues => "queues",
        /// That a guest only reads.
        ReadOnly => "read_only",
        /// Whether a node votes.
        Role => "role",
        /// A size.
        Sectors => "sectors",
        /// What a guest sees as serial number.
        Serial => "serial",
        /// The path of a socket.
        Socket => "socket",
        /// What lets a node in.
        Token => "token",
        /// What a disk is used for.
        Usage => "usage",
        /// A permanent id.
        Uuid => "uuid",
        /// A volume.
        Volume => "volume",
        /// Where in its volume a part lies.
        VolumeLba => "volume_lba",
        /// What a medium is known by in the world.
        Wwid => "wwid",
        /// Whether a guest has a volatile cache at first.
        WriteCache => "write_cache",
    }
}

texts! {
    /// A rule that an argument has by itself; its text is a clause, as "must be 512 or 4096".
    Rule {
        /// Of owner and group.
        Account => "must be a numeric id below 4294967295, or a name without spaces, ':' and '/'",
        /// Of addresses.
        Addresses => "must be at most 16, each once, with an address and a port that other nodes can ask for",
        /// Of a path to a disk that belongs to the node already.
        AnotherNode => "must be another than the one that the disk belongs to",
        /// Of the data area.
        Area => "must leave a data area on whole logical blocks inside the disk: all of a whole disk, at least one unit of 4 MiB \
                 of a pooled one",
        /// Of bursts.
        Burst => "must be at most 60000",
        /// Of the size of a medium.
        BytesOfSectors => "must be 512 times the sectors",
        /// Of a volume that is not clear yet.
        ClearsOthers => "cannot be `never` as long as the volume holds what others have written",
        /// Of a disk that is named when a volume grows.
        DiskOfVolume => "must be the one the volume lies on: a volume on a whole disk has no other",
        /// Of what is emptied.
        EmptiesOnDisk => "must be volumes that lie on the disk",
        /// Of fingerprints.
        Fingerprint => "must be a text of at most 2048 bytes",
        /// Of generation and epoch of a medium.
        Generation => "must be at most 2^62, as its epoch: no cluster has counted further, and one that did could not be changed \
                       any more",
        /// Of a disk that is let go of.
        GivenUp => "must have been given up before its node lets go of it",
        /// Of a size that is not told.
        GivenWhenPooled => "must be given, as the disk is pooled",
        /// Of what emptied volumes keep.
        Keeps => "must be whole blocks that guests may use of volumes that are emptied",
        /// Of a medium with a superblock.
        KeepsContent => "must be pooled, on a medium that keeps its content",
        /// Of logical blocks.
        LogicalBlock => "must be 512 or 4096",
        /// Of a node that gets a vote.
        MemberVotes => "must be that of a member, which a node is once it has started",
        /// Of ids.
        NotNil => "must not be all zero",
        /// Of ids that a medium holds.
        Nested => "must be at most 64 ids",
        /// Of what a token is known by.
        NoOtherToken => "must be of no other token",
        /// Of a disk that is named in a list.
        Once => "must be told of once",
        /// Of parts.
        Parts => "must not be more than 4096 incomplete volumes",
        /// Of paths.
        Path => "must be an absolute path of at most 4095 bytes, without control characters, empty parts, '.' or '..'",
        /// Of a medium that has a path.
        PathOfMedium => "must be of a file or a block device",
        /// Of permissions.
        Permissions => "must be permission bits from 0 to 777 (octal)",
        /// Of the size of a virtqueue.
        QueueSize => "must be a power of two from 2 to 32768",
        /// Of the number of virtqueues.
        Queues => "must be 1 to 64",
        /// Of the logical blocks of a volume's parts.
        SameOnAllDisks => "must be the same on all disks of the volume",
        /// Of sizes.
        Sectors => "must be a multiple of the logical block, at least one and at most 2^53 sectors",
        /// Of a guest's serial number.
        Serial => "must be at most 20 printable ASCII characters",
        /// Of paths of sockets.
        Socket => "must be an absolute path of at most 107 bytes, without control characters, empty parts, '.' or '..'",
        /// Of how long a token lets somebody in.
        TokenLife => "must be in the future, by a week (604800 s) at most",
        /// Of parts of a volume.
        WholeBlocks => "must be whole logical blocks, at least one",
        /// Of what has been cleared.
        WholeBlocksInside => "must be whole blocks inside the volume",
        /// Of where a part lies.
        WithinVolume => "must lie inside the volume",
        /// Of what a medium is known by.
        Wwid => "must be 1 to 256 printable ASCII characters",
    }
}
