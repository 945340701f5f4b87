//! Who asks whom: the request id and the W3C trace context that a request carries through the gateway.
//!
//! Pure but for the random numbers of new ids. A caller's own values are taken over only where they are sane, since
//! they go into the log, into the answer and on to the vendor.

use http::{HeaderName, HeaderValue};

use crate::hex;

/// The field that carries the request id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The field of W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest request id that is taken over, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// The flag of a trace that is recorded (§3.2.2.5.1).
const SAMPLED: u8 = 1;

/// What identifies one request across services.
#[derive(Clone, Debug)]
pub struct Trace {
    /// `x-request-id`: the caller's where it is sane, else made here.
    pub request_id: HeaderValue,
    /// The caller's `traceparent`, unread.
    parent: Option<HeaderValue>,
    /// The parent id that the vendor is given, in every try of one fetch.
    sent: u64,
}

/// A trace that its caller samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The trace's id.
    pub trace: u128,
    /// The caller's span.
    pub parent: u64,
    /// The span of what is sent to the vendor.
    pub sent: u64,
}

impl Trace {
    /// Takes over the caller's ids, and makes what is missing. `parent` is its one `traceparent`: two are none (§3.2.1).
    #[must_use]
    pub fn continuing(request_id: Option<&HeaderValue>, parent: Option<&HeaderValue>) -> Self {
        let request_id = match request_id {
            Some(id) if is_sane(id) => id.clone(),
            Some(_) | None => new_request_id(),
        };
        Self { request_id, parent: parent.cloned(), sent: nonzero(fastrand::u64) }
    }

    /// A context of its own, for requests that no caller made.
    #[must_use]
    pub fn new() -> Self {
        Self { request_id: new_request_id(), parent: None, sent: nonzero(fastrand::u64) }
    }

    /// Gives the vendor another parent id from now on: for a further fetch of the same request.
    pub fn renew(&mut self) {
        self.sent = nonzero(fastrand::u64);
    }

    /// The `traceparent` to send on: the caller's trace with a new parent id, or a new trace that is not sampled
    /// (W3C Trace Context §3.2, level 1).
    #[must_use]
    pub fn traceparent(&self) -> Option<HeaderValue> {
        let (trace, flags) = match self.continued() {
            Some((trace, _, flags)) => (trace, flags),
            None => (nonzero(fastrand::u128), 0),
        };
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex::write(&mut text[3..], &trace.to_be_bytes());
        hex::write(&mut text[36..], &self.sent.to_be_bytes());
        hex::write(&mut text[53..], &[flags]);
        HeaderValue::from_bytes(&text).ok()
    }

    /// The trace, where the caller samples it: what has no parent is not sampled, for the gateway begins no traces.
    #[must_use]
    pub fn sampled(&self) -> Option<Sampled> {
        let (trace, parent, flags) = self.continued()?;
        (flags & SAMPLED != 0).then_some(Sampled { trace, parent, sent: self.sent })
    }

    fn continued(&self) -> Option<(u128, u64, u8)> {
        self.parent.as_ref().and_then(|parent| parent.to_str().ok()).and_then(read_traceparent)
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

fn is_sane(id: &HeaderValue) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len())
        && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn new_request_id() -> HeaderValue {
    let mut text = [0u8; 32];
    hex::write(&mut text, &fastrand::u128(..).to_le_bytes());
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// The all-zero ids are invalid.
fn nonzero<T: Default + PartialEq>(random: impl Fn(std::ops::RangeFull) -> T) -> T {
    loop {
        let id = random(..);
        if id != T::default() {
            return id;
        }
    }
}

/// Trace id, parent id and flags of a valid `traceparent`. Versions above 00 may have more behind the flags.
fn read_traceparent(value: &str) -> Option<(u128, u64, u8)> {
    let lower_hex = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = value.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sized = version.len() == 2 && trace.len() == 32 && parent.len() == 16 && flags.len() == 2;
    if !sized || ![version, trace, parent, flags].into_iter().all(lower_hex) || version == "ff" {
        return None;
    }
    if version == "00" && parts.next().is_some() {
        return None;
    }
    let (trace, parent) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(parent, 16).ok()?);
    // Of the flags only `sampled` is known; the others must not be passed on.
    let flags = u8::from_str_radix(flags, 16).ok()? & SAMPLED;
    (trace != 0 && parent != 0).then_some((trace, parent, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_id(id: &[u8]) -> Trace {
        Trace::continuing(Some(&HeaderValue::from_bytes(id).expect("a value")), None)
    }

    fn under(parent: &str) -> Trace {
        Trace::continuing(None, Some(&HeaderValue::from_str(parent).expect("a value")))
    }

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        for id in ["abc", "0f8fad5b-d9cb-469f-a165-70867728950e", "A.b_c-9", &"a".repeat(128)] {
            assert_eq!(with_id(id.as_bytes()).request_id, id);
        }
        for id in [&b""[..], b"a b", b"a\"b", b"\xff", b"a/b", b"a;b", &[b'a'; 129]] {
            let made = with_id(id).request_id;
            assert_ne!(made.as_bytes(), id);
            assert!(is_sane(&made) && made.len() == 32);
        }
        assert_ne!(Trace::new().request_id, Trace::new().request_id);
    }

    #[test]
    fn only_what_the_caller_samples_is_sampled() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        let of = |flags: &str| under(&format!("{PARENT}-{flags}"));
        let trace = of("01");
        let sampled = trace.sampled().expect("sampled");
        assert_eq!(
            (sampled.trace, sampled.parent),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)
        );
        let sent = trace.traceparent().expect("one");
        assert!(sent.to_str().expect("ascii").contains(&format!("-{:016x}-01", sampled.sent)));
        assert_eq!(trace.traceparent(), Some(sent), "every try has the same parent");
        assert_eq!(of("00").sampled(), None);
        assert_eq!(Trace::new().sampled(), None);
    }

    #[test]
    fn a_valid_trace_is_continued_under_a_new_parent() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let check = |value: &str| {
            let sent = under(value).traceparent();
            sent.expect("always one").to_str().expect("ascii").to_owned()
        };
        for (flags, passed) in [("00", "00"), ("01", "01"), ("ff", "01")] {
            let sent = check(&format!("00-{TRACE}-00f067aa0ba902b7-{flags}"));
            assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with(&format!("-{passed}")));
            assert!(!sent.contains("00f067aa0ba902b7"));
            assert_eq!(sent.len(), 55);
        }
        assert!(check(&format!("01-{TRACE}-00f067aa0ba902b7-01-more")).contains(TRACE));
        for bad in [
            "",
            "00",
            &format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            &format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            &format!("00-{TRACE}-00f067aa0ba902b7-+1"),
        ] {
            let sent = check(bad);
            assert!(!sent.contains(TRACE) && sent.ends_with("-00"), "{bad} gave {sent}");
        }
    }
}
