//! Puts all faults of a file into it at once, each behind a switch that is thrown from outside: one build serves them
//! all. What was put where is known to the byte, so that the compiler's complaints lead to the faults it will not have.

use crate::hunt::places::{Kind, Place};
use std::collections::BTreeSet;
use std::ops::Range;

/// A file with its switches.
#[derive(Debug, Default)]
pub struct Woven {
    /// Its text.
    pub text: String,
    /// What of the text is there for the sake of which fault: its own text, and all that surrounds it.
    pub pieces: Vec<Piece>,
}

/// A piece of a woven text.
#[derive(Debug)]
pub struct Piece {
    /// Where, in bytes.
    pub range: Range<usize>,
    /// The fault's number.
    pub fault: u32,
    /// It is the faulty text itself, rather than the place around it.
    pub own: bool,
}

/// A place with the numbers of its faults.
#[derive(Clone, Copy, Debug)]
pub struct Numbered<'a> {
    /// The place.
    pub place: &'a Place,
    /// The number of its first fault; the others follow.
    pub first: u32,
}

/// Weaves the switches of all places into a text, but for faults that the compiler has refused and functions that it
/// computes itself.
pub fn weave(
    text: &str,
    places: &[Numbered<'_>],
    refused: &BTreeSet<u32>,
    computed: &BTreeSet<String>,
) -> Woven {
    let is_computed =
        |place: &Place| computed.contains(place.function.rsplit("::").next().unwrap_or_default());
    let mut chosen: Vec<Numbered<'_>> = places
        .iter()
        .filter(|numbered| !is_computed(numbered.place))
        .copied()
        .collect();
    // What surrounds comes before what is inside; of one range, the statement before its expression.
    chosen.sort_by_key(|numbered| {
        let place = numbered.place;
        let inner = place.kind != Kind::Statement;
        (place.range.start, std::cmp::Reverse(place.range.end), inner)
    });
    let mut weaver = Weaver {
        text,
        refused,
        woven: Woven::default(),
    };
    weaver.piece(0..text.len(), &chosen);
    weaver.woven
}

struct Weaver<'a> {
    text: &'a str,
    refused: &'a BTreeSet<u32>,
    woven: Woven,
}

impl Weaver<'_> {
    /// A range of the text with the places inside it.
    fn piece(&mut self, range: Range<usize>, mut places: &[Numbered<'_>]) {
        let mut at = range.start;
        while let Some((outer, rest)) = places.split_first() {
            let place = outer.place.range.clone();
            let inside = rest
                .iter()
                .take_while(|inner| {
                    inner.place.range.end <= place.end && inner.place.range.start < place.end.max(1)
                })
                .count();
            let inside = if place.is_empty() { 0 } else { inside };
            let (inner, after) = rest.split_at(inside);
            self.copy(at..place.start);
            self.place(*outer, inner);
            at = place.end;
            places = after;
        }
        self.copy(at..range.end);
    }

    fn copy(&mut self, range: Range<usize>) {
        self.woven.text.push_str(self.text.get(range).unwrap_or_default());
    }

    fn place(&mut self, outer: Numbered<'_>, inner: &[Numbered<'_>]) {
        let place = outer.place;
        let begin = self.woven.text.len();
        let faults: Vec<(u32, &str)> = (outer.first..)
            .zip(&place.faults)
            .filter(|(number, _)| !self.refused.contains(number))
            .map(|(number, fault)| (number, fault.text.as_str()))
            .collect();
        match place.kind {
            Kind::Const => {}
            Kind::Body => {
                for (number, text) in &faults {
                    self.own(
                        *number,
                        &format!(" if crate::hunted::on({number}) {{"),
                        text,
                        " }",
                    );
                }
            }
            Kind::Statement if !faults.is_empty() => {
                for (number, _) in &faults {
                    self.woven
                        .text
                        .push_str(&format!("if !crate::hunted::on({number}) {{ "));
                }
                self.piece(place.range.clone(), inner);
                self.woven.text.push_str("; }");
            }
            Kind::Expression if !faults.is_empty() => {
                self.woven.text.push('(');
                for (number, text) in &faults {
                    self.own(
                        *number,
                        &format!("if crate::hunted::on({number}) {{ "),
                        text,
                        " } else ",
                    );
                }
                self.woven.text.push_str("{ ");
                self.piece(place.range.clone(), inner);
                self.woven.text.push_str(" })");
            }
            Kind::Statement | Kind::Expression => self.piece(place.range.clone(), inner),
        }
        let end = self.woven.text.len();
        for (fault, _) in faults {
            self.woven.pieces.push(Piece {
                range: begin..end,
                fault,
                own: false,
            });
        }
    }

    fn own(&mut self, fault: u32, before: &str, text: &str, after: &str) {
        let begin = self.woven.text.len();
        self.woven.text.push_str(before);
        self.woven.text.push_str(text);
        let range = begin..self.woven.text.len();
        self.woven.text.push_str(after);
        self.woven.pieces.push(Piece {
            range,
            fault,
            own: true,
        });
    }
}

