//! The status page, and the JSON that it polls.
//!
//! - `GET /`: one HTML file without anything from elsewhere, with the numbers of the moment in it.
//! - `GET /status`: these numbers.
//!
//! The page may run the one script and wear the one style that it came with, by their hashes, and talk to this origin
//! alone; nobody may frame it. What stands in the numbers came from callers in part, so nothing in them can end the
//! element that they lie in, and the script shows them as text.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, Response, StatusCode, header};
use ring::digest;

use bytes::Bytes;

use super::{JSON, Parts, READ, Refused, body, status::Status, without_query};

const HTML: &str = "text/html; charset=utf-8";

/// The page, and where in it the numbers belong.
const PAGE: &str = include_str!("page.html");
const NUMBERS: &str = "{{status}}";

/// What the page may do. Made once: the file does not change.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (style, script) = (hash(inside("<style>", "</style>")), hash(inside("<script>", "</script>")));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Answers for the page; `None` where the path is not its own.
pub(super) async fn answer(parts: &Parts, request: &Request<()>) -> Option<Result<Response<Bytes>, Refused>> {
    let path = request.uri().path();
    if !matches!(path, "/" | "/status") {
        return None;
    }
    if let Err(refused) = READ.check(request.method()) {
        return Some(Err(refused));
    }
    if path == "/status"
        && let Err(refused) = without_query(request)
    {
        return Some(Err(refused));
    }
    let numbers = Status::read(parts).await.json();
    Some(Ok(if path == "/" { page(&numbers) } else { body(StatusCode::OK, JSON, numbers) }))
}

fn page(numbers: &str) -> Response<Bytes> {
    let page = PAGE.replacen(NUMBERS, &inert(numbers), 1);
    let mut response = body(StatusCode::OK, HTML, page);
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// JSON in which nothing is markup: what would be is written as its number, which means the same.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// What stands between two tags of the page, the first of their kind.
fn inside(open: &str, close: &str) -> &'static str {
    let after = PAGE.split_once(open).map_or("", |(_, after)| after);
    after.split_once(close).map_or("", |(inside, _)| inside)
}

fn hash(text: &str) -> String {
    let mut letters = [0; 44];
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    // 32 bytes are 44 letters, always.
    let length = STANDARD.encode_slice(digest, &mut letters).unwrap_or(0);
    String::from_utf8_lossy(letters.get(..length).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_style_one_script_one_place_for_numbers_and_nothing_from_elsewhere() {
        for once in ["<style>", "</style>", "<script>", NUMBERS, "<script type=\"application/json\""] {
            assert_eq!(PAGE.matches(once).count(), 1, "{once}");
        }
        assert_eq!(PAGE.matches("<script").count(), 2);
        let page = PAGE.replace("http://www.w3.org/2000/svg", "").replace("url(#", "");
        for never in [
            "http:",
            "https:",
            " src=",
            "@import",
            "url(",
            "innerHTML",
            "insertAdjacent",
            "eval(",
            " style=",
            " onclick",
        ] {
            assert!(!page.contains(never), "{never}");
        }
    }

    #[test]
    fn nothing_in_the_numbers_is_markup() {
        let hostile = r#"{"agent":"</script><!--&"}"#;
        let written = inert(hostile);
        assert!(!written.contains(['<', '>', '&']));
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("json");
        assert_eq!(read(&written), read(hostile));
    }
}
