//! A plain reading of HTTP/1.1 (RFC 9112): requests and answers as they stand in a stream of bytes.
//!
//! What the gateway sends is read by the letter. What it is sent is read as a recipient may: a line may end without its
//! CR. Nothing here knows what is asked or answered.

use std::io::Read as _;

/// A field, its name in lower case and its value without white space around.
pub type Field = (String, Vec<u8>);

/// The first line of a message, and its fields.
pub struct Head<'a> {
    /// The first line.
    pub first: &'a [u8],
    /// The fields, in their order.
    pub fields: Vec<Field>,
}

/// Why there is no head.
pub enum NoHead {
    /// It has no end.
    Unfinished,
    /// It is none.
    Malformed,
}

impl Head<'_> {
    /// The values of a field.
    pub fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b [u8]> {
        self.fields.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_slice())
    }

    /// The value of a field that may be there once; panics where it is there twice.
    pub fn one(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.fields.iter().filter(|(own, _)| own == name);
        let value = values.next().map(|(_, value)| value.as_slice());
        assert!(values.next().is_none(), "{name} twice in {:?}", self.fields);
        value
    }
}

/// Takes a line, up to its line feed and without a carriage return before it.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// Takes a head, with the empty line behind it. Empty lines before it are passed over (§2.2).
pub fn head<'a>(rest: &mut &'a [u8]) -> Result<Head<'a>, NoHead> {
    let first = loop {
        match line(rest).ok_or(NoHead::Unfinished)? {
            b"" => {}
            first => break first,
        }
    };
    let mut fields = Vec::new();
    loop {
        match line(rest).ok_or(NoHead::Unfinished)? {
            b"" => return Ok(Head { first, fields }),
            line => fields.push(field(line).ok_or(NoHead::Malformed)?),
        }
    }
}

fn field(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let sound = value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    (is_token(name) && sound).then(|| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

/// RFC 9110 §5.6.2.
pub fn is_token(text: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(tchar)
}

/// A request, as far as it can be read.
pub struct Request<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// Its target.
    pub target: &'a [u8],
    /// Whether it is of HTTP/1.0.
    pub old: bool,
    /// Its head.
    pub head: Head<'a>,
}

impl Request<'_> {
    /// Whether anything but the next request may follow it. Several lengths of `0` are one to hyper, and say nothing else
    /// to anybody.
    pub fn has_body(&self) -> bool {
        let codings = self.head.all("transfer-encoding");
        codings.chain(self.head.all("content-length").filter(|length| *length != b"0")).next().is_some()
    }

    /// Whether its sender leaves the connection after it. What says both in several lines is left open: hyper goes by the
    /// last of them.
    pub fn is_last(&self) -> bool {
        let text = |value: &[u8]| value.iter().all(u8::is_ascii);
        let values = self.head.all("connection").filter(|value| text(value));
        let options = values.flat_map(|value| value.split(|byte| *byte == b','));
        let options: Vec<_> = options.map(|option| option.trim_ascii().to_ascii_lowercase()).collect();
        let has = |option: &[u8]| options.iter().any(|own| own == option);
        !has(b"keep-alive") && (self.old || has(b"close"))
    }
}

/// The requests in a stream, up to the first with a body or the first that is none. The second says whether anything
/// stands behind the last one that a recipient may answer with an error.
pub fn requests(mut rest: &[u8]) -> (Vec<Request<'_>>, bool) {
    let mut requests: Vec<Request<'_>> = Vec::new();
    loop {
        let malformed = match head(&mut rest) {
            Ok(head) => match request(head) {
                Some(request) => {
                    let ends = request.has_body() || request.is_last();
                    requests.push(request);
                    if ends {
                        return (requests, false);
                    }
                    continue;
                }
                None => true,
            },
            // Half a head may be known to be bad already.
            Err(NoHead::Unfinished | NoHead::Malformed) => true,
        };
        return (requests, malformed);
    }
}

