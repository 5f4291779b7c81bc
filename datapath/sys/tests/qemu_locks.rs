//! QEMU and its tools are kept off what we have open, and we off what they have, by the locks that they use. The real tools
//! are asked where they are installed; what a lock of theirs means is tried with a process that holds each of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rig;

use palisade_sys::device::Program;
use palisade_sys::{OpenError, Opened};
use rig::MIB;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const FILE: &str = "PALISADE_TEST_LOCKED_FILE";
const BYTES: &str = "PALISADE_TEST_LOCKED_BYTES";

/// A process that has some bytes of a file locked, as QEMU does, until it is dropped.
struct Other(Child);

impl Other {
    fn with(path: &Path, bytes: &[u64]) -> Other {
        let bytes: Vec<_> = bytes.iter().map(u64::to_string).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "bytes_locked_by_another_process", "--nocapture"])
            .env(FILE, path)
            .env(BYTES, bytes.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        said(&mut child, "they are locked");
        Other(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a child has written a line with these words.
fn said(child: &mut Child, words: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(words)), "{words}");
}

/// Not a test by itself: what [`Other`] runs.
#[test]
fn bytes_locked_by_another_process() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let file = fs::File::open(path).unwrap();
    for byte in std::env::var(BYTES).unwrap().split_whitespace() {
        let lock = libc::flock {
            l_type: libc::F_RDLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte.parse().unwrap(),
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: F_OFD_SETLK reads one `struct flock`.
        let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
        assert_eq!(failed, 0);
    }
    println!("they are locked");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn open(path: &Path) -> Result<Opened, OpenError> {
    Opened::open(&rig::file_spec(path, MIB, 512), Duration::ZERO)
}

#[test]
fn a_file_that_qemu_writes_or_keeps_for_itself_is_refused_until_it_is_closed() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 512);
    drop(opened);
    // A writer; a virtual machine; a reader that lets nobody write; one that wants to be the only reader.
    let refused: [(&[u64], bool); 4] = [
        (&[100, 101], true),
        (&[100, 101, 102, 103, 201, 203], true),
        (&[100, 201, 203], false),
        (&[200], false),
    ];
    for (bytes, is_writer) in refused {
        rig::until(|| open(&path).is_ok());
        let other = Other::with(&path, bytes);
        let error = open(&path).unwrap_err();
        let OpenError::HeldByQemu {
            holder: Some(Program { process, name }),
            writes,
            ..
        } = &error
        else {
            panic!("{bytes:?}: {error}");
        };
        assert_eq!((*process, *writes), (other.0.id(), is_writer), "{bytes:?}");
        let name = format!("by process {process} ({name});");
        assert!(
            name.contains("qemu_locks") && error.to_string().contains(&name),
            "{error}"
        );
        drop(other);
        let patient = Opened::open(&rig::file_spec(&path, MIB, 512), Duration::from_secs(5));
        assert_eq!(patient.unwrap().open_to_qemu(), None);
    }
    // One that only reads, whatever others do, keeps no guest from its disk; it is told when a disk is added.
    let reader = Other::with(&path, &[100]);
    let opened = open(&path).unwrap();
    let uses: Vec<_> = opened.uses().unwrap().iter().map(ToString::to_string).collect();
    let expected = format!("process {} (", reader.0.id());
    assert!(
        matches!(uses.as_slice(), [told] if told.starts_with(&expected)),
        "{uses:?}"
    );
}

#[test]
fn what_is_open_has_the_bytes_that_qemu_looks_at_and_nothing_else_locked() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 512);
    let inode = format!(":{}", fs::metadata(&path).unwrap().ino());
    let locks = || {
        let all = fs::read_to_string("/proc/locks").unwrap();
        let words = all
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = words.filter(|words| words.get(5).is_some_and(|place| place.ends_with(&inode)));
        let mut found: Vec<_> = ours
            .map(|words| [1, 3, 6, 7].map(|at| words[at].to_owned()).join(" "))
            .collect();
        found.sort();
        found
    };
    let expected = ["FLOCK WRITE 0 EOF", "OFDLCK READ 100 103", "OFDLCK READ 200 203"];
    assert_eq!(locks(), expected);
    drop(opened);
    rig::until(|| locks().is_empty());
}

/// What a program of QEMU's says when it is refused; `None` where it is not installed.
fn refused_by(program: &str, arguments: &[&str], path: &Path) -> Option<String> {
    let Ok(ran) = Command::new(program).args(arguments).arg(path).output() else {
        eprintln!("skipped: there is no {program} here");
        return None;
    };
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        !ran.status.success(),
        "{program} {arguments:?} was let in: {said}"
    );
    Some(said)
}

/// Whether a program of QEMU's has something open to read and write: bytes 100 and 101.
fn writes(process: u32) -> bool {
    let open = fs::read_dir(format!("/proc/{process}/fdinfo"));
    let mut about = open.into_iter().flatten().flatten();
    about.any(|one| {
        let text = fs::read_to_string(one.path()).unwrap_or_default();
        let mut lines = text.lines();
        lines.any(|line| line.contains("OFDLCK") && line.ends_with(" 100 101"))
    })
}

#[test]
fn the_real_tools_are_kept_off_by_themselves() {
    let directory = rig::directory();
    let (path, opened) = rig::open_file(&directory, MIB, 512);
    let copy = directory.path().join("copy");
    let writer: [&str; 4] = ["-f", "raw", "-c", "write 0 64k"];
    let reader: [&str; 5] = ["-r", "-f", "raw", "-c", "read 0 64k"];
    for (program, arguments, word) in [
        ("qemu-io", writer.as_slice(), "lock"),
        ("qemu-io", reader.as_slice(), "\"consistent read\" lock"),
        (
            "qemu-img",
            &["convert", "-O", "raw", "-f", "raw", copy.to_str().unwrap()],
            "lock",
        ),
        (
            "qemu-img",
            &["convert", "-O", "raw", "-f", "raw", "-n", copy.to_str().unwrap()],
            "lock",
        ),
    ] {
        if program == "qemu-img" {
            fs::write(&copy, [7; 4096]).unwrap();
        }
        if let Some(said) = refused_by(program, arguments, &path) {
            assert!(said.contains(word), "{program} {arguments:?}: {said}");
        }
    }
    drop(opened);
    let held = Command::new("qemu-io")
        .args(["-f", "raw"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let Ok(mut held) = held else { return };
    // Not before it has all its bytes: what is tried while it takes them may get there first, and it gives up.
    rig::until(|| writes(held.id()));
    let error = open(&path).unwrap_err();
    held.kill().unwrap();
    held.wait().unwrap();
    let expected = format!(
        "open for writing, as its locks of QEMU's kind say, by process {} (qemu-io)",
        held.id()
    );
    assert!(error.to_string().contains(&expected), "{error}");
    rig::until(|| open(&path).is_ok());
}
