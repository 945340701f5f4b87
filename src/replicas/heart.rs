//! The beat: keeps the line up, says each second that this replica is there, and counts the others.
//!
//! While Redis is gone nobody else asks it anything; the beat that succeeds over a new line brings it back. It also
//! notes what Redis's clock shows.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep, timeout},
};

use super::{
    News, Reply, Script, address::Address, exchange::Exchange, line::Line, reason::Reason, standing::LIFE,
};

/// Between two beats.
const PERIOD: Duration = Duration::from_secs(1);

/// Between two tries while Redis is gone, doubling to [`PERIOD`]; and from an answer that failed to come to the next
/// beat.
const PAUSE: Duration = Duration::from_millis(250);

/// The limit of opening a line: names, handshakes, the way there and back a few times.
const OPENING: Duration = Duration::from_secs(2);

/// The channel on which replicas say that they are new, and how many there are now. Each would count them with its next
/// beat, but until then it would take more for its share of the budget than is left to it, should Redis go.
const JOINED: &str = "joined";

/// Counts this replica, forgets those who said nothing for a while, and returns how many there are and the time. Tells
/// the others where it was not counted yet. A score from the future is one from before Redis's clock was set back.
const BEAT: Script = Script::new(
    r"local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life = tonumber(ARGV[2])
local new = redis.call('ZADD', KEYS[1], now, ARGV[1]) == 1
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - life)
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + life, '+inf')
redis.call('PEXPIRE', KEYS[1], life)
local count = redis.call('ZCARD', KEYS[1])
if new then redis.call('PUBLISH', KEYS[2], count) end
return {count, time[1], time[2]}",
);

/// Counts this replica no longer.
pub(super) const LEAVE: Script = Script::new("return redis.call('ZREM', KEYS[1], ARGV[1])");

/// What Redis's clock showed at a moment of ours, give or take half the way there and back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick {
    pub(super) here: Instant,
    /// Microseconds since 1970.
    pub(super) there: i64,
}

/// What the beat needs, and what it is for.
pub(super) struct Heart {
    pub(super) exchange: Arc<Exchange>,
    pub(super) address: Address,
    /// The key of the set of those who are there.
    pub(super) set: Vec<u8>,
    /// This replica.
    pub(super) member: String,
    /// What precedes a channel's bare name, and those names.
    pub(super) channels: (Vec<u8>, &'static [&'static str]),
    pub(super) news: broadcast::Sender<News>,
    pub(super) tick: Arc<Mutex<Option<Tick>>>,
}

impl Heart {
    /// Goes on until it is aborted.
    pub(super) async fn run(self) {
        let mut pause = PAUSE;
        for number in 0.. {
            match self.begin(number).await {
                Ok((line, replicas)) => {
                    self.exchange.rise(number, Arc::clone(&line), replicas);
                    let risen = Instant::now();
                    self.go_on(number, &line).await;
                    // One that comes and goes is not asked more and more often.
                    if risen.elapsed() >= LIFE {
                        pause = PAUSE;
                    }
                }
                Err(reason) => {
                    tracing::debug!(%reason, "redis cannot be reached");
                    self.exchange.fall(None, &reason);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PERIOD);
        }
    }

    /// Opens a line, with the first beat over it.
    async fn begin(&self, number: u64) -> Result<(Arc<Line>, u32), Reason> {
        let (prefix, names) = &self.channels;
        let names = names.iter().chain([&JOINED]);
        let channels: Vec<_> = names.map(|name| [prefix.as_slice(), name.as_bytes()].concat()).collect();
        let opening = Line::open(&self.address, &channels, self.listener(number));
        let line = timeout(OPENING, opening).await.unwrap_or(Err(Reason::NoAnswer))?;
        let replicas = self.beat(&line).await?;
        Ok((Arc::new(line), replicas))
    }

    /// Beats for as long as the line is up.
    async fn go_on(&self, number: u64, line: &Line) {
        let mut next = Instant::now() + PERIOD;
        while self.exchange.is_up(number) {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.exchange.stirred.notified() => {
                    next = next.min(Instant::now() + PAUSE);
                    continue;
                }
            }
            let began = Instant::now();
            let beat = self.beat(line).await;
            self.exchange.hear(number, began, beat.as_ref().err());
            let wait = match beat {
                Ok(replicas) => {
                    self.exchange.count(number, replicas);
                    PERIOD
                }
                Err(Reason::NoAnswer) => PAUSE,
                // It answers, but not what the others need of it either.
                Err(reason) => {
                    self.exchange.fall(Some(number), &reason);
                    PAUSE
                }
            };
            next = Instant::now() + wait;
        }
    }