impl Woven {
    /// The faults that a complaint of the compiler about a range is about: the narrowest that has it.
    pub fn blamed(&self, complaint: &Range<usize>) -> Vec<u32> {
        let has = |piece: &&Piece| piece.range.start <= complaint.start && complaint.end <= piece.range.end;
        let around = self.pieces.iter().filter(has);
        let Some(narrowest) = around.min_by_key(|piece| (piece.range.len(), !piece.own)) else {
            return Vec::new();
        };
        self.pieces
            .iter()
            .filter(|piece| piece.range == narrowest.range && piece.own == narrowest.own)
            .map(|piece| piece.fault)
            .collect()
    }

    /// The faults that lie within a range, for a complaint that is about more than one place.
    pub fn within(&self, range: &Range<usize>) -> Vec<u32> {
        self.pieces
            .iter()
            .filter(|piece| range.start <= piece.range.start && piece.range.end <= range.end)
            .map(|piece| piece.fault)
            .collect()
    }
}

/// The switch: `PALISADE_HUNT` says which fault is in force, `PALISADE_HUNT_TRACE` where to note which were passed by.
pub const SWITCH: &str = r#"
#[doc(hidden)]
pub(crate) mod hunted {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
    const UNKNOWN: u32 = u32::MAX;
    const TRACED: u32 = u32::MAX - 1;
    static ACTIVE: AtomicU32 = AtomicU32::new(UNKNOWN);
    static TRACE: OnceLock<std::fs::File> = OnceLock::new();
    static PASSED: [AtomicBool; 20_000] = [const { AtomicBool::new(false) }; 20_000];
    #[inline]
    pub fn on(fault: u32) -> bool {
        let active = ACTIVE.load(Relaxed);
        active == fault || (active >= TRACED && seldom(active, fault))
    }
    #[cold]
    fn seldom(active: u32, fault: u32) -> bool {
        let mut active = active;
        if active == UNKNOWN {
            let file = std::env::var_os("PALISADE_HUNT_TRACE")
                .and_then(|path| std::fs::File::options().append(true).create(true).open(path).ok());
            active = match file {
                Some(file) => { let _ = TRACE.set(file); TRACED }
                None => std::env::var("PALISADE_HUNT").ok().and_then(|fault| fault.parse().ok()).unwrap_or(0),
            };
            ACTIVE.store(active, Relaxed);
        }
        if active == TRACED && !PASSED[fault as usize].swap(true, Relaxed) {
            if let Some(mut file) = TRACE.get() { let _ = file.write_all(&fault.to_le_bytes()); }
        }
        active == fault
    }
}
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hunt::places;

    const TEXT: &str = "\
impl Door {
    fn may_enter(&mut self, guest: u32, limit: u32) -> bool {
        self.asked += 1;
        if self.open && guest <= limit {
            return true;
        }
        self.note(guest);
        false
    }
}

#[cfg(test)]
mod tests {
    fn is_left_alone(a: u32, b: u32) -> bool {
        a < b
    }
}
";

    fn woven(text: &str, refused: &BTreeSet<u32>) -> (Woven, Vec<String>) {
        let places = places::of(text).unwrap();
        let (mut first, mut numbered, mut whats) = (1, Vec::new(), Vec::new());
        for place in &places {
            numbered.push(Numbered { place, first });
            first += u32::try_from(place.faults.len()).unwrap();
            whats.extend(place.faults.iter().map(|fault| fault.what.clone()));
        }
        (weave(text, &numbered, refused, &BTreeSet::new()), whats)
    }

    #[test]
    fn each_operator_condition_effect_and_function_can_be_wrong() {
        let (_, mut whats) = woven(TEXT, &BTreeSet::new());
        whats.sort();
        assert_eq!(
            whats,
            [
                "guest <= limit: < for <=",
                "guest <= limit: > for <=",
                "leaves out self.asked += 1",
                "leaves out self.note(guest)",
                "only gives false",
                "only gives true",
                "self.asked += 1: -= for +=",
                "self.open && guest <= limit: || for &&",
            ]
        );
    }

    /// The compiler's complaint about a fault leads to it, and to nothing else.
    #[test]
    fn what_a_complaint_is_about_is_known_to_the_byte() {
        let (woven, whats) = woven(TEXT, &BTreeSet::new());
        assert!(syn::parse_file(&woven.text).is_ok(), "{}", woven.text);
        let blamed = |text: &str| {
            let begin = woven.text.find(text).unwrap();
            let faults = woven.blamed(&(begin..begin + text.len()));
            faults
                .into_iter()
                .map(|fault| whats[fault as usize - 1].as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(blamed("guest < limit"), ["guest <= limit: < for <="]);
        assert_eq!(
            blamed("self.open || guest"),
            ["self.open && guest <= limit: || for &&"]
        );
        assert_eq!(blamed("self.asked -= 1"), ["self.asked += 1: -= for +="]);
        assert_eq!(blamed("self.note(guest)"), ["leaves out self.note(guest)"]);
        assert_eq!(blamed("impl Door"), [""; 0]);
    }

    #[test]
    fn without_its_faults_a_text_is_as_it_was() {
        let all: BTreeSet<u32> = (1..100).collect();
        assert_eq!(woven(TEXT, &all).0.text, TEXT);
    }
}
