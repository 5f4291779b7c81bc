use super::*;
use palisade_api::{Actor, CommandResult, Ending, Severity};
use std::fs;
use std::process::Command;

fn opened(state: &Path) -> (EventFiles, EventLog) {
    EventFiles::open(state, "n1-id", "n1")
}

fn recorder(records: &EventFiles) -> Recorder {
    records.recorder.lock().unwrap().take().unwrap()
}

fn command(name: &str) -> Event {
    Event {
        actor: Actor::User {
            uid: 0,
            name: Some("root".into()),
        },
        command: Some(format!("POST /v1/volumes {{\"id\":\"{name}\"}}")),
        result: Some(CommandResult {
            ending: Ending::Done,
            code: None,
        }),
        ..Event::new(Severity::Info, "volume_create", format!("volume/{name}"), "done")
    }
}

impl Recorder {
    /// Takes all that was told so far.
    fn turn(&mut self, log: &EventLog) -> io::Result<()> {
        let batch = self.told.try_iter().collect();
        self.keep(batch, log.take_missed())
    }
}

fn subjects(page: &EventPage) -> Vec<&str> {
    page.items.iter().map(|event| event.subject.as_str()).collect()
}

#[test]
fn events_and_who_did_what_are_there_after_a_restart_and_numbers_go_on() {
    let state = tempfile::tempdir().unwrap();
    let (records, log) = opened(state.path());
    let mut first = recorder(&records);
    log.push(Severity::Info, "disk_open", "disk/d1", "opened");
    let kept = log.push_command(command("v1")).unwrap();
    assert!(kept.try_recv().is_err(), "not before it is on stable storage");
    first.turn(&log).unwrap();
    assert!(kept.recv().is_ok());
    let page = records.after(&log, &EventId::default(), 10);
    assert_eq!(subjects(&page), ["disk/d1", "volume/v1"]);
    let next = page.next.clone().unwrap();
    // It ends without a word, as by `kill -9`.
    drop((records, log, first));
    let (records, log) = opened(state.path());
    let after = records.after(&log, &EventId::default(), 10);
    assert_eq!((after.items, after.lost), (page.items, false));
    let mut second = recorder(&records);
    log.push(Severity::Info, "disk_open", "disk/d2", "opened");
    second.turn(&log).unwrap();
    let page = records.after(&log, &next, 10);
    assert_eq!((subjects(&page), page.lost), (vec!["disk/d2"], false));
    assert!(page.items[0].id.number > next.number);
    assert_eq!(
        (page.items[0].id.node.as_str(), page.items[0].node.as_str()),
        ("n1-id", "n1")
    );
}

#[test]
fn numbers_grow_although_the_clock_was_set_back_and_the_file_of_ids_is_gone() {
    let state = tempfile::tempdir().unwrap();
    let (records, log) = opened(state.path());
    // The daemon before this one ran when the clock was ahead by a century.
    let ahead = log.last_id() + 100 * 365 * 86_400 * 1_000_000;
    let mut first = recorder(&records);
    let event = Event {
        id: EventId {
            node: "n1-id".into(),
            number: ahead,
        },
        ..command("v1")
    };
    let (sender, _receiver) = sync_channel(1);
    let told = Told::Event {
        event: Box::new(event),
        kept: Some(sender),
    };
    first.keep(vec![told], None).unwrap();
    fs::remove_file(state.path().join("event-ids")).unwrap();
    let (records, log) = opened(state.path());
    log.push(Severity::Info, "later", "node", "it is");
    let page = records.after(&log, &EventId::here(ahead), 10);
    assert_eq!((subjects(&page), page.lost), (vec!["node"], false));
    assert!(page.items[0].id.number > ahead);
}

