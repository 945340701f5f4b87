//! `callgate health`: asks a running gateway's `/readyz`, for containers without curl. Exit status 0 when it is ready,
//! else 1, with the reasons on standard error.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use http::StatusCode;

use super::{
    BAD_CONFIGURATION, Files,
    http::{Client, parse_address},
    process,
};
use crate::{downstream::BindAddress, settings::Settings};

/// A probe that takes longer has failed, whatever the answer would have been.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `callgate health`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Where to learn the admin endpoint's address from.
    #[command(flatten)]
    pub files: Files,
    /// The admin endpoint's address, as IP:PORT or unix:/path; no configuration is read then
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub admin: Option<BindAddress>,
}

impl Args {
    /// The admin endpoint's address: as given, else the first one in the settings, of which nothing else is looked at. What
    /// is wrong there is said.
    pub(super) fn address(&self, env: &BTreeMap<String, String>) -> Result<BindAddress, ExitCode> {
        if let Some(address) = &self.admin {
            return Ok(address.clone());
        }
        match Settings::operators_endpoint(&self.files.config, env) {
            Ok(addresses) => addresses
                .into_iter()
                .next()
                .ok_or_else(|| process::fail(&"there is no admin endpoint", BAD_CONFIGURATION)),
            Err(problems) => {
                for problem in problems {
                    let _ = process::fail(&problem, BAD_CONFIGURATION);
                }
                Err(ExitCode::from(BAD_CONFIGURATION))
            }
        }
    }
}

/// Asks once.
#[must_use]
pub fn run(args: &Args, env: &BTreeMap<String, String>) -> ExitCode {
    let address = match args.address(env) {
        Ok(address) => address,
        Err(status) => return status,
    };
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask(&address)).await? }));
    match asked {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(reasons)) => process::fail(&format!("not ready: {reasons}"), 1),
        Err(error) => process::fail(&format!("no answer: {error}"), 1),
    }
}

/// Why the gateway is not ready, if it is not.
async fn ask(address: &BindAddress) -> std::io::Result<Option<String>> {
    let answer = Client::connect(address).await?.get("/readyz", &[]).await?;
    Ok(match answer.status() {
        StatusCode::OK => None,
        StatusCode::SERVICE_UNAVAILABLE => {
            Some(String::from_utf8_lossy(answer.body()).trim().replace('\n', ", "))
        }
        other => Some(format!("status {other}")),
    })
}
