//! What is wrong with an attachment, as its session tells.

use crate::slow_turns::QUIET;
use palisade_api::FindingKind;
use palisade_api::size::counted;
use palisade_block::limits::STALLS_LOOKED_FOR;
use palisade_frontend::{SessionReport, StallReport};
use std::time::{Duration, Instant};

/// A front-end may be in the middle of a message, or say nothing, for so long before it is told.
const SILENCE: Duration = Duration::from_secs(10);

/// A front-end may wait for another one to go for so long before it is told: after a restart of a monitor the old
/// connection ends within moments.
const NEXT_WAITS: Duration = Duration::from_secs(5);

/// Closing a descriptor may take so long before it is told.
const HANGING: Duration = Duration::from_secs(10);

/// A front-end that had to wait for its rate is told for so long.
const STORM: Duration = Duration::from_secs(10);

/// A guest that was cut off because its memory kept a reactor waiting is told for so long after it did so last: that long
/// its reactor would know at once for whom it waits.
const STALLED: Duration = STALLS_LOOKED_FOR.duration();

/// When what reactors did for it took so long in ten seconds, it is told that it rests for that.
const RESTS_TOLD: Duration = Duration::from_millis(100);

/// One that was not is named with a reactor that was slow for so long, and what it does is told for so long.
const STALLED_LATELY: Duration = QUIET;

