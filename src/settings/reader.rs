//! Reads one value as what its setting must be.
//!
//! It knows the kinds of values, not which settings have them nor how settings must fit together: that is
//! [`super::check`]. It promises that a fault never quotes the value.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use config::{Value, ValueKind};

use super::{
    REDACTED, address,
    table::Kind,
    units::{self, DURATION_FORM, SIZE_FORM},
    url,
};
use crate::{
    downstream::{AllowedHosts, BindAddress},
    lookup::FOREVER,
    telemetry::{Format, check_level},
    upstream::{
        Origin,
        credentials::{ApiKey, is_workspace_id},
    },
};

/// A value that is what its setting must be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Checked {
    Flag(bool),
    Count(u64),
    Share(f64),
    Duration(Duration),
    /// As [`Self::Duration`], rendered with `forever`.
    Lifetime(Duration),
    Size(u64),
    Mode(u32),
    Format(Format),
    Text(String),
    Key(Arc<ApiKey>),
    Path(PathBuf),
    Address(SocketAddr),
    Addresses(Vec<BindAddress>),
    Hosts(AllowedHosts),
    Texts(Vec<String>),
    Origin(Origin),
    /// May hold a password.
    SharedUrl(url::SharedUrl),
}

/// What is wrong with a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// In which element of a list.
    pub(super) element: Option<usize>,
    /// What is wrong.
    pub(super) wrong: String,
    /// What would be right.
    pub(super) right: String,
}

