//! A caller's `Prefer`, against a plain reading of the list that it is.

use callgate::downstream::prefer::{PREFER, wait};
use http::{HeaderMap, HeaderValue};

use super::cache_control::elements;

/// Each line is a field.
pub fn prefer(bytes: &[u8]) {
    let values = bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = values.map(|value| (PREFER, value)).collect();
    let found = wait(&headers).map(|wait| wait.as_secs());
    assert_eq!(found, plainly(&headers));
}

/// The seconds of the first `wait` there is, if it has any.
fn plainly(headers: &HeaderMap) -> Option<u64> {
    // What is no text is no field of this kind.
    let fields = headers.get_all(PREFER).iter().filter(|field| field.to_str().is_ok());
    let preferences: Vec<String> = fields
        .flat_map(|field| elements(field.as_bytes()))
        .map(|preference| String::from_utf8_lossy(&preference).into_owned())
        .collect();
    let first = preferences.iter().find_map(|preference| {
        let preference = preference.split(';').next()?;
        let name_ends = preference.find('=').unwrap_or(preference.len());
        (preference[..name_ends].trim() == "wait")
            .then(|| preference.get(name_ends + 1..).unwrap_or_default())
    })?;
    let first = first.trim();
    let digits = match first.as_bytes() {
        [b'"', .., b'"'] => &first[1..first.len() - 1],
        _ => first,
    };
    if digits.is_empty() || digits.chars().any(|c| !c.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse::<u128>().map_or(u64::from(u32::MAX), |n| n.min(u32::MAX.into()) as u64))
}