#[test]
fn what_is_no_longer_in_memory_comes_from_the_files_a_page_at_a_time() {
    let state = tempfile::tempdir().unwrap();
    let (records, log) = opened(state.path());
    let mut recorder = recorder(&records);
    let total = EVENTS_KEPT as u64 + 900;
    for number in 0..total {
        log.push(Severity::Info, "test", format!("disk/d{number}"), "it was");
        if number % 500 == 0 {
            recorder.turn(&log).unwrap();
        }
    }
    // The last ones are not in the files yet.
    let (mut after, mut seen) = (EventId::default(), Vec::new());
    loop {
        let page = records.after(&log, &after, 1000);
        assert!(!page.lost);
        let Some(next) = page.next.filter(|_| !page.items.is_empty()) else {
            break;
        };
        after = next;
        seen.extend(page.items.into_iter().map(|event| event.subject));
    }
    let all: Vec<String> = (0..total).map(|number| format!("disk/d{number}")).collect();
    assert!(seen == all, "{} of {} events", seen.len(), all.len());
    for count in [1, 300, EVENTS_KEPT + 700] {
        let page = records.last(&log, count);
        assert!(!page.lost && page.next == Some(after.clone()));
        assert!(subjects(&page) == all[all.len() - count..], "the last {count}");
    }
}

#[test]
fn an_id_of_another_history_is_answered_with_all_there_is() {
    let state = tempfile::tempdir().unwrap();
    let (records, log) = opened(state.path());
    log.push(Severity::Info, "test", "node", "it was");
    for id in ["other:7", "9999999999999999999"] {
        let page = records.after(&log, &id.parse().unwrap(), 10);
        assert_eq!((subjects(&page), page.lost), (vec!["node"], true), "{id}");
    }
}

#[test]
fn a_trail_deleted_while_in_use_is_written_anew_and_one_deleted_while_stopped_is_told() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join(FOLDER);
    let (records, log) = opened(state.path());
    let mut first = recorder(&records);
    let begin = log.last_id();
    log.push(Severity::Info, "disk_open", "disk/d1", "opened");
    log.push_command(command("v1"));
    first.turn(&log).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    fs::remove_file(state.path().join("event-ids")).unwrap();
    let (mended, checked) = first.check(&log);
    checked.unwrap();
    first.ids.keep(log.last_id());
    let told: Vec<_> = mended
        .iter()
        .map(|one| (one.was_gone, one.events, one.lost))
        .collect();
    assert_eq!(told, [(true, 1, None), (true, 1, None)]);
    assert!(
        in_words(&mended[0]).contains("none of its 1 events is lost"),
        "{mended:?}"
    );
    assert!(state.path().join("event-ids").exists());
    first.list().unwrap();
    drop((records, log, first));
    let (records, log) = opened(state.path());
    let page = records.after(&log, &EventId::default(), 10);
    assert_eq!(
        (subjects(&page), page.lost),
        (vec!["disk/d1", "volume/v1"], false)
    );
    let last = log.last_id();
    drop((records, log));
    // The clock is set back as well, as far as the files of events tell.
    fs::remove_dir_all(&folder).unwrap();
    fs::remove_file(state.path().join("event-ids")).unwrap();
    let (records, log) = opened(state.path());
    let mut second = recorder(&records);
    let (mended, checked) = second.check(&log);
    checked.unwrap();
    let lost: Vec<_> = mended.iter().filter_map(|one| one.lost).collect();
    assert_eq!(lost.iter().map(|gap| gap.count).sum::<u64>(), 2);
    assert!(
        in_words(&mended[0]).contains("1 of its events are lost"),
        "{mended:?}"
    );
    log.push(Severity::Info, "disk_open", "disk/d2", "opened");
    second.turn(&log).unwrap();
    let page = records.after(&log, &EventId::here(begin), 10);
    assert_eq!((subjects(&page), page.lost), (vec!["disk/d2"], true));
    assert!(page.items[0].id.number > last.min(begin + 2));
}

/// Names the folder to the process that may write no file.
const STATE: &str = "PALISADE_TEST_STATE";

/// A limit on the size of files stands for a file system that is full.
const LIMITED: &str = "trap '' XFSZ; ulimit -S -f 0; exec \"$@\"";

