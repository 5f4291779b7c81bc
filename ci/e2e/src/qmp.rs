//! QEMU's monitor: one JSON object a line, both ways.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};

/// How long QEMU may take to answer a command.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Qmp {
    /// Greets the monitor behind `stream`.
    ///
    /// # Errors
    /// When the other side does not speak QMP.
    pub fn new(stream: UnixStream) -> Outcome<Self> {
        let mut qmp = Self {
            reader: BufReader::new(stream),
            events: Vec::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        while qmp.next(deadline)?.get("QMP").is_none() {}
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns what QEMU answered.
    ///
    /// # Errors
    /// QEMU's own error text, or its silence.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Outcome<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        let mut stream = self.reader.get_ref();
        stream
            .write_all(line.as_bytes())
            .map_err(|error| Failure::during(format!("QMP {command}"), error))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next(deadline)?;
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
            if let Some(error) = message.get("error") {
                return Err(Failure::new(format!("QMP {command}: {error}")));
            }
            self.events.push(message);
        }
    }

    /// Waits for the event `name`, also one that came earlier.
    ///
    /// # Errors
    /// When it does not come within `patience`.
    pub fn wait_event(&mut self, name: &str, patience: Duration) -> Outcome {
        let is_it = |message: &Value| message.get("event").and_then(Value::as_str) == Some(name);
        if let Some(at) = self.events.iter().position(is_it) {
            self.events.remove(at);
            return Ok(());
        }
        let deadline = Instant::now() + patience;
        loop {
            let message = self
                .next(deadline)
                .map_err(|error| Failure::during(format!("waiting for {name}"), error))?;
            if is_it(&message) {
                return Ok(());
            }
            self.events.push(message);
        }
    }

    fn next(&mut self, deadline: Instant) -> Outcome<Value> {
        let mut bytes = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new("QEMU's monitor is silent"));
            }
            self.reader
                .get_ref()
                .set_read_timeout(Some(left))
                .map_err(|error| Failure::during("QEMU's monitor", error))?;
            match self.reader.read_until(b'\n', &mut bytes) {
                Ok(0) => return Err(Failure::new("QEMU closed its monitor")),
                Ok(_) => {
                    return serde_json::from_slice(&bytes)
                        .map_err(|error| Failure::during("QEMU's monitor", error));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(Failure::during("QEMU's monitor", error)),
            }
        }
    }
}
