//! The database: redb, its tables, and what is done to them in one transaction. The only file that names redb.
//!
//! redb is crash-safe: what was committed is there after a crash, and nothing of what was not. It trusts what it reads,
//! though, and where that is damaged it may panic; so every way in ends in a [`Fault`], panics included.
//!
//! Three tables: the calls, the order in which they were last used, and what is known of the whole. The weight of an
//! entry is an estimate of the room that it takes on the pages of the file, as a function of its key and value alone,
//! so that it can be taken off again without being written down.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    Table, TableDefinition, TableError, backends::FileBackend,
};

use crate::clock::UnixMillis;
use crate::store::record::{self, Head};

/// The format of the whole file: which tables there are, and what is in them.
const FORMAT: u64 = 1;

/// redb's own page cache, a gibibyte unless told: what is read often lies in the memory tier already.
const PAGE_CACHE: usize = 8 << 20;

const PAGE: usize = 4096;

/// redb's own words beside each key and value.
const OVERHEAD: usize = 48;

/// A use within this time of the last one that was noted is not noted: it would cost a page to write, and the order is
/// none of seconds.
const SAME_USE: Duration = Duration::from_secs(3_600);

/// Entries that are looked at in one transaction to find out whether they are past their use.
const SWEPT_AT_ONCE: usize = 64;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("callgate.meta");
const CALLS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("callgate.calls");
/// When a call was last used, and its key. A call has one place in it.
const ORDER: TableDefinition<'_, (i64, &[u8]), ()> = TableDefinition::new("callgate.order");

/// Why nothing can be read or written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another process writes to the file.
    Busy,
    /// The file is not what was written, or was never ours.
    Damaged(String),
    /// A later version of callgate, or of redb, wrote the file.
    Newer,
    /// The system refused: no room, no permission, an error of the device.
    Io(String),
}

/// What is done to one key.
#[derive(Debug)]
pub(super) enum Edit {
    /// Writes this value, whose use is now.
    Write(Vec<u8>),
    /// Takes the entry out.
    Remove,
    /// Notes a use.
    Touch,
}

/// What there is after a transaction, and what it threw out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) entries: u64,
    /// The weight of all.
    pub(super) bytes: u64,
    /// Thrown out for room.
    pub(super) evicted: u64,
    /// Thrown out since they were past their use.
    pub(super) expired: u64,
}

/// An open database, locked against other processes.
pub(super) struct Base(Option<Database>);

