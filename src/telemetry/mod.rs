//! Sets the log up: one line an event on standard error, as JSON or for people.
//!
//! It knows tracing and nothing of the gateway; what a line says is the business of whoever writes it, and so is
//! which hits get one (`log.hits`). A leaf for `app`, which keeps the [`Telemetry`] until the end.
//!
//! Promised: writing a line never blocks and never panics, whatever has become of standard error; lines that find no
//! room are lost, and the loss is told. Control characters never reach a terminal raw. A value given as a string
//! (`agent = text`) stands in quotes; one given by its `Display` (`agent = %text`) does not, and could pass for
//! several fields: use the former for what comes from outside.

use std::{
    fmt, io,
    panic::{self, PanicHookInfo},
    time::Duration,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Registry,
    field::MakeExt as _,
    fmt::{MakeWriter, format},
    layer::{Layer as _, SubscriberExt as _},
    registry::LookupSpan,
    reload,
};

mod plain;
mod stderr;

use stderr::LineWriter;

/// The `log.*` settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `log.format`
    pub format: Format,
    /// `log.level`: a level, or directives as `RUST_LOG` has them. See [`check_level`].
    pub level: String,
    /// `log.hits`, 0.0 to 1.0.
    pub hits: f64,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
    /// `Pretty` on a terminal, else `Json`.
    Auto,
}

/// How long the end waits for the last lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest panic message that is logged, in bytes.
const MAX_PANIC_MESSAGE: usize = 512;

/// Why the log could not be set up, or not changed.
#[derive(Debug)]
pub enum Error {
    /// Directives that cannot be read: where they stand, and what is wrong.
    Directives(&'static str, String),
    /// Standard error could not be duplicated, or its thread not be started.
    Writer(io::Error),
    /// Somebody else has set a log up.
    AlreadySet,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directives(origin, problem) => write!(f, "{origin}: {problem}"),
            Self::Writer(_) => f.write_str("the log cannot be written"),
            Self::AlreadySet => f.write_str("the log is set up already"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Writer(error) => Some(error),
            Self::Directives(..) | Self::AlreadySet => None,
        }
    }
}

/// The log that was set up. Dropping it writes what still waits, for a second at most, so keep it until the end; what
/// leaves by [`std::process::exit`] has to drop it first.
#[derive(Debug)]
#[must_use = "lines that still wait are lost unless this is dropped at the end"]
pub struct Telemetry {
    control: Control,
    writer: LineWriter,
}

/// Changes the log at run time.
#[derive(Clone, Debug)]
pub struct Control {
    json: FilterHandle,
    pretty: FilterHandle,
    /// `RUST_LOG`, which wins over the settings.
    rust_log: Option<String>,
    is_terminal: bool,
}

/// Turns one of the two formats on, off, up and down.
type FilterHandle = reload::Handle<EnvFilter, Registry>;

impl Telemetry {
    /// The handle by which a reload changes level and format.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.writer.flush(PATIENCE);
    }
}

/// Sets the log of this process up, and logs panics from now on. To be called once, before anything is worth a line.
///
/// `rust_log` is the variable of that name, and wins over `log.level`; `is_terminal` says what standard error is.
///
/// # Errors
/// Directives that cannot be read, no writer, or a log that is there already.
pub fn init(settings: &Settings, rust_log: Option<&str>, is_terminal: bool) -> Result<Telemetry, Error> {
    let writer = LineWriter::stderr().map_err(Error::Writer)?;
    let lines = writer.clone();
    let (subscriber, control) = subscriber(settings, rust_log, is_terminal, move || lines.clone())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::AlreadySet)?;
    panic::set_hook(Box::new(log_panic));
    Ok(Telemetry { control, writer })
}

/// Says what is wrong with a `log.level`.
///
/// # Errors
/// The problem in words. A word that is no level is one, though `RUST_LOG` would take it for the name of a crate:
/// somebody who misspells `debug` is to hear of it.
pub fn check_level(level: &str) -> Result<(), String> {
    filter_for(level).map(drop)
}

