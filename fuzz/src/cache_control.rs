//! A caller's `Cache-Control`, against a plain reading of the list that it is.

use callgate::{downstream::directives::read, lookup::Directives};
use http::{HeaderMap, HeaderValue, header};

/// The first byte says whether directives are obeyed, with `o`; each line behind it is a field, a `pragma` where it begins
/// with a number sign.
pub fn cache_control(bytes: &[u8]) {
    let Some((first, lines)) = bytes.split_first() else { return };
    let obey = *first == b'o';
    let mut headers = HeaderMap::new();
    let mut fields = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let (name, value) = match line.strip_prefix(b"#") {
            Some(value) => (header::PRAGMA, value),
            None => (header::CACHE_CONTROL, line),
        };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        fields.push((name.clone(), value.as_bytes().to_vec()));
        headers.append(name, value);
    }
    assert_eq!(read(&headers, obey), plainly(&fields, obey));
}

fn plainly(fields: &[(header::HeaderName, Vec<u8>)], obey: bool) -> Directives {
    let of = |name| fields.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_slice());
    let given: Vec<Vec<u8>> = of(header::CACHE_CONTROL).flat_map(elements).collect();
    let has = |directive: &str| given.iter().any(|one| *one == directive.as_bytes());
    let keep_nothing = obey && has("no-store");
    let anew = has("no-cache") || has("max-age=0") || has("max-age=\"0\"");
    let pragma = of(header::PRAGMA).next().is_some_and(|value| value.eq_ignore_ascii_case(b"no-cache"));
    let only_pragma = of(header::CACHE_CONTROL).next().is_none() && pragma;
    Directives {
        fetch_anew: keep_nothing || (obey && (anew || only_pragma)),
        keep_nothing,
        only_if_cached: has("only-if-cached"),
    }
}

/// The elements of a list in lower case, without white space around. A comma within a quoted string is none (RFC 9110
/// §5.6.1), and a quoted string without an end goes on to that of the field.
pub fn elements(field: &[u8]) -> Vec<Vec<u8>> {
    let (mut elements, mut quoted, mut escaped) = (vec![Vec::new()], false, false);
    for byte in field {
        if *byte == b',' && !quoted {
            elements.push(Vec::new());
            continue;
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        if let Some(last) = elements.last_mut() {
            last.push(byte.to_ascii_lowercase());
        }
    }
    elements.iter().map(|element| element.trim_ascii().to_vec()).collect()
}
