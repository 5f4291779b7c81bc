//! What a connection is for, before anything of it is taken: the first message of a handshake is looked at where it lies.

use crate::purpose::Purpose;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Bytes of the first message that are looked at: one record (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 5 + (1 << 14);

/// How long it is waited for more of it.
const AGAIN: Duration = Duration::from_millis(2);

/// What a caller offers, with all of the handshake still to be read; none: nothing that is known.
///
/// # Errors
/// It has gone, has said nothing in time, or says something else than the beginning of a handshake.
pub async fn offered(stream: &TcpStream, deadline: Duration) -> io::Result<Option<Purpose>> {
    let until = Instant::now() + deadline;
    let mut seen = vec![0; RECORD_BYTES_MAX];
    let mut known = 0;
    loop {
        let bytes = stream.peek(&mut seen).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if bytes > known {
            known = bytes;
            let mut acceptor = rustls::server::Acceptor::default();
            let mut message = seen.get(..bytes).unwrap_or_default();
            acceptor.read_tls(&mut message)?;
            let nonsense = |_| io::Error::from(io::ErrorKind::InvalidData);
            if let Some(hello) = acceptor.accept().map_err(nonsense)? {
                let hello = hello.client_hello();
                let first = hello.alpn().and_then(|mut names| names.next());
                return Ok(first.and_then(Purpose::of));
            }
        }
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(AGAIN).await;
    }
}
