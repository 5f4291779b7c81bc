//! What a frame's way there and back costs: two reactors' worth of connections on two threads that exchange frames over TCP
//! on this machine, beside bare sockets that are polled for the same number of bytes. Both spin, as reactors with work do.
//!
//! `cargo run --release -p palisade-sys --example echo -- [seconds] [windows]`

use palisade_block::Devices;
use palisade_forward::{FrameBody, FrameLinks, LinkEvent, LinkPlace, OutFrame};
use palisade_port::Payload;
use palisade_sys::{HugeMemory, LocalDevices, LocalSettings, SocketConnection, affinity};
use palisade_wire::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use palisade_words::MemoryId;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const LINK: LinkPlace = LinkPlace(0);

/// Bytes of payload, and how many frames are on their way at once.
const CASES: [(usize, usize); 4] = [(4096, 1), (4096, 32), (128 << 10, 1), (128 << 10, 8)];

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    /// Bytes, without a header or a checksum.
    Bare,
    /// What this crate makes of them.
    Frames,
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().map_or(Ok(0.3), |text| text.parse())?;
    let windows: usize = arguments.next().map_or(Ok(9), |text| text.parse())?;
    let window = Duration::from_secs_f64(seconds);
    for (bytes, depth) in CASES {
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..windows {
            for (way, costs) in [Way::Bare, Way::Frames].into_iter().zip(&mut costs) {
                costs.push(cost(way, bytes, depth)?);
            }
        }
        let [bare, frames] = costs.map(median);
        println!(
            "{:3} KiB, depth {depth:2}: processor time of a trip: bare {bare:6.1} us, frames {frames:6.1} us",
            bytes >> 10
        );
    }
    for (bytes, depth) in CASES {
        let mut rates = [Vec::new(), Vec::new()];
        // The ways take turns, so that what else runs on the machine meets both of them.
        for _ in 0..windows {
            for (way, rates) in [Way::Bare, Way::Frames].into_iter().zip(&mut rates) {
                rates.push(run(way, bytes, depth, window)?);
            }
        }
        let [bare, frames] = rates.map(median);
        println!(
            "{:3} KiB, depth {depth:2}: bare {bare:8.0}/s ({:6.1} us), frames {frames:8.0}/s ({:6.1} us): {:.2} times as long",
            bytes >> 10,
            1e6 / bare * depth as f64,
            1e6 / frames * depth as f64,
            bare / frames
        );
    }
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Microseconds of processor time for one trip, with both ends on this thread.
fn cost(way: Way, bytes: usize, depth: usize) -> Outcome<f64> {
    let (one, other) = connect()?;
    let goal = (256 << 20) / (bytes + (16 << 10));
    let mut trips = 0;
    let gone = "the other end has gone";
    let start;
    match way {
        Way::Bare => {
            let whole = bytes + FRAME_HEADER_BYTES;
            let mut ends = [Bare::new(one, whole * depth)?, Bare::new(other, whole * depth)?];
            ends[0].unsent = whole * depth;
            let (mut came, mut at) = (0, 0);
            start = processor_time_us();
            while trips < goal {
                let bytes = ends[at].turn()?.ok_or(gone)?;
                ends[at].unsent += bytes;
                came += [bytes, 0][at];
                (trips, at) = (came / whole, 1 - at);
            }
        }
        Way::Frames => {
            let mut ends = [End::new(one, bytes)?, End::new(other, bytes)?];
            (0..depth as u64).for_each(|sequence| ends[0].send(sequence));
            start = processor_time_us();
            while trips < goal {
                trips += ends[0].turn()?.ok_or(gone)? as usize;
                ends[1].turn()?.ok_or(gone)?;
            }
        }
    }
    Ok((processor_time_us() - start) / trips as f64)
}

fn processor_time_us() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a value of ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn connect() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    Ok((one, listener.accept()?.0))
}

/// Round trips in a second.
fn run(way: Way, bytes: usize, depth: usize, window: Duration) -> Outcome<f64> {
    let (asking, answering) = connect()?;
    let cpus = affinity::allowed_cpus()?;
    let last = cpus.last().copied();
    let other = std::thread::spawn(move || -> Outcome<()> {
        if let Some(cpu) = last {
            affinity::pin_current_thread(cpu)?;
        }
        match way {
            Way::Bare => answer_bare(answering, bytes, depth),
            Way::Frames => answer_frames(answering, bytes),
        }
    });
    if let Some(cpu) = cpus.first() {
        affinity::pin_current_thread(*cpu)?;
    }
    let rate = match way {
        Way::Bare => ask_bare(asking, bytes, depth, window),
        Way::Frames => ask_frames(asking, bytes, depth, window),
    }?;
    other.join().map_err(|_| "the other thread has panicked")??;
    Ok(rate)
}

