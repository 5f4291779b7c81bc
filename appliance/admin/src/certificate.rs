//! How long a certificate is valid, and what is to be said of that.
//!
//! Nobody renews by itself what nobody tells of, and a certificate ends in the middle of the night. So its end is told
//! beforehand, twice; and one that is not valid is no reason to do nothing at all: clients refuse it, which is told, but
//! guests have no part in it.

use crate::appliance::CertificateState;
use palisade_api::calendar::date_and_time;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long before its end an operator is told, at most: time enough for somebody who looks once a week.
const TOLD_BEFORE: Duration = Duration::from_secs(14 * DAY_S);

/// How long before its end that is urgent, at most.
const URGENT_BEFORE: Duration = Duration::from_secs(2 * DAY_S);

/// Which part of a certificate's whole time is left at most when it is told: those that are renewed every few days by a
/// program are not to be told of all the time. Such programs renew at the half of it, or with a third left.
const TOLD_PART: u32 = 4;

/// The same for when it is urgent.
const URGENT_PART: u32 = 20;

const DAY_S: u64 = 86_400;

/// The beginning and the end of all time.
const WHOLE_TIME: [UnixTime; 2] = [
    UnixTime::since_unix_epoch(Duration::ZERO),
    UnixTime::since_unix_epoch(Duration::MAX),
];

const _: () = assert!(URGENT_PART > TOLD_PART && URGENT_BEFORE.as_secs() < TOLD_BEFORE.as_secs());

/// From when until when a chain of certificates is valid: as long as each of them is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Validity {
    /// The first moment.
    from: UnixTime,
    /// The last moment.
    pub(crate) until: UnixTime,
    /// The place of the one that ends first, from 0.
    first_to_end: usize,
    /// The place of the one that begins last, from 0.
    last_to_begin: usize,
}

impl Validity {
    /// Of a chain, the own certificate first.
    ///
    /// # Errors
    /// One of them cannot be read, or ends before it begins.
    pub(crate) fn of(chain: &[CertificateDer<'_>]) -> Result<Validity, Error> {
        let [from, until] = WHOLE_TIME;
        let mut whole = Validity {
            from,
            until,
            first_to_end: 0,
            last_to_begin: 0,
        };
        for (place, certificate) in chain.iter().enumerate() {
            let parsed = ParsedCertificate::try_from(certificate)?;
            // The first that is asked when a certificate is verified is whether it is valid at that time: the beginning and
            // the end of all time tell when it is.
            let [begin, end] = WHOLE_TIME.map(|time| asked_at(&parsed, time));
            match begin {
                Some(CertificateError::NotValidYetContext { not_before, .. }) if not_before > whole.from => {
                    (whole.from, whole.last_to_begin) = (not_before, place);
                }
                // It ends before it begins.
                Some(CertificateError::Expired) => return Err(CertificateError::Expired.into()),
                _ => {}
            }
            match end {
                Some(CertificateError::ExpiredContext { not_after, .. }) if not_after < whole.until => {
                    (whole.until, whole.first_to_end) = (not_after, place);
                }
                _ => {}
            }
        }
        Ok(whole)
    }

    /// How it stands at a time.
    pub(crate) fn at(&self, now: SystemTime) -> Stand {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (from, until) = (self.from.as_secs(), self.until.as_secs());
        let lasts = Duration::from_secs(until.saturating_sub(from));
        // The last second belongs to it.
        let left = Duration::from_secs(until.saturating_sub(now));
        if now < from {
            Stand::NotYet
        } else if now > until {
            Stand::Over
        } else if left <= URGENT_BEFORE.min(lasts / URGENT_PART) {
            Stand::EndsSoon
        } else if left <= TOLD_BEFORE.min(lasts / TOLD_PART) {
            Stand::Ends
        } else {
            Stand::Valid
        }
    }

    /// What is to be said of it at a time, to follow the name of its file; the same words as long as it stands so.
    pub(crate) fn words(&self, stand: Stand) -> Option<(CertificateState, String)> {
        let (begins, ends) = (moment(self.from), moment(self.until));
        let other = |place: usize| match place {
            0 => String::new(),
            place => format!(": certificate {} in that file", place + 1),
        };
        let (state, words) = match stand {
            Stand::Valid => return None,
            Stand::Ends => (CertificateState::Ends, format!("is valid until {ends}")),
            Stand::EndsSoon => (CertificateState::EndsSoon, format!("is valid until {ends} only")),
            Stand::Over => (CertificateState::NotValid, format!("has expired, on {ends}")),
            Stand::NotYet => {
                let words = format!("is not valid before {begins}{}", other(self.last_to_begin));
                return Some((CertificateState::NotValid, words));
            }
        };
        Some((state, format!("{words}{}", other(self.first_to_end))))
    }
}

/// How a certificate stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// Well.
    Valid,
    /// Valid, and to be renewed.
    Ends,
    /// Valid for a little while only.
    EndsSoon,
    /// Not any more.
    Over,
    /// Not yet.
    NotYet,
}

