//! `palisade top`: what attachments are doing, looked at again and again.

use crate::args::Top;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{Attachment, OperationCounts, routes, size};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Prints a table per interval, in place on a terminal.
pub fn top(client: &Client, out: Output, args: &Top) -> Result<(), Failure> {
    let interval = Duration::from_secs(args.interval);
    let in_place = std::io::stdout().is_terminal();
    let (mut before, mut since) = (look(client)?, Instant::now());
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        std::thread::sleep(interval);
        let (now, moment) = (look(client)?, Instant::now());
        let seconds = moment.duration_since(since).as_secs_f64().max(1e-3);
        let rows = now
            .iter()
            .map(|one| row(before.iter().find(|old| old.id == one.id), one, seconds));
        if in_place {
            // Cursor to the top, then clear to the end (ECMA-48 CUP and ED).
            write!(std::io::stdout(), "\x1b[H\x1b[2J")?;
        }
        let heads = [
            "attachment",
            "volume",
            "guest",
            "reads/s",
            "writes/s",
            "read/s",
            "written/s",
            "latency",
            "in flight",
            "errors",
        ];
        out.table(heads, rows.collect(), "There are no attachments.")?;
        (before, since) = (now, moment);
        left -= 1;
    }
    Ok(())
}

fn look(client: &Client) -> Result<Vec<Attachment>, Failure> {
    let values = client.list(routes::ATTACHMENTS)?;
    values.iter().map(|value| client.typed(value)).collect()
}

fn row(before: Option<&Attachment>, now: &Attachment, seconds: f64) -> [String; 10] {
    // After a restart of the daemon counters begin again: what is there has happened since.
    let more = |name: &str, count: fn(&OperationCounts) -> u64| -> u64 {
        let at = |attachment: &Attachment| {
            let mut operations = attachment.operations.iter();
            operations.find(|one| one.operation == name).map_or(0, count)
        };
        let (old, new) = (before.map_or(0, at), at(now));
        new.checked_sub(old).unwrap_or(new)
    };
    let rate = |count: u64| format!("{:.0}", count as f64 / seconds);
    let speed = |bytes: u64| size::human((bytes as f64 / seconds) as u64);
    let names = ["read", "write", "flush", "discard", "write_zeroes"];
    let sum = |count: fn(&OperationCounts) -> u64| names.iter().map(|name| more(name, count)).sum::<u64>();
    let requests = sum(|one| one.requests);
    [
        now.id.clone(),
        now.volume.clone(),
        show::word(&now.connection.state),
        rate(more("read", |one| one.requests)),
        rate(more("write", |one| one.requests)),
        speed(more("read", |one| one.bytes)),
        speed(more("write", |one| one.bytes)),
        show::nanoseconds(sum(|one| one.latency_ns_sum).checked_div(requests).unwrap_or(0)),
        now.in_flight.to_string(),
        sum(|one| one.errors).to_string(),
    ]
}
