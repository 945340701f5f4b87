//! A first look over a body: does it nest too deep, and which of its strings need not be parsed.
//!
//! What decides about a record stands at its top, or one object below; a transcript stands deeper, and is most of a large
//! body. Its strings are found by their quotes, many bytes at a time, where a parser goes by the byte.
//!
//! Promises: what comes out is JSON exactly if the body is, and reads the same as far as [`TOP`] brackets deep. Linear,
//! and without recursion.

use std::borrow::Cow;

/// As deep as anything that counts: a record, in an object that wraps it.
const TOP: usize = 2;

/// Shorter strings cost as much to leave out as to parse.
const LONG: usize = 32;

/// A body without the text of long strings that do not count; `None` where arrays and objects nest deeper than `limit`
/// anywhere.
pub(super) fn condensed(body: &str, limit: usize) -> Option<Cow<'_, str>> {
    let bytes = body.as_bytes();
    let mut short = String::new();
    let (mut depth, mut at, mut copied) = (0usize, 0, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return None;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                let text = at;
                let escaped = close(bytes, &mut at);
                let end = at - 1;
                if depth > TOP && !escaped && end >= text + LONG && is_plain(bytes.get(text..end)?) {
                    short.push_str(body.get(copied..text)?);
                    copied = end;
                }
            }
            _ => {}
        }
    }
    if copied == 0 {
        return Some(Cow::Borrowed(body));
    }
    short.push_str(body.get(copied..)?);
    Some(Cow::Owned(short))
}

/// Goes on behind the end of a string, and says whether it has escapes, or no end. An escaped byte is stepped over,
/// whatever it is.
fn close(bytes: &[u8], at: &mut usize) -> bool {
    let mut escaped = false;
    while let Some(found) = bytes.get(*at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        let quote = bytes.get(*at + found) == Some(&b'"');
        *at += found + if quote { 1 } else { 2 };
        if quote {
            return escaped;
        }
        escaped = true;
    }
    *at = bytes.len();
    true
}

/// Whether it may stand in a string as it is: control characters may not (RFC 8259 §7). Without a branch, so that many
/// bytes are looked at together.
fn is_plain(text: &[u8]) -> bool {
    !text.iter().fold(false, |control, byte| control | (*byte < 0x20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_plain_strings_below_what_counts_are_left_out() {
        let long = "w".repeat(LONG);
        let check = |body: &str, expected: &str| {
            assert_eq!(condensed(body, 9).as_deref(), Some(expected), "{body}");
        };
        let deep = |text: &str| format!(r#"{{"a":"{long}","t":[{{"text":"{text}","é":1}}],"b":["{long}"]}}"#);
        check(&deep(&long), &deep(""));
        check(&deep(&format!("{long}é")), &deep(""));
        for text in ["short", &format!("{long}\\n"), &format!("{long}\n"), &format!("\\\"{long}")] {
            check(&deep(text), &deep(text));
        }
        // What has no end stays as it is, to be refused.
        check(&format!(r#"[[["{long}"#), &format!(r#"[[["{long}"#));
        check(&format!(r#"[[["{long}\"#), &format!(r#"[[["{long}\"#));
        check(&format!(r#"[[["{long}","{long}]]]"#), &format!(r#"[[["","{long}]]]"#));
        check("", "");
    }
}
