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
    (0, "BARRIER"),
    (1, "SIZE_MAX"),
    (2, "SEG_MAX"),
    (4, "GEOMETRY"),
    (5, "RO"),
    (6, "BLK_SIZE"),
    (7, "SCSI"),
    (9, "FLUSH"),
    (10, "TOPOLOGY"),
    (11, "CONFIG_WCE"),
    (12, "MQ"),
    (13, "DISCARD"),
    (14, "WRITE_ZEROES"),
    (15, "LIFETIME"),
    (16, "SECURE_ERASE"),
    (17, "ZONED"),
    (24, "NOTIFY_ON_EMPTY"),
    (26, "LOG_ALL"),
    (27, "ANY_LAYOUT"),
    (28, "INDIRECT_DESC"),
    (29, "EVENT_IDX"),
    (30, "PROTOCOL_FEATURES"),
    (32, "VERSION_1"),
    (33, "ACCESS_PLATFORM"),
    (34, "RING_PACKED"),
    (35, "IN_ORDER"),
    (36, "ORDER_PLATFORM"),
    (37, "SR_IOV"),
    (38, "NOTIFICATION_DATA"),
    (39, "NOTIF_CONFIG_DATA"),
    (40, "RING_RESET"),
    (41, "ADMIN_VQ"),
];

const PROTOCOL_NAMES: &[(u32, &str)] = &[
    (0, "MQ"),
    (1, "LOG_SHMFD"),
    (2, "RARP"),
    (3, "REPLY_ACK"),
    (4, "MTU"),
    (5, "BACKEND_REQ"),
    (6, "CROSS_ENDIAN"),
    (7, "CRYPTO_SESSION"),
    (8, "PAGEFAULT"),
    (9, "CONFIG"),
    (10, "BACKEND_SEND_FD"),
    (11, "HOST_NOTIFIER"),
    (12, "INFLIGHT_SHMFD"),
    (13, "RESET_DEVICE"),
    (14, "INBAND_NOTIFICATIONS"),
    (15, "CONFIGURE_MEM_SLOTS"),
    (16, "STATUS"),
    (17, "XEN_MMAP"),
    (18, "SHARED_OBJECT"),
    (19, "DEVICE_STATE"),
    (20, "GET_VRING_BASE_INFLIGHT"),
];

/// Names of the virtio features in a set.
pub fn virtio_names(features: u64) -> Vec<&'static str> {
    names(features, VIRTIO_NAMES)
}

/// Names of the protocol features in a set.
pub fn protocol_names(features: u64) -> Vec<&'static str> {
    names(features, PROTOCOL_NAMES)
}

/// All virtio features of a set in words, those without a name by their number: "RING_PACKED, bit 57".
pub fn describe_virtio(features: u64) -> String {
    describe(features, VIRTIO_NAMES)
}

/// The same of protocol features.
pub fn describe_protocol(features: u64) -> String {
    describe(features, PROTOCOL_NAMES)
}

fn describe(features: u64, table: &[(u32, &'static str)]) -> String {
    let bits = (0..u64::BITS).filter(|bit| features >> bit & 1 == 1);
    let words = bits.map(|bit| {
        let named = table.iter().find(|(number, _)| *number == bit);
        named.map_or_else(|| format!("bit {bit}"), |(_, name)| (*name).to_owned())
    });
    words.collect::<Vec<_>>().join(", ")
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
        assert_eq!(
            describe_virtio(1 << 34 | 1 << 57 | 1),
            "BARRIER, RING_PACKED, bit 57"
        );
        assert_eq!(describe_protocol(1 << 16 | 1 << 63), "STATUS, bit 63");
    }
}
