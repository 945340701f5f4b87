//! Reads a record: the little of a body that decides whether it may be kept. Pure, and copies nothing that it can
//! borrow; the body itself goes out byte for byte, whatever is read here.
//!
//! It knows where the vendor puts a record (`call`, `data` or the top), which members count and in which shapes times
//! come. It does not know what is done with them: that is [`super::admission`].
//!
//! Promises: any bytes are survived, in time linear to their length and without recursion; a member that counts is
//! never taken from the second of two; what cannot be trusted is named as suspect, never guessed at.

use std::borrow::Cow;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{call::CallId, clock::UnixMillis, outcome::Suspicion};

mod scan;

/// How deep a record may nest, arrays and objects together. Deeper is [`Suspicion::TooDeep`].
pub const MAX_DEPTH: usize = 128;

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `status`, trimmed and in lower case; `None` where it is absent or null.
    pub status: Option<String>,
    /// `startTime`, where it can be read.
    pub started: Option<UnixMillis>,
    /// `endTime`, where it can be read.
    pub ended: Option<UnixMillis>,
    /// `updatedAt`, where it can be read.
    pub updated: Option<UnixMillis>,
}

/// What a body turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The record that was asked for.
    Record(Facts),
    /// Something else; it may be served but never kept.
    Suspect(Suspicion),
    /// It names another workspace than the one whose key was sent; it may not be served.
    ForeignWorkspace,
}

/// Reads a body that answers a lookup of `asked` in `workspace_id`.
///
/// Another workspace's name anywhere that counts outweighs every other finding.
#[must_use]
pub fn read(body: &[u8], asked: &CallId, workspace_id: &str) -> Reading {
    let Ok(text) = std::str::from_utf8(body) else {
        return Reading::Suspect(Suspicion::NotAnObject);
    };
    match scan::condensed(text, MAX_DEPTH) {
        Some(text) => parse(&text, asked, workspace_id),
        None => Reading::Suspect(Suspicion::TooDeep),
    }
}

/// Reads a body that nests no deeper than it may.
fn parse(text: &str, asked: &CallId, workspace_id: &str) -> Reading {
    let mut json = serde_json::Deserializer::from_str(text);
    let top = LevelSeed { workspace_id, wrappers: true }.deserialize(&mut json);
    match top {
        Ok(Some(top)) if json.end().is_ok() => top.judge(asked),
        Ok(_) | Err(_) => Reading::Suspect(Suspicion::NotAnObject),
    }
}

/// Reads a time as the vendor and its callers write it: Unix seconds with or without a fraction, milliseconds (or
/// finer, told by magnitude), either as text, or ISO 8601 with an offset. Without an offset it could be anywhere
/// within a day, so it is not read at all.
fn read_time(value: &Scalar<'_>) -> Option<UnixMillis> {
    match value {
        Scalar::Number(number) => number_to_millis(*number),
        Scalar::Text(text) => {
            let text = text.trim();
            match text.parse::<f64>() {
                Ok(number) => number_to_millis(number),
                Err(_) => text.parse::<jiff::Timestamp>().ok().map(|t| UnixMillis(t.as_millisecond())),
            }
        }
        Scalar::Null | Scalar::Other => None,
    }
}

/// Seconds reach the year 5138 before they look like milliseconds, and milliseconds began in 1973.
fn number_to_millis(number: f64) -> Option<UnixMillis> {
    // A time of 0 is how "not yet" is written, not the first of January 1970.
    if !number.is_finite() || number <= 0.0 {
        return None;
    }
    let millis = match number {
        n if n < 1e11 => n * 1e3,
        n if n < 1e14 => n,
        n if n < 1e17 => n / 1e3,
        n if n < 1e20 => n / 1e6,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the arms above bound it to 1e14")]
    Some(UnixMillis(millis as i64))
}

/// A value, as far as a member that counts can have one.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Null,
    Other,
}

/// One object that may be the record, or wrap it.
#[derive(Default)]
struct Level<'a> {
    id: Option<Scalar<'a>>,
    call_id: Option<Scalar<'a>>,
    status: Option<Scalar<'a>>,
    start_time: Option<Scalar<'a>>,
    end_time: Option<Scalar<'a>>,
    updated_at: Option<Scalar<'a>>,
    /// The objects under `call` and `data`, in this order.
    wrapped: [Option<Box<Self>>; 2],
    /// A member that counts was given twice.
    duplicate: bool,
    /// `call` and `data` were given, as whatever.
    seen_wrapper: [bool; 2],
    /// A wrapper was given twice.
    duplicate_wrapper: bool,
    /// `workspaceId` has a type that it should not have.
    workspace_type: bool,
    /// `workspaceId` names another workspace, here or in a wrapped object.
    foreign: bool,
}

