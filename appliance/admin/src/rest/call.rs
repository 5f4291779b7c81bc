//! From a handler to the appliance: on a thread that may block, a bounded number at a time.

use crate::appliance::Appliance;
use crate::limits::{CALL_WAIT, CALLS_MAX, HEALTH_CALLS_MAX, RECORDS_MAX, STREAMS_MAX};
use palisade_api::{Event, Problem, ProblemKind};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// What every handler holds.
#[derive(Clone)]
pub(crate) struct Door {
    appliance: Arc<dyn Appliance>,
    calls: Arc<Semaphore>,
    health_calls: Arc<Semaphore>,
    records: Arc<Semaphore>,
    /// Places for streams of events.
    pub(crate) streams: Arc<Semaphore>,
    /// Becomes true when the server stops; streams end then.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Door {
    /// A door to an appliance.
    pub(crate) fn new(appliance: Arc<dyn Appliance>, stopping: watch::Receiver<bool>) -> Door {
        Door {
            appliance,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            health_calls: Arc::new(Semaphore::new(HEALTH_CALLS_MAX)),
            records: Arc::new(Semaphore::new(RECORDS_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            stopping,
        }
    }

    /// Asks the appliance. A call that has begun is carried through, also when the client goes away.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Appliance) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.call_in(&self.calls, CALLS_MAX, question).await
    }

    /// Asks for health, in a place of its own: it is answered also when all other calls wait for something.
    pub(crate) async fn call_for_health<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Appliance) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.call_in(&self.health_calls, HEALTH_CALLS_MAX, question).await
    }

    /// Has what became of a command recorded, and returns when it is.
    pub(crate) async fn record(&self, event: Event) {
        let Ok(place) = self.records.clone().acquire_owned().await else {
            return;
        };
        let appliance = self.appliance.clone();
        let recorded = tokio::task::spawn_blocking(move || {
            appliance.command_ended(event);
            drop(place);
        });
        if recorded.await.is_err() {
            log::error!("rest: what became of a command could not be recorded: a fault of the daemon");
        }
    }

    async fn call_in<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        places_max: usize,
        question: impl FnOnce(&dyn Appliance) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = timeout(CALL_WAIT, places.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::new(
                ProblemKind::Unavailable,
                "busy",
                format!(
                    "the appliance is busy: {places_max} requests are being carried out and none has ended in time"
                ),
                "try again in a minute; palisade health tells what they wait for",
            ));
        };
        let appliance = self.appliance.clone();
        let called = tokio::task::spawn_blocking(move || {
            let answer = question(&*appliance);
            drop(turn);
            answer
        });
        called.await.map_err(|_| {
            Problem::new(
                ProblemKind::Internal,
                "internal",
                "the request met a fault of the daemon and was given up",
                "the log says more (journalctl -u palisaded); please report it",
            )
        })
    }
}
