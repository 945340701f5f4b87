//! The rules that span settings, or look at the machine. Each adds its problems; none stops at the first.
//!
//! It knows what the values are for, not how they were written. The workspaces have their own file.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{address::is_loopback, layers::unreadable, problem::Problem, url, values::Values};
use crate::{
    downstream::BindAddress,
    secret_file::SecretFileError,
    store::{Seal, SealError},
};

/// The largest file of certificates that is read, in bytes.
const MAX_CA_FILE: u64 = 16 * 1024 * 1024;

/// Checks everything but the workspaces.
pub(super) fn check(values: &Values, trusted_dirs: &[PathBuf], problems: &mut Vec<Problem>) {
    listen(values, problems);
    upstream(values, problems);
    lookup(values, problems);
    cache(values, trusted_dirs, problems);
    budget(values, problems);
}

const ENDPOINTS: [&str; 2] = ["listen.internal", "listen.admin"];

/// An element's place in a list; a lone address is not called the first.
fn place<T>(list: &[T], at: usize) -> Option<usize> {
    (list.len() > 1).then_some(at)
}

fn listen(values: &Values, problems: &mut Vec<Problem>) {
    let beyond_allowed = values.flag("listen.allow_non_loopback").copied().unwrap_or(true);
    let mut seen: Vec<(&BindAddress, &str)> = Vec::new();
    let metrics = values.address("listen.metrics").copied().map(BindAddress::Tcp);
    let metrics = metrics.as_ref().map(|address| ("listen.metrics", std::slice::from_ref(address)));
    let endpoints =
        ENDPOINTS.iter().filter_map(|path| values.addresses(path).map(|list| (*path, list.as_slice())));
    for (path, list) in endpoints.chain(metrics) {
        for (at, address) in list.iter().enumerate() {
            let problem = |wrong: String| values.problem(path, place(list, at), wrong);
            // `listen.metrics` is read-only and made for a network; the others need a word from the operator.
            let guarded = ENDPOINTS.contains(&path) && !beyond_allowed;
            if let BindAddress::Tcp(address) = address
                && guarded
                && !is_loopback(*address)
            {
                let right = "use 127.0.0.1, [::1] or a Unix socket, or set listen.allow_non_loopback = true";
                problems.push(problem("an address beyond the loopback".to_owned()).right(right));
            }
            let any_port = matches!(address, BindAddress::Tcp(address) if address.port() == 0);
            match seen.iter().find(|(other, _)| *other == address && !any_port) {
                Some((_, other)) => problems.push(problem(format!("the address of {other} as well"))),
                None => seen.push((address, path)),
            }
        }
    }
}

fn upstream(values: &Values, problems: &mut Vec<Problem>) {
    // Callers point TRILLET_API_BASE_URL at the gateway; in an environment that it shares with them it would ask itself.
    if let Some(port) = values.origin_of_vendor("upstream.base_url").and_then(url::loopback_port) {
        let here = |address: &BindAddress| match address {
            BindAddress::Tcp(address) => {
                address.port() == port && (is_loopback(*address) || address.ip().is_unspecified())
            }
            BindAddress::Unix(_) => false,
        };
        let own =
            ENDPOINTS.iter().find(|path| values.addresses(path).is_some_and(|list| list.iter().any(here)));
        if let Some(own) = own {
            let wrong = format!("the gateway's own {own}");
            problems.push(values.problem("upstream.base_url", None, wrong).right("expected the vendor's"));
        }
    }
    if let Some(path) = values.path("upstream.ca_file")
        && let Err(wrong) = certificates(path)
    {
        let problem = values.problem("upstream.ca_file", None, wrong);
        problems.push(problem.right("expected a PEM file with at least one certificate"));
    }
}

/// Whether a file holds certificates that can be trusted.
fn certificates(path: &Path) -> Result<(), String> {
    // Asked before opening, for a FIFO would block.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut pem = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_CA_FILE).read_to_end(&mut pem).map_err(unreadable)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(read.map_err(|_| "not PEM")?);
    if usable == 0 { Err("no usable certificate in it".to_owned()) } else { Ok(()) }
}

fn lookup(values: &Values, problems: &mut Vec<Problem>) {
    let (ignored, forwarded) = ("lookup.query_ignored", "lookup.query_forwarded");
    let (Some(dropped), Some(sent)) = (values.texts(ignored), values.texts(forwarded)) else { return };
    for (at, _) in sent.iter().enumerate().filter(|(_, name)| dropped.contains(name)) {
        let problem = values.problem(forwarded, Some(at), format!("a parameter of {ignored} as well"));
        problems.push(problem.right("expected it in one of the two"));
    }
}

/// Reads the keys, as it must to tell whether they are any good, and forgets them again.
fn cache(values: &Values, trusted_dirs: &[PathBuf], problems: &mut Vec<Problem>) {
    let setting = "cache.encryption_key_file";
    let Some(path) = values.path(setting) else { return };
    if let Err(error) = Seal::open_file(path, trusted_dirs) {
        let right = match &error {
            SealError::File(error) => right_mode(error).unwrap_or("expected a regular file with keys in it"),
            SealError::Empty | SealError::NoKey { .. } => {
                "expected a key a line, as openssl rand -hex 32 or openssl rand -base64 32 writes one"
            }
        };
        problems.push(values.problem(setting, None, error.to_string()).right(right));
    }
}

/// What would be right where a file with a secret may be read by too many, or too few.
pub(super) fn right_mode(error: &SecretFileError) -> Option<&'static str> {
    match error {
        SecretFileError::WorldReadable { .. } => {
            Some("chmod o-r, or put it into /run/secrets or $CREDENTIALS_DIRECTORY")
        }
        SecretFileError::Unreadable(_) => Some("the gateway's user must be able to read it"),
        SecretFileError::Missing
        | SecretFileError::Directory
        | SecretFileError::NotRegular
        | SecretFileError::TooLarge => None,
    }
}

fn budget(values: &Values, problems: &mut Vec<Problem>) {
    let limit: Option<u32> = values.count("budget.requests_per_minute");
    if let Some(limit) = limit
        && values.count("budget.reserve").is_some_and(|reserve: u32| reserve >= limit)
    {
        let problem = values.problem("budget.reserve", None, "not below budget.requests_per_minute");
        problems.push(problem.right(format!("expected 0 to {}", limit - 1)));
    }
}
