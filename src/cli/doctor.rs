//! `callgate doctor`: asks the vendor once, with the gateway's own settings and client, and says in a line each what is
//! right and what is wrong. Exit status 0 when all is well, 1 when something is wrong, 2 when the settings are no good.
//!
//! With `--call` it asks for that call, else for a list of one. What the vendor sent is described and never printed: no
//! key, no record. The one request counts at the vendor like any other, and a running gateway does not know of it.
//! `findings` judges.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use super::{BAD_CONFIGURATION, Files, process};
use crate::{
    call::{ApiVersion, CacheKey, CallId, Resource},
    clock::Clock,
    metrics::Metrics,
    settings::Settings,
    trace::Trace,
    upstream::{
        Upstream,
        budget::{Lane, Ties},
        client::HttpVendor,
        credentials::{Credentials, KeySource},
        error::UpstreamError,
        vendor::{Attempt, Vendor, VendorAnswer},
    },
};

mod findings;

use findings::{Finding, Question, Seen};

/// The arguments of `callgate doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The same files as for `serve`.
    #[command(flatten)]
    pub files: Files,
    /// The call to ask for; a list of one call without
    #[arg(long, value_name = "ID", value_parser = call_id)]
    call: Option<CallId>,
    /// The id of the workspace to ask for; the first one without
    #[arg(long, value_name = "ID")]
    workspace_id: Option<String>,
}

fn call_id(text: &str) -> Result<CallId, &'static str> {
    CallId::parse(text.as_bytes()).ok_or(CallId::FORM)
}

/// Runs the command.
#[must_use]
pub fn run(args: &Args, env: &BTreeMap<String, String>) -> ExitCode {
    for warning in process::keep_from_dumps() {
        // Here is no log. Nobody is left to tell if this fails.
        let _ = writeln!(io::stderr(), "callgate: {warning}");
    }
    let loaded = match process::settings(&args.files, env) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let findings = match process::run_to_end(examine(args, loaded.settings)).flatten() {
        Ok(findings) => findings,
        Err(error) => return process::fail(&error, BAD_CONFIGURATION),
    };
    let mut out = io::stdout().lock();
    for finding in &findings {
        // A closed standard output leaves the status, which says it as well.
        let _ = writeln!(out, "{finding}");
    }
    ExitCode::from(u8::from(findings.iter().any(Finding::is_wrong)))
}

/// Asks, and judges. An error is one of the settings.
async fn examine(args: &Args, settings: Settings) -> io::Result<Vec<Finding>> {
    let upstream = crate::upstream::Settings { retries: 0, ..settings.upstream };
    let sources: Vec<_> = settings.workspaces.iter().map(|one| one.source.clone()).collect();
    let opened = Credentials::open(settings.workspaces, settings.trusted_key_dirs);
    let credentials = Arc::new(opened.map_err(io::Error::other)?);
    let selected = credentials.select(args.workspace_id.as_deref().map(str::as_bytes));
    let workspace = selected.ok_or_else(|| io::Error::other("no such workspace is configured"))?;
    let mut findings = vec![Finding::settings(&upstream.origin, credentials.name(workspace))];
    if let Some(source) = sources.get(usize::from(workspace.0)) {
        findings.push(Finding::key(mode(source)));
    }

    let clock = Arc::new(Clock::system());
    let vendor = Arc::new(Witness { vendor: HttpVendor::new(&upstream)?, seen: Mutex::new(None) });
    let resource = match &args.call {
        Some(id) => Resource::Call(id.clone(), None),
        None => Resource::List(Some("limit=1".into())),
    };
    let key = CacheKey { workspace, version: ApiVersion::V2, resource };
    let seen: Arc<dyn Vendor> = Arc::clone(&vendor) as Arc<dyn Vendor>;
    let metrics = Arc::new(Metrics::new());
    let ties = Ties::default();
    let gate = Upstream::new(
        upstream,
        &settings.budget,
        Arc::clone(&credentials),
        seen,
        Arc::clone(&clock),
        metrics,
        ties,
    );
    let began = Instant::now();
    let permit = gate.permit(workspace, Lane::Lookup, began).await;
    let permit = permit.map_err(|refusal| io::Error::other(refusal.detail))?;
    // What callers would get is not of interest here; the witness has seen what the vendor really said.
    let _ = gate.fetch(&key, &Trace::new(), || Lane::Lookup, gate.deadline(), permit).boxed().await;
    let answer = vendor.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(answer) = answer else { return Err(io::Error::other("nothing was asked")) };
    let seen = Seen {
        answer,
        took: began.elapsed(),
        question: match args.call.clone() {
            Some(id) => Question::Call(id),
            None => Question::List,
        },
        workspace_id: gate.workspace_id(workspace).to_owned(),
        final_statuses: settings.lookup.final_statuses,
    };
    findings.extend(seen.findings(|at| clock.at(at)));
    Ok(findings)
}

/// The mode of the file that a key comes from; `None` where it comes from no file.
fn mode(source: &KeySource) -> Option<io::Result<u32>> {
    match source {
        KeySource::Inline(_) => None,
        KeySource::File(path) => Some(std::fs::metadata(path).map(|file| file.permissions().mode() & 0o7777)),
    }
}

/// The vendor, and what it said last.
struct Witness {
    vendor: HttpVendor,
    seen: Mutex<Option<Result<VendorAnswer, UpstreamError>>>,
}

impl Vendor for Witness {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<VendorAnswer, UpstreamError>> {
        async move {
            let answer = self.vendor.send(attempt).await;
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
            answer
        }
        .boxed()
    }
}
