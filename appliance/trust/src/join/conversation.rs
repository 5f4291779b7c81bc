//! One question and one answer over a stream, within a time.

use super::codec::{ANSWER_FRAME_BYTES_MAX, CodecError, JOIN_HEADER_BYTES, JoinFrame, JoinHeader};
use crate::link_error::LinkError;
use crate::purpose::Purpose;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Why a conversation ended before its answer.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// The connection failed, or the other end does not take us.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// What was received is no frame.
    #[error("{0}")]
    Codec(#[from] CodecError),
    /// Nothing came in time. What was asked may have been done: asking again is answered in the same way.
    #[error(
        "no answer came within {} ms: the cluster may have no majority at the moment; try again, the token stays good for \
         this machine",
        deadline.as_millis()
    )]
    TimedOut {
        /// How long it was waited for.
        deadline: Duration,
    },
}

/// Sends a frame and waits for the answer, within a time for both.
///
/// # Errors
/// [`ConversationError`].
pub async fn ask<S>(
    stream: &mut S,
    frame: &JoinFrame,
    deadline: Duration,
) -> Result<JoinFrame, ConversationError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        send(stream, frame).await?;
        receive(stream, ANSWER_FRAME_BYTES_MAX).await
    };
    match timeout(deadline, exchange).await {
        Ok(answered) => answered,
        Err(_) => Err(ConversationError::TimedOut { deadline }),
    }
}

/// Reads one frame with a payload of at most `max` bytes, within a time.
///
/// # Errors
/// [`ConversationError`].
pub async fn read_frame<S>(
    stream: &mut S,
    max: usize,
    deadline: Duration,
) -> Result<JoinFrame, ConversationError>
where
    S: AsyncRead + Unpin,
{
    match timeout(deadline, receive(stream, max)).await {
        Ok(read) => read,
        Err(_) => Err(ConversationError::TimedOut { deadline }),
    }
}

/// Writes one frame, within a time.
///
/// # Errors
/// [`ConversationError::Link`], [`ConversationError::TimedOut`].
pub async fn write_frame<S>(
    stream: &mut S,
    frame: &JoinFrame,
    deadline: Duration,
) -> Result<(), ConversationError>
where
    S: AsyncWrite + Unpin,
{
    match timeout(deadline, send(stream, frame)).await {
        Ok(written) => written,
        Err(_) => Err(ConversationError::TimedOut { deadline }),
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, frame: &JoinFrame) -> Result<(), ConversationError> {
    let bytes = frame.encode();
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(failed)
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S, max: usize) -> Result<JoinFrame, ConversationError> {
    let mut header = [0; JOIN_HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(failed)?;
    let header = JoinHeader::decode(&header, max)?;
    let mut payload = vec![0; header.length];
    stream.read_exact(&mut payload).await.map_err(failed)?;
    Ok(header.payload(&payload)?)
}

fn failed(error: std::io::Error) -> ConversationError {
    LinkError::of_io(error, Purpose::Join).into()
}
