//! What a front-end says: requests of vhost-user as bytes, and replies back into values. Pure.

use crate::Failure;
use palisade_frontend::codec::{HEADER_BYTES, Region, request};
use palisade_memory::RingAddresses;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 0b11;
const FLAG_REPLY: u32 = 1 << 2;
const FLAG_NEED_REPLY: u32 = 1 << 3;

/// Longest payload of a reply that is read: `GET_CONFIG` with all 256 bytes.
pub const REPLY_BYTES_MAX: usize = 268;

/// A request's bytes. With `need_reply` the back-end acknowledges it (REPLY_ACK).
pub fn encode(request: u32, need_reply: bool, payload: &[u8]) -> Vec<u8> {
    let flags = VERSION | if need_reply { FLAG_NEED_REPLY } else { 0 };
    let mut bytes = words(&[request, flags, payload.len() as u32]);
    bytes.extend_from_slice(payload);
    bytes
}

/// How many bytes follow the header of the reply to `expected`.
pub fn reply_bytes(header: [u8; HEADER_BYTES], expected: u32) -> Result<usize, Failure> {
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_ne_bytes(bytes.unwrap_or_default())
    };
    let (number, flags, bytes) = (word(0), word(4), word(8) as usize);
    let problem = if number != expected {
        format!("the reply is to request {number}")
    } else if flags & VERSION_MASK != VERSION || flags & FLAG_REPLY == 0 {
        format!("the reply has the flags {flags:#x}")
    } else if bytes > REPLY_BYTES_MAX {
        format!("the reply has {bytes} bytes")
    } else {
        return Ok(bytes);
    };
    Err(failure(expected, problem))
}

/// The one number of a reply.
pub fn number(request: u32, payload: &[u8]) -> Result<u64, Failure> {
    match payload.try_into() {
        Ok(bytes) => Ok(u64::from_ne_bytes(bytes)),
        Err(_) => Err(failure(
            request,
            format!("the reply has {} bytes, not 8", payload.len()),
        )),
    }
}

/// A disk's size in sectors of 512 bytes, from the reply to [`config_request`].
pub fn capacity(payload: &[u8]) -> Result<u64, Failure> {
    let bytes = payload.get(12..20).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_le_bytes).ok_or_else(|| {
        failure(
            request::GET_CONFIG,
            "the configuration space cannot be read".into(),
        )
    })
}

/// The payload of `GET_CONFIG` for the first `bytes` bytes.
pub fn config_request(bytes: u32) -> Vec<u8> {
    let mut payload = words(&[0, bytes, 0]);
    payload.resize(12 + bytes as usize, 0);
    payload
}

/// The payload of `SET_MEM_TABLE` with one region.
pub fn memory_table(region: Region) -> Vec<u8> {
    let mut payload = words(&[1, 0]);
    payload.extend(region_words(region));
    payload
}

/// The payload of `ADD_MEM_REG`.
pub fn memory_region(region: Region) -> Vec<u8> {
    let mut payload = longs(&[0]);
    payload.extend(region_words(region));
    payload
}

/// The payload of `SET_VRING_ADDR`, for a ring at guest addresses and a front-end that has guest address 0 at
/// `user_base`.
pub fn ring_addresses(index: u32, ring: RingAddresses, user_base: u64) -> Vec<u8> {
    let mut payload = words(&[index, 0]);
    payload.extend(longs(&[
        user_base + ring.descriptors,
        user_base + ring.used,
        user_base + ring.avail,
        0,
    ]));
    payload
}

