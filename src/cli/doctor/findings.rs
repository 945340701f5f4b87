//! What the doctor makes of an answer. Pure. A finding describes and never repeats: of a record it says nothing but its
//! status word, and that only where it looks like one.

use std::{fmt, io, time::Duration};

use http::{HeaderValue, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    call::CallId,
    clock::UnixMillis,
    lookup::record::{self, Reading},
    upstream::{Origin, error::UpstreamError, vendor::VendorAnswer},
};

/// Clocks may differ by this much before it matters: times in `retry-after` and in records are read by them.
const SKEW: Duration = Duration::from_secs(10);

/// The words for a call under way that are known.
const UNDER_WAY: [&str; 3] = ["ongoing", "active", "in-progress"];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    verdict: Verdict,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    /// Worth knowing, and no fault.
    Note,
    Wrong,
}

/// What was asked.
#[derive(Debug)]
pub(super) enum Question {
    Call(CallId),
    List,
}

/// What came of asking.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) answer: Result<VendorAnswer, UpstreamError>,
    pub(super) took: Duration,
    pub(super) question: Question,
    pub(super) workspace_id: String,
    pub(super) final_statuses: Vec<String>,
}

fn right(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Right, text: text.into() }
}

fn note(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Note, text: text.into() }
}

fn wrong(text: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Wrong, text: text.into() }
}

impl Finding {
    pub(super) fn is_wrong(&self) -> bool {
        self.verdict == Verdict::Wrong
    }

    /// About the settings, which were read without a problem.
    pub(super) fn settings(origin: &Origin, workspace: &str) -> Self {
        right(format!("settings: workspace {workspace}, vendor {origin}"))
    }

    /// About the file that the key comes from.
    pub(super) fn key(mode: Option<io::Result<u32>>) -> Self {
        match mode {
            None => note(
                "key: from the environment or the configuration; a file can be changed without a restart",
            ),
            Some(Ok(mode)) if mode & 0o007 != 0 => {
                note(format!("key file: mode {mode:04o}, open to everybody who gets into its directory"))
            }
            Some(Ok(mode)) if mode & 0o070 != 0 => {
                right(format!("key file: mode {mode:04o}, its group's as well"))
            }
            Some(Ok(mode)) => right(format!("key file: mode {mode:04o}")),
            Some(Err(error)) => wrong(format!("key file: {error}")),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Right => "ok",
            Verdict::Note => "note",
            Verdict::Wrong => "wrong",
        };
        write!(f, "{word:<5}  {}", self.text)
    }
}

impl Seen {
    /// What there is to say; `at` tells the time of day here.
    pub(super) fn findings(&self, at: impl Fn(Instant) -> UnixMillis) -> Vec<Finding> {
        let answer = match &self.answer {
            Ok(answer) => answer,
            Err(error) => return vec![self.failed(error)],
        };
        let status = answer.status;
        let millis = self.took.as_millis();
        let mut findings = Vec::new();
        match status {
            StatusCode::OK => {
                findings.push(right(format!("answer: 200 in {millis} ms")));
                findings.push(right("credentials: key and workspace are accepted"));
                findings.push(match &self.question {
                    Question::Call(id) => self.record(id, &answer.body),
                    Question::List => self.list(&answer.body),
                });
            }
            StatusCode::TOO_MANY_REQUESTS => findings.push(wrong(
                "answer: 429, the minute's requests are used up; nothing more can be said, so ask again later",
            )),
            StatusCode::NOT_FOUND if matches!(self.question, Question::Call(_)) => {
                findings.push(right("credentials: key and workspace are accepted"));
                findings.push(wrong("answer: 404, the vendor has no such call in this workspace"));
            }
            StatusCode::INTERNAL_SERVER_ERROR if matches!(self.question, Question::List) => {
                findings.push(note("answer: 500, as for a list without calls; ask with --call to be sure"));
            }
            other => findings.push(wrong(format!("answer: status {}", other.as_u16()))),
        }
        findings.push(validators(answer));
        findings.push(retry_after(status, answer.retry_after.as_ref()));
        findings.push(skew(answer.date, at(answer.began)));
        findings
    }

