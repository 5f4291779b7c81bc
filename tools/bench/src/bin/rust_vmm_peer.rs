//! What the stock crates give: a virtio-blk back-end of `vhost-user-backend`, `virtio-queue` and `vm-memory` and as
//! little else as possible, to be measured beside ours and to test our client against. One queue, one disk that is
//! gone when the program ends, one front-end after the other.
//!
//! It is written as the crates' own examples are: one worker sleeps in epoll, takes all chains there are, copies
//! between the guest and the disk, and interrupts once. Nothing in it is ours.

#![forbid(unsafe_code)]

use clap::{Parser, ValueEnum};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::{DescriptorChain, QueueT, Reader};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

const SECTOR_BYTES: usize = 512;
const QUEUE_SIZE_MAX: usize = 1024;

// Virtio 1.3, 5.2.3, 2.7 and 6, and the vhost-user protocol's own bit.
const F_SEG_MAX: u64 = 1 << 2;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_INDIRECT_DESC: u64 = 1 << 28;
const F_EVENT_IDX: u64 = 1 << 29;
const F_PROTOCOL_FEATURES: u64 = 1 << 30;
const F_VERSION_1: u64 = 1 << 32;

// Virtio 1.3, 5.2.6: types of requests and their status.
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

/// Serves one disk with the stock crates of rust-vmm.
#[derive(Parser, Debug)]
#[command(name = "rust-vmm-peer", version)]
struct Flags {
    /// Where the socket will be.
    #[arg(long)]
    socket: PathBuf,
    /// Size of the disk in bytes, a multiple of 512.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: usize,
    /// What the disk is.
    #[arg(long, value_enum, default_value_t = Medium::Memory)]
    medium: Medium,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Medium {
    /// Says "done" and moves nothing.
    Null,
    /// Memory of this process.
    Memory,
}

type Guest = GuestMemoryAtomic<GuestMemoryMmap>;
type Loaded = GuestMemoryLoadGuard<GuestMemoryMmap>;

/// The device. The disk outlives the front-ends; everything else is theirs.
struct Peer {
    sectors: u64,
    /// `None` for the null device.
    disk: Option<Arc<Mutex<Vec<u8>>>>,
    guest: Guest,
    event_idx: AtomicBool,
}

/// Why a request is not carried out: its status.
struct Refused(u8);

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Refused {
        Refused(S_IOERR)
    }
}

impl Peer {
    /// Serves all chains that are there, then interrupts the guest if it wants that.
    fn serve(&self, vring: &VringRwLock) -> io::Result<()> {
        let memory = self.guest.memory();
        let mut vring = vring.get_mut();
        let mut served = false;
        while let Some(chain) = vring.get_queue_mut().pop_descriptor_chain(memory.clone()) {
            let head = chain.head_index();
            let written = self.answer(chain, &memory)?;
            vring.add_used(head, written).map_err(io::Error::other)?;
            served = true;
        }
        if served && vring.needs_notification().map_err(io::Error::other)? {
            vring.signal_used_queue()?;
        }
        Ok(())
    }

    /// Carries one request out; gives the bytes written into the guest's memory. An error is a chain that has no
    /// room for a status.
    fn answer(&self, chain: DescriptorChain<Loaded>, memory: &Loaded) -> io::Result<u32> {
        let mut from_guest = chain.clone().reader(memory).map_err(io::Error::other)?;
        let mut to_guest = chain.writer(memory).map_err(io::Error::other)?;
        let room = to_guest.available_bytes().checked_sub(1);
        let room = room.ok_or(io::ErrorKind::InvalidData)?;
        let mut status_to = to_guest.split_at(room).map_err(io::Error::other)?;
        let status = match self.carry_out(&mut from_guest, &mut to_guest, room) {
            Ok(()) => S_OK,
            Err(Refused(status)) => status,
        };
        status_to.write_all(&[status])?;
        let data = if status == S_OK { room } else { 0 };
        Ok(u32::try_from(data + 1).unwrap_or(u32::MAX))
    }

