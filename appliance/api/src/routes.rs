//! Where everything is found. One definition, for the server and for its clients.

/// The daemon's configuration when nothing else is said; the command line looks into it for the socket.
pub const CONFIG_FILE: &str = "/etc/palisade/palisade.toml";
/// Folder of the daemon's sockets when nothing else is said.
pub const RUN_DIR: &str = "/run/palisade";
/// Name of the Unix socket of this interface, in the folder of the sockets. No attachment's own socket ends so.
pub const SOCKET_NAME: &str = "api.socket";
/// Where the daemon's TCP port is when nothing else is said.
pub const LISTEN: &str = "127.0.0.1:7780";

/// Stands for the node that is asked, in the place of a node's id.
pub const SELF: &str = "self";
/// All nodes.
pub const NODES: &str = "/v1/nodes";
/// One node. What is below this address is answered by that node alone.
pub const NODE: &str = "/v1/nodes/{node}";
/// The reactors of a node.
pub const REACTORS: &str = "/v1/nodes/{node}/reactors";
/// What is wrong on a node.
pub const HEALTH: &str = "/v1/nodes/{node}/health";
/// Whether the daemon makes progress: what a service manager asks, who restarts it if not. Needs no token.
pub const LIVE: &str = "/livez";
/// Whether what was agreed on is in force. Needs no token.
pub const READY: &str = "/readyz";
/// What happened; as server-sent events, or as JSON with `?format=json`.
pub const EVENTS: &str = "/v1/events";
/// The cluster: who belongs to it, and how it agrees.
pub const CLUSTER: &str = "/v1/cluster";
/// Makes the node that is asked the first of a cluster of several.
pub const CLUSTER_INIT: &str = "/v1/cluster/init";
/// Has the node that is asked join a cluster.
pub const CLUSTER_JOIN: &str = "/v1/cluster/join";
/// Tokens that let nodes in.
pub const JOIN_TOKENS: &str = "/v1/cluster/tokens";
/// One of them.
pub const JOIN_TOKEN: &str = "/v1/cluster/tokens/{id}";
/// All disks.
pub const DISKS: &str = "/v1/disks";
/// One disk.
pub const DISK: &str = "/v1/disks/{id}";
/// What adding a disk would find and do on a node.
pub const DISK_PREVIEW: &str = "/v1/nodes/{node}/disk-preview";
/// What a disk and the database know of each other, and which is to hold.
pub const DISK_ADOPT: &str = "/v1/disks/{id}/adopt";
/// Disks taken in with the volumes that their superblocks tell of.
pub const IMPORT: &str = "/v1/import";
/// Disks that have exchanged their paths, recorded where they are.
pub const RELOCATE: &str = "/v1/relocate";
/// The cluster database as a node has it, as a file.
pub const STATE_BACKUP: &str = "/v1/nodes/{node}/state/backup";
/// All volumes.
pub const VOLUMES: &str = "/v1/volumes";
/// One volume.
pub const VOLUME: &str = "/v1/volumes/{id}";
/// All attachments.
pub const ATTACHMENTS: &str = "/v1/attachments";
/// One attachment.
pub const ATTACHMENT: &str = "/v1/attachments/{id}";
/// Counters for Prometheus.
pub const METRICS: &str = "/metrics";
/// This interface, described (OpenAPI 3.1).
pub const OPENAPI: &str = "/openapi.json";
/// The same, browsable.
pub const DOCS: &str = "/docs";
/// The overview for people.
pub const PAGE: &str = "/";

/// An address below a node: that of the node of this id, or of [`SELF`].
pub fn at_node(address: &str, node: &str) -> String {
    address.replace("{node}", node)
}
