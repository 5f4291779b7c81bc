//! This node becomes the first of a cluster of several. What it serves goes on.

use crate::cluster::membership_file::{MembershipFile, MembershipFileError};
use crate::cluster::{ClusterError, Site};
use crate::problem;
use crate::shared::Shared;
use crate::unix_time::now_s;
use palisade_api::{Problem, ProblemKind};
use palisade_consensus::raft::{GrowthError, VoterId, grow};
use palisade_consensus::{ProposeError, Store};
use palisade_model::{ChangeNode, Command};
use palisade_trust::{Authority, AuthorityError, KeyDirectory, KeyDirectoryError};
use palisade_words::{Name, Uuid};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Why it has not become one. It goes on alone as before, and may be asked again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("{0}")]
    Propose(#[from] ProposeError),
    #[error("{0}")]
    Keys(#[from] KeyDirectoryError),
    #[error("the cluster's authority cannot be made: {0}")]
    Authority(#[from] AuthorityError),
    #[error("{0}")]
    Grow(#[from] crate::agreed::GrowError<Begun>),
    #[error("the node is not in its own cluster")]
    Stranger,
}

/// What can go wrong once the database is nobody's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Begun {
    #[error("{0}")]
    Growth(#[from] GrowthError),
    #[error("{0}")]
    Membership(#[from] MembershipFileError),
    #[error("{0}")]
    Cluster(#[from] ClusterError),
}

/// Makes it so.
///
/// # Errors
/// It goes on alone.
pub(crate) fn run(
    shared: &Arc<Shared>,
    addresses: Vec<SocketAddr>,
    failure_domain: Option<Name>,
) -> Result<(), Problem> {
    let _one = shared
        .becoming
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if shared.site.get().is_some() {
        return Ok(());
    }
    begin(shared, addresses, failure_domain).map_err(|error| match &error {
        InitError::Propose(error) => problem::of_proposal(error),
        _ => Problem::new(
            ProblemKind::Internal,
            "cluster_not_begun",
            format!("this node goes on alone, as it did: {error}"),
            "see to what stands in the way, and ask again: what was done already is gone on with",
        ),
    })
}

fn begin(
    shared: &Arc<Shared>,
    addresses: Vec<SocketAddr>,
    failure_domain: Option<Name>,
) -> Result<(), InitError> {
    let settings = &shared.settings;
    let cluster = shared.cluster();
    let node = cluster.nodes.get(&shared.name).ok_or(InitError::Stranger)?.uuid;
    shared.propose(Command::ChangeNode(ChangeNode {
        name: shared.name.clone(),
        addresses: Some(addresses.clone()),
        failure_domain,
        role: None,
        expected: None,
    }))?;
    keys(&settings.state_dir, cluster.id, node)?;
    let known = BTreeMap::from([(node, addresses)]);
    let file = MembershipFile::new(cluster.id, node, shared.name.clone(), known);
    let directory = settings.state_dir.clone();
    let mut opened = None;
    let site = &mut opened;
    let member = shared.agreed.grow(
        || {
            grow(&directory, VoterId(node))?;
            // From here on the directory is a member's, whatever is cut off.
            file.write(&directory)?;
            let made = Site::open(settings, &file)?;
            let member = made.start_member(settings, &file).map_err(ClusterError::from)?;
            member.begin().map_err(ClusterError::from)?;
            *site = Some(made);
            Ok(member)
        },
        || Store::open(&directory).ok().map(Arc::new),
    )?;
    if let Some(site) = opened {
        shared.site.set(Arc::clone(&site));
        site.begin(shared, &member);
    }
    shared.send(crate::message::ControlMessage::Changed);
    Ok(())
}

/// The authority of the cluster, and this node's certificate. What there is already is kept.
fn keys(directory: &Path, cluster: Uuid, node: Uuid) -> Result<(), InitError> {
    let keys = KeyDirectory::open(directory)?;
    let authority = match keys.authority(cluster)? {
        Some(authority) => authority,
        None => {
            let made = Authority::create(cluster, now_s())?;
            keys.keep_authority(&made)?;
            made
        }
    };
    if keys.credentials(cluster, node)?.is_none() {
        let request = keys.node_key()?.request()?;
        keys.keep_certificate(&authority.sign(&request, node, now_s())?)?;
    }
    Ok(())
}
