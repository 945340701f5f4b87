//! Both text formats, read back by the rules that scrapers go by.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::outcome::Tier;

const OPENMETRICS: Option<&str> = Some("application/openmetrics-text; version=1.0.0");

/// A gateway that has seen something of everything.
fn busy() -> (Metrics, Snapshot) {
    let metrics = Metrics::new();
    for route in RouteLabel::ALL {
        for cache in CacheLabel::ALL {
            metrics.request(route, cache, StatusCode::OK, Duration::from_micros(40));
            metrics.request(route, cache, StatusCode::NOT_FOUND, Duration::from_secs(90));
        }
    }
    metrics.upstream_started().ended(Duration::from_millis(20), Ok(StatusCode::OK));
    metrics.upstream_started().ended(Duration::from_millis(20), Err(ErrorCode::UpstreamTimeout));
    metrics.upstream_retry();
    let now = Snapshot {
        connections: 3,
        tiers: vec![
            TierUse { tier: Tier::Memory, entries: 7, bytes: 4096 },
            TierUse { tier: Tier::Disk, entries: 9, bytes: 8192 },
        ],
        evictions: vec![(EvictionReason::Size, 2), (EvictionReason::Expired, 1), (EvictionReason::Purged, 0)],
        budgets: vec![WorkspaceBudget {
            workspace: "main".to_owned(),
            remaining: 59,
            limit: 60,
            waiting: 4,
            rejected: true,
        }],
        cooldown: Duration::from_millis(1_500),
        circuit: 2,
        ready: true,
        beyond: vec![(Tier::Disk, true), (Tier::Shared, false)],
        replicas: Some(3),
    };
    metrics.budget_waited(Duration::from_millis(5));
    metrics.budget_rejected();
    (metrics, now)
}

/// The samples by name and labels, after the checks that hold for both formats.
fn read(body: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family: Option<(&str, &str)> = None;
    assert!(body.ends_with('\n'));
    for line in body.lines() {
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut words = metadata.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("HELP"), Some(name), Some(text)) => {
                    assert!(families.insert(name), "{name} comes twice");
                    assert!(!text.is_empty());
                    family = None;
                }
                (Some("TYPE"), Some(name), Some(kind)) => {
                    assert!(families.contains(name), "{name} has no help");
                    family = Some((name, kind));
                }
                (Some("UNIT"), Some(name), Some(unit)) => assert!(name.ends_with(&format!("_{unit}"))),
                (Some("EOF"), None, None) => {}
                _ => panic!("no metadata: {line}"),
            }
            continue;
        }
        let (name, kind) = family.expect("a sample stands under its type");
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let own = series.split('{').next().unwrap_or_default();
        let suffix = own.strip_prefix(name).unwrap_or_else(|| panic!("{own} stands under {name}"));
        let fits = match kind {
            "counter" => suffix == "_total" || name.ends_with("_total") && suffix.is_empty(),
            "gauge" => suffix.is_empty(),
            "info" => suffix == "_info",
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            _ => false,
        };
        assert!(fits, "{own} is no sample of a {kind}");
        assert!(own.starts_with("callgate_"));
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
    }
    samples
}

/// The types by the name that their line has.
fn types(body: &str) -> BTreeMap<&str, &str> {
    body.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')).collect()
}

