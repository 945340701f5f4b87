//! Checks the workspaces: where the credentials come from, and that each is whole.
//!
//! It reads the key files, as it must to tell whether they are any good, and forgets the keys again. Text that held a
//! key is wiped.

use std::{path::PathBuf, sync::Arc};

use config::{Value, ValueKind};
use zeroize::Zeroize as _;

use super::{
    check::right_mode,
    layers::{DEFAULT_LAYER, RawWorkspace},
    problem::Problem,
    reader::{self, Checked},
    table,
    values::Values,
};
use crate::upstream::credentials::{
    ApiKey, InvalidKey, KeyFileError, KeySource, MAX_WORKSPACES, WorkspaceSettings, read_key_file,
};

const FROM_ENVIRONMENT: &str = "set TRILLET_API_KEY_FILE or TRILLET_API_KEY";

/// The workspaces to use: those of the last file that has any, or the one of the environment.
pub(super) fn choose(
    files: Option<Vec<RawWorkspace>>,
    environment: Option<Vec<RawWorkspace>>,
    problems: &mut Vec<Problem>,
) -> Vec<RawWorkspace> {
    let files = files.filter(|workspaces| !workspaces.is_empty());
    match (files, environment) {
        (Some(files), None) => files,
        (None, environment) => environment.unwrap_or_default(),
        (Some(files), Some(environment)) => {
            let layer = environment.first().map_or(DEFAULT_LAYER, |workspace| &workspace.origin);
            let other = files.first().map_or(DEFAULT_LAYER, |workspace| &workspace.origin);
            let problem =
                Problem::new(table::WORKSPACES, layer, format!("given here and in {other} at once"));
            problems.push(problem.right(
                "keep [[workspaces]], or TRILLET_API_KEY, TRILLET_API_KEY_FILE and TRILLET_WORKSPACE_ID",
            ));
            files
        }
    }
}

/// Reads and checks the workspaces. Where a layer was `incomplete`, none at all is no further problem.
pub(super) fn check(
    raw: Vec<RawWorkspace>,
    incomplete: bool,
    values: &Values,
    trusted_dirs: &[PathBuf],
    problems: &mut Vec<Problem>,
) -> Vec<WorkspaceSettings> {
    if raw.is_empty() && !incomplete {
        let right = "set TRILLET_API_KEY_FILE or TRILLET_API_KEY, and TRILLET_WORKSPACE_ID; or add [[workspaces]] to a \
                     --config file";
        problems.push(Problem::new(table::WORKSPACES, DEFAULT_LAYER, "no credentials").right(right));
    }
    if raw.len() > MAX_WORKSPACES {
        let layer = raw.first().map_or(DEFAULT_LAYER, |workspace| &workspace.origin).to_owned();
        let problem = Problem::new(table::WORKSPACES, layer, "too many");
        problems.push(problem.right(format!("expected up to {MAX_WORKSPACES}")));
        return Vec::new();
    }
    let reserve: Option<u32> = values.count("budget.reserve");
    let mut seen = Seen::default();
    let mut workspaces = Vec::new();
    for (at, raw) in raw.into_iter().enumerate() {
        let one = One { at, raw, trusted_dirs, problems };
        workspaces.extend(one.check(reserve, &mut seen));
    }
    workspaces
}

/// What stood in the workspaces before, and in which.
#[derive(Default)]
struct Seen {
    names: Vec<(usize, String)>,
    ids: Vec<(usize, String)>,
    keys: Vec<(usize, Arc<ApiKey>, Option<u32>)>,
}

/// The workspace that is being checked.
struct One<'a> {
    at: usize,
    raw: RawWorkspace,
    trusted_dirs: &'a [PathBuf],
    problems: &'a mut Vec<Problem>,
}

