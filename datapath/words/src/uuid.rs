//! Permanent ids, 128 bits of chance given by whoever proposes a command.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A permanent id (RFC 9562 in its text form: 8-4-4-4-12 lower-case hexadecimal digits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub u128);

impl Uuid {
    /// All zero: names nothing and is refused in commands.
    pub const NIL: Uuid = Uuid(0);

    /// Whether it names nothing.
    pub fn is_nil(self) -> bool {
        self == Uuid::NIL
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            bits >> 80 & 0xffff,
            bits >> 64 & 0xffff,
            bits >> 48 & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a uuid: 32 hexadecimal digits, with or without the four hyphens of RFC 9562.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a uuid is 32 hexadecimal digits, written 8-4-4-4-12 or without hyphens")]
pub struct UuidError;

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Uuid, UuidError> {
        let hyphenated = text.len() == 36;
        if !hyphenated && text.len() != 32 {
            return Err(UuidError);
        }
        let mut bits: u128 = 0;
        for (at, byte) in text.bytes().enumerate() {
            if hyphenated && matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return Err(UuidError);
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).ok_or(UuidError)?;
            bits = bits << 4 | u128::from(digit);
        }
        Ok(Uuid(bits))
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let uuid = Uuid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(uuid.to_string(), "01234567-89ab-cdef-0011-223344556677");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        assert_eq!("0123456789abcdef0011223344556677".parse(), Ok(uuid));
        for wrong in [
            "",
            "0123",
            "01234567x89ab-cdef-0011-223344556677",
            "g1234567-89ab-cdef-0011-223344556677",
        ] {
            assert_eq!(wrong.parse::<Uuid>(), Err(UuidError), "{wrong}");
        }
        assert_eq!("é".repeat(16).parse::<Uuid>(), Err(UuidError));
    }
}
