//! Why Redis is gone, in the words of the log.
//!
//! Short and from a fixed list, but for the code word of an answer of Redis's: what the client or the server says in
//! full might hold names, arguments or the user.

use std::{borrow::Cow, fmt, io};

use redis::{ErrorKind, RedisError};

/// Why there is no relying on Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nobody listens there.
    Refused,
    /// There is no such socket file.
    NoSocket,
    /// The host's name has no address.
    NoAddress,
    /// Another failure to open a connection, by the system's word.
    Unreachable(io::ErrorKind),
    /// The certificate is not trusted.
    Certificate,
    /// There is no TLS to be had.
    Tls,
    /// User or password are not accepted.
    Authentication,
    /// It does not speak RESP3: older than Redis 6.
    TooOld,
    /// The connection ended.
    Closed,
    /// It does not answer within the limits.
    NoAnswer,
    /// It answers with an error, by its code word.
    Answers(Cow<'static, str>),
    /// It answers what cannot be read.
    Unreadable,
}

impl Reason {
    /// Of a stream that could not be opened.
    pub(super) fn connecting(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(rustls::Error::InvalidCertificate(_)), _) => Self::Certificate,
            (Some(_), _) => Self::Tls,
            (None, io::ErrorKind::ConnectionRefused) => Self::Refused,
            (None, io::ErrorKind::NotFound) => Self::NoSocket,
            (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Self::Closed,
            (None, kind) => Self::Unreachable(kind),
        }
    }

    /// Of a command that failed.
    pub(super) fn of(error: &RedisError) -> Self {
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => Self::Authentication,
            (ErrorKind::RESP3NotSupported, _) | (_, Some("NOPROTO")) => Self::TooOld,
            (_, Some(code)) => Self::Answers(code_word(code)),
            (ErrorKind::Io, None) => Self::Closed,
            (_, None) => Self::Unreadable,
        }
    }

    /// Whether Redis answered, if not what was hoped for. Where the connection ended with that, it says so itself.
    pub(super) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Authentication | Self::TooOld | Self::Answers(_) | Self::Unreadable)
    }
}

/// The first word of an error of Redis's, if it looks like one: a script may say anything there.
fn code_word(code: &str) -> Cow<'static, str> {
    let sound = (1..=24).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    if sound { code.to_owned().into() } else { "an error".into() }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::NoSocket => "no such socket",
            Self::NoAddress => "address not found",
            Self::Unreachable(kind) => return write!(f, "{kind}"),
            Self::Certificate => "certificate not trusted",
            Self::Tls => "tls failed",
            Self::Authentication => "authentication refused",
            Self::TooOld => "older than redis 6",
            Self::Closed => "connection closed",
            Self::NoAnswer => "no answer in time",
            Self::Answers(code) => return write!(f, "it answers {code}"),
            Self::Unreadable => "an answer that cannot be read",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_word_of_ours_or_a_code_of_redis() {
        let server = |code: &str| redis::make_extension_error(code.into(), Some("canary of details".into()));
        let table = [
            (Reason::of(&server("WRONGPASS")), "authentication refused"),
            (Reason::of(&server("NOAUTH")), "authentication refused"),
            (Reason::of(&server("NOPROTO")), "older than redis 6"),
            (Reason::of(&server("OOM")), "it answers OOM"),
            (Reason::of(&server("user_script:1")), "it answers an error"),
            (Reason::of(&(ErrorKind::Io, "canary").into()), "connection closed"),
            (Reason::of(&(ErrorKind::Parse, "canary").into()), "an answer that cannot be read"),
            (Reason::connecting(&io::ErrorKind::ConnectionRefused.into()), "connection refused"),
            (Reason::connecting(&io::ErrorKind::NotFound.into()), "no such socket"),
            (Reason::connecting(&io::ErrorKind::HostUnreachable.into()), "host unreachable"),
            (Reason::connecting(&io::Error::other(rustls::Error::DecryptError)), "tls failed"),
        ];
        for (reason, said) in table {
            assert_eq!(reason.to_string(), said);
        }
    }
}
