//! What is kept of an answer: its body and the few header values that go out with it, each in an allocation of its
//! own size, and the numbers that say how long it may be used.
//!
//! It knows no HTTP message and no tier. A body that arrives from a socket pins the buffer that it was read into, and
//! a `HeaderMap` costs more than what it holds; so neither is kept here.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use crate::{
    clock::UnixMillis,
    hex,
    outcome::{Class, Refusal},
};

/// An answer of the vendor, kept or about to be served once.
#[derive(Clone, Debug)]
pub struct Stored {
    /// 200 for records and lists; else the vendor's own.
    pub status: StatusCode,
    /// What the body turned out to be.
    pub class: Class,
    /// The body, byte for byte as the vendor sent it, decoded.
    pub body: Bytes,
    /// `content-type`, the vendor's.
    pub content_type: Option<HeaderValue>,
    /// What few answers have.
    pub rare: Option<Box<Rare>>,
    /// The strong entity tag of the body, with a 200.
    pub etag: Option<EntityTag>,
    /// The record's `updatedAt`.
    pub updated: Option<UnixMillis>,
    /// The record's `startTime`: how old a call is that is still under way.
    pub started: Option<UnixMillis>,
    /// When this call was first seen to be over: what settling is counted from if it carries no readable time.
    pub first_final: Instant,
    /// When the vendor gave it.
    pub fetched: Instant,
    /// The freshness lifetime (RFC 9111 §4.2), zero where it is not kept.
    pub lifetime: Duration,
}

/// The header values that few answers have: kept apart, so that the others do not make room for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// `last-modified`, the vendor's.
    pub last_modified: Option<HeaderValue>,
    /// `retry-after`, the vendor's, with what is no 200.
    pub retry_after: Option<HeaderValue>,
}

impl Rare {
    /// Them, where there is one.
    #[must_use]
    pub fn of(last_modified: Option<HeaderValue>, retry_after: Option<HeaderValue>) -> Option<Box<Self>> {
        let any = last_modified.is_some() || retry_after.is_some();
        any.then(|| Box::new(Self { last_modified, retry_after }))
    }
}

impl Stored {
    /// `last-modified`, the vendor's.
    #[must_use]
    pub fn last_modified(&self) -> Option<&HeaderValue> {
        self.rare.as_ref()?.last_modified.as_ref()
    }

    /// `retry-after`, the vendor's, with what is no 200.
    #[must_use]
    pub fn retry_after(&self) -> Option<&HeaderValue> {
        self.rare.as_ref()?.retry_after.as_ref()
    }

    /// How old it is: the `age` of RFC 9111 §5.1.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.fetched)
    }

    /// What is left of the freshness lifetime; `None` once it is stale.
    #[must_use]
    pub fn fresh_for(&self, now: Instant) -> Option<Duration> {
        self.lifetime.checked_sub(self.age(now)).filter(|left| !left.is_zero())
    }

    /// What is left of the freshness lifetime in whole seconds, counted on below zero once stale. Reckoned with whole
    /// seconds, so that it and the `age` that callers see always add up to the lifetime.
    #[must_use]
    pub fn ttl_seconds(&self, now: Instant) -> i64 {
        let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        seconds(self.lifetime) - seconds(self.age(now))
    }

    /// Whether it is a record with a final status, which nothing that is older or not final may replace.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.class, Class::Final | Class::Settling)
    }

    /// The same answer, fresh for at least `lifetime` from now on, its age unchanged otherwise: for a record that an
    /// answer of the vendor has just failed to replace.
    #[must_use]
    pub fn extended(&self, now: Instant, lifetime: Duration) -> Self {
        let lifetime = self.lifetime.max(self.age(now).saturating_add(lifetime));
        Self { lifetime, ..self.clone() }
    }

    /// Bytes held on the heap beside the value itself: body and header values.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let rare = if self.rare.is_some() { size_of::<Rare>() } else { 0 };
        let values =
            [self.content_type.as_ref().filter(|v| !is_usual(v)), self.last_modified(), self.retry_after()];
        self.body.len() + rare + values.into_iter().flatten().map(HeaderValue::len).sum::<usize>()
    }
}

/// A fetch that failed moments ago, and until when it answers for its key.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the callers are told.
    pub answer: FailureAnswer,
    /// From then on the vendor is asked again.
    pub until: Instant,
}

/// The two ways in which a fetch fails.
#[derive(Clone, Debug)]
pub enum FailureAnswer {
    /// The vendor said so itself; its answer is passed on.
    Vendor(std::sync::Arc<Stored>),
    /// There was no answer that could be passed on.
    Refused(std::sync::Arc<Refusal>),
}

