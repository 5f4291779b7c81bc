//! Stamped writes, many at a time, across the death of the daemon: each request is answered once, by this daemon or the
//! next, and at the end every place holds the stamp that was acknowledged last.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Chance;
use super::ring::{ARENA, Part, Ring};
use super::session::{InFlight, Session};
use crate::failure::{Failure, Outcome, demand};

/// How long the daemon may be away, and how long a request may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// Requests at a time.
const SLOTS: u32 = 16;
/// Places of each slot, so that no two requests in flight are for the same.
const PLACES: u32 = 8;
/// Bytes of a place.
const BYTES: u32 = 8192;
/// Answers before the first loss, and after each, that make a load of it.
const ANSWERS: u64 = 300;
/// Every so many requests one is a flush.
const FLUSH_EVERY: u64 = 40;

/// One request at a time.
struct Slot {
    /// The stamp in flight, and for which place; none: a flush.
    write: Option<(u32, u64)>,
    busy: bool,
    /// What each place must hold.
    acknowledged: Vec<u64>,
}

struct Load<'a> {
    socket: &'a Path,
    ring: Ring,
    session: Session,
    in_flight: Option<InFlight>,
    slots: Vec<Slot>,
    stamp: u64,
    answers: u64,
    chance: Chance,
}

pub fn run(name: &str, socket: &Path, kills: u64) -> Outcome {
    let ring = Ring::new()?;
    let mut in_flight = None;
    let session = Session::start(socket, &ring, &mut in_flight)?;
    ring.ring_bell()?;
    let slot = || Slot {
        write: None,
        busy: false,
        acknowledged: vec![0; PLACES as usize],
    };
    let mut load = Load {
        socket,
        ring,
        session,
        in_flight,
        slots: (0..SLOTS).map(|_| slot()).collect(),
        stamp: 0,
        answers: 0,
        chance: Chance::new(socket.as_os_str().len() as u64 + 0x5eed),
    };
    let (mut lost, mut enough) = (0, ANSWERS);
    let mut carried = 0;
    println!("{name}: under load");
    while lost < kills || load.answers < enough {
        // Until the last loss it goes on; the deadline is that of whoever kills.
        if load.turn(true)? {
            lost += 1;
            carried += load.busy();
            load.come_back()?;
            enough = load.answers + ANSWERS;
            println!("{name}: loss {lost} survived");
        }
    }
    while load.busy() > 0 {
        demand(
            !load.turn(false)?,
            "the daemon has closed the session once too often",
        )?;
    }
    let seen = load.verify()?;
    println!(
        "{name}: {} requests answered once each, {lost} losses of the daemon with {carried} in flight, {seen} stamps right",
        load.answers
    );
    Ok(())
}

