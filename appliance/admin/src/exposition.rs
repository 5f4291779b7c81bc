//! Counters as OpenMetrics text (OpenMetrics 1.0), which Prometheus reads.

use crate::metrics::{
    AttachmentSample, DiskSample, LatencySample, MetricsSnapshot, ReactorSample, VolumeSample,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// Writes a snapshot. It fails only when a formatter fails.
pub(crate) fn text(snapshot: MetricsSnapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("palisade");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

type Labels<'a> = Vec<(&'static str, &'a str)>;
type Series<'a> = Vec<(Labels<'a>, u64)>;

impl Collector for MetricsSnapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        info(out, &self.version, &self.node)?;
        number(
            out,
            "health",
            "0 ok, 1 degraded, 2 failed",
            u64::from(self.health),
        )?;
        number(
            out,
            "generation",
            "Number of the configuration agreed on",
            self.generation,
        )?;
        number(
            out,
            "generation_applied",
            "Number of the configuration in force",
            self.applied,
        )?;
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
        )?;
        let misbehaviour = self.misbehaviour.iter();
        let misbehaviour = misbehaviour
            .map(|(kind, count)| (vec![("kind", kind.as_str())], *count))
            .collect();
        counter(
            out,
            "misbehaviour",
            "Things guests, VMMs and clients did that they may not do",
            None,
            misbehaviour,
        )?;
        reactors(out, &self.reactors)?;
        disks(out, &self.disks)?;
        volumes(out, &self.volumes)?;
        attachments(out, &self.attachments)?;
        operations(out, &self.attachments)
    }
}

fn info(out: &mut DescriptorEncoder<'_>, version: &str, node: &str) -> fmt::Result {
    let mut metric = out.encode_descriptor("build", "The daemon", None, MetricType::Info)?;
    metric.encode_info(&[("version", version), ("node", node)].as_slice())
}

fn reactors(out: &mut DescriptorEncoder<'_>, reactors: &[ReactorSample]) -> fmt::Result {
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
        None,
        each(|reactor| reactor.turns),
    )?;
    counter(
        out,
        "reactor_busy_turns",
        "Turns that found work",
        None,
        each(|reactor| reactor.busy_turns),
    )?;
    counter(
        out,
        "reactor_sleeps",
        "Times it went to sleep",
        None,
        each(|reactor| reactor.sleeps),
    )?;
    gauge(
        out,
        "reactor_slots_used",
        "Requests in flight",
        each(|reactor| reactor.slots_used),
    )?;
    counter(
        out,
        "reactor_slots_short",
        "Turns that waited for a slot",
        None,
        each(|reactor| reactor.slots_short),
    )?;
    counter(
        out,
        "reactor_pool_short",
        "Operations that had to wait for a bounce buffer",
        None,
        each(|reactor| reactor.pool_short),
    )
}

fn volumes(out: &mut DescriptorEncoder<'_>, volumes: &[VolumeSample]) -> fmt::Result {
    let each = |value: fn(&VolumeSample) -> u64| -> Series<'_> {
        volumes
            .iter()
            .map(|volume| (vec![("volume", volume.volume.as_str())], value(volume)))
            .collect()
    };
    gauge(out, "volume_size_bytes", "Size", each(|volume| volume.bytes))?;
    gauge(
        out,
        "volume_usable_bytes",
        "What guests see: less than the size while the rest is cleared",
        each(|volume| volume.usable_bytes),
    )?;
    gauge(
        out,
        "volume_uncleared_bytes",
        "Still to be cleared",
        each(|volume| volume.uncleared_bytes),
    )
}

