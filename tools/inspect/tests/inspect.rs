//! The program run on real files: healthy, damaged, foreign, missing.

#![cfg(test)]

use palisade_wire::{DATA_START_LEAST, ExtentRecord, ExtentRole, Label, Superblock, format, update};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Epoch, Generation, Lba, Uuid};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const SECTORS: u64 = (64 << 20) / 512;
const TAIL: u64 = SECTORS - 4096;

fn run(paths: &[&Path], flags: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_palisade-inspect"))
        .args(flags)
        .args(paths)
        .output()
        .unwrap();
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

fn json(path: &Path) -> (i32, Value) {
    let (code, text) = run(&[path], &["--json"]);
    let mut all: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(all.len(), 1);
    (code, all.remove(0))
}

fn extent(volume: u128, name: &str, volume_lba: u64, unit: u64, sectors: u64) -> ExtentRecord {
    ExtentRecord {
        volume: Uuid(volume),
        volume_name: Label::new(name).unwrap(),
        role: ExtentRole::Linear,
        part: 0,
        block_bytes: 512,
        volume_lba: Lba(volume_lba),
        disk_lba: Lba(DATA_START_LEAST.0 + unit * ALLOCATION_UNIT_SECTORS),
        sectors,
        volume_sectors: 10_000,
    }
}

/// A file of 64 MiB with three extents of two volumes, formatted and changed once.
fn pooled(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("pool.img");
    let file = File::create_new(&path).unwrap();
    file.set_len(SECTORS * 512).unwrap();
    let superblock = Superblock::new(
        Uuid(0xd15c),
        Uuid(0xc1),
        Uuid(0x0de),
        Label::new("pool").unwrap(),
        512,
        SECTORS,
    )
    .unwrap();
    let first = format(&superblock, &[]).unwrap();
    let extents = [
        extent(1, "web1", 0, 0, 8192),
        extent(2, "db", 0, 4, 10_000),
        extent(1, "web1", 8192, 1, 1808),
    ];
    let next = Superblock {
        generation: Generation(7),
        epoch: Epoch(1),
        ..first.superblock
    };
    let second = update(&next, &next, &extents).unwrap();
    for write in first
        .phases
        .iter()
        .chain(&second.phases)
        .flat_map(|phase| &phase.writes)
    {
        file.write_all_at(&write.bytes, write.lba.0 * 512).unwrap();
    }
    path
}

fn overwrite(path: &Path, lba: u64, bytes: &[u8]) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, lba * 512)
        .unwrap();
}

