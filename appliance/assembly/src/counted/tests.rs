//! Findings that come from counters, and when each is over.

use super::*;
use palisade_admin::EventLog;
use palisade_block::stats::DeviceStats;
use palisade_model::{Attachment, Extent, Layout, Limits, Volume};
use palisade_sys::{DeviceSpec, Opened};
use palisade_words::{Generation, Uuid};
use std::sync::Arc;

struct Rig {
    counted: Counted,
    cluster: Cluster,
    state: LocalState,
    findings: Findings,
    stats: Arc<DeviceStats>,
    now: Instant,
}

impl Rig {
    fn new() -> Rig {
        let spec = DeviceSpec {
            medium: palisade_sys::DeviceMedium::Null { bytes: 1 << 20 },
            block_bytes: 512,
            read_only: false,
        };
        let stats = Arc::new(DeviceStats::default());
        let open = OpenDisk {
            index: DeviceIndex(0),
            opened: Arc::new(Opened::open(&spec, Duration::ZERO).unwrap()),
            stats: vec![Arc::clone(&stats), Arc::default()],
            sight: Default::default(),
            replacement: None,
        };
        let mut state = LocalState::knowing(palisade_control::NodeState::default());
        state.disks.insert(Name::new("d1").unwrap(), open);
        let findings = Findings::new(Arc::new(EventLog::beginning_after(100, 0)));
        Rig {
            counted: Counted::default(),
            cluster: Cluster::empty(),
            state,
            findings,
            stats,
            now: Instant::now(),
        }
    }

    fn offers(&mut self, called: &str, index: u16) {
        let insert = |state: &mut palisade_control::NodeState| {
            state.attachments.insert(name(called), offered(index));
        };
        self.state.learns(insert);
    }

    fn fails(&self, fault: Fault) {
        self.stats.finished.add(1);
        self.stats.failed(fault);
    }

