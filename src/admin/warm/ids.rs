//! Reads a list of calls out of the body of a request. Pure. It keeps no more than it has to: all ids in one piece of
//! memory and eight bytes beside each, for a list may wait for days; an id that is none is cut short, and one that is given
//! again is left out. What is wrong is named, and never repeated: it may be anything.

use std::{borrow::Cow, fmt, hash::BuildHasher as _, hash::RandomState};

use serde::{
    Deserialize,
    de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use smallvec::SmallVec;

use crate::call::{ApiVersion, CallId};

/// The most calls in one list: of ids as the vendor makes them, as many as fit into the largest body.
const MAX_IDS: usize = 650_000;

/// So much of what is no id is repeated in its line, in characters.
const MAX_BAD: usize = 64;

/// A list of calls.
#[derive(Debug)]
pub(super) struct List {
    pub(super) version: ApiVersion,
    ids: Ids,
}

/// What stands in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Call(CallId),
    /// No id, in its first characters.
    Bad(Box<str>),
}

impl Listed {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Call(id) => id.as_str(),
            Self::Bad(text) => text,
        }
    }
}

impl List {
    /// How many elements there are.
    pub(super) fn len(&self) -> usize {
        self.ids.entries.len()
    }

    /// The elements in the order of the list, each call once.
    pub(super) fn iter(&self) -> impl Iterator<Item = Listed> + '_ {
        let bad = |text| Listed::Bad(String::from_utf8_lossy(text).into());
        self.ids.entries.iter().map(move |entry| {
            let text = self.ids.text_of(*entry);
            let call = if entry.is_id { CallId::parse(text) } else { None };
            call.map_or_else(|| bad(text), Listed::Call)
        })
    }
}

/// Reads a list. The error says in words what is wrong with it.
pub(super) fn read(raw: Vec<u8>) -> Result<List, Cow<'static, str>> {
    if std::str::from_utf8(&raw).is_err() {
        return Err("the body is not UTF-8".into());
    }
    let mut list: List = serde_json::from_slice(&raw).map_err(|error| told(&error))?;
    drop(raw);
    list.ids.leave_out_repeated();
    Ok(list)
}

/// The elements of a list.
#[derive(Debug, Default)]
struct Ids {
    /// What stands in them, one after the other.
    text: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where an element's text lies.
#[derive(Clone, Copy, Debug)]
struct Entry {
    // A body has 16 MiB, and what is cut short is short.
    start: u32,
    length: u16,
    is_id: bool,
}

impl Ids {
    fn text_of(&self, entry: Entry) -> &[u8] {
        let start = entry.start as usize;
        self.text.get(start..start + usize::from(entry.length)).unwrap_or_default()
    }

    fn push(&mut self, text: &str) {
        let is_id = CallId::parse(text.as_bytes()).is_some();
        let end = text.char_indices().nth(MAX_BAD).map_or(text.len(), |(at, _)| at);
        let kept = if is_id { text } else { &text[..end] };
        let (start, length) = (self.text.len() as u32, kept.len() as u16);
        self.text.extend_from_slice(kept.as_bytes());
        self.entries.push(Entry { start, length, is_id });
    }

    /// Leaves each call in its first place alone, and gives the memory of the others back.
    ///
    /// Sorted by a hash rather than put into a set: a set that grows has its entries twice for a moment, and with room
    /// to spare. The hash is keyed, so nobody can make a list of ids that share one.
    fn leave_out_repeated(&mut self) {
        let hasher = RandomState::new();
        let calls = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_id);
        let mut order = Vec::with_capacity(self.entries.len());
        order.extend(calls.map(|(at, entry)| (hasher.hash_one(self.text_of(*entry)) as u32, at as u32)));
        order.sort_unstable();
        for alike in order.chunk_by(|one, other| one.0 == other.0).filter(|alike| alike.len() > 1) {
            let mut different: SmallVec<[Entry; 4]> = SmallVec::new();
            for (_, at) in alike {
                let entry = self.entries[*at as usize];
                if different.iter().any(|other| self.text_of(*other) == self.text_of(entry)) {
                    // No call has an empty id.
                    self.entries[*at as usize].length = 0;
                } else {
                    different.push(entry);
                }
            }
        }
        drop(order);
        let (text, mut end) = (&mut self.text, 0);
        self.entries.retain_mut(|entry| {
            let (start, length) = (entry.start as usize, usize::from(entry.length));
            let repeated = entry.is_id && length == 0;
            text.copy_within(start..start + length, end);
            entry.start = end as u32;
            end += length;
            !repeated
        });
        text.truncate(end);
        self.text.shrink_to_fit();
        self.entries.shrink_to_fit();
    }
}

/// Without what serde repeats of the body: it does so in every message but our own.
fn told(error: &serde_json::Error) -> Cow<'static, str> {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Data => {
            let said = error.to_string();
            let known = OURS.iter().find(|ours| said.starts_with(**ours));
            known.copied().unwrap_or(SHAPE).into()
        }
        serde_json::error::Category::Eof => "the body ends before its JSON does".into(),
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            format!("the body is not JSON, from line {line}, column {column} on").into()
        }
    }
}

