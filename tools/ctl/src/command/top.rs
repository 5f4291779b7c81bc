//! `palisade top`: what attachments are doing, looked at again and again.

use crate::args::Top;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use palisade_api::{Attachment, Node, OperationCounts, routes, size};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// What one look has found.
struct Look {
    /// Which run of the daemon it was: its process and when that began.
    run: (u32, u64),
    attachments: Vec<Attachment>,
    moment: Instant,
}

/// Prints a table per interval, in place on a terminal; with `--json` one object a line. While the appliance is away,
/// perhaps for a restart, waits for it.
pub fn top(client: &Client, out: Output, args: &Top) -> Result<(), Failure> {
    let interval = Duration::from_secs(args.interval);
    let in_place = !out.json && std::io::stdout().is_terminal();
    let mut before = look(client)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut away = false;
    while left > 0 {
        std::thread::sleep(interval);
        let now = match look(client) {
            Ok(now) => now,
            Err(Failure::Unreachable { url, .. }) => {
                if !away {
                    Output::aside(format_args!("no appliance answers at {url}; waiting for it"));
                }
                away = true;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        away = false;
        // After a restart its counters begin again: what they are now has happened since.
        let restarted = now.run != before.run;
        let rates: Vec<Rates> = now
            .attachments
            .iter()
            .map(|one| {
                let old = before.attachments.iter().find(|old| old.id == one.id);
                let seconds = now.moment.duration_since(before.moment).as_secs_f64().max(1e-3);
                Rates::between(old.filter(|_| !restarted), one, seconds)
            })
            .collect();
        if restarted && !out.json {
            Output::aside("the appliance has been restarted meanwhile");
        }
        if in_place {
            // Cursor to the top, then clear to the end (ECMA-48 CUP and ED).
            write!(std::io::stdout(), "\x1b[H\x1b[2J")?;
        }
        print(out, &rates, restarted)?;
        before = now;
        left -= 1;
    }
    Ok(())
}

fn print(out: Output, rates: &[Rates], restarted: bool) -> std::io::Result<()> {
    if out.json {
        let attachments: Vec<Value> = rates.iter().map(Rates::value).collect();
        return out.line(json!({ "restarted": restarted, "attachments": attachments }).to_string());
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
    out.table(
        heads,
        rates.iter().map(Rates::row).collect(),
        "There are no attachments.",
    )
}

fn look(client: &Client) -> Result<Look, Failure> {
    let node: Node = client.typed(&client.get(&routes::at_node(routes::NODE, routes::SELF))?)?;
    let values = client.list(routes::ATTACHMENTS)?;
    let attachments: Result<_, Failure> = values.iter().map(|value| client.typed(value)).collect();
    Ok(Look {
        run: (node.pid, node.started_unix_ms),
        attachments: attachments?,
        moment: Instant::now(),
    })
}

/// What an attachment has done in a second, between two looks.
struct Rates {
    id: String,
    volume: String,
    guest: String,
    reads: f64,
    writes: f64,
    bytes_read: f64,
    bytes_written: f64,
    /// Of requests whose time is known, if there were any.
    latency_ns: Option<u64>,
    in_flight: u64,
    errors: u64,
}

impl Rates {
    fn between(before: Option<&Attachment>, now: &Attachment, seconds: f64) -> Rates {
        let more = |name: &str, count: fn(&OperationCounts) -> u64| -> u64 {
            let at = |attachment: &Attachment| {
                let mut operations = attachment.operations.iter();
                operations.find(|one| one.operation == name).map_or(0, count)
            };
            // One that was taken away and made again begins again, too.
            let (old, new) = (before.map_or(0, at), at(now));
            new.checked_sub(old).unwrap_or(new)
        };
        let names = ["read", "write", "flush", "discard", "write_zeroes"];
        let sum =
            |count: fn(&OperationCounts) -> u64| names.iter().map(|name| more(name, count)).sum::<u64>();
        let rate = |count: u64| count as f64 / seconds;
        Rates {
            id: now.id.clone(),
            volume: now.volume.clone(),
            guest: show::word(&now.connection.state),
            reads: rate(more("read", |one| one.requests)),
            writes: rate(more("write", |one| one.requests)),
            bytes_read: rate(more("read", |one| one.bytes)),
            bytes_written: rate(more("write", |one| one.bytes)),
            latency_ns: sum(|one| one.latency_ns_sum).checked_div(sum(|one| one.timed)),
            in_flight: now.in_flight,
            errors: sum(|one| one.errors),
        }
    }

    fn row(&self) -> [String; 10] {
        [
            self.id.clone(),
            self.volume.clone(),
            self.guest.clone(),
            format!("{:.0}", self.reads),
            format!("{:.0}", self.writes),
            size::human(self.bytes_read as u64),
            size::human(self.bytes_written as u64),
            show::nanoseconds(self.latency_ns),
            self.in_flight.to_string(),
            self.errors.to_string(),
        ]
    }

    fn value(&self) -> Value {
        json!({
            "id": self.id,
            "volume": self.volume,
            "guest": self.guest,
            "reads_per_second": self.reads,
            "writes_per_second": self.writes,
            "bytes_read_per_second": self.bytes_read,
            "bytes_written_per_second": self.bytes_written,
            "latency_ns": self.latency_ns,
            "in_flight": self.in_flight,
            "errors": self.errors,
        })
    }
}
