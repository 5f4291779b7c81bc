//! Names as they lie on disk: up to 64 bytes of UTF-8, zero-padded.

use std::fmt;

/// Most bytes of a name.
pub const NAME_BYTES_MAX: usize = 64;

/// A label of a disk or name of a volume. Never holds control characters: it is printed on terminals.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Longer than [`NAME_BYTES_MAX`] bytes.
    #[error("name of {bytes} bytes is longer than {NAME_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Holds a control character, or is not UTF-8.
    #[error("name has a character at byte {at} that cannot be printed")]
    Character {
        /// Where, in bytes.
        at: usize,
    },
}

impl Name {
    /// Checks a text. The empty name is allowed.
    pub fn new(text: &str) -> Result<Name, NameError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(NameError::Character { at }),
            None => Ok(Name(text.to_owned())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_field(&self) -> [u8; NAME_BYTES_MAX] {
        let mut field = [0; NAME_BYTES_MAX];
        for (to, from) in field.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        field
    }

    pub(crate) fn from_field(field: &[u8; NAME_BYTES_MAX]) -> Result<Name, NameError> {
        let used = field
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let bytes = field.get(..used).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|error| NameError::Character {
            at: error.valid_up_to(),
        })?;
        Name::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_field_and_unprintable_ones_are_refused() {
        for text in ["", "web1", "Größe", &"x".repeat(64)] {
            let name = Name::new(text).unwrap();
            assert_eq!(name.as_str(), text);
            assert_eq!(Name::from_field(&name.to_field()), Ok(name));
        }
        assert_eq!(Name::new(&"x".repeat(65)), Err(NameError::TooLong { bytes: 65 }));
        assert_eq!(Name::new("a\x1b[2J"), Err(NameError::Character { at: 1 }));
        let mut field = [0; NAME_BYTES_MAX];
        field[..3].copy_from_slice(b"a\0b");
        assert_eq!(Name::from_field(&field), Err(NameError::Character { at: 1 }));
        field[1] = 0xff;
        assert_eq!(Name::from_field(&field), Err(NameError::Character { at: 1 }));
    }
}
