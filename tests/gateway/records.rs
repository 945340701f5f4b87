//! Records as the vendor writes them, with the personal data that they hold.

use super::world::{PHONE, WORKSPACE};

/// Long ago.
pub(crate) const LONG_AGO: i64 = 1_680_000_300;

/// A record with this status; `more` are further members, each with a comma before it.
pub(crate) fn record(id: &str, status: &str, more: &str) -> String {
    format!(
        r#"{{"_id":"{id}","workspaceId":"{WORKSPACE}","status":"{status}","toPhoneNumber":"{PHONE}"{more}}}"#
    )
}

/// A call that ended long ago.
pub(crate) fn settled(id: &str) -> String {
    record(id, "completed", &format!(r#","endTime":{LONG_AGO}"#))
}

/// A call that ended this many seconds ago.
pub(crate) fn ended(id: &str, ago: i64) -> String {
    let end = jiff::Timestamp::now().as_second() - ago;
    record(id, "completed", &format!(r#","endTime":{end}"#))
}

/// A call under way.
pub(crate) fn ongoing(id: &str) -> String {
    record(id, "ongoing", "")
}

/// The `n`th of many ids.
pub(crate) fn id(n: usize) -> String {
    format!("{n:024x}")
}
