//! Where the API is, and as whom it is asked.

use std::fmt;

use http::{HeaderMap, Uri};
use rustls::pki_types::CertificateDer;

use crate::kubernetes::login::User;

/// Where the API is, and as whom it is asked.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// The server; paths go on from its own.
    pub(super) server: Uri,
    /// The namespace of requests that name none.
    pub(super) namespace: String,
    /// What a server's certificate must be good for.
    pub(super) trust: Trust,
    /// The name that the server's certificate must bear, if not that of its address.
    pub(super) server_name: Option<String>,
    /// A certificate of the user's own.
    pub(super) identity: Option<Identity>,
    /// Who asks.
    pub(super) user: User,
    /// What each request says besides: on whose behalf it is made.
    pub(super) headers: HeaderMap,
}

/// Which servers are believed.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// Those that the system trusts.
    System,
    /// Those that these authorities vouch for.
    Authorities(Vec<CertificateDer<'static>>),
    /// Any.
    Anybody,
}

/// A client's certificate.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The certificate and those that vouch for it, as PEM.
    pub(super) certificate: Vec<u8>,
    /// Its key, as PEM.
    pub(super) key: Secret<Vec<u8>>,
}

/// What nobody must read in a log.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret<T>(pub(super) T);

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
