//! Nodes join: what a node of the cluster answers to one that asks, and what one does that is let in.

use crate::cluster::membership_file::MembershipFile;
use crate::cluster::way::reach;
use crate::config::Settings;
use crate::shared::Shared;
use crate::unix_time::now_s;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{Cluster, FEATURE_LEVEL};
use palisade_trust::join::codec::{JoinFrame, REQUEST_FRAME_BYTES_MAX};
use palisade_trust::join::conversation::{ask, read_frame, write_frame};
use palisade_trust::join::joiner::{JoinedNode, Joiner};
use palisade_trust::join::judge::{JoinVerdict, grant, judge, no_authority, renew};
use palisade_trust::join::message::JoinRequest;
use palisade_trust::{Caller, Connector, KeyDirectory, TokenText};
use palisade_words::{Name, Uuid};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a question may take to come, and its answer to be taken.
const FRAME_WAIT: Duration = Duration::from_secs(5);

/// How long the cluster is waited for: a change has to be agreed on.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// How long one address is tried.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// What is to be known of a node that joins.
#[derive(Clone, Debug)]
pub(crate) struct Applicant {
    pub(crate) node: Uuid,
    pub(crate) name: Name,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) failure_domain: Option<Name>,
}

/// Answers one question on a connection.
pub(super) async fn answer<S>(mut stream: S, caller: Caller, shared: &Arc<Shared>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let asked = read_frame(&mut stream, REQUEST_FRAME_BYTES_MAX, FRAME_WAIT).await;
    let asked = asked.map_err(io::Error::other)?;
    let for_thread = Arc::clone(shared);
    let answered = tokio::task::spawn_blocking(move || match asked {
        JoinFrame::Join(request) => Some(let_in(&for_thread, &request)),
        JoinFrame::Renew(request) => {
            let Caller::Node(peer, _) = caller else {
                return None;
            };
            let cluster = for_thread.cluster();
            let renewed = authority(&for_thread, &cluster)
                .and_then(|authority| renew(&request, peer, &cluster, &authority, now_s()));
            Some(renewed.map(JoinFrame::Renewed))
        }
        // Nobody asks these.
        JoinFrame::Granted(_) | JoinFrame::Refused(_) | JoinFrame::Renewed(_) => None,
    });
    let answered = answered.await.map_err(io::Error::other)?;
    let frame = match answered {
        None => return Ok(()),
        Some(Ok(frame)) => frame,
        Some(Err(verdict)) => {
            log::warn!("a machine is not let in: {verdict}");
            if let Some(site) = shared.site.get() {
                site.refusals().count_join(&verdict);
            }
            JoinFrame::Refused(verdict.told())
        }
    };
    write_frame(&mut stream, &frame, FRAME_WAIT)
        .await
        .map_err(io::Error::other)
}

/// Lets a machine in, which blocks until that is agreed on.
fn let_in(shared: &Shared, request: &JoinRequest) -> Result<JoinFrame, JoinVerdict> {
    let cluster = shared.cluster();
    let command = judge(request, &cluster, now_s())?;
    // One that cannot sign lets nobody in whom it could give no certificate.
    let authority = authority(shared, &cluster)?;
    match shared.propose(command) {
        Ok(_) => {}
        Err(palisade_consensus::ProposeError::Refused(refusal)) => {
            return Err(JoinVerdict::Refused { refusal });
        }
        Err(error) => {
            log::warn!("a machine that joins waits for the cluster: {error}");
            return Err(JoinVerdict::NotAgreed);
        }
    }
    let granted = grant(request, &shared.cluster(), &authority, now_s())?;
    log::info!("node {} is let in", request.name);
    Ok(JoinFrame::Granted(granted))
}

fn authority(shared: &Shared, cluster: &Cluster) -> Result<palisade_trust::Authority, JoinVerdict> {
    let keys = KeyDirectory::open(&shared.settings.state_dir);
    let authority = keys.and_then(|keys| keys.authority(cluster.id));
    match authority {
        Ok(Some(authority)) => Ok(authority),
        Ok(None) => Err(no_authority(cluster)),
        Err(error) => {
            log::error!("{error}");
            Err(no_authority(cluster))
        }
    }
}

