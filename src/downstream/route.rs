//! Which of the few resources a target names. Pure, and done on the raw bytes: nothing is decoded before it is
//! matched, so there is one spelling of every path and no way around it.
//!
//! It knows no workspace and no cache; a target that it does not know reaches neither, nor the vendor.

use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::{
    call::{ApiVersion, CallId, Resource},
    metrics::RouteLabel,
    outcome::{ErrorCode, Refusal},
};

/// The methods of every path here, as `allow` has them.
pub const ALLOW: &str = "GET, HEAD";

/// What becomes of query parameters: `lookup.query_ignored` and `lookup.query_forwarded`.
#[derive(Clone, Copy, Debug)]
pub struct QueryRules<'a> {
    /// Dropped, in lookups and lists.
    pub ignored: &'a [String],
    /// Sent on with a lookup, and part of its key.
    pub forwarded: &'a [String],
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which version of the vendor's API.
    pub version: ApiVersion,
    /// Which call or list.
    pub resource: Resource,
}

/// A path that is known, before its query and its id are looked at.
enum Path<'a> {
    Call(ApiVersion, &'a str),
    List(ApiVersion),
}

/// Finds the route of a request, and under which name it is counted even if it is refused.
pub fn route(
    method: &Method,
    path: &str,
    query: Option<&str>,
    rules: QueryRules<'_>,
) -> (RouteLabel, Result<Route, Refusal>) {
    let Some(path) = find(path) else {
        // `CONNECT` and `OPTIONS *` name no path; whatever they name, these methods are the ones served.
        let refusal = match path {
            "" | "*" => method_not_allowed(),
            _ => {
                Refusal::new(ErrorCode::RouteNotFound, "call records are at /v2/api/call-history and /calls")
            }
        };
        return (RouteLabel::Other, Err(refusal));
    };
    let label = match path {
        Path::Call(..) => RouteLabel::Lookup,
        Path::List(_) => RouteLabel::List,
    };
    if method != Method::GET && method != Method::HEAD {
        return (label, Err(method_not_allowed()));
    }
    (label, resource(&path, query.unwrap_or_default(), rules))
}

fn method_not_allowed() -> Refusal {
    Refusal::new(ErrorCode::MethodNotAllowed, "records are read with GET or HEAD")
}

fn find(path: &str) -> Option<Path<'_>> {
    if let Some(id) = path.strip_prefix("/calls/") {
        return Some(Path::Call(ApiVersion::V2, id));
    }
    let (version, rest) = if let Some(rest) = path.strip_prefix("/v2/api/call-history") {
        (ApiVersion::V2, rest)
    } else {
        (ApiVersion::V1, path.strip_prefix("/v1/api/call-history")?)
    };
    match rest {
        "" => Some(Path::List(version)),
        _ => rest.strip_prefix('/').map(|id| Path::Call(version, id)),
    }
}

fn resource(path: &Path<'_>, query: &str, rules: QueryRules<'_>) -> Result<Route, Refusal> {
    match *path {
        Path::Call(version, id) => {
            let Some(id) = CallId::parse(id.as_bytes()) else {
                return Err(Refusal::new(ErrorCode::InvalidCallId, CallId::FORM));
            };
            let query = canonical(query, rules.ignored, |name| rules.forwarded.iter().any(|f| f == name))?;
            Ok(Route { version, resource: Resource::Call(id, query) })
        }
        Path::List(version) => {
            let query = canonical(query, rules.ignored, |_| true)?;
            Ok(Route { version, resource: Resource::List(query) })
        }
    }
}

/// The query in its one spelling: decoded, ignored parameters dropped, sorted by name with repeated ones in their
/// order, encoded anew. `None` where nothing is left.
fn canonical(
    query: &str,
    ignored: &[String],
    known: impl Fn(&str) -> bool,
) -> Result<Option<Arc<str>>, Refusal> {
    if query.is_empty() {
        return Ok(None);
    }
    let mut parameters = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        if ignored.contains(&name) {
            continue;
        }
        if !known(&name) {
            // The name is the caller's own and goes back to it alone; the value does not.
            let detail =
                format!("the parameter {name:?} might change the answer; see lookup.query_forwarded");
            return Err(Refusal::new(ErrorCode::UnexpectedQuery, detail));
        }
        parameters.push((name, value));
    }
    if parameters.is_empty() {
        return Ok(None);
    }
    parameters.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Some(form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish().into()))
}

