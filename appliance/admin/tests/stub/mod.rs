//! What stands behind the server where its tests are about HTTP alone: it shows what a test has put there, and refuses every
//! change but those of the cluster. What a node decides is asked of a whole one, in the tests of `assembly` and `ctl`.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod cluster;

use cluster::Asked;
use palisade_admin::{Appliance, DoorTrouble, EventLog, MetricsSnapshot};
use palisade_api::*;
use serde_json::json;
use std::sync::Mutex;

/// The permanent id of the node that is asked.
pub const NODE_ID: &str = "6f1c5a52-3d0e-4b0a-9d9c-3f4c2f1d9a11";

/// That of another one.
pub const OTHER_NODE_ID: &str = "7a2d6b63-4e1f-4c1b-8eac-4a5d3a2eab22";

/// What it shows.
pub struct Stub {
    pub events: EventLog,
    pub findings: Mutex<Vec<Finding>>,
    /// Numbers of disks.
    pub disks: Mutex<Vec<u32>>,
    pub metrics: Mutex<MetricsSnapshot>,
    /// All that was ever told of doors, in order.
    pub doors: Mutex<Vec<Vec<DoorTrouble>>>,
    /// What it says of the cluster.
    pub cluster: Mutex<ClusterStatus>,
    /// The tokens that let nodes in, without their texts.
    pub tokens: Mutex<Vec<JoinTokenSummary>>,
    /// Changes of the cluster that were asked for, in order.
    pub asked: Mutex<Vec<Asked>>,
    /// What became of commands, in order.
    pub recorded: Mutex<Vec<Event>>,
    /// What the next change of the cluster is answered with instead.
    pub refusal: Mutex<Option<Problem>>,
    /// Whether its node has a fault in it.
    pub is_faulty: bool,
}

impl Stub {
    pub fn new() -> Stub {
        Stub {
            events: EventLog::beginning_after(64, 1000).of_node(NODE_ID, "host-a"),
            findings: Mutex::default(),
            disks: Mutex::default(),
            metrics: Mutex::default(),
            doors: Mutex::default(),
            cluster: Mutex::new(cluster::of_two()),
            tokens: Mutex::default(),
            asked: Mutex::default(),
            recorded: Mutex::default(),
            refusal: Mutex::default(),
            is_faulty: false,
        }
    }

    /// With a fault in it.
    pub fn faulty() -> Stub {
        Stub {
            is_faulty: true,
            ..Stub::new()
        }
    }

    pub fn doors(&self) -> Vec<Vec<DoorTrouble>> {
        self.doors.lock().unwrap().clone()
    }
}

fn disk(number: u32) -> Disk {
    let disk = json!({
        "id": format!("disk-{number:02}"), "uuid": "", "null": { "bytes": 512 }, "usage": "whole", "bytes": 512,
        "free_bytes": 0, "block_bytes": 512, "condition": "online", "volumes": [], "in_flight": 0, "oldest_ms": 0,
        "faults": {}, "state": { "generation": 1, "applied": {} },
    });
    serde_json::from_value(disk).unwrap()
}

fn member() -> Member {
    Member {
        revision: cluster::REVISION,
        incarnation: 7,
        feature_level: 3,
        peer_addresses: vec!["192.0.2.1:7781".to_owned(), "198.51.100.1:7781".to_owned()],
        failure_domain: Some("rack-3".to_owned()),
        ..Member::default()
    }
}

fn refused<T>(what: &str) -> Result<T, Problem> {
    Err(Problem::not_found(what, "any"))
}

impl Appliance for Stub {
    fn nodes(&self) -> Vec<NodeSummary> {
        let node = |id: &str, name: &str| NodeSummary {
            id: id.to_owned(),
            name: name.to_owned(),
            answers: id == NODE_ID,
            addresses: vec![],
            member: member(),
        };
        let other = NodeSummary {
            addresses: vec!["https://192.0.2.2:7780".to_owned()],
            ..node(OTHER_NODE_ID, "host-b")
        };
        vec![node(NODE_ID, "host-a"), other]
    }

    fn node(&self) -> Node {
        assert!(!self.is_faulty, "a fault");
        Node {
            id: NODE_ID.to_owned(),
            name: "host-a".to_owned(),
            version: "0.1.0".to_owned(),
            kernel: "6.18.0".to_owned(),
            member: member(),
            epoch: 1,
            generation: 1,
            applied: 1,
            started_unix_ms: 1,
            pid: 4711,
            hugepages: Hugepages {
                page_bytes: 0,
                pool_bytes: 0,
                used_bytes: 0,
            },
            disk_folders: vec![],
        }
    }

