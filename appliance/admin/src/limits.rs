//! Every bound of the administrative interface, written once, with the reason beside it.

use std::time::Duration;

/// Bytes of a request's body: the longest sensible one is below 1 KiB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a connection's read buffer may grow to; longer headers are refused by hyper (431).
pub const HEADER_BYTES_MAX: usize = 32 * 1024;

/// Connections served at a time by the TCP port. A further one takes the place of one that does nothing.
pub const CONNECTIONS_MAX: usize = 256;

/// Connections served at a time by the Unix socket. They are counted apart: what happens on the network leaves them.
pub const LOCAL_CONNECTIONS_MAX: usize = 128;

/// Characters of the shortest token: 32 hexadecimal digits carry 128 bits.
pub const TOKEN_CHARS_MIN: usize = 32;

/// Characters of the longest token; headers have a bound.
pub const TOKEN_CHARS_MAX: usize = 4096;

/// Different characters of a token. Of 32 random hexadecimal digits fewer are different once in a million tokens.
pub const TOKEN_DISTINCT_MIN: usize = 8;

/// How often the socket's file and the files of keys are looked at. An operator who finds no socket is told to try again
/// in a few seconds.
pub const KEEPER_PERIOD: Duration = Duration::from_secs(1);

/// How often a port that another process holds is tried again.
pub const LISTEN_PERIOD: Duration = Duration::from_secs(1);

/// Time for whoever listens on the socket's path to answer, before he is taken for dead.
pub const SOCKET_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Streams of events at a time, so that they cannot use up all connections.
pub const STREAMS_MAX: usize = 64;

/// Calls into the appliance at a time. They are short; more would only wait on each other's locks.
pub const CALLS_MAX: usize = 16;

/// Places kept for questions for health, which must be answered when all others wait for something.
pub const HEALTH_CALLS_MAX: usize = 2;

/// Commands whose end is being recorded at a time: each waits for stable storage, and those that wait together share one wait.
pub const RECORDS_MAX: usize = 8;

/// Time for a client to send its headers, and for an idle connection to send the next request.
pub const HEADERS_WAIT: Duration = Duration::from_secs(15);

/// Time for a client to send a body.
pub const BODY_WAIT: Duration = Duration::from_secs(15);

/// Time for a client to finish a TLS handshake.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// Time during which a client may take no byte of what is written to it before its connection is closed.
pub const WRITE_WAIT: Duration = Duration::from_secs(30);

/// Time for a call to wait for its turn before the client is told that the appliance is busy.
pub const CALL_WAIT: Duration = Duration::from_secs(30);

/// Time for connections to end by themselves when the server stops.
pub const STOP_WAIT: Duration = Duration::from_secs(3);

/// How often a stream looks for new events.
pub const EVENTS_PERIOD: Duration = Duration::from_millis(250);

/// How often a stream without events says that it is alive.
pub const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(15);

/// Events handed over in one piece.
pub const EVENTS_BATCH: usize = 256;

/// Bytes of a resource's id in an address; longer ones name nothing.
pub const ID_BYTES_MAX: usize = 255;

const _: () = assert!(STREAMS_MAX < CONNECTIONS_MAX, "streams leave room for requests");
const _: () = assert!(
    STREAMS_MAX < LOCAL_CONNECTIONS_MAX,
    "streams leave room for requests"
);

/// How often the thread that serves all connections shows that it makes progress.
pub const PROGRESS_PERIOD: Duration = Duration::from_secs(1);
