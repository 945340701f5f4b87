//! Addresses to listen on, and host names, as text both ways.
//!
//! Pure. It knows the forms, not which address is wise: that is [`super::check`].

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::downstream::{AllowedHosts, BindAddress};

/// The longest path of a Unix socket: `sun_path` has 108 bytes on Linux, the last of them zero.
const MAX_SOCKET_PATH: usize = 107;

/// Which element is wrong, and what is wrong with it.
type ListFault = (Option<usize>, &'static str);

/// Reads addresses; at least one.
pub(super) fn addresses(texts: &[&str]) -> Result<Vec<BindAddress>, ListFault> {
    if texts.is_empty() {
        return Err((None, "empty"));
    }
    let each = texts.iter().enumerate();
    each.map(|(at, text)| address(text).map_err(|wrong| (Some(at), wrong))).collect()
}

fn address(text: &str) -> Result<BindAddress, &'static str> {
    let Some(path) = text.strip_prefix("unix:") else {
        return text.parse().map(BindAddress::Tcp).map_err(|_| "not an address");
    };
    match () {
        () if !path.starts_with('/') => Err("not an absolute path"),
        () if path.len() > MAX_SOCKET_PATH => Err("a path longer than the 107 bytes of a socket"),
        () if path.contains('\0') || path.ends_with('/') => Err("not the path of a file"),
        () => Ok(BindAddress::Unix(PathBuf::from(path))),
    }
}

/// Writes an address.
pub(super) fn render(address: &BindAddress) -> String {
    match address {
        BindAddress::Tcp(address) => address.to_string(),
        BindAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Whether only this machine reaches the address; an IPv4 address in IPv6 clothes is looked at undressed.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Reads host names: lower-cased, without port; or `*`, alone.
pub(super) fn hosts(texts: &[&str]) -> Result<AllowedHosts, ListFault> {
    if texts == ["*"] {
        return Ok(AllowedHosts::Any);
    }
    let mut names: Vec<String> = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        if *text == "*" {
            return Err((Some(at), "\"*\" beside others"));
        }
        if !is_host(text) {
            return Err((Some(at), "not a host name"));
        }
        let name = text.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(AllowedHosts::Names(names))
}

/// Whether it is an IP address, or a name of labels of letters, digits, `-` and `_`.
fn is_host(text: &str) -> bool {
    let in_label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(in_label);
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_address_and_port_or_an_absolute_path() {
        for text in ["127.0.0.1:8080", "[::1]:8080", "0.0.0.0:0", "unix:/run/callgate.sock"] {
            assert_eq!(address(text).as_ref().map(render), Ok(text.to_owned()));
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for text in [
            "",
            "8080",
            ":8080",
            "127.0.0.1",
            "localhost:8080",
            "127.0.0.1:65536",
            "::1:8080",
            "unix:",
            "unix:run/x",
            "unix:/run/",
            "unix:/a\0b",
            "/run/callgate.sock",
            "http://127.0.0.1:8080",
            &long,
        ] {
            assert!(address(text).is_err(), "{text:?}");
        }
        assert_eq!(addresses(&[]), Err((None, "empty")));
        assert_eq!(addresses(&["127.0.0.1:1", "x"]), Err((Some(1), "not an address")));
    }

    #[test]
    fn an_ipv4_loopback_is_one_in_ipv6_too() {
        for (text, loopback) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            assert_eq!(is_loopback(text.parse().expect("an address")), loopback, "{text}");
        }
    }

    #[test]
    fn host_names_have_neither_port_nor_pattern() {
        let names = |texts: &[&str]| hosts(texts);
        assert_eq!(names(&["*"]), Ok(AllowedHosts::Any));
        assert_eq!(names(&[]), Ok(AllowedHosts::Names(Vec::new())));
        let lower = AllowedHosts::Names(vec!["calls.internal".to_owned(), "10.0.0.7".to_owned()]);
        assert_eq!(names(&["Calls.Internal", "calls.internal", "10.0.0.7"]), Ok(lower));
        for bad in
            ["", "calls.internal:8080", "*.internal", "calls.", ".calls", "a b", "a/b", "http://a", "ü"]
        {
            assert_eq!(names(&["fine", bad]), Err((Some(1), "not a host name")), "{bad:?}");
        }
        assert_eq!(names(&["a", "*"]), Err((Some(1), "\"*\" beside others")));
    }
}