/// Asks a cluster to let this machine in, and keeps what it grants. The node is one of several from its next start on.
///
/// # Errors
/// It is not let in, and nothing has changed.
pub(crate) fn run(
    settings: &Settings,
    own: &Cluster,
    peers: &[SocketAddr],
    token: &TokenText,
    applicant: Applicant,
) -> Result<MembershipFile, Problem> {
    let refused = |code: &'static str, message: String, remedy: &str| {
        Problem::new(ProblemKind::Conflict, code, message, remedy.to_owned())
    };
    let internal = |error: String| {
        Problem::new(
            ProblemKind::Internal,
            "join_failed",
            format!("this node has not joined: {error}"),
            "see to what stands in the way, and join again: the token stays good for this machine",
        )
    };
    let keys = KeyDirectory::open(&settings.state_dir).map_err(|error| internal(error.to_string()))?;
    let key = Arc::new(keys.node_key().map_err(|error| internal(error.to_string()))?);
    let request = JoinRequest {
        secret: token.secret().clone(),
        node: applicant.node,
        name: applicant.name.clone(),
        addresses: applicant.addresses.clone(),
        failure_domain: applicant.failure_domain.clone(),
        feature_level: FEATURE_LEVEL,
        certificate_request: Vec::new(),
        disks: own.disks.len() as u32,
        volumes: own.volumes.len() as u32,
        attachments: own.attachments.len() as u32,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal(error.to_string()))?;
    let mut last = "no address was named".to_owned();
    for peer in peers {
        let begun = Joiner::begin(token.clone(), Arc::clone(&key), request.clone());
        let (joiner, question) = begun.map_err(|error| internal(error.to_string()))?;
        let answer = match runtime.block_on(asked(*peer, token, &question)) {
            Ok(answer) => answer,
            Err(error) => {
                last = format!("{peer}: {error}");
                continue;
            }
        };
        let joined = joiner.answered(answer).map_err(|error| {
            refused(
                "join_refused",
                error.to_string(),
                "see what the cluster says, and ask again",
            )
        })?;
        return keep(settings, &keys, &joined, &applicant).map_err(internal);
    }
    Err(Problem::new(
        ProblemKind::Unavailable,
        "join_no_answer",
        format!("no node of the cluster could be asked; the last one tried was {last}"),
        "see that the address is that of the cluster's nodes (`palisade cluster status` there) and can be reached from here",
    ))
}

async fn asked(peer: SocketAddr, token: &TokenText, question: &JoinFrame) -> io::Result<JoinFrame> {
    let stream = reach(peer, CONNECT_WAIT).await?;
    let connector = Connector::of_joiner(Arc::default());
    let secured = connector
        .connect_to_join(stream, token.authority(), FRAME_WAIT)
        .await;
    let (mut stream, _) = secured.map_err(io::Error::other)?;
    ask(&mut stream, question, ANSWER_WAIT)
        .await
        .map_err(io::Error::other)
}

/// Keeps what was granted: the authority, the certificate, and last of all that this node is one of several.
fn keep(
    settings: &Settings,
    keys: &KeyDirectory,
    joined: &JoinedNode,
    applicant: &Applicant,
) -> Result<MembershipFile, String> {
    let text = |error: palisade_trust::KeyDirectoryError| error.to_string();
    match &joined.authority {
        Some(authority) => keys.keep_authority(authority).map_err(text)?,
        None => keys
            .keep_authority_certificate(joined.credentials.authority())
            .map_err(text)?,
    }
    keys.keep_certificate(joined.credentials.certificate())
        .map_err(text)?;
    let nodes = joined.nodes.iter();
    let nodes: BTreeMap<Uuid, Vec<SocketAddr>> =
        nodes.map(|node| (node.node, node.addresses.clone())).collect();
    let identity = joined.credentials.identity();
    let file = MembershipFile::new(identity.cluster, identity.node, applicant.name.clone(), nodes);
    file.write(&settings.state_dir)
        .map_err(|error| error.to_string())?;
    Ok(file)
}
