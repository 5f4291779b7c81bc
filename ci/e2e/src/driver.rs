//! A driver of our own for an attachment, without a virtual machine around it: the monitor's side of a vhost-user session
//! and the guest's side of a ring, written from the standards. It sends what no guest at hand can be brought to send, and
//! runs where no guest fits: inside one.
//!
//! ```text
//! palisade-e2e drive shapes NAME SOCKET     odd segments of every kind; what is read is what was written
//! palisade-e2e drive load NAME SOCKET KILLS  stamped writes across so many losses of the daemon
//! palisade-e2e drive put NAME SOCKET         a pattern over the first 4 MiB
//! palisade-e2e drive check NAME SOCKET       that it is there
//! ```
//!
//! NAME begins each line of the output. The memory of its guest is a file that it reads and writes by system calls, which
//! the daemon has mapped; so all of it is safe Rust.

pub mod giant;
mod load;
pub mod pattern;
pub mod puncher;
pub mod ring;
pub mod session;
mod shapes;

use std::path::Path;

use crate::failure::{Failure, Outcome};

/// Does what the arguments behind `drive` say.
///
/// # Errors
/// What was seen instead of the wanted, or how it is called.
pub fn main(arguments: &[String]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, result) = match *words.as_slice() {
        ["shapes", name, socket] => (name, shapes::run(name, Path::new(socket))),
        ["load", name, socket, kills] => {
            let kills = kills
                .parse()
                .map_err(|error| Failure::during(format!("KILLS {kills}"), error))?;
            (name, load::run(name, Path::new(socket), kills))
        }
        ["put", name, socket] => (name, pattern::put(Path::new(socket), seed(name), PATTERN_BYTES)),
        ["check", name, socket] => (
            name,
            pattern::must_hold(Path::new(socket), seed(name), PATTERN_BYTES),
        ),
        _ => {
            return Err(Failure::new(
                "drive shapes|put|check NAME SOCKET | drive load NAME SOCKET KILLS",
            ));
        }
    };
    result.map_err(|failure| Failure::new(format!("{name}: {failure}")))
}

/// Bytes that `put` writes.
const PATTERN_BYTES: u64 = 4 << 20;

fn seed(name: &str) -> u64 {
    name.bytes()
        .fold(7, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte))
}

/// Numbers that look like chance and are the same on every run (xorshift64*).
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    /// `seed` is whatever is at hand.
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One of `0 .. end`; 0 when there is none.
    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16).checked_rem(end).unwrap_or(0)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut all: Vec<u8> = (0..count.div_ceil(8))
            .flat_map(|_| self.next().to_le_bytes())
            .collect();
        all.truncate(count);
        all
    }
}
