//! TLS toward the vendor: whom it trusts, and that nobody else hears a word.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::{
    program::{Process, serving},
    records::{id, settled},
    vendor::{Play, Vendor, ok},
    world::{Caller, Gateway, ID, KEY, request},
};

/// An authority, and a certificate of its making.
struct Authority {
    pem: String,
    tls: rustls::ServerConfig,
}

impl Authority {
    /// For a server of this name, valid from and until these years.
    fn signing(name: &str, from: i32, until: i32) -> Self {
        let mut ca = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("signed");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &ca).expect("signed");
        Self { pem: ca.pem(), tls: server(certificate.der().clone(), &key) }
    }

    /// A certificate that vouches for itself.
    fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.self_signed(&key).expect("signed");
        let pem = certificate.pem();
        Self { pem, tls: server(certificate.der().clone(), &key) }
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(self.tls.clone()))
    }
}

fn server(certificate: CertificateDer<'static>, key: &KeyPair) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .expect("a certificate and its key")
}

/// A gateway that trusts these authorities beside the platform's.
async fn trusting(port: u16, pem: Option<&str>) -> (Gateway, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = String::from("lookup.failure_ttl = \"0s\"\n");
    if let Some(pem) = pem {
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, pem).expect("written");
        settings.push_str(&format!("upstream.ca_file = \"{}\"", path.display()));
    }
    (Gateway::start(&format!("https://localhost:{port}"), &settings).await, dir)
}

