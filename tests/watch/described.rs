//! `openapi.json` against what is really answered: every route, status, field and error code is in it.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::gateway::{
    records::{ongoing, settled},
    vendor::{Play, answer, ok},
    world::{Answer, Caller, ID, World, request},
};

/// The fields that are HTTP's own and no part of a description.
const HTTPS_OWN: [&str; 3] = ["content-length", "content-type", "date"];

fn document() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/openapi.json");
    serde_json::from_str(&fs::read_to_string(path).expect("there")).expect("json")
}

/// A method, the path in the description, the target, fields, and the status that is due.
type Row<'a> = (&'a str, &'a str, String, &'a [(&'a str, &'a str)], u16);

/// What a `$ref` stands for.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(pointer) => {
            let found = document.pointer(pointer.trim_start_matches('#'));
            found.unwrap_or_else(|| panic!("{pointer} leads nowhere"))
        }
        None => value,
    }
}

/// Holds an answer to its description.
fn check(document: &Value, path: &str, method: &str, answer: &Answer) {
    let about = format!("{method} {path}: {answer:?}");
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let status = answer.status.to_string();
    // Methods that a path has not are answered alike everywhere.
    let found = match responses.get(&status) {
        Some(found) => found,
        None if answer.status == 405 => &document["components"]["responses"]["Problem405"],
        None => responses.get("default").unwrap_or_else(|| panic!("not described: {about}")),
    };
    let response = resolved(document, found);
    let headers = response["headers"].as_object().expect("headers");
    for (name, _) in &answer.fields {
        let known = headers.contains_key(name) || HTTPS_OWN.contains(&name.as_str());
        assert!(known, "{name} is not described: {about}");
    }
    for (name, header) in headers {
        let required = resolved(document, header)["required"] == true;
        assert!(!required || answer.field(name).is_some(), "{name} is missing: {about}");
    }
    let Some(content_type) = answer.field("content-type") else { return };
    let content_type = content_type.split(';').next().expect("a type");
    let content = &response["content"];
    assert!(content.get(content_type).or(content.get("*/*")).is_some(), "{content_type}: {about}");
    if content_type == "application/problem+json" && method != "HEAD" {
        let schema = resolved(document, &content[content_type]["schema"]);
        let codes = &schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"];
        let code = &answer.json()["error"]["code"];
        assert!(codes.as_array().expect("codes").contains(code), "{code}: {about}");
    }
}

