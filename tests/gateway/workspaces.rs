//! Several workspaces behind one gateway, each with its own key and its own calls.

use super::{
    records::{record, settled},
    vendor::{Play, answer, ok},
    world::{ID, World},
};

const KEYS: [(&str, &str); 2] = [("ws-main", "canary-of-main-000001"), ("ws-other", "canary-of-other-00002")];

fn several() -> String {
    let tables =
        KEYS.map(|(id, key)| format!("[[workspaces]]\nworkspace_id = \"{id}\"\napi_key = \"{key}\"\n"));
    tables.concat()
}

async fn world() -> World {
    World::with(&several(), |seen| {
        let workspace = seen.one("x-workspace-id");
        Play::Send(ok(settled(seen.id()).replace("ws-main", &workspace)))
    })
    .await
}

#[tokio::test]
async fn a_caller_selects_its_workspace_by_id_and_the_first_without_one() {
    let world = world().await;
    let target = format!("/calls/{ID}");
    for _ in 0..2 {
        for (workspace, _) in KEYS {
            let answer = world.get_with(&target, &[("x-workspace-id", workspace)]).await;
            assert_eq!(answer.json()["workspaceId"], workspace);
        }
        assert_eq!(world.get(&target).await.json()["workspaceId"], "ws-main");
    }
    let seen = world.vendor.seen();
    assert_eq!(seen.len(), 2, "one entry each");
    for (seen, (workspace, key)) in seen.iter().zip(KEYS) {
        assert_eq!((seen.one("x-workspace-id"), seen.one("x-api-key")), (workspace.into(), key.into()));
    }
}

#[tokio::test]
async fn a_workspace_that_is_not_ours_is_refused_and_so_are_two() {
    let world = world().await;
    let target = format!("/calls/{ID}");
    for unknown in ["ws-none", "WS-MAIN", "", "ws-main,ws-other", "ws-main "] {
        let answer = world.get_with(&target, &[("x-workspace-id", unknown)]).await;
        match unknown {
            // White space around a value is no part of it (RFC 9110 §5.5).
            "ws-main " => assert_eq!(answer.status, 200),
            _ => assert_eq!(answer.problem(), (403, "unknown_workspace".into()), "{unknown:?}"),
        }
    }
    assert_eq!(world.vendor.requests(), 1);
    let twice = [("x-workspace-id", "ws-main"), ("x-workspace-id", "ws-main")];
    assert_eq!(world.get_with(&target, &twice).await.problem(), (400, "invalid_request".into()));
    assert_eq!(world.vendor.requests(), 1);
}

#[tokio::test]
async fn no_workspaces_key_goes_to_any_caller_however_it_is_spelt() {
    let keys = ["canary/of/main/000001", "canary/of/other/00002"];
    let settings: String = ["ws-main", "ws-other"]
        .iter()
        .zip(keys)
        .map(|(id, key)| format!("[[workspaces]]\nworkspace_id = \"{id}\"\napi_key = \"{key}\"\n"))
        .collect();
    for key in keys {
        for spelt in [key.to_owned(), key.replace('/', r"\/"), key.replace("can", r"c\u0061\u006E")] {
            let said = record(ID, "completed", &format!(r#","endTime":1680000300,"echo":"{spelt}""#));
            let world = World::with(&settings, move |seen| {
                let workspace = seen.one("x-workspace-id");
                Play::Send(ok(said.replace("ws-main", &workspace)))
            })
            .await;
            for workspace in ["ws-main", "ws-other"] {
                let answer = world.get_with(&format!("/calls/{ID}"), &[("x-workspace-id", workspace)]).await;
                assert_eq!(answer.problem(), (502, "upstream_leaked_credential".into()), "{spelt}");
                assert!(!answer.text().contains("canary"), "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_failure_of_one_workspace_is_none_of_the_others() {
    let world = World::with(&several(), |seen| match seen.one("x-workspace-id").as_str() {
        "ws-main" => Play::Send(answer("500 Oops", "", "{}")),
        other => Play::Send(ok(settled(ID).replace("ws-main", other))),
    })
    .await;
    assert_eq!(world.call(ID).await.status, 500);
    let other = world.get_with(&format!("/calls/{ID}"), &[("x-workspace-id", "ws-other")]).await;
    assert_eq!(other.status, 200);
}