impl Stand {
    /// Whether clients take it.
    pub(crate) fn is_valid(self) -> bool {
        !matches!(self, Stand::Over | Stand::NotYet)
    }
}

fn asked_at(certificate: &ParsedCertificate<'_>, time: UnixTime) -> Option<CertificateError> {
    let known = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let nobody = RootCertStore::empty();
    match verify_server_cert_signed_by_trust_anchor(certificate, &nobody, &[], time, known.all) {
        Err(Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}

/// A moment as people write it, UTC.
fn moment(time: UnixTime) -> String {
    let (date, time) = date_and_time(time.as_secs());
    format!("{date} {time} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(from: u64, until: u64) -> Validity {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        Validity {
            from: at(from),
            until: at(until),
            first_to_end: 0,
            last_to_begin: 0,
        }
    }

    fn stands(of: Validity, moments: &[(u64, Stand)]) {
        for (now, expected) in moments {
            let now = UNIX_EPOCH + Duration::from_secs(*now);
            assert_eq!(of.at(now), *expected, "at {now:?}");
        }
    }

    #[test]
    fn its_end_is_told_two_weeks_and_two_days_before() {
        let begin = 1_700_000_000;
        let end = begin + 90 * DAY_S;
        stands(
            validity(begin, end),
            &[
                (0, Stand::NotYet),
                (begin - 1, Stand::NotYet),
                (begin, Stand::Valid),
                (end - 14 * DAY_S - 1, Stand::Valid),
                (end - 14 * DAY_S, Stand::Ends),
                (end - 2 * DAY_S - 1, Stand::Ends),
                (end - 2 * DAY_S, Stand::EndsSoon),
                (end, Stand::EndsSoon),
                (end + 1, Stand::Over),
                (u64::MAX / 2_000_000_000, Stand::Over),
            ],
        );
    }

    #[test]
    fn of_one_that_lasts_for_days_only_the_last_part_is_told() {
        let end = 6 * DAY_S;
        stands(
            validity(0, end),
            &[
                (0, Stand::Valid),
                (end / 2, Stand::Valid),
                (end - end / 4, Stand::Ends),
                (end - end / 20, Stand::EndsSoon),
            ],
        );
    }

    #[test]
    fn a_chain_is_valid_as_long_as_each_of_it() {
        let made = |from: u64, until: u64| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let epoch = rcgen::date_time_ymd(1970, 1, 1);
            (params.not_before, params.not_after) = (
                epoch + Duration::from_secs(from),
                epoch + Duration::from_secs(until),
            );
            params.self_signed(&key).unwrap().der().clone()
        };
        let (own, next) = (made(1000, 951_782_400), made(2000, 900_000_000));
        let alone = Validity::of(std::slice::from_ref(&own)).unwrap();
        assert_eq!(alone, validity(1000, 951_782_400));
        let words = alone.words(Stand::Over).unwrap().1;
        assert_eq!(words, "has expired, on 2000-02-29 00:00:00 UTC");
        let both = Validity::of(&[own, next]).unwrap();
        assert_eq!((both.from.as_secs(), both.until.as_secs()), (2000, 900_000_000));
        let words = both.words(Stand::NotYet).unwrap().1;
        assert_eq!(
            words,
            "is not valid before 1970-01-01 00:33:20 UTC: certificate 2 in that file"
        );
        assert!(
            both.words(Stand::Ends)
                .unwrap()
                .1
                .ends_with("certificate 2 in that file")
        );
        // One that ends before it begins is none.
        assert!(Validity::of(&[made(2000, 1000)]).is_err());
    }

    #[test]
    fn the_words_stay_the_same_until_something_changes() {
        let of = validity(1_700_000_000, 1_800_000_000);
        assert_eq!(of.words(Stand::Valid), None);
        let state = |stand| of.words(stand).unwrap().0;
        assert_eq!(state(Stand::Ends), CertificateState::Ends);
        assert_eq!(state(Stand::EndsSoon), CertificateState::EndsSoon);
        assert_eq!(state(Stand::Over), CertificateState::NotValid);
        assert_eq!(state(Stand::NotYet), CertificateState::NotValid);
    }
}
