//! What is asked again, and of whom: the node that is asked may not be the one that leads the cluster, there may be none just
//! now, and what was proposed may go without an answer. Ids are chosen by who asks, so nothing is done twice.

use super::{Asked, Client};
use crate::args::Target;
use crate::failure::{ANSWER_BROKE_OFF, Failure, NO_ANSWER};
use crate::place::Place;
use palisade_api::{NodeToAsk, Problem, ProblemKind};
use serde_json::Value;
use std::time::{Duration, Instant};
use ureq::http::Method;

/// How often one node names another before it is taken that none of them knows better.
const FOLLOWED_MAX: u32 = 3;

/// How long the same is asked for while the appliance says that the answer may be another one soon.
const AGAIN_FOR: Duration = Duration::from_secs(10);

impl Client {
    /// Asks until there is an answer that stays.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        expected: Option<u64>,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        self.ask_until_decided(&Asked {
            method,
            path,
            expected,
            body,
            is_of_this_node: false,
        })
    }

    /// The same, of what was put together.
    pub(super) fn ask_until_decided(&self, asked: &Asked<'_>) -> Result<Value, Failure> {
        let deadline = Instant::now() + AGAIN_FOR;
        let deadline = self
            .patience
            .map_or(deadline, |(_, patience)| patience.min(deadline));
        let mut undecided = None;
        loop {
            let failure = match self.ask_or_follow(asked, 0) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let (kind, pause) = match &failure {
                Failure::Refused(problem) => (problem.kind, problem.retry_after_s),
                _ => return Err(failure),
            };
            // What was proposed before may have been agreed on, and this be the answer to what it has led to.
            match (kind, undecided.take()) {
                (ProblemKind::NotFound, Some(_)) if asked.method == Method::DELETE => return Ok(Value::Null),
                (ProblemKind::Changed, Some(before)) => return Err(before),
                (_, before) => undecided = before,
            }
            let Some(pause) = pause.map(|seconds| Duration::from_secs(seconds.into())) else {
                return Err(failure);
            };
            if Instant::now() + pause >= deadline {
                return Err(failure);
            }
            if kind == ProblemKind::Undecided {
                undecided = Some(failure);
            }
            std::thread::sleep(pause);
        }
    }

    /// Asks, and where another node has to answer, that one.
    fn ask_or_follow(&self, asked: &Asked<'_>, followed: u32) -> Result<Value, Failure> {
        let answer = self.ask_once(asked);
        let Err(Failure::Refused(problem)) = answer else {
            return answer;
        };
        let may_follow = followed < FOLLOWED_MAX && !asked.is_of_this_node;
        let Some(node) = problem.ask.clone().filter(|_| may_follow) else {
            return Err(Failure::Refused(problem));
        };
        let mut last = None;
        for client in self.ways_to(&node) {
            match client.ask_or_follow(asked, followed + 1) {
                Err(why) if leaves_undone(&why) => last = Some((client.shown, why)),
                answer => return answer,
            }
        }
        Err(match last {
            None => Failure::Refused(problem),
            Some((url, why)) => Failure::NotFollowed {
                problem: Box::new(problem),
                url,
                why: Box::new(why),
            },
        })
    }

    /// The ways to another node that are as safe as the one to this node: the token does not leave TLS.
    fn ways_to(&self, node: &NodeToAsk) -> impl Iterator<Item = Client> {
        let plain = |place: &Place| matches!(place, Place::Address(address) if address.starts_with("http:"));
        let is_safe = move |address: &&String| {
            let place = Place::of(Some(address.as_str()));
            place.is_ok_and(|place| {
                place != self.place
                    && matches!(place, Place::Address(_))
                    && (!plain(&place) || plain(&self.place))
            })
        };
        let client = |address: &String| {
            let target = Target {
                url: Some(address.clone()),
                ..self.target.clone()
            };
            let client = Client::new(&target).ok()?;
            Some(Client {
                patience: self.patience,
                ..client
            })
        };
        node.addresses.iter().filter(is_safe).filter_map(client)
    }
}

/// Whether what was asked for has not been begun: nobody was reached, or nobody who listens to us.
fn leaves_undone(failure: &Failure) -> bool {
    match failure {
        Failure::Certificate { .. } | Failure::NotFollowed { .. } => true,
        Failure::Unreachable { why, .. } => !why.starts_with(NO_ANSWER) && !why.starts_with(ANSWER_BROKE_OFF),
        Failure::Refused(Problem { kind, .. }) => {
            matches!(kind, ProblemKind::Unauthorized | ProblemKind::Forbidden)
        }
        _ => false,
    }
}
