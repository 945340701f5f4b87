//! The order of the house: who may import whom, what stands only in one place, and how long a file gets.
//!
//! Reads the sources as text. What stands in comments, strings and test modules is free. A part that these tables do
//! not know is refused: give it its place.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the top of the house to the bottom: a part imports from the rows below its own, and nothing else.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["app"],
    &["admin"],
    &["downstream"],
    &["lookup"],
    &["otlp", "store", "upstream"],
    &["replicas"],
    &["metrics"],
    &["call", "outcome"],
    &["clock", "trace"],
    &["causes", "hex", "line", "secret_file", "trust"],
];

/// The parts that stand beside that order.
const BESIDE: &[Beside] = &[
    // Reads files and environment into the parts' own settings types; no part knows where its settings are from.
    Beside { part: "settings", imports: Imports::AnyBelow("app"), used_by: &["app", "cli"] },
    Beside { part: "telemetry", imports: Imports::Nothing, used_by: &["app", "cli", "settings"] },
    Beside { part: "drain", imports: Imports::Nothing, used_by: &["app", "cli", "settings"] },
    // The other side of the wire: were it to share code with the gateway, both could be wrong alike.
    Beside { part: "sandbox", imports: Imports::Nothing, used_by: &["cli"] },
];

struct Beside {
    part: &'static str,
    imports: Imports,
    used_by: &'static [&'static str],
}

