//! Takes a field apart that is a list (RFC 9110 §5.6.1). Pure, and without an allocation.

/// The elements of a list, without the white space around them. A comma within a quoted string parts nothing, and a
/// quoted string without an end goes on to that of the field.
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest.take()?;
        let end = comma(list);
        rest = list.get(end + 1..);
        list.get(..end).map(<[u8]>::trim_ascii)
    })
}

/// Where the first element ends.
fn comma(list: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_within_quotes_parts_nothing() {
        let table: &[(&str, &[&str])] = &[
            ("", &[""]),
            (" a ", &["a"]),
            ("a, b ,,c", &["a", "b", "", "c"]),
            (r#"a="b, c", d"#, &[r#"a="b, c""#, "d"]),
            (r#"a="b\", c", d"#, &[r#"a="b\", c""#, "d"]),
            (r"a\, b", &[r"a\", "b"]),
            (r#"a="b, c"#, &[r#"a="b, c"#]),
        ];
        for (list, expected) in table {
            let found: Vec<_> = elements(list.as_bytes()).collect();
            let expected: Vec<_> = expected.iter().map(|element| element.as_bytes()).collect();
            assert_eq!(found, expected, "{list}");
        }
    }
}