    fn reactors(&self) -> Vec<Reactor> {
        vec![]
    }

    fn health(&self) -> Health {
        Health::of(self.findings.lock().unwrap().clone())
    }

    /// Not in the order of ids: the server sorts.
    fn cluster(&self) -> ClusterStatus {
        self.cluster.lock().unwrap().clone()
    }

    fn cluster_init(&self, request: ClusterInit) -> Result<ClusterStatus, Problem> {
        self.init(request)
    }

    fn cluster_join(&self, request: ClusterJoin) -> Result<ClusterJoined, Problem> {
        self.join(request)
    }

    fn join_tokens(&self) -> Vec<JoinTokenSummary> {
        self.tokens.lock().unwrap().clone()
    }

    fn join_token_create(&self, request: JoinTokenCreate) -> Result<JoinTokenMade, Problem> {
        self.token(request)
    }

    fn join_token_revoke(&self, id: &str) -> Result<(), Problem> {
        self.revoke(id)
    }

    fn node_change(
        &self,
        node: &str,
        patch: NodePatch,
        expected: Option<u64>,
    ) -> Result<NodeSummary, Problem> {
        self.change(node, patch, expected)
    }

    fn node_remove(
        &self,
        node: &str,
        expected: Option<u64>,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        self.remove(node, expected, how)
    }

    fn disks(&self) -> Vec<Disk> {
        self.disks.lock().unwrap().iter().copied().map(disk).collect()
    }

    fn disk_add(&self, _: DiskCreate) -> Result<Created<Disk>, Problem> {
        refused("disk")
    }

    fn disk_preview(&self, _: DiskCreate) -> Result<DiskPreview, Problem> {
        refused("disk")
    }

    fn disk_change(&self, _: &str, _: DiskPatch, _: Option<u64>) -> Result<Disk, Problem> {
        refused("disk")
    }

    fn disk_remove(&self, _: &str, _: Option<u64>, _: RemovalOptions) -> Result<Removal, Problem> {
        refused("disk")
    }

    fn disk_adopt(&self, _: &str, _: DiskAdopt) -> Result<DiskAdoption, Problem> {
        refused("disk")
    }

    fn disk_import(&self, _: DiskImport) -> Result<DiskImported, Problem> {
        refused("disk")
    }

    fn disks_relocate(&self, _: DiskRelocate) -> Result<DiskRelocated, Problem> {
        refused("disk")
    }

    fn state_backup(&self) -> StateBackup {
        StateBackup {
            taken_unix_s: 1,
            generation: 1,
            lineage: "0".repeat(32),
            file: "palisade state backup\n{}\n".to_owned(),
        }
    }

    fn volumes(&self) -> Vec<Volume> {
        vec![]
    }

    fn volume_create(&self, _: VolumeCreate) -> Result<Created<Volume>, Problem> {
        refused("disk")
    }

    fn volume_change(&self, _: &str, _: VolumePatch, _: Option<u64>) -> Result<Volume, Problem> {
        refused("volume")
    }

    fn volume_delete(&self, _: &str, _: Option<u64>, _: RemovalOptions) -> Result<Removal, Problem> {
        refused("volume")
    }

    fn attachments(&self) -> Vec<Attachment> {
        vec![]
    }

    fn attachment_create(&self, _: AttachmentCreate) -> Result<Created<Attachment>, Problem> {
        refused("volume")
    }

    fn attachment_change(&self, _: &str, _: AttachmentPatch, _: Option<u64>) -> Result<Attachment, Problem> {
        refused("attachment")
    }

    fn attachment_delete(&self, _: &str, _: Option<u64>, _: RemovalOptions) -> Result<Removal, Problem> {
        refused("attachment")
    }

    fn events_after(&self, after: &EventId, limit: usize) -> EventPage {
        let (number, is_foreign) = self.events.number_of(after);
        let page = self.events.after(number, limit);
        EventPage {
            lost: page.lost || is_foreign,
            ..page
        }
    }

    fn events_last(&self, count: usize) -> EventPage {
        self.events.last(count)
    }

    fn command_ended(&self, event: Event) {
        self.recorded.lock().unwrap().push(event);
    }

    fn metrics(&self) -> MetricsSnapshot {
        self.metrics.lock().unwrap().clone()
    }

    fn doors_seen(&self, wrong: &[DoorTrouble]) {
        self.doors.lock().unwrap().push(wrong.to_vec());
    }
}