fn disks(out: &mut DescriptorEncoder<'_>, disks: &[DiskSample]) -> fmt::Result {
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
    )?;
    gauge(out, "disk_size_bytes", "Size", each(|disk| disk.bytes))?;
    gauge(
        out,
        "disk_free_bytes",
        "Not given to volumes",
        each(|disk| disk.free_bytes),
    )?;
    counter(
        out,
        "disk_operations",
        "Operations finished",
        None,
        each(|disk| disk.finished),
    )?;
    gauge(
        out,
        "disk_in_flight",
        "Operations in flight",
        each(|disk| disk.in_flight),
    )?;
    counter(
        out,
        "disk_stalls",
        "Times an operation was past its deadline",
        None,
        each(|disk| disk.stalls),
    )?;
    let faults = disks.iter().flat_map(|disk| {
        let faults = disk.faults.iter();
        faults.map(|(fault, count)| (vec![("disk", disk.disk.as_str()), ("fault", *fault)], *count))
    });
    counter(out, "disk_faults", "Faults", None, faults.collect())?;
    let mut metric = out.encode_descriptor(
        "disk_oldest",
        "Age of the oldest operation in flight",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    for disk in disks {
        let labels = [("disk", disk.disk.as_str())];
        metric
            .encode_family(&labels.as_slice())?
            .encode_gauge(&seconds(disk.oldest_ns))?;
    }
    Ok(())
}

fn attachments(out: &mut DescriptorEncoder<'_>, attachments: &[AttachmentSample]) -> fmt::Result {
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
    )?;
    gauge(
        out,
        "attachment_in_flight",
        "Requests in flight",
        each(|one| one.in_flight),
    )?;
    counter(
        out,
        "attachment_refused",
        "Requests refused",
        None,
        each(|one| one.refused),
    )?;
    let rings = attachments.iter().flat_map(|attachment| {
        let rings = attachment.rings.iter();
        rings.map(|(event, count)| ([names(attachment), vec![("event", *event)]].concat(), *count))
    });
    counter(
        out,
        "attachment_ring_events",
        "What was counted at its rings: chains taken and returned, and what was wrong with them",
        None,
        rings.collect(),
    )?;
    counter(
        out,
        "attachment_throttled",
        "Requests that waited for the limit",
        None,
        each(|one| one.throttled),
    )?;
    counter(
        out,
        "attachment_bounced",
        "Operations through a bounce buffer",
        None,
        each(|one| one.bounced),
    )?;
    counter(
        out,
        "attachment_sessions",
        "Connections taken",
        None,
        each(|one| one.sessions),
    )?;
    counter(
        out,
        "attachment_messages_refused",
        "Messages of its VMM that were refused",
        None,
        each(|one| one.messages_refused),
    )?;
    let faults = attachments.iter().flat_map(|attachment| {
        let faults = attachment.faults.iter();
        faults.map(|(fault, count)| ([names(attachment), vec![("fault", *fault)]].concat(), *count))
    });
    counter(
        out,
        "attachment_faults",
        "Faults of disks that its requests met",
        None,
        faults.collect(),
    )
}

fn operations(out: &mut DescriptorEncoder<'_>, attachments: &[AttachmentSample]) -> fmt::Result {
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
    counter(out, "requests", "Requests answered", None, answered.collect())?;
    let bytes = all().map(|(labels, one)| (labels, one.bytes)).collect();
    counter(out, "request", "Bytes moved", Some(&Unit::Bytes), bytes)?;
    let mut metric = out.encode_descriptor(
        "request_latency",
        "Time from taking a request to its answer",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (labels, one) in all() {
        let (sum, count, buckets) = histogram(&one.latency);
        metric
            .encode_family(&labels.as_slice())?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
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

/// (sum in seconds, count, buckets as (upper bound in seconds, count in this bucket alone)).
fn histogram(latency: &LatencySample) -> (f64, u64, Vec<(f64, u64)>) {
    let mut fine = latency.buckets.iter().peekable();
    let mut buckets: Vec<(f64, u64)> = bounds_ns()
        .map(|bound| {
            let mut count = 0u64;
            while let Some((_, more)) = fine.next_if(|(upper, _)| *upper <= bound) {
                count = count.saturating_add(*more);
            }
            (seconds(bound), count)
        })
        .collect();
    buckets.push((
        f64::INFINITY,
        fine.fold(0, |sum, (_, more)| sum.saturating_add(*more)),
    ));
    (seconds(latency.sum_ns), latency.count(), buckets)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn counter(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    series: Series<'_>,
) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (labels, value) in series {
        metric
            .encode_family(&labels.as_slice())?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, series: Series<'_>) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        metric.encode_family(&labels.as_slice())?.encode_gauge(&value)?;
    }
    Ok(())
}

/// A gauge without labels.
fn number(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}
