//! What goes wrong below a running appliance is told with its first cause, as a finding, an event and a metric; it is over
//! when its cause is; and whoever asks is answered meanwhile. Nothing here needs a guest: nobody asks one that is idle.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::appliance::{Appliance, MIB};
use crate::driver::ring::{ARENA, Part, Ring};
use crate::driver::session::Session;
use crate::failure::{Failure, Outcome, demand};
use crate::lab::{Lab, root};
use crate::process::{number, signal, wait_until};
use crate::scenarios::step;

/// A finding may take so long: a step of a change is told after half a minute.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer may take so long, whatever stands still; the machine may be busy.
const ANSWER_MOST: Duration = Duration::from_secs(5);

/// Stops one thread, as a debugger does, until its input ends.
const STOPPER: &str = r#"
    my $thread = shift() + 0;
    syscall(101, 0x4206, $thread, 0, 0) == 0 or die "PTRACE_SEIZE: $!";
    syscall(101, 0x4207, $thread, 0, 0) == 0 or die "PTRACE_INTERRUPT: $!";
    waitpid($thread, 0x40000000) == $thread or die "waitpid: $!";
    $| = 1;
    print "stopped\n";
    <STDIN>;
"#;

/// What is to be told.
struct Trouble<'a> {
    code: &'a str,
    subject: &'a str,
    /// Part of the first cause.
    cause: &'a str,
}

pub fn run(lab: &Lab) -> Outcome {
    let appliance = &mut Appliance::start(lab, &[0])?;
    let hung = appliance.disk("hung", 64 * MIB)?;
    let process = disk_process(appliance, &hung)?;
    signal("STOP", process)?;
    appliance.volume("late", "hung", 16 * MIB)?;
    let late = Trouble {
        code: "step_overdue",
        subject: "disk/hung",
        cause: "recording on disk hung which volumes lie on it",
    };

    files(appliance)?;
    step(
        "a file moved, deleted or cut off below its disk is told, and over when it is put right or given up",
    );
    full(lab, appliance)?;
    step("a full file system is told although no guest writes, and over when there is room");
    socket(appliance)?;
    step("a socket's file that somebody deletes is told, and put back");
    ring(appliance)?;
    step("a ring that its driver breaks is told to both sides, and works again in the next session");
    lost(appliance)?;
    step(
        "memory that vanishes under requests in flight ends its own session's service and touches nobody else",
    );
    sleeper(appliance)?;
    step(
        "an attachment's thread that sleeps although it was told something is cut off and told, and comes back",
    );
    reactor(appliance)?;
    step("a reactor that sleeps although an order waits for it is told");
    control(appliance)?;
    step("so is the control loop, and whoever asks is answered all the while");

    told(appliance, &late)?;
    signal("CONT", process)?;
    over(appliance, &late)?;
    wait_until("the stopped process to be over", PATIENCE, || {
        Ok(finding(appliance, "disk_process_stopped", "disk/hung")?.is_null())
    })?;
    step("a disk whose process stands still holds up its own change, which is told and goes on");

    promtool(&appliance.rest().text("/metrics")?)?;
    step("promtool has nothing to say against the metrics");
    // It is told for a minute after it was last seen.
    wait_until("vanished memory to be over", 2 * PATIENCE, || {
        Ok(finding(appliance, "guest_memory_lost", "attachment/loses")?.is_null())
    })?;
    appliance.must_be_well()?;
    appliance.stop()
}

