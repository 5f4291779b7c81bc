//! Reading and writing the parts of a frame: little-endian numbers, and texts and lists behind their length.

use super::codec::CodecError;
use palisade_words::{Name, Uuid};
use std::net::{IpAddr, SocketAddr};

/// The bytes of a payload that have not been read yet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CodecError::Field { field })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, CodecError> {
        Ok(u8::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, CodecError> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    pub(super) fn uuid(&mut self, field: &'static str) -> Result<Uuid, CodecError> {
        let uuid = Uuid(u128::from_le_bytes(self.array(field)?));
        (!uuid.is_nil())
            .then_some(uuid)
            .ok_or(CodecError::Field { field })
    }

    /// 0 or 1.
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, CodecError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Field { field }),
        }
    }

    /// Behind its length, u16.
    pub(super) fn bytes(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], CodecError> {
        let length = usize::from(self.u16(field)?);
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(CodecError::Field { field })?;
        if length > max {
            return Err(CodecError::Field { field });
        }
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn text(&mut self, field: &'static str, max: usize) -> Result<String, CodecError> {
        let bytes = self.bytes(field, max)?;
        let text = str::from_utf8(bytes).map_err(|_| CodecError::Field { field })?;
        // It is shown to an operator, on a terminal and in a log.
        match text.chars().any(char::is_control) {
            true => Err(CodecError::Field { field }),
            false => Ok(text.into()),
        }
    }

    pub(super) fn name(&mut self, field: &'static str) -> Result<Name, CodecError> {
        let text = self.text(field, usize::from(u8::MAX))?;
        Name::new(text).map_err(|_| CodecError::Field { field })
    }

    pub(super) fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        self.flag(field)?.then(|| read(self)).transpose()
    }

    /// Behind its count, u16.
    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        max: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = usize::from(self.u16(field)?);
        if count > max {
            return Err(CodecError::Field { field });
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// 4 or 6, the address as it goes over the wire, the port.
    pub(super) fn address(&mut self, field: &'static str) -> Result<SocketAddr, CodecError> {
        let ip: IpAddr = match self.u8(field)? {
            4 => self.array::<4>(field)?.into(),
            6 => self.array::<16>(field)?.into(),
            _ => return Err(CodecError::Field { field }),
        };
        Ok(SocketAddr::new(ip, self.u16(field)?))
    }
}

/// A payload that is being written.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn uuid(&mut self, uuid: Uuid) -> &mut Writer {
        self.raw(&uuid.0.to_le_bytes())
    }

    /// Cut off where its length does not fit: what we write is shorter.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.raw(&length.to_le_bytes());
        self.raw(bytes.get(..usize::from(length)).unwrap_or(bytes))
    }

    pub(super) fn optional(&mut self, bytes: Option<&[u8]>) -> &mut Writer {
        self.raw(&[u8::from(bytes.is_some())]);
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self,
        }
    }

    pub(super) fn addresses(&mut self, addresses: &[SocketAddr]) -> &mut Writer {
        let count = u16::try_from(addresses.len()).unwrap_or(u16::MAX);
        self.raw(&count.to_le_bytes());
        for address in addresses.iter().take(usize::from(count)) {
            match address.ip() {
                IpAddr::V4(ip) => self.raw(&[4]).raw(&ip.octets()),
                IpAddr::V6(ip) => self.raw(&[6]).raw(&ip.octets()),
            };
            self.raw(&address.port().to_le_bytes());
        }
        self
    }
}