#[test]
fn both_formats_show_the_same_samples() {
    let (metrics, now) = busy();
    let (openmetrics_type, openmetrics) = metrics.render(OPENMETRICS, now.clone());
    let (prometheus_type, prometheus) = metrics.render(None, now);
    assert!(openmetrics_type.starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(prometheus_type.starts_with("text/plain; version=0.0.4"));
    assert_eq!(read(&openmetrics), read(&prometheus));
    assert!(openmetrics.ends_with("\n# EOF\n"));
    assert!(!prometheus.contains("# EOF") && !prometheus.contains("# UNIT"));
    assert_eq!(types(&openmetrics)["callgate_requests"], "counter");
    assert_eq!(types(&prometheus)["callgate_requests_total"], "counter");
    assert_eq!(types(&openmetrics)["callgate_build"], "info");
    assert_eq!(types(&prometheus)["callgate_build_info"], "gauge");
}

#[test]
fn every_family_is_there_and_none_beside_them() {
    let (metrics, now) = busy();
    let (_, body) = metrics.render(None, now);
    let expected = [
        "callgate_budget_limit",
        "callgate_budget_rejected_total",
        "callgate_budget_remaining",
        "callgate_budget_wait_seconds",
        "callgate_budget_waiting",
        "callgate_build_info",
        "callgate_cache_bytes",
        "callgate_cache_entries",
        "callgate_cache_evictions_total",
        "callgate_cache_tier_up",
        "callgate_circuit_state",
        "callgate_connections",
        "callgate_credentials_rejected",
        "callgate_ready",
        "callgate_replicas",
        "callgate_request_duration_seconds",
        "callgate_requests_total",
        "callgate_upstream_cooldown_seconds",
        "callgate_upstream_in_flight",
        "callgate_upstream_request_duration_seconds",
        "callgate_upstream_requests_total",
        "callgate_upstream_retries_total",
    ];
    assert_eq!(types(&body).into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn what_was_counted_is_shown() {
    let (metrics, now) = busy();
    let (_, body) = metrics.render(None, now);
    let samples = read(&body);
    let table = [
        (r#"callgate_requests_total{route="lookup",cache="hit",code="200"}"#, 1.0),
        (r#"callgate_requests_total{route="other",cache="none",code="404"}"#, 1.0),
        (r#"callgate_request_duration_seconds_count{route="list",cache="bypass"}"#, 2.0),
        (r#"callgate_request_duration_seconds_sum{route="list",cache="bypass"}"#, 90.000_04),
        (r#"callgate_request_duration_seconds_bucket{le="0.00005",route="list",cache="bypass"}"#, 1.0),
        (r#"callgate_request_duration_seconds_bucket{le="60.0",route="list",cache="bypass"}"#, 1.0),
        (r#"callgate_request_duration_seconds_bucket{le="+Inf",route="list",cache="bypass"}"#, 2.0),
        (r#"callgate_upstream_requests_total{code="200"}"#, 1.0),
        (r#"callgate_upstream_requests_total{code="upstream_timeout"}"#, 1.0),
        ("callgate_upstream_request_duration_seconds_count", 2.0),
        ("callgate_upstream_retries_total", 1.0),
        ("callgate_upstream_in_flight", 0.0),
        (r#"callgate_cache_entries{tier="memory"}"#, 7.0),
        (r#"callgate_cache_bytes{tier="disk"}"#, 8192.0),
        (r#"callgate_cache_evictions_total{reason="size"}"#, 2.0),
        ("callgate_connections", 3.0),
        ("callgate_ready", 1.0),
        ("callgate_replicas", 3.0),
        (r#"callgate_cache_tier_up{tier="disk"}"#, 1.0),
        (r#"callgate_cache_tier_up{tier="shared"}"#, 0.0),
        (r#"callgate_budget_remaining{workspace="main"}"#, 59.0),
        (r#"callgate_budget_limit{workspace="main"}"#, 60.0),
        (r#"callgate_budget_waiting{workspace="main"}"#, 4.0),
        (r#"callgate_credentials_rejected{workspace="main"}"#, 1.0),
        (concat!(r#"callgate_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#), 1.0),
    ];
    for (series, value) in table {
        assert_eq!(samples.get(series), Some(&value), "{series}\n{body}");
    }
}

#[test]
fn the_buckets_of_a_histogram_add_up_to_its_count() {
    let metrics = Metrics::new();
    for micros in [1, 2, 11, 900, 40_000, 3_000_000, 70_000_000] {
        metrics.request(RouteLabel::Lookup, CacheLabel::Hit, StatusCode::OK, Duration::from_micros(micros));
    }
    let (_, body) = metrics.render(None, Snapshot::default());
    let buckets: Vec<u64> = body
        .lines()
        .filter(|line| line.starts_with("callgate_request_duration_seconds_bucket"))
        .map(|line| line.rsplit_once(' ').expect("a value").1.parse().expect("a count"))
        .collect();
    assert!(buckets.is_sorted());
    assert_eq!(buckets.first(), Some(&2));
    assert_eq!(buckets.last(), Some(&7));
}

#[test]
fn nothing_is_shown_for_labels_that_never_occurred() {
    let metrics = Metrics::new();
    let (_, body) = metrics.render(None, Snapshot::default());
    assert!(!body.contains("route="));
    metrics.request(RouteLabel::Lookup, CacheLabel::Stale, StatusCode::OK, Duration::ZERO);
    let (_, body) = metrics.render(None, Snapshot::default());
    assert_eq!(body.lines().filter(|l| l.starts_with("callgate_requests_total{")).count(), 1);
}

#[test]
fn a_request_to_the_vendor_is_in_flight_until_it_is_ended_or_dropped() {
    let metrics = Metrics::new();
    let sample = |series: &str| read(&metrics.render(None, Snapshot::default()).1).get(series).copied();
    let (first, second) = (metrics.upstream_started(), metrics.upstream_started());
    assert_eq!(sample("callgate_upstream_in_flight"), Some(2.0));
    first.ended(Duration::from_millis(20), Ok(StatusCode::TOO_MANY_REQUESTS));
    drop(second);
    assert_eq!(sample("callgate_upstream_in_flight"), Some(0.0));
    assert_eq!(sample(r#"callgate_upstream_requests_total{code="429"}"#), Some(1.0));
    assert_eq!(sample(r#"callgate_upstream_requests_total{code="internal_error"}"#), Some(1.0));
}

#[test]
fn the_time_that_the_vendor_takes_is_counted_once_it_has_ended() {
    let metrics = Metrics::new();
    metrics.upstream_started().ended(Duration::from_millis(1500), Ok(StatusCode::OK));
    drop(metrics.upstream_started());
    let samples = read(&metrics.render(None, Snapshot::default()).1);
    assert_eq!(samples["callgate_upstream_request_duration_seconds_sum"], 1.5);
    assert_eq!(samples["callgate_upstream_request_duration_seconds_count"], 1.0);
}

#[test]
fn a_status_that_no_vendor_should_send_is_counted_without_a_series_of_its_own() {
    let metrics = Metrics::new();
    for status in [600, 777, 999] {
        metrics
            .upstream_started()
            .ended(Duration::from_millis(20), Ok(StatusCode::from_u16(status).expect("three digits")));
    }
    let samples = read(&metrics.render(None, Snapshot::default()).1);
    assert_eq!(samples[r#"callgate_upstream_requests_total{code="599"}"#], 3.0);
}

#[test]
fn clones_count_into_the_same_families() {
    let metrics = Metrics::new();
    let threads = std::array::from_fn::<_, 4, _>(|_| {
        let metrics = metrics.clone();
        std::thread::spawn(move || {
            for _ in 0..1000 {
                metrics.request(RouteLabel::Lookup, CacheLabel::Hit, StatusCode::OK, Duration::from_nanos(1));
            }
        })
    });
    for thread in threads {
        thread.join().expect("a thread that counts");
    }
    let samples = read(&metrics.render(None, Snapshot::default()).1);
    assert_eq!(samples[r#"callgate_requests_total{route="lookup",cache="hit",code="200"}"#], 4000.0);
    assert_eq!(samples[r#"callgate_request_duration_seconds_count{route="lookup",cache="hit"}"#], 4000.0);
}

#[test]
fn the_places_of_labels_are_their_discriminants() {
    for (place, route) in RouteLabel::ALL.into_iter().enumerate() {
        assert_eq!(route as usize, place);
    }
    for (place, cache) in CacheLabel::ALL.into_iter().enumerate() {
        assert_eq!(cache as usize, place);
    }
}
