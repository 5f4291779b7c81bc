//! How values are kept in the database: CRC-32C of the rest, little-endian, then JSON.
//!
//! The database has checksums of its own; this one says that what comes out is what we put in.

use crate::unread::unread;
use crc_fast::{CrcAlgorithm, checksum};
use palisade_model::{Cluster, Command};
use palisade_words::{Generation, LineageId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One applied command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its place in the log, from 1, without gaps.
    pub(crate) index: u64,
    /// The generation it led to.
    pub(crate) generation: Generation,
    /// [`digest`] of the cluster it led to. A program that applies the command differently finds out here, and does
    /// not serve a volume from where its data is not.
    pub(crate) digest: u32,
    /// The id of that generation. Entries of format 1 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lineage: Option<LineageId>,
    /// What was asked for.
    pub(crate) command: Command,
}

/// The cluster as a whole.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The place in the log up to which commands are in it.
    pub(crate) index: u64,
    /// What they led to.
    pub(crate) cluster: Cluster,
}

/// Why bytes are no record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RecordError {
    /// The checksum is missing or wrong.
    Checksum,
    /// The text does not say what it should.
    Text(String),
    /// It is as it was written, and says what this program does not know: which.
    Unknown(String),
}

/// A value as bytes.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value)?;
    if let Some((sum, text)) = bytes.split_at_mut_checked(4) {
        sum.copy_from_slice(&crc32c(text).to_le_bytes());
    }
    Ok(bytes)
}

/// A value from bytes, all of it: what would be lost when it is written again is no such value.
pub(crate) fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, RecordError> {
    let (sum, text) = bytes.split_first_chunk::<4>().ok_or(RecordError::Checksum)?;
    if crc32c(text) != u32::from_le_bytes(*sum) {
        return Err(RecordError::Checksum);
    }
    let no_text = |error: serde_json::Error| RecordError::Text(error.to_string());
    let written: Value = serde_json::from_slice(text).map_err(no_text)?;
    let value = T::deserialize(&written).map_err(|error| RecordError::Unknown(error.to_string()))?;
    let read = serde_json::to_value(&value).map_err(no_text)?;
    match unread(&written, &read) {
        None => Ok(value),
        Some(unknown) => Err(RecordError::Unknown(format!(
            "it does not know what {unknown} is"
        ))),
    }
}

/// CRC-32C of a cluster's JSON: the same for the same cluster, as its maps are ordered.
pub(crate) fn digest(cluster: &Cluster) -> Result<u32, serde_json::Error> {
    serde_json::to_vec(cluster).map(|text| crc32c(&text))
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    // The algorithm's result is 32 bits wide.
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_notices_any_bit_turned() {
        let bytes = encode(&vec![1u64, 2, 3]).unwrap();
        assert_eq!(decode::<Vec<u64>>(&bytes), Ok(vec![1, 2, 3]));
        for bit in 0..bytes.len() * 8 {
            let mut turned = bytes.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode::<Vec<u64>>(&turned), Err(RecordError::Checksum));
        }
        assert_eq!(decode::<Vec<u64>>(&bytes[..3]), Err(RecordError::Checksum));
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
