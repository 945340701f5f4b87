//! What is in the file after which edits, and what becomes of one that cannot be read.

use std::{
    fs::OpenOptions,
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::store::record::Record;

const HOUR: i64 = 3_600_000;

fn opened(path: &Path) -> Result<(Base, Contents), Fault> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    Base::open(file.expect("a file"))
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A value of so many bytes of body, used at `used`, past its use an hour after it was fetched at 0.
fn value(key: &[u8], length: usize, used: i64) -> Vec<u8> {
    let record = Record {
        fetched: UnixMillis(0),
        first_final: UnixMillis(0),
        lifetime: SAME_USE,
        updated: None,
        started: None,
        content_type: None,
        last_modified: None,
        etag: None,
        body: Bytes::from(vec![b'x'; length]),
    };
    record.encode(key, UnixMillis(used), Duration::from_secs(30 * 24 * 3_600), None).expect("it fits")
}

/// Writes calls of these names at this hour.
fn write(base: &Base, names: &[&str], hour: i64, capacity: u64) -> Contents {
    let now = hour * HOUR;
    let edits = names.iter().map(|name| (name.as_bytes(), Edit::Write(value(name.as_bytes(), 500, now))));
    base.apply(edits, UnixMillis(now), capacity).expect("written")
}

fn names(base: &Base, of: &[&'static str]) -> Vec<&'static str> {
    let kept = |name: &&&str| base.get(name.as_bytes()).expect("read").is_some();
    of.iter().filter(kept).copied().collect()
}

#[test]
fn what_was_written_is_there_when_the_file_is_opened_again() {
    let directory = directory();
    let path = directory.path().join("calls");
    let (base, contents) = opened(&path).expect("begun");
    assert_eq!(contents, Contents::default());
    assert_eq!(opened(&path).map(drop), Err(Fault::Busy), "one at a time");
    let written = write(&base, &["a", "b"], 1, u64::MAX);
    assert_eq!(written.entries, 2);
    base.apply([(b"a".as_slice(), Edit::Remove)], UnixMillis(HOUR), u64::MAX).expect("removed");
    drop(base);
    let (base, contents) = opened(&path).expect("opened");
    assert_eq!((contents.entries, contents.bytes), (1, written.bytes / 2));
    assert_eq!(names(&base, &["a", "b"]), ["b"]);
    assert_eq!(base.get(b"b"), Ok(Some(value(b"b", 500, HOUR))));
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let directory = directory();
    let (base, _) = opened(&directory.path().join("calls")).expect("begun");
    let one = write(&base, &["a"], 1, u64::MAX).bytes;
    write(&base, &["b"], 2, u64::MAX);
    write(&base, &["c"], 3, u64::MAX);
    // Within the hour a use does not count; later it does.
    let touch = |name: &'static str, at| {
        base.apply([(name.as_bytes(), Edit::Touch)], UnixMillis(at), u64::MAX).expect("noted");
    };
    touch("b", 2 * HOUR + 1);
    touch("a", 4 * HOUR);
    touch("unknown", 4 * HOUR);
    let contents = write(&base, &["d"], 5, 3 * one);
    assert_eq!((contents.entries, contents.bytes, contents.evicted), (3, 3 * one, 1));
    assert_eq!(names(&base, &["a", "b", "c", "d"]), ["a", "c", "d"]);
    // What replaces itself needs no more room, and what is larger than all of it is not kept.
    assert_eq!(write(&base, &["a"], 6, 3 * one).evicted, 0);
    let large = value(b"e", 4 * usize::try_from(one).expect("small"), 0);
    base.apply([(b"e".as_slice(), Edit::Write(large))], UnixMillis(HOUR), 3 * one).expect("left out");
    assert_eq!(names(&base, &["a", "b", "c", "d", "e"]), ["a", "c", "d"]);
}

#[test]
fn what_is_past_its_use_is_thrown_out() {
    let directory = directory();
    let (base, _) = opened(&directory.path().join("calls")).expect("begun");
    write(&base, &["a", "b"], 1, u64::MAX);
    let last = 30 * 24 + 1;
    assert_eq!(base.apply([], UnixMillis(last * HOUR - 1), u64::MAX).expect("swept").expired, 0);
    let contents = base.apply([], UnixMillis(last * HOUR), u64::MAX).expect("swept");
    assert_eq!((contents.entries, contents.bytes, contents.expired), (0, 0, 2));
}

#[test]
fn the_file_takes_no_more_room_than_it_may() {
    const CAPACITY: u64 = 4 << 20;
    let directory = directory();
    let path = directory.path().join("calls");
    let (base, _) = opened(&path).expect("begun");
    for (round, length) in [2_000, 300, 5_000, 40_000, 1_000, 9_000].into_iter().enumerate() {
        // As many as one transaction may bring, until all of it has been filled anew.
        let share = (usize::try_from(CAPACITY / 16).expect("small") / length).max(1);
        for batch in 0..16 {
            let keys: Vec<String> =
                (0..share).map(|n| format!("origin workspace {round}-{batch}-{n}")).collect();
            let now = UnixMillis(round as i64);
            let edits =
                keys.iter().map(|key| (key.as_bytes(), Edit::Write(value(key.as_bytes(), length, now.0))));
            let contents = base.apply(edits, now, CAPACITY / 2).expect("written");
            assert!(contents.bytes <= CAPACITY / 2, "{contents:?}");
        }
        let taken = path.metadata().expect("there").blocks() * 512;
        // To within a transaction.
        assert!(taken <= CAPACITY + CAPACITY / 16, "{taken} after {length}");
    }
}

#[test]
fn a_later_format_and_a_foreign_database_are_known_for_what_they_are() {
    let directory = directory();
    let (newer, foreign) = (directory.path().join("newer"), directory.path().join("foreign"));
    drop(opened(&newer).expect("begun"));
    let database = Database::create(&newer).expect("opened");
    let transaction = database.begin_write().expect("begun");
    transaction.open_table(META).expect("a table").insert("format", FORMAT + 1).expect("written");
    transaction.commit().expect("committed");
    drop(database);
    assert_eq!(opened(&newer).map(drop), Err(Fault::Newer));

    let database = Database::create(&foreign).expect("created");
    let transaction = database.begin_write().expect("begun");
    transaction.open_table(TableDefinition::<u64, u64>::new("theirs")).expect("a table");
    transaction.commit().expect("committed");
    drop(database);
    assert_eq!(opened(&foreign).map(drop), Err(Fault::Damaged(FOREIGN.to_owned())));
}

#[test]
fn damage_anywhere_is_a_fault_or_another_value_and_never_the_end() {
    let directory = directory();
    let whole = directory.path().join("whole");
    let (base, _) = opened(&whole).expect("begun");
    let keys: Vec<String> = (0..50).map(|n| format!("{n}")).collect();
    let edits = keys.iter().map(|key| (key.as_bytes(), Edit::Write(value(key.as_bytes(), 700, 0))));
    base.apply(edits, UnixMillis(0), u64::MAX).expect("written");
    drop(base);
    let length = whole.metadata().expect("there").len();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let path = directory.path().join("damaged");
        std::fs::copy(&whole, &path).expect("copied");
        let mut file = OpenOptions::new().write(true).open(&path).expect("opened");
        if round % 6 == 0 {
            file.set_len(random.u64(..length)).expect("cut");
        } else {
            for _ in 0..40 {
                file.seek(SeekFrom::Start(random.u64(..length.min(200_000)))).expect("there");
                file.write_all(&[random.u8(..)]).expect("written");
            }
        }
        drop(file);
        let Ok((base, _)) = opened(&path) else { continue };
        for key in &keys {
            if let Ok(Some(value)) = base.get(key.as_bytes()) {
                let _ = Record::decode(key.as_bytes(), &value, None);
            }
        }
        let _ = base.apply([(b"new".as_slice(), Edit::Write(value(b"new", 9, 0)))], UnixMillis(0), u64::MAX);
    }
}
