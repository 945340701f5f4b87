//! Keys that change while the gateway runs: nobody is turned away for it, and the budget follows the key.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    records::{id, settled},
    vendor::{Play, Seen, answer, ok},
    world::{Answer, Caller, Gateway, WORKSPACE, World, request},
};

/// Puts a key where the gateway finds it.
pub(crate) fn put(path: &Path, key: &str) {
    fs::write(path, key).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode");
}

/// The settings of one workspace whose key is there.
pub(crate) fn key_file(path: &Path) -> String {
    format!("[[workspaces]]\nworkspace_id = \"{WORKSPACE}\"\napi_key_file = \"{}\"", path.display())
}

/// Before a vendor that takes this key alone.
async fn taking_only(settings: &str, right: &'static str) -> World {
    World::with(settings, move |seen| match seen.one("x-api-key") == right {
        true => Play::Send(ok(settled(seen.id()))),
        false => Play::Send(answer("401 Unauthorized", "", "{}")),
    })
    .await
}

async fn ready(gateway: &Gateway) -> Answer {
    let mut caller = Caller::connect(gateway.admin).await;
    caller.send(request("GET", "/readyz", &[])).await;
    caller.answer().await
}

#[tokio::test]
async fn a_rotation_under_load_costs_each_miss_a_try_and_no_caller_an_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "canary-before-rotation");
    let world = World::with(&key_file(&path), |seen| match seen.one("x-api-key").as_str() {
        "canary-after-rotation" => Play::Send(ok(settled(seen.id()))),
        _ => Play::Held(answer("401 Unauthorized", "", "{}")),
    })
    .await;
    let mut callers = Vec::new();
    for n in 0..10 {
        let mut caller = world.gateway.connect().await;
        caller.send(request("GET", &format!("/calls/{}", id(n)), &[])).await;
        callers.push(caller);
    }
    world.vendor.arrived(10).await;
    put(&path, "canary-after-rotation");
    world.vendor.release();
    for (n, caller) in callers.iter_mut().enumerate() {
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.text()), (200, settled(&id(n))));
    }
    assert_eq!(world.vendor.requests(), 20);
    let ready = ready(&world.gateway).await;
    assert_eq!((ready.status, ready.text()), (200, "ready\n".into()));
}

