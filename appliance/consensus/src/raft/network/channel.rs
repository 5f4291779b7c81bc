//! Frames over a connection, one after the other.

use crate::raft::network::frame::{
    VOTER_HEADER_BYTES, VoterFrame, VoterFrameError, VoterFrameKind, encode_part,
};
use crate::raft::network::message::VoterMessage;
use crate::raft::network::transport::VoterStream;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

/// A connection that frames go over.
pub struct Channel {
    stream: Box<dyn VoterStream>,
    number: u32,
}

/// Why nothing can be had from a connection.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// It is closed, or failed.
    #[error("the connection has ended: {0}")]
    Io(#[from] io::Error),
    /// What came is not what may come.
    #[error("{0}")]
    Frame(#[from] VoterFrameError),
    /// What is to be sent cannot be.
    #[error("a message of {bytes} bytes is longer than any may be")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The other one said something else than was due.
    #[error("it was sent {what}, which is not what is due")]
    NotDue {
        /// What came.
        what: String,
    },
}

impl Channel {
    /// Over a connection.
    pub fn over(stream: Box<dyn VoterStream>) -> Channel {
        Channel { stream, number: 0 }
    }

    /// Asks, and returns the number of the question.
    pub(crate) async fn ask(&mut self, body: &[u8]) -> Result<u32, ChannelError> {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        self.send(VoterFrameKind::Question, number, body).await?;
        Ok(number)
    }

    /// Sends a piece of a state.
    pub(crate) async fn send_part(
        &mut self,
        number: u32,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ChannelError> {
        self.send(VoterFrameKind::Part, number, &encode_part(offset, bytes))
            .await
    }

    pub(crate) async fn answer(&mut self, number: u32, body: &[u8]) -> Result<(), ChannelError> {
        self.send(VoterFrameKind::Answer, number, body).await
    }

    /// The answer to a question.
    pub(crate) async fn answered(&mut self, number: u32) -> Result<VoterMessage, ChannelError> {
        let (frame, body) = self.receive().await?;
        match frame.kind == VoterFrameKind::Answer && frame.number == number {
            true => Ok(VoterMessage::decode(&body)?),
            false => Err(ChannelError::NotDue {
                what: format!(
                    "{:?} {} for the answer to question {number}",
                    frame.kind, frame.number
                ),
            }),
        }
    }

    /// What comes next. Room is made for it as it comes.
    pub(crate) async fn receive(&mut self) -> Result<(VoterFrame, Vec<u8>), ChannelError> {
        let mut header = [0; VOTER_HEADER_BYTES];
        self.stream.read_exact(&mut header).await?;
        let frame = VoterFrame::from_bytes(&header)?;
        let mut body = Vec::new();
        let limit = u64::try_from(frame.body_bytes).unwrap_or(u64::MAX);
        let there = (&mut self.stream).take(limit).read_to_end(&mut body).await?;
        match there == frame.body_bytes {
            true => Ok((frame, body)),
            false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    async fn send(&mut self, kind: VoterFrameKind, number: u32, body: &[u8]) -> Result<(), ChannelError> {
        let frame = VoterFrame {
            kind,
            number,
            body_bytes: body.len(),
        };
        if frame.body_bytes > super::frame::VOTER_BODY_BYTES_MAX {
            return Err(ChannelError::TooLong { bytes: body.len() });
        }
        // In one piece: a header of its own would be a packet of its own.
        let mut bytes = Vec::with_capacity(VOTER_HEADER_BYTES + body.len());
        bytes.extend(frame.to_bytes());
        bytes.extend(body);
        self.stream.write_all(&bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Whether the other end is still there, and has nothing to say: nothing is on its way.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        poll_fn(|context| {
            let mut byte = [0];
            let mut there = ReadBuf::new(&mut byte);
            Poll::Ready(
                Pin::new(&mut self.stream)
                    .poll_read(context, &mut there)
                    .is_pending(),
            )
        })
        .await
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
