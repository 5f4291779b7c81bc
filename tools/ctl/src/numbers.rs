//! What is said of a word on the command line that should be a number and is none.

use clap::error::{ContextKind, ErrorKind};
use std::error::Error;
use std::num::{IntErrorKind, ParseIntError};

/// The same error; the words that the standard library has for a number that cannot be read are replaced by a sentence that
/// names what was given.
pub fn explained(error: clap::Error) -> clap::Error {
    let Some(kind) = kind_of(&error) else { return error };
    let (Some(value), Some(argument)) = (
        error.get(ContextKind::InvalidValue),
        error.get(ContextKind::InvalidArg),
    ) else {
        return error;
    };
    let what = match kind {
        IntErrorKind::PosOverflow => "is too large",
        IntErrorKind::NegOverflow => "is too small",
        _ => "is no whole number",
    };
    let sentence = format!("\"{value}\" for '{argument}' {what}\n\nFor more information, try '--help'.\n");
    clap::Error::raw(ErrorKind::ValueValidation, sentence)
}

fn kind_of(error: &clap::Error) -> Option<IntErrorKind> {
    let source = error.source()?.downcast_ref::<ParseIntError>()?;
    Some(*source.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    fn said(line: &str) -> String {
        let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
        explained(error).to_string()
    }

    #[test]
    fn a_word_that_is_no_number_is_named() {
        for (line, sentence) in [
            (
                "palisade attachment create a v --queue-size x",
                "error: \"x\" for '--queue-size <QUEUE_SIZE>' is no whole number\n",
            ),
            (
                "palisade volume grow v 3GiB --expect 1.5",
                "error: \"1.5\" for '--expect <GENERATION>' is no whole number\n",
            ),
            (
                "palisade volume grow v 3GiB --expect 99999999999999999999",
                "error: \"99999999999999999999\" for '--expect <GENERATION>' is too large\n",
            ),
            (
                "palisade top --interval soon",
                "error: \"soon\" for '--interval <INTERVAL>' is no whole number\n",
            ),
        ] {
            let told = said(line);
            assert!(told.starts_with(sentence), "{told}");
        }
        let told = said("palisade top --interval 4000");
        assert!(told.contains("4000 is not in 1..=3600"), "{told}");
        let told = said("palisade volume create v 4x");
        assert!(told.contains("\"x\" is no unit"), "{told}");
    }
}
