//! The page in a browser, where something is going on: a list that is warmed, a vendor that limits or fails, and light
//! and dark.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use super::driver::Browser;
use crate::gateway::{
    records::{id, settled},
    vendor::{Play, answer, ok},
    world::World,
};

fn url(world: &World) -> String {
    format!("http://{}/", world.gateway.admin)
}

async fn nothing_to_complain_of(browser: Browser) {
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.close().await;
}

#[tokio::test]
async fn a_list_is_warmed_and_stopped_from_the_page() {
    let Some(browser) = Browser::open().await else { return };
    let world = World::start(|seen| match seen.id() {
        "held" => Play::Held(ok(settled("held"))),
        "failing" => Play::Send(answer("503 No", "", "")),
        of => Play::Send(ok(settled(of))),
    })
    .await;
    browser.go(&url(&world)).await;
    browser.type_into("#ids", "one, two\ntwo failing no!").await;
    browser.click("#warm button[type=submit]").await;
    browser.until("document.querySelector('#warmed').textContent.includes(': done')").await;
    let shown = "return [document.querySelector('#warmed p').textContent, document.querySelector('#warmed progress').value, \
                 [...document.querySelectorAll('#warmed li')].map((one) => one.textContent.split(':')[0]).sort(), \
                 document.querySelector('#stop').hidden, document.querySelector('#warm button').disabled]";
    let expected = json!(["4 of 4, 2 failed: done", 4, ["failing", "no!"], true, false]);
    assert_eq!(browser.run(shown).await, expected);
    for warmed in ["one", "two"] {
        assert!(world.call(warmed).await.cache().starts_with("callgate; hit"), "{warmed}");
    }

    browser.run("document.querySelector('#ids').value = ''").await;
    browser.type_into("#ids", "three held").await;
    browser.click("#warm button[type=submit]").await;
    browser.until("document.querySelector('#warmed p')?.textContent === '1 of 2'").await;
    assert_eq!(browser.run("return document.querySelector('#warm button').disabled").await, json!(true));
    browser.click("#stop").await;
    browser.until("document.querySelector('#warmed').textContent.includes('Stopped')").await;
    assert_eq!(browser.run(shown).await, json!(["1 of 2", 1, [], true, false]));
    assert!(world.call("three").await.cache().starts_with("callgate; hit"));
    nothing_to_complain_of(browser).await;
}

#[tokio::test]
async fn a_pause_and_an_open_circuit_are_shown_as_long_as_they_last() {
    let Some(browser) = Browser::open().await else { return };
    let world = World::start(|_| Play::Send(answer("429 Slow", "retry-after: 2\r\n", ""))).await;
    browser.go(&url(&world)).await;
    let pause = "document.querySelector('#budget p.small').textContent";
    assert_eq!(browser.run(&format!("return {pause}")).await, json!("No pause."));
    assert_eq!(world.call(&id(1)).await.status, 429);
    browser.until(&format!("/^The vendor asked for a pause: [1-3] s more$/.test({pause})")).await;
    let marked = "return ['#budget .pause', '#budget .bar.low'].map((one) => !!document.querySelector(one))";
    assert_eq!(browser.run(marked).await, json!([true, true]));
    browser.until(&format!("{pause} === 'No pause.'")).await;
    assert_eq!(browser.run(marked).await, json!([false, false]));

    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    let world = World::start(move |seen| match fails.load(Ordering::Relaxed) {
        true => Play::Send(answer("503 No", "", "")),
        false => Play::Send(ok(settled(seen.id()))),
    })
    .await;
    browser.go(&url(&world)).await;
    let circuit = "return [document.querySelector('#circuit').textContent, \
                   getComputedStyle(document.querySelector('#circuit'), '::before').content]";
    assert_eq!(browser.run(circuit).await, json!(["closed", "\"● \""]));
    for n in 0..5 {
        assert_eq!(world.call(&id(n)).await.status, 502);
    }
    browser.until("document.querySelector('#circuit').textContent === 'open'").await;
    assert_eq!(browser.run(circuit).await, json!(["open", "\"✕ \""]));
    browser.until("document.querySelector('#circuit').textContent === 'half-open'").await;
    assert_eq!(browser.run(circuit).await, json!(["half-open", "\"◐ \""]));
    failing.store(false, Ordering::Relaxed);
    assert_eq!(world.call(&id(9)).await.status, 200);
    browser.until("document.querySelector('#circuit').textContent === 'closed'").await;
    nothing_to_complain_of(browser).await;
}

/// What is written, and on what, as the browser computes it: for each selector two colours.
const COLOURS: &str = "
    const of = (text) => text.match(/[0-9.]+/g).map(Number);
    const behind = (one) => {
        const colour = of(getComputedStyle(one).backgroundColor);
        return colour[3] === 0 ? behind(one.parentElement) : colour.slice(0, 3);
    };
    return ['body', '.card h2', '#saved', '#ratio-text', '#budget p', 'th', 'label', '#id', '#look button.main',
            '#forget', '#state', 'footer', 'footer a', '.failed', '.notice'].map((selector) => {
        const one = document.querySelector(selector);
        return [selector, of(getComputedStyle(one).color).slice(0, 3), behind(one)];
    });";

/// Relative luminance (WCAG 2.2) of a colour in sRGB.
fn luminance(colour: &Value) -> f64 {
    let linear = |at: usize| {
        let part = colour[at].as_f64().expect("a number") / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(0) + 0.7152 * linear(1) + 0.0722 * linear(2)
}

#[tokio::test]
async fn light_is_light_and_dark_is_dark_and_both_can_be_read() {
    let Some(browser) = Browser::open().await else { return };
    let world = World::start(|_| Play::Send(answer("503 No", "", ""))).await;
    world.call(&id(1)).await;
    browser.go(&url(&world)).await;
    let mut schemes = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", features).await;
        let colours = browser.run(COLOURS).await.as_array().expect("a list").clone();
        for colour in &colours {
            let (written, paper) = (luminance(&colour[1]), luminance(&colour[2]));
            let contrast = (written.max(paper) + 0.05) / (written.min(paper) + 0.05);
            assert!(contrast >= 4.5, "{scheme}: {contrast} in {colour}");
            // What is to be seen first is written on its own colour.
            if colour[0] != "#look button.main" {
                assert_eq!(paper > written, scheme == "light", "{scheme}: {colour}");
            }
        }
        schemes.push(colours);
    }
    for (light, dark) in schemes[0].iter().zip(&schemes[1]) {
        assert!(light[1] != dark[1] && light[2] != dark[2], "{light} {dark}");
    }
    nothing_to_complain_of(browser).await;
}
