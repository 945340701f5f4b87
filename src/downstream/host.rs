//! Reads the `host[:port]` of a `Host` field, an `:authority`, an absolute-form target or an `Origin`.
//!
//! Pure, and without an allocation. The grammar is RFC 3986 §3.2, without userinfo and IPvFuture. Promises: what it
//! reads is one host and at most one port, whichever way somebody else would read the same bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A well-formed host and, where it was given, a port. An empty port (`localhost:`) is one that was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// The host.
    pub(super) host: Host<'a>,
    /// The port.
    pub(super) port: Option<u16>,
}

/// A host, as a literal or by name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host<'a> {
    /// Four decimal numbers, as browsers write it after normalization. Shorter, octal and hexadecimal forms are names.
    V4(Ipv4Addr),
    /// In brackets, without a zone.
    V6(Ipv6Addr),
    /// A registered name, never empty, without its one trailing dot.
    Name(&'a str),
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::V4(a), Self::V4(b)) => a == b,
            (Self::V6(a), Self::V6(b)) => a == b,
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V4(_) | Self::V6(_) | Self::Name(_), _) => false,
        }
    }
}

impl Eq for Host<'_> {}

impl<'a> Authority<'a> {
    /// Reads `host[:port]`; `None` where it is malformed.
    pub(super) fn parse(raw: &'a [u8]) -> Option<Self> {
        // What callers on the same machine write, which need not be taken apart byte by byte.
        if let Some(port) = raw.strip_prefix(b"127.0.0.1:") {
            return Some(Self { host: Host::V4(Ipv4Addr::LOCALHOST), port: parse_port(port)? });
        }
        let raw = std::str::from_utf8(raw).ok()?;
        if let Some(rest) = raw.strip_prefix('[') {
            let (literal, rest) = rest.split_once(']')?;
            let port = match rest.strip_prefix(':') {
                Some(port) => parse_port(port.as_bytes())?,
                None if rest.is_empty() => None,
                None => return None,
            };
            return Some(Self { host: Host::V6(literal.parse().ok()?), port });
        }
        let (host, port) = match raw.split_once(':') {
            Some((host, port)) => (host, parse_port(port.as_bytes())?),
            None => (raw, None),
        };
        Some(Self { host: Host::parse_unbracketed(host)?, port })
    }

    /// Whether both mean the same host and port, `default` being the port that goes without saying.
    pub(super) fn is_same(&self, other: &Authority<'_>, default: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

impl<'a> Host<'a> {
    fn parse_unbracketed(raw: &'a str) -> Option<Self> {
        // Names rarely begin with a digit, and addresses always do.
        if raw.as_bytes().first().is_some_and(u8::is_ascii_digit)
            && let Ok(address) = raw.parse()
        {
            return Some(Self::V4(address));
        }
        let name = raw.strip_suffix('.').unwrap_or(raw);
        (!name.is_empty() && is_reg_name(raw.as_bytes())).then_some(Self::Name(name))
    }
}

/// RFC 3986 §3.2.2: unreserved, sub-delims and percent-encoded octets.
fn is_reg_name(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            (b'-' | b'.' | b'_' | b'~', _) => after,
            (b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=', _) => after,
            (byte, _) if byte.is_ascii_alphanumeric() => after,
            _ => return false,
        };
    }
    true
}

/// `Some(None)` where it is empty, `None` where it is no port.
fn parse_port(raw: &[u8]) -> Option<Option<u16>> {
    if raw.is_empty() {
        return Some(None);
    }
    if raw.len() > 5 || !raw.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port = raw.iter().fold(0, |port: u32, digit| port * 10 + u32::from(digit & 0xf));
    u16::try_from(port).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str, port: Option<u16>) -> Option<Authority<'_>> {
        Some(Authority { host: Host::Name(name), port })
    }

    fn v4(address: [u8; 4], port: Option<u16>) -> Option<Authority<'static>> {
        Some(Authority { host: Host::V4(address.into()), port })
    }

    fn v6(address: &str, port: Option<u16>) -> Option<Authority<'static>> {
        Some(Authority { host: Host::V6(address.parse().expect("an address")), port })
    }

    #[test]
    fn an_authority_is_one_host_and_at_most_one_port() {
        let table = [
            ("localhost", name("localhost", None)),
            ("LOCALHOST:8080", name("localhost", Some(8080))),
            ("localhost.", name("localhost", None)),
            ("localhost:", name("localhost", None)),
            ("localhost:0", name("localhost", Some(0))),
            ("localhost:65535", name("localhost", Some(65535))),
            ("localhost:00080", name("localhost", Some(80))),
            ("a_b-c.d~e", name("a_b-c.d~e", None)),
            ("%2Frun%2Fgate.sock", name("%2Frun%2Fgate.sock", None)),
            ("127.0.0.1", v4([127, 0, 0, 1], None)),
            ("127.0.0.1:80", v4([127, 0, 0, 1], Some(80))),
            // No address in the one form that browsers end up with: a name, and so subject to the list.
            ("127.1", name("127.1", None)),
            ("0x7f.0.0.1", name("0x7f.0.0.1", None)),
            ("127.0.0.01", name("127.0.0.01", None)),
            ("2130706433", name("2130706433", None)),
            ("[::1]", v6("::1", None)),
            ("[::1]:9090", v6("::1", Some(9090))),
            ("[0:0:0:0:0:0:0:1]", v6("::1", None)),
            ("[::ffff:1.2.3.4]:", v6("::ffff:1.2.3.4", None)),
            ("", None),
            (".", None),
            (":80", None),
            ("localhost:65536", None),
            ("localhost:+80", None),
            ("localhost:-1", None),
            ("localhost:8a", None),
            ("localhost:000080", None),
            ("localhost:80:80", None),
            ("user@localhost", None),
            ("user:pw@localhost", None),
            ("local host", None),
            ("localhost,evil.example", name("localhost,evil.example", None)),
            ("localhost/", None),
            ("localhost?", None),
            ("localhost#", None),
            ("local\\host", None),
            ("a%2", None),
            ("a%zz", None),
            ("é", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[::1]80", None),
            ("[fe80::1%25eth0]", None),
            ("[v1.x]", None),
            ("[]", None),
            ("[127.0.0.1]", None),
        ];
        for (raw, expected) in table {
            assert_eq!(Authority::parse(raw.as_bytes()), expected, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Authority::parse(&raw);
        }

        #[test]
        fn whatever_is_read_has_no_delimiter_in_it(raw in "[a-z0-9.:@/?#%\\[\\]\\\\ ]{0,12}") {
            if let Some(Authority { host: Host::Name(name), .. }) = Authority::parse(raw.as_bytes()) {
                prop_assert!(!name.is_empty());
                prop_assert!(!name.contains(['@', ':', '/', '?', '#', '[', ']', '\\', ' ']));
            }
        }
    }
}
