//! What a connection is for, before anything of it is taken: the first message of a handshake is looked at where it lies.

use crate::purpose::Purpose;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

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
        // Who says nothing at all is waited for no longer than who says half of it.
        let peeked = timeout_at(until, stream.peek(&mut seen)).await;
        let bytes = peeked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const DEADLINE: Duration = Duration::from_millis(100);

    /// A caller that holds a place and says nothing, or half of something, has it for so long and no longer.
    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for() {
        for said in [&[][..], &[22, 3, 1, 0, 200]] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut caller = TcpStream::connect(address).await.unwrap();
            caller.write_all(said).await.unwrap();
            let (taken, _) = listener.accept().await.unwrap();
            let begun = Instant::now();
            let error = offered(&taken, DEADLINE).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!((DEADLINE..20 * DEADLINE).contains(&begun.elapsed()));
        }
    }

    #[tokio::test]
    async fn who_goes_or_talks_nonsense_is_known_at_once() {
        for said in [None, Some(&b"GET / HTTP/1.1\r\n\r\n"[..])] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut caller = TcpStream::connect(address).await.unwrap();
            let (taken, _) = listener.accept().await.unwrap();
            match said {
                Some(said) => caller.write_all(said).await.unwrap(),
                None => drop(caller),
            }
            let error = offered(&taken, Duration::from_secs(60)).await.unwrap_err();
            assert_ne!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
