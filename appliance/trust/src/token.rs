//! Tokens: by them a machine and a cluster that have never met know each other, once.
//!
//! ```text
//!   palisade-join-<base32 of:  version u8 = 1 | secret 16 bytes | SHA-256 of the authority's certificate 32 | check 4>
//! ```
//!
//! Base32 is that of RFC 4648, 6, in lower case and without padding: it survives being read aloud, pasted, and split by a
//! mail program. The check is the beginning of a SHA-256 over all that is before it: a token that was not copied whole is told
//! from one that is wrong before anybody is asked.
//!
//! The secret is 128 random bits, shown only to the cluster, after its authority has been recognised by the sum. The cluster
//! keeps a SHA-256 of it, in its database and its log; with that nobody can join.

use crate::authority::AuthorityError;
use crate::random::random;
use palisade_model::{Cluster, JoinToken};
use palisade_words::{Name, Sha256Sum};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

const PREFIX: &str = "palisade-join-";
const VERSION: u8 = 1;
const SECRET_BYTES: usize = 16;
const CHECK_BYTES: usize = 4;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Longest text that is looked at.
const TEXT_BYTES_MAX: usize = 256;

/// What a token proves itself by.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(pub(crate) [u8; SECRET_BYTES]);

/// A token as an operator carries it from the cluster to the machine.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    secret: TokenSecret,
    authority: Sha256Sum,
}

/// The text is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenTextError {
    /// It does not begin as one.
    #[error("a token begins with {PREFIX}: paste what `palisade cluster token` printed, whole")]
    Prefix,
    /// It has been cut or changed on its way.
    #[error("the token was not copied whole, or something in it was changed: paste it again")]
    Damaged,
    /// A later version has made it.
    #[error(
        "the token is of version {version}, and this program knows version {VERSION}: install the cluster's version here"
    )]
    Version {
        /// Its version.
        version: u8,
    },
}

impl TokenText {
    /// A new one, for the cluster whose authority has a certificate of this sum.
    ///
    /// # Errors
    /// [`AuthorityError::Random`].
    pub fn generate(authority: Sha256Sum) -> Result<TokenText, AuthorityError> {
        let secret = random().map_err(|_| AuthorityError::Random)?;
        Ok(TokenText {
            secret: TokenSecret(secret),
            authority,
        })
    }

    /// What the cluster is shown.
    pub fn secret(&self) -> &TokenSecret {
        &self.secret
    }

    /// SHA-256 of the authority's certificate.
    pub fn authority(&self) -> Sha256Sum {
        self.authority
    }
}

impl TokenSecret {
    /// What the cluster keeps of it.
    pub fn hash(&self) -> Sha256Sum {
        Sha256Sum(Sha256::digest(self.0).into())
    }

    /// The token of the cluster that has this secret. All are compared, each in a time that does not depend on where it
    /// differs.
    pub fn find<'a>(&self, cluster: &'a Cluster) -> Option<(&'a Name, &'a JoinToken)> {
        let hash = self.hash();
        let mut place = u32::MAX;
        for (number, token) in (0_u32..).zip(cluster.tokens.values()) {
            let is_it: Choice = token.hash.0.ct_eq(&hash.0);
            place.conditional_assign(&number, is_it);
        }
        cluster.tokens.iter().nth(usize::try_from(place).ok()?)
    }
}

impl fmt::Display for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend(self.secret.0);
        bytes.extend(self.authority.0);
        bytes.extend(check(&bytes));
        write!(f, "{PREFIX}{}", encode(&bytes))
    }
}

impl FromStr for TokenText {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<TokenText, TokenTextError> {
        let text: String = text
            .chars()
            .take(TEXT_BYTES_MAX)
            .filter(|c| !c.is_whitespace())
            .collect();
        let text = text.to_ascii_lowercase();
        let rest = text.strip_prefix(PREFIX).ok_or(TokenTextError::Prefix)?;
        let bytes = decode(rest).ok_or(TokenTextError::Damaged)?;
        let (said, sum) = bytes
            .split_last_chunk::<CHECK_BYTES>()
            .ok_or(TokenTextError::Damaged)?;
        if check(said) != *sum {
            return Err(TokenTextError::Damaged);
        }
        let (version, said) = said.split_first().ok_or(TokenTextError::Damaged)?;
        if *version != VERSION {
            return Err(TokenTextError::Version { version: *version });
        }
        let (secret, authority) = said
            .split_first_chunk::<SECRET_BYTES>()
            .ok_or(TokenTextError::Damaged)?;
        let authority: [u8; 32] = authority.try_into().map_err(|_| TokenTextError::Damaged)?;
        Ok(TokenText {
            secret: TokenSecret(*secret),
            authority: Sha256Sum(authority),
        })
    }
}

impl fmt::Debug for TokenSecret {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}

impl fmt::Debug for TokenText {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TokenText");
        shown.field("authority", &self.authority).finish_non_exhaustive()
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let sum: [u8; 32] = Sha256::digest(bytes).into();
    sum.first_chunk().copied().unwrap_or_default()
}

/// Five bits a letter, the highest first.
fn encode(bytes: &[u8]) -> String {
    let (mut text, mut held, mut bits) = (String::new(), 0_u32, 0_u32);
    let letter = |value: u32| char::from(ALPHABET.get((value & 31) as usize).copied().unwrap_or(b'a'));
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

/// The other way. What is left over at the end has to be zero: one token has one text.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0_u32);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        held = held << 5 | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
        held &= (1 << bits) - 1;
    }
    (bits < 5 && held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests;
