//! Requests by name, made of bytes and file descriptors that have been counted.

use super::fields::Fields;
use super::{CONFIG_BYTES_MAX, MessageHeader, MessageProblem, ProtocolError, TABLE_REGIONS_MAX, request};
use std::os::fd::OwnedFd;

/// One memory region as the front-end describes it ("Memory region description").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Guest physical address.
    pub guest_address: u64,
    /// Bytes.
    pub bytes: u64,
    /// The front-end's own address of it, in terms of which it names rings.
    pub user_address: u64,
    /// Where in the file the region begins.
    pub file_offset: u64,
}

/// A number for one ring ("A vring state description").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VringState {
    /// The ring.
    pub index: u32,
    /// The number.
    pub value: u32,
}

/// Where a ring lies ("A vring address description"); addresses are the front-end's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VringAddresses {
    /// The ring.
    pub index: u32,
    /// Whether writes to the used ring are to be logged (`VHOST_VRING_F_LOG`).
    pub log: bool,
    /// Descriptor table.
    pub descriptors: u64,
    /// Used ring.
    pub used: u64,
    /// Available ring.
    pub available: u64,
    /// Guest physical address of the used ring, for the log.
    pub log_guest_address: u64,
}

/// An eventfd for one ring.
#[derive(Debug)]
pub struct VringFd {
    /// The ring.
    pub index: u32,
    /// The eventfd; `None` when the front-end says that there is none (the NOFD bit).
    pub fd: Option<OwnedFd>,
}

/// A shared piece of memory in a file: the dirty log.
#[derive(Debug)]
pub struct LogTable {
    /// Bytes.
    pub bytes: u64,
    /// Where in the file it begins.
    pub file_offset: u64,
    /// The file.
    pub fd: OwnedFd,
}

/// A request, complete and of the right size. What it says may still make no sense.
#[derive(Debug)]
#[allow(
    missing_docs,
    reason = "the variants carry the protocol's own names, explained in its specification"
)]
pub enum Message {
    GetFeatures,
    SetFeatures(u64),
    SetOwner,
    ResetOwner,
    SetMemTable(Vec<(Region, OwnedFd)>),
    SetLogBase(LogTable),
    SetLogFd(OwnedFd),
    SetVringNum(VringState),
    SetVringAddr(VringAddresses),
    SetVringBase(VringState),
    GetVringBase(u32),
    SetVringKick(VringFd),
    SetVringCall(VringFd),
    SetVringErr(VringFd),
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    GetQueueNum,
    SetVringEnable {
        index: u32,
        enable: bool,
    },
    SetBackendReqFd(OwnedFd),
    GetConfig {
        offset: u32,
        bytes: u32,
        flags: u32,
    },
    SetConfig {
        offset: u32,
        flags: u32,
        data: Vec<u8>,
    },
    GetInflightFd {
        queues: u16,
        queue_size: u16,
        reply_bytes: usize,
    },
    SetInflightFd {
        bytes: u64,
        file_offset: u64,
        queues: u16,
        queue_size: u16,
        fd: OwnedFd,
    },
    ResetDevice,
    GetMaxMemSlots,
    AddMemReg(Region, OwnedFd),
    RemMemReg(Region),
}

const REGION_BYTES: usize = 32;
const TABLE_HEADER_BYTES: usize = 8;
const CONFIG_HEADER_BYTES: usize = 12;

/// The in-flight description has 20 bytes of fields; a C compiler makes 24 of them, and that is what is sent.
const INFLIGHT_BYTES: [usize; 2] = [24, 20];

const VRING_INDEX_MASK: u64 = 0xff;
const VRING_NOFD: u64 = 1 << 8;
const VRING_F_LOG: u32 = 1;

impl Message {
    /// Makes a message of a header, the payload that followed it, and the file descriptors that came with them.
    /// All descriptors that are not part of the result are closed.
    pub fn parse(header: MessageHeader, payload: &[u8], fds: Vec<OwnedFd>) -> Result<Message, ProtocolError> {
        let mut parts = Parts {
            request: header.request,
            payload,
            fields: Fields::new(payload),
            fds,
        };
        let message = parts.message()?;
        parts.no_more_fds()?;
        Ok(message)
    }