/// What is wrong now.
pub fn findings(report: &SessionReport) -> Vec<(FindingKind, String)> {
    let mut found = Vec::new();
    let silent = report.silent.map_or(Duration::ZERO, |since| since.elapsed());
    if silent >= SILENCE {
        let seconds = silent.as_secs();
        let message =
            format!("a front-end is connected, and has not ended or begun a message for {seconds} s");
        found.push((FindingKind::FrontendSilent, message));
    }
    let waits = report.next_waits.map_or(Duration::ZERO, |since| since.elapsed());
    if waits >= NEXT_WAITS {
        let message = format!(
            "a second front-end has been connected to its socket for {} s, and waits for the first to go",
            waits.as_secs()
        );
        found.push((FindingKind::FrontendWaits, message));
    }
    if let Some(waiting) = report.waiting.as_ref().filter(|waiting| waiting.overdue) {
        let message = format!("{}, for {} s", waiting.on, waiting.since.elapsed().as_secs());
        found.push((FindingKind::DrainOverdue, message));
    }
    if let Some(hanging) = report
        .hanging
        .as_ref()
        .filter(|hanging| hanging.since.elapsed() >= HANGING)
    {
        let (what, seconds) = (&hanging.what, hanging.since.elapsed().as_secs());
        let more = match hanging.count {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let message = format!(
            "{what}, which its virtual machine sent, has not let itself be closed for {seconds} s{more}"
        );
        found.push((FindingKind::DescriptorHangs, message));
    }
    for (pace, what) in [(&report.messages, "messages"), (&report.connects, "connections")] {
        if pace.held_last.is_some_and(|last| last.elapsed() < STORM) {
            let (held, limit) = (pace.held, pace.limit_per_s);
            let message = format!(
                "its {what} come faster than {limit} a second, which they may: {held} have had to wait since it is on offer"
            );
            found.push((FindingKind::FrontendStorms, message));
            break;
        }
    }
    if report.interrupts_dear {
        let message = "giving its interrupts takes long, so its own thread gives them: very many watch the event that the \
                       virtual machine gave";
        found.push((FindingKind::InterruptsDear, message.to_owned()));
    }
    match cut_off(&report.stalls) {
        Some(message) => found.push((FindingKind::GuestMemoryStalls, message)),
        None => found.extend(rests(&report.stalls).map(|message| (FindingKind::GuestMemorySlow, message))),
    }
    // A ring that was broken stays so until it is set up anew; without a session it is nobody's.
    if report.connected {
        found.extend(broken(report).map(|message| (FindingKind::QueueBroken, message)));
        found.extend(untracked(report).map(|message| (FindingKind::QueueUntracked, message)));
    }
    found
}

/// That what reactors do for it takes long, and that it rests for that, if that goes on.
fn rests(stalls: &StallReport) -> Option<String> {
    let is_now = stalls.last?.elapsed() < STALLED_LATELY;
    (is_now && stalls.lately >= RESTS_TOLD).then(|| {
        format!(
            "what a reactor did for it took long {}, for up to {} ms, and for {} ms within ten seconds: where another guest \
             is on its reactor it rests each time, so that the other is served, and is served itself for a tenth of the time",
            counted(stalls.count, "time"),
            stalls.longest.as_millis(),
            stalls.lately.as_millis()
        )
    })
}

/// Whether what reactors do for it has taken long of late.
pub fn has_stalled(report: &SessionReport) -> bool {
    let last = report.stalls.last;
    last.is_some_and(|last| last.elapsed() < STALLED_LATELY)
}

/// What its guest's memory has done, and that it was cut off for it, if it was.
fn cut_off(stalls: &StallReport) -> Option<String> {
    let until = stalls.held_off_until?;
    if stalls.last?.elapsed() >= STALLED && until <= Instant::now() {
        return None;
    }
    let out = match until > Instant::now() {
        true => ", and nobody may connect for now",
        false => "",
    };
    Some(format!(
        "its guest's memory has kept a reactor waiting {}, for up to {} ms; its session was cut off for that {}{out}",
        counted(stalls.count, "time"),
        stalls.longest.as_millis(),
        counted(stalls.cut_off, "time")
    ))
}

/// Queues that are broken, and how the first one is.
fn broken(report: &SessionReport) -> Option<String> {
    let queues = report.queue_stats.iter().enumerate();
    let broken = queues.filter_map(|(queue, stats)| Some((queue, stats.broken_now()?)));
    let told: Vec<_> = broken
        .map(|(queue, broken)| format!("queue {queue}: {broken}"))
        .collect();
    told_of(&told).map(|told| {
        format!("the guest's driver has broken its ring, and nothing more is taken from it: {told}")
    })
}

fn untracked(report: &SessionReport) -> Option<String> {
    let queues = report
        .queues
        .iter()
        .filter(|queue| queue.running && queue.untracked);
    let told: Vec<_> = queues
        .map(|queue| format!("queue {} of {} entries", queue.index, queue.size))
        .collect();
    told_of(&told).map(|told| {
        format!("the in-flight region of the VMM is too small for {told}: after a crash of the daemon, requests may be lost")
    })
}

/// Why the first queue that cannot start does not, if any cannot.
pub fn cannot_start(report: &SessionReport) -> Option<String> {
    let stopped = report.queues.iter().filter(|queue| !queue.running);
    let told: Vec<_> = stopped
        .filter_map(|queue| Some(format!("queue {}: {}", queue.index, queue.cannot_start.as_ref()?)))
        .collect();
    told_of(&told)
}

/// The first one, and how many more there are.
fn told_of(told: &[String]) -> Option<String> {
    match told {
        [] => None,
        [one] => Some(one.clone()),
        [first, rest @ ..] => Some(format!("{first} (and {} more)", rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_frontend::{HangingReport, PaceReport, QueueReport, WaitReport};

    fn kinds(report: &SessionReport) -> Vec<&'static str> {
        findings(report).iter().map(|(kind, _)| kind.row().code).collect()
    }

    #[test]
    fn a_front_end_that_comes_too_fast_is_told_for_as_long_as_it_does() {
        let pace = |seconds| PaceReport {
            held: 5,
            held_last: Instant::now().checked_sub(Duration::from_secs(seconds)),
            limit_per_s: 10,
            ..PaceReport::default()
        };
        let report = |messages, connects| SessionReport {
            connected: true,
            messages,
            connects,
            ..SessionReport::default()
        };
        assert_eq!(
            kinds(&report(pace(1), pace(1))),
            ["frontend_storms"],
            "one is enough"
        );
        assert_eq!(
            kinds(&report(PaceReport::default(), pace(9))),
            ["frontend_storms"]
        );
        assert!(kinds(&report(pace(11), pace(11))).is_empty());
    }

    #[test]
    fn a_guest_that_was_cut_off_for_the_waits_of_a_reactor_is_told_until_there_have_been_none_for_long() {
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        let said = |stalls| {
            let report = SessionReport {
                stalls,
                ..SessionReport::default()
            };
            findings(&report).pop().map(|(kind, message)| {
                assert_eq!(kind, FindingKind::GuestMemoryStalls);
                message
            })
        };
        let mut stalls = StallReport {
            count: 7,
            last: ago(599),
            longest: Duration::from_millis(40),
            ..StallReport::default()
        };
        assert_eq!(said(stalls), None, "it was not");
        (stalls.cut_off, stalls.held_off_until) = (2, ago(3));
        let over = "its guest's memory has kept a reactor waiting 7 times, for up to 40 ms; its session was cut off for that \
                    2 times"
            .to_owned();
        assert_eq!(said(stalls), Some(over.clone()));
        stalls.held_off_until = Some(Instant::now() + Duration::from_secs(60));
        let out = over.clone() + ", and nobody may connect for now";
        assert_eq!(said(stalls), Some(out.clone()));
        stalls.last = ago(601);
        assert_eq!(said(stalls), Some(out));
        stalls.held_off_until = ago(1);
        assert_eq!(said(stalls), None);
    }

    #[test]
    fn a_guest_whose_memory_kept_a_reactor_waiting_a_minute_ago_is_not_named_any_more() {
        let stalled = |seconds| {
            has_stalled(&SessionReport {
                stalls: StallReport {
                    last: Instant::now().checked_sub(Duration::from_secs(seconds)),
                    ..StallReport::default()
                },
                ..SessionReport::default()
            })
        };
        assert!(stalled(59) && !stalled(61));
        assert!(!has_stalled(&SessionReport::default()));
    }

    #[test]
    fn a_session_that_does_well_is_none() {
        let report = SessionReport {
            connected: true,
            silent: Some(Instant::now()),
            queues: vec![QueueReport {
                running: true,
                ..QueueReport::default()
            }],
            ..SessionReport::default()
        };
        assert!(kinds(&report).is_empty());
        assert_eq!(cannot_start(&report), None);
    }

    #[test]
    fn a_second_front_end_is_told_once_it_has_waited() {
        let report = |seconds| SessionReport {
            connected: true,
            next_waits: Instant::now().checked_sub(Duration::from_secs(seconds)),
            ..SessionReport::default()
        };
        assert!(kinds(&report(4)).is_empty());
        assert_eq!(kinds(&report(6)), ["frontend_waits"]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_told() {
        let queue = |index: u16, running: bool, cannot_start: Option<&str>| QueueReport {
            index,
            size: 1024,
            running,
            untracked: running,
            cannot_start: cannot_start.map(str::to_owned),
        };
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        let report = SessionReport {
            connected: true,
            interrupts_dear: true,
            silent: Some(long_ago),
            waiting: Some(WaitReport {
                on: "blocked on queues [0]".into(),
                since: long_ago,
                overdue: true,
            }),
            hanging: Some(HangingReport {
                what: "/mnt/hung".into(),
                since: long_ago,
                count: 2,
            }),
            queues: vec![
                queue(0, true, None),
                queue(1, false, Some("no memory")),
                queue(2, false, Some("no ring")),
            ],
            ..SessionReport::default()
        };
        assert_eq!(
            kinds(&report),
            [
                "frontend_silent",
                "drain_overdue",
                "descriptor_hangs",
                "interrupts_dear",
                "queue_untracked"
            ]
        );
        assert_eq!(
            cannot_start(&report).as_deref(),
            Some("queue 1: no memory (and 1 more)")
        );
    }
}