#[test]
fn storage_that_is_full_keeps_nobody_waiting_and_all_is_written_once_there_is_room() {
    const NAME: &str =
        "recorder::tests::storage_that_is_full_keeps_nobody_waiting_and_all_is_written_once_there_is_room";
    let Some(state) = std::env::var_os(STATE).map(PathBuf::from) else {
        let state = tempfile::tempdir().unwrap();
        let ran = Command::new("bash")
            .args(["-c", LIMITED, "bash"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(STATE, state.path())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        assert!(
            String::from_utf8_lossy(&ran.stdout).contains("1 passed"),
            "{ran:?}"
        );
        return;
    };
    let (records, log) = opened(&state);
    let mut recorder = recorder(&records);
    let kept = log.push_command(command("v1")).unwrap();
    log.push(Severity::Info, "test", "disk/d1", "it was");
    let refused = recorder.turn(&log).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(27), "EFBIG: {refused}");
    assert!(kept.recv().is_err(), "whoever waits is told at once");
    assert!(
        recorder.turn(&log).is_err(),
        "it is tried again, and told for as long as it lasts"
    );
    let page = records.after(&log, &EventId::default(), 10);
    assert_eq!(subjects(&page), ["volume/v1", "disk/d1"], "in memory they are");
    let before = page.next.clone().unwrap();
    // More than is held for so long.
    let many = state.join("many");
    fs::create_dir(&many).unwrap();
    let (many_records, many_log) = opened(&many);
    let mut many_recorder = self::recorder(&many_records);
    let begin = many_log.last_id();
    for number in 0..BACKLOG_MAX as u64 + 10 {
        many_log.push(Severity::Info, "test", format!("disk/d{number}"), "it was");
        many_recorder.turn(&many_log).unwrap_err();
    }
    lift_limit();
    log.push(Severity::Info, "test", "disk/d2", "it was");
    recorder.turn(&log).unwrap();
    many_recorder.turn(&many_log).unwrap();
    let kept: Vec<u64> = event_journal::read(&many.join(FOLDER), begin + 10, u64::MAX, usize::MAX)
        .unwrap()
        .events
        .iter()
        .map(|event| event.id.number - begin)
        .collect();
    assert_eq!(kept, (11..=BACKLOG_MAX as u64 + 10).collect::<Vec<_>>());
    let files = fs::read_dir(many.join(FOLDER)).unwrap();
    let text: String = files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let gap = format!(
        "{{\"gap\":{{\"count\":10,\"from\":{},\"up_to\":{}}}}}",
        begin + 1,
        begin + 10
    );
    assert_eq!(text.matches(&gap).count(), 1);
    assert!(many_records.after(&many_log, &EventId::here(begin + 1), 10).lost);
    drop((records, log, recorder));
    let (records, log) = opened(&state);
    let page = records.after(&log, &EventId::default(), 10);
    assert_eq!(
        (subjects(&page), page.lost),
        (vec!["volume/v1", "disk/d1", "disk/d2"], false)
    );
    assert!(!records.after(&log, &before, 10).lost);
}

fn lift_limit() {
    let raised = palisade_sys::guard::raise_to_hard(palisade_sys::guard::Resource::FileSize);
    assert_eq!(raised.unwrap().now, u64::MAX);
}

#[test]
fn a_daemon_killed_while_it_writes_leaves_whole_events_only() {
    const NAME: &str = "recorder::tests::a_daemon_killed_while_it_writes_leaves_whole_events_only";
    if let Some(state) = std::env::var_os(STATE).map(PathBuf::from) {
        let (records, log) = opened(&state);
        let mut recorder = recorder(&records);
        for number in 0.. {
            let kept = log.push_command(command(&format!("v{number}"))).unwrap();
            log.push(Severity::Info, "test", format!("disk/d{number}"), "it was");
            recorder.turn(&log).unwrap();
            kept.recv().unwrap();
            println!("acknowledged {number}");
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    let state = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..8u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(STATE, state.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 17 * u64::from(round)));
        child.kill().unwrap();
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        // The last line may be one that was being written.
        acknowledged += text
            .split_inclusive('\n')
            .filter(|line| line.starts_with("acknowledged") && line.ends_with('\n'))
            .count();
        let (records, log) = opened(state.path());
        let (mut after, mut commands, mut last) = (EventId::default(), 0, 0);
        loop {
            let page = records.after(&log, &after, 1000);
            assert!(!page.lost, "round {round}");
            let Some(next) = page.next.filter(|_| !page.items.is_empty()) else {
                break;
            };
            for event in &page.items {
                assert!(event.id.number > last, "no number is given twice");
                last = event.id.number;
            }
            commands += page.items.iter().filter(|event| event.result.is_some()).count();
            after = next;
        }
        assert!(
            commands >= acknowledged,
            "round {round}: {commands} of {acknowledged}"
        );
    }
    assert!(acknowledged > 8, "{acknowledged}");
    assert_eq!(
        event_journal::aside(&state.path().join(FOLDER)).unwrap(),
        Vec::<String>::new()
    );
}
