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

fn put(path: &Path, key: &str) {
    fs::write(path, key).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode");
}

#[test]
fn a_request_selects_its_workspace_by_id_and_the_first_without_one() {
    let all = vec![workspace("w-1", inline("first-key"), None), workspace("w-2", inline("second-key"), None)];
    let credentials = Credentials::open(all, Vec::new()).expect("opened");
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
    let credentials = Credentials::open(all, Vec::new()).expect("opened");
    let groups: Vec<_> = credentials.workspaces().map(|w| credentials.budget_group(w)).collect();
    assert_eq!(groups, [0, 1, 0]);
    assert_eq!(credentials.group_limits(), [Some(120), None]);
}

#[test]
fn a_changed_key_file_is_noticed_and_a_bad_one_keeps_the_last_good_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "before-rotation\n");
    let only = WorkspaceIndex(0);
    let all = vec![workspace("w", KeySource::File(path.clone()), None)];
    let credentials = Credentials::open(all, Vec::new()).expect("opened");
    put(&path, "before-rotation\r\n");
    assert!(matches!(credentials.reread(only, &credentials.key(only)), Reread::Unchanged));
    put(&path, "after-rotation");
    let old = credentials.key(only);
    assert!(matches!(credentials.reread(only, &old), Reread::Changed));
    // Whoever was rejected with the old key as well hears the same.
    assert!(matches!(credentials.reread(only, &old), Reread::Changed));
    assert!(credentials.key(only).occurs_in(b"after-rotation"));
    fs::remove_file(&path).expect("removed");
    assert!(matches!(
        credentials.reread(only, &credentials.key(only)),
        Reread::Unreadable(KeyFileError::File(SecretFileError::Missing))
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

#[test]
fn a_workspace_whose_key_becomes_anothers_draws_on_its_budget() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "own-key");
    let all = vec![
        workspace("a", inline("first-key"), None),
        workspace("b", inline("second-key"), None),
        workspace("c", KeySource::File(path.clone()), None),
    ];
    let credentials = Credentials::open(all, Vec::new()).expect("opened");
    let last = WorkspaceIndex(2);
    let groups = || credentials.workspaces().map(|w| credentials.budget_group(w)).collect::<Vec<_>>();
    let read = |key: &str| {
        put(&path, key);
        assert!(matches!(credentials.reread(last, &credentials.key(last)), Reread::Changed));
    };
    assert_eq!(groups(), [0, 1, 2]);
    read("newer-key");
    assert_eq!(groups(), [0, 1, 2], "a key of its own, and so a budget");
    read("second-key");
    assert_eq!(groups(), [0, 1, 1]);
    read("first-key");
    assert_eq!(groups(), [0, 1, 0]);
}
