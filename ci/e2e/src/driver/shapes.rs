//! Requests whose segments are cut in every odd way: lengths that are no multiple of a block, addresses that are no
//! multiple of anything, chains as long as the ring. What is read is what was written, what lies between the segments is
//! left alone, and so is what lies beside the request on the disk.

use std::path::Path;
use std::time::Duration;

use super::Chance;
use super::ring::{ARENA, ENTRIES, Part, Ring};
use super::session::{Config, Session};
use crate::failure::{Outcome, demand};

/// What one request may take on an emulated machine that others share.
const PATIENCE: Duration = Duration::from_secs(60);
/// The part of the disk that is worked on.
const REGION: usize = 2 << 20;
/// Where segments lie in guest memory.
const DATA: u64 = ARENA + (4 << 20);
/// An indirect table, and a request's other parts.
const TABLE: u64 = ARENA + (1 << 20);
/// What lies between segments.
const BETWEEN: u8 = 0xa5;
/// Bytes behind the last segment that are looked at.
const BEHIND: u64 = 64;

/// A chain is as long as the ring, with its header and its status byte.
const SEGMENTS_MAX: usize = ENTRIES as usize - 2;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// A way to cut a request's data.
struct Shape {
    name: &'static str,
    /// Where in a page the first segment begins.
    start: u64,
    /// What lies between two segments.
    gap: u64,
    /// Lengths that add up to so many bytes.
    cut: fn(u32, &mut Chance) -> Vec<u32>,
}

const SHAPES: &[Shape] = &[
    shape("in one", 0, 0, |bytes, _| vec![bytes]),
    shape("in one at an odd address", 1, 0, |bytes, _| vec![bytes]),
    shape("one byte and the rest", 0, 0, |bytes, _| vec![1, bytes - 1]),
    shape("all but one byte", 3, 0, |bytes, _| vec![bytes - 1, 1]),
    shape("four bytes and the rest", 4, 0, |bytes, _| vec![4, bytes - 4]),
    shape("eight bytes last", 8, 0, |bytes, _| vec![bytes - 8, 8]),
    shape("1000 bytes and the rest", 0, 0, |bytes, _| {
        vec![1000, bytes - 1000]
    }),
    shape("three", 0, 0, |bytes, _| vec![100, 412, bytes - 512]),
    shape("a sector last", 512, 0, |bytes, _| vec![bytes - 512, 512]),
    shape("sectors one behind the other", 512, 0, |bytes, _| {
        even(bytes, 512)
    }),
    shape("sectors apart", 0, 512, |bytes, _| even(bytes, 512)),
    shape("sectors at odd addresses", 1, 3, |bytes, _| even(bytes, 512)),
    shape("halves of sectors", 256, 4, |bytes, _| even(bytes, 256)),
    shape("across pages", 4094, 0, |bytes, _| even(bytes, 1024)),
    shape("by chance", 0, 1, |bytes, chance| by_chance(bytes, 12, 1, chance)),
    shape("by chance, in fours", 4, 4, |bytes, chance| {
        by_chance(bytes, 12, 4, chance)
    }),
    shape("many by chance", 2, 5, |bytes, chance| {
        by_chance(bytes, 120, 1, chance)
    }),
    shape("as many as can be", 0, 0, |bytes, chance| {
        by_chance(bytes, 1000, 4, chance)
    }),
];

const fn shape(name: &'static str, start: u64, gap: u64, cut: fn(u32, &mut Chance) -> Vec<u32>) -> Shape {
    Shape {
        name,
        start,
        gap,
        cut,
    }
}

/// Pieces of `piece` bytes.
fn even(bytes: u32, piece: u32) -> Vec<u32> {
    vec![piece; (bytes / piece) as usize]
}

/// So many pieces of chance lengths, each a multiple of `unit`, and fewer where there are not so many units.
fn by_chance(bytes: u32, pieces: u32, unit: u32, chance: &mut Chance) -> Vec<u32> {
    let units = bytes / unit;
    let mut cuts: Vec<u32> = (1..pieces.min(units))
        .map(|_| 1 + chance.below(u64::from(units) - 1) as u32)
        .collect();
    cuts.push(units);
    cuts.sort_unstable();
    cuts.dedup();
    let mut last = 0;
    cuts.iter()
        .map(|&cut| {
            let length = (cut - last) * unit;
            last = cut;
            length
        })
        .collect()
}

/// Never more pieces than a request may have: those too many are one with the last.
fn at_most(mut lengths: Vec<u32>, most: usize) -> Vec<u32> {
    let rest: u32 = lengths.split_off(lengths.len().min(most)).iter().sum();
    if let Some(last) = lengths.last_mut() {
        *last += rest;
    }
    lengths
}