impl Load<'_> {
    fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| slot.busy).count()
    }

    /// Sends what can be sent and takes what has come; true when the daemon has gone.
    fn turn(&mut self, more: bool) -> Outcome<bool> {
        if more {
            self.fill()?;
        }
        if self.take()? {
            return Ok(false);
        }
        self.ring.sleep(self.session.socket(), PATIENCE)
    }

    fn fill(&mut self) -> Outcome {
        for index in 0..SLOTS {
            if self.slots.get(index as usize).is_some_and(|slot| !slot.busy) {
                self.stamp += 1;
                let place = self.chance.below(PLACES.into()) as u32;
                let write = (!self.stamp.is_multiple_of(FLUSH_EVERY)).then_some((place, self.stamp));
                self.send(index, write)?;
                if let Some(slot) = self.slots.get_mut(index as usize) {
                    (slot.write, slot.busy) = (write, true);
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, index: u32, write: Option<(u32, u64)>) -> Outcome {
        let base = base_of(index);
        let sector = write.map_or(0, |(place, _)| sector_of(index, place));
        let kind: u32 = if write.is_some() { 1 } else { 4 };
        self.header(base, kind, sector)?;
        let mut data = Vec::new();
        if let Some((place, stamp)) = write {
            self.ring.put(base + DATA, &stamped(index, place, stamp))?;
            // No piece is a whole number of blocks.
            data = pieces(base + DATA, &[1000, 4100, BYTES - 5100], false);
        }
        self.ring
            .offer(index as u16, &chain(base, &data), Some(base + TABLE))
    }

    fn header(&self, base: u64, kind: u32, sector: u64) -> Outcome {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend(sector.to_le_bytes());
        self.ring.put(base, &header)?;
        self.ring.put(base + STATUS, &[0xff])
    }

    /// Whether anything had been answered.
    fn take(&mut self) -> Outcome<bool> {
        let heads = self.ring.answered()?;
        for &head in &heads {
            let status = self.ring.get(base_of(head) + STATUS, 1)?;
            let slot = self.slots.get_mut(head as usize).filter(|slot| slot.busy);
            let slot = slot.ok_or_else(|| Failure::new(format!("chain {head} was answered twice")))?;
            demand(
                status == [0],
                format!("chain {head} ({:?}) was answered with {status:?}", slot.write),
            )?;
            slot.busy = false;
            if let Some((place, stamp)) = slot.write
                && let Some(known) = slot.acknowledged.get_mut(place as usize)
            {
                *known = stamp;
            }
            self.answers += 1;
        }
        Ok(!heads.is_empty())
    }

    /// The daemon has gone: what it has answered is taken, and the next one is found.
    fn come_back(&mut self) -> Outcome {
        self.take()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Session::start(self.socket, &self.ring, &mut self.in_flight) {
                Ok(session) => {
                    self.session = session;
                    return self.ring.ring_bell();
                }
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Reads every place; how many were written.
    fn verify(&mut self) -> Outcome<usize> {
        let mut seen = 0;
        for index in 0..SLOTS {
            for place in 0..PLACES {
                let known = self.slots.get(index as usize);
                let stamp = known
                    .and_then(|slot| slot.acknowledged.get(place as usize))
                    .copied()
                    .unwrap_or(0);
                if stamp != 0 {
                    self.check(index, place, stamp)?;
                    seen += 1;
                }
            }
        }
        Ok(seen)
    }

    fn check(&mut self, index: u32, place: u32, stamp: u64) -> Outcome {
        let base = base_of(index);
        self.header(base, 0, sector_of(index, place))?;
        self.ring.put(base + DATA, &vec![0; BYTES as usize])?;
        let data = pieces(base + DATA, &[3, 4096, BYTES - 4099], true);
        self.ring
            .offer(index as u16, &chain(base, &data), Some(base + TABLE))?;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            (slot.write, slot.busy) = (None, true);
        }
        while self.busy() > 0 {
            demand(!self.turn(false)?, "the daemon has closed the session")?;
        }
        let got = self.ring.get(base + DATA, BYTES as usize)?;
        let found = got.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        demand(
            got == stamped(index, place, stamp),
            format!("place {place} of slot {index} was acknowledged with stamp {stamp} and holds {found:?}"),
        )
    }
}

/// Where a slot's status byte, indirect table and data lie from its base.
const STATUS: u64 = 64;
const TABLE: u64 = 4096;
const DATA: u64 = 65_536 + 4;

fn base_of(slot: u32) -> u64 {
    ARENA + (u64::from(slot) << 20)
}

fn sector_of(slot: u32, place: u32) -> u64 {
    u64::from((slot * PLACES + place) * (BYTES / 512))
}

fn stamped(slot: u32, place: u32, stamp: u64) -> Vec<u8> {
    let one = [stamp, u64::from(slot), u64::from(place), !stamp];
    let one: Vec<u8> = one.iter().flat_map(|word| word.to_le_bytes()).collect();
    one.repeat(BYTES as usize / one.len())
}

fn pieces(mut address: u64, lengths: &[u32], device_writes: bool) -> Vec<Part> {
    lengths
        .iter()
        .map(|&bytes| {
            let part = Part {
                address,
                bytes,
                device_writes,
            };
            address += u64::from(bytes);
            part
        })
        .collect()
}

fn chain(base: u64, data: &[Part]) -> Vec<Part> {
    let end = |address, bytes, device_writes| Part {
        address,
        bytes,
        device_writes,
    };
    let mut all = vec![end(base, 16, false)];
    all.extend(data);
    all.push(end(base + STATUS, 1, true));
    all
}
