//! # inspect: what a disk says, read without the daemon
//!
//! Storey 6. Opens files and block devices read-only, without a lock, and prints the superblock, the extents and the
//! health of a pooled disk; of any other disk, what lies on it. It never writes.
//!
//! It must never know the daemon, its database or its REST interface: it is for the day when none of them works.
//!
//! Start reading at [`report`]; [`medium`] opens and reads, [`text`] prints for people.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

mod meaning;
mod medium;
mod remains;
mod report;
mod text;

use clap::Parser;
use report::{Report, State};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints what disks of Palisade say about themselves, without the daemon. Only reads, takes no lock.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 all healthy, 1 something damaged but readable, 2 something unreadable or not ours."
)]
struct Arguments {
    /// Files or block devices to look at.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print JSON: one array with an object for each path.
    #[arg(long)]
    json: bool,
    /// Print each extent and each copy.
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let reports: Vec<Report> = arguments.paths.iter().map(|path| report::look_at(path)).collect();
    let text = if arguments.json {
        serde_json::to_string_pretty(&reports).unwrap_or_default()
    } else {
        let pages = reports.iter().map(|report| text::page(report, arguments.verbose));
        pages.collect::<Vec<_>>().join("\n")
    };
    // A reader that has seen enough closes the pipe; that is no failure of ours.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    let worst = reports.iter().map(|report| report.state.exit_code()).max();
    ExitCode::from(worst.unwrap_or(State::UNREADABLE))
}
