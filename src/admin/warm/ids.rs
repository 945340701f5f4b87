//! Reads a list of calls out of the body of a request. Pure. It keeps no more than it has to: an id that is none is cut
//! short, and one that is given again is left out. What is wrong is named, and never repeated: it may be anything.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize,
    de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::call::{ApiVersion, CallId};

/// The most calls in one list: of ids as the vendor makes them, as many as fit into the largest body.
const MAX_IDS: usize = 650_000;

/// So much of what is no id is repeated in its line, in characters.
const MAX_BAD: usize = 64;

/// A list of calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) version: ApiVersion,
    /// In the order of the list, each once.
    pub(super) ids: Vec<Listed>,
}

/// What stands in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    Call(CallId),
    /// No id, in its first characters.
    Bad(Box<str>),
}

/// Reads a list. The error says in words what is wrong with it.
pub(super) fn read(raw: &[u8]) -> Result<List, Cow<'static, str>> {
    if std::str::from_utf8(raw).is_err() {
        return Err("the body is not UTF-8".into());
    }
    serde_json::from_slice(raw).map_err(|error| told(&error))
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
                "ids" => ids.replace(members.next_value::<Ids>()?.0).is_some(),
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

struct Ids(Vec<Listed>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Ids;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<Ids, S::Error> {
                let (mut ids, mut seen, mut count) = (Vec::new(), HashSet::new(), 0);
                while let Some(Id(listed)) = elements.next_element()? {
                    count += 1;
                    if count > MAX_IDS {
                        return Err(de::Error::custom(TOO_MANY));
                    }
                    let again = matches!(&listed, Listed::Call(id) if !seen.insert(id.clone()));
                    if !again {
                        ids.push(listed);
                    }
                }
                Ok(Ids(ids))
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

struct Id(Listed);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Ok(Id(match CallId::parse(text.as_bytes()) {
                    Some(id) => Listed::Call(id),
                    None => Listed::Bad(text.chars().take(MAX_BAD).collect::<String>().into()),
                }))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_and_every_call_once() {
        let list = read(br#" {"ids": ["b", "a", "b", "no id", "\u0061"], "version": "v1"} "#).expect("sound");
        let call = |id: &[u8]| Listed::Call(CallId::parse(id).expect("an id"));
        assert_eq!(list.version, ApiVersion::V1);
        assert_eq!(list.ids, [call(b"b"), call(b"a"), Listed::Bad("no id".into())]);
        assert_eq!(read(br#"{"ids":[]}"#), Ok(List { version: ApiVersion::V2, ids: Vec::new() }));
        let long = format!(r#"{{"ids":["{}"]}}"#, "é".repeat(1_000));
        assert_eq!(read(long.as_bytes()).expect("sound").ids, [Listed::Bad("é".repeat(MAX_BAD).into())]);
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
            assert_eq!(read(raw.as_bytes()).map_err(Cow::into_owned), Err(expected.to_owned()), "{raw}");
        }
        assert_eq!(read(b"\"\xff\""), Err("the body is not UTF-8".into()));
        let many = format!(r#"{{"ids":["a"{}]}}"#, r#","a""#.repeat(MAX_IDS));
        assert_eq!(read(many.as_bytes()), Err(TOO_MANY.into()));
    }
}
