//! The one type that an API key lives in.
//!
//! It knows neither files nor workspaces. It promises that a key cannot be printed, logged or serialized by accident
//! (no `Display`, no `Serialize`, no `Clone`; `Debug` says `[redacted]`), and that its own buffer is wiped when it is
//! dropped. Copies inside hyper, rustls and the parser of the configuration cannot be wiped.

use std::fmt;

use http::HeaderValue;
use memchr::memmem;
use ring::digest;
use zeroize::Zeroizing;

/// An API key of the vendor: 1 to 4096 bytes of visible ASCII (0x21 to 0x7e), which is what fits into a header field
/// unambiguously (RFC 9110 §5.5, without the white space).
pub struct ApiKey(Zeroizing<Vec<u8>>);

impl ApiKey {
    /// The longest key that is accepted, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Shorter keys are not searched for in answers: they would match everything, and so refuse everything. No vendor
    /// hands out a key of five bytes; the sandbox may.
    pub const MIN_SEARCHED: usize = 6;

    /// Reads a key; white space around it is not part of it.
    ///
    /// # Errors
    /// [`InvalidKey`] where what is left is empty, too long, or holds anything but visible ASCII.
    pub fn parse(raw: &[u8]) -> Result<Self, InvalidKey> {
        let key = raw.trim_ascii();
        if key.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if key.len() > Self::MAX_LEN {
            return Err(InvalidKey::TooLong);
        }
        if !key.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidKey::Character);
        }
        Ok(Self(Zeroizing::new(key.to_vec())))
    }

    /// The value of the `x-api-key` field, marked sensitive: hpack does not index it, and its `Debug` hides it.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        // Visible ASCII is a field value, so this cannot fail; the empty value stands for the impossible.
        let mut value = HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }

    /// How many bytes have to be there for the key to stand among them; `usize::MAX` where it is not searched for.
    pub(super) fn searched_from(&self) -> usize {
        if self.0.len() < Self::MIN_SEARCHED { usize::MAX } else { self.0.len() }
    }

    /// Whether the key stands somewhere in `bytes`. Keys below [`Self::MIN_SEARCHED`] never do.
    #[must_use]
    pub fn occurs_in(&self, bytes: &[u8]) -> bool {
        // The length first: most of what is looked at are the few bytes of a field.
        let fits = self.0.len() >= Self::MIN_SEARCHED && bytes.len() >= self.0.len();
        fits && memmem::find(bytes, &self.0).is_some()
    }

    /// The same for a body that may be JSON, where a string can spell the key in escapes (RFC 8259 §7): `\/` for a
    /// slash is common, `\u0061` for a letter is allowed.
    #[must_use]
    pub fn occurs_in_json(&self, body: &[u8]) -> bool {
        self.occurs_in(body)
            || (memchr::memchr(b'\\', body).is_some() && self.occurs_in(&without_escapes(body)))
    }

    /// What stands for the key where others can read it: half of a SHA-256 over what it is for and the key. Whoever
    /// guesses the key can tell that the guess was right, and nothing else.
    #[must_use]
    pub fn digest(&self, purpose: &[u8]) -> [u8; 16] {
        let mut context = digest::Context::new(&digest::SHA256);
        // The length keeps purposes apart of which one begins as the other.
        context.update(&(purpose.len() as u64).to_be_bytes());
        context.update(purpose);
        context.update(&self.0);
        let mut half = [0; 16];
        half.copy_from_slice(&context.finish().as_ref()[..16]);
        half
    }

    /// Whether both are one key. Answers "did the file change"; no caller can time it, so it is not constant-time.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A body with the escapes undone that can stand for visible ASCII; any other is left as it is.
fn without_escapes(body: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut rest = body;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        plain.extend_from_slice(before);
        let (byte, length) = match escape {
            [_, b'u', digits @ ..] => match digits.get(..4).and_then(hex) {
                Some(byte) => (byte, 6),
                None => (b'\\', 1),
            },
            [_, escaped @ (b'/' | b'"' | b'\\'), ..] => (*escaped, 2),
            _ => (b'\\', 1),
        };
        plain.push(byte);
        rest = &escape[length..];
    }
    plain.extend_from_slice(rest);
    plain
}

