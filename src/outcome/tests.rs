//! The words of `Cache-Status`, as a table and as a property.

use proptest::prelude::*;

use super::*;

fn forwarded(why: Forward, collapsed: bool, result: Fetched) -> Outcome {
    Outcome::Forwarded { why, collapsed, result }
}

#[test]
fn cache_status_reads_as_rfc_9211_has_it() {
    let ok = StatusCode::OK;
    let hit = |tier, of, ttl| Outcome::Hit { tier, of, ttl };
    let table = [
        (hit(Tier::Memory, HitOf::Answer, 2_591_990), "callgate; hit; ttl=2591990", "hit"),
        (hit(Tier::Disk, HitOf::Answer, 5), "callgate; hit; ttl=5; detail=disk", "hit"),
        (hit(Tier::Shared, HitOf::Answer, 5), "callgate; hit; ttl=5; detail=shared", "hit"),
        (hit(Tier::Memory, HitOf::NotFound, 4), "callgate; hit; ttl=4; detail=not-found", "negative"),
        (hit(Tier::Memory, HitOf::Failure, 1), "callgate; hit; ttl=1; detail=failure", "negative"),
        (Outcome::StaleIfError { ttl: -30 }, "callgate; hit; ttl=-30; detail=stale-if-error", "stale"),
        (
            forwarded(Forward::UriMiss, false, Fetched::Stored(ok)),
            "callgate; fwd=uri-miss; fwd-status=200; stored",
            "miss",
        ),
        (
            forwarded(Forward::Stale, false, Fetched::Stored(ok)),
            "callgate; fwd=stale; fwd-status=200; stored",
            "miss",
        ),
        (
            forwarded(Forward::Request, false, Fetched::Stored(ok)),
            "callgate; fwd=request; fwd-status=200; stored",
            "miss",
        ),
        (
            forwarded(Forward::UriMiss, false, Fetched::Stored(StatusCode::NOT_FOUND)),
            "callgate; fwd=uri-miss; fwd-status=404; stored",
            "miss",
        ),
        (
            forwarded(Forward::UriMiss, false, Fetched::NotStored(ok, NotKept::Ongoing)),
            "callgate; fwd=uri-miss; fwd-status=200; detail=ongoing",
            "bypass",
        ),
        (
            forwarded(Forward::UriMiss, true, Fetched::NotStored(ok, NotKept::Ongoing)),
            "callgate; fwd=uri-miss; fwd-status=200; detail=ongoing; collapsed",
            "collapsed",
        ),
        (
            forwarded(Forward::UriMiss, false, Fetched::NotStored(ok, NotKept::List)),
            "callgate; fwd=uri-miss; fwd-status=200; detail=list",
            "bypass",
        ),
        (
            forwarded(Forward::UriMiss, false, Fetched::NotStored(ok, NotKept::Suspect(Suspicion::NoId))),
            "callgate; fwd=uri-miss; fwd-status=200; detail=suspect",
            "bypass",
        ),
        (
            forwarded(
                Forward::UriMiss,
                false,
                Fetched::NotStored(StatusCode::INTERNAL_SERVER_ERROR, NotKept::Status),
            ),
            "callgate; fwd=uri-miss; fwd-status=500",
            "miss",
        ),
        (
            forwarded(Forward::UriMiss, true, Fetched::Failed(ErrorCode::UpstreamTimeout)),
            "callgate; fwd=uri-miss; detail=upstream_timeout; collapsed",
            "collapsed",
        ),
    ];
    for (outcome, header, label) in table {
        assert_eq!(outcome.cache_status().expect("a line"), header);
        assert_eq!(outcome.label().as_str(), label, "{header}");
    }
    assert_eq!(Outcome::NotAsked.cache_status(), None);
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let why = prop_oneof![Just(Forward::UriMiss), Just(Forward::Stale), Just(Forward::Request)];
    let status = (200u16..600).prop_map(|s| StatusCode::from_u16(s).expect("in range"));
    let not_kept = prop_oneof![
        Just(NotKept::Ongoing),
        Just(NotKept::List),
        Just(NotKept::Status),
        Just(NotKept::Suspect(Suspicion::TooDeep)),
        Just(NotKept::TooLarge),
        Just(NotKept::Superseded),
    ];
    let result = prop_oneof![
        status.clone().prop_map(Fetched::Stored),
        (status, not_kept).prop_map(|(s, n)| Fetched::NotStored(s, n)),
        Just(Fetched::Failed(ErrorCode::Overloaded)),
    ];
    prop_oneof![
        (any::<i64>()).prop_map(|ttl| Outcome::Hit { tier: Tier::Disk, of: HitOf::Answer, ttl }),
        any::<i64>().prop_map(|ttl| Outcome::StaleIfError { ttl }),
        (why, any::<bool>(), result).prop_map(|(why, collapsed, result)| Outcome::Forwarded {
            why,
            collapsed,
            result
        }),
    ]
}

proptest! {
    #[test]
    fn every_outcome_is_one_member_of_a_structured_list(outcome in any_outcome()) {
        let header = outcome.cache_status().expect("the cache had a part in it");
        let mut parts = header.to_str().expect("ascii").split("; ");
        prop_assert_eq!(parts.next(), Some("callgate"));
        let names: Vec<_> = parts
            .map(|p| p.split_once('=').map_or((p, None), |(name, value)| (name, Some(value))))
            .collect();
        for (name, value) in &names {
            prop_assert!(["hit", "ttl", "fwd", "fwd-status", "stored", "collapsed", "detail"].contains(name));
            if let Some(value) = value {
                prop_assert!(!value.is_empty());
                prop_assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
            }
        }
        // RFC 9211 §2: `hit` and `fwd` exclude each other, and one of them is there.
        let has = |n: &str| names.iter().filter(|(name, _)| *name == n).count();
        prop_assert_eq!(has("hit") + has("fwd"), 1);
    }
}
