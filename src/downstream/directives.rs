//! Reads a caller's `Cache-Control` (RFC 9111 §5.2.1). Pure.
//!
//! Request directives are advisory, and callers of this vendor send `no-cache` with every request without meaning
//! it (`fetch(…, { cache: "no-store" })` in Node does). So only `only-if-cached` is heard, unless
//! `lookup.obey_no_cache` says otherwise.

use http::{HeaderMap, header};

use super::list::elements;
use crate::lookup::Directives;

/// What the fields ask for; `obey` is `lookup.obey_no_cache`.
#[must_use]
pub fn read(headers: &HeaderMap, obey: bool) -> Directives {
    let mut found = Directives::default();
    let mut given = false;
    for field in headers.get_all(header::CACHE_CONTROL) {
        given = true;
        for directive in elements(field.as_bytes()) {
            let is = |name: &[u8]| directive.eq_ignore_ascii_case(name);
            found.only_if_cached |= is(b"only-if-cached");
            if obey {
                found.fetch_anew |= is(b"no-cache") || is(b"max-age=0") || is(b"max-age=\"0\"");
                found.keep_nothing |= is(b"no-store");
            }
        }
    }
    // RFC 9111 §5.4: HTTP/1.0's word for it, which counts where the newer field is absent.
    if obey && !given {
        found.fetch_anew =
            headers.get(header::PRAGMA).is_some_and(|p| p.as_bytes().eq_ignore_ascii_case(b"no-cache"));
    }
    // What must not be kept must not come from what is kept either.
    found.fetch_anew |= found.keep_nothing;
    found
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn directives_are_heard_only_where_they_are_to_be_obeyed() {
        // anew, keep nothing, only if cached: as a word of letters
        let table = [
            ("cache-control", "", "", ""),
            ("cache-control", "no-cache", "", "a"),
            ("cache-control", "NO-CACHE , x", "", "a"),
            ("cache-control", "max-age=0", "", "a"),
            ("cache-control", "max-age=\"0\"", "", "a"),
            ("cache-control", "max-age=00, max-age=10, xno-cache", "", ""),
            ("cache-control", "no-store", "", "ak"),
            ("cache-control", "only-if-cached", "o", "o"),
            ("cache-control", "no-cache,only-if-cached", "o", "ao"),
            ("cache-control", "x=\"a, no-cache, only-if-cached\"", "", ""),
            ("cache-control", "x=\"a, b\", only-if-cached", "o", "o"),
            ("pragma", "no-cache", "", "a"),
            ("pragma", "x", "", ""),
        ];
        for (name, value, unless, obeyed) in table {
            for (obey, expected) in [(false, unless), (true, obeyed)] {
                let name = HeaderName::from_static(name);
                let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
                let found = read(&headers, obey);
                let letters =
                    [(found.fetch_anew, 'a'), (found.keep_nothing, 'k'), (found.only_if_cached, 'o')];
                let word: String = letters.iter().filter(|(yes, _)| *yes).map(|(_, letter)| letter).collect();
                assert_eq!(word, expected, "{value} {obey}");
            }
        }
    }

    #[test]
    fn all_lines_count_and_pragma_only_without_them() {
        let mut headers = HeaderMap::new();
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        headers.append(header::PRAGMA, HeaderValue::from_static("no-cache"));
        assert!(!read(&headers, true).fetch_anew);
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        assert!(read(&headers, true).fetch_anew);
    }
}
