//! A link that the kernel encrypts: the handshake is made here, and then the socket is a plain descriptor whose reads and
//! writes are data.
//!
//! The handshake reads the socket record by record, so that not a byte behind it is taken out: what the other end sends right
//! after it is decrypted by the kernel. It waits, within a deadline: it is for a thread of the control plane.
//!
//! Whether the kernel can, and with which ciphers, is found out before anything is sent; none else is agreed on. If it cannot, the socket comes back as it was, for
//! [`BufferedTls`](crate::BufferedTls). Both ends need not do the same: on the wire there is no difference.

use crate::identity::PeerIdentity;
use crate::link::{Acceptor, Connector, no_name, peer_of, purpose_of};
use crate::link_error::{LinkError, PeerVerdict};
use crate::purpose::Purpose;
use palisade_sys::ktls::{
    self, KernelCipher, KernelTlsError, KeyDirection, RECORD_WIRE_BYTES_MAX, RecordKeys,
};
use palisade_words::Uuid;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedConnectionCommon, UnbufferedStatus};
use rustls::{CipherSuite, CommonState, ConnectionTrafficSecrets, ExtractedSecrets};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes before a record (RFC 8446, 5.1).
const RECORD_HEADER_BYTES: usize = 5;

/// Bytes that a handshake may have sent us at most: a few certificates. More is no handshake of ours.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// A link that the kernel encrypts. No key of it is ever updated: see [`ktls`].
#[derive(Debug)]
pub struct KernelLink {
    /// The socket: what is read and written is data.
    pub socket: TcpStream,
    /// Who is at the other end.
    pub peer: PeerIdentity,
    /// What it is for.
    pub purpose: Purpose,
}

