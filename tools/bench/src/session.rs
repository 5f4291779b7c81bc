//! One connection to a vhost-user-blk server, from the virtual machine's side: negotiation, memory, one ring. What is
//! said on the socket is the `vhost` crate's; the ring is our own, since it is on the way that is measured.

use crate::Failure;
use crate::pages::{Pages, USER_BASE};
use crate::ring::{Layout, Ring};
use palisade_virtio::Features;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{self, Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// How long a reply is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A disk that can be used.
pub struct Session {
    frontend: Frontend,
    /// The ring.
    pub ring: Ring,
    /// Tells the server to look at the ring.
    pub kick: EventFd,
    /// Size of the disk in sectors of 512 bytes.
    pub sectors: u64,
    /// Never read: this client polls. It must exist all the same.
    _call: EventFd,
}

impl Session {
    /// Connects, negotiates, shares memory for `layout` and starts one ring in it. With `event_idx` kicks and calls are
    /// asked for by index (`VIRTIO_RING_F_EVENT_IDX`) where that is offered, as Linux guests do.
    pub fn open(path: &Path, event_idx: bool, layout: Layout) -> Result<Session, Failure> {
        let named = |error: vhost::Error| Failure::target(&path.display().to_string(), error);
        let stream =
            UnixStream::connect(path).map_err(Failure::system(format!("connect to {}", path.display())))?;
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE)).map_err(Failure::system("limit the patience of a socket"))?;
        }
        let event = || EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(Failure::system("make an eventfd"));
        let (kick, call) = (event()?, event()?);
        let pages = Pages::new(layout.bytes())?;
        let mut frontend = Frontend::from_stream(stream, 1);
        let agreed = negotiate(&mut frontend, event_idx).map_err(named)?;
        if agreed.sectors < u64::from(layout.bytes) / 512 {
            let problem = format!("a disk of {} sectors is shorter than a request", agreed.sectors);
            return Err(Failure::target(&path.display().to_string(), problem));
        }
        let ring = Ring::new(Arc::clone(&pages.memory), layout, agreed.event_idx)?;
        start(&mut frontend, &pages, &ring, &agreed, [&kick, &call]).map_err(named)?;
        Ok(Session {
            frontend,
            ring,
            kick,
            sectors: agreed.sectors,
            _call: call,
        })
    }

    /// Stops the ring and hangs up. All requests must have been answered.
    pub fn close(self) -> Result<(), Failure> {
        let stopped = self.frontend.get_vring_base(0);
        stopped
            .map(drop)
            .map_err(|error| Failure::target("at the end of a session", error))
    }
}

/// What both sides will do.
struct Agreed {
    event_idx: bool,
    memory_slots: bool,
    sectors: u64,
}

fn negotiate(frontend: &mut Frontend, event_idx: bool) -> vhost::Result<Agreed> {
    let offered = frontend.get_features()?;
    let wanted = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
    let protocol = frontend.get_protocol_features()? & wanted;
    frontend.set_protocol_features(protocol)?;
    // Where REPLY_ACK is not offered nobody waits for acknowledgements, asked for or not.
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    frontend.set_owner()?;
    let (_, config) = frontend.get_config(0, 8, VhostUserConfigFlags::empty(), &[0; 8])?;
    let capacity = config.first_chunk().ok_or(vhost_user::Error::InvalidMessage)?;
    let event_idx = event_idx && offered & Features::EVENT_IDX.bits() != 0;
    let mut features = Features::VERSION_1 | Features::FLUSH | Features::BLK_SIZE;
    features = features | Features::SEG_MAX | Features::SIZE_MAX;
    if event_idx {
        features = features | Features::EVENT_IDX;
    }
    let features = features.bits() | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    frontend.set_features(offered & features)?;
    Ok(Agreed {
        event_idx,
        memory_slots: protocol.contains(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS),
        sectors: u64::from_le_bytes(*capacity),
    })
}

fn start(
    frontend: &mut Frontend,
    pages: &Pages,
    ring: &Ring,
    agreed: &Agreed,
    [kick, call]: [&EventFd; 2],
) -> vhost::Result<()> {
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: pages.bytes,
        userspace_addr: USER_BASE,
        mmap_offset: 0,
        mmap_handle: pages.file.as_raw_fd(),
    };
    if agreed.memory_slots {
        frontend.add_mem_region(&region)?;
    } else {
        frontend.set_mem_table(&[region])?;
    }
    let (addresses, size) = (ring.addresses(), ring.size());
    let config = VringConfigData {
        queue_max_size: size,
        queue_size: size,
        flags: 0,
        desc_table_addr: USER_BASE + addresses.descriptors,
        used_ring_addr: USER_BASE + addresses.used,
        avail_ring_addr: USER_BASE + addresses.avail,
        log_addr: None,
    };
    frontend.set_vring_num(0, size)?;
    frontend.set_vring_base(0, 0)?;
    frontend.set_vring_addr(0, &config)?;
    frontend.set_vring_call(0, call)?;
    frontend.set_vring_kick(0, kick)?;
    frontend.set_vring_enable(0, true)?;
    // Whatever had no acknowledgement has been carried out when a later request is answered.
    frontend.get_features().map(drop)
}
