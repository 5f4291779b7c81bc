//! Counters as text for Prometheus (its text format 0.0.4), which every program that scrapes and `promtool` of every
//! version read.

use crate::metrics::{
    AttachmentSample, DiskSample, LatencySample, MemberSample, MetricsSnapshot, ReactorSample, ShareSample,
    VolumeSample,
};
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// The media type of [`text`].
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What all names begin with.
const PREFIX: &str = "palisade_";

/// Writes a snapshot.
///
/// # Errors
/// A metric without a name or a sample, which the page does not take.
pub(crate) fn text(snapshot: &MetricsSnapshot) -> Result<String, prometheus::Error> {
    let mut page = Page::default();
    snapshot.write(&mut page);
    TextEncoder::new().encode_to_string(&page.families)
}

/// Metrics, one after the other.
#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    /// A metric with its samples; without any there is nothing to say of it.
    fn put(&mut self, name: String, help: &str, kind: MetricType, samples: Vec<Metric>) {
        if samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name);
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(samples);
        self.families.push(family);
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;
type Series<'a> = Vec<(Labels<'a>, u64)>;

impl MetricsSnapshot {
    fn write(&self, out: &mut Page) {
        let build = vec![("version", self.version.as_str()), ("node", self.node.as_str())];
        gauge(out, "build_info", "The daemon", vec![(build, 1)]);
        number(
            out,
            "health",
            "0 ok, 1 degraded, 2 failed",
            u64::from(self.health),
        );
        gauge_of(
            out,
            "state_age_seconds",
            "0 when what is said here of disks, volumes and attachments is of now; else how old it is: the state of the node cannot be read",
            vec![(Vec::new(), self.state_age.as_secs_f64())],
        );
        number(
            out,
            "generation",
            "Number of the configuration agreed on",
            self.generation,
        );
        number(
            out,
            "generation_applied",
            "Number of the configuration in force",
            self.applied,
        );
        let findings = self.findings.iter().map(|(code, subject, count)| {
            let labels = vec![("code", code.as_str()), ("subject", subject.as_str())];
            // One that lasts and is not counted is there all the same.
            (labels, (*count).max(1))
        });
        gauge(
            out,
            "findings",
            "What is wrong now: times seen since it began",
            findings.collect(),
        );
        reactors(out, &self.reactors);
        disks(out, &self.disks);
        volumes(out, &self.volumes);
        attachments(out, &self.attachments);
        totals(out, &self.shares);
        members(out, &self.members);
        let refusals = self.node_refusals.iter();
        let refusals = refusals.map(|(reason, count)| (vec![("reason", *reason)], *count));
        counter(
            out,
            "node_refusals",
            "Connections between nodes, and machines that wanted to join, that were refused",
            refusals.collect(),
        );
        let heartbeats = self.heartbeats.iter();
        let heartbeats = heartbeats.map(|(result, count)| (vec![("result", *result)], *count));
        counter(
            out,
            "heartbeats",
            "Heartbeats: heard, refused (of an earlier run, of a copy of a node, late), nonsense (its connection was closed), turned_away (connections that nobody looked at), held_up \
             (not sent, as earlier ones had not left yet)",
            heartbeats.collect(),
        );
        operations(out, &self.attachments)
    }
}

