//! TLS of the window, from the certificate and key that the configuration names.

use super::WindowError;
use crate::config::WindowConfig;
use std::{path::Path, sync::Arc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        version,
    },
};

/// What meets TLS connections, if the configuration asks for them. Paths are relative to the data directory.
pub(super) fn acceptor(config: &WindowConfig, data: &Path) -> Result<Option<TlsAcceptor>, WindowError> {
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else { return Ok(None) };
    let (certificate, key) = (data.join(certificate), data.join(key));
    let wrong = |key: &'static str, path: &Path, why: String| WindowError::Tls { key, path: path.to_owned(), why };
    let chain = CertificateDer::pem_file_iter(&certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| wrong("certificate", &certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong("certificate", &certificate, "there is no certificate in it".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|error| wrong("key", &key, error.to_string()))?;
    // Named, because two providers may be linked and rustls would not choose between them.
    let provider = Arc::new(crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| wrong("key", &key, error.to_string()))?;
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}