pub fn run(name: &str, socket: &Path) -> Outcome {
    let mut bench = Bench::start(socket)?;
    let config = bench.config;
    demand(
        config.capacity * 512 >= REGION as u64,
        format!("a volume of {} bytes is too small", config.capacity * 512),
    )?;
    bench.settle()?;
    let sizes = [1, 2, 5, 16, 32].map(|blocks| blocks * config.block_bytes.max(4096));
    let mut count = 0;
    for (turn, bytes) in sizes.into_iter().enumerate() {
        for (index, write) in SHAPES.iter().enumerate() {
            // Read in another way than written; of all pairs, other ones for each size.
            let read = SHAPES.get((index + turn + 1) % SHAPES.len()).unwrap_or(write);
            bench.write_and_read(bytes, write, read)?;
            count += 2;
        }
    }
    bench.flush()?;
    bench.ranges(WRITE_ZEROES, config.zeroes_ranges)?;
    bench.ranges(DISCARD, config.discard_ranges)?;
    bench.flush()?;
    bench.compare_all("at the end")?;
    println!(
        "{name}: blocks of {} bytes: {count} odd requests, flush, {}zeroes: each byte is as written",
        config.block_bytes,
        if config.discard_ranges == 0 {
            "no discard offered, "
        } else {
            "discard, "
        },
    );
    Ok(())
}

/// A device under trial, and what must be on it.
struct Bench {
    ring: Ring,
    session: Session,
    config: Config,
    content: Vec<u8>,
    chance: Chance,
    requests: u64,
}

impl Bench {
    fn start(socket: &Path) -> Outcome<Self> {
        let ring = Ring::new()?;
        let session = Session::start(socket, &ring, &mut None)?;
        Ok(Self {
            config: session.config(),
            ring,
            session,
            content: vec![0; REGION],
            chance: Chance::new(0x7061_6c69_7361_6465),
            requests: 0,
        })
    }

    /// Fills the region with what is known.
    fn settle(&mut self) -> Outcome {
        self.content = self.chance.bytes(REGION);
        for at in (0..REGION).step_by(64 << 10) {
            let bytes = self.content.get(at..at + (64 << 10)).unwrap_or_default().to_vec();
            self.ring.put(DATA, &bytes)?;
            let status = self.request(OUT, at, &[readable(DATA, bytes.len() as u32)])?;
            demand(
                status == 0,
                format!("a plain write at {at} was answered with {status}"),
            )?;
        }
        Ok(())
    }

    fn write_and_read(&mut self, bytes: u32, write: &Shape, read: &Shape) -> Outcome {
        let blocks = (REGION as u64 - u64::from(bytes)) / u64::from(self.config.block_bytes) + 1;
        let at = (self.chance.below(blocks) * u64::from(self.config.block_bytes)) as usize;
        let data = self.chance.bytes(bytes as usize);
        let parts = self.lay(write, bytes, Some(&data))?;
        let status = self.request(OUT, at, &parts)?;
        let told = |what: &str| {
            format!(
                "{bytes} bytes at {at}, written {}, read {}: {what}",
                write.name, read.name
            )
        };
        demand(
            status == 0,
            told(&format!("the write was answered with {status}")),
        )?;
        if let Some(place) = self.content.get_mut(at..at + bytes as usize) {
            place.copy_from_slice(&data);
        }
        let parts = self.lay(read, bytes, None)?;
        let status = self.request(IN, at, &parts)?;
        demand(status == 0, told(&format!("the read was answered with {status}")))?;
        let (got, between) = self.take(&parts)?;
        demand(got == data, told("other bytes came back"))?;
        demand(
            between.iter().all(|&byte| byte == BETWEEN),
            told("the read changed memory between or behind its segments"),
        )
    }

    /// Lays segments out in guest memory, with `data` in them or with nothing.
    fn lay(&mut self, shape: &Shape, bytes: u32, data: Option<&[u8]>) -> Outcome<Vec<Part>> {
        let lengths = at_most((shape.cut)(bytes, &mut self.chance), SEGMENTS_MAX);
        let room = u64::from(bytes) + lengths.len() as u64 * shape.gap + BEHIND;
        self.ring
            .put(DATA, &vec![BETWEEN; (shape.start + room) as usize])?;
        let (mut address, mut done) = (DATA + shape.start, 0);
        let mut parts = Vec::new();
        for length in lengths {
            let end = done + length as usize;
            if let Some(data) = data {
                self.ring.put(address, data.get(done..end).unwrap_or_default())?;
            }
            parts.push(Part {
                address,
                bytes: length,
                device_writes: data.is_none(),
            });
            address += u64::from(length) + shape.gap;
            done = end;
        }
        Ok(parts)
    }