fn reactors(out: &mut Page, reactors: &[ReactorSample]) {
    let names: Vec<String> = reactors.iter().map(|reactor| reactor.index.to_string()).collect();
    let each = |value: fn(&ReactorSample) -> u64| -> Series<'_> {
        let labelled = names.iter().zip(reactors);
        labelled
            .map(|(name, reactor)| (vec![("reactor", name.as_str())], value(reactor)))
            .collect()
    };
    counter(
        out,
        "reactor_turns",
        "Turns of the loop",
        each(|reactor| reactor.turns),
    );
    counter(
        out,
        "reactor_busy_turns",
        "Turns that found work",
        each(|reactor| reactor.busy_turns),
    );
    counter(
        out,
        "reactor_sleeps",
        "Times it went to sleep",
        each(|reactor| reactor.sleeps),
    );
    gauge(
        out,
        "reactor_slots_used",
        "Requests in flight",
        each(|reactor| reactor.slots_used),
    );
    counter(
        out,
        "reactor_slots_short",
        "Turns that waited for a slot",
        each(|reactor| reactor.slots_short),
    );
    counter(
        out,
        "reactor_pool_short",
        "Operations that had to wait for a bounce buffer",
        each(|reactor| reactor.pool_short),
    );
    gauge(
        out,
        "reactor_parked",
        "Requests that wait for a decision about their volume",
        each(|reactor| reactor.parked),
    );
    counter(
        out,
        "reactor_fenced_devices",
        "Times a disk was stopped because it had refused this node",
        each(|reactor| reactor.fenced_devices),
    );
    counter(
        out,
        "reactor_stale_commands",
        "Commands on volumes that were older than what was known, and changed nothing",
        each(|reactor| reactor.stale_commands),
    );
    counter(
        out,
        "reactor_slow_turns",
        "Turns with work that lasted longer than 100 ms of wall time",
        each(|reactor| reactor.slow_turns),
    )
}

fn members(out: &mut Page, members: &[MemberSample]) {
    let each = |value: fn(&MemberSample) -> u64| -> Series<'_> {
        let labelled = members.iter();
        labelled
            .map(|member| (vec![("member", member.member.as_str())], value(member)))
            .collect()
    };
    gauge(
        out,
        "member_active",
        "1 for a node that is a member; 0 while it joins, and after it was given up",
        each(|member| member.active.into()),
    );
    gauge(
        out,
        "member_heard",
        "1 for a node that is heard and hears",
        each(|member| member.heard.into()),
    );
    gauge(
        out,
        "member_links",
        "Links to a node over which there is a connection",
        each(|member| member.links),
    );
    let ages = members.iter().filter_map(|member| {
        let labels = vec![("member", member.member.as_str())];
        Some((labels, member.age?.as_secs_f64()))
    });
    gauge_of(
        out,
        "member_heard_age_seconds",
        "How long ago a node was heard last",
        ages.collect(),
    );
}

fn volumes(out: &mut Page, volumes: &[VolumeSample]) {
    let each = |value: fn(&VolumeSample) -> u64| -> Series<'_> {
        volumes
            .iter()
            .map(|volume| (vec![("volume", volume.volume.as_str())], value(volume)))
            .collect()
    };
    gauge(out, "volume_size_bytes", "Size", each(|volume| volume.bytes));
    gauge(
        out,
        "volume_usable_bytes",
        "What guests see: less than the size while the rest is cleared",
        each(|volume| volume.usable_bytes),
    );
    gauge(
        out,
        "volume_uncleared_bytes",
        "Still to be cleared",
        each(|volume| volume.uncleared_bytes),
    )
}

fn disks(out: &mut Page, disks: &[DiskSample]) {
    let each = |value: fn(&DiskSample) -> u64| -> Series<'_> {
        disks
            .iter()
            .map(|disk| (vec![("disk", disk.disk.as_str())], value(disk)))
            .collect()
    };
    gauge(
        out,
        "disk_online",
        "1 when the disk works",
        each(|disk| u64::from(disk.online)),
    );
    gauge(out, "disk_size_bytes", "Size", each(|disk| disk.bytes));
    gauge(
        out,
        "disk_free_bytes",
        "Not given to volumes",
        each(|disk| disk.free_bytes),
    );
    counter(
        out,
        "disk_operations",
        "Operations finished",
        each(|disk| disk.finished),
    );
    gauge(
        out,
        "disk_in_flight",
        "Operations in flight",
        each(|disk| disk.in_flight),
    );
    counter(
        out,
        "disk_stalls",
        "Times an operation was past its deadline",
        each(|disk| disk.stalls),
    );
    let faults = disks.iter().flat_map(|disk| {
        let faults = disk.faults.iter();
        faults.map(|(fault, count)| (vec![("disk", disk.disk.as_str()), ("fault", *fault)], *count))
    });
    counter(out, "disk_faults", "Faults", faults.collect());
    let oldest = disks
        .iter()
        .map(|disk| (vec![("disk", disk.disk.as_str())], seconds(disk.oldest_ns)));
    gauge_of(
        out,
        "disk_oldest_seconds",
        "Age of the oldest operation in flight",
        oldest.collect(),
    );
}

