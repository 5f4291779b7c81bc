//! The bytes of what is said when a machine joins. TLS protects them; here they are bounded and versioned.
//!
//! ```text
//!   0  magic "PALJ"    4  version u16 = 1    6  kind u16    8  payload's length u32    12  payload
//!
//!   kind 1 join      secret 16, node u128, name, addresses, failure domain?, feature level u64, certificate request,
//!                    disks u32, volumes u32, attachments u32
//!   kind 2 granted   cluster u128, meant for u8 (0 voter, 1 learner), certificate, authority, authority's key?,
//!                    count u16, and of each node: id u128, name, key 32?, addresses
//!   kind 3 refused   code, sentence                    the same in all versions, so that each can refuse every other
//!   kind 4 renew     certificate request, wants the authority's key u8
//!   kind 5 renewed   certificate, authority's key?
//! ```
//!
//! Little-endian. Texts and certificates stand behind their length (u16), addresses behind their count (u16), each as 4 or 6
//! (u8), 4 or 16 bytes, port u16; what may be missing (`?`) behind 0 or 1. All of a payload is read: bytes that are left over
//! are an error.

use super::message::{JoinGrant, JoinRefused, JoinRequest, KnownNode, RenewGrant, RenewRequest};
use super::reader::{Reader, Writer};
use crate::authority::CERTIFICATE_REQUEST_BYTES_MAX;
use crate::token::TokenSecret;
use palisade_model::NodeRole;
use palisade_model::limits::ADDRESSES_PER_NODE_MAX;
use palisade_words::limits::NODES_MAX;
use palisade_words::{FeatureLevel, Sha256Sum};

/// Bytes before a payload.
pub const JOIN_HEADER_BYTES: usize = 12;

/// Longest payload that who joins or renews sends, in bytes.
pub const REQUEST_FRAME_BYTES_MAX: usize = 4 * 1024;

/// Longest payload of an answer, in bytes: certificates and as many nodes as there may be.
pub const ANSWER_FRAME_BYTES_MAX: usize = 64 * 1024;

const MAGIC: [u8; 4] = *b"PALJ";
const VERSION: u16 = 1;

/// Longest certificate or private key, in bytes. Ours have 600 and 150.
const CERTIFICATE_BYTES_MAX: usize = 4 * 1024;

/// Longest code and sentence of a refusal, in bytes.
const CODE_BYTES_MAX: usize = 64;
const SENTENCE_BYTES_MAX: usize = 1_024;

const _: () = assert!(
    3 * CERTIFICATE_BYTES_MAX + NODES_MAX * (16 + 2 + 255 + 33 + 2 + ADDRESSES_PER_NODE_MAX * 19)
        < ANSWER_FRAME_BYTES_MAX
);
const _: () = assert!(
    CERTIFICATE_REQUEST_BYTES_MAX + 16 + 16 + 2 * 257 + 2 + ADDRESSES_PER_NODE_MAX * 19 + 24
        < REQUEST_FRAME_BYTES_MAX
);

/// One of what is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinFrame {
    /// A machine asks to be let in.
    Join(JoinRequest),
    /// It is.
    Granted(JoinGrant),
    /// It is not, or gets no new certificate.
    Refused(JoinRefused),
    /// A node asks for a new certificate.
    Renew(RenewRequest),
    /// It gets one.
    Renewed(RenewGrant),
}

/// What stands before a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JoinHeader {
    kind: u16,
    /// Bytes of the payload.
    pub length: usize,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    /// They do not begin as one.
    #[error("what was received is no frame of a node that joins")]
    Magic,
    /// Another version has written it.
    #[error(
        "the other end speaks version {version} of the join protocol, and this program version {VERSION}: install the same \
         version of Palisade on both"
    )]
    Version {
        /// Its version.
        version: u16,
    },
    /// There is no such kind.
    #[error("a frame of unknown kind {kind} was received")]
    Kind {
        /// Which.
        kind: u16,
    },
    /// It is longer than it may be.
    #[error("a frame of {bytes} bytes was received, at most {max} are read")]
    TooLong {
        /// How long.
        bytes: usize,
        /// How long at most.
        max: usize,
    },
    /// A field has a value that no sender gives it.
    #[error("a frame was received with an impossible value in `{field}`")]
    Field {
        /// Which.
        field: &'static str,
    },
    /// Something comes behind the last field.
    #[error("a frame was received with {bytes} bytes behind its end")]
    LeftOver {
        /// How many.
        bytes: usize,
    },
}

