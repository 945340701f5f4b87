//! How a kept call is written down: its key and its value as bytes. Pure; it knows neither the database nor the clock.
//!
//! What lasts is told by the time of day, since the clock that ages are counted with begins anew with each start. A
//! value opens with the version of its layout and carries a checksum over its key and itself: whatever has become of
//! the bytes, what is read back is what was written for this very key, or nothing.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | `CLEAR` or `SEALED` |
//! | 8 | when it was last used, Unix milliseconds; not in the checksum, for it changes alone |
//! | 8 | when it is of no more use, even stale, Unix milliseconds; in the checksum |
//! | 8 | XXH3 of the key, the end of use and the rest, as it stands here |
//! | … | the rest: fetched, first seen to be over, lifetime, flags, what the flags say is there, body; [sealed](Seal) or not |
//!
//! Numbers are big-endian. A seal is bound to the key and to what stands before the rest, the last use excepted. The
//! checksum tells accidents from other keys: where it fits and the seal does not, the value was sealed with another.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    clock::UnixMillis,
    outcome::Class,
    store::{
        seal::Seal,
        stored::{EntityTag, Rare, Stored, shared_type},
    },
};

/// The layout whose rest stands there in the clear. Layouts are only ever added; those that are not known are not read.
const CLEAR: u8 = 1;

/// The layout whose rest is sealed.
const SEALED: u8 = 2;

/// What a seal is for: nothing else that is sealed with the same key can be taken for a record.
const PURPOSE: &[u8] = b"callgate record";

/// Bytes before the rest.
const HEAD: usize = 1 + 8 + 8 + 8;

/// Which of the optional parts are there, in the order in which they stand.
const UPDATED: u8 = 1;
const STARTED: u8 = 2;
const CONTENT_TYPE: u8 = 4;
const LAST_MODIFIED: u8 = 8;
const ETAG: u8 = 16;

/// A kept call in terms of the time of day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the vendor gave it.
    pub fetched: UnixMillis,
    /// When the call was first seen to be over.
    pub first_final: UnixMillis,
    /// The freshness lifetime, in whole milliseconds.
    pub lifetime: Duration,
    /// The record's `updatedAt`.
    pub updated: Option<UnixMillis>,
    /// The record's `startTime`.
    pub started: Option<UnixMillis>,
    /// `content-type`, the vendor's.
    pub content_type: Option<HeaderValue>,
    /// `last-modified`, the vendor's.
    pub last_modified: Option<HeaderValue>,
    /// The entity tag of the body.
    pub etag: Option<EntityTag>,
    /// The body.
    pub body: Bytes,
}

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Written by another version, which knows its layout.
    OtherVersion,
    /// Not what was once written for this key.
    Damaged,
    /// Sealed with a key that is not there, or is no longer.
    OtherKey,
    /// In the clear, while there is a key: anybody may have written it.
    Unsealed,
}

impl Record {
    /// What lasts of `stored`; `at` tells the time of day at a point of the monotonic clock.
    #[must_use]
    pub fn of(stored: &Stored, at: impl Fn(tokio::time::Instant) -> UnixMillis) -> Self {
        Self {
            fetched: at(stored.fetched),
            first_final: at(stored.first_final),
            lifetime: stored.lifetime,
            updated: stored.updated,
            started: stored.started,
            content_type: stored.content_type.clone(),
            last_modified: stored.last_modified().cloned(),
            etag: stored.etag,
            body: stored.body.clone(),
        }
    }

    /// The same on the monotonic clock, which shows `instant` at the time of day `now`. What seems to come from the
    /// future counts as new. `None` where that clock does not reach back so far.
    #[must_use]
    pub fn into_stored(self, now: UnixMillis, instant: tokio::time::Instant) -> Option<Stored> {
        Some(Stored {
            status: StatusCode::OK,
            class: Class::Final,
            first_final: instant.checked_sub(self.first_final.elapsed_at(now))?,
            fetched: instant.checked_sub(self.fetched.elapsed_at(now))?,
            lifetime: self.lifetime,
            updated: self.updated,
            started: self.started,
            content_type: self.content_type.map(shared_type),
            rare: Rare::of(self.last_modified, None),
            etag: self.etag,
            body: self.body,
        })
    }

    /// The value for `key`, last used at `used` and of no more use `keep_stale` after its lifetime, sealed where there is
    /// a `seal`. `None` where a header value is longer than its length can say, which none that was ever let in is, or
    /// where it cannot be sealed.
    #[must_use]
    pub fn encode(
        &self,
        key: &[u8],
        used: UnixMillis,
        keep_stale: Duration,
        seal: Option<&Seal>,
    ) -> Option<Vec<u8>> {
        let until = self.fetched.plus(self.lifetime).plus(keep_stale);
        let mut out = Vec::with_capacity(HEAD + 64 + 128 + self.body.len());
        out.push(if seal.is_some() { SEALED } else { CLEAR });
        out.extend(used.0.to_be_bytes());
        out.extend(until.0.to_be_bytes());
        out.extend([0; 8]);
        match seal {
            None => self.write(&mut out)?,
            Some(seal) => {
                let mut rest = Vec::with_capacity(128 + self.body.len());
                self.write(&mut rest)?;
                out.extend(seal.seal(&[PURPOSE, &[SEALED], key, &until.0.to_be_bytes()], &rest)?);
            }
        }
        let check = checksum(key, out[0], until, &out[HEAD..]);
        out[HEAD - 8..HEAD].copy_from_slice(&check.to_be_bytes());
        Some(out)
    }

