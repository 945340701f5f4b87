//! Makes the response out of an answer: the headers that say what it is, how old it is and how it came about, the
//! 304 where the caller has it already. That a `HEAD` gets no body is seen to where the connection is served.
//!
//! Pure: it is given the time and asks for nothing.

use std::{mem, sync::LazyLock, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::time::Instant;

use super::{problem, route};
use crate::{
    clock::Clock,
    line::Line,
    lookup::{Answer, Content},
    outcome::{Class, Fetched, HitOf, NotKept, Outcome},
    store::Stored,
    trace::X_REQUEST_ID,
};

/// The field of RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What the reply depends on beside the answer.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// The request's fields, where there is an `if-none-match` among them.
    pub headers: Option<&'a HeaderMap>,
    /// `lookup.client_max_age`
    pub client_max_age: Duration,
    /// The time, for ages.
    pub now: Instant,
}

/// Makes the response, which is to have this `x-request-id`.
#[must_use]
pub fn reply(
    answer: &Answer,
    conditions: &Conditions<'_>,
    clock: &Clock,
    mut request_id: HeaderValue,
) -> Response<Bytes> {
    let mut response = match &answer.content {
        Content::Stored(stored) => {
            let unchanged = is_unchanged(stored, conditions);
            let usual = !unchanged && answer.retry_after.is_none();
            if usual && let Some(response) = usual_hit(stored, &answer.outcome, conditions, &mut request_id) {
                return response;
            }
            vendors(stored, unchanged, &answer.outcome, conditions)
        }
        Content::Refused(refusal) => problem::problem(refusal, route::ALLOW, conditions.now, clock),
    };
    let headers = response.headers_mut();
    if let Some(pause) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)));
    }
    if let Some(status) = answer.outcome.cache_status() {
        headers.append(CACHE_STATUS, status);
    }
    headers.append(X_REQUEST_ID, request_id);
    response
}

