//! Seals what lies outside this process: XChaCha20-Poly1305, with keys from `cache.encryption_key_file`.
//!
//! A sealed value is a nonce of 24 random bytes, the ciphertext and a tag of 16. So long a nonce may be drawn anew for
//! each value, by any number of replicas, without ever coming twice. What is sealed is bound to what it belongs to: the
//! associated data has to be the same when it is opened, so that one value cannot be put in the place of another.
//!
//! The key file has one key a line, 32 bytes as 64 hex digits or as padded base64, so that `openssl rand -hex 32` makes
//! one. The first seals, and each of them opens: a new key goes on top, and the old one may go when nothing is left that
//! it sealed. Keys are wiped when they are dropped, and nothing here can be printed.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key, Tag, XChaCha20Poly1305, XNonce,
    aead::{AeadInOut as _, Generate as _, KeyInit as _},
};
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError};

const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;

/// Seals and opens.
pub struct Seal {
    /// One after another; there is at least one.
    keys: Zeroizing<Vec<u8>>,
}

impl Seal {
    /// Reads the keys in the file at `path`, under the rules of [`secret_file::read`]. Blocks for as long as a small local
    /// file takes.
    ///
    /// # Errors
    /// [`SealError`], which names neither the path nor anything of the contents.
    pub fn open_file(path: &Path, trusted_dirs: &[PathBuf]) -> Result<Self, SealError> {
        Self::parse(&secret_file::read(path, trusted_dirs).map_err(SealError::File)?)
    }

    /// Reads the keys in the contents of such a file.
    ///
    /// # Errors
    /// [`SealError`], which says no more of the contents than a line's number.
    pub fn parse(contents: &[u8]) -> Result<Self, SealError> {
        let lines = || contents.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        // Of its full size from the start, so that no copy is left behind by growth.
        let mut keys = Zeroizing::new(Vec::with_capacity(lines().count() * KEY));
        for (at, line) in lines().enumerate() {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let key = key(line).ok_or(SealError::NoKey { line: at + 1 })?;
            keys.extend_from_slice(&key[..]);
        }
        if keys.is_empty() { Err(SealError::Empty) } else { Ok(Self { keys }) }
    }

    /// Seals `plain`, bound to `aad`: to every part of it, and to where each ends. `None` only where the system has no
    /// randomness to give.
    #[must_use]
    pub fn seal(&self, aad: &[&[u8]], plain: &[u8]) -> Option<Vec<u8>> {
        let nonce = XNonce::try_generate().ok()?;
        let mut sealed = Vec::with_capacity(NONCE + plain.len() + TAG);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let cipher = self.ciphers().next()?;
        let tag = cipher.encrypt_inout_detached(&nonce, &bound(aad), (&mut sealed[NONCE..]).into()).ok()?;
        sealed.extend_from_slice(&tag);
        Some(sealed)
    }

    /// Opens what [`Self::seal`] made with any of these keys and the same `aad`; nothing else.
    #[must_use]
    pub fn open(&self, aad: &[&[u8]], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (text, tag) = rest.split_last_chunk::<TAG>()?;
        let (nonce, tag, aad) = (XNonce::from(*nonce), Tag::from(*tag), bound(aad));
        let mut plain = text.to_vec();
        // A tag that does not fit leaves the text as it was.
        let opened = self.ciphers().any(|cipher| {
            cipher.decrypt_inout_detached(&nonce, &aad, plain.as_mut_slice().into(), &tag).is_ok()
        });
        opened.then_some(plain)
    }

    /// By their keys, in order. Each wipes its copy of the key.
    fn ciphers(&self) -> impl Iterator<Item = XChaCha20Poly1305> {
        let keys = self.keys.as_chunks::<KEY>().0.iter();
        keys.map(|key| XChaCha20Poly1305::new(<&Key>::from(key)))
    }
}

/// The key that a line holds.
fn key(line: &[u8]) -> Option<Zeroizing<[u8; KEY]>> {
    let mut key = Zeroizing::new([0; KEY]);
    if line.len() == 2 * KEY {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, digits) in key.iter_mut().zip(line.as_chunks::<2>().0) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        return Some(key);
    }
    // As long as it would be if it were padded: what decodes into less is refused by its length.
    let length = STANDARD.decode_slice(line, &mut key[..]).ok()?;
    (length == KEY).then_some(key)
}

/// All parts as one, with the length of each before it.
fn bound(aad: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(aad.iter().map(|part| part.len() + 8).sum());
    for part in aad {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Why a file gave no keys.
#[derive(Debug)]
pub enum SealError {
    /// The file itself is no good.
    File(SecretFileError),
    /// It holds nothing but blank lines and comments.
    Empty,
    /// A line is none of what may stand there.
    NoKey {
        /// Which, counted from 1.
        line: usize,
    },
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Empty => f.write_str("the key file is empty"),
            Self::NoKey { line } => write!(f, "the key file holds no key in line {line}"),
        }
    }
}

impl std::error::Error for SealError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // It speaks for the file in its own words already.
            Self::File(error) => error.source(),
            Self::Empty | Self::NoKey { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