#[tokio::test]
async fn what_is_answered_is_described() {
    let document = document();
    let world = World::start(|seen| match seen.number {
        1..=3 => Play::Send(ok(settled(seen.id()))),
        4 => Play::Send(ok(ongoing(seen.id()))),
        5 => Play::Send(answer("404 Not Found", "content-type: application/json\r\n", "{}")),
        6 => Play::Send(answer("418 Teapot", "content-type: text/plain\r\n", "no")),
        7 => Play::Send(answer("401 No", "", "{}")),
        8 => Play::Send(answer("503 No", "", "{}")),
        9 => Play::Send(answer("500 No", "content-type: application/json\r\n", "{}")),
        10 => Play::Send(answer("429 No", "retry-after: 30\r\n", "{}")),
        _ => Play::Send(ok("[]")),
    })
    .await;
    let call = |n: usize| format!("/calls/{n:024x}");
    let (v2, v1) = (format!("/v2/api/call-history/{ID}"), format!("/v1/api/call-history/{ID}"));
    let foreign: &[(&str, &str)] = &[("origin", "http://elsewhere.example")];
    let callers: Vec<Row<'_>> = vec![
        ("GET", "/v2/api/call-history/{id}", v2.clone(), &[], 200),
        ("GET", "/v2/api/call-history/{id}", v2.clone(), &[], 200),
        ("HEAD", "/v2/api/call-history/{id}", v2.clone(), &[], 200),
        ("GET", "/v2/api/call-history/{id}", v2, &[("if-none-match", "*")], 304),
        ("GET", "/v1/api/call-history/{id}", v1, &[], 200),
        ("GET", "/calls/{id}", call(1), &[("prefer", "wait=0")], 200),
        ("GET", "/calls/{id}", call(2), &[], 200),
        ("GET", "/calls/{id}", call(3), &[], 404),
        ("GET", "/calls/{id}", call(3), &[], 404),
        ("GET", "/calls/{id}", call(4), &[], 418),
        ("GET", "/calls/{id}", call(5), &[], 502),
        ("GET", "/calls/{id}", call(6), &[], 502),
        ("GET", "/calls/{id}", call(7), &[], 500),
        ("GET", "/calls/{id}", call(8), &[], 429),
        ("GET", "/calls/{id}", call(9), &[("cache-control", "only-if-cached")], 504),
        ("GET", "/calls/{id}", "/calls/a%20b".into(), &[], 400),
        ("GET", "/calls/{id}", format!("{}?k=1", call(1)), &[], 400),
        ("GET", "/calls/{id}", call(1), &[("x-workspace-id", "other")], 403),
        ("GET", "/calls/{id}", call(1), foreign, 403),
        ("GET", "/calls/{id}", call(1), &[("content-length", "3")], 400),
        ("POST", "/calls/{id}", call(1), &[], 405),
        ("GET", "/v2/api/call-history", "/v2/api/call-history?page=2".into(), &[], 429),
        (
            "GET",
            "/v1/api/call-history",
            format!("/v1/api/call-history?search={}", "a".repeat(9_000)),
            &[],
            414,
        ),
    ];
    for (method, path, target, fields, status) in callers {
        let mut caller = world.gateway.connect().await;
        caller.send(request(method, &target, fields)).await;
        let answer = caller.answer_to(method).await;
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        check(&document, path, method, &answer);
    }
    let entry = format!("/cache/{ID}");
    let operators: Vec<Row<'_>> = vec![
        ("GET", "/healthz", "/healthz".into(), &[], 200),
        ("HEAD", "/healthz", "/healthz".into(), &[], 200),
        ("GET", "/readyz", "/readyz".into(), &[], 503),
        ("GET", "/metrics", "/metrics".into(), &[], 200),
        ("GET", "/metrics", "/metrics".into(), &[("accept", "application/openmetrics-text")], 200),
        ("GET", "/openapi.json", "/openapi.json".into(), &[], 200),
        ("PUT", "/openapi.json", "/openapi.json".into(), &[], 405),
        ("GET", "/cache/{id}", entry.clone(), &[], 200),
        ("GET", "/cache/{id}", entry.clone(), &[("x-workspace-id", "other")], 403),
        ("DELETE", "/cache/{id}", entry.clone(), foreign, 403),
        ("DELETE", "/cache/{id}", entry.clone(), &[], 200),
        ("GET", "/cache/{id}", entry, &[], 404),
        ("GET", "/cache/{id}", "/cache/a%20b".into(), &[], 400),
        ("DELETE", "/cache", "/cache?id=1".into(), &[], 400),
        ("DELETE", "/cache", "/cache".into(), &[], 200),
        ("GET", "/cache", "/cache".into(), &[], 405),
    ];
    for (method, path, target, fields, status) in operators {
        let mut caller = Caller::connect(world.gateway.admin).await;
        caller.send(request(method, &target, fields)).await;
        let answer = caller.answer_to(method).await;
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        check(&document, path, method, &answer);
    }
}

#[test]
fn every_error_code_is_described_under_its_status_and_no_other() {
    let document = document();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/outcome/refusal.rs");
    let source = fs::read_to_string(source).expect("there");
    let words = source.split("fn as_str").nth(1).and_then(|rest| rest.split("fn status").next());
    let words = words.expect("the words").split('"').skip(1).step_by(2);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let mut described: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, schema) in
        schemas.iter().filter(|(name, _)| name.starts_with("Problem4") || name.starts_with("Problem5"))
    {
        let codes = &schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"];
        for code in codes.as_array().unwrap_or_else(|| panic!("no codes in {name}")) {
            *described.entry(code.as_str().expect("a code")).or_default() += 1;
        }
    }
    for word in words {
        assert_eq!(described.get(word), Some(&1), "{word}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name() {
    fn walk(document: &Value, value: &Value) {
        resolved(document, value);
        match value {
            Value::Object(members) => members.values().for_each(|member| walk(document, member)),
            Value::Array(members) => members.iter().for_each(|member| walk(document, member)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document();
    walk(&document, &document);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut names = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in ["get", "head", "post", "delete"] {
            if let Some(operation) = item.get(method) {
                let name = operation["operationId"].as_str().expect("a name");
                assert_eq!(names.insert(name.to_owned(), path), None, "{name}");
            }
        }
    }
}
