//! What we send: replies to requests, and the one request of our own.

use super::{FLAG_REPLY, HEADER_BYTES, VERSION, VringState};
use std::os::fd::OwnedFd;

/// `VHOST_USER_BACKEND_CONFIG_CHANGE_MSG` ("Back-end message types").
const BACKEND_CONFIG_CHANGE: u32 = 2;

/// A reply, ready to be sent.
#[derive(Debug)]
pub struct Reply {
    /// Header and payload.
    pub bytes: Vec<u8>,
    /// At most one descriptor that goes with it.
    pub fd: Option<OwnedFd>,
}

impl Reply {
    /// The answer to a request that asks for a number, and every acknowledgement: 0 for success.
    pub fn number(request: u32, value: u64) -> Reply {
        Reply::new(request, &value.to_ne_bytes(), None)
    }

    /// The answer to `GET_VRING_BASE`.
    pub fn vring_state(request: u32, state: VringState) -> Reply {
        let mut payload = [0; 8];
        let (index, value) = payload.split_at_mut(4);
        index.copy_from_slice(&state.index.to_ne_bytes());
        value.copy_from_slice(&state.value.to_ne_bytes());
        Reply::new(request, &payload, None)
    }

    /// The answer to `SET_LOG_BASE`: the size and the offset it came with, both in bytes. The protocol leaves the
    /// reply's contents open. QEMU takes any; the `vhost` crate of rust-vmm, and Cloud Hypervisor with it, waits for
    /// these 16 bytes and would wait forever after the 8 of an acknowledgement.
    pub fn log(request: u32, bytes: u64, file_offset: u64) -> Reply {
        let mut payload = [0; 16];
        let (size, offset) = payload.split_at_mut(8);
        size.copy_from_slice(&bytes.to_ne_bytes());
        offset.copy_from_slice(&file_offset.to_ne_bytes());
        Reply::new(request, &payload, None)
    }

    /// The answer to `GET_CONFIG`. An empty payload says that the request could not be served.
    pub fn config(request: u32, offset: u32, flags: u32, data: &[u8]) -> Reply {
        if data.is_empty() {
            return Reply::new(request, &[], None);
        }
        let mut payload = Vec::with_capacity(12 + data.len());
        payload.extend_from_slice(&offset.to_ne_bytes());
        payload.extend_from_slice(&(data.len() as u32).to_ne_bytes());
        payload.extend_from_slice(&flags.to_ne_bytes());
        payload.extend_from_slice(data);
        Reply::new(request, &payload, None)
    }

    /// The answer to `GET_INFLIGHT_FD`, in as many bytes as the request had (20 or 24).
    pub fn inflight(
        request: u32,
        bytes: u64,
        queues: u16,
        queue_size: u16,
        fd: OwnedFd,
        size: usize,
    ) -> Reply {
        let mut payload = Vec::with_capacity(24);
        payload.extend_from_slice(&bytes.to_ne_bytes());
        payload.extend_from_slice(&0u64.to_ne_bytes());
        payload.extend_from_slice(&queues.to_ne_bytes());
        payload.extend_from_slice(&queue_size.to_ne_bytes());
        payload.resize(size, 0);
        Reply::new(request, &payload, Some(fd))
    }

    /// The answer to `GET_INFLIGHT_FD` when there is no such region: of no bytes, without a descriptor.
    pub fn no_inflight(request: u32, size: usize) -> Reply {
        Reply::new(request, &vec![0; size], None)
    }

    fn new(request: u32, payload: &[u8], fd: Option<OwnedFd>) -> Reply {
        Reply {
            bytes: frame(request, VERSION | FLAG_REPLY, payload),
            fd,
        }
    }
}

/// Tells the front-end to read the configuration space again. It does not ask for an acknowledgement: one that
/// never came would change nothing for us, so there is nothing to wait for.
pub fn config_changed_message() -> Vec<u8> {
    frame(BACKEND_CONFIG_CHANGE, VERSION, &[])
}

fn frame(request: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&request.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
