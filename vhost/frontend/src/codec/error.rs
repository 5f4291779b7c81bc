//! What can be wrong with a message before anybody looks at its meaning.

use super::request;
use std::fmt;

/// A message that breaks the protocol: which one, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolError {
    /// The number of the request.
    pub request: u32,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The header itself is incomplete.
    Header,
    /// Another version of the protocol than 1.
    Version {
        /// The version in the header.
        version: u32,
    },
    /// It is marked as a reply, and nothing was asked.
    UnexpectedReply,
    /// More payload than any request has.
    PayloadTooLong {
        /// Bytes announced.
        bytes: u32,
    },
    /// A number that the protocol does not know.
    UnknownRequest,
    /// A request of the protocol for something that is not offered here.
    NotOffered,
    /// The payload does not have the size that its request has.
    PayloadSize {
        /// Bytes it should have.
        expected: usize,
        /// Bytes it has.
        bytes: usize,
    },
    /// More or fewer file descriptors than its request has.
    Fds {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        count: usize,
    },
    /// More regions in one table than there can be file descriptors.
    Regions {
        /// Regions announced.
        count: u32,
    },
    /// A piece of configuration space of impossible size.
    ConfigSize {
        /// Bytes asked for.
        bytes: u32,
    },
    /// A flag that is neither 0 nor 1.
    Flag {
        /// Its value.
        value: u32,
    },
    /// Bits set that must be zero.
    ReservedBits {
        /// The whole field.
        value: u64,
    },
}

impl ProtocolError {
    /// Of a request and what is wrong with it.
    pub fn new(request: u32, problem: Problem) -> ProtocolError {
        ProtocolError { request, problem }
    }

    /// Whether the message was well-formed, so that it can be answered with "no" and the next one be read.
    pub fn can_be_refused(&self) -> bool {
        matches!(self.problem, Problem::UnknownRequest | Problem::NotOffered)
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match request::name(self.request) {
            Some(name) => write!(f, "{name}: ")?,
            None => write!(f, "request {}: ", self.request)?,
        }
        match self.problem {
            Problem::Header => write!(f, "the header is incomplete"),
            Problem::Version { version } => write!(f, "protocol version {version}, expected 1"),
            Problem::UnexpectedReply => write!(f, "marked as a reply, but nothing was asked"),
            Problem::PayloadTooLong { bytes } => {
                write!(
                    f,
                    "{bytes} bytes of payload, at most {} are read",
                    super::PAYLOAD_BYTES_MAX
                )
            }
            Problem::UnknownRequest => write!(f, "the protocol has no such request"),
            Problem::NotOffered => write!(f, "not offered by this device"),
            Problem::PayloadSize { expected, bytes } => {
                write!(f, "{bytes} bytes of payload, expected {expected}")
            }
            Problem::Fds { expected, count } => {
                write!(f, "{count} file descriptors, expected {expected}")
            }
            Problem::Regions { count } => {
                write!(
                    f,
                    "{count} memory regions, at most {} fit",
                    super::TABLE_REGIONS_MAX
                )
            }
            Problem::ConfigSize { bytes } => {
                write!(
                    f,
                    "{bytes} bytes of configuration, at most {} at once",
                    super::CONFIG_BYTES_MAX
                )
            }
            Problem::Flag { value } => write!(f, "{value} is neither 0 nor 1"),
            Problem::ReservedBits { value } => write!(f, "reserved bits set in {value:#x}"),
        }
    }
}

impl std::error::Error for ProtocolError {}
