//! Every row of the guard, as a request and what becomes of it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use http_body_util::{Empty, Full};
use proptest::prelude::*;

use super::*;

/// A request to be judged: what is left out is as an ordinary caller sends it.
struct Row {
    target: &'static str,
    version: Version,
    fields: Vec<(&'static str, String)>,
    hosts: AllowedHosts,
    over_unix: bool,
}

/// A request with these fields, and no other.
fn row<const N: usize>(fields: [(&'static str, &str); N]) -> Row {
    Row {
        target: "/calls/abc",
        version: Version::HTTP_11,
        fields: fields.map(|(name, value)| (name, value.to_owned())).into(),
        hosts: AllowedHosts::Names(vec!["gate.example".into()]),
        over_unix: false,
    }
}

impl Row {
    fn target(mut self, target: &'static str) -> Self {
        self.target = target;
        self
    }

    fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::builder().uri(self.target).version(self.version);
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        request.body(body).expect("a request")
    }

    fn judge(&self) -> Option<ErrorCode> {
        let request = self.request(Empty::<Bytes>::new());
        check(&request, &Fields::read(request.headers()), &self.hosts, self.over_unix)
            .err()
            .map(|refusal| refusal.code)
    }
}

#[track_caller]
fn expect(table: impl IntoIterator<Item = (Row, Option<ErrorCode>)>) {
    for (row, expected) in table {
        assert_eq!(row.judge(), expected, "{} {:?} {:?}", row.target, row.version, row.fields);
    }
}

const LOCAL: (&str, &str) = ("host", "localhost:8080");

#[test]
fn a_request_with_a_body_is_refused_however_it_says_so() {
    let refused = Some(ErrorCode::UnexpectedBody);
    expect([
        (row([LOCAL]), None),
        (row([LOCAL, ("content-length", "0")]), None),
        (row([LOCAL, ("content-length", "5")]), refused),
        (row([LOCAL, ("content-length", "00")]), refused),
        (row([LOCAL, ("content-length", "+0")]), refused),
        (row([LOCAL, ("content-length", "0, 0")]), refused),
        (row([LOCAL, ("content-length", "")]), refused),
        (row([LOCAL, ("content-length", "0"), ("content-length", "0")]), refused),
        (row([LOCAL, ("transfer-encoding", "chunked")]), refused),
        (row([LOCAL, ("transfer-encoding", "identity")]), refused),
        (row([LOCAL, ("content-length", "0"), ("transfer-encoding", "chunked")]), refused),
        // Neither asks for more than an answer.
        (row([LOCAL, ("upgrade", "h2c"), ("connection", "upgrade")]), None),
        (row([LOCAL, ("expect", "100-continue")]), None),
        (row([LOCAL, ("te", "trailers")]), None),
    ]);
    // HTTP/2 announces a body by not ending the stream.
    let row = row([LOCAL]).version(Version::HTTP_2);
    let request = row.request(Full::new(Bytes::from_static(b"x")));
    assert_eq!(
        check(&request, &Fields::read(request.headers()), &row.hosts, false).map_err(|refusal| refusal.code),
        Err(ErrorCode::UnexpectedBody)
    );
}

#[test]
fn the_host_is_given_once_and_well_formed() {
    let invalid = Some(ErrorCode::InvalidHost);
    expect([
        (row([]), invalid),
        (row([]).version(Version::HTTP_10), None),
        (row([("host", "localhost"), ("host", "localhost")]), invalid),
        (row([("host", "")]), invalid),
        (row([("host", "local host")]), invalid),
        (row([("host", "user@localhost")]), invalid),
        (row([("host", "localhost:99999")]), invalid),
        (row([("host", "http://localhost")]), invalid),
        (row([("host", "")]).version(Version::HTTP_10), invalid),
    ]);
}

#[test]
fn only_local_names_addresses_and_listed_names_are_served() {
    let misdirected = Some(ErrorCode::MisdirectedRequest);
    expect([
        (row([("host", "localhost")]), None),
        (row([("host", "LocalHost.:8080")]), None),
        (row([("host", "127.0.0.1:8080")]), None),
        (row([("host", "192.168.1.9")]), None),
        (row([("host", "[::1]:8080")]), None),
        (row([("host", "gate.example")]), None),
        (row([("host", "GATE.example.:1234")]), None),
        (row([("host", "evil.example")]), misdirected),
        (row([("host", "evil.example")]).version(Version::HTTP_10), misdirected),
        (row([("host", "localhost.evil.example")]), misdirected),
        (row([("host", "gate.example.evil")]), misdirected),
        (row([("host", "localhost..")]), misdirected),
        (row([("host", "127.1")]), misdirected),
        (row([("host", "2130706433")]), misdirected),
        (row([("host", "localhost,evil.example")]), misdirected),
        (row([("host", "%6cocalhost")]), misdirected),
        (Row { hosts: AllowedHosts::Any, ..row([("host", "evil.example")]) }, None),
        (Row { hosts: AllowedHosts::Any, ..row([("host", "evil example")]) }, Some(ErrorCode::InvalidHost)),
        (Row { over_unix: true, ..row([("host", "whatever")]) }, None),
        (Row { over_unix: true, ..row([("host", "%2Frun%2Fgate.sock")]) }, None),
        (Row { over_unix: true, ..row([("host", "")]) }, Some(ErrorCode::InvalidHost)),
        (Row { over_unix: true, ..row([]) }, Some(ErrorCode::InvalidHost)),
    ]);
}

#[test]
fn a_target_with_an_authority_names_the_same_host() {
    let invalid = Some(ErrorCode::InvalidHost);
    let http2 = Version::HTTP_2;
    expect([
        (row([LOCAL]).target("http://localhost:8080/calls/abc"), None),
        (row([LOCAL]).target("HTTP://LOCALHOST:8080/calls/abc"), None),
        (row([("host", "localhost")]).target("http://localhost:80/"), None),
        (row([("host", "localhost")]).target("https://localhost:443/"), None),
        (row([LOCAL]).target("http://evil.example/"), invalid),
        (row([LOCAL]).target("http://localhost:9090/"), invalid),
        (row([LOCAL]).target("http://user@localhost:8080/"), invalid),
        (row([("host", "evil.example")]).target("http://evil.example/"), Some(ErrorCode::MisdirectedRequest)),
        (row([LOCAL]).target("ftp://localhost:8080/"), Some(ErrorCode::InvalidRequest)),
        (row([]).target("http://localhost/"), invalid),
        (row([]).target("http://localhost/").version(Version::HTTP_10), None),
        (
            row([]).target("http://evil.example/").version(Version::HTTP_10),
            Some(ErrorCode::MisdirectedRequest),
        ),
        // Where a tunnel should lead is for routing to refuse.
        (row([LOCAL]).target("evil.example:443"), None),
        (row([LOCAL]).target("*"), None),
        (row([]).target("http://localhost:8080/").version(http2), None),
        (row([LOCAL]).target("http://localhost:8080/").version(http2), None),
        (row([LOCAL]).target("http://localhost:9090/").version(http2), invalid),
        (row([LOCAL]).target("/").version(http2), None),
        (row([]).target("/").version(http2), invalid),
        (row([]).target("http://evil.example/").version(http2), Some(ErrorCode::MisdirectedRequest)),
        (row([]).target("evil.example:443").version(http2), Some(ErrorCode::MisdirectedRequest)),
    ]);
}

#[test]
fn a_web_page_of_another_origin_is_refused() {
    let cross = Some(ErrorCode::CrossSiteRequest);
    let origin = |host, origin| row([("host", host), ("origin", origin)]);
    let site = |site| row([LOCAL, ("sec-fetch-site", site)]);
    expect([
        (origin("localhost:8080", "http://localhost:8080"), None),
        (origin("localhost:8080", "HTTP://LOCALHOST:8080"), None),
        (origin("localhost", "http://localhost"), None),
        (origin("localhost", "https://localhost"), None),
        (origin("localhost:80", "http://localhost"), None),
        (origin("localhost", "http://localhost:80"), None),
        (origin("localhost:443", "https://localhost"), None),
        (origin("[::1]:9090", "http://[0::1]:9090"), None),
        (origin("localhost:443", "http://localhost"), cross),
        (origin("localhost:8080", "http://localhost"), cross),
        (origin("localhost:8080", "http://localhost:9090"), cross),
        (origin("localhost:8080", "http://127.0.0.1:8080"), cross),
        (origin("localhost:8080", "http://evil.example"), cross),
        (origin("localhost:8080", "null"), cross),
        (origin("localhost:8080", ""), cross),
        (origin("localhost:8080", "localhost:8080"), cross),
        (origin("localhost:8080", "http://localhost:8080/"), cross),
        (origin("localhost:8080", "http://user@localhost:8080"), cross),
        (origin("localhost:8080", "http://localhost:8080 http://evil.example"), cross),
        (origin("localhost:8080", "chrome-extension://localhost:8080"), cross),
        (origin("localhost:8080", "://localhost:8080"), cross),
        (row([LOCAL, ("origin", "http://localhost:8080"), ("origin", "http://localhost:8080")]), cross),
        (row([("origin", "http://localhost")]).version(Version::HTTP_10), cross),
        (Row { over_unix: true, ..origin("localhost", "http://evil.example") }, cross),
        (Row { hosts: AllowedHosts::Any, ..origin("a.example", "http://b.example") }, cross),
        (site("same-origin"), None),
        (site("none"), None),
        (site("cross-site"), cross),
        (site("same-site"), cross),
        (site("Cross-Site"), cross),
        (site(" same-site"), cross),
        (row([LOCAL, ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")]), cross),
    ]);
}

#[test]
fn a_workspace_is_chosen_once() {
    expect([
        (row([LOCAL, ("x-workspace-id", "a")]), None),
        (row([LOCAL, ("x-workspace-id", "a"), ("x-workspace-id", "a")]), Some(ErrorCode::InvalidRequest)),
    ]);
}

/// A request whose head is as large as asked for.
fn sized(target: usize, fields: usize, value: usize) -> Result<(), ErrorCode> {
    let target = format!("/{}", "a".repeat(target - 1));
    let mut request = Request::builder().uri(target).header("host", "localhost");
    for _ in 1..fields {
        request = request.header("x", "a".repeat(value));
    }
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    check(&request, &Fields::read(request.headers()), &AllowedHosts::Any, false)
        .map_err(|refusal| refusal.code)
}

#[test]
fn a_head_is_limited_in_its_target_its_fields_and_all_in_all() {
    assert_eq!(sized(MAX_TARGET, 1, 0), Ok(()));
    assert_eq!(sized(MAX_TARGET + 1, 1, 0), Err(ErrorCode::TargetTooLong));
    assert_eq!(sized(1, MAX_FIELDS, 0), Ok(()));
    assert_eq!(sized(1, MAX_FIELDS + 1, 0), Err(ErrorCode::HeadTooLarge));
    let rest = MAX_HEAD - "/".len() - "hostlocalhost".len() - 4 - "x".len() - 4;
    assert_eq!(sized(1, 2, rest), Ok(()));
    assert_eq!(sized(1, 2, rest + 1), Err(ErrorCode::HeadTooLarge));
}

#[test]
fn what_is_most_dangerous_is_said_first() {
    let both = row([("host", "evil.example"), ("content-length", "5"), ("origin", "null")]);
    expect([
        (both, Some(ErrorCode::UnexpectedBody)),
        (row([("host", "evil.example"), ("origin", "null")]), Some(ErrorCode::MisdirectedRequest)),
    ]);
}

fn any_value() -> impl Strategy<Value = HeaderValue> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..24);
    let near = "(https?://)?(localhost|127\\.0\\.0\\.1|\\[::1\\])?(:[0-9]{0,6})?";
    prop_oneof![bytes, near.prop_map(String::into_bytes)]
        .prop_filter_map("a field value", |raw| HeaderValue::from_bytes(&raw).ok())
}

proptest! {
    #[test]
    fn no_head_is_too_much(
        fields in proptest::collection::vec(
            (
                prop_oneof!["host", "origin", "content-length", "transfer-encoding", "sec-fetch-site", "x-workspace-id"],
                any_value(),
            ),
            0..6,
        ),
        target in prop_oneof!["/[a-z%./]{0,8}", "(http|ftp)://[a-z@.:\\[\\]]{1,12}/", "[a-z.]{1,9}:[0-9]{1,5}", "\\*"],
        version in prop_oneof![Just(Version::HTTP_10), Just(Version::HTTP_11), Just(Version::HTTP_2)],
        connect in any::<bool>(),
    ) {
        let mut request = Request::new(Empty::<Bytes>::new());
        if let Ok(uri) = target.parse() {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = version;
        if connect {
            *request.method_mut() = Method::CONNECT;
        }
        for (name, value) in fields {
            request.headers_mut().append(HeaderName::try_from(name).expect("a name"), value);
        }
        let strict = check(&request, &Fields::read(request.headers()), &AllowedHosts::Names(Vec::new()), false);
        // Who is served under no name but local ones is served wherever more names are.
        if strict.is_ok() {
            prop_assert!(check(&request, &Fields::read(request.headers()), &AllowedHosts::Any, false).is_ok());
            prop_assert!(check(&request, &Fields::read(request.headers()), &AllowedHosts::Names(Vec::new()), true).is_ok());
        }
    }
}
