//! One appliance: the daemon with its state, its sockets and its REST port, and what a scenario asks of it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, demand};
use crate::lab::Lab;
use crate::network::HostNetwork;
use crate::process::{Process, ending, number, wait_until};
use crate::rest::Rest;

/// How long the daemon may take to start on a busy machine, and to put a change into force.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to finish what is in flight when it is told to stop.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// A running daemon. Its disks are files in the scenario's scratch folder.
#[derive(Debug)]
pub struct Appliance {
    program: PathBuf,
    cli: PathBuf,
    folder: PathBuf,
    config: PathBuf,
    log: PathBuf,
    rest: Rest,
    /// The network namespace that it runs in, by name; this machine's own when there is none.
    host: Option<String>,
    process: Process,
}

impl Appliance {
    /// Starts one with `cores` for its reactors.
    ///
    /// # Errors
    /// When the daemon does not come up.
    pub fn start(lab: &Lab, cores: &[u32]) -> Outcome<Self> {
        Self::start_with(lab, cores, "")
    }

    /// The same with settings of the section `[devices]`.
    ///
    /// # Errors
    /// When the daemon does not come up.
    pub fn start_with(lab: &Lab, cores: &[u32], devices: &str) -> Outcome<Self> {
        Self::start_in(lab, "appliance", cores, devices)
    }

    /// The same in a folder of its own, for a scenario with several.
    ///
    /// # Errors
    /// When the daemon does not come up.
    pub fn start_in(lab: &Lab, folder: &str, cores: &[u32], devices: &str) -> Outcome<Self> {
        Self::start_as(lab, (folder, ""), cores, devices, None)
    }

    /// The same as a node of this name, in a folder of that name.
    ///
    /// # Errors
    /// When the daemon does not come up.
    pub fn start_named(lab: &Lab, name: &str, cores: &[u32]) -> Outcome<Self> {
        Self::start_as(lab, (name, &format!("node = \"{name}\"\n")), cores, "", None)
    }

    /// The same on a host of a network.
    ///
    /// # Errors
    /// When the daemon does not come up.
    pub fn start_on(
        lab: &Lab,
        network: &HostNetwork,
        host: usize,
        name: &str,
        cores: &[u32],
    ) -> Outcome<Self> {
        let first = format!("node = \"{name}\"\n");
        Self::start_as(lab, (name, &first), cores, "", Some((network, host)))
    }

    fn start_as(
        lab: &Lab,
        (folder, first): (&str, &str),
        cores: &[u32],
        devices: &str,
        on: Option<(&HostNetwork, usize)>,
    ) -> Outcome<Self> {
        let log = match folder {
            "appliance" => lab.path("palisaded.log"),
            other => lab.path(&format!("{other}.log")),
        };
        let folder = lab.path(folder);
        let during = |error| Failure::during(folder.display(), error);
        for name in ["state", "run", "disks"] {
            fs::create_dir_all(folder.join(name)).map_err(during)?;
        }
        let port = free_port()?;
        let config = folder.join("palisade.toml");
        let text = format!(
            "{first}state_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\n\n[reactors]\ncores = {cores:?}\n\n[devices]\n{devices}\n\n[admin]\nlisten = \
             \"127.0.0.1:{port}\"\n\n[allow]\nfiles = [{1:?}, \"/dev\"]\ndevices = [{1:?}, \"/dev\"]\nsockets = [{1:?}]\n",
            folder.display(),
            lab.path("")
        );
        fs::write(&config, text).map_err(during)?;
        let program = lab.program("palisaded")?;
        let mut rest = Rest::new(port, &folder.join("state"));
        if let Some((network, host)) = on {
            rest = rest.within(network.namespace(host));
        }
        let host = on.map(|(network, host)| network.host(host));
        let process = launch(&program, host.as_deref(), &config, &log, &rest)?;
        Ok(Self {
            program,
            cli: lab.program("palisade")?,
            folder,
            config,
            log,
            rest,
            host,
            process,
        })
    }

    /// REST.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// The daemon's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Adds a sparse file of `bytes` as a pooled disk.
    ///
    /// # Errors
    /// The daemon's refusal.
    pub fn disk(&self, id: &str, bytes: u64) -> Outcome<PathBuf> {
        let path = self.folder.join("disks").join(format!("{id}.img"));
        let file = json!({ "path": path, "bytes": bytes, "sparse": true });
        self.rest.post("/v1/disks", &json!({ "id": id, "file": file }))?;
        self.settled(&format!("/v1/disks/{id}"))?;
        Ok(path)
    }

