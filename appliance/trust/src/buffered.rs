//! TLS as bytes in and bytes out, for somebody who owns the socket: where the kernel does not encrypt.
//!
//! ```text
//!   socket --> take_records --> [rustls] --> read_plain  --> user
//!   socket <-- pending      <-- [rustls] <-- write_plain <-- user
//! ```
//!
//! Nothing here reads a socket or waits. Both directions are bounded: what is not taken is the caller's back-pressure.

use crate::identity::PeerIdentity;
use crate::link::{Acceptor, Connector, no_name, peer_of, purpose_of};
use crate::link_error::{LinkError, PeerVerdict};
use crate::purpose::Purpose;
use palisade_words::Uuid;
use rustls::{ClientConnection, Connection, ServerConnection};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Plaintext that is held for sending, in bytes: four records.
pub const SENDING_BYTES_MAX: usize = 64 * 1024;

/// Records that are held because the socket has not taken them yet, in bytes: as much with what encryption adds.
const PENDING_BYTES_MAX: usize = SENDING_BYTES_MAX + 16 * 1024;

/// A connection of TLS without a socket.
#[derive(Debug)]
pub struct BufferedTls {
    connection: Connection,
    purpose: Purpose,
    /// Records on their way to the socket.
    pending: VecDeque<u8>,
    is_closed: bool,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum BufferedError {
    /// In the handshake or because of what the other end has sent. What is pending tells the other end, and is to be sent
    /// before the socket is closed.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// The other end has gone without saying so: what was sent last may be missing.
    #[error("the connection was cut off without the other end having closed it")]
    CutOff,
}

impl BufferedTls {
    /// The end that has made the connection, to a node.
    ///
    /// # Errors
    /// [`LinkError::Setup`].
    pub fn connect(connector: &Connector, node: Uuid, purpose: Purpose) -> Result<BufferedTls, LinkError> {
        let config = connector.config(Some(node), None, purpose)?;
        let connection = ClientConnection::new(Arc::new(config), no_name());
        let connection = connection.map_err(|source| LinkError::Setup { source })?;
        Ok(BufferedTls::of(connection.into(), purpose))
    }

    /// The end that has taken it, for one purpose.
    ///
    /// # Errors
    /// [`LinkError::Setup`].
    pub fn accept(acceptor: &Acceptor, purpose: Purpose) -> Result<BufferedTls, LinkError> {
        let config = acceptor.config(Some(purpose))?;
        let connection = ServerConnection::new(Arc::new(config));
        let connection = connection.map_err(|source| LinkError::Setup { source })?;
        Ok(BufferedTls::of(connection.into(), purpose))
    }

    fn of(mut connection: Connection, purpose: Purpose) -> BufferedTls {
        connection.set_buffer_limit(Some(SENDING_BYTES_MAX));
        BufferedTls {
            connection,
            purpose,
            pending: VecDeque::new(),
            is_closed: false,
        }
    }

    /// Takes bytes that the socket has read, and says how many were taken: fewer than all only where plaintext waits to be
    /// read.
    ///
    /// # Errors
    /// [`BufferedError::Link`]: the connection is over.
    pub fn take_records(&mut self, bytes: &[u8]) -> Result<usize, BufferedError> {
        let mut left = bytes;
        while !left.is_empty() {
            match self.connection.read_tls(&mut left) {
                // It holds as much as it may until some is read.
                Err(_) | Ok(0) => break,
                Ok(_) => self.process()?,
            }
        }
        Ok(bytes.len() - left.len())
    }

    fn process(&mut self) -> Result<(), BufferedError> {
        let state = self.connection.process_new_packets();
        match state {
            Ok(state) => {
                self.is_closed |= state.peer_has_closed();
                Ok(())
            }
            Err(error) => Err(LinkError::of_tls(error, self.purpose).into()),
        }
    }

    /// Says that the socket has come to its end.
    ///
    /// # Errors
    /// [`BufferedError::CutOff`], if the other end had not closed the connection before.
    pub fn take_end(&mut self) -> Result<(), BufferedError> {
        match self.is_closed {
            true => Ok(()),
            false => Err(BufferedError::CutOff),
        }
    }

    /// Whether both ends know each other: before that no plaintext of ours is sent.
    pub fn is_ready(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Who is at the other end, once the connection is ready.
    ///
    /// # Errors
    /// [`LinkError::Purpose`], or [`LinkError::Peer`] with [`PeerVerdict::NoCertificate`]: also of a machine that joins.
    pub fn peer(&self) -> Result<PeerIdentity, LinkError> {
        purpose_of(&self.connection, self.purpose)?;
        peer_of(&self.connection)?.ok_or(LinkError::Peer(PeerVerdict::NoCertificate))
    }

    /// Reads plaintext into a buffer; 0 when there is none now.
    pub fn read_plain(&mut self, into: &mut [u8]) -> usize {
        self.connection.reader().read(into).unwrap_or(0)
    }

    /// Whether the other end has closed the connection in good order. What it sent before may still be there to be read.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Takes plaintext to be sent, and says how much: fewer bytes than all where the socket is behind, none before the
    /// connection is ready.
    pub fn write_plain(&mut self, bytes: &[u8]) -> usize {
        self.encrypt();
        if !self.is_ready() || self.pending.len() >= PENDING_BYTES_MAX {
            return 0;
        }
        let taken = self.connection.writer().write(bytes).unwrap_or(0);
        self.encrypt();
        taken
    }

    /// Says that no more plaintext is to come (close_notify; RFC 8446, 6.1).
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// The records that the socket is to send.
    pub fn pending(&mut self) -> &[u8] {
        self.encrypt();
        self.pending.make_contiguous()
    }

    /// The socket has sent so many bytes of [`BufferedTls::pending`].
    pub fn sent(&mut self, bytes: usize) {
        self.pending.drain(..bytes.min(self.pending.len()));
    }

    /// Moves records out of rustls, which keeps what there is no room for.
    fn encrypt(&mut self) {
        while self.connection.wants_write() && self.pending.len() < PENDING_BYTES_MAX {
            let written: io::Result<usize> = self.connection.write_tls(&mut self.pending);
            if !written.is_ok_and(|bytes| bytes > 0) {
                return;
            }
        }
    }
}
