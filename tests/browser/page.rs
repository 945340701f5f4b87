//! The page in a browser: its numbers are there at once and go on by themselves, what it offers works, it breaks no
//! rule of its own policy, and it fits a phone.

use serde_json::{Value, json};

use super::driver::Browser;
use crate::gateway::{
    records::settled,
    vendor::{Play, ok},
    world::{ID, PHONE, World},
};

/// A user agent that would like to be more than text.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)><b>bold</b>";

async fn world() -> World {
    let world = World::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    world.get_with(&format!("/calls/{ID}"), &[("user-agent", HOSTILE)]).await;
    for _ in 0..3 {
        world.call(ID).await;
    }
    world
}

fn url(world: &World) -> String {
    format!("http://{}/", world.gateway.admin)
}

async fn text(browser: &Browser, selector: &str) -> Value {
    browser.run(&format!("return document.querySelector({}).textContent", json!(selector))).await
}

#[tokio::test]
async fn an_operator_sees_the_numbers_at_once_and_they_go_on() {
    let Some(browser) = Browser::open().await else { return };
    let world = world().await;
    browser.go(&url(&world)).await;
    for (selector, expected) in
        [("#saved", "3"), ("#answered", "4"), ("#asked", "1"), ("#ratio", "75 %"), ("#state", "Ready")]
    {
        assert_eq!(text(&browser, selector).await, json!(expected), "{selector}");
    }
    assert_eq!(text(&browser, "#budget .num").await, json!("99,999 of 100,000"));
    assert_eq!(text(&browser, "#latest tr:last-child .c-agent").await, json!(HOSTILE));
    assert_eq!(
        browser.run("return document.querySelectorAll('#latest img, #latest b').length").await,
        json!(0)
    );
    let page = browser.run("return document.documentElement.outerHTML").await.to_string();
    assert!(!page.contains(&PHONE[1..]));

    world.call(ID).await;
    world.call("another").await;
    browser.until("document.querySelector('#answered').textContent === '6'").await;
    browser.until("document.querySelector('#bars path').getAttribute('d').startsWith('M')").await;
    assert_eq!(text(&browser, "#latest tr .c-id").await, json!("another"));

    world.gateway.stop().await;
    browser.until("!document.querySelector('#notice').hidden").await;
    assert_eq!(text(&browser, "#state").await, json!("No answer"));
    let complaints = browser.complaints().await;
    let others = complaints.iter().filter(|complaint| !complaint.contains("ERR_CONNECTION_REFUSED"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new());
    browser.close().await;
}

#[tokio::test]
async fn a_call_is_looked_up_and_forgotten_once_that_is_confirmed() {
    let Some(browser) = Browser::open().await else { return };
    let world = world().await;
    browser.go(&url(&world)).await;
    browser.type_into("#id", ID).await;
    browser.click("#look button[type=submit]").await;
    browser.until("document.querySelector('#found').textContent.startsWith('One entry')").await;
    assert!(text(&browser, "#found").await.as_str().is_some_and(|found| found.contains("final")));

    // Not without a yes.
    browser.click("#forget").await;
    browser.click("#sure button[value=no]").await;
    browser.until("!document.querySelector('#sure').open").await;
    assert!(world.call(ID).await.cache().starts_with("callgate; hit"));
    browser.click("#forget").await;
    browser.click("#yes").await;
    browser.until("document.querySelector('#found').textContent.startsWith('Forgot one entry')").await;
    assert!(!world.call(ID).await.cache().starts_with("callgate; hit"));

    browser.run("document.querySelector('#id').value = 'unknown'").await;
    browser.click("#look button[type=submit]").await;
    browser.until("document.querySelector('#found').textContent.startsWith('Nothing is kept')").await;
    let complaints = browser.complaints().await;
    // The 404 is one that it asked for.
    let others = complaints.iter().filter(|complaint| !complaint.contains("/cache/unknown"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new());
    browser.close().await;
}

#[tokio::test]
async fn it_fits_a_phone_and_is_worked_by_keyboard() {
    let Some(browser) = Browser::open().await else { return };
    let world = world().await;
    world.call(&"w".repeat(128)).await;
    browser.resize(360).await;
    browser.go(&url(&world)).await;
    for scheme in ["light", "dark"] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", features).await;
        let widths = browser.run("return [document.documentElement.scrollWidth, innerWidth]").await;
        assert_eq!(widths, json!([360, 360]), "{scheme}");
    }
    let unnamed = "return [...document.querySelectorAll('button, input, textarea, a')].filter((one) => \
                   !(one.textContent.trim() || one.labels?.length)).length";
    assert_eq!(browser.run(unnamed).await, json!(0));
    browser.type_into("#id", &format!("{ID}\u{e007}")).await;
    browser.until("document.querySelector('#found').textContent.startsWith('One entry')").await;
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle").await;
    assert_eq!(outline, json!("solid"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}
