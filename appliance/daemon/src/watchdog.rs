//! The service manager's watchdog: fed while all goes on. When it is not, that is said once, and from time to time with
//! its age; the findings tell the rest.

use palisade_assembly::Stuck;
use std::time::{Duration, Instant};

/// How often it is said that the watchdog is still not fed.
const REMIND: Duration = Duration::from_secs(60);

/// What has been said of it.
#[derive(Debug, Default)]
pub struct Watchdog {
    unfed: Option<Unfed>,
}

#[derive(Debug)]
struct Unfed {
    since: Instant,
    told: Instant,
    subject: String,
}

/// A sentence for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Say {
    /// It begins, or lasts.
    Error(String),
    /// It is over.
    Info(String),
}

impl Watchdog {
    /// After a look: `stuck` is who keeps it from being fed.
    pub fn look(&mut self, stuck: Option<&Stuck>, now: Instant) -> Option<Say> {
        let Some(stuck) = stuck else {
            let unfed = self.unfed.take()?;
            let seconds = now.duration_since(unfed.since).as_secs();
            return Some(Say::Info(format!(
                "the watchdog is fed again, after {seconds} s without"
            )));
        };
        match &mut self.unfed {
            None => {
                self.unfed = Some(Unfed {
                    since: now,
                    told: now,
                    subject: stuck.subject.clone(),
                });
                Some(Say::Error(format!(
                    "the watchdog is no longer fed: {}",
                    stuck.message
                )))
            }
            Some(unfed) => {
                // Another cause is news; the same one, a little older, is not.
                let news = unfed.subject != stuck.subject;
                if !news && now.duration_since(unfed.told) < REMIND {
                    return None;
                }
                unfed.told = now;
                unfed.subject.clone_from(&stuck.subject);
                let seconds = now.duration_since(unfed.since).as_secs();
                Some(Say::Error(format!(
                    "the watchdog has not been fed for {seconds} s: {}",
                    stuck.message
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuck(subject: &str, seconds: u64) -> Stuck {
        Stuck {
            subject: subject.into(),
            message: format!("{subject} has made no progress for {seconds} s"),
        }
    }

    #[test]
    fn what_lasts_is_said_once_and_then_each_minute_with_its_age() {
        let (mut watchdog, start) = (Watchdog::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(watchdog.look(None, start), None);
        let said: Vec<_> = (0..=120)
            .filter_map(|second| watchdog.look(Some(&stuck("reactor/0", 15 + second)), at(second)))
            .collect();
        let error = |text: &str| Say::Error(text.to_owned());
        assert_eq!(
            said,
            [
                error("the watchdog is no longer fed: reactor/0 has made no progress for 15 s"),
                error("the watchdog has not been fed for 60 s: reactor/0 has made no progress for 75 s"),
                error("the watchdog has not been fed for 120 s: reactor/0 has made no progress for 135 s"),
            ]
        );
        let other = watchdog.look(Some(&stuck("node/door", 16)), at(121));
        assert_eq!(
            other,
            Some(error(
                "the watchdog has not been fed for 121 s: node/door has made no progress for 16 s"
            ))
        );
        assert_eq!(
            watchdog.look(None, at(130)),
            Some(Say::Info("the watchdog is fed again, after 130 s without".into()))
        );
        assert_eq!(watchdog.look(None, at(131)), None);
    }
}
