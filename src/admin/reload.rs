//! What operators ask of the settings: `GET /config` shows those in force, as `callgate check` prints them, and
//! `POST /reload` reads them and the key files again, as SIGHUP does.
//!
//! The answer names what has changed, and what will only with a restart; a configuration that is no good is answered
//! with a problem that lists all that is wrong with it. Where settings come from is not known here: see
//! [`Configuration`].

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Allowed, Parts, READ, Refused, body, without_query};
use crate::{
    downstream::{problem, socket::Peer},
    outcome::{ErrorCode, Refusal},
};

/// The settings of a gateway.
pub trait Configuration: Send + Sync {
    /// Those in force, as TOML without secrets.
    fn shown(&self) -> String;

    /// Reads them and the key files again, and puts in force what can change. It goes on where it is dropped.
    ///
    /// # Errors
    /// Everything that is wrong, a line each and without secrets; then nothing has changed.
    fn reload(self: Arc<Self>) -> BoxFuture<'static, Result<Reloaded, Vec<String>>>;
}

/// What a reload came to: paths of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Those with another value from now on, and those whose key file holds another key.
    pub changed: Vec<String>,
    /// Those that were given another value, and keep theirs until the gateway is started again.
    pub unchanged_until_restart: Vec<String>,
}

const CHANGE: Allowed = Allowed("POST");

/// What is to be done.
pub(super) enum Asked {
    /// To show the settings.
    Show,
    /// To read them again.
    Reload,
}

/// What a request asks of the settings; `None` where its path is another's.
pub(super) fn understand<B>(request: &Request<B>) -> Option<Result<Asked, Refused>> {
    let (allowed, asked) = match request.uri().path() {
        "/config" => (READ, Asked::Show),
        "/reload" => (CHANGE, Asked::Reload),
        _ => return None,
    };
    Some(allowed.check(request.method()).and_then(|()| without_query(request)).map(|()| asked))
}

/// Does what is asked.
pub(super) async fn answer(parts: &Parts, asked: Asked, peer: Peer) -> Response<Bytes> {
    match asked {
        Asked::Show => body(StatusCode::OK, "application/toml", parts.configuration.shown()),
        Asked::Reload => {
            tracing::info!(%peer, "an operator asks for a reload");
            match Arc::clone(&parts.configuration).reload().await {
                Ok(reloaded) => super::json(&reloaded),
                Err(problems) => refused(parts, problems),
            }
        }
    }
}

/// A problem document with a member of its own (RFC 9457 §3.2): `problems`, a line each.
fn refused(parts: &Parts, problems: Vec<String>) -> Response<Bytes> {
    let refusal = Refusal::new(ErrorCode::InvalidConfiguration, "nothing has changed; see problems");
    let response = problem::problem(&refusal, CHANGE.0, Instant::now(), &parts.clock);
    response.map(|body| match serde_json::from_slice(&body) {
        Ok(Value::Object(mut members)) => {
            members.insert("problems".to_owned(), json!(problems));
            Value::Object(members).to_string().into()
        }
        Ok(_) | Err(_) => body,
    })
}
