//! The two text formats of metrics: which one a scraper wants, and how the one becomes the other.
//!
//! `prometheus-client` writes OpenMetrics 1.0. What reads the older format takes most of that for what it is, and
//! stumbles over the rest: there the metadata of a counter carries the name of its samples, `info` is no type, and
//! neither `# UNIT` nor `# EOF` mean anything. Pure functions of text.

use std::fmt::Write as _;

/// The content type of OpenMetrics 1.0.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The content type of the Prometheus text format.
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether an `Accept` field (RFC 9110 §12.5.1) names OpenMetrics, and no less gladly than plain text.
///
/// Only a type that is named counts: `*/*` is what everything sends, and says nothing of understanding a format.
pub(super) fn prefers_openmetrics(accept: Option<&str>) -> bool {
    let accept = accept.unwrap_or_default();
    let weight = |wanted: &str| {
        accept
            .split(',')
            .filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let named = parts.next()?.eq_ignore_ascii_case(wanted);
                named.then(|| parts.find_map(quality).unwrap_or(1.0))
            })
            .fold(0.0, f32::max)
    };
    let openmetrics = weight("application/openmetrics-text");
    openmetrics > 0.0 && openmetrics >= weight("text/plain")
}

/// The weight, where a parameter is one; a malformed one is none at all.
fn quality(parameter: &str) -> Option<f32> {
    let (name, value) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().unwrap_or(0.0))
}

/// The Prometheus text format of what is OpenMetrics.
pub(super) fn to_prometheus(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    // `# HELP` comes first, but only `# TYPE` after it tells what the family is to be called.
    let mut help = None;
    for line in openmetrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(family) = line.strip_prefix("# HELP ") {
            help = family.split_once(' ');
            continue;
        }
        // Writing to a `String` cannot fail.
        let _ = match line.strip_prefix("# TYPE ").and_then(|family| family.split_once(' ')) {
            Some((name, kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                match help.take() {
                    Some((helped, text)) if helped == name => {
                        writeln!(out, "# HELP {name}{suffix} {text}\n# TYPE {name}{suffix} {kind}")
                    }
                    Some(_) | None => writeln!(out, "# TYPE {name}{suffix} {kind}"),
                }
            }
            None => writeln!(out, "{line}"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_name_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let table = [
            (None, false),
            (Some(""), false),
            (Some("*/*"), false),
            (Some("text/plain"), false),
            (Some("text/html, */*;q=0.1"), false),
            (Some("application/openmetrics-text"), true),
            (Some("Application/OpenMetrics-Text; Version=1.0.0; Q=0.5"), true),
            (Some("application/openmetrics-text;q=0"), false),
            (Some("application/openmetrics-text;q=x"), false),
            (Some("application/openmetrics-text;q=0.2, text/plain"), false),
            (Some("application/openmetrics-text, text/plain"), true),
            (Some(prometheus), true),
            (Some(",;=,;;"), false),
        ];
        for (accept, expected) in table {
            assert_eq!(prefers_openmetrics(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_names_counters_by_their_samples() {
        let openmetrics = "# HELP a_b counted.\n# TYPE a_b counter\na_b_total{x=\"# EOF\"} 1\n\
                           # HELP a_s how long.\n# TYPE a_s_seconds histogram\n# UNIT a_s_seconds seconds\n\
                           a_s_seconds_sum 1.5\na_s_seconds_count 1\na_s_seconds_bucket{le=\"+Inf\"} 1\n\
                           # HELP a_build which.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n\
                           # HELP g now.\n# TYPE g gauge\ng 3\n# EOF\n";
        let prometheus = "# HELP a_b_total counted.\n# TYPE a_b_total counter\na_b_total{x=\"# EOF\"} 1\n\
                          # TYPE a_s_seconds histogram\n\
                          a_s_seconds_sum 1.5\na_s_seconds_count 1\na_s_seconds_bucket{le=\"+Inf\"} 1\n\
                          # HELP a_build_info which.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n\
                          # HELP g now.\n# TYPE g gauge\ng 3\n";
        assert_eq!(to_prometheus(openmetrics), prometheus);
    }
}
