//! A front-end sends descriptors that do not let themselves be closed: files of a FUSE server that does not answer. Its
//! own sessions end with a sentence, its neighbour is served, and a daemon that is told to stop or killed is gone at once,
//! with all its locks and sockets; one small process for each such descriptor stays until the server answers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod stand;

use palisade_block::limits::STALLED_MAX;
use palisade_frontend::codec::request;
use palisade_frontend::{Door, DoorSettings, Rates};
use palisade_sys::EventFd;
use palisade_words::AttachmentIndex;
use stand::client::{Client, dup, longs};
use stand::fuse::Fuse;
use stand::guest::Guest;
use stand::ram_host::{RamHost, Seen};
use stand::{spec, until};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that is to be ended: where its sockets are.
const VICTIM: &str = "PALISADE_TEST_HUNG_CLOSE";

const SETTINGS: DoorSettings = DoorSettings {
    deadline: Duration::from_secs(4),
    // Used up by the hostile one; its neighbour has its own first.
    hanging_max: 2,
    hanging_each_max: 2,
    rates: Rates::DEFAULT,
    stalled_max: STALLED_MAX.duration(),
};

#[test]
fn what_cannot_be_closed_keeps_nobody() {
    if let Some(place) = std::env::var_os(VICTIM) {
        serve(Path::new(&place));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(fuse) = Fuse::mount(&folder.path().join("fuse")) else {
        eprintln!("skipped: it takes the rights to mount a file system");
        return;
    };
    fuse.hang();
    for killed in [false, true] {
        let mut victim = Victim::start(folder.path());
        let before = fuse.hanging();
        let hostile = folder.path().join("0.sock");
        // The message is refused, and the session goes on until another descriptor would have to be received.
        for at in 0..2 {
            let client = Client::connect(&hostile);
            client.negotiate();
            assert_eq!(
                client.order(request::SET_VRING_CALL, &longs(&[0]), &[&fuse.file()]),
                1
            );
            until("the hanging", || fuse.hanging() == before + at + 1);
            assert!(victim.said(0).contains("SET_VRING_CALL: /"));
            assert_eq!(client.ask(request::GET_QUEUE_NUM, &[]).number(), 2);
            client.tell(request::SET_VRING_CALL, &longs(&[0]), &[&event()]);
            client.wait_for_end();
            assert!(victim.said(0).contains("has not let itself be closed for 2 s"));
        }
        let client = Client::connect(&hostile);
        client.negotiate();
        client.tell(request::SET_VRING_CALL, &longs(&[0]), &[&event()]);
        client.wait_for_end();
        let said = victim.said(0);
        assert!(said.contains("2 processes hang in closing"), "{said}");
        assert!(said.contains("3 sessions refused"), "{said}");

        let neighbour = Client::connect(&folder.path().join("1.sock"));
        neighbour.negotiate();
        neighbour.set_mem_table(&Guest::new(0, 1 << 20));

        let end = Instant::now();
        match killed {
            true => victim.process.kill().unwrap(),
            // It is told to stop.
            false => drop(victim.orders.take()),
        }
        let status = victim.process.wait().unwrap();
        assert!(end.elapsed() < Duration::from_secs(3), "the process is not gone");
        assert_eq!(status.success(), !killed, "{status}");
        File::open(folder.path().join("lock"))
            .unwrap()
            .try_lock()
            .expect("the successor gets the lock");
        assert_eq!(fuse.hanging(), before + 2, "both still hang");
    }
    fuse.go_on();
    until("the end of what hung", || of_this_test() == 0);
}

fn event() -> OwnedFd {
    dup(&EventFd::new().unwrap())
}

/// Processes that receive descriptors for attachments `web0` and `web1`.
fn of_this_test() -> usize {
    let names = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path();
        std::fs::read_to_string(path.join("comm")).ok()
    });
    names.filter(|name| name.trim_end() == "fd:hung-close0").count()
}

/// A daemon of two attachments and a lock.
struct Victim {
    process: Child,
    orders: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Victim {
    fn start(place: &Path) -> Victim {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_cannot_be_closed_keeps_nobody", "--nocapture"])
            .env(VICTIM, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut victim = Victim {
            process,
            orders,
            lines,
        };
        victim.hear("ready");
        victim
    }

    /// The last error of an attachment, and why its last session ended.
    fn said(&mut self, attachment: u16) -> String {
        use std::io::Write;
        writeln!(self.orders.as_mut().unwrap(), "{attachment}").unwrap();
        self.hear("said: ")
    }

    fn hear(&mut self, word: &str) -> String {
        self.lines
            .find_map(|line| line.unwrap().split_once(word).map(|(_, rest)| rest.to_owned()))
            .unwrap()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The daemon's part: serves until its orders end, and then stops as a daemon does.
fn serve(place: &Path) {
    let lock = File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let door = Door::open(SETTINGS, |handle| RamHost::new(handle, Seen::new())).unwrap();
    for index in [0, 1] {
        let mut spec = spec(index, &place.join(format!("{index}.sock")));
        spec.name = format!("hung-close{index}");
        door.handle().attach(spec).unwrap();
    }
    println!("ready");
    for line in std::io::stdin().lines() {
        let index = AttachmentIndex(line.unwrap().parse().unwrap());
        // The report follows the reply by a moment.
        std::thread::sleep(Duration::from_millis(100));
        let report = door.handle().report(index).unwrap();
        let (error, end) = (&report.last_error, &report.last_disconnect);
        println!(
            "said: {error:?} {end:?} {} sessions refused",
            report.refused_sessions
        );
    }
    door.shutdown(Duration::from_secs(3)).unwrap();
}