/// Which end makes the handshake.
#[derive(Clone, Copy, Debug)]
pub enum HandshakeSide<'a> {
    /// The one that has made the connection, to a node.
    Connect(&'a Connector, Uuid),
    /// The one that has taken it.
    Accept(&'a Acceptor),
}

/// What has become of a socket.
#[derive(Debug)]
pub enum KernelHandshake {
    /// The kernel encrypts.
    Done(KernelLink),
    /// The kernel has no TLS: here is the socket, and nothing has been read from it or written to it.
    Absent(TcpStream),
}

/// Makes the handshake on a connected socket and lets the kernel encrypt from there, within a time. The socket waits
/// (it is not non-blocking) and comes back with its own time limits taken away.
///
/// # Errors
/// [`LinkError`]; the socket is closed.
pub fn handshake(
    socket: TcpStream,
    side: HandshakeSide<'_>,
    purpose: Purpose,
    deadline: Duration,
) -> Result<KernelHandshake, LinkError> {
    let refused = |error: KernelTlsError| failed(io::Error::other(error));
    let suites: Vec<CipherSuite> = ktls::available()
        .map_err(refused)?
        .into_iter()
        .map(suite_of)
        .collect();
    if suites.is_empty() {
        return Ok(KernelHandshake::Absent(socket));
    }
    ktls::attach(&socket).map_err(refused)?;
    let (secrets, peer) = match side {
        HandshakeSide::Connect(connector, node) => {
            let limited = connector.clone().limited_to(&suites);
            shake_hands(&socket, HandshakeSide::Connect(&limited, node), purpose, deadline)?
        }
        HandshakeSide::Accept(acceptor) => {
            let limited = acceptor.clone().limited_to(&suites);
            shake_hands(&socket, HandshakeSide::Accept(&limited), purpose, deadline)?
        }
    };
    switch(&socket, &secrets).map_err(refused)?;
    let limits = socket
        .set_read_timeout(None)
        .and_then(|()| socket.set_write_timeout(None));
    limits.map_err(failed)?;
    Ok(KernelHandshake::Done(KernelLink {
        socket,
        peer,
        purpose,
    }))
}

/// The handshake alone: the secrets of both directions, with everything behind the handshake still in the socket.
fn shake_hands(
    socket: &TcpStream,
    side: HandshakeSide<'_>,
    purpose: Purpose,
    deadline: Duration,
) -> Result<(ExtractedSecrets, PeerIdentity), LinkError> {
    let setup = |source| LinkError::Setup { source };
    let wire = Wire {
        socket,
        purpose,
        deadline,
        until: Instant::now() + deadline,
    };
    let done = match side {
        HandshakeSide::Connect(connector, node) => {
            let mut config = connector.config(Some(node), None, purpose)?;
            config.enable_secret_extraction = true;
            let connection = UnbufferedClientConnection::new(Arc::new(config), no_name()).map_err(setup)?;
            wire.drive(connection).and_then(|connection| {
                let peer = identified(&connection, purpose)?;
                let (secrets, _) = connection.dangerous_into_kernel_connection().map_err(setup)?;
                Ok((secrets, peer))
            })
        }
        HandshakeSide::Accept(acceptor) => {
            let mut config = acceptor.config(Some(purpose))?;
            config.enable_secret_extraction = true;
            let connection = UnbufferedServerConnection::new(Arc::new(config)).map_err(setup)?;
            wire.drive(connection).and_then(|connection| {
                let peer = identified(&connection, purpose)?;
                let (secrets, _) = connection.dangerous_into_kernel_connection().map_err(setup)?;
                Ok((secrets, peer))
            })
        }
    };
    done.inspect_err(|error| match side {
        HandshakeSide::Connect(connector, _) => connector.counters().count(error),
        HandshakeSide::Accept(acceptor) => acceptor.counters().count(error),
    })
}

fn identified(connection: &CommonState, purpose: Purpose) -> Result<PeerIdentity, LinkError> {
    purpose_of(connection, purpose)?;
    peer_of(connection)?.ok_or(LinkError::Peer(PeerVerdict::NoCertificate))
}

/// RFC 8446, B.4.
fn suite_of(cipher: KernelCipher) -> CipherSuite {
    match cipher {
        KernelCipher::Aes128Gcm => CipherSuite::TLS13_AES_128_GCM_SHA256,
        KernelCipher::Aes256Gcm => CipherSuite::TLS13_AES_256_GCM_SHA384,
        KernelCipher::Chacha20Poly1305 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    }
}

/// Gives the kernel the keys of both directions.
fn switch(socket: &TcpStream, secrets: &ExtractedSecrets) -> Result<(), KernelTlsError> {
    for (direction, (sequence, secrets)) in [
        (KeyDirection::Send, &secrets.tx),
        (KeyDirection::Receive, &secrets.rx),
    ] {
        let (cipher, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (KernelCipher::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (KernelCipher::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (KernelCipher::Chacha20Poly1305, key, iv)
            }
            // A cipher that neither rustls' suites nor the kernel have today.
            _ => {
                return Err(KernelTlsError::Failed {
                    tried: "know the cipher",
                    source: io::ErrorKind::Unsupported.into(),
                });
            }
        };
        let iv = iv
            .as_ref()
            .try_into()
            .map_err(|_| KernelTlsError::KeyLength(cipher))?;
        let keys = RecordKeys {
            cipher,
            key: key.as_ref(),
            iv,
            sequence: *sequence,
        };
        ktls::switch_on(socket, direction, &keys)?;
    }
    Ok(())
}

/// What both ends of rustls' connections are to this.
trait Unbuffered {
    type Data;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Unbuffered for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Unbuffered for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// What one step of the handshake wants.
enum Want {
    More,
    Another,
    Nothing,
}

/// The socket during a handshake.
struct Wire<'a> {
    socket: &'a TcpStream,
    purpose: Purpose,
    deadline: Duration,
    until: Instant,
}

impl Wire<'_> {
    /// Goes on until the handshake is over.
    fn drive<C>(&self, mut connection: C) -> Result<C, LinkError>
    where
        C: DerefMut,
        C::Target: Unbuffered,
    {
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        let mut received = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } = connection.step(&mut incoming);
            let want = match state {
                Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                    encode_all(&mut outgoing, |into| encode.encode(into)).map(|()| Want::Another)
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => self.send(&mut outgoing).map(|()| {
                    transmit.done();
                    Want::Another
                }),
                Ok(ConnectionState::BlockedHandshake) => Ok(Want::More),
                Ok(ConnectionState::WriteTraffic(_)) => Ok(Want::Nothing),
                // Data cannot be there: nothing behind the handshake has been read.
                Ok(_) => Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Err(error) => Err(LinkError::of_tls(error, self.purpose)),
            };
            incoming.drain(..discard.min(incoming.len()));
            match want {
                Ok(Want::Another) => {}
                Ok(Want::Nothing) => return Ok(connection),
                Ok(Want::More) => {
                    received += self.read_record(&mut incoming)?;
                    if received > HANDSHAKE_BYTES_MAX {
                        return Err(failed(io::Error::other("its handshake does not end")));
                    }
                }
                Err(error) => {
                    self.say_why(&mut connection, &mut incoming);
                    return Err(error);
                }
            }
        }
    }

    /// Sends the alert that rustls has ready, as far as that goes: who has been refused hears why in one word.
    fn say_why<C>(&self, connection: &mut C, incoming: &mut Vec<u8>)
    where
        C: DerefMut,
        C::Target: Unbuffered,
    {
        let mut outgoing = Vec::new();
        loop {
            let UnbufferedStatus { discard, state, .. } = connection.step(incoming);
            let is_more = match state {
                Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                    encode_all(&mut outgoing, |into| encode.encode(into)).is_ok()
                }
                _ => false,
            };
            // What rustls has done with is taken away after each step, as it wants it.
            incoming.drain(..discard.min(incoming.len()));
            if !is_more {
                break;
            }
        }
        // The link has failed already, and with what is known.
        drop(self.send(&mut outgoing));
    }

    /// Appends one record, and nothing of the next.
    fn read_record(&self, incoming: &mut Vec<u8>) -> Result<usize, LinkError> {
        let mut header = [0; RECORD_HEADER_BYTES];
        self.read_exact(&mut header)?;
        let [kind, major, _, high, low] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        // Content types are 20 to 23 (RFC 8446, 5.1), and all versions of TLS begin with 3.
        if !(20..=23).contains(&kind) || major != 3 || length > RECORD_WIRE_BYTES_MAX {
            return Err(failed(io::Error::other("it speaks no TLS")));
        }
        let mut record = vec![0; length];
        self.read_exact(&mut record)?;
        incoming.extend_from_slice(&header);
        incoming.extend_from_slice(&record);
        Ok(RECORD_HEADER_BYTES + length)
    }

    fn read_exact(&self, mut into: &mut [u8]) -> Result<(), LinkError> {
        while !into.is_empty() {
            self.socket.set_read_timeout(Some(self.left()?)).map_err(failed)?;
            match { self.socket }.read(into) {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => into = into.get_mut(read..).unwrap_or_default(),
                Err(error) => self.goes_on(error)?,
            }
        }
        Ok(())
    }

    fn send(&self, outgoing: &mut Vec<u8>) -> Result<(), LinkError> {
        let mut left = outgoing.as_slice();
        while !left.is_empty() {
            self.socket
                .set_write_timeout(Some(self.left()?))
                .map_err(failed)?;
            match { self.socket }.write(left) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(error) => self.goes_on(error)?,
            }
        }
        outgoing.clear();
        Ok(())
    }

    /// A signal or the end of a wait is no end of the connection.
    fn goes_on(&self, error: io::Error) -> Result<(), LinkError> {
        match error.kind() {
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
            _ => Err(failed(error)),
        }
    }

    /// What is left of the time.
    fn left(&self) -> Result<Duration, LinkError> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(LinkError::TimedOut {
                deadline: self.deadline,
            }),
            false => Ok(left),
        }
    }
}

/// Appends what rustls encodes, with as much room as it asks for.
fn encode_all(
    outgoing: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), LinkError> {
    let at = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(at + room, 0);
        match encode(outgoing.get_mut(at..).unwrap_or_default()) {
            Ok(written) => {
                outgoing.truncate(at + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(wanted)) if wanted.required_size > room => {
                room = wanted.required_size;
            }
            Err(error) => return Err(failed(io::Error::other(error.to_string()))),
        }
    }
}

fn failed(source: io::Error) -> LinkError {
    LinkError::Io { source }
}

#[cfg(test)]
mod tests;