/// Decodes a name or value as forms have it: `+` is a space, `%XX` a byte, all of it UTF-8.
fn decode(text: &str) -> Result<String, Refusal> {
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(Refusal::new(ErrorCode::InvalidRequest, "the query is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "69cf4b468d2a8a6a8e39b684";

    fn check(method: &str, target: &str) -> Result<String, (&'static str, ErrorCode)> {
        let ignored = ["_".to_owned()];
        let forwarded = ["expand".to_owned()];
        let rules = QueryRules { ignored: &ignored, forwarded: &forwarded };
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let (label, route) = route(&method, path, query, rules);
        let route = route.map_err(|refusal| (label.as_str(), refusal.code))?;
        let key = crate::call::CacheKey {
            workspace: crate::call::WorkspaceIndex(0),
            version: route.version,
            resource: route.resource,
        };
        Ok(key.path_and_query())
    }

    #[test]
    fn each_resource_has_its_paths_and_no_others() {
        use ErrorCode::{InvalidCallId, MethodNotAllowed, RouteNotFound};
        for version in ["v1", "v2"] {
            let path = format!("/{version}/api/call-history/{ID}");
            assert_eq!(check("GET", &path), Ok(path.clone()));
            assert_eq!(check("HEAD", &path), Ok(path));
            let list = format!("/{version}/api/call-history");
            assert_eq!(check("GET", &list), Ok(list));
        }
        assert_eq!(check("GET", &format!("/calls/{ID}")), Ok(format!("/v2/api/call-history/{ID}")));

        let id_refused = [
            "/calls/",
            "/v2/api/call-history/",
            "/calls/a/b",
            "/v2/api/call-history/../call-history/x",
            "/v2/api/call-history/%2e%2e",
            "/v2/api/call-history/a%2fb",
            "/v2/api/call-history/a%252fb",
            "/v2/api/call-history/a;b",
            "/v2/api/call-history/a\\b",
            "/v2/api/call-history/a%00",
            "/v2/api/call-history/a%0d%0a",
            "/v2/api/call-history/a.css",
            "/v2/api/call-history//a",
            "/v2/api/call-history/a/",
            "/calls/é",
        ];
        for target in id_refused {
            assert_eq!(check("GET", target), Err(("lookup", InvalidCallId)), "{target}");
        }
        assert_eq!(check("GET", &format!("/calls/{}", "a".repeat(129))), Err(("lookup", InvalidCallId)));
        assert!(check("GET", &format!("/calls/{}", "a".repeat(128))).is_ok());

        let unknown = [
            "/",
            "/calls",
            "//calls/a",
            "/V2/api/call-history",
            "/v2/api/call-history2",
            "/v3/api/call-history",
            "/v2/api/recordings/a",
            "/v2/api/call%2dhistory/a",
            "/metrics",
            "/healthz",
            "/cache/a",
            "/./calls/a",
        ];
        for target in unknown {
            assert_eq!(check("GET", target), Err(("other", RouteNotFound)), "{target}");
            assert_eq!(check("DELETE", target), Err(("other", RouteNotFound)), "{target}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"] {
            let target = format!("/calls/{ID}");
            assert_eq!(check(method, &target), Err(("lookup", MethodNotAllowed)), "{method}");
            assert_eq!(check(method, "/v1/api/call-history"), Err(("list", MethodNotAllowed)), "{method}");
        }
        assert_eq!(check("OPTIONS", "*"), Err(("other", MethodNotAllowed)));
        assert_eq!(check("CONNECT", ""), Err(("other", MethodNotAllowed)));
    }

    #[test]
    fn a_lookup_takes_no_parameter_that_might_change_the_answer() {
        let target = |query: &str| format!("/calls/{ID}?{query}");
        let sent = |query: &str| Ok(format!("/v2/api/call-history/{ID}{query}"));
        assert_eq!(check("GET", &target("")), sent(""));
        assert_eq!(check("GET", &target("_=1700000000")), sent(""));
        assert_eq!(check("GET", &target("%5F=1&&")), sent(""));
        assert_eq!(check("GET", &target("expand=a+b&_=1")), sent("?expand=a+b"));
        for query in ["x=1", "x", "=1", "expand[]=1", "Expand=1"] {
            assert_eq!(check("GET", &target(query)), Err(("lookup", ErrorCode::UnexpectedQuery)), "{query}");
        }
        assert_eq!(check("GET", &target("%ff=1")), Err(("lookup", ErrorCode::InvalidRequest)));
    }

    #[test]
    fn equal_lists_have_one_spelling() {
        let target = |query: &str| format!("/v1/api/call-history?{query}");
        let table = [
            ("limit=10&page=2", "?limit=10&page=2"),
            ("page=2&limit=10", "?limit=10&page=2"),
            ("page=2&&limit=10&_=17", "?limit=10&page=2"),
            ("p%61ge=2&limit=1%30", "?limit=10&page=2"),
            ("b=2&a=3&b=1", "?a=3&b=2&b=1"),
            ("search=a%20b", "?search=a+b"),
            ("search=a+b", "?search=a+b"),
            ("search=a%2Bb", "?search=a%2Bb"),
            ("callIds=[%22x%22]", "?callIds=%5B%22x%22%5D"),
            ("search=%0d%0ax:y%23%26", "?search=%0D%0Ax%3Ay%23%26"),
            ("flag", "?flag="),
            ("a=b=c", "?a=b%3Dc"),
            ("", ""),
        ];
        for (query, expected) in table {
            let sent = Ok(format!("/v1/api/call-history{expected}"));
            assert_eq!(check("GET", &target(query)), sent, "{query}");
        }
        assert_eq!(check("GET", &target("search=%ff")), Err(("list", ErrorCode::InvalidRequest)));
    }

    proptest! {
        #[test]
        fn the_canonical_spelling_is_its_own(query in "[a-c=&%2+_ é]{0,30}") {
            if let Ok(Some(once)) = canonical(&query, &[], |_| true) {
                prop_assert!(once.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'?'));
                prop_assert_eq!(canonical(&once, &[], |_| true).expect("sound"), Some(Arc::clone(&once)));
            }
        }

        #[test]
        fn any_target_is_survived(path in ".{0,60}", query in ".{0,60}") {
            let rules = QueryRules { ignored: &[], forwarded: &[] };
            let _ = route(&Method::GET, &path, Some(&query), rules);
        }
    }
}
