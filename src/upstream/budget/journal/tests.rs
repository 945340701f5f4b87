//! The journal on a real file.

use std::{os::unix::fs::symlink, time::SystemTime};

use super::{
    anew::{COMPACT_AT, Fresh},
    record::{HEADER, RECORD},
    *,
};

const BUDGET: Name = Name([7; 16]);
const TIMEOUT: Duration = Duration::from_secs(15);

struct Place {
    directory: tempfile::TempDir,
    clock: Arc<Clock>,
}

impl Place {
    fn new() -> Self {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory, clock: Arc::new(Clock::starting_at(time)) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("state/journal")
    }

    fn open(&self) -> Option<Journal> {
        Journal::open(&self.path(), Arc::clone(&self.clock), TIMEOUT)
    }

    /// What a process finds that starts now.
    fn found(&self) -> Vec<(u128, Duration)> {
        let departures = self.open().expect("a journal").departures();
        assert!(departures.iter().all(|(budget, ..)| *budget == BUDGET));
        let mut found: Vec<_> =
            departures.iter().map(|(_, slot, free)| (slot.0, *free - Instant::now())).collect();
        found.sort_unstable();
        found
    }
}

/// Waits until no thread is at the file.
fn written_anew(journal: &Journal) {
    while journal.pages.lock().as_ref().is_some_and(|open| open.compact_at.is_none()) {
        std::thread::yield_now();
    }
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[tokio::test(start_paused = true)]
async fn the_last_minute_outlives_the_process() {
    let place = Place::new();
    let journal = place.open().expect("a journal");
    for slot in 1..=4 {
        journal.departed(BUDGET, Slot(slot));
    }
    journal.answered(BUDGET, Slot(1), Instant::now());
    tokio::time::advance(seconds(20)).await;
    journal.answered(BUDGET, Slot(2), Instant::now() - seconds(5));
    journal.given_back(BUDGET, Slot(3));
    drop(journal);
    tokio::time::advance(seconds(20)).await;
    assert_eq!(place.found(), [(1, seconds(20)), (2, seconds(35)), (4, MINUTE)]);
    // The next start has nothing new to say of the one that was never answered.
    tokio::time::advance(seconds(30)).await;
    assert_eq!(place.found(), [(2, seconds(5)), (4, seconds(30))]);
    tokio::time::advance(seconds(30)).await;
    assert_eq!(place.found(), []);
}

#[tokio::test(start_paused = true)]
async fn one_process_writes_and_a_second_goes_without() {
    let place = Place::new();
    let journal = place.open().expect("a journal");
    assert!(place.open().is_none());
    journal.departed(BUDGET, Slot(1));
    drop(journal);
    assert_eq!(place.found(), [(1, MINUTE)]);
    let mode = place.path().metadata().expect("a file").mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode = place.path().parent().expect("a directory").metadata().expect("it").mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_is_begun_anew_and_a_wide_mode_is_narrowed() {
    let place = Place::new();
    drop(place.open());
    for contents in [&b"noise"[..], b"", &[0xff; 10_000]] {
        std::fs::write(place.path(), contents).expect("written");
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o644)).expect("a mode");
        let journal = place.open().expect("a journal");
        journal.departed(BUDGET, Slot(1));
        drop(journal);
        assert_eq!(place.found(), [(1, MINUTE)]);
        assert_eq!(place.path().metadata().expect("a file").mode() & 0o777, 0o600);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_file_is_left_alone() {
    let place = Place::new();
    drop(place.open());
    std::fs::remove_file(place.path()).expect("removed");
    let other = place.directory.path().join("other");
    std::fs::write(&other, "precious").expect("written");
    symlink(&other, place.path()).expect("a link");
    assert!(place.open().is_none());
    assert_eq!(std::fs::read(&other).expect("read"), b"precious");
    std::fs::remove_file(place.path()).expect("removed");
    std::fs::create_dir(place.path()).expect("a directory");
    assert!(place.open().is_none());
}

#[tokio::test(start_paused = true)]
async fn it_stays_small_and_stays_locked() {
    let place = Place::new();
    let journal = place.open().expect("a journal");
    for slot in 0..20_000 {
        journal.departed(BUDGET, Slot(slot));
        journal.answered(BUDGET, Slot(slot), Instant::now());
        tokio::time::advance(Duration::from_millis(500)).await;
        written_anew(&journal);
    }
    let length = usize::try_from(place.path().metadata().expect("a file").len()).expect("small");
    assert!(length <= HEADER.len() + COMPACT_AT * RECORD, "{length}");
    assert!(place.open().is_none(), "the new file is locked, too");
    drop(journal);
    assert_eq!(place.found().len(), 119);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_turns_it_off() {
    let place = Place::new();
    let journal = place.open().expect("a journal");
    journal.departed(BUDGET, Slot(1));
    // Every write to this device fails as on a full disk.
    let full = OpenOptions::new().write(true).open("/dev/full").expect("the device");
    journal.pages.lock().as_mut().expect("on").file = full;
    journal.departed(BUDGET, Slot(2));
    assert!(journal.pages.lock().is_none());
    journal.departed(BUDGET, Slot(3));
    drop(journal);
    assert_eq!(place.found(), [(1, MINUTE)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_counts_though_nothing_more_can_be_written() {
    let place = Place::new();
    let journal = place.open().expect("a journal");
    journal.departed(BUDGET, Slot(1));
    drop(journal);
    // The new file finds no place.
    let mut fresh = place.path().into_os_string();
    fresh.push(".new");
    std::fs::create_dir(fresh).expect("a directory");
    let mut journal = place.open().expect("what was read");
    assert_eq!(journal.departures().len(), 1);
    assert!(journal.pages.lock().is_none(), "it is off");
    journal.departed(BUDGET, Slot(2));
    drop(journal);
    assert_eq!(place.found(), [(1, MINUTE)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_down_while_the_file_is_written_anew_is_in_the_new_one() {
    let place = Place::new();
    let journal = place.open().expect("a journal");
    journal.departed(BUDGET, Slot(1));
    journal.departed(BUDGET, Slot(2));
    journal.given_back(BUDGET, Slot(2));
    let fresh = Fresh::fill(&place.path(), place.clock.now(), TIMEOUT).expect("a new file");
    journal.departed(BUDGET, Slot(3));
    journal.given_back(BUDGET, Slot(1));
    fresh.replace(&journal.pages).expect("in its place");
    journal.departed(BUDGET, Slot(4));
    let length = place.path().metadata().expect("a file").len();
    assert_eq!(length, (HEADER.len() + 4 * RECORD) as u64, "the first, its return, and the last two");
    assert!(place.open().is_none(), "the new file is locked");
    drop(journal);
    assert_eq!(place.found(), [(3, MINUTE), (4, MINUTE)]);
}

#[tokio::test(start_paused = true)]
async fn a_new_file_that_nobody_wants_any_more_takes_no_place() {
    let place = Place::new();
    let journal = place.open().expect("a journal");
    journal.departed(BUDGET, Slot(1));
    let fresh = Fresh::fill(&place.path(), place.clock.now(), TIMEOUT).expect("a new file");
    let pages = Arc::clone(&journal.pages);
    journal.departed(BUDGET, Slot(2));
    drop(journal);
    let next = place.open().expect("the next one");
    fresh.replace(&pages).expect("nothing to do");
    next.departed(BUDGET, Slot(3));
    drop(next);
    assert_eq!(place.found(), [(1, MINUTE), (2, MINUTE), (3, MINUTE)]);
}
