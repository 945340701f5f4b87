//! Shows the settings in force as TOML, in the units that they are written in, without secrets.
//!
//! It promises that no key and no password is in it, that the settings stand in the order of `config/default.toml`,
//! and that the text is a configuration file with the same meaning, but for what was redacted.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use super::{
    REDACTED, address,
    reader::Checked,
    table::{self, SETTINGS},
    units,
    values::Values,
};
use crate::{
    downstream::AllowedHosts,
    lookup::FOREVER,
    telemetry::Format,
    upstream::credentials::{KeySource, WorkspaceSettings},
};

/// The settings in force, redacted. `Display` writes the TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// What is set of all but the workspaces, by path.
    settings: BTreeMap<&'static str, String>,
    /// What is set of each workspace, in the order in which it is written.
    workspaces: Vec<Vec<(&'static str, String)>>,
    toml: String,
}

impl Effective {
    pub(super) fn new(values: &Values, workspaces: &[WorkspaceSettings]) -> Self {
        let rendered = |path: &'static str| Some((path, render(values.get(path)?)));
        let settings = SETTINGS.iter().filter_map(|setting| rendered(setting.path)).collect();
        Self::of(settings, workspaces.iter().map(workspace).collect())
    }

    fn of(settings: BTreeMap<&'static str, String>, workspaces: Vec<Vec<(&'static str, String)>>) -> Self {
        let toml = write(&settings, &workspaces);
        Self { settings, workspaces, toml }
    }

    /// The TOML.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.toml
    }

    /// The paths of what is shown otherwise in `other`, in the order of `config/default.toml`, those of workspaces last.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let differs = |path: &&str| self.settings.get(path) != other.settings.get(path);
        let paths = SETTINGS.iter().map(|setting| setting.path).filter(differs).map(str::to_owned);
        let mut paths: Vec<String> = paths.collect();
        if self.workspaces.len() != other.workspaces.len() {
            paths.push(table::WORKSPACES.to_owned());
            return paths;
        }
        for (at, (own, others)) in self.workspaces.iter().zip(&other.workspaces).enumerate() {
            let value = |all: &[(&str, String)], key: &str| {
                all.iter().find(|(other, _)| *other == key).map(|(_, value)| value.clone())
            };
            let keys = table::WORKSPACE.iter().map(|setting| setting.path);
            let keys = keys.filter(|key| value(own, key) != value(others, key));
            paths.extend(keys.map(|key| format!("{}[{at}].{key}", table::WORKSPACES)));
        }
        paths
    }

    /// These settings, but with those of `other` whose path `is_taken`; the workspaces stay.
    pub(super) fn with(&self, other: &Self, is_taken: impl Fn(&str) -> bool) -> Self {
        let own = self.settings.iter().filter(|(path, _)| !is_taken(path));
        let others = other.settings.iter().filter(|(path, _)| is_taken(path));
        let settings = own.chain(others).map(|(path, value)| (*path, value.clone())).collect();
        Self::of(settings, self.workspaces.clone())
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.toml)
    }
}

fn write(settings: &BTreeMap<&'static str, String>, workspaces: &[Vec<(&'static str, String)>]) -> String {
    let mut out = String::new();
    let mut section = "";
    for setting in SETTINGS {
        if let Some(value) = settings.get(setting.path) {
            let own = table::section(setting.path);
            if own != section {
                section = own;
                heading(&mut out, &format!("[{section}]"));
            }
            line(&mut out, setting.path.rsplit('.').next().unwrap_or_default(), value);
        }
        if setting.path == table::BEFORE_WORKSPACES {
            for workspace in workspaces {
                heading(&mut out, "[[workspaces]]");
                workspace.iter().for_each(|(key, value)| line(&mut out, key, value));
            }
        }
    }
    out
}

fn heading(out: &mut String, heading: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(heading);
    out.push('\n');
}

fn line(out: &mut String, key: &str, value: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{key} = {value}");
}

fn workspace(workspace: &WorkspaceSettings) -> Vec<(&'static str, String)> {
    let source = match &workspace.source {
        KeySource::File(path) => ("api_key_file", render(&Checked::Path(path.clone()))),
        KeySource::Inline(key) => ("api_key", render(&Checked::Key(key.clone()))),
    };
    let mut lines = vec![
        ("name", render(&Checked::Text(workspace.name.clone()))),
        ("workspace_id", render(&Checked::Text(workspace.workspace_id.clone()))),
        source,
    ];
    if let Some(limit) = workspace.requests_per_minute {
        lines.push(("requests_per_minute", render(&Checked::Count(limit.into()))));
    }
    lines
}

fn render(value: &Checked) -> String {
    match value {
        Checked::Flag(flag) => flag.to_string(),
        Checked::Count(count) => count.to_string(),
        // Never without a point, or it would read as a whole number.
        Checked::Share(share) => format!("{share:?}"),
        Checked::Duration(duration) => quote(&units::render_duration(*duration)),
        Checked::Lifetime(duration) if *duration == FOREVER => quote("forever"),
        Checked::Lifetime(duration) => quote(&units::render_duration(*duration)),
        Checked::Size(bytes) => quote(&units::render_size(*bytes)),
        Checked::Mode(mode) => quote(&units::render_mode(*mode)),
        Checked::Format(Format::Json) => quote("json"),
        Checked::Format(Format::Pretty) => quote("pretty"),
        Checked::Format(Format::Auto) => quote("auto"),
        Checked::Text(text) => quote(text),
        Checked::Key(_) => quote(REDACTED),
        Checked::Path(path) => quote(&path.to_string_lossy()),
        Checked::Address(address) => quote(&address.to_string()),
        Checked::Addresses(addresses) => match addresses.as_slice() {
            [one] => quote(&address::render(one)),
            all => list(all.iter().map(address::render)),
        },
        Checked::Hosts(AllowedHosts::Any) => list(["*".to_owned()]),
        Checked::Hosts(AllowedHosts::Names(names)) => list(names.iter().cloned()),
        Checked::Texts(texts) => list(texts.iter().cloned()),
        Checked::Origin(origin) => quote(&origin.to_string()),
        Checked::SharedUrl(url) => quote(&url.redacted()),
    }
}

fn list(texts: impl IntoIterator<Item = String>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quote(&text)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A TOML string.
fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}