    fn look(&mut self, after: Duration) -> Vec<String> {
        self.now += after;
        self.counted
            .look(&self.cluster, &self.state, &|_| None, &self.findings, self.now);
        self.findings
            .list()
            .into_iter()
            .map(|finding| finding.code)
            .collect()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The attachment of volume v1, on one reactor.
fn wanted() -> Attachment {
    Attachment {
        uuid: Uuid(31),
        volume: name("v1"),
        node: name("n1"),
        socket: "/run/a.sock".into(),
        queues: 1,
        queue_size: 256,
        owner: None,
        group: None,
        mode: 0o660,
        read_only: false,
        serial: "1".into(),
        limits: Limits::default(),
        write_cache: true,
        created: Generation(4),
        revision: Generation(4),
    }
}

/// Volume v1, on disk d1.
fn volume() -> Volume {
    let extents = vec![Extent {
        disk: name("d1"),
        disk_lba: 0,
        sectors: 8,
    }];
    Volume {
        uuid: Uuid(1),
        sectors: 8,
        block_bytes: 512,
        layout: Layout::Linear { extents },
        created: Generation(3),
        revision: Generation(3),
        layout_revision: None,
        clear: None,
        clearing: None,
        deleting: false,
        protected: false,
    }
}

fn offered(index: u16) -> Offered {
    Offered::new(
        (AttachmentIndex(index), palisade_control::TaskId(u64::from(index))),
        palisade_words::VolumeIndex(0),
        &wanted(),
        1,
        0,
    )
}

#[test]
fn that_there_is_no_space_ends_with_the_last_attachment_that_met_it() {
    let mut rig = Rig::new();
    rig.cluster.volumes.insert(name("v1"), volume());
    for (index, called) in [(0, "a"), (1, "b"), (2, "c")] {
        rig.cluster.attachments.insert(name(called), wanted());
        rig.offers(called, index);
    }
    let takes_away = |rig: &mut Rig, called: &str| {
        rig.cluster.attachments.remove(&name(called));
        rig.state
            .learns(|state| drop(state.attachments.remove(&name(called))));
    };
    assert!(rig.look(HOLD).is_empty());
    // One after the other, so that the second is known of a later look.
    for called in ["a", "b"] {
        for fault in [Fault::NoSpace, Fault::Denied] {
            rig.fails(fault);
            rig.state.control.attachments[&name(called)].stats[0].failed(fault);
        }
        assert_eq!(rig.look(HOLD), ["disk_no_space", "disk_denied"]);
    }
    takes_away(&mut rig, "a");
    assert_eq!(rig.look(HOLD), ["disk_no_space", "disk_denied"], "b is there");
    takes_away(&mut rig, "b");
    assert_eq!(rig.look(HOLD), ["disk_denied"], "nothing else tells of that");
    // What nobody's request has met goes on until it works again.
    rig.fails(Fault::NoSpace);
    for _ in 0..2 {
        assert_eq!(rig.look(50 * HOLD), ["disk_no_space", "disk_denied"]);
    }
}

#[test]
fn what_failed_is_over_once_it_works_again_and_not_before() {
    let mut rig = Rig::new();
    assert!(rig.look(HOLD).is_empty());
    rig.stats.finished.add(5);
    rig.fails(Fault::Media);
    assert_eq!(rig.look(HOLD), ["disk_media"]);
    assert_eq!(rig.look(50 * HOLD), ["disk_media"], "nothing says that it works");
    rig.stats.finished.add(1);
    assert!(rig.look(HOLD).is_empty());
}

#[test]
fn whose_discards_keep_a_disk_is_told_at_each_look_at_which_there_are_more() {
    let mut rig = Rig::new();
    rig.cluster.volumes.insert(name("v1"), volume());
    rig.cluster.attachments.insert(name("a1"), wanted());
    rig.offers("a1", 3);
    assert!(rig.look(HOLD).is_empty());
    for (index, ms, times, whose) in [
        (3, 450, 1, "attachment a1 has kept disk d1 for 450 ms"),
        (
            4,
            120,
            2,
            "an attachment that is no longer there has kept disk d1 for 120 ms",
        ),
    ] {
        let ranges = &rig.stats.slow_ranges;
        ranges.note(AttachmentIndex(index), palisade_block::Nanos::from_millis(ms));
        for _ in 0..2 {
            assert_eq!(rig.look(HOLD), ["disk_discards_slow"]);
            let told = rig.findings.list().remove(0);
            assert_eq!((told.subject.as_str(), told.count), ("disk/d1", times));
            let message = told.last.unwrap_or(told.message);
            assert!(message.contains(whose), "{message}");
        }
    }
}

#[test]
fn what_was_done_well_since_counts_also_within_one_look() {
    let mut rig = Rig::new();
    rig.fails(Fault::Media);
    rig.stats.finished.add(1);
    assert_eq!(rig.look(HOLD), ["disk_media"]);
    assert!(rig.look(HOLD).is_empty());
}

#[test]
fn the_cause_is_told_and_not_its_consequence() {
    let mut rig = Rig::new();
    rig.fails(Fault::Media);
    rig.fails(Fault::Gone);
    assert_eq!(rig.look(HOLD), ["disk_gone"]);
    let all = rig.findings.list();
    let count: u64 = all.iter().map(|finding| finding.count).sum();
    assert_eq!(count, 2);
}

#[test]
fn one_that_comes_and_goes_is_held_longer_each_time() {
    let mut rig = Rig::new();
    for hold in [HOLD, 2 * HOLD, 4 * HOLD, 8 * HOLD] {
        rig.fails(Fault::TimedOut);
        rig.stats.finished.add(1);
        rig.look(Duration::ZERO);
        assert_eq!(rig.look(hold - Duration::from_millis(1)), ["disk_timed_out"]);
        assert!(rig.look(Duration::from_millis(1)).is_empty(), "{hold:?}");
    }
}

#[test]
fn a_guest_that_loses_its_memory_says_nothing_of_the_disk() {
    for fault in Fault::ALL {
        let guests = fault.origin() == palisade_block::Origin::Guest;
        assert_eq!(finding_of_disk(fault).is_none(), guests, "{fault:?}");
        assert_eq!(finding_of_attachment(fault).is_some(), guests, "{fault:?}");
    }
}

#[test]
fn a_vmm_that_is_refused_again_and_again_is_one_finding() {
    let (rig, now) = (Rig::new(), Instant::now());
    let mut seen = AttachmentSeen {
        index: AttachmentIndex(0),
        faults: Seen::new(),
        more: Seen::new(),
        refused: 0,
        malformed: 0,
        refused_sessions: 0,
        cannot_start: None,
        parked: None,
    };
    let mut look = |refused: u64| {
        let report = SessionReport {
            refused_sessions: refused,
            first_refusal: (refused > 0).then(|| "a ring of 3 entries".to_owned()),
            ..SessionReport::default()
        };
        seen.look_at_session(&report, "attachment/a", &rig.findings, now);
        rig.findings.list()
    };
    assert!(look(1).is_empty() && look(2).is_empty());
    look(3);
    let all = look(600);
    let [finding] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!((finding.code.as_str(), finding.count), ("sessions_refused", 598));
    assert!(
        finding.message.contains("a ring of 3 entries"),
        "{}",
        finding.message
    );
    assert!(look(0).is_empty(), "a queue runs");
}

#[test]
fn a_queue_that_cannot_start_is_told_when_that_lasts() {
    let (rig, began) = (Rig::new(), Instant::now());
    let mut counted = Counted::default();
    let mut state = LocalState::knowing(palisade_control::NodeState::default());
    state.learns(|state| drop(state.attachments.insert(name("a"), offered(0))));
    let mut look = |after: u64, why: Option<&str>| {
        let report = SessionReport {
            connected: true,
            queues: vec![palisade_frontend::QueueReport {
                cannot_start: why.map(str::to_owned),
                ..Default::default()
            }],
            ..SessionReport::default()
        };
        let now = began + Duration::from_secs(after);
        counted.look(
            &Cluster::empty(),
            &state,
            &|_| Some(report.clone()),
            &rig.findings,
            now,
        );
        rig.findings.list().len()
    };
    assert_eq!(look(0, Some("no memory")), 0);
    assert_eq!(look(1, Some("no memory")), 0);
    assert_eq!(look(2, Some("no memory")), 1);
    assert_eq!(look(3, None), 0);
}

#[test]
fn requests_that_are_parked_are_told_when_that_lasts_and_by_what() {
    use palisade_control::DiskState;
    use palisade_words::{ReactorIndex, VolumeIndex};
    let mut rig = Rig::new();
    rig.offers("a", 0);
    let stats = Arc::clone(&rig.state.control.attachments[&name("a")].stats[0]);
    let second = Duration::from_secs(1);
    let told = |rig: &mut Rig, seconds: u32| {
        let codes = rig.look(seconds * second);
        let parked = rig.findings.list().into_iter();
        assert!(codes.iter().all(|code| code == "requests_parked"), "{codes:?}");
        parked.map(|finding| (finding.subject, finding.message)).next()
    };
    stats.parked.set(2);
    assert_eq!(told(&mut rig, 1), None);
    assert_eq!(told(&mut rig, 4), None, "a change may take a moment");
    let (subject, message) = told(&mut rig, 1).unwrap();
    assert_eq!(subject, "attachment/a");
    assert!(message.contains("for a change of their volume"), "{message}");

    rig.state.learns(|state| {
        let by = (DeviceIndex(0), Fault::Unreachable);
        state.parked.insert((VolumeIndex(0), ReactorIndex(0)), by);
        state.disks.insert(name("d1"), DiskState::default());
    });
    let (_, message) = told(&mut rig, 1).unwrap();
    assert_eq!(message, "requests wait for disk d1, which cannot be reached");

    stats.parked.set(0);
    assert_eq!(told(&mut rig, 1), None);
    stats.parked.set(1);
    assert_eq!(told(&mut rig, 1), None, "it is counted anew");
}

#[test]
fn each_fault_that_parks_is_told_in_words_of_its_own() {
    let told: BTreeSet<String> = Fault::ALL
        .into_iter()
        .filter(|fault| fault.may_heal())
        .map(|fault| parked(Some((None, fault))))
        .collect();
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|text| text.contains("not open here")), "{told:?}");
}
