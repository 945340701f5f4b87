//! `callgate warm`: sends a list of calls to a running gateway's `POST /warm`, and shows how it goes.
//!
//! Ids come one a line, from a file or standard input; blank lines and what follows `#` are passed over. Progress goes to
//! standard error, as a bar on a terminal; the sums go to standard output. Ctrl-C ends the work, for it lives as long as
//! the connection. Exit status 0 when every call is kept, or known to be under way or unknown to the vendor; 1 when some
//! failed, or the gateway could not be reached or ended before; 2 for bad usage.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde::Deserialize;

use super::{BAD_CONFIGURATION, health, http::Client, process};
use crate::{downstream::BindAddress, drain::Signals as _};

mod progress;

use progress::Progress;

/// The arguments of `callgate warm`.
#[derive(Clone, Debug, clap::Args)]
// Else clap names a group after the type, and the arguments of `health` within are another `Args`.
#[group(skip)]
pub struct Args {
    /// Call ids, one a line; `-` for standard input
    #[arg(value_name = "FILE")]
    list: PathBuf,
    /// The id of the workspace whose calls they are; the first one without
    #[arg(long, value_name = "ID")]
    workspace_id: Option<String>,
    /// The version of the vendor's API whose entries are meant
    #[arg(long, value_name = "VERSION", default_value = "v2", value_parser = ["v1", "v2"])]
    api_version: String,
    #[command(flatten)]
    endpoint: health::Args,
}

/// What a line says, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Line {
    total: Option<usize>,
    id: Option<String>,
    result: Option<String>,
    status: Option<u16>,
    error: Option<String>,
    done: Option<usize>,
    eta_seconds: Option<u64>,
    /// In the last line alone, as are the sums.
    ended: Option<String>,
    #[serde(default)]
    kept: usize,
    #[serde(default)]
    hit: usize,
    #[serde(default)]
    ongoing: usize,
    #[serde(default)]
    not_found: usize,
    #[serde(default)]
    failed: usize,
    #[serde(default)]
    invalid: usize,
}

/// Runs the command.
#[must_use]
pub fn run(args: &Args, env: &BTreeMap<String, String>) -> ExitCode {
    let address = match args.endpoint.address(env) {
        Ok(address) => address,
        Err(status) => return status,
    };
    let text = match read(&args.list) {
        Ok(text) => text,
        Err(error) => {
            return process::fail(&format!("{}: {error}", args.list.display()), BAD_CONFIGURATION);
        }
    };
    let ids = ids(&text);
    if ids.is_empty() {
        return process::fail(&"there are no ids in the list", BAD_CONFIGURATION);
    }
    match process::run_to_end(warm(args, &address, &ids)).flatten() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => process::fail(&error, 1),
    }
}

fn read(list: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    if list == Path::new("-") {
        io::stdin().lock().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(list)?;
    }
    text(bytes).map_err(|line| io::Error::other(format!("line {line} is not UTF-8")))
}

/// The bytes as text, or the number of the first line that is none.
fn text(bytes: Vec<u8>) -> Result<String, usize> {
    String::from_utf8(bytes).map_err(|error| {
        let sound = error.utf8_error().valid_up_to();
        1 + memchr::memchr_iter(b'\n', &error.as_bytes()[..sound]).count()
    })
}

/// The ids in a text, one a line, without blank lines and comments.
fn ids(text: &str) -> Vec<&str> {
    let lines = text.trim_start_matches('\u{feff}').lines();
    lines.filter_map(|line| line.split('#').next()).map(str::trim).filter(|id| !id.is_empty()).collect()
}

