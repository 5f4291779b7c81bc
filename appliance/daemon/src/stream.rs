//! The log's way to stderr, on which nobody waits: a pipe that nobody reads, a terminal that has been stopped or a journal
//! that hangs stops one thread here and none that serves. What finds no room is counted and said later; a stream that has
//! been closed is written to in vain.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Lines that wait for the stream at most.
const LINES: usize = 4096;

/// How long the end of the program waits for the last lines.
const END_WAIT: Duration = Duration::from_millis(500);

static STATE: OnceLock<Arc<State>> = OnceLock::new();

#[derive(Debug, Default)]
struct State {
    /// Lines taken and not yet written.
    waiting: AtomicUsize,
    /// Lines for which there was no room.
    left_out: AtomicU64,
}

/// Takes lines, each whole by one `write`, and never waits.
#[derive(Debug)]
pub struct Stream {
    lines: Option<SyncSender<Vec<u8>>>,
    state: Arc<State>,
}

impl Stream {
    /// To stderr, by a thread of its own; where there is none to be had, directly.
    pub fn to_stderr() -> Stream {
        let state = Arc::clone(STATE.get_or_init(Arc::default));
        let (lines, taken) = sync_channel(LINES);
        let of_thread = Arc::clone(&state);
        let started = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&taken, &of_thread, &mut io::stderr()));
        Stream {
            lines: started.is_ok().then_some(lines),
            state,
        }
    }
}

impl Write for Stream {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(lines) = &self.lines else {
            let _ = io::stderr().write_all(line);
            return Ok(line.len());
        };
        self.state.waiting.fetch_add(1, Relaxed);
        if lines.try_send(line.to_vec()).is_err() {
            self.state.waiting.fetch_sub(1, Relaxed);
            self.state.left_out.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits a moment until everything has been written. To be called at the end of the program.
pub fn finish() {
    let Some(state) = STATE.get() else { return };
    let begin = Instant::now();
    while state.waiting.load(Relaxed) > 0 && begin.elapsed() < END_WAIT {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An error is nobody's to mend: the stream may be closed, and goes on to be.
fn write_all(lines: &Receiver<Vec<u8>>, state: &State, to: &mut impl Write) {
    for line in lines {
        let left_out = state.left_out.swap(0, Relaxed);
        if left_out > 0 {
            let _ = writeln!(to, "[{left_out} lines left out: nobody took them in time]");
        }
        let _ = to.write_all(&line);
        state.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_takes_nothing_stops_nobody_and_what_is_missing_is_said() {
        let state = Arc::new(State::default());
        let (lines, taken) = sync_channel(2);
        let mut stream = Stream {
            lines: Some(lines),
            state: Arc::clone(&state),
        };
        for number in 0..5 {
            let line = format!("{number}\n");
            assert_eq!(stream.write(line.as_bytes()).unwrap(), line.len());
        }
        drop(stream);
        let mut written = Vec::new();
        write_all(&taken, &state, &mut written);
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text, "[3 lines left out: nobody took them in time]\n0\n1\n");
        assert_eq!(state.waiting.load(Relaxed), 0);
    }
}
