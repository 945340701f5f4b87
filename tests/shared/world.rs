//! A Redis, a scripted vendor, and any number of gateways between the two. What is left in Redis in the end is searched
//! for keys.
//!
//! Replicas run in the test's own thread; a program is a process, for what must be killed. None is hurried by the 50 ms
//! that a lookup waits for Redis, unless a test sets them.

use std::{path::PathBuf, time::Duration};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    disk::world::Gateway as Program,
    gateway::{
        program::serving,
        records::settled,
        vendor::{Play, Seen, Vendor, ok},
        world::{Answer, Caller, Gateway, request, within},
    },
    replicas::{redis::Redis, world::Log},
};

/// What is said of a call that was fetched and kept.
pub(super) const STORED: &str = "callgate; fwd=uri-miss; fwd-status=200; stored";

/// All that is in Redis, names and values, of every type.
const DUMP: &str = "local all = {}
    local function add(values) for _, value in ipairs(values) do all[#all + 1] = value end end
    for _, key in ipairs(redis.call('KEYS', '*')) do
        local kind = redis.call('TYPE', key).ok
        add({key})
        if kind == 'string' then add({redis.call('GET', key)})
        elseif kind == 'hash' then add(redis.call('HGETALL', key))
        elseif kind == 'zset' then add(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'))
        elseif kind == 'set' then add(redis.call('SMEMBERS', key))
        elseif kind == 'list' then add(redis.call('LRANGE', key, 0, -1))
        else error(kind) end
    end
    return all";

pub(super) struct World {
    pub(super) redis: Redis,
    pub(super) vendor: Vendor,
    directory: TempDir,
}

impl World {
    pub(super) async fn new(script: impl Fn(&Seen) -> Play + Send + Sync + 'static) -> Self {
        let (redis, vendor) = (Redis::start(), Vendor::start(script).await);
        Self { redis, vendor, directory: tempfile::tempdir().expect("a directory") }
    }

    /// One whose vendor has every call, settled.
    pub(super) async fn settled() -> Self {
        Self::new(|seen| Play::Send(ok(settled(seen.id())))).await
    }

    /// A file of the world's own.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) async fn replica(&self) -> Gateway {
        self.replica_with("").await
    }

    pub(super) async fn replicas(&self) -> [Gateway; 3] {
        [self.replica().await, self.replica().await, self.replica().await]
    }

    /// A gateway in this thread, with these settings as well.
    pub(super) async fn replica_with(&self, settings: &str) -> Gateway {
        let mut text = settings.to_owned();
        for (setting, value) in
            [("cache.shared.url", self.redis.url()), ("cache.shared.timeout", "2s".into())]
        {
            if !settings.contains(setting) {
                text.push_str(&format!("\n{setting} = \"{value}\"\n"));
            }
        }
        Gateway::start(&format!("http://{}", self.vendor.address), &text).await
    }

    /// A gateway in a process of its own, with these variables as well.
    pub(super) async fn program(&self, more: &[(&str, &str)]) -> Program {
        let mut command = serving(self.vendor.address);
        command
            .env("CALLGATE__CACHE__SHARED__URL", self.redis.url())
            .env("CALLGATE__CACHE__SHARED__TIMEOUT", "2s")
            .env("CALLGATE__BUDGET__REQUESTS_PER_MINUTE", "1000000")
            .envs(more.iter().copied());
        Program::start(command).await
    }

    /// The names of the keys of this kind in Redis.
    pub(super) fn keys(&self, kind: &str) -> Vec<String> {
        let names = self.redis.command(&["KEYS", &format!("callgate:1:*:{kind}:*")]);
        names.lines().map(str::to_owned).collect()
    }

    /// What a key or channel of this kind is called in Redis.
    pub(super) fn name(&self, kind: &str, which: &str) -> String {
        let replicas = self.redis.command(&["KEYS", "callgate:1:*:replicas:"]);
        format!("{}{kind}:{which}", replicas.strip_suffix("replicas:").expect("one namespace"))
    }

    /// The time by Redis's clock, in microseconds.
    pub(super) fn micros(&self) -> i64 {
        let time = self.redis.command(&["TIME"]);
        let (seconds, micros) = time.split_once('\n').expect("two numbers");
        seconds.parse::<i64>().expect("a number") * 1_000_000 + micros.parse::<i64>().expect("a number")
    }

    /// How long Redis still keeps what is named so; below 0 where it is for ever.
    pub(super) fn left(&self, key: &str) -> i64 {
        self.redis.command(&["PTTL", key]).trim().parse().expect("a number")
    }

    /// All that is in Redis.
    pub(super) fn dump(&self) -> String {
        self.redis.command(&["EVAL", DUMP, "0"])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // It may be gone by now, or ask for a password that nobody knows here.
        let all = self.redis.try_command(&["EVAL", DUMP, "0"], Duration::from_millis(300));
        if let Ok(all) = all
            && !std::thread::panicking()
        {
            crate::canary::search("Redis", all);
        }
    }
}

/// What is said of a Redis that is gone, but for the reason.
pub(super) const GONE: &str = "redis is gone: this gateway works on alone";

/// Waits until something is so.
pub(super) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    within(async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until lines with these words were logged so many times.
pub(super) async fn says(log: &Log, words: &str, times: usize) {
    until(async || log.said().iter().filter(|line| line.contains(words)).count() >= times).await;
}

/// Looks a call up.
pub(super) async fn look(gateway: &Gateway, id: &str) -> Answer {
    gateway.ask("GET", &format!("/calls/{id}"), &[]).await
}

/// Looks a call up that is to be fetched and kept.
pub(super) async fn fetch(gateway: &Gateway, id: &str) {
    let answer = look(gateway, id).await;
    assert_eq!((answer.status, answer.cache()), (200, STORED));
}

/// Whether a call is a hit from memory, without asking for it.
pub(super) async fn is_known(gateway: &Gateway, id: &str) -> bool {
    let shown = gateway.operate("GET", &format!("/cache/{id}"), &[]).await;
    shown.status == 200
}

/// Callers whose requests are all sent, and of each of which the gateway knows.
pub(super) struct Crowd(Vec<Caller>);

impl Crowd {
    /// So many callers at this gateway.
    pub(super) async fn at(gateway: &Gateway, callers: usize, target: &str) -> Self {
        let mut crowd = Vec::new();
        for _ in 0..callers {
            let mut caller = gateway.connect().await;
            caller.send(request("GET", target, &[])).await;
            crowd.push(caller);
        }
        Self(crowd)
    }

    /// What they are told.
    pub(super) async fn answers(self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for mut caller in self.0 {
            let answer = caller.answer().await;
            answer.keeps_the_promises();
            answers.push(answer);
        }
        answers
    }
}
