//! Counters, read once, and written as text for Prometheus.

use std::time::Duration;

/// All counters of the node at one moment. Names of operations, statuses and faults are those of the data path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsSnapshot {
    /// Version of the daemon.
    pub version: String,
    /// The node's permanent id.
    pub node: String,
    /// How old what is said of disks, volumes and attachments is; zero when it is of now.
    pub state_age: Duration,
    /// 0 ok, 1 degraded, 2 failed.
    pub health: u8,
    /// What is wrong: (code, subject, times seen).
    pub findings: Vec<(String, String, u64)>,
    /// Number of the configuration agreed on.
    pub generation: u64,
    /// Number of the configuration in force.
    pub applied: u64,
    /// Every reactor.
    pub reactors: Vec<ReactorSample>,
    /// Every attachment, summed over reactors.
    pub attachments: Vec<AttachmentSample>,
    /// What all attachments together have of what they may have.
    pub shares: Vec<ShareSample>,
    /// Every disk, summed over reactors.
    pub disks: Vec<DiskSample>,
    /// Every volume.
    pub volumes: Vec<VolumeSample>,
    /// Heartbeats since the start, by what became of them; empty on a node that is in no cluster of several.
    pub heartbeats: Vec<(&'static str, u64)>,
    /// Connections between nodes and machines that wanted to join, refused since the start, by the reason.
    pub node_refusals: Vec<(&'static str, u64)>,
    /// Every other node of the cluster.
    pub members: Vec<MemberSample>,
}

/// Another node of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberSample {
    /// Its name.
    pub member: String,
    /// Whether it is a member that counts: joining nodes and evicted ones are not.
    pub active: bool,
    /// Whether it is heard and hears.
    pub heard: bool,
    /// Links to it over which there is a connection.
    pub links: u64,
    /// How long ago it was heard last; none when it never was.
    pub age: Option<Duration>,
}

/// One reactor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReactorSample {
    /// Its number.
    pub index: u16,
    /// Turns of the loop.
    pub turns: u64,
    /// Turns that found work.
    pub busy_turns: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Slots in use now.
    pub slots_used: u64,
    /// Turns in which a queue had to wait for a slot.
    pub slots_short: u64,
    /// Waits of an operation for a bounce buffer.
    pub pool_short: u64,
    /// Requests that wait for a decision about their volume.
    pub parked: u64,
    /// Times a disk was stopped because it had refused this node.
    pub fenced_devices: u64,
    /// Commands on volumes that were older than what was known, and changed nothing.
    pub stale_commands: u64,
    /// Turns with work that lasted longer than 100 ms of wall time.
    pub slow_turns: u64,
}

/// One attachment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttachmentSample {
    /// Its id.
    pub attachment: String,
    /// The volume it offers.
    pub volume: String,
    /// Whether a VMM is connected.
    pub connected: bool,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Those of them that are parked.
    pub parked: u64,
    /// Requests refused.
    pub refused: u64,
    /// What was counted at its rings, by name.
    pub rings: Vec<(&'static str, u64)>,
    /// Requests whose start waited for the limit.
    pub throttled: u64,
    /// Time in ns for which its discards and writes of zeroes were on files and block devices.
    pub ranges_ns: u64,
    /// Operations that went through a bounce buffer.
    pub bounced: u64,
    /// Connections taken.
    pub sessions: u64,
    /// Messages of its VMM that were refused.
    pub messages_refused: u64,
    /// What its VMM sent too fast and had to wait for: "message", "connection".
    pub held: Vec<(&'static str, u64)>,
    /// How often its guest's memory has kept a reactor waiting.
    pub stalls: u64,
    /// How often a session was cut off for that.
    pub cut_off: u64,
    /// What it has of what it may have.
    pub shares: Vec<ShareSample>,
    /// What was done.
    pub operations: Vec<OperationSample>,
    /// Faults of devices that its requests met, by name.
    pub faults: Vec<(&'static str, u64)>,
}

/// What somebody has of something, and may have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareSample {
    /// Of what, as REST calls it.
    pub of: String,
    /// How much it has.
    pub used: u64,
    /// How much it may have.
    pub limit: u64,
}

/// One operation of one attachment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperationSample {
    /// `read`, `write`, `flush`, `discard` or `write_zeroes`.
    pub operation: &'static str,
    /// Requests answered with success.
    pub ok: u64,
    /// Requests answered with an I/O error.
    pub io_err: u64,
    /// Requests answered as unsupported.
    pub unsupp: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// How long those took whose time is known.
    pub latency: LatencySample,
}

/// A latency histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencySample {
    /// (Exclusive upper bound in ns, requests in this bucket alone), bounds rising; the last bound may be `u64::MAX`.
    pub buckets: Vec<(u64, u64)>,
    /// Sum of all latencies in ns.
    pub sum_ns: u64,
}

impl LatencySample {
    /// Requests counted.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The bound in ns below which `permille` of 1000 requests lie, if there are any.
    pub fn quantile_ns(&self, permille: u64) -> Option<u64> {
        let count = self.count();
        let wanted = (u128::from(count) * u128::from(permille.min(1000)))
            .div_ceil(1000)
            .max(1);
        let mut seen = 0u128;
        for (bound, in_bucket) in &self.buckets {
            seen += u128::from(*in_bucket);
            if seen >= wanted {
                return Some(*bound);
            }
        }
        None
    }
}

/// One disk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskSample {
    /// Its id.
    pub disk: String,
    /// Whether it works.
    pub online: bool,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes not given to volumes.
    pub free_bytes: u64,
    /// Operations finished.
    pub finished: u64,
    /// Operations in flight now.
    pub in_flight: u64,
    /// Age in ns of the oldest operation in flight; 0 when none.
    pub oldest_ns: u64,
    /// Times the stall watch found it past its deadline.
    pub stalls: u64,
    /// Faults, by name.
    pub faults: Vec<(&'static str, u64)>,
}

/// One volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeSample {
    /// Its id.
    pub volume: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes that guests see.
    pub usable_bytes: u64,
    /// Bytes that are still to be cleared.
    pub uncleared_bytes: u64,
}
