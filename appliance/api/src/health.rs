//! What is wrong, in words.

use crate::finding::FindingKind;
use serde::{Deserialize, Serialize};
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
    /// Something waits or is short; guests are served.
    Degraded,
    /// Some guest is not served.
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
}
