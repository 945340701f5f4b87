//! Sets the log up.

/// The `log.*` settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `log.format`
    pub format: Format,
    /// `log.level`: a level, or directives as `RUST_LOG` has them.
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
