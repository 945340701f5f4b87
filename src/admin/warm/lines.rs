//! The lines of a warm-up, and their members' names, which clients rely on. Pure.

use bytes::Bytes;
use serde::Serialize;

use crate::{
    lookup::{Answer, Content},
    outcome::{Class, Fetched, HitOf, NotKept, Outcome},
};

/// The first line.
#[derive(Debug, Serialize)]
pub(super) struct First<'a> {
    /// How many calls there are, each counted once.
    pub(super) total: usize,
    /// The workspace's name.
    pub(super) workspace: &'a str,
    pub(super) version: &'static str,
}

/// The line of a call that is done.
#[derive(Debug, Serialize)]
pub(super) struct Done<'a> {
    /// As it stood in the list.
    pub(super) id: &'a str,
    #[serde(flatten)]
    pub(super) end: End,
    /// How many are done, this one among them, and of how many.
    pub(super) done: usize,
    pub(super) total: usize,
    /// Seconds that the rest takes, if it goes on as so far.
    pub(super) eta_seconds: u64,
}

/// The last line: how many came to what, and why it ends.
#[derive(Debug, Default, Serialize)]
pub(super) struct Last {
    /// `complete`, or `draining` where the gateway is about to end; the rest can be sent again, to it or another.
    pub(super) ended: &'static str,
    pub(super) done: usize,
    pub(super) total: usize,
    #[serde(flatten)]
    pub(super) sums: Sums,
}

/// How many came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub(super) kept: usize,
    pub(super) hit: usize,
    pub(super) ongoing: usize,
    pub(super) not_found: usize,
    pub(super) failed: usize,
    pub(super) invalid: usize,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct End {
    pub(super) result: Result,
    /// The status that a caller would get now, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    /// The gateway's error code, or in a word why the answer is not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'static str>,
}

/// What came of a call, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Result {
    /// Fetched, and kept.
    Kept,
    /// Kept already: it cost nothing.
    Hit,
    /// Under way, and so not kept.
    Ongoing,
    /// The vendor has no such call.
    NotFound,
    /// No answer, or none that is worth keeping.
    Failed,
    /// No call id.
    Invalid,
}

impl Sums {
    /// Counts one.
    pub(super) fn count(&mut self, result: Result) {
        *match result {
            Result::Kept => &mut self.kept,
            Result::Hit => &mut self.hit,
            Result::Ongoing => &mut self.ongoing,
            Result::NotFound => &mut self.not_found,
            Result::Failed => &mut self.failed,
            Result::Invalid => &mut self.invalid,
        } += 1;
    }
}

impl End {
    fn plain(result: Result) -> Self {
        Self { result, status: None, error: None }
    }

    /// Of what is no call id.
    pub(super) fn invalid() -> Self {
        Self { result: Result::Invalid, status: None, error: Some("invalid_call_id") }
    }

    /// Of a lookup.
    pub(super) fn of(answer: &Answer) -> Self {
        let failed = |status, error| Self { result: Result::Failed, status: Some(status), error };
        let stored = match &answer.content {
            Content::Refused(refusal) => {
                return failed(refusal.code.status().as_u16(), Some(refusal.code.as_str()));
            }
            Content::Stored(stored) => stored,
        };
        let status = stored.status.as_u16();
        match (stored.class, &answer.outcome) {
            (_, Outcome::Hit { of: HitOf::Failure, .. }) => failed(status, Some("failure")),
            (_, Outcome::StaleIfError { .. }) => failed(status, Some("stale-if-error")),
            (Class::NotFound, _) => Self::plain(Result::NotFound),
            (Class::Ongoing, _) => Self::plain(Result::Ongoing),
            (_, Outcome::Hit { .. }) => Self::plain(Result::Hit),
            (_, Outcome::Forwarded { result: Fetched::Stored(_), .. }) => Self::plain(Result::Kept),
            // The kept record was the better one.
            (_, Outcome::Forwarded { result: Fetched::NotStored(_, NotKept::Superseded), .. }) => {
                Self::plain(Result::Kept)
            }
            (_, Outcome::Forwarded { result: Fetched::NotStored(_, why), .. }) => {
                failed(status, Some(why.as_str()))
            }
            (_, Outcome::Forwarded { result: Fetched::Failed(code), .. }) => {
                failed(status, Some(code.as_str()))
            }
            (_, Outcome::NotAsked) => failed(status, None),
        }
    }
}

/// A line, with its end.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    // Serializing strings and numbers cannot fail; an empty line is still NDJSON that readers skip.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
