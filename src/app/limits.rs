//! How many connections each endpoint may have, by the settings and by what the system allows. Pure but for a warning.

use super::BindError;
use crate::{downstream::Limits, settings::Settings};

/// Connections that the operators' endpoints may have open each: enough for probes, scrapers and a few people.
const ADMIN_CONNECTIONS: usize = 64;

/// Descriptors that are neither a caller's connection nor one to the vendor: listeners, epoll, standard streams, and at each
/// endpoint the connection that waits for a slot.
const DESCRIPTORS_BESIDE: usize = 32;

/// The limits of the internal endpoint and of each of the operators': as set, or fewer connections where the system has
/// not that many descriptors. Those for the vendor are set aside, or callers could take them all and nothing would ever
/// be answered.
pub(super) fn limits(settings: &Settings, descriptors: Option<u64>) -> Result<(Limits, Limits), BindError> {
    let limits = settings.listen.limits;
    let with = |max_connections| Limits { max_connections, ..limits };
    let Some(descriptors) = descriptors else { return Ok((limits, with(ADMIN_CONNECTIONS))) };
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let operators = ADMIN_CONNECTIONS.min(descriptors / 8);
    // Twice what may be under way: a connection that is being closed still holds its descriptor.
    let aside = DESCRIPTORS_BESIDE + 2 * operators + 2 * settings.upstream.max_concurrency;
    let left = descriptors.saturating_sub(aside);
    if left >= limits.max_connections {
        return Ok((limits, with(operators)));
    }
    // With very few, a quarter of what there is must do for callers.
    let callers = left.max(descriptors / 4).min(limits.max_connections);
    if callers == 0 || operators == 0 {
        return Err(BindError::Descriptors(descriptors as u64));
    }
    tracing::warn!(
        descriptors,
        max_connections = callers,
        "the limit of open files is too low for listen.max_connections; fewer are accepted at once"
    );
    Ok((with(callers), with(operators)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn callers_get_what_the_operators_and_the_vendor_leave() {
        let toml = "[[workspaces]]\nworkspace_id = 'w'\napi_key = 'canary-0071e5-key'";
        let settings = Settings::load_str(toml, &BTreeMap::new()).expect("settings").settings;
        // Of how many descriptors, how many for callers and for each of the operators' endpoints.
        let table = [
            (None, Some((4096, 64))),
            (Some(1 << 20), Some((4096, 64))),
            (Some(4096 + 32 + 2 * 64 + 2 * 16), Some((4096, 64))),
            (Some(4096 + 32 + 2 * 64 + 2 * 16 - 1), Some((4095, 64))),
            (Some(1024), Some((832, 64))),
            (Some(256), Some((128, 32))),
            // The vendor's alone are more than half of these.
            (Some(64), Some((16, 8))),
            (Some(8), Some((2, 1))),
            (Some(7), None),
            (Some(0), None),
        ];
        for (descriptors, expected) in table {
            let found = limits(&settings, descriptors).ok();
            let found =
                found.map(|(callers, operators)| (callers.max_connections, operators.max_connections));
            assert_eq!(found, expected, "{descriptors:?}");
        }
    }
}
