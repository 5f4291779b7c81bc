//! The bytes of vhost-user: a header of twelve bytes, a payload, and file descriptors beside them. Pure.
//!
//! Layout ("Message Specification" of the vhost-user protocol; integers in the machine's own byte order, which is
//! little-endian on every machine we run on):
//!
//! ```text
//! 0        4        8        12
//! +--------+--------+--------+- - - - - -+
//! | request| flags  | size   | payload   |
//! +--------+--------+--------+- - - - - -+
//! flags: bits 0-1 version (1), bit 2 reply, bit 3 need_reply
//! ```

mod error;
mod fields;
mod message;
mod reply;

pub use error::{MessageProblem, ProtocolError};
pub use message::{LogTable, Message, Region, VringAddresses, VringFd, VringState};
pub use reply::{Reply, config_changed_message};

/// Bytes of a message header.
pub const HEADER_BYTES: usize = 12;

/// Longest payload that is read; the longest one that means anything (a table of 32 regions) has 1032 bytes.
pub const PAYLOAD_BYTES_MAX: usize = 4096;

/// Most file descriptors that come with one message.
pub const FDS_MAX: usize = 32;

/// Most memory regions in one `SET_MEM_TABLE`: one file descriptor each.
pub const TABLE_REGIONS_MAX: usize = FDS_MAX;

/// Longest piece of configuration space in one message ("Virtio device config space": at most 256 bytes).
pub const CONFIG_BYTES_MAX: usize = 256;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 0b11;
const FLAG_REPLY: u32 = 1 << 2;
const FLAG_NEED_REPLY: u32 = 1 << 3;

/// The numbers of the requests a front-end sends ("Front-end message types").
pub mod request {
    macro_rules! requests {
        ($($name:ident = $number:literal),* $(,)?) => {
            $(#[doc = concat!("`VHOST_USER_", stringify!($name), "`")] pub const $name: u32 = $number;)*

            /// The name of a request as the protocol writes it; `None` for a number it does not know.
            pub fn name(number: u32) -> Option<&'static str> {
                match number {
                    $($name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        };
    }

    requests! {
        GET_FEATURES = 1,
        SET_FEATURES = 2,
        SET_OWNER = 3,
        RESET_OWNER = 4,
        SET_MEM_TABLE = 5,
        SET_LOG_BASE = 6,
        SET_LOG_FD = 7,
        SET_VRING_NUM = 8,
        SET_VRING_ADDR = 9,
        SET_VRING_BASE = 10,
        GET_VRING_BASE = 11,
        SET_VRING_KICK = 12,
        SET_VRING_CALL = 13,
        SET_VRING_ERR = 14,
        GET_PROTOCOL_FEATURES = 15,
        SET_PROTOCOL_FEATURES = 16,
        GET_QUEUE_NUM = 17,
        SET_VRING_ENABLE = 18,
        SEND_RARP = 19,
        NET_SET_MTU = 20,
        SET_BACKEND_REQ_FD = 21,
        IOTLB_MSG = 22,
        SET_VRING_ENDIAN = 23,
        GET_CONFIG = 24,
        SET_CONFIG = 25,
        CREATE_CRYPTO_SESSION = 26,
        CLOSE_CRYPTO_SESSION = 27,
        POSTCOPY_ADVISE = 28,
        POSTCOPY_LISTEN = 29,
        POSTCOPY_END = 30,
        GET_INFLIGHT_FD = 31,
        SET_INFLIGHT_FD = 32,
        GPU_SET_SOCKET = 33,
        RESET_DEVICE = 34,
        VRING_KICK = 35,
        GET_MAX_MEM_SLOTS = 36,
        ADD_MEM_REG = 37,
        REM_MEM_REG = 38,
        SET_STATUS = 39,
        GET_STATUS = 40,
        GET_SHARED_OBJECT = 41,
        SET_DEVICE_STATE_FD = 42,
        CHECK_DEVICE_STATE = 43,
    }
}

/// A message header that has been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageHeader {
    /// Which request.
    pub request: u32,
    /// Whether the sender asks for an acknowledgement.
    pub need_reply: bool,
    /// Bytes of the payload, at most [`PAYLOAD_BYTES_MAX`].
    pub payload_bytes: usize,
}

impl MessageHeader {
    /// Parses the header of a request.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Result<MessageHeader, ProtocolError> {
        let mut fields = fields::Fields::new(&bytes);
        let (request, flags, size) = match (fields.u32(), fields.u32(), fields.u32()) {
            (Some(request), Some(flags), Some(size)) => (request, flags, size),
            _ => return Err(ProtocolError::new(0, MessageProblem::Header)),
        };
        let refuse = |problem| Err(ProtocolError::new(request, problem));
        if flags & VERSION_MASK != VERSION {
            return refuse(MessageProblem::Version {
                version: flags & VERSION_MASK,
            });
        }
        if flags & FLAG_REPLY != 0 {
            return refuse(MessageProblem::UnexpectedReply);
        }
        if size as usize > PAYLOAD_BYTES_MAX {
            return refuse(MessageProblem::PayloadTooLong { bytes: size });
        }
        Ok(MessageHeader {
            request,
            need_reply: flags & FLAG_NEED_REPLY != 0,
            payload_bytes: size as usize,
        })
    }
}
