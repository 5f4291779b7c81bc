//! `palisade events`: what happened, and with `--follow` what happens.

use crate::args::Events;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::{self, Output};
use crate::wait;
use palisade_api::{Entrance, Event, EventId, EventPage, PAGE_ITEMS_MAX, routes};
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

/// Rest before a broken stream is taken up again.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Bytes of the longest line of a stream; an event is far shorter.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What is told where events are missing.
const LOST: &str = "Some events are no longer kept.";

/// Events that are shown when nothing is said of how many.
const LAST_SHOWN: u64 = 50;

/// The same where those that follow are shown as well.
const LAST_SHOWN_BEFORE: u64 = 10;

/// Shows events.
pub fn events(client: &Client, out: Output, args: &Events) -> Result<(), Failure> {
    let (events, end) = kept(client, args)?;
    if !args.follow {
        return table(out, args, &events);
    }
    for event in &events {
        print_line(out, event)?;
    }
    follow(client, out, args, end)
}

/// Those that are asked for, and where to go on.
fn kept(client: &Client, args: &Events) -> Result<(Vec<Event>, EventId), Failure> {
    let count = match (args.all || args.after.is_some(), args.follow) {
        (true, _) => u64::MAX,
        (false, false) => args.last.unwrap_or(LAST_SHOWN),
        (false, true) => args.last.unwrap_or(LAST_SHOWN_BEFORE),
    };
    // What operators have commanded is told apart here.
    let in_one_page = count <= PAGE_ITEMS_MAX as u64 && !args.commands;
    let (mut events, end) = match in_one_page {
        true => last(client, count)?,
        false => all_after(client, args.after.clone().unwrap_or_default())?,
    };
    events.retain(|event| is_wanted(args, event));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    events.drain(..events.len().saturating_sub(count));
    Ok((events, end))
}

fn last(client: &Client, count: u64) -> Result<(Vec<Event>, EventId), Failure> {
    let value = client.get(&format!("{}?format=json&last={count}", routes::EVENTS))?;
    let page: EventPage = client.typed(&value)?;
    if page.lost {
        Output::aside(LOST);
    }
    Ok((page.items, page.next.unwrap_or_default()))
}

fn all_after(client: &Client, mut after: EventId) -> Result<(Vec<Event>, EventId), Failure> {
    let (mut all, mut reached, mut is_told) = (Vec::new(), None, false);
    loop {
        let value = client.get(&format!(
            "{}?format=json&limit={PAGE_ITEMS_MAX}&after={after}",
            routes::EVENTS
        ))?;
        let page: EventPage = client.typed(&value)?;
        if page.lost && !std::mem::replace(&mut is_told, true) {
            Output::aside(LOST);
        }
        match (page.items.is_empty(), page.next) {
            // Each page leads further than the one before; going on where it does not would never end.
            (false, Some(next)) if reached.is_none_or(|reached| next.number > reached) => {
                reached = Some(next.number);
                after = next;
            }
            // There are none after it, or it was an id of another history.
            (true, Some(next)) => return Ok((all, next)),
            _ => return Ok((all, after)),
        }
        all.extend(page.items);
    }
}

fn table(out: Output, args: &Events, all: &[Event]) -> Result<(), Failure> {
    if out.json {
        let values = serde_json::to_value(all).unwrap_or_default();
        return Ok(out.value(&values)?);
    }
    let rows = all.iter().map(|event| {
        [
            show::moment(event.unix_ms),
            event.id.number.to_string(),
            show::word(&event.severity),
            event.subject.clone(),
            by(event).unwrap_or_default(),
            result(event).unwrap_or_default(),
            event.message.clone(),
        ]
    });
    let nothing = match args.commands {
        false => "Nothing has happened yet.",
        true => "Nobody has commanded anything yet.",
    };
    out.table(
        ["time", "number", "severity", "subject", "by", "result", "what"],
        rows.collect(),
        nothing,
    )?;
    Ok(())
}

/// Prints events as they come, one a line, for ever. When the appliance goes away, waits for it: it may be restarting.
fn follow(client: &Client, out: Output, args: &Events, mut after: EventId) -> Result<(), Failure> {
    let mut connected = false;
    loop {
        match client.stream(routes::EVENTS, &after) {
            Ok(stream) => {
                connected = true;
                after = read(stream, after, out, args)?;
            }
            Err(failure) if connected && wait::is_restarting(&failure) => {}
            Err(failure) => return Err(failure),
        }
        std::thread::sleep(RETRY_WAIT);
    }
}

/// Reads one stream to its end; gives the id of its last event.
fn read(stream: impl Read, mut after: EventId, out: Output, args: &Events) -> Result<EventId, Failure> {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    let mut reached = None;
    loop {
        line.clear();
        let got = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if !got.is_ok_and(|bytes| bytes > 0) {
            return Ok(after);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text == "event: lost" {
            Output::aside(LOST);
        }
        let event = text
            .strip_prefix("data: ")
            .and_then(|data| serde_json::from_str::<Event>(data).ok());
        let Some(event) = event else { continue };
        // Within a stream numbers only grow: one that does not was shown already.
        if reached.is_some_and(|reached| event.id.number <= reached) {
            continue;
        }
        reached = Some(event.id.number);
        after = event.id.clone();
        if is_wanted(args, &event) {
            print_line(out, &event)?;
        }
    }
}

fn print_line(out: Output, event: &Event) -> Result<(), Failure> {
    let text = match out.json {
        true => serde_json::to_string(event).unwrap_or_default(),
        false => {
            let (when, severity) = (show::moment(event.unix_ms), show::word(&event.severity));
            let by = by(event).map(|by| format!("  [{by}]")).unwrap_or_default();
            format!("{when}  {severity:<7}  {}  {}{by}", event.subject, event.message)
        }
    };
    Ok(out.line(text)?)
}

fn is_wanted(args: &Events, event: &Event) -> bool {
    !args.commands || event.result.is_some()
}

/// Who commanded it and from where, if anybody did.
fn by(event: &Event) -> Option<String> {
    let source = event.source.as_ref()?;
    Some(match source.by {
        Entrance::Socket => event.actor.to_string(),
        Entrance::Tcp => format!("{} from {}", event.actor, source.address),
    })
}

fn result(event: &Event) -> Option<String> {
    event.result.as_ref().map(ToString::to_string)
}