impl One<'_> {
    fn path(&self, field: &str) -> String {
        format!("{}[{}].{field}", table::WORKSPACES, self.at)
    }

    /// The layer of a field, that of the workspace where it is not there.
    fn layer(&self, field: &str) -> &str {
        self.raw.fields.get(field).and_then(Value::origin).unwrap_or(&self.raw.origin)
    }

    fn problem(&mut self, field: &str, wrong: impl Into<String>, right: impl Into<String>) {
        let problem = Problem::new(self.path(field), self.layer(field), wrong).right(right);
        self.problems.push(problem);
    }

    /// Reads a field; `None` where it is not there, or no good.
    fn read(&mut self, field: &str) -> Option<Checked> {
        let kind = table::find(table::WORKSPACE, field)?.kind;
        match reader::read(kind, self.raw.fields.get(field)?) {
            Ok(checked) => Some(checked),
            Err(fault) => {
                self.problem(field, fault.wrong, fault.right);
                None
            }
        }
    }

    fn text(&mut self, field: &str) -> Option<String> {
        if let Checked::Text(text) = self.read(field)? { Some(text) } else { None }
    }

    fn check(mut self, reserve: Option<u32>, seen: &mut Seen) -> Option<WorkspaceSettings> {
        let workspace_id = self.text("workspace_id");
        if !self.raw.fields.contains_key("workspace_id") {
            let from_environment = self.raw.origin == super::environment::layer("TRILLET_API_KEY")
                || self.raw.origin == super::environment::layer("TRILLET_API_KEY_FILE");
            let right =
                if from_environment { "set TRILLET_WORKSPACE_ID" } else { "expected the vendor's id" };
            self.problem("workspace_id", "missing", right);
        }
        let named = self.raw.fields.contains_key("name");
        let name = if named { self.text("name") } else { workspace_id.clone() };
        if let Some(name) = name.clone().filter(|_| named) {
            self.unique("name", name, &mut seen.names);
        }
        if let Some(id) = workspace_id.clone() {
            self.unique("workspace_id", id, &mut seen.ids);
        }
        let own_limit = self.own_limit(reserve);
        let (source, key) = self.source()?;
        self.one_limit_for_a_key(key, own_limit, seen);
        Some(WorkspaceSettings {
            name: name?,
            workspace_id: workspace_id?,
            source,
            requests_per_minute: own_limit,
        })
    }

    fn unique(&mut self, field: &str, value: String, seen: &mut Vec<(usize, String)>) {
        match seen.iter().find(|(_, other)| *other == value) {
            Some((other, _)) => {
                let wrong = format!("that of {}[{other}] as well", table::WORKSPACES);
                self.problem(field, wrong, "expected another one");
            }
            None => seen.push((self.at, value)),
        }
    }

    fn own_limit(&mut self, reserve: Option<u32>) -> Option<u32> {
        let Checked::Count(limit) = self.read("requests_per_minute")? else { return None };
        let limit = u32::try_from(limit).ok()?;
        if reserve.is_some_and(|reserve| reserve >= limit) {
            self.problem("requests_per_minute", "not above budget.reserve", "raise it, or lower the reserve");
        }
        Some(limit)
    }

    /// Where the key comes from, and the key.
    fn source(&mut self) -> Option<(KeySource, Arc<ApiKey>)> {
        let has = |field| self.raw.fields.contains_key(field);
        match (has("api_key"), has("api_key_file")) {
            (true, true) => {
                self.problem("api_key", "a key and a key file at once", "keep one of them, best the file");
                None
            }
            (false, false) => {
                let from_environment = self.raw.origin == super::environment::layer("TRILLET_WORKSPACE_ID");
                let right = if from_environment { FROM_ENVIRONMENT } else { "add api_key_file or api_key" };
                self.problem("api_key_file", "missing", right);
                None
            }
            (true, false) => {
                let Checked::Key(key) = self.read("api_key")? else { return None };
                Some((KeySource::Inline(Arc::clone(&key)), key))
            }
            (false, true) => {
                let Checked::Path(path) = self.read("api_key_file")? else { return None };
                match read_key_file(&path, self.trusted_dirs) {
                    Ok(key) => Some((KeySource::File(path), Arc::new(key))),
                    Err(error) => {
                        self.problem("api_key_file", error.to_string(), right_file(&error));
                        None
                    }
                }
            }
        }
    }

    /// The vendor counts by key: two limits for one key would leave it open which of them holds.
    fn one_limit_for_a_key(&mut self, key: Arc<ApiKey>, limit: Option<u32>, seen: &mut Seen) {
        let other = seen.keys.iter().find(|(_, other, stated)| {
            other.same(&key) && matches!((limit, stated), (Some(a), Some(b)) if a != *b)
        });
        if let Some((other, ..)) = other {
            let wrong = format!("another one than {}[{other}] has for the same key", table::WORKSPACES);
            self.problem("requests_per_minute", wrong, "expected the same");
        }
        seen.keys.push((self.at, key, limit));
    }
}

impl Drop for RawWorkspace {
    fn drop(&mut self) {
        if let Some(Value { kind: ValueKind::String(text), .. }) = self.fields.get_mut("api_key") {
            text.zeroize();
        }
    }
}

/// What would be right in the place of a bad key file.
fn right_file(error: &KeyFileError) -> &'static str {
    const RIGHT: &str = "expected a regular file that holds the API key alone";
    match error {
        KeyFileError::File(error) => right_mode(error).unwrap_or(RIGHT),
        KeyFileError::Invalid(InvalidKey::Empty | InvalidKey::TooLong | InvalidKey::Character) => RIGHT,
    }
}