/// Some 32-bit numbers one after the other.
pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// Some 64-bit numbers one after the other.
pub fn longs(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn region_words(region: Region) -> Vec<u8> {
    longs(&[
        region.guest_address,
        region.bytes,
        region.user_address,
        region.file_offset,
    ])
}

/// A failure that names the request as the protocol does.
pub fn failure(request: u32, problem: String) -> Failure {
    Failure::Session {
        request: request::name(request).unwrap_or("?"),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_frontend::codec::{Header, Message, Reply, VringState};
    use std::os::fd::OwnedFd;

    fn parsed(request: u32, need_reply: bool, payload: &[u8], fds: Vec<OwnedFd>) -> Message {
        let bytes = encode(request, need_reply, payload);
        let header = Header::parse(bytes[..HEADER_BYTES].try_into().unwrap()).unwrap();
        assert_eq!((header.request, header.need_reply), (request, need_reply));
        assert_eq!(header.payload_bytes, payload.len());
        Message::parse(header, &bytes[HEADER_BYTES..], fds).unwrap()
    }

    fn fd() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    const REGION: Region = Region {
        guest_address: 1,
        bytes: 2,
        user_address: 3,
        file_offset: 4,
    };

    #[test]
    fn our_back_end_reads_what_we_say() {
        let message = parsed(request::SET_FEATURES, true, &longs(&[5 << 40]), vec![]);
        assert!(matches!(message, Message::SetFeatures(bits) if bits == 5 << 40));
        match parsed(request::ADD_MEM_REG, true, &memory_region(REGION), vec![fd()]) {
            Message::AddMemReg(region, _) => assert_eq!(region, REGION),
            other => panic!("{other:?}"),
        }
        match parsed(request::SET_MEM_TABLE, false, &memory_table(REGION), vec![fd()]) {
            Message::SetMemTable(table) => assert_eq!(table[0].0, REGION),
            other => panic!("{other:?}"),
        }
        let ring = RingAddresses {
            descriptors: 0x100,
            avail: 0x200,
            used: 0x300,
        };
        match parsed(
            request::SET_VRING_ADDR,
            true,
            &ring_addresses(3, ring, 0x7000),
            vec![],
        ) {
            Message::SetVringAddr(to) => assert_eq!(
                (to.index, to.descriptors, to.available, to.used, to.log),
                (3, 0x7100, 0x7200, 0x7300, false)
            ),
            other => panic!("{other:?}"),
        }
        let message = parsed(request::GET_CONFIG, false, &config_request(60), vec![]);
        assert!(matches!(
            message,
            Message::GetConfig {
                offset: 0,
                bytes: 60,
                flags: 0
            }
        ));
        let message = parsed(request::SET_VRING_KICK, true, &longs(&[2]), vec![fd()]);
        assert!(matches!(message, Message::SetVringKick(ring) if ring.index == 2 && ring.fd.is_some()));
    }

    #[test]
    fn we_read_what_our_back_end_says() {
        let split = |reply: &Reply| -> ([u8; HEADER_BYTES], Vec<u8>) {
            (
                reply.bytes[..HEADER_BYTES].try_into().unwrap(),
                reply.bytes[HEADER_BYTES..].to_vec(),
            )
        };
        let (header, payload) = split(&Reply::number(request::GET_FEATURES, 77));
        assert_eq!(reply_bytes(header, request::GET_FEATURES).unwrap(), 8);
        assert_eq!(number(request::GET_FEATURES, &payload).unwrap(), 77);
        let mut space = [0; 60];
        space[..8].copy_from_slice(&4096u64.to_le_bytes());
        let (_, payload) = split(&Reply::config(request::GET_CONFIG, 0, 0, &space));
        assert_eq!(capacity(&payload).unwrap(), 4096);
        let state = VringState { index: 0, value: 9 };
        let (header, _) = split(&Reply::vring_state(request::GET_VRING_BASE, state));
        assert_eq!(reply_bytes(header, request::GET_VRING_BASE).unwrap(), 8);
    }

    #[test]
    fn replies_that_are_none_are_refused() {
        let header = |bytes: Vec<u8>| -> [u8; HEADER_BYTES] { bytes[..HEADER_BYTES].try_into().unwrap() };
        let other = header(Reply::number(request::SET_OWNER, 0).bytes);
        assert!(reply_bytes(other, request::GET_FEATURES).is_err());
        let request_back = header(encode(request::GET_FEATURES, false, &[]));
        assert!(reply_bytes(request_back, request::GET_FEATURES).is_err());
        let endless = header(words(&[request::GET_FEATURES, VERSION | FLAG_REPLY, u32::MAX]));
        assert!(reply_bytes(endless, request::GET_FEATURES).is_err());
        assert!(number(request::GET_FEATURES, &[0; 4]).is_err());
        assert!(capacity(&[]).is_err());
    }
}