fn files(appliance: &Appliance) -> Outcome {
    let during = |error| Failure::during("a disk's file", error);
    let path = appliance.disk("moved", 64 * MIB)?;
    let trouble = Trouble {
        code: "disk_astray",
        subject: "disk/moved",
        cause: "leads nowhere",
    };
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).map_err(during)?;
    told(appliance, &trouble)?;
    fs::rename(&aside, &path).map_err(during)?;
    over(appliance, &trouble)?;

    let path = appliance.disk("deleted", 64 * MIB)?;
    fs::remove_file(&path).map_err(during)?;
    let trouble = Trouble {
        code: "disk_unlinked",
        subject: "disk/deleted",
        cause: "has been deleted under the daemon",
    };
    told(appliance, &trouble)?;
    appliance.rest().delete("/v1/disks/deleted")?;
    over(appliance, &trouble)?;

    let path = appliance.disk("cut", 64 * MIB)?;
    let file = fs::OpenOptions::new().write(true).open(&path).map_err(during)?;
    file.set_len(32 * MIB).map_err(during)?;
    let trouble = Trouble {
        code: "disk_shrunk",
        subject: "disk/cut",
        cause: "made shorter by somebody: 32 MiB are there, 64 MiB were agreed on",
    };
    told(appliance, &trouble)?;
    // Whole again before it is given up, so that its superblock can be erased.
    file.set_len(64 * MIB).map_err(during)?;
    appliance.rest().delete("/v1/disks/cut")?;
    over(appliance, &trouble)
}

/// A small file system, taken away with this.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nothing else can be done about it here.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn full(lab: &Lab, appliance: &Appliance) -> Outcome {
    let place = lab.path("small");
    fs::create_dir_all(&place).map_err(|error| Failure::during(place.display(), error))?;
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64m", "palisade-e2e"])
        .arg(&place)
        .status();
    let mounted = status.map_err(|error| Failure::during("mount", error))?.success();
    demand(mounted, "a tmpfs could not be mounted")?;
    let _mounted = Mounted(place.clone());
    let file = json!({ "path": place.join("d.img"), "bytes": 128 * MIB, "sparse": true });
    let request = json!({ "id": "small", "file": file, "volatile": true });
    appliance.rest().post("/v1/disks", &request)?;
    appliance.settled("/v1/disks/small")?;

    let trouble = Trouble {
        code: "disk_no_space",
        subject: "disk/small",
        cause: "the file system (tmpfs) under disk small is full",
    };
    let filler = place.join("filler");
    let mut zeros = std::io::repeat(0).take(64 * MIB);
    let filled = fs::File::create(&filler).and_then(|mut file| std::io::copy(&mut zeros, &mut file));
    demand(filled.is_err(), "the file system did not become full")?;
    told(appliance, &trouble)?;
    fs::remove_file(&filler).map_err(|error| Failure::during(filler.display(), error))?;
    over(appliance, &trouble)?;
    appliance.rest().delete("/v1/disks/small")?;
    wait_until("disk small to be gone", PATIENCE, || {
        Ok(appliance.rest().get("/v1/disks/small").is_err())
    })
}

fn socket(appliance: &Appliance) -> Outcome {
    let socket = appliance.offer("web1", 16 * MIB, 1)?;
    fs::remove_file(&socket).map_err(|error| Failure::during(socket.display(), error))?;
    let trouble = Trouble {
        code: "socket_lost",
        subject: "attachment/web1",
        cause: "has been deleted from outside",
    };
    // It is put back within a second or two: the event stays, the finding need not be met.
    wait_until("the loss of the socket to be told", PATIENCE, || {
        Ok(
            event(appliance, "socket_lost", trouble.subject)?
                .is_some_and(|text| text.contains(trouble.cause)),
        )
    })?;
    over(appliance, &trouble)?;
    demand(socket.exists(), "the socket was not put back")
}