impl Base {
    /// Opens the database in `file`, or begins one where it is empty.
    pub(super) fn open(file: File) -> Result<(Self, Contents), Fault> {
        caught(|| {
            let backend = FileBackend::new(file).map_err(opening)?;
            let database =
                Builder::new().set_cache_size(PAGE_CACHE).create_with_backend(backend).map_err(opening)?;
            let base = Self(Some(database));
            let contents = base.contents()?;
            Ok((base, contents))
        })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        caught(|| {
            let calls = self.database()?.begin_read().map_err(fault)?.open_table(CALLS).map_err(fault)?;
            let value = calls.get(key).map_err(fault)?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    /// What `read` makes of up to `most` keys and values whose keys begin with `prefix`, in the order of the keys.
    pub(super) fn under<T>(
        &self,
        prefix: &[u8],
        most: usize,
        read: impl Fn(&[u8], &[u8]) -> T,
    ) -> Result<Vec<T>, Fault> {
        caught(|| {
            let calls = self.database()?.begin_read().map_err(fault)?.open_table(CALLS).map_err(fault)?;
            let mut found = Vec::new();
            for entry in calls.range::<&[u8]>(prefix..).map_err(fault)? {
                let (key, value) = entry.map_err(fault)?;
                if found.len() >= most || !key.value().starts_with(prefix) {
                    break;
                }
                found.push(read(key.value(), value.value()));
            }
            Ok(found)
        })
    }

    /// Up to when the erasures of other replicas are noted as carried out.
    pub(super) fn erasures(&self) -> Result<u64, Fault> {
        caught(|| {
            let meta = self.database()?.begin_read().map_err(fault)?.open_table(META).map_err(fault)?;
            Ok(meta.get("erasures").map_err(fault)?.map_or(0, |until| until.value()))
        })
    }

    /// Notes that.
    pub(super) fn note_erasures(&self, until: u64) -> Result<(), Fault> {
        caught(|| {
            let mut transaction = self.database()?.begin_write().map_err(fault)?;
            transaction.set_quick_repair(true);
            let mut meta = transaction.open_table(META).map_err(fault)?;
            meta.insert("erasures", until).map_err(fault)?;
            drop(meta);
            transaction.commit().map_err(fault)
        })
    }

    /// Makes these edits, and room for them, in one transaction: all of it is there after a crash, or nothing.
    pub(super) fn apply<'a>(
        &self,
        edits: impl IntoIterator<Item = (&'a [u8], Edit)>,
        now: UnixMillis,
        capacity: u64,
    ) -> Result<Contents, Fault> {
        caught(|| {
            let mut transaction = self.database()?.begin_write().map_err(fault)?;
            // Else a start after a crash would read the whole file before it may be used.
            transaction.set_quick_repair(true);
            let mut meta = transaction.open_table(META).map_err(fault)?;
            let bytes = meta.get("bytes").map_err(fault)?.map_or(0, |bytes| bytes.value());
            let mut tables = Tables {
                calls: transaction.open_table(CALLS).map_err(fault)?,
                order: transaction.open_table(ORDER).map_err(fault)?,
                contents: Contents { bytes, ..Contents::default() },
            };
            for (key, edit) in edits {
                tables.edit(key, edit, now, capacity)?;
            }
            tables.make_room(capacity)?;
            tables.sweep(now)?;
            let contents = Contents { entries: tables.calls.len().map_err(fault)?, ..tables.contents };
            meta.insert("bytes", contents.bytes).map_err(fault)?;
            drop((tables, meta));
            transaction.commit().map_err(fault)?;
            Ok(contents)
        })
    }

    fn database(&self) -> Result<&Database, Fault> {
        // It is only taken out as this is dropped.
        self.0.as_ref().ok_or_else(|| Fault::Io("the database is closed".to_owned()))
    }

    /// What is in the file, which is begun where there is nothing.
    fn contents(&self) -> Result<Contents, Fault> {
        let reading = self.database()?.begin_read().map_err(fault)?;
        let meta = match reading.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_)) => {
                let others = reading.list_tables().map_err(fault)?.next().is_some();
                drop(reading);
                return if others { Err(Fault::Damaged(FOREIGN.to_owned())) } else { self.begin() };
            }
            Err(error) => return Err(fault(error)),
        };
        match meta.get("format").map_err(fault)?.map(|format| format.value()) {
            Some(FORMAT) => {}
            Some(newer) if newer > FORMAT => return Err(Fault::Newer),
            Some(_) | None => return Err(Fault::Damaged(FOREIGN.to_owned())),
        }
        // To be opened once here, so that a file with other tables is found out now.
        reading.open_table(ORDER).map_err(fault)?;
        let entries = reading.open_table(CALLS).map_err(fault)?.len().map_err(fault)?;
        let bytes = meta.get("bytes").map_err(fault)?.map_or(0, |bytes| bytes.value());
        Ok(Contents { entries, bytes, ..Contents::default() })
    }

    fn begin(&self) -> Result<Contents, Fault> {
        let mut transaction = self.database()?.begin_write().map_err(fault)?;
        transaction.set_quick_repair(true);
        let mut meta = transaction.open_table(META).map_err(fault)?;
        meta.insert("format", FORMAT).map_err(fault)?;
        drop(meta);
        drop(transaction.open_table(CALLS).map_err(fault)?);
        drop(transaction.open_table(ORDER).map_err(fault)?);
        transaction.commit().map_err(fault)?;
        Ok(Contents::default())
    }
}

/// Closing writes to the file as well, and may fail the same ways. What was committed is there anyhow.
impl Drop for Base {
    fn drop(&mut self) {
        let database = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::debug!("the database was not closed in order");
        }
    }
}

const FOREIGN: &str = "it is another program's database";

/// The tables within one transaction.
struct Tables<'t> {
    calls: Table<'t, &'static [u8], &'static [u8]>,
    order: Table<'t, (i64, &'static [u8]), ()>,
    contents: Contents,
}

