//! The trust that the vendor's certificate must earn: the platform's roots, or bundled ones where the platform has
//! none, and `upstream.ca_file` beside them.
//!
//! No key log is ever written: rustls would do so for `SSLKEYLOGFILE` only if it were asked to, and it is not.

use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// Builds the client's side of TLS 1.2 and 1.3. With `platform` the platform's roots are trusted, or the bundled ones.
///
/// # Errors
/// Where `ca_file` cannot be read, is no PEM, or holds no usable certificate.
pub(super) fn client_config(platform: bool, ca_file: Option<&Path>) -> io::Result<ClientConfig> {
    let mut roots = if platform { platform_roots() } else { RootCertStore::empty() };
    if let Some(path) = ca_file {
        let says = |what: String| io::Error::other(format!("upstream.ca_file {}: {what}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| says(e.to_string()))?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(says("no certificate in it".into()));
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn platform_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let platform = rustls_native_certs::load_native_certs();
    for error in &platform.errors {
        tracing::debug!(%error, "a root certificate of the platform was passed over");
    }
    let (added, _) = roots.add_parsable_certificates(platform.certs);
    if added == 0 {
        tracing::info!("the platform has no root certificates; the bundled ones are used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
