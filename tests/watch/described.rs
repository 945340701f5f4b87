//! `openapi.json` against what is really answered: every route, status, field and error code is in it.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::gateway::{
    program::{Process, serving},
    records::{ongoing, settled},
    vendor::{Play, Vendor, answer, ok},
    world::{Answer, Caller, ID, World, request},
};

/// The fields that are HTTP's own and no part of a description.
const HTTPS_OWN: [&str; 4] = ["content-length", "content-type", "date", "transfer-encoding"];

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

/// Whether a value has the members that a schema asks for, of the types and with the words that it allows, and no
/// others where it allows no others.
fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    let schema = resolved(document, schema);
    let of = |keyword: &str| schema[keyword].as_array().into_iter().flatten();
    let is = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some(other) => panic!("{other} is no type"),
        None => false,
    };
    let typed = schema.get("type").is_none_or(|name| is(name) || of("type").any(is));
    let known =
        |name: &String| schema["additionalProperties"] != false || schema["properties"].get(name).is_some();
    let members = value.as_object().into_iter().flatten();
    typed
        && schema.get("const").is_none_or(|only| only == value)
        && (schema.get("enum").is_none() || of("enum").any(|word| word == value))
        && of("allOf").all(|other| fits(document, other, value))
        && (schema.get("oneOf").is_none()
            || of("oneOf").filter(|one| fits(document, one, value)).count() == 1)
        && of("required")
            .all(|name| !value.is_object() || value.get(name.as_str().expect("a name")).is_some())
        && members.into_iter().all(|(name, member)| {
            known(name) && schema["properties"].get(name).is_none_or(|schema| fits(document, schema, member))
        })
        && value
            .as_array()
            .into_iter()
            .flatten()
            .all(|item| schema.get("items").is_none_or(|schema| fits(document, schema, item)))
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
    if content_type != "application/x-ndjson" && content_type.ends_with("json") && method != "HEAD" {
        let schema = &content[content_type]["schema"];
        let found = answer.json();
        assert!(fits(document, schema, &found), "not as {schema}: {about}: {found}");
    }
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
    let other: &[(&str, &str)] = &[("x-workspace-id", "other")];
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
        ("GET", "/", "/".into(), &[], 200),
        ("GET", "/", "/?seen=1".into(), &[], 200),
        ("HEAD", "/", "/".into(), &[], 200),
        ("GET", "/", "/".into(), foreign, 403),
        ("POST", "/", "/".into(), &[], 405),
        ("GET", "/status", "/status".into(), &[], 200),
        ("HEAD", "/status", "/status".into(), &[], 200),
        ("GET", "/status", "/status?since=1".into(), &[], 400),
        ("GET", "/config", "/config".into(), &[], 200),
        ("HEAD", "/config", "/config".into(), &[], 200),
        ("GET", "/config", "/config?key=1".into(), &[], 400),
        ("DELETE", "/config", "/config".into(), &[], 405),
        ("POST", "/reload", "/reload".into(), &[], 200),
        ("POST", "/reload", "/reload?now=1".into(), &[], 400),
        ("POST", "/reload", "/reload".into(), &[("content-length", "3")], 400),
        ("POST", "/reload", "/reload".into(), foreign, 403),
        ("GET", "/reload", "/reload".into(), &[], 405),
        ("POST", "/warm", "/warm".into(), &[], 400),
        ("POST", "/warm", "/warm?id=1".into(), &[], 400),
        ("POST", "/warm", "/warm".into(), &[("content-type", "text/plain")], 400),
        ("POST", "/warm", "/warm".into(), other, 403),
        ("POST", "/warm", "/warm".into(), foreign, 403),
        ("POST", "/warm", "/warm".into(), &[("content-length", "16777217")], 413),
        ("GET", "/warm", "/warm".into(), &[], 405),
    ];
    for (method, path, target, fields, status) in operators {
        let mut caller = Caller::connect(world.gateway.admin).await;
        caller.send(request(method, &target, fields)).await;
        let answer = caller.answer_to(method).await;
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        check(&document, path, method, &answer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_what_is_no_good_is_answered_as_described() {
    let document = document();
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut command = serving(vendor.address);
    command.arg("--config").arg(file.path());
    let gateway = Process::start(command).await;
    fs::write(file.path(), "log.level = 'loud'").expect("written");
    let mut caller = Caller::connect(gateway.admin).await;
    caller.send(request("POST", "/reload", &[])).await;
    let answer = caller.answer().await;
    assert_eq!(answer.problem(), (422, "invalid_configuration".into()));
    check(&document, "/reload", "POST", &answer);
}

/// What a gateway answers to a list, and the lines of the body.
async fn warmed(world: &World, list: &str) -> (Answer, Vec<Value>) {
    let mut caller = Caller::connect(world.gateway.admin).await;
    let length = list.len().to_string();
    caller.send(request("POST", "/warm", &[("content-length", &length)]) + list).await;
    let all = caller.rest().await;
    let (head, body) = all.split_once("\r\n\r\n").expect("a head");
    let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    // What is between the lines are the sizes of chunks.
    let lines = body.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| serde_json::from_str(line).expect("json")).collect();
    (Answer { status, fields, body: body.into() }, lines)
}

#[tokio::test]
async fn the_lines_of_a_warm_up_are_described_and_so_is_that_there_are_too_many() {
    let document = document();
    let world = World::start(|seen| match seen.id() {
        "failing" => Play::Send(answer("500 No", "", "{}")),
        "unknown" => Play::Send(answer("404 Not Found", "", "{}")),
        id => Play::Send(ok(settled(id))),
    })
    .await;
    let list = format!(r#"{{"ids":["{ID}","failing","unknown","no id"],"version":"v1"}}"#);
    let (answer, lines) = warmed(&world, &list).await;
    assert_eq!((answer.status, lines.len()), (200, 6), "{answer:?}");
    check(&document, "/warm", "POST", &answer);
    let schema = &document["components"]["schemas"]["WarmLine"];
    for line in &lines {
        assert!(fits(&document, schema, line), "{line}");
    }
    // Each holds its place until its body is there.
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut caller = Caller::connect(world.gateway.admin).await;
        caller.send(request("POST", "/warm", &[("content-length", "3")])).await;
        waiting.push(caller);
    }
    world.gateway.settle().await;
    let mut caller = Caller::connect(world.gateway.admin).await;
    caller.send(request("POST", "/warm", &[])).await;
    let refused = caller.answer().await;
    assert_eq!(refused.status, 503, "{refused:?}");
    check(&document, "/warm", "POST", &refused);
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