/// The vendor's answer, kept or not; without its body where that is `unchanged` for the caller.
fn vendors(
    stored: &Stored,
    unchanged: bool,
    outcome: &Outcome,
    conditions: &Conditions<'_>,
) -> Response<Bytes> {
    let mut response = Response::new(if unchanged { Bytes::new() } else { stored.body.clone() });
    *response.status_mut() = if unchanged { StatusCode::NOT_MODIFIED } else { stored.status };
    let headers = response.headers_mut();
    // With room for those that others add.
    headers.reserve(10);
    let optional = [
        (header::CONTENT_TYPE, stored.content_type.clone().filter(|_| !unchanged)),
        (header::ETAG, stored.etag.map(HeaderValue::from)),
        (header::LAST_MODIFIED, stored.last_modified().cloned()),
        (header::RETRY_AFTER, stored.retry_after().cloned()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    let kept = is_kept(outcome);
    let (age, left) = (stored.age(conditions.now).as_secs(), stored.ttl_seconds(conditions.now));
    if kept {
        headers.insert(header::AGE, HeaderValue::from(age));
    }
    headers.insert(header::CACHE_CONTROL, cache_control(stored.class, kept, age, left, conditions));
    response
}

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The head of a usual hit, its values to be filled in: copying it costs half of what building it does.
static USUAL: LazyLock<HeaderMap> = LazyLock::new(|| {
    let names = [
        header::CONTENT_TYPE,
        header::ETAG,
        header::AGE,
        header::CACHE_CONTROL,
        CACHE_STATUS,
        X_REQUEST_ID,
        header::X_CONTENT_TYPE_OPTIONS,
    ];
    names.into_iter().map(|name| (name, NOSNIFF)).collect()
});

/// The answer to nearly every hit: a 200 from what is kept, with the fields that nearly every record has. The same as
/// [`vendors`] would make of it.
fn usual_hit(
    stored: &Stored,
    outcome: &Outcome,
    conditions: &Conditions<'_>,
    request_id: &mut HeaderValue,
) -> Option<Response<Bytes>> {
    let Outcome::Hit { of: HitOf::Answer, ttl, .. } = outcome else { return None };
    let (Some(content_type), Some(etag)) = (&stored.content_type, &stored.etag) else { return None };
    if stored.status != StatusCode::OK || stored.rare.is_some() {
        return None;
    }
    let mut cache_status = outcome.cache_status()?;
    // They add up to the lifetime.
    let lifetime = i64::try_from(stored.lifetime.as_secs()).unwrap_or(i64::MAX);
    let age = u64::try_from(lifetime.saturating_sub(*ttl)).unwrap_or(0);
    let mut response = Response::new(stored.body.clone());
    let mut headers = USUAL.clone();
    for (name, value) in &mut headers {
        *value = match *name {
            header::CONTENT_TYPE => content_type.clone(),
            header::ETAG => HeaderValue::from(*etag),
            header::AGE => HeaderValue::from(age),
            header::CACHE_CONTROL => cache_control(stored.class, true, age, *ttl, conditions),
            // Moved, for a copy would make them shared first.
            ref own if *own == CACHE_STATUS => mem::replace(&mut cache_status, NOSNIFF),
            ref own if *own == X_REQUEST_ID => mem::replace(request_id, NOSNIFF),
            _ => continue,
        };
    }
    *response.headers_mut() = headers;
    Some(response)
}

/// Whether the caller has it already (RFC 9110 §13.1.2).
fn is_unchanged(stored: &Stored, conditions: &Conditions<'_>) -> bool {
    conditions.headers.zip(stored.etag).is_some_and(|(headers, etag)| matches(headers, &etag.text()))
}

/// Whether the answer is one that is kept, and so has an age.
fn is_kept(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Hit { .. } | Outcome::StaleIfError { .. } => true,
        Outcome::Forwarded { result: Fetched::Stored(_), .. } => true,
        Outcome::Forwarded { result: Fetched::NotStored(_, why), .. } => *why == NotKept::Superseded,
        Outcome::Forwarded { result: Fetched::Failed(_), .. } | Outcome::NotAsked => false,
    }
}

/// What callers may keep, and for how long. They subtract `age` from `max-age` again (RFC 9111 §4.2), so it is added.
fn cache_control(class: Class, kept: bool, age: u64, left: i64, conditions: &Conditions<'_>) -> HeaderValue {
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    let left = u64::try_from(left).unwrap_or(0).min(conditions.client_max_age.as_secs());
    // What is stale is handed out for want of better, so it must not be held on to.
    let end = match class {
        Class::Final if kept && left > 0 => ", immutable",
        Class::Final | Class::Settling if kept => "",
        Class::Final
        | Class::Settling
        | Class::Ongoing
        | Class::Suspect
        | Class::List
        | Class::NotFound
        | Class::Failure => return NO_STORE,
    };
    let mut line = Line::<64>::beginning("private, max-age=");
    line.number(age.saturating_add(left)).put(end).value().unwrap_or(NO_STORE)
}

/// Whether `if-none-match` names the entity tag, by the weak comparison (RFC 9110 §13.1.2).
fn matches(headers: &HeaderMap, etag: &[u8]) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|field| names(field.as_bytes(), etag))
}

