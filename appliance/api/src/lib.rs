//! # api: what REST says
//!
//! Storey 0. The types that cross the administrative interface, their addresses, and what an error looks like:
//! shared by the server (`appliance/admin`), its clients (`tools/ctl`) and the description of the interface
//! (OpenAPI is derived from these types). Nothing here acts.
//!
//! It must never know HTTP libraries, the cluster model or how a request is carried out.
//!
//! What must hold:
//! - Requests refuse unknown fields; answers may gain fields, and clients ignore those they do not know.
//! - What a request must keep to by itself is a rule of its type ([`RequestBody`]).
//! - An id is chosen by the client and never an address. Sizes are in bytes, times in the unit their name ends in.
//! - "Agreed" is not "applied": every resource carries its [`State`].
//! - An error is a [`Problem`]: a stable code, a sentence, a remedy.
//!
//! Start reading at [`routes`], then [`volume`] as the smallest resource.

#![forbid(unsafe_code)]
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice)]

pub mod attachment;
pub mod calendar;
pub mod cluster;
pub mod disk;
pub mod disk_preview;
pub mod event;
pub mod finding;
pub mod health;
pub mod node;
pub mod page;
pub mod problem;
pub mod removal;
pub mod request_body;
pub mod routes;
pub mod size;
pub mod state;
pub mod state_backup;
pub mod takeover;
pub mod volume;

pub use attachment::{
    Attachment, AttachmentCreate, AttachmentPatch, Connection, ConnectionState, Limits, Mode, ModeError,
    OperationCounts, Queue, Share,
};
pub use cluster::{
    ClusterInit, ClusterJoin, ClusterJoined, ClusterMember, ClusterPart, ClusterStatus, JOIN_TOKEN_CHARS_MAX,
    JOIN_TOKEN_PREFIX, JOIN_TOKEN_WITHHELD, JoinTokenCreate, JoinTokenMade, JoinTokenSummary,
    MemberCondition, NODE_ADDRESSES_MAX, NodePatch, TOKEN_VALID_S, TOKEN_VALID_S_MAX, TOKEN_VALID_S_MIN,
};
pub use disk::{
    BlockMedium, Disk, DiskCondition, DiskCreate, DiskPatch, DiskPlace, DiskRelocate, DiskRelocated,
    DiskUsage, FileMedium, Medium, MemoryMedium, NullMedium, RelocatedDisk,
};
pub use disk_preview::{DiskPreview, PartitionFound, PooledFound};
pub use event::{
    Actor, CommandResult, CommandSource, Ending, Entrance, Event, EventId, EventIdError, EventPage, Severity,
};
pub use finding::{Clears, FindingKind, FindingRow};
pub use health::{Finding, Health, Overall, Probe};
pub use node::{Hugepages, Member, Membership, Node, NodeRole, NodeSummary, PollMode, Reactor};
pub use page::{PAGE_ITEMS, PAGE_ITEMS_MAX, Page};
pub use problem::{NodeToAsk, Problem, ProblemKind};
pub use removal::{Removal, RemovalOptions};
pub use request_body::RequestBody;
pub use state::{AppliedOn, Created, State};
pub use state_backup::StateBackup;
pub use takeover::{
    DiskAdopt, DiskAdoption, DiskImport, DiskImported, ImportMedium, ImportedDisk, ImportedVolume, Side,
    SideRefused, VolumeOverwritten, VolumePart,
};
pub use volume::{Clear, Clearing, Extent, Layout, Volume, VolumeCreate, VolumePatch};
