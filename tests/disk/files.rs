//! A file that is not as it was left, not ours, or not for us: the gateway says so once, and serves.

use std::{
    fs::{self, OpenOptions, Permissions},
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use redb::{Database, TableDefinition};
use rustix::process::geteuid;

use crate::gateway::{records::id, world::ID};

use super::world::{Disk, lines, mode};

const SET_ASIDE: &str = "the file of kept calls is set aside, a new one is begun";
const WITHOUT: &str = "calls are not kept on disk";

/// A file with a few calls in it.
async fn with_calls() -> Disk {
    let disk = Disk::new().await;
    let mut gateway = disk.start().await;
    for n in 0..20 {
        gateway.fetches(&id(n)).await;
    }
    gateway.end().await;
    disk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_and_directory_are_for_their_owner_alone() {
    let disk = Disk::new().await;
    let gateway = disk.start().await;
    assert_eq!(mode(disk.file().parent().expect("a directory")), 0o700);
    assert_eq!(mode(&disk.file()), 0o600);
    gateway.end().await;
    fs::set_permissions(disk.file(), Permissions::from_mode(0o644)).expect("changed");
    disk.start().await.end().await;
    assert_eq!(mode(&disk.file()), 0o600, "whatever it was before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_others_may_write_nothing_is_kept_and_where_they_may_look_a_warning_is_given() {
    for (bits, warned, refused) in [(0o755, 1, 0), (0o777, 0, 1), (0o770, 0, 1), (0o1777, 0, 1)] {
        let disk = Disk::new().await;
        let directory = disk.file().parent().expect("a directory").to_owned();
        fs::create_dir(&directory).expect("made");
        fs::set_permissions(&directory, Permissions::from_mode(bits)).expect("changed");
        let mut gateway = disk.start().await;
        gateway.fetches(ID).await;
        assert_eq!(gateway.counts().await["entries"].is_none(), refused == 1, "{bits:o}");
        let log = gateway.end().await;
        assert_eq!(lines(&log, "others may enter the directory"), warned, "{log}");
        assert_eq!(lines(&log, WITHOUT), refused, "{log}");
    }
}

/// Starts on a file that was spoilt; it is to be set aside, and the next start is to find what was kept anew.
async fn is_set_aside(disk: &Disk, spoilt: &[u8], why: &str) {
    let mut gateway = disk.start().await;
    gateway.fetches("new").await;
    gateway.end().await;
    let aside = disk.set_aside();
    assert_eq!(aside.len(), 1, "{why}: {aside:?}");
    assert!(fs::read(&aside[0]).expect("readable") == spoilt, "{why}: as it was");
    fs::remove_file(&aside[0]).expect("removed");
    let mut gateway = disk.start().await;
    gateway.finds_on_disk("new").await;
    gateway.end().await;
    assert!(disk.set_aside().is_empty(), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_of_ours_is_set_aside_and_a_new_one_begun() {
    let disk = with_calls().await;
    let whole = fs::read(disk.file()).expect("readable");
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut head = whole.clone();
    head[..320].copy_from_slice(&noise[..320]);
    let spoilt: [(&str, &[u8]); 5] = [
        ("noise", &noise),
        ("a text", b"# notes of mine\n"),
        ("half of it", &whole[..whole.len() / 2]),
        ("a few bytes of it", &whole[..20]),
        ("noise where it begins", &head),
    ];
    for (why, bytes) in spoilt {
        fs::write(disk.file(), bytes).expect("written");
        is_set_aside(&disk, bytes, why).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_format_is_set_aside_and_so_is_anothers_database() {
    let disk = with_calls().await;
    let change = |path: &Path, table: TableDefinition<'_, &str, u64>| {
        let database = Database::create(path).expect("opened");
        let transaction = database.begin_write().expect("begun");
        transaction.open_table(table).expect("a table").insert("format", 2).expect("written");
        transaction.commit().expect("committed");
    };
    change(&disk.file(), TableDefinition::new("callgate.meta"));
    let gateway = disk.start().await;
    let log = gateway.end().await;
    assert_eq!((lines(&log, SET_ASIDE), lines(&log, "a later version of callgate")), (1, 1), "{log}");
    fs::remove_file(&disk.set_aside()[0]).expect("removed");
    fs::remove_file(disk.file()).expect("removed");
    change(&disk.file(), TableDefinition::new("theirs"));
    let log = disk.start().await.end().await;
    assert_eq!((lines(&log, SET_ASIDE), lines(&log, "another program's")), (1, 1), "{log}");
    assert_eq!(disk.set_aside().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_never_reach_a_caller_nor_end_the_gateway() {
    let disk = with_calls().await;
    let whole = fs::read(disk.file()).expect("readable");
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..6 {
        fs::write(disk.file(), &whole).expect("written");
        let file = OpenOptions::new().write(true).open(disk.file()).expect("opened");
        for _ in 0..400 {
            file.write_all_at(&[random.u8(..)], random.u64(4_096..whole.len() as u64)).expect("written");
        }
        let mut gateway = disk.start().await;
        for n in 0..20 {
            let answer = gateway.call(&id(n)).await;
            assert_eq!((answer.status, answer.text()), (200, crate::gateway::records::settled(&id(n))));
        }
        gateway.end().await;
        for aside in disk.set_aside() {
            fs::remove_file(aside).expect("removed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_on_the_file_says_so_once_and_runs_without() {
    let disk = Disk::new().await;
    let mut first = disk.start().await;
    first.fetches(ID).await;
    first.holds(1).await;
    let mut second = disk.start().await;
    second.fetches(ID).await;
    assert_eq!(second.counts().await["entries"], None);
    let log = second.end().await;
    assert_eq!((lines(&log, WITHOUT), lines(&log, "another process keeps its calls")), (1, 1), "{log}");
    first.fetches("after").await;
    first.end().await;
    let mut third = disk.start().await;
    third.finds_on_disk(ID).await;
    third.finds_on_disk("after").await;
    assert!(disk.set_aside().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_to_is_left_as_it_is() {
    let disk = with_calls().await;
    let whole = fs::read(disk.file()).expect("readable");
    let elsewhere = disk.directory().join("there").join("is").join("none");
    let mut refused = vec![disk.file().parent().expect("a directory").to_owned(), elsewhere];
    if !geteuid().is_root() {
        // Nothing is read-only to root.
        fs::set_permissions(disk.file(), Permissions::from_mode(0o400)).expect("changed");
        refused.push(disk.file());
    }
    for path in refused {
        let mut gateway = disk.start_with(&path, &[]).await;
        gateway.call(ID).await;
        let log = gateway.end().await;
        assert_eq!(lines(&log, WITHOUT), 1, "{log}");
    }
    assert!(fs::read(disk.file()).expect("readable") == whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_in_the_place_of_the_file_leads_nowhere() {
    const NOTES: &[u8] = b"# notes of mine\n";
    for there in [true, false] {
        let disk = Disk::new().await;
        fs::create_dir(disk.file().parent().expect("a directory")).expect("made");
        let target = disk.directory().join("notes");
        if there {
            fs::write(&target, NOTES).expect("written");
            fs::set_permissions(&target, Permissions::from_mode(0o644)).expect("changed");
        }
        symlink(&target, disk.file()).expect("linked");
        let mut gateway = disk.start().await;
        gateway.fetches(ID).await;
        assert_eq!(gateway.counts().await["entries"], None);
        let log = gateway.end().await;
        assert_eq!((lines(&log, WITHOUT), lines(&log, "not a regular file")), (1, 1), "{log}");
        if there {
            assert_eq!((mode(&target), fs::read(&target).expect("readable")), (0o644, NOTES.to_vec()));
        } else {
            assert!(target.symlink_metadata().is_err(), "made by following a link");
        }
        assert!(disk.file().is_symlink());
    }
}