/// Reads `value` as a `kind`.
pub(super) fn read(kind: Kind, value: &Value) -> Result<Checked, Fault> {
    let fault = |wrong: &str| Fault { element: None, wrong: wrong.to_owned(), right: expected(kind) };
    let wrong_type = || fault(type_of(value));
    let text = || as_text(value).ok_or_else(wrong_type);
    let within = |number: u64, min, max| match number {
        n if n < min => Err(fault("too small")),
        n if n > max => Err(fault("too large")),
        n => Ok(n),
    };
    let lasting = |text: &str| units::parse_duration(text).ok_or_else(|| fault("not a duration"));
    match kind {
        Kind::Flag => {
            if let ValueKind::Boolean(flag) = value.kind {
                Ok(Checked::Flag(flag))
            } else {
                Err(wrong_type())
            }
        }
        Kind::Count(min, max) => {
            let number = as_integer(value).ok_or_else(wrong_type)?;
            let number = u64::try_from(number)
                .map_err(|_| fault(if number < 0 { "too small" } else { "too large" }))?;
            within(number, min, max).map(Checked::Count)
        }
        Kind::Share => {
            let share = as_number(value).ok_or_else(wrong_type)?;
            // Not a number is in no range.
            if (0.0..=1.0).contains(&share) { Ok(Checked::Share(share)) } else { Err(fault("out of range")) }
        }
        Kind::Duration(min, max) => {
            let duration = lasting(text()?)?;
            match () {
                () if duration < min => Err(fault("too short")),
                () if duration > max => Err(fault("too long")),
                () => Ok(Checked::Duration(duration)),
            }
        }
        Kind::Lifetime => match text()? {
            "forever" => Ok(Checked::Lifetime(FOREVER)),
            text => lasting(text).map(Checked::Lifetime),
        },
        Kind::Size(min, max) => {
            let size = units::parse_size(text()?).ok_or_else(|| fault("not a size"))?;
            within(size, min, max).map(Checked::Size)
        }
        Kind::Mode => {
            let mode = units::parse_mode(text()?).ok_or_else(|| fault("not permission bits"))?;
            let usable = mode & 0o600 == 0o600;
            if usable { Ok(Checked::Mode(mode)) } else { Err(fault("of no use to its owner")) }
        }
        Kind::Format => match text()? {
            "json" => Ok(Checked::Format(Format::Json)),
            "pretty" => Ok(Checked::Format(Format::Pretty)),
            "auto" => Ok(Checked::Format(Format::Auto)),
            _ => Err(fault("not a format")),
        },
        Kind::Level => Some(text()?.trim())
            .filter(|text| check_level(text).is_ok())
            .map(|text| Checked::Text(text.to_owned()))
            .ok_or_else(|| fault("not a level")),
        Kind::Name => Some(text()?.trim())
            .filter(|name| (1..=128).contains(&name.chars().count()) && !name.contains(char::is_control))
            .map(|name| Checked::Text(name.to_owned()))
            .ok_or_else(|| fault("not a name")),
        Kind::WorkspaceId => Some(text()?)
            .filter(|id| is_workspace_id(id))
            .map(|id| Checked::Text(id.to_owned()))
            .ok_or_else(|| fault("not a workspace's id")),
        Kind::Key => match text()? {
            REDACTED => Err(fault("the place of a key that was taken out")),
            key => ApiKey::parse(key.as_bytes())
                .map(|key| Checked::Key(Arc::new(key)))
                .map_err(|why| fault(&why.to_string())),
        },
        Kind::Path => Some(text()?)
            .filter(|path| !path.is_empty() && !path.contains('\0'))
            .map(|path| Checked::Path(PathBuf::from(path)))
            .ok_or_else(|| fault("not a path")),
        Kind::Address => {
            text()?.parse().map(Checked::Address).map_err(|_| fault("not an IP address and port"))
        }
        Kind::Addresses => address::addresses(&texts(value, kind, true)?)
            .map(Checked::Addresses)
            .map_err(|(element, wrong)| in_list(value, element, fault(wrong))),
        Kind::Hosts => address::hosts(&texts(value, kind, false)?)
            .map(Checked::Hosts)
            .map_err(|(element, wrong)| in_list(value, element, fault(wrong))),
        Kind::Statuses => statuses(&texts(value, kind, false)?)
            .map(Checked::Texts)
            .map_err(|(element, wrong)| in_list(value, element, fault(wrong))),
        Kind::Parameters => {
            let names = texts(value, kind, false)?;
            match names.iter().position(|name| name.is_empty()) {
                Some(at) => Err(in_list(value, Some(at), fault("empty"))),
                None => Ok(Checked::Texts(names.into_iter().map(str::to_owned).collect())),
            }
        }
        Kind::BaseUrl => url::base_url(text()?)
            .map(Checked::Origin)
            .map_err(|(wrong, right)| Fault { right: right.to_owned(), ..fault(wrong) }),
        Kind::SharedUrl => url::shared_url(text()?).map(Checked::SharedUrl).map_err(fault),
    }
}

/// What a value of this kind looks like, for messages.
pub(super) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Flag => "expected true or false".to_owned(),
        Kind::Count(min, max) => format!("expected a whole number from {min} to {max}"),
        Kind::Share => "expected a number from 0.0 to 1.0".to_owned(),
        Kind::Duration(min, max) => {
            let max = units::render_duration(max);
            let min = if min.is_zero() { "from \"0s\"" } else { "above 0" };
            format!("expected a duration such as {DURATION_FORM}, {min} up to \"{max}\"")
        }
        Kind::Lifetime => format!("expected a duration such as {DURATION_FORM}, or \"forever\""),
        Kind::Size(min, max) => {
            let (min, max) = (units::render_size(min), units::render_size(max));
            format!("expected a size such as {SIZE_FORM}, from \"{min}\" to \"{max}\"")
        }
        Kind::Mode => "expected octal permission bits from \"0600\" to \"0777\"".to_owned(),
        Kind::Format => "expected \"json\", \"pretty\" or \"auto\"".to_owned(),
        Kind::Level => {
            "expected \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or directives such as \
                        \"warn,callgate=debug\""
                .to_owned()
        }
        Kind::Name => "expected 1 to 128 characters, no control characters".to_owned(),
        Kind::WorkspaceId => "expected 1 to 256 visible ASCII characters".to_owned(),
        Kind::Key => "expected the API key, 1 to 4096 visible ASCII characters".to_owned(),
        Kind::Path => "expected a path".to_owned(),
        Kind::Address => "expected an IP address and port such as \"0.0.0.0:9091\"".to_owned(),
        Kind::Addresses => "expected an address such as \"127.0.0.1:8080\", \"[::1]:8080\" or \
                            \"unix:/run/callgate.sock\", or a list of them"
            .to_owned(),
        Kind::Hosts => {
            "expected a list of host names without port such as [\"calls.internal\"], or [\"*\"] for all"
                .to_owned()
        }
        Kind::Statuses => "expected a list of the statuses of a call that is over, at least one".to_owned(),
        Kind::Parameters => "expected a list of names of query parameters".to_owned(),
        Kind::BaseUrl => url::BASE_URL_FORM.to_owned(),
        Kind::SharedUrl => {
            "expected \"redis://host:6379\", \"rediss://host:6379\" or \"unix:///path\"".to_owned()
        }
    }
}