const JOIN: u16 = 1;
const GRANTED: u16 = 2;
const REFUSED: u16 = 3;
const RENEW: u16 = 4;
const RENEWED: u16 = 5;

impl JoinHeader {
    /// Reads what stands before a payload of at most `max` bytes.
    ///
    /// # Errors
    /// [`CodecError::Magic`], [`CodecError::Version`], [`CodecError::Kind`], [`CodecError::TooLong`].
    pub fn decode(bytes: &[u8; JOIN_HEADER_BYTES], max: usize) -> Result<JoinHeader, CodecError> {
        let mut reader = Reader(bytes);
        if reader.array("magic")? != MAGIC {
            return Err(CodecError::Magic);
        }
        let (version, kind) = (reader.u16("version")?, reader.u16("kind")?);
        if version != VERSION && kind != REFUSED {
            return Err(CodecError::Version { version });
        }
        if !(JOIN..=RENEWED).contains(&kind) {
            return Err(CodecError::Kind { kind });
        }
        let length = usize::try_from(reader.u32("length")?).unwrap_or(usize::MAX);
        match length > max {
            true => Err(CodecError::TooLong { bytes: length, max }),
            false => Ok(JoinHeader { kind, length }),
        }
    }

    /// Reads the payload behind it.
    ///
    /// # Errors
    /// [`CodecError::Field`], [`CodecError::LeftOver`].
    pub fn payload(&self, bytes: &[u8]) -> Result<JoinFrame, CodecError> {
        let mut reader = Reader(bytes);
        let frame = match self.kind {
            JOIN => JoinFrame::Join(join(&mut reader)?),
            GRANTED => JoinFrame::Granted(granted(&mut reader)?),
            REFUSED => JoinFrame::Refused(JoinRefused {
                code: reader.text("code", CODE_BYTES_MAX)?,
                sentence: reader.text("sentence", SENTENCE_BYTES_MAX)?,
            }),
            RENEW => JoinFrame::Renew(RenewRequest {
                certificate_request: reader
                    .bytes("certificate request", CERTIFICATE_REQUEST_BYTES_MAX)?
                    .into(),
                wants_authority_key: reader.flag("wants the authority's key")?,
            }),
            RENEWED => JoinFrame::Renewed(RenewGrant {
                certificate: reader.bytes("certificate", CERTIFICATE_BYTES_MAX)?.into(),
                authority_key: authority_key(&mut reader)?,
            }),
            kind => return Err(CodecError::Kind { kind }),
        };
        match reader.0.len() {
            0 => Ok(frame),
            bytes => Err(CodecError::LeftOver { bytes }),
        }
    }
}

impl JoinFrame {
    /// Header and payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Writer::default();
        let kind = match self {
            JoinFrame::Join(request) => write_join(&mut payload, request),
            JoinFrame::Granted(grant) => write_granted(&mut payload, grant),
            JoinFrame::Refused(refused) => {
                payload.bytes(cut(&refused.code, CODE_BYTES_MAX));
                payload.bytes(cut(&refused.sentence, SENTENCE_BYTES_MAX));
                REFUSED
            }
            JoinFrame::Renew(request) => {
                payload.bytes(&request.certificate_request);
                payload.raw(&[u8::from(request.wants_authority_key)]);
                RENEW
            }
            JoinFrame::Renewed(grant) => {
                payload.bytes(&grant.certificate);
                payload.optional(grant.authority_key.as_deref());
                RENEWED
            }
        };
        let length = u32::try_from(payload.0.len()).unwrap_or(u32::MAX);
        let mut frame = Writer::default();
        frame.raw(&MAGIC).raw(&VERSION.to_le_bytes());
        frame.raw(&kind.to_le_bytes()).raw(&length.to_le_bytes());
        frame.raw(&payload.0);
        frame.0
    }

    /// Reads a whole frame with a payload of at most `max` bytes.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &[u8], max: usize) -> Result<JoinFrame, CodecError> {
        let (header, payload) = bytes.split_first_chunk().ok_or(CodecError::Magic)?;
        let header = JoinHeader::decode(header, max)?;
        match payload.len() == header.length {
            true => header.payload(payload),
            false => Err(CodecError::Field { field: "length" }),
        }
    }
}

