//! Which generation grew out of which: each has an id besides its number, since two databases that were one and went on
//! apart may reach the same number, and never the same id.

use crate::number::Generation;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// The id of one generation: the first 128 bits of a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LineageId(pub u128);

/// A generation and its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its number.
    pub generation: Generation,
    /// Its id.
    pub id: LineageId,
}

impl LineageId {
    /// No id: of the cluster before its first command, and of a database without lineages.
    pub const NIL: LineageId = LineageId(0);

    /// Whether it is no id.
    pub fn is_nil(&self) -> bool {
        *self == LineageId::NIL
    }
}

impl fmt::Display for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LineageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LineageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LineageId, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = digits.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        id.map(LineageId)
            .ok_or_else(|| de::Error::custom("a lineage id is 32 hexadecimal digits"))
    }
}
