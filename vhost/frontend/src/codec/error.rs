//! What can be wrong with a message before anybody looks at its meaning.

use super::{CONFIG_BYTES_MAX, PAYLOAD_BYTES_MAX, TABLE_REGIONS_MAX, request};
use std::borrow::Cow;

/// A message that breaks the protocol: which one, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {problem}", named(*.request))]
pub struct ProtocolError {
    /// The number of the request.
    pub request: u32,
    /// What is wrong with it.
    pub problem: MessageProblem,
}

/// What is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageProblem {
    /// The header itself is incomplete.
    #[error("the header is incomplete")]
    Header,
    /// Another version of the protocol than 1.
    #[error("protocol version {version}, expected 1")]
    Version {
        /// The version in the header.
        version: u32,
    },
    /// It is marked as a reply, and nothing was asked.
    #[error("marked as a reply, but nothing was asked")]
    UnexpectedReply,
    /// More payload than any request has.
    #[error("{bytes} bytes of payload, at most {PAYLOAD_BYTES_MAX} are read")]
    PayloadTooLong {
        /// Bytes announced.
        bytes: u32,
    },
    /// A number that the protocol does not know.
    #[error("the protocol has no such request")]
    UnknownRequest,
    /// A request of the protocol for something that is not offered here.
    #[error("not offered by this device")]
    NotOffered,
    /// The payload does not have the size that its request has.
    #[error("{bytes} bytes of payload, expected {expected}")]
    PayloadSize {
        /// Bytes it should have.
        expected: usize,
        /// Bytes it has.
        bytes: usize,
    },
    /// More or fewer file descriptors than its request has.
    #[error("{count} file descriptors, expected {expected}")]
    Fds {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        count: usize,
    },
    /// More regions in one table than there can be file descriptors.
    #[error("{count} memory regions, at most {TABLE_REGIONS_MAX} fit")]
    Regions {
        /// Regions announced.
        count: u32,
    },
    /// A piece of configuration space of impossible size.
    #[error("{bytes} bytes of configuration, at most {CONFIG_BYTES_MAX} at once")]
    ConfigSize {
        /// Bytes asked for.
        bytes: u32,
    },
    /// A flag that is neither 0 nor 1.
    #[error("{value} is neither 0 nor 1")]
    Flag {
        /// Its value.
        value: u32,
    },
    /// Bits set that must be zero.
    #[error("reserved bits set in {value:#x}")]
    ReservedBits {
        /// The whole field.
        value: u64,
    },
}

impl ProtocolError {
    /// Of a request and what is wrong with it.
    pub fn new(request: u32, problem: MessageProblem) -> ProtocolError {
        ProtocolError { request, problem }
    }

    /// Whether the message was well-formed, so that it can be answered with "no" and the next one be read.
    pub fn can_be_refused(&self) -> bool {
        matches!(
            self.problem,
            MessageProblem::UnknownRequest | MessageProblem::NotOffered
        )
    }
}

/// The request's name, or its number when the protocol has no such request.
fn named(request: u32) -> Cow<'static, str> {
    match request::name(request) {
        Some(name) => name.into(),
        None => format!("request {request}").into(),
    }
}