#[test]
fn a_healthy_disk_is_described_and_left_as_it_was() {
    let directory = TempDir::new().unwrap();
    let path = pooled(&directory);
    let before = std::fs::read(&path).unwrap();
    let (code, found) = json(&path);
    assert_eq!((code, &found["state"]), (0, &Value::from("healthy")));
    let disk = &found["disk"];
    assert_eq!(
        (disk["label"].as_str(), disk["generation"].as_u64()),
        (Some("pool"), Some(7))
    );
    assert_eq!(disk["uuid"], "00000000-0000-0000-0000-00000000d15c");
    // 14 units of 4 MiB between 4 MiB and 62 MiB, four of them touched, the longest gap behind them.
    let mib = |field: &str| disk[field].as_u64().unwrap() >> 20;
    assert_eq!(
        (mib("data_bytes"), mib("used_bytes"), mib("free_bytes")),
        (56, 16, 40)
    );
    assert_eq!(mib("largest_free_bytes"), 32);
    let volumes = disk["volumes"].as_array().unwrap();
    assert_eq!(
        (volumes.len(), volumes[0]["extents"].as_array().unwrap().len()),
        (2, 2)
    );
    assert_eq!(volumes[0]["here_bytes"], 10_000 * 512);

    let (code, text) = run(&[&path], &["--verbose"]);
    assert_eq!(code, 0);
    for words in [
        "healthy",
        "web1",
        "db",
        "generation 7",
        "56 MiB",
        "head superblock A is sound",
        "40960",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    assert!(before == std::fs::read(&path).unwrap());
}

#[test]
fn a_damaged_copy_is_named_and_explained() {
    let directory = TempDir::new().unwrap();
    let path = pooled(&directory);
    let mut sector = std::fs::read(&path).unwrap()[..4096].to_vec();
    sector[700] ^= 4;
    overwrite(&path, 0, &sector);
    overwrite(&path, TAIL + 128, &[0xee; 4096]);
    let (code, found) = json(&path);
    assert_eq!((code, &found["state"]), (1, &Value::from("damaged")));
    let places: Vec<_> = found["damage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|damage| damage["place"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["head superblock A", "tail superblock B"]);
    let sound = found["superblocks"].as_array().unwrap().iter().map(|place| {
        (
            place["place"].as_str().unwrap(),
            place["sound"].as_bool().unwrap(),
        )
    });
    assert_eq!(
        Vec::from_iter(sound),
        [
            ("head superblock A", false),
            ("head superblock B", true),
            ("tail superblock A", true),
            ("tail superblock B", false)
        ]
    );
    assert_eq!(found["disk"]["volumes"].as_array().unwrap().len(), 2);
    let (code, text) = run(&[&path], &[]);
    assert_eq!(code, 1);
    for words in [
        "damaged but readable",
        "2 of 4",
        "has checksum",
        "something else wrote over it",
        "+ head superblock B: sound, of write",
        "Nothing is lost of what the superblock says",
        "`palisade health` shows superblock_damaged of disk pool",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
}

#[test]
fn a_spoilt_head_is_read_from_the_tail() {
    let directory = TempDir::new().unwrap();
    let path = pooled(&directory);
    overwrite(&path, 0, &vec![0; 2 << 20]);
    let (code, found) = json(&path);
    assert_eq!((code, found["disk"]["generation"].as_u64()), (1, Some(7)));
    overwrite(&path, TAIL, &vec![1; 2 << 20]);
    let (code, found) = json(&path);
    assert_eq!((code, &found["state"]), (2, &Value::from("foreign")));
    let summary = found["summary"].as_str().unwrap();
    assert!(
        summary.contains(&format!("from byte {} on", TAIL * 512)),
        "{summary}"
    );
}

#[test]
fn a_disk_with_every_copy_spoilt_is_lost_not_foreign() {
    let directory = TempDir::new().unwrap();
    let path = pooled(&directory);
    for lba in [0, 128, TAIL, TAIL + 128] {
        overwrite(&path, lba + 4, &[0xee; 8]);
    }
    let (code, found) = json(&path);
    assert_eq!((code, &found["state"]), (2, &Value::from("lost")));
    assert_eq!(found["damage"].as_array().unwrap().len(), 4);
    let (_, text) = run(&[&path], &[]);
    for words in [
        "- tail superblock B: ",
        "names disk 00000000-0000-0000-0000-00000000d15c",
        "Lost is which volume lies where",
        "cp --sparse=always",
        "`palisade disk adopt NAME`",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
}

/// All four superblocks are wiped, as by a tool that clears the beginning and the end of a disk; the tables are still there.
#[test]
fn a_disk_without_any_superblock_is_known_by_its_tables() {
    let directory = TempDir::new().unwrap();
    let path = pooled(&directory);
    for lba in [0, 128, TAIL] {
        overwrite(&path, lba, &[0; 4096]);
    }
    overwrite(&path, TAIL + 128, &[7; 4096]);
    let (code, found) = json(&path);
    assert_eq!((code, &found["state"]), (2, &Value::from("lost")));
    let (_, text) = run(&[&path], &[]);
    for words in [
        "was a pooled disk: no superblock is left",
        "- head superblock A: lost: nothing but zeroes is there",
        "- tail superblock B: lost: something else wrote over it",
        "names disk 00000000-0000-0000-0000-00000000d15c",
        "`palisade state restore FILE --state-dir DIR`",
        "Do not add it with --force",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
}

#[test]
fn a_disk_that_was_cut_or_has_grown_says_so() {
    let directory = TempDir::new().unwrap();
    let path = pooled(&directory);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(SECTORS * 512 + (8 << 20)).unwrap();
    let (code, found) = json(&path);
    assert_eq!(code, 0);
    assert!(
        found["notes"][0]
            .as_str()
            .unwrap()
            .contains("grown by 8388608 bytes")
    );
    file.set_len(24 << 20).unwrap();
    let (code, found) = json(&path);
    assert_eq!(code, 1);
    assert!(
        found["damage"][0]["what"]
            .as_str()
            .unwrap()
            .contains("beyond the end")
    );
    assert!(
        found["notes"][0]
            .as_str()
            .unwrap()
            .contains("volume db reaches beyond")
    );
}

#[test]
fn disks_of_others_are_named_in_words() {
    let directory = TempDir::new().unwrap();
    let write = |name: &str, offset: u64, mark: &[u8]| {
        let path = directory.path().join(name);
        let file = File::create_new(&path).unwrap();
        file.set_len(16 << 20).unwrap();
        file.write_all_at(mark, offset).unwrap();
        path
    };
    let cases = [
        (write("ext4", 1080, b"\x53\xef"), "ext4", "foreign"),
        (write("gpt", 512, b"EFI PART"), "GPT", "foreign"),
        (write("data", 5000, b"hello"), "no kind known", "foreign"),
        (write("blank", 0, b""), "from the first byte to the last", "blank"),
        (write("deep", 9 << 20, b"x"), "from byte 9437184 on", "foreign"),
        (
            write("last", (16 << 20) - 1, b"x"),
            "from byte 16777215 on",
            "foreign",
        ),
    ];
    for (path, words, state) in &cases {
        let (code, found) = json(path);
        assert_eq!((code, found["state"].as_str()), (2, Some(*state)));
        assert!(found["summary"].as_str().unwrap().contains(words), "{found}");
    }
    let odd = directory.path().join("odd");
    std::fs::write(&odd, [0, 0, 7]).unwrap();
    assert!(run(&[&odd], &[]).1.contains("from byte 2 on"));
    let empty = directory.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    assert!(run(&[&empty], &[]).1.contains("no bytes at all"));
    let large = directory.path().join("large");
    File::create_new(&large).unwrap().set_len(300 << 20).unwrap();
    let text = run(&[&large], &[]).1;
    assert!(text.contains("what lies between was not read"), "{text}");
    let small = directory.path().join("small");
    std::fs::write(&small, b"x").unwrap();
    let (code, text) = run(&[&small], &[]);
    assert!(code == 2 && text.contains("small (file, 1 B): "), "{text}");
}

#[test]
fn what_cannot_be_opened_is_said_and_the_rest_is_looked_at() {
    let directory = TempDir::new().unwrap();
    let (pool, none) = (pooled(&directory), directory.path().join("none"));
    let (code, text) = run(&[&none, &pool, Path::new("/dev/null"), directory.path()], &[]);
    assert_eq!(code, 2);
    assert!(text.contains("none: cannot be opened: No such file"), "{text}");
    assert!(text.contains("all 4 copies"), "{text}");
    assert_eq!(
        text.matches("neither a file nor a block device").count(),
        2,
        "{text}"
    );
}

#[test]
fn what_is_no_disk_is_not_taken_for_one() {
    let directory = TempDir::new().unwrap();
    let about = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let (code, found) = json(&path);
        assert_eq!(code, 2, "{name}");
        let summary = found["summary"].as_str().unwrap().to_owned();
        assert_eq!(found["state"], "foreign", "{name}: {summary}");
        assert!(!summary.contains("begins with zeroes"), "{name}: {summary}");
        summary
    };
    for (name, content) in [
        ("letter", "some text\n".repeat(14)),
        ("one", "x".to_owned()),
        ("more", "y".repeat(5001)),
    ] {
        let summary = about(name, content.as_bytes());
        assert!(summary.contains("which somebody may need"), "{summary}");
        assert!(
            !summary.contains("whole"),
            "no disk is {} bytes long: {summary}",
            content.len()
        );
    }
    let image = about("image", &[0x5a; 8192]);
    assert!(image.contains("if it is the image of a disk"), "{image}");
    let backup = b"palisade state backup, format 1, CRC-32C 1f3a09c4\n{\"taken_unix_s\":1}\n";
    assert!(about("b.pal", backup).ends_with("it carries a backup of a cluster database"));
    let mut database = b"redb\x1a\x0a\xa9\x0d\x0a".to_vec();
    database.resize(64 << 10, 7);
    assert!(about("state.redb", &database).contains("a redb database"));
    // Zeroes first, and data behind them in a piece that is no sector.
    let path = directory.path().join("late");
    let mut late = vec![0; 4096];
    late.extend([0, 0, 9]);
    std::fs::write(&path, late).unwrap();
    let summary = json(&path).1["summary"].as_str().unwrap().to_owned();
    assert!(!summary.contains("byte 0 on"), "{summary}");
}
