//! By which times and limits our voters go.

use openraft::{Config, ConfigError, SnapshotPolicy};

/// How often a leader says that it is there, in milliseconds.
pub const HEARTBEAT_MS: u64 = 50;

/// How long a voter hears nothing before it asks whether it would be elected, in milliseconds: between these two, so that
/// seldom two ask at once. Several heartbeats may be lost before.
pub const ELECTION_MS: (u64, u64) = (250, 500);

/// Entries after which the cluster is kept as a whole.
pub const ENTRIES_PER_STATE: u64 = 128;

/// Entries that stay in the log although the state has them, for voters that are a little behind.
pub const ENTRIES_KEPT: u64 = 128;

/// How long a snapshot may be on its way, in milliseconds. So long a voter that is far behind may stay behind when one is lost
/// and nobody hears of it, and whatever needs its vote waits with it; what a cluster is takes far less.
pub const SNAPSHOT_MS: u64 = 3_000;

const _: () = assert!(ELECTION_MS.0 >= 4 * HEARTBEAT_MS);

/// The rules for all voters of a cluster.
///
/// Nobody becomes a candidate before a majority has said that it would vote for it: a node that was cut off and comes back
/// does not unseat the leader.
///
/// # Errors
/// The times do not fit each other.
pub fn rules(cluster: impl ToString) -> Result<Config, ConfigError> {
    let rules = Config {
        cluster_name: cluster.to_string(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        enable_pre_vote: Some(true),
        install_snapshot_timeout: SNAPSHOT_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_STATE),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        // A log that is shorter than was promised is damage, and never to be gone along with.
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    rules.validate()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_fit_each_other_and_ask_before_they_elect() {
        let rules = rules("c1").unwrap();
        assert_eq!(rules.enable_pre_vote, Some(true));
        assert_eq!(rules.allow_log_reversion, Some(false));
    }
}