/// Whether a list of entity tags names `etag`, or is `*`. A comma may stand within a tag, so it is read tag by tag;
/// from what is no tag on, nothing is read.
fn names(list: &[u8], etag: &[u8]) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        while let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
        }
        let opaque = rest.strip_prefix(b"W/").unwrap_or(rest);
        let Some(inner) = opaque.strip_prefix(b"\"") else { return false };
        let Some(end) = memchr::memchr(b'"', inner) else { return false };
        if opaque.get(..end + 2) == Some(etag) {
            return true;
        }
        rest = inner.get(end + 1..).unwrap_or_default().trim_ascii_start();
        if !rest.starts_with(b",") {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use super::*;
    use crate::{
        lookup::Timing,
        outcome::{Forward, Tier},
        store::stored::{EntityTag, Rare},
    };

    fn stored(class: Class, fetched: Instant, lifetime: u64) -> Stored {
        Stored::sample(class, fetched, Duration::from_secs(lifetime))
    }

    const REQUEST_ID: HeaderValue = HeaderValue::from_static("request-1");
    const HIT: Outcome = Outcome::Hit { tier: Tier::Memory, of: HitOf::Answer, ttl: 1 };
    const BYPASS: Outcome = Outcome::Forwarded {
        why: Forward::UriMiss,
        collapsed: false,
        result: Fetched::NotStored(StatusCode::OK, NotKept::Ongoing),
    };

    fn check(
        stored: Stored,
        outcome: Outcome,
        now: Instant,
        fields: &[(&'static str, &str)],
    ) -> Response<Bytes> {
        let outcome = match outcome {
            Outcome::Hit { tier, of, .. } => Outcome::Hit { tier, of, ttl: stored.ttl_seconds(now) },
            Outcome::StaleIfError { .. } | Outcome::Forwarded { .. } | Outcome::NotAsked => outcome,
        };
        let answer = Answer {
            outcome,
            content: Content::Stored(Arc::new(stored)),
            timing: Timing::default(),
            retry_after: None,
            turned_away: None,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let client_max_age = Duration::from_secs(3_600);
        let conditions = Conditions { headers: Some(&headers), client_max_age, now };
        reply(&answer, &conditions, &Clock::starting_at(SystemTime::UNIX_EPOCH), REQUEST_ID)
    }

    #[tokio::test(start_paused = true)]
    async fn age_and_max_age_agree_with_what_is_left() {
        let start = Instant::now();
        let table = [
            // class, lifetime, age, what callers may do
            (Class::Final, 2_592_000, 0, "private, max-age=3600, immutable"),
            (Class::Final, 2_592_000, 10_000, "private, max-age=13600, immutable"),
            (Class::Final, 10_000, 9_990, "private, max-age=10000, immutable"),
            (Class::Settling, 15, 5, "private, max-age=15"),
            // Stale, and served as the vendor fails: nothing is left.
            (Class::Final, 10, 40, "private, max-age=40"),
            (Class::Ongoing, 2, 1, "no-store"),
            (Class::List, 3, 1, "no-store"),
            (Class::NotFound, 5, 1, "no-store"),
        ];
        for (class, lifetime, age, expected) in table {
            let response = check(stored(class, start, lifetime), HIT, start + Duration::from_secs(age), &[]);
            assert_eq!(response.headers()["cache-control"], expected);
            assert_eq!(response.headers()["age"], age.to_string());
        }
        let response = check(stored(Class::Ongoing, start, 0), BYPASS, start, &[]);
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(!response.headers().contains_key("age"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_max_age_leaves_is_the_ttl_of_cache_status_at_any_age() {
        let start = Instant::now();
        // Lifetimes and ages in milliseconds: neither need be whole seconds.
        let table: [(Class, u64, &[u64]); 4] = [
            (Class::Settling, 15_000, &[0, 1, 999, 1_000, 7_500, 14_001, 14_999, 15_000]),
            (Class::Settling, 37_750, &[0, 700, 800, 1_750, 36_999, 37_700, 37_751]),
            (Class::Final, 3_600_000, &[0, 1_500, 59_999, 3_599_500, 3_600_001]),
            (Class::Final, 1_800_900, &[0, 899, 900, 901, 1_799_950, 1_800_500]),
        ];
        for (class, lifetime, ages) in table {
            for age in ages {
                let now = start + Duration::from_millis(*age);
                let stored = Stored { lifetime: Duration::from_millis(lifetime), ..stored(class, start, 0) };
                let ttl = stored.ttl_seconds(now);
                let hit = Outcome::Hit { tier: Tier::Memory, of: HitOf::Answer, ttl };
                let response = check(stored, hit, now, &[]);
                let field = |name: &str| response.headers()[name].to_str().expect("ascii").to_owned();
                let max_age =
                    field("cache-control").replace("private, max-age=", "").replace(", immutable", "");
                let number = |text: &str| text.parse::<i64>().expect("a number");
                assert_eq!(number(&max_age) * 1_000, i64::try_from(lifetime / 1_000 * 1_000).expect("short"));
                let left = number(&max_age) - number(&field("age"));
                assert_eq!(field("cache-status"), format!("callgate; hit; ttl={left}"), "{class:?} {age}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_usual_hit_is_answered_as_any_other_would_be() {
        let start = Instant::now();
        let json = HeaderValue::from_static("application/json");
        for (class, lifetime, age) in
            [(Class::Final, 90, 5), (Class::Final, 9_000, 8_000), (Class::Settling, 15, 1)]
        {
            let now = start + Duration::from_millis(age * 1_000 + 700);
            let stored = Stored { content_type: Some(json.clone()), ..stored(class, start, lifetime) };
            let usual = check(stored.clone(), HIT, now, &[]);
            // One more field, and it is not usual any more.
            let mut other =
                check(Stored { rare: Rare::of(None, Some(json.clone())), ..stored }, HIT, now, &[]);
            other.headers_mut().remove("retry-after");
            let sorted = |response: &Response<Bytes>| {
                let mut fields: Vec<_> =
                    response.headers().iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                (response.status(), fields, response.body().clone())
            };
            assert_eq!(sorted(&usual), sorted(&other));
            assert_eq!(usual.headers().len(), 7);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hit_after_a_wait_in_vain_says_when_to_ask_again() {
        let now = Instant::now();
        let answer = Answer {
            outcome: HIT,
            content: Content::Stored(Arc::new(stored(Class::Ongoing, now, 9))),
            timing: Timing::default(),
            retry_after: Some(Duration::from_secs(4)),
            turned_away: None,
        };
        let conditions = Conditions { headers: None, client_max_age: Duration::ZERO, now };
        let response = reply(&answer, &conditions, &Clock::starting_at(SystemTime::UNIX_EPOCH), REQUEST_ID);
        assert_eq!(response.headers()["retry-after"], "4");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_has_it_gets_a_304() {
        let now = Instant::now();
        let etag = String::from_utf8(EntityTag::of(b"{}").text().to_vec()).expect("ascii");
        let yes = [
            "*".to_owned(),
            etag.clone(),
            format!("W/{etag}"),
            format!("\"a,b\" , {etag}"),
            format!("\"x\",,{etag}"),
            format!("\"\", W/\"\\\", {etag} , \"y\""),
        ];
        for value in yes {
            let response = check(stored(Class::Final, now, 9), HIT, now, &[("if-none-match", &value)]);
            assert_eq!(response.status(), 304, "{value}");
            assert!(response.body().is_empty());
            assert_eq!(response.headers()["etag"], etag);
            assert!(response.headers().contains_key("cache-control"));
            assert!(!response.headers().contains_key("content-type"));
        }
        let bare = etag.trim_matches('"').to_owned();
        for value in ["", "\"x\"", &bare, "**", &format!("w/{etag}"), &format!("\"x\" {etag}"), &etag[..20]] {
            let response = check(stored(Class::Final, now, 9), HIT, now, &[("if-none-match", value)]);
            assert_eq!(response.status(), 200, "{value}");
        }
        let fields = [("if-none-match", "\"x\""), ("if-none-match", etag.as_str())];
        assert_eq!(check(stored(Class::Ongoing, now, 0), BYPASS, now, &fields).status(), 304);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_200_has_no_entity_tag_to_match() {
        let now = Instant::now();
        let missing = Stored { status: StatusCode::NOT_FOUND, etag: None, ..stored(Class::NotFound, now, 5) };
        assert_eq!(check(missing, HIT, now, &[("if-none-match", "*")]).status(), 404);
    }
}