    /// The message's name as the protocol writes it.
    pub fn name(&self) -> &'static str {
        request::name(self.request()).unwrap_or("?")
    }

    /// The ring of which it sets size, addresses or position.
    pub fn sets_up_ring(&self) -> Option<u32> {
        match self {
            Message::SetVringNum(state) | Message::SetVringBase(state) => Some(state.index),
            Message::SetVringAddr(addresses) => Some(addresses.index),
            _ => None,
        }
    }

    /// The message's number.
    pub fn request(&self) -> u32 {
        match self {
            Message::GetFeatures => request::GET_FEATURES,
            Message::SetFeatures(_) => request::SET_FEATURES,
            Message::SetOwner => request::SET_OWNER,
            Message::ResetOwner => request::RESET_OWNER,
            Message::SetMemTable(_) => request::SET_MEM_TABLE,
            Message::SetLogBase(_) => request::SET_LOG_BASE,
            Message::SetLogFd(_) => request::SET_LOG_FD,
            Message::SetVringNum(_) => request::SET_VRING_NUM,
            Message::SetVringAddr(_) => request::SET_VRING_ADDR,
            Message::SetVringBase(_) => request::SET_VRING_BASE,
            Message::GetVringBase(_) => request::GET_VRING_BASE,
            Message::SetVringKick(_) => request::SET_VRING_KICK,
            Message::SetVringCall(_) => request::SET_VRING_CALL,
            Message::SetVringErr(_) => request::SET_VRING_ERR,
            Message::GetProtocolFeatures => request::GET_PROTOCOL_FEATURES,
            Message::SetProtocolFeatures(_) => request::SET_PROTOCOL_FEATURES,
            Message::GetQueueNum => request::GET_QUEUE_NUM,
            Message::SetVringEnable { .. } => request::SET_VRING_ENABLE,
            Message::SetBackendReqFd(_) => request::SET_BACKEND_REQ_FD,
            Message::GetConfig { .. } => request::GET_CONFIG,
            Message::SetConfig { .. } => request::SET_CONFIG,
            Message::GetInflightFd { .. } => request::GET_INFLIGHT_FD,
            Message::SetInflightFd { .. } => request::SET_INFLIGHT_FD,
            Message::ResetDevice => request::RESET_DEVICE,
            Message::GetMaxMemSlots => request::GET_MAX_MEM_SLOTS,
            Message::AddMemReg(..) => request::ADD_MEM_REG,
            Message::RemMemReg(_) => request::REM_MEM_REG,
        }
    }
}

/// A message being taken apart.
struct Parts<'a> {
    request: u32,
    payload: &'a [u8],
    fields: Fields<'a>,
    fds: Vec<OwnedFd>,
}