/// The ASCII byte that four hex digits stand for.
fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(digits, 16).ok().and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii)
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.same(other)
    }
}

impl Eq for ApiKey {}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([redacted])")
    }
}

/// Why bytes are no key. Says nothing of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKey {
    /// Nothing, or only white space.
    Empty,
    /// Over [`ApiKey::MAX_LEN`] bytes.
    TooLong,
    /// A control character, a space inside, or a byte beyond ASCII.
    Character,
}

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::TooLong => "over 4096 bytes",
            Self::Character => "a control character, a space or a byte beyond ASCII inside",
        })
    }
}

impl std::error::Error for InvalidKey {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(raw: &str) -> ApiKey {
        ApiKey::parse(raw.as_bytes()).expect("a key")
    }

    #[test]
    fn a_key_is_found_however_json_spells_it() {
        let key = key("can/ary\\0071");
        for body in [
            r#"{"a":"can/ary\\0071"}"#,
            r#"{"a":"can\/ary\\0071"}"#,
            r#"{"a":"\u0063\u0061\u006e\u002Fary\u005c0071"}"#,
            r#"{"b":"\n","a":"xcan\/ar\u0079\\0071x"}"#,
            r"can/ary\0071",
        ] {
            assert!(key.occurs_in_json(body.as_bytes()), "{body}");
        }
        for body in [r#"{"a":"can\u012fary"}"#, r"\", r"\u", r"\u00", r"\u00zz\u0063", r#"{"a":"can/ary"}"#] {
            assert!(!key.occurs_in_json(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn a_key_cannot_be_printed() {
        let key = key("canary-0071e5");
        assert_eq!(format!("{key:?}"), "ApiKey([redacted])");
        assert!(key.header_value().is_sensitive());
        assert!(!format!("{:?}", key.header_value()).contains("canary"));
        assert_eq!(key.header_value().as_bytes(), b"canary-0071e5");
    }

    #[test]
    fn a_digest_tells_keys_and_purposes_apart() {
        let digest = |raw: &str, purpose: &str| key(raw).digest(purpose.as_bytes());
        assert_eq!(digest("0071e5", "a"), digest("0071e5\n", "a"));
        let all = [("0071e5", "a"), ("0071e6", "a"), ("0071e5", "b"), ("a0071e5", ""), ("071e5", "a0")];
        let all = all.map(|(raw, purpose)| digest(raw, purpose));
        assert_eq!(std::collections::BTreeSet::from(all).len(), 5);
    }

    #[test]
    fn a_key_is_visible_ascii_with_white_space_around_it_ignored() {
        for raw in ["0071e5", "0071e5\n", "0071e5\r\n", "  0071e5\t\n", "\n0071e5\n\n"] {
            assert!(key(raw).same(&key("0071e5")), "{raw:?}");
        }
        assert!(ApiKey::parse("k".repeat(4096).as_bytes()).is_ok());
        let table: [(&[u8], InvalidKey); 8] = [
            (b"", InvalidKey::Empty),
            (b" \r\n", InvalidKey::Empty),
            (b"a b", InvalidKey::Character),
            (b"a\nb", InvalidKey::Character),
            (b"a\r\nx-evil: 1", InvalidKey::Character),
            (b"a\0", InvalidKey::Character),
            ("schlüssel".as_bytes(), InvalidKey::Character),
            (&[b'k'; 4097], InvalidKey::TooLong),
        ];
        for (raw, why) in table {
            assert_eq!(ApiKey::parse(raw).err(), Some(why), "{raw:?}");
        }
    }

    #[test]
    fn short_keys_are_never_searched_for() {
        assert!(key("secret").occurs_in(b"{\"echo\":\"secret\"}"));
        assert!(!key("secret").occurs_in(b"{\"echo\":\"secre\"}"));
        assert!(!key("statu").occurs_in(b"{\"status\":\"completed\"}"));
    }

    proptest! {
        #[test]
        fn any_bytes_that_are_a_key_are_a_field_value(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(key) = ApiKey::parse(&raw) {
                let value = key.header_value();
                prop_assert_eq!(value.as_bytes(), raw.trim_ascii());
            }
        }
    }
}
