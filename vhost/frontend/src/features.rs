//! Feature bits of the protocol, and all bits by name for people.

/// `VHOST_F_LOG_ALL`: guest memory we write is to be logged (migration).
pub const LOG_ALL: u64 = 1 << 26;

/// `VHOST_USER_F_PROTOCOL_FEATURES`: there are protocol features to negotiate, and rings start disabled.
pub const PROTOCOL_FEATURES: u64 = 1 << 30;

/// Protocol features ("Protocol features" of the vhost-user protocol).
pub mod protocol {
    /// More than one queue.
    pub const MQ: u64 = 1 << 0;
    /// The dirty log comes as a file descriptor.
    pub const LOG_SHMFD: u64 = 1 << 1;
    /// Any request may ask for an acknowledgement.
    pub const REPLY_ACK: u64 = 1 << 3;
    /// The back-end may send requests over a socket of its own.
    pub const BACKEND_REQ: u64 = 1 << 5;
    /// The configuration space is read and written through messages.
    pub const CONFIG: u64 = 1 << 9;
    /// Requests in flight are tracked in shared memory.
    pub const INFLIGHT_SHMFD: u64 = 1 << 12;
    /// The device can be reset by a message.
    pub const RESET_DEVICE: u64 = 1 << 13;
    /// Memory regions come and go one by one.
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;

    /// All that we offer.
    pub const OFFERED: u64 = MQ
        | LOG_SHMFD
        | REPLY_ACK
        | BACKEND_REQ
        | CONFIG
        | INFLIGHT_SHMFD
        | RESET_DEVICE
        | CONFIGURE_MEM_SLOTS;
}

const VIRTIO_NAMES: &[(u32, &str)] = &[
    (1, "SIZE_MAX"),
    (2, "SEG_MAX"),
    (5, "RO"),
    (6, "BLK_SIZE"),
    (9, "FLUSH"),
    (10, "TOPOLOGY"),
    (11, "CONFIG_WCE"),
    (12, "MQ"),
    (13, "DISCARD"),
    (14, "WRITE_ZEROES"),
    (26, "LOG_ALL"),
    (28, "INDIRECT_DESC"),
    (29, "EVENT_IDX"),
    (30, "PROTOCOL_FEATURES"),
    (32, "VERSION_1"),
    (34, "RING_PACKED"),
];

const PROTOCOL_NAMES: &[(u32, &str)] = &[
    (0, "MQ"),
    (1, "LOG_SHMFD"),
    (3, "REPLY_ACK"),
    (5, "BACKEND_REQ"),
    (9, "CONFIG"),
    (12, "INFLIGHT_SHMFD"),
    (13, "RESET_DEVICE"),
    (15, "CONFIGURE_MEM_SLOTS"),
];

/// Names of the virtio features in a set.
pub fn virtio_names(features: u64) -> Vec<&'static str> {
    names(features, VIRTIO_NAMES)
}

/// Names of the protocol features in a set.
pub fn protocol_names(features: u64) -> Vec<&'static str> {
    names(features, PROTOCOL_NAMES)
}

fn names(features: u64, table: &[(u32, &'static str)]) -> Vec<&'static str> {
    table
        .iter()
        .filter(|(bit, _)| features >> bit & 1 == 1)
        .map(|&(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offered_protocol_feature_has_a_name() {
        assert_eq!(
            protocol_names(protocol::OFFERED).len(),
            protocol::OFFERED.count_ones() as usize
        );
        assert_eq!(protocol_names(u64::MAX).len(), PROTOCOL_NAMES.len());
    }

    #[test]
    fn names_follow_bits() {
        assert_eq!(
            virtio_names(LOG_ALL | PROTOCOL_FEATURES),
            ["LOG_ALL", "PROTOCOL_FEATURES"]
        );
    }
}