fn attachments(out: &mut Page, attachments: &[AttachmentSample]) {
    let each = |value: fn(&AttachmentSample) -> u64| -> Series<'_> {
        attachments
            .iter()
            .map(|attachment| (names(attachment), value(attachment)))
            .collect()
    };
    gauge(
        out,
        "attachment_connected",
        "1 when a VMM is connected",
        each(|one| u64::from(one.connected)),
    );
    gauge(
        out,
        "attachment_in_flight",
        "Requests in flight",
        each(|one| one.in_flight),
    );
    gauge(
        out,
        "attachment_parked",
        "Requests in flight that are on no disk before somebody has decided",
        each(|one| one.parked),
    );
    counter(
        out,
        "attachment_refused",
        "Requests refused",
        each(|one| one.refused),
    );
    let rings = attachments.iter().flat_map(|attachment| {
        let rings = attachment.rings.iter();
        rings.map(|(event, count)| ([names(attachment), vec![("event", *event)]].concat(), *count))
    });
    counter(
        out,
        "attachment_ring_events",
        "What was counted at its rings: chains taken and returned, and what was wrong with them",
        rings.collect(),
    );
    counter(
        out,
        "attachment_throttled",
        "Requests that waited for the limit",
        each(|one| one.throttled),
    );
    let ranges = attachments
        .iter()
        .map(|attachment| (names(attachment), seconds(attachment.ranges_ns)));
    counter_of(
        out,
        "attachment_discard_seconds",
        "Time for which its discards and writes of zeroes were on files and block devices, several at once counted each",
        ranges.collect(),
    );
    counter(
        out,
        "attachment_bounced",
        "Operations through a bounce buffer",
        each(|one| one.bounced),
    );
    counter(
        out,
        "attachment_sessions",
        "Connections taken",
        each(|one| one.sessions),
    );
    counter(
        out,
        "attachment_messages_refused",
        "Messages of its VMM that were refused",
        each(|one| one.messages_refused),
    );
    let held = attachments.iter().flat_map(|attachment| {
        let held = attachment.held.iter();
        held.map(|(what, count)| ([names(attachment), vec![("what", *what)]].concat(), *count))
    });
    counter(
        out,
        "attachment_held",
        "Messages and connections of its VMM that came too fast and had to wait",
        held.collect(),
    );
    counter(
        out,
        "attachment_stalls",
        "Times that its guest's memory has kept a reactor waiting, and with it all that this one serves",
        each(|one| one.stalls),
    );
    counter(
        out,
        "attachment_cut_off",
        "Sessions that were cut off because the guest's memory kept a reactor waiting again and again",
        each(|one| one.cut_off),
    );
    let shares = |value: fn(&ShareSample) -> u64| -> Series<'_> {
        let mut all = Vec::new();
        for attachment in attachments {
            let shares = attachment.shares.iter();
            all.extend(shares.map(|share| (share_labels(names(attachment), share), value(share))));
        }
        all
    };
    gauge(
        out,
        "attachment_share_used",
        "What it has of something that it may not have without end",
        shares(|share| share.used),
    );
    gauge(
        out,
        "attachment_share_limit",
        "How much of it it may have",
        shares(|share| share.limit),
    );
    let faults = attachments.iter().flat_map(|attachment| {
        let faults = attachment.faults.iter();
        faults.map(|(fault, count)| ([names(attachment), vec![("fault", *fault)]].concat(), *count))
    });
    counter(
        out,
        "attachment_faults",
        "Faults of disks that its requests met",
        faults.collect(),
    )
}

fn share_labels<'a>(mut names: Labels<'a>, share: &'a ShareSample) -> Labels<'a> {
    names.push(("share", share.of.as_str()));
    names
}

fn totals(out: &mut Page, shares: &[ShareSample]) {
    let each = |value: fn(&ShareSample) -> u64| -> Series<'_> {
        let one = |share| (share_labels(Vec::new(), share), value(share));
        shares.iter().map(one).collect()
    };
    gauge(
        out,
        "share_used",
        "What all attachments together have of something",
        each(|share| share.used),
    );
    gauge(
        out,
        "share_limit",
        "How much of it they may have together",
        each(|share| share.limit),
    );
}

