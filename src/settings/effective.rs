//! Shows the settings in force as TOML, in the units that they are written in, without secrets.
//!
//! It promises that no key and no password is in it, that the settings stand in the order of `config/default.toml`,
//! and that the text is a configuration file with the same meaning, but for what was redacted.

use std::fmt::{self, Write as _};

use super::{
    REDACTED, address,
    reader::Checked,
    table::{self, SETTINGS},
    units, url,
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
pub struct Effective(String);

impl Effective {
    pub(super) fn new(values: &Values, workspaces: &[WorkspaceSettings]) -> Self {
        let mut out = String::new();
        let mut section = "";
        for setting in SETTINGS {
            if let Some(value) = values.get(setting.path) {
                let own = table::section(setting.path);
                if own != section {
                    section = own;
                    heading(&mut out, &format!("[{section}]"));
                }
                let key = setting.path.rsplit('.').next().unwrap_or_default();
                line(&mut out, key, value);
            }
            if setting.path == table::BEFORE_WORKSPACES {
                workspaces.iter().for_each(|one| workspace(&mut out, one));
            }
        }
        Self(out)
    }

    /// The TOML.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn heading(out: &mut String, heading: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(heading);
    out.push('\n');
}

fn line(out: &mut String, key: &str, value: &Checked) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{key} = {}", render(value));
}

fn workspace(out: &mut String, workspace: &WorkspaceSettings) {
    heading(out, "[[workspaces]]");
    line(out, "name", &Checked::Text(workspace.name.clone()));
    line(out, "workspace_id", &Checked::Text(workspace.workspace_id.clone()));
    match &workspace.source {
        KeySource::File(path) => line(out, "api_key_file", &Checked::Path(path.clone())),
        KeySource::Inline(key) => line(out, "api_key", &Checked::Key(key.clone())),
    }
    if let Some(limit) = workspace.requests_per_minute {
        line(out, "requests_per_minute", &Checked::Count(limit.into()));
    }
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
        Checked::Origin(origin) => quote(&url::render(origin)),
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
