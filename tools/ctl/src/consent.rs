//! Taking something away: what will happen is said first, and whoever asked is asked.

use crate::args::Consent;
use crate::client::Client;
use crate::failure::Failure;
use crate::show::Output;
use palisade_api::Removal;
use std::io::{self, BufRead, IsTerminal, Read, Write};

/// Longest answer that is read; a terminal in raw mode has no end of line.
const ANSWER_BYTES_MAX: u64 = 64;

/// What is to be taken away, and how.
#[derive(Debug)]
pub struct ToRemove<'a> {
    /// What, as "volume v1".
    pub what: String,
    /// Its address.
    pub path: String,
    /// What follows the question mark in the address, `force=true` and the like.
    pub options: Vec<&'a str>,
    /// The generation that it must still have.
    pub expected: Option<u64>,
    /// Whether it was agreed to already.
    pub consent: Consent,
}

/// Has something taken away once that is agreed to, or only shows what would happen. Whether it is being taken away now:
/// it may take a while until it is gone.
pub fn take_away(client: &Client, out: Output, target: ToRemove<'_>) -> Result<bool, Failure> {
    if target.consent.yes && !target.consent.dry_run {
        client.delete(&address(&target, &[]), target.expected)?;
        return Ok(true);
    }
    let value = client.preview(&address(&target, &["dry_run=true"]), target.expected)?;
    let removal: Removal = client.typed(&value)?;
    if target.consent.dry_run {
        match out.json {
            true => out.value(&value)?,
            false => out.line(told(&removal))?,
        }
        return Ok(false);
    }
    if !agreed(&target.what, &removal)? {
        return Err(Failure::Declined { what: target.what });
    }
    // What was agreed to is what was shown, and nothing newer.
    client.delete(&address(&target, &[]), Some(removal.generation))?;
    Ok(true)
}

fn address(target: &ToRemove<'_>, more: &[&str]) -> String {
    let options: Vec<&str> = target.options.iter().chain(more).copied().collect();
    match options.is_empty() {
        true => target.path.clone(),
        false => format!("{}?{}", target.path, options.join("&")),
    }
}

fn told(removal: &Removal) -> String {
    let effects: Vec<String> = removal
        .effects
        .iter()
        .map(|effect| format!("  - {effect}"))
        .collect();
    format!("Without {} from now on:\n{}", removal.subject, effects.join("\n"))
}

/// Asks, if there is somebody to ask.
fn agreed(what: &str, removal: &Removal) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::NobodyToAsk {
            what: what.to_owned(),
            effects: removal.effects.clone(),
            guarded: true,
        });
    }
    Ok(answer_to(&told(removal))?)
}

/// Asks about anything else that cannot be taken back, unless it was agreed to on the command line.
pub fn ask(what: &str, question: &str, given: bool) -> Result<(), Failure> {
    if given {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::NobodyToAsk {
            what: what.to_owned(),
            effects: vec![question.to_owned()],
            guarded: false,
        });
    }
    match answer_to(question)? {
        true => Ok(()),
        false => Err(Failure::Declined {
            what: what.to_owned(),
        }),
    }
}

/// Shows a question on the terminal; whether the answer is yes.
fn answer_to(question: &str) -> io::Result<bool> {
    let mut screen = io::stderr();
    write!(screen, "{question}\nGo on? [y/N] ")?;
    screen.flush()?;
    let mut answer = String::new();
    io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