impl Failure {
    /// Bytes held on the heap beside the value itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.answer {
            FailureAnswer::Vendor(stored) => size_of::<Stored>() + stored.heap_bytes(),
            FailureAnswer::Refused(refusal) => {
                size_of::<Refusal>() + refusal.detail.len() + refusal.cause.as_ref().map_or(0, String::len)
            }
        }
    }
}

/// A strong entity tag (RFC 9110 §8.8.3): 128 bits of the body's XXH3. Not cryptographic, and it need not be: whoever
/// could craft a collision is the vendor, who writes the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag([u8; 16]);

impl EntityTag {
    /// How long its text is.
    pub const LEN: usize = 34;

    /// Of a body.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(body).to_be_bytes())
    }

    /// As it stands in a field: 32 hex digits between quotes.
    #[must_use]
    pub fn text(self) -> [u8; Self::LEN] {
        let mut text = [b'"'; Self::LEN];
        hex::write(&mut text[1..Self::LEN - 1], &self.0);
        text
    }

    /// The tag of which this is the text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let tag = Self(u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?.to_be_bytes());
        // Anything else that happens to be a number is none of ours.
        (tag.text() == text).then_some(tag)
    }
}

impl From<EntityTag> for HeaderValue {
    fn from(tag: EntityTag) -> Self {
        Self::from_bytes(&tag.text()).unwrap_or(Self::from_static("\"\""))
    }
}

/// What nearly every record says of its type.
const USUAL_TYPES: [HeaderValue; 2] = [
    HeaderValue::from_static("application/json; charset=utf-8"),
    HeaderValue::from_static("application/json"),
];

fn is_usual(content_type: &HeaderValue) -> bool {
    USUAL_TYPES.contains(content_type)
}

/// The same value, without an allocation of its own where it is a usual one.
#[must_use]
pub fn shared_type(content_type: HeaderValue) -> HeaderValue {
    USUAL_TYPES.into_iter().find(|usual| *usual == content_type).unwrap_or(content_type)
}

#[cfg(test)]
impl Stored {
    /// A small 200 for tests.
    pub(crate) fn sample(class: Class, fetched: Instant, lifetime: Duration) -> Self {
        Self {
            status: StatusCode::OK,
            class,
            body: Bytes::from_static(b"{}"),
            content_type: Some(HeaderValue::from_static("application/json")),
            rare: None,
            etag: Some(EntityTag::of(b"{}")),
            updated: None,
            started: None,
            first_final: fetched,
            fetched,
            lifetime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(fetched: Instant, lifetime: Duration) -> Stored {
        Stored::sample(Class::Final, fetched, lifetime)
    }

    #[tokio::test(start_paused = true)]
    async fn age_and_what_is_left_add_up_to_the_lifetime() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let kept = stored(start, 10 * second);
        let table = [(0, Some(10), 10), (4, Some(6), 6), (9, Some(1), 1), (10, None, 0), (40, None, -30)];
        for (age, fresh, ttl) in table {
            let now = start + age * second;
            assert_eq!(kept.age(now), age * second);
            assert_eq!(kept.fresh_for(now), fresh.map(|s: u32| s * second), "{age}");
            assert_eq!(kept.ttl_seconds(now), ttl, "{age}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_extended_keeps_its_age() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let now = start + 40 * second;
        let kept = stored(start, 10 * second).extended(now, 15 * second);
        assert_eq!(kept.age(now), 40 * second);
        assert_eq!(kept.fresh_for(now), Some(15 * second));
        let fresh = stored(start, 90 * second).extended(now, 15 * second);
        assert_eq!(fresh.fresh_for(now), Some(50 * second));
    }

    #[test]
    fn the_entity_tag_is_quoted_and_follows_the_body() {
        let tag = EntityTag::of(b"a");
        let text = String::from_utf8(tag.text().to_vec()).expect("ascii");
        let digits = text.trim_matches('"');
        assert!(
            text.len() == 34 && digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()),
            "{text}"
        );
        assert_eq!(u128::from_str_radix(digits, 16), Ok(xxhash_rust::xxh3::xxh3_128(b"a")));
        assert_ne!(tag, EntityTag::of(b"b"));
        assert_eq!(EntityTag::parse(text.as_bytes()), Some(tag));
        for other in ["", "\"\"", digits, &text.to_uppercase(), "\"+1\"", &text.replace('"', "'")] {
            assert_eq!(EntityTag::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_usual_type_is_the_same_value_and_weighs_nothing() {
        let typed = |of: &str| Stored {
            content_type: Some(shared_type(HeaderValue::from_str(of).expect("a value"))),
            ..Stored::sample(Class::Final, Instant::now(), Duration::ZERO)
        };
        for (of, heap) in [("application/json", 2), ("application/json; charset=utf-8", 2), ("text/x", 8)] {
            assert_eq!(typed(of).content_type.expect("one"), of);
            assert_eq!(typed(of).heap_bytes(), heap);
        }
    }
}