fn request(head: Head<'_>) -> Option<Request<'_>> {
    let mut parts = head.first.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    let sound =
        is_token(method) && !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    (sound && parts.next().is_none()).then_some(Request { method, target, old, head })
}

/// An answer of the gateway.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field that may be there once.
    pub fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(own, _)| own == name);
        let value = values.next().map(|(_, value)| std::str::from_utf8(value).expect("text"));
        assert!(values.next().is_none(), "{name} twice in {:?}", self.fields);
        value
    }
}

/// Takes an answer of the gateway to a request with this method, if it is whole. It has a length and CRs, or it panics.
pub fn answer(rest: &mut &[u8], method: &[u8]) -> Option<Answer> {
    let whole = *rest;
    let head = match head(rest) {
        Ok(head) => head,
        Err(NoHead::Malformed) => panic!("no answer: {:?}", String::from_utf8_lossy(whole)),
        Err(NoHead::Unfinished) => {
            *rest = whole;
            return None;
        }
    };
    let taken = &whole[..whole.len() - rest.len()];
    let lines = taken.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(taken.windows(2).filter(|pair| pair == b"\r\n").count(), lines, "a line without its CR");
    let status = String::from_utf8_lossy(head.first.get(9..12).unwrap_or_default()).parse();
    let status: u16 = status.unwrap_or_else(|_| panic!("no status: {:?}", String::from_utf8_lossy(taken)));
    assert!(head.first.starts_with(b"HTTP/1.") && (200..600).contains(&status), "{status}");
    assert!(head.one("transfer-encoding").is_none());
    let length = match head.one("content-length") {
        _ if method == b"HEAD" || status == 304 => 0,
        length => String::from_utf8_lossy(length.expect("a length")).parse().expect("a number"),
    };
    let Some((body, after)) = rest.split_at_checked(length) else {
        *rest = whole;
        return None;
    };
    *rest = after;
    Some(Answer { status, fields: head.fields, body: body.to_vec() })
}

/// What a vendor says on a connection that ends there: the status and the body of its answer, decoded. `None` where
/// there is no answer to be had of it, or none that can be read in one way.
pub fn said(mut rest: &[u8]) -> Option<(u16, Vec<u8>)> {
    loop {
        let head = head(&mut rest).ok()?;
        let line = String::from_utf8_lossy(head.first).into_owned();
        let (version, after) = line.split_once(' ')?;
        let status: u16 = after.get(..3)?.parse().ok()?;
        if !matches!(version, "HTTP/1.1" | "HTTP/1.0")
            || !matches!(after.as_bytes().get(3), None | Some(b' '))
        {
            return None;
        }
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let lengths: Vec<_> = head.all("content-length").collect();
        let codings: Vec<_> = head.all("transfer-encoding").map(<[u8]>::to_ascii_lowercase).collect();
        let body = match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => rest.to_vec(),
            ([], [length]) => {
                let digits = length.iter().all(u8::is_ascii_digit);
                let length: usize = std::str::from_utf8(length).ok().filter(|_| digits)?.parse().ok()?;
                rest.get(..length)?.to_vec()
            }
            ([coding], []) if coding == b"chunked" => chunks(rest)?,
            _ => return None,
        };
        let encodings: Vec<_> = head.all("content-encoding").map(<[u8]>::to_ascii_lowercase).collect();
        let body = match encodings.as_slice() {
            [] => body,
            [one] if matches!(one.as_slice(), b"" | b"identity") => body,
            [one] if matches!(one.as_slice(), b"gzip" | b"x-gzip") && body.is_empty() => body,
            [one] if matches!(one.as_slice(), b"gzip" | b"x-gzip") => {
                let mut decoded = Vec::new();
                flate2::read::GzDecoder::new(&*body).take(1 << 20).read_to_end(&mut decoded).ok()?;
                decoded
            }
            _ => return None,
        };
        return Some((status, body));
    }
}

/// The chunks of a body, put together, where it has an end (RFC 9112 §7.1).
fn chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(&mut rest)?;
        let end = size.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(size.len());
        // White space, or an extension.
        if !matches!(size.get(end), None | Some(b' ' | b'\t' | b';')) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(&size[..end]).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    while !line(&mut rest)?.is_empty() {}
    Some(body)
}
