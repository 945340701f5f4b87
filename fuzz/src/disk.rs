//! The layout of a kept call on disk and in Redis, against what its header says of it: keys, values and seals.

use std::time::Duration;

use callgate::{
    clock::UnixMillis,
    store::{
        Namespace, Seal,
        record::{Head, Record, Unreadable, touched},
    },
};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3;

/// What stands before the rest of a value: layout, last use, end of use, checksum.
const HEAD: usize = 1 + 8 + 8 + 8;
/// How long past its lifetime a call is of use.
const KEEP_STALE: Duration = Duration::from_secs(60);

/// The first byte is the length of a key, the second says where one bit is turned; then the key, then a value, which is
/// read as it is and with a checksum that fits.
pub fn disk(bytes: &[u8]) {
    let [length, turned, rest @ ..] = bytes else { return };
    let (key, value) = rest.split_at(usize::from(*length).min(rest.len()));
    name(key);
    let seal = Seal::parse("a".repeat(64).as_bytes()).expect("a key");
    for seal in [None, Some(&seal)] {
        if let Ok(record) = Record::decode(key, value, seal) {
            let again = record.encode(key, UnixMillis(1), KEEP_STALE, seal).expect("it fits");
            assert_eq!(Record::decode(key, &again, seal), Ok(record));
        }
    }
    let head = Head::read(value);
    assert_eq!(head.is_ok(), value.len() >= HEAD && matches!(value[0], 1 | 2));
    if value.len() < HEAD {
        return;
    }
    let mut value = value.to_vec();
    value[0] = 1;
    let sum = sum(key, &value);
    value[HEAD - 8..HEAD].copy_from_slice(&sum.to_be_bytes());
    match (Record::decode(key, &value, None), plainly(&value)) {
        (Ok(record), Some(body)) => {
            assert_eq!(record.body, body);
            written(key, &record, &value, usize::from(*turned), &seal);
        }
        (found, expected) => {
            assert_eq!((&found, expected), (&Err(Unreadable::Damaged), None));
        }
    }
    // What is in the clear is not trusted where it should be sealed.
    assert_eq!(Record::decode(key, &value, Some(&seal)), Err(Unreadable::Unsealed));
}

/// The checksum of a value in the clear: over the key with its length before it, the end of use, and the rest.
fn sum(key: &[u8], value: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(&(key.len() as u64).to_be_bytes());
    sum.update(key);
    sum.update(&value[9..17]);
    sum.update(&value[HEAD..]);
    sum.digest()
}

/// The body of a value, where the rest of it can be read: three numbers, flags, two numbers and three texts with their
/// lengths, as the flags say.
fn plainly(value: &[u8]) -> Option<&[u8]> {
    let mut at = HEAD + 3 * 8;
    let flags = *value.get(at)?;
    at += 1;
    at += 8 * (flags & 3).count_ones() as usize;
    for _ in [4, 8, 16].into_iter().filter(|flag| flags & flag != 0) {
        let length = usize::from(u16::from_be_bytes(value.get(at..at + 2)?.try_into().ok()?));
        let text = value.get(at + 2..at + 2 + length)?;
        // What may stand in a field (RFC 9110 §5.5); of a tag, too.
        let fits = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if !text.iter().all(fits) {
            return None;
        }
        at += 2 + length;
    }
    value.get(at..)
}

/// What was read is written and read again, for its own key alone, and one turned bit is found out.
fn written(key: &[u8], record: &Record, value: &[u8], turned: usize, seal: &Seal) {
    let head = Head::read(value).expect("a head");
    let other = [key, b"x"].concat();
    for seal in [None, Some(seal)] {
        let again = record.encode(key, head.used, KEEP_STALE, seal).expect("it fits");
        let until = record.fetched.plus(record.lifetime).plus(KEEP_STALE);
        let own = Head::read(&again).expect("a head");
        assert_eq!((own.used, own.until), (head.used, until));
        assert_eq!(Record::decode(key, &again, seal).as_ref(), Ok(record));
        assert_eq!(Record::decode(&other, &again, seal), Err(Unreadable::Damaged));
        let used = touched(&again, UnixMillis(7));
        assert_eq!(Record::decode(key, &used, seal).as_ref(), Ok(record));

        let mut damaged = again;
        let at = turned % damaged.len();
        damaged[at] ^= 1 << (turned % 8);
        match Record::decode(key, &damaged, seal) {
            Ok(read) => assert!((1..9).contains(&at) && read == *record, "a bit of byte {at}"),
            Err(Unreadable::OtherVersion | Unreadable::Damaged) => {}
            // One layout turned into the other.
            Err(Unreadable::OtherKey | Unreadable::Unsealed) => assert_eq!(at, 0),
        }
    }
    let stored = record.clone().into_stored(UnixMillis(1_700_000_000_000), Instant::now());
    if let Some(stored) = stored {
        assert_eq!(stored.body, record.body);
        let now = Instant::now();
        let _ = (stored.fresh_for(now), stored.ttl_seconds(now), stored.heap_bytes());
    }
}

/// A key of the file names one call, and that call has this key.
fn name(key: &[u8]) {
    let namespace = Namespace { origin: "o".to_owned(), workspaces: vec!["w".to_owned(), "w1".to_owned()] };
    if let Some(call) = namespace.parse(key) {
        assert_eq!(namespace.key(&call).as_deref(), Some(key));
        assert!(call.call_id().is_some());
    }
}
