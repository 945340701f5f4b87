//! The tables of the decision to keep.

use bytes::Bytes;

use super::*;
use crate::{
    call::{ApiVersion, WorkspaceIndex},
    outcome::Suspicion,
};

const ID: &str = "69cf4b468d2a8a6a8e39b684";
/// Noon of a day, in Unix seconds.
const NOON: i64 = 1_735_732_800;

fn policy() -> Settings {
    Settings {
        final_statuses: vec!["completed".into(), "failed".into()],
        settle_after: Duration::from_secs(600),
        settling_ttl: Duration::from_secs(15),
        final_ttl: Duration::from_secs(30 * 86_400),
        client_max_age: Duration::from_secs(3_600),
        stale_if_error: Duration::from_secs(7 * 86_400),
        ongoing_ttl: Duration::ZERO,
        not_found_ttl: Duration::from_secs(5),
        failure_ttl: Duration::from_secs(1),
        obey_no_cache: false,
        query_ignored: vec!["_".into()],
        query_forwarded: vec![],
        max_wait: Duration::from_secs(60),
        list_ttl: Duration::ZERO,
        empty_for_500: false,
    }
}

fn call_key() -> CacheKey {
    let id = CallId::parse(ID.as_bytes()).expect("an id");
    CacheKey { workspace: WorkspaceIndex(0), version: ApiVersion::V2, resource: Resource::Call(id, None) }
}

fn list_key() -> CacheKey {
    CacheKey { resource: Resource::List(None), ..call_key() }
}

fn answer(status: u16, body: impl Into<String>) -> VendorAnswer {
    VendorAnswer {
        status: StatusCode::from_u16(status).expect("a status"),
        body: Bytes::from(body.into()),
        content_type: None,
        etag: None,
        last_modified: None,
        retry_after: None,
        date: None,
        source: None,
        sent: Instant::now(),
        began: Instant::now(),
    }
}

