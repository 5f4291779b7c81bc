//! How an attachment receives: bytes by its own thread, descriptors by a process of its own ([`FdFilter`]), which is
//! there from a session's first descriptor on and goes when none has come for a while. One that hangs in the closing of
//! what the front-end sent is left alone: so many of them an attachment may have, and so many all may have together.

use super::report::HangingReport;
use crate::shortage;
use crate::socket::{self, Received};
use palisade_sys::fd_filter::{self, Lingering};
use palisade_sys::{FdFilter, fd_filter::Received as Passed};
use rustix::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A front-end sends its descriptors when it sets up its queues, all in a moment.
const IDLE: Duration = Duration::from_secs(5);

/// How often one that hangs is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What descriptors that hang may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long a process may take to answer: it takes microseconds unless it hangs.
    pub(super) patience: Duration,
    /// Processes of one attachment that may hang.
    pub(super) hanging_each: usize,
    /// Processes of all attachments that may hang. The first of each may in any case, so that nobody is shut out by what
    /// others have sent.
    pub(super) hanging_all: usize,
}

/// What one attempt to read gave.
#[derive(Debug)]
pub(super) enum Receipt {
    /// So many bytes, not zero, and how the kernel names a descriptor that came along and was kept out.
    Bytes(usize, Option<String>),
    /// Nothing now.
    Later,
    /// The peer has closed its end.
    Closed,
    /// The session cannot go on, for this reason.
    Over(String),
}

/// The receiving side of an attachment.
#[derive(Debug)]
pub(super) struct Receiving {
    name: String,
    limits: Limits,
    filter: Option<FdFilter>,
    /// When descriptors came last.
    used: Instant,
    /// Those of former sessions that have not ended yet.
    hanging: Vec<Lingering>,
    looked: Instant,
}

impl Receiving {
    pub(super) fn new(name: String, limits: Limits) -> Receiving {
        let now = Instant::now();
        Receiving {
            name,
            limits,
            filter: None,
            used: now,
            hanging: Vec::new(),
            looked: now,
        }
    }

    /// Reads into `buffer` (not empty); descriptors that come along are added to `fds`.
    pub(super) fn receive(
        &mut self,
        connection: impl AsFd,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
    ) -> Receipt {
        match socket::receive(&connection, buffer) {
            Ok(Received::Bytes(bytes)) => Receipt::Bytes(bytes, None),
            Ok(Received::Later) => Receipt::Later,
            Ok(Received::Closed) => Receipt::Closed,
            Ok(Received::Descriptors) => self.receive_descriptors(connection, buffer, fds),
            Err(error) => Receipt::Over(format!("reading from the front-end failed: {error}")),
        }
    }

    fn receive_descriptors(
        &mut self,
        connection: impl AsFd,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
    ) -> Receipt {
        self.used = Instant::now();
        let patience = self.limits.patience;
        let filter = match self.filter(connection) {
            Ok(filter) => filter,
            Err(reason) => return Receipt::Over(reason),
        };
        let receipt = match filter.receive(buffer, patience) {
            Ok(receipt) => receipt,
            Err(error) => {
                let what = filter.closing().map(|(what, _)| what.to_owned());
                return Receipt::Over(match what {
                    Some(what) => format!(
                        "no descriptor can be received: {what}, which the front-end sent before, has not let itself be \
                         closed for {} s",
                        patience.as_secs()
                    ),
                    None => format!("reading from the front-end failed: {error}"),
                });
            }
        };
        fds.extend(receipt.fds);
        match receipt.state {
            Passed::Bytes(_) if fds.len() > fd_filter::RECEIPT_FDS_MAX => {
                fds.clear();
                Receipt::Over(too_many())
            }
            Passed::Bytes(bytes) => Receipt::Bytes(bytes, receipt.kept_out),
            Passed::Nothing => Receipt::Later,
            Passed::Closed => Receipt::Closed,
            Passed::TooManyFds => Receipt::Over(too_many()),
            Passed::NoRoomForFds => {
                shortage::met();
                Receipt::Over(
                    "this daemon has as many files open as it may (RLIMIT_NOFILE), so what the front-end sent could \
                     not be taken"
                        .to_owned(),
                )
            }
        }
    }

    /// The session's process; begun when there is none. An error is a reason to end the session.
    fn filter(&mut self, connection: impl AsFd) -> Result<&mut FdFilter, String> {
        if let Some(filter) = self.filter.take() {
            return Ok(self.filter.insert(filter));
        }
        self.look();
        let (mine, all) = (self.hanging.len(), fd_filter::lingering());
        let first = self.hanging.first().map_or("", Lingering::what);
        if mine >= self.limits.hanging_each {
            return Err(format!(
                "no descriptor is received: {mine} processes hang in closing what this attachment's virtual machine sent \
                 before, first {first} (guests.hanging_each_max)"
            ));
        }
        // Others' come out of what is everybody's only from the second on: whoever has none hanging is let in.
        if mine > 0 && all >= self.limits.hanging_all {
            return Err(format!(
                "no descriptor is received: {all} processes hang in closing what virtual machines sent before \
                 (guests.hanging_max)"
            ));
        }
        let started = FdFilter::start(&self.name, connection.as_fd());
        let filter = started.map_err(|error| {
            shortage::is_met_by(&error);
            format!("no process can be started to receive descriptors: {error}")
        })?;
        Ok(self.filter.insert(filter))
    }

    /// The session is over.
    pub(super) fn end(&mut self) {
        let lingering = self.filter.take().and_then(FdFilter::let_go);
        self.hanging.extend(lingering);
    }

    /// Lets go of what has not been used for long, and forgets what hangs no longer.
    pub(super) fn look(&mut self) {
        self.looked = Instant::now();
        self.hanging.retain(|one| !one.has_ended());
        let idle = self.used.elapsed() >= IDLE;
        if idle
            && self
                .filter
                .as_mut()
                .is_some_and(|filter| filter.closing().is_none())
        {
            self.filter = None;
        }
    }

    /// When to look again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let filter = self.filter.as_ref().map(|_| self.used + IDLE);
        let hanging = (!self.hanging.is_empty()).then_some(self.looked + LOOK);
        // A filter that hangs is not let go, however long it is idle.
        let filter = filter.map(|at| at.max(self.looked + LOOK));
        [filter, hanging].into_iter().flatten().min()
    }

    /// What hangs longest, if anything does.
    pub(super) fn report(&mut self) -> Option<HangingReport> {
        let now = self.filter.as_mut().and_then(|filter| {
            let (what, since) = filter.closing()?;
            Some((what.to_owned(), since))
        });
        let former = self.hanging.iter().filter(|one| !one.has_ended());
        let former = former.map(|one| (one.what().to_owned(), one.since()));
        let all: Vec<_> = former.chain(now).collect();
        let count = all.len();
        let (what, since) = all.into_iter().min_by_key(|(_, since)| *since)?;
        Some(HangingReport { what, since, count })
    }
}

fn too_many() -> String {
    format!(
        "more than {} file descriptors came with one message",
        fd_filter::RECEIPT_FDS_MAX
    )
}

const _: () = assert!(fd_filter::RECEIPT_FDS_MAX == crate::codec::FDS_MAX);
const _: () =
    assert!(fd_filter::RECEIPT_BYTES_MAX >= crate::codec::HEADER_BYTES + crate::codec::PAYLOAD_BYTES_MAX);
