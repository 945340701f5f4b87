//! The window that the replicas share, kept in Redis.
//!
//! One sorted set for each budget holds the slots by when they free, one hash the pause, and another sorted set those
//! replicas that have told what they know: where Redis loses any of it while it is there, they are asked to tell it
//! again. Each step is one script, by Redis's own clock. It knows neither who asks nor why. What Redis says that is not
//! understood is taken as a refusal.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, watch};

use super::{
    log::MINUTE,
    window::{Ask, Known, LEFT, Left, Name, Taken, Window, Word},
};
use crate::{
    replicas::{Gone, Link, News, Reply, Script, State},
    upstream::retry_after::LONGEST,
};

/// The scripts, each with what all have in common before it.
macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/window.lua"), include_str!($file)))
    };
}

static TAKE: Script = script!("lua/take.lua");
static PUSH: Script = script!("lua/push.lua");
const ANSWERED: Script = script!("lua/answered.lua");
const GIVEN_BACK: Script = script!("lua/given_back.lua");
const LIMITED: Script = script!("lua/limited.lua");
const PROBED: Script = script!("lua/probed.lua");

/// How many departures are told at once: Redis does nothing else meanwhile.
const AT_ONCE: usize = 256;

/// Where a budget lies: its slots, its pause, and who has told what it knows.
fn keys(link: &Link, budget: Name) -> Vec<Vec<u8>> {
    ["slots", "pause", "told"]
        .map(|which| link.name("budget", format!("{budget}:{which}").as_bytes()))
        .to_vec()
}

/// The arguments that every script begins with.
fn arguments(link: &Link, budget: Name, aloft: Duration) -> Vec<Vec<u8>> {
    let channel = link.name("channel", LEFT.as_bytes());
    vec![channel, budget.to_string().into_bytes(), millis(aloft + MINUTE)]
}

/// In whole milliseconds, rather more than less.
fn millis(duration: Duration) -> Vec<u8> {
    duration.as_nanos().div_ceil(1_000_000).to_string().into_bytes()
}

async fn run(link: &Link, script: &Script, budget: Name, arguments: &[Vec<u8>]) -> Result<Reply, Gone> {
    let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
    link.run(script, &keys(link, budget), &arguments).await
}

impl Window for Arc<Link> {
    fn take(&self, ask: Ask) -> BoxFuture<'_, Result<Taken, Gone>> {
        Box::pin(async move {
            let mut all = arguments(self, ask.budget, ask.aloft);
            let Ask { limit, reserve, slot, .. } = ask;
            let own = [limit.to_string(), reserve.to_string(), slot.to_string(), slot.replica().to_string()];
            all.extend(own.map(String::into_bytes));
            taken(&run(self, &TAKE, ask.budget, &all).await?).ok_or(Gone::Refused)
        })
    }

    fn push(&self, known: Known) -> BoxFuture<'_, Result<Left, Gone>> {
        Box::pin(async move {
            let mut begin = arguments(self, known.budget, known.aloft);
            begin.extend([known.limit.to_string().into_bytes(), millis(known.pause)]);
            let mut departures = known.departures.chunks(AT_ONCE);
            // Said with the first: if that is lost before the last, it is known to be lost.
            let mut replica = known.replica;
            // At least once, for what is left is asked for, too.
            let mut chunk = departures.next().unwrap_or_default();
            loop {
                let mut all = begin.clone();
                all.push(replica.take().map(|replica| replica.to_string()).unwrap_or_default().into_bytes());
                for departure in chunk {
                    let frees = departure.frees.map_or_else(|| b"aloft".to_vec(), millis);
                    all.extend([departure.slot.to_string().into_bytes(), frees]);
                }
                let reply = run(self, &PUSH, known.budget, &all).await?;
                match departures.next() {
                    Some(next) => chunk = next,
                    None => return left(&reply).ok_or(Gone::Refused),
                }
            }
        })
    }

    fn tell(&self, budget: Name, word: Word, aloft: Duration) {
        let text = |text: String| text.into_bytes();
        let (script, own) = match word {
            // Rather later than sooner: whole milliseconds, rounded down.
            Word::Answered(slot, ago) => {
                (ANSWERED, vec![text(slot.to_string()), text(ago.as_millis().to_string())])
            }
            Word::GivenBack(slot) => (GIVEN_BACK, vec![text(slot.to_string())]),
            Word::Limited(length) => (LIMITED, vec![millis(length)]),
            Word::Probed(slot, answered) => {
                (PROBED, vec![text(slot.to_string()), text(u8::from(answered).to_string())])
            }
        };
        let mut all = arguments(self, budget, aloft);
        all.extend(own);
        self.post(script, keys(self, budget), all);
    }

    fn state(&self) -> watch::Receiver<State> {
        Link::state(self)
    }

    fn news(&self) -> broadcast::Receiver<News> {
        Link::news(self)
    }
}

fn number<T: std::str::FromStr>(reply: &Reply, at: usize) -> Option<T> {
    std::str::from_utf8(reply.get(at)?).ok()?.parse().ok()
}

fn taken(reply: &Reply) -> Option<Taken> {
    let wait = |at| Some(Duration::from_millis(number(reply, at)?));
    let left = |at| Some(Left { slots: number(reply, at)?, at: number(reply, at + 1)? });
    match reply.first()?.as_ref() {
        b"granted" => Some(Taken::Granted { left: left(1)?, probe: false }),
        b"probe" => Some(Taken::Granted { left: left(1)?, probe: true }),
        b"full" => Some(Taken::Full(wait(1)?, left(2)?)),
        b"paused" => Some(Taken::Paused(wait(1)?.min(LONGEST))),
        b"probing" => Some(Taken::Probing),
        b"unknown" => Some(Taken::Unknown),
        _ => None,
    }
}

fn left(reply: &Reply) -> Option<Left> {
    Some(Left { slots: number(reply, 0)?, at: number(reply, 1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_read_or_taken_as_a_refusal() {
        let reply = |words: &[&'static str]| words.iter().map(|word| (*word).into()).collect::<Reply>();
        let second = Duration::from_secs(1);
        let left = Left { slots: 7, at: 9 };
        let table: [(&[&'static str], Option<Taken>); 11] = [
            (&["granted", "7", "9"], Some(Taken::Granted { left, probe: false })),
            (&["probe", "7", "9"], Some(Taken::Granted { left, probe: true })),
            (&["full", "1000", "7", "9"], Some(Taken::Full(second, left))),
            (&["paused", "1000"], Some(Taken::Paused(second))),
            (&["probing"], Some(Taken::Probing)),
            (&["unknown"], Some(Taken::Unknown)),
            (&["granted", "7"], None),
            (&["granted", "7", "-9"], None),
            (&["full", "soon", "7", "9"], None),
            (&["else"], None),
            (&[], None),
        ];
        for (words, expected) in table {
            assert_eq!(taken(&reply(words)), expected, "{words:?}");
        }
    }

    #[test]
    fn a_wait_is_rather_too_long_than_too_short() {
        assert_eq!(millis(Duration::from_micros(1)), b"1");
        assert_eq!(millis(Duration::from_millis(20)), b"20");
        assert_eq!(millis(Duration::ZERO), b"0");
    }
}
