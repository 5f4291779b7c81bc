//! The bounds and the times of a session, each written once. Both ends tell each other theirs when a link is made; of each
//! bound the smaller one holds.

use palisade_block::Nanos;
use palisade_wire::{FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX};

/// Links of one session. Four are wanted (003-19); more than 16 between two reactors gain nothing.
pub const LINKS_MAX: u8 = 16;

/// Streams of one session in each direction.
pub const PORT_STREAMS_MAX: u16 = 1024;

/// Messages of one stream that are sent and not answered.
pub const WINDOW_MAX: u16 = 1024;

/// Messages that a session keeps: sent and unanswered, and accepted from clients and not sent.
pub const MESSAGES_MAX: u32 = 1 << 20;

/// For so many windows the numbers of a stream may run ahead of its oldest message without an answer, so that one slow
/// answer does not hold up those behind it.
pub(crate) const SPAN_WINDOWS: u16 = 2;

/// How a session is made. The defaults suit one pair of reactors in a data centre.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionSettings {
    /// Links that are used at once.
    pub links: u8,
    /// Streams in each direction.
    pub streams: u16,
    /// Messages of one stream that are sent before one is answered.
    pub window: u16,
    /// Messages that the session keeps. What a client sends beyond that is refused ([`SendError::Full`](crate::SendError)).
    pub messages: u32,
    /// Bytes given to a link and not transmitted yet, after which other links, or nobody, get the next frame. One frame
    /// may be given in any case.
    pub ahead_bytes: u64,
    /// A link on which nothing was heard for so long is asked whether anybody is there.
    pub probe_after: Nanos,
    /// After so long without a word it is given up.
    pub lost_after: Nanos,
    /// A link that was lost is made anew after so long.
    pub again_after: Nanos,
    /// For so long a session goes on without any link before its clients are told (003-27).
    pub down_after: Nanos,
    /// A message that has no answer after so long brings the session down (003-25); `None`: never, since the one that
    /// answers may be kept waiting by a disk while all links are well.
    pub answer_within: Option<Nanos>,
}

impl SessionSettings {
    /// What suits two machines of one network; its times are those of every session.
    pub const DEFAULT: SessionSettings = SessionSettings {
        links: 4,
        streams: 16,
        window: 32,
        messages: 1024,
        ahead_bytes: 256 << 10,
        probe_after: Nanos::from_millis(50),
        lost_after: Nanos::from_millis(200),
        again_after: Nanos::from_millis(20),
        down_after: Nanos::from_millis(400),
        answer_within: None,
    };
}

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings::DEFAULT
    }
}

/// Why settings are of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field} of a data port must lie between {least} and {most}, and is {found}")]
pub struct SessionSettingsError {
    /// Which one.
    pub field: &'static str,
    /// What was given.
    pub found: u64,
    /// The least of use.
    pub least: u64,
    /// The most.
    pub most: u64,
}

impl SessionSettings {
    /// Whether they fit each other.
    ///
    /// # Errors
    /// One lies out of its bounds.
    pub fn check(&self) -> Result<(), SessionSettingsError> {
        let within = |field, found: u64, least: u64, most: u64| match (least..=most).contains(&found) {
            true => Ok(()),
            false => Err(SessionSettingsError {
                field,
                found,
                least,
                most,
            }),
        };
        within("links", self.links.into(), 1, LINKS_MAX.into())?;
        within("streams", self.streams.into(), 1, PORT_STREAMS_MAX.into())?;
        within("window", self.window.into(), 1, WINDOW_MAX.into())?;
        within("messages", self.messages.into(), 1, MESSAGES_MAX.into())?;
        within("ahead_bytes", self.ahead_bytes, 1, 1 << 30)?;
        within("probe_after", self.probe_after.0, 1, u64::MAX)?;
        within("again_after", self.again_after.0, 1, u64::MAX)?;
        // One probe may be under way, and be answered.
        within(
            "lost_after",
            self.lost_after.0,
            self.probe_after.0.saturating_mul(2),
            u64::MAX,
        )?;
        within("down_after", self.down_after.0, 1, u64::MAX)
    }

    /// Numbers that may lie between the oldest message of a stream that has no answer and the newest that is sent.
    pub(crate) fn span(&self) -> u64 {
        u64::from(self.window) * u64::from(SPAN_WINDOWS)
    }
}

const _: () = assert!(
    (WINDOW_MAX as u32) * (SPAN_WINDOWS as u32) <= u16::MAX as u32,
    "the header's `behind` can say it"
);
const _: () = assert!(FRAME_HEADER_BYTES < FRAME_PAYLOAD_BYTES_MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_bounds_are_named() {
        assert_eq!(SessionSettings::default().check(), Ok(()));
        let field = |change: fn(&mut SessionSettings)| {
            let mut settings = SessionSettings::default();
            change(&mut settings);
            settings.check().unwrap_err().field
        };
        assert_eq!(field(|settings| settings.links = 0), "links");
        assert_eq!(field(|settings| settings.links = LINKS_MAX + 1), "links");
        assert_eq!(field(|settings| settings.window = WINDOW_MAX + 1), "window");
        assert_eq!(field(|settings| settings.streams = 0), "streams");
        assert_eq!(field(|settings| settings.messages = 0), "messages");
        assert_eq!(
            field(|settings| settings.lost_after = settings.probe_after),
            "lost_after"
        );
        let error = SessionSettings {
            window: 0,
            ..SessionSettings::default()
        }
        .check()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "window of a data port must lie between 1 and 1024, and is 0"
        );
    }
}
