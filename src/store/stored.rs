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
    /// `last-modified`, the vendor's.
    pub last_modified: Option<HeaderValue>,
    /// `retry-after`, the vendor's, with what is no 200.
    pub retry_after: Option<HeaderValue>,
    /// The strong entity tag of the body (RFC 9110 §8.8.3), with a 200.
    pub etag: Option<HeaderValue>,
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

impl Stored {
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
        let headers = [&self.content_type, &self.last_modified, &self.retry_after, &self.etag];
        self.body.len() + headers.into_iter().flatten().map(HeaderValue::len).sum::<usize>()
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

/// The strong entity tag of a body: 128 bits of XXH3. Not cryptographic, and it need not be: whoever could craft a
/// collision is the vendor, who writes the body.
#[must_use]
pub fn entity_tag(body: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(body))).ok()
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
            last_modified: None,
            retry_after: None,
            etag: entity_tag(b"{}"),
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
        let tag = entity_tag(b"a").expect("a tag");
        assert_eq!(tag.len(), 34);
        assert_eq!(tag, entity_tag(b"a").expect("a tag"));
        assert_ne!(tag, entity_tag(b"b").expect("a tag"));
    }
}
