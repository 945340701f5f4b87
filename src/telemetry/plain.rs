//! The fields of a log line for people, on one line and without control characters.
//!
//! What callers and the vendor send ends up in log lines. tracing's own formatter escapes the terminal's control
//! characters in messages, but neither in fields that are recorded by their `Display` nor line ends anywhere: a user
//! agent could write lines of its own. Here every field passes through one filter. The JSON format needs none, since
//! its encoding escapes.

use std::fmt::{self, Debug, Write};

use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

/// Writes one field: the message as it is, any other as `name=value`.
pub(super) fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() != "message" {
        // `r#type` is named `type`.
        write!(writer, "{}=", field.name().trim_start_matches("r#"))?;
    }
    write!(Escaped(writer), "{value:?}")
}

/// Escapes whatever a terminal might obey.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, bad)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            self.0.write_str(rest.get(..at).unwrap_or_default())?;
            write!(self.0, "{}", bad.escape_default())?;
            rest = rest.get(at + bad.len_utf8()..).unwrap_or_default();
        }
        self.0.write_str(rest)
    }
}

/// Control characters, line separators, and those that turn the direction of text around.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        write!(Escaped(&mut out), "{text}").expect("a string takes all");
        out
    }

    #[test]
    fn control_characters_are_spelled_out() {
        let table = [
            ("plain, and näïve ☎", "plain, and näïve ☎"),
            ("a\nb\r\n", "a\\nb\\r\\n"),
            ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
            ("\u{9b}1m\u{7f}\0", "\\u{9b}1m\\u{7f}\\u{0}"),
            ("\u{202e}gnp", "\\u{202e}gnp"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(escaped(text), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_unsafe_gets_through_and_nothing_else_is_touched(text in any::<String>()) {
            let out = escaped(&text);
            prop_assert!(!out.contains(is_unsafe));
            if !text.contains(is_unsafe) {
                prop_assert_eq!(out, text);
            }
        }
    }
}
