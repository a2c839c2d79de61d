//! How the API is reached, and as whom: read from files, and read again when these change.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use http::HeaderMap;
use kube::Config;
use rustls::pki_types::CertificateDer;

use crate::kubernetes::access::{Access, Trust};
use crate::kubernetes::kubeconfig::{self, with_token_of};
use crate::kubernetes::login::User;
use crate::kubernetes::{Reach, ReachError};

/// What a kubelet gives every pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the files say, and which these are: also of what can't be used.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) access: Result<Access, ReachError>,
    pub(super) files: Files,
}

/// Files as they were before they were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files(Vec<(PathBuf, Option<Stamp>)>);

/// What differs when a file was written, or another was put in its place.
type Stamp = (u64, u64, Option<SystemTime>);

impl Files {
    fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().map(|path| (stamp(&path), path)).map(|(stamp, path)| (path, stamp)).collect())
    }

    /// True if one of them is not what it was.
    pub(super) fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, before)| stamp(path) != *before)
    }
}

/// Nothing of a file that can't be looked at.
fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.len(), data.modified().ok()))
}

/// Reads everything.
pub(super) fn read(reach: &Reach) -> Credentials {
    match reach {
        Reach::InCluster => {
            let files = Files::of(["token", "ca.crt"].map(|name| Path::new(SERVICE_ACCOUNT).join(name)));
            Credentials { access: in_cluster(), files }
        }
        Reach::Kubeconfig(file) => {
            let mut files = Files::of([file.clone()]);
            let access = kubeconfig::read(file, |named| files.0.extend(Files::of(named).0));
            Credentials { access, files }
        }
    }
}

fn in_cluster() -> Result<Access, ReachError> {
    let config = Config::incluster().map_err(ReachError::InCluster)?;
    let authorities = config.root_cert.unwrap_or_default().into_iter().map(CertificateDer::from).collect();
    let token = config.auth_info.token_file.map(PathBuf::from);
    Ok(Access {
        server: config.cluster_url,
        namespace: config.default_namespace,
        trust: Trust::Authorities(authorities),
        server_name: None,
        identity: None,
        user: with_token_of(token.as_deref(), User::Anonymous)?,
        headers: HeaderMap::new(),
    })
}

#[cfg(test)]
mod tests;