#[tokio::test]
async fn a_workspace_that_comes_to_hold_anothers_key_draws_on_its_budget() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    put(&path, "canary-of-other-00002");
    let settings = format!(
        "budget.requests_per_minute = 4\nbudget.queue_timeout = \"0s\"\n\
         [[workspaces]]\nname = \"main\"\nworkspace_id = \"ws-main\"\napi_key = \"canary-of-main-000001\"\n\
         [[workspaces]]\nname = \"other\"\nworkspace_id = \"ws-other\"\napi_key_file = \"{}\"\n",
        path.display()
    );
    let world = World::with(&settings, |seen| match seen.one("x-api-key").as_str() {
        "canary-of-main-000001" => {
            Play::Send(ok(settled(seen.id()).replace("ws-main", &seen.one("x-workspace-id"))))
        }
        _ => Play::Send(answer("401 Unauthorized", "", "{}")),
    })
    .await;
    let ask = async |n, workspace| {
        world.get_with(&format!("/calls/{}", id(n)), &[("x-workspace-id", workspace)]).await.status
    };
    assert_eq!(ask(1, "ws-main").await, 200);
    put(&path, "canary-of-main-000001");
    assert_eq!(ask(2, "ws-other").await, 200, "it is on the account of the key that it is made with");
    let metrics = world.gateway.metrics().await;
    for name in ["main", "other"] {
        let line = format!("callgate_budget_remaining{{workspace=\"{name}\"}} 2\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert_eq!((ask(3, "ws-other").await, ask(4, "ws-main").await), (200, 200));
    assert_eq!((ask(5, "ws-other").await, ask(6, "ws-main").await), (429, 429), "four a minute for both");
    assert_eq!(world.vendor.requests(), 4);
}

/// How the file at `path` gets another key: all at once, or not at all.
type Swap = fn(&Path, &str);

/// Another file takes its place.
fn rename(path: &Path, key: &str) {
    let beside = path.with_extension("new");
    put(&beside, key);
    fs::rename(&beside, path).expect("renamed");
}

/// The directory that it is reached through becomes another, as Kubernetes does it.
fn relink(path: &Path, key: &str) {
    let dir = path.parent().expect("a directory");
    fs::create_dir(dir.join(key)).expect("a directory");
    put(&dir.join(key).join("key"), key);
    std::os::unix::fs::symlink(key, dir.join("..new")).expect("a link");
    fs::rename(dir.join("..new"), dir.join("..data")).expect("renamed");
    if !path.is_symlink() {
        std::os::unix::fs::symlink("..data/key", path).expect("a link");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_key_file_is_used_by_the_next_request_and_nobody_notices() {
    for swap in [rename as Swap, relink] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        swap(&path, "canary-before-rotation");
        let settings = key_file(&path);
        // Both keys are good while the vendor's customer rotates; which one came is what counts.
        let world = World::with(&settings, |seen| Play::Send(ok(settled(seen.id())))).await;
        let rotated = tokio::sync::watch::Sender::new(false);
        let mut callers = Vec::new();
        for caller in 0..8 {
            let (address, rotated) = (world.gateway.address, rotated.subscribe());
            callers.push(tokio::spawn(async move {
                let mut connection = Caller::connect(address).await;
                let mut after = 0;
                // Until twenty more came after the rotation.
                for n in 0.. {
                    after += u32::from(*rotated.borrow());
                    if after > 20 {
                        break;
                    }
                    let id = id(caller * 1_000_000 + n);
                    connection.send(request("GET", &format!("/calls/{id}"), &[])).await;
                    let answer = connection.answer().await;
                    assert_eq!((answer.status, answer.text()), (200, settled(&id)));
                }
            }));
        }
        world.vendor.arrived(40).await;
        swap(&path, "canary-after-rotation");
        // What is under way may still bring the old key; what comes from now on may not.
        let before = world.vendor.requests();
        rotated.send_replace(true);
        for caller in callers {
            caller.await.expect("no panic");
        }
        let seen = world.vendor.seen();
        let old = |seen: &Seen| seen.one("x-api-key") == "canary-before-rotation";
        assert!(seen.iter().take(40).all(old));
        assert!(!seen.iter().skip(before + 16).any(old), "the new key at once");
        assert_eq!(world.get(&format!("/calls/{}", id(0))).await.cache().split(';').nth(1), Some(" hit"));
    }
}

#[tokio::test]
async fn a_vendor_that_takes_only_the_new_key_fails_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    rename(&path, "canary-before-rotation");
    let world = taking_only(&key_file(&path), "canary-after-rotation").await;
    rename(&path, "canary-after-rotation");
    assert_eq!(world.call(&id(1)).await.status, 200);
    assert_eq!(world.vendor.requests(), 1, "no try was lost to the old key");
    put(&path, "");
    assert_eq!(world.call(&id(2)).await.status, 200, "what is no key leaves the last one in place");
    fs::remove_file(&path).expect("removed");
    assert_eq!(world.call(&id(3)).await.status, 200);
    assert_eq!(ready(&world.gateway).await.status, 503, "and is told to who runs it");
    assert_eq!(world.vendor.requests(), 3);
}

#[tokio::test]
async fn the_old_key_goes_nowhere_while_an_answer_to_it_is_under_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    rename(&path, "canary-before-rotation");
    let world = World::with(&key_file(&path), |seen| {
        let telling = settled(seen.id()).replace("completed", "completed\",\"was\":\"canary-before-rotation");
        match seen.one("x-api-key").as_str() {
            "canary-after-rotation" => Play::Send(ok(telling)),
            _ => Play::Held(ok(telling)),
        }
    })
    .await;
    let mut under_way = world.gateway.connect().await;
    under_way.send(request("GET", &format!("/calls/{}", id(1)), &[])).await;
    world.vendor.arrived(1).await;
    rename(&path, "canary-after-rotation");
    let leaked = (502, "upstream_leaked_credential".to_owned());
    assert_eq!(world.call(&id(2)).await.problem(), leaked);
    world.vendor.release();
    assert_eq!(under_way.answer().await.problem(), leaked);
    assert_eq!(world.vendor.seen()[1].one("x-api-key"), "canary-after-rotation");
}

#[tokio::test]
async fn the_right_key_does_not_wait_for_what_the_wrong_one_spent() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    rename(&path, "canary-of-another-vendor");
    let settings = format!(
        "budget.requests_per_minute = 3\nbudget.queue_timeout = \"0s\"\nlookup.failure_ttl = \"0s\"\n{}",
        key_file(&path)
    );
    let world = taking_only(&settings, "canary-that-is-right").await;
    for n in 0..3 {
        assert_eq!(world.call(&id(n)).await.status, 502);
    }
    assert_eq!(world.call(&id(3)).await.status, 429, "the wrong key has no more to spend");
    rename(&path, "canary-that-is-right");
    for n in 4..7 {
        assert_eq!(world.call(&id(n)).await.status, 200);
    }
    assert_eq!(world.call(&id(7)).await.status, 429, "three a minute with this one, too");
    assert_eq!(world.vendor.requests(), 6);
}

#[tokio::test]
async fn a_key_file_that_is_written_in_two_parts_is_used_whole_by_the_request_after_the_second() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    rename(&path, "canary-before-rotation");
    let world = taking_only(&key_file(&path), "canary-after-rotation").await;
    put(&path, "canary-after");
    assert_eq!(world.call(&id(1)).await.problem(), (502, "upstream_credentials_rejected".into()));
    let mut file = fs::OpenOptions::new().append(true).open(&path).expect("opened");
    file.write_all(b"-rotation").expect("written");
    assert_eq!(world.call(&id(2)).await.status, 200);
    let sent: Vec<_> = world.vendor.seen().iter().map(|seen| seen.one("x-api-key")).collect();
    assert_eq!(sent, ["canary-after", "canary-after-rotation"]);
}