impl Parts<'_> {
    fn message(&mut self) -> Result<Message, ProtocolError> {
        Ok(match self.request {
            request::GET_FEATURES => self.empty(Message::GetFeatures)?,
            request::SET_FEATURES => Message::SetFeatures(self.number()?),
            request::SET_OWNER => self.empty(Message::SetOwner)?,
            request::RESET_OWNER => self.empty(Message::ResetOwner)?,
            request::SET_MEM_TABLE => Message::SetMemTable(self.table()?),
            request::SET_LOG_BASE => self.log_base()?,
            request::SET_LOG_FD => {
                self.exactly(0)?;
                Message::SetLogFd(self.fd()?)
            }
            request::SET_VRING_NUM => Message::SetVringNum(self.vring_state()?),
            request::SET_VRING_ADDR => Message::SetVringAddr(self.vring_addresses()?),
            request::SET_VRING_BASE => Message::SetVringBase(self.vring_state()?),
            request::GET_VRING_BASE => Message::GetVringBase(self.vring_state()?.index),
            request::SET_VRING_KICK => Message::SetVringKick(self.vring_fd()?),
            request::SET_VRING_CALL => Message::SetVringCall(self.vring_fd()?),
            request::SET_VRING_ERR => Message::SetVringErr(self.vring_fd()?),
            request::GET_PROTOCOL_FEATURES => self.empty(Message::GetProtocolFeatures)?,
            request::SET_PROTOCOL_FEATURES => Message::SetProtocolFeatures(self.number()?),
            request::GET_QUEUE_NUM => self.empty(Message::GetQueueNum)?,
            request::SET_VRING_ENABLE => self.vring_enable()?,
            request::SET_BACKEND_REQ_FD => {
                self.exactly(0)?;
                Message::SetBackendReqFd(self.fd()?)
            }
            request::GET_CONFIG => self.get_config()?,
            request::SET_CONFIG => self.set_config()?,
            request::GET_INFLIGHT_FD => self.get_inflight()?,
            request::SET_INFLIGHT_FD => self.set_inflight()?,
            request::RESET_DEVICE => self.empty(Message::ResetDevice)?,
            request::GET_MAX_MEM_SLOTS => self.empty(Message::GetMaxMemSlots)?,
            request::ADD_MEM_REG => {
                let region = self.single_region()?;
                Message::AddMemReg(region, self.fd()?)
            }
            request::REM_MEM_REG => {
                let region = self.single_region()?;
                // "Since in the past the front-end sent a file descriptor, the back-end has to close it."
                self.fds.pop();
                Message::RemMemReg(region)
            }
            known if request::name(known).is_some() => return Err(self.error(MessageProblem::NotOffered)),
            _ => return Err(self.error(MessageProblem::UnknownRequest)),
        })
    }

    fn empty(&self, message: Message) -> Result<Message, ProtocolError> {
        self.exactly(0)?;
        Ok(message)
    }

    fn number(&mut self) -> Result<u64, ProtocolError> {
        self.exactly(8)?;
        self.u64()
    }

    fn vring_state(&mut self) -> Result<VringState, ProtocolError> {
        self.exactly(8)?;
        Ok(VringState {
            index: self.u32()?,
            value: self.u32()?,
        })
    }

    fn vring_addresses(&mut self) -> Result<VringAddresses, ProtocolError> {
        self.exactly(40)?;
        let (index, flags) = (self.u32()?, self.u32()?);
        if flags & !VRING_F_LOG != 0 {
            return Err(self.error(MessageProblem::ReservedBits {
                value: u64::from(flags),
            }));
        }
        Ok(VringAddresses {
            index,
            log: flags & VRING_F_LOG != 0,
            descriptors: self.u64()?,
            used: self.u64()?,
            available: self.u64()?,
            log_guest_address: self.u64()?,
        })
    }

    fn vring_enable(&mut self) -> Result<Message, ProtocolError> {
        let VringState { index, value } = self.vring_state()?;
        match value {
            0 | 1 => Ok(Message::SetVringEnable {
                index,
                enable: value == 1,
            }),
            value => Err(self.error(MessageProblem::Flag { value })),
        }
    }

    fn vring_fd(&mut self) -> Result<VringFd, ProtocolError> {
        let value = self.number()?;
        if value & !(VRING_INDEX_MASK | VRING_NOFD) != 0 {
            return Err(self.error(MessageProblem::ReservedBits { value }));
        }
        let index = (value & VRING_INDEX_MASK) as u32;
        let fd = if value & VRING_NOFD == 0 {
            Some(self.fd()?)
        } else {
            None
        };
        Ok(VringFd { index, fd })
    }

    fn region(&mut self) -> Result<Region, ProtocolError> {
        Ok(Region {
            guest_address: self.u64()?,
            bytes: self.u64()?,
            user_address: self.u64()?,
            file_offset: self.u64()?,
        })
    }

    fn single_region(&mut self) -> Result<Region, ProtocolError> {
        self.exactly(8 + REGION_BYTES)?;
        self.u64()?; // padding, not inspected: front-ends leave it uninitialised
        self.region()
    }

    fn table(&mut self) -> Result<Vec<(Region, OwnedFd)>, ProtocolError> {
        if self.payload.len() < TABLE_HEADER_BYTES {
            return Err(self.size(TABLE_HEADER_BYTES));
        }
        let (count, _padding) = (self.u32()?, self.u32()?);
        let regions = count as usize;
        if regions > TABLE_REGIONS_MAX {
            return Err(self.error(MessageProblem::Regions { count }));
        }
        self.exactly(TABLE_HEADER_BYTES + regions * REGION_BYTES)?;
        if self.fds.len() != regions {
            return Err(self.error(MessageProblem::Fds {
                expected: regions,
                count: self.fds.len(),
            }));
        }
        std::mem::take(&mut self.fds)
            .into_iter()
            .map(|fd| Ok((self.region()?, fd)))
            .collect()
    }

    fn log_base(&mut self) -> Result<Message, ProtocolError> {
        self.exactly(16)?;
        let (bytes, file_offset) = (self.u64()?, self.u64()?);
        Ok(Message::SetLogBase(LogTable {
            bytes,
            file_offset,
            fd: self.fd()?,
        }))
    }

    fn config_header(&mut self) -> Result<(u32, u32, u32), ProtocolError> {
        if self.payload.len() < CONFIG_HEADER_BYTES {
            return Err(self.size(CONFIG_HEADER_BYTES));
        }
        let (offset, bytes, flags) = (self.u32()?, self.u32()?, self.u32()?);
        if bytes as usize > CONFIG_BYTES_MAX {
            return Err(self.error(MessageProblem::ConfigSize { bytes }));
        }
        self.exactly(CONFIG_HEADER_BYTES + bytes as usize)?;
        Ok((offset, bytes, flags))
    }

    fn get_config(&mut self) -> Result<Message, ProtocolError> {
        let (offset, bytes, flags) = self.config_header()?;
        Ok(Message::GetConfig { offset, bytes, flags })
    }

    fn set_config(&mut self) -> Result<Message, ProtocolError> {
        let (offset, _, flags) = self.config_header()?;
        Ok(Message::SetConfig {
            offset,
            flags,
            data: self.fields.rest().to_vec(),
        })
    }

    fn inflight(&mut self) -> Result<(u64, u64, u16, u16), ProtocolError> {
        if !INFLIGHT_BYTES.contains(&self.payload.len()) {
            return Err(self.size(INFLIGHT_BYTES[0]));
        }
        Ok((self.u64()?, self.u64()?, self.u16()?, self.u16()?))
    }

    fn get_inflight(&mut self) -> Result<Message, ProtocolError> {
        let (_, _, queues, queue_size) = self.inflight()?;
        Ok(Message::GetInflightFd {
            queues,
            queue_size,
            reply_bytes: self.payload.len(),
        })
    }

    fn set_inflight(&mut self) -> Result<Message, ProtocolError> {
        let (bytes, file_offset, queues, queue_size) = self.inflight()?;
        Ok(Message::SetInflightFd {
            bytes,
            file_offset,
            queues,
            queue_size,
            fd: self.fd()?,
        })
    }

    /// The payload has this many bytes, or the message is refused.
    fn exactly(&self, expected: usize) -> Result<(), ProtocolError> {
        if self.payload.len() == expected {
            Ok(())
        } else {
            Err(self.size(expected))
        }
    }

    /// The one file descriptor of the message.
    fn fd(&mut self) -> Result<OwnedFd, ProtocolError> {
        let count = self.fds.len();
        match (count, self.fds.pop()) {
            (1, Some(fd)) => Ok(fd),
            _ => Err(self.error(MessageProblem::Fds { expected: 1, count })),
        }
    }

    fn no_more_fds(&self) -> Result<(), ProtocolError> {
        match self.fds.len() {
            0 => Ok(()),
            count => Err(self.error(MessageProblem::Fds { expected: 0, count })),
        }
    }

    fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.fields.u16().ok_or_else(|| self.size(self.payload.len() + 2))
    }

    fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.fields.u32().ok_or_else(|| self.size(self.payload.len() + 4))
    }

    fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.fields.u64().ok_or_else(|| self.size(self.payload.len() + 8))
    }

    fn size(&self, expected: usize) -> ProtocolError {
        self.error(MessageProblem::PayloadSize {
            expected,
            bytes: self.payload.len(),
        })
    }

    fn error(&self, problem: MessageProblem) -> ProtocolError {
        ProtocolError::new(self.request, problem)
    }
}
