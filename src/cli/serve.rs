//! `callgate serve`: runs the gateway until it is told to end, and reloads it on SIGHUP. A service manager that speaks
//! systemd's protocol hands sockets over (`inherited`) and is told how it goes (`notify`).

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use super::{
    BAD_CONFIGURATION, Files, inherited,
    notify::{Announced, Notify},
    process,
};
use crate::{
    app::{App, Sources, Surroundings},
    drain::Ended,
    otlp,
    settings::{Loaded, Settings},
};

/// Runs the gateway.
#[must_use]
pub fn run(args: &Files, env: &BTreeMap<String, String>) -> ExitCode {
    let exposed = process::keep_from_dumps();
    let loaded = match process::settings(args, env) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    // Before the first thread: nobody else may have a say in what these descriptors are.
    let sockets = match inherited::take(env, loaded.settings.listen.allow_non_loopback) {
        Ok(sockets) => sockets,
        Err(error) => return process::fail(&error, BAD_CONFIGURATION),
    };
    let log = match process::log(&loaded.settings.log, env) {
        Ok(log) => log,
        Err(error) => return process::fail(&error, BAD_CONFIGURATION),
    };
    for warning in exposed {
        tracing::warn!("{warning}");
    }
    let collector = collector(env).unwrap_or_else(|warning| {
        tracing::warn!("{warning}");
        None
    });
    // The environment of now: a process's own does not change.
    let (args, env) = (args.clone(), env.clone());
    let notify = Notify::open(&env);
    let surroundings = Surroundings { descriptors: process::raise_descriptors(), sockets, collector };
    let load = Box::new(move || Settings::load_again(&args.config, &env));
    let sources = Sources { load, log: Some(log.control()) };
    let ended = process::run_to_end(serve(loaded, surroundings, notify, sources));
    let ended = ended.map_err(|e| e.to_string()).flatten();
    drop(log);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => process::fail(&error, 1),
    }
}

/// Where spans go. A variable that cannot be used turns them off, and nothing else: whoever sets it for all services
/// does not mean to end one of them.
///
/// # Errors
/// What to warn of, in a line without the variable's value.
pub(super) fn collector(env: &BTreeMap<String, String>) -> Result<Option<otlp::Settings>, String> {
    otlp::Settings::from_env(env).map_err(|error| format!("{error}; no traces are exported"))
}

async fn serve(
    loaded: Loaded,
    surroundings: Surroundings,
    notify: Notify,
    sources: Sources,
) -> Result<(), String> {
    let mut hangups = process::Hangups::listen().map_err(|e| e.to_string())?;
    let Loaded { settings, notices } = loaded;
    for notice in notices {
        tracing::info!("{notice}");
    }
    let signals = process::Terminations::listen().map_err(|e| e.to_string())?;
    let mut signals = Announced::new(signals, &notify, &settings.drain);
    let app = App::bind(settings, surroundings).await.map_err(|e| e.to_string())?;
    let reloader = app.reloader();
    reloader.reads_from(sources);
    // To the very end: also while it drains, no SIGHUP cuts it short.
    tokio::spawn(async move {
        while hangups.next().await.is_some() {
            // What comes of it is in the log.
            let _ = Arc::clone(&reloader).reload().await;
        }
    });
    for address in app.internal_addresses() {
        tracing::info!(%address, "internal endpoint listening");
    }
    for address in app.admin_addresses() {
        tracing::info!(%address, "admin endpoint listening");
    }
    for address in app.metrics_addresses() {
        tracing::info!(%address, "metrics endpoint listening");
    }
    let internal: Vec<_> = app.internal_addresses().map(ToString::to_string).collect();
    notify.ready(&format!("answering on {}", internal.join(", ")));
    let ended = tokio::select! {
        ended = app.run(&mut signals) => ended,
        never = notify.beat() => match never {},
    };
    match ended {
        Ended::InOrder => tracing::info!("ended in order"),
        Ended::Cut => tracing::warn!("ended with requests under way"),
    }
    Ok(())
}
