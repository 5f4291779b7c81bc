//! `palisade events`: what happened, and with `--follow` what happens.

use crate::args::Events;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use crate::wait;
use palisade_api::{Event, EventPage, routes};
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

/// Rest before a broken stream is taken up again.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Bytes of the longest line of a stream; an event is far shorter.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Shows events.
pub fn events(client: &Client, out: Output, args: &Events) -> Result<(), Failure> {
    match args.follow {
        true => follow(client, out, args.after),
        false => once(client, out, args.after),
    }
}

fn once(client: &Client, out: Output, mut after: u64) -> Result<(), Failure> {
    let mut all = Vec::new();
    loop {
        let value = client.get(&format!(
            "{}?format=json&limit=1000&after={after}",
            routes::EVENTS
        ))?;
        let page: EventPage = client.typed(&value)?;
        if page.lost {
            Output::aside("Some events are no longer kept.");
        }
        match (page.items.is_empty(), page.next) {
            (false, Some(next)) => after = next,
            _ => break,
        }
        all.extend(page.items);
    }
    if out.json {
        let values = serde_json::to_value(&all).unwrap_or_default();
        return Ok(out.value(&values)?);
    }
    let rows = all.iter().map(|event| {
        [
            show::moment(event.unix_ms),
            event.id.to_string(),
            show::word(&event.severity),
            event.subject.clone(),
            event.message.clone(),
        ]
    });
    out.table(
        ["time", "id", "severity", "subject", "what"],
        rows.collect(),
        "Nothing has happened yet.",
    )?;
    Ok(())
}

/// Prints events as they come, one a line, for ever. When the appliance goes away, waits for it: it may be restarting.
fn follow(client: &Client, out: Output, mut after: u64) -> Result<(), Failure> {
    let mut connected = false;
    loop {
        match client.stream(routes::EVENTS, after) {
            Ok(stream) => {
                connected = true;
                after = read(stream, after, out)?;
            }
            Err(failure) if connected && wait::is_restarting(&failure) => {}
            Err(failure) => return Err(failure),
        }
        std::thread::sleep(RETRY_WAIT);
    }
}

/// Reads one stream to its end; gives the id of its last event.
fn read(stream: impl Read, mut after: u64, out: Output) -> Result<u64, Failure> {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let got = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if !got.is_ok_and(|bytes| bytes > 0) {
            return Ok(after);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text == "event: lost" {
            Output::aside("Some events are no longer kept.");
        }
        let event = text
            .strip_prefix("data: ")
            .and_then(|data| serde_json::from_str::<Event>(data).ok());
        let Some(event) = event else { continue };
        after = event.id;
        match out.json {
            true => out.line(serde_json::to_string(&event).unwrap_or_default())?,
            false => {
                let (when, severity) = (show::moment(event.unix_ms), show::word(&event.severity));
                out.line(format!(
                    "{when}  {severity:<7}  {}  {}",
                    event.subject, event.message
                ))?;
            }
        }
    }
}