impl Control {
    /// Applies changed settings to all lines from now on. The level of `RUST_LOG` stays, where there is one.
    ///
    /// A span that is open while the format changes is missing from the lines in it.
    ///
    /// # Errors
    /// Directives that cannot be read; then nothing has changed. A log that is gone.
    pub fn apply(&self, settings: &Settings) -> Result<(), Error> {
        let [json, pretty] = filters(settings, self.rust_log.as_deref(), self.is_terminal)?;
        let applied = self.json.reload(json).and_then(|()| self.pretty.reload(pretty));
        applied.map_err(|error| Error::Writer(io::Error::other(error)))
    }
}

/// The subscriber, apart from the process that it is set up for.
///
/// Both formats are always there, and the filter of one of them lets nothing pass: a format that were exchanged would
/// find spans that hold their fields in the other's form.
fn subscriber<W>(
    settings: &Settings,
    rust_log: Option<&str>,
    is_terminal: bool,
    writer: W,
) -> Result<(impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + 'static, Control), Error>
where
    W: for<'a> MakeWriter<'a> + Clone + Send + Sync + 'static,
{
    let rust_log = rust_log.filter(|directives| !directives.trim().is_empty());
    let [json, pretty] = filters(settings, rust_log, is_terminal)?;
    let (json, json_handle) = reload::Layer::new(json);
    let (pretty, pretty_handle) = reload::Layer::new(pretty);
    let json_lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(writer.clone())
        // Its complaint would go to standard error, and panic where that is closed.
        .log_internal_errors(false)
        .with_filter(json);
    let pretty_lines = tracing_subscriber::fmt::layer()
        .fmt_fields(format::debug_fn(plain::write_field).delimited(" "))
        .with_ansi(is_terminal)
        .with_writer(writer)
        .log_internal_errors(false)
        .with_filter(pretty);
    let control = Control {
        json: json_handle,
        pretty: pretty_handle,
        rust_log: rust_log.map(str::to_owned),
        is_terminal,
    };
    Ok((tracing_subscriber::registry().with(vec![json_lines.boxed(), pretty_lines.boxed()]), control))
}

/// The filters of JSON and pretty lines: the directives for the format that is wanted, nothing for the other.
fn filters(settings: &Settings, rust_log: Option<&str>, is_terminal: bool) -> Result<[EnvFilter; 2], Error> {
    let on = match rust_log {
        Some(directives) => {
            EnvFilter::try_new(directives).map_err(|e| Error::Directives("RUST_LOG", e.to_string()))?
        }
        None => filter_for(&settings.level).map_err(|problem| Error::Directives("log.level", problem))?,
    };
    let off = EnvFilter::new("off");
    let pretty = match settings.format {
        Format::Json => false,
        Format::Pretty => true,
        Format::Auto => is_terminal,
    };
    Ok(if pretty { [off, on] } else { [on, off] })
}

/// Reads a `log.level`. A bare level is the gateway's own: the libraries under it speak from `warn` on, or not even then.
fn filter_for(level: &str) -> Result<EnvFilter, String> {
    let level = level.trim().to_ascii_lowercase();
    let directives = match level.as_str() {
        "off" | "error" | "warn" => level,
        "info" | "debug" | "trace" => format!("warn,callgate={level}"),
        words => {
            let no_level = |word: &&str| {
                let bare = !word.contains(['=', '[']);
                bare && !["off", "error", "warn", "info", "debug", "trace"].contains(&word.trim())
            };
            if let Some(word) = words.split(',').find(no_level) {
                return Err(format!("{:?} is no level: off, error, warn, info, debug or trace", word.trim()));
            }
            level
        }
    };
    EnvFilter::try_new(&directives).map_err(|error| error.to_string())
}

/// Logs a panic. Its message may be told: it is the program's own words, and what is secret has no `Debug` or
/// `Display` that says it.
fn log_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic without words");
    let message = message.get(..message.floor_char_boundary(MAX_PANIC_MESSAGE)).unwrap_or_default();
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let current = std::thread::current();
    tracing::error!(panic = message, location, thread = current.name().unwrap_or_default(), "panicked");
}

#[cfg(test)]
mod tests;
