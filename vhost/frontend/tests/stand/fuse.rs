//! A file system of FUSE with one file, spoken by hand, whose closing (FLUSH) is answered or not, as the test likes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

// linux/fuse.h
const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const ENOSYS: i32 = 38;
const ENOENT: i32 = 2;

/// Bytes of the file.
const BYTES: u64 = 1 << 20;

/// The mounted file system.
pub struct Fuse {
    at: PathBuf,
    server: Arc<Server>,
}

struct Server {
    device: File,
    hangs: AtomicBool,
    /// Closings that were not answered.
    unanswered: Mutex<Vec<u64>>,
}

impl Fuse {
    /// Mounts it; `None` without the rights to.
    pub fn mount(at: &Path) -> Option<Fuse> {
        std::fs::create_dir_all(at).unwrap();
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::empty()).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", &options, "palisade-test"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        rustix::io::fcntl_setfd(&device, rustix::io::FdFlags::CLOEXEC).unwrap();
        if !mounted.is_ok_and(|status| status.success()) {
            return None;
        }
        let server = Arc::new(Server {
            device,
            hangs: AtomicBool::new(false),
            unanswered: Mutex::default(),
        });
        let serving = Arc::clone(&server);
        std::thread::spawn(move || serving.serve());
        Some(Fuse {
            at: at.to_owned(),
            server,
        })
    }

    /// Its file, opened anew. To be dropped soon: a test that is killed closes it when nobody is left to answer.
    pub fn file(&self) -> OwnedFd {
        let options = File::options().read(true).write(true).open(self.at.join("file"));
        options.unwrap().into()
    }

    /// From now on whoever closes the file waits, but for threads of this process.
    pub fn hang(&self) {
        self.server.hangs.store(true, Ordering::SeqCst);
    }

    /// How many wait.
    pub fn hanging(&self) -> usize {
        self.server.unanswered.lock().unwrap().len()
    }

    /// Ends all waits.
    pub fn go_on(&self) {
        self.server.hangs.store(false, Ordering::SeqCst);
        for unique in std::mem::take(&mut *self.server.unanswered.lock().unwrap()) {
            self.server.reply(unique, 0, &[]);
        }
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.go_on();
        // With the file system the server's read ends.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

impl Server {
    fn serve(&self) {
        let mut room = vec![0; 1 << 20];
        while let Ok(bytes) = (&self.device).read(&mut room) {
            let word = |at: usize| u32::from_le_bytes(room[at..at + 4].try_into().unwrap());
            let long = |at: usize| u64::from_le_bytes(room[at..at + 8].try_into().unwrap());
            let (operation, unique, node, thread) = (word(4), long(8), long(16), word(32));
            let argument = &room[40..bytes];
            match operation {
                INIT => {
                    let mut answer = [7u32, 31, 0, 0].map(u32::to_le_bytes).concat();
                    answer.extend([16, 0, 12, 0]);
                    answer.extend([4096u32, 1].map(u32::to_le_bytes).concat());
                    answer.resize(64, 0);
                    self.reply(unique, 0, &answer);
                }
                LOOKUP if argument.starts_with(b"file\0") => {
                    let mut answer = [2u64, 0, 1, 1].map(u64::to_le_bytes).concat();
                    answer.extend([0; 8]);
                    answer.extend(attributes(2));
                    self.reply(unique, 0, &answer);
                }
                LOOKUP => self.reply(unique, ENOENT, &[]),
                GETATTR => {
                    let mut answer = vec![0; 16];
                    answer.extend(attributes(node));
                    self.reply(unique, 0, &answer);
                }
                OPEN => self.reply(unique, 0, &[0; 16]),
                FLUSH if self.hangs.load(Ordering::SeqCst) && !is_ours(thread) => {
                    self.unanswered.lock().unwrap().push(unique);
                }
                FLUSH | RELEASE => self.reply(unique, 0, &[]),
                // FORGET and its like, which nobody waits for, have no answer; for all others there is none here.
                2 | 36 | 42 => {}
                _ => self.reply(unique, ENOSYS, &[]),
            }
        }
    }

    fn reply(&self, unique: u64, errno: i32, answer: &[u8]) {
        let mut bytes = (16 + answer.len() as u32).to_le_bytes().to_vec();
        bytes.extend((-errno).to_le_bytes());
        bytes.extend(unique.to_le_bytes());
        bytes.extend(answer);
        // The file system may have gone.
        let _ = (&self.device).write(&bytes);
    }
}

fn is_ours(thread: u32) -> bool {
    Path::new(&format!("/proc/self/task/{thread}")).exists()
}

fn attributes(node: u64) -> Vec<u8> {
    let (mode, bytes) = if node == 1 {
        (0o040_755u32, 0)
    } else {
        (0o100_666, BYTES)
    };
    let mut all = [node, bytes, bytes / 512, 0, 0, 0].map(u64::to_le_bytes).concat();
    all.extend(
        [0u32, 0, 0, mode, 1, 0, 0, 0, 4096, 0]
            .map(u32::to_le_bytes)
            .concat(),
    );
    all
}