    fn failed(&self, error: &UpstreamError) -> Finding {
        wrong(match error {
            UpstreamError::CredentialsRejected(401) => "credentials: 401, the key is not accepted".to_owned(),
            UpstreamError::CredentialsRejected(status) => {
                format!("credentials: {status}, the key may not see this workspace, or there is none such")
            }
            UpstreamError::LeakedCredential => {
                "answer: it holds the key, so the gateway would let nothing of it through".to_owned()
            }
            UpstreamError::Connect(cause) => format!("connection: {cause}"),
            UpstreamError::Timeout => {
                format!("answer: none within upstream.response_timeout ({} ms)", self.took.as_millis())
            }
            UpstreamError::Failing(status) => format!("answer: {status}, the vendor cannot serve now"),
            UpstreamError::Reset { .. }
            | UpstreamError::Incomplete(_)
            | UpstreamError::TooLarge
            | UpstreamError::Invalid(_) => format!("answer: {error}"),
        })
    }

    fn record(&self, id: &CallId, body: &[u8]) -> Finding {
        match record::read(body, id, &self.workspace_id) {
            Reading::Record(facts) => self.status(facts.status.as_deref()),
            Reading::Suspect(why) => {
                wrong(format!("record: not understood ({}), so it is passed on and never kept", why.as_str()))
            }
            Reading::ForeignWorkspace => {
                wrong("record: of another workspace than x-workspace-id; the gateway refuses it")
            }
        }
    }

    /// The first record of a list: an array, or an object with one under `calls` or `data`.
    fn list(&self, body: &[u8]) -> Finding {
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(_) => return wrong("list: not JSON"),
        };
        let calls = [Some(&value), value.get("calls"), value.get("data")].into_iter().flatten();
        match calls.filter_map(Value::as_array).next().map(|calls| calls.first()) {
            None => wrong("list: no array of calls, neither at the top nor under `calls` or `data`"),
            Some(None) => note("list: empty, so there is no status word to read"),
            Some(Some(call)) => self.status(call.get("status").and_then(Value::as_str)),
        }
    }

    fn status(&self, status: Option<&str>) -> Finding {
        let Some(status) = status.map(|status| status.trim().to_lowercase()) else {
            return wrong("status: none in the record, so no call would ever be kept");
        };
        if self.final_statuses.contains(&status) {
            right(format!("status: `{status}`, which is final: such calls are kept"))
        } else if UNDER_WAY.contains(&status.as_str()) {
            right(format!("status: `{status}`, a call under way: never kept"))
        } else if status.len() <= 32 && status.bytes().all(|b| b.is_ascii_alphabetic() || b"-_".contains(&b))
        {
            wrong(format!(
                "status: `{status}` is not known, and taken for a call under way; if it is final, name it in \
                 lookup.final_statuses"
            ))
        } else {
            wrong("status: not a word, and taken for a call under way")
        }
    }
}

fn validators(answer: &VendorAnswer) -> Finding {
    note(match (&answer.etag, &answer.last_modified) {
        (Some(_), Some(_)) => "validators: etag and last-modified are sent",
        (Some(_), None) => "validators: etag is sent, last-modified is not",
        (None, Some(_)) => "validators: last-modified is sent, etag is not",
        (None, None) => "validators: neither etag nor last-modified is sent",
    })
}

fn retry_after(status: StatusCode, field: Option<&HeaderValue>) -> Finding {
    match (status, field) {
        (StatusCode::TOO_MANY_REQUESTS, Some(_)) => right("retry-after: sent with the 429"),
        (StatusCode::TOO_MANY_REQUESTS, None) => note(
            "retry-after: not sent with the 429; reset_at in its body is read instead, else it is a minute",
        ),
        (_, Some(_)) => note("retry-after: sent, though nothing was limited"),
        (_, None) => note("retry-after: not sent, as nothing was limited"),
    }
}

fn skew(vendor: Option<UnixMillis>, here: UnixMillis) -> Finding {
    let Some(vendor) = vendor else {
        return note("clock: the vendor sends no date to compare with");
    };
    // A date is in whole seconds.
    let ahead = (here.0 - vendor.0).div_euclid(1_000);
    let text = match ahead {
        0 => "clock: the same second as the vendor's".to_owned(),
        1.. => format!("clock: {ahead} s ahead of the vendor's"),
        _ => format!("clock: {} s behind the vendor's", ahead.unsigned_abs()),
    };
    if ahead.unsigned_abs() <= SKEW.as_secs() { right(text) } else { wrong(text) }
}
