//! The first words on a link that another node has made: read here, before it is known which reactor it is for.

use crate::shared::Shared;
use palisade_sys::SocketConnection;
use palisade_wire::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKind, HELLO_BYTES, Hello, LinkRefusal, payload_checksum,
};
use palisade_words::Uuid;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Who has made a link says who he is within this time.
const GREETING_WAIT: Duration = Duration::from_secs(2);

/// Takes a link that a node has made which has proved that it is `peer`. Blocks for the time of a greeting.
///
/// # Errors
/// It says nothing, or nothing that is understood.
pub fn take(shared: &Shared, peer: Uuid, socket: OwnedFd) -> io::Result<()> {
    // Reads, writes and time-outs are those of any stream socket.
    let mut stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(GREETING_WAIT))?;
    stream.set_write_timeout(Some(GREETING_WAIT))?;
    let hello = read(&mut stream)?;
    let kept = stream.try_clone()?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    let connection = SocketConnection::new(OwnedFd::from(stream));
    let taken = shared.peers.accepted(shared, peer, &hello, connection);
    if let Err(refusal) = taken {
        log::warn!("a link of node {peer} is refused: {refusal}");
        return refuse(kept, refusal);
    }
    Ok(())
}

fn read(stream: &mut UnixStream) -> io::Result<Hello> {
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let nonsense = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let header =
        FrameHeader::decode(&header).map_err(|error| nonsense(format!("the first frame {error}")))?;
    if header.kind != FrameKind::Hello {
        return Err(nonsense("the first frame is no greeting".to_owned()));
    }
    let mut body = [0; HELLO_BYTES];
    stream.read_exact(&mut body)?;
    if header
        .payload_crc
        .is_some_and(|crc| crc != payload_checksum([&body[..]]))
    {
        return Err(nonsense("the greeting does not fit its checksum".to_owned()));
    }
    Hello::decode(&body).map_err(|error| nonsense(format!("the greeting {error}")))
}

/// Says why, so that the other end's operator reads the cause.
fn refuse(mut stream: UnixStream, refusal: LinkRefusal) -> io::Result<()> {
    let body = refusal.encode();
    let header = FrameHeader {
        payload_bytes: body.len() as u32,
        payload_crc: Some(payload_checksum([&body[..]])),
        ..FrameHeader::of(FrameKind::Refused)
    };
    stream.write_all(&header.encode())?;
    stream.write_all(&body)
}