const SHAPE: &str = "expected an object with `ids`, an array of strings, and perhaps `version`, `v1` or `v2`";
const NO_IDS: &str = "`ids` is missing";
const TWICE: &str = "a member is given twice";
const UNKNOWN: &str = "there is another member than `ids` and `version`";
const VERSION: &str = "`version` is neither `v1` nor `v2`";
const TOO_MANY: &str = "there are more than 650000 ids; send them in several lists";
const OURS: [&str; 5] = [NO_IDS, TWICE, UNKNOWN, VERSION, TOO_MANY];

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHAPE)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<List, M::Error> {
        let (mut ids, mut version) = (None, None);
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            let again = match &*name {
                "ids" => ids.replace(members.next_value::<Ids>()?).is_some(),
                "version" => match &*members.next_value::<Cow<'de, str>>()? {
                    "v1" => version.replace(ApiVersion::V1).is_some(),
                    "v2" => version.replace(ApiVersion::V2).is_some(),
                    _ => return Err(de::Error::custom(VERSION)),
                },
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    return Err(de::Error::custom(UNKNOWN));
                }
            };
            if again {
                return Err(de::Error::custom(TWICE));
            }
        }
        let ids = ids.ok_or_else(|| de::Error::custom(NO_IDS))?;
        Ok(List { version: version.unwrap_or(ApiVersion::V2), ids })
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Ids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Ids, S::Error> {
                let mut ids = Ids::default();
                while elements.next_element_seed(Element(&mut ids))?.is_some() {
                    if ids.entries.len() > MAX_IDS {
                        return Err(de::Error::custom(TOO_MANY));
                    }
                }
                Ok(ids)
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// Reads one element to the end of a list.
struct Element<'a>(&'a mut Ids);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.0.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &[u8]) -> Listed {
        Listed::Call(CallId::parse(id).expect("an id"))
    }

    fn elements(raw: &str) -> Vec<Listed> {
        read(raw.into()).expect("sound").iter().collect()
    }

    #[test]
    fn a_list_keeps_its_order_and_every_call_once() {
        let raw = r#" {"ids": ["b", "a", "b", "no id", "\u0061", "", "no id", "c"], "version": "v1"} "#;
        let list = read(raw.into()).expect("sound");
        let bad = |text: &str| Listed::Bad(text.into());
        assert_eq!((list.version, list.len()), (ApiVersion::V1, 6));
        let expected = [call(b"b"), call(b"a"), bad("no id"), bad(""), bad("no id"), call(b"c")];
        assert_eq!(list.iter().collect::<Vec<_>>(), expected);
        let empty = read(r#"{"ids":[]}"#.into()).expect("sound");
        assert_eq!((empty.version, empty.len()), (ApiVersion::V2, 0));
        let long = format!(r#"{{"ids":["{}"]}}"#, "é".repeat(1_000));
        assert_eq!(elements(&long), [bad(&"é".repeat(MAX_BAD))]);
    }

    #[test]
    fn ids_of_a_large_list_are_told_apart_whatever_they_hash_to() {
        // Some of them share 32 bits.
        let ids: Vec<_> = (0..200_000).map(|n| format!("{n:024x}")).collect();
        let twice = ids.iter().chain(ids.iter().rev()).map(|id| format!("\"{id}\"")).collect::<Vec<_>>();
        let list = read(format!(r#"{{"ids":[{}]}}"#, twice.join(",")).into()).expect("sound");
        assert!(list.iter().eq(ids.iter().map(|id| call(id.as_bytes()))));
    }

    #[test]
    fn a_list_that_waits_takes_its_ids_and_eight_bytes_beside_each() {
        let ids: Vec<_> = (0..1_000).map(|n| format!("\"{n:024x}\",\"{:024x}\"", 0)).collect();
        let list = read(format!(r#"{{"ids":[{}]}}"#, ids.join(",")).into()).expect("sound");
        assert_eq!((list.len(), size_of::<Entry>()), (1_000, 8));
        assert_eq!((list.ids.text.capacity(), list.ids.entries.capacity()), (24_000, 1_000));
    }

    #[test]
    fn what_is_no_list_is_told_without_repeating_it() {
        let table = [
            ("", "the body ends before its JSON does"),
            (r#"{"ids":["secret"#, "the body ends before its JSON does"),
            ("secret", "the body is not JSON, from line 1, column 1 on"),
            (r#"{"ids":[]} secret"#, "the body is not JSON, from line 1, column 12 on"),
            (r#"["secret"]"#, SHAPE),
            (r#"{"ids":"secret"}"#, SHAPE),
            (r#"{"ids":[1234567]}"#, SHAPE),
            (r#"{"ids":[null]}"#, SHAPE),
            (r#"{"version":"v2"}"#, NO_IDS),
            (r#"{"ids":[],"secret":1}"#, UNKNOWN),
            (r#"{"ids":[],"ids":[]}"#, TWICE),
            (r#"{"ids":[],"version":"secret"}"#, VERSION),
            (r#"{"ids":[],"version":2}"#, SHAPE),
        ];
        for (raw, expected) in table {
            assert_eq!(read(raw.into()).expect_err(raw), expected, "{raw}");
        }
        assert_eq!(read(b"\"\xff\"".into()).expect_err("no text"), "the body is not UTF-8");
        let many = format!(r#"{{"ids":["a"{}]}}"#, r#","a""#.repeat(MAX_IDS));
        assert_eq!(read(many.into()).expect_err("too many"), TOO_MANY);
    }
}
