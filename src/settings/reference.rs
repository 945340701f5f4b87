//! Holds `config/default.toml` and the table of settings together. Tests only.

use config::Value;

use super::{
    Settings,
    layers::{self, DEFAULT},
    reader,
    table::{self, BEFORE_WORKSPACES, SETTINGS, WORKSPACE, WORKSPACES},
    units::render_size,
    values::descend,
};

/// The settings that have no default, and so stand in the reference as comments.
const WITHOUT_DEFAULT: [&str; 6] = [
    "listen.metrics",
    "upstream.ca_file",
    "cache.encryption_key_file",
    "cache.disk.path",
    "cache.shared.url",
    "budget.replicas_fallback",
];

/// A line of the reference that sets something, and whether it is commented out.
fn setting_of(line: &str) -> Option<(&str, bool)> {
    let (line, commented) = line.strip_prefix("# ").map_or((line, false), |line| (line, true));
    let key = line.split_once(" = ").map(|(key, _)| key);
    let plain = |key: &&str| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    key.filter(plain).map(|key| (key, commented))
}

/// Paths in the order of the reference, with what stands above each.
fn walk() -> Vec<(String, bool, bool)> {
    let mut found = Vec::new();
    let (mut section, mut explained) = (String::new(), false);
    for line in DEFAULT.lines() {
        let heading = line.trim_start_matches("# ");
        if let Some((key, commented)) = setting_of(line) {
            found.push((format!("{section}.{key}"), commented, explained));
            explained = false;
        } else if heading.starts_with('[') && heading.ends_with(']') {
            section = heading.trim_matches(['[', ']']).to_owned();
            explained = false;
        } else {
            explained = line.starts_with("# ");
        }
    }
    found
}

/// The reference with every commented setting set.
fn uncommented() -> String {
    let lines = DEFAULT.lines().map(|line| {
        let sets = setting_of(line).is_some() || line == "# [[workspaces]]";
        if sets { line.trim_start_matches("# ") } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_setting_stands_in_the_reference_in_order_and_explained() {
    let known: Vec<String> = SETTINGS
        .iter()
        .flat_map(|setting| {
            let workspace = WORKSPACE.iter().map(|field| format!("{WORKSPACES}.{}", field.path));
            let after = workspace.filter(|_| setting.path == BEFORE_WORKSPACES);
            std::iter::once(setting.path.to_owned()).chain(after)
        })
        .collect();
    let written = walk();
    assert_eq!(written.iter().map(|(path, ..)| path.clone()).collect::<Vec<_>>(), known);
    for (path, commented, explained) in written {
        let without = WITHOUT_DEFAULT.contains(&path.as_str()) || path == "budget.reserve";
        assert_eq!(commented, without || path.starts_with(WORKSPACES), "{path}");
        assert!(explained, "{path} has no comment");
    }
}

#[test]
fn the_examples_in_the_reference_are_what_their_settings_must_be() {
    let mut problems = Vec::new();
    let layer = layers::text("reference", &uncommented(), &mut problems);
    assert_eq!(problems, []);
    let tree = Value::new(None, layer.settings);
    for setting in SETTINGS {
        let value = descend(&tree, setting.path);
        let read = reader::read(setting.kind, value.expect(setting.path));
        assert!(read.is_ok(), "{}: {read:?}", setting.path);
    }
    let [workspace] = layer.workspaces.as_deref().expect("workspaces") else { panic!("one workspace") };
    for field in WORKSPACE {
        let read = reader::read(field.kind, workspace.fields.get(field.path).expect(field.path));
        assert!(read.is_ok(), "{}: {read:?}", field.path);
    }
}

#[test]
fn the_ranges_in_the_reference_are_those_of_the_table() {
    let flat = DEFAULT.replace("\n# ", " ");
    for setting in SETTINGS {
        let range = if let table::Kind::Count(min, max) = setting.kind {
            format!("{min} to {max}")
        } else if let table::Kind::Size(min, max) = setting.kind {
            format!("from \"{}\" to \"{}\"", render_size(min), render_size(max))
        } else {
            continue;
        };
        let key = setting.path.rsplit('.').next().expect("a key");
        let worded = setting.path == "budget.reserve" || key == "requests_per_minute";
        let section = flat.split(&format!("[{}]", table::section(setting.path))).nth(1).expect("a section");
        let before = section.split(&format!("{key} = ")).next().expect("a comment");
        let comment = before.rsplit("\n\n").next().expect("a comment");
        assert!(worded || comment.contains(&range), "{}: {range} in {comment:?}", setting.path);
    }
}

#[test]
fn the_defaults_alone_lack_only_credentials() {
    let problems = Settings::load(&[], &std::collections::BTreeMap::new()).expect_err("no credentials");
    assert_eq!(problems.iter().map(super::Problem::setting).collect::<Vec<_>>(), ["workspaces"]);
}
