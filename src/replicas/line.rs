//! A pair of connections to Redis: one for scripts, one for news. They are opened and given up together.
//!
//! Two, since Redis gives up a subscriber for whom much lies ready, and records are large; and so that an erasure does
//! not wait behind them. Many calls are under way on the first at once; answers come in the order of the questions, and
//! one that nobody waits for any more is read and dropped by the driver. So a call may be left at any time.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, PushInfo, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::task::AbortHandle;

use super::{Reply, Script, address::Address, reason::Reason};

/// Two connections that are up, or were. They end with it.
pub(super) struct Line {
    scripts: Connection,
    news: Connection,
    hashes: Hashes,
}

/// What Redis knows scripts by that were sent over this line. A text is told from others by where it lies and how long it
/// is: there are as many as the program has, and nothing of it has to be read.
#[derive(Default)]
struct Hashes(Mutex<HashMap<(usize, usize), Arc<str>>>);

impl Hashes {
    /// `None` the first time: then the text is to be sent.
    fn of(&self, script: &Script) -> Option<Arc<str>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.entry((script.0.as_ptr().addr(), script.0.len())) {
            Entry::Occupied(hash) => Some(Arc::clone(hash.get())),
            Entry::Vacant(place) => {
                place.insert(redis::Script::new(script.0).get_hash().into());
                None
            }
        }
    }
}

/// One of them, and the task that drives it.
struct Connection {
    asked: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Line {
    /// Connects, enters and subscribes. It sets no limit to how long that takes. `hear` is told what is pushed, and
    /// the end of either connection; it must not block.
    pub(super) async fn open(
        address: &Address,
        channels: &[Vec<u8>],
        hear: impl Fn(PushInfo) + Clone + Send + Sync + 'static,
    ) -> Result<Self, Reason> {
        let (scripts, mut news) = tokio::try_join!(enter(address, hear.clone()), enter(address, hear))?;
        if !channels.is_empty() {
            news.asked.subscribe(channels).await.map_err(|e| Reason::of(&e))?;
        }
        Ok(Self { scripts, news, hashes: Hashes::default() })
    }

    /// Runs a script. Its text goes along the first time, without asking whether Redis knows it, so that nothing that is
    /// asked after it comes before it; and where Redis has forgotten it.
    pub(super) async fn evaluate(
        &self,
        script: &Script,
        keys: &[impl AsRef<[u8]>],
        arguments: &[impl AsRef<[u8]>],
    ) -> Result<Reply, Reason> {
        let mut connection = self.scripts.asked.clone();
        let known = match self.hashes.of(script) {
            Some(hash) => command("EVALSHA", &hash, keys, arguments),
            None => command("EVAL", script.0, keys, arguments),
        };
        let answer: RedisResult<Value> = known.query_async(&mut connection).await;
        let answer = match answer {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", script.0, keys, arguments).query_async(&mut connection).await
            }
            answer => answer,
        };
        flat(answer.map_err(|e| Reason::of(&e))?)
    }

    /// Whether the news would come through.
    pub(super) async fn ping(&self) -> Result<(), Reason> {
        let answer: RedisResult<Value> = redis::cmd("PING").query_async(&mut self.news.asked.clone()).await;
        answer.map(drop).map_err(|e| Reason::of(&e))
    }

    /// Ends both connections. Who waits on them hears so at once.
    pub(super) fn close(&self) {
        self.scripts.driver.abort();
        self.news.driver.abort();
    }
}

async fn enter(
    address: &Address,
    hear: impl Fn(PushInfo) + Send + Sync + 'static,
) -> Result<Connection, Reason> {
    let stream = address.connect().await?;
    // Limits are set around the calls, where they hold for all of one.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_push_sender(move |push| {
            hear(push);
            Ok::<(), Infallible>(())
        });
    let opened = MultiplexedConnection::new_with_config(address.login(), stream, config).await;
    let (asked, driver) = opened.map_err(|e| Reason::of(&e))?;
    Ok(Connection { asked, driver: tokio::spawn(driver).abort_handle() })
}

fn command(name: &str, script: &str, keys: &[impl AsRef<[u8]>], arguments: &[impl AsRef<[u8]>]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(key.as_ref());
    }
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command
}

/// What a script returned, as a list. One value is a list of one, and nothing an empty one.
fn flat(value: Value) -> Result<Reply, Reason> {
    if let Value::Array(values) = value {
        return values.into_iter().map(item).collect();
    }
    if value == Value::Nil {
        return Ok(Vec::new());
    }
    Ok(vec![item(value)?])
}

/// An item of that list: bytes as they are, a number as its digits, nothing as the empty string.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the client's: scripts return no others unless they ask for them"
)]
fn item(value: Value) -> Result<Bytes, Reason> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::Int(number) => Ok(number.to_string().into()),
        Value::Nil => Ok(Bytes::new()),
        Value::SimpleString(text) => Ok(text.into()),
        Value::Okay => Ok(Bytes::from_static(b"OK")),
        _ => Err(Reason::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_goes_by_its_text_first_and_by_one_hash_from_then_on() {
        let (hashes, one) = (Hashes::default(), Script::new("return 1"));
        assert_eq!(hashes.of(&one), None);
        let first = hashes.of(&one).expect("known by now");
        assert_eq!(&*first, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert!(hashes.of(&one).is_some_and(|again| Arc::ptr_eq(&first, &again)));
        assert_eq!(hashes.of(&Script::new("return 12")), None);
    }

    #[test]
    fn what_a_script_returns_is_a_flat_list() {
        let bytes = |text: &str| Value::BulkString(text.into());
        let table = [
            (Value::Nil, Ok(vec![])),
            (Value::Int(-7), Ok(vec!["-7"])),
            (Value::Okay, Ok(vec!["OK"])),
            (Value::Array(vec![]), Ok(vec![])),
            (
                Value::Array(vec![bytes("a"), Value::Int(12), Value::Nil, bytes("")]),
                Ok(vec!["a", "12", "", ""]),
            ),
            (Value::Array(vec![Value::Array(vec![])]), Err(Reason::Unreadable)),
            (Value::Map(vec![]), Err(Reason::Unreadable)),
        ];
        for (value, expected) in table {
            let expected = expected.map(|items| items.into_iter().map(Bytes::from).collect::<Vec<_>>());
            assert_eq!(flat(value.clone()), expected, "{value:?}");
        }
    }
}
