//! The appliance's REST interface, as much of it as these measurements need. The command line client starts a process
//! for each wish, which is too slow for hundreds of attachments and too heavy for a soak.

use crate::Failure;
use palisade_api::{
    Attachment, AttachmentCreate, DiskCreate, DiskUsage, Limits, Medium, MemoryMedium, NullMedium, State,
    VolumeCreate, routes,
};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use ureq::{Agent, Body, http::Response};

/// How long a wish may take until it is in force.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The one disk. Volumes name it: none of memory or of nothing is chosen for them.
const DISK: &str = "d1";

/// One appliance.
#[derive(Debug)]
pub struct Rest {
    agent: Agent,
    base: String,
    token_file: PathBuf,
}

impl Rest {
    /// The appliance at a port of this machine, with the token it makes there. Nothing is sent yet.
    pub fn at(port: u16, token_file: PathBuf) -> Rest {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE));
        Rest {
            agent: config.build().new_agent(),
            base: format!("http://127.0.0.1:{port}"),
            token_file,
        }
    }

    fn bearer(&self) -> String {
        let token = std::fs::read_to_string(&self.token_file).unwrap_or_default();
        format!("Bearer {}", token.trim())
    }

    /// Reads something.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        let answer = self
            .agent
            .get(self.url(path))
            .header("authorization", self.bearer())
            .call();
        self.judge("GET", path, answer)
    }

    /// Adds a disk of a size in bytes that carries volumes, and waits for it.
    pub fn add_disk(&self, memory: bool, bytes: u64) -> Result<(), Failure> {
        let medium = match memory {
            true => Medium::Memory(MemoryMedium { bytes }),
            false => Medium::Null(NullMedium { bytes }),
        };
        let wish = DiskCreate {
            id: DISK.to_owned(),
            medium,
            usage: DiskUsage::Pooled,
            block_bytes: None,
            force: false,
            volatile: false,
        };
        self.create(routes::DISKS, &wish)?;
        self.applied(&format!("{}/{DISK}", routes::DISKS))
    }

    /// Creates a volume of a size in bytes, which need not be in force before it is attached.
    pub fn create_volume(&self, id: &str, bytes: u64) -> Result<(), Failure> {
        let wish = VolumeCreate {
            id: id.to_owned(),
            bytes,
            disk: Some(DISK.to_owned()),
            block_bytes: None,
            clear: None,
        };
        self.create(routes::VOLUMES, &wish)
    }

    /// Attaches a volume.
    pub fn create_attachment(&self, id: &str, volume: &str, limits: Option<Limits>) -> Result<(), Failure> {
        let wish = AttachmentCreate {
            id: id.to_owned(),
            volume: volume.to_owned(),
            socket: None,
            queues: None,
            queue_size: Some(1024),
            owner: None,
            group: None,
            mode: None,
            read_only: false,
            serial: None,
            write_cache: None,
            limits,
        };
        self.create(routes::ATTACHMENTS, &wish)
    }

    /// Waits until an attachment is on offer and gives the path of its socket.
    pub fn socket_of(&self, id: &str) -> Result<std::path::PathBuf, Failure> {
        let path = format!("{}/{id}", routes::ATTACHMENTS);
        self.applied(&path)?;
        let attachment: Attachment = serde_json::from_value(self.get(&path)?)
            .map_err(|error| self.problem("GET", &path, &error.to_string()))?;
        Ok(attachment.socket.into())
    }

    /// Takes something away; it may stay for a moment while a guest's session ends, and is asked for again.
    pub fn delete(&self, list: &str, id: &str) -> Result<(), Failure> {
        // Guests are connected still, and lose their disks on purpose.
        let path = format!("{list}/{id}?force=true");
        let begin = Instant::now();
        loop {
            let answer = self
                .agent
                .delete(self.url(&path))
                .header("authorization", self.bearer())
                .call();
            match self.judge("DELETE", &path, answer) {
                Ok(_) => return Ok(()),
                Err(_) if begin.elapsed() < PATIENCE => std::thread::sleep(LOOK_EVERY),
                Err(failure) => return Err(failure),
            }
        }
    }

    fn create(&self, path: &str, wish: &impl Serialize) -> Result<(), Failure> {
        let answer = self
            .agent
            .post(self.url(path))
            .header("authorization", self.bearer())
            .send_json(wish);
        self.judge("POST", path, answer).map(drop)
    }

    fn applied(&self, path: &str) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            let resource = self.get(path)?;
            let state = resource.get("state").cloned().unwrap_or_default();
            let state: State = serde_json::from_value(state)
                .map_err(|error| self.problem("GET", path, &error.to_string()))?;
            if state.is_applied() {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                let why = state.blocked_on.unwrap_or_else(|| "nothing it tells".into());
                return Err(self.problem("GET", path, &format!("is still blocked on {why}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn judge(
        &self,
        verb: &str,
        path: &str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Value, Failure> {
        let mut answer = answer.map_err(|error| self.problem(verb, path, &error.to_string()))?;
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(|error| self.problem(verb, path, &error.to_string()))?;
        if !answer.status().is_success() {
            return Err(self.problem(verb, path, &format!("{} {text}", answer.status())));
        }
        // What has no body, or is no JSON (the metrics), has nothing that is looked at here.
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn problem(&self, verb: &str, path: &str, problem: &str) -> Failure {
        Failure::Target {
            target: "palisaded".into(),
            problem: format!("{verb} {path}: {problem}"),
        }
    }
}
