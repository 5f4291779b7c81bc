//! A cluster's authority, its nodes, and a clock that stands still.

use palisade_trust::{
    Acceptor, Authority, Connector, Credentials, NodeKey, Purpose, RefusalCounters, Roster,
};
use palisade_words::Uuid;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;
use std::time::Duration;

pub const NOW_S: u64 = 1_800_000_000;
pub const CLUSTER: Uuid = Uuid(0xc1);
pub const DEADLINE: Duration = Duration::from_secs(10);

/// It shows one time, in seconds since 1970.
#[derive(Debug)]
pub struct Clock(pub u64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

pub fn authority() -> Authority {
    Authority::create(CLUSTER, NOW_S).expect("chance is there")
}

/// A node of the authority's cluster, with a certificate of [`NOW_S`].
pub fn node(authority: &Authority, node: u128) -> Credentials {
    let key = NodeKey::generate().expect("chance is there");
    of_key(authority, node, key)
}

pub fn of_key(authority: &Authority, node: u128, key: NodeKey) -> Credentials {
    let request = key.request().expect("a key signs");
    let certificate = authority
        .sign(&request, Uuid(node), NOW_S)
        .expect("a good request");
    Credentials::new(Arc::new(key), certificate, authority.certificate().clone()).expect("they fit")
}

/// What a node knows and counts.
#[derive(Default)]
pub struct Known {
    pub roster: Arc<Roster>,
    pub counters: Arc<RefusalCounters>,
}

impl Known {
    pub fn connector(&self, own: &Credentials, now_s: u64) -> Connector {
        let connector = Connector::new(own.clone(), Arc::clone(&self.roster), Arc::clone(&self.counters));
        connector.with_clock(Arc::new(Clock(now_s)))
    }

    pub fn acceptor(&self, own: &Credentials, served: &[Purpose], now_s: u64) -> Acceptor {
        let (roster, counters) = (Arc::clone(&self.roster), Arc::clone(&self.counters));
        Acceptor::new(own.clone(), served, roster, counters).with_clock(Arc::new(Clock(now_s)))
    }

    /// The codes that have been counted, each as often as it was.
    pub fn counted(&self) -> Vec<(&'static str, u64)> {
        self.counters.counted().filter(|(_, count)| *count > 0).collect()
    }
}
