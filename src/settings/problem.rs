//! What is wrong with a configuration: one line each.
//!
//! It knows no setting. It promises that a problem is one line, whatever the keys and paths in it hold, and its
//! makers promise that no value is quoted in it: any value may be a secret that was put in the wrong place.

use std::fmt;

/// One fault of the configuration: the setting, the layer that it came from, what is wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    setting: String,
    layer: String,
    wrong: String,
    right: Option<String>,
}

impl Problem {
    /// A problem of `setting` (such as `listen.http2`), whose value came from `layer`.
    pub(super) fn new(
        setting: impl Into<String>,
        layer: impl Into<String>,
        wrong: impl Into<String>,
    ) -> Self {
        Self { setting: setting.into(), layer: layer.into(), wrong: wrong.into(), right: None }
    }

    /// The same, with what would be right.
    pub(super) fn right(mut self, right: impl Into<String>) -> Self {
        self.right = Some(right.into());
        self
    }

    /// The path of the setting, `workspaces[0].api_key`; `--config` where a whole file is at fault.
    #[must_use]
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// `default`, a file's path with the line (`callgate.toml:7`), or `environment variable NAME`.
    #[must_use]
    pub fn layer(&self) -> &str {
        &self.layer
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = OneLine(f);
        line.write(&self.setting)?;
        line.0.write_str(" (")?;
        line.write(&self.layer)?;
        line.0.write_str("): ")?;
        line.write(&self.wrong)?;
        if let Some(right) = &self.right {
            line.0.write_str("; ")?;
            line.write(right)?;
        }
        Ok(())
    }
}

/// Writes control characters escaped.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl OneLine<'_, '_> {
    fn write(&mut self, text: &str) -> fmt::Result {
        use fmt::Write as _;
        text.chars().try_for_each(|c| match c.is_control() {
            true => write!(self.0, "{}", c.escape_default()),
            false => self.0.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_whatever_it_names() {
        let problem = Problem::new("a\nb", "/etc/\u{1b}[31m", "unknown").right("write \r\n nothing");
        assert_eq!(problem.to_string(), "a\\nb (/etc/\\u{1b}[31m): unknown; write \\r\\n nothing");
    }
}
