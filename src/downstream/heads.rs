//! Reads along what a caller sends, for what the HTTP parser does not tell of a head: hyper cuts a target at its `#`,
//! keeps one of several equal lengths, and drops a length beside a transfer coding.
//!
//! Knows of HTTP/1 where a head begins and ends, and nothing of bodies: the connection is over after one. What is
//! malformed otherwise is left to the parser. Pure, and without an allocation. Promises: however the bytes are cut into
//! pieces, the heads are counted as the parser counts its requests.

use memchr::{memchr, memchr2};

/// How a field begins that says how long a body is.
const LENGTH: &[u8] = b"content-length:";

/// How one begins that says how it is coded.
const CODING: &[u8] = b"transfer-encoding:";

/// So much of a line is kept over to the next piece: enough to tell whether it begins like one of these.
const KEPT: usize = CODING.len();

/// The heads on one connection.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Heads that have begun.
    begun: u64,
    at: At,
    /// The beginning of a field's line that is in several pieces.
    start: [u8; KEPT],
    kept: usize,
    /// Fields of the head under way that say how long its body is, and how it is coded.
    lengths: u32,
    codings: u32,
    /// See [`Self::read`].
    untold: Option<u64>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    /// Another head, and perhaps empty lines before it (RFC 9112 §2.2).
    #[default]
    Between,
    /// More of a request line, of its target or later where a space has come.
    Request { spaced: bool },
    /// A field, the rest of one, or the empty line at the end.
    Field,
}

impl Heads {
    /// Reads the next piece. The number, from 1 on, of the first head so far that says more than the parser tells of it:
    /// all that comes after it is not looked at.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<u64> {
        while !bytes.is_empty() && self.untold.is_none() {
            bytes = match self.at {
                At::Between => self.between(bytes),
                At::Request { spaced } => self.request(bytes, spaced),
                At::Field => self.field(bytes),
            };
        }
        self.untold
    }

    fn between<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let rest = &bytes[empty..];
        if !rest.is_empty() {
            self.begun += 1;
            self.at = At::Request { spaced: false };
        }
        rest
    }

    fn request<'a>(&mut self, bytes: &'a [u8], spaced: bool) -> &'a [u8] {
        let has_space = |line: &[u8]| spaced || line.contains(&b' ');
        let Some(at) = memchr2(b'\n', b'#', bytes) else {
            self.at = At::Request { spaced: has_space(bytes) };
            return &[];
        };
        let (before, rest) = (&bytes[..at], &bytes[at + 1..]);
        if bytes[at] == b'\n' {
            self.at = At::Field;
        } else if has_space(before) {
            self.untold = Some(self.begun);
        }
        // Before the first space it stands in the method, which may have one.
        rest
    }

    fn field<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (line, rest) = line(bytes);
        if self.kept == 0 && rest.is_some() {
            self.judge(line);
        } else {
            let more = line.len().min(KEPT - self.kept);
            self.start[self.kept..][..more].copy_from_slice(&line[..more]);
            self.kept += more;
            if rest.is_some() {
                let (start, kept) = (self.start, std::mem::take(&mut self.kept));
                self.judge(&start[..kept]);
            }
        }
        rest.unwrap_or_default()
    }

    /// Judges the line of a field by its beginning.
    fn judge(&mut self, line: &[u8]) {
        match line {
            [] | [b'\r'] => {
                (self.lengths, self.codings) = (0, 0);
                self.at = At::Between;
                return;
            }
            [b'c' | b'C', ..] if begins(line, LENGTH) => self.lengths += 1,
            [b't' | b'T', ..] if begins(line, CODING) => self.codings += 1,
            _ => return,
        }
        if self.lengths > 1 || (self.lengths > 0 && self.codings > 0) {
            self.untold = Some(self.begun);
        }
    }
}

/// The line that `bytes` begins with, without its end, and what follows that, where it is there.
fn line(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'\n', bytes) {
        Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
        None => (bytes, None),
    }
}

fn begins(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "GET /calls/a HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// The same whole, byte by byte and in two pieces wherever they are cut.
    #[track_caller]
    fn check(bytes: &str, expected: Option<u64>) {
        let read = |pieces: &[&[u8]]| {
            let mut heads = Heads::default();
            pieces.iter().fold(None, |_, piece| heads.read(piece))
        };
        let bytes = bytes.as_bytes();
        assert_eq!(read(&[bytes]), expected, "{:?}", String::from_utf8_lossy(bytes));
        assert_eq!(read(&bytes.chunks(1).collect::<Vec<_>>()), expected, "byte by byte");
        for at in 0..bytes.len() {
            assert_eq!(read(&[&bytes[..at], &bytes[at..]]), expected, "cut at {at}");
        }
    }

    #[test]
    fn a_target_with_a_fragment_says_more_than_the_parser_tells() {
        let table = [
            (PLAIN.to_owned(), None),
            ("GET /calls/a# HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), Some(1)),
            ("GET /calls/a#b HTTP/1.1\nhost: localhost\n\n".into(), Some(1)),
            ("GET /v1/api/call-history?search=a#b HTTP/1.1\r\n\r\n".into(), Some(1)),
            ("GET http://localhost/#b HTTP/1.1\r\n\r\n".into(), Some(1)),
            ("GE#T /calls/a HTTP/1.1\r\n\r\n".into(), None),
            ("GE#T /calls/a#b HTTP/1.1\r\n\r\n".into(), Some(1)),
            ("GET /calls/a HTTP/1.1\r\nx: a#b\r\n#x: 1\r\n\r\n".into(), None),
            ("\r\n\nGET /calls/a#b HTTP/1.1\r\n\r\n".into(), Some(1)),
            (format!("{PLAIN}{PLAIN}GET /calls/a#b HTTP/1.1\r\n"), Some(3)),
            (format!("{PLAIN}\r\n\r\n{PLAIN}{PLAIN}"), None),
        ];
        for (bytes, expected) in table {
            check(&bytes, expected);
        }
    }

    #[test]
    fn a_head_that_says_twice_how_long_its_body_is_says_more_than_the_parser_tells() {
        let table = [
            ("content-length: 0\r\n", None),
            ("content-length: 0\r\ncontent-length: 0\r\n", Some(2)),
            ("Content-Length:0\r\nx: y\r\nCONTENT-LENGTH: 5\r\n", Some(2)),
            ("content-length: 0\ntransfer-encoding: chunked\n", Some(2)),
            ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", Some(2)),
            // The parser tells of all of them.
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", None),
            ("content-lengths: 0\r\ncontent-length: 0\r\nx-content-length: 0\r\n", None),
            ("content-type: a\r\ncookie: content-length: 0\r\nte: trailers\r\n", None),
        ];
        for (fields, expected) in table {
            let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
            check(&format!("{PLAIN}{head}{PLAIN}"), expected);
        }
        // One in each of several heads.
        let one = "GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
        check(&one.repeat(3), None);
    }

    proptest! {
        #[test]
        fn pieces_are_read_like_the_whole(bytes in "[\r\n #:ct]{0,40}", cuts in proptest::collection::vec(0..40usize, 0..6)) {
            let whole = Heads::default().read(bytes.as_bytes());
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut heads = Heads::default();
            let last = cuts.windows(2).fold(None, |_, cut| heads.read(&bytes.as_bytes()[cut[0]..cut[1]]));
            prop_assert_eq!(last, whole);
        }
    }
}
