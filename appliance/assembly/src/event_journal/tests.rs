use super::*;
use palisade_api::{EventId, Severity};
use proptest::prelude::*;

/// A folder of events in one that holds nothing else.
struct Folder {
    path: PathBuf,
    _state: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("events");
        fs::create_dir(&path).unwrap();
        Folder { path, _state: state }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn event(number: u64) -> EventRecord {
    let id = EventId {
        node: "n".into(),
        number,
    };
    EventRecord::Event(Box::new(Event {
        id,
        ..Event::new(Severity::Info, "test", "node", format!("event {number}"))
    }))
}

fn append(journal: &mut Journal, numbers: std::ops::RangeInclusive<u64>) {
    let records: Vec<_> = numbers.map(event).collect();
    journal.append(&records).unwrap();
}

fn open(folder: &Path) -> (Journal, Newest) {
    Journal::open(folder, EventFamily::Occurrences).unwrap()
}

fn numbers(found: &[Event]) -> Vec<u64> {
    found.iter().map(|event| event.id.number).collect()
}

fn all(folder: &Path, after: u64) -> (Vec<u64>, bool) {
    let found = read(folder, after, u64::MAX, 10_000).unwrap();
    (numbers(&found.events), found.lost)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_appended_is_there_at_the_next_start_and_goes_on_behind_it() {
    let folder = Folder::new();
    let (mut journal, newest) = open(folder.path());
    assert_eq!((newest.events.len(), newest.complete_after), (0, None));
    journal.begin_after(100);
    append(&mut journal, 101..=103);
    drop(journal);
    let (mut journal, newest) = open(folder.path());
    assert_eq!(numbers(&newest.events), [101, 102, 103]);
    assert_eq!((newest.complete_after, journal.last()), (Some(100), 103));
    append(&mut journal, 200..=201);
    assert_eq!(all(folder.path(), 0), (vec![101, 102, 103, 200, 201], false));
    assert_eq!(all(folder.path(), 102), (vec![103, 200, 201], false));
    assert_eq!(
        all(folder.path(), 50),
        (vec![101, 102, 103, 200, 201], true),
        "those of a former state"
    );
    let limited = read(folder.path(), 101, 200, 2).unwrap();
    assert_eq!(numbers(&limited.events), [102, 103]);
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn a_record_that_was_cut_off_at_any_byte_is_left_out_and_the_others_stay() {
    let folder = Folder::new();
    let (mut journal, _) = open(folder.path());
    append(&mut journal, 1..=2);
    let path = files(folder.path()).remove(0);
    let before = fs::metadata(&path).unwrap().len() as usize;
    append(&mut journal, 3..=3);
    drop(journal);
    let whole = fs::read(&path).unwrap();
    for cut in before..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(all(folder.path(), 0).0, [1, 2], "cut at {cut}");
        let (mut journal, newest) = open(folder.path());
        assert_eq!(numbers(&newest.events), [1, 2]);
        append(&mut journal, 4..=4);
        assert_eq!(all(folder.path(), 0), (vec![1, 2, 4], false), "cut at {cut}");
        assert_eq!(files(folder.path()).len(), 1, "nothing is damaged");
    }
    // A machine that lost its power may leave zeros where the record was to be.
    let mut zeros = whole[..before].to_vec();
    zeros.resize(before + 4096, 0);
    fs::write(&path, &zeros).unwrap();
    assert_eq!(numbers(&open(folder.path()).1.events), [1, 2]);
    // Or a file without its first record.
    for start in [&b""[..], &whole[..7], &[0; 200]] {
        fs::write(&path, start).unwrap();
        let (mut journal, newest) = open(folder.path());
        assert_eq!(newest.events, []);
        append(&mut journal, 9..=9);
        assert_eq!(all(folder.path(), 0).0, [9]);
        for file in files(folder.path()) {
            fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_read_as_far_as_it_goes_and_never_deleted() {
    let folder = Folder::new();
    let (mut journal, _) = open(folder.path());
    append(&mut journal, 1..=5);
    drop(journal);
    let path = files(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let at = String::from_utf8_lossy(&bytes).find("event 3").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (mut journal, newest) = open(folder.path());
    assert_eq!(
        (numbers(&newest.events), newest.complete_after),
        (vec![1, 2, 4, 5], None)
    );
    assert_eq!(journal.last(), 5);
    append(&mut journal, 6..=6);
    assert_eq!(all(folder.path(), 0), (vec![1, 2, 4, 5, 6], true));
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(aside(folder.path()).unwrap(), [format!("{name}.damaged")]);
    assert_eq!(fs::read(path.with_added_extension(ASIDE)).unwrap(), bytes);
}

#[test]
fn what_is_no_file_of_events_or_one_of_a_later_format_is_set_aside() {
    let later = "{\"header\":{\"format\":2,\"after\":0}}";
    let later = format!("{:08x} {later}\n", checksum(later.as_bytes()));
    for content in [later.as_bytes(), b"something else\n", &[0; 100_000]] {
        let folder = Folder::new();
        let path = folder.path().join("occurrences-00000000000000000007.log");
        fs::write(&path, content).unwrap();
        let (mut journal, newest) = open(folder.path());
        assert_eq!(newest.complete_after, None);
        append(&mut journal, 8..=8);
        assert_eq!(fs::read(path.with_added_extension(ASIDE)).unwrap(), content);
        assert_eq!(all(folder.path(), 0), (vec![8], true));
    }
    // Nor is anything read for ever.
    let folder = Folder::new();
    let path = folder.path().join("occurrences-00000000000000000007.log");
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    append(&mut open(folder.path()).0, 8..=8);
    assert_eq!(all(folder.path(), 0), (vec![8], true));
}

#[test]
fn the_oldest_make_room_within_the_bound_and_who_asks_for_them_is_told() {
    let folder = Folder::new();
    let (mut journal, _) = Journal::open_bounded(folder.path(), EventFamily::Commands, 1000, 5000).unwrap();
    for number in 1..=200 {
        append(&mut journal, number..=number);
        let bytes: u64 = files(folder.path())
            .iter()
            .map(|file| fs::metadata(file).unwrap().len())
            .sum();
        assert!(bytes <= 5500, "{bytes} bytes after {number} events");
    }
    let (kept, lost) = all(folder.path(), 0);
    let first = kept[0];
    assert!((150..195).contains(&first), "{first}");
    assert_eq!(
        (kept, lost),
        ((first..=200).collect(), false),
        "all that are kept"
    );
    assert_eq!(all(folder.path(), first - 1), ((first..=200).collect(), false));
    assert_eq!(all(folder.path(), first - 2), ((first..=200).collect(), true));
    // The other family is not touched by it.
    let (mut other, _) = open(folder.path());
    append(&mut other, 201..=201);
    assert_eq!(all(folder.path(), 199), (vec![200, 201], false));
}

#[test]
fn a_damaged_one_is_set_aside_before_it_would_make_room() {
    let folder = Folder::new();
    let (mut journal, _) = Journal::open_bounded(folder.path(), EventFamily::Commands, 1000, 3000).unwrap();
    (1..=10).for_each(|number| append(&mut journal, number..=number));
    let first = files(folder.path()).remove(0);
    let mut bytes = fs::read(&first).unwrap();
    let at = String::from_utf8_lossy(&bytes).find("event 2").unwrap();
    bytes[at] ^= 1;
    fs::write(&first, &bytes).unwrap();
    let (mut journal, _) = Journal::open_bounded(folder.path(), EventFamily::Commands, 1000, 3000).unwrap();
    journal.check(Vec::new, &mut Vec::new()).unwrap();
    assert_eq!(
        aside(folder.path()).unwrap().len(),
        1,
        "it is found at the next start"
    );
    let back = first.with_added_extension(ASIDE);
    fs::rename(&back, &first).unwrap();
    (11..=100).for_each(|number| append(&mut journal, number..=number));
    assert_eq!(
        fs::read(&back).unwrap(),
        bytes,
        "and when its turn would have come"
    );
}

#[test]
fn a_file_that_was_deleted_from_outside_is_begun_anew() {
    let folder = Folder::new();
    let below = folder.path().join("events");
    let (mut journal, _) = open(&below);
    append(&mut journal, 1..=2);
    fs::remove_dir_all(&below).unwrap();
    append(&mut journal, 3..=3);
    assert_eq!(all(&below, 0).0, [3]);
    assert_eq!(all(&below, 1), (vec![3], true));
    fs::remove_dir_all(folder.path()).unwrap();
    assert!(journal.append(&[event(4)]).is_err(), "nothing is made above it");
    assert!(!folder.path().exists());
}

#[test]
fn a_gap_is_told_to_who_asks_across_it() {
    let folder = Folder::new();
    let (mut journal, _) = open(folder.path());
    append(&mut journal, 1..=2);
    journal
        .append(&[
            EventRecord::Gap(Gap {
                count: 3,
                from: 3,
                up_to: 5,
            }),
            event(6),
        ])
        .unwrap();
    let of_before: EventRecord = serde_json::from_str(r#"{"gap":{"count":3,"up_to":5}}"#).unwrap();
    assert_eq!(of_before.number(), Some(5));
    assert_eq!(all(folder.path(), 1), (vec![2, 6], true));
    assert_eq!(all(folder.path(), 5), (vec![6], false));
    assert_eq!(open(folder.path()).1.complete_after, None);
}

#[test]
fn whole_records_behind_zeros_or_without_a_first_record_are_read() {
    let folder = Folder::new();
    let (mut journal, _) = open(folder.path());
    append(&mut journal, 1..=4);
    let path = files(folder.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let zeros = [&lines[0..2].concat(), &[0; 3000][..], &lines[3..].concat()].concat();
    for (bytes, kept) in [(zeros, vec![1, 3, 4]), (lines[2..].concat(), vec![2, 3, 4])] {
        fs::write(&path, &bytes).unwrap();
        let (_, newest) = open(folder.path());
        assert_eq!(
            (numbers(&newest.events), newest.complete_after),
            (kept.clone(), None)
        );
        assert_eq!(all(folder.path(), 0), (kept, true));
        fs::remove_file(path.with_added_extension(ASIDE)).unwrap();
    }
}

#[test]
fn numbers_that_no_event_can_have_are_set_aside_and_all_else_is_read() {
    let folder = Folder::new();
    let (mut journal, _) = open(folder.path());
    append(&mut journal, 1..=3);
    let path = files(folder.path()).remove(0);
    let impossible = folder.path().join("occurrences-18446744073709551615.log");
    fs::copy(&path, &impossible).unwrap();
    let (mut journal, newest) = open(folder.path());
    assert_eq!((numbers(&newest.events), journal.last()), (vec![1, 2, 3], 3));
    append(&mut journal, 4..=4);
    assert_eq!(all(folder.path(), 0).0, [1, 2, 3, 4], "and nothing twice");
    assert!(impossible.with_added_extension(ASIDE).exists());
    // Nor is one that was written by a daemon that had gone on behind such a number.
    let mut text = fs::read_to_string(&path).unwrap();
    line(&mut text, &event(u64::MAX)).unwrap();
    fs::write(&path, &text).unwrap();
    let (journal, newest) = open(folder.path());
    assert_eq!((numbers(&newest.events), journal.last()), (vec![1, 2, 3, 4], 4));
    assert_eq!(
        fs::read_to_string(path.with_added_extension(ASIDE)).unwrap(),
        text
    );
}

fn held(numbers: std::ops::RangeInclusive<u64>) -> impl Fn() -> Vec<Event> {
    move || {
        let events = numbers.clone().filter_map(|number| match event(number) {
            EventRecord::Event(event) => Some(*event),
            _ => None,
        });
        events.collect()
    }
}

/// What is lost of each file that was written anew.
fn check(journal: &mut Journal, held: impl Fn() -> Vec<Event>) -> Vec<Option<Gap>> {
    let mut mended = Vec::new();
    journal.check(held, &mut mended).unwrap();
    mended.into_iter().map(|one| one.lost).collect()
}

fn gap(count: u64, from: u64, up_to: u64) -> Option<Gap> {
    Some(Gap { count, from, up_to })
}

const NOTHING: Vec<Option<Gap>> = Vec::new();

/// Three segments: of events 1 to 4, 5 to 8, and 9 and 10.
fn three(folder: &Path) -> (Journal, [PathBuf; 3]) {
    let (mut journal, _) = Journal::open_bounded(folder, EventFamily::Occurrences, 550, 100_000).unwrap();
    (1..=10).for_each(|number| append(&mut journal, number..=number));
    let files = files(folder).try_into().unwrap();
    (journal, files)
}

#[test]
fn files_deleted_while_in_use_are_written_anew_from_what_is_held_and_the_rest_is_a_gap() {
    let folder = Folder::new();
    let (mut journal, [first, _, current]) = three(folder.path());
    assert_eq!(check(&mut journal, Vec::new), NOTHING, "all is as it was written");
    fs::remove_file(&first).unwrap();
    fs::remove_file(&current).unwrap();
    assert_eq!(check(&mut journal, held(4..=20)), [gap(3, 1, 3), None]);
    append(&mut journal, 11..=11);
    assert_eq!(files(folder.path()).len(), 3, "it goes on in the file of before");
    assert_eq!(all(folder.path(), 0).0, [4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(all(folder.path(), 2), ((4..=11).collect(), true));
    assert!(!all(folder.path(), 3).1);
    assert_eq!(check(&mut journal, Vec::new), NOTHING, "it is told once");
    // Who deletes it again loses no account of what was lost before.
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(
        check(&mut journal, held(6..=20)),
        [gap(1, 1, 4), gap(1, 5, 5), None]
    );
    let text = fs::read_to_string(&first).unwrap();
    assert!(
        text.contains("{\"gap\":{\"count\":4,\"from\":1,\"up_to\":4}}"),
        "{text}"
    );
    assert_eq!(journal.last(), 11);
}

#[test]
fn a_file_cut_off_or_replaced_while_in_use_is_set_aside_and_what_is_left_of_it_is_kept() {
    let folder = Folder::new();
    let (mut journal, [first, second, current]) = three(folder.path());
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() - 30]).unwrap();
    fs::remove_file(&second).unwrap();
    fs::write(&second, "something else\n").unwrap();
    File::options()
        .write(true)
        .open(&current)
        .unwrap()
        .set_len(0)
        .unwrap();
    append(&mut journal, 11..=11);
    assert_eq!(
        check(&mut journal, Vec::new),
        [gap(1, 4, 4), gap(4, 5, 8), gap(2, 9, 10)]
    );
    append(&mut journal, 12..=12);
    assert_eq!(all(folder.path(), 0).0, [1, 2, 3, 11, 12]);
    assert_eq!(aside(folder.path()).unwrap().len(), 3);
    assert_eq!(check(&mut journal, Vec::new), NOTHING);
    // Cut off once more: what was set aside before stays.
    fs::write(&second, "").unwrap();
    fs::write(&second, "and again\n").unwrap();
    check(&mut journal, Vec::new);
    let again = second.with_added_extension(format!("2.{ASIDE}"));
    assert_eq!(fs::read_to_string(again).unwrap(), "and again\n");
    assert_eq!(aside(folder.path()).unwrap().len(), 4);
    // And what somebody still has of it can be put back.
    fs::write(&first, &whole).unwrap();
    check(&mut journal, Vec::new);
    assert_eq!(all(folder.path(), 0).0, [1, 2, 3, 4, 11, 12]);
}

#[test]
fn a_file_that_is_a_copy_of_what_was_written_is_taken_as_it_is() {
    let folder = Folder::new();
    let (mut journal, [first, _, current]) = three(folder.path());
    for path in [&first, &current] {
        let copy = folder.path().join("copy");
        fs::copy(path, &copy).unwrap();
        fs::rename(&copy, path).unwrap();
    }
    assert_eq!(check(&mut journal, Vec::new), NOTHING);
    append(&mut journal, 11..=11);
    assert_eq!(all(folder.path(), 0), ((1..=11).collect(), false));
    assert_eq!(aside(folder.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn what_was_deleted_or_cut_off_while_no_daemon_ran_is_told_at_the_next_start() {
    type Loss = (fn(&[PathBuf; 3]), Vec<Option<Gap>>, Vec<u64>);
    let losses: [Loss; 5] = [
        (
            |files| files.iter().for_each(|path| fs::remove_file(path).unwrap()),
            vec![gap(4, 1, 4), gap(4, 5, 8), gap(2, 9, 10)],
            vec![],
        ),
        (
            |files| fs::remove_file(&files[0]).unwrap(),
            vec![gap(4, 1, 4)],
            (5..=10).collect(),
        ),
        (
            |files| fs::remove_file(&files[2]).unwrap(),
            vec![gap(2, 9, 10)],
            (1..=8).collect(),
        ),
        (
            |files| fs::write(&files[2], "").unwrap(),
            vec![gap(2, 9, 10)],
            (1..=8).collect(),
        ),
        (
            |files| {
                let text = fs::read_to_string(&files[2]).unwrap();
                let end = text.trim_end().rfind('\n').unwrap() + 1;
                fs::write(&files[2], text.get(..end).unwrap()).unwrap();
            },
            vec![gap(1, 10, 10)],
            (1..=9).collect(),
        ),
    ];
    for (lose, lost, mut left) in losses {
        let folder = Folder::new();
        let (mut journal, files) = three(folder.path());
        journal.sync().unwrap();
        journal.list().unwrap();
        drop(journal);
        lose(&files);
        let (mut journal, newest) = open(folder.path());
        assert_eq!(journal.last(), 10, "no number is given again");
        let is_at_the_end = lost.last().unwrap().unwrap().up_to == 10;
        assert_eq!(newest.complete_after.is_none(), is_at_the_end, "{lost:?}");
        assert_eq!(check(&mut journal, Vec::new), lost);
        append(&mut journal, 11..=11);
        left.push(11);
        assert_eq!(all(folder.path(), 0).0, left);
        assert!(
            all(folder.path(), lost[0].unwrap().from.max(2) - 1).1,
            "who asks across it is told"
        );
        assert_eq!(check(&mut journal, Vec::new), NOTHING);
        journal.list().unwrap();
        let (mut journal, _) = open(folder.path());
        assert_eq!(check(&mut journal, Vec::new), NOTHING, "it is told once");
    }
}

#[test]
fn what_made_room_and_what_was_never_listed_is_not_told_as_lost() {
    let folder = Folder::new();
    let open = || {
        Journal::open_bounded(folder.path(), EventFamily::Commands, 1000, 5000)
            .unwrap()
            .0
    };
    let mut journal = open();
    (1..=100).for_each(|number| append(&mut journal, number..=number));
    assert_eq!(check(&mut journal, Vec::new), NOTHING);
    // It is killed: what came since the last list is not in it.
    drop(journal);
    let mut journal = open();
    assert_eq!(check(&mut journal, Vec::new), NOTHING);
    append(&mut journal, 101..=101);
    // As a daemon that knew no list has left it.
    let list = known::path_of_list(folder.path(), EventFamily::Commands);
    for text in [None, Some("rubbish\n"), Some("{\"format\":2,\"segments\":[]}")] {
        match text {
            None => fs::remove_file(&list).unwrap(),
            Some(text) => fs::write(&list, text).unwrap(),
        }
        let mut journal = open();
        assert_eq!((check(&mut journal, Vec::new), journal.last()), (NOTHING, 101));
    }
}

#[test]
fn the_last_ones_are_read_from_as_many_files_as_it_takes_and_from_both_families() {
    let folder = Folder::new();
    let (mut journal, _) = three(folder.path());
    let (mut other, _) = Journal::open(folder.path(), EventFamily::Commands).unwrap();
    append(&mut other, 11..=12);
    append(&mut journal, 13..=13);
    let last = |up_to, count| {
        let found = read_last(folder.path(), up_to, count).unwrap();
        (numbers(&found.events), found.lost)
    };
    assert_eq!(last(u64::MAX, 4), (vec![10, 11, 12, 13], false));
    assert_eq!(last(12, 7), ((6..=12).collect(), false));
    assert_eq!(last(u64::MAX, 100), ((1..=13).collect(), false));
    assert_eq!(last(u64::MAX, 0), (vec![], false));
    fs::remove_file(&files(folder.path())[2]).unwrap();
    check(&mut journal, Vec::new);
    assert_eq!(last(u64::MAX, 5), (vec![9, 10, 11, 12, 13], false));
    assert_eq!(last(u64::MAX, 10).1, last(u64::MAX, 100).1);
    assert!(last(u64::MAX, 10).1, "some among them are missing");
}

/// A trail that is full, and pages of it at its begin, in its middle and at its end. Says what each costs.
#[test]
fn a_page_of_a_full_trail_costs_little() {
    let folder = Folder::new();
    let (mut journal, _) = open(folder.path());
    let mut number = 0;
    let text = "a sentence of an event as long as most of them are, with a name and a cause in it".repeat(2);
    while number < 24_000 {
        let records: Vec<_> = (number + 1..=number + 500)
            .map(|number| match event(number) {
                EventRecord::Event(event) => EventRecord::Event(Box::new(Event {
                    message: text.clone(),
                    ..*event
                })),
                other => other,
            })
            .collect();
        journal.append(&records).unwrap();
        number += 500;
    }
    let segments = files(folder.path());
    assert!(segments.len() >= 7, "{}", segments.len());
    let oldest = all(folder.path(), 0).0[0];
    for after in [oldest, (oldest + number) / 2, number - 200] {
        let begin = std::time::Instant::now();
        let found = read(folder.path(), after, u64::MAX, 100).unwrap();
        println!("a page of 100 after {after}: {:?}", begin.elapsed());
        assert_eq!(
            numbers(&found.events),
            (after + 1..=after + 100).collect::<Vec<_>>()
        );
        // What is not on the page is not looked into.
        let begin = std::time::Instant::now();
        let scanned = read::scan(&segments[2]).unwrap();
        println!(
            "a whole file of {} events: {:?}",
            scanned.events.len(),
            begin.elapsed()
        );
    }
}

proptest! {
    /// Whatever a file holds, it is read or set aside, and what is appended afterwards is there.
    #[test]
    fn no_content_of_a_file_is_in_the_way(mut bytes: Vec<u8>, keep in 0usize..400, flip in 0usize..400) {
        let folder = Folder::new();
        let (mut journal, _) = open(folder.path());
        append(&mut journal, 1..=3);
        drop(journal);
        let path = files(folder.path()).remove(0);
        let mut mixed = fs::read(&path).unwrap();
        let flip = flip % mixed.len();
        mixed[flip] ^= 0x10;
        mixed.truncate(keep);
        mixed.append(&mut bytes);
        fs::write(&path, &mixed).unwrap();
        let (mut journal, _) = open(folder.path());
        append(&mut journal, 100..=100);
        let (found, _) = all(folder.path(), 50);
        prop_assert_eq!(found, [100]);
    }
}
