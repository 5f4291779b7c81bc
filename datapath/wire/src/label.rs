//! Labels, the names as they lie on disk: up to 64 bytes of UTF-8, zero-padded.

use palisade_words::limits::NAME_BYTES_MAX;
use std::fmt;

/// Most bytes of a label.
pub const LABEL_BYTES_MAX: usize = 64;

const _: () = assert!(NAME_BYTES_MAX <= LABEL_BYTES_MAX, "each name fits");

/// A label of a disk or name of a volume. Never holds control characters: it is printed on terminals.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Label(String);

/// Why a text is no label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LabelError {
    /// Longer than [`LABEL_BYTES_MAX`] bytes.
    #[error("name of {bytes} bytes is longer than {LABEL_BYTES_MAX}")]
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

impl Label {
    /// Checks a text. The empty label is allowed.
    pub fn new(text: &str) -> Result<Label, LabelError> {
        if text.len() > LABEL_BYTES_MAX {
            return Err(LabelError::TooLong { bytes: text.len() });
        }
        match text.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(LabelError::Character { at }),
            None => Ok(Label(text.to_owned())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_field(&self) -> [u8; LABEL_BYTES_MAX] {
        let mut field = [0; LABEL_BYTES_MAX];
        for (to, from) in field.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        field
    }

    pub(crate) fn from_field(field: &[u8; LABEL_BYTES_MAX]) -> Result<Label, LabelError> {
        let used = field
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let bytes = field.get(..used).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|error| LabelError::Character {
            at: error.valid_up_to(),
        })?;
        Label::new(text)
    }
}

impl fmt::Display for Label {
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
            let name = Label::new(text).unwrap();
            assert_eq!(name.as_str(), text);
            assert_eq!(Label::from_field(&name.to_field()), Ok(name));
        }
        assert_eq!(
            Label::new(&"x".repeat(65)),
            Err(LabelError::TooLong { bytes: 65 })
        );
        assert_eq!(Label::new("a\x1b[2J"), Err(LabelError::Character { at: 1 }));
        let mut field = [0; LABEL_BYTES_MAX];
        field[..3].copy_from_slice(b"a\0b");
        assert_eq!(Label::from_field(&field), Err(LabelError::Character { at: 1 }));
        field[1] = 0xff;
        assert_eq!(Label::from_field(&field), Err(LabelError::Character { at: 1 }));
    }
}