    /// Makes a volume of `bytes` on `disk`.
    ///
    /// # Errors
    /// The daemon's refusal.
    pub fn volume(&self, id: &str, disk: &str, bytes: u64) -> Outcome {
        // Nothing of a volume is in force before it is attached: there is nothing to wait for.
        self.rest
            .post("/v1/volumes", &json!({ "id": id, "disk": disk, "bytes": bytes }))
            .map(drop)
    }

    /// Offers `volume` under its own id, with `extra` fields, and returns the socket.
    ///
    /// # Errors
    /// The daemon's refusal, or a socket that does not appear.
    pub fn attach(&self, volume: &str, extra: Value) -> Outcome<PathBuf> {
        let mut request = json!({ "id": volume, "volume": volume });
        if let (Some(request), Value::Object(extra)) = (request.as_object_mut(), extra) {
            request.extend(extra);
        }
        self.rest.post("/v1/attachments", &request)?;
        let attachment = self.settled(&format!("/v1/attachments/{volume}"))?;
        let socket = attachment.get("socket").and_then(Value::as_str);
        let socket = PathBuf::from(socket.ok_or_else(|| Failure::new(format!("no socket in {attachment}")))?);
        demand(
            socket.exists(),
            format!("{} is in force and its socket is not there", socket.display()),
        )?;
        Ok(socket)
    }

    /// A disk of its own, a volume of `bytes` and an attachment with `queues` virtqueues, all called `id`.
    ///
    /// # Errors
    /// As the three.
    pub fn offer(&self, id: &str, bytes: u64, queues: u32) -> Outcome<PathBuf> {
        self.disk(id, bytes + 64 * MIB)?;
        self.volume(id, id, bytes)?;
        self.attach(id, json!({ "queues": queues }))
    }

    /// The attachment as REST shows it.
    ///
    /// # Errors
    /// When there is none.
    pub fn attachment(&self, id: &str) -> Outcome<Value> {
        self.rest.get(&format!("/v1/attachments/{id}"))
    }

    /// Waits until the attachment's session is in `state`.
    ///
    /// # Errors
    /// When it is not within half a minute.
    pub fn wait_connection(&self, id: &str, state: &str) -> Outcome {
        wait_until(&format!("attachment {id} to be {state}"), PATIENCE, || {
            let found = self.attachment(id)?;
            Ok(found.pointer("/connection/state").and_then(Value::as_str) == Some(state))
        })
    }

    /// Demands that the attachment answered no request with an error.
    ///
    /// # Errors
    /// Names the operations that failed.
    pub fn must_have_no_errors(&self, id: &str) -> Outcome {
        let operations = self.operations(id)?;
        let failed: Vec<&Value> = operations
            .iter()
            .filter(|one| one.get("errors").and_then(Value::as_u64).unwrap_or(0) > 0)
            .collect();
        demand(
            failed.is_empty(),
            format!("attachment {id} answered with errors: {failed:?}"),
        )
    }

    /// Requests the attachment has answered, all operations together.
    ///
    /// # Errors
    /// When there is no such attachment.
    pub fn requests(&self, id: &str) -> Outcome<u64> {
        Ok(self
            .operations(id)?
            .iter()
            .filter_map(|one| one.get("requests").and_then(Value::as_u64))
            .sum())
    }

    /// What the attachment has counted, operation by operation.
    fn operations(&self, id: &str) -> Outcome<Vec<Value>> {
        let found = self.attachment(id)?;
        let operations = found.get("operations").and_then(Value::as_array);
        Ok(operations.cloned().unwrap_or_default())
    }

    /// Demands that the daemon runs and finds nothing wrong with itself, once everything is up that comes up after a start.
    ///
    /// # Errors
    /// Its findings.
    pub fn must_be_well(&mut self) -> Outcome {
        self.process.must_run()?;
        let mut health = Value::Null;
        let up = wait_until("everything to be up", PATIENCE, || {
            health = self.rest.get("/v1/nodes/self/health")?;
            // What a kill in the middle of a write has left of a superblock is written anew first.
            let is_up = ["\"coming_up\"", "\"superblock_damaged\""]
                .iter()
                .all(|code| !health.to_string().contains(code));
            Ok(is_up)
        });
        up.map_err(|failure| Failure::new(format!("{failure}: {health}")))?;
        let findings = health.get("findings").and_then(Value::as_array);
        // A discard that took long on this machine is a truth about the machine.
        let is_wrong = |finding: &Value| {
            let text = |name: &str| finding.get(name).and_then(Value::as_str);
            text("severity") != Some("ok") && text("code") != Some("disk_discards_slow")
        };
        let well = findings.is_some_and(|findings| !findings.iter().any(is_wrong));
        demand(well, format!("the appliance is not well: {health}"))
    }

