//! Which workspace a request is for, which key is sent, whose budget it draws on, and keys that change.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::*;
use crate::secret_file::SecretFileError;

fn inline(key: &str) -> KeySource {
    KeySource::Inline(Arc::new(ApiKey::parse(key.as_bytes()).expect("a key")))
}

fn workspace(id: &str, source: KeySource, requests_per_minute: Option<u32>) -> WorkspaceSettings {
    WorkspaceSettings {
        name: format!("name of {id}"),
        workspace_id: id.to_owned(),
        source,
        requests_per_minute,
    }
}

fn open(all: Vec<WorkspaceSettings>) -> Arc<Credentials> {
    Arc::new(Credentials::open(all, Vec::new()).expect("opened"))
}

fn put(path: &Path, key: &str) {
    fs::write(path, key).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode");
}

#[test]
fn a_request_selects_its_workspace_by_id_and_the_first_without_one() {
    let all = vec![workspace("w-1", inline("first-key"), None), workspace("w-2", inline("second-key"), None)];
    let credentials = open(all);
    assert_eq!(credentials.select(None), Some(WorkspaceIndex(0)));
    assert_eq!(credentials.select(Some(b"w-2")), Some(WorkspaceIndex(1)));
    assert_eq!(credentials.select(Some(b"w-3")), None);
    assert_eq!(credentials.select(Some(b"")), None);
    assert_eq!(credentials.workspace_id(WorkspaceIndex(1)), "w-2");
    assert_eq!(credentials.name(WorkspaceIndex(1)), "name of w-2");
    assert_eq!(credentials.workspaces().count(), 2);
    assert!(!format!("{credentials:?}").contains("-key"));
}

#[test]
fn workspaces_with_one_key_share_a_budget() {
    let all = vec![
        workspace("a", inline("shared-key"), None),
        workspace("b", inline("own-key"), None),
        workspace("c", inline("shared-key"), Some(120)),
    ];
    let credentials = open(all);
    let groups: Vec<_> = credentials.workspaces().map(|w| credentials.budget_group(w)).collect();
    assert_eq!(groups, [0, 1, 0]);
    let limits: Vec<_> = credentials.groups().iter().map(|group| (group.limit, group.after)).collect();
    assert_eq!(limits, [(Some(120), None), (None, None)]);
}

#[tokio::test]
async fn a_changed_key_file_is_noticed_and_a_bad_one_keeps_the_last_good_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "before-rotation\n");
    let only = WorkspaceIndex(0);
    let all = vec![workspace("w", KeySource::File(path.clone()), None)];
    let credentials = open(all);
    put(&path, "before-rotation\r\n");
    assert!(matches!(credentials.reread(only, &credentials.key(only)).await, Reread::Unchanged));
    put(&path, "after-rotation");
    let old = credentials.key(only);
    assert!(matches!(credentials.reread(only, &old).await, Reread::Changed));
    // Whoever was rejected with the old key as well hears the same.
    assert!(matches!(credentials.reread(only, &old).await, Reread::Changed));
    assert!(credentials.key(only).occurs_in(b"after-rotation"));
    fs::remove_file(&path).expect("removed");
    assert!(matches!(
        credentials.reread(only, &credentials.key(only)).await,
        Reread::Unreadable(error) if matches!(*error, KeyFileError::File(SecretFileError::Missing))
    ));
    assert!(credentials.key(only).occurs_in(b"after-rotation"));
}

#[test]
fn credentials_that_cannot_be_used_are_not_opened() {
    let open = |all| Credentials::open(all, Vec::new()).expect_err("refused").to_string();
    assert_eq!(open(Vec::new()), "there must be 1 to 1000 workspaces");
    assert_eq!(
        open(vec![workspace("a b", inline("some-key"), None)]),
        "workspace \"name of a b\": its id is not 1 to 256 bytes of visible ASCII"
    );
    assert_eq!(
        open(vec![workspace("w", KeySource::File("/nowhere/key".into()), None)]),
        "workspace \"name of w\": the key file does not exist"
    );
}

#[test]
fn systemd_credentials_are_trusted_as_well() {
    let env = |dir: &str| BTreeMap::from([("CREDENTIALS_DIRECTORY".to_owned(), dir.to_owned())]);
    assert_eq!(trusted_dirs(&BTreeMap::new()), [PathBuf::from("/run/secrets")]);
    assert_eq!(trusted_dirs(&env("/run/credentials/callgate.service")).len(), 2);
    assert_eq!(trusted_dirs(&env("")).len(), 1, "an empty path would be a prefix of every path");
}

#[tokio::test]
async fn a_workspace_whose_key_becomes_anothers_draws_on_its_budget() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "own-key");
    let all = vec![
        workspace("a", inline("first-key"), None),
        workspace("b", inline("second-key"), None),
        workspace("c", KeySource::File(path.clone()), None),
    ];
    let credentials = open(all);
    let last = WorkspaceIndex(2);
    let groups = || credentials.workspaces().map(|w| credentials.budget_group(w)).collect::<Vec<_>>();
    let read = async |key: &str| {
        put(&path, key);
        assert!(matches!(credentials.reread(last, &credentials.key(last)).await, Reread::Changed));
    };
    assert_eq!(groups(), [0, 1, 2]);
    read("newer-key").await;
    assert_eq!(groups(), [0, 1, 3], "another key, and so another budget");
    assert_eq!(credentials.groups()[3].after, Some(2));
    read("second-key").await;
    assert_eq!(groups(), [0, 1, 1]);
    let held = || credentials.groups().iter().map(|group| group.held).collect::<Vec<_>>();
    assert_eq!(held(), [true, true, false, false]);
    read("first-key").await;
    assert_eq!(groups(), [0, 1, 0]);
    read("own-key").await;
    assert_eq!(groups(), [0, 1, 2], "its own again");
    assert_eq!(held(), [true, true, true, false]);
    assert_eq!(credentials.groups().len(), 4);
}

