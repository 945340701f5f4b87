//! The trust that the certificate of a Redis behind `rediss:`, or of a collector of spans, must earn: the platform's roots, or bundled ones where
//! the platform has none, and the extra ones of the settings beside them.
//!
//! Read once, when the link is opened: the Redis client would read the platform's at each connection, and none at all
//! where one of them cannot be read. There is no way to go without: `#insecure` is not heard.

use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// The client's side of TLS 1.2 and 1.3.
///
/// # Errors
/// Where the file cannot be read, is no PEM, or holds no usable certificate.
pub(crate) fn client_config(ca_file: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let platform = rustls_native_certs::load_native_certs();
    if roots.add_parsable_certificates(platform.certs).0 == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = ca_file {
        let says = |what: String| io::Error::other(format!("{}: {what}", path.display()));
        let extra = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| says(e.to_string()))?;
        if roots.add_parsable_certificates(extra).0 == 0 {
            return Err(says("no certificate in it".into()));
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_that_cannot_be_read_are_an_error_from_the_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.pem");
        assert!(client_config(Some(&path)).is_err(), "no such file");
        std::fs::write(&path, "no PEM").expect("written");
        assert!(client_config(Some(&path)).is_err(), "nothing in it");
        assert!(client_config(None).is_ok());
    }
}
