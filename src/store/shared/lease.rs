//! One request a call across the replicas: who holds the lease asks the vendor, the others wait for what it brings.
//!
//! A lease lasts for seconds and is renewed for as long as its holder lives, however slow the vendor is; a holder that
//! dies frees it by doing nothing. What it brought is handed to those who waited, kept calls and calls under way alike,
//! and is gone from Redis moments later. Nothing here is needed for an answer: where Redis is gone, everybody asks.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};

use super::{Shared, landing::Landing, scripts};
use crate::{call::CacheKey, replicas::Gone};

/// How long a lease outlives its holder.
pub(super) const LIFETIME: Duration = Duration::from_secs(3);

/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(1);

/// How long what landed is held ready for those who waited.
const READY: Duration = Duration::from_secs(10);

/// How often one who waits looks by itself, should the news not reach it.
const LOOK: Duration = Duration::from_millis(250);

/// The names in Redis that belong to one key's lease.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) lease: Vec<u8>,
    /// The key that what lands is sealed for.
    pub(super) subject: Vec<u8>,
}

/// The right to ask the vendor for one key, or the lack of anybody to share it with.
#[derive(Debug)]
pub struct Lease(Option<Held>);

#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    names: Names,
    token: String,
    renewal: JoinHandle<()>,
}

impl Lease {
    /// Alone: nobody else is known to ask for the same.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// A lease that was just taken with this token.
    pub(super) fn held(shared: &Arc<Shared>, names: Names, token: String) -> Self {
        let (link, key, own) = (shared.link(), names.lease.clone(), token.clone());
        let renewal = tokio::spawn(async move {
            let mut ticks = interval(RENEWAL);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let lifetime = ms(LIFETIME);
                // Where there is no answer the next one comes in time.
                let _ =
                    link.run(&scripts::RENEW, std::slice::from_ref(&key), &[own.as_bytes(), &lifetime]).await;
            }
        });
        Self(Some(Held { shared: Arc::clone(shared), names, token, renewal }))
    }

    /// Hands what the flight brought to those who wait for it at other replicas, and gives the lease up. What was kept is
    /// with them before.
    pub fn land(mut self, landing: &Landing) {
        if let Some(held) = self.0.take() {
            let time = held.shared.redis_time(Instant::now());
            held.end(time.and_then(|time| landing.encode(Instant::now(), time)));
        }
    }
}

/// Given up without an answer: whoever waits takes it.
impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.end(None);
        }
    }
}

impl Held {
    fn end(self, landing: Option<Vec<u8>>) {
        self.renewal.abort();
        let landing = landing.and_then(|plain| self.shared.sealed(&self.names.subject, &self.token, plain));
        let link = self.shared.link();
        let token = self.token.as_bytes();
        let keys = vec![
            self.names.lease.clone(),
            link.name("waited", token),
            link.name("landed", token),
            link.name("channel", super::LANDED.as_bytes()),
        ];
        link.post(scripts::LAND, keys, vec![token.to_vec(), landing.unwrap_or_default(), ms(READY)]);
    }
}

/// A flight of another replica, which asks for the same.
#[derive(Debug)]
pub struct Elsewhere {
    shared: Arc<Shared>,
    key: CacheKey,
    names: Names,
    holder: String,
}

impl Elsewhere {
    pub(super) fn new(shared: &Arc<Shared>, key: CacheKey, names: Names, holder: String) -> Self {
        Self { shared: Arc::clone(shared), key, names, holder }
    }

    /// Waits for what it brings; `None` where it ended without that, or with what was erased since, or Redis is gone.
    pub async fn landing(&self) -> Option<Landing> {
        let link = self.shared.link();
        let mut news = link.news();
        let (lease, token) = (self.names.lease.clone(), self.holder.as_bytes());
        let keys = [lease, link.name("landed", token), link.name("waited", token)];
        loop {
            match link.run(&scripts::LOOK, &keys, &[token, &ms(LIFETIME)]).await.as_deref() {
                Ok([landed, _]) if !landed.is_empty() => {
                    let landing = self.read(landed);
                    if landing.is_none() {
                        // Whoever it is may hold the lease still, and asking again at once would find the same.
                        sleep(LOOK).await;
                    }
                    return landing;
                }
                Ok([_, holder]) if holder[..] == *token => {}
                Ok(_) => return None,
                // A single answer that is late says nothing.
                Err(Gone::Silent) if self.shared.is_there() => {}
                Err(Gone::Silent | Gone::Refused) => return None,
            }
            let landed = async {
                while let Ok(said) = news.recv().await {
                    if said.channel == super::LANDED && said.payload[..] == *token {
                        return;
                    }
                }
                // Too much was said at once: what it was is found by looking.
            };
            let _ = timeout(LOOK, landed).await;
        }
    }

    fn read(&self, landed: &[u8]) -> Option<Landing> {
        let plain = self.shared.opened(&self.names.subject, &self.holder, landed)?;
        let now = Instant::now();
        let landing = Landing::decode(&plain, now, self.shared.redis_time(now)?)?;
        // Those who ask after an erasure get nothing from before it.
        let erased =
            matches!(&landing, Landing::Answer(answer) if self.shared.forbids(&self.key, answer.sent));
        (!erased).then_some(landing)
    }
}

pub(super) fn ms(duration: Duration) -> Vec<u8> {
    duration.as_millis().to_string().into_bytes()
}