#[tokio::test]
async fn an_authority_of_the_settings_is_trusted() {
    let authority = Authority::signing("localhost", 2020, 2090);
    let vendor = Vendor::start_tls(authority.acceptor(), |seen| Play::Send(ok(settled(seen.id())))).await;
    let (gateway, _dir) = trusting(vendor.address.port(), Some(&authority.pem)).await;
    for n in 0..3 {
        let answer = gateway.ask("GET", &format!("/calls/{}", id(n)), &[]).await;
        assert_eq!((answer.status, answer.text()), (200, settled(&id(n))));
    }
    let seen = vendor.seen();
    assert_eq!((seen.len(), vendor.connections()), (3, 1));
    assert_eq!(seen[0].one("x-api-key"), KEY);
    assert_eq!(seen[0].one("host"), format!("localhost:{}", vendor.address.port()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_keys_of_a_connection_are_written_down_whatever_the_environment_says() {
    let authority = Authority::signing("localhost", 2020, 2090);
    let vendor = Vendor::start_tls(authority.acceptor(), |seen| Play::Send(ok(settled(seen.id())))).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (ca, keys) = (dir.path().join("ca.pem"), dir.path().join("keys"));
    std::fs::write(&ca, &authority.pem).expect("written");
    let mut command = serving(vendor.address);
    command
        .env("TRILLET_API_BASE_URL", format!("https://localhost:{}", vendor.address.port()))
        .env("CALLGATE__UPSTREAM__CA_FILE", &ca)
        .env("SSLKEYLOGFILE", &keys);
    let process = Process::start(command).await;
    let mut caller = Caller::connect(process.address).await;
    caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
    assert_eq!(caller.answer().await.status, 200);
    assert!(!keys.exists());
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_hears_not_a_byte_of_http() {
    let good = Authority::signing("localhost", 2020, 2090);
    let table = [
        ("unknown", Authority::signing("localhost", 2020, 2090), None),
        ("self-signed", Authority::self_signed("localhost"), Some(good.pem.clone())),
        ("another authority", Authority::signing("localhost", 2020, 2090), Some(good.pem.clone())),
        ("another name", Authority::signing("elsewhere.example", 2020, 2090), None),
        ("expired", Authority::signing("localhost", 2001, 2002), None),
        ("not yet valid", Authority::signing("localhost", 2088, 2090), None),
    ];
    for (what, authority, pem) in table {
        let pem = match what {
            "unknown" => None,
            _ => pem.or_else(|| Some(authority.pem.clone())),
        };
        let vendor = Vendor::start_tls(authority.acceptor(), |seen| Play::Send(ok(settled(seen.id())))).await;
        let (gateway, _dir) = trusting(vendor.address.port(), pem.as_deref()).await;
        let answer = gateway.ask("GET", &format!("/calls/{ID}"), &[]).await;
        assert_eq!(answer.problem(), (502, "upstream_unreachable".into()), "{what}");
        assert!(!answer.text().to_lowercase().contains("certificate"), "{what}: the reason is for the log");
        vendor.refused().await;
        assert_eq!(vendor.requests(), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_certificate_is_not_trusted_is_in_the_log_and_not_in_the_answer() {
    for (until, reason) in [(2090, "UnknownIssuer"), (2002, "certificate expired")] {
        let authority = Authority::signing("localhost", 2001, until);
        let vendor = Vendor::start_tls(authority.acceptor(), |seen| Play::Send(ok(settled(seen.id())))).await;
        let dir = tempfile::tempdir().expect("a directory");
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, &authority.pem).expect("written");
        let mut command = serving(vendor.address);
        command.env("TRILLET_API_BASE_URL", format!("https://localhost:{}", vendor.address.port()));
        if until == 2002 {
            command.env("CALLGATE__UPSTREAM__CA_FILE", &ca);
        }
        let process = Process::start(command).await;
        let mut caller = Caller::connect(process.address).await;
        caller.send(request("GET", &format!("/calls/{ID}"), &[])).await;
        let answer = caller.answer().await;
        assert_eq!(answer.problem(), (502, "upstream_unreachable".into()));
        assert!(!answer.text().contains("ertificate") && !answer.text().contains(reason), "{answer:?}");
        process.signal(rustix::process::Signal::TERM);
        let (_, log) = process.ended().await;
        let line = log.lines().find(|line| line.contains("upstream_unreachable")).expect("a line");
        assert!(line.contains("certificate") && line.contains(reason), "{line}");
        assert_eq!(vendor.requests(), 0);
    }
}

#[tokio::test]
async fn who_speaks_an_old_version_of_tls_hears_not_a_byte_of_http() {
    // A ServerHello without extensions, which is how versions before 1.2 are chosen.
    let hello = |minor: u8| {
        let body = [&[3, minor][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
        [&[22, 3, minor, 0, 42, 2, 0, 0, 38][..], &body].concat()
    };
    let alert = vec![21, 3, 0, 0, 2, 2, 70];
    let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    for (what, said) in
        [("1.1", hello(2)), ("1.0", hello(1)), ("SSL 3", hello(0)), ("alert", alert), ("none", plain)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut heard = vec![0; 5];
            stream.read_exact(&mut heard).await.expect("a record");
            let rest = usize::from(heard[3]) << 8 | usize::from(heard[4]);
            stream.read_exact(&mut vec![0; rest]).await.expect("a record");
            stream.write_all(&said).await.expect("sent");
            heard.truncate(1);
            let _ = stream.read_to_end(&mut heard).await;
            heard
        });
        let (gateway, _dir) = trusting(port, None).await;
        let answer = gateway.ask("GET", &format!("/calls/{ID}"), &[]).await;
        assert_eq!(answer.problem(), (502, "upstream_unreachable".into()), "{what}");
        // A hello, and then an alert of seven bytes or nothing.
        let heard = heard.await.expect("no panic");
        assert!(
            heard[0] == 22 && (heard.len() == 1 || heard.len() == 8 && heard[1] == 21),
            "{what}: {heard:?}"
        );
    }
}

#[tokio::test]
async fn a_vendor_without_tls_gets_no_key() {
    let vendor = Vendor::start(|seen| Play::Send(ok(settled(seen.id())))).await;
    let settings = "upstream.connect_timeout = \"300ms\"";
    let gateway = Gateway::start(&format!("https://localhost:{}", vendor.address.port()), settings).await;
    let answer = gateway.ask("GET", &format!("/calls/{ID}"), &[]).await;
    assert_eq!(answer.problem(), (502, "upstream_unreachable".into()));
    assert_eq!(vendor.requests(), 0);
}

/// Answers over HTTP/2, and holds the request to what is sent over HTTP/1.
async fn record(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut names: Vec<_> = request.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "accept-encoding",
        "content-type",
        "traceparent",
        "user-agent",
        "x-api-key",
        "x-request-id",
        "x-workspace-id",
    ];
    let sound = names == expected && request.headers()["x-api-key"] == KEY;
    let id = request.uri().path().rsplit('/').next().unwrap_or_default();
    let body = if sound { settled(id) } else { format!("{names:?}") };
    Ok(Response::new(Full::from(body)))
}

#[tokio::test]
async fn http2_is_spoken_where_the_vendor_offers_it() {
    let mut authority = Authority::signing("localhost", 2020, 2090);
    authority.tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = authority.acceptor();
    let (connected, mut connections) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.expect("a handshake");
            connected.send(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)).expect("a test");
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(record)));
        }
    });
    let (gateway, _dir) = trusting(port, Some(&authority.pem)).await;
    for n in 0..3 {
        let answer = gateway.ask("GET", &format!("/calls/{}", id(n)), &[]).await;
        assert_eq!((answer.status, answer.text()), (200, settled(&id(n))));
    }
    assert_eq!(connections.recv().await, Some(Some(b"h2".to_vec())));
    assert!(connections.is_empty(), "one connection serves all");
}
