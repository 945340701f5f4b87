//! A whole connection on the vendor's side: bytes in from a vendor, a caller who asks for calls and a list.
//!
//! What the caller gets is either an error of the gateway's own or what a plain reading finds in the bytes of the vendor's
//! answer to that very request; it is kept only if it is the record of a call that is over; and the key, which the vendor
//! knows, never comes back.

use std::net::TcpListener;

use callgate::lookup::record::Reading;

use super::{
    gateway::{self, Before, Gateway, KEY, LONG, Line, MAX_BODY, STILL, Variant, WORKSPACES, contains},
    record::plainly,
    wire::{self, Answer},
};

/// Between an answer of the vendor and the next one.
const NEXT: &[u8] = b"\n----\n";
/// What the caller asks for, one after another; the call `ID` twice.
const ASKED: [&str; 4] = [ID, ID, OTHER, ""];
const ID: &str = "69cf4b468d2a8a6a8e39b684";
const OTHER: &str = "abc";

thread_local! {
    static LISTENER: TcpListener = gateway::bound();
}

/// The first byte says how the gateway is set, in what pieces the vendor speaks, and whether its connections stay open
/// after an answer; the rest is what it says to each request.
pub fn vendor(bytes: &[u8]) {
    let Some((how, said)) = bytes.split_first() else { return };
    LISTENER.with(|listener| {
        gateway::forget(listener);
        let address = listener.local_addr().expect("an address");
        let variant = Variant { obliging: false, forgetful: how & 1 != 0 };
        let gateway = Gateway::start(variant, Before::Address(address));
        let mut speaker = Speaker {
            listener,
            lines: Vec::new(),
            unsaid: split(said),
            said: Vec::new(),
            piece: if how & 4 == 0 { usize::MAX } else { 9 },
            stays: how & 2 != 0,
        };
        let mut caller = gateway.connect();
        for id in ASKED {
            let answer = ask(&gateway, &mut speaker, &mut caller, id);
            judge(&answer, id, &speaker.said);
            assert!(!gateway.has_logged(KEY.as_bytes()), "the key is in the log");
        }
    });
}

/// Its parts, the last one first.
fn split(mut said: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(at) = said.windows(NEXT.len()).position(|window| window == NEXT) {
        parts.push(&said[..at]);
        said = &said[at + NEXT.len()..];
    }
    parts.push(said);
    parts.reverse();
    parts
}

fn path(id: &str) -> String {
    if id.is_empty() { "/v2/api/call-history".to_owned() } else { format!("/v2/api/call-history/{id}") }
}

/// The answer to a caller who asks for this, and brings a key of its own along.
fn ask(gateway: &Gateway, speaker: &mut Speaker<'_>, caller: &mut Line, id: &str) -> Answer {
    let request = format!("GET {} HTTP/1.1\r\nhost: localhost\r\nx-api-key: mine\r\n\r\n", path(id));
    let mut request = request.as_bytes();
    caller.send(&mut request);
    assert!(request.is_empty(), "the gateway has gone");
    let (mut still, mut waited) = (0, 0);
    loop {
        gateway.turn();
        let moved = caller.receive() | speaker.speak();
        let mut rest = caller.received.as_slice();
        if let Some(answer) = wire::answer(&mut rest, b"GET") {
            assert!(rest.is_empty() && !caller.ended, "one answer, and the connection stays");
            assert!(!contains(&caller.received, KEY.as_bytes()), "the key comes back");
            caller.received.clear();
            return answer;
        }
        assert!(!caller.ended, "closed without an answer");
        still = if moved { 0 } else { still + 1 };
        if still > STILL && !speaker.hang_up() {
            gateway.pause();
            waited += 1;
            assert!(waited < LONG, "no answer");
        }
    }
}

/// The vendor.
struct Speaker<'a> {
    listener: &'a TcpListener,
    lines: Vec<Talk<'a>>,
    /// What it will say, in the order from last to first.
    unsaid: Vec<&'a [u8]>,
    /// What it said to requests for which path.
    said: Vec<(String, &'a [u8])>,
    piece: usize,
    stays: bool,
}

/// One connection to it.
struct Talk<'a> {
    line: Line,
    /// What it is saying.
    saying: &'a [u8],
    /// It has been asked.
    asked: bool,
    /// It is through with this connection.
    done: bool,
}

