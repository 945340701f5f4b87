//! Targets and ids, against the paths and the alphabet as the contract has them.

use callgate::{
    call::{ApiVersion, CacheKey, CallId, Resource, WorkspaceIndex},
    downstream::route::{QueryRules, Route, route as find},
    outcome::ErrorCode,
};
use http::{Method, Uri};

/// The first line is a method, the rest a target. What is refused is refused for what is plainly wrong with it, and what
/// is sent to the vendor says the same in one spelling.
pub fn route(bytes: &[u8]) {
    let (method, target) = split(bytes);
    id(target);
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) else { return };
    let (ignored, forwarded) = (["_".to_owned()], ["expand".to_owned()]);
    let rules = QueryRules { ignored: &ignored, forwarded: &forwarded };
    let (_, found) = find(&method, uri.path(), uri.query(), rules);
    let known = known(uri.path());
    match (&found, &known) {
        (Err(refusal), None) if matches!(uri.path(), "" | "*") => {
            assert_eq!(refusal.code, ErrorCode::MethodNotAllowed);
        }
        (Err(refusal), None) => assert_eq!(refusal.code, ErrorCode::RouteNotFound),
        (Ok(_), None) => panic!("no such path: {}", uri.path()),
        (Err(refusal), Some(_)) if ![Method::GET, Method::HEAD].contains(&method) => {
            assert_eq!(refusal.code, ErrorCode::MethodNotAllowed);
        }
        (Ok(_), Some(_)) if ![Method::GET, Method::HEAD].contains(&method) => panic!("{method}"),
        (found, Some(known)) => known.fits(uri.query().unwrap_or_default(), found.as_ref()),
    }
    if let Ok(route) = found {
        one_spelling(route, rules);
    }
}

/// What stands before the first line break, and behind it.
pub fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}

/// Whether bytes are an id: 1 to 128 of its alphabet.
pub fn is_id(raw: &[u8]) -> bool {
    let alphabet = || (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').chain(*b"-_");
    (1..=128).contains(&raw.len()) && raw.iter().all(|byte| alphabet().any(|one| one == *byte))
}

fn id(raw: &[u8]) {
    let read = CallId::parse(raw);
    assert_eq!(read.is_some(), is_id(raw));
    let Some(id) = read else { return };
    assert_eq!(id.as_str().as_bytes(), raw);
    let dated = raw.len() == 24 && raw.iter().all(u8::is_ascii_hexdigit);
    let seconds = id.as_str().get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    assert_eq!(id.created(), seconds.filter(|_| dated).map(i64::from));
}

/// A path that there is, and what it names.
pub enum Known<'a> {
    /// A call, by what stands in the place of its id.
    Call(ApiVersion, &'a str),
    /// A list.
    List(ApiVersion),
}

/// Which of the paths this is, if any.
pub fn known(path: &str) -> Option<Known<'_>> {
    if let Some(id) = path.strip_prefix("/calls/") {
        return Some(Known::Call(ApiVersion::V2, id));
    }
    for (version, list) in
        [(ApiVersion::V1, "/v1/api/call-history"), (ApiVersion::V2, "/v2/api/call-history")]
    {
        match path.strip_prefix(list) {
            Some("") => return Some(Known::List(version)),
            Some(rest) if rest.starts_with('/') => return Some(Known::Call(version, &rest[1..])),
            Some(_) | None => {}
        }
    }
    None
}

impl Known<'_> {
    /// Holds what was made of it to what it says.
    fn fits(&self, query: &str, found: Result<&Route, &callgate::outcome::Refusal>) {
        let parameters = parameters(query);
        let wanted = |name: &str| name != "_";
        match self {
            Self::Call(_, id) if !is_id(id.as_bytes()) => {
                assert_eq!(found.expect_err("no id").code, ErrorCode::InvalidCallId);
            }
            Self::Call(..) | Self::List(_) if parameters.is_none() => {
                let code = found.expect_err("no UTF-8").code;
                assert!(matches!(code, ErrorCode::InvalidRequest | ErrorCode::UnexpectedQuery), "{code:?}");
            }
            Self::Call(version, id) => {
                let parameters = parameters.unwrap_or_default();
                if parameters.iter().any(|(name, _)| wanted(name) && name != "expand") {
                    assert_eq!(found.expect_err("unknown").code, ErrorCode::UnexpectedQuery);
                    return;
                }
                let route = found.expect("a call");
                let Resource::Call(own, sent) = &route.resource else { panic!("a call") };
                assert_eq!((route.version, own.as_str()), (*version, *id));
                same(&parameters, sent.as_deref());
            }
            Self::List(version) => {
                let route = found.expect("a list");
                let Resource::List(sent) = &route.resource else { panic!("a list") };
                assert_eq!(route.version, *version);
                same(&parameters.unwrap_or_default(), sent.as_deref());
            }
        }
    }
}

/// Whether a query that is sent has these parameters, those that are ignored left out, sorted by their names.
fn same(given: &[(String, String)], sent: Option<&str>) {
    let mut given: Vec<_> = given.iter().filter(|(name, _)| name != "_").cloned().collect();
    given.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(sent.is_none(), given.is_empty());
    assert_eq!(parameters(sent.unwrap_or_default()), Some(given));
}

/// The names and values of a query as forms have it; `None` where one is not UTF-8.
fn parameters(query: &str) -> Option<Vec<(String, String)>> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(name)?, decoded(value)?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let coded = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let coded = coded.filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = coded.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = if byte.is_some() { &after[2..] } else { after };
        bytes.push(byte.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8(bytes).ok()
}

/// What is sent is a target that can be sent as it stands, and that routes to itself.
fn one_spelling(route: Route, rules: QueryRules<'_>) {
    let key =
        CacheKey { workspace: WorkspaceIndex(0), version: route.version, resource: route.resource.clone() };
    let sent = key.path_and_query();
    assert!(sent.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{sent}");
    let uri: Uri = sent.parse().expect("a target");
    assert_eq!(uri.path_and_query().map(|own| own.as_str()), Some(sent.as_str()));
    let (_, again) = find(&Method::GET, uri.path(), uri.query(), rules);
    assert_eq!(again, Ok(route));
}
