//! The profile that callgrind writes ("Callgrind Format Specification"): only how many instructions belong to which
//! object file. Names are written once, `(number) name`, and then called by their number.

use std::collections::BTreeMap;

/// Instructions by object file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Profile {
    by_object: BTreeMap<String, u64>,
    program: String,
}

impl Profile {
    /// Instructions in all.
    pub fn total(&self) -> u64 {
        self.by_object.values().sum()
    }

    /// An object file other than the program itself in which instructions were counted.
    pub fn elsewhere(&self) -> Option<&str> {
        let other = |(object, count): &(&String, &u64)| **count > 0 && **object != self.program;
        self.by_object
            .iter()
            .find(other)
            .map(|(object, _)| object.as_str())
    }
}

/// Reads a profile of one event, `Ir`.
///
/// # Errors
/// Says what is missing, or which line makes no sense.
pub fn parse(text: &str) -> Result<Profile, String> {
    let mut profile = Profile::default();
    let mut objects: BTreeMap<&str, &str> = BTreeMap::new();
    let mut object = "";
    let (mut totals, mut positions, mut call) = (None, 1, false);
    for line in text.lines() {
        let first = line.bytes().next().unwrap_or_default();
        if let Some(command) = line.strip_prefix("cmd:") {
            profile.program = command.split_whitespace().next().unwrap_or_default().to_owned();
        } else if let Some(events) = line.strip_prefix("events: ") {
            if events.trim() != "Ir" {
                return Err(format!("callgrind counted {events}, not Ir alone"));
            }
        } else if let Some(names) = line.strip_prefix("positions: ") {
            positions = names.split_whitespace().count();
        } else if let Some(name) = line.strip_prefix("ob=") {
            object = named(name, &mut objects);
        } else if let Some(name) = line.strip_prefix("cob=") {
            named(name, &mut objects);
        } else if line.starts_with("calls=") {
            // The next line holds what the callee took, which is counted there.
            call = true;
        } else if let Some(count) = line.strip_prefix("totals: ") {
            totals = count.trim().parse::<u64>().ok();
        } else if first.is_ascii_digit() || b"+-*".contains(&first) {
            if std::mem::take(&mut call) {
                continue;
            }
            let count = match line.split(' ').nth(positions) {
                None => 0,
                Some(count) => count
                    .parse()
                    .map_err(|_| format!("callgrind wrote {line:?}, which holds no count"))?,
            };
            *profile.by_object.entry(object.to_owned()).or_default() += count;
        }
    }
    let totals = totals.ok_or("callgrind's profile has no totals: it ended before its time")?;
    if totals != profile.total() {
        return Err(format!(
            "callgrind counted {totals} instructions, its lines make {}",
            profile.total()
        ));
    }
    Ok(profile)
}

/// The name behind `(number) name` or `(number)`.
fn named<'a>(text: &'a str, names: &mut BTreeMap<&'a str, &'a str>) -> &'a str {
    match text.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(text).copied().unwrap_or(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "# callgrind format\ncmd:  /x/cost run a 1\npositions: line\nevents: Ir\n\n\
        ob=(1) /x/cost\nfl=(1) turn.rs\nfn=(1) measured_turn\n10 5\n+2 7\ncob=(2) /lib/libc.so.6\ncfn=(2) memcpy\n\
        calls=3 40\n* 90\n\nfn=(3) other\n-1 8\n";

    #[test]
    fn counts_what_each_object_did_itself() {
        let profile = parse(&format!("{OWN}totals: 20\n")).unwrap();
        assert_eq!((profile.total(), profile.elsewhere()), (20, None));
    }

    #[test]
    fn tells_of_instructions_in_libraries() {
        let profile = parse(&format!(
            "{OWN}\nob=(2)\nfn=(2)\n100 90\n\nob=(1)\n* 1\ntotals: 111\n"
        ))
        .unwrap();
        assert_eq!(
            (profile.total(), profile.elsewhere()),
            (111, Some("/lib/libc.so.6"))
        );
    }

    #[test]
    fn more_positions_stand_before_the_count() {
        let text = "positions: instr line\nevents: Ir\nob=(1) x\n0x100 7 5\n+3 * 4\ntotals: 9\n";
        assert_eq!(parse(text).unwrap().total(), 9);
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        for text in [
            OWN.to_owned(),
            format!("{OWN}totals: 21\n"),
            format!("{OWN}5 many\ntotals: 20\n"),
            OWN.replace("events: Ir", "events: Ir Dr") + "totals: 20\n",
        ] {
            assert!(parse(&text).is_err(), "{text}");
        }
    }
}