fn operations(out: &mut Page, attachments: &[AttachmentSample]) {
    let all = || {
        attachments.iter().flat_map(|attachment| {
            let operations = attachment.operations.iter();
            operations.map(move |one| {
                (
                    [names(attachment), vec![("operation", one.operation)]].concat(),
                    one,
                )
            })
        })
    };
    let answered = all().flat_map(|(labels, one)| {
        [("ok", one.ok), ("io_err", one.io_err), ("unsupp", one.unsupp)]
            .map(|(status, count)| ([labels.clone(), vec![("status", status)]].concat(), count))
    });
    counter(out, "requests", "Requests answered", answered.collect());
    let bytes = all().map(|(labels, one)| (labels, one.bytes)).collect();
    counter(out, "request_bytes", "Bytes moved", bytes);
    let latencies = all().map(|(labels, one)| {
        let mut metric = labelled(&labels);
        metric.set_histogram(histogram(&one.latency));
        metric
    });
    out.put(
        format!("{PREFIX}request_latency_seconds"),
        "Time from taking a request to its answer, of requests that were not answered in the turn that took them",
        MetricType::HISTOGRAM,
        latencies.collect(),
    );
}

fn names(attachment: &AttachmentSample) -> Labels<'_> {
    vec![
        ("attachment", attachment.attachment.as_str()),
        ("volume", attachment.volume.as_str()),
    ]
}

/// Upper bounds in ns of the buckets that are written: powers of two from 1 us to 34 s. The data path counts four times
/// as finely; each of these bounds is one of its bounds too, so nothing is blurred.
fn bounds_ns() -> impl Iterator<Item = u64> {
    (10..=35).map(|exponent| 1u64 << exponent)
}

fn histogram(latency: &LatencySample) -> Histogram {
    let mut fine = latency.buckets.iter().peekable();
    let mut below = 0u64;
    let bucket = |bound: f64, count: u64| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    // The last bucket, which holds all, is written by the encoder.
    let buckets: Vec<Bucket> = bounds_ns()
        .map(|bound| {
            while let Some((_, more)) = fine.next_if(|(upper, _)| *upper <= bound) {
                below = below.saturating_add(*more);
            }
            bucket(seconds(bound), below)
        })
        .collect();
    let mut histogram = Histogram::default();
    histogram.set_sample_sum(seconds(latency.sum_ns));
    histogram.set_sample_count(latency.count());
    histogram.set_bucket(buckets);
    histogram
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn labelled(labels: &[(&'static str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

/// A counter: its name ends in `_total`, by which Prometheus knows one.
fn counter(out: &mut Page, name: &str, help: &str, series: Series<'_>) {
    let series = series.into_iter().map(|(labels, value)| (labels, value as f64));
    counter_of(out, name, help, series.collect());
}

fn counter_of(out: &mut Page, name: &str, help: &str, series: Vec<(Labels<'_>, f64)>) {
    let samples = series.into_iter().map(|(labels, value)| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = labelled(&labels);
        metric.set_counter(counter);
        metric
    });
    out.put(
        format!("{PREFIX}{name}_total"),
        help,
        MetricType::COUNTER,
        samples.collect(),
    );
}

fn gauge(out: &mut Page, name: &str, help: &str, series: Series<'_>) {
    let series = series.into_iter().map(|(labels, value)| (labels, value as f64));
    gauge_of(out, name, help, series.collect());
}

fn gauge_of(out: &mut Page, name: &str, help: &str, series: Vec<(Labels<'_>, f64)>) {
    let samples = series.into_iter().map(|(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(&labels);
        metric.set_gauge(gauge);
        metric
    });
    out.put(
        format!("{PREFIX}{name}"),
        help,
        MetricType::GAUGE,
        samples.collect(),
    );
}

/// A gauge without labels.
fn number(out: &mut Page, name: &str, help: &str, value: u64) {
    gauge(out, name, help, vec![(Vec::new(), value)]);
}
