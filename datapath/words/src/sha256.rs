//! SHA-256 sums: what stands for something that is not shown itself.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// The SHA-256 of a key, a certificate or a secret (FIPS 180-4); in text 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sha256Sum(pub [u8; 32]);

impl Sha256Sum {
    /// Whether it is all zero, which no sum is.
    pub fn is_nil(&self) -> bool {
        self.0 == [0; 32]
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a SHA-256 sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a SHA-256 sum is 64 lower-case hexadecimal digits")]
pub struct Sha256SumError;

impl FromStr for Sha256Sum {
    type Err = Sha256SumError;

    fn from_str(text: &str) -> Result<Sha256Sum, Sha256SumError> {
        let digits = text.bytes().map(|byte| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        });
        let digits: Vec<u8> = digits.collect::<Option<_>>().ok_or(Sha256SumError)?;
        let pairs = digits.chunks(2).map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        });
        let bytes: Vec<u8> = pairs.collect::<Option<_>>().ok_or(Sha256SumError)?;
        bytes.try_into().map(Sha256Sum).map_err(|_| Sha256SumError)
    }
}

impl Serialize for Sha256Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sha256Sum, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_one_text() {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (0x0a, 0xf7);
        let sum = Sha256Sum(bytes);
        let text = format!("0a{}f7", "00".repeat(30));
        assert_eq!(sum.to_string(), text);
        assert_eq!(text.parse(), Ok(sum));
        let long = format!("{text}00");
        for wrong in [
            &text.replacen("0a", "a", 1),
            &text.replacen("0a", "", 1),
            &*long,
            &text.to_uppercase(),
            "",
            &"+1".repeat(32),
        ] {
            assert_eq!(wrong.parse::<Sha256Sum>(), Err(Sha256SumError), "{wrong}");
        }
        assert!(Sha256Sum::default().is_nil() && !sum.is_nil());
    }
}
