//! Openraft's own tests of a storage, on files.

use super::*;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{AsyncRuntime, StorageError};
use tempfile::TempDir;

type Voting = crate::raft::Voting<TokioRuntime>;

/// A new voter each time.
struct Builder;

impl StoreBuilder<Voting, LogStore<TokioRuntime>, StateMachine<TokioRuntime>, TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(TempDir, LogStore<TokioRuntime>, StateMachine<TokioRuntime>), StorageError<Voting>> {
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        made(directory.path()).unwrap();
        let (log, state) = opened(directory.path()).unwrap();
        Ok((directory, log, state))
    }
}

#[test]
fn openrafts_own_tests_of_a_storage_pass() {
    TokioRuntime::run(async {
        Suite::<Voting, _, _, _, _>::test_all(Builder).await.unwrap();
    });
}