    fn carry_out(
        &self,
        from_guest: &mut Reader<'_>,
        to_guest: &mut impl Write,
        room: usize,
    ) -> Result<(), Refused> {
        let (kind, sector) = header(from_guest)?;
        let Some(disk) = &self.disk else {
            return match kind {
                T_IN | T_OUT | T_FLUSH => Ok(()),
                _ => Err(Refused(S_UNSUPP)),
            };
        };
        let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(sector)
            .ok()
            .and_then(|sector| sector.checked_mul(SECTOR_BYTES));
        let from_here = at.and_then(|at| disk.get_mut(at..)).ok_or(Refused(S_IOERR));
        match kind {
            T_IN => to_guest.write_all(from_here?.get(..room).ok_or(Refused(S_IOERR))?)?,
            T_OUT => {
                let bytes = from_guest.available_bytes();
                from_guest.read_exact(from_here?.get_mut(..bytes).ok_or(Refused(S_IOERR))?)?;
            }
            T_FLUSH => {}
            _ => return Err(Refused(S_UNSUPP)),
        }
        Ok(())
    }
}

/// Type and sector of a request (virtio 1.3, 5.2.6).
fn header(from_guest: &mut impl Read) -> io::Result<(u32, u64)> {
    let (mut kind, mut reserved, mut sector) = ([0; 4], [0; 4], [0; 8]);
    from_guest.read_exact(&mut kind)?;
    from_guest.read_exact(&mut reserved)?;
    from_guest.read_exact(&mut sector)?;
    Ok((u32::from_le_bytes(kind), u64::from_le_bytes(sector)))
}

impl VhostUserBackend for Peer {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE_MAX
    }

    fn features(&self) -> u64 {
        F_VERSION_1 | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_INDIRECT_DESC | F_EVENT_IDX | F_PROTOCOL_FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn set_event_idx(&self, enabled: bool) {
        self.event_idx.store(enabled, Ordering::Relaxed);
    }

    /// Virtio 1.3, 5.2.4: capacity at 0, seg_max at 12, blk_size at 20; the rest belongs to features not offered.
    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let mut config = Vec::from(self.sectors.to_le_bytes());
        config.extend([0; 4]);
        config.extend(126u32.to_le_bytes());
        config.extend([0; 4]);
        config.extend((SECTOR_BYTES as u32).to_le_bytes());
        let wanted = config.into_iter().chain(std::iter::repeat(0));
        wanted.skip(offset as usize).take(size as usize).collect()
    }

    fn update_memory(&self, _: Guest) -> io::Result<()> {
        // It is the same that this device has had from the start.
        Ok(())
    }

    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(&self, _: u16, _: EventSet, vrings: &[VringRwLock], _: usize) -> io::Result<()> {
        let Some(vring) = vrings.first() else {
            return Ok(());
        };
        if !self.event_idx.load(Ordering::Relaxed) {
            return self.serve(vring);
        }
        loop {
            vring.disable_notification().map_err(io::Error::other)?;
            self.serve(vring)?;
            if !vring.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }
}

fn run(flags: &Flags) -> Result<(), Box<dyn std::error::Error>> {
    if !flags.bytes.is_multiple_of(SECTOR_BYTES) {
        return Err(format!("{} bytes are no whole sectors of {SECTOR_BYTES}", flags.bytes).into());
    }
    let disk = (flags.medium == Medium::Memory).then(|| Arc::new(Mutex::new(vec![0; flags.bytes])));
    let mut listener = Listener::new(&flags.socket, true)?;
    loop {
        let guest = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let peer = Arc::new(Peer {
            sectors: (flags.bytes / SECTOR_BYTES) as u64,
            disk: disk.clone(),
            guest: guest.clone(),
            event_idx: AtomicBool::new(false),
        });
        let mut daemon =
            VhostUserDaemon::new("rust-vmm-peer".into(), peer, guest).map_err(|error| error.to_string())?;
        daemon.start(&mut listener).map_err(|error| error.to_string())?;
        // However a front-end goes, the next one may come.
        let _ = daemon.wait();
    }
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust-vmm-peer: {error}");
            ExitCode::FAILURE
        }
    }
}
