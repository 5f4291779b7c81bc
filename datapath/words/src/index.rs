//! Indices: small dense numbers, valid on one node until the next change of its configuration. What a resource is called
//! for good is its [`Uuid`](crate::Uuid).

macro_rules! index {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// As a position in a table.
            pub fn usize(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// One device of this node, the same number on every reactor.
    DeviceIndex(u16)
);
index!(
    /// One volume of this node, the same number on every reactor.
    VolumeIndex(u16)
);
index!(
    /// One attachment of this node, the same number on every reactor.
    AttachmentIndex(u16)
);
index!(
    /// One reactor of this node.
    ReactorIndex(u16)
);
index!(
    /// A place in a reactor's table of operations in flight.
    SlotIndex(u32)
);
index!(
    /// One connection between two nodes' reactors, as both ends of their data port count them.
    LinkIndex(u8)
);
index!(
    /// One of the orders that a data port keeps: what is sent on one stream arrives in the order in which it was sent.
    StreamIndex(u16)
);
index!(
    /// Memory as the devices of one reactor keep it: a number of theirs.
    /// [`MemoryId::POOL`] is the reactor's own buffer pool.
    MemoryId(u16)
);

index!(
    /// Memory that was pinned once and given to reactors: a number of whoever has pinned it, never given twice.
    PinnedId(u32)
);

impl MemoryId {
    /// The reactor's own hugepage pool, never a guest's memory.
    pub const POOL: MemoryId = MemoryId(u16::MAX);
}

/// One virtqueue of one attachment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct QueueId {
    /// The attachment that the queue belongs to.
    pub attachment: AttachmentIndex,
    /// The queue's number inside the attachment, from 0.
    pub queue: u16,
}
