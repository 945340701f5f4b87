//! The trust that a certificate must earn, the vendor's, a Redis's or a collector's: the platform's roots, or bundled
//! ones where the platform has none. For the vendor and Redis those of `upstream.ca_file` stand beside them.
//!
//! It knows neither names nor connections. Roots are read once, when a client is made, and not at each connection. No key
//! log is ever written: rustls would do so for `SSLKEYLOGFILE` only if it were asked to, and it is not.

use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// Where trust begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// What the platform trusts, or the bundled roots where that is nothing.
    Platform,
    /// Nothing: for a client that speaks no TLS. Reading the platform's takes longer than all else at start.
    None,
}

/// The client's side of TLS 1.2 and 1.3, which trusts these roots and those in `ca_file`, PEM.
///
/// # Errors
/// Where `ca_file` cannot be read, is no PEM, or holds no usable certificate.
pub fn client_config(roots: Roots, ca_file: Option<&Path>) -> io::Result<ClientConfig> {
    let mut roots = match roots {
        Roots::Platform => platform(),
        Roots::None => RootCertStore::empty(),
    };
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

fn platform() -> RootCertStore {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_that_cannot_be_read_are_an_error_from_the_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        for roots in [Roots::Platform, Roots::None] {
            assert!(client_config(roots, Some(&path)).is_err(), "no such file");
        }
        std::fs::write(&path, "no PEM").expect("written");
        for roots in [Roots::Platform, Roots::None] {
            assert!(client_config(roots, Some(&path)).is_err(), "nothing in it");
            assert!(client_config(roots, None).is_ok());
        }
    }
}
