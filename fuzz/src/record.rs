//! The reader of records, against a plain reading of the same body.

use callgate::{
    call::CallId,
    clock::UnixMillis,
    lookup::record::{Facts, MAX_DEPTH, Reading, read},
    outcome::Suspicion,
};

use super::json::{self, Json};

/// The call that is asked for.
const ID: &str = "69cf4b468d2a8a6a8e39b684";
/// The workspace whose key was sent.
const WORKSPACE: &str = "ws-1";

/// Members that a record may have once.
const ONCE: [&str; 6] = ["_id", "callId", "status", "startTime", "endTime", "updatedAt"];

/// The bytes are a body. What is read is what a plain reading finds, and white space around changes nothing.
pub fn record(bytes: &[u8]) {
    let asked = CallId::parse(ID.as_bytes()).expect("an id");
    let found = read(bytes, &asked, WORKSPACE);
    let expected = plainly(bytes, ID, WORKSPACE);
    assert!(expected.fits(&found), "{found:?}, and plainly {:?}", expected.reading);
    let spaced = [b" \r\n\t", bytes, b"\n "].concat();
    assert_eq!(read(&spaced, &asked, WORKSPACE), found);
}

/// What a body is by a plain reading.
pub struct Plain {
    /// What it is.
    pub reading: Reading,
    /// Something in it is JSON and no value: who looks at that finds no JSON.
    odd: bool,
}

impl Plain {
    /// Whether the reader found the same, as far as numbers can be compared.
    fn fits(&self, found: &Reading) -> bool {
        let close = |a: Option<UnixMillis>, b: Option<UnixMillis>| match (a, b) {
            // The last bit of a number with a fraction may be read in two ways.
            (Some(a), Some(b)) => a.0.abs_diff(b.0) <= 1,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        match (&self.reading, found) {
            (_, Reading::Suspect(Suspicion::NotAnObject)) if self.odd => true,
            (Reading::Record(a), Reading::Record(b)) => {
                a.status == b.status
                    && close(a.started, b.started)
                    && close(a.ended, b.ended)
                    && close(a.updated, b.updated)
            }
            (a, b) => a == b,
        }
    }

    /// Whether it is the record of a call that is over.
    pub fn is_over(&self) -> bool {
        let Reading::Record(facts) = &self.reading else { return false };
        matches!(facts.status.as_deref(), Some("completed" | "failed"))
    }
}

/// Reads a body that answers a lookup of the call `id` in `workspace`.
pub fn plainly(body: &[u8], id: &str, workspace: &str) -> Plain {
    let suspect = |why| Plain { reading: Reading::Suspect(why), odd: false };
    let Ok(text) = std::str::from_utf8(body) else { return suspect(Suspicion::NotAnObject) };
    if json::depth(text) > MAX_DEPTH {
        return suspect(Suspicion::TooDeep);
    }
    let Some(top @ Json::Object(_)) = json::parse(text) else { return suspect(Suspicion::NotAnObject) };
    let reading = judge(&top, id, workspace).map_or_else(Reading::Suspect, |facts| match facts {
        Some(facts) => Reading::Record(facts),
        None => Reading::ForeignWorkspace,
    });
    Plain { reading, odd: top.is_odd() }
}

/// The facts of the record in an object; `None` where it, or what it wraps, is another workspace's.
fn judge(top: &Json, id: &str, workspace: &str) -> Result<Option<Facts>, Suspicion> {
    let wrapped = || ["call", "data"].into_iter().flat_map(|name| top.all(name));
    let foreign =
        |level: &Json| level.all("workspaceId").any(|w| matches!(w, Json::Text(Some(w)) if w != workspace));
    if foreign(top) || wrapped().any(foreign) {
        return Ok(None);
    }
    if ["call", "data"].iter().any(|name| top.all(name).count() > 1) {
        return Err(Suspicion::DuplicateMember);
    }
    let has_id = |level: &&Json| {
        let ids = level.all("_id").chain(level.all("callId"));
        ids.filter(|id| !matches!(id, Json::Null)).count() > 0
    };
    let record = wrapped().find(has_id).unwrap_or(top);
    if ONCE.iter().any(|name| record.all(name).count() > 1) {
        return Err(Suspicion::DuplicateMember);
    }
    let text = |name| match record.all(name).next() {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(text)) => Ok(text.clone()),
        Some(_) => Err(Suspicion::MemberType),
    };
    let (own, call_id) = (text("_id")?, text("callId")?);
    if own.is_none() && call_id.is_none() {
        return Err(Suspicion::NoId);
    }
    if own.as_deref() != Some(id) && call_id.as_deref() != Some(id) {
        return Err(Suspicion::OtherId);
    }
    if record.all("workspaceId").any(|w| !matches!(w, Json::Text(_) | Json::Null)) {
        return Err(Suspicion::MemberType);
    }
    let time = |name| record.all(name).next().and_then(time);
    Ok(Some(Facts {
        status: text("status")?.map(|status| status.trim().to_lowercase()),
        started: time("startTime"),
        ended: time("endTime"),
        updated: time("updatedAt"),
    }))
}

/// Seconds, or finer, since 1970, also as text; or ISO 8601 with an offset.
fn time(value: &Json) -> Option<UnixMillis> {
    let seconds = match value {
        Json::Number(number) => *number,
        Json::Text(Some(text)) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => {
                let time: jiff::Timestamp = text.trim().parse().ok()?;
                return Some(UnixMillis(time.as_millisecond()));
            }
        },
        Json::Text(None) | Json::Null | Json::Flag | Json::Array(_) | Json::Object(_) => return None,
    };
    // Each unit has its span of magnitudes, a thousand apart.
    let units = [(1e11, 1e3), (1e14, 1.0), (1e17, 1e-3), (1e20, 1e-6)];
    let (_, factor) = units.into_iter().find(|(below, _)| seconds < *below && seconds > 0.0)?;
    Some(UnixMillis((seconds * factor) as i64))
}