enum Imports {
    Nothing,
    /// What stands below this row, and `telemetry` and `drain`.
    AnyBelow(&'static str),
}

/// What may be named only here: paths, and the beginnings of the files that may.
const ONLY_IN: &[(&[&str], &[&str])] = &[
    (&["moka"], &["store/memory"]),
    (&["redb"], &["store/disk/base"]),
    (&["redis"], &["replicas/"]),
    (&["hyper::server", "hyper_util::server"], &["downstream/", "admin/", "sandbox/"]),
    (
        &["hyper::client", "hyper_util::client", "hyper_rustls"],
        &["upstream/client", "upstream/connect", "otlp/export", "cli/"],
    ),
    (&["rustls_native_certs", "webpki_roots"], &["trust"]),
    (&["listenfd"], &["cli/inherited"]),
    (&["config"], &["settings/"]),
    (&["std::env"], &["main.rs", "cli/"]),
    (
        &["tokio::spawn", "tokio::task::spawn", "tokio::task::JoinSet", "task::spawn"],
        &[
            "downstream/accept",
            "downstream/listener",
            "downstream/connection",
            "lookup/flight",
            "lookup/wait",
            "lookup/erase",
            "admin/warm",
            "settings/reload",
            "store/disk",
            "otlp/",
            "replicas/",
            "store/shared",
            "app",
            "sandbox/",
            "cli/",
        ],
    ),
];

/// The most lines that a file has, its tests included.
const MAX_LINES: usize = 400;

/// Files from before the limit, and what they may not outgrow. Shrinks only.
const LONGER: &[(&str, usize)] = &[];

#[test]
fn every_part_imports_only_what_stands_below_it() {
    complain(code().iter().flat_map(|(file, text)| imports_out_of_order(inside(file), text)));
}

#[test]
fn what_belongs_in_one_place_stands_nowhere_else() {
    complain(code().iter().flat_map(|(file, text)| out_of_place(inside(file), text)));
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent = |text: &str| !text.starts_with("//! ");
    let all = ["src", "tests", "benches", "proofs", "fuzz/src", "fuzz/fuzz_targets"].map(sources).concat();
    complain(
        all.iter().filter(|(_, text)| silent(text)).map(|(file, _)| format!("{file}: opens without //!")),
    );
}

#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("SECURITY.md")).expect("the page");
    let code: String = ["src", "tests"].map(sources).concat().into_iter().map(|(_, text)| text).collect();
    let is_test = |word: &str| {
        word.matches('_').count() > 2
            && word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let words: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    assert!(words.iter().filter(|word| is_test(word)).count() > 100);
    complain(words.into_iter().filter_map(|word| {
        let missing = match word {
            path if path.ends_with(".rs") => {
                !(root.join(path).exists() || root.join("tests").join(path).exists())
            }
            name if is_test(name) => !code.contains(&format!("fn {name}(")),
            _ => false,
        };
        missing.then(|| format!("SECURITY.md names {word}, which is not there"))
    }));
}

#[test]
fn no_file_is_too_long_to_be_read_in_one_go() {
    let all = ["src", "tests", "benches", "proofs", "fuzz/src", "fuzz/fuzz_targets"].map(sources).concat();
    complain(all.iter().filter_map(|(file, text)| {
        let lines = text.lines().count();
        let most = LONGER.iter().find(|(longer, _)| longer == file).map_or(MAX_LINES, |(_, most)| *most);
        (lines > most).then(|| format!("{file}: {lines} lines, {most} at most"))
    }));
}

#[test]
fn the_rules_catch_what_they_are_for() {
    let caught =
        |file, text| !(imports_out_of_order(file, text).is_empty() && out_of_place(file, text).is_empty());
    let table = [
        ("store/mod.rs", "use crate::{call::CacheKey, outcome::Tier};", false),
        ("store/mod.rs", "use crate::{call::CacheKey, lookup::{admission, Lookup}};", true),
        ("store/mod.rs", "fn f() { crate::upstream::client::ask() }", true),
        ("store/mod.rs", "use super::lookup::Lookup;", true),
        ("store/memory.rs", "use super::{Stored, super::lookup};", true),
        ("store/memory.rs", "use super::Stored; use moka::sync::Cache;", false),
        ("store/disk.rs", "use moka::sync::Cache;", true),
        ("lookup/mod.rs", "use crate::settings::Settings;", true),
        (
            "lookup/mod.rs",
            "// use crate::settings::Settings;\n/* crate::app */ const A: &str = \"crate::app\";",
            false,
        ),
        ("lookup/mod.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::sandbox::Vendor;\n}", false),
        ("lookup/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::sandbox::Vendor;", true),
        ("sandbox/mod.rs", "use crate::call::CallId;", true),
        ("sandbox/list.rs", "use crate::sandbox::book::Book;", false),
        ("cli/demo.rs", "use crate::{app::App, sandbox::Vendor, settings, telemetry}; use std::env;", false),
        (
            "settings/check.rs",
            "use crate::{downstream::Settings, drain, telemetry}; use config::Config;",
            false,
        ),
        ("settings/check.rs", "use crate::app::App;", true),
        ("main.rs", "fn main() { callgate::cli::run(std::env::args_os()) }", false),
        ("app.rs", "use std::{env as surroundings, fs};", true),
        ("app.rs", "use hyper::{body::Incoming, server::conn::http1};", true),
        ("downstream/reply.rs", "fn f() { tokio::spawn(async {}); }", true),
        ("downstream/reply.rs", "fn f() { tokio::task::spawn_blocking(|| {}); }", false),
        ("basement.rs", "", true),
    ];
    for (file, text, expected) in table {
        assert_eq!(caught(file, text), expected, "{file}: {text}");
    }
}

/// The imports in a file that the tables do not allow.
fn imports_out_of_order(file: &str, text: &str) -> Vec<String> {
    let part = file.split(['/', '.']).next().unwrap_or_default();
    if file == "lib.rs" {
        return Vec::new();
    }
    if row(part).is_none() && beside(part).is_none() {
        return vec![format!("{file}: {part} has no place in the house")];
    }
    // How many `super::` it takes to leave the part.
    let depth = file.matches('/').count() + usize::from(!file.ends_with("/mod.rs"));
    let mut complaints = Vec::new();
    for path in paths(&production(text)) {
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        let imported = match path.first().map(String::as_str) {
            Some("crate" | "callgate") => path.get(1),
            Some("super") if ups >= depth => path.get(ups),
            _ => None,
        };
        if let Some(other) = imported.filter(|other| *other != part && !may_import(part, other)) {
            complaints.push(format!("{file}: {part} may not import {other} ({})", path.join("::")));
        }
    }
    complaints
}

/// Whether the tables let one part name another.
fn may_import(part: &str, other: &str) -> bool {
    match (beside(part), beside(other)) {
        (_, Some(other)) if other.used_by.contains(&part) => true,
        (Some(Beside { imports: Imports::AnyBelow(top), .. }), None) => row(other) > row(top),
        (None, None) => row(other).is_some() && row(other) > row(part),
        (Some(_), _) | (None, Some(_)) => false,
    }
}

fn row(part: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&part))
}