/// What the value is, where that is wrong already.
fn type_of(value: &Value) -> &'static str {
    match value.kind {
        ValueKind::Nil => "a date",
        ValueKind::Boolean(_) => "a flag",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a whole number",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}

fn as_text(value: &Value) -> Option<&str> {
    if let ValueKind::String(text) = &value.kind { Some(text) } else { None }
}

fn as_integer(value: &Value) -> Option<i128> {
    match value.kind {
        ValueKind::I64(number) => Some(number.into()),
        ValueKind::U64(number) => Some(number.into()),
        ValueKind::I128(number) => Some(number),
        ValueKind::U128(number) => Some(i128::try_from(number).unwrap_or(i128::MAX)),
        ValueKind::Nil
        | ValueKind::Boolean(_)
        | ValueKind::Float(_)
        | ValueKind::String(_)
        | ValueKind::Table(_)
        | ValueKind::Array(_) => None,
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match (&value.kind, as_integer(value)) {
        (ValueKind::Float(number), _) => Some(*number),
        // Only 0 and 1 are in any range, so nothing is lost by cutting.
        (_, Some(number)) => Some(f64::from(i32::try_from(number).unwrap_or(i32::MAX))),
        (_, None) => None,
    }
}

/// The elements of a list of texts; a lone text where `lone` allows it.
fn texts(value: &Value, kind: Kind, lone: bool) -> Result<Vec<&str>, Fault> {
    let fault = |element, wrong: &str| Fault { element, wrong: wrong.to_owned(), right: expected(kind) };
    if let Some(text) = as_text(value).filter(|_| lone) {
        return Ok(vec![text]);
    }
    let ValueKind::Array(elements) = &value.kind else { return Err(fault(None, type_of(value))) };
    let each = elements.iter().enumerate();
    each.map(|(at, element)| as_text(element).ok_or_else(|| fault(Some(at), type_of(element)))).collect()
}

/// Names the element, where the value is a list and not a lone text.
fn in_list(value: &Value, element: Option<usize>, fault: Fault) -> Fault {
    let element = element.filter(|_| matches!(value.kind, ValueKind::Array(_)));
    Fault { element, ..fault }
}

/// Statuses trimmed and in lower case, each once.
fn statuses(texts: &[&str]) -> Result<Vec<String>, (Option<usize>, &'static str)> {
    let mut statuses: Vec<String> = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let status = text.trim().to_lowercase();
        match status.as_str() {
            "" => return Err((Some(at), "empty")),
            // A call under way that counts as over would be kept as it is now; `lookup.ongoing_ttl` is for that.
            "ongoing" | "active" | "in-progress" => return Err((Some(at), "the status of a call under way")),
            _ if statuses.contains(&status) => {}
            _ => statuses.push(status),
        }
    }
    if statuses.is_empty() { Err((None, "empty")) } else { Ok(statuses) }
}

/// The words for levels, each at its number.
pub(super) const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether it is one of the words for a level; capitals do not count.
pub(super) fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
}
