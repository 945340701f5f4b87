//! Keys that change while the gateway runs: nobody is turned away for it, and the budget follows the key.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{
    records::{id, settled},
    vendor::{Play, answer, ok},
    world::{Answer, Caller, Gateway, WORKSPACE, World, request},
};

/// Puts a key where the gateway finds it.
fn put(path: &Path, key: &str) {
    fs::write(path, key).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode");
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
    let settings =
        format!("[[workspaces]]\nworkspace_id = \"{WORKSPACE}\"\napi_key_file = \"{}\"", path.display());
    let world = World::with(&settings, |seen| match seen.one("x-api-key").as_str() {
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
    assert_eq!(
        ask(2, "ws-other").await,
        200,
        "the second try is on the account of the key that it is made with"
    );
    let metrics = world.gateway.metrics().await;
    for name in ["main", "other"] {
        let line = format!("callgate_budget_remaining{{workspace=\"{name}\"}} 2\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert_eq!((ask(3, "ws-other").await, ask(4, "ws-main").await), (200, 200));
    assert_eq!((ask(5, "ws-other").await, ask(6, "ws-main").await), (429, 429), "four a minute for both");
    assert_eq!(world.vendor.requests(), 5);
}