fn beside(part: &str) -> Option<&'static Beside> {
    BESIDE.iter().find(|beside| beside.part == part)
}

/// The paths in a file that may be named elsewhere only.
fn out_of_place(file: &str, text: &str) -> Vec<String> {
    let named = paths(&production(text));
    let mut complaints = Vec::new();
    for (banned, homes) in ONLY_IN {
        if homes.iter().any(|home| file.starts_with(home)) {
            continue;
        }
        for path in &named {
            let hit = banned.iter().any(|banned| {
                let banned: Vec<&str> = banned.split("::").collect();
                path.len() >= banned.len() && banned.iter().zip(path).all(|(b, p)| b == p)
            });
            if hit {
                complaints.push(format!("{file}: {} belongs in {}", path.join("::"), homes.join(", ")));
            }
        }
    }
    complaints
}

/// The code that is shipped: nothing from the first inline test module on, no comments, no strings.
fn production(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '\'' if rest.starts_with("'\"'") => 3,
            '\'' if rest.starts_with("'\\\"'") => 4,
            '"' => string_length(rest),
            'r' if rest.starts_with("r#\"") => rest.find("\"#").map_or(rest.len(), |end| end + 2),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of the string literal that `text` starts with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            c => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// Every path of two segments or more that the code names, with the groups of `use` written out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let start = at;
        tree(&tokens, &mut at, Vec::new(), &mut found);
        at = at.max(start + 1);
    }
    found
}

/// Reads one path or tree of paths.
fn tree(tokens: &[String], at: &mut usize, mut path: Vec<String>, found: &mut Vec<Vec<String>>) {
    let word = |token: &String| token.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '*');
    while let Some(token) = tokens.get(*at) {
        let grouped = !path.is_empty();
        if token == "{" && grouped {
            *at += 1;
            while tokens.get(*at).is_some_and(|token| token != "}") {
                let start = *at;
                tree(tokens, at, path.clone(), found);
                // `as name`, commas.
                while tokens.get(*at).is_some_and(|token| token != "," && token != "}") {
                    *at += 1;
                }
                *at += usize::from(tokens.get(*at).is_some_and(|token| token == ","));
                *at = (*at).max(start + 1);
            }
            *at += 1;
            return;
        }
        if !word(token) {
            return;
        }
        path.push(token.clone());
        *at += 1;
        if tokens.get(*at).is_none_or(|token| token != "::") {
            break;
        }
        *at += 1;
    }
    if path.len() > 1 {
        found.push(path);
    }
}

/// Words, `::` and single characters.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(c) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match word {
            0 if rest.starts_with("::") => 2,
            0 => c.len_utf8(),
            word => word,
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Fails with all complaints at once.
fn complain(complaints: impl Iterator<Item = String>) {
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The path of a source file below `src`.
fn inside(file: &str) -> &str {
    file.strip_prefix("src/").unwrap_or(file)
}

/// The sources without the test modules that have files of their own.
fn code() -> Vec<(String, String)> {
    sources("src").into_iter().filter(|(file, _)| !file.ends_with("/tests.rs")).collect()
}

/// Every Rust file below a folder of the crate, by its path there; a file of tests alone is not a source of `src`.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a readable source");
                let name = path.strip_prefix(root).expect("below the crate").to_string_lossy().into_owned();
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}