/// Sends the list and reads to the end. Whether everything went well.
async fn warm(args: &Args, address: &BindAddress, ids: &[&str]) -> io::Result<bool> {
    // Before anything is asked for: from here on Ctrl-C is heard.
    let mut signals = process::Terminations::listen()?;
    let mut progress = Progress::new(io::stderr().is_terminal());
    let ended = tokio::select! {
        ended = follow(args, address, ids, &mut progress) => ended,
        () = signals.next() => Ok(None),
    };
    progress.clear();
    let how = match ended {
        Ok(Some(last)) => {
            let mut out = io::stdout().lock();
            // A closed standard output is no failure of the work.
            let _ = writeln!(
                out,
                "{} kept, {} hit, {} ongoing, {} not found, {} failed, {} invalid",
                last.kept, last.hit, last.ongoing, last.not_found, last.failed, last.invalid
            );
            match last.ended.as_deref() {
                Some("complete") => return Ok(last.failed == 0 && last.invalid == 0),
                _ => "the gateway is about to end".to_owned(),
            }
        }
        Ok(None) => "stopped".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(io::Error::other(match progress.reached() {
        Some((done, total)) => {
            format!("{how} after {done} of {total} calls; send the list again, and it goes on from there")
        }
        None => how,
    }))
}

/// Reads lines until the last one.
async fn follow(
    args: &Args,
    address: &BindAddress,
    ids: &[&str],
    progress: &mut Progress,
) -> io::Result<Option<Line>> {
    let unreachable = |error: io::Error| io::Error::new(error.kind(), format!("no answer: {error}"));
    let body = serde_json::json!({ "ids": ids, "version": args.api_version }).to_string();
    let mut fields = vec![("content-type", "application/json")];
    if let Some(workspace) = &args.workspace_id {
        fields.push(("x-workspace-id", workspace.as_str()));
    }
    let mut client = Client::connect(address).await.map_err(unreachable)?;
    let answer = client.post("/warm", &fields, Bytes::from(body)).await.map_err(unreachable)?;
    let (head, mut body) = answer.into_parts();
    if head.status != StatusCode::OK {
        let problem = body.collect().await.map_err(io::Error::other)?.to_bytes();
        return Err(io::Error::other(refusal(head.status, &problem)));
    }
    let mut unread: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| io::Error::other("the gateway ended the connection"))?;
        let Some(piece) = frame.data_ref() else { continue };
        unread.extend_from_slice(piece);
        while let Some(end) = memchr::memchr(b'\n', &unread) {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let line: Line = serde_json::from_slice(&line).map_err(io::Error::other)?;
            if line.ended.is_some() {
                return Ok(Some(line));
            }
            progress.show(&line);
        }
    }
    Err(io::Error::other("the gateway ended the connection"))
}

/// What a problem document says.
fn refusal(status: StatusCode, problem: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let detail = serde_json::from_slice(problem).map(|Problem { detail }| detail);
    format!("refused with {}: {}", status.as_u16(), detail.as_deref().unwrap_or("it does not say why"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stand_one_a_line_and_comments_are_none() {
        let text = "\u{feff}# calls of May\nabc\r\n\n  def # the long one\n#ghi\njkl";
        assert_eq!(ids(text), ["abc", "def", "jkl"]);
        assert!(ids("\n \n# nothing\n").is_empty());
    }

    #[test]
    fn a_list_that_is_not_utf_8_names_its_first_such_line() {
        for (bytes, line) in [
            (&b"ol\xe9"[..], 1),
            (b"abc\ndef # ol\xe9\nghi\xff\n", 2),
            (b"abc\r\n\r\n\xff\xfea\0", 3),
            (b"abc\ncut \xc3", 2),
        ] {
            assert_eq!(text(bytes.to_vec()), Err(line), "{bytes:?}");
        }
        assert_eq!(text("é\n".into()).as_deref(), Ok("é\n"));
    }

    #[test]
    fn a_refusal_says_why() {
        let problem = br#"{"type":"t","title":"t","status":503,"detail":"why"}"#;
        assert_eq!(refusal(StatusCode::SERVICE_UNAVAILABLE, problem), "refused with 503: why");
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b""), "refused with 502: it does not say why");
    }
}
