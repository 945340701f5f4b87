//! An error and what it came of, in one line for the log.
//!
//! It knows no error in particular: what stands in one is for those to see to who make it.

use std::error::Error;

/// An error and its sources, one after the other.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Wrappers often repeat what they wrap.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn every_cause_is_said_once() {
        let table: [(&[&str], &str); 4] = [
            (&["timeout"], "timeout"),
            (&["connect", "tls", "no such authority"], "connect: tls: no such authority"),
            (&["connect: refused", "refused"], "connect: refused"),
            (&["connect: refused", "refused", "errno 111"], "connect: refused: errno 111"),
        ];
        for (texts, line) in table {
            let error = texts.iter().rev().fold(None, |source, text| Some(Box::new(Layer(text, source))));
            assert_eq!(chain(&*error.expect("some")), line);
        }
    }
}
