//! Changes where others have to agree.

use super::*;
use palisade_consensus::Leader;
use palisade_model::{Kind, Refusal};
use std::collections::VecDeque;
use std::sync::Mutex;

/// What comes of a proposal.
#[derive(Debug)]
enum Fate {
    NotLeader(Option<Leader>),
    /// It is agreed on, and nobody is told.
    Unheard,
}

/// Agreement with others, over the files of this node.
#[derive(Debug)]
struct Others {
    store: Arc<Store>,
    fates: Mutex<VecDeque<Fate>>,
    /// What this node knows, if it is something else than the files.
    known: Mutex<Option<Arc<Cluster>>>,
}

impl Agreement for Others {
    fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        match self.fates.lock().unwrap().pop_front() {
            None => self.store.propose(command),
            Some(Fate::NotLeader(leader)) => Err(ProposeError::NotLeader { leader }),
            Some(Fate::Unheard) => self.store.propose(command).and(Err(ProposeError::OutcomeUnknown)),
        }
    }

    fn cluster(&self) -> Arc<Cluster> {
        let known = self.known.lock().unwrap().clone();
        known.unwrap_or_else(|| self.store.cluster())
    }
}

fn node(folder: &Path) -> (Rest, Door, Arc<Others>) {
    let mut others = None;
    let (rest, door) = still_node_agreeing(folder, "", |store| {
        let made = Arc::new(Others {
            store,
            fates: Mutex::default(),
            known: Mutex::default(),
        });
        others = Some(Arc::clone(&made));
        made
    });
    (rest, door, others.unwrap())
}

fn disk(rest: &Rest, id: &str) -> Result<Created<api::Disk>, Problem> {
    rest.disk_add(api::DiskCreate {
        node: None,
        id: id.into(),
        medium: api::Medium::Null(api::NullMedium { bytes: 1 << 30 }),
        usage: api::DiskUsage::Whole,
        block_bytes: None,
        force: false,
        volatile: false,
    })
}

#[test]
fn a_node_that_does_not_lead_says_who_does_and_finds_nothing_wrong_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door, others) = node(folder.path());
    let leader = Leader {
        node: Name::new("n2").unwrap(),
        addresses: vec!["https://192.0.2.2:7780".into()],
    };
    let fates = [Fate::NotLeader(Some(leader)), Fate::NotLeader(None)];
    others.fates.lock().unwrap().extend(fates);
    let known = disk(&rest, "d1").unwrap_err();
    assert_eq!((known.status(), &*known.code), (421, "not_leader"));
    let ask = known.ask.unwrap();
    assert_eq!(
        (ask.node.as_str(), &*ask.addresses),
        ("n2", &["https://192.0.2.2:7780".to_owned()][..])
    );
    let unknown = disk(&rest, "d1").unwrap_err();
    assert_eq!((unknown.status(), unknown.retry_after_s), (503, Some(1)));
    let findings = rest.health().findings;
    let told = |code: &str| findings.iter().any(|finding| finding.code == code);
    assert!(
        !told("database_halted") && !told("state_misplaced"),
        "{findings:?}"
    );
    assert!(matches!(disk(&rest, "d1"), Ok(Created::New(_))));
}

#[test]
fn a_change_whose_outcome_is_not_known_is_there_when_it_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door, others) = node(folder.path());
    others.fates.lock().unwrap().push_back(Fate::Unheard);
    let unknown = disk(&rest, "d1").unwrap_err();
    assert_eq!((unknown.status(), unknown.retry_after_s), (504, Some(1)));
    assert!(matches!(disk(&rest, "d1"), Ok(Created::Existing(_))));
}

/// Where a start cannot be told at once, the others may take the node out of the cluster meanwhile.
#[test]
fn a_node_that_is_no_member_any_more_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door, others) = node(folder.path());
    let shared = shared_of(&rest);
    let mut without = Cluster::clone(&others.store.cluster());
    without.nodes.clear();
    *others.known.lock().unwrap() = Some(Arc::new(without));
    let told = crate::started::tell(&shared);
    let name = shared.name.clone();
    let refusal = Refusal::NotFound {
        kind: Kind::Node,
        name,
    };
    assert_eq!(told, Err(ProposeError::Refused(refusal)));
}
