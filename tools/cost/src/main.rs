//! # cost: what one request costs a target's processor, without any device work
//!
//! Storey 6. Small workloads that do exactly the same every time, on one thread and one ring that is written once and
//! offered again and again: between the ring and the engine alone (`ring-…`), and a whole turn of a reactor over a null
//! device (`turn-…`). The guest's side is one store to the available index for each turn and is not measured.
//!
//! ```sh
//! cargo run --release -p palisade-cost                      # nanoseconds a request, best and median of 200 windows
//! cargo run --release -p palisade-cost -- time turn-qd1     # of one workload
//! cargo xtask budget                                        # instructions and cache lines, held against ci/budgets.toml
//! ```
//!
//! It must never know how instructions are counted: it prints what it did, `cargo xtask budget` runs it under valgrind.
//! Start reading at [`workload`].

#![forbid(unsafe_code)]

mod guest;
mod ring_part;
mod timing;
mod turn;
mod workload;

use std::error::Error;
use std::process::ExitCode;
use workload::{WORKLOADS, Workload};

const HELP: &str = "palisade-cost [COMMAND]

  time [WORKLOAD]        print nanoseconds a request (the default, for all workloads)
  list                   print the names of the workloads
  run WORKLOAD TURNS     take so many turns, and print how many requests they answered
  trace WORKLOAD         the same for one lap of the ring, with marks for whoever traces memory, and print where what lies";

fn main() -> ExitCode {
    match carry_out(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("palisade-cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] | ["time"] => timing::print(WORKLOADS),
        ["time", name] => timing::print(std::slice::from_ref(Workload::named(name)?)),
        ["list"] => {
            WORKLOADS
                .iter()
                .for_each(|workload| println!("{}", workload.name));
            Ok(())
        }
        ["run", name, turns] => {
            let mut running = Workload::named(name)?.start()?;
            let turns: u32 = turns.parse()?;
            (0..turns).for_each(|_| running.turn());
            println!("requests {}", running.end()?);
            Ok(())
        }
        ["trace", name] => trace(Workload::named(name)?),
        _ => {
            eprintln!("{HELP}");
            Err("no such command".into())
        }
    }
}

/// One lap after one unmarked, so that caches of the program's own are as they are later.
fn trace(workload: &Workload) -> Result<(), Box<dyn Error>> {
    let mut running = workload.start()?;
    (0..workload.turns_a_lap()).for_each(|_| running.turn());
    for (name, place) in running.guest().parts() {
        println!("part {name} {:#x} {}", place.address(), place.bytes());
    }
    let (begin, end) = running.guest().marks()?;
    println!("begin {begin:#x}\nend {end:#x}");
    let before = running.requests();
    (0..workload.turns_a_lap()).for_each(|_| running.marked_turn());
    println!("requests {}", running.end()? - before);
    Ok(())
}
