//! Names: what an operator calls a resource.

use crate::limits::NAME_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// An id chosen by the client: 1 to 63 of `a-z`, `0-9` and `-`, beginning with a letter and not ending in `-`, so
/// that it can stand in a path, a host name, a label and a file name as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("a name has at least one character")]
    Empty,
    /// It is too long.
    #[error("a name has at most {NAME_BYTES_MAX} characters, this one has {bytes} bytes")]
    Length {
        /// How long, in bytes.
        bytes: usize,
    },
    /// It does not begin with a letter `a-z`.
    #[error("a name begins with a letter a-z, not with {found:?}")]
    Start {
        /// With what it begins.
        found: char,
    },
    /// It has a character that is none of `a-z`, `0-9` and `-`.
    #[error("a name consists of a-z, 0-9 and '-'; {found:?}, character {} of it, is none of them", .at + 1)]
    Character {
        /// Which.
        found: char,
        /// Where, counted in characters from 0.
        at: usize,
    },
    /// It ends in `-`.
    #[error("a name does not end in '-'")]
    End,
}

impl Name {
    /// Checks a text and makes it a name.
    pub fn new(text: impl Into<String>) -> Result<Name, NameError> {
        let text = text.into();
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::Length { bytes: text.len() });
        }
        if !first.is_ascii_lowercase() {
            return Err(NameError::Start { found: first });
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some((at, found)) = text.chars().enumerate().find(|&(_, c)| !allowed(c)) {
            return Err(NameError::Character { found, at });
        }
        if text.ends_with('-') {
            return Err(NameError::End);
        }
        Ok(Name(text))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Name, NameError> {
        Name::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_good_names_and_says_what_is_wrong_with_bad_ones() {
        for good in ["a", "web1", "disk-0", "a--b", &"x".repeat(63)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        let bad = [
            ("", NameError::Empty),
            ("1a", NameError::Start { found: '1' }),
            ("-a", NameError::Start { found: '-' }),
            ("Web", NameError::Start { found: 'W' }),
            ("a_b", NameError::Character { found: '_', at: 1 }),
            ("aé/", NameError::Character { found: 'é', at: 1 }),
            ("a-", NameError::End),
        ];
        for (text, why) in bad {
            assert_eq!(Name::new(text), Err(why));
        }
        assert_eq!(Name::new("x".repeat(64)), Err(NameError::Length { bytes: 64 }));
    }

    #[test]
    fn a_bad_name_does_not_come_in_through_serde() {
        assert!(serde_json::from_str::<Name>("\"ok\"").is_ok());
        assert!(serde_json::from_str::<Name>("\"../x\"").is_err());
    }
}
