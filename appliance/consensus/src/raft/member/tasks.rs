//! What a member does by itself: lets who votes follow the cluster, and writes down how far the others have come.

use super::Inner;
use super::standing::is_answered;
use crate::raft::follow::follow;
use openraft::async_runtime::WatchReceiver;
use openraft_rt_tokio::TokioRuntime;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often it is looked whether who votes is who should, when nothing tells of a change before.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// How long after a change that failed the next one is tried.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How much a peer may have applied that is known here and not on stable storage, as time.
const KEEPS_EVERY: Duration = Duration::from_secs(1);

pub(super) fn spawn(inner: &Inner) {
    inner.handle.spawn(follow_always(inner.clone()));
    inner.handle.spawn(keep_always(inner.clone()));
}

async fn follow_always(inner: Inner) {
    let mut metrics = inner.raft.metrics();
    loop {
        if let Ok(Err(_)) = timeout(LOOKS_EVERY, metrics.changed()).await {
            // Openraft has ended.
            return;
        }
        let has_majority = is_answered(&metrics.borrow_watched());
        inner.links.set_has_majority(has_majority);
        match follow(&inner.raft, &inner.state.cluster()).await {
            Ok(None) => {}
            Ok(Some(change)) => log::info!("agreement: voters follow the cluster: {change:?}"),
            Err(why) => {
                log::info!("agreement: voters do not follow the cluster yet: {why}");
                sleep(AGAIN_AFTER).await;
            }
        }
    }
}

async fn keep_always(inner: Inner) {
    loop {
        sleep(KEEPS_EVERY).await;
        let peers = inner.links.peers();
        let cluster = inner.state.cluster();
        if cluster.is_initialised() {
            let known: Vec<_> = {
                let metrics = inner.raft.metrics();
                let metrics = metrics.borrow_watched();
                metrics.membership_config.nodes().map(|(id, _)| *id).collect()
            };
            peers.keep_only(|voter| known.contains(&voter) || cluster.node_by_id(voter.0).is_some());
        }
        if let Err(error) = peers.keep::<TokioRuntime>().await {
            log::warn!("agreement: what others have shown cannot be written down: {error}");
        }
    }
}
