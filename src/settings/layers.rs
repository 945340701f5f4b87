//! Builds the layers of the configuration out of TOML, and lays them on top of each other.
//!
//! It knows names (what is unknown is reported here, layer by layer, before a later layer could hide it) but not what
//! values must be. Every value carries its origin: `default`, a file's path and line, or an environment variable.
//! Merging is the `config` crate's; the workspaces stay out of it, for they hold keys and are replaced as a whole.
//! It promises to quote nothing of a file.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use config::{Config, Map, Value, ValueKind};
use rustix::{fs::OFlags, io::Errno};
use toml::de::{DeArray, DeTable, DeValue};
use zeroize::Zeroizing;

use super::{
    problem::Problem,
    reader,
    table::{self, Setting},
};

/// The defaults, and the reference for users.
pub(super) const DEFAULT: &str = include_str!("../../config/default.toml");
/// The origin of what nobody set.
pub(super) const DEFAULT_LAYER: &str = "default";
/// What the setting of a problem is called that is about a whole file.
pub(super) const FILE: &str = "--config";
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// One layer: known settings only, whatever their values are.
#[derive(Default)]
pub(super) struct Layer {
    /// The settings, as nested tables.
    pub(super) settings: Map<String, Value>,
    /// The workspaces, where the layer has any.
    pub(super) workspaces: Option<Vec<RawWorkspace>>,
    /// Whether a part of the layer could not be read, so that what seems to be missing may stand in it.
    pub(super) incomplete: bool,
    /// Whether everybody may read the file.
    pub(super) world_readable: bool,
}

/// A workspace as it was given.
pub(super) struct RawWorkspace {
    /// Where it was given.
    pub(super) origin: String,
    /// Its known settings.
    pub(super) fields: BTreeMap<&'static str, Value>,
}

/// Whether the configuration is read for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// At the start of a command. A pipe that it was handed, as the shell's `<(…)` is, is read to its end.
    First,
    /// While the gateway runs. No pipe is waited for: it would have been read already.
    Again,
}

/// Reads a file.
pub(super) fn file(path: &Path, time: Time, problems: &mut Vec<Problem>) -> Layer {
    let name = path.display().to_string();
    match contents(path, time) {
        Ok((contents, world_readable)) => Layer { world_readable, ..text(&name, &contents, problems) },
        Err(wrong) => {
            problems.push(Problem::new(FILE, name, wrong));
            Layer { incomplete: true, ..Layer::default() }
        }
    }
}

fn contents(path: &Path, time: Time) -> Result<(Zeroizing<String>, bool), String> {
    let file = open(path, time)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("the file is over 1 MiB".to_owned());
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok((Zeroizing::new(text), metadata.mode() & 0o004 != 0)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err("the file is not UTF-8".to_owned())
        }
    }
}

/// Opens a file without waiting for anybody, but for who writes into a pipe that the process was handed.
fn open(path: &Path, time: Time) -> Result<File, String> {
    let handed = ["/dev/stdin", "/dev/fd", "/proc"].iter().any(|place| path.starts_with(place));
    let waits = handed && time == Time::First;
    // A FIFO without a writer opens at once then; regular files do not care.
    let nonblocking = if waits { OFlags::empty() } else { OFlags::NONBLOCK };
    let flags = (nonblocking | OFlags::NOCTTY).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        // A Unix socket or a device without a driver.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            return Err("the file is not a regular file".to_owned());
        }
        Err(error) => return Err(unreadable(error)),
    };
    let kind = file.metadata().map_err(unreadable)?.file_type();
    match time {
        _ if kind.is_dir() => Err("the file is a directory".to_owned()),
        Time::First if kind.is_fifo() && !waits => {
            Err("the file is a named pipe, not a regular file".to_owned())
        }
        Time::Again if kind.is_fifo() => {
            Err("the file is a pipe, which can be read at the start only".to_owned())
        }
        Time::First | Time::Again => Ok(file),
    }
}

/// Why a file cannot be read, without its name.
pub(super) fn unreadable(error: std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        return "the file does not exist".to_owned();
    }
    format!("the file cannot be read: {error}")
}

/// Reads TOML. `name` is its origin; lines are counted from 1.
pub(super) fn text(name: &str, text: &str, problems: &mut Vec<Problem>) -> Layer {
    let mut reading = Reading { name, text, problems, layer: Layer::default() };
    match DeTable::parse(text) {
        Ok(root) => reading.layer.settings = reading.table("", root.into_inner()),
        Err(error) => {
            let at = reading.origin(error.span().map_or(0, |span| span.start));
            // The message names what the grammar expects; the rendered error would quote the line.
            reading.problems.push(Problem::new(FILE, at, format!("not TOML: {}", error.message())));
            reading.layer.incomplete = true;
        }
    }
    reading.layer
}

/// What a path leads to.
enum Place {
    Workspaces,
    Section,
    Setting(&'static Setting),
    Unknown,
}

impl Place {
    fn of(path: &str) -> Self {
        match table::find(table::SETTINGS, path) {
            Some(setting) => Self::Setting(setting),
            None if path == table::WORKSPACES => Self::Workspaces,
            None if table::is_section(path) => Self::Section,
            None => Self::Unknown,
        }
    }
}

struct Reading<'a> {
    name: &'a str,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
    layer: Layer,
}