    /// One beat: how many replicas are there, this one among them.
    async fn beat(&self, line: &Line) -> Result<u32, Reason> {
        let life = LIFE.as_millis().to_string();
        let channel = [self.channels.0.as_slice(), JOINED.as_bytes()].concat();
        let (keys, arguments) = ([&self.set, &channel], [self.member.as_bytes(), life.as_bytes()]);
        let beat = async { tokio::try_join!(line.evaluate(&BEAT, &keys, &arguments), line.ping()) };
        let sent = Instant::now();
        let (reply, ()) = timeout(self.exchange.timeout(), beat).await.unwrap_or(Err(Reason::NoAnswer))?;
        let here = sent + sent.elapsed() / 2;
        let (replicas, there) = read(&reply).ok_or(Reason::Unreadable)?;
        *self.tick.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tick { here, there });
        Ok(replicas)
    }

    /// What is done with what a line pushes.
    fn listener(&self, number: u64) -> impl Fn(PushInfo) + Clone + Send + Sync + 'static {
        let exchange = Arc::downgrade(&self.exchange);
        let (prefix, news) = (self.channels.0.clone(), self.news.clone());
        move |push| {
            if push.kind == PushKind::Disconnection {
                if let Some(exchange) = exchange.upgrade() {
                    exchange.fall(Some(number), &Reason::Closed);
                }
            } else if push.kind == PushKind::Message
                && let Some(item) = message(push.data, &prefix)
            {
                if item.channel == JOINED {
                    if let (Some(exchange), Some(replicas)) = (exchange.upgrade(), count(&item.payload)) {
                        exchange.joined(number, replicas);
                    }
                    return;
                }
                // Where nobody listens, nobody missed it.
                drop(news.send(item));
            }
        }
    }
}

/// Reads what [`BEAT`] returns: how many, and the time in microseconds.
fn read(reply: &Reply) -> Option<(u32, i64)> {
    let number = |at: usize| std::str::from_utf8(reply.get(at)?).ok()?.parse::<i64>().ok();
    let time = number(1)?.checked_mul(1_000_000)?.checked_add(number(2)?)?;
    Some((u32::try_from(number(0)?).ok()?, time))
}

/// Reads how many replicas there are.
fn count(payload: &[u8]) -> Option<u32> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}

/// Reads what was published on a channel of ours.
fn message(data: Vec<Value>, prefix: &[u8]) -> Option<News> {
    let mut data = data.into_iter();
    let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) = (data.next(), data.next())
    else {
        return None;
    };
    let channel = String::from_utf8(channel.strip_prefix(prefix)?.to_vec()).ok()?;
    Some(News { channel, payload: payload.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_says_how_many_there_are_and_what_time_it_is() {
        let reply = |items: &[&'static str]| items.iter().map(|item| (*item).into()).collect::<Reply>();
        assert_eq!(read(&reply(&["3", "1700000000", "250001"])), Some((3, 1_700_000_000_250_001)));
        for bad in [&[][..], &["3"], &["3", "1700000000"], &["-1", "1", "1"], &["x", "1", "1"]] {
            assert_eq!(read(&reply(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn news_come_by_the_bare_name_of_their_channel() {
        let bytes = |text: &str| Value::BulkString(text.into());
        let prefix = b"callgate:1:x:channel:";
        let heard = message(vec![bytes("callgate:1:x:channel:erased"), bytes("one")], prefix);
        assert_eq!(heard, Some(News { channel: "erased".into(), payload: "one".into() }));
        assert_eq!(message(vec![bytes("callgate:1:y:channel:erased"), bytes("one")], prefix), None);
        assert_eq!(message(vec![bytes("callgate:1:x:channel:erased")], prefix), None);
    }
}