/// Bytes as they come, with what is to go on one end of them.
struct Bare {
    stream: TcpStream,
    room: Vec<u8>,
    unsent: usize,
}

impl Bare {
    fn new(stream: TcpStream, bytes: usize) -> io::Result<Bare> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Bare {
            stream,
            room: vec![1; bytes],
            unsent: 0,
        })
    }

    /// Sends what it can, and tells how many bytes came; `None` when the other end has gone.
    fn turn(&mut self) -> io::Result<Option<usize>> {
        let wait = |error: io::Error| match error.kind() {
            ErrorKind::WouldBlock => Ok(usize::MAX),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ok(0),
            _ => Err(error),
        };
        while self.unsent > 0 {
            let piece = self.unsent.min(self.room.len());
            match self.stream.write(&self.room[..piece]).or_else(wait)? {
                usize::MAX => break,
                0 => return Ok(None),
                sent => self.unsent -= sent,
            }
        }
        Ok(match self.stream.read(&mut self.room).or_else(wait)? {
            usize::MAX => Some(0),
            0 => None,
            came => Some(came),
        })
    }
}

fn ask_bare(stream: TcpStream, bytes: usize, depth: usize, window: Duration) -> Outcome<f64> {
    let bytes = bytes + FRAME_HEADER_BYTES;
    let mut bare = Bare::new(stream, bytes * depth)?;
    bare.unsent = bytes * depth;
    let (start, mut came, mut trips) = (Instant::now(), 0, 0);
    while start.elapsed() < window {
        came += bare.turn()?.ok_or("the other end has gone")?;
        trips += came / bytes;
        bare.unsent += came / bytes * bytes;
        came %= bytes;
    }
    Ok(trips as f64 / start.elapsed().as_secs_f64())
}

fn answer_bare(stream: TcpStream, bytes: usize, depth: usize) -> Outcome<()> {
    let mut bare = Bare::new(stream, (bytes + FRAME_HEADER_BYTES) * depth)?;
    while let Some(came) = bare.turn()? {
        bare.unsent += came;
    }
    Ok(())
}

/// One end that sends frames.
struct End {
    devices: LocalDevices,
    memory: HugeMemory,
    kept: MemoryId,
    bytes: usize,
}

impl End {
    fn new(stream: TcpStream, bytes: usize) -> Outcome<End> {
        let mut devices = LocalDevices::new(LocalSettings::default())?;
        let memory = HugeMemory::new(64 << 20)?;
        memory.lock()?;
        let kept = devices.keep(memory.lease());
        devices.attach(LINK, SocketConnection::new(stream))?;
        Ok(End {
            devices,
            memory,
            kept,
            bytes,
        })
    }

    fn send(&mut self, sequence: u64) {
        let segment = self.place(sequence);
        let frame = OutFrame {
            header: FrameHeader {
                sequence,
                payload_bytes: self.bytes as u32,
                ..FrameHeader::of(FrameKind::Message)
            },
            body: FrameBody::Memory {
                memory: self.kept,
                segment,
            },
            payload: Payload::None,
            is_urgent: false,
        };
        self.devices.send(LINK, frame);
    }

    fn place(&self, sequence: u64) -> palisade_block::Segment {
        let at = sequence as usize % 64 * (128 << 10);
        self.memory.segment().part(at, self.bytes).unwrap_or_default()
    }

    /// Answers each frame that has come by another; tells how many, or `None` when the other end has gone.
    fn turn(&mut self) -> Outcome<Option<u64>> {
        self.devices.submit();
        self.devices.reap(|_, _| {});
        let mut count = 0;
        while let Some(event) = self.devices.next_event() {
            match event {
                LinkEvent::Header { header, .. } => {
                    let place = self.place(header.sequence);
                    self.devices.land(LINK, self.kept, &[place]);
                }
                LinkEvent::Arrived { header, .. } => {
                    count += 1;
                    self.send(header.sequence);
                }
                LinkEvent::Broken { .. } => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(count))
    }
}

fn ask_frames(stream: TcpStream, bytes: usize, depth: usize, window: Duration) -> Outcome<f64> {
    let mut end = End::new(stream, bytes)?;
    (0..depth as u64).for_each(|sequence| end.send(sequence));
    let (start, mut trips) = (Instant::now(), 0);
    while start.elapsed() < window {
        trips += end.turn()?.ok_or("the other end has gone")?;
    }
    Ok(trips as f64 / start.elapsed().as_secs_f64())
}

fn answer_frames(stream: TcpStream, bytes: usize) -> Outcome<()> {
    let mut end = End::new(stream, bytes)?;
    while end.turn()?.is_some() {}
    Ok(())
}