impl Speaker<'_> {
    /// Goes on as far as it can; whether it could.
    fn speak(&mut self) -> bool {
        let mut moved = false;
        while let Ok((stream, _)) = self.listener.accept() {
            self.lines.push(Talk { line: Line::new(stream), saying: &[], asked: false, done: false });
            moved = true;
        }
        for talk in &mut self.lines {
            moved |= talk.line.receive();
            if talk.saying.is_empty() && !talk.done && talk.line.received.ends_with(b"\r\n\r\n") {
                let asked = asked(&talk.line.received);
                talk.line.received.clear();
                talk.asked = true;
                match self.unsaid.pop() {
                    Some(saying) => {
                        self.said.push((asked, saying));
                        talk.saying = saying;
                    }
                    None => talk.done = true,
                }
                moved = true;
            }
            if !talk.saying.is_empty() {
                let length = self.piece.min(talk.saying.len());
                let mut piece = &talk.saying[..length];
                talk.line.send(&mut piece);
                moved |= piece.len() < length;
                talk.saying = &talk.saying[length - piece.len()..];
            }
            if talk.asked && talk.saying.is_empty() && !self.stays {
                talk.done = true;
            }
        }
        self.lines.retain(|talk| !talk.line.ended && !talk.done);
        moved
    }

    /// Ends what it has answered on; whether there was any such.
    fn hang_up(&mut self) -> bool {
        let before = self.lines.len();
        self.lines.retain(|talk| !talk.asked);
        self.lines.len() < before
    }
}

/// The path of a request as it came to the vendor: built anew, with our key and nothing of the caller's.
fn asked(mut bytes: &[u8]) -> String {
    let Ok(head) = wire::head(&mut bytes) else { panic!("no request") };
    assert!(bytes.is_empty(), "one request at a time");
    assert_eq!(head.one("x-api-key"), Some(KEY.as_bytes()));
    assert_eq!(head.one("x-workspace-id"), Some(WORKSPACES[0].as_bytes()));
    let line = String::from_utf8_lossy(head.first);
    let path = line.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    path.expect("a request line").to_owned()
}

/// Holds an answer to what the vendor said to requests for the same.
fn judge(answer: &Answer, id: &str, said: &[(String, &[u8])]) {
    assert!(answer.one("x-request-id").is_some());
    assert!(!contains(&unescaped(&answer.body), KEY.as_bytes()), "the key comes back in escapes");
    assert!(
        !contains(&answer.body, b"internal_error")
            || said.iter().any(|(_, s)| contains(s, b"internal_error"))
    );
    if answer.body.starts_with(b"{\"type\":\"urn:callgate:problem:") {
        assert!(answer.status >= 400);
        return;
    }
    assert!(answer.body.len() <= MAX_BODY);
    assert!(matches!(answer.status, 200 | 400..=599), "{}", answer.status);
    assert!(!matches!(answer.status, 401 | 403 | 429 | 502..=504), "{}", answer.status);
    let path = path(id);
    let own = |(asked, said): &(String, &[u8])| {
        *asked == path
            && wire::said(said).is_some_and(|(status, body)| status == answer.status && body == answer.body)
    };
    assert!(
        said.iter().any(own),
        "the vendor never said {} {:?}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    if answer.status != 200 {
        return;
    }
    let cache = answer.one("cache-status").expect("a cache status");
    let kept = cache.contains("; stored") || cache.contains("; hit");
    if id.is_empty() {
        assert!(!kept, "a list is kept: {cache}");
        return;
    }
    let read = plainly(&answer.body, id, WORKSPACES[0]);
    assert!(read.reading != Reading::ForeignWorkspace, "another workspace's record");
    assert!(!kept || read.is_over(), "{:?} is kept: {cache}", read.reading);
}

/// A body as it is with the escapes of JSON undone, wherever they stand.
fn unescaped(body: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), body);
    while let [first, after @ ..] = rest {
        let code = match after {
            [b'u', digits @ ..] if *first == b'\\' => {
                digits.get(..4).and_then(|d| std::str::from_utf8(d).ok())
            }
            _ => None,
        };
        let code = code.and_then(|digits| u8::try_from(u32::from_str_radix(digits, 16).ok()?).ok());
        let (byte, length) = match (code, after) {
            (Some(code), _) => (code, 6),
            (None, [escaped @ (b'/' | b'"' | b'\\'), ..]) if *first == b'\\' => (*escaped, 2),
            (None, _) => (*first, 1),
        };
        plain.push(byte);
        rest = &rest[length..];
    }
    plain
}
