//! What service managers and load balancers ask again and again: whether to restart the daemon, and whether to count on it.
//!
//! Whoever reaches the address may ask, without a token: the answer is yes or no and names nothing that belongs to
//! anybody. What is the matter is for [`health`](super::health).

use super::{Answer, Door};
use axum::extract::State;
use palisade_api::{FindingKind, Health, Probe, Problem, ProblemKind, routes};

/// Whether the daemon makes progress. 503 when one of its threads has not moved for longer than it may, or cannot be asked:
/// a restart may help then. That a disk fails, or that something is still coming up, is no reason to restart it.
#[utoipa::path(get, operation_id = "show_liveness", path = routes::LIVE, tag = "node", responses(
    (status = 200, description = "It makes progress.", body = Probe),
    (status = 503, description = "It does not.", body = Problem),
))]
pub(super) async fn live(State(door): State<Door>) -> Answer {
    ask(
        &door,
        &STUCK,
        "not_alive",
        "a thread of the daemon makes no progress",
    )
    .await
}

/// Whether what was agreed on is in force: 503 while disks are being opened and sockets put in their places after a start,
/// and whenever the daemon makes no progress.
#[utoipa::path(get, operation_id = "show_readiness", path = routes::READY, tag = "node", responses(
    (status = 200, description = "Everything that was agreed on and can be is in force.", body = Probe),
    (status = 503, description = "It is not yet.", body = Problem),
))]
pub(super) async fn ready(State(door): State<Door>) -> Answer {
    ask(
        &door,
        &NOT_READY,
        "not_ready",
        "what was agreed on is not in force yet",
    )
    .await
}

const STUCK: [FindingKind; 1] = [FindingKind::ThreadStuck];
const NOT_READY: [FindingKind; 3] = [
    FindingKind::ThreadStuck,
    FindingKind::ControlBusy,
    FindingKind::ComingUp,
];

async fn ask(
    door: &Door,
    against: &'static [FindingKind],
    code: &'static str,
    message: &'static str,
) -> Answer {
    let judged = door
        .call_for_health(|appliance| judge(&appliance.health(), against, code, message))
        .await;
    judged.and_then(|judged| judged).into()
}

fn judge(
    health: &Health,
    against: &[FindingKind],
    code: &'static str,
    message: &'static str,
) -> Result<Answer, Problem> {
    let stands = |kind: &FindingKind| {
        let code = kind.row().code;
        health.findings.iter().any(|finding| finding.code == code)
    };
    match against.iter().any(stands) {
        false => Ok(Answer::json(&Probe { ok: true })),
        true => Err(Problem::new(
            ProblemKind::Unavailable,
            code,
            message,
            "palisade health tells more",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_api::Finding;

    fn is_refused(kind: FindingKind, against: &[FindingKind]) -> bool {
        let health = Health::of(vec![Finding::new(kind, "node", "as it is")]);
        judge(&health, against, "not_ready", "no").is_err()
    }

    #[test]
    fn a_daemon_is_restarted_only_for_what_a_restart_may_help() {
        assert!(judge(&Health::default(), &STUCK, "not_alive", "no").is_ok());
        assert!(is_refused(FindingKind::ThreadStuck, &STUCK));
        for kind in [
            FindingKind::ComingUp,
            FindingKind::ControlBusy,
            FindingKind::DiskStalled,
        ] {
            assert!(!is_refused(kind, &STUCK), "{kind:?}");
        }
    }

    #[test]
    fn it_is_ready_when_nothing_is_coming_up_and_all_threads_move() {
        assert!(judge(&Health::default(), &NOT_READY, "not_ready", "no").is_ok());
        for kind in NOT_READY {
            assert!(is_refused(kind, &NOT_READY), "{kind:?}");
        }
        assert!(
            !is_refused(FindingKind::DiskStalled, &NOT_READY),
            "others are served"
        );
    }
}
