//! What is wrong, in words.

use crate::finding::FindingKind;
use crate::size::counted;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// How well something is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Everything does what was agreed on.
    #[default]
    Ok,
    /// Something waits, is short or needs a look. What a guest sees of it stands in the table of findings.
    Degraded,
    /// Something fails: guests that depend on it are not served, or their data is at stake.
    Failed,
}

/// One thing that is wrong or waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// How bad it is; `ok` for what is worth knowing and harms nobody.
    pub severity: Overall,
    /// Stable name in snake_case, for programs.
    #[schema(example = "disk_missing")]
    pub code: String,
    /// What it is about, as `disk/d1`, `volume/v1`, `attachment/web1`, `reactor/0` or `node`.
    #[schema(example = "disk/d1")]
    pub subject: String,
    /// Its first cause, in a sentence; one that says "blocked on ..." when something waits.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// Since when it is so, in milliseconds since 1970 (UTC).
    #[serde(default)]
    pub since_unix_ms: u64,
    /// How often it has been seen since then; 0 when it lasts and is not counted.
    #[serde(default)]
    pub count: u64,
    /// What was seen last, where that differs from `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

impl Finding {
    /// A finding of a kind that has just begun.
    pub fn new(kind: FindingKind, subject: impl Into<String>, message: impl Into<String>) -> Finding {
        let (row, subject) = (kind.row(), subject.into());
        Finding {
            severity: row.severity,
            code: row.code.into(),
            remedy: row.remedy_for(&subject),
            subject,
            message: message.into(),
            since_unix_ms: 0,
            count: 0,
            last: None,
        }
    }
}

/// The answer to a probe that is answered with yes; a [`Problem`](crate::Problem) says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// Always true.
    pub ok: bool,
}

/// The health of the appliance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// As bad as the worst finding.
    pub overall: Overall,
    /// The worst first.
    pub findings: Vec<Finding>,
}

impl Health {
    /// Of findings in any order.
    pub fn of(mut findings: Vec<Finding>) -> Health {
        findings.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then_with(|| a.subject.cmp(&b.subject))
        });
        Health {
            overall: findings.first().map_or(Overall::Ok, |worst| worst.severity),
            findings,
        }
    }

    /// In one sentence, with how many of what: "failed: 1 disk fails; 2 attachments need a look". It says what is so with the
    /// node's own things, and nothing of guests, of which it knows only through findings.
    pub fn sentence(&self) -> String {
        let fails = self.concerned(Overall::Failed, "fails", "fail");
        let needs = self.concerned(Overall::Degraded, "needs a look", "need a look");
        let noted = match self.findings_of(Overall::Ok).count() {
            0 => None,
            1 => Some("1 thing is worth knowing".to_owned()),
            count => Some(format!("{count} things are worth knowing")),
        };
        let parts: Vec<String> = [fails, needs, noted].into_iter().flatten().collect();
        match (self.overall, parts.is_empty()) {
            (Overall::Ok, true) => "ok: everything is as agreed on".to_owned(),
            (Overall::Ok, false) => format!("ok: nothing is wrong; {}", parts.join("; ")),
            (Overall::Degraded, _) => format!("degraded: {}", parts.join("; ")),
            (Overall::Failed, _) => format!("failed: {}", parts.join("; ")),
        }
    }

    fn findings_of(&self, severity: Overall) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |one| one.severity == severity)
    }

    /// How many of each kind of thing, each thing once: the worst that is said of it counts.
    fn concerned(&self, severity: Overall, one: &str, several: &str) -> Option<String> {
        let worse: BTreeSet<&str> = self
            .findings
            .iter()
            .filter(|other| other.severity > severity)
            .map(|other| other.subject.as_str())
            .collect();
        let subjects: BTreeSet<&str> = self
            .findings_of(severity)
            .map(|one| one.subject.as_str())
            .collect();
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for subject in subjects.difference(&worse) {
            let kind = subject.split('/').next().unwrap_or(subject);
            *kinds.entry(kind).or_default() += 1;
        }
        let total: u64 = kinds.values().sum();
        let told: Vec<String> = kinds
            .iter()
            .map(|(kind, count)| match *kind {
                // There is one.
                "node" => "the node".to_owned(),
                kind => counted(*count, kind),
            })
            .collect();
        let verb = if total == 1 { one } else { several };
        match told.as_slice() {
            [] => None,
            [only] => Some(format!("{only} {verb}")),
            [rest @ .., last] => Some(format!("{} and {last} {verb}", rest.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(findings: &[(FindingKind, &str)]) -> String {
        let findings = findings
            .iter()
            .map(|(kind, subject)| Finding::new(*kind, *subject, "it is so"));
        Health::of(findings.collect()).sentence()
    }

    #[test]
    fn the_sentence_counts_what_is_concerned_and_claims_nothing_of_guests() {
        use FindingKind as F;
        assert_eq!(said(&[]), "ok: everything is as agreed on");
        assert_eq!(
            said(&[(F::PlainPages, "node"), (F::SessionLeft, "attachment/a")]),
            "ok: nothing is wrong; 2 things are worth knowing"
        );
        assert_eq!(
            said(&[(F::StateMisplaced, "node")]),
            "failed: the node fails",
            "no guest notices anything"
        );
        assert_eq!(
            said(&[
                (F::DiskGone, "disk/d1"),
                (F::DiskMedia, "disk/d1"),
                (F::DiskMedia, "disk/d2"),
                (F::SuperblockDamaged, "disk/d2"),
                (F::GuestHangs, "attachment/a"),
                (F::PlainPages, "node"),
            ]),
            "failed: 1 disk fails; 1 attachment and 1 disk need a look; 1 thing is worth knowing"
        );
        assert_eq!(
            said(&[
                (F::ComingUp, "node"),
                (F::DrainOverdue, "attachment/a"),
                (F::DrainOverdue, "attachment/b"),
            ]),
            "degraded: 2 attachments and the node need a look"
        );
    }
}