fn join(reader: &mut Reader<'_>) -> Result<JoinRequest, CodecError> {
    Ok(JoinRequest {
        secret: TokenSecret(reader.array("secret")?),
        node: reader.uuid("node")?,
        name: reader.name("name")?,
        addresses: addresses(reader)?,
        failure_domain: reader.optional("failure domain", |reader| reader.name("failure domain"))?,
        feature_level: FeatureLevel(reader.u64("feature level")?),
        certificate_request: reader
            .bytes("certificate request", CERTIFICATE_REQUEST_BYTES_MAX)?
            .into(),
        disks: reader.u32("disks")?,
        volumes: reader.u32("volumes")?,
        attachments: reader.u32("attachments")?,
    })
}

fn write_join(payload: &mut Writer, request: &JoinRequest) -> u16 {
    payload.raw(&request.secret.0).uuid(request.node);
    payload
        .bytes(request.name.as_str().as_bytes())
        .addresses(&request.addresses);
    let failure_domain = request.failure_domain.as_ref();
    payload.optional(failure_domain.map(|name| name.as_str().as_bytes()));
    payload.raw(&request.feature_level.0.to_le_bytes());
    payload.bytes(&request.certificate_request);
    payload.raw(&request.disks.to_le_bytes());
    payload.raw(&request.volumes.to_le_bytes());
    payload.raw(&request.attachments.to_le_bytes());
    JOIN
}

fn granted(reader: &mut Reader<'_>) -> Result<JoinGrant, CodecError> {
    Ok(JoinGrant {
        cluster: reader.uuid("cluster")?,
        meant_for: match reader.flag("meant for")? {
            false => NodeRole::Voter,
            true => NodeRole::Learner,
        },
        certificate: reader.bytes("certificate", CERTIFICATE_BYTES_MAX)?.into(),
        authority: reader.bytes("authority", CERTIFICATE_BYTES_MAX)?.into(),
        authority_key: authority_key(reader)?,
        nodes: reader.list("nodes", NODES_MAX, |reader| {
            Ok(KnownNode {
                node: reader.uuid("node")?,
                name: reader.name("name")?,
                key: reader.optional("key", |reader| Ok(Sha256Sum(reader.array("key")?)))?,
                addresses: addresses(reader)?,
            })
        })?,
    })
}

fn write_granted(payload: &mut Writer, grant: &JoinGrant) -> u16 {
    payload.uuid(grant.cluster);
    payload.raw(&[u8::from(grant.meant_for == NodeRole::Learner)]);
    payload.bytes(&grant.certificate).bytes(&grant.authority);
    payload.optional(grant.authority_key.as_deref());
    let nodes = grant.nodes.get(..NODES_MAX).unwrap_or(&grant.nodes);
    let count = u16::try_from(nodes.len()).unwrap_or(u16::MAX);
    payload.raw(&count.to_le_bytes());
    for node in nodes {
        payload.uuid(node.node).bytes(node.name.as_str().as_bytes());
        payload.raw(&[u8::from(node.key.is_some())]);
        if let Some(key) = node.key {
            payload.raw(&key.0);
        }
        payload.addresses(&node.addresses);
    }
    GRANTED
}

fn addresses(reader: &mut Reader<'_>) -> Result<Vec<std::net::SocketAddr>, CodecError> {
    reader.list("addresses", ADDRESSES_PER_NODE_MAX, |reader| {
        reader.address("addresses")
    })
}

fn authority_key(reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>, CodecError> {
    let key = |reader: &mut Reader<'_>| {
        reader
            .bytes("authority's key", CERTIFICATE_BYTES_MAX)
            .map(Vec::from)
    };
    reader.optional("authority's key", key)
}

/// As much of a text as fits, in whole characters.
fn cut(text: &str, max: usize) -> &[u8] {
    text.get(..text.floor_char_boundary(max))
        .unwrap_or_default()
        .as_bytes()
}

#[cfg(test)]
mod tests;
