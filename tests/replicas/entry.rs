//! How Redis is entered: passwords, users with few rights, TLS, a socket; and that none of it is ever logged.

use std::{fs, path::Path, time::Duration};

use callgate::replicas::{Settings, State};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::{
    redis::{Redis, available, free_port},
    world::{AMPLE, Log, alone, echo, gone, open, open_with, run, settings, together, within},
};

#[tokio::test]
async fn a_socket_is_entered_like_a_port() {
    if !available() {
        return;
    }
    let redis = Redis::on_socket();
    let link = open(&redis.url(), AMPLE).await;
    together(&link).await;
    assert_eq!(echo(&link, "here").await, Ok(vec!["here".into()]));
}

#[tokio::test]
async fn the_database_is_the_one_of_the_url() {
    if !available() {
        return;
    }
    let redis = Redis::start();
    let link = open(&format!("{}/3", redis.url()), AMPLE).await;
    together(&link).await;
    let key = link.name("record", b"one");
    run(&link, "return redis.call('SET', KEYS[1], '1')", &[key], &[]).await.expect("set");
    assert!(redis.command(&["INFO", "keyspace"]).contains("db3:keys=2"));
    // One that is not there.
    let log = Log::listen();
    let link = open(&format!("{}/99", redis.url()), AMPLE).await;
    alone(&link).await;
    assert_eq!(log.said(), [gone("it answers ERR")]);
}

#[tokio::test]
async fn a_password_is_shown_to_redis_and_to_nobody_else() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let mut redis = Redis::start_with(&["--requirepass", "canary/1"]);
    let link = open(&redis.url_as(":canary%2F1"), AMPLE).await;
    together(&link).await;
    let key = link.name("record", b"canary");
    run(&link, "return redis.call('SET', KEYS[1], ARGV[1])", &[key], &[b"canary"]).await.expect("set");
    // Another one, and back.
    redis.restart_with(&["--requirepass", "canary2"]);
    alone(&link).await;
    let wrong = open(&redis.url_as(":canary%2F1"), AMPLE).await;
    alone(&wrong).await;
    let none = open(&redis.url(), AMPLE).await;
    alone(&none).await;
    redis.restart_with(&["--requirepass", "canary/1"]);
    together(&link).await;
    together(&wrong).await;
    assert_eq!(echo(&link, "back").await, Ok(vec!["back".into()]));
    let said = log.said();
    let refused = gone("authentication refused");
    assert_eq!(said.iter().filter(|line| **line == refused).count(), 2, "{said:?}");
    assert_eq!(said.iter().filter(|line| *line == "redis is back").count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|line| *line == "redis is there").count(), 2, "{said:?}");
    assert!(!log.text().contains("canary"), "{}", log.text());
}

#[tokio::test]
async fn a_user_needs_only_the_rights_to_what_is_the_gateway_s() {
    if !available() {
        return;
    }
    let log = Log::listen();
    let user = ["gate", "on", ">canary", "~callgate:1:*", "&callgate:1:*", "-@all"];
    let beat = [
        "+eval",
        "+evalsha",
        "+subscribe",
        "+ping",
        "+time",
        "+zadd",
        "+zremrangebyscore",
        "+zcard",
        "+pexpire",
        "+publish",
    ];
    let redis = Redis::start_with(&[&["--user"][..], &user, &beat].concat());
    let link = open(&redis.url_as("gate:canary"), AMPLE).await;
    together(&link).await;
    assert_eq!(echo(&link, "here").await, Ok(vec!["here".into()]));
    let elsewhere = run(&link, "return redis.call('ZCARD', KEYS[1])", &[b"canary".to_vec()], &[]).await;
    assert!(elsewhere.is_err());
    let said = log.text();
    // From within a script Redis names no code of its own.
    assert!(said.contains("a script for redis failed reason=it answers "), "{said}");
    assert_eq!(log.said(), ["redis is there"]);
    let unknown = open(&redis.url_as("nobody:canary"), AMPLE).await;
    alone(&unknown).await;
    assert!(log.said().iter().any(|line| line.ends_with("reason=authentication refused")));
    assert!(!log.text().contains("canary"), "{}", log.text());
}

/// An authority, and a certificate of its making for 127.0.0.1, as files.
fn certificate(directory: &Path) {
    let mut ca = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &ca).expect("signed");
    for (name, pem) in
        [("ca.pem", ca.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
    {
        fs::write(directory.join(name), pem).expect("written");
    }
}

#[tokio::test]
async fn a_certificate_must_be_trusted() {
    if !available() {
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    certificate(files.path());
    let file = |name: &str| files.path().join(name).display().to_string();
    let port = free_port();
    let tls = ["--tls-port", &port.to_string(), "--tls-auth-clients", "no"];
    let more = [
        "--tls-cert-file",
        &file("cert.pem"),
        "--tls-key-file",
        &file("key.pem"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
    ];
    let redis = Redis::start_with(&[&tls[..], &more].concat());
    let url = format!("rediss://127.0.0.1:{port}");

    let log = Log::listen();
    let trusting = Settings { ca_file: Some(files.path().join("ca.pem")), ..settings(&url, AMPLE) };
    let link = open_with(&trusting, "test").await;
    together(&link).await;
    assert_eq!(echo(&link, "sealed").await, Ok(vec!["sealed".into()]));

    // A fragment makes nobody less wary. What is said of the first try hangs on how long it takes, so each is heard of.
    let untrusted = "redis cannot be reached reason=certificate not trusted";
    for url in [url.clone(), format!("{url}/#insecure")] {
        is_refused(&log, &url, untrusted).await;
    }
    // Nor is the plain port of the same Redis TLS.
    is_refused(&log, &redis.url().replace("redis:", "rediss:"), "redis cannot be reached reason=").await;
}

/// Tries to enter with no more trust than the platform's until that was refused so, and then some.
async fn is_refused(log: &Log, url: &str, says: &str) {
    let tries = || log.text().matches(says).count();
    let before = tries();
    let link = open_with(&settings(url, AMPLE), "test").await;
    within(async {
        while tries() < before + 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(matches!(*link.state().borrow(), State::Alone(0)), "it was never entered");
    assert!(echo(&link, "no").await.is_err());
}