    /// The thread of the daemon that was begun last of those whose name is right.
    ///
    /// # Errors
    /// When there is none.
    pub fn youngest_thread(&self, is_it: impl Fn(&str) -> bool) -> Outcome<u32> {
        let folder = format!("/proc/{}/task", self.process.id());
        let threads = fs::read_dir(&folder).map_err(|error| Failure::during(&folder, error))?;
        let threads = threads.flatten().map(|entry| entry.path());
        let found = threads.filter(|path| {
            let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
            is_it(comm.trim_end())
        });
        let youngest = found.filter_map(|path| number(&path)).max();
        youngest.ok_or_else(|| Failure::new("the daemon has no such thread"))
    }

    /// For how long its first reactor has been ready to run and had no processor, since it was started.
    ///
    /// # Errors
    /// When the kernel does not say (CONFIG_SCHED_INFO).
    pub fn reactor_had_to_wait(&self) -> Outcome<Duration> {
        let thread = self.youngest_thread(|comm| comm == "reactor-0")?;
        let file = format!("/proc/{}/task/{thread}/schedstat", self.process.id());
        let text = fs::read_to_string(&file).map_err(|error| Failure::during(&file, error))?;
        let waited = text
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok());
        let waited = waited.ok_or_else(|| Failure::new(format!("{file}: {text}")))?;
        Ok(Duration::from_nanos(waited))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; the daemon must finish what is in flight and end with status 0.
    ///
    /// # Errors
    /// When it ends otherwise or too late.
    pub fn stop(&mut self) -> Outcome {
        let status = self.process.terminate(DRAIN_PATIENCE)?;
        let words = self.process.last_words();
        demand(
            status.success(),
            format!(
                "SIGTERM must end in good order, and gave {}:\n    {words}",
                ending(status)
            ),
        )
    }

    /// Starts it again on the same state.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_again(&mut self) -> Outcome {
        let host = self.host.as_deref();
        self.process = launch(&self.program, host, &self.config, &self.log, &self.rest)?;
        Ok(())
    }

    /// Runs the command line `palisade` against this appliance; returns its output.
    ///
    /// # Errors
    /// Its words when it fails.
    pub fn cli(&self, arguments: &[&str]) -> Outcome<String> {
        let output = Command::new(&self.cli)
            .arg("--url")
            .arg(self.folder.join("run/api.socket"))
            .args(arguments)
            .output()
            .map_err(|error| Failure::during(self.cli.display(), error))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = String::from_utf8_lossy(&output.stderr);
        demand(
            output.status.success(),
            format!("palisade {}: {}{words}", arguments.join(" "), text),
        )?;
        Ok(text)
    }

    /// Waits until what was agreed on about a resource is in force here.
    ///
    /// # Errors
    /// What it is blocked on.
    pub fn settled(&self, path: &str) -> Outcome<Value> {
        let mut seen = Value::Null;
        let waited = wait_until(&format!("{path} to be in force"), PATIENCE, || {
            seen = self.rest.get(path)?;
            Ok(is_applied(&seen))
        });
        waited.map_err(|failure| Failure::new(format!("{failure}: {seen}")))?;
        Ok(seen)
    }
}

fn launch(program: &Path, host: Option<&str>, config: &Path, log: &Path, rest: &Rest) -> Outcome<Process> {
    let mut command = match host {
        None => Command::new(program),
        // It becomes the program: the process is the daemon's.
        Some(host) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", host]).arg(program);
            command
        }
    };
    command.arg("--config").arg(config);
    let mut process = Process::start("palisaded", &mut command, log)?;
    wait_until("the daemon's REST port", PATIENCE, || {
        process.must_run()?;
        Ok(rest.get("/v1/nodes/self").is_ok())
    })?;
    Ok(process)
}

/// A port nobody uses. Somebody might take it before the daemon does; then the daemon says so.
fn free_port() -> Outcome<u16> {
    let during = |error| Failure::during("a free port", error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(during)?;
    Ok(listener.local_addr().map_err(during)?.port())
}

/// Whether what was agreed on about a resource is in force on every node that has to do with it.
pub fn is_applied(resource: &Value) -> bool {
    let wanted = resource.pointer("/state/generation").and_then(Value::as_u64);
    let nodes = resource.pointer("/state/applied").and_then(Value::as_object);
    let reached = |on: &Value| on.get("generation").and_then(Value::as_u64) >= wanted;
    wanted.is_some() && nodes.is_some_and(|nodes| !nodes.is_empty() && nodes.values().all(reached))
}