    /// What lies in the segments, and what lies between and behind them.
    fn take(&self, parts: &[Part]) -> Outcome<(Vec<u8>, Vec<u8>)> {
        let (mut within, mut between) = (Vec::new(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            within.extend(self.ring.get(part.address, part.bytes as usize)?);
            let end = part.address + u64::from(part.bytes);
            let next = parts.get(index + 1).map_or(end + BEHIND, |next| next.address);
            between.extend(self.ring.get(end, (next - end) as usize)?);
        }
        Ok((within, between))
    }

    fn flush(&mut self) -> Outcome {
        let status = self.request(FLUSH, 0, &[])?;
        demand(status == 0, format!("a flush was answered with {status}"))
    }

    /// Ranges of blocks that are zeroed, or may be.
    fn ranges(&mut self, kind: u32, most: u32) -> Outcome {
        let block = self.config.block_bytes as usize;
        for (count, blocks) in [(1, 1), (1, 7), (most.min(3), 16)] {
            if most == 0 {
                return Ok(());
            }
            let at: Vec<usize> = (0..count as usize)
                .map(|index| (3 + index * 37 + blocks) * block)
                .collect();
            let list: Vec<u8> = at
                .iter()
                .flat_map(|&at| {
                    let mut one = (at as u64 / 512).to_le_bytes().to_vec();
                    one.extend(((blocks * block / 512) as u32).to_le_bytes());
                    one.extend([0; 4]);
                    one
                })
                .collect();
            // In pieces that end in the middle of a number.
            self.ring.put(DATA + 1, &list)?;
            let parts = [readable(DATA + 1, 5), readable(DATA + 6, list.len() as u32 - 5)];
            let status = self.request(kind, 0, &parts)?;
            demand(
                status == 0,
                format!("request {kind} of {count} ranges of {blocks} blocks was answered with {status}"),
            )?;
            for at in at {
                let bytes = blocks * block;
                let parts = [Part {
                    address: DATA,
                    bytes: bytes as u32,
                    device_writes: true,
                }];
                let status = self.request(IN, at, &parts)?;
                demand(status == 0, format!("reading after request {kind}: {status}"))?;
                let now = self.ring.get(DATA, bytes)?;
                demand(
                    kind == DISCARD || now.iter().all(|&byte| byte == 0),
                    format!("zeroes were asked for at {at} and are not there"),
                )?;
                // What a discard leaves is the device's to say.
                if let Some(place) = self.content.get_mut(at..at + bytes) {
                    place.copy_from_slice(&now);
                }
            }
        }
        self.compare_all(&format!("after request {kind}"))
    }

    fn compare_all(&mut self, when: &str) -> Outcome {
        for at in (0..REGION).step_by(64 << 10) {
            let parts = [Part {
                address: DATA,
                bytes: 64 << 10,
                device_writes: true,
            }];
            let status = self.request(IN, at, &parts)?;
            demand(
                status == 0,
                format!("a plain read at {at} was answered with {status}"),
            )?;
            let got = self.ring.get(DATA, 64 << 10)?;
            let wanted = self.content.get(at..at + (64 << 10)).unwrap_or_default();
            let wrong = got.iter().zip(wanted).position(|(got, wanted)| got != wanted);
            demand(
                wrong.is_none(),
                format!("{when}: byte {} is not as written", at + wrong.unwrap_or(0)),
            )?;
        }
        Ok(())
    }

    /// One request and its status byte. Every second one goes by an indirect table.
    fn request(&mut self, kind: u32, at: usize, data: &[Part]) -> Outcome<u8> {
        self.requests += 1;
        let (header, status) = (ARENA, ARENA + 64);
        let mut words = kind.to_le_bytes().to_vec();
        words.extend([0; 4]);
        words.extend((at as u64 / 512).to_le_bytes());
        self.ring.put(header, &words)?;
        self.ring.put(status, &[0xff])?;
        let mut parts = vec![readable(header, 16)];
        parts.extend(data);
        parts.push(Part {
            address: status,
            bytes: 1,
            device_writes: true,
        });
        self.ring
            .offer(0, &parts, self.requests.is_multiple_of(2).then_some(TABLE))?;
        loop {
            match *self.ring.answered()?.as_slice() {
                [] => {}
                [0] => break,
                ref heads => demand(false, format!("chain 0 was answered as {heads:?}"))?,
            }
            let gone = self.ring.sleep(self.session.socket(), PATIENCE)?;
            demand(!gone, "the daemon has closed the session")?;
        }
        Ok(self.ring.get(status, 1)?.first().copied().unwrap_or(0xff))
    }
}

fn readable(address: u64, bytes: u32) -> Part {
    Part {
        address,
        bytes,
        device_writes: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_all_of_a_request_and_none_is_empty() {
        let mut chance = Chance::new(7);
        for shape in SHAPES {
            for bytes in [4096, 8192, 20480, 131_072] {
                for most in [SEGMENTS_MAX, 126] {
                    let lengths = at_most((shape.cut)(bytes, &mut chance), most);
                    assert_eq!(lengths.iter().sum::<u32>(), bytes, "{}", shape.name);
                    assert!(lengths.len() <= most && !lengths.contains(&0), "{}", shape.name);
                }
            }
        }
    }
}
