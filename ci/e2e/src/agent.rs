//! The guest's second serial port: a shell that obeys one line at a time (see `ci/guest/init`).

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome, demand};

/// What the guest writes when its shell waits for the first command.
const READY: &str = "@@ready";
/// What precedes the exit status of a command.
const DONE: &str = "@@done ";

/// A command's output and exit status.
#[derive(Debug)]
pub struct Answer {
    /// What it wrote to either output.
    pub text: String,
    /// Its exit status.
    pub status: i32,
}

/// The connection to a guest's shell.
#[derive(Debug)]
pub struct Agent {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Agent {
    /// Takes over the socket of the serial port.
    ///
    /// # Errors
    /// When the socket cannot be duplicated.
    pub fn new(stream: UnixStream) -> Outcome<Self> {
        let writer = stream
            .try_clone()
            .map_err(|error| Failure::during("serial port of the guest", error))?;
        Ok(Self {
            reader: BufReader::new(stream),
            writer,
        })
    }

    /// Waits until the guest has booted.
    ///
    /// # Errors
    /// When it has not within `patience`.
    pub fn wait_ready(&mut self, patience: Duration) -> Outcome {
        self.read_until("boot", patience, |line| line.ends_with(READY).then_some(0))
            .map(drop)
    }

    /// Sends one shell command and does not wait.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn send(&mut self, command: &str) -> Outcome {
        demand(!command.contains('\n'), "a command for the guest is one line")?;
        self.writer
            .write_all(format!("{command}\n").as_bytes())
            .map_err(|error| Failure::during(format!("sending `{command}` to the guest"), error))
    }

    /// Waits for the end of the command sent last.
    ///
    /// # Errors
    /// When it does not end within `patience` or the guest is gone.
    pub fn finish(&mut self, command: &str, patience: Duration) -> Outcome<Answer> {
        self.read_until(command, patience, |line| {
            line.strip_prefix(DONE).and_then(|code| code.parse().ok())
        })
    }

    fn read_until(
        &mut self,
        command: &str,
        patience: Duration,
        end: impl Fn(&str) -> Option<i32>,
    ) -> Outcome<Answer> {
        let deadline = Instant::now() + patience;
        let mut text = String::new();
        let mut bytes = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let so_far = format!("{text}{}", String::from_utf8_lossy(&bytes));
                return Err(Failure::new(format!(
                    "guest, `{command}`: no end within {patience:?}; it said: {so_far}"
                )));
            }
            // A read that times out keeps the bytes it has got in `bytes`.
            let limit = left.min(Duration::from_millis(200));
            self.reader
                .get_ref()
                .set_read_timeout(Some(limit))
                .map_err(|error| Failure::during("serial port of the guest", error))?;
            match self.reader.read_until(b'\n', &mut bytes) {
                Ok(0) => {
                    return Err(Failure::new(format!(
                        "the guest went away during `{command}`; it said: {text}"
                    )));
                }
                Ok(_) => {
                    let line = String::from_utf8_lossy(&bytes)
                        .trim_end_matches(['\r', '\n'])
                        .to_owned();
                    bytes.clear();
                    if let Some(status) = end(&line) {
                        return Ok(Answer { text, status });
                    }
                    text.push_str(&line);
                    text.push('\n');
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => {
                    return Err(Failure::during(
                        format!("reading from the guest (`{command}`)"),
                        error,
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn an_answer_is_the_text_before_the_status() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut agent = Agent::new(ours).unwrap();
        let guest = thread::spawn(move || {
            let mut reader = BufReader::new(theirs.try_clone().unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, "ls\n");
            (&theirs).write_all(b"a\r\nb\n@@do").unwrap();
            thread::sleep(Duration::from_millis(250));
            (&theirs).write_all(b"ne 3\n").unwrap();
        });
        agent.send("ls").unwrap();
        let answer = agent.finish("ls", Duration::from_secs(5)).unwrap();
        assert_eq!((answer.text.as_str(), answer.status), ("a\nb\n", 3));
        guest.join().unwrap();
    }

    #[test]
    fn silence_and_departure_are_failures() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut agent = Agent::new(ours).unwrap();
        assert!(agent.finish("x", Duration::from_millis(50)).is_err());
        drop(theirs);
        assert!(agent.finish("x", Duration::from_secs(5)).is_err());
    }
}
