//! Sizes as people write them: `10GiB`, `512M`, `1.5 TiB`, `4096`.

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It does not begin with a number.
    #[error("{text:?} is no size: write a number and a unit, as in 10GiB")]
    Number {
        /// The text.
        text: String,
    },
    /// What follows the number is no unit.
    #[error(
        "{unit:?} is no unit: K, M, G, T, P (or KiB, MiB, ...) are multiples of 1024, KB, MB, ... of 1000"
    )]
    Unit {
        /// What follows the number.
        unit: String,
    },
    /// It is no whole number of bytes.
    #[error("{text:?} is no whole number of bytes")]
    Fraction {
        /// The text.
        text: String,
    },
    /// It is below zero.
    #[error("{text:?} is below zero: give the whole size that is wanted, as 10GiB")]
    Negative {
        /// The text.
        text: String,
    },
    /// It is nothing.
    #[error("a size of 0 holds nothing: give one such as 10GiB")]
    Nothing,
    /// It is written with an exponent.
    #[error("{text:?} has an exponent: write a number and a unit, as in 10GiB")]
    Exponent {
        /// The text.
        text: String,
    },
    /// It is more than 64 bits of bytes.
    #[error("{text:?} is more than 16 EiB")]
    TooLarge {
        /// The text.
        text: String,
    },
}

/// Reads a size in bytes. `K`, `M`, `G`, `T`, `P` and `KiB`... are powers of 1024, `KB`, `MB`... powers of 1000, as in
/// GNU coreutils; case does not matter except that nothing but a unit may follow the number.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let trimmed = text.trim();
    if trimmed.starts_with(['-', '\u{2212}']) {
        return Err(SizeError::Negative {
            text: text.to_owned(),
        });
    }
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let bad_number = || SizeError::Number {
        text: text.to_owned(),
    };
    let too_large = || SizeError::TooLarge {
        text: text.to_owned(),
    };
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 18 || (number.ends_with('.')) {
        return Err(bad_number());
    }
    let mut exponent = unit.chars().skip(1).skip_while(|c| matches!(c, '+' | '-'));
    if unit.starts_with(['e', 'E']) && exponent.next().is_some_and(|c| c.is_ascii_digit()) {
        return Err(SizeError::Exponent {
            text: text.to_owned(),
        });
    }
    let factor = factor_of(unit.trim())?;
    let whole = whole.parse::<u64>().map_err(|_| too_large())?;
    let whole_bytes = whole.checked_mul(factor).ok_or_else(too_large)?;
    if fraction.is_empty() {
        return Ok(whole_bytes);
    }
    let numerator = fraction.parse::<u128>().map_err(|_| bad_number())? * u128::from(factor);
    let denominator = 10u128.pow(fraction.len() as u32);
    if !numerator.is_multiple_of(denominator) {
        return Err(SizeError::Fraction {
            text: text.to_owned(),
        });
    }
    let fraction_bytes = u64::try_from(numerator / denominator).map_err(|_| too_large())?;
    whole_bytes.checked_add(fraction_bytes).ok_or_else(too_large)
}

/// Reads a size in bytes as [`parse`] does, and takes none of 0.
///
/// # Errors
/// As [`parse`], and for 0.
pub fn parse_some(text: &str) -> Result<u64, SizeError> {
    match parse(text)? {
        0 => Err(SizeError::Nothing),
        bytes => Ok(bytes),
    }
}

/// A size for people: the largest binary unit, with at most two decimals.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog2() / 10).min(6);
    let unit = UNITS.get(exponent as usize - 1).copied().unwrap_or("EiB");
    let hundredths = (u128::from(bytes) * 100) >> (10 * exponent);
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, part) if part % 10 == 0 => format!("{whole}.{} {unit}", part / 10),
        (whole, part) => format!("{whole}.{part:02} {unit}"),
    }
}

/// Bytes in one of a unit.
fn factor_of(unit: &str) -> Result<u64, SizeError> {
    let lower = unit.to_ascii_lowercase();
    let (base, prefix): (u64, &str) = match lower.strip_suffix("ib") {
        Some(prefix) if !prefix.is_empty() => (1024, prefix),
        _ => match lower.strip_suffix('b') {
            Some(prefix) => (1000, prefix),
            None => (1024, lower.as_str()),
        },
    };
    let exponent = match prefix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => {
            return Err(SizeError::Unit {
                unit: unit.to_owned(),
            });
        }
    };
    Ok(base.pow(exponent))
}

/// A number of things, as people write it: "1 disk", "2 disks".
pub fn counted(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10GiB", 10 << 30),
            ("512M", 512 << 20),
            ("512 MiB", 512 << 20),
            ("1.5T", 3 << 39),
            ("1kb", 1000),
            ("2GB", 2_000_000_000),
            ("7b", 7),
            ("0.5k", 512),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "GiB", "-1", "1.2.3G", "1.", ".5G", "ten", "1 2", "1e9"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(matches!(parse("-1GiB"), Err(SizeError::Negative { .. })));
        assert!(matches!(parse("1e9"), Err(SizeError::Exponent { .. })));
        assert!(matches!(parse("1E+3"), Err(SizeError::Exponent { .. })));
        assert!(matches!(parse_some("0"), Err(SizeError::Nothing)));
        assert_eq!(parse_some("1K"), Ok(1024));
        assert!(matches!(parse("0.3k"), Err(SizeError::Fraction { .. })));
        assert!(matches!(parse("5 ZiB"), Err(SizeError::Unit { .. })));
        assert!(matches!(parse("16384P"), Err(SizeError::TooLarge { .. })));
        assert!(matches!(
            parse("99999999999999999999"),
            Err(SizeError::TooLarge { .. })
        ));
    }

    #[test]
    fn writes_what_people_read() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (10 << 30, "10 GiB"),
            (3 << 39, "1.5 TiB"),
            (1_000_000, "976.56 KiB"),
            (u64::MAX, "15.99 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