impl Level<'_> {
    fn holds_an_id(&self) -> bool {
        let given = |s: &Option<Scalar<'_>>| !matches!(s, None | Some(Scalar::Null));
        given(&self.id) || given(&self.call_id)
    }

    fn judge(self, asked: &CallId) -> Reading {
        if self.foreign {
            return Reading::ForeignWorkspace;
        }
        if self.duplicate_wrapper {
            return Reading::Suspect(Suspicion::DuplicateMember);
        }
        let wrapped = self.wrapped.iter().flatten().find(|level| level.holds_an_id());
        let record = wrapped.map_or(&self, |level| level);
        record.facts(asked).map_or_else(Reading::Suspect, Reading::Record)
    }

    fn facts(&self, asked: &CallId) -> Result<Facts, Suspicion> {
        if self.duplicate {
            return Err(Suspicion::DuplicateMember);
        }
        let text = |member: &Option<Scalar<'_>>| match member {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text.to_string())),
            Some(Scalar::Number(_) | Scalar::Other) => Err(Suspicion::MemberType),
        };
        let (id, call_id) = (text(&self.id)?, text(&self.call_id)?);
        if id.is_none() && call_id.is_none() {
            return Err(Suspicion::NoId);
        }
        if ![id, call_id].iter().flatten().any(|id| id == asked.as_str()) {
            return Err(Suspicion::OtherId);
        }
        if self.workspace_type {
            return Err(Suspicion::MemberType);
        }
        Ok(Facts {
            status: text(&self.status)?.map(|s| s.trim().to_lowercase()),
            started: self.start_time.as_ref().and_then(read_time),
            ended: self.end_time.as_ref().and_then(read_time),
            updated: self.updated_at.as_ref().and_then(read_time),
        })
    }
}

/// The members that count. Anything else is skipped unread.
enum Member {
    Id,
    CallId,
    Status,
    WorkspaceId,
    StartTime,
    EndTime,
    UpdatedAt,
    Call,
    Data,
    Other,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Member;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a member name")
            }
            // Called with the name unescaped, so that "\u0073tatus" is the status it is.
            fn visit_str<E>(self, name: &str) -> Result<Member, E> {
                Ok(match name {
                    "_id" => Member::Id,
                    "callId" => Member::CallId,
                    "status" => Member::Status,
                    "workspaceId" => Member::WorkspaceId,
                    "startTime" => Member::StartTime,
                    "endTime" => Member::EndTime,
                    "updatedAt" => Member::UpdatedAt,
                    "call" => Member::Call,
                    "data" => Member::Data,
                    _ => Member::Other,
                })
            }
        }
        from.deserialize_str(Name)
    }
}

/// Reads an object; `None` for any other value. Wrapped objects are looked into once, from the top.
#[derive(Clone, Copy)]
struct LevelSeed<'w> {
    workspace_id: &'w str,
    wrappers: bool,
}

impl<'de> DeserializeSeed<'de> for LevelSeed<'_> {
    type Value = Option<Level<'de>>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LevelSeed<'_> {
    type Value = Option<Level<'de>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut level = Level::default();
        while let Some(member) = map.next_key::<Member>()? {
            let slot = match member {
                Member::Id => &mut level.id,
                Member::CallId => &mut level.call_id,
                Member::Status => &mut level.status,
                Member::StartTime => &mut level.start_time,
                Member::EndTime => &mut level.end_time,
                Member::UpdatedAt => &mut level.updated_at,
                Member::WorkspaceId => {
                    match map.next_value::<Scalar<'de>>()? {
                        Scalar::Text(id) if id == self.workspace_id => {}
                        Scalar::Text(_) => level.foreign = true,
                        Scalar::Null => {}
                        Scalar::Number(_) | Scalar::Other => level.workspace_type = true,
                    }
                    continue;
                }
                Member::Call | Member::Data if self.wrappers => {
                    let inner = map.next_value_seed(LevelSeed { wrappers: false, ..self })?;
                    level.foreign |= inner.as_ref().is_some_and(|l| l.foreign);
                    let place = usize::from(matches!(member, Member::Data));
                    level.duplicate_wrapper |= std::mem::replace(&mut level.seen_wrapper[place], true);
                    level.wrapped[place] = inner.map(Box::new);
                    continue;
                }
                Member::Call | Member::Data | Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            level.duplicate |= slot.is_some();
            let value = map.next_value()?;
            // Of two neither counts, but an id beside a null is one: the level may be the record, and is suspect.
            if matches!(slot, None | Some(Scalar::Null)) {
                *slot = Some(value);
            }
        }
        Ok(Some(level))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        #[expect(
            clippy::cast_precision_loss,
            reason = "times and ids of another type; no counting is done with it"
        )]
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number as f64))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number as f64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        from.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests;
