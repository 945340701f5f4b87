//! How far a warm-up has come, on standard error: a bar with what is left on a terminal, else a line for each tenth. What
//! failed has a line of its own in either case.

use std::io::{self, Write as _};

use super::Line;

/// How wide the bar is, in characters.
const WIDTH: usize = 30;

/// Shows how far it has come.
pub(super) struct Progress {
    terminal: bool,
    done: usize,
    total: Option<usize>,
    /// The last tenth that was told, where there is no bar.
    tenth: usize,
}

impl Progress {
    pub(super) fn new(terminal: bool) -> Self {
        Self { terminal, done: 0, total: None, tenth: 0 }
    }

    /// How many are done, and of how many; `None` before the first line.
    pub(super) fn reached(&self) -> Option<(usize, usize)> {
        self.total.map(|total| (self.done, total))
    }

    /// Shows a line of the answer.
    pub(super) fn show(&mut self, line: &Line) {
        self.total = line.total.or(self.total);
        self.done = line.done.unwrap_or(self.done);
        // Nobody is left to tell if this fails, and the work goes on.
        let mut err = io::stderr().lock();
        if let Some(failure) = failure(line) {
            self.erase(&mut err);
            let _ = writeln!(err, "{failure}");
        }
        let Some(total) = self.total else { return };
        if self.terminal {
            let _ = write!(err, "\r{}\x1b[K", bar(self.done, total, line.eta_seconds));
        } else {
            let tenth = self.done * 10 / total.max(1);
            if tenth > self.tenth {
                self.tenth = tenth;
                let _ = writeln!(err, "{}", tally(self.done, total, line.eta_seconds));
            }
        }
        let _ = err.flush();
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.erase(&mut io::stderr().lock());
    }

    fn erase(&self, err: &mut io::StderrLock<'_>) {
        if self.terminal {
            let _ = write!(err, "\r\x1b[K");
        }
    }
}

/// What is said of a call that failed.
fn failure(line: &Line) -> Option<String> {
    let result = line.result.as_deref().filter(|result| matches!(*result, "failed" | "invalid"))?;
    // It is what stood in the list, be it what it may: a terminal must not obey it.
    let id: String = line.id.iter().flat_map(|id| id.chars()).flat_map(char::escape_default).collect();
    let status = line.status.map(|status| format!(" {status}")).unwrap_or_default();
    let error = line.error.as_deref().map(|error| format!(" {error}")).unwrap_or_default();
    Some(format!("{id}: {result}{status}{error}"))
}

fn bar(done: usize, total: usize, eta: Option<u64>) -> String {
    let full = done * WIDTH / total.max(1);
    format!("[{}{}] {}", "#".repeat(full), ".".repeat(WIDTH.saturating_sub(full)), tally(done, total, eta))
}

fn tally(done: usize, total: usize, eta: Option<u64>) -> String {
    let left = match eta {
        Some(seconds) if done < total => format!(", about {} left", duration(seconds)),
        Some(_) | None => String::new(),
    };
    format!("{done} of {total}{left}")
}

/// In the two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_tells_what_is_left() {
        let half = format!("[{}{}] 2 of 4, about 1 min 5 s left", "#".repeat(15), ".".repeat(15));
        assert_eq!(bar(2, 4, Some(65)), half);
        assert_eq!(bar(4, 4, Some(0)), format!("[{}] 4 of 4", "#".repeat(30)));
        assert_eq!(bar(0, 0, None), format!("[{}] 0 of 0", ".".repeat(30)));
        for (seconds, said) in [(59, "59 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(duration(seconds), said);
        }
    }

    #[test]
    fn what_failed_cannot_steer_the_terminal() {
        let line = r#"{"id":"\u001b[2J","result":"invalid","error":"invalid_call_id"}"#;
        let line: Line = serde_json::from_str(line).expect("a line");
        assert_eq!(failure(&line).as_deref(), Some("\\u{1b}[2J: invalid invalid_call_id"));
        let fine: Line = serde_json::from_str(r#"{"id":"a","result":"kept"}"#).expect("a line");
        assert_eq!(failure(&fine), None);
    }
}
