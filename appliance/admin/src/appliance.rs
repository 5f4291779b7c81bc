//! What stands behind the door: the appliance as an operator sees it.

use crate::metrics::MetricsSnapshot;
use palisade_api::{
    Attachment, AttachmentCreate, AttachmentPatch, ClusterInit, ClusterJoin, ClusterJoined, ClusterStatus,
    Created, Disk, DiskAdopt, DiskAdoption, DiskCreate, DiskImport, DiskImported, DiskPatch, DiskPreview,
    DiskRelocate, DiskRelocated, Event, EventId, EventPage, Health, JoinTokenCreate, JoinTokenMade,
    JoinTokenSummary, Node, NodePatch, NodeSummary, Problem, Reactor, Removal, RemovalOptions, StateBackup,
    Volume, VolumeCreate, VolumePatch,
};

/// Carries requests out. Implemented by the assembly.
///
/// The methods are called on threads that may block. None may wait for a change to be *applied*: they return once it
/// is agreed on, and [`State`](palisade_api::State) tells the rest.
///
/// `expected` is the generation that the client has seen (If-Match). When given, the implementation compares it with
/// the resource's present generation in the same step in which it changes the resource, and answers
/// [`Problem::changed`] when they differ.
pub trait Appliance: Send + Sync + 'static {
    /// All nodes of the cluster, in any order. Answered without waiting for anybody.
    fn nodes(&self) -> Vec<NodeSummary>;

    /// The node that is asked.
    fn node(&self) -> Node;

    /// Its reactors, in the order of their numbers.
    fn reactors(&self) -> Vec<Reactor>;

    /// What is wrong here.
    fn health(&self) -> Health;

    /// The cluster as this node knows it. Answered without waiting for anybody.
    fn cluster(&self) -> ClusterStatus;

    /// Makes this node the first of a cluster of several. Refused when it is in one; the same request again is answered with what
    /// there is. Never answered by naming another node to ask: there, it would be done to that one.
    fn cluster_init(&self, request: ClusterInit) -> Result<ClusterStatus, Problem>;

    /// Joins a cluster. Refused while the node has disks, volumes or attachments, or is in a cluster of several. The node starts
    /// anew as a member, within a moment after the answer. Never answered by naming another node to ask.
    fn cluster_join(&self, request: ClusterJoin) -> Result<ClusterJoined, Problem>;

    /// All tokens that let nodes in, in any order.
    fn join_tokens(&self) -> Vec<JoinTokenSummary>;

    /// Makes one. Its text is told this once, so that the same request again is refused:
    /// [`Problem::join_token_exists`].
    fn join_token_create(&self, request: JoinTokenCreate) -> Result<JoinTokenMade, Problem>;

    /// Takes one back. Who was let in by it stays. One that is not there: [`Problem::not_found`] of a "token".
    fn join_token_revoke(&self, id: &str) -> Result<(), Problem>;

    /// Changes where a node is, what it fails together with, or whether it has a vote. `node` is its name, or what was asked for
    /// where this node knows none of that id. `expected` is compared with [`Member::revision`](palisade_api::Member::revision).
    fn node_change(
        &self,
        node: &str,
        patch: NodePatch,
        expected: Option<u64>,
    ) -> Result<NodeSummary, Problem>;

    /// Takes a node out of the cluster that reaches no disk and offers no volume, or says what that would do; named as for
    /// [`Appliance::node_change`]. The generation of the [`Removal`] is the node's revision.
    fn node_remove(&self, node: &str, expected: Option<u64>, how: RemovalOptions)
    -> Result<Removal, Problem>;

    /// All disks, in any order.
    fn disks(&self) -> Vec<Disk>;

    /// One disk.
    fn disk(&self, id: &str) -> Option<Disk> {
        self.disks().into_iter().find(|disk| disk.id == id)
    }

    /// Adds a disk. The same request again gives [`Created::Existing`]; another request for a known id, [`Problem::exists`].
    fn disk_add(&self, request: DiskCreate) -> Result<Created<Disk>, Problem>;

    /// What [`Appliance::disk_add`] would find and do, by the same look at the medium. Nothing is changed: what it would
    /// refuse before it has looked is refused here too, and what it would refuse for what is found is told with it.
    fn disk_preview(&self, request: DiskCreate) -> Result<DiskPreview, Problem>;

    /// Lets a disk grow, looks at its size again, or changes its protection.
    fn disk_change(&self, id: &str, patch: DiskPatch, expected: Option<u64>) -> Result<Disk, Problem>;

    /// Gives a disk up, or says what that would do. Refused while volumes lie on it or it is protected; a dry run is
    /// refused likewise.
    fn disk_remove(&self, id: &str, expected: Option<u64>, how: RemovalOptions) -> Result<Removal, Problem>;

    /// Shows what a disk and the database know of each other, and takes a side if the request says so.
    fn disk_adopt(&self, id: &str, request: DiskAdopt) -> Result<DiskAdoption, Problem>;

    /// Takes disks in with the volumes that their superblocks tell of, or only says what that would bring.
    fn disk_import(&self, request: DiskImport) -> Result<DiskImported, Problem>;

    /// Records disks where they are that lie under each other's paths.
    fn disks_relocate(&self, request: DiskRelocate) -> Result<DiskRelocated, Problem>;

    /// The cluster database as a file.
    fn state_backup(&self) -> StateBackup;

    /// All volumes, in any order.
    fn volumes(&self) -> Vec<Volume>;

    /// One volume.
    fn volume(&self, id: &str) -> Option<Volume> {
        self.volumes().into_iter().find(|volume| volume.id == id)
    }

    /// Creates a volume. The same request again gives [`Created::Existing`]; another request for a known id,
    /// [`Problem::exists`].
    fn volume_create(&self, request: VolumeCreate) -> Result<Created<Volume>, Problem>;

    /// Lets a volume grow, or changes how it is treated.
    fn volume_change(&self, id: &str, patch: VolumePatch, expected: Option<u64>) -> Result<Volume, Problem>;

    /// Deletes a volume, or says what that would do. Refused while an attachment offers it or it is protected; a dry run
    /// is refused likewise.
    fn volume_delete(&self, id: &str, expected: Option<u64>, how: RemovalOptions)
    -> Result<Removal, Problem>;

    /// All attachments, in any order.
    fn attachments(&self) -> Vec<Attachment>;

    /// One attachment.
    fn attachment(&self, id: &str) -> Option<Attachment> {
        self.attachments()
            .into_iter()
            .find(|attachment| attachment.id == id)
    }

    /// Offers a volume. The same request again gives [`Created::Existing`]; another request for a known id,
    /// [`Problem::exists`].
    fn attachment_create(&self, request: AttachmentCreate) -> Result<Created<Attachment>, Problem>;

    /// Changes limits or the socket's rights.
    fn attachment_change(
        &self,
        id: &str,
        patch: AttachmentPatch,
        expected: Option<u64>,
    ) -> Result<Attachment, Problem>;

    /// Takes an attachment away, or says what that would do. Refused while a virtual machine is connected, unless forced;
    /// a dry run is refused likewise.
    fn attachment_delete(
        &self,
        id: &str,
        expected: Option<u64>,
        how: RemovalOptions,
    ) -> Result<Removal, Problem>;

    /// At most `limit` events after the one of id `after`, oldest first; see [`EventLog`](crate::EventLog). Number 0 asks for
    /// all that are kept, and so does an id that was never given, which is told that events were lost.
    fn events_after(&self, after: &EventId, limit: usize) -> EventPage;

    /// The last `count` events, oldest first; fewer when no more are kept.
    fn events_last(&self, count: usize) -> EventPage;

    /// Takes what became of an operator's command, and returns once that is on stable storage, or cannot be for now.
    fn command_ended(&self, event: Event);

    /// All counters, read once.
    fn metrics(&self) -> MetricsSnapshot;

    /// All that is wrong with the files by which this interface is reached. Told whenever that changes; nothing: all is
    /// well again.
    fn doors_seen(&self, wrong: &[DoorTrouble]);
}

/// What is wrong with the files by which the interface is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DoorTrouble {
    /// The Unix socket is not in its place.
    Socket {
        /// What is there, and why it cannot be made anew, if it cannot.
        message: String,
    },
    /// A token, certificate or key cannot be taken as it is now; those of before are in force.
    Keys {
        /// Which, why, and what to do.
        message: String,
    },
    /// The certificate in force is about to end, or is not valid.
    Certificate {
        /// Which of the two.
        state: CertificateState,
        /// Which certificate, and from when or until when it is valid.
        message: String,
    },
}

/// What there is to say of a certificate in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertificateState {
    /// It ends within two weeks, or a quarter of its time if that is less.
    Ends,
    /// It ends within two days, or a twentieth of its time if that is less.
    EndsSoon,
    /// It has ended or has not begun: clients do not take it.
    NotValid,
}