    /// Writes the rest.
    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        let etag = self.etag.map(HeaderValue::from);
        let texts = [(CONTENT_TYPE, &self.content_type), (LAST_MODIFIED, &self.last_modified), (ETAG, &etag)];
        let times = [(UPDATED, self.updated), (STARTED, self.started)];
        out.extend(self.fetched.0.to_be_bytes());
        out.extend(self.first_final.0.to_be_bytes());
        out.extend(u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
        let timed = times.iter().filter(|(_, time)| time.is_some()).map(|(flag, _)| flag);
        let told = texts.iter().filter(|(_, text)| text.is_some()).map(|(flag, _)| flag);
        out.push(timed.chain(told).fold(0, |flags, flag| flags | flag));
        for time in times.into_iter().filter_map(|(_, time)| time) {
            out.extend(time.0.to_be_bytes());
        }
        for text in texts.into_iter().filter_map(|(_, text)| text.as_ref()) {
            out.extend(u16::try_from(text.len()).ok()?.to_be_bytes());
            out.extend(text.as_bytes());
        }
        out.extend_from_slice(&self.body);
        Some(())
    }

    /// Reads the value of `key`: one that is sealed where there is a `seal`, else one that is not.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn decode(key: &[u8], value: &[u8], seal: Option<&Seal>) -> Result<Self, Unreadable> {
        let head = Head::read(value)?;
        let rest = &value[HEAD..];
        if head.check != checksum(key, head.version, head.until, rest) {
            return Err(Unreadable::Damaged);
        }
        let opened;
        let rest = match (head.version == SEALED, seal) {
            (false, None) => rest,
            (false, Some(_)) => return Err(Unreadable::Unsealed),
            (true, None) => return Err(Unreadable::OtherKey),
            (true, Some(seal)) => {
                let aad: [&[u8]; 4] = [PURPOSE, &[SEALED], key, &head.until.0.to_be_bytes()];
                opened = seal.open(&aad, rest).ok_or(Unreadable::OtherKey)?;
                &opened
            }
        };
        read(&mut Rest(rest)).ok_or(Unreadable::Damaged)
    }
}

/// What stands before the rest of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// When it was last used.
    pub used: UnixMillis,
    /// From when on it is of no use, even stale.
    pub until: UnixMillis,
    version: u8,
    check: u64,
}

impl Head {
    /// Reads the head of a value, unchecked.
    ///
    /// # Errors
    /// [`Unreadable::OtherVersion`], or [`Unreadable::Damaged`] where it is too short.
    pub fn read(value: &[u8]) -> Result<Self, Unreadable> {
        let mut rest = Rest(value);
        let [version] = rest.take().ok_or(Unreadable::Damaged)?;
        if version != CLEAR && version != SEALED {
            return Err(Unreadable::OtherVersion);
        }
        let mut head = || {
            let (used, until) = (rest.millis()?, rest.millis()?);
            Some(Self { used, until, version, check: u64::from_be_bytes(rest.take()?) })
        };
        head().ok_or(Unreadable::Damaged)
    }
}

/// The same value, last used at `used`.
#[must_use]
pub fn touched(value: &[u8], used: UnixMillis) -> Vec<u8> {
    let mut value = value.to_vec();
    if let Some(bytes) = value.get_mut(1..9) {
        bytes.copy_from_slice(&used.0.to_be_bytes());
    }
    value
}

fn checksum(key: &[u8], version: u8, until: UnixMillis, rest: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    if version != CLEAR {
        // The first layout has none in it.
        hash.update(&[version]);
    }
    // The length keeps apart what lies in the key from what lies behind it.
    hash.update(&(key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(&until.0.to_be_bytes());
    hash.update(rest);
    hash.digest()
}

fn read(rest: &mut Rest<'_>) -> Option<Record> {
    let (fetched, first_final) = (rest.millis()?, rest.millis()?);
    let lifetime = Duration::from_millis(u64::from_be_bytes(rest.take()?));
    let [flags] = rest.take()?;
    let updated = if flags & UPDATED == 0 { None } else { Some(rest.millis()?) };
    let started = if flags & STARTED == 0 { None } else { Some(rest.millis()?) };
    let content_type = if flags & CONTENT_TYPE == 0 { None } else { Some(rest.text()?) };
    let last_modified = if flags & LAST_MODIFIED == 0 { None } else { Some(rest.text()?) };
    let tag = if flags & ETAG == 0 { None } else { Some(rest.text()?) };
    let body = Bytes::copy_from_slice(rest.0);
    // It follows from the body: one that is written otherwise is made anew.
    let etag = tag.map(|tag| EntityTag::parse(tag.as_bytes()).unwrap_or_else(|| EntityTag::of(&body)));
    Some(Record { fetched, first_final, lifetime, updated, started, content_type, last_modified, etag, body })
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn millis(&mut self) -> Option<UnixMillis> {
        Some(UnixMillis(i64::from_be_bytes(self.take()?)))
    }

    fn text(&mut self) -> Option<HeaderValue> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        HeaderValue::from_bytes(text).ok()
    }
}

#[cfg(test)]
mod tests;
