//! The environment's layers: `CALLGATE__SECTION__KEY`, and the names that callers of the vendor have already.
//!
//! The environment is an argument here. All of it is text: numbers, flags and lists are read as what their setting
//! is, never by guessing, for a key may look like a number.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};

use super::{
    layers::{Layer, RawWorkspace, unknown},
    problem::Problem,
    reader::{self, LEVELS, is_level},
    table::{self, Kind},
    url,
};

const PREFIX: &str = "CALLGATE__";
const API_KEY: &str = "TRILLET_API_KEY";
const API_KEY_FILE: &str = "TRILLET_API_KEY_FILE";
const WORKSPACE_ID: &str = "TRILLET_WORKSPACE_ID";
const BASE_URL: &str = "TRILLET_API_BASE_URL";
const RUST_LOG: &str = "RUST_LOG";
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// How the file of kept calls is called where only its directory is given.
const CALLS: &str = "calls";

/// How the layer of an environment variable is called.
pub(super) fn layer(name: &str) -> String {
    format!("environment variable {name}")
}

/// `CALLGATE__SECTION__KEY`
pub(super) fn own(env: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Layer {
    let mut own = Layer::default();
    for (name, value) in env {
        let prefixed = name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
        if !prefixed {
            continue;
        }
        let path = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        if path.is_empty() {
            let problem = Problem::new(PREFIX, layer(name), "names no setting");
            problems
                .push(problem.right("expected CALLGATE__SECTION__KEY, such as CALLGATE__LISTEN__INTERNAL"));
            continue;
        }
        if path.split(['.', '[']).next() == Some(table::WORKSPACES) {
            let problem = Problem::new(path, layer(name), "workspaces are not read from the environment");
            problems.push(problem.right(
                "add [[workspaces]] to a --config file, or use TRILLET_API_KEY_FILE and TRILLET_WORKSPACE_ID",
            ));
            continue;
        }
        // Two spellings of one setting would leave it open which of them wins.
        let spelled = spelled(&path);
        match table::find(table::SETTINGS, &path) {
            Some(_) if *name != spelled => {
                problems.push(unknown(path, layer(name), Some(spelled)));
            }
            Some(setting) => match typed(setting.kind, value) {
                Ok(kind) => insert(&mut own.settings, setting.path, Value::new(Some(&layer(name)), kind)),
                Err(wrong) => {
                    let problem = Problem::new(path, layer(name), wrong);
                    problems.push(problem.right(reader::expected(setting.kind)));
                }
            },
            None if table::is_section(&path) => {
                let problem = Problem::new(&path, layer(name), "a section, not a setting");
                problems.push(match table::first_of(&path) {
                    Some(setting) => problem
                        .right(format!("expected one of its settings, such as {}", self::spelled(setting))),
                    None => problem,
                });
            }
            None => {
                // Of the workspaces none is read, and a section alone is no setting.
                let near = table::nearest(&path).filter(|near| *near != table::WORKSPACES);
                let near = near.map(|near| match table::is_section(near) {
                    true => format!("{}__…", self::spelled(near)),
                    false => self::spelled(near),
                });
                problems.push(unknown(path, layer(name), near));
            }
        }
    }
    own
}

/// The variable for a setting.
fn spelled(path: &str) -> String {
    format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"))
}

/// The names that callers of the vendor have, and `RUST_LOG`; empty ones are not set.
pub(super) fn given(env: &BTreeMap<String, String>, notices: &mut Vec<String>) -> Layer {
    let get = |name| env.get(name).map(|value: &String| value.trim()).filter(|value| !value.is_empty());
    let value = |name, text: &str| Value::new(Some(&layer(name)), text);
    let mut given = Layer::default();
    if let Some(url) = get(BASE_URL) {
        let origin = url::split_version(url);
        if origin.is_some() {
            notices
                .push(format!("the API version at the end of {BASE_URL} is dropped: callers' paths have it"));
        }
        insert(&mut given.settings, "upstream.base_url", value(BASE_URL, origin.unwrap_or(url)));
    }
    if let Some(directives) = get(RUST_LOG) {
        insert(&mut given.settings, "log.level", value(RUST_LOG, &explicit(directives)));
    }
    let names = [("api_key", API_KEY), ("api_key_file", API_KEY_FILE), ("workspace_id", WORKSPACE_ID)];
    let set = names.into_iter().filter_map(|(field, name)| get(name).map(|text| (field, name, text)));
    let mut origin = None;
    let mut fields = BTreeMap::new();
    for (field, name, text) in set {
        origin.get_or_insert_with(|| layer(name));
        fields.insert(field, value(name, text));
    }
    if let Some(origin) = origin {
        let name = Value::new(Some(&origin), "default");
        fields.insert("name", name);
        given.workspaces = Some(vec![RawWorkspace { origin, fields }]);
    }
    given
}

/// `RUST_LOG` is there for all programs and may be a bare target, which means all that it says, or a level's number;
/// `log.level` may be neither.
fn explicit(directives: &str) -> String {
    let explicit = |part: &str| {
        let part = part.trim();
        let number = part.parse().ok().and_then(|number: usize| LEVELS.get(number));
        let target = !part.contains(['=', '[', '{', ']', '}']) && !is_level(part);
        match number {
            Some(level) => (*level).to_owned(),
            None if target && !part.is_empty() => format!("{part}=trace"),
            None => part.to_owned(),
        }
    };
    let parts = directives.split(',').map(explicit).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(",")
}

/// Where systemd has made a directory for the service (`StateDirectory=`), calls are kept in it, unless anything else is
/// said of that. Of several directories the first.
pub(super) fn state(env: &BTreeMap<String, String>) -> Layer {
    let mut state = Layer::default();
    let directory = env.get(STATE_DIRECTORY).and_then(|list| list.split(':').next());
    if let Some(directory) = directory.filter(|directory| directory.starts_with('/')) {
        let file = format!("{}/{CALLS}", directory.trim_end_matches('/'));
        let value = Value::new(Some(&layer(STATE_DIRECTORY)), file);
        insert(&mut state.settings, "cache.disk.path", value);
    }
    state
}

/// The text as the type that the setting has in TOML.
fn typed(kind: Kind, text: &str) -> Result<ValueKind, &'static str> {
    match kind {
        Kind::Flag => text.parse().map(ValueKind::Boolean).map_err(|_| "not a flag"),
        Kind::Count(..) => {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().unwrap_or(i128::MAX);
            if digits { Ok(ValueKind::I128(number)) } else { Err("not a whole number") }
        }
        Kind::Share => text.parse().map(ValueKind::Float).map_err(|_| "not a number"),
        Kind::Addresses | Kind::Hosts | Kind::Statuses | Kind::Parameters => {
            let elements = text.split(',').map(str::trim);
            let elements: Vec<&str> = if text.trim().is_empty() { Vec::new() } else { elements.collect() };
            Ok(elements.into())
        }
        Kind::Duration(..)
        | Kind::Lifetime
        | Kind::Size(..)
        | Kind::Mode
        | Kind::Format
        | Kind::Level
        | Kind::Name
        | Kind::WorkspaceId
        | Kind::Key
        | Kind::Path
        | Kind::Address
        | Kind::BaseUrl
        | Kind::SharedUrl => Ok(text.into()),
    }
}

/// Puts a value at its dotted path.
fn insert(settings: &mut Map<String, Value>, path: &str, value: Value) {
    let Some((section, rest)) = path.split_once('.') else {
        settings.insert(path.to_owned(), value);
        return;
    };
    let inner =
        settings.entry(section.to_owned()).or_insert_with(|| Value::new(None, Map::<String, Value>::new()));
    if let ValueKind::Table(inner) = &mut inner.kind {
        insert(inner, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_log_may_name_bare_targets() {
        for (given, explicit_) in [
            ("info", "info"),
            ("callgate", "callgate=trace"),
            ("warn, hyper ,callgate=debug,", "warn,hyper=trace,callgate=debug"),
            ("WARN", "WARN"),
            ("3", "info"),
        ] {
            assert_eq!(explicit(given), explicit_, "{given}");
        }
    }

    #[test]
    fn a_variable_is_spelled_in_capitals_with_two_underscores() {
        assert_eq!(spelled("cache.disk.path"), "CALLGATE__CACHE__DISK__PATH");
    }
}
