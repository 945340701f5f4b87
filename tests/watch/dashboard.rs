//! What stands in `deploy/prometheus` and `deploy/grafana`, asked of a real Prometheus that scrapes a real gateway.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::prometheus::{Prometheus, deployed};
use crate::{
    gateway::{
        records::{id, ongoing, settled},
        vendor::{Play, answer, ok},
        world::World,
    },
    tools::is_here,
};

#[test]
fn the_rules_alert_when_they_should_and_only_then() {
    if !is_here("promtool") {
        return;
    }
    for (what, file) in
        [("check config", "prometheus.yml"), ("check rules", "rules.yml"), ("test rules", "rules_test.yml")]
    {
        let run = Command::new("promtool")
            .args(what.split(' '))
            .arg(file)
            .current_dir(deployed("prometheus"))
            .output()
            .expect("run");
        let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{what} {file}: {said}");
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_and_the_rules_has_an_answer() {
    if !is_here("prometheus") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::with(
        &format!("cache.disk.path = {:?}\nlookup.failure_ttl = \"0s\"\n", folder.path().join("calls")),
        |seen| match seen.number % 6 {
            1 | 2 => Play::Send(ok(settled(seen.id()))),
            3 => Play::Send(ok(ongoing(seen.id()))),
            4 => Play::Send(answer("404 Not Found", "", "{}")),
            5 => Play::Send(answer("503 Unavailable", "", "{}")),
            _ => Play::Send(answer("500 Error", "", "{}")),
        },
    )
    .await;
    let prometheus = Prometheus::scraping(world.gateway.admin).await;
    prometheus.until("up{job=\"callgate\"} == 1").await;
    // A rate takes two scrapes of a series, so the load goes on until what is recorded last is there.
    let recorded = async {
        for query in [
            "sum(rate(callgate_requests_total{cache=\"none\"}[1m])) > 0",
            "sum(rate(callgate_upstream_requests_total[1m])) > 0",
            "callgate:hit_ratio:rate5m > 0",
            "callgate:upstream_request_duration_seconds:p99_5m > 0",
        ] {
            prometheus.until(query).await;
        }
    };
    let load = async {
        for n in 0.. {
            let call = format!("/calls/{}", id(n % 500));
            world.get(&call).await;
            world.get(&call).await;
            world.get("/nowhere").await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = recorded => {}
        () = load => {}
    }
    for (query, where_from) in queries() {
        let found = prometheus.query(&query).await;
        // There is no other replica, and so no number of them.
        let may_be_empty = query.contains("callgate_replicas") || query.contains("ALERTS");
        assert!(may_be_empty || !found.is_empty(), "{where_from}: nothing for {query}");
    }
    let rules = prometheus.api("rules").await;
    let groups = rules["data"]["groups"].as_array().expect("groups");
    let rules: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    assert_eq!(
        rules.len(),
        fs::read_to_string(deployed("prometheus/rules.yml")).expect("there").matches("expr:").count()
    );
    for rule in rules {
        let name = rule["name"].as_str().expect("a name");
        assert_eq!(rule["health"], "ok", "{rule}");
        prometheus.query(rule["query"].as_str().expect("a query")).await;
        if rule["type"] == "recording" {
            prometheus.until(name).await;
        }
    }
    let scraped =
        prometheus.query("count by (__name__) ({job=\"callgate\", __name__=~\"callgate_.*\"})").await;
    assert!(scraped.len() > 20, "{scraped:?}");
}

/// Every query of the dashboard, with its variables filled in, and the title of its panel.
fn queries() -> Vec<(String, String)> {
    let text = fs::read_to_string(deployed("grafana/callgate.json")).expect("there");
    let dashboard: Value = serde_json::from_str(&text).expect("json");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut queries = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((target["expr"].as_str().expect("a query").to_owned(), title.to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
        queries.push((annotation["expr"].as_str().expect("a query").to_owned(), "annotations".to_owned()));
    }
    assert!(queries.len() > 30, "{queries:?}");
    let filled = |query: String| {
        let query = query.replace("$__rate_interval", "1m").replace("$__range", "5m");
        let query = query.replace("$job", ".*").replace("$instance", ".*");
        assert!(!query.contains('$'), "a variable that is not known: {query}");
        query
    };
    queries.into_iter().map(|(query, title)| (filled(query), title)).collect()
}

#[tokio::test]
async fn the_metrics_are_named_as_prometheus_has_it() {
    if !is_here("promtool") {
        return;
    }
    let world = World::saying(ok(settled(&id(1)))).await;
    world.call(&id(1)).await;
    let text = world.gateway.metrics().await;
    let mut lint = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    std::io::Write::write_all(&mut lint.stdin.take().expect("a pipe"), text.as_bytes()).expect("written");
    let said = lint.wait_with_output().expect("run");
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert_eq!(said, "");
}