/// The serial number of a disk, asked for (virtio 1.3, 5.2.6): 16 bytes of header, 20 of data, the status.
fn serial(ring: &mut Ring, session: &Session) -> Outcome {
    ring.put(ARENA, &[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    ring.put(ARENA + 4096, &[0xff; 21])?;
    let part = |address, bytes, device_writes| Part {
        address,
        bytes,
        device_writes,
    };
    let parts = [
        part(ARENA, 16, false),
        part(ARENA + 4096, 20, true),
        part(ARENA + 4096 + 20, 1, true),
    ];
    ring.offer(0, &parts, None)?;
    let gone = ring.sleep(session.socket(), PATIENCE)?;
    demand(!gone, "the session ended")?;
    wait_until("the serial number", PATIENCE, || Ok(!ring.answered()?.is_empty()))?;
    demand(ring.get(ARENA + 4096 + 20, 1)? == [0], "the request was not done")
}

fn ring(appliance: &Appliance) -> Outcome {
    let socket = appliance.offer("jumps", 16 * MIB, 1)?;
    let mut ring = Ring::new()?;
    let session = Session::start(&socket, &ring, &mut None)?;
    serial(&mut ring, &session)?;
    demand(ring.errors() == 0, "an error was signalled before there was one")?;
    ring.jump()?;
    let trouble = Trouble {
        code: "queue_broken",
        subject: "attachment/jumps",
        cause: "queue 0: ",
    };
    told(appliance, &trouble)?;
    demand(ring.errors() > 0, "the error descriptor was not signalled")?;
    let is_it = |line: &str| {
        line.starts_with("palisade_attachment_ring_events_total{")
            && line.contains("attachment=\"jumps\"")
            && line.contains("event=\"broken\"")
            && line.ends_with(" 1")
    };
    let metrics = appliance.rest().text("/metrics")?;
    demand(metrics.lines().any(is_it), "the broken ring is not counted")?;
    drop(session);

    let mut ring = Ring::new()?;
    let session = Session::start(&socket, &ring, &mut None)?;
    over(appliance, &trouble)?;
    serial(&mut ring, &session)
}

fn lost(appliance: &Appliance) -> Outcome {
    let socket = appliance.offer("loses", 16 * MIB, 1)?;
    let beside = appliance.offer("beside", 16 * MIB, 1)?;
    let mut neighbour = Ring::new()?;
    let served = Session::start(&beside, &neighbour, &mut None)?;
    let mut ring = Ring::new()?;
    let session = Session::start(&socket, &ring, &mut None)?;
    serial(&mut ring, &session)?;
    // Reads of 256 KiB each, as many as there is room for, and the memory goes while they are under way.
    let header = ARENA;
    ring.put(header, &[0; 16])?;
    for number in 0..64_u16 {
        let data = (2 << 20) + u64::from(number) * (512 << 10);
        let part = |address, bytes, device_writes| Part {
            address,
            bytes,
            device_writes,
        };
        let parts = [
            part(header, 16, false),
            part(data, 256 << 10, true),
            part(data + (256 << 10), 1, true),
        ];
        ring.offer(3 * number, &parts, None)?;
    }
    ring.lose_memory()?;
    ring.ring_bell()?;
    let trouble = Trouble {
        code: "queue_broken",
        subject: "attachment/loses",
        cause: "queue 0: ",
    };
    told(appliance, &trouble)?;
    serial(&mut neighbour, &served)?;
    let health = appliance.rest().get("/v1/nodes/self/health")?.to_string();
    demand(
        !health.contains("disk/loses") && !health.contains("beside"),
        format!("others are blamed for it: {health}"),
    )?;
    drop(session);
    let mut ring = Ring::new()?;
    let session = Session::start(&socket, &ring, &mut None)?;
    over(appliance, &trouble)?;
    serial(&mut ring, &session)
}

fn sleeper(appliance: &Appliance) -> Outcome {
    let socket = appliance.offer("sleeps", 16 * MIB, 1)?;
    let session = Session::start(&socket, &Ring::new()?, &mut None)?;
    // Its thread is the youngest of those that serve a socket.
    let stopped = Stopped::begin_youngest(appliance, "guest-")?;
    // It is told to put its socket back.
    fs::remove_file(&socket).map_err(|error| Failure::during(socket.display(), error))?;
    let trouble = Trouble {
        code: "guest_hangs",
        subject: "attachment/sleeps",
        cause: "although it was told something",
    };
    told(appliance, &trouble)?;
    stopped.end();
    over(appliance, &trouble)?;
    drop(session);
    let mut ring = Ring::new()?;
    let session = Session::start(&socket, &ring, &mut None)?;
    serial(&mut ring, &session)
}

fn reactor(appliance: &Appliance) -> Outcome {
    let trouble = Trouble {
        code: "thread_stuck",
        subject: "reactor/0",
        cause: "although an order of the control loop waits for it",
    };
    let stopped = Stopped::begin(appliance, "reactor-0")?;
    // A disk to be used by every reactor: an order for this one.
    let request = json!({ "id": "empty", "null": { "bytes": 64 * MIB }, "usage": "whole" });
    appliance.rest().post("/v1/disks", &request)?;
    told(appliance, &trouble)?;
    stopped.end();
    over(appliance, &trouble)
}

fn control(appliance: &Appliance) -> Outcome {
    let trouble = Trouble {
        code: "thread_stuck",
        subject: "node/control",
        cause: "although an event waits for it",
    };
    let stopped = Stopped::begin(appliance, "control")?;
    let request = json!({ "id": "waits", "null": { "bytes": 64 * MIB }, "usage": "whole" });
    appliance.rest().post("/v1/disks", &request)?;
    told(appliance, &trouble)?;
    for path in [
        "/v1/nodes/self",
        "/v1/nodes/self/reactors",
        "/v1/disks",
        "/v1/disks/waits",
        "/v1/volumes",
        "/v1/attachments",
        "/v1/nodes/self/health",
        "/v1/nodes/self/state/backup",
        "/v1/events?format=json",
        "/metrics",
    ] {
        let asked = Instant::now();
        appliance.rest().text(path)?;
        let took = asked.elapsed();
        demand(took < ANSWER_MOST, format!("{path} was answered after {took:?}"))?;
    }
    stopped.end();
    over(appliance, &trouble)?;
    appliance.settled("/v1/disks/waits").map(drop)
}

/// Waits until a trouble is a finding with its cause and a remedy, an event, and a metric.
fn told(appliance: &Appliance, trouble: &Trouble<'_>) -> Outcome {
    let Trouble { code, subject, cause } = trouble;
    let what = format!("{code} of {subject} to be told");
    let mut seen = Value::Null;
    wait_until(&what, PATIENCE, || {
        seen = finding(appliance, code, subject)?;
        Ok(!seen.is_null())
    })?;
    let text = |name: &str| seen.get(name).and_then(Value::as_str).unwrap_or_default();
    demand(
        text("message").contains(cause) && !text("remedy").is_empty(),
        format!("{code} was told without \"{cause}\" or without a remedy: {seen}"),
    )?;
    let event = event(appliance, code, subject)?;
    demand(
        event.as_ref().is_some_and(|event| event.contains(cause)),
        format!("the event of {code} does not say \"{cause}\": {event:?}"),
    )?;
    let line = format!("palisade_findings{{code=\"{code}\",subject=\"{subject}\"}} ");
    let metrics = appliance.rest().text("/metrics")?;
    demand(
        metrics.lines().any(|found| found.starts_with(&line)),
        format!("no metric {line}"),
    )
}

/// Waits until it is over, which is an event as well.
fn over(appliance: &Appliance, trouble: &Trouble<'_>) -> Outcome {
    let Trouble { code, subject, .. } = trouble;
    wait_until(&format!("{code} of {subject} to be over"), PATIENCE, || {
        Ok(finding(appliance, code, subject)?.is_null())
    })?;
    // A finding goes from health just before its end is an event.
    wait_until(
        &format!("the end of {code} of {subject} to be an event"),
        PATIENCE,
        || Ok(event(appliance, &format!("{code}_over"), subject)?.is_some()),
    )
}

/// A finding that stands, or null.
fn finding(appliance: &Appliance, code: &str, subject: &str) -> Outcome<Value> {
    let health = appliance.rest().get("/v1/nodes/self/health")?;
    let findings = health.get("findings").and_then(Value::as_array);
    let is_it = |finding: &&Value| {
        let is = |name: &str, wanted: &str| finding.get(name).and_then(Value::as_str) == Some(wanted);
        is("code", code) && is("subject", subject)
    };
    let found = findings.into_iter().flatten().find(is_it);
    Ok(found.cloned().unwrap_or_default())
}

/// The message of the latest event of a kind.
fn event(appliance: &Appliance, kind: &str, subject: &str) -> Outcome<Option<String>> {
    let page = appliance.rest().get("/v1/events?format=json&limit=1000")?;
    let events = page.get("items").and_then(Value::as_array);
    let is_it = |event: &&Value| {
        let is = |name: &str, wanted: &str| event.get(name).and_then(Value::as_str) == Some(wanted);
        is("kind", kind) && is("subject", subject)
    };
    let found = events.into_iter().flatten().rfind(is_it);
    let message = found
        .and_then(|event| event.get("message"))
        .and_then(Value::as_str);
    Ok(message.map(str::to_owned))
}

/// A thread of the daemon that stands still, until this ends.
struct Stopped(Child);

impl Stopped {
    fn begin(appliance: &Appliance, name: &str) -> Outcome<Stopped> {
        Stopped::begin_at(name, appliance.youngest_thread(|comm| comm == name)?)
    }

    fn begin_youngest(appliance: &Appliance, prefix: &str) -> Outcome<Stopped> {
        let thread = appliance.youngest_thread(|comm| comm.starts_with(prefix))?;
        Stopped::begin_at(prefix, thread)
    }

    fn begin_at(name: &str, thread: u32) -> Outcome<Stopped> {
        let mut child = Command::new("perl")
            .args(["-e", STOPPER, &thread.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::during("perl", error))?;
        let mut word = String::new();
        if let Some(out) = child.stdout.take() {
            let read = BufReader::new(out).read_line(&mut word);
            read.map_err(|error| Failure::during("perl", error))?;
        }
        let stopped = Stopped(child);
        demand(
            word == "stopped\n",
            format!("thread {name} ({thread}) could not be stopped"),
        )?;
        Ok(stopped)
    }

    /// Lets it go on.
    fn end(mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            // The end of the input is what it waits for; a line does as well.
            let _ = input.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A thread goes on when who has stopped it ends.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process that waits for a disk: the daemon's child that has the disk's file open.
fn disk_process(appliance: &Appliance, file: &Path) -> Outcome<u32> {
    let parent = format!("PPid:\t{}\n", appliance.process().id());
    let processes = fs::read_dir("/proc").map_err(|error| Failure::during("/proc", error))?;
    let mut processes = processes.flatten().map(|entry| entry.path());
    let has_it = |process: &PathBuf| {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        status.contains(&parent)
            && files
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .any(|open| open == file)
    };
    processes
        .find(has_it)
        .as_deref()
        .and_then(number)
        .ok_or_else(|| Failure::new(format!("no process waits for {}", file.display())))
}

/// Shows a page of metrics to Prometheus' own judge.
fn promtool(page: &str) -> Outcome {
    let ours = root().join("target/tools/promtool");
    let program = if ours.exists() {
        ours
    } else {
        PathBuf::from("promtool")
    };
    let during = |error| {
        Failure::during(
            format!("{} (ci/setup --tests fetches it)", program.display()),
            error,
        )
    };
    let mut judge = Command::new(&program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(during)?;
    if let Some(mut input) = judge.stdin.take() {
        input.write_all(page.as_bytes()).map_err(during)?;
    }
    let said = judge.wait_with_output().map_err(during)?;
    let words = [said.stdout, said.stderr].concat();
    demand(
        said.status.success() && words.is_empty(),
        format!("promtool: {}", String::from_utf8_lossy(&words)),
    )
}