#[tokio::test]
async fn the_least_limit_counts_that_is_stated_by_who_holds_the_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "own-key");
    let all = vec![
        workspace("a", inline("first-key"), None),
        workspace("b", inline("second-key"), Some(120)),
        workspace("c", inline("third-key"), Some(20)),
        workspace("d", KeySource::File(path.clone()), Some(30)),
    ];
    let credentials = open(all);
    let last = WorkspaceIndex(3);
    let (none, second, third, own) = (None, Some(120), Some(20), Some(30));
    let table = [
        ("first-key", vec![own, second, third, own]),
        ("second-key", vec![none, own, third, own]),
        ("third-key", vec![none, second, third, own]),
        ("newer-key", vec![none, second, third, own, own]),
    ];
    for (key, expected) in table {
        put(&path, key);
        assert!(matches!(credentials.reread(last, &credentials.key(last)).await, Reread::Changed));
        let limits: Vec<_> = credentials.groups().iter().map(|group| group.limit).collect();
        assert_eq!(limits, expected, "{key}");
        let group = credentials.budget_group(last);
        assert_eq!(credentials.budget_limit(group), expected[group]);
    }
}

/// Another file with this key takes the place of the one at `path`, at once.
fn swap(path: &Path, key: &str) {
    let beside = path.with_extension("new");
    put(&beside, key);
    fs::rename(&beside, path).expect("renamed");
}

#[tokio::test]
async fn a_key_file_is_read_again_where_it_has_changed_however_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, only) = (dir.path().join("key"), WorkspaceIndex(0));
    for version in ["1", "2"] {
        fs::create_dir(dir.path().join(version)).expect("a directory");
        put(&dir.path().join(version).join("key"), &format!("key-of-version-{version}"));
    }
    let point = |version: &str| {
        let beside = dir.path().join("..data.new");
        std::os::unix::fs::symlink(dir.path().join(version), &beside).expect("a link");
        fs::rename(&beside, dir.path().join("..data")).expect("renamed");
    };
    point("1");
    std::os::unix::fs::symlink("..data/key", &path).expect("a link");
    let credentials = open(vec![workspace("w", KeySource::File(path.clone()), None)]);
    let holds = async |key: &str| {
        credentials.refresh(only).await;
        credentials.key(only).occurs_in(key.as_bytes())
    };
    assert!(holds("key-of-version-1").await);
    point("2");
    assert!(holds("key-of-version-2").await, "as Kubernetes does it");
    swap(&path, "key-put-in-place");
    assert!(holds("key-put-in-place").await, "by a rename");
    put(&path, "key-written-over-it");
    assert!(holds("key-written-over-it").await, "in place");
    put(&path, "");
    assert!(holds("key-written-over-it").await, "what is no key leaves the last one");
    fs::remove_file(&path).expect("removed");
    assert!(holds("key-written-over-it").await, "and so does no file");
    put(&path, "key-that-is-back");
    assert!(holds("key-that-is-back").await);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
    assert!(holds("key-that-is-back").await, "for everybody to read");
    swap(&path, "key-kept-to-oneself");
    assert!(holds("key-kept-to-oneself").await);
}

#[tokio::test]
async fn a_replaced_key_is_looked_for_until_nobody_waits_for_an_answer_to_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, only) = (dir.path().join("key"), WorkspaceIndex(0));
    put(&path, "key-before-rotation");
    let credentials = open(vec![workspace("w", KeySource::File(path.clone()), None)]);
    let under_way = credentials.key(only);
    swap(&path, "key-after-rotation");
    credentials.refresh(only).await;
    let looked_for = || {
        let keys = credentials.keys();
        ["before", "after"]
            .map(|when| keys.iter().any(|key| key.occurs_in(format!("key-{when}-rotation").as_bytes())))
    };
    assert_eq!(looked_for(), [true, true]);
    drop(under_way);
    assert_eq!(looked_for(), [false, true]);
}

#[tokio::test]
async fn a_key_is_found_wherever_a_caller_puts_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "key-before-rotation");
    let all = vec![
        workspace("w", KeySource::File(path.clone()), None),
        workspace("x", inline("another-longer-key-beside-it"), None),
        workspace("y", inline("tiny"), None),
    ];
    let credentials = open(all);
    let found = |text: &str| credentials.occur_in(text.as_bytes());
    for text in ["key-before-rotation", "a-key-before-rotation-b", "x another-longer-key-beside-it"] {
        assert!(found(text), "{text}");
    }
    for text in ["", "key-before-rota", "KEY-BEFORE-ROTATION", "key-before_rotation", "a tiny one", "key-new"]
    {
        assert!(!found(text), "{text}");
    }
    let under_way = credentials.key(WorkspaceIndex(0));
    swap(&path, "key-new");
    credentials.refresh(WorkspaceIndex(0)).await;
    assert!(found("key-new") && found("key-before-rotation"), "a shorter one, and the last one");
    drop(under_way);
    assert!(found("key-new") && !found("key-before-rotation"));
    let (ours, theirs) = (HeaderValue::from_static("a key-new b"), HeaderValue::from_static("theirs"));
    assert_eq!(credentials.free_of(Some(&ours)), None);
    assert_eq!(credentials.free_of(Some(&theirs)), Some(&theirs));
    assert_eq!(credentials.free_of(None), None);
}
