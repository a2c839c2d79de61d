//! How connections to the API are secured.

use std::io;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::kubernetes::access::{Identity, Trust};

/// A certificate, or a key, is no good.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is no PEM, or another.
    #[error("the {what} can't be read")]
    Pem {
        /// What it is to be.
        what: &'static str,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// It is PEM without a certificate.
    #[error("there is no certificate in the client certificate")]
    Nothing,
    /// It can't be used.
    #[error("the {what} can't be used")]
    Unusable {
        /// What it is to be.
        what: &'static str,
        /// Why.
        #[source]
        source: Error,
    },
    /// The system trusts nobody.
    #[error("there is no certificate authority, and the system has none")]
    System(#[source] io::Error),
    /// No certificate can bear it.
    #[error("tls-server-name {name:?} is no name of a server")]
    Name {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: rustls::pki_types::InvalidDnsNameError,
    },
}

/// What connections begin with.
pub(super) fn config(trust: &Trust, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|source| TlsError::Unusable { what: "protocol", source })?;
    let builder = match trust {
        Trust::System => builder.with_native_roots().map_err(TlsError::System)?,
        Trust::Authorities(these) => builder.with_root_certificates(roots(these)?),
        Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    let Some(Identity { certificate, key }) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("client certificate", certificate)?;
    if chain.is_empty() {
        return Err(TlsError::Nothing);
    }
    let key = PrivateKeyDer::from_pem_slice(&key.0);
    let key = key.map_err(|source| TlsError::Pem { what: "client key", source })?;
    let unusable = |source| TlsError::Unusable { what: "client key", source };
    builder.with_client_auth_cert(chain, key).map_err(unusable)
}

/// The name that the server's certificate must bear.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    name.to_owned().try_into().map_err(|source| TlsError::Name { name: name.to_owned(), source })
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let unusable = |source| TlsError::Unusable { what: "certificate authority", source };
        roots.add(authority.clone()).map_err(unusable)?;
    }
    Ok(roots)
}

/// The certificates of a PEM text; what else it contains is passed over.
pub(super) fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what, source })
}

/// Believes every server, as `insecure-skip-tls-verify` says.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