fn body(status: &str, ended: Option<i64>, updated: Option<i64>) -> String {
    let member = |name, time: Option<i64>| time.map_or(String::new(), |t| format!(r#","{name}":{t}"#));
    format!(
        r#"{{"_id":"{ID}","status":"{status}"{}{}}}"#,
        member("endTime", ended),
        member("updatedAt", updated)
    )
}

/// What became of it in short: class, lifetime in seconds, why it was not kept.
#[derive(Debug, PartialEq)]
enum Short {
    Keep(Class, u64),
    Pass(Class, NotKept),
    Superseded(u64),
    EmptyList,
    Refuse(ErrorCode),
}

fn shorten(verdict: &Verdict) -> Short {
    match verdict {
        Verdict::Keep(stored) => Short::Keep(stored.class, stored.lifetime.as_secs()),
        Verdict::Pass(stored, why) => Short::Pass(stored.class, *why),
        Verdict::Superseded { lifetime, .. } => Short::Superseded(lifetime.as_secs()),
        Verdict::EmptyList(_) => Short::EmptyList,
        Verdict::Refuse(refusal) => Short::Refuse(refusal.code),
    }
}

fn check(policy: &Settings, key: &CacheKey, kept: Option<&Stored>, answer: VendorAnswer) -> Short {
    let about = Circumstances {
        key,
        workspace_id: "ws-1",
        now: UnixMillis(NOON * 1_000),
        instant: kept.map_or_else(Instant::now, |k| k.fetched + Duration::from_secs(60)),
        kept,
        vendor_is_alive: true,
    };
    shorten(&judge(policy, &about, answer))
}

const MONTH: u64 = 30 * 86_400;

#[test]
fn a_call_that_is_over_settles_with_time() {
    let table = [
        // ended, updated (seconds before noon), what follows
        (Some(3_600), None, Short::Keep(Class::Final, MONTH)),
        (Some(600), None, Short::Keep(Class::Final, MONTH)),
        (Some(599), None, Short::Keep(Class::Settling, 149)),
        (Some(100), None, Short::Keep(Class::Settling, 25)),
        (Some(60), None, Short::Keep(Class::Settling, 15)),
        (Some(1), None, Short::Keep(Class::Settling, 15)),
        (Some(0), None, Short::Keep(Class::Settling, 15)),
        // The later of the two counts.
        (Some(3_600), Some(80), Short::Keep(Class::Settling, 20)),
        (Some(80), Some(3_600), Short::Keep(Class::Settling, 20)),
        (None, Some(700), Short::Keep(Class::Final, MONTH)),
        // In the future, and unreadable.
        (Some(-3_600), None, Short::Keep(Class::Settling, 15)),
        (Some(3_600), Some(-1), Short::Keep(Class::Settling, 15)),
        (None, None, Short::Keep(Class::Settling, 15)),
    ];
    for (ended, updated, expected) in table {
        let ago = |seconds: Option<i64>| seconds.map(|s| NOON - s);
        let answer = answer(200, body("completed", ago(ended), ago(updated)));
        assert_eq!(check(&policy(), &call_key(), None, answer), expected, "{ended:?} {updated:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_readable_time_settling_is_counted_from_first_sight() {
    let policy = policy();
    let key = call_key();
    let now = Instant::now();
    let mut kept: Option<Stored> = None;
    for (seconds, expected) in
        [(0, Class::Settling), (300, Class::Settling), (599, Class::Settling), (600, Class::Final)]
    {
        let about = Circumstances {
            key: &key,
            workspace_id: "ws-1",
            now: UnixMillis(NOON * 1_000),
            instant: now + Duration::from_secs(seconds),
            kept: kept.as_ref(),
            vendor_is_alive: false,
        };
        let Verdict::Keep(stored) = judge(&policy, &about, answer(200, body("failed", None, None))) else {
            panic!("kept at {seconds}");
        };
        assert_eq!(stored.class, expected, "{seconds}");
        kept = Some(stored);
    }
}

#[test]
fn any_status_that_is_not_final_is_ongoing_and_not_kept() {
    for status in ["ongoing", "active", "in-progress", "", "complete", "completed!", "done"] {
        let short = check(&policy(), &call_key(), None, answer(200, body(status, Some(NOON - 7_200), None)));
        assert_eq!(short, Short::Pass(Class::Ongoing, NotKept::Ongoing), "{status}");
    }
    for body in [format!(r#"{{"_id":"{ID}"}}"#), format!(r#"{{"_id":"{ID}","status":null}}"#)] {
        let short = check(&policy(), &call_key(), None, answer(200, body));
        assert_eq!(short, Short::Pass(Class::Ongoing, NotKept::Ongoing));
    }
    let micro = Settings { ongoing_ttl: Duration::from_secs(2), ..policy() };
    let short = check(&micro, &call_key(), None, answer(200, body("ongoing", None, None)));
    assert_eq!(short, Short::Keep(Class::Ongoing, 2));
}

#[test]
fn suspect_answers_pass_and_foreign_ones_do_not() {
    let policy = policy();
    let short = check(&policy, &call_key(), None, answer(200, "<html>"));
    assert_eq!(short, Short::Pass(Class::Suspect, NotKept::Suspect(Suspicion::NotAnObject)));
    let foreign = format!(r#"{{"_id":"{ID}","workspaceId":"ws-2","status":"completed"}}"#);
    assert_eq!(
        check(&policy, &call_key(), None, answer(200, foreign)),
        Short::Refuse(ErrorCode::UpstreamMismatch)
    );
}

#[test]
fn other_statuses_say_nothing_lasting_but_that_there_is_no_call() {
    let policy = policy();
    for status in [404, 410] {
        let short = check(&policy, &call_key(), None, answer(status, "{}"));
        assert_eq!(short, Short::Keep(Class::NotFound, 5), "{status}");
    }
    for status in [400, 405, 422, 429, 500, 501, 505] {
        let short = check(&policy, &call_key(), None, answer(status, "{}"));
        assert_eq!(short, Short::Pass(Class::Failure, NotKept::Status), "{status}");
    }
    let eager = Settings { not_found_ttl: Duration::ZERO, ..policy };
    let short = check(&eager, &call_key(), None, answer(404, "{}"));
    assert_eq!(short, Short::Pass(Class::NotFound, NotKept::NoLifetime));
}

#[test]
fn lists_are_kept_only_where_the_settings_say_so() {
    let short = check(&policy(), &list_key(), None, answer(200, "[]"));
    assert_eq!(short, Short::Pass(Class::List, NotKept::List));
    let kept = Settings { list_ttl: Duration::from_secs(3), ..policy() };
    assert_eq!(check(&kept, &list_key(), None, answer(200, "[]")), Short::Keep(Class::List, 3));
    for status in [404, 500] {
        let short = check(&kept, &list_key(), None, answer(status, "{}"));
        assert_eq!(short, Short::Pass(Class::Failure, NotKept::Status), "{status}");
    }
}

#[test]
fn a_final_record_is_not_replaced_by_less() {
    let policy = policy();
    let key = call_key();
    let kept = |status: &str, updated: i64| {
        let about = Circumstances {
            key: &key,
            workspace_id: "ws-1",
            now: UnixMillis(NOON * 1_000),
            instant: Instant::now(),
            kept: None,
            vendor_is_alive: false,
        };
        match judge(&policy, &about, answer(200, body(status, None, Some(updated)))) {
            Verdict::Keep(stored) | Verdict::Pass(stored, _) => stored,
            other @ (Verdict::Superseded { .. } | Verdict::EmptyList(_) | Verdict::Refuse(_)) => {
                panic!("{other:?}")
            }
        }
    };
    let hours = |h: i64| NOON - h * 3_600;
    let done = kept("completed", hours(2));
    let table = [
        (&done, answer(200, body("ongoing", None, Some(hours(1)))), Short::Superseded(15)),
        (&done, answer(200, body("completed", None, Some(hours(3)))), Short::Superseded(15)),
        (&done, answer(200, "<html>"), Short::Superseded(15)),
        (&done, answer(200, body("completed", None, Some(hours(2)))), Short::Keep(Class::Final, MONTH)),
        (&done, answer(200, body("failed", None, Some(hours(1)))), Short::Keep(Class::Final, MONTH)),
        // A call that is gone is gone, and a failure replaces nothing.
        (&done, answer(404, "{}"), Short::Keep(Class::NotFound, 5)),
        (&done, answer(500, "{}"), Short::Pass(Class::Failure, NotKept::Status)),
        (
            &kept("ongoing", hours(1)),
            answer(200, body("ongoing", None, Some(hours(2)))),
            Short::Pass(Class::Ongoing, NotKept::Ongoing),
        ),
        (
            &kept("ongoing", hours(1)),
            answer(200, body("completed", None, Some(hours(2)))),
            Short::Keep(Class::Final, MONTH),
        ),
    ];
    for (kept, answer, expected) in table {
        let text = format!("{answer:?}");
        assert_eq!(check(&policy, &key, Some(kept), answer), expected, "{text}");
    }
    // Settling counts as final here, too.
    let young = kept("completed", NOON - 5);
    assert_eq!(young.class, Class::Settling);
    assert_eq!(
        check(&policy, &key, Some(&young), answer(200, body("ongoing", None, None))),
        Short::Superseded(15)
    );
}

#[test]
fn only_a_200_has_an_entity_tag_and_only_the_rest_a_retry_after() {
    let about = Circumstances {
        key: &call_key(),
        workspace_id: "ws-1",
        now: UnixMillis(NOON * 1_000),
        instant: Instant::now(),
        kept: None,
        vendor_is_alive: false,
    };
    let stored = |status, retry_after: &'static str| {
        let retry_after = Some(http::HeaderValue::from_static(retry_after));
        match judge(&policy(), &about, VendorAnswer { retry_after, ..answer(status, "{}") }) {
            Verdict::Keep(stored) | Verdict::Pass(stored, _) => stored,
            other @ (Verdict::Superseded { .. } | Verdict::EmptyList(_) | Verdict::Refuse(_)) => {
                panic!("{other:?}")
            }
        }
    };
    let (ok, failed) = (stored(200, "7"), stored(500, "7"));
    assert!(ok.etag.is_some() && ok.retry_after().is_none());
    assert!(failed.etag.is_none() && failed.retry_after().is_some());
}

#[test]
fn a_500_is_an_empty_list_only_where_it_is_asked_for_and_the_vendor_is_alive() {
    let on = Settings { empty_for_500: true, ..policy() };
    assert_eq!(check(&on, &list_key(), None, answer(500, "{}")), Short::EmptyList);
    let failed = Short::Pass(Class::Failure, NotKept::Status);
    assert_eq!(check(&policy(), &list_key(), None, answer(500, "{}")), failed);
    assert_eq!(check(&on, &call_key(), None, answer(500, "{}")), failed);
    assert_eq!(check(&on, &list_key(), None, answer(501, "{}")), failed);
    let about = Circumstances {
        key: &list_key(),
        workspace_id: "ws-1",
        now: UnixMillis(NOON * 1_000),
        instant: Instant::now(),
        kept: None,
        vendor_is_alive: false,
    };
    assert_eq!(shorten(&judge(&on, &about, answer(500, "{}"))), failed);
}

#[test]
fn the_404_for_a_call_that_has_just_begun_is_soon_forgotten() {
    let lifetime = |created: i64| {
        let id = CallId::parse(format!("{created:08x}8d2a8a6a8e39b684").as_bytes()).expect("an id");
        let key = CacheKey { resource: Resource::Call(id, None), ..call_key() };
        check(&policy(), &key, None, answer(404, "{}"))
    };
    assert_eq!(lifetime(NOON), Short::Keep(Class::NotFound, 1));
    assert_eq!(lifetime(NOON - 59), Short::Keep(Class::NotFound, 1));
    assert_eq!(lifetime(NOON - 60), Short::Keep(Class::NotFound, 5));
    // By a clock that is a little ahead of ours.
    assert_eq!(lifetime(NOON + 5), Short::Keep(Class::NotFound, 1));
}