impl Reading<'_> {
    /// The origin of what stands at that byte.
    fn origin(&self, at: usize) -> String {
        if self.name == DEFAULT_LAYER {
            return DEFAULT_LAYER.to_owned();
        }
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        format!("{}:{}", self.name, 1 + memchr::memchr_iter(b'\n', before).count())
    }

    /// The known settings of a table, without the workspaces, which go into the layer.
    fn table(&mut self, path: &str, table: DeTable<'_>) -> Map<String, Value> {
        let mut known = Map::new();
        for (key, value) in table {
            let at = self.origin(key.span().start);
            let key = key.into_inner().into_owned();
            let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            // A quoted key with a dot in it is no path.
            let place = if key.contains('.') { Place::Unknown } else { Place::of(&full) };
            match (place, value.into_inner()) {
                (Place::Workspaces, DeValue::Array(elements)) => self.workspaces(elements),
                (Place::Workspaces, _) => {
                    self.layer.incomplete = true;
                    let problem = Problem::new(full, at, "not a list of tables");
                    self.problems.push(problem.right("expected [[workspaces]]"));
                }
                (Place::Section, DeValue::Table(inner)) => {
                    let inner = self.table(&full, inner);
                    known.insert(key, Value::new(Some(&at), inner));
                }
                (Place::Section, _) => {
                    let right = format!("expected [{full}]");
                    self.problems.push(Problem::new(full, at, "not a table").right(right));
                }
                // Merged it would go astray, so it is refused before the reader could do it.
                (Place::Setting(setting), DeValue::Table(_)) => {
                    let right = reader::expected(setting.kind);
                    self.problems.push(Problem::new(full, at, "a table").right(right));
                }
                (Place::Setting(_), value) => {
                    known.insert(key, plain_value(&at, value));
                }
                (Place::Unknown, _) => {
                    let hint = table::nearest(&full).map(str::to_owned);
                    self.problems.push(unknown(full, at, hint));
                }
            }
        }
        known
    }

    fn workspaces(&mut self, elements: DeArray<'_>) {
        let mut workspaces = Vec::new();
        for (i, value) in elements.into_iter().enumerate() {
            let at = self.origin(value.span().start);
            workspaces.extend(self.workspace(i, at, value.into_inner()));
        }
        self.layer.workspaces = Some(workspaces);
    }

    fn workspace(&mut self, i: usize, at: String, value: DeValue<'_>) -> Option<RawWorkspace> {
        let path = format!("{}[{i}]", table::WORKSPACES);
        let DeValue::Table(table) = value else {
            self.layer.incomplete = true;
            self.problems.push(Problem::new(path, at, "not a table").right("expected [[workspaces]]"));
            return None;
        };
        let mut fields = BTreeMap::new();
        for (key, value) in table {
            let at = self.origin(key.span().start);
            let key = key.into_inner();
            match table::find(table::WORKSPACE, &key) {
                Some(known) => {
                    fields.insert(known.path, plain_value(&at, value.into_inner()));
                }
                None => {
                    let hint = table::nearest_of_workspace(&key).map(|near| format!("{path}.{near}"));
                    self.problems.push(unknown(format!("{path}.{key}"), at, hint));
                }
            }
        }
        Some(RawWorkspace { origin: at, fields })
    }
}

/// The problem of a setting that does not exist.
pub(super) fn unknown(path: String, layer: String, nearest: Option<String>) -> Problem {
    let problem = Problem::new(path, layer, "unknown setting");
    match nearest {
        Some(near) => problem.right(format!("did you mean {near}")),
        None => problem,
    }
}

/// A value as the `config` crate has it, every part with its origin.
fn plain_value(origin: &String, value: DeValue<'_>) -> Value {
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.into_owned()),
        DeValue::Boolean(flag) => ValueKind::Boolean(flag),
        // What is beyond 128 bits is beyond every range as well.
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => i64::try_from(number).map_or(ValueKind::I128(number), ValueKind::I64),
            Err(_) => ValueKind::I128(i128::MAX),
        },
        DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        // No setting is a date, and TOML has no nothing: the reader knows the one by the other.
        DeValue::Datetime(_) => ValueKind::Nil,
        DeValue::Array(elements) => ValueKind::Array(
            elements.into_iter().map(|value| plain_value(origin, value.into_inner())).collect(),
        ),
        DeValue::Table(table) => ValueKind::Table(
            table
                .into_iter()
                .map(|(k, v)| (k.into_inner().into_owned(), plain_value(origin, v.into_inner())))
                .collect(),
        ),
    };
    Value::new(Some(origin), kind)
}

/// Lays tables of settings on top of each other, later ones win.
///
/// # Errors
/// For a name that is no path. None is let through until here, so this would be a defect of ours.
pub(super) fn merge(layers: impl IntoIterator<Item = Map<String, Value>>) -> Result<Value, Problem> {
    let mut builder = Config::builder();
    for layer in layers {
        let mut source = Config::default();
        source.cache = Value::new(None, layer);
        builder = builder.add_source(source);
    }
    let merged =
        builder.build().map_err(|_| Problem::new(FILE, DEFAULT_LAYER, "the layers cannot be merged"))?;
    Ok(merged.cache)
}