impl Tables<'_> {
    fn edit(&mut self, key: &[u8], edit: Edit, now: UnixMillis, capacity: u64) -> Result<(), Fault> {
        match edit {
            // What is heavier than all that is allowed would push everything else out, and itself at last.
            Edit::Write(value) if weight(key, value.len()) > capacity => self.take_out(key).map(drop),
            Edit::Write(value) => {
                self.take_out(key)?;
                self.put(key, &value, now)
            }
            Edit::Remove => self.take_out(key).map(drop),
            Edit::Touch => {
                let used = self.calls.get(key).map_err(fault)?.map(|value| used(value.value()));
                if !used.is_some_and(|used| is_another_use(UnixMillis(used), now)) {
                    return Ok(());
                }
                match self.take_out(key)? {
                    Some(value) => self.put(key, &record::touched(&value, now), now),
                    None => Ok(()),
                }
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], now: UnixMillis) -> Result<(), Fault> {
        self.calls.insert(key, value).map_err(fault)?;
        self.order.insert((now.0, key), ()).map_err(fault)?;
        self.contents.bytes = self.contents.bytes.saturating_add(weight(key, value.len()));
        Ok(())
    }

    fn take_out(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let value = self.calls.remove(key).map_err(fault)?.map(|value| value.value().to_vec());
        if let Some(value) = &value {
            self.order.remove((used(value), key)).map_err(fault)?;
            self.contents.bytes = self.contents.bytes.saturating_sub(weight(key, value.len()));
        }
        Ok(value)
    }

    /// Throws out what was used longest ago until the rest weighs no more than `capacity`.
    fn make_room(&mut self, capacity: u64) -> Result<(), Fault> {
        while self.contents.bytes > capacity {
            let Some(oldest) = self.oldest()? else {
                // Only a damaged count could come to this.
                self.contents.bytes = 0;
                return Ok(());
            };
            self.drop_place(&oldest)?;
            self.contents.evicted += 1;
        }
        Ok(())
    }

    /// Throws out what is past its use, as far as it was used longest ago.
    fn sweep(&mut self, now: UnixMillis) -> Result<(), Fault> {
        for _ in 0..SWEPT_AT_ONCE {
            let Some(oldest) = self.oldest()? else { return Ok(()) };
            let value = self.calls.get(oldest.1.as_slice()).map_err(fault)?;
            // What cannot be read is of no use either.
            let of_use =
                value.and_then(|value| Head::read(value.value()).ok()).is_some_and(|head| now < head.until);
            if of_use {
                return Ok(());
            }
            self.drop_place(&oldest)?;
            self.contents.expired += 1;
        }
        Ok(())
    }

    fn oldest(&self) -> Result<Option<(i64, Vec<u8>)>, Fault> {
        let first = self.order.first().map_err(fault)?;
        Ok(first.map(|(place, _)| {
            let (used, key) = place.value();
            (used, key.to_vec())
        }))
    }

    /// Takes an entry out by its place in the order, and the place in any case.
    fn drop_place(&mut self, (used, key): &(i64, Vec<u8>)) -> Result<(), Fault> {
        self.take_out(key)?;
        self.order.remove((*used, key.as_slice())).map_err(fault).map(drop)
    }
}

/// When a value was last used: the beginning of time for one that does not say so, which then goes first.
fn used(value: &[u8]) -> i64 {
    Head::read(value).map_or(i64::MIN, |head| head.used.0)
}

/// Whether a use at `now` is worth noting where the last one that was is `used`.
pub(super) fn is_another_use(used: UnixMillis, now: UnixMillis) -> bool {
    used.elapsed_at(now) >= SAME_USE
}

/// The room that an entry takes, in bytes. What is larger than half a page has pages of its own, in powers of two; what
/// is smaller shares them, and they may be half empty.
fn weight(key: &[u8], value: usize) -> u64 {
    let entry = key.len() + value + OVERHEAD;
    let pages = if entry > PAGE / 2 { entry.next_power_of_two().max(PAGE) } else { 2 * entry };
    (pages + 2 * (key.len() + OVERHEAD)) as u64
}

/// Does this; a panic on the way is a fault like any other.
fn caught<T>(what: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(what))
        .unwrap_or_else(|_| Err(Fault::Damaged("the database gave up on what it read".to_owned())))
}

fn opening(error: DatabaseError) -> Fault {
    if let DatabaseError::UpgradeRequired(version) = error {
        return Fault::Damaged(format!("its layout is that of redb's file format {version}"));
    }
    if matches!(error, DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) {
        return Fault::Busy;
    }
    fault(error)
}

fn fault(error: impl Into<redb::Error>) -> Fault {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let error = error.into();
    // Whatever else is wrong with what was read, it is not what we wrote.
    let damaged = if let redb::Error::Io(io) = &error {
        matches!(io.kind(), InvalidData | UnexpectedEof)
    } else {
        !matches!(error, redb::Error::PreviousIo | redb::Error::DatabaseClosed)
    };
    if damaged { Fault::Damaged(error.to_string()) } else { Fault::Io(error.to_string()) }
}

#[cfg(test)]
mod tests;
